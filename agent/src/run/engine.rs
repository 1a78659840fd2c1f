//! The engine: keeps the machine's facts, decides after every event, and remembers before it acts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, LineId, SiteName, UpdateId,
    policy::{LinePolicy, Policy},
};
use patchtide_planner::client::{self, Books, ClientView, Decision};
use patchtide_protocol::location::Locations;
use tokio::{
    sync::{Notify, Semaphore, mpsc},
    task::AbortHandle,
    time::Instant,
};
use uuid::Uuid;

use super::{
    RunError, carry,
    events::Event,
    look::{LOOK, Stamp},
    reports::Sending,
    states::told,
    until,
};
use crate::{
    awake::Awake,
    catalogue::Catalogues,
    clock::{self, Clock},
    download::{Sources, locality},
    facts,
    install::{LastFailure, Site, error::reported},
    notify::{Teller, terminals},
    report::{self, Outbox},
    services::Watched,
    transport::{Transport, error::chain},
};

pub(super) const VIEW: &str = "view.json";
pub(super) const CACHED: &str = "cached-lines.json";
/// State of dpkg's database when it was last looked at, so that changes while no agent was there are seen.
const STAMP: &str = "packages-stamp.json";
/// The last 4 KiB of output of the last failed operation, for `status`.
pub(super) const FAILURE: &str = "last-failure.json";
/// The time that was believed last, so that it is never before that after a boot.
pub(super) const KEPT_TIME: &str = "clock.json";
/// States that were told, with their leases.
const STATES: &str = "states.json";
/// Services that are to run again.
pub(super) const WATCHED: &str = "watched-services.json";
/// How often a lock that another process holds is tried.
const LOCKED: Duration = Duration::from_secs(3);
/// Downloads at a time.
const PARALLEL: usize = 4;

/// What an engine is made of.
pub(super) struct Parts {
    pub(super) site: Site,
    pub(super) catalogues: Catalogues,
    pub(super) outbox: Outbox,
    pub(super) transport: Transport,
    pub(super) client: ClientId,
    pub(super) site_name: SiteName,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) boot: Uuid,
    pub(super) new_boot: bool,
    pub(super) policy: Option<Policy>,
    pub(super) woken: Arc<Notify>,
}

/// An engine that gives up leaves nothing behind that would work on the same files as the next one.
impl Drop for Engine {
    fn drop(&mut self) {
        self.downloads.values().for_each(AbortHandle::abort);
        if let Some(withdraw) = &self.withdraw {
            withdraw.store(true, Ordering::SeqCst);
        }
    }
}

pub(super) struct Engine {
    pub(super) site: Site,
    pub(super) catalogues: Catalogues,
    pub(super) outbox: Outbox,
    pub(super) transport: Transport,
    pub(super) client: ClientId,
    pub(super) site_name: SiteName,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) view: ClientView,
    saved: Option<ClientView>,
    pub(super) policy: Option<Policy>,
    pub(super) decision: Decision,
    /// The time that is believed.
    pub(super) clock: Clock,
    /// Rung when the machine has slept: connections are dead.
    pub(super) woken: Arc<Notify>,
    /// What was told of updates and deployments, and under which lease.
    pub(super) states: Books,
    saved_states: Books,
    pub(super) locations: Locations,
    pub(super) located: Option<Instant>,
    pub(super) cached: BTreeMap<LineId, LinePolicy>,
    pub(super) sources: Sources,
    pub(super) downloads: BTreeMap<Digest, AbortHandle>,
    /// Room for [`PARALLEL`] downloads.
    pub(super) room: Arc<Semaphore>,
    pub(super) contact: Contact,
    pub(super) sending: Sending,
    pub(super) restart_asked: Option<Instant>,
    /// Set to keep a batch that is still being checked from starting.
    pub(super) withdraw: Option<Arc<AtomicBool>>,
    pub(super) stamp: Option<Stamp>,
    saved_stamp: Option<Stamp>,
    /// Updaters beside this agent that are active.
    pub(super) others: BTreeSet<&'static str>,
    pub(super) looked: Option<Instant>,
    pub(super) looked_slowly: Option<Instant>,
    /// What is to run again after transactions.
    pub(super) watched: Watched,
    teller: Teller,
    awake: Awake,
    /// Terminals on which somebody was logged in when the machine came back from sleep.
    stayed: BTreeSet<String>,
    /// Whether it is being looked at.
    pub(super) watching: bool,
}

