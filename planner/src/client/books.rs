//! The client's books: which states were told, since when, and under which lease. They turn decisions into what is to be
//! told, one legal step after the other: nothing that happened is left out, nothing that did not is put in.

use std::collections::BTreeMap;

use jiff::Timestamp;
use patchtide_model::{
    UpdateId,
    state::{ClosedSet, Compliance, DeploymentEnforcement, Evaluation, StateError, UpdateEnforcement, way},
};
use serde::{Deserialize, Serialize};

use super::decision::{Decision, DeploymentVerdict, Lease, UpdateVerdict};

/// A state that was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<S> {
    /// The state.
    pub state: S,
    /// Since when.
    pub since: Timestamp,
    /// By when it must move; none: it is final, or claims nothing.
    pub lease: Option<Lease>,
    /// How often its lease ran out and was renewed.
    #[serde(default)]
    pub renewals: u32,
}

/// What was told of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DeploymentEntry {
    /// Topic 301.
    pub enforcement: Option<Entry<DeploymentEnforcement>>,
    /// Topic 302.
    pub evaluation: Option<Entry<Evaluation>>,
    /// Topic 300.
    pub compliance: Option<Entry<Compliance>>,
}

/// Everything that was told and still stands.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Books {
    /// Topic 402.
    pub updates: BTreeMap<UpdateId, Entry<UpdateEnforcement>>,
    /// By uid.
    pub deployments: BTreeMap<String, DeploymentEntry>,
}

/// A transition to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// Topic 402.
    Update {
        /// Update.
        update: UpdateId,
        /// State.
        state: UpdateEnforcement,
        /// Error of a failed state.
        error: Option<StateError>,
    },
    /// Topic 301.
    Enforcement {
        /// Uid.
        deployment: String,
        /// State.
        state: DeploymentEnforcement,
        /// Until when it waits.
        until: Option<Timestamp>,
        /// Error of a failed state.
        error: Option<StateError>,
    },
    /// Topic 302.
    Evaluation {
        /// Uid.
        deployment: String,
        /// State.
        state: Evaluation,
    },
    /// Topic 300.
    Compliance {
        /// Uid.
        deployment: String,
        /// State.
        state: Compliance,
    },
}

/// Goes on from `entry` to `to`: the steps to be told. The lease that is proposed holds from now on; one that is reckoned
/// from the present instant does not put off the one that holds.
fn step<S: ClosedSet>(
    entry: &mut Option<Entry<S>>,
    to: S,
    between: &[S],
    lease: Option<&Lease>,
    now: Timestamp,
) -> Vec<S> {
    let from = entry.as_ref().map_or(S::UNKNOWN, |entry| entry.state);
    let mut steps = way(from, to, between);
    if entry.is_none() && steps.is_empty() {
        // *Unknown* as the first word.
        steps.push(to);
    }
    let lease = lease.filter(|_| to.needs_lease()).cloned();
    match entry {
        Some(entry) if steps.is_empty() => {
            let ran_out = entry.lease.as_ref().is_some_and(|held| held.by <= now);
            let holds = |held: &Lease| {
                !ran_out && lease.as_ref().is_some_and(|new| new.rolling && held.rolling && new.by > held.by)
            };
            if !entry.lease.as_ref().is_some_and(holds) {
                entry.lease = lease;
            }
            entry.renewals = entry.renewals.saturating_add(u32::from(ran_out));
        }
        _ => *entry = Some(Entry { state: to, since: now, lease, renewals: 0 }),
    }
    steps
}

/// What must have happened to an update before it came to be in a state, as far as that state proves it.
const fn before(to: UpdateEnforcement) -> &'static [UpdateEnforcement] {
    use UpdateEnforcement as E;
    match to {
        E::WaitingForAnother
        | E::WaitingForWindow
        | E::RestartRequiredBefore
        | E::PendingInstallation
        | E::Started => &[E::Downloaded],
        // It failed in a batch.
        E::Installing | E::InstallFailed => &[E::Downloaded, E::Started],
        // Told only of what this client installed itself.
        E::PendingRestart | E::Installed => &[E::Downloaded, E::Started, E::Installing],
        _ => &[],
    }
}

const fn before_all(to: DeploymentEnforcement) -> &'static [DeploymentEnforcement] {
    use DeploymentEnforcement as D;
    match to {
        D::Installing | D::WaitingForAnother | D::WaitingForRestart | D::WaitingForWindow => &[D::Downloaded],
        _ => &[],
    }
}

impl Books {
    /// Follows a decision: what is to be told, in order. What the decision says nothing of stays while detection is
    /// repeated or a transaction holds it, and is *unknown* otherwise.
    pub fn follow(&mut self, decision: &Decision, now: Timestamp) -> Vec<Said> {
        let mut said = Vec::new();
        for (id, verdict) in &decision.updates {
            self.update(id, verdict, decision.repeating, now, &mut said);
        }
        let gone: Vec<UpdateId> = self
            .updates
            .keys()
            .filter(|id| !decision.updates.contains_key(*id) && !decision.installing.contains(*id))
            .cloned()
            .collect();
        for id in gone {
            let state = self.updates.remove(&id).map(|entry| entry.state);
            if state.is_some_and(is_claim) {
                let state = UpdateEnforcement::Unknown;
                said.push(Said::Update { update: id, state, error: None });
            }
        }
        for (uid, verdict) in &decision.deployments {
            self.deployment(uid, verdict, decision.repeating, now, &mut said);
        }
        let gone: Vec<String> =
            self.deployments.keys().filter(|uid| !decision.deployments.contains_key(*uid)).cloned().collect();
        for uid in gone {
            let state = self.deployments.remove(&uid).and_then(|entry| entry.enforcement);
            if state.is_some_and(|entry| is_claim_of_all(entry.state)) {
                let state = DeploymentEnforcement::Unknown;
                said.push(Said::Enforcement { deployment: uid, state, until: None, error: None });
            }
        }
        said
    }

