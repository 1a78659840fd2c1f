//! The chain of gates of one update, with who set each.

use jiff::Timestamp;
use patchtide_model::{UpdateId, state::Detection};

use super::{
    batch::{self, Fit},
    content::{Content, asked_all_the_same, barred_by},
    context::{Context, Item, Reach},
    decide::Machine,
    decision::{Event, Gate, GateKind, Holder, Opens},
    merging::Say,
    sequence,
};

/// The chain of an update, in the order in which the gates are passed.
pub(super) fn chain<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Vec<Gate> {
    let mut chain = vec![targeted(context, item), applicable(item)];
    if item.detection != Detection::Required {
        return chain;
    }
    if let Some(by) = item.covered_by {
        chain.push(Gate::open(GateKind::Content, format!("{by} supersedes it and is installed instead")));
        return chain;
    }
    chain.push(content(context, machine, item));
    chain.push(available(context, item));
    chain.push(deadline(context, item));
    chain.push(window(context, machine, item));
    chain.push(restart(machine));
    chain.push(hold(context, machine, item));
    chain
}

fn targeted(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let names: Vec<String> = context.reaching(item).map(Reach::object).collect();
    let Some(first) = names.first() else {
        let reason = "no deployment reaches this client with it";
        return Gate::waiting(GateKind::Targeted, Event::Policy, reason);
    };
    Gate::open(GateKind::Targeted, format!("deployed by {}", names.join(", ")))
        .by(first.clone(), "spec.collection")
}

fn applicable(item: &Item<'_>) -> Gate {
    let kind = GateKind::Applicable;
    match item.detection {
        Detection::Required => {
            let count = item.found.map_or(0, |found| found.leaves.len());
            Gate::open(kind, format!("{count} installed package(s) are older"))
        }
        Detection::Installed => Gate::open(kind, "installed"),
        Detection::NotRequired => Gate::waiting(kind, Event::Scan, "none of its packages is installed here"),
        Detection::Unknown => Gate::waiting(kind, Event::Scan, "not scanned for yet"),
    }
}

fn content(context: &Context<'_>, machine: &Machine<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Content;
    match machine.stock.content.get(item.id) {
        None | Some(Content::Ready) => Gate::open(kind, "every file is here and verified"),
        Some(Content::Unapproved(leaves)) => {
            let first = leaves
                .first()
                .map(|leaf| format!("{} {} ({})", leaf.package, leaf.version, leaf.architecture));
            let reason = format!(
                "the site has not approved {} package(s) that it needs, first {}: they come with a policy once a package of the site holds them",
                leaves.len(),
                first.unwrap_or_default()
            );
            Gate::waiting(kind, Event::Policy, reason)
        }
        Some(Content::Missing(missing)) => {
            if missing.running > 0 {
                let reason = format!("{} file(s) are being downloaded", missing.running);
                Gate::waiting(kind, Event::Download, reason)
            } else if missing.barred {
                let reason = "only slow or unprotected distribution points are in reach, and not every deployment of it allows them";
                let (object, field) = barred_by(context, item).unwrap_or_default();
                Gate::waiting(kind, Event::DistributionPoint, reason).by(object, field)
            } else if missing.awaited > 0 && missing.fetch.is_empty() && context.is_wanted(item) {
                let reason = format!(
                    "waiting for content: {} file(s) are on no distribution point in reach yet; a policy says when they are, and they are asked for then all the same",
                    missing.awaited
                );
                Gate::closed(kind, Opens::At(asked_all_the_same(context)), reason)
            } else if let Some((again, problem)) = missing.retry {
                let reason = format!("{}; tried again then", problem.error.message);
                Gate::closed(kind, Opens::At(again), reason)
            } else if context.is_wanted(item) {
                let reason = format!("{} file(s) to download", missing.fetch.len());
                Gate::waiting(kind, Event::Download, reason)
            } else {
                let reason = "downloaded once it is available and mandatory or asked for";
                match context.active(item).filter_map(|reach| reach.available).min() {
                    Some(at) if at > context.now => Gate::closed(kind, Opens::At(at), reason),
                    _ => Gate::waiting(kind, Event::PersonAsks, reason),
                }
            }
        }
    }
}

fn available(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Available;
    let field = "spec.settings.available";
    let first = context.reaching(item).filter(|reach| reach.available.is_some()).min_by_key(|r| r.available);
    match first.and_then(|reach| Some((reach, reach.available?))) {
        Some((reach, at)) if at <= context.now => {
            Gate::open(kind, format!("since {at}")).by(reach.object(), field)
        }
        Some((reach, at)) => {
            Gate::closed(kind, Opens::At(at), format!("available from {at}")).by(reach.object(), field)
        }
        None => {
            let object = context.reaching(item).next().map(Reach::object).unwrap_or_default();
            let reason = "its available time lies beyond the end of time";
            Gate::closed(kind, Opens::Never { longest: None }, reason).by(object, field)
        }
    }
}

fn deadline(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Deadline;
    let field = "spec.settings.deadline";
    let earliest = context.active(item).filter(|reach| reach.start.is_some()).min_by_key(|reach| reach.start);
    let object = earliest.or_else(|| context.reaching(item).next()).map(Reach::object).unwrap_or_default();
    if let Some(why) = &item.due {
        return Gate::open(kind, why.clone()).by(object, field);
    }
    match earliest.and_then(|reach| Some((reach, reach.start?))) {
        Some((reach, start)) if start > context.now => {
            let spread = if reach.deadline == Some(start) {
                ""
            } else {
                " (deadline, with this client's share of the spread and its grace period)"
            };
            let reason = format!("installed at {start}{spread}, the earliest of its deployments");
            Gate::closed(kind, Opens::At(start), reason)
        }
        Some(_) => Gate::waiting(kind, Event::Policy, "its deadline has come, but it is not available yet"),
        None => Gate::waiting(kind, Event::PersonAsks, "optional: installed when a person asks for it"),
    }
    .by(object, field)
}

