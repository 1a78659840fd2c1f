//! The chain of gates of one update, with who set each.

use std::fmt;

use jiff::Timestamp;
use patchtide_model::{catalogue::LeafRef, state::Detection, window::Span};

use super::{
    batch::{self, Fit},
    content::{Content, asked_all_the_same, barred_by},
    context::{Context, Item, Reach},
    decide::Machine,
    gate::{Event, Gate, GateKind, Holder, Opens},
    merging::Say,
    people::OwnSchedule,
    sequence,
    words::{Due, Words, say},
};

/// The field that frees an update from windows.
const OUTSIDE: &str = "spec.settings.installation.outsideWindows";

/// Words, put together only when they are read.
struct Lazy<F>(F);

impl<F: Fn() -> Vec<String>> fmt::Display for Lazy<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&(self.0)().join(", "))
    }
}

/// The gates of an update; without words only the closed ones, which are all that anything follows from.
struct Chain {
    gates: Vec<Gate>,
    words: Words,
}

impl Chain {
    fn push(&mut self, gate: Gate) {
        if self.words.0 || !gate.is_open() {
            self.gates.push(gate);
        }
    }
}

/// The chain of an update, in the order in which the gates are passed.
pub(super) fn chain<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Vec<Gate> {
    let mut chain = Chain { gates: Vec::new(), words: context.words };
    chain.push(targeted(context, item));
    chain.push(applicable(context, item));
    if item.detection != Detection::Required {
        return chain.gates;
    }
    if let Some(by) = item.covered_by.and_then(|by| context.at(by)) {
        let by = by.id;
        let reason = say!(context, "{by} supersedes it and is installed instead");
        chain.push(Gate::open(GateKind::Content, reason));
        return chain.gates;
    }
    // Somebody stopped it: no time that comes changes that.
    let suspended = suspended(context, item);
    let held = suspended.is_some();
    chain.gates.extend(suspended);
    chain.push(content(context, machine, item));
    chain.push(available(context, item));
    chain.push(deadline(context, item));
    chain.push(window(context, machine, item));
    chain.push(restart(context, machine));
    if !held {
        chain.push(hold(context, machine, item));
    }
    chain.gates
}

/// The same gate, set by `field` of a deployment.
fn by_reach(context: &Context<'_>, gate: Gate, reach: Option<&Reach<'_>>, field: &str) -> Gate {
    gate.set_by(context.words, || reach.map(Reach::object).unwrap_or_default(), field)
}

fn targeted(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let Some(first) = context.reaching(item).next() else {
        let reason = say!(context, "no deployment reaches this client with it");
        return Gate::waiting(GateKind::Targeted, Event::Policy, reason);
    };
    let names = Lazy(|| context.reaching(item).map(Reach::object).collect());
    let gate = Gate::open(GateKind::Targeted, say!(context, "deployed by {names}"));
    by_reach(context, gate, Some(first), "spec.collection")
}

fn applicable(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Applicable;
    match item.detection {
        Detection::Required => {
            let count = item.found.map_or(0, |found| found.leaves.len());
            Gate::open(kind, say!(context, "{count} installed package(s) are older"))
        }
        Detection::Installed => Gate::open(kind, say!(context, "installed")),
        Detection::NotRequired => {
            Gate::waiting(kind, Event::Scan, say!(context, "none of its packages is installed here"))
        }
        Detection::Unknown => Gate::waiting(kind, Event::Scan, say!(context, "not scanned for yet")),
    }
}

