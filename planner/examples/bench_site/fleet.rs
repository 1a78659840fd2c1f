//! A fleet as a company has it, the same for the same number of clients: 40 sites, 8 tiers, 5 rings, 3 releases, servers and
//! workstations. Half of the machines are in the last ring, large sites have ten times the machines of small ones.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil};
use patchtide_model::{
    ClientId, Digest, LineId, ObjectName, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    client::{Client, ClientState},
    deployment::{Deadline, Deployment, DeploymentSettings},
    object::{ClientSettings, Collection, DistributionPoint, FactOperator, FactRequirement, SiteObjects},
    policy::LinePolicy,
    shared::Shared,
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};
use patchtide_planner::site::SiteInput;
use uuid::Uuid;

const SITES: u64 = 40;
const TIERS: [&str; 8] = ["web", "db", "cache", "queue", "batch", "desk", "kiosk", "edge"];
const RELEASES: [(&str, &str); 3] = [("bullseye", "11"), ("bookworm", "12"), ("trixie", "13")];
const RINGS: u64 = 5;
const POINTS: u64 = 8;
/// Updates of each release; each has three leaves.
const UPDATES: u64 = 1200;

/// Numbers that look random and are the same on every run (splitmix64).
pub(crate) struct Numbers(pub(crate) u64);

