//! How many events of clients the simulator gets through in a second, and how that grows with the fleet.
//!
//! An event is one thing that happens to one client: a scan, download, transaction or restart ends, a time it waited for comes, it
//! asks for policy, a report reaches the site, an answer or a policy reaches the client. Decisions are counted beside them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_model::{
    ClientId, Digest, LineId, ObjectName, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    deployment::{Deadline, Deployment, DeploymentSettings},
    object::{Collection, SiteObjects},
    policy::LinePolicy,
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};
use patchtide_planner::{
    sim::{Behaviour, Machine, Network, World},
    site::SiteInput,
};
use uuid::Uuid;

const UPDATES: usize = 5;
/// Days that are simulated.
const DAYS: i64 = 30;
/// Events in a second that are asked for.
const TARGET: f64 = 1_000_000.0;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    println!(
        "==> simulator: {DAYS} days, {UPDATES} updates in 2 deployments, a window every night, an hourly poll"
    );
    println!("    clients      events   decisions    plans     seconds    events/s  decisions/s  of target");
    let sizes: Vec<u128> = std::env::args().skip(1).map(|size| size.parse()).collect::<Result<_, _>>()?;
    if !sizes.is_empty() {
        return sizes.into_iter().try_for_each(fleet);
    }
    for clients in [1_000, 2_000, 4_000, 8_000] {
        fleet(clients)?;
    }
    let threads = std::thread::available_parallelism()?.get().min(2);
    println!("==> the same on {threads} threads, a world of 8,000 clients on each");
    let begun = Instant::now();
    let events = std::thread::scope(|scope| -> Result<u64, String> {
        let runs: Vec<_> = (0..threads)
            .map(|_| scope.spawn(|| run(8_000).map(|world| world.tally.events).map_err(|e| e.to_string())))
            .collect();
        let mut sum = 0;
        for run in runs {
            sum += run.join().map_err(|_| "a thread ended early".to_owned())??;
        }
        Ok(sum)
    })?;
    let rate = per_second(events, begun.elapsed().as_secs_f64());
    println!("    {events} events, {rate:.0} a second: {:.2} times the {TARGET:.0} asked for", rate / TARGET);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "printed with no digit after the point")]
fn per_second(count: u64, seconds: f64) -> f64 {
    count as f64 / seconds
}

fn fleet(clients: u128) -> Result<(), Failure> {
    let begun = Instant::now();
    let world = run(clients)?;
    let seconds = begun.elapsed().as_secs_f64();
    let tally = world.tally;
    println!(
        "    {clients:>7}  {:>10}  {:>10}  {:>7}  {seconds:>10.3}  {:>10.0}  {:>11.0}  {:>9.2}",
        tally.events,
        tally.decisions,
        tally.plans,
        per_second(tally.events, seconds),
        per_second(tally.decisions, seconds),
        per_second(tally.events, seconds) / TARGET,
    );
    Ok(())
}

fn run(clients: u128) -> Result<World, Failure> {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse()?;
    let machines = (1..=clients).map(machine).collect::<BTreeMap<_, _>>();
    let mut world = World::new(site(start)?, machines, start);
    world.quiet = true;
    world.run_until(start + SignedDuration::from_hours(24 * DAYS))?;
    let numbers = world.numbers(&ObjectName::new("d0")?).ok_or("no numbers")?;
    if numbers.compliant != numbers.targeted {
        return Err(format!(
            "{} of {} are compliant: not what was to be measured",
            numbers.compliant, numbers.targeted
        )
        .into());
    }
    Ok(world)
}

fn machine(number: u128) -> (ClientId, Machine) {
    let packages = (0..UPDATES).map(|update| (format!("p{update}"), "1".to_owned())).collect();
    let mut machine = Machine::new(&format!("host-{number}"), false, TimeZone::UTC, packages);
    machine.behaviour = Behaviour {
        scan: SignedDuration::from_secs(20),
        download: SignedDuration::from_secs(60),
        install: SignedDuration::from_mins(4),
        restart: SignedDuration::from_mins(2),
        restart_packages: BTreeSet::from(["p0".to_owned()]),
        network: Network { delay: SignedDuration::from_secs(1), ..Network::default() },
        ..Behaviour::default()
    };
    (ClientId(Uuid::from_u128(number)), machine)
}

fn site(start: Timestamp) -> Result<SiteInput, Failure> {
    let line = LineId::new("debian/bookworm-security/main")?;
    let everyone = Collection {
        name: ObjectName::new("everyone")?,
        all: true,
        selector: Vec::new(),
        direct_members: BTreeSet::new(),
        include: BTreeSet::new(),
        exclude: BTreeSet::new(),
        limiting: None,
        parent: None,
    };
    let night = Window {
        name: ObjectName::new("night")?,
        collection: everyone.name.clone(),
        recurrence: Recurrence::Daily { every: 1, anchor: civil::date(2026, 1, 1) },
        start: civil::time(1, 0, 0, 0),
        duration: SignedDuration::from_hours(3),
        zone: Zone::Utc,
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::Updates,
        action: WindowAction::Allow,
    };
    let updates: Vec<Update> = (0..UPDATES).map(|number| update(&line, &format!("p{number}"))).collect();
    let mut objects = SiteObjects::default();
    for (number, ids) in [&updates[..3], &updates[3..]].into_iter().enumerate() {
        let deployment = deployment(&format!("d{number}"), ids, start)?;
        objects.deployments.insert(deployment.name.clone(), deployment);
    }
    objects.collections.insert(everyone.name.clone(), everyone);
    objects.windows.insert(night.name.clone(), night);
    Ok(SiteInput {
        site: SiteName::new("bench")?,
        objects,
        clients: Vec::new(),
        lines: vec![LinePolicy {
            line,
            catalogue_version: 1,
            digest: Digest::of(b"catalogue"),
            size: 1,
            release: None,
        }],
        updates: updates.into_iter().map(|update| (update.id.clone(), update)).collect(),
        required_leaves: BTreeMap::new(),
        dependencies: Vec::new(),
        holders: None,
    })
}

fn update(line: &LineId, source: &str) -> Update {
    let id = UpdateId { line: line.clone(), source: source.to_owned(), version: "2".to_owned() };
    Update {
        title: source.to_owned(),
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".to_owned(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: vec![Leaf {
            package: source.to_owned(),
            version: "2".to_owned(),
            architecture: "all".to_owned(),
            file: ContentFile {
                sha256: Digest::of(source.as_bytes()),
                size: 1,
                path: format!("pool/{source}.deb"),
            },
            stanza: String::new(),
        }],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
        id,
    }
}

fn deployment(name: &str, updates: &[Update], start: Timestamp) -> Result<Deployment, Failure> {
    Ok(Deployment {
        name: ObjectName::new(name)?,
        uid: format!("uid-{name}"),
        generation: 1,
        collection: ObjectName::new("everyone")?,
        include_subcollections: false,
        suspend: false,
        settings: DeploymentSettings {
            deadline: Deadline::After(SignedDuration::from_hours(24 * 5)),
            deadline_spread: SignedDuration::from_hours(2),
            ..DeploymentSettings::default()
        },
        updates: updates.iter().map(|update| update.id.clone()).collect(),
        anchor: start,
        provenance: std::collections::BTreeMap::new(),
    })
}
