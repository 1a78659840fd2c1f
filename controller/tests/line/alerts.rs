//! Silences and alerts (R-DEPL-15, R-DEPL-16), on a real API server with a real Alertmanager.

use std::time::Duration;

use patchtide_model::{
    ClientId,
    state::{Compliance, DeploymentEnforcement, Failure, StateError},
};
use patchtide_store::intake::{IntakeBody, IntakeMessage, IntakeReport};
use patchtide_tests::alertmanager::Alertmanager;
use reqwest::Certificate;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    contract::check_contract,
    enrol, now,
    quickstart::TOKEN,
    restrict::{HEAD, says, sync},
    support::{Ground, condition},
};

const PASSWORD: &str = "patch-tide-test";
/// That password for exporter-toolkit, at bcrypt's least cost.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuAV1KIu6docVpyYUhzJHltgVwIo3XvVi";

/// What the Alertmanager holds, asked as its users ask.
struct Witness {
    client: reqwest::Client,
    url: String,
}

impl Witness {
    async fn get(&self, path: &str) -> Vec<Value> {
        let request =
            self.client.get(format!("{}/api/v2/{path}", self.url)).basic_auth("site", Some(PASSWORD));
        request.send().await.unwrap().error_for_status().unwrap().json().await.unwrap()
    }

    async fn silences(&self) -> Vec<Value> {
        let all = self.get("silences").await;
        all.into_iter().filter(|silence| silence["status"]["state"] != "expired").collect()
    }

    async fn alerts(&self) -> Vec<Value> {
        self.get("alerts?filter=alertname=%22PatchtideInstallationFailed%22").await
    }

    /// An alert of another maker about a machine.
    async fn raise(&self, instance: &str) {
        let body = json!([{"labels": {"alertname": "HostDown", "instance": instance}}]);
        let request = self.client.post(format!("{}/api/v2/alerts", self.url)).json(&body);
        request.basic_auth("site", Some(PASSWORD)).send().await.unwrap().error_for_status().unwrap();
    }

    /// Whether the alerts of that machine reach nobody.
    async fn is_silenced(&self, instance: &str) -> bool {
        let all = self.get("alerts?filter=alertname=%22HostDown%22").await;
        let found = all.iter().find(|alert| alert["labels"]["instance"] == instance).unwrap();
        found["status"]["state"] == "suppressed"
    }

