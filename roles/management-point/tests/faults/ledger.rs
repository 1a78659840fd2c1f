//! What clients said and what was acknowledged, kept by those who said it: outside of the process under test.

use std::sync::{Mutex, MutexGuard, PoisonError};

use patchtide_model::{
    ClientId, LineId, UpdateId,
    catalogue::LeafRef,
    state::{Detection, UpdateEnforcement},
};
use patchtide_protocol::state::{DetectedUpdate, DetectionReport, StateBody};
use patchtide_store::SiteStore;
use uuid::Uuid;

use crate::site;

/// Updates of the line that is scanned.
pub(crate) const UPDATES: usize = 40;
/// Every other message but one in so many is a scan.
const ENFORCEMENT: u64 = 4;
const VERSION: &str = "1.2.3-4+deb12u1";

pub(crate) fn line() -> LineId {
    "debian/bookworm/main".parse().unwrap()
}

/// What message `seq` of a client says: always the same.
pub(crate) fn says(client: u64, seq: u64) -> StateBody {
    if seq.is_multiple_of(ENFORCEMENT) {
        let update = id(usize::try_from(seq).unwrap() % UPDATES);
        let (state, error) = (UpdateEnforcement::Downloaded, None);
        return StateBody::Update { update, state, error };
    }
    let states = (0..UPDATES)
        .filter_map(|n| {
            let state = found(client, seq, n)?;
            let (package, architecture, version) = (site::source(n), "amd64".to_owned(), VERSION.to_owned());
            let leaf = LeafRef { package, architecture, version };
            let leaves = if state == Detection::Required { vec![leaf] } else { vec![] };
            Some(DetectedUpdate { source: site::source(n), version: VERSION.to_owned(), state, leaves })
        })
        .collect();
    StateBody::Detection(DetectionReport {
        line: line(),
        catalogue_version: 1,
        part: 0,
        last: true,
        states,
        needs: vec![],
        numbered: None,
    })
}

fn id(n: usize) -> UpdateId {
    UpdateId { line: line(), source: site::source(n), version: VERSION.to_owned() }
}

/// What a scan finds; none: not required.
fn found(client: u64, seq: u64, n: usize) -> Option<Detection> {
    match (client * 31 + seq * 7 + n as u64 * (seq % 5 + 1)) % 5 {
        0 => Some(Detection::Required),
        1 => None,
        _ => Some(Detection::Installed),
    }
}

/// One client.
#[derive(Debug, Clone, Default)]
struct Account {
    /// Highest number that was sent.
    sent: u64,
    /// What was acknowledged, and at which moment of the disk that was known.
    acknowledged: Vec<(usize, u64)>,
}

/// All clients: 1 to as many as there are.
#[derive(Debug)]
pub(crate) struct Ledger(Vec<Mutex<Account>>);

impl Clone for Ledger {
    fn clone(&self) -> Self {
        Self(self.0.iter().map(|one| Mutex::new(lock(one).clone())).collect())
    }
}

fn lock(one: &Mutex<Account>) -> MutexGuard<'_, Account> {
    one.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    pub(crate) fn new(clients: usize) -> Self {
        Self((0..clients).map(|_| Mutex::default()).collect())
    }

    fn of(&self, client: u64) -> MutexGuard<'_, Account> {
        lock(&self.0[usize::try_from(client).unwrap() - 1])
    }

    fn clients(&self) -> std::ops::RangeInclusive<u64> {
        1..=self.0.len() as u64
    }

    /// Everything up to `seq` goes out now.
    pub(crate) fn sends(&self, client: u64, seq: u64) {
        let mut account = self.of(client);
        account.sent = account.sent.max(seq);
    }

    /// Everything up to `seq` is acknowledged; the moment is read after the answer has come.
    pub(crate) fn is_told(&self, client: u64, seq: u64, moment: usize) {
        let mut account = self.of(client);
        assert!(seq <= account.sent, "client {client}: {seq} was acknowledged, {} sent", account.sent);
        account.acknowledged.push((moment, seq));
    }

    /// What was acknowledged at a moment.
    pub(crate) fn floor(&self, client: u64, moment: usize) -> u64 {
        let told = &self.of(client).acknowledged;
        told.iter().filter(|(at, _)| *at <= moment).map(|(_, seq)| *seq).max().unwrap_or(0)
    }

    /// All that was acknowledged.
    pub(crate) fn total(&self) -> u64 {
        self.clients().map(|client| self.floor(client, usize::MAX)).sum()
    }

    /// The world in which the power was cut at that moment: nothing later was acknowledged.
    pub(crate) fn cut(&self, moment: usize) {
        for client in self.clients() {
            let floor = self.floor(client, moment);
            self.of(client).acknowledged = vec![(0, floor)];
        }
    }
}

