//! One client with what belongs to it on both sides.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::ClientId;

use super::{
    behaviour::Happening,
    doing::Surroundings,
    fate,
    log::{Entry, What},
    machine::{Doing, Given, Machine, Transaction},
    post::{Body, Intake, Message, Outbox, Required},
    rest::Rest,
    wishes,
    world::Tally,
};
use crate::client::{ClientView, Decision, InstallBatch, UpdateVerdict, Words, outcome, prepared::Prepared};

/// A client with what belongs to it on both sides.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub id: ClientId,
    pub machine: Machine,
    pub given: Option<Arc<Given>>,
    pub decision: Option<Decision>,
    pub outbox: Outbox,
    /// The site's side.
    pub intake: Intake,
    /// The policy that the site has for it.
    pub newest: Option<Arc<Given>>,
    /// What is on its way, in either direction.
    pub parcels: Vec<(Timestamp, u64, Parcel)>,
    pub sequence: u64,
    /// When it asks for policy next.
    pub poll: Timestamp,
    /// When it decides next.
    pub wake: Option<Timestamp>,
    /// It has to decide now.
    pub touched: bool,
    /// Looked at so often at this instant.
    pub rounds: (Timestamp, u32),
}

#[derive(Debug, Clone)]
pub(super) enum Parcel {
    /// A report to the site.
    Report(Arc<Vec<Message>>),
    /// Its answer.
    Answer { up_to: u64, resync: bool },
    /// The site tells the client's long poll that there is another policy.
    Policy,
}

/// What the site has to think about after a client was looked at.
#[derive(Default)]
pub(super) struct News {
    pub detections: Vec<Arc<Required>>,
}

/// Where entries of one client go.
pub(super) struct Log<'a> {
    pub entries: &'a mut Vec<Entry>,
    pub quiet: bool,
    pub at: Timestamp,
    pub client: ClientId,
}

impl Log<'_> {
    pub(super) fn tell(&mut self, what: What) {
        if !self.quiet {
            self.entries.push(Entry { at: self.at, client: Some(self.client), what });
        }
    }

    pub(super) fn tell_with(&mut self, what: impl FnOnce() -> Option<What>) {
        if !self.quiet
            && let Some(what) = what()
        {
            self.tell(what);
        }
    }
}

/// What is not remembered when an agent is killed midway.
pub(super) struct Before {
    machine: Box<(ClientView, Option<Transaction>, bool)>,
    lost: Option<InstallBatch>,
    back: SignedDuration,
}

impl Node {
    pub(super) fn new(id: ClientId, machine: Machine, now: Timestamp) -> Self {
        Self {
            id,
            machine,
            given: None,
            decision: None,
            outbox: Outbox::new(),
            intake: Intake::default(),
            newest: None,
            parcels: Vec::new(),
            sequence: 0,
            poll: now,
            wake: None,
            touched: true,
            rounds: (now, 0),
        }
    }

    /// When it has to be looked at next.
    pub(super) fn due(&self) -> Option<Timestamp> {
        let poll = self.machine.is_awake().then_some(self.poll);
        [self.due_beside_poll(), poll].into_iter().flatten().min()
    }

    fn due_beside_poll(&self) -> Option<Timestamp> {
        let arrival = self.parcels.iter().map(|(at, ..)| *at).min();
        let op = self.machine.next_op();
        let times = [arrival, op];
        let awake = self.machine.is_awake();
        let own = [self.touched.then_some(Timestamp::MIN), self.wake, self.outbox.due()];
        times.into_iter().chain(own.into_iter().filter(|_| awake)).flatten().min()
    }

    /// Whether there is nothing for it to do now but to ask for policy in vain.
    pub(super) fn rest(&self) -> Option<Rest> {
        let (given, newest) = (self.given.as_ref()?, self.newest.as_ref()?);
        let in_vain = self.machine.online && given.policy.number >= newest.policy.number;
        (self.machine.is_awake() && in_vain).then(|| Rest {
            poll: self.poll,
            cycle: given.policy.body.settings.policy_polling,
            until: self.due_beside_poll(),
        })
    }

