//! What a scenario expects, and whether it is so.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_intent::yaml::document::Node;
use patchtide_model::{ObjectName, UpdateId};
use patchtide_planner::{
    client::{Action, GateStatus, Opens},
    sim::{Outage, What, World},
};

use super::{
    fields::{Fault, Fields, Read, Times, number, text},
    happen::clients,
    scenario::{CLIENTS, identity},
};

/// One expectation.
#[derive(Debug, Clone)]
pub(crate) struct Expectation {
    pub at: Timestamp,
    /// Its line in the file.
    pub line: u64,
    pub check: Check,
}

/// What is expected.
#[derive(Debug, Clone)]
pub(crate) enum Check {
    /// The state of an update on clients, and what it waits for.
    Update { clients: BTreeSet<String>, id: UpdateId, wanted: State },
    /// The state of a deployment on clients.
    Deployment { clients: BTreeSet<String>, name: String, wanted: State },
    /// The numbers of a deployment.
    Numbers { name: ObjectName, wanted: BTreeMap<String, i64> },
    /// Versions of packages; none: not installed.
    Packages { clients: BTreeSet<String>, packages: BTreeMap<String, Option<String>> },
    /// So many restarts so far, whoever made them.
    Restarts { clients: BTreeSet<String>, count: usize },
    /// So many installations so far.
    Installations { clients: BTreeSet<String>, count: usize },
    /// Nothing was downloaded, installed or restarted since then.
    Nothing { clients: BTreeSet<String>, since: Timestamp },
}

/// A state with what is said about it.
#[derive(Debug, Clone, Default)]
#[expect(clippy::struct_field_names, reason = "they are the fields of the file")]
pub(crate) struct State {
    pub state: Option<String>,
    pub detection: Option<String>,
    pub compliance: Option<String>,
    pub waits_for: Option<String>,
    pub because_of: Option<String>,
    pub until: Option<Timestamp>,
}

/// Reads an entry; it may hold several expectations.
pub(crate) fn expectation(node: &Node, times: &Times, names: &BTreeSet<&str>) -> Read<Vec<Expectation>> {
    let fields = Fields::of(node, "an expectation")?;
    let at = super::fields::time(fields.need("at")?, times)?;
    let mut checks = Vec::new();
    let deployment = fields.text("deployment")?.map(ToOwned::to_owned);
    if let Some(pattern) = fields.get("client") {
        let clients = clients(pattern, names)?;
        let wanted = State {
            state: fields.text("state")?.map(ToOwned::to_owned),
            detection: fields.text("detection")?.map(ToOwned::to_owned),
            compliance: fields.text("compliance")?.map(ToOwned::to_owned),
            waits_for: fields.text("waitsFor")?.map(ToOwned::to_owned),
            because_of: fields.text("becauseOf")?.map(ToOwned::to_owned),
            until: fields.time("until", times)?,
        };
        if let Some(id) = fields.get("update") {
            checks.push(Check::Update {
                clients: clients.clone(),
                id: identity(id)?,
                wanted: wanted.clone(),
            });
        }
        if let Some(name) = deployment {
            checks.push(Check::Deployment { clients: clients.clone(), name, wanted });
        }
        let packages = fields.map("packages", 1_000)?;
        if !packages.is_empty() {
            let packages = packages.into_iter().map(|(package, version)| {
                let version = text(version)?;
                Ok((package.to_owned(), (version != "absent").then(|| version.to_owned())))
            });
            checks
                .push(Check::Packages { clients: clients.clone(), packages: packages.collect::<Read<_>>()? });
        }
        let count = |field: &str| -> Read<Option<usize>> {
            Ok(fields.number(field, 10_000)?.map(|count| usize::try_from(count).unwrap_or(usize::MAX)))
        };
        if let Some(count) = count("restarts")? {
            checks.push(Check::Restarts { clients: clients.clone(), count });
        }
        if let Some(count) = count("installations")? {
            checks.push(Check::Installations { clients: clients.clone(), count });
        }
        if let Some(since) = fields.time("nothingSince", times)? {
            checks.push(Check::Nothing { clients, since });
        }
    } else if let Some(name) = deployment {
        let name = ObjectName::new(name).map_err(|error| Fault::at(node, error.to_string()))?;
        let mut wanted = BTreeMap::new();
        let most = i64::try_from(CLIENTS).unwrap_or(i64::MAX);
        for field in ["targeted", "compliant", "compliantPercent", "neverReported"] {
            wanted.extend(fields.number(field, most)?.map(|count| (field.to_owned(), count)));
        }
        for (state, count) in fields.map("states", 11)? {
            wanted.insert(state.to_owned(), number(count, most)?);
        }
        checks.push(Check::Numbers { name, wanted });
    }
    if checks.is_empty() {
        return Err(Fault::at(
            node,
            "an expectation is about a client (with update, deployment, packages, restarts, installations or nothingSince) or about a deployment",
        ));
    }
    fields.done()?;
    Ok(checks.into_iter().map(|check| Expectation { at, line: node.line, check }).collect())
}

