//! The control plane of the test bed itself.

use patchtide_tests::control_plane::{ControlPlane, KUBERNETES_VERSION};

#[test]
fn two_control_planes_side_by_side() {
    let folder = tempfile::tempdir().unwrap();
    let one = ControlPlane::start(&folder.path().join("one")).unwrap();
    let two = ControlPlane::start(&folder.path().join("two")).unwrap();
    let version = one.kubectl(&["version", "-o", "json"]).unwrap();
    assert!(version.contains(KUBERNETES_VERSION), "{version}");

    let name = one.create_namespace("site").unwrap();
    one.get(&["namespace", &name]).unwrap();
    assert!(two.get(&["namespace", &name]).unwrap_err().to_string().contains("not found"));

    // Namespaces are really ended: the controller manager is at work.
    one.apply(&format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c, namespace: {name}}}\n"))
        .unwrap();
    one.kubectl(&["delete", "namespace", &name, "--timeout=60s"]).unwrap();

    // The flags that an aggregated API needs are in force.
    let proxy = one.get(&["configmap", "extension-apiserver-authentication", "-n", "kube-system"]).unwrap();
    assert!(proxy["data"]["requestheader-client-ca-file"].as_str().unwrap().contains("BEGIN CERTIFICATE"));
}
