//! Random worlds that have to keep the planner's promises. Each follows from its seed alone.
//!
//! `PROPTEST_CASES` gives their number (300; 10,000 in a long run), `PATCHTIDE_SIM_SEED` runs a single one of them.

mod make;
mod naive;
mod watch;

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{ClientId, UpdateId, policy::Policy, state::UpdateEnforcement};

use super::{Behaviour, Chance, Happening, Network, What, World};
use make::{DAYS, FAULTS, Made, carry_out, make};
use watch::{Broken, Watch};

/// More instants than this in one world are a fault of the planner.
const STEPS: usize = 20_000;

fn run_until(world: &mut World, end: Timestamp, watch: &mut Watch, steps: &mut usize) -> Result<(), Broken> {
    while world.step(end).map_err(|error| error.to_string())? {
        watch.look(world)?;
        *steps += 1;
        if *steps > STEPS {
            return Err(format!("not at rest after {STEPS} instants, now {}", world.now));
        }
    }
    world.now = world.now.max(end);
    Ok(())
}

/// From now on nothing goes wrong any more.
fn heal(world: &mut World) {
    let now = world.now;
    for client in world.clients().collect::<Vec<_>>() {
        let known = world.machine(client).unwrap().behaviour.clone();
        let healed = Behaviour {
            install_failures: BTreeMap::default(),
            download_failures: 0,
            scan_failures: 0,
            recovery_failures: 0,
            network: Network::default(),
            ..known
        };
        world.happens(client, now, Happening::Behaves(Box::new(healed)));
    }
}

/// Whether no window has been open for as long as it needs since the update began to wait for one: what it waited for before, a re-evaluation for
/// example, let one go by.
fn none_since(world: &World, client: ClientId, id: &UpdateId, policy: &Policy) -> bool {
    let waits = |what: &What| matches!(what, What::Update { update, state: UpdateEnforcement::WaitingForWindow, .. } if update == id);
    let began = world.log.iter().rfind(|entry| entry.client == Some(client) && waits(&entry.what));
    let (Some(began), Some(machine)) = (began, world.machine(client)) else { return false };
    let (mut minute, now) = (machine.clock(began.at), machine.clock(world.now));
    let need = naive::need(policy, std::iter::once(id), machine.view.workstation, &machine.zone, now);
    while minute < now {
        if naive::is_open(&policy.body.windows, false, &machine.zone, minute, need) {
            return false;
        }
        minute += SignedDuration::from_mins(1);
    }
    true
}

fn live(seed: u64) -> Result<World, Box<(Broken, World)>> {
    let Made { mut world, start, events } = make(seed);
    let mut chance = Chance::new(seed, 99);
    let mut watch = Watch::new(seed);
    let mut steps = 0;
    let mut go = |world: &mut World| -> Result<(), Broken> {
        for (at, event) in &events {
            run_until(world, *at, &mut watch, &mut steps)?;
            carry_out(world, event, &mut chance);
        }
        run_until(world, start + SignedDuration::from_hours(24 * FAULTS), &mut watch, &mut steps)?;
        heal(world);
        run_until(world, start + SignedDuration::from_hours(24 * DAYS), &mut watch, &mut steps)?;
        end(world)
    };
    match go(&mut world) {
        Ok(()) => Ok(world),
        Err(broken) => Err(Box::new((broken, world))),
    }
}

/// At the end all is said and heard, and every update that could be installed is, or says why not.
fn end(world: &World) -> Result<(), Broken> {
    for client in world.clients() {
        let machine = world.machine(client).unwrap();
        if !world.is_heard(client) {
            return Err(format!("{client}: the site does not know what it said last"));
        }
        let (Some(decision), Some(policy)) = (world.decision(client), world.policy(client)) else {
            return Err(format!("{client} is not there at the end"));
        };
        if machine.view.recovery.is_some() {
            return Err(format!("{client}: dpkg is interrupted still"));
        }
        let clock = machine.clock(world.now);
        for (id, verdict) in &decision.updates {
            let long_due = clock - SignedDuration::from_hours(24 * 3);
            if naive::wanting(policy, id, &machine.zone, long_due).is_empty()
                || verdict.detection != patchtide_model::state::Detection::Required
            {
                continue;
            }
            // No window has been or ever will be long enough, or the next one is days away.
            let never = verdict.error.as_ref().is_some_and(|error| error.symbol == "WINDOW-NEVER-FITS");
            let waits = verdict.state == Some(UpdateEnforcement::WaitingForWindow);
            let far = verdict
                .lease
                .as_ref()
                .is_some_and(|lease| lease.by.duration_since(clock) > SignedDuration::from_hours(48));
            if !(never || waits && (far || none_since(world, client, id, policy))) {
                return Err(format!("{client}: {id} is due for three days and not installed: {verdict:?}"));
            }
        }
    }
    Ok(())
}

fn worlds(seeds: impl Iterator<Item = u64>) {
    for seed in seeds {
        if let Err(failed) = live(seed) {
            let (broken, world) = *failed;
            let from = world.log.len().saturating_sub(40);
            for entry in &world.log[from..] {
                eprintln!("{entry:?}");
            }
            panic!(
                "world {seed} breaks a promise: {broken}\n\
                 run it again: PATCHTIDE_SIM_SEED={seed} cargo test -p patchtide-planner --lib worlds_keep"
            );
        }
    }
}

#[test]
fn worlds_keep_the_promises() {
    if let Some(seed) = std::env::var("PATCHTIDE_SIM_SEED").ok().and_then(|seed| seed.parse().ok()) {
        return worlds(std::iter::once(seed));
    }
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(300);
    worlds(0..cases);
}

/// Worlds of the long run that broke a promise once. 3572: a deployment that frees the restart lets an update into a window
/// that was called too short. 4952: nothing was wrong, the world's end took a window for long enough that was not, by a
/// nanosecond.
#[test]
fn worlds_that_broke_a_promise_once() {
    worlds([3572, 4952].into_iter());
}

/// Same seed, same world, entry by entry.
#[test]
fn a_seed_is_a_world() {
    for seed in 0..5 {
        let log = |seed| match live(seed) {
            Ok(world) => format!("{:?}", world.log),
            Err(failed) => format!("{:?}", failed.1.log),
        };
        assert_eq!(log(seed), log(seed));
    }
}

/// A world that nobody reads along with goes the same way.
#[test]
fn a_quiet_world_is_the_same_world() {
    for seed in 0..20 {
        let go = |quiet: bool| {
            let Made { mut world, start, events } = make(seed);
            world.quiet = quiet;
            let mut chance = Chance::new(seed, 99);
            for (at, event) in &events {
                world.run_until(*at).unwrap();
                carry_out(&mut world, event, &mut chance);
            }
            world.run_until(start + SignedDuration::from_hours(24 * DAYS)).unwrap();
            let machines: Vec<_> = world
                .machines()
                .map(|machine| (machine.view.clone(), machine.packages.clone(), machine.transactions.clone()))
                .collect();
            (machines, world.tally)
        };
        assert_eq!(go(true), go(false), "world {seed}");
    }
}
