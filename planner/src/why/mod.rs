//! Why a client is where it is: the chain of gates that each deployed update passes, who set each gate, and when it can
//! open next. It is the planner's own trace, not a second opinion: the gates are those of [`crate::client::decide`].
//!
//! There are two sources and one form. On the machine the agent's last decision is told ([`of_decision`]). At the site
//! the client's policy is compiled, what it knows is put together again from what it reported, and the same decision is
//! made ([`explain`]); what the site cannot know is marked in [`Explanation::unknown`].

pub mod agree;
mod find;
mod site;
mod states;
mod targeting;
#[cfg(test)]
mod tests;
mod values;
pub mod words;

pub use find::{names, reaching, select};
pub use site::explain;
pub use states::{Named, Rule, StateWhy, evaluation, scan};
pub use values::ValueWhy;

use jiff::Timestamp;
use patchtide_model::{ClientId, SiteName, UpdateId, catalogue::LeafRef, policy::Policy, state::StateError};
use serde::{Deserialize, Serialize};

use crate::client::{
    ClientView, Decision, DeploymentVerdict, Event, Gate, GateKind, GateStatus, Holder, Lease, UpdateVerdict,
};

/// Why a client is where it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who tells it.
    pub source: Source,
    /// The instant for which it holds.
    pub at: Timestamp,
    /// The client.
    pub client: Subject,
    /// Gates of the client as a whole: at the site whether it is enrolled, has its policy and is in contact; then what
    /// holds every transaction, and the restart.
    pub gates: Vec<Gate>,
    /// Its scan (topic 501); none: not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<StateWhy>,
    /// Its settings and windows, and who set them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueWhy>,
    /// Its deployments, by name; at the site also those asked for that do not reach it.
    pub deployments: Vec<DeploymentWhy>,
    /// Its deployed updates, by identity.
    pub updates: Vec<UpdateWhy>,
    /// What the one who tells it cannot know, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unknown: Vec<String>,
}

/// Who tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The agent, from its own books.
    Agent,
    /// The site, from what the client reported.
    Site,
}

/// The client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subject {
    /// Identity.
    pub id: ClientId,
    /// Host name.
    pub name: String,
    /// Its site.
    pub site: SiteName,
    /// Zone in which its civil times are read; empty: not known, read as UTC.
    pub zone: String,
    /// Epoch and number of the policy that it has.
    pub policy: Option<(u64, u64)>,
    /// Last contact with the site.
    pub contact: Option<Timestamp>,
}

/// A deployment, as it stands at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentWhy {
    /// Object name.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// Compliance (topic 300).
    pub compliance: Option<Named>,
    /// Enforcement (topic 301); none: nothing to enforce, or never reported.
    pub state: Option<Named>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When the state was entered, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Its evaluation (topic 302), while it has not ended well; the agent alone knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<StateWhy>,
    /// Targeted, available, deadline, hold; at the site contact, too.
    pub gates: Vec<Gate>,
    /// Its settings, and who set each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueWhy>,
    /// What it waits for: of its updates the gate that can open first.
    pub waits_for: Option<Waiting>,
    /// For a state that is not final: by when it must move. None where the site cannot know the instant: then the state's
    /// rule tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
    /// At the site: the state is older than its lease allows, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overdue: Option<String>,
    /// Its updates that are offered to this client.
    pub updates: Vec<UpdateId>,
}

/// An update, as it stands at the client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateWhy {
    /// Identity.
    pub id: UpdateId,
    /// For people.
    pub title: String,
    /// Detection (topic 500).
    pub detection: Named,
    /// Enforcement (topic 402); none: nothing to enforce, or never reported.
    pub state: Option<Named>,
    /// Error of a failed state.
    pub error: Option<StateError>,
    /// When the state was entered, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// Packages that the machine needs of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves: Vec<LeafRef>,
    /// The chain of gates, in the order in which they are passed.
    pub gates: Vec<Gate>,
    /// Where several deployments hold it: what counts of each setting, and whose it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueWhy>,
    /// What it waits for: the first closed gate.
    pub waits_for: Option<Waiting>,
    /// For a state that is not final: by when it must move. None where the site cannot know the instant: then the state's
    /// rule tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Lease>,
}

/// What something waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The gate.
    pub gate: GateKind,
    /// When it can open next: for an event the time at which the client looks again at the latest; none: never.
    pub next: Option<Timestamp>,
    /// In words.
    pub reason: String,
}

/// The books of an agent, to be explained.
#[derive(Debug, Clone, Copy)]
pub struct Books<'a> {
    /// Client.
    pub client: ClientId,
    /// Host name.
    pub name: &'a str,
    /// Site.
    pub site: &'a SiteName,
    /// Name of its zone; empty: it has none.
    pub zone: &'a str,
    /// Policy in force.
    pub policy: Option<&'a Policy>,
    /// What it knows.
    pub view: &'a ClientView,
    /// Its last decision.
    pub decision: &'a Decision,
    /// Last contact with the site.
    pub contact: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
}

