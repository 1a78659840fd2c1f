//! An explanation as text for people.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::origin::DEFAULT;

use super::{DeploymentWhy, Explanation, Named, Source, StateWhy, UpdateWhy, ValueWhy, Waiting};
use crate::client::{Event, Gate, GateStatus, Holder, Lease, Opens};

// Writing into a String cannot fail.
macro_rules! say {
    ($out:expr, $($words:tt)*) => { let _ = writeln!($out, $($words)*); };
}

/// The whole of it.
pub fn text(explanation: &Explanation) -> String {
    let mut out = String::new();
    let (client, now) = (&explanation.client, explanation.at);
    let teller = match explanation.source {
        Source::Agent => "as the agent knows",
        Source::Site => "as the site knows",
    };
    say!(out, "{} ({}) of site {}, {teller}, {}", client.name, client.id, client.site, time(now));
    for gate in &explanation.gates {
        say!(out, "{}", gate_line(gate, now));
    }
    if let Some(scan) = &explanation.scan {
        say!(out, "  {}", state_line("scan", scan));
    }
    set(&mut out, &explanation.values);
    for found in &explanation.deployments {
        deployment(&mut out, found, now);
    }
    for found in &explanation.updates {
        update(&mut out, found, now);
    }
    for unknown in &explanation.unknown {
        say!(out, "not known here: {unknown}");
    }
    plain(&out)
}

fn deployment(out: &mut String, found: &DeploymentWhy, now: Timestamp) {
    let compliance = found.compliance.as_ref().map_or("no compliance reported", |state| &state.name);
    let state = found.state.as_ref().map_or("nothing to enforce", |state| &state.name);
    let by = must_move(found.lease.as_ref(), found.state.as_ref());
    say!(out, "UpdateDeployment/{}\n  {compliance}; {state}{by}", found.name);
    if let Some(overdue) = &found.overdue {
        say!(out, "  overdue: {overdue}");
    }
    if let Some(error) = &found.error {
        say!(out, "  {} (0x{:08X}): {}", error.symbol, error.code, error.message.trim_end());
    }
    if let Some(evaluation) = &found.evaluation {
        say!(out, "  {}", state_line("evaluation", evaluation));
    }
    for gate in &found.gates {
        say!(out, "{}", gate_line(gate, now));
    }
    set(out, &found.values);
    waits(out, found.waits_for.as_ref(), now);
}

fn update(out: &mut String, found: &UpdateWhy, now: Timestamp) {
    let state = found.state.as_ref().map_or("nothing to enforce", |state| &state.name);
    let by = must_move(found.lease.as_ref(), found.state.as_ref());
    say!(out, "{}\n  {}; {state}{by}", found.id, found.detection.name);
    if !found.leaves.is_empty() {
        let leaf = |l: &patchtide_model::catalogue::LeafRef| {
            format!("{}:{} {}", l.package, l.architecture, l.version)
        };
        say!(out, "  needs {}", found.leaves.iter().map(leaf).collect::<Vec<_>>().join(", "));
    }
    if let Some(error) = &found.error {
        say!(out, "  {} (0x{:08X}): {}", error.symbol, error.code, error.message.trim_end());
    }
    for gate in &found.gates {
        say!(out, "{}", gate_line(gate, now));
    }
    for value in found.values.iter().filter(|value| value.from.as_deref() != Some(DEFAULT)) {
        let set_by = setter(&value.object, &value.field, value.from.as_deref());
        say!(out, "  counts      {} {}{set_by}", short(value), value.value);
    }
    waits(out, found.waits_for.as_ref(), now);
}

/// Who set what, an object a line; what nobody set is left out.
fn set(out: &mut String, values: &[ValueWhy]) {
    let mut objects: Vec<&str> = Vec::new();
    for value in values.iter().filter(|value| value.object != DEFAULT) {
        if !objects.contains(&value.object.as_str()) {
            objects.push(&value.object);
        }
    }
    for object in objects {
        let of = values.iter().filter(|value| value.object == object);
        let mut words: Vec<String> = of.map(|value| format!("{} {}", short(value), value.value)).collect();
        words.dedup();
        say!(out, "  set by      {}: {}", source(object), words.join("; "));
    }
}

fn short(value: &ValueWhy) -> &str {
    let field = value.field.strip_prefix("spec.").unwrap_or(&value.field);
    field.strip_prefix("settings.").unwrap_or(field)
}

fn setter(object: &str, field: &str, from: Option<&str>) -> String {
    match from {
        _ if object.is_empty() => String::new(),
        None => format!(" [{object} {field}]"),
        Some(DEFAULT) => format!(" [{object} {field}, the default]"),
        Some(from) => format!(" [{object} {field}, from {}]", source(from)),
    }
}

/// An object with as much of the digest of its pinned content as people compare.
fn source(object: &str) -> String {
    match object.split_once("@sha256:") {
        Some((name, digest)) => format!("{name} as pinned ({})", digest.get(..12).unwrap_or(digest)),
        None => object.to_owned(),
    }
}

/// A state with its error and its lease, on one line.
pub fn state_line(what: &str, found: &StateWhy) -> String {
    let error =
        found.error.as_ref().map_or_else(String::new, |error| format!(": {}", error.message.trim_end()));
    let by = must_move(found.lease.as_ref(), Some(&found.state));
    format!("{what:<11} {}{error}{by}", found.state.name)
}

