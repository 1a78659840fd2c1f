//! The chain of gates of one update, with who set each.

use jiff::Timestamp;
use patchtide_model::{UpdateId, state::Detection};

use super::{
    batch::{self, Fit},
    content::{Content, asked_all_the_same},
    context::{Context, Item, Reach},
    decide::Machine,
    decision::{Gate, GateKind, GateStatus, Opens},
};

fn gate(kind: GateKind, status: GateStatus, reason: impl Into<String>) -> Gate {
    Gate { kind, status, object: String::new(), field: String::new(), reason: reason.into() }
}

fn open(kind: GateKind, reason: impl Into<String>) -> Gate {
    gate(kind, GateStatus::Open, reason)
}

fn closed(kind: GateKind, opens: Opens, reason: impl Into<String>) -> Gate {
    gate(kind, GateStatus::Closed(opens), reason)
}

impl Gate {
    fn by(mut self, object: impl Into<String>, field: &str) -> Self {
        self.object = object.into();
        field.clone_into(&mut self.field);
        self
    }
}

/// The chain of an update, in the order in which the gates are passed.
pub(super) fn chain<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Vec<Gate> {
    let mut chain = vec![targeted(context, item), applicable(item)];
    if item.detection != Detection::Required {
        return chain;
    }
    if let Some(by) = item.covered_by {
        chain.push(open(GateKind::Content, format!("{by} supersedes it and is installed instead")));
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
    match names.first() {
        Some(first) => {
            let field = "spec.collection";
            open(GateKind::Targeted, format!("deployed by {}", names.join(", "))).by(first.clone(), field)
        }
        None => closed(GateKind::Targeted, Opens::OnEvent, "no deployment reaches this client with it"),
    }
}

fn applicable(item: &Item<'_>) -> Gate {
    let kind = GateKind::Applicable;
    match item.detection {
        Detection::Required => {
            let count = item.found.map_or(0, |found| found.leaves.len());
            open(kind, format!("{count} installed package(s) are older"))
        }
        Detection::Installed => open(kind, "installed"),
        Detection::NotRequired => closed(kind, Opens::OnEvent, "none of its packages is installed here"),
        Detection::Unknown => closed(kind, Opens::OnEvent, "not scanned for yet"),
    }
}

fn content(context: &Context<'_>, machine: &Machine<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Content;
    match machine.stock.content.get(item.id) {
        None | Some(Content::Ready) => open(kind, "every file is here and verified"),
        Some(Content::Unapproved(leaves)) => {
            let first = leaves
                .first()
                .map(|leaf| format!("{} {} ({})", leaf.package, leaf.version, leaf.architecture));
            closed(
                kind,
                Opens::OnEvent,
                format!(
                    "the site has not approved {} package(s) that it needs, first {}: they come with a policy once a package of the site holds them",
                    leaves.len(),
                    first.unwrap_or_default()
                ),
            )
        }
        Some(Content::Missing(missing)) => {
            if missing.running > 0 {
                closed(kind, Opens::OnEvent, format!("{} file(s) are being downloaded", missing.running))
            } else if missing.barred {
                let object = context.active(item).next().map(Reach::object).unwrap_or_default();
                closed(
                    kind,
                    Opens::OnEvent,
                    "only slow or unprotected distribution points are in reach, and no deployment of it allows them",
                )
                .by(object, "spec.settings.download")
            } else if missing.awaited > 0 && missing.fetch.is_empty() && context.is_wanted(item) {
                closed(
                    kind,
                    Opens::At(asked_all_the_same(context)),
                    format!(
                        "waiting for content: {} file(s) are on no distribution point in reach yet; a policy says when they are, and they are asked for then all the same",
                        missing.awaited
                    ),
                )
            } else if let Some((again, problem)) = missing.retry {
                closed(kind, Opens::At(again), format!("{}; tried again then", problem.error.message))
            } else if context.is_wanted(item) {
                closed(kind, Opens::OnEvent, format!("{} file(s) to download", missing.fetch.len()))
            } else {
                closed(kind, Opens::OnEvent, "downloaded once it is available and mandatory or asked for")
            }
        }
    }
}

fn available(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Available;
    let field = "spec.settings.available";
    let first = context.reaching(item).filter(|reach| reach.available.is_some()).min_by_key(|r| r.available);
    match first.and_then(|reach| Some((reach, reach.available?))) {
        Some((reach, at)) if at <= context.now => open(kind, format!("since {at}")).by(reach.object(), field),
        Some((reach, at)) => {
            closed(kind, Opens::At(at), format!("available from {at}")).by(reach.object(), field)
        }
        None => {
            let object = context.reaching(item).next().map(Reach::object).unwrap_or_default();
            closed(kind, Opens::Never { longest: None }, "its available time lies beyond the end of time")
                .by(object, field)
        }
    }
}

fn deadline(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Deadline;
    let field = "spec.settings.deadline";
    let earliest = context.active(item).filter(|reach| reach.start.is_some()).min_by_key(|reach| reach.start);
    let object = earliest.or_else(|| context.reaching(item).next()).map(Reach::object).unwrap_or_default();
    if let Some(why) = &item.due {
        return open(kind, why.clone()).by(object, field);
    }
    match earliest.and_then(|reach| Some((reach, reach.start?))) {
        Some((reach, start)) if start > context.now => {
            let spread = if reach.deadline == Some(start) {
                ""
            } else {
                " (deadline, with this client's share of the spread and its grace period)"
            };
            closed(
                kind,
                Opens::At(start),
                format!("installed at {start}{spread}, the earliest of its deployments"),
            )
        }
        Some(_) => closed(kind, Opens::OnEvent, "its deadline has come, but it is not available yet"),
        None => closed(kind, Opens::OnEvent, "optional: installed when a person asks for it"),
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

/// Whether and when the update with what has to come along fits.
pub(super) fn fits<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Fit {
    batch::fit(context, &machine.stock.closure(item), context.install_from(item))
}

fn window<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Window;
    if context.installs.is_free() {
        return open(kind, "no maintenance window selects this client");
    }
    let from = context.install_from(item);
    let need = batch::need(context, &machine.stock.closure(item));
    let needs = format!("it needs {need:#} with the restart that may follow");
    match fits(context, machine, item) {
        Fit::Free => {
            let allowing = context.active(item).find(|reach| reach.policy.settings.install_outside_windows);
            open(kind, "installed outside windows").by(
                allowing.map(Reach::object).unwrap_or_default(),
                "spec.settings.installation.outsideWindows",
            )
        }
        Fit::Now { until } if from == context.now => {
            let until = until.map_or_else(String::new, |until| format!(" until {until}"));
            open(kind, format!("open{until}; {needs}")).by(window_name(context, from), "spec.recurrence")
        }
        Fit::Now { .. } => closed(kind, Opens::At(from), format!("open at its deadline; {needs}"))
            .by(window_name(context, from), "spec.recurrence"),
        Fit::At(span) => closed(
            kind,
            Opens::At(span.start),
            format!("waits for the window from {} to {}; {needs}", span.start, span.end),
        )
        .by(window_name(context, span.start), "spec.recurrence"),
        Fit::Never { longest } => {
            let longest_text = longest.map_or_else(
                || "none ever opens".to_owned(),
                |span| format!("the longest is {:#}", span.length()),
            );
            closed(
                kind,
                Opens::Never { longest },
                format!("no window is long enough: {needs}, {longest_text}"),
            )
            .by(window_name(context, from), "spec.duration")
        }
    }
}

fn restart(machine: &Machine<'_>) -> Gate {
    let kind = GateKind::Restart;
    match &machine.restart {
        Some(restart) if restart.comes_first() => closed(
            kind,
            Opens::OnEvent,
            format!("the machine restarts first, because of {}", names(&restart.causes)),
        ),
        _ => open(kind, "no restart has to come first"),
    }
}

fn names(ids: &[&UpdateId]) -> String {
    ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn hold<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Hold;
    if item.active.is_empty() {
        let object = context.reaching(item).next().map(Reach::object).unwrap_or_default();
        return closed(kind, Opens::OnEvent, "suspended").by(object, "spec.suspend");
    }
    if let Some((until, attempt)) = context.backing_off(item) {
        return closed(
            kind,
            Opens::At(until),
            format!(
                "failed {} time(s), last at {}: {}; tried again then, at a re-evaluation, or when what is offered changes",
                attempt.count, attempt.at, attempt.error.message
            ),
        );
    }
    if let Some(gate) = &machine.hold {
        return gate.clone();
    }
    if item.due.is_some() && !machine.chosen.is_empty() && !machine.chosen.contains(item.id) {
        return closed(kind, Opens::OnEvent, "another batch goes first");
    }
    if item.due.is_some() && machine.chosen.is_empty() && !machine.candidates.contains(item.id) {
        let closure = machine.stock.closure(item);
        let other = closure.iter().find(|id| {
            **id != item.id
                && (!machine.stock.content.get(*id).is_some_and(Content::is_ready)
                    || context.items.get(*id).is_some_and(|other| {
                        !context.is_available(other) || context.backing_off(other).is_some()
                    }))
        });
        if let Some(other) = other {
            return closed(kind, Opens::OnEvent, format!("{other} has to come with it and is not ready"));
        }
    }
    open(kind, "nothing holds it")
}