/// Last contact with the site.
#[derive(Debug, Default)]
pub(super) struct Contact {
    pub(super) last: Option<Timestamp>,
    pub(super) error: Option<String>,
}

impl Engine {
    pub(super) fn new(parts: Parts) -> Result<Self, RunError> {
        let state = &parts.site.state;
        let signed = parts.policy.as_ref().map(|policy| policy.issued_at);
        let mut clock = Clock::start(clock::read(), parts.boot, state.load_or_default(KEPT_TIME)?, signed);
        let now = clock.look(clock::read(), None).now;
        let workstation =
            facts::collect(&parts.site.root, None).get("role").is_some_and(|r| r == "workstation");
        let mut view = state
            .load_or_default::<Option<ClientView>>(VIEW)?
            .unwrap_or_else(|| ClientView::new(parts.boot, workstation));
        view.workstation = workstation;
        // A restart that this client asked for ends with the boot that comes now.
        let restarts = view.running.restart_at.is_some() && !view.running.power_off;
        view.running = client::Running::default();
        view.lock = None;
        view.present = parts.site.cache.present()?;
        let cached: BTreeMap<LineId, LinePolicy> = state
            .load_or_default::<BTreeMap<LineId, LinePolicy>>(CACHED)?
            .into_iter()
            .filter(|(_, line)| parts.catalogues.has(line))
            .collect();
        view.scan.cached = cached.iter().map(|(id, line)| (id.clone(), line.catalogue_version)).collect();
        let stamp: Option<Stamp> = state.load_or_default(STAMP)?;
        let watched: Watched = state.load_or_default(WATCHED)?;
        let teller = Teller::new(&parts.site.root);
        let awake = Awake::new(parts.site.root.clone());
        let states = told(&state.load_or_default(STATES)?, parts.outbox.current(), now);
        let mut engine = Self {
            site: parts.site,
            catalogues: parts.catalogues,
            outbox: parts.outbox,
            transport: parts.transport,
            client: parts.client,
            site_name: parts.site_name,
            events: parts.events,
            view,
            saved: None,
            policy: parts.policy,
            decision: Decision::default(),
            clock,
            woken: parts.woken,
            saved_states: states.clone(),
            states,
            locations: Locations::default(),
            located: None,
            cached,
            sources: Sources::default(),
            downloads: BTreeMap::new(),
            room: Arc::new(Semaphore::new(PARALLEL)),
            contact: Contact::default(),
            sending: Sending::new(now),
            restart_asked: None,
            withdraw: None,
            stamp,
            saved_stamp: stamp,
            others: BTreeSet::new(),
            looked: None,
            looked_slowly: None,
            watched,
            teller,
            awake,
            stayed: BTreeSet::new(),
            watching: false,
        };
        // What ended before a restart belongs to the boot in which it ran.
        engine.find_operation(now)?;
        if parts.new_boot || engine.view.boot != parts.boot {
            tracing::info!(boot = %parts.boot, "a new boot");
            engine.view.booted(parts.boot);
            if !restarts {
                engine.view.woke(now);
            }
        }
        Ok(engine)
    }

    /// Epoch and number of the policy in force.
    pub(super) fn policy_number(&self) -> Option<(u64, u64)> {
        self.policy.as_ref().map(|policy| (policy.epoch, policy.number))
    }

