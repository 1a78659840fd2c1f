//! Whom to wake, and when (R-SCHED-06).

use patchtide_model::{
    deployment::DeploymentSettings,
    shared::Shared,
    wake::{Called, Sleeper},
    window::{AppliesTo, Window},
};

use super::*;
use crate::site::wake::{AWAKE, OFFSETS, Round, SERIES, calling, round};

const CARD: (&str, &str) = ("wake/eth0", "52:54:00:12:34:56 enabled 192.0.2.0/24");
/// The deadline.
const START: &str = "2026-11-21T02:00:00Z";

/// Clients 1 to 3 with one deployment that wakes; the third has no card that can.
fn asleep(change: impl FnOnce(&mut SiteInput, &mut DeploymentSettings)) -> SiteInput {
    let mut input = site(vec![update("a", 2)]);
    input.clients = vec![client(1, &[CARD]).into(), client(2, &[CARD]).into(), client(3, &[]).into()];
    let mut deployment = deployment("all", &[id("a", 2)], at(START));
    deployment.settings.wake_on_lan = true;
    let mut settings = deployment.settings.clone();
    change(&mut input, &mut settings);
    deployment.settings = settings;
    add_deployment(&mut input, deployment);
    input
}

/// What a site does minute by minute, with what it remembers.
struct Nights {
    input: SiteInput,
    sleepers: Vec<Sleeper>,
}

impl Nights {
    fn new(input: SiteInput) -> Self {
        let sleepers = input.clients.iter();
        let sleepers =
            sleepers.map(|client| Sleeper { client: client.id, heard: None, called: None }).collect();
        Self { input, sleepers }
    }

    fn round(&self, now: Timestamp) -> Round {
        let (uids, next) = calling(&self.input, now);
        let sleepers = uids.into_iter().map(|uid| (uid, self.sleepers.clone())).collect();
        let mut clients: Vec<Shared<Client>> = self.input.clients.clone();
        clients.sort_by_key(|client| client.id);
        let mut round = round(&compile(&self.input), &clients, &sleepers, now);
        round.next = [round.next, next].into_iter().flatten().min();
        round
    }

    /// Follows `next` from `from` to `to`; who is called when.
    fn follow(&mut self, from: &str, to: &str) -> Vec<(u128, Timestamp)> {
        let (mut now, mut calls) = (at(from), Vec::new());
        while now < at(to) {
            let round = self.round(now);
            for (id, called) in &round.wake {
                calls.push((id.0.as_u128(), now));
                let sleeper = self.sleepers.iter_mut().find(|sleeper| sleeper.client == *id).unwrap();
                sleeper.called = called.first().map(|(_, called)| *called);
            }
            assert_eq!(self.round(now).wake, BTreeMap::new(), "nobody is called twice at {now}");
            let Some(next) = round.next else { break };
            assert!(next > now, "{next} is not after {now}");
            now = next;
        }
        calls
    }

    fn times(&mut self, from: &str, to: &str) -> Vec<String> {
        let calls = self.follow(from, to);
        calls.into_iter().filter(|(client, _)| *client == 1).map(|(_, at)| at.to_string()).collect()
    }
}

#[test]
fn who_sleeps_at_the_deadline_is_called_a_few_times_and_then_left_alone() {
    let mut nights = Nights::new(asleep(|_, _| ()));
    let calls = nights.follow("2026-11-20T00:00:00Z", "2027-11-21T00:00:00Z");
    let wanted = OFFSETS.iter().flat_map(|offset| [1, 2].map(|client| (client, at(START) + *offset)));
    assert_eq!(calls, wanted.collect::<Vec<_>>(), "the third has no card");
    // Another deadline is another occasion.
    let deployment = nights.input.objects.deployments.get_mut(&name("all")).unwrap();
    deployment.anchor = at("2027-12-01T02:00:00Z");
    assert_eq!(nights.times("2027-11-21T00:00:00Z", "2028-01-01T00:00:00Z").len(), OFFSETS.len());
}

