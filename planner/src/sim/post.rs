//! State messages on both ends: a client keeps a message until it is acknowledged, the site takes them by number and asks
//! for everything anew when one is missing (the rules of the agent's outbox and of the site's intake).

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    UpdateId,
    catalogue::LeafRef,
    policy::Policy,
    state::{Compliance, DeploymentEnforcement, Evaluation, StateError, UpdateEnforcement},
};

use crate::client::{UpdateVerdict, outcome::Outcome};

/// A report without an answer is given up after this time.
pub(super) const TIMEOUT: SignedDuration = SignedDuration::from_secs(30);
/// Messages in one report.
const ITEMS: usize = 500;

/// What was said about an update.
pub(super) type UpdateSaid = (UpdateEnforcement, Option<StateError>);
/// What was said about the enforcement of a deployment.
pub(super) type EnforcementSaid = (DeploymentEnforcement, Option<Timestamp>, Option<StateError>);
/// Leaves that a scan found required.
pub(super) type Required = BTreeMap<UpdateId, BTreeSet<LeafRef>>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Detection(Arc<Required>),
    Update(UpdateId, UpdateSaid),
    Evaluation(String, Evaluation),
    Compliance(String, Compliance),
    Enforcement(String, EnforcementSaid),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub seq: u64,
    pub body: Body,
}

/// All that is current of one client: at the client what it said last, at the site what it heard last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Current {
    pub detection: Option<Arc<Required>>,
    pub updates: BTreeMap<UpdateId, UpdateSaid>,
    pub evaluations: BTreeMap<String, Evaluation>,
    pub compliance: BTreeMap<String, Compliance>,
    pub enforcement: BTreeMap<String, EnforcementSaid>,
}

impl Current {
    fn take(&mut self, body: &Body) {
        match body.clone() {
            Body::Detection(found) => self.detection = Some(found),
            Body::Update(id, said) => drop(self.updates.insert(id, said)),
            Body::Evaluation(uid, said) => drop(self.evaluations.insert(uid, said)),
            Body::Compliance(uid, said) => drop(self.compliance.insert(uid, said)),
            Body::Enforcement(uid, said) => drop(self.enforcement.insert(uid, said)),
        }
    }

    fn all(&self) -> Vec<Body> {
        let mut all: Vec<Body> =
            self.detection.iter().map(|found| Body::Detection(Arc::clone(found))).collect();
        all.extend(self.updates.iter().map(|(id, said)| Body::Update(id.clone(), said.clone())));
        all.extend(self.evaluations.iter().map(|(uid, said)| Body::Evaluation(uid.clone(), *said)));
        all.extend(self.compliance.iter().map(|(uid, said)| Body::Compliance(uid.clone(), *said)));
        all.extend(self.enforcement.iter().map(|(uid, said)| Body::Enforcement(uid.clone(), said.clone())));
        all
    }
}

