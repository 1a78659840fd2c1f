//! A small site in which everything that reports tell apart is there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, Digest, LineId, ObjectName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
    client::Facts,
    deployment::{Deployment, DeploymentSettings},
    site::SiteLimits,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, StateError, UpdateEnforcement},
};
use patchtide_store::{
    ObjectRow, SiteStore,
    catalogue::LineSync,
    clients::EnrolmentRow,
    content::{ContentState, WantedContent},
    intake::{DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport},
    register::{Origin, Register, RegisteredCollection, RegisteredDeployment, RegisteredList},
};
use uuid::Uuid;

pub(crate) const SITE: &str = "lab";
pub(crate) const ALPHA: &str = "debian/bookworm/main:alpha@1";
/// Seconds after the beginning.
pub(crate) const NOW: i64 = 3_600;

pub(crate) fn now(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

fn line() -> LineId {
    "debian/bookworm/main".parse().unwrap()
}

fn id(source: &str) -> UpdateId {
    UpdateId { line: line(), source: source.to_owned(), version: "1".to_owned() }
}

fn update(source: &str) -> Update {
    let file =
        ContentFile { sha256: Digest::of(source.as_bytes()), size: 1, path: format!("pool/{source}.deb") };
    let leaf = Leaf {
        package: source.to_owned(),
        version: "1".to_owned(),
        architecture: "amd64".into(),
        file,
        stanza: format!("Package: {source}\n"),
    };
    Update {
        id: id(source),
        title: format!("{source} - a thing"),
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".into(),
        severity: Severity::Important,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::from([format!("DSA-1{}-1", source.len())]),
        posted: now(0),
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

fn client(n: u128) -> ClientId {
    ClientId(Uuid::from_u128(n))
}

fn clients(numbers: impl IntoIterator<Item = u128>) -> patchtide_model::shared::Shared<BTreeSet<ClientId>> {
    numbers.into_iter().map(client).collect()
}

fn scan(version: u64, states: &[(&str, Detection)]) -> IntakeBody {
    let state = |(source, state): &(&str, Detection)| DetectedUpdate {
        source: (*source).to_owned(),
        version: "1".to_owned(),
        state: *state,
        leaves: if *state == Detection::Required {
            vec![update(source).leaves[0].reference()]
        } else {
            vec![]
        },
    };
    IntakeBody::Detection(DetectionReport {
        line: line(),
        catalogue_version: version,
        part: 0,
        last: true,
        states: states.iter().map(state).collect(),
        needs: Vec::new(),
        numbered: None,
    })
}

fn error(code: u32, symbol: &str) -> StateError {
    StateError::told(code, symbol.to_owned(), "it did not work; try again".to_owned())
}

async fn report(site: &SiteStore, n: u128, bodies: Vec<IntakeBody>) {
    let messages = (1..).zip(bodies).map(|(seq, body)| IntakeMessage { seq, at: now(10), body }).collect();
    let report = IntakeReport {
        client: client(n),
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        sent_at: now(10),
        received_at: now(11),
        policy: None,
        messages,
    };
    site.intake(report).await.unwrap();
}

async fn enrol(site: &SiteStore, n: u128) {
    let id = Digest::of(&n.to_be_bytes());
    let version = if n == 1 { "0.2.0" } else { "0.1.0" };
    let facts = [("os.id", "debian"), ("os.version", "12"), ("agent.version", version)];
    let row = EnrolmentRow {
        id,
        csr_pem: String::new(),
        token_digest: None,
        name: format!("host-{n}"),
        facts: Facts::from(facts.map(|(name, value)| (name.to_owned(), value.to_owned()))),
        address: None,
        requested_at: now(0),
    };
    site.put_enrolment(row).await.unwrap();
    site.approve_enrolment(id, client(n), "", now(100_000), now(0)).await.unwrap();
}

async fn synced(site: &SiteStore, sources: &[&str]) -> u64 {
    let updates = sources.iter().map(|source| update(source)).collect();
    let sync = LineSync { line: line(), release_date: now(0), updates, full: true };
    site.apply_line_sync(sync, now(0)).await.unwrap().version
}

/// What the clients say: see the test that reads it.
async fn reports(site: &SiteStore) {
    use Detection::{Installed, Required};
    let uid = || "uid-march".to_owned();
    let compliance = |state| IntakeBody::Compliance { deployment: uid(), state };
    let scanned = || IntakeBody::Scan { state: Scan::Completed, error: None };
    let first = synced(site, &["alpha", "beta", "delta"]).await;
    report(site, 6, vec![scan(first, &[("alpha", Installed), ("beta", Installed)]), scanned()]).await;
    let second = synced(site, &["alpha", "beta", "delta", "gamma"]).await;
    let lacking =
        scan(second, &[("alpha", Required), ("beta", Required), ("delta", Required), ("gamma", Installed)]);
    let failed = IntakeBody::Update {
        update: id("alpha"),
        state: UpdateEnforcement::InstallFailed,
        error: Some(error(0x87D0_0664, "INSTALL-SCRIPT")),
    };
    let failing = IntakeBody::Enforcement {
        deployment: uid(),
        state: DeploymentEnforcement::InstallFailed,
        until: None,
        error: Some(error(0x87D0_0664, "INSTALL-SCRIPT")),
    };
    let evaluated = IntakeBody::Evaluation { deployment: uid(), state: Evaluation::Succeeded };
    report(
        site,
        1,
        vec![lacking, scanned(), failed, failing, compliance(Compliance::NonCompliant), evaluated],
    )
    .await;
    let one = scan(second, &[("alpha", Required), ("beta", Installed), ("gamma", Installed)]);
    let waiting =
        IntakeBody::Update { update: id("alpha"), state: UpdateEnforcement::WaitingForContent, error: None };
    report(site, 2, vec![one, scanned(), waiting, compliance(Compliance::Compliant)]).await;
    let all = scan(second, &[("alpha", Installed), ("beta", Installed), ("gamma", Installed)]);
    report(site, 3, vec![all, scanned(), compliance(Compliance::Compliant)]).await;
    let broken = IntakeBody::Scan { state: Scan::Failed, error: Some(error(0x8024_402C, "SCAN-NETWORK")) };
    report(site, 4, vec![broken]).await;
}

pub(crate) async fn fill(site: &SiteStore) {
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
    for n in 1..=6 {
        enrol(site, n).await;
    }
    let row = |kind: &str, name: &str, uid: &str| ObjectRow {
        kind: kind.to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        generation: 1,
        json: "{}".to_owned(),
    };
    site.put_object(row("UpdateDeployment", "march", "uid-march")).await.unwrap();
    site.put_object(row("DistributionPoint", "dp", "uid-dp")).await.unwrap();
    reports(site).await;
    register(site).await;
    content(site).await;
}

/// What the plan would say.
async fn register(site: &SiteStore) {
    let name = |text: &str| ObjectName::new(text).unwrap();
    let origin =
        |uid: &str| Origin { uid: uid.to_owned(), generation: 1, description: None, created: Some(now(0)) };
    let members = BTreeSet::from([id("alpha"), id("beta"), id("gamma")]);
    let mut register = Register::default();
    for (of, numbers) in [("servers", 1..=4), ("everyone", 1..=6)] {
        let collection = RegisteredCollection {
            origin: origin(&format!("uid-{of}")),
            parent: None,
            members: clients(numbers),
        };
        register.collections.insert(name(of), collection);
    }
    let list = RegisteredList { origin: origin("uid-security"), folder: None, members: members.clone() };
    register.lists.insert(name("security"), list);
    let deployment = Deployment {
        name: name("march"),
        uid: "uid-march".to_owned(),
        generation: 1,
        collection: name("servers"),
        include_subcollections: false,
        suspend: false,
        settings: DeploymentSettings::default(),
        updates: members.into_iter().collect(),
        anchor: now(0),
        provenance: BTreeMap::new(),
    };
    let deployment = RegisteredDeployment {
        origin: origin("uid-march"),
        deployment,
        list: Some(name("security")),
        available: Some(now(0)),
        deadline: Some(now(14 * 86_400)),
        targets: clients(1..=4),
    };
    register.deployments.insert(name("march"), deployment);
    site.put_register(&register, None, now(NOW)).await.unwrap();
}

/// Alpha is on the distribution point, beta is not.
async fn content(site: &SiteStore) {
    let wanted = |source: &str| WantedContent {
        digest: Digest::of(source.as_bytes()),
        size: 1,
        url: format!("http://archive.example/{source}"),
        update: id(source),
    };
    let dp = ObjectName::new("dp").unwrap();
    site.put_content_wanted(vec![wanted("alpha"), wanted("beta")]).await.unwrap();
    let alpha = Digest::of(b"alpha");
    site.set_content_state(alpha, ContentState::Present, now(1)).await.unwrap();
    site.set_dp_wanted(&dp, BTreeSet::from([alpha, Digest::of(b"beta")])).await.unwrap();
    site.set_dp_present(&dp, alpha, Ok(()), now(2)).await.unwrap();
}
