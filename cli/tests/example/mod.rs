//! The site of `examples/plan`: six machines, what they lack, and the objects of a folder in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use patchtide_intent::{
    resolve::{Ground, Resources, resolve},
    yaml::{
        document,
        object::{Files, Limits, collect},
        schema::Schemas,
    },
};
use patchtide_model::{
    ClientId, Digest, LineId, ObjectName, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    client::{Client, ClientState},
    object::SiteObjects,
    policy::LinePolicy,
    search::DetectionCounts,
    shared::Shared,
    state::Detection,
};
use patchtide_planner::{
    site::SiteInput,
    snapshot::{CatalogueEntry, ClientReport, Snapshot, UpdateReport},
};
use serde_json::{Value, json};

const TAKEN: &str = "2026-03-02T12:00:00Z";
const LINE: &str = "debian/bookworm-security/main";
const OPENSSL: (&str, &str, &[&str], u64) = ("openssl", "3.0.22-1", &["libssl3", "openssl"], 3_460_000);
const LINUX: (&str, &str, &[&str], u64) = ("linux", "6.1.170-1", &["linux-image-6.1.0-44-amd64"], 68_900_000);

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The site with the objects of `examples/plan/now`.
pub(crate) fn snapshot() -> Snapshot {
    of(&root().join("examples/plan/now"))
}

/// The site with the objects of this folder.
pub(crate) fn of(folder: &Path) -> Snapshot {
    let taken: Timestamp = TAKEN.parse().unwrap();
    let resources = resources(folder);
    let updates = [update(OPENSSL), update(LINUX)];
    let known: BTreeMap<UpdateId, Update> =
        updates.iter().map(|update| (update.id.clone(), update.clone())).collect();
    let catalogue: BTreeMap<UpdateId, DetectionCounts> =
        known.keys().map(|id| (id.clone(), DetectionCounts::default())).collect();
    let (objects, told) = Resources::read(&resources);
    assert_eq!(told, []);
    let ground = Ground {
        now: taken,
        catalogue: Some(&catalogue),
        known: &known,
        present: &BTreeSet::new(),
        before: &SiteObjects::default(),
        pinned: &BTreeMap::new(),
        lists: &BTreeMap::new(),
    };
    let resolution = resolve(&objects, &ground);
    assert_eq!(resolution.problems, []);
    let line = LineId::new(LINE).unwrap();
    let leaves = |update: &Update| update.leaves.iter().map(Leaf::reference).collect::<BTreeSet<_>>();
    let deployed: BTreeMap<UpdateId, Update> = updates
        .iter()
        .filter(|update| resolution.objects.deployments.values().any(|d| d.updates.contains(&update.id)))
        .map(|update| (update.id.clone(), update.clone()))
        .collect();
    let main = ObjectName::new("main").unwrap();
    let openssl = &updates[0];
    let input = SiteInput {
        site: SiteName::new("fleet").unwrap(),
        clients: clients(taken),
        lines: vec![LinePolicy {
            line: line.clone(),
            catalogue_version: 7,
            digest: Digest::of(b"catalogue"),
            size: 1_200_000,
            release: None,
        }],
        required_leaves: deployed.values().map(|update| (update.id.clone(), leaves(update))).collect(),
        updates: deployed,
        dependencies: Vec::new(),
        holders: Some(openssl.leaves.iter().map(|leaf| (leaf.file.sha256, [main.clone()].into())).collect()),
        objects: resolution.objects,
    };
    Snapshot {
        pinned: resolution
            .pinned
            .iter()
            .map(|(name, memory)| (name.clone(), serde_json::to_value(memory).unwrap()))
            .collect(),
        lists: BTreeMap::new(),
        reports: reports(&updates, &line),
        catalogue: Some(
            updates
                .iter()
                .map(|update| CatalogueEntry { update: update.clone(), counts: DetectionCounts::default() })
                .collect(),
        ),
        resources,
        ..Snapshot::new(input, taken)
    }
}

