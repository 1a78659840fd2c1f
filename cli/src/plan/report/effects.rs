//! Windows, settings, collections and content, in words.

use patchtide_planner::site::forecast::{Forecast, Freedom};

use super::super::words::{Style, clients, counted, length, number, size};

pub(super) fn windows(forecast: &Forecast, style: Style) -> Vec<String> {
    let some = |names: &[patchtide_model::ObjectName]| {
        if names.is_empty() { "none".to_owned() } else { style.list(names) }
    };
    forecast
        .windows
        .iter()
        .map(|group| {
            let what = match group.freedom {
                Freedom::Unbound => ("loses the last window", "lose the last window"),
                Freedom::Shut => ("never has an opening any more", "never have an opening any more"),
                Freedom::Bound => ("was free and is bound now", "were free and are bound now"),
                Freedom::Opened => ("has openings again", "have openings again"),
                Freedom::Other => ("has other openings", "have other openings"),
            };
            format!(
                "{}: {} -> {}; open in the next 28 days {} -> {}: {}",
                clients(group.clients.count, what.0, what.1),
                some(&group.before),
                some(&group.after),
                length(group.open_before),
                length(group.open_after),
                style.names(&group.clients),
            )
        })
        .collect()
}

pub(super) fn client_settings(forecast: &Forecast, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for group in &forecast.client_settings {
        let (before, after) = (style.name(&group.before), style.name(&group.after));
        let names = if group.before == group.after { before } else { format!("{before} -> {after}") };
        let values: Vec<String> = group
            .values
            .iter()
            .map(|value| {
                let said = |value: &Option<String>| {
                    value.as_ref().map_or_else(|| "unset".to_owned(), |value| style.name(value))
                };
                format!("{} {} -> {}", style.name(&value.field), said(&value.before), said(&value.after))
            })
            .collect();
        let values = if values.is_empty() { "the same values".to_owned() } else { values.join("; ") };
        lines.push(format!(
            "{}: {names}: {values}: {}",
            counted(group.clients.count, "client"),
            style.names(&group.clients)
        ));
    }
    lines
}

pub(super) fn collections(forecast: &Forecast, style: Style) -> Vec<String> {
    let mut lines = Vec::new();
    for change in &forecast.collections {
        let mut parts = vec![format!(
            "{}: {} members -> {}",
            style.name(change.name.as_str()),
            number(change.before),
            number(change.after)
        )];
        if !change.gained.is_empty() {
            parts.push(format!("gains {}", style.names(&change.gained)));
        }
        if !change.lost.is_empty() {
            parts.push(format!("loses {}", style.names(&change.lost)));
        }
        lines.push(parts.join("; "));
    }
    lines
}

pub(super) fn points(forecast: &Forecast, style: Style) -> Vec<String> {
    forecast
        .distribution_points
        .iter()
        .map(|point| {
            let mut parts = Vec::new();
            if point.new_files > 0 {
                parts.push(format!(
                    "{} to fetch, {}",
                    counted(point.new_files, "file"),
                    size(point.new_bytes)
                ));
            }
            if point.freed_files > 0 {
                parts.push(format!(
                    "{} no longer needed, {}",
                    counted(point.freed_files, "file"),
                    size(point.freed_bytes)
                ));
            }
            format!("{}: {}", style.name(point.name.as_str()), parts.join("; "))
        })
        .collect()
}

pub(super) fn notes(forecast: &Forecast, style: Style) -> Vec<String> {
    let new = forecast.notes.iter().map(|note| (note, ""));
    let gone = forecast.resolved_notes.iter().map(|note| (note, "no longer: "));
    new.chain(gone)
        .map(|(note, no)| format!("{no}{}: {}", style.name(&note.object), style.text(&note.message)))
        .collect()
}