/// Where reading the history has come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Read {
    row: i64,
    /// Highest number of each client, from 1 without a gap.
    counted: Vec<u64>,
}

/// 0 acknowledged messages lost, 0 doubled, states and counts right, the history whole. `read` is where an earlier check of
/// the same database ended.
pub(crate) async fn check(store: &SiteStore, ledger: &Ledger, moment: usize, read: &mut Read) -> Vec<String> {
    let mut wrong = Vec::new();
    read.counted.resize(ledger.0.len(), 0);
    loop {
        let (row, accepted) = store.accepted_messages(read.row).await.unwrap();
        if row == read.row {
            break;
        }
        read.row = row;
        for one in accepted {
            let client = usize::try_from(one.client.unwrap().0.as_u128()).unwrap();
            let last = &mut read.counted[client - 1];
            if one.sequence != *last + 1 {
                let what = if one.sequence <= *last { "doubled" } else { "left out before it" };
                wrong.push(format!("client {client}: {} after {last} in the history: {what}", one.sequence));
            }
            *last = one.sequence;
        }
    }
    let reports = store.client_reports().await.unwrap();
    for client in ledger.clients() {
        let id = ClientId(Uuid::from_u128(client.into()));
        let kept = reports.iter().find(|report| report.client == id).map_or(0, |report| report.sequence);
        let (floor, sent) = (ledger.floor(client, moment), ledger.of(client).sent);
        if kept < floor {
            wrong.push(format!("client {client}: {kept} kept of {floor} acknowledged: lost"));
        }
        if kept > sent {
            wrong.push(format!("client {client}: {kept} kept of {sent} sent: invented"));
        }
        let counted = read.counted[usize::try_from(client).unwrap() - 1];
        if counted != kept {
            wrong.push(format!("client {client}: {kept} kept, {counted} in the history"));
        }
        wrong.extend(states(store, client, kept).await);
    }
    for difference in store.verify().await.unwrap() {
        wrong.push(format!("{difference:?}"));
    }
    wrong
}

/// The whole chain, from its start.
pub(crate) async fn check_chain(store: &SiteStore) {
    assert_eq!(store.verify_history().await.unwrap().1, []);
}

/// A few states are those that the last scan up to `kept` found.
async fn states(store: &SiteStore, client: u64, kept: u64) -> Vec<String> {
    let Some(scan) = (1..=kept).rev().find(|seq| !seq.is_multiple_of(ENFORCEMENT)) else { return Vec::new() };
    let mut wrong = Vec::new();
    for n in [0, UPDATES / 2, UPDATES - 1] {
        let known = store.client_update(ClientId(Uuid::from_u128(client.into())), &id(n)).await.unwrap();
        let known = known.map_or(Detection::NotRequired, |update| update.detection);
        let said = found(client, scan, n).unwrap_or(Detection::NotRequired);
        if known != said {
            wrong.push(format!("client {client}: update {n} is {known:?}, scan {scan} said {said:?}"));
        }
    }
    wrong
}