#[test]
fn nobody_is_woken_for_what_is_off_optional_suspended_or_withheld() {
    let nothing = |change: fn(&mut SiteInput, &mut DeploymentSettings)| {
        Nights::new(asleep(change)).follow("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z").is_empty()
    };
    assert!(nothing(|_, settings| settings.wake_on_lan = false));
    assert!(nothing(|_, settings| settings.deadline = Deadline::None));
    assert!(nothing(|input, _| {
        let off = ClientSettings {
            collection: Some(name("everyone")),
            enabled: false,
            ..ClientSettings::default()
        };
        input.objects.client_settings.insert(name("off"), off);
    }));
    let mut held = asleep(|_, _| ());
    held.objects.deployments.get_mut(&name("all")).unwrap().suspend = true;
    assert!(Nights::new(held).follow("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z").is_empty());
    for state in [ClientState::Quarantined, ClientState::Revoked, ClientState::Pending] {
        let mut input = asleep(|_, _| ());
        input.clients = input.clients.iter().map(|one| Client { state, ..(**one).clone() }.into()).collect();
        assert!(Nights::new(input).follow("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z").is_empty());
    }
    let mut blocked = asleep(|_, _| ());
    let why = Blocked { reason: "x".to_owned(), collections: [].into() };
    blocked.objects.blocked.insert("MaintenanceWindow/x".to_owned(), why);
    assert!(Nights::new(blocked).follow("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z").is_empty());
}

/// R-SCHED-06 with R-MW: a machine is not woken to do nothing.
#[test]
fn with_windows_it_is_called_when_one_opens_in_which_something_fits() {
    // The deadline is at two, the window from ten on.
    let mut nights = Nights::new(asleep(|input, _| add_window(input, daily("night", 10, minutes(120)))));
    let first =
        ["2026-11-21T10:00:00Z", "2026-11-21T10:01:00Z", "2026-11-21T10:05:00Z", "2026-11-21T10:15:00Z"];
    assert_eq!(nights.times("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z"), first);
    // Again in later ones, but not for ever.
    let all = nights.times("2026-11-22T00:00:00Z", "2027-11-22T00:00:00Z");
    assert_eq!(all.len(), OFFSETS.len() * usize::from(SERIES - 1));
    // An answer begins to count anew.
    nights.sleepers[0].heard = Some(at("2027-11-22T00:00:00Z"));
    assert_eq!(
        nights.times("2027-11-22T01:00:00Z", "2028-11-22T00:00:00Z").len(),
        OFFSETS.len() * usize::from(SERIES)
    );

    // Open at the deadline, and soon too short for the last call.
    let run_time = minutes(40);
    let mut nights = Nights::new(asleep(|input, _| {
        let mut short = update("a", 2);
        (short.maximum_run_time, short.restart) =
            (Some(run_time), patchtide_model::catalogue::RestartRule::Never);
        input.updates.insert(short.id.clone(), short);
        let need = crate::client::limits::transaction(std::iter::once(Some(run_time)));
        add_window(input, daily("night", 1, minutes(60) + need + minutes(2)));
    }));
    let calls = nights.times("2026-11-21T00:00:00Z", "2026-11-21T23:00:00Z");
    assert_eq!(calls, ["2026-11-21T02:00:00Z", "2026-11-21T02:01:00Z"]);

    let mut never = Nights::new(asleep(|input, _| add_window(input, daily("short", 1, minutes(5)))));
    assert!(never.follow("2026-11-20T00:00:00Z", "2027-01-01T00:00:00Z").is_empty());
    let mut outside = Nights::new(asleep(|input, settings| {
        add_window(input, daily("short", 1, minutes(5)));
        settings.install_outside_windows = true;
    }));
    assert_eq!(outside.times("2026-11-20T00:00:00Z", "2027-01-01T00:00:00Z")[0], START);
    let restarts = |input: &mut SiteInput, _: &mut DeploymentSettings| {
        add_window(input, Window { applies_to: AppliesTo::RestartsOnly, ..daily("night", 10, minutes(120)) });
    };
    let mut nights = Nights::new(asleep(restarts));
    let calls = nights.times("2026-11-20T00:00:00Z", "2026-11-22T00:00:00Z");
    assert_eq!(calls[0], START, "a window for restarts alone does not bind an installation");
}

#[test]
fn who_is_awake_or_answers_is_not_called() {
    let now = at("2026-11-21T02:03:00Z");
    let called = Called { occasion: at(START), first: at(START), last: at(START), times: 2, series: 1 };
    let calls = |heard: &str, called: Option<Called>, now: Timestamp| {
        let mut nights = Nights::new(asleep(|_, _| ()));
        nights.sleepers =
            vec![Sleeper { client: ClientId(Uuid::from_u128(1)), heard: Some(at(heard)), called }];
        let round = nights.round(now);
        (round.wake.len(), round.next)
    };
    assert_eq!(calls("2026-11-21T02:02:30Z", Some(called), now), (0, None), "it answered");
    assert_eq!(calls("2026-11-21T02:00:00Z", None, now), (0, None), "it was there at the deadline");
    // Heard shortly before the deadline: perhaps it is awake, perhaps it has just gone to sleep.
    let awake = at("2026-11-21T01:59:00Z");
    assert_eq!(calls("2026-11-21T01:59:00Z", None, now), (0, Some(awake + AWAKE)));
    let (wakes, _) = calls("2026-11-21T01:59:00Z", None, awake + AWAKE);
    assert_eq!(wakes, 1);
}

