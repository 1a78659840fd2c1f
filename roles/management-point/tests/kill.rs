//! A management point that is killed in the middle of intake has lost nothing that it acknowledged.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../testing/bed.rs"]
mod bed;
#[path = "../../testing/site.rs"]
mod site;

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bed::{Bed, Options};
use patchtide_management_point::{Config, ManagementPoint, Metrics, Rate};
use patchtide_protocol::state::{Acknowledgement, StateBody};
use patchtide_signer::SignerKeys;
use site::{Site, report};

const CHILD: &str = "PATCHTIDE_TEST_KILL_FOLDER";
const CLIENTS: u64 = 8;

async fn serve(folder: &Path) -> (Bed, Site, bed::Running) {
    let mut bed = Bed::new("lab");
    let secret = ["ca.pem", "ca-key.pem", "policy-key"]
        .map(|name| (name.to_owned(), std::fs::read(folder.join(name)).unwrap()));
    bed.keys = SignerKeys::from_secret(&secret.into_iter().collect()).unwrap();
    let site = Site::open(&bed, folder).await;
    let config = Config { reports: Rate { burst: 0, period: Duration::ZERO }, ..Config::default() };
    let (point, _) =
        ManagementPoint::start(site.store.clone(), config, bed.clock.clone(), Metrics::default());
    let server = bed.serve(point.router(), Options::default()).await;
    (bed, site, server)
}

/// Not a test of its own: the process that is killed.
#[tokio::test]
#[ignore = "the child of the test below"]
async fn child() {
    let Some(folder) = std::env::var_os(CHILD) else { return };
    let (_, _, server) = serve(Path::new(&folder)).await;
    println!("listening {}", server.address);
    server.task.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let bed = Bed::new("lab");
    for (name, bytes) in bed.keys.to_secret() {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let devices: Vec<_> = (1..=CLIENTS).map(|id| bed.device(id.into())).collect();
    {
        let site = Site::open(&bed, folder.path()).await;
        for device in &devices {
            site.activate(device).await;
        }
        site.database.close().await.unwrap();
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let address = BufReader::new(child.stdout.take().unwrap())
        .lines()
        .find_map(|line| line.unwrap().split_once("listening ").map(|(_, address)| address.to_owned()))
        .unwrap();
    let url = format!("https://{address}/v1/state-messages");
    let acknowledged: Arc<Vec<AtomicU64>> = Arc::new((0..CLIENTS).map(|_| AtomicU64::new(0)).collect());
    let mut tasks = Vec::new();
    for (index, device) in devices.iter().enumerate() {
        let (client, url, all) = (bed.client(Some(device)), url.clone(), Arc::clone(&acknowledged));
        let now = bed.now();
        tasks.push(tokio::spawn(async move {
            for seq in 1.. {
                let beat = report(index as u64, now, vec![(seq, StateBody::Heartbeat {})]);
                let Ok(response) = client.post(&url).json(&beat).send().await else { return };
                let Ok(ack) = response.json::<Acknowledgement>().await else { return };
                assert_eq!(
                    ack,
                    Acknowledgement { acknowledged: seq, resync: false, by_name: false, superseded: false }
                );
                all[index].store(seq, Ordering::Relaxed);
            }
        }));
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    let total: u64 = acknowledged.iter().map(|n| n.load(Ordering::Relaxed)).sum();
    assert!(total > 50, "only {total} reports were taken before the kill");

    let (bed, site, server) = serve(folder.path()).await;
    for (index, device) in devices.iter().enumerate() {
        // The next one, or the one after it if the last was committed and not answered: never a gap.
        let last = acknowledged[index].load(Ordering::Relaxed);
        let beat = report(index as u64, bed.now(), vec![(last + 1, StateBody::Heartbeat {})]);
        let answer = bed.client(Some(device)).post(server.url("/v1/state-messages")).json(&beat).send().await;
        let ack: Acknowledgement = answer.unwrap().json().await.unwrap();
        assert_eq!(
            ack,
            Acknowledgement { acknowledged: last + 1, resync: false, by_name: false, superseded: false },
            "client {index}"
        );
    }
    assert!(site.store.verify().await.unwrap().is_empty());
}
