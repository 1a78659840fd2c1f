//! The zone by which a client's windows open.

use patchtide_model::{
    state::DeploymentEnforcement as D,
    window::{Zone, time_zone},
};

use super::*;
use crate::site::status::{NextWindow, next_window, windows_of};

/// A window in client local time opens by the machine's own zone; the site tells the same instant from the zone that the
/// machine reports as its fact `timezone`.
#[test]
fn a_client_local_window_follows_the_zone_that_the_client_reports() {
    for (zone, opens) in [
        ("Europe/Berlin", "2026-11-21T11:00:00Z"),
        ("Asia/Kolkata", "2026-11-22T06:30:00Z"),
        ("America/New_York", "2026-11-21T17:00:00Z"),
    ] {
        let mut site = None;
        let (policy, mut view) = setting(|input| {
            let mut noon = daily("noon", 12, minutes(60));
            noon.zone = Zone::ClientLocal;
            add_window(input, noon);
            input.clients[0].facts.insert("timezone".to_owned(), zone.to_owned());
            site = Some(input.clone());
        });
        view.scan.changed = None;
        present(&mut view);
        let decision = decide(&policy, &view, at(NOW), &time_zone(zone).unwrap());
        let window = &decision.updates[&id("a", 2)]
            .gates
            .iter()
            .find(|gate| gate.kind == GateKind::Window)
            .unwrap()
            .status;
        assert_eq!(*window, GateStatus::Closed(Opens::At(at(opens))), "{zone}");
        assert_eq!(decision.deployments["uid-all"].enforcement, Some(D::WaitingForWindow));

        let site = site.unwrap();
        let plan = compile(&site);
        let windows = windows_of(&plan, &site.clients, &[site.clients[0].id].into());
        assert_eq!(next_window(&windows, at(NOW)), NextWindow::At(at(opens)), "{zone}");
    }
}
