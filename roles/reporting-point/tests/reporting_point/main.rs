//! The reporting point behind a real kube-apiserver: registered, found, authorised; and what it refuses from others.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "a test that cannot go on fails"
)]

#[path = "../../../testing/bed.rs"]
mod bed;
mod direct;
mod ground;
mod kubectl;
mod reports;

use std::{collections::BTreeSet, time::Duration};

use ground::{Ground, NAMESPACE, PATH};
use patchtide_model::state::Detection;
use patchtide_planner::snapshot::Snapshot;
use patchtide_tests::process::run;
use serde_json::Value;

fn refused(ground: &Ground, args: &[&str]) -> String {
    format!("{:#}", ground.plane.kubectl(args).unwrap_err())
}

fn snapshot(ground: &Ground, query: &str) -> Snapshot {
    let text = ground.plane.kubectl(&["get", "--raw", &format!("{PATH}{query}")]).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_is_read_through_the_api_server_by_who_may() {
    let ground = Ground::start().await;
    let plane = &ground.plane;

    // It is found: discovery, names, OpenAPI.
    let found = plane.kubectl(&["api-resources", "--api-group=reports.patchtide.dev", "-o", "name"]).unwrap();
    let found: Vec<&str> = found.lines().map(|name| name.split('.').next().unwrap()).collect();
    assert_eq!(
        found,
        ["clients", "clientupdatestates", "deploymentstates", "reports", "snapshots", "softwareupdates"]
    );
    let object = plane.get(&["snapshots", "current", "-n", NAMESPACE]).unwrap();
    assert_eq!(
        (object["kind"].as_str(), object["metadata"]["namespace"].as_str()),
        (Some("Snapshot"), Some(NAMESPACE))
    );
    patchtide_tests::wait::until("kubectl explain", Duration::from_secs(90), || {
        let text = plane
            .kubectl(&["explain", "snapshots.reports.patchtide.dev"])
            .map_err(|error| error.to_string())?;
        if text.contains("It names every machine") { Ok(()) } else { Err(text) }
    })
    .unwrap();

    // What it says is what the database has.
    let all = snapshot(&ground, "?catalogue=true");
    let site = &ground.site;
    let clients: Vec<_> = site.clients().await.unwrap().into_iter().map(Into::into).collect();
    assert_eq!(all.input.clients, clients);
    assert_eq!(all.input.objects, site.load_objects().await.unwrap());
    assert_eq!(all.input.lines.len(), 1);
    assert_eq!(all.reports.len(), ground::CLIENTS - 1, "one never reported and has no policy");
    let catalogue = all.catalogue.as_ref().unwrap();
    assert_eq!(catalogue.len(), ground::UPDATES);
    let ids: Vec<_> = catalogue.iter().map(|entry| entry.update.id.clone()).collect();
    let counts = site.required_counts(&ids).await.unwrap();
    let deployed: BTreeSet<_> =
        all.input.objects.deployments.values().flat_map(|one| one.updates.iter().cloned()).collect();
    assert_eq!(deployed.len(), 1);
    for entry in catalogue {
        let reports = all.reports.values().filter_map(|report| report.updates.get(&entry.update.id));
        let of = |wanted| reports.clone().filter(|report| report.detection == wanted).count() as u64;
        assert_eq!(entry.counts, counts[&entry.update.id]);
        assert_eq!(of(Detection::Required), entry.counts.required, "{}", entry.update.id);
        let installed = if deployed.contains(&entry.update.id) { entry.counts.installed } else { 0 };
        assert_eq!(of(Detection::Installed), installed, "of others it is left out");
        assert!(entry.update.leaves.iter().all(|leaf| leaf.stanza.is_empty()));
    }
    assert_eq!(snapshot(&ground, "").catalogue, None);

    // One client, by name and by id, with everything it reported.
    let id = all.input.clients[2].id;
    for name in [ground::client_name(3), id.to_string()] {
        let one = snapshot(&ground, &format!("?client={name}"));
        assert_eq!(one.input.clients, [all.input.clients[2].clone()]);
        assert_eq!(one.reports.keys().collect::<Vec<_>>(), [&id]);
        assert_eq!(one.reports[&id].updates.len(), site.client_states(id).await.unwrap().len());
        assert_eq!(one.input.updates, all.input.updates);
    }

    // Errors in the words of Kubernetes.
    let text = refused(&ground, &["get", "--raw", &format!("{PATH}?client=nobody")]);
    assert!(text.contains("no client of the site has the name or id"), "{text}");
    let text = refused(&ground, &["get", "snapshots", "current", "-n", "default"]);
    assert!(text.contains("NotFound") && text.contains("create a Site object"), "{text}");
    let text = refused(&ground, &["get", "snapshots", "yesterday", "-n", NAMESPACE]);
    assert!(text.contains("(NotFound)"), "{text}");
    let text = refused(&ground, &["delete", "snapshots.reports.patchtide.dev", "current", "-n", NAMESPACE]);
    assert!(text.contains("MethodNotAllowed"), "{text}");
    let text =
        refused(&ground, &["get", "--raw", "/apis/reports.patchtide.dev/v1alpha1/namespaces/x/others/y"]);
    assert!(text.contains("NotFound") || text.contains("not find"), "{text}");

    // Rights, by namespace.
    plane
        .kubectl(&["create", "rolebinding", "look", "--clusterrole=view", "--user=alice", "-n", NAMESPACE])
        .unwrap();
    patchtide_tests::wait::until("the role to be aggregated", Duration::from_secs(30), || {
        let yes = plane.kubectl(&[
            "auth",
            "can-i",
            "get",
            "snapshots.reports.patchtide.dev",
            "--as=alice",
            "-n",
            NAMESPACE,
        ]);
        yes.map(drop).map_err(|error| error.to_string())
    })
    .unwrap();
    let allowed = plane.kubectl(&["get", "--raw", PATH, "--as=alice"]).unwrap();
    assert!(serde_json::from_str::<Snapshot>(&allowed).is_ok());
    for (who, namespace) in [("alice", "default"), ("bob", NAMESPACE)] {
        let text =
            refused(&ground, &["get", "snapshots", "current", "-n", namespace, &format!("--as={who}")]);
        let words = format!(
            "snapshots.reports.patchtide.dev \"current\" is forbidden: User \"{who}\" cannot get resource \
             \"snapshots\" in API group \"reports.patchtide.dev\" in the namespace \"{namespace}\""
        );
        assert!(text.contains("(Forbidden)") && text.contains(&words), "{text}");
    }

    kubectl::rights(&ground);
    // A namespace can still go.
    let other = plane.create_namespace("other").unwrap();
    plane.kubectl(&["delete", "namespace", &other, "--timeout=60s"]).unwrap();

    the_command(&ground, &all);
    reports::are_read_by_who_may_see_what_they_tell(&ground).await;
    kubectl::tables(&ground);
    kubectl::shapes(&ground);
    kubectl::selections(&ground);
    kubectl::the_page(&ground);
    kubectl::watches(&ground).await;
    direct::only_the_front_proxy_is_believed(&ground).await;
    direct::without_an_answer_about_rights_nobody_reads(ground).await;
}

/// `kubectl patchtide snapshot`.
fn the_command(ground: &Ground, all: &Snapshot) {
    let folder = tempfile::tempdir().unwrap();
    let program = patchtide_tests::paths::program("patchtide-cli", "kubectl-patchtide").unwrap();
    for (name, more) in [("site.json", &["--no-catalogue"][..]), ("site.json.zst", &[][..])] {
        let path = folder.path().join(name);
        let mut command = std::process::Command::new(&program);
        command.env("KUBECONFIG", ground.plane.kubeconfig()).args(["-n", NAMESPACE, "snapshot", "--out"]);
        run(command.arg(&path).args(more)).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let text = if name.ends_with("zst") { zstd::decode_all(bytes.as_slice()).unwrap() } else { bytes };
        let mut read: Snapshot = serde_json::from_slice(&text).unwrap();
        let resources = std::mem::take(&mut read.resources);
        let kinds: Vec<&str> = resources.iter().filter_map(|object| object["kind"].as_str()).collect();
        assert_eq!(kinds, ["Collection"]);
        assert_eq!(
            (&resources[0]["status"], &resources[0]["metadata"]["managedFields"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(read.catalogue.is_some(), more.is_empty());
        assert_eq!((&read.input, &read.reports), (&all.input, &all.reports));
    }
    let mut command = std::process::Command::new(&program);
    command.env("KUBECONFIG", ground.plane.kubeconfig()).args(["-n", "default", "snapshot", "--out"]);
    let error = run(command.arg(folder.path().join("none"))).unwrap_err().to_string();
    assert!(error.contains("create a Site object"), "{error}");
}
