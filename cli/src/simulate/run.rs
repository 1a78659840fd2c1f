//! Letting a scenario happen.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};
use patchtide_intent::{
    resolve::{Ground, Resources, Told, resolve},
    update_deployment::pin::Memory,
    update_list::Members,
};
use patchtide_model::{
    ClientId, Digest, ObjectName, SiteName, UpdateId, object::SiteObjects, policy::LinePolicy,
    search::DetectionCounts, window::time_zone,
};
use patchtide_packaging::version::Version;
use patchtide_planner::{
    sim::{Machine, World},
    site::SiteInput,
};
use uuid::Uuid;

use super::{
    expect::{Outcome, look},
    happen::Event,
    scenario::{Object, Scenario, UpdateSpec},
};

/// A search is looked through anew this often.
const SEARCH: SignedDuration = SignedDuration::from_hours(1);

/// A site as it is in the middle of a scenario.
struct Site {
    resources: Resources,
    pinned: BTreeMap<ObjectName, Memory>,
    lists: BTreeMap<ObjectName, Members>,
    /// Updates whose files are on no distribution point yet.
    late: BTreeSet<UpdateId>,
    made: u64,
    told: BTreeSet<String>,
}

/// What came out.
pub(crate) struct Done {
    pub world: World,
    pub outcomes: Vec<Outcome>,
}

/// Versions as dpkg compares them.
fn compare(one: &str, other: &str) -> Ordering {
    match (Version::parse(one), Version::parse(other)) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        _ => one.cmp(other),
    }
}

/// Runs a scenario to its end.
pub(crate) fn run(scenario: &Scenario, seed: u64) -> anyhow::Result<Done> {
    let mut world = world(scenario, seed)?;
    let mut site = Site {
        resources: Resources::default(),
        pinned: BTreeMap::new(),
        lists: BTreeMap::new(),
        late: BTreeSet::new(),
        made: 0,
        told: BTreeSet::new(),
    };
    let mut events: Vec<(Timestamp, Event)> = Vec::new();
    for spec in &scenario.updates {
        if spec.at <= scenario.times.start {
            add_update(&mut world, &mut site, spec);
        } else {
            events.push((spec.at, Event::NewUpdate(Box::new(spec.clone()))));
        }
        events.extend(spec.content_at.map(|at| (at, Event::ContentArrives(spec.update.id.clone()))));
    }
    apply(&mut world, &mut site, &scenario.objects)?;
    events.extend(scenario.events.iter().cloned());
    events.sort_by_key(|(at, _)| *at);
    renew(&mut world, &mut site);
    world.log.clear();
    world.note(format!(
        "{} clients, {} updates in the catalogue",
        scenario.clients.len(),
        world.site.updates.len()
    ));
    tell_problems(&mut world, &mut site);

    let mut outcomes = Vec::new();
    let (mut event, mut expectation) = (0, 0);
    loop {
        let next_event = events.get(event).map(|(at, _)| *at);
        let next_expectation = scenario.expectations.get(expectation).map(|known| known.at);
        let Some(next) =
            next_event.into_iter().chain(next_expectation).min().filter(|at| *at <= scenario.end)
        else {
            break;
        };
        advance(&mut world, &mut site, next)?;
        // At one instant what is done comes first, what is expected sees it.
        if next_event == Some(next) {
            if let Some((_, what)) = events.get(event) {
                carry_out(&mut world, &mut site, what)?;
            }
            event += 1;
        } else {
            advance(&mut world, &mut site, next)?;
            outcomes.extend(scenario.expectations.get(expectation).map(|known| look(known, &world)));
            expectation += 1;
        }
    }
    advance(&mut world, &mut site, scenario.end)?;
    for late in scenario.expectations.iter().skip(expectation) {
        let mut outcome = look(late, &world);
        outcome.found.insert(0, "it lies after the end of the scenario".to_owned());
        outcomes.push(outcome);
    }
    Ok(Done { world, outcomes })
}

/// Lets time pass; searches are looked through in between.
fn advance(world: &mut World, site: &mut Site, end: Timestamp) -> anyhow::Result<()> {
    let searches = site.resources.lists.values().any(|list| list.spec.search_folder.is_some());
    while searches && world.now.checked_add(SEARCH).is_ok_and(|next| next < end) {
        let next = world.now.checked_add(SEARCH)?;
        world.run_until(next).context("the scenario does not come to rest")?;
        renew(world, site);
    }
    world.run_until(end).context("the scenario does not come to rest")
}