/// Explains what an agent decided.
pub fn of_decision(books: &Books<'_>) -> Explanation {
    let Books { policy, decision, view, .. } = books;
    let updates: Vec<UpdateWhy> =
        decision.updates.iter().map(|(id, verdict)| update(id, verdict, *policy, view)).collect();
    let mut deployments: Vec<DeploymentWhy> = decision
        .deployments
        .iter()
        .map(|(uid, verdict)| deployment(uid, verdict, *policy, &updates, books.now))
        .collect();
    deployments.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| a.uid.cmp(&b.uid)));
    let mut explanation = Explanation {
        source: Source::Agent,
        at: books.now,
        client: Subject {
            id: books.client,
            name: books.name.to_owned(),
            site: books.site.clone(),
            zone: books.zone.to_owned(),
            policy: policy.map(|policy| (policy.epoch, policy.number)),
            contact: books.contact,
        },
        gates: decision.machine.clone(),
        scan: Some(states::scan(view, books.now)),
        values: Vec::new(),
        deployments,
        updates,
        unknown: Vec::new(),
    };
    if let Some(policy) = policy {
        values::tell(&mut explanation, policy, view);
    }
    explanation
}

fn update(id: &UpdateId, verdict: &UpdateVerdict, policy: Option<&Policy>, view: &ClientView) -> UpdateWhy {
    let found = view.detected.get(id);
    UpdateWhy {
        id: id.clone(),
        title: policy
            .and_then(|policy| policy.body.updates.get(id))
            .map_or_else(String::new, |u| u.title.clone()),
        detection: Named::from(verdict.detection),
        state: verdict.state.map(Named::from),
        error: verdict.error.clone(),
        since: None,
        leaves: found.into_iter().flat_map(|found| &found.leaves).cloned().collect(),
        waits_for: waiting(&verdict.gates),
        gates: verdict.gates.clone(),
        values: Vec::new(),
        lease: verdict.lease.clone(),
    }
}

fn deployment(
    uid: &str,
    verdict: &DeploymentVerdict,
    policy: Option<&Policy>,
    all: &[UpdateWhy],
    now: Timestamp,
) -> DeploymentWhy {
    let found = policy.and_then(|policy| policy.body.deployments.iter().find(|found| found.uid == uid));
    let updates: Vec<UpdateId> =
        found.map(|found| found.updates.iter().cloned().collect()).unwrap_or_default();
    let waits = all
        .iter()
        .filter(|update| updates.contains(&update.id))
        .filter_map(|update| update.waits_for.clone())
        .filter(|waiting| waiting.gate != GateKind::Applicable)
        // An instant before what never opens.
        .min_by_key(|waiting| (waiting.next.is_none(), waiting.next));
    DeploymentWhy {
        name: verdict.name.clone(),
        uid: uid.to_owned(),
        compliance: verdict.compliance.map(Named::from),
        state: verdict.enforcement.map(Named::from),
        error: verdict.error.clone(),
        since: None,
        evaluation: states::evaluation(verdict),
        values: Vec::new(),
        gates: deployment_gates(verdict, found.is_some_and(|found| found.suspend), now),
        waits_for: waits,
        lease: verdict.lease.clone(),
        overdue: None,
        updates,
    }
}

fn deployment_gates(verdict: &DeploymentVerdict, suspended: bool, now: Timestamp) -> Vec<Gate> {
    let object = format!("UpdateDeployment/{}", verdict.name);
    let at = |kind: GateKind, at: Option<Timestamp>, name: &str| match at {
        Some(at) if at <= now => Gate::open(kind, format!("since {at:.0}")),
        Some(at) => Gate::closed(kind, crate::client::Opens::At(at), format!("{name} {at:.0}")),
        None if kind == GateKind::Deadline => {
            Gate::waiting(kind, Event::PersonAsks, "optional: people decide")
        }
        None => Gate::closed(kind, crate::client::Opens::Never { longest: None }, "beyond the end of time"),
    };
    let mut gates = vec![
        Gate::open(GateKind::Targeted, "it reaches this client").by(object.clone(), "spec.collection"),
        at(GateKind::Available, verdict.available, "available from")
            .by(object.clone(), "spec.settings.available"),
        at(GateKind::Deadline, verdict.deadline, "to be installed by")
            .by(object.clone(), "spec.settings.deadline"),
    ];
    if suspended {
        // As for its updates: before everything that only needs time.
        let hold = Gate::waiting(GateKind::Hold, Event::Policy, "suspended").by(object, "spec.suspend");
        gates.insert(1, hold.held_by(Holder::Suspended));
    } else {
        gates.push(Gate::open(GateKind::Hold, "nothing holds it"));
    }
    gates
}

/// What a chain of gates waits for.
pub(crate) fn waiting(gates: &[Gate]) -> Option<Waiting> {
    let gate = gates.iter().find(|gate| gate.status != GateStatus::Open)?;
    Some(Waiting { gate: gate.kind, next: gate.next(), reason: gate.reason.clone() })
}