    /// Lives until the process ends.
    pub(super) async fn live(mut self, mut inbox: mpsc::Receiver<Event>) -> Result<(), RunError> {
        loop {
            let now = self.time()?;
            self.turn(now)?;
            let wake = self.next_wake(now);
            let first = tokio::select! {
                event = inbox.recv() => event,
                () = tokio::time::sleep(wake) => None,
            };
            let now = self.time()?;
            if let Some(event) = first {
                self.handle(event, now)?;
            }
            while let Ok(event) = inbox.try_recv() {
                self.handle(event, now)?;
            }
        }
    }

    /// The time to decide by. A sleep, or a clock that was set right, is taken note of.
    fn time(&mut self) -> Result<Timestamp, RunError> {
        let look = self.clock.look(clock::read(), self.transport.heard());
        if let Some(slept) = look.slept {
            tracing::info!("this machine slept for {slept:#}");
            self.view.woke(look.now);
            self.stayed = terminals(&self.site.root);
            self.look_again();
            self.looked_slowly = None;
            self.located = None;
            self.sending.not_before = Instant::now();
            self.sending.urgent = true;
            self.woken.notify_one();
            self.outbox.ask();
        }
        if let Some(moved) = look.moved {
            tracing::warn!("this machine's clock was wrong by {moved:#} and was set right");
            if moved.is_negative() {
                self.view.put_back(look.now);
                self.states.put_back(look.now);
            }
            self.site.state.save(KEPT_TIME, &Some(self.clock.keep()))?;
            self.outbox.ask();
        }
        let doubt = self.clock.doubt().map(|doubt| doubt.to_string());
        // The seconds in its words may change with every look.
        if doubt.is_some() != self.view.clock_doubt.is_some() {
            tracing::warn!(doubt, "the time is believed or not");
            self.view.clock_doubt = doubt;
        }
        Ok(look.now)
    }

    /// Looks, decides, does, remembers, reports.
    fn turn(&mut self, now: Timestamp) -> Result<(), RunError> {
        self.look(now)?;
        if self.view.awoke.is_some() && !terminals(&self.site.root).is_subset(&self.stayed) {
            tracing::info!("somebody logged in: this machine does not count as woken for updates");
            self.view.awoke = None;
        }
        if let Some(policy) = &self.policy {
            let zone = clock::zone(&self.site.root);
            self.decision = client::decide(policy, &self.view, now, &zone);
            if carry::lost_content(&self.decision, &self.site.cache, &mut self.view.present) {
                self.decision = client::decide(policy, &self.view, now, &zone);
            }
            // Told, then decided anew: each notice comes once. Two rounds at most follow one another.
            for _ in 0..4 {
                if !self.view.told(&self.decision, now) {
                    break;
                }
                self.teller.give(&zone, &self.decision.notices);
                self.decision = client::decide(policy, &self.view, now, &zone);
            }
            let lines: BTreeSet<LineId> = policy.body.lines.iter().map(|line| line.line.clone()).collect();
            self.tell(&lines, now)?;
            self.awake.keep(self.decision.keep_awake);
            self.carry_out(now)?;
        }
        if self.saved.as_ref() != Some(&self.view) {
            self.site.state.save(VIEW, &self.view)?;
            self.saved = Some(self.view.clone());
        }
        // After the view, which says what the change means: after a kill in between the change is seen again.
        if self.saved_stamp != self.stamp {
            self.site.state.save(STAMP, &self.stamp)?;
            self.saved_stamp = self.stamp;
        }
        self.send_report(now);
        Ok(())
    }

