//! The JSON and the bytes on the wire, as docs/protocol.md shows them. A difference here is a change of the protocol.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

use patchtide_model::state::{Detection, StateError, UpdateEnforcement};
use patchtide_protocol::{
    Problem, binary,
    bundle::Bundle,
    check,
    enrolment::{EnrolmentAnswer, EnrolmentRequest, EnrolmentState, RenewalRequest, SiteGreeting},
    envelope::{Envelope, pre_authentication_encoding},
    location::Locations,
    policy::Statement,
    state::{Acknowledgement, StateBody, StateReport},
};
use serde::{Serialize, de::DeserializeOwned};

#[track_caller]
fn golden<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(text: &str) -> T {
    let value: T = serde_json::from_str(text).unwrap();
    let written = serde_json::to_value(&value).unwrap();
    assert_eq!(written, serde_json::from_str::<serde_json::Value>(text).unwrap());
    value
}

const REPORT: &str = r#"{
  "incarnation":"00000000-0000-0000-0000-000000000001","boot":"00000000-0000-0000-0000-000000000002",
  "sent_at":"2026-03-01T12:00:00Z","policy":[1,7],
  "messages":[
    {"seq":1,"at":"2026-03-01T11:59:58Z","body":{"type":"facts","facts":{"os.id":"debian"}}},
    {"seq":2,"at":"2026-03-01T11:59:58Z","body":{"type":"scan","state":3}},
    {"seq":3,"at":"2026-03-01T11:59:59Z","body":{"type":"detection","line":"debian/bookworm/main",
      "catalogue_version":4,"part":0,"last":true,"states":[
        {"source":"bash","version":"5.2-1","state":3},
        {"source":"openssl","version":"3.0-1","state":2,
         "leaves":[{"package":"libssl3","architecture":"amd64","version":"3.0-1"}]}],
      "needs":[{"package":"libnew","architecture":"all","version":"1"}]}},
    {"seq":4,"at":"2026-03-01T12:00:00Z","body":{"type":"update","update":"debian/bookworm/main:openssl@3.0-1","state":11,
      "error":{"code":2278557284,"symbol":"PRE-LOCK","message":"dpkg is locked"}}},
    {"seq":5,"at":"2026-03-01T12:00:00Z","body":{"type":"enforcement","deployment":"u-1","state":10,"until":"2026-03-01T13:00:00Z"}},
    {"seq":6,"at":"2026-03-01T12:00:00Z","body":{"type":"evaluation","deployment":"u-1","state":2}},
    {"seq":7,"at":"2026-03-01T12:00:00Z","body":{"type":"compliance","deployment":"u-1","state":2}},
    {"seq":8,"at":"2026-03-01T12:00:00Z","body":{"type":"heartbeat"}},
    {"seq":9,"at":"2026-03-01T12:00:00Z","body":{"type":"detection","line":"debian/bookworm/main",
      "catalogue_version":5,"part":0,"last":true,"states":[],"numbered":{
        "catalogue":"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad","states":[
        {"number":7,"state":3},{"number":300,"state":2,"leaves":[0,4]}]}}}
  ]}"#;

