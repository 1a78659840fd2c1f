//! The events of a scenario.

use std::collections::BTreeSet;

use jiff::{Timestamp, civil};
use patchtide_intent::yaml::{document::Node, schema::Schemas};
use patchtide_model::{UpdateId, catalogue::Leaf, glob::glob, people::UserSchedule};
use patchtide_planner::sim::{Happening, Wish};

use super::{
    fields::{Fault, Fields, Read, Times, duration, flag, list, text},
    scenario::{self, Object, Open, UpdateSpec},
};

/// Something that happens.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Objects are applied.
    Apply(Vec<Object>),
    /// An object is deleted.
    Delete { kind: String, name: String },
    /// A deployment is held, or not.
    Suspend { name: String, suspend: bool },
    /// An update appears.
    NewUpdate(Box<UpdateSpec>),
    /// An update expires.
    Expire(UpdateId),
    /// An update is revised: these are its packages.
    Revise { id: UpdateId, leaves: Vec<Leaf> },
    /// The files of an update reach the distribution points.
    ContentArrives(UpdateId),
    /// Facts of clients change.
    Facts { clients: BTreeSet<String>, facts: Vec<(String, Option<String>)> },
    /// Something happens to clients.
    Clients { clients: BTreeSet<String>, happening: Happening },
}

/// What events are read with.
pub(crate) struct Context<'a> {
    pub times: &'a Times,
    pub schemas: &'a Schemas,
    pub open: Open<'a>,
    pub names: &'a BTreeSet<&'a str>,
}

/// The clients that a name or a pattern means.
pub(crate) fn clients(node: &Node, names: &BTreeSet<&str>) -> Read<BTreeSet<String>> {
    let pattern = text(node)?;
    let found: BTreeSet<String> =
        names.iter().filter(|name| glob(pattern, name)).map(|name| (*name).to_owned()).collect();
    if found.is_empty() {
        return Err(Fault::at(node, format!("there is no client {pattern}")));
    }
    Ok(found)
}

/// Reads an event.
pub(crate) fn event(node: &Node, context: &Context<'_>) -> Read<(Timestamp, Event)> {
    let fields = Fields::of(node, "an event")?;
    let at = super::fields::time(fields.need("at")?, context.times)?;
    let event = if let Some(objects) = fields.get("apply") {
        Event::Apply(scenario::objects(&list(objects, 200)?, context.schemas, context.open)?)
    } else if let Some(object) = fields.get("delete") {
        let (kind, name) = reference(object)?;
        Event::Delete { kind, name }
    } else if let Some(name) = fields.get("suspend") {
        Event::Suspend { name: text(name)?.to_owned(), suspend: true }
    } else if let Some(name) = fields.get("resume") {
        Event::Suspend { name: text(name)?.to_owned(), suspend: false }
    } else if let Some(update) = fields.get("newUpdate") {
        Event::NewUpdate(Box::new(UpdateSpec { at, ..scenario::update(update, context.times)? }))
    } else if let Some(id) = fields.get("expire") {
        Event::Expire(scenario::identity(id)?)
    } else if let Some(id) = fields.get("revise") {
        let packages = fields.map("packages", 500)?;
        let leaves = packages.into_iter().map(|(name, version)| Ok(scenario::leaf(name, text(version)?)));
        Event::Revise { id: scenario::identity(id)?, leaves: leaves.collect::<Read<_>>()? }
    } else if let Some(id) = fields.get("contentArrives") {
        Event::ContentArrives(scenario::identity(id)?)
    } else if let Some(name) = fields.get("client") {
        let clients = clients(name, context.names)?;
        if fields.get("facts").is_some() {
            let mut facts = Vec::new();
            for (key, value) in fields.map("facts", 200)? {
                facts.push((key.to_owned(), Some(text(value)?.to_owned())));
            }
            Event::Facts { clients, facts }
        } else {
            Event::Clients { clients, happening: happening(&fields, at, context.times)? }
        }
    } else {
        return Err(Fault::at(
            node,
            "an event says what happens: apply, delete, suspend, resume, newUpdate, expire, revise, contentArrives, or client",
        ));
    };
    fields.done()?;
    Ok((at, event))
}

/// `Kind/name`.
fn reference(node: &Node) -> Read<(String, String)> {
    text(node)?
        .split_once('/')
        .map(|(kind, name)| (kind.to_owned(), name.to_owned()))
        .ok_or_else(|| Fault::at(node, "write Kind/name, for example UpdateDeployment/pilot"))
}

fn happening(fields: &Fields<'_>, at: Timestamp, times: &Times) -> Read<Happening> {
    let node = fields.need("does")?;
    let back = scenario::back(fields)?;
    Ok(match text(node)? {
        "kill-agent" => Happening::AgentKilled { back },
        "kill-agent-midway" => Happening::AgentKilledMidway { back },
        "power-cut" => Happening::PowerCut { back },
        "restart" => Happening::Restarted,
        "close-lid" => Happening::Suspended,
        "open-lid" => Happening::Resumed,
        "clock-jump" => Happening::ClockJump { by: duration(fields.need("by")?)? },
        "network" => Happening::Online(flag(fields.need("online")?)?),
        "install-now" => {
            let ids = fields.list("updates", 200)?.into_iter().map(scenario::identity);
            Happening::InstallNow(ids.collect::<Read<_>>()?)
        }
        "schedule" => Happening::Asks(schedule(fields)?),
        "postpone" => Happening::Asks(Wish::Postpone(match fields.duration("for")? {
            Some(length) => Some(
                at.checked_add(length).map_err(|_| Fault::at(node, "is put off beyond the end of time"))?,
            ),
            None => fields.time("until", times)?,
        })),
        "restart-now" => Happening::Asks(Wish::Restart),
        "scan" => Happening::ScanNow,
        "evaluate" => Happening::EvaluateNow,
        "change-package" => Happening::PackageChanged {
            package: text(fields.need("package")?)?.to_owned(),
            version: fields.text("version")?.map(ToOwned::to_owned),
        },
        "behave" => Happening::Behaves(Box::new(scenario::behaviour(fields.get("behaviour"))?)),
        _ => {
            return Err(Fault::at(
                node,
                "is one of kill-agent, kill-agent-midway, power-cut, restart, close-lid, open-lid, clock-jump, network, install-now, schedule, postpone, restart-now, scan, evaluate, change-package, behave",
            ));
        }
    })
}

const WEEKDAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// A schedule of a person's own: a `time`, perhaps `weekdays`; or `none: true`, or `usual: true`.
fn schedule(fields: &Fields<'_>) -> Read<Wish> {
    if fields.flag("none")?.unwrap_or_default() {
        return Ok(Wish::NoSchedule);
    }
    if fields.flag("usual")?.unwrap_or_default() {
        return Ok(Wish::UsualSchedule);
    }
    let node = fields.need("time")?;
    let time: civil::Time =
        text(node)?.parse().map_err(|_| Fault::at(node, "is no time of day: write it as \"12:30\""))?;
    let mut weekdays = BTreeSet::new();
    for node in fields.list("weekdays", 7)? {
        let day = text(node)?;
        let found = (1_u8..).zip(WEEKDAYS).find(|(_, name)| *name == day);
        let (number, _) =
            found.ok_or_else(|| Fault::at(node, format!("is no weekday: write {}", WEEKDAYS.join(", "))))?;
        weekdays.insert(number);
    }
    Ok(Wish::Schedule(UserSchedule { time, weekdays, user_may_change: true }))
}
