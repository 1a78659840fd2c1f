//! What a client is told.

use std::time::{Duration, Instant};

use http::HeaderValue;
use patchtide_model::{
    Digest, ObjectName,
    object::{Boundary, DistributionPoint},
};
use patchtide_protocol::location::Locations;
use patchtide_store::ObjectRow;

use super::{Point, is, refused};

fn json() -> HeaderValue {
    HeaderValue::from_static("application/json")
}

fn zstd() -> HeaderValue {
    HeaderValue::from_static("zstd")
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

/// A part is served to those whose policy names it, as long as one does.
#[tokio::test]
async fn parts_are_for_those_whose_policy_names_them() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    let (other, stranger) = point.client(2).await;
    point.policy(&device, 1).await;
    point.policy(&other, 2).await;
    let url = |part: &str| point.server.url(&format!("/v1/policy/parts/{}", Digest::of(part.as_bytes())));
    let response = client.get(url("orders 1")).send().await.unwrap();
    let headers = response.headers();
    assert_eq!((&headers["content-type"], &headers["content-encoding"]), (&json(), &zstd()));
    assert_eq!(response.bytes().await.unwrap(), "orders 1");
    assert_eq!(client.get(url("updates 1")).send().await.unwrap().status(), 200);
    assert_eq!(stranger.get(url("updates 2")).send().await.unwrap().status(), 200);
    for (from, part) in [(&stranger, "orders 1"), (&client, "updates 2"), (&client, "nothing")] {
        is(&refused(from.get(url(part))).await, 404, "POLICY-PART");
    }
    is(&refused(client.get(point.server.url("/v1/policy/parts/..%2fca"))).await, 404, "POLICY-PART");
    let anonymous = point.bed.client(None);
    is(&refused(anonymous.get(url("orders 1"))).await, 401, "TLS-NO-CERTIFICATE");

    // Another policy, and the one before is nobody's any more.
    point.policy(&device, 3).await;
    assert_eq!(point.site.store.collect_policy_parts().await.unwrap(), 2);
    is(&refused(client.get(url("orders 1"))).await, 404, "POLICY-PART");
    assert_eq!(client.get(url("orders 3")).send().await.unwrap().status(), 200);
}

/// An agent of the protocol before goes on with everything else, and is told what to do.
#[tokio::test]
async fn an_agent_that_knows_no_parts_is_told_to_be_upgraded() {
    let point = Point::start().await;
    let (device, client) = point.client(1).await;
    point.policy(&device, 1).await;
    let old = |path: &str| client.get(point.server.url(path)).header("patchtide-protocol", "1");
    let answer = refused(old("/v1/policy")).await;
    is(&answer, 426, "PROTOCOL-VERSION");
    assert!(answer.2.contains("version 2"), "{}", answer.2);
    assert_eq!(old("/v1/locations").send().await.unwrap().status(), 200);
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
        point
            .site
            .store
            .put_object(ObjectRow { kind, name, uid: "u".into(), generation: 1, json })
            .await
            .unwrap();
    }
    let found: Locations =
        client.get(point.server.url("/v1/locations")).send().await.unwrap().json().await.unwrap();
    let names: Vec<&str> = found.distribution_points.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["near", "far"]);
    assert_eq!(found.software_update_points, ["https://sup.example:8445"]);
}
