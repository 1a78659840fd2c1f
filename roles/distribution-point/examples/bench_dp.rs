//! The distribution point against nginx: TLS 1.3 with client certificates on both, the same files, the same load client
//! on the same cores, alternating rounds, median of three. Run by `cargo xtask bench` or
//! `cargo run --release -p patchtide-distribution-point --example bench_dp`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss
)]

#[path = "../../testing/bed.rs"]
mod bed;
#[path = "../../testing/load.rs"]
mod load;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use bed::{Bed, Device, Options};
use patchtide_distribution_point::{DistributionPoint, Metrics, Names};
use patchtide_endpoint::{Limits, VersionRule};
use patchtide_model::{Digest, ObjectName, object};
use patchtide_signer::{ServerName, Signer as _, SignerKeys, spki_digest};
use patchtide_store::{ObjectRow, OpenOptions, Store, clients::EnrolmentRow, library::Library};
use tokio::net::TcpStream;

const SIZES: [(&str, usize); 3] = [("1 KB", 1_000), ("100 KB", 100_000), ("10 MB", 10_000_000)];
const CONNECTIONS: usize = 64;
const ROUNDS: usize = 3;
const ROUND: Duration = Duration::from_secs(3);

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|a| a == "serve") {
        runtime.block_on(serve(Path::new(&arguments[2])));
    } else {
        runtime.block_on(measure());
    }
}

fn content(size: usize) -> Vec<u8> {
    // Not compressible, so that nothing on the way can cheat.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    (0..size)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// The distribution point as a process of its own.
async fn serve(folder: &Path) {
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    let secret = ["ca.pem", "ca-key.pem", "policy-key"].map(|name| (name.to_owned(), read(name)));
    let mut bed = Bed::new("bench");
    bed.keys = SignerKeys::from_secret(&secret.into_iter().collect()).unwrap();
    let url = format!("sqlite://{}", folder.join("site.db").display());
    let store = Store::open(&url, &OpenOptions::default()).await.unwrap().site(&bed.site);
    let library = Library::open(folder.join("library")).unwrap();
    let dp: ObjectName = "dp".parse().unwrap();
    let point = object::DistributionPoint {
        name: dp.clone(),
        endpoints: vec![],
        boundaries: vec![],
        protected: false,
    };
    let json = serde_json::to_string(&point).unwrap();
    let row = ObjectRow {
        kind: "DistributionPoint".into(),
        name: "dp".into(),
        uid: "u".into(),
        generation: 1,
        json,
    };
    store.put_object(row).await.unwrap();
    let wanted: BTreeSet<Digest> = library.iter().unwrap().map(|(digest, _)| digest).collect();
    store.set_dp_wanted(&dp, wanted).await.unwrap();
    let csr_pem = String::from_utf8(read("client.csr")).unwrap();
    let id = spki_digest(&csr_pem).unwrap();
    let row = EnrolmentRow {
        id,
        csr_pem,
        token_digest: None,
        name: "bench".into(),
        facts: BTreeMap::default(),
        address: None,
        requested_at: bed.now(),
    };
    store.put_enrolment(row).await.unwrap();
    let end = bed.now() + jiff::SignedDuration::from_hours(24);
    let client = bed.device(1).id;
    store.approve_enrolment(id, client, "", end, bed.now()).await.unwrap();
    let point = DistributionPoint::new(
        store,
        Names::All,
        library,
        &folder.join("dp"),
        bed.clock.clone(),
        Metrics::default(),
        patchtide_store::content::ScrubPace::default(),
    )
    .unwrap();
    point.round(&mut BTreeMap::default()).await.unwrap();
    let limits = Limits { per_client: 1000, ..Limits::default() };
    let options = Options {
        certificate_required: true,
        version: VersionRule::WhenPresent,
        limits,
        ..Options::default()
    };
    let running = bed.serve(point.router(), options).await;
    println!("{}", running.address);
    running.task.await.unwrap();
}

struct Server {
    name: &'static str,
    child: Child,
    address: SocketAddr,
    path: fn(&str) -> String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Not the kill that nobody can handle: nginx would leave its workers behind.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

impl Server {
    /// The process and its workers.
    fn pids(&self) -> Vec<u32> {
        let parent = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"));
        let mut pids: Vec<u32> =
            children.unwrap_or_default().split_whitespace().filter_map(|pid| pid.parse().ok()).collect();
        pids.push(parent);
        pids
    }
}

async fn measure() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let bed = Bed::new("bench");
    let device = bed.device(1);
    for (name, bytes) in bed.keys.to_secret() {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::fs::write(folder.join("client.csr"), &device.csr_pem).unwrap();
    let library = Library::open(folder.join("library")).unwrap();
    let files: Vec<(&str, String)> =
        SIZES.iter().map(|(name, size)| (*name, library.put(&content(*size)).unwrap().to_string())).collect();
    let servers = [ours(folder), nginx(&bed, folder).await];
    println!(
        "distribution point and nginx, TLS 1.3 with client certificates, {CONNECTIONS} connections, both cores shared with the load client"
    );
    for (size, digest) in &files {
        let mut rates = [Vec::new(), Vec::new()];
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..ROUNDS {
            for (index, server) in servers.iter().enumerate() {
                let connections = connect(&bed, &device, server.address).await;
                let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", (server.path)(digest));
                let request = request.into_bytes();
                let before = load::processor_seconds(&server.pids());
                let seen =
                    load::run(connections, load::Until::Elapsed(ROUND), move |_| request.clone()).await;
                let used = load::processor_seconds(&server.pids()) - before;
                let cost = used / seen.answers as f64 * 1e6;
                println!(
                    "{size:>7}  round {}  {:<9} {}  {cost:>8.1} us CPU/request",
                    round + 1,
                    server.name,
                    seen.line()
                );
                assert_eq!(seen.failures, 0);
                rates[index].push(seen.rate());
                costs[index].push(cost);
            }
        }
        let [ours, theirs] = rates.map(load::median);
        let [our_cost, their_cost] = costs.map(load::median);
        println!(
            "{size:>7}  RATIO to nginx: {:.2} of its requests/s, {:.2} of its server CPU per request",
            ours / theirs,
            our_cost / their_cost
        );
    }
}

async fn connect(
    bed: &Bed,
    device: &Device,
    address: SocketAddr,
) -> Vec<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(bed.raw(address, Some(device)).await);
    }
    streams
}

