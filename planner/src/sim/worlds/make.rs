//! Worlds made from a seed.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil};
use patchtide_model::{
    ClientId, UpdateId,
    catalogue::RestartRule,
    deployment::{Available, Deadline},
    object::{ClientSettings, DistributionPoint},
    people::UserSchedule,
    window::{AppliesTo, Recurrence, WindowAction, Zone, time_zone},
};

use super::super::{Behaviour, Chance, Happening, Machine, Network, Wish, World, compare_numbers};
use crate::{fixtures::*, site::SiteInput};

/// Where worlds begin. Clocks change in Berlin in the days after, in one of three of them.
const STARTS: [&str; 3] = ["2026-11-21T10:00:00Z", "2026-10-22T10:00:00Z", "2027-03-25T10:00:00Z"];
const ZONES: [&str; 5] =
    ["UTC", "Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns", "Australia/Lord_Howe"];
pub(super) const SOURCES: [&str; 6] = ["bash", "curl", "dpkg", "grep", "linux", "sudo"];
/// Faults end after so many days; from then on everything has to come right.
pub(super) const FAULTS: i64 = 7;
/// And this is how long a world lives.
pub(super) const DAYS: i64 = 16;

/// Something that is done at the site.
#[derive(Debug, Clone)]
pub(super) enum SiteEvent {
    Suspend(String, bool),
    Deadline(String, Deadline),
    Retarget(String),
    Delete(String),
    Supersede(UpdateId),
    Expire(UpdateId),
    Revise(UpdateId),
    Window(String),
    NoWindow(String),
    ContentComes,
    SiteAway(ClientId),
}

pub(super) struct Made {
    pub world: World,
    pub start: Timestamp,
    pub events: Vec<(Timestamp, SiteEvent)>,
}

fn number(chance: &mut Chance, from: i64, to: i64) -> i64 {
    from + i64::try_from(chance.below(u64::try_from(to - from).unwrap())).unwrap()
}

fn pick<T: Copy>(chance: &mut Chance, from: &[T]) -> T {
    from[usize::try_from(chance.below(from.len() as u64)).unwrap()]
}

fn some(chance: &mut Chance, percent: u8) -> Vec<&'static str> {
    SOURCES.iter().copied().filter(|_| chance.percent(percent)).collect()
}

pub(super) fn client(number: u64) -> ClientId {
    ClientId(uuid::Uuid::from_u128(u128::from(number)))
}

fn window(chance: &mut Chance, title: &str) -> patchtide_model::window::Window {
    let hour = i8::try_from(chance.below(24)).unwrap();
    let mut window = daily(title, hour, minutes(number(chance, 15, 400)));
    window.applies_to = pick(
        chance,
        &[AppliesTo::Updates, AppliesTo::Updates, AppliesTo::AllDeployments, AppliesTo::RestartsOnly],
    );
    window.zone = match chance.below(3) {
        0 => Zone::Utc,
        1 => Zone::ClientLocal,
        _ => Zone::Iana(pick(chance, &ZONES).to_owned()),
    };
    if chance.percent(40) {
        window.recurrence = Recurrence::Weekly {
            every: u8::try_from(number(chance, 1, 3)).unwrap(),
            anchor: civil::date(2026, 1, 7),
            weekdays: (1..=7).filter(|_| chance.percent(40)).chain([2]).collect(),
        };
    }
    if chance.percent(20) {
        window.action = WindowAction::Deny;
    }
    if chance.percent(15) {
        window.collection = name("half");
    }
    window
}

fn settings(chance: &mut Chance) -> ClientSettings {
    let mut settings = ClientSettings { name: "lab".to_owned(), ..ClientSettings::default() };
    settings.scan_cycle = SignedDuration::from_hours(number(chance, 12, 24 * 7));
    settings.reevaluation_cycle = SignedDuration::from_hours(number(chance, 24, 24 * 7));
    settings.grace_period = if chance.percent(20) { minutes(number(chance, 1, 600)) } else { minutes(0) };
    settings.install_due_within = chance.percent(20).then(|| minutes(number(chance, 1, 60 * 48)));
    settings.restart_countdown = minutes(number(chance, 0, 30));
    settings.no_deadline_spread = chance.percent(10);
    settings
}

