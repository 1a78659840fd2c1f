//! The server as a process: starts, says how it is, stops in order. The roles that need no cluster; with one, the demo's
//! test does it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../roles/testing/bed.rs"]
mod bed;
#[path = "../../roles/testing/site.rs"]
mod site;

use std::{
    io::Read as _,
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bed::Bed;
use patchtide_protocol::{VERSION, VERSION_HEADER, state::StateBody};
use patchtide_signer::{ServerName, Signer as _};
use patchtide_store::library::Library;
use site::{Site, report};

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn management_point(folder: &Path, listen: SocketAddr, metrics: SocketAddr) -> Command {
    role(folder, "management-point", "--mp-listen", listen, metrics)
}

fn role(folder: &Path, role: &str, option: &str, listen: SocketAddr, metrics: SocketAddr) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchtide"));
    command.args(["--log-format", "json", role, "--namespace", "lab"]).args([
        option,
        &listen.to_string(),
        "--metrics-listen",
        &metrics.to_string(),
    ]);
    for (option, name) in [
        ("--data", "data"),
        ("--tls-certificate", "tls.crt"),
        ("--tls-key", "tls.key"),
        ("--client-ca", "ca.crt"),
    ] {
        command.arg(option).arg(folder.join(name));
    }
    command.env_remove("RUST_LOG").stderr(Stdio::piped());
    command
}