fn ours(folder: &Path) -> Server {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .arg(folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().parse().unwrap();
    Server { name: "patchtide", child, address, path: |digest| format!("/v1/blob/sha256/{digest}") }
}

async fn nginx(bed: &Bed, folder: &Path) -> Server {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let server = bed.keys.issue_server_certificate(&[ServerName::from("127.0.0.1")], bed.now()).unwrap();
    std::fs::write(folder.join("nginx.crt"), server.chain_pem).unwrap();
    std::fs::write(folder.join("nginx.key"), server.key_pem).unwrap();
    let here = folder.display();
    let config = format!(
        "daemon off; worker_processes 2; pid {here}/nginx.pid; error_log {here}/nginx.log; user root;\n\
         events {{ worker_connections 1024; }}\n\
         http {{ access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 100000000;\n\
         client_body_temp_path {here}/t1; proxy_temp_path {here}/t2; fastcgi_temp_path {here}/t3;\n\
         uwsgi_temp_path {here}/t4; scgi_temp_path {here}/t5;\n\
         open_file_cache max=1000 inactive=60s; default_type application/octet-stream;\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_protocols TLSv1.3; ssl_certificate {here}/nginx.crt;\n\
         ssl_certificate_key {here}/nginx.key; ssl_client_certificate {here}/ca.pem; ssl_verify_client on;\n\
         root {here}/library/sha256; }} }}\n"
    );
    let path = folder.join("nginx.conf");
    std::fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
    let child =
        Command::new("nginx").arg("-c").arg(&path).arg("-e").arg(folder.join("nginx.log")).spawn().unwrap();
    let address: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    for _ in 0..100 {
        if TcpStream::connect(address).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Server { name: "nginx", child, address, path: |digest| format!("/{}/{digest}", &digest[..2]) }
}
