//! A deployment, in words.

use patchtide_planner::site::forecast::{
    Change, DeploymentForecast, Nearest, Outlook, SettingChange, Unreachable, When, WindowUse,
};

use super::super::words::{Style, clients, counted, length, number, size, span, time};

/// Title and lines.
pub(super) fn lines(told: &DeploymentForecast, style: Style) -> (String, Vec<String>) {
    let what = match told.change {
        Change::Added => "added",
        Change::Changed => "changed",
        Change::Removed => "removed",
        Change::Affected => "affected by other objects",
    };
    let title = format!("Deployment {} ({what})", told.name);
    let mut lines = Vec::new();
    let of = |outlook: &Option<Outlook>| outlook.as_ref().map_or(0, |outlook| outlook.targeted);
    let (was, will) = (of(&told.before), of(&told.after));
    if was != will || !told.clients_gained.is_empty() || !told.clients_lost.is_empty() {
        lines.push(format!("clients: {} now, {} then", number(was), number(will)));
    }
    let mut names = |what: &str, count: u64, names: String| {
        if count > 0 {
            lines.push(format!("{what} {}: {names}", number(count)));
        }
    };
    names("clients gained", told.clients_gained.count, style.names(&told.clients_gained));
    names("clients lost", told.clients_lost.count, style.names(&told.clients_lost));
    names("updates added", told.updates_added.count, style.names(&told.updates_added));
    names("updates removed", told.updates_removed.count, style.names(&told.updates_removed));
    lines.extend(told.settings.iter().map(|setting| self::setting(setting, style)));
    if let Some(after) = &told.after {
        outlook(after, told.before.as_ref(), style, &mut lines);
    }
    (title, lines)
}

fn setting(told: &SettingChange, style: Style) -> String {
    let from = told.from.as_ref().map(|from| format!(" ({})", style.text(from))).unwrap_or_default();
    let field = style.name(&told.field);
    let value = |value: &Option<String>| value.as_ref().map_or_else(|| "unset".to_owned(), |v| style.name(v));
    match &told.before {
        Some(_) => format!("{field}: {} -> {}{from}", value(&told.before), value(&told.after)),
        None => format!("{field}: {}{from}", value(&told.after)),
    }
}

fn outlook(after: &Outlook, before: Option<&Outlook>, style: Style, lines: &mut Vec<String>) {
    let nothing = Outlook::default();
    let was = before.unwrap_or(&nothing);
    let counts = |of: &Outlook| (of.lacking, of.complete, of.unknown, of.withheld, of.switched_off);
    if counts(after) != counts(was) {
        let mut parts = vec![
            format!("{} an update of it", clients(after.lacking, "lacks", "lack")),
            format!("{} none", number(after.complete)),
            format!("{} never said", number(after.unknown)),
        ];
        if after.withheld > 0 {
            parts.push(format!("{} without new policy", number(after.withheld)));
        }
        if after.switched_off > 0 {
            parts.push(format!("{} with software updates switched off", number(after.switched_off)));
        }
        lines.push(parts.join(", "));
    }
    if after.installs != was.installs || after.installs_more != was.installs_more {
        lines.extend(after.installs.iter().map(|group| installs(group, style)));
        if after.installs_more > 0 {
            lines.push(format!("{} at other times", clients(after.installs_more, "installs", "install")));
        }
    }
    lines.extend(after.unreachable.iter().map(|group| unreachable(group, style)));
    if after.unreachable_more > 0 {
        lines.push(format!("never in time: {} more", counted(after.unreachable_more, "client")));
    }
    let missed = was.missing();
    if missed > 0 && after.missing() == 0 {
        lines.push(format!("{} the deadline that could not before", clients(missed, "can meet", "can meet")));
    }
    if after.restarts != was.restarts {
        lines.push(format!(
            "restarts: {} certain, {} possible, {} suppressed",
            number(after.restarts.certain),
            number(after.restarts.possible),
            number(after.restarts.suppressed)
        ));
    }
    if after.download_bytes != was.download_bytes {
        lines.push(format!("clients download {}", size(after.download_bytes)));
    }
}

fn installs(group: &WindowUse, style: Style) -> String {
    let who = |one: &str, several: &str| clients(group.clients, one, several);
    match group.when {
        When::Free { from } => {
            format!("{} from {} on, no window binds them", who("installs", "install"), time(from))
        }
        When::Window { start, end } if group.windows.is_empty() => {
            format!("{} {}, outside deny windows", who("installs", "install"), span(start, end))
        }
        When::Window { start, end } => {
            format!("{} {} in {}", who("installs", "install"), span(start, end), style.list(&group.windows))
        }
        When::Never { longest: Some(longest) } => format!(
            "{}: no window is long enough, the longest is {}",
            who("never installs", "never install"),
            length(longest)
        ),
        When::Never { longest: None } => {
            format!("{}: no window ever opens", who("never installs", "never install"))
        }
        When::OnRequest => format!("{} when a person asks for it", who("installs", "install")),
        When::Held => format!("{} nothing: it is suspended", who("installs", "install")),
        When::EndOfTime => {
            format!("{} nothing: the deadline lies beyond the year 9999", who("installs", "install"))
        }
    }
}

fn unreachable(group: &Unreachable, style: Style) -> String {
    let nearest = match group.nearest {
        Nearest::After { start, end } => {
            format!("the first window with room is {}", span(start, (end.as_second() < FAR).then_some(end)))
        }
        Nearest::Never { longest: Some(longest), .. } => format!(
            "no window has room for {}, the longest is {} long ({})",
            length(group.needs),
            length(longest.length()),
            span(longest.start, Some(longest.end))
        ),
        Nearest::Never { longest: None, reason } => format!("no window ever opens: {}", reason.text()),
    };
    format!(
        "never in time: {} in zone {} with {}: deadline {}, {nearest}; {} said that an update is missing: {}",
        counted(group.clients.count, "client"),
        style.text(&group.zone),
        if group.windows.is_empty() { "no window".to_owned() } else { style.list(&group.windows) },
        time(group.deadline),
        number(group.lacking),
        style.names(&group.clients),
    )
}

/// An opening that ends in the year 9999 has no end.
const FAR: i64 = 253_370_764_800;