/// The controller was away at the deadline, or begins again in the middle: nothing is repeated, nothing is lost.
#[test]
fn a_controller_that_was_away_goes_on_where_it_was() {
    let late = at("2026-11-23T00:00:00Z");
    let nights = Nights::new(asleep(|_, _| ()));
    let round = nights.round(late);
    let called = Called { occasion: at(START), first: late, last: late, times: 1, series: 1 };
    let id = ClientId(Uuid::from_u128(1));
    assert_eq!(round.wake[&id], [("uid-all".to_owned(), called)]);
    assert_eq!(round.next, Some(late + OFFSETS[1]));
    // Away during the second and third call: one of them is made up for.
    let mut nights = nights;
    nights.sleepers[0].called = Some(called);
    let again = nights.round(late + minutes(10)).wake[&id][0].1;
    assert_eq!((again.times, again.first, again.last), (2, late, late + minutes(10)));
}

#[test]
fn each_client_is_called_at_its_own_deadline() {
    let mut input = asleep(|_, settings| {
        settings.client_local_time = true;
        settings.deadline = Deadline::At(civil::date(2026, 11, 21).at(2, 0, 0, 0));
    });
    input.objects.deployments.get_mut(&name("all")).unwrap().anchor = at("2026-11-01T00:00:00Z");
    input.clients = vec![
        client(1, &[CARD, ("timezone", "Pacific/Auckland")]).into(),
        client(2, &[CARD, ("timezone", "America/New_York")]).into(),
    ];
    let calls = Nights::new(input).follow("2026-11-19T00:00:00Z", "2026-12-01T00:00:00Z");
    let first = |client| calls.iter().find(|(of, _)| *of == client).unwrap().1.to_string();
    assert_eq!((first(1), first(2)), ("2026-11-20T13:00:00Z".to_owned(), "2026-11-21T07:00:00Z".to_owned()));
    // A share of the spread, and the grace period.
    let spread = asleep(|input, settings| {
        settings.deadline_spread = SignedDuration::from_hours(4);
        let grace = ClientSettings {
            collection: Some(name("everyone")),
            grace_period: minutes(30),
            ..ClientSettings::default()
        };
        input.objects.client_settings.insert(name("grace"), grace);
    });
    let calls = Nights::new(spread).follow("2026-11-19T00:00:00Z", "2026-12-01T00:00:00Z");
    for number in [1, 2] {
        let own =
            crate::times::share(ClientId(Uuid::from_u128(number)), "uid-all", SignedDuration::from_hours(4));
        let first = calls.iter().find(|(of, _)| *of == number).unwrap().1;
        assert_eq!(first, at(START) + minutes(30) + own);
    }
}

proptest! {
    /// Whatever the window, nobody is called before the deadline, outside windows, more often than told, or while heard of.
    #[test]
    fn nobody_is_called_outside_windows(hour in 0_i8..24, length in 5_i64..600, heard in 0_i64..3000, run in 1_i64..90) {
        let window = daily("w", hour, minutes(length));
        let calendar = patchtide_model::window::Calendar::new(
            [&window], patchtide_model::window::Purpose::Install, &TimeZone::UTC);
        let mut nights = Nights::new(asleep(|input, _| {
            let mut of = update("a", 2);
            of.maximum_run_time = Some(minutes(run));
            input.updates.insert(of.id.clone(), of);
            add_window(input, window.clone());
        }));
        let heard = at("2026-11-20T00:00:00Z") + minutes(heard);
        nights.sleepers[0].heard = Some(heard);
        for text in nights.times("2026-11-20T00:00:00Z", "2026-12-20T00:00:00Z") {
            let now = at(&text);
            prop_assert!(now >= at(START) && now >= heard + AWAKE);
            let span = calendar.opening_at(now);
            prop_assert!(span.is_some_and(|span| now + minutes(run) <= span.end), "{} in {:?}", now, span);
        }
        prop_assert!(nights.sleepers[0].called.is_none_or(|called| called.series <= SERIES));
    }
}
