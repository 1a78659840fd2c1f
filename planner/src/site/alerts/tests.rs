//! A monitoring system in memory that is told, against which the promises are held.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, SiteName,
    client::{Client, ClientState},
    deployment::Deployment,
    shared::Shared,
    state::{Compliance, DeploymentEnforcement as D, Failure},
};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::fixtures::{at, deployment, minutes};

const OWNER: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// The clients of the tests, each called after its number.
struct Ground {
    site: SiteName,
    naming: Naming,
    clients: Vec<Shared<Client>>,
    deployments: Vec<Deployment>,
    targeted: BTreeSet<ClientId>,
    states: Vec<Vec<ReportedState>>,
    heard: BTreeMap<ClientId, Timestamp>,
}

fn id(number: u128) -> ClientId {
    ClientId(Uuid::from_u128(number))
}

impl Ground {
    fn new(clients: u128) -> Self {
        let client = |number: u128| {
            let client = Client {
                id: id(number),
                name: format!("web-{number}"),
                state: ClientState::Active,
                facts: BTreeMap::new(),
                address: None,
                last_contact: None,
            };
            Shared::from(client)
        };
        let mut one = deployment("tuesday", &[], at("2026-11-01T00:00:00Z"));
        one.settings.disable_alerts = true;
        one.settings.alert_on_failure = true;
        Self {
            site: SiteName::new("prod").unwrap(),
            naming: Naming { label: "instance".to_owned(), fact: None },
            clients: (1..=clients).map(client).collect(),
            deployments: vec![one],
            targeted: (1..=clients).map(id).collect(),
            states: vec![Vec::new()],
            heard: BTreeMap::new(),
        }
    }

    /// The client says of the first deployment.
    fn says(&mut self, number: u128, enforcement: D, until: Option<Timestamp>, now: Timestamp) {
        self.states[0].retain(|state| state.client != id(number));
        let failed = enforcement == D::InstallFailed;
        let done = enforcement == D::Installed;
        self.states[0].push(ReportedState {
            client: id(number),
            enforcement: Some(enforcement),
            compliance: Some(if done { Compliance::Compliant } else { Compliance::NonCompliant }),
            until,
            error: failed.then(|| Failure::Script.error("xz-utils: postinst failed with 1")),
            changed_at: now,
        });
        self.heard.insert(id(number), now);
    }

    fn wanted(&self, now: Timestamp) -> Wanted {
        let watched: Vec<Watched<'_>> = self
            .deployments
            .iter()
            .zip(&self.states)
            .map(|(deployment, states)| Watched {
                deployment,
                targeted: &self.targeted,
                states,
                heard: &self.heard,
            })
            .collect();
        wanted(&AlertInput {
            site: &self.site,
            owner: OWNER,
            naming: &self.naming,
            clients: &self.clients,
            deployments: &watched,
            now,
        })
    }
}

/// A monitoring system that takes what it is told.
#[derive(Debug, Clone, Default)]
struct Monitoring {
    seen: Seen,
    made: u32,
}

impl Monitoring {
    fn take(&mut self, told: &[Tell], now: Timestamp) {
        for tell in told {
            match tell {
                Tell::Alerts(alerts) => {
                    for alert in alerts {
                        self.seen.alerts.retain(|other| other.labels != alert.labels);
                        let Raised { labels, annotations, starts, ends } = alert.clone();
                        assert!(starts <= ends);
                        if ends > now {
                            self.seen.alerts.push(SeenAlert { labels, annotations, starts, ends });
                        }
                    }
                }
                Tell::Silence { renews, silence } => {
                    assert!(silence.ends > now);
                    let (id, starts) = renews.clone().unwrap_or_else(|| {
                        self.made += 1;
                        (format!("s{}", self.made), now)
                    });
                    self.seen.silences.retain(|other| other.id != id);
                    self.seen.silences.push(SeenSilence {
                        id,
                        created_by: CREATED_BY.to_owned(),
                        comment: silence.comment.clone(),
                        matcher: Some((silence.label.clone(), silence.value.clone())),
                        starts,
                        ends: silence.ends,
                    });
                }
                Tell::Expire { id } => self.seen.silences.retain(|other| other.id != *id),
            }
        }
    }

    /// What runs out goes by itself.
    fn pass(&mut self, now: Timestamp) {
        self.seen.silences.retain(|silence| silence.ends > now);
        self.seen.alerts.retain(|alert| alert.ends > now);
    }

