//! `deploymentstates`: each deployment with each client that it reaches.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::future::BoxFuture;
use jiff::Timestamp;
use patchtide_model::{
    ClientId,
    state::{Compliance, DeploymentEnforcement, Evaluation},
};
use patchtide_store::{
    SiteStore,
    answers::select::{Condition, DeploymentStateIs, DeploymentStateRow, Part},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Column, Kind, Object, Read,
    clients::is_called,
    column,
    columns::{self, age, time, until},
    failed,
    selector::{self, Selection, unusable},
    updates::uid,
    wide,
};
use crate::{
    answer::Answer,
    openapi::{body, properties},
    resource::About,
};

/// The kind.
pub(crate) struct DeploymentStates;

const ABOUT: About = About {
    plural: "deploymentstates",
    singular: "deploymentstate",
    kind: "DeploymentState",
    short: &["uds"],
    categories: &["patchtide-reports"],
    verbs: &["get", "list", "watch"],
    words: "How far a deployment is on a client that it reaches. Its name is the deployment's, a point and the client's \
            identity. Who never said anything is there too, with the state Unknown.",
};

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// Which deployment on which client.
    spec: Spec,
    /// How far it is, as the client reported.
    status: Status,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Spec {
    /// Name of the `UpdateDeployment`.
    deployment: String,
    /// Its uid.
    #[serde(rename = "deploymentUID")]
    deployment_uid: String,
    /// Identity of the client: its name among `clients`.
    client: String,
    /// What it is called.
    client_name: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Whether the client has said anything of it.
    reported: bool,
    /// Enforcement state (topic 301), its short name.
    state: String,
    /// Its published number.
    state_id: u8,
    /// Its published name.
    message: &'static str,
    /// Compliance state (topic 300): `Unknown`, `Compliant`, `NonCompliant` or `Conflict`.
    compliance: String,
    /// Evaluation state (topic 302): `Unknown`, `Activated`, `Succeeded` or `Failed`.
    evaluation: String,
    /// Until when a waiting state waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<columns::Error>,
    /// When any of it changed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    changed_at: Option<String>,
    /// When the client was heard of last.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_contact: Option<String>,
}

const COLUMNS: &[Column] = &[
    column("Name", "string", "Deployment and client."),
    column("Host", "string", "What the client is called."),
    column("State", "string", "Enforcement state."),
    column("Compliance", "string", "Compliance state."),
    column("Error", "string", "Symbol of the error."),
    column("Since", "string", "Time since any of it changed."),
    wide("ID", "integer", "Published number of the enforcement state."),
    wide("Until", "string", "When a waiting state ends."),
    wide("Evaluation", "string", "Evaluation state."),
    wide("Code", "string", "Published code of the error."),
    wide("Message", "string", "What happened and what to do, or the published name of the state."),
];

const FIELDS: &[(&str, &str)] = &[
    ("spec.deployment", "the name of an UpdateDeployment"),
    ("spec.client", "the identity of a client"),
    ("spec.clientName", "a host name"),
    (
        "status.state",
        "Unknown, Installing, WaitingForRestart, WaitingForAnother, Installed, PendingRestart, InstallFailed, Downloading, \
         Downloaded, DownloadFailed or WaitingForWindow, or their published number",
    ),
    ("status.compliance", "Unknown, Compliant, NonCompliant or Conflict, or their published number"),
    ("status.error.symbol", "a symbol; none: without an error"),
    ("status.error.code", "a published code, 0x and hexadecimal digits"),
    ("status.reported", "true or false"),
];

