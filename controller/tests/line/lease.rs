//! Which controller leads, on a real API server.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::{now, restrict::HEAD, support::Ground};

/// Another machine's controller writes the lease, by its own clock, over the version that it knows.
fn renew(ground: &Ground, version: Option<&str>, clock: Timestamp) -> String {
    let mut lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "patchtide-controller", "namespace": ground.namespace},
        "spec": {
            "holderIdentity": "another-node", "leaseDurationSeconds": 15,
            "renewTime": clock.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        },
    });
    let verb = if let Some(version) = version {
        lease["metadata"]["resourceVersion"] = json!(version);
        "replace"
    } else {
        "create"
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), lease.to_string()).unwrap();
    let answer = ground.plane.kubectl(&[verb, "-o", "json", "-f", file.path().to_str().unwrap()]);
    let answer =
        answer.unwrap_or_else(|error| panic!("somebody took the lease from who renews it: {error:#}"));
    let answer: Value = serde_json::from_str(&answer).unwrap();
    answer["metadata"]["resourceVersion"].as_str().unwrap().to_owned()
}

/// Bad input 110: two nodes whose clocks disagree by five minutes. Who renews leads, although by our clock its lease ran out
/// long ago; who no longer renews is followed, although by our clock its lease runs on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_input_110_nodes_whose_clocks_disagree_do_not_both_lead() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    let apart = SignedDuration::from_mins(5);
    let mut version = renew(&ground, None, now() - apart);
    ground.start();
    ground.apply(&format!(
        "{HEAD} Site\nmetadata:\n  name: site\nspec: {{managementPoint: {{addresses: ['https://127.0.0.1:8443']}}}}\n"
    ));
    // Twice as long as a lease lasts.
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(30) {
        version = renew(&ground, Some(&version), now() - apart);
        assert_eq!(ground.get("site", "site")["status"]["conditions"], Value::Null, "two controllers work");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    renew(&ground, Some(&version), now() + apart);
    ground.ready("site", "site", 60).await;
    let lease = || ground.plane.get(&["-n", &ground.namespace, "lease", "patchtide-controller"]).unwrap();
    assert_ne!(lease()["spec"]["holderIdentity"], "another-node");
    ground.stop().await;
    let lease = ground.plane.get(&["-n", &ground.namespace, "lease", "patchtide-controller"]).unwrap();
    assert_eq!(
        lease["spec"]["holderIdentity"],
        Value::Null,
        "given back, so that the next one need not wait"
    );
}
