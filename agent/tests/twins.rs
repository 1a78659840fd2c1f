//! One state at work on two machines, and one machine whose life is hard: the agent's outbox against the site's intake, in
//! random order (reliability.md 3, bad input 82). Two machines are found out within a few reports of each, also when their
//! numbers are equal all the time; one machine is never taken for two.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use std::{fs, path::Path};

use jiff::{SignedDuration, Timestamp};
use patchtide_agent::{report::Outbox, state::StateFolder};
use patchtide_model::{
    ClientId, Digest, SiteName,
    client::{ClientState, Facts},
    state::Scan,
};
use patchtide_protocol::state::{Acknowledgement, StateBody, StateReport};
use patchtide_store::{
    OpenOptions, SiteStore, Store,
    clients::EnrolmentRow,
    intake::{IntakeBody, IntakeMessage, IntakeReport, Sender},
};
use uuid::Uuid;

const T: Timestamp = Timestamp::UNIX_EPOCH;
/// Each of two machines reports that often at most before both are quarantined: once to be told to begin anew, once to say
/// so, once to be found out.
const REPORTS: usize = 3;

/// Where nothing is slow to be durable: this is about order, not about disks.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(if Path::new("/dev/shm").is_dir() { "/dev/shm" } else { "/tmp" }).unwrap()
}

struct Site {
    store: SiteStore,
    _folder: tempfile::TempDir,
}

impl Site {
    async fn open() -> Self {
        let folder = folder();
        let url = format!("sqlite://{}/site.db", folder.path().display());
        let store =
            Store::open(&url, &OpenOptions { history: false, ..OpenOptions::default() }).await.unwrap();
        Self { store: store.site(&SiteName::new("site").unwrap()), _folder: folder }
    }

    async fn client(&self, n: u128) -> ClientId {
        let (id, client) = (Digest::of(&n.to_be_bytes()), ClientId(Uuid::from_u128(n)));
        let row = EnrolmentRow {
            id,
            csr_pem: String::new(),
            token_digest: None,
            name: format!("host-{n}"),
            facts: Facts::new(),
            address: None,
            requested_at: T,
        };
        self.store.put_enrolment(row).await.unwrap();
        let end = T + SignedDuration::from_hours(24);
        self.store.approve_enrolment(id, client, "", end, T).await.unwrap();
        client
    }

    /// What the management point answers; none: both machines are refused from now on.
    async fn take(&self, client: ClientId, report: &StateReport) -> Option<Acknowledgement> {
        let messages = report.messages.iter().map(|message| {
            let body: IntakeBody = match &message.body {
                StateBody::Scan { state, .. } => IntakeBody::Scan { state: *state, error: None },
                _ => IntakeBody::Heartbeat,
            };
            IntakeMessage { seq: message.seq, at: message.at, body }
        });
        let report = IntakeReport {
            client,
            incarnation: report.incarnation,
            boot: report.boot,
            sent_at: T,
            received_at: T,
            policy: None,
            messages: messages.collect(),
        };
        let ack = self.store.intake(report).await.unwrap();
        (ack.sender != Sender::Quarantined).then_some(Acknowledgement {
            acknowledged: ack.acknowledged,
            resync: ack.resync,
            by_name: ack.by_name,
            superseded: ack.sender == Sender::Superseded,
        })
    }

    async fn quarantined(&self, client: ClientId) -> bool {
        self.store.client(client).await.unwrap().unwrap().state == ClientState::Quarantined
    }
}

struct Machine {
    state: tempfile::TempDir,
    outbox: Outbox,
    boot: Uuid,
}

impl Machine {
    fn new(boot: u128) -> Self {
        let state = folder();
        let outbox = Outbox::open(&StateFolder::open(state.path()).unwrap(), T).unwrap();
        Self { state, outbox, boot: Uuid::from_u128(boot) }
    }

    fn copy(&self) -> tempfile::TempDir {
        let copy = folder();
        copy_all(self.state.path(), copy.path());
        copy
    }

    /// Starts on a state, in a boot of its own.
    fn start(&mut self, state: Option<tempfile::TempDir>, boot: u128) {
        if let Some(state) = state {
            self.state = state;
        }
        self.outbox = Outbox::open(&StateFolder::open(self.state.path()).unwrap(), T).unwrap();
        self.boot = Uuid::from_u128(boot);
    }

    /// What a scan that finds nothing new has to say.
    fn scan(&mut self) {
        for state in [Scan::Running, Scan::Completed] {
            let body = StateBody::Scan { state, error: None };
            self.outbox.enter([("scan".to_owned(), body)], T).unwrap();
        }
    }

    fn report(&self) -> Option<StateReport> {
        self.outbox.next_report(self.boot, None, T)
    }