fn conditions(selection: &Selection) -> Result<Vec<Condition<DeploymentStateIs>>, Answer> {
    let mut conditions = Vec::new();
    for term in selection.within() {
        let wrong = || unusable(&DeploymentStates, term);
        let value = term.value.as_str();
        let mut holds = term.equal;
        let what = match term.field {
            selector::NAME => {
                // Both of them; that not both are so cannot be said with two conditions.
                let (deployment, client) = match (value.rsplit_once('.'), term.equal) {
                    (Some(pair), true) => pair,
                    (None, true) => ("", ""),
                    (_, false) => {
                        return Err(Answer::bad(
                            "deploymentstates can be asked for by metadata.name=, not for all but one: use spec.deployment \
                             or spec.client with !=",
                        ));
                    }
                };
                conditions.push(Condition {
                    what: DeploymentStateIs::Deployment(deployment.to_owned()),
                    holds: true,
                });
                DeploymentStateIs::Client(client.to_owned())
            }
            "spec.deployment" => DeploymentStateIs::Deployment(value.to_owned()),
            "spec.client" => DeploymentStateIs::Client(value.to_owned()),
            "spec.clientName" => DeploymentStateIs::Called(value.to_owned()),
            "status.state" => {
                let mut all = DeploymentEnforcement::ALL.iter().copied();
                DeploymentStateIs::Enforcement(
                    all.find(|state| is_called(*state, state.id(), value)).ok_or_else(wrong)?,
                )
            }
            "status.compliance" => {
                let mut all = Compliance::ALL.iter().copied();
                DeploymentStateIs::Compliance(
                    all.find(|state| is_called(*state, state.id(), value)).ok_or_else(wrong)?,
                )
            }
            "status.error.symbol" => DeploymentStateIs::Error(value.to_owned()),
            "status.error.code" => {
                let digits = value.strip_prefix("0x").ok_or_else(wrong)?;
                DeploymentStateIs::Code(u32::from_str_radix(digits, 16).map_err(|_| wrong())?)
            }
            _ => {
                let reported: bool = value.parse().map_err(|_| wrong())?;
                holds = reported == term.equal;
                DeploymentStateIs::Reported
            }
        };
        conditions.push(Condition { what, holds });
    }
    Ok(conditions)
}

impl Kind for DeploymentStates {
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
        conditions(selection).map(drop)
    }

    fn read<'a>(
        &'a self,
        site: &'a SiteStore,
        read: Read<'a>,
    ) -> BoxFuture<'a, Result<Vec<Box<dyn Object>>, Answer>> {
        Box::pin(async move {
            let part = Part {
                conditions: conditions(read.selection)?,
                facts: Vec::new(),
                after: read.after.map(str::to_owned),
                keys: read.keys.map(<[String]>::to_vec),
                limit: read.limit,
            };
            let rows = site.select_deployment_states(&part).await.map_err(|error| failed(&error))?;
            Ok(rows.into_iter().map(|row| Box::new(State(row)) as Box<dyn Object>).collect())
        })
    }
}

struct State(DeploymentStateRow);

impl State {
    fn enforcement(&self) -> DeploymentEnforcement {
        self.0.state.as_ref().map_or(DeploymentEnforcement::Unknown, |state| state.enforcement)
    }

    fn compliance(&self) -> Compliance {
        self.0.state.as_ref().map_or(Compliance::Unknown, |state| state.compliance)
    }

    fn evaluation(&self) -> Evaluation {
        self.0.state.as_ref().map_or(Evaluation::Unknown, |state| state.evaluation)
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
        uid(&format!("{}.{}", self.0.uid, self.0.client))
    }

    fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.0.uid, &self.0.name).hash(&mut hasher);
        if let Some(state) = &self.0.state {
            (state.enforcement, state.compliance, state.evaluation, state.until, state.changed_at)
                .hash(&mut hasher);
            state.error.as_ref().map(|error| (error.code, &error.symbol, &error.message)).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn body(&self) -> Value {
        let state = self.0.state.as_ref();
        let client: ClientId = self.0.client;
        body(&Body {
            spec: Spec {
                deployment: self.0.deployment.to_string(),
                deployment_uid: self.0.uid.clone(),
                client: client.to_string(),
                client_name: self.0.name.clone(),
            },
            status: Status {
                reported: state.is_some(),
                state: format!("{:?}", self.enforcement()),
                state_id: self.enforcement().id(),
                message: self.enforcement().name(),
                compliance: format!("{:?}", self.compliance()),
                evaluation: format!("{:?}", self.evaluation()),
                until: state.and_then(|state| state.until).map(time),
                error: state.and_then(|state| state.error.as_ref()).map(Into::into),
                changed_at: state.map(|state| time(state.changed_at)),
                last_contact: state.and_then(|state| state.heard).map(time),
            },
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let state = self.0.state.as_ref();
        let error = state.and_then(|state| state.error.as_ref());
        let message = error.map_or(self.enforcement().name(), |error| error.message.as_str());
        vec![
            self.name().into(),
            self.0.name.as_str().into(),
            format!("{:?}", self.enforcement()).into(),
            format!("{:?}", self.compliance()).into(),
            error.map_or("<none>", |error| error.symbol.as_str()).into(),
            age(state.map(|state| state.changed_at), now),
            self.enforcement().id().into(),
            until(state.and_then(|state| state.until), now),
            format!("{:?}", self.evaluation()).into(),
            error.map_or_else(|| "<none>".to_owned(), |error| format!("0x{:08X}", error.code)).into(),
            message.lines().next().unwrap_or_default().into(),
        ]
    }
}