    fn update(
        &mut self,
        id: &UpdateId,
        verdict: &UpdateVerdict,
        repeating: bool,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let mut entry = self.updates.remove(id);
        let to = match (verdict.state, &entry) {
            (Some(state), _) => state,
            (None, None) => return,
            (None, Some(known)) if repeating || !is_claim(known.state) => known.state,
            (None, Some(_)) => UpdateEnforcement::Unknown,
        };
        let steps = step(&mut entry, to, before(to), verdict.lease.as_ref(), now);
        let last = steps.len().saturating_sub(1);
        said.extend(steps.into_iter().enumerate().map(|(n, state)| Said::Update {
            update: id.clone(),
            state,
            error: verdict.error.clone().filter(|_| n == last),
        }));
        self.updates.extend(entry.map(|entry| (id.clone(), entry)));
    }

    fn deployment(
        &mut self,
        uid: &str,
        verdict: &DeploymentVerdict,
        repeating: bool,
        now: Timestamp,
        said: &mut Vec<Said>,
    ) {
        let entry = self.deployments.entry(uid.to_owned()).or_default();
        let deployment = || uid.to_owned();
        let steps = step(
            &mut entry.evaluation,
            verdict.evaluation,
            &[Evaluation::Activated],
            verdict.evaluation_lease.as_ref(),
            now,
        );
        said.extend(steps.into_iter().map(|state| Said::Evaluation { deployment: deployment(), state }));
        if let Some(state) = verdict.compliance {
            let steps = step(&mut entry.compliance, state, &[], None, now);
            said.extend(steps.into_iter().map(|state| Said::Compliance { deployment: deployment(), state }));
        }
        let to = match (verdict.enforcement, &entry.enforcement) {
            (Some(state), _) => state,
            (None, None) => return,
            (None, Some(known)) if repeating || !is_claim_of_all(known.state) => known.state,
            (None, Some(_)) => DeploymentEnforcement::Unknown,
        };
        let steps = step(&mut entry.enforcement, to, before_all(to), verdict.lease.as_ref(), now);
        let last = steps.len().saturating_sub(1);
        said.extend(steps.into_iter().enumerate().map(|(n, state)| Said::Enforcement {
            deployment: deployment(),
            state,
            until: verdict.until.filter(|_| n == last),
            error: verdict.error.clone().filter(|_| n == last),
        }));
    }

    /// When the first lease runs out: a decision is due then at the latest.
    pub fn due(&self) -> Option<Timestamp> {
        let updates = self.updates.values().filter_map(|entry| entry.lease.as_ref());
        let deployments = self.deployments.values().flat_map(|entry| {
            let enforcement = entry.enforcement.as_ref().and_then(|entry| entry.lease.as_ref());
            let evaluation = entry.evaluation.as_ref().and_then(|entry| entry.lease.as_ref());
            enforcement.into_iter().chain(evaluation)
        });
        updates.chain(deployments).map(|lease| lease.by).min()
    }

    /// The time was put back to `now`: nothing stands since later, and leases are reckoned anew.
    pub fn put_back(&mut self, now: Timestamp) {
        fn earlier<S>(entry: &mut Entry<S>, now: Timestamp) {
            entry.since = entry.since.min(now);
            entry.lease = None;
        }
        self.updates.values_mut().for_each(|entry| earlier(entry, now));
        for entry in self.deployments.values_mut() {
            entry.enforcement.iter_mut().for_each(|entry| earlier(entry, now));
            entry.evaluation.iter_mut().for_each(|entry| earlier(entry, now));
            entry.compliance.iter_mut().for_each(|entry| earlier(entry, now));
        }
    }

    /// What a transaction did while nobody followed it: its updates, and the deployments that hold one of them, were being
    /// installed from `since` on. `holds` says whether a deployment does.
    pub fn witness_installation<'a>(
        &mut self,
        updates: impl IntoIterator<Item = &'a UpdateId>,
        holds: impl Fn(&str) -> bool,
        since: Timestamp,
    ) -> Vec<Said> {
        let mut said = Vec::new();
        for id in updates {
            let mut entry = self.updates.remove(id);
            // What ended already is not begun anew.
            if entry.as_ref().is_some_and(|entry| !entry.state.is_final()) {
                let to = UpdateEnforcement::Installing;
                let steps = step(&mut entry, to, before(to), None, since);
                said.extend(steps.into_iter().map(|state| Said::Update {
                    update: id.clone(),
                    state,
                    error: None,
                }));
            }
            self.updates.extend(entry.map(|entry| (id.clone(), entry)));
        }
        for (uid, entry) in self.deployments.iter_mut().filter(|(uid, _)| holds(uid)) {
            if entry.enforcement.as_ref().is_some_and(|entry| !entry.state.is_final()) {
                let to = DeploymentEnforcement::Installing;
                let steps = step(&mut entry.enforcement, to, before_all(to), None, since);
                said.extend(steps.into_iter().map(|state| Said::Enforcement {
                    deployment: uid.clone(),
                    state,
                    until: None,
                    error: None,
                }));
            }
        }
        said
    }
}

/// Whether a state says of an update what no longer holds when nothing is to be enforced. What was installed, was.
const fn is_claim(state: UpdateEnforcement) -> bool {
    !matches!(state, UpdateEnforcement::Unknown | UpdateEnforcement::Installed)
}

const fn is_claim_of_all(state: DeploymentEnforcement) -> bool {
    !matches!(state, DeploymentEnforcement::Unknown | DeploymentEnforcement::Installed)
}