    fn round(&mut self, ground: &Ground, now: Timestamp) -> usize {
        self.pass(now);
        let told = tell(&ground.wanted(now), &self.seen, now);
        self.take(&told, now);
        told.len()
    }
}

/// R-DEPL-15: silent while it installs and restarts, renewed while that lasts, and not a minute longer.
#[test]
fn a_machine_is_silenced_while_it_installs_and_no_longer() {
    let start = at("2026-11-21T22:00:00Z");
    let (mut ground, mut monitoring) = (Ground::new(2), Monitoring::default());
    ground.says(1, D::WaitingForWindow, Some(start), start);
    assert_eq!(monitoring.round(&ground, start), 0, "nothing installs");
    ground.says(1, D::Installing, None, start);
    assert_eq!(monitoring.round(&ground, start), 1);
    let silence = monitoring.seen.silences[0].clone();
    assert_eq!(silence.matcher, Some(("instance".to_owned(), "web-1(:[0-9]+)?".to_owned())));
    assert_eq!(silence.ends, start + KEEP);
    assert!(
        silence.comment.starts_with("UpdateDeployment tuesday of site prod installs on web-1 ["),
        "{silence:?}"
    );
    // A transaction of an hour, on a client that is there: one silence, renewed.
    for minute in 1..60 {
        let now = start + minutes(minute);
        ground.heard.insert(id(1), now);
        monitoring.round(&ground, now);
        assert_eq!(monitoring.seen.silences.len(), 1, "minute {minute}");
        assert_eq!(monitoring.seen.silences[0].id, silence.id, "minute {minute}");
    }
    let now = start + minutes(60);
    ground.says(1, D::PendingRestart, Some(now + minutes(5)), now);
    monitoring.round(&ground, now);
    assert_eq!(monitoring.seen.silences[0].id, silence.id, "a restart that comes soon belongs to it");
    let now = start + minutes(70);
    ground.says(1, D::Installed, None, now);
    assert_eq!(monitoring.round(&ground, now), 1);
    assert_eq!(monitoring.seen, Seen::default());
}

/// A restart that waits for its window, and one that is left to people, are no reason to look away for days.
#[test]
fn a_restart_that_waits_long_is_not_silenced() {
    let now = at("2026-11-21T22:00:00Z");
    let mut ground = Ground::new(3);
    ground.says(1, D::PendingRestart, Some(now + minutes(16)), now);
    ground.says(2, D::PendingRestart, None, now - minutes(31));
    ground.says(3, D::PendingRestart, Some(now + minutes(15)), now);
    let clients: Vec<_> = ground.wanted(now).silences.keys().copied().collect();
    assert_eq!(clients, [id(3)]);
}

/// A machine that died while it installed is somebody's business.
#[test]
fn who_is_not_heard_of_is_silenced_no_longer() {
    let start = at("2026-11-21T22:00:00Z");
    let (mut ground, mut monitoring) = (Ground::new(1), Monitoring::default());
    ground.says(1, D::Installing, None, start);
    for minute in 0..30 {
        monitoring.round(&ground, start + minutes(minute));
        assert_eq!(monitoring.seen.silences.len(), 1, "minute {minute}");
        assert!(monitoring.seen.silences[0].ends <= start + LOST);
    }
    monitoring.round(&ground, start + LOST);
    assert_eq!(monitoring.seen.silences, []);
}

/// R-DEPL-16: raised on failure with what to do, renewed while it lasts, kept during the next attempt, resolved when mended.
#[test]
fn a_failure_is_raised_until_it_is_mended() {
    let start = at("2026-11-21T22:00:00Z");
    let (mut ground, mut monitoring) = (Ground::new(1), Monitoring::default());
    ground.says(1, D::InstallFailed, None, start);
    monitoring.round(&ground, start);
    let alert = monitoring.seen.alerts[0].clone();
    let label = |name: &str| alert.labels[name].as_str();
    assert_eq!(label("alertname"), ALERT_NAME);
    assert_eq!((label("site"), label("deployment"), label("client")), ("prod", "tuesday", "web-1"));
    assert_eq!(
        (label("code"), label("symbol"), label("instance")),
        ("0x87D00654", "INSTALL-SCRIPT", "web-1")
    );
    assert_eq!(alert.annotations["remedy"], Failure::Script.remedy());
    assert_eq!(alert.annotations["description"], "xz-utils: postinst failed with 1");
    for minute in 0..120 {
        let now = start + minutes(minute);
        // It is tried again each half hour, for some minutes.
        let state = if minute % 30 < 5 { D::Installing } else { D::InstallFailed };
        ground.says(1, state, None, if state == D::Installing { now } else { start });
        monitoring.round(&ground, now);
        assert_eq!(monitoring.seen.alerts.len(), 1, "minute {minute}");
        assert_eq!(monitoring.seen.alerts[0].labels, alert.labels);
    }
    // Another error is another alert, and the first one is over.
    let now = start + minutes(120);
    ground.says(1, D::InstallFailed, None, now);
    ground.states[0][0].error = Some(Failure::DiskFull.error("no room"));
    monitoring.round(&ground, now);
    let symbols: Vec<_> =
        monitoring.seen.alerts.iter().map(|alert| alert.labels["symbol"].as_str()).collect();
    assert_eq!(symbols, ["PRE-DISK"]);
    ground.says(1, D::Installed, None, now);
    monitoring.round(&ground, now);
    assert_eq!(monitoring.seen, Seen::default());
}