/// The client's end.
#[derive(Debug, Clone)]
pub(super) struct Outbox {
    next: u64,
    pending: VecDeque<Message>,
    pub current: Current,
    /// When the report that is under way is given up.
    pub under_way: Option<Timestamp>,
    failures: u32,
    /// Not before that time.
    pub not_before: Timestamp,
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Self {
            next: 1,
            pending: VecDeque::new(),
            current: Current {
                detection: None,
                updates: BTreeMap::new(),
                evaluations: BTreeMap::new(),
                compliance: BTreeMap::new(),
                enforcement: BTreeMap::new(),
            },
            under_way: None,
            failures: 0,
            not_before: Timestamp::MIN,
        }
    }

    fn write(&mut self, body: Body) {
        self.pending.push_back(Message { seq: self.next, body });
        self.next += 1;
    }

    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// What a scan found.
    pub(super) fn detection(&mut self, found: Required) {
        if self.current.detection.as_deref() != Some(&found) {
            let found = Arc::new(found);
            self.current.detection = Some(Arc::clone(&found));
            self.write(Body::Detection(found));
        }
    }

    /// Enters what changed; what no longer concerns this client is forgotten without a word. Tells what changed.
    pub(super) fn enter(
        &mut self,
        policy: &Policy,
        outcome: &Outcome,
        mut tell: impl FnMut(&Body, Option<&UpdateVerdict>),
    ) {
        let mut new: Vec<(Body, Option<&UpdateVerdict>)> = Vec::new();
        let current = &mut self.current;
        // Both are in the order of their names. What says nothing more goes.
        let mut verdicts = outcome.updates(policy).filter(|(_, verdict)| verdict.state.is_some()).peekable();
        let said = |id: &UpdateId, verdict: &UpdateVerdict| {
            verdict.state.map(|state| Body::Update(id.clone(), (state, verdict.error.clone())))
        };
        current.updates.retain(|id, (known, error)| {
            while let Some((next, verdict)) = verdicts.next_if(|(next, _)| *next <= id) {
                let same = next == id && verdict.state == Some(*known) && verdict.error == *error;
                if !same {
                    new.extend(said(next, verdict).map(|body| (body, Some(verdict))));
                }
                if next == id {
                    return true;
                }
            }
            false
        });
        new.extend(verdicts.filter_map(|(id, verdict)| Some((said(id, verdict)?, Some(verdict)))));
        let deployment = |uid: &str| {
            outcome.deployments(policy).find(|(known, _)| known.uid == uid).map(|(_, verdict)| verdict)
        };
        current.evaluations.retain(|uid, _| deployment(uid).is_some());
        current.compliance.retain(|uid, _| deployment(uid).is_some_and(|d| d.compliance.is_some()));
        current.enforcement.retain(|uid, _| deployment(uid).is_some_and(|d| d.enforcement.is_some()));
        for (uid, verdict) in outcome.deployments(policy).map(|(policy, verdict)| (&policy.uid, verdict)) {
            if current.evaluations.get(uid) != Some(&verdict.evaluation) {
                new.push((Body::Evaluation(uid.clone(), verdict.evaluation), None));
            }
            if let Some(state) = verdict.compliance.filter(|state| current.compliance.get(uid) != Some(state))
            {
                new.push((Body::Compliance(uid.clone(), state), None));
            }
            if let Some(state) = verdict.enforcement {
                let same = current.enforcement.get(uid).is_some_and(|(known, until, error)| {
                    *known == state && *until == verdict.until && *error == verdict.error
                });
                if !same {
                    let said = (state, verdict.until, verdict.error.clone());
                    new.push((Body::Enforcement(uid.clone(), said), None));
                }
            }
        }
        for (body, verdict) in new {
            tell(&body, verdict);
            self.current.take(&body);
            self.write(body);
        }
    }

    /// The report that is to be sent now.
    pub(super) fn report(&mut self, now: Timestamp) -> Option<Vec<Message>> {
        if self.under_way.is_some() || self.pending.is_empty() || now < self.not_before {
            return None;
        }
        self.under_way = Some(now.checked_add(TIMEOUT).unwrap_or(Timestamp::MAX));
        Some(self.pending.iter().take(ITEMS).cloned().collect())
    }

    /// When something has to be done for the report next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        match self.under_way {
            Some(until) => Some(until),
            None => (!self.pending.is_empty()).then_some(self.not_before),
        }
    }

    /// No answer came: 1 s, 2 s, ... 5 min.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.under_way = None;
        let pause =
            SignedDuration::from_secs(1_i64 << self.failures.min(9)).min(SignedDuration::from_mins(5));
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.checked_add(pause).unwrap_or(Timestamp::MAX);
    }

    /// Messages up to this number are kept by the site.
    pub(super) fn acknowledged(&mut self, up_to: u64, resync: bool) {
        while self.pending.front().is_some_and(|message| message.seq <= up_to) {
            self.pending.pop_front();
        }
        self.under_way = None;
        self.failures = 0;
        self.not_before = Timestamp::MIN;
        if resync {
            for body in self.current.all() {
                self.write(body);
            }
        }
    }

    /// The older half of what waits is given up, as when a site is away for months.
    pub(super) fn thin_out(&mut self) {
        let half = self.pending.len().div_ceil(2);
        self.pending.drain(..half);
    }
}

/// The site's end, for one client.
#[derive(Debug, Clone, Default)]
pub(super) struct Intake {
    /// Highest number known.
    pub sequence: u64,
    /// A number is missing: everything is asked for anew until a message after the answer comes.
    asked: Option<u64>,
    pub heard: Current,
    pub changed_at: BTreeMap<String, Timestamp>,
}

impl Intake {
    /// Takes a report: the acknowledgement, and whether everything is asked for anew.
    pub(super) fn take(&mut self, messages: &[Message], now: Timestamp) -> (u64, bool) {
        if let (Some(asked), Some(first)) = (self.asked, messages.first())
            && first.seq > asked
        {
            self.asked = None;
        }
        let mut gap = self.asked.is_some();
        for message in messages.iter().filter(|message| message.seq > self.sequence).collect::<Vec<_>>() {
            gap |= message.seq > self.sequence + 1;
            self.sequence = message.seq;
            if let Body::Enforcement(uid, (state, ..)) = &message.body
                && self.heard.enforcement.get(uid).is_none_or(|(known, ..)| known != state)
            {
                self.changed_at.insert(uid.clone(), now);
            }
            self.heard.take(&message.body);
        }
        if gap {
            self.asked = Some(self.sequence);
        }
        (self.sequence, gap)
    }
}
