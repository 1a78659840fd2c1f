//! `clients`: the machines of a site.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    client::ClientState,
    object::ClientSettings,
    state::{HEARTBEAT, Scan},
};
use patchtide_store::{
    SiteStore,
    answers::select::{ClientIs, ClientRow, Condition, Part},
};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    Column, Depth, Kind, Object, Read, column,
    columns::{age, time},
    failed, labels,
    selector::{self, Selection, unusable},
    wide,
};
use crate::{
    answer::Answer,
    openapi::{body, properties},
    resource::About,
};

/// The kind.
pub(crate) struct Clients;

const ABOUT: About = About {
    plural: "clients",
    singular: "client",
    kind: "Client",
    short: &["pcl"],
    categories: &["patchtide-reports"],
    verbs: &["get", "list", "watch"],
    words: "A machine of the site, as it enrolled and as it tells of itself. Its name is its identity; facts whose keys and \
            values can be labels are labels.",
};

/// What a client tells and what it was told.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// What the site knows of the machine.
    status: Status,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Status {
    /// Host name with which it enrolled.
    name: String,
    /// Where it stands with the site: `Pending`, `Active`, `Revoked` or `Quarantined`.
    state: &'static str,
    /// It is active and was not heard of for longer than a day, two policy polls and two state message cycles, by the
    /// default client settings.
    silent: bool,
    /// Address of its last contact.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Last contact of any kind. A watch does not tell of it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_contact: Option<String>,
    /// Last report, by the site's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_report: Option<String>,
    /// Its clock minus the site's, seconds, in that report.
    #[serde(skip_serializing_if = "Option::is_none")]
    clock_skew_seconds: Option<i64>,
    /// Messages are missing; it is asked to send everything again.
    gap: bool,
    /// End of its certificate.
    certificate_expires: String,
    /// Updates in the catalogue, counted by what it reported.
    updates: Numbers,
    /// Its policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    policy: Option<Policy>,
    /// Its last scan.
    #[serde(skip_serializing_if = "Option::is_none")]
    scan: Option<ScanState>,
    /// Facts that it reported, also those that cannot be labels.
    facts: std::collections::BTreeMap<String, String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Numbers {
    /// Required.
    required: u64,
    /// Installed.
    installed: u64,
    /// Failed to download or to install.
    failed: u64,
    /// Installed, and wait for a restart.
    pending_restart: u64,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Policy {
    /// Epoch and number that were signed for it last, with a point between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed: Option<String>,
    /// When that was.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_at: Option<String>,
    /// Epoch and number that are in force there, as it reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_force: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ScanState {
    /// Published state number (topic 501).
    id: u8,
    /// Published name of it.
    state: &'static str,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<super::columns::Error>,
}

const COLUMNS: &[Column] = &[
    column("Name", "string", "Identity."),
    column("Host", "string", "Host name with which it enrolled."),
    column("State", "string", "Where it stands with the site; Silent: active, and not heard of for long."),
    column("Required", "integer", "Updates that it requires."),
    column("Failed", "integer", "Updates that failed to download or install."),
    column("Restart", "integer", "Updates that wait for a restart."),
    column("Seen", "string", "Time since its last contact."),
    wide("Scan", "string", "How its last scan ended."),
    wide("Address", "string", "Address of its last contact."),
    wide("OS", "string", "Operating system."),
    wide("Agent", "string", "Version of the agent."),
    wide(
        "Policy",
        "string",
        "Epoch and number of the policy in force there; with an arrow the one that it should have.",
    ),
    wide("Reported", "string", "Time since its last report."),
];

const FIELDS: &[(&str, &str)] = &[
    ("status.name", "a host name"),
    ("status.state", "Pending, Active, Revoked or Quarantined"),
    ("status.silent", "true or false"),
    ("status.address", "an address"),
    (
        "status.scan.state",
        "Unknown, WaitingForCatalogue, Running, Completed, PendingRetry, Failed or CompletedWithErrors, or their published number",
    ),
];

/// Who was not heard of since then is silent.
fn silent_since(now: Timestamp) -> Timestamp {
    let settings = ClientSettings::default();
    let longest: SignedDuration = HEARTBEAT.max(settings.policy_polling.saturating_mul(2));
    let silence = longest.saturating_add(settings.state_message_cycle.saturating_mul(2));
    now.checked_sub(silence).unwrap_or(Timestamp::MIN)
}

fn conditions(selection: &Selection) -> Result<Vec<Condition<ClientIs>>, Answer> {
    let one = |term: &selector::Term| {
        let value = term.value.as_str();
        let wrong = || unusable(&Clients, term);
        let mut holds = term.equal;
        let what = match term.field {
            selector::NAME => ClientIs::Id(value.to_owned()),
            "status.name" => ClientIs::Called(value.to_owned()),
            "status.address" => ClientIs::At(value.to_owned()),
            "status.state" => ClientIs::In(state(value).ok_or_else(wrong)?),
            "status.silent" => {
                let silent: bool = value.parse().map_err(|_| wrong())?;
                holds = silent == term.equal;
                ClientIs::Silent
            }
            _ => {
                let known = Scan::ALL.iter().copied().find(|scan| is_called(*scan, scan.id(), value));
                ClientIs::Scan(known.ok_or_else(wrong)?)
            }
        };
        Ok(Condition { what, holds })
    };
    selection.within().map(one).collect()
}

/// Whether a state is meant by its short name or its number.
pub(super) fn is_called(state: impl std::fmt::Debug, id: u8, asked: &str) -> bool {
    format!("{state:?}") == asked || id.to_string() == asked
}

const STATES: [(ClientState, &str); 4] = [
    (ClientState::Pending, "Pending"),
    (ClientState::Active, "Active"),
    (ClientState::Revoked, "Revoked"),
    (ClientState::Quarantined, "Quarantined"),
];

fn state(name: &str) -> Option<ClientState> {
    STATES.iter().find(|(_, known)| *known == name).map(|(state, _)| *state)
}

fn state_name(state: ClientState) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, name)| *name)
}