    /// What ended or happened by now. What it was before, when the agent is killed in the middle of it.
    pub(super) fn happen(
        &mut self,
        around: Surroundings<'_>,
        tally: &mut Tally,
        log: &mut Log<'_>,
    ) -> Option<Before> {
        let mut before = None;
        while let Some(mut doing) = self.machine.take_op(around.now) {
            tally.events += 1;
            self.touched = true;
            if let Doing::Happens(Happening::InstallNow(updates)) = &mut doing
                && updates.is_empty()
                && let Some(given) = &self.given
            {
                *updates = given.policy.body.updates.keys().cloned().collect();
            }
            if let Doing::Happens(Happening::Asks(wish)) = &doing {
                let words = wishes::ask(&mut self.machine, self.given.as_deref(), wish, around.now);
                log.tell(What::Person(words));
                continue;
            }
            let outside = matches!(doing, Doing::Happens(_));
            if !outside
                && before.is_none()
                && self.machine.is_awake()
                && let Some(back) = self.machine.cut
            {
                let machine = &self.machine;
                before = Some(Before {
                    machine: Box::new((
                        machine.view.clone(),
                        machine.transaction.clone(),
                        machine.interrupted,
                    )),
                    lost: machine.lost.clone(),
                    back,
                });
            }
            let was = (self.machine.power, self.machine.agent, self.machine.online);
            self.machine.end(doing, around, &mut self.outbox, &mut |what| log.tell(what));
            if was != (self.machine.power, self.machine.agent, self.machine.online) {
                // Connections end with it; who comes back asks at once.
                self.outbox.under_way = None;
                self.outbox.not_before = around.now;
                self.poll = around.now;
            }
        }
        before
    }

    /// The agent was killed before it wrote down what it did.
    pub(super) fn cut_off(&mut self, before: Before, now: Timestamp, log: &mut Log<'_>) {
        if !self.machine.power || !self.machine.agent {
            return;
        }
        let (view, transaction, _) = *before.machine;
        self.machine.view = view;
        // One that ended in that moment has left its result.
        if self.machine.transaction.is_none() && transaction.is_some() {
            self.machine.transaction = self.machine.taken_up.take().or(transaction);
        }
        self.machine.lost = before.lost;
        self.machine.cut = None;
        fate::kill_agent(&mut self.machine, before.back, now, &mut |what| log.tell(what));
        self.outbox.under_way = None;
        self.decision = None;
        self.wake = None;
    }

    /// Decides, does, reports, until there is nothing more to begin.
    pub(super) fn act(&mut self, around: Surroundings<'_>, tally: &mut Tally, log: &mut Log<'_>) {
        let now = around.now;
        while self.touched && self.machine.is_awake() {
            self.touched = false;
            let Some(given) = self.given.clone() else { return };
            let machine = &mut self.machine;
            let clock = machine.clock(now);
            let anew;
            let prepared = if given.prepared.is_for(&machine.zone) {
                &given.prepared
            } else {
                anew = Prepared::new(&given.policy, &machine.zone);
                &anew
            };
            let outcome = outcome(&given.policy, prepared, &machine.view, clock, Words(!log.quiet));
            tally.decisions += 1;
            // What it was made from: the facts change below.
            let before = (!log.quiet).then(|| machine.view.running.install.clone());
            // People hear of it once: decided again, it is told.
            if machine.view.heard(&outcome.notices, outcome.scheduled.as_ref(), clock) {
                self.touched = true;
            }
            self.outbox.enter(&given.policy, &outcome, |body, verdict| {
                log.tell_with(|| entry(body, verdict));
            });
            if machine.give_up(&outcome) {
                log.tell(What::CalledOff);
            }
            if machine.restarts_now(&outcome, now) && machine.view.running.restart_at.is_some() {
                machine.restart(now, &mut |what| log.tell(what));
                self.outbox.under_way = None;
                self.decision = None;
                self.wake = None;
                return;
            }
            for action in &outcome.actions {
                if machine.start(action, &given, around) {
                    self.touched = true;
                    log.tell_with(|| Some(What::Started(action.clone())));
                }
            }
            self.wake = outcome.next_wake.map(|wake| machine.right(wake));
            self.decision = before.map(|install| outcome.into_decision(&given.policy, install.as_ref()));
        }
        if !self.machine.is_awake() {
            self.touched = false;
            if !(self.machine.power && self.machine.agent) {
                self.decision = None;
                self.wake = None;
            }
        }
    }
}

/// What a message is in the log.
fn entry(body: &Body, verdict: Option<&UpdateVerdict>) -> Option<What> {
    match body {
        Body::Update(id, (state, error)) => Some(What::Update {
            update: id.clone(),
            state: *state,
            waits_for: verdict.and_then(|verdict| verdict.waits_for()).map(|gate| gate.reason.clone()),
            error: error.clone(),
        }),
        Body::Enforcement(uid, (state, until, _)) => {
            Some(What::Enforcement { deployment: uid.clone(), state: *state, until: *until })
        }
        Body::Compliance(uid, state) => Some(What::Compliance { deployment: uid.clone(), state: *state }),
        Body::Detection(_) | Body::Evaluation(..) => None,
    }
}
