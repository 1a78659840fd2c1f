//! State messages, good and bad.

use std::time::Duration;

use patchtide_model::{
    Digest,
    client::{ClientState, Facts},
    state::{Compliance, UpdateEnforcement},
};
use patchtide_protocol::{
    STATE_BINARY, binary,
    encoding::compress,
    limits::STATE_BYTES,
    state::{Acknowledgement, StateBody},
};

use super::{
    Point, acknowledged, is, refused,
    site::{by_number, publish, report, scan},
};

#[tokio::test]
async fn reports_are_taken_in_every_form_and_repetition_is_harmless() {
    let point = Point::start().await;
    let line = point.site.catalogue(2000).await;
    let (device, client) = point.client(1).await;
    let now = point.site.now;
    let first = scan(&line, 1, 1, 100, 0, now);
    let json = serde_json::to_vec(&first).unwrap();
    let ack = acknowledged(point.post(&client, json.clone())).await;
    assert_eq!(ack, Acknowledgement { acknowledged: 1, resync: false, by_name: false, superseded: false });
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

    // By number, in both forms; and by numbers of a catalogue that this site does not know.
    let published = publish(&point.site, &line).await;
    let numbered = by_number(scan(&line, 1, 2, 100, 0, now), &published);
    let kept = Acknowledgement { acknowledged: 2, ..ack };
    assert_eq!(acknowledged(binary(binary::encode(&numbered))).await, kept);
    assert_eq!(acknowledged(point.post(&client, serde_json::to_vec(&numbered).unwrap())).await, kept);
    assert_eq!(point.site.store.client_states(device.id).await.unwrap(), states);
    let lost = by_number(scan(&line, 1, 3, 50, 0, now), &(Digest::of(b"lost"), published.1));
    let answer = acknowledged(binary(binary::encode(&lost))).await;
    assert_eq!(answer, Acknowledgement { acknowledged: 3, resync: false, by_name: true, superseded: false });
    assert_eq!(point.site.store.client_states(device.id).await.unwrap(), states);

    // 78: an update that nobody knows is kept until the catalogue has it.
    let unknown = StateBody::Update {
        update: "debian/bookworm/main:nobody@1".parse().unwrap(),
        state: UpdateEnforcement::Installed,
        error: None,
    };
    let parked = serde_json::to_vec(&report(1, now, vec![(4, unknown)])).unwrap();
    assert_eq!(acknowledged(point.post(&client, parked)).await.acknowledged, 4);
    // 75: whatever stands in a text is data.
    let texts = ["'; DROP TABLE client; --", "<script>alert(1)</script>", "%s%n{0}", "line\nbreak"];
    let hostile = texts.iter().zip(5..).map(|(text, seq)| {
        (seq, StateBody::Compliance { deployment: (*text).to_owned(), state: Compliance::Compliant })
    });
    let hostile = serde_json::to_vec(&report(1, now, hostile.collect())).unwrap();
    assert_eq!(acknowledged(point.post(&client, hostile)).await.acknowledged, 8);
    // 76: a gap is taken and told.
    let gap = serde_json::to_vec(&report(1, now, vec![(10, StateBody::Heartbeat {})])).unwrap();
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
    assert_eq!(ack, Acknowledgement { acknowledged: 1, resync: false, by_name: false, superseded: false });
}

#[tokio::test]
async fn a_client_that_sends_too_fast_waits_alone() {
    let point = Point::start().await;
    let (_, fast) = point.client(1).await;
    let (_, other) = point.client(2).await;
    let beat =
        |seq| serde_json::to_vec(&report(1, point.site.now, vec![(seq, StateBody::Heartbeat {})])).unwrap();
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
    let from = |incarnation: u128, boot: u128, seq| {
        let mut beat = report(1, point.site.now, vec![(seq, StateBody::Heartbeat {})]);
        (beat.incarnation, beat.boot) = (uuid::Uuid::from_u128(incarnation), uuid::Uuid::from_u128(boot));
        point.post(&client, serde_json::to_vec(&beat).unwrap())
    };
    // 82: the same incarnation, two boots that take turns, with equal numbers at first.
    assert!(!acknowledged(from(1, 100, 1)).await.superseded);
    assert!(!acknowledged(from(1, 101, 2)).await.superseded);
    assert!(acknowledged(from(1, 100, 2)).await.superseded);
    // That one does as it is told; the other goes on, and so there are two.
    assert!(!acknowledged(from(2, 100, 1)).await.superseded);
    for incarnation in [1, 2] {
        let refused = from(incarnation, 101, 3).send().await.unwrap();
        assert_eq!(refused.status(), 403);
    }
    let known = point.site.store.client(device.id).await.unwrap().unwrap();
    assert_eq!(known.state, ClientState::Quarantined);
}

/// Bad input 83: facts beyond what a client may have are left out and counted, not refused; a body that could hold a
/// million of them is refused before it is read.
#[tokio::test]
async fn facts_beyond_the_limit_are_dropped_and_counted() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    let facts =
        |count: usize| -> Facts { (0..count).map(|n| (format!("key-{n:07}"), "v".to_owned())).collect() };
    let body = |seq, count| {
        let messages = vec![(seq, StateBody::Facts { facts: facts(count) })];
        report(1, point.site.now, messages)
    };
    assert_eq!(
        acknowledged(point.post(&client, serde_json::to_vec(&body(1, 900)).unwrap())).await.acknowledged,
        1
    );
    assert_eq!(point.metric("facts_dropped_total"), 700);
    let known = point.site.store.client(device.id).await.unwrap().unwrap().facts;
    assert_eq!((known.len(), known.keys().next_back().unwrap().as_str()), (200, "key-0000199"));
    let binary = client
        .post(point.server.url("/v1/state-messages"))
        .header("content-type", STATE_BINARY)
        .body(binary::encode(&body(2, 201)));
    assert_eq!(acknowledged(binary).await.acknowledged, 2);
    assert_eq!(point.metric("facts_dropped_total"), 701);
    is(&refused(point.post(&client, serde_json::to_vec(&body(3, 1_001)).unwrap())).await, 422, "MSG-VALUE");
    let million = serde_json::to_vec(&body(3, 1_000_000)).unwrap();
    let zstd = point.post(&client, compress(&million).unwrap()).header("content-encoding", "zstd");
    is(&refused(zstd).await, 413, "BODY-SIZE");
}

/// R-STMSG-06: reports that wait for the site database are seen while they do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_of_reports_is_a_metric() {
    let point = Point::start().await;
    let (_, client) = point.client(1).await;
    let heartbeat =
        serde_json::to_vec(&report(1, point.site.now, vec![(1, StateBody::Heartbeat {})])).unwrap();
    assert_eq!(point.metric("reports_waiting"), 0);
    // A catalogue that is taken in keeps the writer busy for longer than a report takes to get there.
    let catalogue = point.site.catalogue(20_000);
    let reports = async {
        let sent: Vec<_> =
            (0..8).map(|_| tokio::spawn(point.post(&client, heartbeat.clone()).send())).collect();
        for one in sent {
            assert!(one.await.unwrap().unwrap().status().is_success());
        }
    };
    let watched = async {
        let mut most = 0;
        while most < 2 {
            most = most.max(point.metric("reports_waiting"));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), async { tokio::join!(catalogue, reports, watched) })
        .await
        .unwrap();
    assert_eq!(point.metric("reports_waiting"), 0);
}
