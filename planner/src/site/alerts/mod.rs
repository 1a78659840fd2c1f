//! What the monitoring system is told: silences of machines while updates are installed on them (R-DEPL-15), alerts about
//! installations that failed (R-DEPL-16).
//!
//! [`wanted`] says what should stand, from what clients reported; [`tell`] compares it with what stands and says what to
//! change. What stands is read from the monitoring system itself, so neither a restart here nor one there needs a memory.
//! Whatever stands ends by itself soon, unless it is renewed: a site that is gone silences nobody for long.

mod tell;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, SiteName,
    client::Client,
    deployment::Deployment,
    shared::Shared,
    state::{Compliance, DeploymentEnforcement, LONGEST_END, StateError},
};

pub use tell::{Raised, Seen, SeenAlert, SeenSilence, Tell, standing, tell};

use super::status::ReportedState;

/// Silences and alerts end after this time when nobody renews them; they are renewed at half of it.
pub const KEEP: SignedDuration = SignedDuration::from_mins(15);
/// A restart belongs to the installation from this long before it. One that waits longer is no reason to look away: the
/// machine does its work meanwhile.
pub const SOON: SignedDuration = SignedDuration::from_mins(15);
/// A client that was not heard of for this long is silenced no longer. Clients ask for policy every five minutes also while
/// they install, and restart within ten.
pub const LOST: SignedDuration = SignedDuration::from_mins(30);
/// Most silences at a time.
pub const MOST_SILENCES: usize = 1_000;
/// Most alerts at a time.
pub const MOST_ALERTS: usize = 1_000;
/// Who makes the silences.
pub const CREATED_BY: &str = "patchtide";
/// Name of the alerts.
pub const ALERT_NAME: &str = "PatchtideInstallationFailed";
/// Annotation by which an alert of ours is known.
pub const MARK: &str = "patchtide";
/// Deployments that a comment names.
const NAMED: usize = 3;

/// How the monitoring system names a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Naming {
    /// The label that holds its name, for example `instance`.
    pub label: String,
    /// The client's fact that holds the same name; none: the client's name.
    pub fact: Option<String>,
}

/// A deployment with one of the two options, and what its clients reported.
#[derive(Debug, Clone, Copy)]
pub struct Watched<'a> {
    /// The deployment.
    pub deployment: &'a Deployment,
    /// Clients it reaches now.
    pub targeted: &'a BTreeSet<ClientId>,
    /// Reports of those that have not installed everything; those of clients that are no longer targeted are ignored.
    pub states: &'a [ReportedState],
    /// When these clients were last heard of, as far as that is known.
    pub heard: &'a BTreeMap<ClientId, Timestamp>,
}

/// What is to be told follows from this.
#[derive(Debug, Clone, Copy)]
pub struct AlertInput<'a> {
    /// The site.
    pub site: &'a SiteName,
    /// What tells this site from others that use the same monitoring system.
    pub owner: &'a str,
    /// How machines are named there.
    pub naming: &'a Naming,
    /// Clients by identity.
    pub clients: &'a [Shared<Client>],
    /// Deployments with one of the options.
    pub deployments: &'a [Watched<'a>],
    /// Now.
    pub now: Timestamp,
}

/// A silence of one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Silence {
    /// Label that is matched.
    pub label: String,
    /// Regular expression (RE2, anchored at both ends) that its value matches.
    pub value: String,
    /// For people, with a mark at its end by which it is known again.
    pub comment: String,
    /// When it ends by itself, to the second.
    pub ends: Timestamp,
}

/// Whose alert: the deployment's uid and the client.
pub type AlertKey = (String, ClientId);

/// An alert about one client in one deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// What it is known by in the monitoring system.
    pub labels: BTreeMap<String, String>,
    /// For people, with the [`MARK`].
    pub annotations: BTreeMap<String, String>,
    /// Since when.
    pub starts: Timestamp,
}

