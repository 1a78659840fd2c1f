//! The process under test: a management point on a real listener, and beside it what the controller does to the same
//! database. It is told by its environment and killed by the others.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jiff::Timestamp;
use patchtide_management_point::{Config, ManagementPoint, Metrics, Rate};
use patchtide_model::LineId;
use patchtide_signer::SignerKeys;
use patchtide_store::{OpenOptions, SiteStore, Store, catalogue::LineSync};
use serde::{Deserialize, Serialize};

use crate::{
    bed::{Bed, Options},
    site,
};

const VARIABLE: &str = "PATCHTIDE_TEST_FAULTS_CHILD";

/// What the process is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    pub(crate) url: String,
    /// Folder of the site's keys.
    pub(crate) keys: String,
    /// Reports that may wait.
    pub(crate) queue: usize,
    /// Milliseconds between two flushes and checkpoints.
    pub(crate) upkeep: u64,
}

impl Orders {
    pub(crate) fn new(url: String, keys: &Path) -> Self {
        Self { url, keys: keys.to_str().unwrap().to_owned(), queue: 16_384, upkeep: 60 }
    }
}

/// Not a test of its own: the process that is killed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child of the others"]
async fn child() {
    let Ok(orders) = std::env::var(VARIABLE) else { return };
    let orders: Orders = serde_json::from_str(&orders).unwrap();
    let mut bed = Bed::new("lab");
    bed.keys = read_keys(Path::new(&orders.keys));
    let options = OpenOptions {
        queue: orders.queue,
        upkeep: Duration::from_millis(orders.upkeep),
        writer_patience: Duration::from_secs(1),
        ..OpenOptions::default()
    };
    let database = Store::open(&orders.url, &options).await.unwrap();
    let store = database.site(&bed.site);
    let config = Config { reports: Rate { burst: 0, period: Duration::ZERO }, ..Config::default() };
    let (point, _) = ManagementPoint::start(store.clone(), config, bed.clock.clone(), Metrics::default());
    let server = bed.serve(point.router(), Options::default()).await;
    println!("listening {}", server.address);
    tokio::spawn(controller(store, bed.now()));
    server.task.await.unwrap();
}

/// Writes of the other kind, whose commits are synced by themselves: catalogues, objects, collections of what is not used.
async fn controller(store: SiteStore, now: Timestamp) {
    let line: LineId = "debian/bookworm/churn".parse().unwrap();
    for round in 0_usize.. {
        let first = round % 7;
        let updates = (first..first + 5).map(|n| site::update(&line, n)).collect();
        let sync = LineSync { line: line.clone(), release_date: Timestamp::UNIX_EPOCH, updates, full: true };
        // A full disk, or a database that is away: the next round is another chance, as for the controller.
        let _ = store.apply_line_sync(sync, now).await;
        let _ = store.set_value("round", &round.to_string()).await;
        if round % 5 == 4 {
            let _ = store.collect_leaf_sets().await;
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

pub(crate) fn write_keys(keys: &SignerKeys, folder: &Path) {
    for (name, bytes) in keys.to_secret() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
}

fn read_keys(folder: &Path) -> SignerKeys {
    let read = |name: &str| (name.to_owned(), std::fs::read(folder.join(name)).unwrap());
    let secret = ["ca.pem", "ca-key.pem", "policy-key"].map(read);
    SignerKeys::from_secret(&secret.into_iter().collect()).unwrap()
}

/// A management point that runs.
pub(crate) struct Point {
    child: Child,
    pub(crate) address: String,
}

impl Point {
    pub(crate) fn start(orders: &Orders) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child::child", "--ignored", "--nocapture"])
            .env(VARIABLE, serde_json::to_string(orders).unwrap())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let address = lines
            .find_map(|line| line.split_once("listening ").map(|(_, address)| address.to_owned()))
            .expect("the management point did not start; what it said stands above");
        // Whoever prints must not wait for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGSTOP, SIGCONT.
    pub(crate) fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let done = Command::new("kill").args(["-s", name, &pid]).status().unwrap();
        assert!(done.success());
    }

    /// Resident memory, bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Whether the process still lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Point {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
