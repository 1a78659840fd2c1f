//! A cluster, a site database with something in it, and a reporting point that is registered in the cluster with the rights
//! of its service account.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use patchtide_endpoint::{
    CancellationToken, Listener, ListenerConfig, Metrics, VersionRule,
    tls::{CertificateSlot, server_config_with},
};
use patchtide_model::{
    ClientId, Digest, LineId, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    client::Facts,
    policy::LineRelease,
    shared::Shared,
    site::SiteLimits,
    state::{DeploymentEnforcement, Detection, Failure, UpdateEnforcement},
};
use patchtide_reporting_point::{Registration, ReportingPoint};
use patchtide_signer::{ServerName, Signer as _};
use patchtide_store::{
    ObjectRow, OpenOptions, SiteStore, Store,
    catalogue::LineSync,
    clients::EnrolmentRow,
    intake::{DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport},
    register::{Origin, Register, RegisteredCollection, RegisteredDeployment},
};
use patchtide_tests::{control_plane::ControlPlane, paths, process::run};
use prometheus_client::registry::Registry;
use tempfile::TempDir;
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::bed::Bed;

pub(crate) const NAMESPACE: &str = "patchtide";
pub(crate) const PATH: &str = "/apis/reports.patchtide.dev/v1alpha1/namespaces/patchtide/snapshots/current";
pub(crate) const CLIENTS: usize = 7;
pub(crate) const UPDATES: usize = 30;

pub(crate) struct Ground {
    pub(crate) plane: ControlPlane,
    pub(crate) folder: TempDir,
    pub(crate) bed: Bed,
    pub(crate) site: SiteStore,
    pub(crate) address: SocketAddr,
    client: Client,
    stop: CancellationToken,
    helpers: Vec<JoinHandle<()>>,
}

impl Drop for Ground {
    fn drop(&mut self) {
        self.stop.cancel();
        self.helpers.iter().for_each(JoinHandle::abort);
    }
}

impl Ground {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let plane = ControlPlane::start(&folder.path().join("plane")).unwrap();
        let manifests = paths::workspace().join("manifests");
        run(plane.kubectl_command().args(["apply", "--server-side", "-k"]).arg(&manifests)).unwrap();
        let collection = "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata: {name: everyone, namespace: patchtide}\nspec: {all: true}\n";
        patchtide_tests::wait::until("the kinds", std::time::Duration::from_secs(30), || {
            plane.apply(collection).map(drop).map_err(|error| error.to_string())
        })
        .unwrap();
        let kubeconfig = folder.path().join("server.kubeconfig");
        plane.service_account_kubeconfig(NAMESPACE, "patchtide", &kubeconfig).unwrap();

        let bed = Bed::new(NAMESPACE);
        let url = format!("sqlite://{}", folder.path().join("site.db").display());
        let database = Store::open(&url, &OpenOptions::default()).await.unwrap();
        let site = database.site(&bed.site);
        fill(&site, bed.now()).await;

        let read = Kubeconfig::read_from(&kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
        let mut ground = Self {
            plane,
            folder,
            bed,
            site,
            address: "127.0.0.1:0".parse().unwrap(),
            client: Client::try_from(config).unwrap(),
            stop: CancellationToken::new(),
            helpers: Vec::new(),
        };
        ground.serve().await;
        ground.plane.register_reports(ground.address.port()).unwrap();
        ground
    }

    /// Starts the reporting point, or another one in its place when it serves already.
    pub(crate) async fn serve(&mut self) {
        self.stop.cancel();
        for helper in std::mem::take(&mut self.helpers) {
            // One of them ends by itself when it is told to stop; the others never do.
            if !helper.is_finished() {
                tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            }
            helper.abort();
            let _ = helper.await;
        }
        self.stop = CancellationToken::new();
        let registration = Registration {
            namespace: NAMESPACE.to_owned(),
            service: "patchtide-reports".to_owned(),
            ca_pem: self.bed.keys.ca_pem().to_owned(),
        };
        let names = [ServerName::Dns(registration.server_name()), ServerName::from("127.0.0.1")];
        let server = self.bed.keys.issue_server_certificate(&names, self.bed.now()).unwrap();
        let slot = CertificateSlot::new(&server.chain_pem, &server.key_pem).unwrap();
        let database = self.site.store().clone();
        let (point, following) = ReportingPoint::start(database, &self.client, Arc::clone(&self.bed.clock));
        let listener = Listener::bind(ListenerConfig {
            name: "reporting-point",
            address: self.address,
            site: self.bed.site.clone(),
            tls: server_config_with(slot, point.verifier()).unwrap(),
            limits: ReportingPoint::limits(),
            version: VersionRule::WhenPresent,
            routes: patchtide_reporting_point::ROUTES,
            metrics: Metrics::register(&mut Registry::default()),
            clock: Arc::clone(&self.bed.clock),
        })
        .await
        .unwrap();
        self.address = listener.address();
        self.helpers = vec![
            tokio::spawn(listener.serve(point.router(), self.stop.clone())),
            following,
            tokio::spawn(registration.keep(self.client.clone())),
        ];
    }
}

pub(crate) fn client_name(n: usize) -> String {
    format!("host-{n}")
}