/// What should stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// What tells this site from others.
    pub owner: String,
    /// Silences.
    pub silences: BTreeMap<ClientId, Silence>,
    /// Alerts.
    pub alerts: BTreeMap<AlertKey, Alert>,
    /// What is at it again, or not yet over: an alert that was raised about it stands until it is mended.
    pub unmended: BTreeSet<AlertKey>,
    /// Clients that should be silenced, and whose name in the monitoring system nobody knows.
    pub unnamed: BTreeSet<ClientId>,
    /// Silences and alerts beyond the most that may stand.
    pub beyond: usize,
}

impl Wanted {
    /// Whether `other` wants the same to stand, apart from when it ends.
    pub fn is_same_but_for_time(&self, other: &Self) -> bool {
        let silence = |(a, b): ((&ClientId, &Silence), (&ClientId, &Silence))| {
            a.0 == b.0 && (&a.1.label, &a.1.value, &a.1.comment) == (&b.1.label, &b.1.value, &b.1.comment)
        };
        let alert = |(a, b): ((&AlertKey, &Alert), (&AlertKey, &Alert))| {
            a.0 == b.0 && (&a.1.labels, &a.1.annotations) == (&b.1.labels, &b.1.annotations)
        };
        self.owner == other.owner
            && self.silences.len() == other.silences.len()
            && self.silences.iter().zip(&other.silences).all(silence)
            && self.alerts.len() == other.alerts.len()
            && self.alerts.iter().zip(&other.alerts).all(alert)
    }
}

/// What should stand now.
pub fn wanted(input: &AlertInput<'_>) -> Wanted {
    let mut wanted = Wanted { owner: input.owner.to_owned(), ..Wanted::default() };
    let mut installing: BTreeMap<ClientId, (Timestamp, Vec<&str>)> = BTreeMap::new();
    for watched in input.deployments {
        let deployment = watched.deployment;
        let settings = &deployment.settings;
        for state in watched.states.iter().filter(|state| watched.targeted.contains(&state.client)) {
            let heard = watched.heard.get(&state.client).copied();
            if settings.disable_alerts
                && let Some(ends) = ends(state, heard, input.now)
            {
                let entry = installing.entry(state.client).or_insert((ends, Vec::new()));
                entry.0 = entry.0.max(ends);
                entry.1.push(deployment.name.as_str());
            }
            if settings.alert_on_failure && !is_mended(state) {
                let key = (deployment.uid.clone(), state.client);
                if state.enforcement == Some(DeploymentEnforcement::InstallFailed) {
                    let found = alert(input, deployment, state, &key);
                    wanted.alerts.extend(found.map(|alert| (key.clone(), alert)));
                }
                wanted.unmended.insert(key);
            }
        }
    }
    for (id, (ends, deployments)) in installing {
        let client = client(input, id);
        match client.and_then(|client| Some((client, name_in_monitoring(client, input.naming)?))) {
            None => {
                wanted.unnamed.insert(id);
            }
            Some((client, name)) => {
                let silence = Silence {
                    label: input.naming.label.clone(),
                    value: format!("{}(:[0-9]+)?", escaped(name)),
                    comment: comment(input, client, &deployments),
                    ends,
                };
                wanted.silences.insert(id, silence);
            }
        }
    }
    wanted.beyond = cut(&mut wanted.silences, MOST_SILENCES) + cut(&mut wanted.alerts, MOST_ALERTS);
    wanted
}

/// Leaves the first `most`; how many went.
fn cut<K: Ord + Clone, V>(map: &mut BTreeMap<K, V>, most: usize) -> usize {
    let from = map.keys().nth(most).cloned();
    from.map_or(0, |from| map.split_off(&from).len())
}