fn content(context: &Context<'_>, machine: &Machine<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Content;
    match machine.stock.content(item.index) {
        None | Some(Content::Ready) => Gate::open(kind, say!(context, "every file is here and verified")),
        Some(Content::Unapproved(leaves)) => {
            let first = Lazy(|| {
                let named =
                    |leaf: &&LeafRef| format!("{} {} ({})", leaf.package, leaf.version, leaf.architecture);
                leaves.first().map(named).into_iter().collect()
            });
            let reason = say!(
                context,
                "the site has not approved {} package(s) that it needs, first {first}: they come with a policy once a package of the site holds them",
                leaves.len()
            );
            Gate::waiting(kind, Event::Policy, reason)
        }
        Some(Content::Missing(missing)) => {
            if missing.running > 0 {
                let reason = say!(context, "{} file(s) are being downloaded", missing.running);
                Gate::waiting(kind, Event::Download, reason)
            } else if missing.barred {
                let reason = say!(
                    context,
                    "only slow or unprotected distribution points are in reach, and not every deployment of it allows them"
                );
                let (reach, field) = barred_by(context, item).unzip();
                let gate = Gate::waiting(kind, Event::DistributionPoint, reason);
                by_reach(context, gate, reach, field.unwrap_or_default())
            } else if missing.awaited > 0 && missing.fetch.is_empty() && context.is_wanted(item) {
                let reason = say!(
                    context,
                    "waiting for content: {} file(s) are on no distribution point in reach yet; a policy says when they are, and they are asked for then all the same",
                    missing.awaited
                );
                Gate::closed(kind, Opens::At(asked_all_the_same(context)), reason)
            } else if let Some((again, problem)) = missing.retry {
                let reason = say!(context, "{}; tried again then", problem.error.message);
                Gate::closed(kind, Opens::At(again), reason)
            } else if context.is_wanted(item) {
                let reason = say!(context, "{} file(s) to download", missing.fetch.len());
                Gate::waiting(kind, Event::Download, reason)
            } else {
                let reason = say!(context, "downloaded once it is available and mandatory or asked for");
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
    let first = context.reaching(item).filter(|reach| reach.available.is_some()).min_by_key(|r| r.available);
    let (gate, reach) = match first.and_then(|reach| Some((reach, reach.available?))) {
        Some((reach, at)) if at <= context.now => {
            (Gate::open(kind, say!(context, "since {at}")), Some(reach))
        }
        Some((reach, at)) => {
            (Gate::closed(kind, Opens::At(at), say!(context, "available from {at}")), Some(reach))
        }
        None => {
            let reason = say!(context, "its available time lies beyond the end of time");
            (Gate::closed(kind, Opens::Never { longest: None }, reason), context.reaching(item).next())
        }
    };
    by_reach(context, gate, reach, "spec.settings.available")
}

fn deadline(context: &Context<'_>, item: &Item<'_>) -> Gate {
    let kind = GateKind::Deadline;
    let earliest = context.active(item).filter(|reach| reach.start.is_some()).min_by_key(|reach| reach.start);
    let object = earliest.or_else(|| context.reaching(item).next());
    let field = "spec.settings.deadline";
    if let Some(why) = &item.due {
        return by_reach(context, Gate::open(kind, say!(context, "{why}")), object, field);
    }
    let earliest = earliest.and_then(|reach| Some((reach, reach.start?)));
    if let Some(until) = context.put_off(item).filter(|until| *until <= context.start(item)) {
        let reason = say!(context, "a person asked for it, and put it off until {until:.0}");
        return by_reach(context, Gate::closed(kind, Opens::At(until), reason), object, field);
    }
    if let Some(at) = item.scheduled.filter(|at| *at <= context.start(item)) {
        let own = matches!(context.view.people.schedule, Some(OwnSchedule::At { .. }));
        let settings = &context.body.settings;
        let own = own && settings.people.user_schedule.as_ref().is_none_or(|theirs| theirs.user_may_change);
        let whose = if own { "set at this machine" } else { "of the client settings" };
        let reason = say!(context, "from {at} on by the schedule {whose}, before its own time");
        let gate = Gate::closed(kind, Opens::At(at), reason);
        return if own {
            gate
        } else {
            gate.set_by(context.words, || format!("ClientSettings/{}", settings.name), "spec.userSchedule")
        };
    }
    if let Some((at, puller)) = item.pulled.filter(|(at, _)| *at > context.now) {
        let reason = say!(context, "from {at} on {}, before its own time", Due::Pulled(puller));
        let gate = Gate::closed(kind, Opens::At(at), reason);
        return gate.set_by(context.words, || puller.object(), puller.field());
    }
    let gate = match earliest {
        Some((reach, start)) if start > context.now => {
            let spread = if reach.deadline == Some(start) {
                ""
            } else {
                " (deadline, with this client's share of the spread and its grace period)"
            };
            let reason = say!(context, "installed at {start}{spread}, the earliest of its deployments");
            Gate::closed(kind, Opens::At(start), reason)
        }
        Some(_) => {
            let reason = say!(context, "its deadline has come, but it is not available yet");
            Gate::waiting(kind, Event::Policy, reason)
        }
        None => {
            let reason = say!(context, "optional: installed when a person asks for it");
            Gate::waiting(kind, Event::PersonAsks, reason)
        }
    };
    by_reach(context, gate, object, field)
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
    if from == context.now && machine.candidates.contains(&item.index) && sequence::is_one(context, &unit) {
        let waiting = batch::members(context, &machine.candidates);
        let waiting = waiting.map(|other| machine.stock.closure(other).into_owned());
        let waiting = waiting.filter(|other| sequence::is_one(context, other)).collect();
        return sequence::fit_in_turn(context, &unit, waiting);
    }
    machine.stock.fit(context, item)
}

fn window<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Window;
    if context.installs.is_free() {
        return Gate::open(kind, say!(context, "no maintenance window selects this client"));
    }
    let from = context.install_from(item);
    let (unit, fit) = (machine.stock.closure(item), fits(context, machine, item));
    // What will be reckoned with when it goes.
    let at = if let Fit::At(span) = fit { span.start } else { from };
    let needs = Lazy(|| {
        let need = if let Fit::Never { need, .. } = fit { need } else { batch::need(context, &unit, at) };
        let needs = format!("it needs {need:#} with the restart that may follow");
        vec![match context.outside_windows(item, at) {
            Say::Refused { by, against: Some(against) } => {
                let (by, against) = (by.object(), against.object());
                format!("{needs}; {by} {OUTSIDE} keeps it to windows, though {against} does not")
            }
            _ => needs,
        }]
    });
    let by_window = |gate: Gate, at: Timestamp, field: &str| {
        gate.set_by(context.words, || window_name(context, at), field)
    };
    let freed_by = |at: Timestamp| match context.outside_windows(item, at) {
        Say::Allowed(reach) => Some(reach),
        Say::Refused { .. } | Say::Nobody => None,
    };
    match fit {
        Fit::Free => {
            let gate = Gate::open(kind, say!(context, "installed outside windows"));
            by_reach(context, gate, freed_by(from), OUTSIDE)
        }
        Fit::FreeFrom(start) => {
            let reason = say!(context, "installed outside windows from {start} on; {needs}");
            by_reach(context, Gate::closed(kind, Opens::At(start), reason), freed_by(start), OUTSIDE)
        }
        Fit::Now { until } if from == context.now => {
            let until = Lazy(|| until.map(|until| format!(" until {until}")).into_iter().collect());
            by_window(Gate::open(kind, say!(context, "open{until}; {needs}")), from, "spec.recurrence")
        }
        Fit::Now { .. } => {
            let reason = say!(context, "open at its deadline; {needs}");
            by_window(Gate::closed(kind, Opens::At(from), reason), from, "spec.recurrence")
        }
        Fit::At(span) => {
            let reason = say!(context, "waits for the window from {} to {}; {needs}", span.start, span.end);
            by_window(Gate::closed(kind, Opens::At(span.start), reason), span.start, "spec.recurrence")
        }
        Fit::Never { longest, .. } => {
            let longest_text = Lazy(|| vec![longest_in_words(longest)]);
            let reason = say!(context, "no window is long enough: {needs}, {longest_text}");
            by_window(Gate::closed(kind, Opens::Never { longest }, reason), from, "spec.duration")
        }
    }
}

/// The longest opening there is.
pub(super) fn longest_in_words(longest: Option<Span>) -> String {
    longest.map_or_else(|| "none ever opens".to_owned(), |span| format!("the longest is {:#}", span.length()))
}

fn restart(context: &Context<'_>, machine: &Machine<'_>) -> Gate {
    let kind = GateKind::Restart;
    match &machine.restart {
        Some(restart) if restart.comes_first() => {
            let causes = Lazy(|| restart.causes.iter().map(|item| item.id.to_string()).collect());
            let reason = say!(context, "the machine restarts first, because of {causes}");
            Gate::waiting(kind, Event::Restart, reason)
        }
        _ => Gate::open(kind, say!(context, "no restart has to come first")),
    }
}

/// The hold of an update whose deployments are all suspended.
fn suspended<'a>(context: &Context<'a>, item: &Item<'a>) -> Option<Gate> {
    let first = context.reaching(item).next().filter(|_| item.place.active.is_empty())?;
    let gate = Gate::waiting(GateKind::Hold, Event::Policy, say!(context, "suspended"));
    Some(by_reach(context, gate, Some(first), "spec.suspend").held_by(Holder::Suspended))
}

fn hold<'a>(context: &Context<'a>, machine: &Machine<'a>, item: &Item<'a>) -> Gate {
    let kind = GateKind::Hold;
    if let Some((until, attempt)) = context.backing_off(item) {
        let reason = say!(
            context,
            "failed {} time(s), last at {}: {}; tried again then, at a re-evaluation, or when what is offered changes",
            attempt.count,
            attempt.at,
            attempt.error.message
        );
        let holder = Holder::Failed { count: attempt.count, at: attempt.at };
        return Gate::closed(kind, Opens::At(until), reason).held_by(holder);
    }
    if let Some(since) = context.fell_below(item) {
        let reason = say!(
            context,
            "it was installed and is older again: the re-evaluation heals it, a person's word at once"
        );
        // A re-evaluation begins with a scan; one that failed is not tried again before its time.
        let heals =
            machine.scans.retry_at.map_or(machine.scans.evaluation, |at| at.max(machine.scans.evaluation));
        // One that is due waits for what runs now.
        let gate = if heals > context.now {
            Gate::closed(kind, Opens::At(heals), reason)
        } else {
            Gate::waiting(kind, Event::Scan, reason)
        };
        return gate.held_by(Holder::FellBelow { since });
    }
    if let Some(gate) = &machine.hold {
        return gate.clone();
    }
    if item.due.is_some() && !machine.chosen.is_empty() && !machine.chosen.contains(&item.index) {
        let holder = Holder::Batch { updates: machine.chosen.len() };
        let reason = say!(context, "another batch goes first");
        return Gate::waiting(kind, Event::TransactionEnds, reason).held_by(holder);
    }
    if item.due.is_some() && machine.chosen.is_empty() && !machine.candidates.contains(&item.index) {
        let closure = machine.stock.closure(item);
        let other = closure.iter().find(|index| {
            **index != item.index
                && (!machine.stock.is_ready(**index)
                    || context.at(**index).is_some_and(|other| {
                        !context.is_available(other)
                            || context.backing_off(other).is_some()
                            || context.fell_below(other).is_some()
                    }))
        });
        if let Some(other) = other.and_then(|index| context.at(*index)) {
            let reason = say!(context, "{} has to come with it and is not ready", other.id);
            return Gate::waiting(kind, Event::Policy, reason)
                .held_by(Holder::Update { update: other.id.clone() });
        }
    }
    Gate::open(kind, say!(context, "nothing holds it"))
}
