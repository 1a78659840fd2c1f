//! Durable intake over HTTP against the null sink of the same server. Reports of many different clients, each with a scan
//! of 500 states; acknowledged after the commit (SQLite, synchronous=FULL). Plain HTTP and an identity that the load client
//! names, so that what is measured is intake and not 25,000 handshakes. Run by `cargo xtask bench` or
//! `cargo run --release -p patchtide-management-point --example bench_intake [CLIENTS]`.
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
#[path = "../../testing/site.rs"]
mod site;

use std::{
    io::Write as _,
    net::SocketAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Router, body::Body, extract::Request, middleware::Next, response::Response, routing::post,
    serve::ListenerExt as _,
};
use bed::Bed;
use http::HeaderMap;
use jiff::SignedDuration;
use load::{Until, run};
use patchtide_endpoint::{Peer, Refusal, body};
use patchtide_management_point::{Config, ManagementPoint, Metrics, Rate};
use patchtide_model::ClientId;
use patchtide_protocol::{
    STATE_BINARY, binary, check,
    identity::ClientIdentity,
    limits::STATE_WIRE_BYTES,
    state::{StateReport, Text},
};
use tokio::net::TcpStream;
use uuid::Uuid;

/// Clients that report at the same time; each waits for its acknowledgement.
const CONNECTIONS: usize = 512;

fn main() {
    let clients = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(5_000);
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(measure(clients));
}

async fn null(headers: HeaderMap, body: Body) -> Result<String, Refusal> {
    Ok(body::read(&headers, body, STATE_WIRE_BYTES).await?.len().to_string())
}

/// Stands for TLS: the client that the load client names.
async fn identify(site: patchtide_model::SiteName, mut request: Request, next: Next) -> Response {
    let id = request.headers()["bench-client"].to_str().unwrap().parse::<u128>().unwrap();
    let identity =
        ClientIdentity { site, client: ClientId(Uuid::from_u128(id)), not_after: jiff::Timestamp::MAX };
    let address = "127.0.0.1:1".parse().unwrap();
    request.extensions_mut().insert(Peer {
        address,
        identity: Ok(Arc::new(identity)),
        certificates: Arc::new([]),
    });
    next.run(request).await
}