/// What an expectation came to: what was expected, and for each client where it is not so what is instead.
pub(crate) struct Outcome {
    pub at: Timestamp,
    pub line: u64,
    pub expected: String,
    pub found: Vec<String>,
}

impl Outcome {
    pub(crate) fn held(&self) -> bool {
        self.found.is_empty()
    }
}

/// Looks whether it is so.
pub(crate) fn look(expectation: &Expectation, world: &World) -> Outcome {
    let mut found = Vec::new();
    let expected = match &expectation.check {
        Check::Update { clients, id, wanted } => {
            for name in clients {
                found.extend(update(world, name, id, wanted).map(|other| format!("{name}: {other}")));
            }
            format!("{}: {id} {}", who(clients), words(wanted))
        }
        Check::Deployment { clients, name, wanted } => {
            for client in clients {
                found.extend(
                    deployment(world, client, name, wanted).map(|other| format!("{client}: {other}")),
                );
            }
            format!("{}: deployment {name} {}", who(clients), words(wanted))
        }
        Check::Numbers { name, wanted } => {
            found.extend(numbers(world, name, wanted));
            let wanted: Vec<String> = wanted.iter().map(|(what, count)| format!("{what} {count}")).collect();
            format!("deployment {name}: {}", wanted.join(", "))
        }
        Check::Packages { clients, packages } => {
            for name in clients {
                for (package, version) in packages {
                    let machine = world.client(name).and_then(|client| world.machine(client));
                    let has = machine.and_then(|machine| machine.packages.get(package));
                    if has != version.as_ref() {
                        found.push(format!(
                            "{name}: {package} is {}",
                            has.map_or("not installed", String::as_str)
                        ));
                    }
                }
            }
            let all: Vec<String> = packages
                .iter()
                .map(|(package, version)| {
                    format!("{package} {}", version.as_deref().unwrap_or("not installed"))
                })
                .collect();
            format!("{}: {}", who(clients), all.join(", "))
        }
        Check::Restarts { clients, count } => {
            let restarts = |what: &What| matches!(what, What::Down { why } if *why != Outage::Power);
            found = counted(world, clients, *count, "restarts", restarts);
            format!("{}: {count} restarts", who(clients))
        }
        Check::Installations { clients, count } => {
            let installs = |what: &What| matches!(what, What::Started(Action::Install(_)));
            found = counted(world, clients, *count, "installations", installs);
            format!("{}: {count} installations", who(clients))
        }
        Check::Nothing { clients, since } => {
            for entry in world.log.iter().filter(|entry| entry.at > *since) {
                let Some(name) = entry.client.and_then(|client| world.machine(client)).map(|m| &m.name)
                else {
                    continue;
                };
                let acts = match &entry.what {
                    What::Started(action) => !matches!(action, Action::Scan(_)),
                    What::Down { .. } => true,
                    _ => false,
                };
                if acts && clients.contains(name) {
                    found.push(format!("{name}: something began at {}", entry.at));
                }
            }
            format!("{}: nothing downloaded, installed or restarted since {since}", who(clients))
        }
    };
    found.truncate(5);
    Outcome { at: expectation.at, line: expectation.line, expected, found }
}

fn who(clients: &BTreeSet<String>) -> String {
    super::timeline::names(clients.iter().map(String::as_str))
}