impl Numbers {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

pub(crate) fn name(text: &str) -> ObjectName {
    text.parse().expect("a name")
}

fn at(n: u64) -> usize {
    usize::try_from(n).expect("a small number")
}

/// A client; `numbers` decides what it is.
pub(crate) fn client(n: u64, numbers: &mut Numbers) -> Client {
    let site = numbers.below(SITES).min(numbers.below(SITES));
    let tier = TIERS[at(numbers.below(8))];
    let (codename, version) = RELEASES[at([0, 1, 1, 1, 1, 1, 2, 2, 2, 2][at(numbers.below(10))])];
    let ring = [0, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4][at(numbers.below(20))];
    let role = if matches!(tier, "desk" | "kiosk") { "workstation" } else { "server" };
    let hostname = format!("{tier}-{n:06}.s{site}.example.net");
    let facts = [
        ("agent.version", "0.1.0".to_owned()),
        ("architecture", "amd64".to_owned()),
        ("hostname", hostname.clone()),
        ("kernel", format!("6.1.0-{}-amd64", numbers.below(30))),
        ("label/owner", format!("team-{}", numbers.below(60))),
        ("label/ring", ring.to_string()),
        ("label/site", format!("s{site}")),
        ("label/tier", tier.to_owned()),
        ("os.codename", codename.to_owned()),
        ("os.version", version.to_owned()),
        ("role", role.to_owned()),
        ("timezone", ["UTC", "Europe/Berlin", "America/New_York"][at(site % 3)].to_owned()),
    ];
    Client {
        id: ClientId(Uuid::from_u64_pair(numbers.next(), n)),
        name: hostname,
        state: ClientState::Active,
        facts: facts.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
        address: Some(std::net::Ipv4Addr::new(10, u8::try_from(site).expect("small"), 0, 1).into()),
        last_contact: None,
    }
}

fn requirement(key: &str, operator: FactOperator, values: &[&str]) -> FactRequirement {
    let values = values.iter().map(|value| (*value).to_owned()).collect();
    FactRequirement { key: key.to_owned(), operator, values }
}

pub(crate) fn is(key: &str, value: &str) -> FactRequirement {
    requirement(key, FactOperator::In, &[value])
}

pub(crate) fn collection(title: &str, selector: Vec<FactRequirement>) -> Collection {
    Collection {
        name: name(title),
        all: false,
        selector,
        direct_members: BTreeSet::new(),
        include: BTreeSet::new(),
        exclude: BTreeSet::new(),
        limiting: None,
        parent: None,
    }
}

/// 200 collections: by one fact, by several, limited, of included and excluded ones, by name.
fn collections(clients: &[Shared<Client>]) -> Vec<Collection> {
    let mut all = vec![Collection { all: true, ..collection("everyone", vec![]) }];
    for ring in 0..RINGS {
        all.push(collection(&format!("ring-{ring}"), vec![is("label/ring", &ring.to_string())]));
    }
    for tier in TIERS {
        all.push(collection(tier, vec![is("label/tier", tier)]));
    }
    for (codename, _) in RELEASES {
        all.push(collection(codename, vec![is("os.codename", codename)]));
        for ring in 0..RINGS {
            let limiting = Some(name(codename));
            let selector = vec![is("label/ring", &ring.to_string())];
            let parent = Some(name(&format!("ring-{ring}")));
            all.push(Collection {
                limiting,
                parent,
                ..collection(&format!("{codename}-ring-{ring}"), selector)
            });
        }
    }
    for role in ["server", "workstation"] {
        all.push(collection(role, vec![is("role", role)]));
    }
    for site in 0..SITES {
        let title = format!("site-{site}");
        all.push(collection(&title, vec![is("label/site", &format!("s{site}"))]));
        let servers = collection(&format!("{title}-servers"), vec![is("role", "server")]);
        all.push(Collection { limiting: Some(name(&title)), parent: Some(name(&title)), ..servers });
        // By the name that its owners gave it.
        let glob = requirement("hostname", FactOperator::Glob, &[&format!("db-*.s{site}.example.net")]);
        all.push(collection(&format!("{title}-db"), vec![glob]));
    }
    for region in 0..8 {
        let title = format!("region-{region}");
        let include = (0..5).map(|n| name(&format!("site-{}", region * 5 + n))).collect();
        all.push(Collection { include, ..collection(&title, vec![]) });
        let calm = requirement("label/tier", FactOperator::NotIn, &["db", "queue"]);
        all.push(Collection {
            exclude: [name(&title)].into(),
            limiting: Some(name("server")),
            ..collection(&format!("calm-outside-{region}"), vec![calm])
        });
    }
    let direct = 200 - all.len();
    for n in 0..direct {
        let step = (clients.len() / 20).max(1);
        let chosen = clients.iter().skip(n).step_by(step).map(|client| client.name.clone()).collect();
        all.push(Collection { direct_members: chosen, ..collection(&format!("direct-{n}"), vec![]) });
    }
    all
}

fn window(n: u64) -> Window {
    let (collection, hour, action) = match n {
        0..40 => (format!("site-{n}"), 22, WindowAction::Allow),
        40..80 => (format!("site-{}-servers", n - 40), 2, WindowAction::Allow),
        80..88 => (TIERS[at(n - 80)].to_owned(), 4, WindowAction::Allow),
        88..96 => (format!("region-{}", n - 88), 12, WindowAction::Deny),
        _ => (format!("ring-{}", n - 95), 23, WindowAction::Allow),
    };
    Window {
        name: name(&format!("window-{n}")),
        collection: name(&collection),
        recurrence: Recurrence::Daily { every: 1, anchor: civil::date(2026, 1, 1) },
        start: civil::time(hour, 0, 0, 0),
        duration: SignedDuration::from_hours(2),
        zone: Zone::Utc,
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::Updates,
        action,
    }
}

fn update(line: &LineId, n: u64) -> Update {
    let (source, version) = (format!("source-{n}"), format!("1.{n}-1+deb{}u1", n % 7));
    let leaves = (0..3).map(|leaf| {
        let package = format!("lib{source}-{leaf}");
        let path = format!("pool/updates/main/s/{source}/{package}_{version}_amd64.deb");
        let stanza = format!(
            "Package: {package}\nSource: {source}\nVersion: {version}\nArchitecture: amd64\nFilename: {path}\nDescription: {}\n",
            "what it is good for, in some words; ".repeat(12)
        );
        Leaf {
            package,
            architecture: "amd64".to_owned(),
            file: ContentFile { sha256: Digest::of(format!("{line}{path}").as_bytes()), size: 100_000 + n, path },
            stanza,
            version: version.clone(),
        }
    });
    Update {
        leaves: leaves.collect(),
        id: UpdateId { line: line.clone(), source: source.clone(), version },
        title: format!("{source}: a library of the fleet"),
        classification: Classification::SecurityUpdates,
        product: "Debian".to_owned(),
        severity: Severity::Important,
        cves: BTreeSet::from([format!("CVE-2026-{n:05}")]),
        bulletins: BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        maximum_run_time: None,
        exclusive: n.is_multiple_of(97),
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

fn settings() -> DeploymentSettings {
    DeploymentSettings {
        deadline: Deadline::After(SignedDuration::from_hours(7 * 24)),
        deadline_spread: SignedDuration::from_hours(4),
        ..DeploymentSettings::default()
    }
}

/// One hundred updates of a release for a ring, for a region, or for its servers.
fn deployment(n: u64, updates: &[UpdateId], numbers: &mut Numbers) -> Deployment {
    let (codename, _) = RELEASES[at(n % 3)];
    let collection = match n {
        0..30 => format!("{codename}-ring-{}", n / 3 % RINGS),
        30..36 => format!("ring-{}", n % RINGS),
        36..44 => format!("region-{}", n - 36),
        44..46 => "server".to_owned(),
        _ => codename.to_owned(),
    };
    let mine: Vec<&UpdateId> = updates.iter().filter(|id| id.line.as_str().contains(codename)).collect();
    let chosen: BTreeSet<UpdateId> = std::iter::repeat_with(|| mine[at(numbers.below(mine.len() as u64))])
        .take(400)
        .cloned()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .take(100)
        .collect();
    Deployment {
        name: name(&format!("deployment-{n}")),
        uid: Uuid::from_u64_pair(7, n).to_string(),
        generation: 1,
        collection: name(&collection),
        include_subcollections: n.is_multiple_of(4),
        suspend: false,
        settings: settings(),
        updates: chosen.into_iter().collect(),
        anchor: Timestamp::UNIX_EPOCH,
        provenance: BTreeMap::new(),
    }
}

/// A site with so many clients, 200 collections, 100 windows, 5 client settings and 50 deployments of 100 updates.
pub(crate) fn site(count: u64) -> SiteInput {
    let mut numbers = Numbers(1);
    let clients: Vec<Shared<Client>> = (0..count).map(|n| client(n, &mut numbers).into()).collect();
    let lines: Vec<LineId> = RELEASES
        .iter()
        .map(|(codename, _)| format!("debian/{codename}-security/main").parse().expect("a line"))
        .collect();
    let updates: Vec<Update> =
        lines.iter().flat_map(|line| (0..UPDATES).map(move |n| update(line, n))).collect();
    let ids: Vec<UpdateId> = updates.iter().map(|update| update.id.clone()).collect();
    let mut objects = SiteObjects {
        collections: collections(&clients).into_iter().map(|c| (c.name.clone(), c)).collect(),
        windows: (0..100).map(window).map(|w| (w.name.clone(), w)).collect(),
        deployments: (0..50)
            .map(|n| deployment(n, &ids, &mut numbers))
            .map(|d| (d.name.clone(), d))
            .collect(),
        ..SiteObjects::default()
    };
    for (priority, title) in ["everyone", "workstation", "db", "site-1", "ring-0"].into_iter().enumerate() {
        let one = ClientSettings {
            name: title.to_owned(),
            collection: Some(name(title)),
            priority: i32::try_from(priority).expect("small"),
            ..ClientSettings::default()
        };
        objects.client_settings.insert(name(title), one);
    }
    let points: BTreeSet<ObjectName> = (0..POINTS).map(|n| name(&format!("dp-{n}"))).collect();
    for (n, point) in points.iter().enumerate() {
        let cidr = format!("10.{}.0.0/16", n * 5).parse().expect("a network");
        let boundary = patchtide_model::object::Boundary { cidr, fast: true };
        let endpoints = vec![format!("https://{point}.example.net")];
        let one = DistributionPoint {
            name: point.clone(),
            endpoints,
            boundaries: vec![boundary],
            protected: false,
        };
        objects.distribution_points.insert(point.clone(), one);
    }
    let required = |update: &Update| update.leaves.iter().take(2).map(Leaf::reference).collect();
    let files = updates.iter().flat_map(|update| &update.leaves).map(|leaf| leaf.file.sha256);
    SiteInput {
        site: SiteName::new("fleet").expect("a site"),
        holders: Some(files.map(|file| (file, points.clone())).collect::<BTreeMap<_, _>>()),
        required_leaves: updates.iter().map(|update| (update.id.clone(), required(update))).collect(),
        lines: lines
            .iter()
            .map(|line| LinePolicy {
                line: line.clone(),
                catalogue_version: 7,
                digest: Digest::of(line.as_str().as_bytes()),
                size: 1,
                release: None,
            })
            .collect(),
        updates: updates.into_iter().map(|update| (update.id.clone(), update)).collect(),
        dependencies: Vec::new(),
        objects,
        clients,
    }
}