fn site_of(chance: &mut Chance, start: Timestamp) -> SiteInput {
    let mut updates = Vec::new();
    for source in SOURCES {
        let mut update = update(source, 2);
        if chance.percent(20) {
            update.leaves.push(leaf(&format!("{source}-extra"), 2));
        }
        update.restart = pick(chance, &[RestartRule::Auto, RestartRule::Always, RestartRule::Never]);
        update.exclusive = chance.percent(15);
        update.maximum_run_time = chance.percent(30).then(|| minutes(number(chance, 1, 40)));
        updates.push(update);
    }
    let mut site = site(updates);
    let mut half = collection("half");
    half.direct_members = BTreeSet::from(["host-1".to_owned(), "host-3".to_owned()]);
    site.objects.collections.insert(half.name.clone(), half);
    for index in 0..number(chance, 1, 4) {
        let ids: BTreeSet<UpdateId> = some(chance, 50).into_iter().map(|source| id(source, 2)).collect();
        let mut deployment = deployment(&format!("d{index}"), &ids.into_iter().collect::<Vec<_>>(), start);
        if chance.percent(20) {
            deployment.collection = name("half");
        }
        let settings = &mut deployment.settings;
        settings.deadline = match chance.below(10) {
            0 => Deadline::None,
            1 => Deadline::At(civil::datetime(2026, 11, 24, 3, 30, 0, 0)),
            _ => Deadline::After(minutes(number(chance, 0, 60 * 96))),
        };
        if chance.percent(10) {
            settings.available = Available::At(civil::datetime(2026, 11, 23, 12, 0, 0, 0));
        }
        settings.deadline_spread = minutes(if chance.percent(30) { number(chance, 1, 240) } else { 0 });
        settings.install_outside_windows = chance.percent(20);
        settings.restart_outside_windows = chance.percent(20);
        settings.suppress_restart_servers = chance.percent(20);
        settings.suppress_restart_workstations = chance.percent(20);
        settings.install_all_applicable = chance.percent(20);
        settings.client_local_time = chance.percent(30);
        settings.restart_countdown = chance.percent(20).then(|| minutes(number(chance, 0, 60)));
        settings.install_all_within = chance.percent(30).then(|| minutes(number(chance, 1, 60 * 48)));
        add_deployment(&mut site, deployment);
    }
    for index in 0..number(chance, 0, 4) {
        let window = window(chance, &format!("w{index}"));
        add_window(&mut site, window);
    }
    if chance.percent(60) {
        let settings = settings(chance);
        site.objects.client_settings.insert(name("lab"), settings);
    }
    site
}

fn machine(chance: &mut Chance, number_: u64) -> Machine {
    let mut packages = BTreeMap::new();
    for source in some(chance, 75) {
        packages.insert(source.to_owned(), "1".to_owned());
        if chance.percent(50) {
            packages.insert(format!("{source}-extra"), "1".to_owned());
        }
    }
    let zone = time_zone(pick(chance, &ZONES)).unwrap();
    let mut machine = Machine::new(&format!("host-{number_}"), chance.percent(40), zone, packages);
    let seconds = |chance: &mut Chance, to| SignedDuration::from_secs(number(chance, 1, to));
    machine.behaviour = Behaviour {
        scan: seconds(chance, 120),
        download: seconds(chance, 1800),
        install: seconds(chance, 2400),
        restart: seconds(chance, 600),
        recover: seconds(chance, 300),
        install_failures: some(chance, 10)
            .into_iter()
            .map(|s| (s.to_owned(), if s.len() == 4 { 1 } else { 2 }))
            .collect(),
        download_failures: u32::try_from(chance.below(4)).unwrap(),
        scan_failures: u32::try_from(chance.below(4)).unwrap(),
        recovery_failures: u32::try_from(chance.below(3)).unwrap(),
        restart_packages: some(chance, 20).into_iter().map(ToOwned::to_owned).collect(),
        network: Network::default(),
    };
    if chance.percent(50) {
        machine.behaviour.network = Network {
            delay: seconds(chance, 5),
            jitter: seconds(chance, 60),
            loss: u8::try_from(chance.below(50)).unwrap(),
            repeat: u8::try_from(chance.below(50)).unwrap(),
            long_poll: chance.percent(70),
        };
    }
    machine
}