fn world(scenario: &Scenario, seed: u64) -> anyhow::Result<World> {
    let input = SiteInput {
        site: SiteName::new("scenario")?,
        objects: SiteObjects::default(),
        clients: Vec::new(),
        lines: Vec::new(),
        updates: BTreeMap::new(),
        required_leaves: BTreeMap::new(),
        dependencies: Vec::new(),
        holders: None,
    };
    let mut machines = BTreeMap::new();
    for (number, spec) in scenario.clients.iter().enumerate() {
        let zone = time_zone(&spec.zone).context("no such zone")?;
        let workstation = spec.facts.get("role").is_some_and(|role| role == "workstation");
        let mut machine = Machine::new(&spec.name, workstation, zone, spec.packages.clone());
        machine.facts.clone_from(&spec.facts);
        machine.address = spec.address;
        machine.behaviour = spec.behaviour.clone();
        machines.insert(ClientId(Uuid::from_u128(number as u128 + 1)), machine);
    }
    Ok(World::with_seed(input, machines, scenario.times.start, seed, compare))
}

/// An update appears: its line's catalogue is a new one.
fn add_update(world: &mut World, site: &mut Site, spec: &UpdateSpec) {
    let mut update = spec.update.clone();
    update.posted = world.now;
    let id = update.id.clone();
    if spec.content_at.is_some() {
        site.late.insert(id.clone());
    }
    if let Some(old) = spec.supersedes.as_ref().and_then(|old| world.site.updates.get_mut(old)) {
        old.superseded_by = Some(id.clone());
    }
    world.site.updates.insert(id.clone(), update);
    next_catalogue(world, &id);
}

fn next_catalogue(world: &mut World, id: &UpdateId) {
    let lines = &mut world.site.lines;
    if let Some(line) = lines.iter_mut().find(|line| line.line == id.line) {
        line.catalogue_version += 1;
        return;
    }
    lines.push(LinePolicy {
        line: id.line.clone(),
        catalogue_version: 1,
        digest: Digest::of(id.line.as_str().as_bytes()),
        size: 1,
        release: None,
    });
    lines.sort_by(|a, b| a.line.cmp(&b.line));
}

fn apply(world: &mut World, site: &mut Site, objects: &[Object]) -> anyhow::Result<()> {
    let mut told: Vec<Told> = Vec::new();
    for object in objects {
        let mut json = object.json.clone();
        // As the API server does: a new object gets a UID, and its generation rises with its spec.
        let deployment = ObjectName::new(&object.name)
            .ok()
            .and_then(|name| site.resources.deployments.get(&name).cloned());
        let deployment = deployment.filter(|_| object.kind == "UpdateDeployment");
        let (uid, generation, created) = if let Some(known) = deployment {
            (
                known.metadata.uid.unwrap_or_default(),
                known.metadata.generation.unwrap_or(1) + 1,
                known.metadata.creation_timestamp.map(|time| time.0.to_string()).unwrap_or_default(),
            )
        } else {
            site.made += 1;
            (format!("{}-{}", object.name, site.made), 1, world.now.to_string())
        };
        if let Some(metadata) = json.get_mut("metadata").and_then(serde_json::Value::as_object_mut) {
            metadata.insert("uid".to_owned(), uid.into());
            metadata.insert("generation".to_owned(), generation.into());
            metadata.insert("creationTimestamp".to_owned(), created.into());
        }
        site.resources.put(&json, &mut told);
    }
    if let Some(problem) = told.first() {
        anyhow::bail!("{}/{}: {}", problem.kind, problem.name, problem.problem.message);
    }
    Ok(())
}

/// What the controller does: everything is resolved anew, and a new plan follows.
fn renew(world: &mut World, site: &mut Site) {
    let mut counts: BTreeMap<UpdateId, DetectionCounts> =
        world.site.updates.keys().map(|id| (id.clone(), DetectionCounts::default())).collect();
    for (id, required) in world.required() {
        counts.entry(id).or_default().required = required;
    }
    let resolution = resolve(
        &site.resources,
        &Ground {
            now: world.now,
            catalogue: Some(&counts),
            known: &world.site.updates,
            present: &BTreeSet::new(),
            before: &world.site.objects,
            pinned: &site.pinned,
            lists: &site.lists,
        },
    );
    for told in &resolution.problems {
        site.told.insert(format!("{}/{}: {}", told.kind, told.name, told.problem.message));
    }
    site.pinned = resolution.pinned;
    site.lists = resolution.lists;
    world.site.objects = resolution.objects;
    distribute(world, site);
    world.publish();
}