    /// Waits until there are so many silences and alerts.
    async fn until(&self, silences: usize, alerts: usize) {
        let mut last = Value::Null;
        for _ in 0..400 {
            let (found, raised) = (self.silences().await, self.alerts().await);
            if (found.len(), raised.len()) == (silences, alerts) {
                return;
            }
            last = json!({"silences": found, "alerts": raised});
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("not {silences} silences and {alerts} alerts: {last:#}");
    }
}

/// What a client says of a deployment.
struct Mouth {
    client: ClientId,
    uid: String,
    seq: u64,
}

impl Mouth {
    async fn says(&mut self, ground: &Ground, state: DeploymentEnforcement, error: Option<StateError>) {
        let compliance = if state == DeploymentEnforcement::Installed {
            Compliance::Compliant
        } else {
            Compliance::NonCompliant
        };
        let deployment = self.uid.clone();
        let bodies = [
            IntakeBody::Enforcement { deployment: deployment.clone(), state, until: None, error },
            IntakeBody::Compliance { deployment, state: compliance },
        ];
        let messages = bodies
            .into_iter()
            .map(|body| {
                self.seq += 1;
                IntakeMessage { seq: self.seq, at: now(), body }
            })
            .collect();
        let report: IntakeReport = IntakeReport {
            client: self.client,
            incarnation: Uuid::from_u128(1),
            boot: Uuid::from_u128(2),
            sent_at: now(),
            received_at: now(),
            policy: None,
            messages,
        };
        ground.store.intake(report).await.unwrap();
    }
}

/// Everything of one story: no Alertmanager named, one that is away, one that asks who we are, a machine that installs and
/// fails, this site and the Alertmanager started anew in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_is_silenced_while_it_installs_and_a_failure_is_raised() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    ground.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: enrolment\nstringData: {{token: {TOKEN}}}\n"
    ));
    ground.apply(&format!("{HEAD} Site\nmetadata:\n  name: site\nspec: {{managementPoint: {{addresses: ['https://127.0.0.1:8443']}}, enrolment: {{tokens: [{{name: all, secretRef: {{name: enrolment}}, use: Site}}], approval: {{mode: Automatic, tokens: [Site]}}}}}}\n"));
    ground.apply(&format!("{HEAD} Collection\nmetadata:\n  name: everyone\nspec: {{selector: {{matchExpressions: [{{key: hostname, operator: Exists}}]}}}}\n"));
    sync(&ground, "lab").await;
    let client = enrol(&ground).await;
    ground.apply(&format!("{HEAD} UpdateDeployment\nmetadata:\n  name: tuesday\nspec: {{updates: ['lab/stable/main:tool@2'], collection: everyone, settings: {{alerts: {{offDuringInstallation: true, onFailure: true}}}}}}\n"));
    ground.ready("updatedeployment", "tuesday", 40).await;
    says(
        &ground,
        "updatedeployment",
        "tuesday",
        "Supported",
        "AlertsNotConfigured",
        "set spec.alertmanager.urls",
    )
    .await;

    // It is away, and then it wants to know who asks: told on both objects, and nothing waits for it.
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let inside = folder.path().join("alertmanager");
    let web = format!(
        "tls_server_config: {{cert_file: tls.crt, key_file: tls.key}}\nbasic_auth_users: {{site: {HASH}}}\n"
    );
    let mut alertmanager = Alertmanager::new(&inside, Some(&web)).unwrap();
    std::fs::write(inside.join("tls.crt"), certificate.cert.pem()).unwrap();
    std::fs::write(inside.join("tls.key"), certificate.signing_key.serialize_pem()).unwrap();
    let secret = |data: &Value| {
        let yaml = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "alertmanager", "namespace": ground.namespace}, "stringData": data});
        ground.plane.apply(&yaml.to_string()).unwrap();
    };
    secret(&json!({"ca.crt": certificate.cert.pem()}));
    let url = alertmanager.url();
    let patch = json!({"spec": {"alertmanager": {"urls": [url], "secretRef": {"name": "alertmanager"}}}});
    ground.kubectl(&["patch", "site", "site", "--type=merge", "-p", &patch.to_string()]);
    for (kind, name) in [("site", "site"), ("updatedeployment", "tuesday")] {
        says(&ground, kind, name, "AlertsDelivered", "AlertmanagerFailed", "does not answer").await;
        ground.ready(kind, name, 20).await;
    }
    assert_eq!(condition(&ground.get("updatedeployment", "tuesday"), "Supported"), Value::Null);
    alertmanager.start().unwrap();
    says(&ground, "site", "site", "AlertsDelivered", "AlertmanagerFailed", "401").await;
    secret(&json!({"ca.crt": certificate.cert.pem(), "username": "site", "password": PASSWORD}));
    says(&ground, "site", "site", "AlertsDelivered", "Succeeded", &url).await;
    let authority = Certificate::from_pem(certificate.cert.pem().as_bytes()).unwrap();
    let witness = Witness {
        client: reqwest::Client::builder().no_proxy().tls_certs_only([authority]).build().unwrap(),
        url: url.clone(),
    };
    witness.until(0, 0).await;

    // It installs: its alerts reach nobody, those of another machine do.
    let uid = ground.get("updatedeployment", "tuesday")["metadata"]["uid"].as_str().unwrap().to_owned();
    let mut mouth = Mouth { client, uid, seq: 0 };
    mouth.says(&ground, DeploymentEnforcement::Installing, None).await;
    witness.until(1, 0).await;
    for instance in ["web1:9100", "web1", "web10:9100"] {
        witness.raise(instance).await;
    }
    // A restarted controller knows its silence again.
    let id = witness.silences().await[0]["id"].clone();
    ground.stop().await;
    ground.start();
    says(&ground, "site", "site", "AlertsDelivered", "Succeeded", &url).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let silences = witness.silences().await;
    assert_eq!(
        (silences.len(), &silences[0]["id"], &silences[0]["createdBy"]),
        (1, &id, &json!("patchtide"))
    );
    assert!(
        silences[0]["comment"]
            .as_str()
            .unwrap()
            .contains("UpdateDeployment tuesday of site patchtide installs on web1")
    );
    assert!(witness.is_silenced("web1:9100").await && witness.is_silenced("web1").await);
    assert!(!witness.is_silenced("web10:9100").await);

    // It fails: no longer silenced, and raised with what to do.
    let error = Failure::Script.error("tool: postinst failed with 1");
    mouth.says(&ground, DeploymentEnforcement::InstallFailed, Some(error)).await;
    witness.until(0, 1).await;
    let alert = &witness.alerts().await[0];
    assert_eq!(alert["labels"]["deployment"], "tuesday");
    assert_eq!(
        (&alert["labels"]["client"], &alert["labels"]["code"]),
        (&json!("web1"), &json!("0x87D00654"))
    );
    assert_eq!(alert["annotations"]["remedy"], Failure::Script.remedy());

    // The Alertmanager loses everything, and is told again. A next attempt does not take the alert back.
    alertmanager.stop();
    alertmanager.start().unwrap();
    witness.until(0, 1).await;
    mouth.says(&ground, DeploymentEnforcement::Installing, None).await;
    witness.until(1, 1).await;
    check_contract(&ground);
    mouth.says(&ground, DeploymentEnforcement::Installed, None).await;
    witness.until(0, 0).await;
    ground.stop().await;
}
