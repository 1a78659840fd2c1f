//! The definitions, the manifests and the examples on a real API server: accepted, established, and every bad object
//! of `bad_objects.json` refused with the field and the remedy.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    fmt::Write as _,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use patchtide_crds::KINDS;
use patchtide_tests::control_plane::ControlPlane;
use serde_json::{Value, json};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(path)
}

/// A real control plane with everything of `manifests/` applied, and two empty namespaces.
struct Cluster {
    plane: ControlPlane,
    _folder: tempfile::TempDir,
}

impl Cluster {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cluster = Self { plane: ControlPlane::start(folder.path()).unwrap(), _folder: folder };
        let manifests = repository("manifests");
        let output = cluster.kubectl(&["apply", "--server-side", "-k", manifests.to_str().unwrap()], None);
        let text = said(&output);
        assert!(output.status.success() && !text.contains("Warning"), "{text}");
        cluster
            .plane
            .kubectl(&[
                "wait",
                "--for=condition=Established",
                "--timeout=60s",
                "crd",
                "-l",
                "app.kubernetes.io/part-of=patchtide",
            ])
            .unwrap();
        cluster
    }

    fn kubectl(&self, args: &[&str], input: Option<&str>) -> Output {
        let mut command: Command = self.plane.kubectl_command();
        command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.unwrap_or_default().as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Applies a folder of YAML and returns what kubectl said.
    fn apply_folder(&self, folder: &str, namespace: &str) -> String {
        let folder = repository(folder);
        let args =
            ["apply", "--server-side", "--validate=strict", "-n", namespace, "-f", folder.to_str().unwrap()];
        let output = self.kubectl(&args, None);
        assert!(output.status.success(), "{}", said(&output));
        said(&output)
    }

    /// Whether the server's account may do it.
    fn may(&self, verb: &str, resource: &str, namespace: &str) -> bool {
        let account = "--as=system:serviceaccount:patchtide:patchtide";
        self.kubectl(&["auth", "can-i", verb, resource, "-n", namespace, account], None).status.success()
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// One test, because starting the control plane is what takes the time.
#[test]
fn a_real_api_server_takes_the_good_and_answers_the_bad() {
    let cluster = Cluster::start();
    definitions_are_in_force(&cluster);
    examples_are_accepted(&cluster);
    bad_objects_are_answered(&cluster);
    large_objects_are_answered(&cluster);
    rights_are_the_least(&cluster);
}

fn definitions_are_in_force(cluster: &Cluster) {
    let all = cluster.plane.get(&["crd"]).unwrap();
    for definition in all["items"].as_array().unwrap() {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        let bad = conditions.iter().find(|c| c["type"] == "NonStructuralSchema" && c["status"] == "True");
        assert_eq!(bad, None, "{}", definition["metadata"]["name"]);
    }
    for kind in KINDS {
        let resource = format!("{}.patchtide.dev", kind.plural);
        let text = cluster.plane.kubectl(&["explain", &resource, "--recursive"]).unwrap();
        assert!(text.contains("spec") && text.contains("observedGeneration"), "{text}");
    }
    let deadline = cluster.plane.kubectl(&["explain", "updatedeployments.spec.settings.deadline"]).unwrap();
    assert!(deadline.contains("after\t<string>") && deadline.contains("14 days"), "{deadline}");
}

fn examples_are_accepted(cluster: &Cluster) {
    for folder in ["examples/quickstart", "examples/kinds", "examples/templates"] {
        let namespace = cluster.plane.create_namespace("examples").unwrap();
        let text = cluster.apply_folder(folder, &namespace);
        assert!(!text.contains("Warning"), "{text}");
        let listed = cluster.plane.get(&["patchtide", "-n", &namespace]).unwrap();
        let objects = listed["items"].as_array().unwrap();
        let kinds: std::collections::BTreeSet<_> =
            objects.iter().map(|o| o["kind"].as_str().unwrap()).collect();
        let missing: Vec<_> =
            KINDS.iter().filter(|kind| !kinds.contains(kind.kind)).map(|kind| kind.kind).collect();
        match folder {
            // One for each behaviour, to be named by deployments.
            "examples/templates" => assert_eq!(kinds, ["DeploymentTemplate"].into(), "{folder}"),
            // The quickstart's own repository is what its GitSource points at.
            "examples/quickstart" => assert_eq!(missing, ["GitSource"], "{folder}"),
            _ => assert_eq!(missing, [""; 0], "{folder}"),
        }
        for object in objects {
            assert_eq!(object["status"], json!({"observedGeneration": -1}), "{}", object["kind"]);
        }
        // What the server holds is what was written, so that GitOps tools see no drift. (The first write after the
        // creation stores the default of status; from then on nothing changes.)
        let versions = || {
            let list = cluster.plane.get(&["patchtide", "-n", &namespace]).unwrap();
            let all =
                list["items"].as_array().unwrap().iter().map(|o| o["metadata"]["resourceVersion"].clone());
            all.collect::<Vec<_>>()
        };
        assert_eq!(cluster.apply_folder(folder, &namespace), text);
        let before = versions();
        assert_eq!(cluster.apply_folder(folder, &namespace), text);
        assert_eq!(versions(), before, "applying again writes nothing");
    }
}

fn bad_objects_are_answered(cluster: &Cluster) {
    let namespace = cluster.plane.create_namespace("bad").unwrap();
    let cases: Vec<Value> = serde_json::from_str(include_str!("bad_objects.json")).unwrap();
    let mut wrong = String::new();
    for case in &cases {
        let object = json!({
            "apiVersion": "patchtide.dev/v1alpha1", "kind": case["kind"],
            "metadata": {"name": "bad", "namespace": namespace}, "spec": case["spec"],
        });
        let args = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let output = cluster.kubectl(&args, Some(&object.to_string()));
        let text = said(&output);
        for expected in case["says"].as_array().unwrap() {
            if output.status.success() || !text.contains(expected.as_str().unwrap()) {
                writeln!(wrong, "{}: expected {expected} in: {text}", case["id"]).unwrap();
            }
        }
    }
    assert_eq!(wrong, "");
}

/// reliability 4 #24 and #25: a pattern of a MiB, and 10^5 items. (Objects of more than 512 KiB are refused
/// where they come from Git.)
fn large_objects_are_answered(cluster: &Cluster) {
    let namespace = cluster.plane.create_namespace("large").unwrap();
    let glob = "*a".repeat(512 * 1024);
    let host = |n: usize| format!("host-{n}");
    let pattern = json!({"matchExpressions": [{"key": "hostname", "operator": "Glob", "values": [glob]}]});
    let members: Vec<String> = (0..100_000).map(host).collect();
    for (id, spec, says) in [
        ("#24", json!({"selector": pattern}), "may not be more than 256 bytes"),
        ("#25", json!({"directMembers": members}), "must have at most 5000 items"),
    ] {
        let object = json!({
            "apiVersion": "patchtide.dev/v1alpha1", "kind": "Collection",
            "metadata": {"name": "large", "namespace": namespace}, "spec": spec,
        });
        let args = ["create", "--dry-run=server", "--validate=ignore", "-f", "-"];
        let output = cluster.kubectl(&args, Some(&object.to_string()));
        let text = said(&output);
        let start: String = text.chars().take(600).collect();
        assert!(!output.status.success() && text.contains(says), "{id}: {start}");
    }
}

fn rights_are_the_least(cluster: &Cluster) {
    for (verb, resource) in [
        ("patch", "updatedeployments.patchtide.dev"),
        ("patch", "updatedeployments.patchtide.dev/status"),
        ("get", "secrets"),
        ("create", "events.events.k8s.io"),
        ("patch", "events.events.k8s.io"),
        ("update", "leases.coordination.k8s.io"),
        ("patch", "configmaps/patchtide-bundle"),
    ] {
        let resource = match resource.rsplit_once('/') {
            Some((whole, "status")) => vec![whole.to_owned(), "--subresource=status".to_owned()],
            _ => vec![resource.to_owned()],
        };
        let mut args = vec!["auth", "can-i", verb];
        args.extend(resource.iter().map(String::as_str));
        args.extend(["-n", "patchtide", "--as=system:serviceaccount:patchtide:patchtide"]);
        assert!(cluster.kubectl(&args, None).status.success(), "{args:?}");
    }
    assert!(!cluster.may("get", "secrets", "default"), "no rights outside of its namespace");
    assert!(!cluster.may("update", "secrets", "patchtide"), "secrets are made once and never changed");
    assert!(!cluster.may("patch", "configmaps/other", "patchtide"));
    assert!(!cluster.may("impersonate", "serviceaccounts", "patchtide"));
    assert!(!cluster.may("create", "pods", "patchtide"));
}
