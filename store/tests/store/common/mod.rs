//! The two databases under test, and what tests put into them.

mod postgres;

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{
    ClientId, Digest, LineId, SiteName, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, LeafRef, RestartRule, Severity, Update},
    client::Facts,
    state::Detection,
};
use patchtide_store::{
    OpenOptions, SiteStore, Store,
    catalogue::LineSync,
    clients::EnrolmentRow,
    intake::{DetectedUpdate, DetectionReport, IntakeAck, IntakeBody, IntakeMessage, IntakeReport, Sender},
};
use uuid::Uuid;

/// A database of its own for one test.
pub(crate) struct Db {
    pub(crate) url: String,
    pub(crate) store: Store,
    pub(crate) site: SiteStore,
    _folder: Option<tempfile::TempDir>,
}

impl Db {
    pub(crate) async fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/site.db", folder.path().display());
        Self::open(url, Some(folder)).await
    }

    pub(crate) async fn postgres() -> Self {
        Self::open(postgres::database(), None).await
    }

    async fn open(url: String, folder: Option<tempfile::TempDir>) -> Self {
        let store = Store::open(&url, &OpenOptions::default()).await.unwrap();
        let site = store.site(&SiteName::new("site").unwrap());
        Self { url, store, site, _folder: folder }
    }

    /// Another process' view of the same database.
    pub(crate) async fn second(&self) -> SiteStore {
        Store::open(&self.url, &OpenOptions::default()).await.unwrap().site(self.site.name())
    }
}

/// Each test on both databases.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::common::Db::sqlite().await).await })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(crate::common::Db::postgres().await).await })+
        }
    };
}
pub(crate) use on_both;

pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000).unwrap() + SignedDuration::from_secs(seconds)
}

pub(crate) fn line(name: &str) -> LineId {
    LineId::new(format!("debian/{name}/main")).unwrap()
}

pub(crate) fn id(line_name: &str, source: &str, version: &str) -> UpdateId {
    UpdateId { line: line(line_name), source: source.to_owned(), version: version.to_owned() }
}

pub(crate) fn leaf_ref(package: &str, version: &str) -> LeafRef {
    LeafRef { package: package.to_owned(), architecture: "amd64".to_owned(), version: version.to_owned() }
}

