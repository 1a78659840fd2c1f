//! A site database for the tests and benchmarks of the roles: SQLite on disk, clients and a catalogue in it. Included by
//! path beside `bed`.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::missing_panics_doc,
    missing_docs,
    unreachable_pub
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, Digest, LineId, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, LeafRef, LineCatalogue, RestartRule, Severity, Update},
    client::Facts,
    state::Detection,
};
use patchtide_protocol::state::{
    DetectedUpdate, DetectionReport, Numbered, NumberedUpdate, StateBody, StateMessage, StateReport,
};
use patchtide_signer::spki_digest;
use patchtide_store::{OpenOptions, SiteStore, Store, catalogue::LineSync, clients::EnrolmentRow};
use uuid::Uuid;

use super::bed::{Bed, Device};

pub struct Site {
    pub database: Store,
    pub store: SiteStore,
    pub now: Timestamp,
}

impl Site {
    pub async fn open(bed: &Bed, folder: &Path) -> Self {
        let url = format!("sqlite://{}", folder.join("site.db").display());
        let database = Store::open(&url, &OpenOptions::default()).await.unwrap();
        let store = database.site(&bed.site);
        Self { database, store, now: bed.now() }
    }

    /// Enrols and approves a device, as the controller does.
    pub async fn activate(&self, device: &Device) {
        let id = spki_digest(&device.csr_pem).unwrap();
        self.store.put_enrolment(row(id, &device.csr_pem, self.now)).await.unwrap();
        let end = self.now + SignedDuration::from_hours(24);
        self.store.approve_enrolment(id, device.id, &device.chain_pem, end, self.now).await.unwrap();
    }

    /// Clients 1 to `count`, without keys: for loads that do not come over TLS.
    pub async fn many_clients(&self, count: u64) {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 1..=count {
            let (store, now) = (self.store.clone(), self.now);
            tasks.spawn(async move {
                let id = Digest::of(&client.to_be_bytes());
                store.put_enrolment(row(id, "", now)).await.unwrap();
                let client = ClientId(Uuid::from_u128(client.into()));
                let end = now + SignedDuration::from_hours(24);
                store.approve_enrolment(id, client, "", end, now).await.unwrap();
            });
            if tasks.len() >= 64 {
                tasks.join_next().await.unwrap().unwrap();
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }

    /// A line of `count` updates with one leaf each.
    pub async fn catalogue(&self, count: usize) -> LineId {
        let line: LineId = "debian/bookworm/main".parse().unwrap();
        let updates = (0..count).map(|n| update(&line, n)).collect();
        let sync = LineSync { line: line.clone(), release_date: self.now, updates, full: true };
        let outcome = self.store.apply_line_sync(sync, self.now).await.unwrap();
        assert_eq!(outcome.version, 1);
        line
    }
}

fn row(id: Digest, csr_pem: &str, now: Timestamp) -> EnrolmentRow {
    EnrolmentRow {
        id,
        csr_pem: csr_pem.to_owned(),
        token_digest: None,
        name: "host".into(),
        facts: Facts::new(),
        address: None,
        requested_at: now,
    }
}

pub fn source(n: usize) -> String {
    format!("source-package-{n:05}")
}

pub fn update(line: &LineId, n: usize) -> Update {
    let (source, version) = (source(n), "1.2.3-4+deb12u1".to_owned());
    let file =
        ContentFile { sha256: Digest::of(source.as_bytes()), size: 1, path: format!("pool/{source}.deb") };
    let leaf = Leaf {
        package: source.clone(),
        version: version.clone(),
        architecture: "amd64".into(),
        file,
        stanza: format!("Package: {source}\n"),
    };
    Update {
        id: UpdateId { line: line.clone(), source: source.clone(), version },
        title: source,
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".into(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

/// The scan of a client: `states` updates that it has, one in twenty of them required. `changed` of them are turned round.
pub fn scan(
    line: &LineId,
    client: u64,
    seq: u64,
    states: usize,
    changed: usize,
    at: Timestamp,
) -> StateReport {
    let first = usize::try_from(client).unwrap() * 7 % 400;
    let states = (0..states)
        .map(|n| {
            let source = source(first + n * 9);
            let required = (n % 20 == 0) != (n < changed);
            let version = "1.2.3-4+deb12u1".to_owned();
            let leaf =
                LeafRef { package: source.clone(), architecture: "amd64".into(), version: version.clone() };
            DetectedUpdate {
                source,
                version,
                state: if required { Detection::Required } else { Detection::Installed },
                leaves: if required { vec![leaf] } else { vec![] },
            }
        })
        .collect();
    let detection = DetectionReport {
        line: line.clone(),
        catalogue_version: 1,
        part: 0,
        last: true,
        states,
        needs: vec![],
        numbered: None,
    };
    report(client, at, vec![(seq, StateBody::Detection(detection))])
}

/// Publishes the line's catalogue as a digest alone, for reports by number.
pub async fn publish(site: &Site, line: &LineId) -> (Digest, LineCatalogue) {
    let catalogue = site.store.scan_catalogue(line).await.unwrap();
    let digest = Digest::of(format!("{catalogue:?}").as_bytes());
    site.store.set_line_catalogue(line, catalogue.version, digest, 1).await.unwrap();
    (digest, catalogue)
}

/// The same report with the numbers that a published catalogue gives the updates.
pub fn by_number(mut report: StateReport, (digest, catalogue): &(Digest, LineCatalogue)) -> StateReport {
    let names: BTreeMap<_, _> =
        catalogue.updates.iter().map(|update| ((&update.source, &update.version), update)).collect();
    for message in &mut report.messages {
        let StateBody::Detection(detection) = &mut message.body else { continue };
        let number = |state: DetectedUpdate| {
            let update = names[&(&state.source, &state.version)];
            let place = |leaf: &LeafRef| {
                let place = update.leaves.iter().position(|known| {
                    (&known.package, &known.architecture) == (&leaf.package, &leaf.architecture)
                });
                u16::try_from(place.unwrap()).unwrap()
            };
            let leaves = state.leaves.iter().map(place).collect();
            NumberedUpdate { number: update.number, state: state.state, leaves }
        };
        let mut states: Vec<NumberedUpdate> = detection.states.drain(..).map(number).collect();
        states.sort_by_key(|state| state.number);
        detection.numbered = Some(Numbered { catalogue: *digest, states });
    }
    report
}

pub fn report(client: u64, at: Timestamp, messages: Vec<(u64, StateBody)>) -> StateReport {
    StateReport {
        incarnation: Uuid::from_u128(1 << 64 | u128::from(client)),
        boot: Uuid::from_u128(2 << 64 | u128::from(client)),
        sent_at: at,
        policy: None,
        messages: messages.into_iter().map(|(seq, body)| StateMessage { seq, at, body }).collect(),
    }
}
