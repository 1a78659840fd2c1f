//! The controller on a real API server with the machine's real archive: from objects to a signed policy and back.

#![allow(clippy::unwrap_used, clippy::panic, clippy::too_many_lines, unreachable_pub, reason = "a test")]

mod support;

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use patchtide_crds::conditions::violations;
use patchtide_model::{ClientId, Digest, LineId, ObjectName, policy::Policy, state::Detection, state::Scan};
use patchtide_protocol::envelope::Envelope;
use patchtide_store::{
    clients::{EnrolmentRow, EnrolmentState},
    intake::{DetectedUpdate, DetectionReport, IntakeBody, IntakeMessage, IntakeReport},
};
use patchtide_tests::archive::Archive;
use support::{Ground, condition};
use uuid::Uuid;

const TOKEN: &str = "a-token-of-more-than-sixteen-bytes";

fn quickstart(archive: &Archive) -> String {
    let security = &archive.security;
    format!(
        r"
apiVersion: v1
kind: Secret
metadata:
  name: enrolment
stringData:
  token: {TOKEN}
---
apiVersion: patchtide.dev/v1alpha1
kind: Site
metadata:
  name: site
spec:
  managementPoint: {{addresses: ['https://127.0.0.1:8443']}}
  enrolment:
    tokens: [{{name: all, secretRef: {{name: enrolment}}, use: Site}}]
    approval: {{mode: Automatic, tokens: [Site]}}
---
apiVersion: patchtide.dev/v1alpha1
kind: SoftwareUpdatePoint
metadata:
  name: debian
spec:
  sources:
  - name: debian
    product: Debian 12
    apt:
      url: {url}
      suites: [{suite}]
      components: [main]
      architectures: [{architecture}]
      keyring: {{keyringFile: {keyring}}}
  - name: away
    apt:
      url: http://127.0.0.1:9/debian
      suites: [bookworm]
      components: [main]
      architectures: [amd64]
      keyring: {{keyringFile: {keyring}}}
  updateRules: [{{name: xz, match: {{source: xz-utils}}, restart: Always}}]
---
apiVersion: patchtide.dev/v1alpha1
kind: SearchFolder
metadata:
  name: security
spec:
  criteria: {{classifications: [SecurityUpdates], requiredBy: {{atLeast: 1}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: UpdateList
metadata:
  name: security
spec:
  searchFolder: {{name: security}}
---
apiVersion: patchtide.dev/v1alpha1
kind: DeploymentTemplate
metadata:
  name: standard
spec:
  settings: {{deadline: {{after: 0s}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: DeploymentPackage
metadata:
  name: security
spec:
  updateLists: [security]
  distributionPoints: [dp1]
---
apiVersion: patchtide.dev/v1alpha1
kind: DistributionPoint
metadata:
  name: dp1
spec:
  endpoints: ['https://127.0.0.1:8444']
---
apiVersion: patchtide.dev/v1alpha1
kind: Collection
metadata:
  name: everyone
spec:
  all: true
---
apiVersion: patchtide.dev/v1alpha1
kind: MaintenanceWindow
metadata:
  name: night
spec:
  collection: everyone
  start: '02:00'
  duration: 2h
  timeZone: UTC
  recurrence: {{daily: {{}}}}
---
apiVersion: patchtide.dev/v1alpha1
kind: ClientSettings
metadata:
  name: default
spec:
  scanInterval: 1d
---
apiVersion: patchtide.dev/v1alpha1
kind: UpdateDeployment
metadata:
  name: security
spec:
  template: standard
  updateList: security
  listReference: Follow
  collection: everyone
",
        url = security.url,
        suite = security.suite,
        architecture = archive.architecture,
        keyring = security.keyring.display(),
    )
}

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
    let leaf = patchtide_model::catalogue::LeafRef {
        package: leaf.package.clone(),
        architecture: leaf.architecture.clone(),
        version: leaf.version.clone(),
    };
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
            let envelope: Envelope = serde_json::from_slice(&stored.envelope).unwrap();
            let policy = envelope.open(&ground.signer.policy_keys()).unwrap();
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

fn check_contract(ground: &Ground) {
    macro_rules! check {
        ($object:expr, $($kind:ident),+) => {
            match $object["kind"].as_str().unwrap() {
                $(stringify!($kind) => {
                    let object: patchtide_crds::$kind = serde_json::from_value($object.clone()).unwrap();
                    let generation = object.metadata.generation.unwrap();
                    let broken = violations(object.status.as_ref().unwrap(), generation, true);
                    assert_eq!(broken, Vec::<String>::new(), "{}/{}", stringify!($kind), object.metadata.name.unwrap());
                })+
                other => panic!("kind {other}"),
            }
        };
    }
    for object in ground.all() {
        check!(
            object,
            Site,
            GitSource,
            SoftwareUpdatePoint,
            SearchFolder,
            UpdateList,
            DeploymentTemplate,
            UpdateDeployment,
            DeploymentPackage,
            DistributionPoint,
            Collection,
            MaintenanceWindow,
            ClientSettings
        );
    }
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
    let full = policy(&ground, client, "the update", |policy| policy.body.updates.len() == 1).await;
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

    // What goes from the API server goes from the database and from policy.
    ground.kubectl(&["delete", "updatedeployment", "security"]);
    policy(&ground, client, "no deployment", |policy| policy.body.deployments.is_empty()).await;
    ground.stop().await;
}

/// Bad input of reliability.md section 4 that only the controller can judge, each answered with object, field, remedy.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_references_and_restrictions_are_told_and_hold_policy_back() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    let reason = |kind: &'static str, name: &'static str, reason: &'static str, text: &'static str| {
        let ground = &ground;
        async move {
            ground
                .until(kind, name, 20, |object| {
                    let ready = condition(object, "Ready");
                    let message = ready["message"].as_str().unwrap_or_default();
                    if ready["reason"] == reason && message.contains(text) {
                        Ok(())
                    } else {
                        Err(format!("{ready}"))
                    }
                })
                .await;
        }
    };
    let head = "apiVersion: patchtide.dev/v1alpha1\nkind:";
    // #18: a missing reference. #20: that of another namespace is the same.
    ground.apply(&format!("{head} UpdateDeployment\nmetadata:\n  name: lost\nspec: {{updates: ['a/b/c:d@1'], collection: nowhere}}\n"));
    reason("updatedeployment", "lost", "DependencyNotReady", "collection nowhere does not exist").await;
    // #19: a cycle over three hops.
    for (name, include) in [("one", "two"), ("two", "three"), ("three", "one")] {
        ground.apply(&format!(
            "{head} Collection\nmetadata:\n  name: {name}\nspec: {{include: [{include}]}}\n"
        ));
    }
    reason("collection", "two", "RefCycle", "REF-CYCLE").await;
    // A second Site.
    for name in ["first", "second"] {
        ground.apply(&format!("{head} Site\nmetadata:\n  name: {name}\nspec: {{managementPoint: {{addresses: ['https://127.0.0.1:8443']}}}}\n"));
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }
    reason("site", "second", "MoreThanOneSite", "first is older").await;
    // A window in a zone that does not exist: stalled, and it holds policy back.
    ground.apply(&format!(
        "{head} MaintenanceWindow\nmetadata:\n  name: mars\nspec: {{collection: everyone, start: '02:00', duration: 2h, timeZone: Mars/Olympus, recurrence: {{daily: {{}}}}}}\n"
    ));
    reason("maintenancewindow", "mars", "InvalidSpec", "Mars/Olympus").await;
    let blocked = ground.store.load_objects().await.unwrap().blocked;
    assert!(blocked.contains_key("MaintenanceWindow/mars"), "{blocked:?}");
    // A restriction that is not built.
    ground.apply(&format!("{head} ClientSettings\nmetadata:\n  name: idle\nspec: {{enabled: false}}\n"));
    reason("clientsettings", "idle", "RestrictionNotBuilt", "enabled: false").await;
    // A field without effect is named.
    ground.apply(&format!("{head} DeploymentTemplate\nmetadata:\n  name: t\nspec: {{settings: {{alerts: {{onFailure: true}}}}}}\n"));
    ground.ready("deploymenttemplate", "t", 20).await;
    let supported = condition(&ground.get("deploymenttemplate", "t"), "Supported");
    assert!(supported["message"].as_str().unwrap().contains("alerts.onFailure"), "{supported}");
    // A collection whose rule is not built, with a window bound to it: nobody gets a policy that may ignore the window.
    ground.apply(&format!("{head} Collection\nmetadata:\n  name: web\nspec: {{selector: {{matchExpressions: [{{key: hostname, operator: Glob, values: ['web*']}}]}}}}\n"));
    reason("collection", "web", "RestrictionNotBuilt", "operator Glob").await;
    let concerned = |blocked: &BTreeMap<String, patchtide_model::object::Blocked>| {
        blocked["Collection/web"].collections.len()
    };
    assert_eq!(concerned(&ground.store.load_objects().await.unwrap().blocked), 1);
    ground.apply(&format!("{head} MaintenanceWindow\nmetadata:\n  name: web\nspec: {{collection: web, start: '02:00', duration: 2h, recurrence: {{daily: {{}}}}}}\n"));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(concerned(&ground.store.load_objects().await.unwrap().blocked), 0, "everyone");
    check_contract(&ground);
    // The window repaired: nothing blocks any more.
    ground.kubectl(&[
        "patch",
        "maintenancewindow",
        "mars",
        "--type=merge",
        "-p",
        r#"{"spec":{"timeZone":"UTC"}}"#,
    ]);
    ground
        .until("maintenancewindow", "mars", 20, |window| {
            match window["status"]["nextOccurrences"].as_array() {
                Some(_) => Ok(()),
                None => Err("not repaired".to_owned()),
            }
        })
        .await;
    let blocked = ground.store.load_objects().await.unwrap().blocked;
    assert!(!blocked.contains_key("MaintenanceWindow/mars"), "{blocked:?}");
    ground.stop().await;
}