fn facts(n: usize) -> Facts {
    let rack = if n.is_multiple_of(2) { "a" } else { "b" };
    let facts =
        [("os.id", "debian"), ("os.version", "12"), ("label/rack", rack), ("timezone", "Europe/Berlin")];
    facts.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Clients that scanned, one that never did; a deployment of one update; a catalogue that is offered.
async fn fill(site: &SiteStore, now: Timestamp) {
    let limits = SiteLimits {
        clients: 1000,
        pending_clients: 10,
        enrolments_per_minute: 10,
        requests_per_minute: 10,
        report_size: 1 << 20,
        messages_per_report: 1000,
        content_store: None,
    };
    site.set_site_limits(&limits).await.unwrap();
    let line: LineId = "debian/bookworm/main".parse().unwrap();
    let updates: Vec<Update> = (0..UPDATES).map(|n| update(&line, n)).collect();
    let sync = LineSync { line: line.clone(), release_date: now, updates, full: true };
    site.apply_line_sync(sync, now).await.unwrap();
    site.set_line_catalogue(&line, 1, Digest::of(b"catalogue"), 10).await.unwrap();
    let offered = BTreeMap::from([(line.to_string(), Some(LineRelease::default()))]);
    site.set_offered_lines(&offered).await.unwrap();
    let row = |kind: &str, name: &str, body: serde_json::Value| ObjectRow {
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        generation: 1,
        json: body.to_string(),
    };
    site.put_object(row("UpdateDeployment", "one", deployment(&update(&line, 0).id))).await.unwrap();
    let origin =
        |uid: &str| Origin { uid: uid.to_owned(), generation: 1, description: None, created: Some(now) };
    let targets: Shared<BTreeSet<ClientId>> =
        (1..=CLIENTS).map(|n| ClientId(Uuid::from_u128(n as u128))).collect();
    let mut register = Register::default();
    let everyone =
        RegisteredCollection { origin: origin("uid-everyone"), parent: None, members: targets.clone() };
    register.collections.insert("everyone".parse().unwrap(), everyone);
    let one = RegisteredDeployment {
        origin: origin("uid-one"),
        deployment: serde_json::from_value(deployment(&update(&line, 0).id)).unwrap(),
        list: None,
        available: Some(now),
        deadline: None,
        targets,
    };
    register.deployments.insert("one".parse().unwrap(), one);
    site.put_object(row("PinnedReferences", "one", serde_json::json!({"a": 1}))).await.unwrap();
    for n in 1..=CLIENTS {
        let id = ClientId(Uuid::from_u128(n as u128));
        let enrolment = EnrolmentRow {
            id: Digest::of(&n.to_be_bytes()),
            csr_pem: String::new(),
            token_digest: None,
            name: client_name(n),
            facts: facts(n),
            address: None,
            requested_at: now,
        };
        site.put_enrolment(enrolment.clone()).await.unwrap();
        let end = now + SignedDuration::from_hours(24);
        site.approve_enrolment(enrolment.id, id, "", end, now).await.unwrap();
        if n < CLIENTS {
            site.intake(scan(&line, id, n, now)).await.unwrap();
        }
    }
    site.put_register(&register, None, now).await.unwrap();
}

/// The client of this number says this of the deployment `one`, as its message of this number.
pub(crate) async fn say(site: &SiteStore, n: usize, seq: u64, state: DeploymentEnforcement, now: Timestamp) {
    let error = (state == DeploymentEnforcement::InstallFailed).then(|| Failure::Hash.error("openssl.deb"));
    let body: IntakeBody =
        IntakeBody::Enforcement { deployment: "uid-one".to_owned(), state, until: None, error };
    let report = IntakeReport {
        client: ClientId(Uuid::from_u128(n as u128)),
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        sent_at: now,
        received_at: now,
        policy: Some((1, 1)),
        messages: vec![IntakeMessage { seq, at: now, body }],
    };
    site.intake(report).await.unwrap();
}

fn scan(line: &LineId, client: ClientId, n: usize, now: Timestamp) -> IntakeReport {
    let states = (0..UPDATES).filter(|source| source % 7 != n).map(|source| {
        let update = update(line, source);
        let required = source % n == 0;
        DetectedUpdate {
            state: if required { Detection::Required } else { Detection::Installed },
            leaves: if required { vec![update.leaves[0].reference()] } else { Vec::new() },
            source: update.id.source,
            version: update.id.version,
        }
    });
    let detection = DetectionReport {
        line: line.clone(),
        catalogue_version: 1,
        part: 0,
        last: true,
        states: states.collect(),
        needs: Vec::new(),
        numbered: None,
    };
    let installing =
        IntakeBody::Update { update: update(line, 0).id, state: UpdateEnforcement::Installing, error: None };
    let bodies = [IntakeBody::Detection(detection), installing];
    IntakeReport {
        client,
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        sent_at: now,
        received_at: now,
        policy: Some((1, 1)),
        messages: (1..).zip(bodies).map(|(seq, body)| IntakeMessage { seq, at: now, body }).collect(),
    }
}

fn update(line: &LineId, n: usize) -> Update {
    let (source, version) = (format!("source-{n:02}"), "1.2-3".to_owned());
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
        cves: std::collections::BTreeSet::new(),
        bulletins: std::collections::BTreeSet::new(),
        posted: Timestamp::UNIX_EPOCH,
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

fn deployment(update: &UpdateId) -> serde_json::Value {
    serde_json::json!({
        "name": "one", "uid": "uid-one", "generation": 1, "collection": "everyone",
        "include_subcollections": false, "suspend": false,
        "settings": {
            "display_notifications": true, "client_local_time": false, "available": "AsSoonAsPossible",
            "deadline": "None", "suppress_restart_servers": false, "suppress_restart_workstations": false,
            "install_outside_windows": false, "restart_outside_windows": false, "disable_alerts": false,
            "alert_on_failure": false, "install_on_slow_boundary": false, "fallback_to_unprotected": true,
            "install_all_applicable": false, "wake_on_lan": false, "allow_remove": false, "deadline_spread": "PT0S",
        },
        "updates": [update], "anchor": "2026-01-01T00:00:00Z",
    })
}