    /// Writes down what the decision has to say, before anything is done: each step on its way, then what changed beside
    /// the states themselves.
    fn tell(&mut self, lines: &BTreeSet<LineId>, now: Timestamp) -> Result<(), RunError> {
        let said = self.states.follow(&self.decision, now);
        let steps = self.outbox.enter_always(said.iter().map(report::of_said), now)?;
        let more = self.outbox.enter(report::of_decision(&self.decision), now)?;
        self.sending.urgent |= steps || more;
        let states = &self.states;
        self.outbox.forget(|key| match key.split_once('/') {
            None => true,
            Some(("detection", line)) => lines.iter().any(|known| known.as_str() == line),
            Some(("update", id)) => id.parse().is_ok_and(|id: UpdateId| states.updates.contains_key(&id)),
            Some((_, uid)) => states.deployments.contains_key(uid),
        })?;
        self.keep_states()
    }

    pub(super) fn keep_states(&mut self) -> Result<(), RunError> {
        if self.saved_states != self.states {
            self.site.state.save(STATES, &self.states)?;
            self.saved_states.clone_from(&self.states);
        }
        Ok(())
    }

    fn next_wake(&self, now: Timestamp) -> Duration {
        let mut wake = LOOK;
        if self.view.lock.is_some() {
            wake = wake.min(LOCKED);
        }
        let times = [self.decision.next_wake, self.view.running.restart_at, self.states.due()];
        for at in times.into_iter().flatten() {
            // A moment later: at the instant itself nothing has changed yet by a clock of whole milliseconds.
            wake = wake.min(until(at, now) + Duration::from_millis(5));
        }
        if self.outbox.waiting() > 0 && !self.sending.running {
            wake = wake.min(
                self.sending
                    .not_before
                    .saturating_duration_since(Instant::now())
                    .max(Duration::from_millis(50)),
            );
        }
        wake
    }

    fn handle(&mut self, event: Event, now: Timestamp) -> Result<(), RunError> {
        match event {
            Event::Policy(policy) => {
                tracing::info!(
                    epoch = policy.epoch,
                    number = policy.number,
                    deployments = policy.body.deployments.len(),
                    updates = policy.body.updates.len(),
                    "new policy"
                );
                self.contact = Contact { last: Some(now), error: None };
                self.policy = Some(*policy);
                // What is being checked was decided under the old one: it is decided anew.
                if let Some(withdraw) = &self.withdraw {
                    withdraw.store(true, Ordering::SeqCst);
                }
                self.looked_slowly = None;
                self.look_again();
            }
            Event::Contact(Ok(())) => self.contact = Contact { last: Some(now), error: None },
            Event::Contact(Err(error)) => self.contact.error = Some(error),
            Event::Locations(locations) => {
                self.located = Some(Instant::now());
                self.view.distribution_points =
                    locations.distribution_points.iter().map(|point| locality(point.locality)).collect();
                self.locations = locations;
            }
            Event::Scanned(request, result) => self.scanned(&request, result, now)?,
            Event::Downloaded(digest, result) => {
                self.downloads.remove(&digest);
                match result {
                    Ok(()) => self.view.downloaded(digest),
                    Err(error) => {
                        let not_offered = matches!(
                            error,
                            crate::download::DownloadError::NotOffered(_)
                                | crate::download::DownloadError::NoSource
                        );
                        let words = reported(error.failure(), &chain(&error));
                        self.view.download_failed(digest, not_offered, words, now);
                        self.located = None;
                    }
                }
            }
            Event::Prepared(result) => self.prepared(result, now)?,
            Event::Ended(standing) => self.ended(standing, now)?,
            Event::Services(dead, errors) => self.services_settled(dead, errors)?,
            Event::OtherClient => return Err(RunError::OtherClient),
            Event::Reported(result) => self.reported(result, now)?,
            Event::Asked(question, peer, reply) => {
                let answer = self.answer(&question, peer, now);
                // The one who asked may have gone.
                let _ = reply.send(answer);
            }
        }
        Ok(())
    }

    /// The last failed transaction's output.
    pub(super) fn last_failure(&self) -> LastFailure {
        self.site.state.load_or_default(FAILURE).unwrap_or_default()
    }
}