/// Which files are on which distribution points: those of the packages, or, where nobody speaks of packages, all.
fn distribute(world: &mut World, site: &Site) {
    let objects = &world.site.objects;
    if objects.distribution_points.is_empty() {
        world.site.holders = None;
        world.missing.clear();
        return;
    }
    let everywhere: BTreeSet<ObjectName> = objects.distribution_points.keys().cloned().collect();
    let mut holders: BTreeMap<Digest, BTreeSet<ObjectName>> = BTreeMap::new();
    let mut missing = BTreeSet::new();
    for (id, update) in &world.site.updates {
        let mut points: BTreeSet<ObjectName> = if site.resources.packages.is_empty() {
            everywhere.clone()
        } else {
            let packages = objects.packages.values().filter(|package| package.updates.contains(id));
            packages.flat_map(|package| package.distribution_points.iter().cloned()).collect()
        };
        if site.late.contains(id) {
            points.clear();
        }
        for leaf in &update.leaves {
            if points.is_empty() {
                missing.insert(leaf.file.sha256);
            } else {
                holders.entry(leaf.file.sha256).or_default().extend(points.iter().cloned());
            }
        }
    }
    missing.retain(|file| !holders.contains_key(file));
    world.site.holders = Some(holders);
    world.missing = missing;
}

fn tell_problems(world: &mut World, site: &mut Site) {
    for problem in std::mem::take(&mut site.told) {
        world.note(problem);
    }
}

fn carry_out(world: &mut World, site: &mut Site, event: &Event) -> anyhow::Result<()> {
    match event {
        Event::Apply(objects) => {
            let names: Vec<String> = objects.iter().map(|o| format!("{}/{}", o.kind, o.name)).collect();
            world.note(format!("applied: {}", names.join(", ")));
            apply(world, site, objects)?;
        }
        Event::Delete { kind, name } => {
            let was = site.resources.remove(kind, name);
            world.note(format!("deleted: {kind}/{name}{}", if was { "" } else { ", which was not there" }));
        }
        Event::Suspend { name, suspend } => {
            let key = ObjectName::new(name)?;
            let deployment = site.resources.deployments.get_mut(&key);
            let deployment = deployment
                .with_context(|| format!("there is no UpdateDeployment {name} to hold or resume"))?;
            deployment.spec.suspend = *suspend;
            world
                .note(format!("{}: UpdateDeployment/{name}", if *suspend { "suspended" } else { "resumed" }));
        }
        Event::NewUpdate(spec) => {
            let instead =
                spec.supersedes.as_ref().map(|old| format!(", supersedes {old}")).unwrap_or_default();
            world.note(format!("new in the catalogue: {}{instead}", spec.update.id));
            add_update(world, site, spec);
        }
        Event::Expire(id) => {
            let update = world
                .site
                .updates
                .get_mut(id)
                .with_context(|| format!("there is no update {id} to expire"))?;
            update.expired = true;
            world.note(format!("expired: {id}"));
            next_catalogue(world, id);
        }
        Event::Revise { id, leaves } => {
            let update = world
                .site
                .updates
                .get_mut(id)
                .with_context(|| format!("there is no update {id} to revise"))?;
            update.leaves.clone_from(leaves);
            update.leaves.sort();
            world.note(format!("revised: {id}"));
            next_catalogue(world, id);
        }
        Event::ContentArrives(id) => {
            site.late.remove(id);
            world.note(format!("on the distribution points: {id}"));
        }
        Event::Facts { clients, facts } => {
            for client in world.site.clients.iter_mut().filter(|client| clients.contains(&client.name)) {
                for (key, value) in facts {
                    match value {
                        Some(value) => drop(client.facts.insert(key.clone(), value.clone())),
                        None => drop(client.facts.remove(key)),
                    }
                }
            }
            let all: Vec<String> = facts
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_deref().unwrap_or("")))
                .collect();
            let who = super::timeline::names(clients.iter().map(String::as_str));
            world.note(format!("facts of {who}: {}", all.join(", ")));
        }
        Event::Clients { clients, happening } => {
            let now = world.now;
            for client in clients {
                if let Some(client) = world.client(client) {
                    world.happens(client, now, happening.clone());
                }
            }
            return Ok(());
        }
    }
    renew(world, site);
    tell_problems(world, site);
    Ok(())
}
