//! What the Site allows (`Site.spec.limits`) holds at the management point, and each refusal names its limit.

use patchtide_model::site::SiteLimits;
use patchtide_protocol::state::StateBody;

use super::{Point, acknowledged, is, refused, site::report};

fn limits() -> SiteLimits {
    SiteLimits {
        clients: 2,
        pending_clients: 10,
        enrolments_per_minute: 60,
        requests_per_minute: 600,
        report_size: 512 * 1024,
        messages_per_report: 1_000,
        content_store: None,
    }
}

#[tokio::test]
async fn a_site_takes_as_many_machines_as_it_says() {
    let point = Point::start().await;
    let (_, _) = point.client(1).await;
    point.site.store.set_site_limits(&limits()).await.unwrap();
    let nobody = point.bed.client(None);
    let devices = [point.bed.device(10), point.bed.device(11)];
    let ask = |device: usize| {
        let body = serde_json::json!({"csr_pem": devices[device].csr_pem, "name": "web"});
        nobody.post(point.server.url("/v1/enrolments")).json(&body)
    };
    assert_eq!(ask(0).send().await.unwrap().status(), 200);
    let told = refused(ask(1)).await;
    is(&told, 429, "LIMIT");
    assert!(told.2.contains("Site.spec.limits.clients), would exceed 2"), "{told:?}");
    assert_eq!(ask(0).send().await.unwrap().status(), 200, "asking again is the same request");
}

#[tokio::test]
async fn enrolments_of_an_address_keep_to_the_sites_rate() {
    let point = Point::start().await;
    let few = SiteLimits { clients: 100, enrolments_per_minute: 4, ..limits() };
    point.site.store.set_site_limits(&few).await.unwrap();
    let nobody = point.bed.client(None);
    let body = serde_json::json!({"csr_pem": point.bed.device(10).csr_pem, "name": "web"});
    let ask = || nobody.post(point.server.url("/v1/enrolments")).json(&body);
    for _ in 0..2 {
        assert_eq!(ask().send().await.unwrap().status(), 200);
    }
    let told = refused(ask()).await;
    is(&told, 429, "RATE");
    assert!(told.2.contains("enrolmentsPerMinute"), "{told:?}");
}

#[tokio::test]
async fn requests_of_a_client_keep_to_the_sites_rate_each_client_alone() {
    let point = Point::start().await;
    let (_, client) = point.client(1).await;
    let (_, other) = point.client(2).await;
    let few = SiteLimits { requests_per_minute: 4, ..limits() };
    point.site.store.set_site_limits(&few).await.unwrap();
    for path in ["/v1/locations", "/v1/policy"] {
        let status = client.get(point.server.url(path)).send().await.unwrap().status();
        assert!(status.is_success(), "{status}");
    }
    let response = client.get(point.server.url("/v1/locations")).send().await.unwrap();
    assert_eq!(response.status(), 429);
    assert!(response.headers().contains_key("retry-after"));
    let told = refused(client.get(point.server.url("/v1/locations"))).await;
    assert!(told.2.contains("requestsPerMinute allows, 4"), "{told:?}");
    assert!(other.get(point.server.url("/v1/locations")).send().await.unwrap().status().is_success());
}

#[tokio::test]
async fn reports_keep_to_the_sites_size_but_one_message_always_fits() {
    let point = Point::start().await;
    let (_, client) = point.client(1).await;
    let few = SiteLimits { messages_per_report: 3, report_size: 400, ..limits() };
    point.site.store.set_site_limits(&few).await.unwrap();
    let beats = |from: u64, count: u64| {
        let messages = (from..from + count).map(|seq| (seq, StateBody::Heartbeat {})).collect();
        serde_json::to_vec(&report(1, point.site.now, messages)).unwrap()
    };
    let told = refused(point.post(&client, beats(1, 4))).await;
    is(&told, 413, "BODY-SIZE");
    assert!(
        told.2.contains("Site.spec.limits.messagesPerReport") || told.2.contains("reportSize"),
        "{told:?}"
    );
    let facts = [("key".to_owned(), "v".repeat(256)), ("other".to_owned(), "v".repeat(256))];
    let long = |seq| (seq, StateBody::Facts { facts: facts.clone().into() });
    let two = report(1, point.site.now, vec![long(1), long(2)]);
    let told = refused(point.post(&client, serde_json::to_vec(&two).unwrap())).await;
    is(&told, 413, "BODY-SIZE");
    assert!(told.2.contains("Site.spec.limits.reportSize allows, 400"), "{told:?}");
    let one = report(1, point.site.now, vec![long(1)]);
    assert_eq!(acknowledged(point.post(&client, serde_json::to_vec(&one).unwrap())).await.acknowledged, 1);
}