fn happening(chance: &mut Chance, when: Timestamp) -> Vec<(i64, Happening)> {
    let back = SignedDuration::from_secs(number(chance, 1, 900));
    let later = number(chance, 1, 60 * 14);
    let one = |happening| vec![(0, happening)];
    match chance.below(19) {
        0 | 1 => one(Happening::AgentKilled { back }),
        2 | 3 => one(Happening::AgentKilledMidway { back }),
        4 | 5 => one(Happening::PowerCut { back }),
        6 => one(Happening::Restarted),
        7 => vec![(0, Happening::Suspended), (later, Happening::Resumed)],
        8 => {
            let by = minutes(number(chance, -60 * 30, 60 * 30));
            vec![(0, Happening::ClockJump { by }), (later, Happening::ClockJump { by: -by })]
        }
        9 | 10 => vec![(0, Happening::Online(false)), (later, Happening::Online(true))],
        11 => {
            let wanted = some(chance, 30).into_iter().map(|source| id(source, 2)).collect();
            one(Happening::InstallNow(wanted))
        }
        // Asked for, and then put off: shorter than may be, longer than may be, or as long as may be.
        14 | 15 => {
            let wanted = some(chance, 40).into_iter().map(|source| id(source, 2)).collect();
            let until = chance.percent(60).then(|| when + minutes(later + number(chance, -5, 60 * 72)));
            let postponed = (number(chance, 0, 60), Happening::Asks(Wish::Postpone(until)));
            let first = chance.percent(70).then_some((0, Happening::InstallNow(wanted)));
            first.into_iter().chain([postponed]).collect()
        }
        16 => {
            let time = civil::time(i8::try_from(chance.below(24)).unwrap(), 30, 0, 0);
            let weekdays = (1..=7).filter(|_| chance.percent(30)).collect();
            let schedule = UserSchedule { time, weekdays, user_may_change: true };
            let after = if chance.percent(50) { Wish::NoSchedule } else { Wish::UsualSchedule };
            let mut wishes = vec![(0, Happening::Asks(Wish::Schedule(schedule)))];
            wishes.extend(chance.percent(30).then_some((later * 3, Happening::Asks(after))));
            wishes
        }
        // Most often when nothing waits for a restart; therefore several times.
        17 => (0..4).map(|n| (n * later, Happening::Asks(Wish::Restart))).collect(),
        12 => one(if chance.percent(50) { Happening::ScanNow } else { Happening::EvaluateNow }),
        _ => {
            let version = chance.percent(70).then(|| "1".to_owned());
            one(Happening::PackageChanged { package: pick(chance, &SOURCES).to_owned(), version })
        }
    }
}

fn site_event(chance: &mut Chance, hosts: u64) -> SiteEvent {
    let deployment = format!("d{}", chance.below(3));
    let source = pick(chance, &SOURCES);
    match chance.below(11) {
        0 => SiteEvent::Suspend(deployment, true),
        1 => SiteEvent::Suspend(deployment, false),
        2 => SiteEvent::Deadline(deployment, Deadline::After(minutes(number(chance, 0, 60 * 24 * 6)))),
        3 => SiteEvent::Retarget(deployment),
        4 => SiteEvent::Delete(deployment),
        5 => SiteEvent::Supersede(id(source, 2)),
        6 => SiteEvent::Expire(id(source, 2)),
        7 => SiteEvent::Revise(id(source, 2)),
        8 => SiteEvent::Window(format!("w{}", chance.below(5))),
        9 => SiteEvent::NoWindow(format!("w{}", chance.below(5))),
        _ => SiteEvent::SiteAway(client(1 + chance.below(hosts))),
    }
}