#[test]
fn enrolment_and_answers() {
    golden::<SiteGreeting>(
        r#"{"site":"lab","oldest_version":1,"newest_version":1,"time":"2026-03-01T12:00:00Z"}"#,
    );
    golden::<EnrolmentRequest>(r#"{"csr_pem":"x","token":"t","name":"web1","facts":{"os.id":"debian"}}"#);
    golden::<RenewalRequest>(r#"{"csr_pem":"x"}"#);
    let id = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    for state in [
        r#"{"state":"pending","reason":"r"}"#,
        r#"{"state":"approved","client":"67e55044-10b1-426f-9247-bb680e5fe0c8","certificate_pem":"p"}"#,
        r#"{"state":"refused","reason":"r"}"#,
    ] {
        golden::<EnrolmentAnswer>(&format!(r#"{{"id":"{id}","state":{state}}}"#));
    }
    let pending = serde_json::to_string(&EnrolmentState::Pending { reason: "r".into() }).unwrap();
    assert_eq!(pending, r#"{"state":"pending","reason":"r"}"#);
    golden::<Problem>(r#"{"code":"BODY-SIZE","status":413,"detail":"d","remedy":"r"}"#);
    golden::<Acknowledgement>(r#"{"acknowledged":17,"resync":false}"#);
    golden::<Acknowledgement>(r#"{"acknowledged":17,"resync":false,"by_name":true}"#);
    golden::<Locations>(
        r#"{"software_update_points":["https://sup.example:8445"],
            "distribution_points":[{"name":"rack1","url":"https://dp1.example:8444","locality":"Fast"}]}"#,
    );
    golden::<Bundle>(
        r#"{"site":"lab","management_points":["https://mp.example:8443"],"ca_pem":"x",
            "policy_keys":[{"key_id":"3f5ae9d7b0c41e22","public_key":"AAAA"}],"token":"t"}"#,
    );
    golden::<Envelope>(
        r#"{"payload":"e30=","payloadType":"application/vnd.patchtide.policy.v2+json",
            "signatures":[{"keyid":"3f5ae9d7b0c41e22","sig":"AAAA"}]}"#,
    );
    golden::<Statement>(&format!(
        r#"{{"version":2,"site":"lab","client":"67e55044-10b1-426f-9247-bb680e5fe0c8","epoch":1,"number":7,
             "issued_at":"2026-03-01T12:00:00Z","orders":{{"digest":"{id}","size":812,"expanded":4711}},
             "updates":{{"digest":"{id}","size":90210,"expanded":1048576}}}}"#
    ));
    assert_eq!(pre_authentication_encoding("a/b", b"{}"), b"DSSEv1 3 a/b 2 {}");
}

#[test]
fn a_report_in_both_forms() {
    let report: StateReport = golden(REPORT);
    report.check().unwrap();
    check::json_shape(REPORT.as_bytes()).unwrap();
    let StateBody::Detection(detection) = &report.messages[2].body else { panic!() };
    assert_eq!(detection.states[1].state, Detection::Required);
    let StateBody::Update { state, error: Some(StateError { code, .. }), .. } = &report.messages[3].body
    else {
        panic!()
    };
    assert_eq!((*state, *code), (UpdateEnforcement::InstallFailed, 0x87d0_0664));

    let bytes = binary::encode(&report);
    assert_eq!(binary::decode(&bytes).unwrap(), report);
    assert_eq!(
        hex::encode(bytes),
        concat!(
            "01",
            "00000000000000000000000000000001",
            "00000000000000000000000000000002",
            // sent_at, policy, nine messages.
            "80c0f8daa6fda506",
            "010107",
            "09",
            "01ff91f401",
            "00010a6f732e69640c64656269616e",
            "01ff91f401",
            "010300",
            "01ff887a",
            "022864656269616e2f626f6f6b776f726d2f6d61696e040102",
            "0308626173680a352e322d31",
            "060e6f70656e73736c0a332e302d310e6c696273736c330a616d6436340d",
            "010c6c69626e657706616c6c0231",
            "0100",
            "030b050b0d01e48cc0be08105052452d4c4f434b1c64706b67206973206c6f636b6564",
            "0100",
            "040a0180909de91a06752d3100",
            "0100",
            "05021d",
            "0100",
            "06021d",
            "0100",
            "07",
            "0100",
            "08050501",
            "0000",
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
            "0203070aa5020004"
        )
    );
}

#[test]
fn what_does_not_belong_is_refused() {
    let refused = |from: &str, to: &str| {
        let text = REPORT.replacen(from, to, 1);
        assert_ne!(text, REPORT, "{from}");
        serde_json::from_str::<StateReport>(&text).unwrap_err().to_string()
    };
    assert!(refused(r#""policy""#, r#""client":"x","policy""#).contains("unknown field `client`"));
    assert!(refused(r#""state":3}"#, r#""state":7}"#).contains("topic 501 has no state 7"));
    assert!(refused(r#""type":"heartbeat""#, r#""type":"shell""#).contains("unknown variant"));
    assert!(refused(r#""seq":8"#, r#""seq":-8"#).contains("-8"));
    assert!(refused(r#""seq":8"#, r#""seq":8,"seq":9"#).contains("duplicate field"));
    assert!(refused("debian/bookworm/main:openssl@3.0-1", "openssl").contains("<line>:<source>@<version>"));
    assert!(serde_json::from_str::<StateReport>(&format!("{REPORT} x")).is_err());
}

#[test]
fn limits_name_the_place() {
    let report = |body: StateBody| {
        let mut report: StateReport = serde_json::from_str(REPORT).unwrap();
        report.messages[7].body = body;
        report.check().map_err(|violation| violation.to_string())
    };
    let evaluation = |deployment: String| StateBody::Evaluation {
        deployment,
        state: patchtide_model::state::Evaluation::Succeeded,
    };
    assert!(report(evaluation("x".repeat(1024))).is_ok());
    for bad in ["x".repeat(1025), "a\0b".into(), "a\u{202e}b".into()] {
        let error = report(evaluation(bad.clone())).unwrap_err();
        assert!(error.starts_with("messages[7].body.deployment"), "{error}");
        assert!(report(evaluation(check::clean(&bad))).is_ok());
    }
    // The site leaves out what is beyond 200; a list has its limit all the same.
    let facts = |count| (0..count).map(|n| (format!("k{n}"), String::new())).collect();
    assert!(report(StateBody::Facts { facts: facts(1_000) }).is_ok());
    assert!(report(StateBody::Facts { facts: facts(1_001) }).unwrap_err().contains("more than 1000"));
    assert!(check::facts(&facts(200)).is_ok());
    assert!(check::facts(&facts(201)).unwrap_err().to_string().contains("more than 200"));
    let mut backwards: StateReport = serde_json::from_str(REPORT).unwrap();
    backwards.messages[3].seq = 2;
    assert!(backwards.check().unwrap_err().to_string().starts_with("messages[3].seq"));
    backwards.messages[3].seq = u64::MAX;
    assert!(backwards.check().is_err());

    // Detections by number.
    let numbered = |from: &str, to: &str| {
        let report: StateReport = serde_json::from_str(&REPORT.replacen(from, to, 1)).unwrap();
        report.check().map_err(|violation| violation.to_string())
    };
    assert!(numbered("[0,4]", "[0,4,65535]").is_ok());
    let broken = numbered("[0,4]", "[4,4]").unwrap_err();
    assert!(broken.starts_with("messages[8].body.numbered.states[1].leaves"), "{broken}");
    for number in ["7", "6", "0", "18446744073709551615"] {
        let broken = numbered("\"number\":300", &format!("\"number\":{number}")).unwrap_err();
        assert!(broken.starts_with("messages[8].body.numbered.states[1].number"), "{broken}");
    }

    let shape = |text: &str| check::json_shape(text.as_bytes()).map_err(|violation| violation.to_string());
    assert!(shape(&"[".repeat(8)).is_ok());
    assert!(shape(&"[".repeat(9)).unwrap_err().contains("deeper than 8 at byte 8"));
    assert!(shape(&format!("[{}0]", "0,".repeat(999))).is_ok());
    assert!(shape(&format!("[{}0]", "0,".repeat(1000))).unwrap_err().contains("more than 1000"));
    assert!(shape(&format!("\"{}\"", "x".repeat(1024))).is_ok());
    assert!(shape(&format!("\"{}\"", "x".repeat(1025))).unwrap_err().contains("byte 0"));
    assert!(shape(r#""a\"[[[[[[[[[[""#).is_ok(), "what stands in a string does not nest");
}