/// A deployment that is gone, an option that was taken back, a client that is no longer targeted: nothing is left.
#[test]
fn what_is_asked_for_no_more_is_taken_back() {
    let now = at("2026-11-21T22:00:00Z");
    let (mut ground, mut monitoring) = (Ground::new(2), Monitoring::default());
    ground.says(1, D::Installing, None, now);
    ground.says(2, D::InstallFailed, None, now);
    monitoring.round(&ground, now);
    assert_eq!((monitoring.seen.silences.len(), monitoring.seen.alerts.len()), (1, 1));
    let mut other = monitoring.clone();
    ground.targeted.clear();
    other.round(&ground, now);
    assert_eq!(other.seen, Seen::default());
    ground.targeted = [1, 2].map(id).into();
    ground.deployments[0].settings.disable_alerts = false;
    ground.deployments[0].settings.alert_on_failure = false;
    monitoring.round(&ground, now);
    assert_eq!(monitoring.seen, Seen::default());
}

/// Silences and alerts of people, and of another site that uses the same monitoring system, are not ours to touch.
#[test]
fn what_others_made_is_left_alone() {
    let now = at("2026-11-21T22:00:00Z");
    let ground = Ground::new(1);
    let mut monitoring = Monitoring::default();
    let theirs = |by: &str, comment: &str| SeenSilence {
        id: comment.to_owned(),
        created_by: by.to_owned(),
        comment: comment.to_owned(),
        matcher: None,
        starts: now,
        ends: now + KEEP,
    };
    monitoring.seen.silences = vec![
        theirs("ann", &format!("mine [{MARK} {OWNER}/{}]", id(1))),
        theirs(CREATED_BY, &format!("of another site [{MARK} other/{}]", id(1))),
        theirs(CREATED_BY, "no mark"),
    ];
    monitoring.seen.alerts = vec![SeenAlert {
        labels: BTreeMap::from([("alertname".to_owned(), ALERT_NAME.to_owned())]),
        annotations: BTreeMap::from([(MARK.to_owned(), format!("other/uid/{}", id(1)))]),
        starts: now,
        ends: now + KEEP,
    }];
    assert_eq!(monitoring.round(&ground, now), 0);
}

/// A machine says what it is called. It must not get a name that silences others.
#[test]
fn a_name_is_no_pattern() {
    let now = at("2026-11-21T22:00:00Z");
    let mut ground = Ground::new(3);
    let named = |number: u128, name: &str, fact: Option<&str>| {
        let facts = fact.map(|fact| ("label/monitoring".to_owned(), fact.to_owned()));
        let (name, facts) = (name.to_owned(), facts.into_iter().collect());
        let client = Client {
            id: id(number),
            name,
            state: ClientState::Active,
            facts,
            address: None,
            last_contact: None,
        };
        Shared::from(client)
    };
    ground.clients =
        vec![named(1, ".*|a(b", None), named(2, "db-1.example", Some("db 1")), named(3, "", None)];
    for number in 1..=3 {
        ground.says(number, D::Installing, None, now);
    }
    let wanted = ground.wanted(now);
    let values: Vec<_> = wanted.silences.values().map(|silence| silence.value.as_str()).collect();
    assert_eq!(values, [r"\.\*\|a\(b(:[0-9]+)?", r"db-1\.example(:[0-9]+)?"]);
    assert_eq!(wanted.unnamed, BTreeSet::from([id(3)]));
    ground.naming.fact = Some("label/monitoring".to_owned());
    let wanted = ground.wanted(now);
    assert_eq!(wanted.silences[&id(2)].value, r"db\ 1(:[0-9]+)?");
    assert_eq!(wanted.unnamed, BTreeSet::from([id(1), id(3)]));
}