/// The world of a seed.
pub(super) fn make(seed: u64) -> Made {
    let mut chance = Chance::new(seed, 0);
    let chance = &mut chance;
    let start = at(pick(chance, &STARTS));
    let mut site = site_of(chance, start);
    let hosts = 1 + chance.below(4);
    let machines: BTreeMap<_, _> = (1..=hosts).map(|host| (client(host), machine(chance, host))).collect();
    let mut events = Vec::new();
    let late = chance.percent(20);
    if late {
        let point = DistributionPoint {
            name: name("dp"),
            endpoints: vec!["https://dp.example:8444".to_owned()],
            boundaries: vec![],
            protected: false,
        };
        site.objects.distribution_points.insert(point.name.clone(), point);
        site.holders = Some(BTreeMap::new());
        events.push((start + minutes(number(chance, 1, 60 * 40)), SiteEvent::ContentComes));
    }
    let files: BTreeSet<_> =
        site.updates.values().flat_map(|update| &update.leaves).map(|leaf| leaf.file.sha256).collect();
    let mut world = World::with_seed(site, machines, start, seed, compare_numbers);
    if late {
        world.missing = files;
    }
    // In half of the worlds nothing unforeseen happens: there more can be promised.
    if chance.percent(50) {
        for _ in 0..chance.below(8) {
            let host = client(1 + chance.below(hosts));
            let when = start + minutes(number(chance, 0, 60 * 24 * (FAULTS - 1)));
            for (later, happening) in happening(chance, when) {
                world.happens(host, when + minutes(later), happening);
            }
        }
    }
    if chance.percent(50) {
        for _ in 0..chance.below(4) {
            let when = start + minutes(number(chance, 0, 60 * 24 * FAULTS));
            events.push((when, site_event(chance, hosts)));
        }
    }
    events.sort_by_key(|(at, _)| *at);
    Made { world, start, events }
}

/// Carries out what is done at the site.
pub(super) fn carry_out(world: &mut World, event: &SiteEvent, chance: &mut Chance) {
    let deployments = &mut world.site.objects.deployments;
    let next_catalogue = |world: &mut World| world.site.lines[0].catalogue_version += 1;
    match event {
        SiteEvent::Suspend(title, suspend) => {
            deployments.entry(name(title)).and_modify(|deployment| deployment.suspend = *suspend);
        }
        SiteEvent::Deadline(title, deadline) => {
            deployments.entry(name(title)).and_modify(|deployment| deployment.settings.deadline = *deadline);
        }
        SiteEvent::Retarget(title) => {
            deployments.entry(name(title)).and_modify(|deployment| deployment.collection = name("half"));
        }
        SiteEvent::Delete(title) => drop(deployments.remove(&name(title))),
        SiteEvent::Supersede(old) => {
            let newer = update(&old.source, 3);
            if let Some(old) = world.site.updates.get_mut(old) {
                old.superseded_by = Some(newer.id.clone());
            }
            if let Some(deployment) = world.site.objects.deployments.values_mut().next() {
                deployment.updates.push(newer.id.clone());
                deployment.updates.sort();
                deployment.updates.dedup();
            }
            world.site.updates.insert(newer.id.clone(), newer);
            next_catalogue(world);
        }
        SiteEvent::Expire(id) => {
            world.site.updates.entry(id.clone()).and_modify(|update| update.expired = true);
            next_catalogue(world);
        }
        SiteEvent::Revise(id) => {
            let extra = leaf(&format!("{}-extra", id.source), 2);
            world.site.updates.entry(id.clone()).and_modify(|update| {
                update.leaves.push(extra);
                update.leaves.sort();
                update.leaves.dedup();
            });
            next_catalogue(world);
        }
        SiteEvent::Window(title) => {
            let window = window(chance, title);
            world.site.objects.windows.insert(window.name.clone(), window);
        }
        SiteEvent::NoWindow(title) => drop(world.site.objects.windows.remove(&name(title))),
        SiteEvent::ContentComes => {
            world.missing.clear();
            let files = world.site.updates.values().flat_map(|update| &update.leaves);
            world.site.holders =
                Some(files.map(|leaf| (leaf.file.sha256, BTreeSet::from([name("dp")]))).collect());
        }
        SiteEvent::SiteAway(client) => world.thin_out(*client),
    }
    world.publish();
}