fn counted(
    world: &World,
    clients: &BTreeSet<String>,
    wanted: usize,
    what: &str,
    counts: impl Fn(&What) -> bool,
) -> Vec<String> {
    let of = |name: &String| {
        let client = world.client(name);
        world
            .log
            .iter()
            .filter(|entry| entry.client.is_some() && entry.client == client && counts(&entry.what))
            .count()
    };
    clients
        .iter()
        .map(|name| (name, of(name)))
        .filter(|(_, count)| *count != wanted)
        .map(|(name, count)| format!("{name}: {count} {what}"))
        .collect()
}

fn words(wanted: &State) -> String {
    let parts = [
        wanted.state.clone(),
        wanted.detection.clone(),
        wanted.compliance.clone(),
        wanted.waits_for.as_ref().map(|gate| format!("waits for {gate}")),
        wanted.because_of.as_ref().map(|object| format!("because of {object}")),
        wanted.until.map(|until| format!("until {until}")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn named<T: std::fmt::Debug>(state: Option<T>) -> String {
    state.map_or_else(|| "None".to_owned(), |state| format!("{state:?}"))
}

/// What is instead; none: it is so.
fn update(world: &World, name: &str, id: &UpdateId, wanted: &State) -> Option<String> {
    let Some(decision) = world.client(name).and_then(|client| world.decision(client)) else {
        return Some("is away".to_owned());
    };
    let Some(verdict) = decision.updates.get(id) else {
        return (wanted.state.as_deref() != Some("None")).then(|| "has no policy with it".to_owned());
    };
    let gate = verdict.waits_for();
    let until = gate.and_then(|gate| match gate.status {
        GateStatus::Closed(Opens::At(at)) => Some(at),
        _ => None,
    });
    let is = State {
        state: Some(named(verdict.state)),
        detection: Some(format!("{:?}", verdict.detection)),
        compliance: None,
        waits_for: Some(gate.map_or("nothing", |gate| gate.kind.name()).to_owned()),
        because_of: Some(gate.map(|gate| gate.object.clone()).unwrap_or_default()),
        until,
    };
    differs(wanted, &is)
}

fn deployment(world: &World, client: &str, name: &str, wanted: &State) -> Option<String> {
    let Some(decision) = world.client(client).and_then(|client| world.decision(client)) else {
        return Some("is away".to_owned());
    };
    let Some(verdict) = decision.deployments.values().find(|verdict| verdict.name == name) else {
        return (wanted.state.as_deref() != Some("None")).then(|| "has no policy with it".to_owned());
    };
    let is = State {
        state: Some(named(verdict.enforcement)),
        compliance: Some(named(verdict.compliance)),
        until: verdict.until,
        ..State::default()
    };
    differs(wanted, &is)
}

fn differs(wanted: &State, is: &State) -> Option<String> {
    let same = |wanted: &Option<String>, is: &Option<String>| wanted.is_none() || wanted == is;
    let held = same(&wanted.state, &is.state)
        && same(&wanted.detection, &is.detection)
        && same(&wanted.compliance, &is.compliance)
        && same(&wanted.waits_for, &is.waits_for)
        && same(&wanted.because_of, &is.because_of)
        && (wanted.until.is_none() || wanted.until == is.until);
    (!held).then(|| words(is))
}

fn numbers(world: &World, name: &ObjectName, wanted: &BTreeMap<String, i64>) -> Option<String> {
    let Some(numbers) = world.numbers(name) else {
        return Some("there is no such deployment".to_owned());
    };
    let count = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
    let mut is: BTreeMap<String, i64> = BTreeMap::from([
        ("targeted".to_owned(), count(numbers.targeted)),
        ("compliant".to_owned(), count(numbers.compliant)),
        ("compliantPercent".to_owned(), numbers.compliant_percent.map_or(-1, i64::from)),
        ("neverReported".to_owned(), count(numbers.never_reported)),
    ]);
    is.extend(numbers.states.iter().map(|(state, number)| (format!("{state:?}"), count(*number))));
    let held = wanted.iter().all(|(what, count)| is.get(what) == Some(count));
    (!held).then(|| {
        let all: Vec<String> = is
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(what, count)| format!("{what} {count}"))
            .collect();
        all.join(", ")
    })
}