/// However many install at once: so many silences, the others are counted.
#[test]
fn silences_are_bounded() {
    let now = at("2026-11-21T22:00:00Z");
    let mut ground = Ground::new(MOST_SILENCES as u128 + 7);
    for number in 1..=MOST_SILENCES as u128 + 7 {
        ground.states[0].push(ReportedState {
            client: id(number),
            enforcement: Some(D::Installing),
            compliance: None,
            until: None,
            error: None,
            changed_at: now,
        });
    }
    let wanted = ground.wanted(now);
    assert_eq!((wanted.silences.len(), wanted.beyond), (MOST_SILENCES, 7));
}

/// One step of a random fleet.
#[derive(Debug, Clone)]
enum Step {
    Says(u128, usize, Option<i64>),
    Heard(u128),
    Passes(i64),
    /// Both sides forget, or only some of it.
    Lost(usize),
    Targeted(u128, bool),
    Options(bool, bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 1..6_u128;
    let step = prop_oneof![
        4 => (client.clone(), 0..D::ALL.len(), proptest::option::of(-60..600_i64)).prop_map(|(c, s, u)| Step::Says(c, s, u)),
        2 => client.clone().prop_map(Step::Heard),
        3 => (0..40_i64).prop_map(Step::Passes),
        1 => (0..9_usize).prop_map(Step::Lost),
        1 => (client, any::<bool>()).prop_map(|(c, t)| Step::Targeted(c, t)),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(a, b)| Step::Options(a, b)),
    ];
    proptest::collection::vec(step, 1..60)
}

proptest! {
    /// Whatever happened and whatever was lost: one round brings what stands to what should, and a second one has nothing
    /// to say. Only who installs or restarts is silenced, never for longer than `KEEP` ahead; who failed is told.
    #[test]
    fn one_round_is_enough(steps in steps()) {
        let mut now = at("2026-11-21T22:00:00Z");
        let (mut ground, mut monitoring) = (Ground::new(5), Monitoring::default());
        for step in steps {
            match step {
                Step::Says(client, state, until) =>
                    ground.says(client, D::ALL[state], until.map(|until| now + minutes(until)), now),
                Step::Heard(client) => { ground.heard.insert(id(client), now); }
                Step::Passes(many) => now += minutes(many),
                Step::Lost(which) if which % 3 == 0 => monitoring.seen = Seen::default(),
                Step::Lost(which) => {
                    let silences = monitoring.seen.silences.len();
                    monitoring.seen.silences.truncate(silences.saturating_sub(which));
                }
                Step::Targeted(client, true) => { ground.targeted.insert(id(client)); }
                Step::Targeted(client, false) => { ground.targeted.remove(&id(client)); }
                Step::Options(silence, alert) => {
                    ground.deployments[0].settings.disable_alerts = silence;
                    ground.deployments[0].settings.alert_on_failure = alert;
                }
            }
            monitoring.round(&ground, now);
            prop_assert_eq!(monitoring.round(&ground, now), 0, "a second round changes nothing");
            let wanted = ground.wanted(now);
            prop_assert_eq!(&wanted, &ground.wanted(now), "equal input, equal output");
            let silenced: BTreeSet<_> = monitoring.seen.silences.iter().map(|s| s.matcher.clone().unwrap().1).collect();
            prop_assert_eq!(silenced.len(), monitoring.seen.silences.len());
            prop_assert_eq!(silenced.len(), wanted.silences.len());
            for state in &ground.states[0] {
                let targeted = ground.targeted.contains(&state.client);
                let settings = &ground.deployments[0].settings;
                let name = format!("web-{}(:[0-9]+)?", state.client.0.as_u128());
                let at_it = matches!(state.enforcement, Some(D::Installing | D::PendingRestart | D::WaitingForRestart));
                prop_assert!(!silenced.contains(&name) || (targeted && at_it && settings.disable_alerts));
                let told = monitoring.seen.alerts.iter().filter(|a| a.labels["client_id"] == state.client.to_string()).count();
                let failed = state.enforcement == Some(D::InstallFailed);
                prop_assert!(!failed || told == usize::from(targeted && settings.alert_on_failure));
                prop_assert!(told <= 1);
            }
            for silence in &monitoring.seen.silences {
                prop_assert!(silence.ends <= now + KEEP && silence.ends > now);
            }
        }
    }
}
