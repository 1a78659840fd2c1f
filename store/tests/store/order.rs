//! Whatever the order and repetition of messages, the site ends in the same state (issue "What a deployment means", section 5;
//! reliability.md 1): a client whose reports and answers come late, twice or not at all, or that lost messages, is in the
//! end known as one of which every report came in order.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use patchtide_model::{
    ClientId,
    state::{Compliance, DeploymentEnforcement, Detection, UpdateEnforcement},
};
use patchtide_store::{
    SiteStore,
    intake::{IntakeAck, IntakeBody, IntakeReport},
};
use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};

use crate::common::{Db, at, client, detected, id, on_both, report, scan, sync};

on_both!(whatever_the_order_and_repetition_the_state_is_the_same);

/// Sources that may be missing in a scan, and as many that are always found and may be installed.
const SOURCES: u8 = 3;
const DEPLOYMENTS: u8 = 2;

/// Something that becomes true at a client, and is told.
#[derive(Debug, Clone)]
enum Turn {
    Scan(Vec<u8>),
    Update(u8, u8),
    Enforcement(u8, u8),
    Compliance(u8, u8),
    Role(bool),
}

fn turn() -> impl Strategy<Value = Turn> {
    prop_oneof![
        2 => proptest::collection::vec(0_u8..3, usize::from(2 * SOURCES)).prop_map(Turn::Scan),
        3 => (0..SOURCES, 1_u8..15).prop_map(|(source, state)| Turn::Update(source, state)),
        3 => (0..DEPLOYMENTS, 1_u8..11).prop_map(|(of, state)| Turn::Enforcement(of, state)),
        2 => (0..DEPLOYMENTS, 1_u8..3).prop_map(|(of, state)| Turn::Compliance(of, state)),
        1 => any::<bool>().prop_map(Turn::Role),
    ]
}

/// What becomes of the reports after a turn, and how many messages each has at most.
fn fates() -> impl Strategy<Value = Vec<(u8, usize)>> {
    let fate = prop_oneof![6 => 0_u8..4, 1 => Just(4), 4 => Just(5)];
    proptest::collection::vec((fate, 1_usize..6), 0..3)
}

fn source(n: u8) -> String {
    format!("s{n}")
}

fn body(turn: &Turn) -> IntakeBody {
    match turn {
        Turn::Scan(states) => {
            let found = states.iter().zip(0_u8..).filter_map(|(state, n)| {
                let state = match (state, n < SOURCES) {
                    (0, false) => return None,
                    (0 | 1, _) => Detection::Required,
                    _ => Detection::Installed,
                };
                Some(detected(&source(n), "1", state))
            });
            scan("b", 1, found.collect())
        }
        Turn::Update(n, state) => IntakeBody::Update {
            update: id("b", &source(*n), "1"),
            state: UpdateEnforcement::from_id(*state).unwrap(),
            error: None,
        },
        Turn::Enforcement(of, state) => IntakeBody::Enforcement {
            deployment: format!("uid-{of}"),
            state: DeploymentEnforcement::from_id(*state).unwrap(),
            until: (*state > 5).then(|| at(i64::from(*state) * 100)),
            error: None,
        },
        Turn::Compliance(of, state) => IntakeBody::Compliance {
            deployment: format!("uid-{of}"),
            state: Compliance::from_id(*state).unwrap(),
        },
        Turn::Role(server) => {
            let role = if *server { "server" } else { "workstation" };
            IntakeBody::Facts([("role".to_owned(), role.to_owned())].into())
        }
    }
}

/// What a client tells when it is asked for everything: the last word on each matter, a scan before what follows from it.
fn everything(turns: &[Turn]) -> Vec<IntakeBody> {
    let mut last: BTreeMap<(u8, u8), &Turn> = BTreeMap::new();
    for turn in turns {
        let matter = match turn {
            Turn::Scan(_) => (0, 0),
            Turn::Update(n, _) => (1, *n),
            Turn::Enforcement(of, _) => (2, *of),
            Turn::Compliance(of, _) => (3, *of),
            Turn::Role(_) => (4, 0),
        };
        last.insert(matter, turn);
    }
    last.into_values().map(body).collect()
}

/// Sends messages; the clock of the site goes on.
async fn send(
    site: &SiteStore,
    client: ClientId,
    clock: &mut i64,
    first: u64,
    bodies: Vec<IntakeBody>,
) -> IntakeAck {
    *clock += 7;
    let received_at = at(20) + SignedDuration::from_secs(*clock);
    let sent: IntakeReport = IntakeReport { received_at, ..report(client, first, bodies) };
    site.intake(sent).await.unwrap()
}

/// What the site knows of a client, times apart.
async fn known(site: &SiteStore, client: ClientId) -> String {
    let updates: Vec<_> = site
        .client_states(client)
        .await
        .unwrap()
        .into_iter()
        .map(|state| (state.update, state.detection, state.enforcement))
        .collect();
    let mut deployments = Vec::new();
    for of in 0..DEPLOYMENTS {
        let states = site.deployment_clients(&format!("uid-{of}")).await.unwrap();
        let mine = states.into_iter().find(|state| state.client == client);
        deployments.push(mine.map(|state| (state.enforcement, state.compliance, state.until)));
    }
    let facts = site.client(client).await.unwrap().unwrap().facts;
    format!("{updates:#?}\n{deployments:#?}\n{facts:#?}")
}