impl Kind for Clients {
    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn fields(&self) -> &'static [(&'static str, &'static str)] {
        FIELDS
    }

    fn has_labels(&self) -> bool {
        true
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
                facts: read.selection.facts.clone(),
                after: read.after.map(str::to_owned),
                keys: read.keys.map(<[String]>::to_vec),
                limit: read.limit,
            };
            let counts = read.depth > Depth::Digest;
            let rows = site.select_clients(&part, silent_since(read.now), counts).await;
            let rows = rows.map_err(|error| failed(&error))?;
            Ok(rows.into_iter().map(|row| Box::new(Client(row)) as Box<dyn Object>).collect())
        })
    }
}

struct Client(ClientRow);

impl Client {
    fn policy(&self) -> Option<Policy> {
        let pair = |(epoch, number): (u64, u64)| format!("{epoch}.{number}");
        let in_force = self.0.report.as_ref().and_then(|report| report.policy).map(pair);
        let signed = self.0.signed.map(|(epoch, number, _)| pair((epoch, number)));
        let signed_at = self.0.signed.map(|(_, _, at)| time(at));
        (in_force.is_some() || signed.is_some()).then_some(Policy { signed, signed_at, in_force })
    }
}

impl Object for Client {
    fn key(&self) -> String {
        self.name()
    }

    fn name(&self) -> String {
        self.0.client.id.to_string()
    }

    fn uid(&self) -> String {
        self.name()
    }

    fn labels(&self) -> Map<String, Value> {
        labels(&self.0.client.facts)
    }

    fn digest(&self) -> u64 {
        let client = &self.0.client;
        let mut hasher = DefaultHasher::new();
        (&client.name, client.state, &client.facts, client.address, self.0.silent).hash(&mut hasher);
        (self.0.signed, self.0.not_after).hash(&mut hasher);
        if let Some(report) = &self.0.report {
            // A report says something new: each has a number of its own.
            (report.sequence, report.policy, report.scan, report.gap).hash(&mut hasher);
            report.scan_error.as_ref().map(|error| (error.code, &error.symbol)).hash(&mut hasher);
        }
        hasher.finish()
    }

    fn body(&self) -> Value {
        let row = &self.0;
        let updates = row.updates.unwrap_or_default();
        let report = row.report.as_ref();
        body(&Body {
            status: Status {
                name: row.client.name.clone(),
                state: state_name(row.client.state),
                silent: row.silent,
                address: row.client.address.map(|address| address.to_string()),
                last_contact: row.client.last_contact.map(time),
                last_report: report.map(|report| time(report.reported_at)),
                clock_skew_seconds: report.map(|report| report.skew_us / 1_000_000),
                gap: report.is_some_and(|report| report.gap),
                certificate_expires: time(row.not_after),
                updates: Numbers {
                    required: updates.required,
                    installed: updates.installed,
                    failed: updates.failed,
                    pending_restart: updates.pending_restart,
                },
                policy: self.policy(),
                scan: report.map(|report| ScanState {
                    id: report.scan.id(),
                    state: report.scan.name(),
                    error: report.scan_error.as_ref().map(Into::into),
                }),
                facts: row.client.facts.clone(),
            },
        })
    }

    fn cells(&self, now: Timestamp) -> Vec<Value> {
        let row = &self.0;
        let facts = &row.client.facts;
        let fact = |key: &str| facts.get(key).map(String::as_str).unwrap_or_default();
        let updates = row.updates.unwrap_or_default();
        let policy = match self.policy() {
            None => "<none>".to_owned(),
            Some(Policy { signed, in_force, .. }) if signed == in_force => signed.unwrap_or_default(),
            Some(Policy { signed, in_force, .. }) => {
                let told = |number: Option<String>| number.unwrap_or_else(|| "<none>".to_owned());
                format!("{} -> {}", told(in_force), told(signed))
            }
        };
        let report = row.report.as_ref();
        vec![
            self.name().into(),
            row.client.name.as_str().into(),
            if row.silent { "Silent".into() } else { state_name(row.client.state).into() },
            updates.required.into(),
            updates.failed.into(),
            updates.pending_restart.into(),
            age(row.client.last_contact, now),
            report.map_or("<never reported>", |report| report.scan.name()).into(),
            row.client.address.map_or_else(|| "<none>".to_owned(), |address| address.to_string()).into(),
            format!("{} {}", fact("os.id"), fact("os.version")).trim().into(),
            fact("agent.version").into(),
            policy.into(),
            age(report.map(|report| report.reported_at), now),
        ]
    }
}
