//! Small building blocks of tests.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, civil};
use patchtide_model::{
    Digest, LineId, ObjectName, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    deployment::{Deadline, Deployment, DeploymentSettings},
    object::{Collection, SiteObjects},
    policy::LinePolicy,
    window::{AppliesTo, Recurrence, Window, WindowAction, Zone},
};

use crate::site::SiteInput;

pub(crate) fn name(text: &str) -> ObjectName {
    ObjectName::new(text).unwrap()
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn minutes(count: i64) -> SignedDuration {
    SignedDuration::from_mins(count)
}

pub(crate) fn line() -> LineId {
    LineId::new("debian/bookworm-security/main").unwrap()
}

pub(crate) fn id(source: &str, version: u64) -> UpdateId {
    UpdateId { line: line(), source: source.to_owned(), version: version.to_string() }
}

pub(crate) fn leaf(package: &str, version: u64) -> Leaf {
    let version = version.to_string();
    Leaf {
        package: package.to_owned(),
        architecture: "amd64".to_owned(),
        file: ContentFile {
            sha256: Digest::of(format!("{package}_{version}").as_bytes()),
            size: 1000,
            path: format!("pool/{package}_{version}.deb"),
        },
        stanza: String::new(),
        version,
    }
}

/// An update whose only leaf is called like its source.
pub(crate) fn update(source: &str, version: u64) -> Update {
    Update {
        id: id(source, version),
        title: source.to_owned(),
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".to_owned(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: vec![leaf(source, version)],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

pub(crate) fn settings() -> DeploymentSettings {
    DeploymentSettings { deadline: Deadline::After(SignedDuration::ZERO), ..DeploymentSettings::default() }
}

pub(crate) fn deployment(title: &str, updates: &[UpdateId], anchor: Timestamp) -> Deployment {
    Deployment {
        name: name(title),
        uid: format!("uid-{title}"),
        generation: 1,
        collection: name("everyone"),
        include_subcollections: false,
        suspend: false,
        settings: settings(),
        updates: updates.to_vec(),
        anchor,
        provenance: BTreeMap::new(),
    }
}

pub(crate) fn collection(title: &str) -> Collection {
    Collection {
        name: name(title),
        all: false,
        selector: Vec::new(),
        direct_members: BTreeSet::new(),
        include: BTreeSet::new(),
        exclude: BTreeSet::new(),
        limiting: None,
        parent: None,
    }
}

/// Open every day from `hour` on, UTC.
pub(crate) fn daily(title: &str, hour: i8, length: SignedDuration) -> Window {
    Window {
        name: name(title),
        collection: name("everyone"),
        recurrence: Recurrence::Daily { every: 1, anchor: civil::date(2026, 1, 1) },
        start: civil::time(hour, 0, 0, 0),
        duration: length,
        zone: Zone::Utc,
        effective_from: None,
        effective_until: None,
        applies_to: AppliesTo::Updates,
        action: WindowAction::Allow,
    }
}

/// A site with one collection of all clients and these updates in its catalogue.
pub(crate) fn site(updates: Vec<Update>) -> SiteInput {
    let everyone = Collection { all: true, ..collection("everyone") };
    SiteInput {
        site: SiteName::new("lab").unwrap(),
        objects: SiteObjects {
            collections: BTreeMap::from([(everyone.name.clone(), everyone)]),
            ..SiteObjects::default()
        },
        clients: Vec::new(),
        lines: vec![LinePolicy {
            line: line(),
            catalogue_version: 1,
            digest: Digest::of(b"catalogue"),
            size: 9,
            release: None,
        }],
        updates: updates.into_iter().map(|update| (update.id.clone(), update)).collect(),
        required_leaves: BTreeMap::new(),
        dependencies: Vec::new(),
        holders: None,
    }
}

pub(crate) fn add_deployment(site: &mut SiteInput, deployment: Deployment) {
    site.objects.deployments.insert(deployment.name.clone(), deployment);
}

pub(crate) fn add_window(site: &mut SiteInput, window: Window) {
    site.objects.windows.insert(window.name.clone(), window);
}
