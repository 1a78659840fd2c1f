//! The controller on a real API server with the machine's real archive: from objects to a signed policy and back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, unreachable_pub, reason = "a test")]

mod alerts;
mod bad;
mod contract;
mod integrity;
mod lease;
mod quickstart;
mod restrict;
#[path = "../support/mod.rs"]
mod support;

use std::{collections::BTreeMap, time::Duration};

use contract::check_contract;
use jiff::Timestamp;
use patchtide_model::{ClientId, Digest, LineId, ObjectName, policy::Policy, state::Detection, state::Scan};
use patchtide_protocol::envelope::Envelope;
use patchtide_store::{
    clients::{EnrolmentRow, EnrolmentState},
    intake::{DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport},
};
use patchtide_tests::archive::Archive;
use quickstart::{TOKEN, quickstart};
use support::{Ground, condition};
use uuid::Uuid;

fn signing_request() -> (Digest, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let csr = rcgen::CertificateParams::default().serialize_request(&key).unwrap().pem().unwrap();
    (patchtide_signer::spki_digest(&csr).unwrap(), csr)
}

/// What the management point writes when a client asks for a new certificate.
async fn ask_renewal(ground: &Ground, client: ClientId, id: Digest, csr: &str) {
    let row = patchtide_store::ObjectRow {
        kind: "Renewal".to_owned(),
        name: client.to_string(),
        uid: id.to_string(),
        generation: 0,
        json: serde_json::to_string(csr).unwrap(),
    };
    ground.store.put_object(row).await.unwrap();
    for _ in 0..100 {
        if ground.store.object("Renewal", &client.to_string()).await.unwrap().is_none() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("renewal not looked at");
}

async fn enrol(ground: &Ground) -> ClientId {
    let (id, csr) = signing_request();
    let request = EnrolmentRow {
        id,
        csr_pem: csr.clone(),
        token_digest: Some(Digest::of(TOKEN.as_bytes())),
        name: "web1".to_owned(),
        facts: BTreeMap::from([("hostname".to_owned(), "web1".to_owned())]),
        address: Some("127.0.0.1".parse().unwrap()),
        requested_at: now(),
    };
    ground.store.put_enrolment(request).await.unwrap();
    for _ in 0..100 {
        let state = ground.store.enrolment(id).await.unwrap().unwrap().state;
        if let EnrolmentState::Approved { client, certificate_pem, .. } = state {
            assert!(certificate_pem.starts_with("-----BEGIN CERTIFICATE-----"));
            // A request for another key is not believed, whoever brings it; one for the same key is.
            let (_, other) = signing_request();
            ask_renewal(ground, client, id, &other).await;
            assert_eq!(ground.store.client_certificate(client).await.unwrap().unwrap().0, certificate_pem);
            ask_renewal(ground, client, id, &csr).await;
            assert_ne!(ground.store.client_certificate(client).await.unwrap().unwrap().0, certificate_pem);
            return client;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not approved: {:?}", ground.store.enrolment(id).await);
}

#[expect(clippy::disallowed_methods, reason = "the test is at the edge")]
fn now() -> Timestamp {
    Timestamp::now()
}

/// The client says that it requires, or has installed, the smallest update of the line.
async fn report(ground: &Ground, client: ClientId, line: &LineId, detected: Detection, first: u64) -> String {
    let catalogue = ground.store.scan_catalogue(line).await.unwrap();
    let ids = catalogue.updates.iter().map(|u| format!("{line}:{}@{}", u.source, u.version).parse().unwrap());
    let ids: Vec<patchtide_model::UpdateId> = ids.collect();
    let found = ground.store.updates(&ids).await.unwrap();
    let (update, leaf) = found
        .values()
        .flat_map(|update| update.leaves.iter().map(move |leaf| (update, leaf)))
        .min_by_key(|(_, leaf)| leaf.file.size)
        .unwrap();
    let leaf = leaf.reference();
    let state = DetectedUpdate {
        source: update.id.source.clone(),
        version: update.id.version.clone(),
        state: detected,
        leaves: if detected == Detection::Required { vec![leaf] } else { vec![] },
    };
    let detection = DetectionReport {
        line: line.clone(),
        catalogue_version: catalogue.version,
        part: 0,
        last: true,
        states: vec![state],
        needs: vec![],
        numbered: None,
    };
    let bodies = [
        IntakeBody::Facts(BTreeMap::from([("os.codename".to_owned(), "bookworm".to_owned())])),
        IntakeBody::Scan { state: Scan::Completed, error: None },
        IntakeBody::Detection(detection),
    ];
    let messages =
        bodies.into_iter().zip(first..).map(|(body, seq)| IntakeMessage { seq, at: now(), body }).collect();
    let report = IntakeReport {
        client,
        incarnation: Uuid::from_u128(1),
        boot: Uuid::from_u128(2),
        sent_at: now(),
        received_at: now(),
        policy: None,
        messages,
    };
    let ack = ground.store.intake(report).await.unwrap();
    assert_eq!(ack.acknowledged, first + 2);
    update.id.to_string()
}

async fn policy(ground: &Ground, client: ClientId, what: &str, test: impl Fn(&Policy) -> bool) -> Policy {
    let mut last = None;
    for _ in 0..150 {
        if let Some(stored) = ground.store.policy(client).await.unwrap() {
            let envelope: Envelope = serde_json::from_slice(&stored.statement).unwrap();
            let statement = envelope.open(&ground.signer.policy_keys()).unwrap();
            let part = async |digest| ground.store.policy_part(client, digest).await.unwrap();
            // Another one by now.
            let (Some(orders), Some(updates)) = (part(stored.orders).await, part(stored.updates).await)
            else {
                continue;
            };
            let policy = statement.policy(&orders, &updates).unwrap();
            assert_eq!((policy.client, policy.epoch, policy.number), (client, stored.epoch, stored.number));
            if test(&policy) {
                return policy;
            }
            last = Some(policy);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no policy with {what}; last: {last:#?}");
}

/// There is no distribution point's process here: this says for it that it has everything.
async fn distribution_point_takes_all(ground: &Ground) {
    let point = ObjectName::new("dp1").unwrap();
    for _ in 0..300 {
        let wanted = ground.store.dp_wanted(&point).await.unwrap();
        let list: Vec<Digest> = wanted.iter().copied().collect();
        let states = ground.store.content_states(&list).await.unwrap();
        let present =
            |digest: &Digest| states.get(digest) == Some(&patchtide_store::content::ContentState::Present);
        if !wanted.is_empty() && wanted.iter().all(present) {
            for digest in wanted {
                ground.store.set_dp_present(&point, digest, Ok(()), now()).await.unwrap();
            }
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("content not fetched: {:#}", ground.get("deploymentpackage", "security")["status"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_objects_to_policy_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Archive::detect().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    // Everything at once, in an order in which references come before what they name.
    ground.apply(&quickstart(&archive));
    for (kind, name) in [
        ("site", "site"),
        ("searchfolder", "security"),
        ("updatelist", "security"),
        ("deploymenttemplate", "standard"),
        ("distributionpoint", "dp1"),
        ("collection", "everyone"),
        ("maintenancewindow", "night"),
        ("clientsettings", "default"),
        ("updatedeployment", "security"),
    ] {
        ground.ready(kind, name, 40).await;
    }
    assert!(
        ground
            .kubectl(&["get", "configmap", "patchtide-bundle", "-o", "jsonpath={.data}"])
            .contains("policy_keys")
    );

    // A machine enrols and gets a policy with its window before anything is to be installed.
    let client = enrol(&ground).await;
    let first = policy(&ground, client, "a window", |policy| policy.body.windows.len() == 1).await;

    // The real archive, verified, as a catalogue that clients can scan against. A source that fails loses nothing of it.
    ground
        .until("softwareupdatepoint", "debian", 180, |point| {
            let ready = condition(point, "Ready");
            let told = ready["message"].as_str().is_some_and(|text| text.contains("source away: "));
            if ready["reason"] == "SyncFailed" && told { Ok(()) } else { Err(format!("{ready}")) }
        })
        .await;
    let without = r#"[{"op": "remove", "path": "/spec/sources/1"}]"#;
    let line: LineId = format!("debian/{}/main", archive.security.suite).parse().unwrap();
    policy(&ground, client, "a line", |policy| policy.body.lines.iter().any(|known| known.line == line))
        .await;
    ground.kubectl(&["patch", "softwareupdatepoint", "debian", "--type=json", "-p", without]);
    ground.ready("softwareupdatepoint", "debian", 60).await;
    let point = ground.get("softwareupdatepoint", "debian");
    assert!(point["status"]["updates"]["current"].as_u64().unwrap() > 100, "{point:#}");
    let scanned = policy(&ground, client, "a line", |policy| !policy.body.lines.is_empty()).await;
    assert!(scanned.number >= first.number);

    // The client requires an update: search, list, package, deployment, policy.
    let update = report(&ground, client, &line, Detection::Required, 1).await;
    ground
        .until("updatelist", "security", 30, |list| match list["status"]["resolved"].as_u64() {
            Some(1) => Ok(()),
            other => Err(format!("resolved {other:?}")),
        })
        .await;
    distribution_point_takes_all(&ground).await;
    ground.ready("deploymentpackage", "security", 30).await;
    // The policy before it may still name the file as one to wait for.
    let full = policy(&ground, client, "the update", |policy| {
        policy.body.updates.len() == 1 && policy.body.awaited.is_empty()
    })
    .await;
    assert_eq!(full.body.updates.keys().next().unwrap().to_string(), update);
    ground.ready("updatedeployment", "security", 30).await;
    ground
        .until("updatedeployment", "security", 30, |deployment| {
            match deployment["status"]["compliant"].as_str() {
                Some("0/1") => Ok(()),
                other => Err(format!("compliant {other:?}")),
            }
        })
        .await;
    check_contract(&ground);

    // SQL says the same, without the cluster.
    let site = ground.namespace.clone();
    let deployed = "SELECT d.AssignmentName, d.CollectionID, d.AssignmentEnabled, s.NumTotal, s.NumMissing, i.CI_UniqueID \
                    FROM v_CIAssignment d JOIN v_UpdateDeploymentSummary s ON s.AssignmentID = d.AssignmentID \
                    JOIN v_UpdateInfo i ON i.CI_ID = s.CI_ID";
    ground.says(deployed, &format!("security|{site}/everyone|1|1|1|{update}")).await;
    let members = "SELECT m.CollectionID, r.SMS_Unique_Identifier0 FROM v_FullCollectionMembership m \
                   JOIN v_R_System r ON r.ResourceID = m.ResourceID";
    ground.says(members, &format!("{site}/everyone|{client}")).await;
    let others = "SELECT (SELECT count(*) FROM v_ServiceWindow WHERE Name = 'night'), \
                  (SELECT group_concat(Title || ' ' || NumberOfUpdates) FROM v_AuthListInfo), \
                  (SELECT group_concat(PackageID || ' ' || Installed || '/' || Targeted) FROM v_PackageStatusRootSummarizer)";
    ground.says(others, &format!("1|security 1|{site}/security 1/1")).await;

    // Installed: nobody requires it any more. List, package and policy stay as they are.
    report(&ground, client, &line, Detection::Installed, 4).await;
    ground
        .until("searchfolder", "security", 20, |folder| match folder["status"]["matches"].as_u64() {
            Some(0) => Ok(()),
            other => Err(format!("matches {other:?}")),
        })
        .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(ground.get("deploymentpackage", "security")["status"]["files"], 1);
    assert_eq!(ground.get("updatelist", "security")["status"]["resolved"], 1);
    assert_eq!(ground.store.policy(client).await.unwrap().unwrap().number, full.number);

    // suspend reaches the client's policy within seconds.
    ground.kubectl(&[
        "patch",
        "updatedeployment",
        "security",
        "--type=merge",
        "-p",
        r#"{"spec":{"suspend":true}}"#,
    ]);
    policy(&ground, client, "suspend", |policy| policy.body.deployments.iter().all(|d| d.suspend)).await;
    ground.says(deployed, &format!("security|{site}/everyone|0|1|0|{update}")).await;
    ground.ready("updatedeployment", "security", 10).await;
    assert_eq!(condition(&ground.get("updatedeployment", "security"), "Ready")["reason"], "Suspended");

    // A reference that goes is told and heals by itself.
    ground.kubectl(&["delete", "searchfolder", "security"]);
    ground
        .until("updatelist", "security", 20, |list| {
            let ready = condition(list, "Ready");
            if ready["reason"] == "DependencyNotReady" && condition(list, "Reconciling")["status"] == "True" {
                Ok(())
            } else {
                Err(format!("{ready}"))
            }
        })
        .await;
    check_contract(&ground);
    let folder_yaml = "apiVersion: patchtide.dev/v1alpha1\nkind: SearchFolder\nmetadata:\n  name: security\nspec:\n  criteria: {classifications: [SecurityUpdates], requiredBy: {atLeast: 1}}\n";
    ground.apply(folder_yaml);
    ground.ready("updatelist", "security", 20).await;

    // Nothing to do: woken again and again, nothing is written. Restarted, nothing is written.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let versions = |ground: &Ground| -> BTreeMap<String, String> {
        let version = |object: &serde_json::Value| {
            let name = format!(
                "{}/{}",
                object["kind"].as_str().unwrap(),
                object["metadata"]["name"].as_str().unwrap()
            );
            (name, object["metadata"]["resourceVersion"].as_str().unwrap().to_owned())
        };
        ground.all().iter().map(version).collect()
    };
    let before = versions(&ground);
    let number = ground.store.policy(client).await.unwrap().unwrap().number;
    let change = ground.store.change_number().await.unwrap();
    ground.stop().await;
    ground.start();
    tokio::time::sleep(Duration::from_secs(12)).await;
    assert_eq!(versions(&ground), before);
    assert_eq!(ground.store.policy(client).await.unwrap().unwrap().number, number);
    assert_eq!(ground.store.change_number().await.unwrap(), change, "a resync wrote into the site database");

    // What `git revert` of an update comes to: gone from the desired state, and status says what stays on the disks.
    assert_eq!(
        condition(&ground.get("updatedeployment", "security"), "LeftInstalled"),
        serde_json::Value::Null
    );
    let source = update.rsplit(':').next().unwrap().split('@').next().unwrap();
    let exclude = format!(r#"{{"spec":{{"exclusions":["{source}"]}}}}"#);
    ground.kubectl(&["patch", "updatelist", "security", "--type=merge", "-p", &exclude]);
    policy(&ground, client, "nothing to install", |policy| policy.body.updates.is_empty()).await;
    ground
        .until("updatedeployment", "security", 30, |deployment| {
            let left = condition(deployment, "LeftInstalled");
            let told = left["message"].as_str().unwrap_or_default();
            let all = left["status"] == "True"
                && told.contains("stays installed on up to 1 clients")
                && told.contains(source);
            if all { Ok(()) } else { Err(format!("{left}")) }
        })
        .await;
    check_contract(&ground);

    // What goes from the API server goes from the database and from policy.
    ground.kubectl(&["delete", "updatedeployment", "security"]);
    policy(&ground, client, "no deployment", |policy| policy.body.deployments.is_empty()).await;
    ground.says("SELECT count(*) FROM v_CIAssignment", "0").await;
    ground.stop().await;
}
