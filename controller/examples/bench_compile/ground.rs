//! A site database with a fleet in it, as enrolment, a synchronisation and reconciles leave it.

use std::{path::Path, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use patchtide_controller::compile::{Ground, Policies};
use patchtide_model::{ClientId, Digest, client::Client, object::PackageContent, policy::LinePolicy};
use patchtide_planner::site::SiteInput;
use patchtide_signer::{Signer, SignerKeys};
use patchtide_store::{
    ObjectRow, OpenOptions, SiteStore, Store,
    catalogue::LineSync,
    clients::EnrolmentRow,
    intake::{IntakeBody, IntakeMessage, IntakeReport},
    site::{OfferedLines, PACKAGE_CONTENT},
};
use serde::Serialize;
use tokio::time::Instant;
use uuid::Uuid;

/// A database and keys.
pub(crate) struct Site {
    pub(crate) input: SiteInput,
    pub(crate) store: SiteStore,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) offered: OfferedLines,
}

pub(crate) fn at() -> Timestamp {
    Timestamp::from_second(1_790_000_000).expect("a time")
}

impl Site {
    /// Everything of `input` in a new database in `folder`.
    pub(crate) async fn new(folder: &Path, input: SiteInput) -> Self {
        let url = format!("sqlite://{}", folder.join("site.db").display());
        let store = Store::open(&url, &OpenOptions::default()).await.expect("a database").site(&input.site);
        let keys = SignerKeys::generate(&input.site, at()).expect("keys");
        for line in input.lines.iter().map(|line: &LinePolicy| &line.line) {
            let updates = input.updates.values().filter(|update| update.id.line == *line).cloned().collect();
            let sync = LineSync { line: line.clone(), release_date: at(), updates, full: true };
            store.apply_line_sync(sync, at()).await.expect("a catalogue");
        }
        let offered = input.lines.iter().map(|line| (line.line.to_string(), None)).collect();
        let site = Self { store, signer: Arc::new(keys), offered, input };
        let objects = &site.input.objects;
        for (name, one) in &objects.collections {
            site.put("Collection", name.as_str(), "", 1, one).await;
        }
        for (name, one) in &objects.windows {
            site.put("MaintenanceWindow", name.as_str(), "", 1, one).await;
        }
        for (name, one) in &objects.deployments {
            site.put("UpdateDeployment", name.as_str(), &one.uid, one.generation, one).await;
        }
        for (name, one) in &objects.client_settings {
            site.put("ClientSettings", name.as_str(), "", 1, one).await;
        }
        for (name, one) in &objects.distribution_points {
            site.put("DistributionPoint", name.as_str(), "", 1, one).await;
        }
        // What a package holds is approved, whoever requires it.
        let leaves = site.input.updates.values().flat_map(|update| update.leaves.iter().take(2));
        let files = leaves.map(|leaf| (leaf.file.sha256, leaf.file.size)).collect();
        let content = PackageContent { version: 1, files, ..PackageContent::default() };
        site.put(PACKAGE_CONTENT, "all", "", 1, &content).await;
        for client in &site.input.clients {
            site.enrol(client).await;
        }
        site
    }

    pub(crate) async fn put(
        &self,
        kind: &str,
        name: &str,
        uid: &str,
        generation: i64,
        body: &impl Serialize,
    ) {
        let json = serde_json::to_string(body).expect("JSON");
        let row = ObjectRow { kind: kind.into(), name: name.into(), uid: uid.into(), generation, json };
        self.store.put_object(row).await.expect("an object");
    }

    pub(crate) async fn enrol(&self, client: &Client) {
        let id = Digest::of(client.id.to_string().as_bytes());
        let request = EnrolmentRow {
            id,
            csr_pem: String::new(),
            token_digest: None,
            name: client.name.clone(),
            facts: client.facts.clone(),
            address: client.address,
            requested_at: at(),
        };
        self.store.put_enrolment(request).await.expect("a request");
        let end = at() + SignedDuration::from_hours(24 * 90);
        self.store.approve_enrolment(id, client.id, "", end, at()).await.expect("a client");
    }

    /// What a client said.
    pub(crate) async fn tell(&self, client: ClientId, seq: u64, body: IntakeBody) {
        let report: IntakeReport = IntakeReport {
            client,
            incarnation: Uuid::from_u128(1),
            boot: Uuid::from_u128(1),
            sent_at: at(),
            received_at: at(),
            policy: None,
            messages: vec![IntakeMessage { seq, at: at(), body }],
        };
        self.store.intake(report).await.expect("an answer");
    }

    pub(crate) fn ground(&self) -> Ground<'_> {
        Ground { site: &self.input.site, store: &self.store, signer: &self.signer }
    }

    /// One run: how many policies were new.
    pub(crate) async fn run(&self, policies: &mut Policies, now: Instant) -> usize {
        let objects = self.store.load_objects().await.expect("objects");
        policies.compile(self.ground(), objects, self.offered.clone(), now).await.expect("a proved plan");
        policies.issue(self.ground(), at()).await.expect("policies")
    }
}