fn update((source, version, packages, size): (&str, &str, &[&str], u64)) -> Update {
    let leaves = packages.iter().map(|package| Leaf {
        package: (*package).to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        file: ContentFile {
            sha256: Digest::of(format!("{package}_{version}").as_bytes()),
            size: size / packages.len() as u64,
            path: format!("pool/updates/main/{package}_{version}_amd64.deb"),
        },
        stanza: String::new(),
    });
    Update {
        id: format!("{LINE}:{source}@{version}").parse().unwrap(),
        title: source.to_owned(),
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".to_owned(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: "2026-03-01T00:00:00Z".parse().unwrap(),
        leaves: leaves.collect(),
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

type Machine = (&'static str, &'static str, Option<&'static str>, &'static [&'static str]);

/// Name, zone, tier (none: a workstation), and what it lacks.
const MACHINES: [Machine; 6] = [
    ("db-1", "UTC", Some("db"), &["linux", "openssl"]),
    ("db-2", "UTC", Some("db"), &["linux"]),
    ("kiosk-1", "America/Santiago", None, &["openssl"]),
    ("web-1", "Europe/Berlin", Some("web"), &["linux", "openssl"]),
    ("web-2", "Europe/Berlin", Some("web"), &["linux", "openssl"]),
    ("web-3", "Australia/Lord_Howe", Some("web"), &[]),
];

fn id(position: usize) -> ClientId {
    format!("00000000-0000-4000-8000-{:012}", position + 1).parse().unwrap()
}

fn clients(taken: Timestamp) -> Vec<Shared<Client>> {
    let client = |(position, (name, zone, tier, _)): (usize, &Machine)| Client {
        id: id(position),
        name: (*name).to_owned(),
        state: ClientState::Active,
        facts: [
            Some(("hostname", *name)),
            Some(("timezone", *zone)),
            tier.map(|tier| ("label/tier", tier)),
            Some(("role", if tier.is_some() { "server" } else { "workstation" })),
        ]
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect(),
        address: None,
        last_contact: Some(taken),
    };
    MACHINES.iter().enumerate().map(client).map(Shared::new).collect()
}

/// The last machine never reported.
fn reports(updates: &[Update], line: &LineId) -> BTreeMap<ClientId, ClientReport> {
    let machines = MACHINES.iter().enumerate().filter(|(_, machine)| !machine.3.is_empty());
    machines
        .map(|(position, (.., lacks))| {
            let lacking = updates.iter().filter(|update| lacks.contains(&update.id.source.as_str()));
            let found = |update: &Update| UpdateReport {
                detection: Detection::Required,
                enforcement: None,
                error: None,
                since: None,
                leaves: update.leaves.iter().map(Leaf::reference).collect(),
            };
            let report = ClientReport {
                covered: [(line.clone(), 7)].into(),
                updates: lacking.map(|update| (update.id.clone(), found(update))).collect(),
                ..ClientReport::default()
            };
            (id(position), report)
        })
        .collect()
}

/// The objects as the API server would give them.
fn resources(folder: &Path) -> Vec<Value> {
    let mut files = Files::default();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        files.files.insert(path.display().to_string(), fs::read(path).unwrap());
    }
    let limits = Limits { objects: 1000, document: document::Limits::default() };
    let revision = collect(files, "fleet", &Schemas::new(), limits);
    assert_eq!(revision.findings, []);
    let served = |((kind, name), object): (&(String, String), &patchtide_intent::yaml::object::GitObject)| {
        let mut json = object.json.clone();
        json["metadata"]["namespace"] = json!("fleet");
        json["metadata"]["uid"] = json!(format!("uid-{kind}-{name}").to_lowercase());
        json["metadata"]["generation"] = json!(1);
        json["metadata"]["creationTimestamp"] = json!("2026-03-01T06:00:00Z");
        json
    };
    revision.objects.iter().map(served).collect()
}