/// By when a state must move: the instant, or the rule of a state that is not final; empty for a final one.
pub fn must_move(known: Option<&Lease>, state: Option<&Named>) -> String {
    let rule = || state.and_then(|state| state.rule.as_ref());
    match known {
        Some(known) => lease(Some(known)),
        None => rule().map_or_else(String::new, |rule| format!(" (by {}, then {})", rule.by, rule.then)),
    }
}

fn waits(out: &mut String, waiting: Option<&Waiting>, now: Timestamp) {
    let Some(waiting) = waiting else { return };
    let next = waiting.next.map_or_else(
        || "nothing will open it as things stand".to_owned(),
        |next| format!("next {} (in {})", time(next), span(next.duration_since(now))),
    );
    say!(out, "  waits for {}: {next}", waiting.gate.name());
}

/// A gate on one line.
pub fn gate_line(gate: &Gate, now: Timestamp) -> String {
    let status = match &gate.status {
        GateStatus::Open => "open".to_owned(),
        GateStatus::Closed(Opens::At(at)) => {
            format!("closed until {} (in {})", time(*at), span(at.duration_since(now)))
        }
        GateStatus::Closed(Opens::OnEvent) => {
            let event = gate.event.map_or_else(String::new, |event| format!(" until {}", event_words(event)));
            let looks =
                gate.looks.map_or_else(String::new, |at| format!(", looked at again by {}", time(at)));
            format!("closed{event}{looks}")
        }
        GateStatus::Closed(Opens::Never { longest: None }) => "closed; nothing will open it".to_owned(),
        GateStatus::Closed(Opens::Never { longest: Some(span) }) => format!(
            "closed; nothing will open it, the longest opening is {} to {}",
            time(span.start),
            time(span.end)
        ),
    };
    let set_by = setter(&gate.object, &gate.field, gate.from.as_deref());
    let held = gate.holder.as_ref().map_or_else(String::new, |holder| format!(" <{}>", holder_words(holder)));
    format!("  {:<11} {status}: {}{held}{set_by}", gate.kind.name(), gate.reason)
}

const fn event_words(event: Event) -> &'static str {
    match event {
        Event::Policy => "another policy comes",
        Event::Scan => "a scan has ended",
        Event::Download => "a download has ended",
        Event::DistributionPoint => "a distribution point is in reach",
        Event::TransactionEnds => "what is being installed has ended",
        Event::Restart => "the machine has restarted",
        Event::PersonAsks => "a person asks for it",
        Event::Contact => "the client is heard of",
    }
}

fn holder_words(holder: &Holder) -> String {
    match holder {
        Holder::Suspended => "suspension".to_owned(),
        Holder::Failed { count, at } => format!("{count} failure(s), last {}", time(*at)),
        Holder::FellBelow { since } => format!("older again since {}", time(*since)),
        Holder::Clock => "the machine's clock".to_owned(),
        Holder::Transaction { since, updates } => {
            format!("a transaction of {updates} update(s) since {}", time(*since))
        }
        Holder::Recovery { since } => format!("a recovery of dpkg since {}", time(*since)),
        Holder::Lock { holder, since } => format!("{holder} since {}", time(*since)),
        Holder::Detection => "detection".to_owned(),
        Holder::Update { update } => update.to_string(),
        Holder::Batch { updates } => format!("{updates} update(s) before it"),
    }
}

/// ` (by ..., then ...)`, or nothing.
pub fn lease(lease: Option<&Lease>) -> String {
    lease.map(|lease| format!(" (by {}, then {})", time(lease.by), lease.then)).unwrap_or_default()
}

/// An instant for people, to the second.
pub fn time(at: Timestamp) -> String {
    format!("{at:.0}")
}

/// `2 d 3 h`, `3 h 20 min`, `5 min`.
pub fn span(span: SignedDuration) -> String {
    let minutes = span.as_secs().max(0).div_euclid(60);
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// What programs and other machines said does not steer the terminal of the one who reads it.
pub fn plain(text: &str) -> String {
    text.chars().filter(|c| !c.is_control() || matches!(c, '\n' | '\t')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::GateKind;

    #[test]
    fn people_get_seconds_spans_events_and_no_escapes() {
        let now: Timestamp = "2026-03-01T12:00:00.123456Z".parse().unwrap();
        let gate = |hours| {
            let opens = Opens::At(now.checked_add(SignedDuration::from_hours(hours)).unwrap());
            Gate::closed(GateKind::Window, opens, "waits").by("MaintenanceWindow/nightly", "spec.recurrence")
        };
        assert_eq!(
            gate_line(&gate(27), now),
            "  window      closed until 2026-03-02T15:00:00Z (in 1 d 3 h): waits [MaintenanceWindow/nightly spec.recurrence]"
        );
        assert!(gate_line(&gate(3), now).contains("(in 3 h 0 min)"));
        assert!(gate_line(&gate(-3), now).contains("(in 0 min)"));
        let holder = Holder::Lock { holder: "apt-get (812)".to_owned(), since: now };
        let mut held = Gate::waiting(GateKind::Hold, Event::TransactionEnds, "locked").held_by(holder);
        held.looks = Some(now);
        assert_eq!(
            gate_line(&held, now),
            "  hold        closed until what is being installed has ended, looked at again by 2026-03-01T12:00:00Z: \
             locked <apt-get (812) since 2026-03-01T12:00:00Z>"
        );
        assert_eq!(plain("a\u{1b}[31mb\n\tc\r"), "a[31mb\n\tc");
    }
}
