//! The management point over real TLS against a real SQLite site database. Bad input by the numbers of reliability.md
//! section 4 (state messages 71 to 83).

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

#[path = "../../testing/bed.rs"]
mod bed;
#[path = "../../testing/site.rs"]
mod site;

use std::time::{Duration, Instant};

use bed::{Bed, Device, Options, Running};
use patchtide_management_point::{Config, ManagementPoint, Metrics};
use patchtide_model::{
    Digest, ObjectName,
    client::ClientState,
    object::{Boundary, DistributionPoint},
    state::{Compliance, UpdateEnforcement},
};
use patchtide_protocol::{
    Problem, STATE_BINARY, binary,
    encoding::compress,
    enrolment::{EnrolmentAnswer, EnrolmentState, SiteGreeting},
    limits::STATE_BYTES,
    location::Locations,
    state::{Acknowledgement, StateBody},
};
use patchtide_signer::spki_digest;
use patchtide_store::{ObjectRow, clients::StoredPolicy};
use reqwest::{RequestBuilder, Response, StatusCode};
use site::{Site, report, scan};

struct Point {
    bed: Bed,
    site: Site,
    server: Running,
    _folder: tempfile::TempDir,
}

impl Point {
    async fn start() -> Self {
        let bed = Bed::new("lab");
        let folder = tempfile::tempdir().unwrap();
        let site = Site::open(&bed, folder.path()).await;
        let config =
            Config { software_update_points: vec!["https://sup.example:8445".into()], ..Config::default() };
        let (point, _) =
            ManagementPoint::start(site.store.clone(), config, bed.clock.clone(), Metrics::default());
        let server = bed.serve(point.router(), Options::default()).await;
        Self { bed, site, server, _folder: folder }
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
        let policy = StoredPolicy {
            client: device.id,
            epoch: 1,
            number,
            body_digest: Digest::of(&number.to_be_bytes()),
            envelope: format!("policy {number} of {}", device.id).into_bytes(),
            issued_at: self.site.now,
        };
        assert_eq!(self.site.store.put_policies(vec![policy]).await.unwrap(), 1);
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

#[tokio::test]
async fn enrolment_is_pending_until_it_is_approved() {
    let point = Point::start().await;
    let nobody = point.bed.client(None);
    let greeting: SiteGreeting =
        nobody.get(point.server.url("/v1/site")).send().await.unwrap().json().await.unwrap();
    assert_eq!((greeting.site.as_str(), greeting.newest_version), ("lab", 1));

    let device = point.bed.device(7);
    let id = spki_digest(&device.csr_pem).unwrap();
    let url = point.server.url(&format!("/v1/enrolments/{id}"));
    is(&refused(nobody.get(&url)).await, 404, "ENROL-UNKNOWN");
    let body = serde_json::json!({"csr_pem": device.csr_pem, "token": " secret-token-0001\n", "name": "web1",
        "facts": {"os.id": "debian"}});
    let ask = async || -> EnrolmentAnswer {
        let request = nobody.post(point.server.url("/v1/enrolments")).json(&body);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        response.json().await.unwrap()
    };
    for _ in 0..2 {
        let answer = ask().await;
        assert_eq!(answer.id, id);
        assert!(matches!(answer.state, EnrolmentState::Pending { .. }));
    }
    let open = point.site.store.open_enrolments().await.unwrap();
    assert_eq!(open.len(), 1, "asking again is the same request");
    assert_eq!(open[0].token_digest, Some(Digest::of(b"secret-token-0001")), "only its digest, trimmed");
    assert_eq!(open[0].address.unwrap().to_string(), "127.0.0.1");

    // A certificate that the site did not record gets nothing.
    let client = point.bed.client(Some(&device));
    is(&refused(client.get(point.server.url("/v1/policy"))).await, 403, "CLIENT-UNKNOWN");

    point.site.activate(&device).await;
    let answer: EnrolmentAnswer = nobody.get(&url).send().await.unwrap().json().await.unwrap();
    let EnrolmentState::Approved { client, certificate_pem } = answer.state else { panic!("{answer:?}") };
    assert_eq!((client, certificate_pem), (device.id, device.chain_pem.clone()));
    point.site.store.set_client_state(device.id, ClientState::Revoked).await.unwrap();
    assert!(matches!(ask().await.state, EnrolmentState::Refused { .. }), "a retired client's key stays out");
}

#[tokio::test]
async fn a_certificate_is_renewed_for_the_same_key_alone() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    let (other, _) = point.client(2).await;
    let id = spki_digest(&device.csr_pem).unwrap();
    // Stands for the controller: finds the request, has a certificate issued, takes the request away.
    let store = point.site.store.clone();
    let (name, end) = (device.id, point.site.now + jiff::SignedDuration::from_hours(48));
    let controller = tokio::spawn(async move {
        loop {
            let rows = store.objects("Renewal").await.unwrap();
            if let Some(row) = rows.first() {
                assert_eq!((row.name.clone(), row.uid.clone()), (name.to_string(), id.to_string()));
                store.renew_client(name, "renewed", end).await.unwrap();
                store.delete_object("Renewal", &row.name).await.unwrap();
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let renew = |csr: &str| {
        client.post(point.server.url("/v1/renewals")).json(&serde_json::json!({ "csr_pem": csr }))
    };
    let answer: EnrolmentAnswer = renew(&device.csr_pem).send().await.unwrap().json().await.unwrap();
    assert!(
        matches!(&answer.state, EnrolmentState::Approved { certificate_pem, .. } if certificate_pem == "renewed"),
        "{answer:?}"
    );
    controller.await.unwrap();
    is(&refused(renew(&other.csr_pem)).await, 409, "ENROL-KEY");
    is(&refused(renew(&point.bed.device(3).csr_pem)).await, 409, "ENROL-KEY");
    is(&refused(renew("garbage")).await, 422, "ENROL-CSR");
    assert!(point.site.store.objects("Renewal").await.unwrap().is_empty());
}

#[tokio::test]
async fn bad_enrolments_are_told_what_is_wrong() {
    let point = Point::start().await;
    let nobody = point.bed.client(None);
    let csr = point.bed.device(7).csr_pem;
    let send = |body: serde_json::Value| nobody.post(point.server.url("/v1/enrolments")).json(&body);
    let ok = serde_json::json!({"csr_pem": csr, "name": "web1"});
    let with = |key: &str, value: serde_json::Value| {
        let mut body = ok.clone();
        body[key] = value;
        body
    };
    is(&refused(send(with("csr_pem", "garbage".into()))).await, 422, "ENROL-CSR");
    is(&refused(send(with("name", "".into()))).await, 422, "ENROL-VALUE");
    is(&refused(send(with("name", "a\u{202e}b".into()))).await, 422, "ENROL-VALUE");
    is(&refused(send(with("client", "x".into()))).await, 400, "ENROL-SYNTAX");
    let long = serde_json::json!({"k": "x".repeat(257)});
    is(&refused(send(with("facts", long))).await, 422, "ENROL-VALUE");
    is(&refused(send(with("name", "x".repeat(20_000).into()))).await, 413, "BODY-SIZE");
    assert!(point.site.store.open_enrolments().await.unwrap().is_empty());
    // Limit per address: 10 pending, whatever their keys.
    for n in 0..10 {
        let body = with("csr_pem", point.bed.device(100 + n).csr_pem.into());
        assert_eq!(send(body).send().await.unwrap().status(), 200);
    }
    let one_more = with("csr_pem", point.bed.device(200).csr_pem.into());
    is(&refused(send(one_more.clone())).await, 429, "LIMIT");
    // And 30 requests at once from one address.
    let mut last = 0;
    for _ in 0..20 {
        last = send(ok.clone()).send().await.unwrap().status().as_u16();
    }
    assert_eq!(last, 429);
}

#[tokio::test]
async fn a_client_without_standing_gets_nothing() {
    let point = Point::start().await;
    for (state, code) in [
        (ClientState::Revoked, "CLIENT-REVOKED"),
        (ClientState::Quarantined, "CLIENT-QUARANTINED"),
        (ClientState::Pending, "CLIENT-PENDING"),
    ] {
        let (device, client) = point.client(state as u128 + 10).await;
        point.policy(&device, 1).await;
        point.site.store.set_client_state(device.id, state).await.unwrap();
        for path in ["/v1/policy", "/v1/locations"] {
            is(&refused(client.get(point.server.url(path))).await, 403, code);
        }
        let body = serde_json::to_vec(&report(1, point.site.now, vec![(1, StateBody::Heartbeat {})])).unwrap();
        is(&refused(point.post(&client, body)).await, 403, code);
        let renewal = serde_json::json!({"csr_pem": device.csr_pem});
        is(&refused(client.post(point.server.url("/v1/renewals")).json(&renewal)).await, 403, code);
    }
    for path in ["/v1/policy", "/v1/locations"] {
        is(&refused(point.bed.client(None).get(point.server.url(path))).await, 401, "TLS-NO-CERTIFICATE");
    }
}

#[tokio::test]
async fn policy_is_conditional_and_a_long_poll_wakes_at_once() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    let (other, _) = point.client(2).await;
    let ask = |query: &str, held: Option<&str>| {
        let mut request = client.get(point.server.url(&format!("/v1/policy{query}")));
        if let Some(held) = held {
            request = request.header("if-none-match", held);
        }
        request
    };
    let status = async |query: &str, held| ask(query, held).send().await.unwrap().status().as_u16();
    assert_eq!(status("", None).await, 204, "none was made yet");
    is(&refused(ask("?wait=soon", None)).await, 400, "QUERY");

    // The first policy ends the wait for it; another client's does not.
    let started = Instant::now();
    let waiting = tokio::spawn(ask("?wait=20", None).send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    point.policy(&other, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished());
    let put = Instant::now();
    point.policy(&device, 1).await;
    let response = waiting.await.unwrap().unwrap();
    assert!(put.elapsed() < Duration::from_secs(1), "{:?}", put.elapsed());
    assert!(started.elapsed() >= Duration::from_millis(500));
    assert_eq!(response.headers()["etag"], "\"1.1\"");
    assert_eq!(response.text().await.unwrap(), format!("policy 1 of {}", device.id));

    assert_eq!(status("", Some("\"1.1\"")).await, 304);
    assert_eq!(status("?wait=1", Some("\"1.1\"")).await, 304);
    assert_eq!(status("", Some("\"1.0\"")).await, 200);
    assert_eq!(status("", Some("\"1.9\"")).await, 304, "a lagging replica never turns a client back");
    assert_eq!(status("", Some("\"2.0\"")).await, 304);
    assert_eq!(status("", Some("garbage")).await, 200);

    // Woken again, and by the stop of the server too.
    let waiting = tokio::spawn(ask("?wait=20", Some("\"1.1\"")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    point.policy(&device, 2).await;
    let put = Instant::now();
    assert_eq!(waiting.await.unwrap().unwrap().headers()["etag"], "\"1.2\"");
    assert!(put.elapsed() < Duration::from_secs(1));
    let waiting = tokio::spawn(ask("?wait=20", Some("\"1.2\"")).send());
    tokio::time::sleep(Duration::from_millis(100)).await;
    point.server.stop.cancel();
    assert_eq!(waiting.await.unwrap().unwrap().status(), 304);
}

#[tokio::test]
async fn locations_follow_the_boundaries() {
    let point = Point::start().await;
    let (_, client) = point.client(1).await;
    let names = [("near", "127.0.0.0/8", false), ("vault", "10.0.0.0/8", true), ("far", "10.0.0.0/8", false)];
    for (name, cidr, protected) in names {
        let object = DistributionPoint {
            name: ObjectName::new(name).unwrap(),
            endpoints: vec![format!("https://{name}.example:8444")],
            boundaries: vec![Boundary { cidr: cidr.parse().unwrap(), fast: true }],
            protected,
        };
        let json = serde_json::to_string(&object).unwrap();
        let (kind, name) = ("DistributionPoint".to_owned(), name.to_owned());
        point.site.store.put_object(ObjectRow { kind, name, uid: "u".into(), generation: 1, json }).await.unwrap();
    }
    let found: Locations =
        client.get(point.server.url("/v1/locations")).send().await.unwrap().json().await.unwrap();
    let names: Vec<&str> = found.distribution_points.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["near", "far"]);
    assert_eq!(found.software_update_points, ["https://sup.example:8445"]);
}

#[tokio::test]
async fn reports_are_taken_in_every_form_and_repetition_is_harmless() {
    let point = Point::start().await;
    let line = point.site.catalogue(2000).await;
    let (device, client) = point.client(1).await;
    let now = point.site.now;
    let first = scan(&line, 1, 1, 100, 0, now);
    let json = serde_json::to_vec(&first).unwrap();
    let ack = acknowledged(point.post(&client, json.clone())).await;
    assert_eq!(ack, Acknowledgement { acknowledged: 1, resync: false });
    let states = point.site.store.client_states(device.id).await.unwrap();
    assert_eq!(states.len(), 100);

    // 76: the same again, plain and compressed, JSON and binary.
    let again = acknowledged(point.post(&client, json.clone())).await;
    assert_eq!(again, ack);
    let zstd = point.post(&client, compress(&json).unwrap()).header("content-encoding", "zstd");
    assert_eq!(acknowledged(zstd).await, ack);
    let bytes = binary::encode(&first);
    let binary = |bytes: Vec<u8>| {
        client.post(point.server.url("/v1/state-messages")).header("content-type", STATE_BINARY).body(bytes)
    };
    assert_eq!(acknowledged(binary(bytes.clone())).await, ack);
    let zstd = binary(compress(&bytes).unwrap()).header("content-encoding", "zstd");
    assert_eq!(acknowledged(zstd).await, ack);
    assert_eq!(point.site.store.client_states(device.id).await.unwrap(), states);
    assert!(point.site.store.verify().await.unwrap().is_empty());

    // 78: an update that nobody knows is kept until the catalogue has it.
    let unknown = StateBody::Update {
        update: "debian/bookworm/main:nobody@1".parse().unwrap(),
        state: UpdateEnforcement::Installed,
        error: None,
    };
    let parked = serde_json::to_vec(&report(1, now, vec![(2, unknown)])).unwrap();
    assert_eq!(acknowledged(point.post(&client, parked)).await.acknowledged, 2);
    // 75: whatever stands in a text is data.
    let texts = ["'; DROP TABLE client; --", "<script>alert(1)</script>", "%s%n{0}", "line\nbreak"];
    let hostile = texts.iter().zip(3..).map(|(text, seq)| {
        (seq, StateBody::Compliance { deployment: (*text).to_owned(), state: Compliance::Compliant })
    });
    let hostile = serde_json::to_vec(&report(1, now, hostile.collect())).unwrap();
    assert_eq!(acknowledged(point.post(&client, hostile)).await.acknowledged, 6);
    // 76: a gap is taken and told.
    let gap = serde_json::to_vec(&report(1, now, vec![(9, StateBody::Heartbeat {})])).unwrap();
    assert!(acknowledged(point.post(&client, gap)).await.resync);
}

#[tokio::test]
async fn who_reports_is_said_by_the_certificate_alone() {
    let point = Point::start().await;
    let line = point.site.catalogue(2000).await;
    let (first, client) = point.client(1).await;
    let (second, _) = point.client(2).await;
    // 74: a body that names another client is not understood at all.
    let mut body = serde_json::to_value(scan(&line, 2, 1, 10, 0, point.site.now)).unwrap();
    body["client"] = second.id.to_string().into();
    let claimed = refused(point.post(&client, body.to_string())).await;
    is(&claimed, 400, "MSG-SYNTAX");
    assert!(claimed.2.contains("unknown field `client`"), "{claimed:?}");
    body.as_object_mut().unwrap().remove("client");
    let request = point.post(&client, body.to_string()).header("x-client-id", second.id.to_string());
    acknowledged(request).await;
    assert_eq!(point.site.store.client_states(first.id).await.unwrap().len(), 10);
    assert!(point.site.store.client_states(second.id).await.unwrap().is_empty());
}

#[tokio::test]
async fn malformed_reports_are_refused_before_they_cost() {
    let point = Point::start().await;
    let (_, client) = point.client(1).await;
    let (_, patient) = point.client(2).await;
    let now = point.site.now;
    let good = serde_json::to_string(&report(1, now, vec![(1, StateBody::Heartbeat {})])).unwrap();
    let json = async |client: &reqwest::Client, body: String| refused(point.post(client, body)).await;

    // 71: syntax, with the place.
    let cut = json(&client, good[..good.len() - 2].to_owned()).await;
    is(&cut, 400, "MSG-SYNTAX");
    assert!(cut.2.contains("line 1 column"), "{cut:?}");
    for bad in [
        "garbage".to_owned(),
        String::new(),
        format!("{good}{good}"),
        good.replace("\"seq\":1", "\"seq\":1,\"seq\":1"),
        good.replace("\"seq\":1", "\"seq\":\"1\""),
        good.replace("\"seq\":1", "\"seq\":-1"),
        good.replace("heartbeat", "shell"),
    ] {
        is(&json(&client, bad).await, 400, "MSG-SYNTAX");
    }
    // 73: depth, items, strings, control characters, sequence.
    for bad in [
        good.replace("\"messages\":[", &format!("\"messages\":{}", "[".repeat(9))),
        good.replace("heartbeat\"", &format!("heartbeat\",\"x\":\"{}\"", "x".repeat(1025))),
        format!("[{}0]", "0,".repeat(1000)),
        good.replace("\"seq\":1", "\"seq\":18446744073709551615"),
    ] {
        is(&json(&client, bad).await, 422, "MSG-VALUE");
    }
    // The first twenty are the burst; go on as another client.
    let named = |text: &str| {
        let body = StateBody::Evaluation {
            deployment: text.to_owned(),
            state: patchtide_model::state::Evaluation::Succeeded,
        };
        serde_json::to_string(&report(1, now, vec![(1, body)])).unwrap()
    };
    let nul = json(&patient, named("a\0b")).await;
    is(&nul, 422, "MSG-VALUE");
    assert!(nul.2.starts_with("messages[0].body.deployment"), "{nul:?}");
    is(&json(&patient, named("a\u{2066}b")).await, 422, "MSG-VALUE");
    // 72: size on the wire, announced and expanded.
    is(&json(&patient, named(&"x".repeat(70_000))).await, 413, "BODY-SIZE");
    let bomb = compress(&vec![b' '; 100 * STATE_BYTES]).unwrap();
    assert!(bomb.len() < 16 * 1024);
    let bomb = point.post(&patient, bomb).header("content-encoding", "zstd");
    is(&refused(bomb).await, 413, "BODY-SIZE");
    let broken = point.post(&patient, "not zstd").header("content-encoding", "zstd");
    is(&refused(broken).await, 400, "MSG-SYNTAX");
    // 93: other forms.
    let gzip = point.post(&patient, good.clone()).header("content-encoding", "gzip");
    is(&refused(gzip).await, 415, "MEDIA-TYPE");
    let url = point.server.url("/v1/state-messages");
    let xml = patient.post(&url).header("content-type", "text/xml").body(good.clone());
    is(&refused(xml).await, 415, "MEDIA-TYPE");
    let noise = patient.post(&url).header("content-type", STATE_BINARY).body(vec![1; 1000]);
    is(&refused(noise).await, 400, "MSG-SYNTAX");
    // Nothing of it counts: the sequence begins with 1.
    let ack = acknowledged(point.post(&patient, good)).await;
    assert_eq!(ack, Acknowledgement { acknowledged: 1, resync: false });
}

#[tokio::test]
async fn a_client_that_sends_too_fast_waits_alone() {
    let point = Point::start().await;
    let (_, fast) = point.client(1).await;
    let (_, other) = point.client(2).await;
    let beat = |seq| serde_json::to_vec(&report(1, point.site.now, vec![(seq, StateBody::Heartbeat {})])).unwrap();
    for seq in 1..=20 {
        acknowledged(point.post(&fast, beat(seq))).await;
    }
    let response = point.post(&fast, beat(21)).send().await.unwrap();
    assert_eq!(response.status(), 429);
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=11).contains(&wait), "{wait}");
    acknowledged(point.post(&other, beat(1))).await;
}

#[tokio::test]
async fn two_machines_with_one_identity_are_quarantined() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    let mut seq = 0;
    let mut last = 200;
    // 82: the same incarnation, two boots that take turns.
    for round in 0..12_u128 {
        seq += 1;
        let mut beat = report(1, point.site.now, vec![(seq, StateBody::Heartbeat {})]);
        beat.boot = uuid::Uuid::from_u128(100 + round % 2);
        last = point.post(&client, serde_json::to_vec(&beat).unwrap()).send().await.unwrap().status().as_u16();
        if last != 200 {
            break;
        }
    }
    assert_eq!(last, 403);
    let known = point.site.store.client(device.id).await.unwrap().unwrap();
    assert_eq!(known.state, ClientState::Quarantined);
}