async fn measure(clients: u64) {
    let bed = Bed::new("bench");
    let folder = tempfile::tempdir().unwrap();
    let site = site::Site::open(&bed, folder.path()).await;
    println!("making {clients} clients and a catalogue of 5,000 updates");
    let line = site.catalogue(5_000).await;
    let published = Arc::new(site::publish(&site, &line).await);
    site.many_clients(clients).await;
    let config = Config { reports: Rate { burst: 0, period: Duration::ZERO }, ..Config::default() };
    let (point, _index) =
        ManagementPoint::start(site.store.clone(), config, bed.clock.clone(), Metrics::default());
    let name = bed.site.clone();
    let router: Router = point
        .router()
        .route("/null", post(null))
        .layer(axum::middleware::from_fn(move |request, next| identify(name.clone(), request, next)));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });

    let sent = bed.now();
    let report = move |client: u64, round: u64, changed: usize| {
        let at = sent + SignedDuration::from_secs(i64::try_from(round).unwrap());
        site::scan(&line, client, round, 500, changed, at)
    };
    let request = move |path: &'static str, client: u64, body: Vec<u8>, media: &str| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: bench\r\nbench-client: {}\r\nContent-Type: {media}\r\nContent-Length: {}\r\n\r\n",
            client + 1,
            body.len()
        );
        [head.as_bytes(), &body].concat()
    };
    let prepare = |path: &'static str, round: u64, changed: usize, form: Form| {
        let made: Vec<Vec<u8>> = (0..clients)
            .map(|client| {
                let report = report(client, round, changed);
                match form {
                    Form::Json => {
                        request(path, client, serde_json::to_vec(&report).unwrap(), "application/json")
                    }
                    Form::Named => request(path, client, binary::encode(&report), STATE_BINARY),
                    Form::Numbered => {
                        let report = site::by_number(report, &published);
                        request(path, client, binary::encode(&report), STATE_BINARY)
                    }
                }
            })
            .collect();
        let length = made[0].len();
        (Arc::new(made), length)
    };
    probe(folder.path());
    parsing(&report(0, 1, 0), &site::by_number(report(0, 1, 0), &published));
    println!(
        "{clients} clients, 500 states each, {CONNECTIONS} connections, both cores shared with the load client"
    );
    let mut table = Vec::new();
    for (name, path, round, changed, form) in [
        ("null sink", "/null", 0, 0, Form::Numbered),
        ("first scan", "/v1/state-messages", 1, 0, Form::Numbered),
        ("rescan unchanged", "/v1/state-messages", 2, 0, Form::Numbered),
        ("rescan 5 changed", "/v1/state-messages", 3, 5, Form::Numbered),
        ("null sink, by name", "/null", 0, 0, Form::Named),
        ("rescan 5 changed, by name", "/v1/state-messages", 4, 10, Form::Named),
        ("null sink, JSON by name", "/null", 0, 0, Form::Json),
        ("rescan 5 changed, JSON by name", "/v1/state-messages", 5, 15, Form::Json),
        ("null sink, again", "/null", 0, 0, Form::Numbered),
    ] {
        let (requests, length) = prepare(path, round, changed, form);
        let connections = connect(address).await;
        let before = load::processor_seconds(&[std::process::id()]);
        let seen = run(connections, Until::Count(clients), move |index| {
            requests[usize::try_from(index).unwrap()].clone()
        })
        .await;
        // Of server and load client together: what a busy neighbour does not change much.
        let cpu = (load::processor_seconds(&[std::process::id()]) - before) * 1e6 / clients as f64;
        println!("{name:<30} {length:>6} B  {}  {cpu:>4.0} us CPU", seen.line());
        assert_eq!(seen.failures, 0, "{name}");
        table.push((name, seen.rate()));
    }
    let rate = |name: &str| table.iter().find(|(n, _)| *n == name).unwrap().1;
    let sink = load::median(vec![rate("null sink"), rate("null sink, again")]);
    println!("RATIO first scan to null sink: {:.2}", rate("first scan") / sink);
    println!("RATIO first scans to the target of 10,000 a second: {:.2}", rate("first scan") / 10_000.0);
    println!("RATIO rescan of 5 changed to null sink: {:.2}", rate("rescan 5 changed") / sink);
    for form in ["by name", "JSON by name"] {
        let (rescan, sink) = (format!("rescan 5 changed, {form}"), format!("null sink, {form}"));
        println!("RATIO rescan of 5 changed to null sink, {form}: {:.2}", rate(&rescan) / rate(&sink));
    }
    let differences = site.store.verify().await.unwrap();
    assert!(differences.is_empty(), "{differences:?}");
    println!("every count equals a recount");
}

/// What the disk gives: the limit of commits one after the other.
fn probe(folder: &Path) {
    let mut file = std::fs::File::create(folder.join("probe")).unwrap();
    let mut times: Vec<f64> = (0..100)
        .map(|_| {
            file.write_all(&[0; 8192]).unwrap();
            let started = Instant::now();
            file.sync_data().unwrap();
            started.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    times.sort_by(f64::total_cmp);
    println!("fdatasync of 8 KB: p50 {:.2} ms, p99 {:.2} ms", times[50], times[98]);
}

/// In which form a scan comes. By number is what the agent of this version sends.
#[derive(Clone, Copy)]
enum Form {
    Numbered,
    Named,
    Json,
}

/// What reading one report costs, without the site database.
fn parsing(report: &StateReport, numbered: &StateReport) {
    let bytes = binary::encode(report);
    let numbered = binary::encode(numbered);
    let json = serde_json::to_vec(report).unwrap();
    let time = |name: &str, read: &dyn Fn()| {
        let started = Instant::now();
        for _ in 0..1000 {
            read();
        }
        println!("reading and checking a report, {name}: {:.0} us", started.elapsed().as_secs_f64() * 1000.0);
    };
    time("by number", &|| binary::decode_borrowed(&numbered).unwrap().check().unwrap());
    time("by name", &|| binary::decode_borrowed(&bytes).unwrap().check().unwrap());
    time("JSON by name", &|| {
        check::json_shape(&json).unwrap();
        serde_json::from_slice::<StateReport<Text<'_>>>(&json).unwrap().check().unwrap();
    });
}

async fn connect(address: SocketAddr) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        streams.push(stream);
    }
    streams
}
