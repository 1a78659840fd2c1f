//! A scenario as it is written: see docs/simulator.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr as _,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_intent::yaml::{
    document::{Node, Value},
    object::API_VERSION,
    schema::Schemas,
};
use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    window::time_zone,
};
use patchtide_planner::sim::{Behaviour, Network};

use super::{
    expect::{self, Expectation},
    fields::{Fault, Fields, Read, Times, duration, list, number, text},
    happen::{self, Event},
};

/// Limits of one scenario.
pub(crate) const CLIENTS: usize = 10_000;
const UPDATES: usize = 1_000;
const EVENTS: usize = 1_000;
const OBJECTS: usize = 500;

/// A scenario.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub description: String,
    pub times: Times,
    pub zone: String,
    pub end: Timestamp,
    pub clients: Vec<ClientSpec>,
    pub updates: Vec<UpdateSpec>,
    pub objects: Vec<Object>,
    pub events: Vec<(Timestamp, Event)>,
    pub expectations: Vec<Expectation>,
}

/// A client.
#[derive(Debug, Clone)]
pub(crate) struct ClientSpec {
    pub name: String,
    pub zone: String,
    pub facts: BTreeMap<String, String>,
    pub address: Option<std::net::IpAddr>,
    pub packages: BTreeMap<String, String>,
    pub behaviour: Behaviour,
}

/// An update and when it appears in the catalogue.
#[derive(Debug, Clone)]
pub(crate) struct UpdateSpec {
    pub update: Update,
    pub at: Timestamp,
    /// What it supersedes.
    pub supersedes: Option<UpdateId>,
    /// When its files reach the distribution points; none: with it.
    pub content_at: Option<Timestamp>,
}

/// An object in the form of the API.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub kind: String,
    pub name: String,
    pub json: serde_json::Value,
}

/// Gives the bytes of a file that a scenario names, relative to it.
pub(crate) type Open<'a> = &'a dyn Fn(&str) -> Result<Vec<Node>, String>;

/// Reads a scenario.
pub(crate) fn read(document: &Node, open: Open<'_>) -> Read<Scenario> {
    let fields = Fields::of(document, "a scenario")?;
    let description = fields.text("description")?.unwrap_or_default().to_owned();
    let zone_name = fields.text("zone")?.unwrap_or("UTC").to_owned();
    let zone = zone(fields.get("zone"), &zone_name)?;
    let early = Times { start: Timestamp::UNIX_EPOCH, zone: zone.clone() };
    let start = fields
        .time("start", &early)?
        .ok_or_else(|| Fault::at(document, "a scenario needs the field start"))?;
    let times = Times { start, zone };
    let end = super::fields::time(fields.need("end")?, &times)?;
    if end <= start || end.duration_since(start) > SignedDuration::from_hours(24 * 366 * 2) {
        return Err(Fault::at(fields.need("end")?, "the end lies after the start, by at most two years"));
    }
    let mut clients = Vec::new();
    for node in list(fields.need("clients")?, CLIENTS)? {
        clients.extend(client(node, &zone_name)?);
    }
    if clients.is_empty() || clients.len() > CLIENTS {
        return Err(Fault::at(fields.need("clients")?, format!("a scenario has 1 to {CLIENTS} clients")));
    }
    let names: BTreeSet<&str> = clients.iter().map(|client| client.name.as_str()).collect();
    if names.len() != clients.len() {
        return Err(Fault::at(fields.need("clients")?, "two clients have the same name"));
    }
    let updates = fields
        .list("updates", UPDATES)?
        .into_iter()
        .map(|node| update(node, &times))
        .collect::<Read<Vec<_>>>()?;
    let schemas = Schemas::new();
    let objects = objects(&fields.list("objects", OBJECTS)?, &schemas, open)?;
    let context = happen::Context { times: &times, schemas: &schemas, open, names: &names };
    let mut events = Vec::new();
    for node in fields.list("events", EVENTS)? {
        events.push(happen::event(node, &context)?);
    }
    events.sort_by_key(|(at, _)| *at);
    let mut expectations = Vec::new();
    for node in fields.list("expect", EVENTS)? {
        expectations.extend(expect::expectation(node, &times, &names)?);
    }
    expectations.sort_by_key(|expectation| expectation.at);
    fields.done()?;
    Ok(Scenario { description, zone: zone_name, end, clients, updates, objects, events, expectations, times })
}

fn zone(node: Option<&Node>, name: &str) -> Read<jiff::tz::TimeZone> {
    time_zone(name).ok_or_else(|| {
        let words = format!("{name} is no time zone of the IANA database, such as Europe/Berlin");
        node.map_or_else(
            || Fault::at(&Node { value: Value::Null, line: 1, column: 1 }, words.clone()),
            |node| Fault::at(node, words.clone()),
        )
    })
}

