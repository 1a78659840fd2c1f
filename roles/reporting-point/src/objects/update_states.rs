//! `clientupdatestates`: what one client reported of its updates, or what clients reported of one update. All of them
//! together are millions: nobody gets those, nor a watch over them.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::future::BoxFuture;
use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    client::Client,
    state::{Detection, UpdateEnforcement},
};
use patchtide_store::{
    Result as Stored, SiteStore,
    answers::select::{ClientUpdateRow, Condition, Part, StatesOf, UpdateIs},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Column, Kind, Object, Read,
    clients::is_called,
    column,
    columns::{self, age, time},
    failed,
    selector::{self, Selection, Term, supported, unusable},
    updates::uid,
    wide,
};
use crate::{
    answer::Answer,
    openapi::{body, properties},
    resource::About,
};

/// The kind.
pub(crate) struct ClientUpdateStates;

const ABOUT: About = About {
    plural: "clientupdatestates",
    singular: "clientupdatestate",
    kind: "ClientUpdateState",
    short: &["cus"],
    categories: &[],
    verbs: &["get", "list"],
    words: "What a client reported of an update. Lists are of one client (--field-selector spec.client=<name>) or of one \
            update (spec.update=<name>), and leave out what is not required and what is unknown. Its name is the client's \
            identity, a point and the update's name.",
};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// Which update on which client.
    spec: Spec,
    /// Its state there.
    status: Status,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Identity of the client: its name among `clients`.
    client: String,
    /// What it is called.
    client_name: String,
    /// Name of the update among `softwareupdates`.
    update: String,
    /// Identity of the update, `<line>:<source>@<version>`.
    update_id: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Detection state (topic 500): `Unknown`, `NotRequired`, `Required` or `Installed`.
    detection: String,
    /// Its published number.
    detection_id: u8,
    /// Enforcement state (topic 402), its short name.
    enforcement: String,
    /// Its published number.
    enforcement_id: u8,
    /// Published name of what counts: the enforcement state, or without one the detection state.
    message: &'static str,
    /// Since when it is required or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<columns::Error>,
}

const COLUMNS: &[Column] = &[
    column("Name", "string", "Client and update."),
    column("Host", "string", "What the client is called."),
    column("Source", "string", "Source of the update."),
    column("Version", "string", "Version of the update."),
    column("Detection", "string", "Detection state."),
    column("Enforcement", "string", "Enforcement state."),
    column("Error", "string", "Symbol of the error."),
    column("Since", "string", "Time since it is required or failed."),
    wide("Line", "string", "Product line of the update."),
    wide("Code", "string", "Published code of the error."),
    wide("Message", "string", "What happened and what to do, or the published name of the state."),
];

const FIELDS: &[(&str, &str)] = &[
    ("spec.client", "the identity or the host name of a client"),
    ("spec.update", "the name or the identity of an update"),
    ("status.detection", "Required or Installed, or their published number"),
    (
        "status.enforcement",
        "a state of topic 402, for example InstallFailed or PendingRestart, or its published number",
    ),
    ("status.failed", "true or false"),
];

/// What a list is of.
#[derive(Default)]
struct Of<'a> {
    client: Option<&'a str>,
    update: Option<&'a str>,
    conditions: Vec<Condition<StatesOf>>,
}

fn of(selection: &Selection) -> Result<Of<'_>, Answer> {
    let mut of = Of::default();
    for term in selection.within() {
        let wrong = || unusable(&ClientUpdateStates, term);
        let value = term.value.as_str();
        let mut holds = term.equal;
        let what = match term.field {
            selector::NAME | "spec.client" | "spec.update" if !term.equal => {
                return Err(Answer::bad(format!(
                    "clientupdatestates cannot be asked for by {}!=",
                    term.field
                )));
            }
            selector::NAME => {
                let (client, update) = value.split_once('.').unwrap_or((value, ""));
                one(&mut of.client, client, term)?;
                one(&mut of.update, update, term)?;
                continue;
            }
            "spec.client" => {
                one(&mut of.client, value, term)?;
                continue;
            }
            "spec.update" => {
                one(&mut of.update, value, term)?;
                continue;
            }
            "status.detection" => {
                let mut all = [Detection::Required, Detection::Installed].into_iter();
                StatesOf::Detection(all.find(|state| is_called(*state, state.id(), value)).ok_or_else(wrong)?)
            }
            "status.enforcement" => {
                let mut all = UpdateEnforcement::ALL.iter().copied();
                StatesOf::Enforcement(
                    all.find(|state| is_called(*state, state.id(), value)).ok_or_else(wrong)?,
                )
            }
            _ => {
                let failed: bool = value.parse().map_err(|_| wrong())?;
                holds = failed == term.equal;
                StatesOf::Failed
            }
        };
        of.conditions.push(Condition { what, holds });
    }
    if of.client.is_none() && of.update.is_none() {
        return Err(Answer::bad(format!(
            "clientupdatestates are told of one client or of one update, for all together are clients times updates: give \
             --field-selector spec.client=<name> or spec.update=<name>; supported are {}",
            supported(&ClientUpdateStates)
        )));
    }
    Ok(of)
}

fn one<'a>(place: &mut Option<&'a str>, value: &'a str, term: &Term) -> Result<(), Answer> {
    match place.replace(value) {
        Some(before) if before != value => {
            Err(Answer::bad(format!("{} asks for two at once: {before:?} and {value:?}", term.field)))
        }
        _ => Ok(()),
    }
}

