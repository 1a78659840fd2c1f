//! The management point over real TLS against a real SQLite site database. Bad input by the numbers of reliability.md
//! section 4 (state messages 71 to 83).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../../testing/bed.rs"]
mod bed;
#[path = "../../../testing/site.rs"]
mod site;

use bed::{Bed, Device, Options, Running};
use patchtide_management_point::{Config, ManagementPoint, Metrics};
use patchtide_model::Digest;
use patchtide_protocol::{Problem, state::Acknowledgement};
use patchtide_store::clients::StoredPolicy;
use prometheus_client::registry::Registry;
use reqwest::{RequestBuilder, Response, StatusCode};
use site::Site;

mod enrolment;
mod figures;
mod limits;
mod policy;
mod reports;
mod slow;

struct Point {
    bed: Bed,
    site: Site,
    server: Running,
    registry: Registry,
    _folder: tempfile::TempDir,
}

impl Point {
    async fn start() -> Self {
        Self::with(Options::default()).await
    }

    async fn with(options: Options) -> Self {
        let bed = Bed::new("lab");
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(&bed, folder.path()).await;
        let config =
            Config { software_update_points: vec!["https://sup.example:8445".into()], ..Config::default() };
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (point, _) = ManagementPoint::start(site.store.clone(), config, bed.clock.clone(), metrics);
        let server = bed.serve(point.router(), options).await;
        Self { bed, site, server, registry, _folder: folder }
    }

    /// The value of a metric.
    fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse().unwrap()
    }

    async fn client(&self, id: u128) -> (Device, reqwest::Client) {
        let device = self.bed.device(id);
        self.site.activate(&device).await;
        let client = self.bed.client(Some(&device));
        (device, client)
    }

    fn post(&self, client: &reqwest::Client, body: impl Into<reqwest::Body>) -> RequestBuilder {
        client
            .post(self.server.url("/v1/state-messages"))
            .header("content-type", "application/json")
            .body(body)
    }

    async fn policy(&self, device: &Device, number: u64) {
        let parts = ["orders", "updates"].map(|part| {
            let part = format!("{part} {number}").into_bytes();
            (Digest::of(&part), part)
        });
        let policy = StoredPolicy {
            client: device.id,
            epoch: 1,
            number,
            body_digest: Digest::of(&number.to_be_bytes()),
            orders: parts[0].0,
            updates: parts[1].0,
            statement: format!("policy {number} of {}", device.id).into_bytes(),
            issued_at: self.site.now,
        };
        assert_eq!(self.site.store.put_policies(vec![policy], parts.into()).await.unwrap(), 1);
    }
}

async fn refused(request: RequestBuilder) -> (u16, String, String) {
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/problem+json", "{response:?}");
    let problem: Problem = response.json().await.unwrap();
    assert!(!problem.remedy.is_empty());
    (problem.status, problem.code, problem.detail)
}

#[track_caller]
fn is(refused: &(u16, String, String), status: u16, code: &str) {
    assert_eq!((refused.0, refused.1.as_str()), (status, code), "{refused:?}");
}

async fn acknowledged(request: RequestBuilder) -> Acknowledgement {
    let response: Response = request.send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK, "{}", response.text().await.unwrap());
    response.json().await.unwrap()
}