    /// Sends one report; `answered`: whether the answer comes back. False: it was refused.
    async fn send(&mut self, site: &Site, client: ClientId, answered: bool) -> bool {
        let Some(report) = self.report() else { return true };
        let Some(ack) = site.take(client, &report).await else { return false };
        if answered {
            self.outbox.acknowledge(&ack, T).unwrap();
        }
        true
    }
}

fn copy_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir_all(&target).unwrap();
            copy_all(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Numbers that are the same in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// The copy is always a moment ahead of its original with the same numbers: what the original says looks like a repetition.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_in_step_are_found_out() {
    let site = Site::open().await;
    for (n, copy_first) in [(1, true), (2, false)] {
        let client = site.client(n).await;
        let mut original = Machine::new(n * 10);
        original.send(&site, client, true).await;
        original.scan();
        original.send(&site, client, true).await;
        let mut twin = Machine::new(n * 10 + 1);
        twin.start(Some(original.copy()), n * 10 + 1);
        twin.send(&site, client, true).await;
        for _ in 0..REPORTS {
            let both = if copy_first { [&mut twin, &mut original] } else { [&mut original, &mut twin] };
            for machine in both {
                machine.scan();
                machine.send(&site, client, true).await;
            }
        }
        assert!(site.quarantined(client).await, "copy first: {copy_first}");
    }
}

/// Copied at any moment, with messages under way or not; both go on in any order, answers are lost, either restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twins_in_any_order_are_found_out() {
    let site = Site::open().await;
    for seed in 1..=200_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let client = site.client(seed.into()).await;
        let mut boots = (u128::from(seed) << 32..).step_by(1);
        let mut original = Machine::new(boots.next().unwrap());
        for _ in 0..chance.below(4) {
            original.scan();
            original.send(&site, client, !chance.one_in(3)).await;
        }
        let mut twin = Machine::new(0);
        twin.start(Some(original.copy()), boots.next().unwrap());
        // Reports of each that were answered while both were at work.
        let mut answered = [0; 2];
        let mut steps = 0;
        while answered.iter().any(|reports| *reports < REPORTS) && !site.quarantined(client).await {
            steps += 1;
            assert!(steps < 1000, "seed {seed}: neither reports");
            let which = usize::from(chance.one_in(2));
            let machine = if which == 0 { &mut original } else { &mut twin };
            match chance.below(8) {
                0 => machine.start(None, boots.next().unwrap()),
                1 => machine.outbox.ask(),
                2..=4 => machine.scan(),
                _ => {
                    let says = machine.report().is_some_and(|report| !report.messages.is_empty());
                    let heard = !chance.one_in(4);
                    machine.send(&site, client, heard).await;
                    answered[which] += usize::from(says && heard);
                }
            }
        }
        // Whoever begins anew is the one; it takes the other one's next word.
        for which in [0, 1, 0] {
            let machine = if which == 0 { &mut original } else { &mut twin };
            machine.scan();
            while machine.report().is_some() && machine.send(&site, client, true).await {}
        }
        assert!(
            site.quarantined(client).await,
            "seed {seed}: two machines with one state were not found out"
        );
    }
}

/// One machine: it restarts, reports come late and twice, answers are lost, its state is put back to a copy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_machine_is_never_taken_for_two() {
    let site = Site::open().await;
    for seed in 1..=200_u64 {
        let mut chance = Chance(seed.wrapping_mul(0x2545_F491_4F6C_DD1D));
        let client = site.client(seed.into()).await;
        let mut boots = (u128::from(seed) << 32..).step_by(1);
        let mut machine = Machine::new(boots.next().unwrap());
        let mut copy = None;
        // What is under way: its sender may be gone when it arrives.
        let mut late: Option<StateReport> = None;
        for _ in 0..60 {
            match chance.below(9) {
                0 => machine.start(None, boots.next().unwrap()),
                1 => copy = Some(machine.copy()),
                2 if copy.is_some() => {
                    machine.start(copy.take(), boots.next().unwrap());
                    // What an incarnation of before said may not come after the one that followed it.
                    late = None;
                }
                3 => machine.outbox.ask(),
                4 => late = machine.report().or(late),
                5 => {
                    if let Some(report) = late.take() {
                        let current =
                            machine.report().is_none_or(|now| now.incarnation == report.incarnation);
                        if current {
                            site.take(client, &report).await;
                        }
                    }
                }
                6 | 7 => machine.scan(),
                _ => {
                    let heard = !chance.one_in(4);
                    machine.send(&site, client, heard).await;
                }
            }
            assert!(!site.quarantined(client).await, "seed {seed}: one machine was taken for two");
        }
        while machine.report().is_some() {
            assert!(machine.send(&site, client, true).await);
        }
    }
}
