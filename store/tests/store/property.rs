//! Whatever order reports come in, the kept counts are what a recount finds, and a client is what it said last.

use std::collections::BTreeMap;

use patchtide_model::{
    ClientId,
    client::ClientState,
    state::{Detection, UpdateEnforcement},
};
use patchtide_store::{
    SiteStore,
    intake::{IntakeBody, IntakeReport, Sender},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use crate::common::{Db, at, client, detected, id, on_both, report, scan, sync};

on_both!(counts_are_always_what_a_recount_finds);

const SOURCES: usize = 40;
const CLIENTS: u128 = 4;

/// One thing that happens.
#[derive(Debug, Clone)]
enum Step {
    /// A client scans; each source is nothing, required or installed.
    Scan { client: usize, seq_step: u64, states: Vec<u8>, version_back: u64 },
    /// A report of before comes again.
    Repeat { client: usize, back: u64 },
    /// An update is being installed.
    Enforce { client: usize, source: usize, state: u8 },
    /// The machine restarts, or is installed anew.
    Boot { client: usize, reinstall: bool },
    /// Another standing and back.
    Standing { client: usize, active: bool },
    /// The catalogue changes: sources up to this one, of this revision of leaves.
    Sync { sources: usize, rebuilt: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let who = 0..usize::try_from(CLIENTS).unwrap();
    prop_oneof![
        6 => (who.clone(), prop_oneof![8 => Just(1_u64), 1 => 2_u64..5], proptest::collection::vec(0_u8..4, 0..SOURCES + 5), 0_u64..2)
            .prop_map(|(client, seq_step, states, version_back)| Step::Scan { client, seq_step, states, version_back }),
        2 => (who.clone(), 0_u64..4).prop_map(|(client, back)| Step::Repeat { client, back }),
        2 => (who.clone(), 0..SOURCES, 0_u8..15).prop_map(|(client, source, state)| Step::Enforce { client, source, state }),
        1 => (who.clone(), any::<bool>()).prop_map(|(client, reinstall)| Step::Boot { client, reinstall }),
        1 => (who, any::<bool>()).prop_map(|(client, active)| Step::Standing { client, active }),
        1 => (SOURCES / 2..SOURCES, 0..SOURCES).prop_map(|(sources, rebuilt)| Step::Sync { sources, rebuilt }),
    ]
}

/// What the test knows of a client.
#[derive(Clone)]
struct Known {
    id: ClientId,
    incarnation: u128,
    boot: u128,
    seq: u64,
}

fn source(n: usize) -> String {
    format!("s{n:03}")
}

async fn bring(site: &SiteStore, sources: usize, rebuilt: usize) -> u64 {
    let names: Vec<String> = (0..sources).map(source).collect();
    let mut found = sync("b", &names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>());
    if let Some(update) = found.updates.get_mut(rebuilt) {
        update.leaves[0].version = "1+b1".to_owned();
    }
    site.apply_line_sync(found, at(1)).await.unwrap().version
}

async fn counts_are_always_what_a_recount_finds(db: Db) {
    let mut runner = TestRunner::new(Config { source_file: Some(file!()), ..Config::default() });
    let mut said: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    let site = &db.site;
    let mut version = bring(site, SOURCES / 2, 0).await;
    let mut clients = Vec::new();
    for n in 0..CLIENTS {
        clients.push(Known { id: client(site, n).await, incarnation: 1, boot: 1, seq: 0 });
    }
    for round in 0..60 {
        let steps = proptest::collection::vec(step(), 1..12).new_tree(&mut runner).unwrap().current();
        for one in steps.clone() {
            take(site, &mut clients, &mut said, &mut version, one).await;
        }
        assert_eq!(site.verify().await.unwrap(), [], "round {round}: {steps:?}");
        for (n, states) in &said {
            check(site, &clients[*n], states).await;
        }
        let ids: Vec<_> = (0..SOURCES).map(|n| id("b", &source(n), "1")).collect();
        let active = site.active_clients().await.unwrap();
        for (update, counts) in site.required_counts(&ids).await.unwrap() {
            let sum = counts.unknown + counts.not_required + counts.required + counts.installed;
            assert_eq!(sum, active, "{update}: {counts:?}");
        }
        if round % 5 == 0 {
            // All but one, and another one each time.
            let known =
                clients.iter().enumerate().filter(|(n, _)| n % clients.len() != round / 5 % clients.len());
            let some: Vec<ClientId> = known.map(|(_, known)| known.id).collect();
            crate::reports::tallies_are_true(site, &ids, &some).await;
        }
    }
    // What another process reads from the database alone is the same.
    assert_eq!(db.second().await.verify().await.unwrap(), []);
    assert_eq!(site.verify_history().await.unwrap().1, []);
}

async fn take(
    site: &SiteStore,
    clients: &mut [Known],
    said: &mut BTreeMap<usize, Vec<u8>>,
    version: &mut u64,
    step: Step,
) {
    let send = async |known: &Known, first: u64, bodies: Vec<IntakeBody>| {
        let sent = IntakeReport {
            incarnation: Uuid::from_u128(known.incarnation),
            boot: Uuid::from_u128(1_000 * known.incarnation + known.boot),
            ..report(known.id, first, bodies)
        };
        site.intake(sent).await
    };
    match step {
        Step::Scan { client, seq_step, states, version_back } => {
            let known = &mut clients[client];
            let found = states
                .iter()
                .enumerate()
                .filter_map(|(n, state)| {
                    Some(detected(&source(n), "1", Detection::from_id(*state).filter(|s| s.id() > 1)?))
                })
                .collect();
            let seq = known.seq + seq_step;
            let body = scan("b", version.saturating_sub(version_back), found);
            if let Ok(ack) = send(known, seq, vec![body]).await
                && ack.sender != Sender::Quarantined
            {
                assert_eq!(ack.acknowledged, seq);
                assert_eq!(ack.resync, seq_step > 1);
                known.seq = seq;
                if version_back == 0 {
                    said.insert(client, states);
                } else {
                    said.remove(&client);
                }
            }
        }
        Step::Repeat { client, back } => {
            let known = &clients[client];
            let first = known.seq.saturating_sub(back).max(1);
            let bodies = (first..=known.seq).map(|_| scan("b", *version, vec![])).collect::<Vec<_>>();
            if let Ok(ack) = send(known, first, bodies).await {
                assert_eq!(ack.acknowledged, known.seq);
            }
        }
        Step::Enforce { client, source: n, state } => {
            let known = &mut clients[client];
            let state = UpdateEnforcement::from_id(state).unwrap();
            let body = IntakeBody::Update { update: id("b", &source(n), "1"), state, error: None };
            if send(known, known.seq + 1, vec![body]).await.is_ok_and(|ack| ack.sender != Sender::Quarantined)
            {
                known.seq += 1;
            }
        }
        Step::Boot { client, reinstall } => {
            let known = &mut clients[client];
            if reinstall {
                known.incarnation += 1;
                known.seq = 0;
                said.remove(&client);
                let _ = send(known, 1, vec![]).await;
            } else {
                known.boot += 1;
            }
        }
        Step::Standing { client, active } => {
            let state = if active { ClientState::Active } else { ClientState::Revoked };
            site.set_client_state(clients[client].id, state).await.unwrap();
        }
        Step::Sync { sources, rebuilt } => {
            *version = bring(site, sources, rebuilt).await;
            // What a scan before said is only partly known now.
            said.clear();
        }
    }
}

/// A client whose last scan covers the present catalogue is exactly what that scan said.
async fn check(site: &SiteStore, known: &Known, states: &[u8]) {
    let found: BTreeMap<String, Detection> = site
        .client_states(known.id)
        .await
        .unwrap()
        .into_iter()
        .filter(|state| state.detection != Detection::Unknown)
        .map(|state| (state.update.source, state.detection))
        .collect();
    let current = site.scan_catalogue(&crate::common::line("b")).await.unwrap();
    for update in current.updates {
        let n: usize = update.source[1..].parse().unwrap();
        let said = states.get(n).and_then(|state| Detection::from_id(*state)).filter(|state| state.id() > 1);
        assert_eq!(found.get(&update.source).copied(), said, "{}", update.source);
    }
}
