//! What happens to a batch in progress when its deployment changes in the middle of each state. `docs/semantics.md` says
//! the same in words.

use patchtide_model::{catalogue::RestartRule, deployment::Deadline, window::AppliesTo};

use super::*;
use crate::sim::{Behaviour, Machine, What, World};

const START: &str = "2026-11-21T10:00:00Z";

/// Where the client is when the change comes: a time of one day on which it goes through every state.
#[derive(Debug, Clone, Copy)]
enum In {
    Downloading,
    Downloaded,
    WaitingForWindow,
    Installing,
    PendingRestart,
    CountingDown,
}

impl In {
    fn when(self) -> Timestamp {
        at(match self {
            Self::Downloading => "2026-11-21T10:00:15Z",
            Self::Downloaded => "2026-11-21T11:00:00Z",
            Self::WaitingForWindow => "2026-11-21T12:10:00Z",
            Self::Installing => "2026-11-21T12:31:00Z",
            Self::PendingRestart => "2026-11-21T13:00:00Z",
            Self::CountingDown => "2026-11-21T15:02:00Z",
        })
    }

    fn is_in(self, decision: &Decision, view: &ClientView) -> bool {
        use UpdateEnforcement as E;
        let state = decision.updates[&id("a", 2)].state;
        match self {
            Self::Downloading => state == Some(E::Downloading) && !view.running.download.is_empty(),
            Self::Downloaded => state == Some(E::Downloaded),
            Self::WaitingForWindow => state == Some(E::WaitingForWindow),
            Self::Installing => state == Some(E::Installing),
            Self::PendingRestart => state == Some(E::PendingRestart) && view.running.restart_at.is_none(),
            Self::CountingDown => state == Some(E::PendingRestart) && view.running.restart_at.is_some(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Change {
    /// The deadline of noon is put off by a week.
    Later,
    /// It is brought forward to ten.
    Earlier,
    Suspended,
    Deleted,
    /// The client leaves the collection.
    Retargeted,
}

fn apply(change: Change, site: &mut SiteInput) {
    let all = site.objects.deployments.get_mut(&name("all")).unwrap();
    match change {
        Change::Later => all.settings.deadline = Deadline::After(SignedDuration::from_hours(24 * 7)),
        Change::Earlier => all.settings.deadline = Deadline::After(SignedDuration::ZERO),
        Change::Suspended => all.suspend = true,
        Change::Deleted => site.objects.deployments.clear(),
        Change::Retargeted => {
            all.collection = name("nobody");
            site.objects.collections.insert(name("nobody"), collection("nobody"));
        }
    }
}

/// Deadline at noon, window from 12:30, restarts from 15:00 on.
fn world() -> World {
    let mut site = site(vec![update("a", 2)]);
    site.updates.get_mut(&id("a", 2)).unwrap().restart = RestartRule::Always;
    let mut all = deployment("all", &[id("a", 2)], at(START));
    all.settings.deadline = Deadline::After(minutes(120));
    add_deployment(&mut site, all);
    let mut noon = daily("noon", 12, minutes(60));
    noon.start = jiff::civil::time(12, 30, 0, 0);
    add_window(&mut site, noon);
    let mut restarts = daily("restarts", 15, minutes(60));
    restarts.applies_to = AppliesTo::RestartsOnly;
    add_window(&mut site, restarts);
    let packages = BTreeMap::from([("a".to_owned(), "1".to_owned())]);
    let mut machine = Machine::new("host", false, TimeZone::UTC, packages);
    machine.behaviour = Behaviour {
        scan: SignedDuration::from_secs(5),
        download: SignedDuration::from_secs(20),
        install: minutes(3),
        restart: minutes(1),
        ..Behaviour::default()
    };
    World::new(site, BTreeMap::from([(ClientId(Uuid::from_u128(1)), machine)]), at(START))
}

/// Downloaded, installed, restarted by ten o'clock of the next day, before the next window.
type Outcome = (bool, bool, bool);

const TABLE: &[(In, Change, Outcome)] = &[
    (In::Downloading, Change::Later, (true, false, false)),
    (In::Downloading, Change::Earlier, (true, true, true)),
    (In::Downloading, Change::Suspended, (false, false, false)),
    (In::Downloading, Change::Deleted, (false, false, false)),
    (In::Downloading, Change::Retargeted, (false, false, false)),
    (In::Downloaded, Change::Later, (true, false, false)),
    (In::Downloaded, Change::Earlier, (true, true, true)),
    (In::Downloaded, Change::Suspended, (true, false, false)),
    (In::Downloaded, Change::Deleted, (true, false, false)),
    (In::Downloaded, Change::Retargeted, (true, false, false)),
    (In::WaitingForWindow, Change::Later, (true, false, false)),
    (In::WaitingForWindow, Change::Earlier, (true, true, true)),
    (In::WaitingForWindow, Change::Suspended, (true, false, false)),
    (In::WaitingForWindow, Change::Deleted, (true, false, false)),
    (In::WaitingForWindow, Change::Retargeted, (true, false, false)),
    (In::Installing, Change::Later, (true, true, false)),
    (In::Installing, Change::Earlier, (true, true, true)),
    (In::Installing, Change::Suspended, (true, true, false)),
    (In::Installing, Change::Deleted, (true, true, false)),
    (In::Installing, Change::Retargeted, (true, true, false)),
    (In::PendingRestart, Change::Later, (true, true, false)),
    (In::PendingRestart, Change::Earlier, (true, true, true)),
    (In::PendingRestart, Change::Suspended, (true, true, false)),
    (In::PendingRestart, Change::Deleted, (true, true, false)),
    (In::PendingRestart, Change::Retargeted, (true, true, false)),
    (In::CountingDown, Change::Later, (true, true, false)),
    (In::CountingDown, Change::Earlier, (true, true, true)),
    (In::CountingDown, Change::Suspended, (true, true, false)),
    (In::CountingDown, Change::Deleted, (true, true, false)),
    (In::CountingDown, Change::Retargeted, (true, true, false)),
];

/// R-DEPL-32, R-DEPL-45, R-DEPL-46, R-SCHED-11, R-SCHED-12: every change in the middle of every state.
#[test]
fn a_change_in_the_middle_of_each_state() {
    let client = ClientId(Uuid::from_u128(1));
    for (state, change, (downloaded, installed, restarted)) in TABLE {
        let words = format!("{change:?} while {state:?}");
        let mut world = world();
        world.run_until(state.when()).unwrap();
        let view = &world.machine(client).unwrap().view;
        let decision = world.decision(client).unwrap();
        assert!(state.is_in(decision, view), "{words}: {:?}", decision.updates);
        apply(*change, &mut world.site);
        world.publish();
        let before = world.log.len();
        world.run_until(at("2026-11-22T10:00:00Z")).unwrap();
        let machine = world.machine(client).unwrap();
        assert_eq!(!machine.view.present.is_empty(), *downloaded, "{words}");
        assert_eq!(machine.packages["a"] == "2", *installed, "{words}");
        assert_eq!(machine.restarts.len(), usize::from(*restarted), "{words}");
        assert!(
            machine.view.running.restart_at.is_none() && machine.view.running.install.is_none(),
            "{words}"
        );
        if matches!(change, Change::Suspended | Change::Deleted | Change::Retargeted) {
            let begun = world.log[before..].iter().filter(|entry| {
                matches!(&entry.what, What::Started(Action::Install(_) | Action::Download { .. }))
            });
            assert_eq!(begun.count(), 0, "{words}: nothing begins");
        }
        // Put off by a week, it goes on then, from what is here.
        if matches!(change, Change::Later) {
            world.run_until(at("2026-11-29T10:00:00Z")).unwrap();
            let machine = world.machine(client).unwrap();
            assert_eq!((machine.packages["a"].as_str(), machine.restarts.len()), ("2", 1), "{words}");
        }
    }
}