/// A client as it talks: one report at a time, from the oldest message that was not acknowledged on.
struct Talker {
    id: ClientId,
    /// Everything that it ever said, from number 1 on.
    said: Vec<IntakeBody>,
    /// Up to here an answer was read, or the message was lost.
    settled: usize,
    /// Reports that were sent, by first message and number of messages.
    sent: Vec<(usize, usize)>,
    /// What is true of it.
    turns: Vec<Turn>,
    /// Answers in which it was asked for everything.
    asked: u32,
}

impl Talker {
    async fn hand_over(
        &self,
        site: &SiteStore,
        clock: &mut i64,
        (first, count): (usize, usize),
    ) -> IntakeAck {
        let bodies = self.said.iter().skip(first).take(count).cloned().collect();
        send(site, self.id, clock, first as u64 + 1, bodies).await
    }

    fn read(&mut self, ack: IntakeAck) {
        self.settled = self.settled.max(usize::try_from(ack.acknowledged).unwrap());
        if ack.resync {
            self.asked += 1;
            self.said.extend(everything(&self.turns));
        }
    }

    /// What becomes of the next report on the way.
    async fn talk(&mut self, site: &SiteStore, clock: &mut i64, fate: u8, count: usize) {
        let report = (self.settled, count.min(self.said.len() - self.settled));
        if report.1 == 0 {
            return;
        }
        let was_sent = self.sent.iter().any(|(first, count)| (*first..first + count).contains(&self.settled));
        if fate == 4 && !was_sent {
            // The client loses its oldest message before it was ever sent; its number stays used.
            self.settled += 1;
            return;
        }
        self.sent.push(report);
        match fate {
            // Lost.
            0 => {}
            // It arrives, and the answer does not.
            1 => drop(self.hand_over(site, clock, report).await),
            // It arrives twice.
            2 => {
                self.hand_over(site, clock, report).await;
                let ack = self.hand_over(site, clock, report).await;
                self.read(ack);
            }
            // One of long ago arrives first, and its answer goes astray.
            3 => {
                let old = self.sent[count % self.sent.len()];
                self.hand_over(site, clock, old).await;
                let ack = self.hand_over(site, clock, report).await;
                self.read(ack);
            }
            _ => {
                let ack = self.hand_over(site, clock, report).await;
                self.read(ack);
            }
        }
    }
}

async fn whatever_the_order_and_repetition_the_state_is_the_same(db: Db) {
    let mut runner = TestRunner::new(Config { source_file: Some(file!()), ..Config::default() });
    let site = &db.site;
    let names: Vec<String> = (0..2 * SOURCES).map(source).collect();
    let updates: Vec<_> = names.iter().map(|name| (name.as_str(), "1")).collect();
    site.apply_line_sync(sync("b", &updates), at(1)).await.unwrap();
    let (mut clock, mut asked, mut complete) = (0, 0, 0);
    for round in 0..40_u128 {
        let story = proptest::collection::vec((turn(), fates()), 1..24);
        let mut story = story.new_tree(&mut runner).unwrap().current();
        // Nothing is installed of what no scan has found.
        story.insert(0, (Turn::Scan(vec![1; usize::from(2 * SOURCES)]), vec![]));

        let orderly = client(site, 2 * round + 1).await;
        for (seq, (turn, _)) in (1..).zip(&story) {
            let ack = send(site, orderly, &mut clock, seq, vec![body(turn)]).await;
            assert_eq!((ack.acknowledged, ack.resync), (seq, false));
        }

        let id = client(site, 2 * round + 2).await;
        let mut other = Talker { id, said: vec![], settled: 0, sent: vec![], turns: vec![], asked: 0 };
        for (turn, fates) in &story {
            other.said.push(body(turn));
            other.turns.push(turn.clone());
            for (fate, count) in fates {
                other.talk(site, &mut clock, *fate, *count).await;
            }
        }
        // In the end it is heard of again, and something comes that is late.
        other.said.push(IntakeBody::Heartbeat);
        for left in (0..10).rev() {
            other.talk(site, &mut clock, 5, usize::MAX).await;
            assert!(left > 0 || other.settled == other.said.len(), "round {round}: it never ends");
        }
        for old in other.sent.clone() {
            other.hand_over(site, &mut clock, old).await;
        }
        asked += u32::from(other.asked > 0);
        complete += u32::from(other.asked == 0);
        assert_eq!(known(site, other.id).await, known(site, orderly).await, "round {round}: {story:?}");
    }
    assert!(asked > 3 && complete > 3, "{asked} stories had gaps, {complete} had none");
    assert_eq!(site.verify().await.unwrap(), []);
}