fn wait(child: &mut Child) -> ExitStatus {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn bed(folder: &Path) -> Bed {
    let bed = Bed::new("lab");
    let server = bed.keys.issue_server_certificate(&[ServerName::from("127.0.0.1")], bed.now()).unwrap();
    std::fs::write(folder.join("tls.crt"), &server.chain_pem).unwrap();
    std::fs::write(folder.join("tls.key"), &server.key_pem).unwrap();
    std::fs::write(folder.join("ca.crt"), bed.keys.ca_pem()).unwrap();
    bed
}

async fn ready(metrics: SocketAddr) -> String {
    let started = Instant::now();
    loop {
        if let Ok(response) = reqwest::get(format!("http://{metrics}/readyz")).await
            && response.status() == 200
        {
            let text = response.text().await.unwrap();
            if text.contains("database") {
                return text;
            }
        }
        assert!(started.elapsed() < Duration::from_secs(20), "it does not become ready");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_role_says_how_it_is_and_stops_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let bed = bed(folder.path());
    let (listen, metrics) = (free(), free());
    let mut child = management_point(folder.path(), listen, metrics).spawn().unwrap();
    let lines = ready(metrics).await;
    assert!(lines.contains("[+] management-point ok") && lines.contains("[+] database ok"), "{lines}");
    assert_eq!(reqwest::get(format!("http://{metrics}/livez")).await.unwrap().status(), 200);

    let device = bed.device(7);
    let site = format!("https://{listen}/v1/site");
    assert_eq!(bed.client(Some(&device)).get(&site).send().await.unwrap().status(), 200);
    let plain = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap();
    assert_eq!(plain.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let plain = plain.text().await.unwrap();
    assert!(plain.contains("# TYPE patchtide_http_requests_total counter"), "{plain}");
    let asked = reqwest::Client::new()
        .get(format!("http://{metrics}/metrics"))
        .header("accept", "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5");
    let figures = asked.send().await.unwrap().text().await.unwrap();
    let line =
        r#"patchtide_http_requests_total{listener="management-point",route="/v1/site",status="200"} 1"#;
    assert!(figures.contains(line), "{figures}");
    assert!(figures.trim_end().ends_with("# EOF"));
    assert!(!figures.contains(&device.id.to_string()), "no figure names a client");

    terminate(&child);
    let status = wait(&mut child);
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(status.success(), "{log}");
    for line in log.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
    }
    assert!(log.contains("\"message\":\"stopped\""), "{log}");

    let verify = Command::new(env!("CARGO_BIN_EXE_patchtide"))
        .args(["db", "verify", "--namespace", "lab", "--data"])
        .arg(folder.path().join("data"))
        .output()
        .unwrap();
    assert!(verify.status.success(), "{verify:?}");
    let told = String::from_utf8_lossy(&verify.stdout);
    assert!(told.contains("every count equals a recount") && told.contains("the history is whole"), "{told}");
}

fn terminate(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
}

/// A client that waits for a policy is answered, one in the middle of a large download gets all of it; and who asks whether to
/// send anything more is told not to. On the way: every role shows its figures.
#[tokio::test]
async fn stopping_loses_nothing_that_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let bed = bed(folder.path());
    let device = bed.device(7);
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let site = Site::open(&bed, &data).await;
    site.activate(&device).await;
    let library = Library::open(data.join("library")).unwrap();
    let large = vec![7_u8; 24 << 20];
    let digest = library.put(&large).unwrap();
    let name = "rack1".parse().unwrap();
    site.store.set_dp_wanted(&name, [digest].into()).await.unwrap();
    site.database.close().await.unwrap();

    let (listen, metrics) = (free(), free());
    let mut child = management_point(folder.path(), listen, metrics).spawn().unwrap();
    ready(metrics).await;
    let client = bed.client(Some(&device));
    let url = format!("https://{listen}/v1/policy?wait=120");
    let waiting = tokio::spawn(client.get(url).header(VERSION_HEADER, VERSION).send());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished());
    terminate(&child);
    assert_eq!(waiting.await.unwrap().unwrap().status(), 204, "no policy yet, told at once");
    assert!(wait(&mut child).success());

    let (listen, metrics) = (free(), free());
    let mut point = role(folder.path(), "distribution-point", "--dp-listen", listen, metrics);
    let mut child = point.args(["--dp-name", "rack1"]).spawn().unwrap();
    ready(metrics).await;
    let url = format!("https://{listen}/v1/blob/sha256/{digest}");
    let started = Instant::now();
    let mut answer = loop {
        let answer = client.get(&url).send().await.unwrap();
        if answer.status() == 200 {
            break answer;
        }
        assert!(started.elapsed() < Duration::from_secs(10), "{}", answer.status());
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    let figures = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    for line in [
        "patchtide_distribution_point_files 1",
        r#"patchtide_http_requests_total{listener="distribution-point",route="/v1/blob/sha256",status="200"} 1"#,
    ] {
        assert!(figures.contains(line), "{line} is not in {figures}");
    }
    assert!(!figures.contains(&device.id.to_string()), "no figure names a client");
    let mut got = answer.chunk().await.unwrap().unwrap().len();
    terminate(&child);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let asked = reqwest::get(format!("http://{metrics}/readyz")).await.unwrap();
    assert_eq!(asked.status(), 503);
    assert!(asked.text().await.unwrap().contains("[-] stopping: "));
    assert_eq!(reqwest::get(format!("http://{metrics}/livez")).await.unwrap().status(), 200);
    while let Some(chunk) = answer.chunk().await.unwrap() {
        got += chunk.len();
    }
    assert_eq!(got, large.len());
    assert!(wait(&mut child).success());

    let (listen, metrics) = (free(), free());
    let mut child =
        role(folder.path(), "software-update-point", "--sup-listen", listen, metrics).spawn().unwrap();
    let lines = ready(metrics).await;
    assert!(lines.contains("[+] software-update-point ok"), "{lines}");
    let url = format!("https://{listen}/v1/catalogues/{digest}");
    assert_eq!(client.get(url).send().await.unwrap().status(), 404);
    let figures = reqwest::get(format!("http://{metrics}/metrics")).await.unwrap().text().await.unwrap();
    assert!(figures.contains("patchtide_software_update_point_catalogues 0"), "{figures}");
    assert!(!figures.contains(&device.id.to_string()), "no figure names a client");
    terminate(&child);
    assert!(wait(&mut child).success());
}

/// A sync that fails leaves nobody who knows what is on the disk: the process ends by itself, for whatever started it to
/// start it anew, and what was acknowledged is there.
#[tokio::test]
async fn a_disk_that_does_not_sync_ends_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let bed = bed(folder.path());
    let device = bed.device(7);
    let data = folder.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    let site = Site::open(&bed, &data).await;
    site.activate(&device).await;
    site.database.close().await.unwrap();
    let client = bed.client(Some(&device));
    let beat = async |listen: SocketAddr, seq| {
        let beat = report(7, bed.now(), vec![(seq, StateBody::Heartbeat {})]);
        client.post(format!("https://{listen}/v1/state-messages")).json(&beat).send().await.unwrap().status()
    };

    let (listen, metrics) = (free(), free());
    let mut child = management_point(folder.path(), listen, metrics).spawn().unwrap();
    ready(metrics).await;
    assert_eq!(beat(listen, 1).await, 200);
    // SQLite has its file open and goes on; who opens it to sync it finds no file.
    let log = data.join("site.db-wal");
    std::fs::rename(&log, data.join("aside")).unwrap();
    std::os::unix::fs::symlink(&log, &log).unwrap();
    assert_eq!(beat(listen, 2).await, 503);
    assert!(!wait(&mut child).success());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.contains("the disk did not take the site database's log"), "{said}");
    std::fs::remove_file(&log).ok();
    std::fs::rename(data.join("aside"), &log).ok();

    let (listen, metrics) = (free(), free());
    let mut child = management_point(folder.path(), listen, metrics).spawn().unwrap();
    ready(metrics).await;
    assert_eq!(beat(listen, 2).await, 200);
    terminate(&child);
    assert!(wait(&mut child).success());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let _bed = bed(folder.path());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let end = |mut command: Command| {
        let mut child = command.spawn().unwrap();
        let status = wait(&mut child);
        let mut log = String::new();
        child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        assert!(!status.success(), "{log}");
        log
    };
    let address = taken.local_addr().unwrap();
    let log = end(management_point(folder.path(), address, free()));
    assert!(log.contains(&format!("cannot listen on {address}")), "{log}");
    let log = end(management_point(folder.path(), free(), address));
    assert!(log.contains("health and metrics cannot be served"), "{log}");
    let mut odd = management_point(folder.path(), free(), free());
    odd.args(["--database", "mysql://x"]);
    assert!(end(odd).contains("names no database"));
    std::fs::write(folder.path().join("tls.key"), "garbage").unwrap();
    let log = end(management_point(folder.path(), free(), free()));
    assert!(log.contains("server key is not PEM"), "{log}");
    let mut all = Command::new(env!("CARGO_BIN_EXE_patchtide"));
    all.args(["all", "--namespace", "Lab", "--advertise", "https://x"]).stderr(Stdio::piped());
    assert!(end(all).contains("1 to 63 of a-z"), "the namespace must be a site's name");
}