fn client(node: &Node, default_zone: &str) -> Read<Vec<ClientSpec>> {
    let fields = Fields::of(node, "a client")?;
    let name = text(fields.need("name")?)?.to_owned();
    let count = fields.number("count", i64::try_from(CLIENTS).unwrap_or(i64::MAX))?;
    let zone_name = fields.text("zone")?.unwrap_or(default_zone).to_owned();
    zone(fields.get("zone"), &zone_name)?;
    let mut facts = BTreeMap::new();
    for (key, value) in fields.map("facts", 200)? {
        facts.insert(key.to_owned(), text(value)?.to_owned());
    }
    facts.entry("timezone".to_owned()).or_insert_with(|| zone_name.clone());
    let mut packages = BTreeMap::new();
    for (package, version) in fields.map("packages", 2_000)? {
        packages.insert(package.to_owned(), text(version)?.to_owned());
    }
    let spec = ClientSpec {
        name: name.clone(),
        zone: zone_name,
        facts,
        address: fields.address("address")?,
        packages,
        behaviour: behaviour(fields.get("behaviour"))?,
    };
    fields.done()?;
    let named = |name: String| {
        let mut spec = spec.clone();
        spec.facts.insert("hostname".to_owned(), name.clone());
        ClientSpec { name, ..spec }
    };
    Ok(match count {
        None => vec![named(name)],
        Some(count) => (1..=count).map(|number| named(format!("{name}-{number}"))).collect(),
    })
}

/// What machines do unless a scenario says otherwise: what a small server does.
fn usual() -> Behaviour {
    Behaviour {
        scan: SignedDuration::from_secs(20),
        download: SignedDuration::from_secs(60),
        install: SignedDuration::from_mins(4),
        restart: SignedDuration::from_mins(2),
        recover: SignedDuration::from_mins(1),
        network: Network { delay: SignedDuration::from_secs(1), ..Network::default() },
        ..Behaviour::default()
    }
}

/// How a machine behaves.
pub(crate) fn behaviour(node: Option<&Node>) -> Read<Behaviour> {
    let mut behaviour = usual();
    let Some(node) = node else { return Ok(behaviour) };
    let fields = Fields::of(node, "behaviour")?;
    let times = [
        ("scan", &mut behaviour.scan),
        ("download", &mut behaviour.download),
        ("install", &mut behaviour.install),
        ("restart", &mut behaviour.restart),
        ("recover", &mut behaviour.recover),
    ];
    for (field, value) in times {
        *value = fields.duration(field)?.unwrap_or(*value);
    }
    let count = |field: &str| -> Read<u32> {
        Ok(u32::try_from(fields.number(field, 1_000)?.unwrap_or(0)).unwrap_or(0))
    };
    behaviour.download_failures = count("downloadFailures")?;
    behaviour.scan_failures = count("scanFailures")?;
    behaviour.recovery_failures = count("recoveryFailures")?;
    for (package, times) in fields.map("installFailures", 1_000)? {
        let times = u32::try_from(number(times, 1_000)?).unwrap_or(0);
        behaviour.install_failures.insert(package.to_owned(), times);
    }
    behaviour.restart_packages =
        fields.texts("restartAfter", 1_000)?.into_iter().map(ToOwned::to_owned).collect();
    if let Some(node) = fields.get("network") {
        let network = Fields::of(node, "network")?;
        let known = &mut behaviour.network;
        known.delay = network.duration("delay")?.unwrap_or(known.delay);
        known.jitter = network.duration("jitter")?.unwrap_or(known.jitter);
        known.loss = percent(&network, "lossPercent")?;
        known.repeat = percent(&network, "repeatPercent")?;
        known.long_poll = network.flag("longPoll")?.unwrap_or(known.long_poll);
        network.done()?;
    }
    fields.done()?;
    Ok(behaviour)
}

fn percent(fields: &Fields<'_>, field: &str) -> Read<u8> {
    Ok(u8::try_from(fields.number(field, 90)?.unwrap_or(0)).unwrap_or(0))
}

/// The identity of an update.
pub(crate) fn identity(node: &Node) -> Read<UpdateId> {
    UpdateId::from_str(text(node)?).map_err(|error| Fault::at(node, error.to_string()))
}

