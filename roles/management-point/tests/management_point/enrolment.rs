//! Who becomes a client, and what one without standing gets.

use std::time::Duration;

use patchtide_model::{Digest, client::ClientState};
use patchtide_protocol::{
    enrolment::{EnrolmentAnswer, EnrolmentState, SiteGreeting},
    state::StateBody,
};
use patchtide_signer::spki_digest;

use super::{Point, is, refused, site::report};

#[tokio::test]
async fn enrolment_is_pending_until_it_is_approved() {
    let point = Point::start().await;
    let nobody = point.bed.client(None);
    let greeting: SiteGreeting =
        nobody.get(point.server.url("/v1/site")).send().await.unwrap().json().await.unwrap();
    assert_eq!((greeting.site.as_str(), greeting.newest_version), ("lab", 2));

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
        let body =
            serde_json::to_vec(&report(1, point.site.now, vec![(1, StateBody::Heartbeat {})])).unwrap();
        is(&refused(point.post(&client, body)).await, 403, code);
        let renewal = serde_json::json!({"csr_pem": device.csr_pem});
        is(&refused(client.post(point.server.url("/v1/renewals")).json(&renewal)).await, 403, code);
    }
    for path in ["/v1/policy", "/v1/locations"] {
        is(&refused(point.bed.client(None).get(point.server.url(path))).await, 401, "TLS-NO-CERTIFICATE");
    }
}