impl Of<'_> {
    async fn rows(&self, site: &SiteStore, read: &Read<'_>) -> Result<Vec<ClientUpdateRow>, Answer> {
        let part = Part {
            conditions: self.conditions.clone(),
            facts: Vec::new(),
            after: read.after.map(str::to_owned),
            keys: None,
            limit: read.limit,
        };
        let stored = |error| failed(&error);
        let update = match self.update {
            Some(name) => match update(site, name).await.map_err(stored)? {
                Some(update) => Some(update),
                None => return Ok(Vec::new()),
            },
            None => None,
        };
        let clients = match self.client {
            Some(name) => clients(site, name).await?,
            None => Vec::new(),
        };
        match (self.client, update) {
            (None, Some(update)) => site.select_states_of_update(&update, &part).await.map_err(stored),
            (_, None) => match clients.first() {
                Some(client) => site.select_states_of_client(client, &part).await.map_err(stored),
                None => Ok(Vec::new()),
            },
            (Some(_), Some(update)) => {
                let Some(client) = clients.into_iter().next() else { return Ok(Vec::new()) };
                let state = site.client_update(client.id, &update).await.map_err(stored)?;
                let state = state.filter(|state| {
                    part.conditions.iter().all(|condition| condition.what.holds(state) == condition.holds)
                });
                let row = state.map(|state| ClientUpdateRow { client: client.id, name: client.name, state });
                let is_later =
                    |row: &ClientUpdateRow| read.after.is_none_or(|after| row.key().as_str() > after);
                Ok(row.filter(is_later).into_iter().collect())
            }
        }
    }
}

/// The update of this name or identity.
async fn update(site: &SiteStore, name: &str) -> Stored<Option<UpdateId>> {
    let what = match name.parse() {
        Ok(id) => UpdateIs::Id(id),
        Err(_) => UpdateIs::Named(name.to_owned()),
    };
    let part = Part { conditions: vec![Condition { what, holds: true }], ..Part::first(1) };
    Ok(site.select_updates(&part).await?.into_iter().next().map(|row| row.id))
}

/// The client of this identity or name; an error if several are called so.
async fn clients(site: &SiteStore, name: &str) -> Result<Vec<Client>, Answer> {
    let ids = site.clients_called(name).await.map_err(|error| failed(&error))?;
    if let [_, _, ..] = ids.as_slice() {
        let ids: Vec<String> = ids.iter().take(5).map(ToString::to_string).collect();
        return Err(Answer::bad(format!(
            "several clients are called {name:?}: give spec.client=<identity>, one of {}",
            ids.join(", ")
        )));
    }
    let Some(id) = ids.first() else { return Ok(Vec::new()) };
    let client = site.client(*id).await.map_err(|error| failed(&error))?;
    Ok(client.into_iter().collect())
}

impl Kind for ClientUpdateStates {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn fields(&self) -> &'static [(&'static str, &'static str)] {
        FIELDS
    }

    fn properties(&self) -> Map<String, Value> {
        properties::<Body>()
    }

    fn check(&self, selection: &Selection) -> Result<(), Answer> {
        of(selection).map(drop)
    }

    fn read<'a>(
        &'a self,
        site: &'a SiteStore,
        read: Read<'a>,
    ) -> BoxFuture<'a, Result<Vec<Box<dyn Object>>, Answer>> {
        Box::pin(async move {
            let rows = of(read.selection)?.rows(site, &read).await?;
            Ok(rows.into_iter().map(|row| Box::new(State(row)) as Box<dyn Object>).collect())
        })
    }
}

struct State(ClientUpdateRow);

impl State {
    fn message(&self) -> &'static str {
        match self.0.state.enforcement {
            UpdateEnforcement::Unknown => self.0.state.detection.name(),
            state => state.name(),
        }
    }
}

impl Object for State {
    fn key(&self) -> String {
        self.0.key()
    }

    fn name(&self) -> String {
        self.0.key()
    }

    fn uid(&self) -> String {
        uid(&format!("{}.{}", self.0.client, self.0.state.update))
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.0.state.detection, self.0.state.enforcement, self.0.state.since).hash(&mut hasher);
        hasher.finish()
    }

    fn body(&self) -> Value {
        let state = &self.0.state;
        body(&Body {
            spec: Spec {
                client: self.0.client.to_string(),
                client_name: self.0.name.clone(),
                update: state.update.slug(),
                update_id: state.update.to_string(),
            },
            status: Status {
                detection: format!("{:?}", state.detection),
                detection_id: state.detection.id(),
                enforcement: format!("{:?}", state.enforcement),
                enforcement_id: state.enforcement.id(),
                message: self.message(),
                since: state.since.map(time),
                error: state.error.as_ref().map(Into::into),
            },
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let state = &self.0.state;
        let error = state.error.as_ref();
        let message = error.map_or(self.message(), |error| error.message.as_str());
        vec![
            self.name().into(),
            self.0.name.as_str().into(),
            state.update.source.as_str().into(),
            state.update.version.as_str().into(),
            format!("{:?}", state.detection).into(),
            format!("{:?}", state.enforcement).into(),
            error.map_or("<none>", |error| error.symbol.as_str()).into(),
            state.since.map_or_else(|| "<none>".into(), |since| age(Some(since), now)),
            state.update.line.as_str().into(),
            error.map_or_else(|| "<none>".to_owned(), |error| format!("0x{:08X}", error.code)).into(),
            message.lines().next().unwrap_or_default().into(),
        ]
    }
}
