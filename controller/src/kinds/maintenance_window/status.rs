//! What a window's status shows.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_crds::{
    DurationText, MaintenanceWindowStatus,
    maintenance_window::{NeverFits, Occurrence},
};
use patchtide_model::window::{Window, WindowAction, Zone};

use crate::{compile::Compiled, context::Context, error::Failure, kinds::database};

/// Openings shown.
const SHOWN: usize = 5;
/// Time a restart takes where no client settings say otherwise, with its countdown.
const RESTART: SignedDuration = SignedDuration::from_mins(15);
/// Time of an apt transaction where no rule says otherwise.
const RUN_TIME: SignedDuration = SignedDuration::from_mins(10);

/// Fills what follows from the window itself. Returns when the status has to be looked at again.
pub fn fill(
    status: &mut MaintenanceWindowStatus,
    window: &Window,
    compiled: &Compiled,
    now: Timestamp,
) -> Option<Duration> {
    // Client-local windows are shown on the wall clock: that of UTC stands for every client's.
    let local = window.zone == Zone::ClientLocal;
    let show = |at: Timestamp| {
        let at = Timestamp::from_second(at.as_second()).unwrap_or(at);
        if local { at.to_zoned(TimeZone::UTC).datetime().to_string() } else { at.to_string() }
    };
    let spans: Vec<_> = window.occurrences(&TimeZone::UTC, now).take(SHOWN).collect();
    status.next_occurrences =
        spans.iter().map(|span| Occurrence { start: show(span.start), end: show(span.end) }).collect();
    let (opens, open) = match window.action {
        WindowAction::Allow => ("opens", "open"),
        WindowAction::Deny => ("denies from", "denies"),
    };
    status.next = Some(match spans.first() {
        Some(span) if span.contains(now) && !local => format!("{open} until {}", show(span.end)),
        Some(span) => format!("{opens} {}", show(span.start)),
        None => "never again".to_owned(),
    });
    // Right after a start nothing is compiled yet: what was true before stays.
    if let Some(plan) = &compiled.plan {
        status.clients = Some(plan.membership.get(&window.collection).map_or(0, BTreeSet::len) as u64);
    }
    let edge = spans.first().map(|span| if span.contains(now) { span.end } else { span.start })?;
    let wait = edge.duration_since(now).max(SignedDuration::ZERO) + SignedDuration::from_secs(1);
    Duration::try_from(wait).ok()
}

/// Deployed updates that need more time than the window ever has.
pub async fn never_fitting(
    ctx: &Context,
    window: &Window,
    compiled: &Compiled,
) -> Result<Vec<NeverFits>, Failure> {
    let (Some(plan), WindowAction::Allow) = (&compiled.plan, window.action) else {
        return Ok(Vec::new());
    };
    let selected = plan.membership.get(&window.collection).cloned().unwrap_or_default();
    let reached: BTreeSet<_> = plan
        .targets
        .iter()
        .filter(|(_, clients)| !clients.is_disjoint(&selected))
        .map(|(name, _)| name.clone())
        .collect();
    if reached.is_empty() {
        return Ok(Vec::new());
    }
    let objects = ctx.store.load_objects().await.map_err(|error| database(&error))?;
    let ids: BTreeSet<_> = reached
        .iter()
        .filter_map(|name| objects.deployments.get(name))
        .flat_map(|d| d.updates.iter().cloned())
        .collect();
    let ids: Vec<_> = ids.into_iter().collect();
    let updates = ctx.store.updates(&ids).await.map_err(|error| database(&error))?;
    Ok(updates
        .values()
        .filter_map(|update| {
            let needs = update.maximum_run_time.unwrap_or(RUN_TIME) + RESTART;
            (needs > window.duration).then(|| NeverFits {
                update: update.id.to_string(),
                needs: DurationText::from_seconds(needs.as_secs()),
                longest: DurationText::from_seconds(window.duration.as_secs()),
            })
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::maintenance_window::validate::validate;

    #[test]
    fn the_status_names_the_next_opening_and_wakes_for_it() {
        let spec = serde_saphyr::from_str(
            "collection: web\nstart: '02:00'\nduration: 2h\ntimeZone: UTC\nrecurrence: {daily: {}}\n",
        )
        .unwrap();
        let window = validate("night", &spec).unwrap();
        let mut status = MaintenanceWindowStatus::default();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let again = fill(&mut status, &window, &Compiled::default(), at("2026-07-01T01:00:00Z"));
        assert_eq!(status.next.as_deref(), Some("opens 2026-07-01T02:00:00Z"));
        assert_eq!(again, Some(Duration::from_secs(3601)));
        fill(&mut status, &window, &Compiled::default(), at("2026-07-01T03:00:00Z"));
        assert_eq!(status.next.as_deref(), Some("open until 2026-07-01T04:00:00Z"));
        assert_eq!(status.next_occurrences.len(), 5);
    }
}