/// When the silence for a client in this state ends; none: the state is none that is silenced.
fn ends(state: &ReportedState, heard: Option<Timestamp>, now: Timestamp) -> Option<Timestamp> {
    let lease = match state.enforcement? {
        DeploymentEnforcement::Installing => state.until.or(plus(state.changed_at, LONGEST_END))?,
        DeploymentEnforcement::PendingRestart | DeploymentEnforcement::WaitingForRestart => {
            // One that is not announced happens at once, or is left to people.
            let restart = state.until.unwrap_or(state.changed_at);
            if plus(now, SOON)? < restart {
                return None;
            }
            plus(restart, LOST)?
        }
        _ => return None,
    };
    // Nothing can have been heard before the state was.
    let heard = heard.map_or(state.changed_at, |heard| heard.max(state.changed_at));
    let ends = plus(now, KEEP)?.min(lease).min(plus(heard, LOST)?);
    let ends = Timestamp::from_second(ends.as_second()).ok()?;
    (ends > now).then_some(ends)
}

fn plus(at: Timestamp, span: SignedDuration) -> Option<Timestamp> {
    at.checked_add(span).ok()
}

/// Whether nothing of a failure is left.
fn is_mended(state: &ReportedState) -> bool {
    state.enforcement == Some(DeploymentEnforcement::Installed)
        || state.compliance == Some(Compliance::Compliant)
}

fn client<'a>(input: &AlertInput<'a>, id: ClientId) -> Option<&'a Client> {
    let at = input.clients.binary_search_by_key(&id, |client| client.id).ok()?;
    input.clients.get(at).map(|client| &**client)
}

fn name_in_monitoring<'a>(client: &'a Client, naming: &Naming) -> Option<&'a str> {
    let name = match &naming.fact {
        None => Some(&client.name),
        Some(fact) => client.facts.get(fact),
    };
    name.map(String::as_str).filter(|name| !name.is_empty())
}

/// A name for a regular expression: a machine chooses its own, and must not silence others by it.
fn escaped(name: &str) -> String {
    let mut text = String::with_capacity(name.len());
    for c in name.chars() {
        if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '-' && c != '_' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

fn comment(input: &AlertInput<'_>, client: &Client, deployments: &[&str]) -> String {
    let more = match deployments.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "UpdateDeployment {}{more} of site {} installs on {} [{MARK} {}/{}]",
        deployments[..deployments.len().min(NAMED)].join(", "),
        input.site,
        client.name,
        input.owner,
        client.id
    )
}

fn alert(
    input: &AlertInput<'_>,
    deployment: &Deployment,
    state: &ReportedState,
    key: &AlertKey,
) -> Option<Alert> {
    let client = client(input, state.client)?;
    let error = state.error.as_ref();
    let code = error.map_or_else(|| "unknown".to_owned(), |error| format!("0x{:08X}", error.code));
    let symbol = error.map_or("unknown", |error| error.symbol.as_str());
    let mut labels = BTreeMap::from([
        ("alertname".to_owned(), ALERT_NAME.to_owned()),
        ("severity".to_owned(), "warning".to_owned()),
        ("site".to_owned(), input.site.to_string()),
        ("deployment".to_owned(), deployment.name.to_string()),
        ("client".to_owned(), client.name.clone()),
        ("client_id".to_owned(), client.id.to_string()),
        ("code".to_owned(), code),
        ("symbol".to_owned(), symbol.to_owned()),
    ]);
    // So that it stands with the machine's other alerts.
    if let Some(name) = name_in_monitoring(client, input.naming) {
        labels.entry(input.naming.label.clone()).or_insert_with(|| name.to_owned());
    }
    let failure = error.and_then(StateError::failure);
    let remedy = failure.map_or("see the client's log and the deployment's status.errors", |f| f.remedy());
    let message = error.map(|error| error.message.clone()).filter(|message| !message.is_empty());
    let message = message.or_else(|| failure.map(|failure| failure.words().to_owned()));
    let mut annotations = BTreeMap::from([
        (
            "summary".to_owned(),
            format!("installing updates of {} failed on {}: {symbol}", deployment.name, client.name),
        ),
        ("remedy".to_owned(), remedy.to_owned()),
        (MARK.to_owned(), format!("{}/{}/{}", input.owner, key.0, key.1)),
    ]);
    annotations.extend(message.map(|message| ("description".to_owned(), message)));
    Some(Alert { labels, annotations, starts: state.changed_at.min(input.now) })
}