/// An update with one leaf of the same name and version.
pub(crate) fn update(line_name: &str, source: &str, version: &str) -> Update {
    let leaf = Leaf {
        package: source.to_owned(),
        version: version.to_owned(),
        architecture: "amd64".to_owned(),
        file: ContentFile {
            sha256: Digest::of(format!("{source} {version}").as_bytes()),
            size: 1234,
            path: format!("pool/main/{source}_{version}_amd64.deb"),
        },
        stanza: format!(
            "Package: {source}\nVersion: {version}\nPre-Depends: dpkg\nDepends: libc6 (>= 2),\n zlib1g\n"
        ),
    };
    Update {
        id: id(line_name, source, version),
        title: format!("{source} - a thing"),
        classification: Classification::SecurityUpdates,
        product: "Debian bookworm".to_owned(),
        severity: Severity::Important,
        cves: BTreeSet::from([format!("CVE-2026-{}", source.len())]),
        bulletins: BTreeSet::new(),
        posted: at(0),
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

/// A full sync of one line to exactly these (source, version).
pub(crate) fn sync(line_name: &str, updates: &[(&str, &str)]) -> LineSync {
    LineSync {
        line: line(line_name),
        release_date: at(0),
        updates: updates.iter().map(|(source, version)| update(line_name, source, version)).collect(),
        full: true,
    }
}

/// A new, active client.
pub(crate) async fn client(site: &SiteStore, n: u128) -> ClientId {
    let client = ClientId(Uuid::from_u128(n));
    let request = enrolment(n);
    site.put_enrolment(request.clone()).await.unwrap();
    site.approve_enrolment(request.id, client, "cert", at(1_000_000), at(0)).await.unwrap();
    client
}

pub(crate) fn enrolment(n: u128) -> EnrolmentRow {
    EnrolmentRow {
        id: Digest::of(&n.to_be_bytes()),
        csr_pem: "csr".to_owned(),
        token_digest: None,
        name: format!("host-{n}"),
        facts: Facts::from([("os.id".to_owned(), "debian".to_owned())]),
        address: None,
        requested_at: at(0),
    }
}

/// One state of a scan.
pub(crate) fn detected(source: &str, version: &str, state: Detection) -> DetectedUpdate {
    let leaves = if state == Detection::Required { vec![leaf_ref(source, version)] } else { Vec::new() };
    DetectedUpdate { source: source.to_owned(), version: version.to_owned(), state, leaves }
}

/// A complete scan.
pub(crate) fn scan(line_name: &str, version: u64, states: Vec<DetectedUpdate>) -> IntakeBody {
    IntakeBody::Detection(DetectionReport {
        line: line(line_name),
        catalogue_version: version,
        part: 0,
        last: true,
        states,
        needs: Vec::new(),
        numbered: None,
    })
}

/// A report of messages numbered from `first`.
pub(crate) fn report(client: ClientId, first: u64, bodies: Vec<IntakeBody>) -> IntakeReport {
    let messages = (first..).zip(bodies).map(|(seq, body)| IntakeMessage { seq, at: at(10), body }).collect();
    IntakeReport {
        client,
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        sent_at: at(10),
        received_at: at(11),
        policy: None,
        messages,
    }
}

pub(crate) const fn kept(acknowledged: u64) -> IntakeAck {
    IntakeAck { acknowledged, resync: false, sender: Sender::Known, dropped_facts: 0, by_name: false }
}

/// Runs a statement as anybody with a database tool would; its rows, each value as text, `-` where there is none.
pub(crate) async fn rows(db: &Db, statement: &str) -> Vec<Vec<String>> {
    use sqlx::{Connection as _, Row as _, TypeInfo as _, ValueRef as _, postgres::PgRow, sqlite::SqliteRow};
    macro_rules! cells {
        ($row:ident, $time:expr) => {
            (0..$row.columns().len())
                .map(|n| {
                    let value = $row.try_get_raw(n).unwrap();
                    if value.is_null() {
                        return "-".to_owned();
                    }
                    match value.type_info().name().to_ascii_uppercase().as_str() {
                        "INTEGER" | "BIGINT" | "INT8" => $row.get::<i64, _>(n).to_string(),
                        "INT4" => $row.get::<i32, _>(n).to_string(),
                        "REAL" | "FLOAT8" => $row.get::<f64, _>(n).to_string(),
                        "TIMESTAMPTZ" => $time(n),
                        _ => $row.get::<String, _>(n),
                    }
                })
                .collect()
        };
    }
    if db.url.starts_with("sqlite") {
        let mut conn = sqlx::SqliteConnection::connect(&db.url).await.unwrap();
        let cells = |row: &SqliteRow| cells!(row, |_| unreachable!("SQLite has no such type"));
        let found = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).fetch_all(&mut conn).await;
        found.unwrap_or_else(|error| panic!("{error}: {statement}")).iter().map(cells).collect()
    } else {
        // As it comes over the wire, in the form that the other database has.
        let time = |row: &PgRow, n: usize| {
            let bytes: [u8; 8] = row.try_get_raw(n).unwrap().as_bytes().unwrap().try_into().unwrap();
            let since_1970 = i64::from_be_bytes(bytes) + 946_684_800_000_000;
            Timestamp::from_microsecond(since_1970).unwrap().strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
        };
        let mut conn = sqlx::PgConnection::connect(&db.url).await.unwrap();
        let cells = |row: &PgRow| cells!(row, |n| time(row, n));
        let found = sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).fetch_all(&mut conn).await;
        found.unwrap_or_else(|error| panic!("{error}: {statement}")).iter().map(cells).collect()
    }
}
