//! What a client is told.

use std::time::{Duration, Instant};

use patchtide_model::{
    ObjectName,
    object::{Boundary, DistributionPoint},
};
use patchtide_protocol::location::Locations;
use patchtide_store::ObjectRow;

use super::{Point, is, refused};

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
