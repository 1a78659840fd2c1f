//! What only the controller can judge.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    contract::check_contract,
    support::{Ground, condition},
};

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
    // What it lacks may come with the same commit: that is no warning before it lasts.
    let warned = || {
        let selector = "--field-selector=involvedObject.name=lost,reason=DependencyNotReady";
        ground.kubectl(&["get", "events", selector, "-o", "name"]).lines().count()
    };
    assert_eq!(warned(), 0);
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
    // #94: a window in a zone that does not exist: stalled, it holds policy back, and the nearest name is told.
    ground.apply(&format!(
        "{head} MaintenanceWindow\nmetadata:\n  name: mars\nspec: {{collection: everyone, start: '02:00', duration: 2h, timeZone: Europe/Berlim, recurrence: {{daily: {{}}}}}}\n"
    ));
    reason("maintenancewindow", "mars", "InvalidSpec", "did you mean Europe/Berlin?").await;
    let blocked = ground.store.load_objects().await.unwrap().blocked;
    assert!(blocked.contains_key("MaintenanceWindow/mars"), "{blocked:?}");
    // A restriction that is not built.
    ground.apply(&format!(
        "{head} ClientSettings\nmetadata:\n  name: idle\nspec: {{download: {{bandwidth: 1Mi}}}}\n"
    ));
    reason("clientsettings", "idle", "RestrictionNotBuilt", "download.bandwidth").await;
    // A field without effect is named.
    ground.apply(&format!("{head} DeploymentTemplate\nmetadata:\n  name: t\nspec: {{settings: {{legacyClients: {{deploy: true}}}}}}\n"));
    ground.ready("deploymenttemplate", "t", 20).await;
    let supported = condition(&ground.get("deploymenttemplate", "t"), "Supported");
    assert!(supported["message"].as_str().unwrap().contains("legacyClients"), "{supported}");
    // A collection whose members nobody can tell, with a window bound to it: nobody gets a policy that may ignore the window.
    let concerned = |blocked: &BTreeMap<String, patchtide_model::object::Blocked>| {
        blocked["Collection/two"].collections.len()
    };
    assert_eq!(concerned(&ground.store.load_objects().await.unwrap().blocked), 1);
    ground.apply(&format!("{head} MaintenanceWindow\nmetadata:\n  name: web\nspec: {{collection: two, start: '02:00', duration: 2h, recurrence: {{daily: {{}}}}}}\n"));
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
    let patience = std::time::Instant::now();
    while warned() == 0 && patience.elapsed() < Duration::from_secs(45) {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(warned(), 1, "it lasted");
    ground.stop().await;
}