fn window_name(context: &Context<'_>, at: Timestamp) -> String {
    let governing = context.installs.governing(at);
    governing
        .first()
        .copied()
        .or_else(|| context.installs.windows().next())
        .map(|window| format!("MaintenanceWindow/{}", window.name))
        .unwrap_or_default()
}

/// Whether and when the update with what has to come along fits; one whose installer runs by itself, behind those that
/// go before it.
pub(super) fn fits<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Fit {
    let unit = machine.stock.closure(item);
    let from = context.install_from(item);
    if from == context.now && machine.candidates.contains(item.id) && sequence::is_one(context, &unit) {
        let waiting = batch::members(context, &machine.candidates).map(|other| machine.stock.closure(other));
        let waiting = waiting.filter(|other| sequence::is_one(context, other)).collect();
        return sequence::fit_in_turn(context, &unit, waiting);
    }
    batch::fit(context, &unit, from)
}

fn window<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Window;
    if context.installs.is_free() {
        return Gate::open(kind, "no maintenance window selects this client");
    }
    let from = context.install_from(item);
    let need = batch::need(context, &machine.stock.closure(item));
    let mut needs = format!("it needs {need:#} with the restart that may follow");
    let field = "spec.settings.installation.outsideWindows";
    if let Say::Refused { by, against: Some(against) } = context.outside_windows(item, from) {
        let (by, against) = (by.object(), against.object());
        needs = format!("{needs}; {by} {field} keeps it to windows, though {against} does not");
    }
    match fits(context, machine, item) {
        Fit::Free => {
            let object = match context.outside_windows(item, from) {
                Say::Allowed(reach) => reach.object(),
                Say::Refused { .. } | Say::Nobody => String::new(),
            };
            Gate::open(kind, "installed outside windows").by(object, field)
        }
        Fit::Now { until } if from == context.now => {
            let until = until.map_or_else(String::new, |until| format!(" until {until}"));
            Gate::open(kind, format!("open{until}; {needs}"))
                .by(window_name(context, from), "spec.recurrence")
        }
        Fit::Now { .. } => Gate::closed(kind, Opens::At(from), format!("open at its deadline; {needs}"))
            .by(window_name(context, from), "spec.recurrence"),
        Fit::At(span) => {
            let reason = format!("waits for the window from {} to {}; {needs}", span.start, span.end);
            Gate::closed(kind, Opens::At(span.start), reason)
                .by(window_name(context, span.start), "spec.recurrence")
        }
        Fit::Never { longest } => {
            let longest_text = longest.map_or_else(
                || "none ever opens".to_owned(),
                |span| format!("the longest is {:#}", span.length()),
            );
            let reason = format!("no window is long enough: {needs}, {longest_text}");
            Gate::closed(kind, Opens::Never { longest }, reason)
                .by(window_name(context, from), "spec.duration")
        }
    }
}

fn restart(machine: &Machine<'_>) -> Gate {
    let kind = GateKind::Restart;
    match &machine.restart {
        Some(restart) if restart.comes_first() => {
            let reason = format!("the machine restarts first, because of {}", names(&restart.causes));
            Gate::waiting(kind, Event::Restart, reason)
        }
        _ => Gate::open(kind, "no restart has to come first"),
    }
}

fn names(ids: &[&UpdateId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hold<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Hold;
    if item.active.is_empty() {
        let object = context.reaching(item).next().map(Reach::object).unwrap_or_default();
        return Gate::waiting(kind, Event::Policy, "suspended")
            .by(object, "spec.suspend")
            .held_by(Holder::Suspended);
    }
    if let Some((until, attempt)) = context.backing_off(item) {
        let reason = format!(
            "failed {} time(s), last at {}: {}; tried again then, at a re-evaluation, or when what is offered changes",
            attempt.count, attempt.at, attempt.error.message
        );
        let holder = Holder::Failed { count: attempt.count, at: attempt.at };
        return Gate::closed(kind, Opens::At(until), reason).held_by(holder);
    }
    if let Some(since) = context.fell_below(item) {
        let reason =
            "it was installed and is older again: the re-evaluation heals it, a person's word at once";
        return Gate::closed(kind, Opens::At(machine.scans.evaluation), reason)
            .held_by(Holder::FellBelow { since });
    }
    if let Some(gate) = &machine.hold {
        return gate.clone();
    }
    if item.due.is_some() && !machine.chosen.is_empty() && !machine.chosen.contains(item.id) {
        let holder = Holder::Batch { updates: machine.chosen.len() };
        return Gate::waiting(kind, Event::TransactionEnds, "another batch goes first").held_by(holder);
    }
    if item.due.is_some() && machine.chosen.is_empty() && !machine.candidates.contains(item.id) {
        let closure = machine.stock.closure(item);
        let other = closure.iter().find(|id| {
            **id != item.id
                && (!machine.stock.content.get(*id).is_some_and(Content::is_ready)
                    || context.items.get(*id).is_some_and(|other| {
                        !context.is_available(other)
                            || context.backing_off(other).is_some()
                            || context.fell_below(other).is_some()
                    }))
        });
        if let Some(other) = other {
            return Gate::waiting(
                kind,
                Event::Policy,
                format!("{other} has to come with it and is not ready"),
            )
            .held_by(Holder::Update { update: (*other).clone() });
        }
    }
    Gate::open(kind, "nothing holds it")
}