/// An update.
pub(crate) fn update(node: &Node, times: &Times) -> Read<UpdateSpec> {
    let fields = Fields::of(node, "an update")?;
    let id = identity(fields.need("id")?)?;
    let packages = fields.map("packages", 500)?;
    let mut leaves = Vec::new();
    for (package, version) in packages {
        leaves.push(leaf(package, text(version)?));
    }
    if leaves.is_empty() {
        leaves.push(leaf(&id.source, &id.version));
    }
    let restart = match fields.text("restart")? {
        None | Some("Auto") => RestartRule::Auto,
        Some("Always") => RestartRule::Always,
        Some("Never") => RestartRule::Never,
        Some(_) => return Err(Fault::at(fields.need("restart")?, "is Auto, Always or Never")),
    };
    let at = fields.time("at", times)?.unwrap_or(times.start);
    let update = Update {
        title: fields.text("title")?.unwrap_or(&id.source).to_owned(),
        classification: Classification::SecurityUpdates,
        product: fields.text("product")?.unwrap_or("Debian bookworm").to_owned(),
        severity: severity(&fields)?,
        cves: fields.texts("cves", 100)?.into_iter().map(ToOwned::to_owned).collect(),
        bulletins: BTreeSet::new(),
        posted: at,
        leaves,
        maximum_run_time: fields.duration("maximumRunTime")?,
        exclusive: fields.flag("exclusive")?.unwrap_or(false),
        restart,
        superseded_by: None,
        expired: false,
        id,
    };
    let supersedes = fields.get("supersedes").map(identity).transpose()?;
    let content_at = fields.time("contentAt", times)?;
    fields.done()?;
    Ok(UpdateSpec { update, at, supersedes, content_at })
}

fn severity(fields: &Fields<'_>) -> Read<Severity> {
    Ok(match fields.text("severity")? {
        None => Severity::None,
        Some("Low") => Severity::Low,
        Some("Moderate") => Severity::Moderate,
        Some("Important") => Severity::Important,
        Some("Critical") => Severity::Critical,
        Some(_) => {
            return Err(Fault::at(fields.need("severity")?, "is Low, Moderate, Important or Critical"));
        }
    })
}

/// A package of an update.
pub(crate) fn leaf(package: &str, version: &str) -> Leaf {
    Leaf {
        package: package.to_owned(),
        version: version.to_owned(),
        architecture: "all".to_owned(),
        file: ContentFile {
            sha256: Digest::of(format!("{package}_{version}").as_bytes()),
            size: 1_000_000,
            path: format!("pool/{package}_{version}_all.deb"),
        },
        stanza: String::new(),
    }
}

/// Objects: inline, or the documents of a file.
pub(crate) fn objects(nodes: &[&Node], schemas: &Schemas, open: Open<'_>) -> Read<Vec<Object>> {
    let mut objects = Vec::new();
    for node in nodes {
        if let Some(file) = node.get("file") {
            let fields = Fields::of(node, "an object")?;
            let path = text(fields.need("file")?)?;
            fields.done()?;
            for document in open(path).map_err(|error| Fault::at(file, error))? {
                let read = object(&document, schemas);
                objects.push(read.map_err(|fault| Fault::at(file, format!("{path}:{fault}")))?);
            }
        } else {
            objects.push(object(node, schemas)?);
        }
    }
    Ok(objects)
}

fn object(node: &Node, schemas: &Schemas) -> Read<Object> {
    let fields = Fields::of(node, "an object")?;
    let kind = text(fields.need("kind")?)?.to_owned();
    if fields.text("apiVersion")?.is_some_and(|version| version != API_VERSION) {
        return Err(Fault::at(fields.need("apiVersion")?, format!("apiVersion is {API_VERSION}")));
    }
    if !schemas.knows(&kind) {
        return Err(Fault::at(fields.need("kind")?, format!("there is no kind {kind}")));
    }
    let metadata = Fields::of(fields.need("metadata")?, "metadata")?;
    let name = text(metadata.need("name")?)?;
    let name =
        ObjectName::new(name).map_err(|error| Fault::at(metadata.node, error.to_string()))?.to_string();
    for field in ["labels", "annotations", "namespace"] {
        metadata.get(field);
    }
    metadata.done()?;
    let spec = fields.need("spec")?;
    if let Some(finding) = schemas
        .check_spec(&kind, "", spec)
        .into_iter()
        .find(patchtide_intent::yaml::verdict::Finding::is_failure)
    {
        let at = Node { value: Value::Null, line: finding.place.line, column: finding.place.column };
        return Err(Fault::at(&at, format!("{kind}/{name}: {}", finding.message)));
    }
    fields.done()?;
    Ok(Object { kind, name, json: node.to_json() })
}

/// A time that something takes, from a field of an event that may be missing.
pub(crate) fn back(fields: &Fields<'_>) -> Read<SignedDuration> {
    Ok(fields.get("back").map(duration).transpose()?.unwrap_or(SignedDuration::from_mins(1)))
}
