//! Bad input that only a real API server shows: what is told, what is kept, what stays (reliability 4).

use std::time::Duration;

use patchtide_crds::annotations;
use serde_json::Value;

use super::{Bed, SOURCE, collection, failures, introduced::deployment, support::condition};

pub async fn valid_objects_apply_beside_a_broken_file(bed: &Bed) {
    let files = [
        ("fleet/a.yaml", collection("a", "one")),
        ("fleet/b.yaml", format!("{}---\n{}", collection("b", "two"), collection("c", "three"))),
        (
            "fleet/broken.yaml",
            "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nkind: Twice\n".to_owned(),
        ),
        ("fleet/misspelt.yaml", collection("d", "four").replace("all:", "al:")),
        ("elsewhere.yaml", collection("not-below-the-path", "five")),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let commit = bed.repository.commit("start", &files).unwrap();
    bed.source("  path: fleet\n");
    bed.ground
        .until(SOURCE, "fleet", 60, |object| {
            let ready = condition(object, "Ready");
            if ready["reason"] == "PartiallyApplied" { Ok(()) } else { Err(ready.to_string()) }
        })
        .await;
    assert_eq!(bed.names("collections"), ["a", "b", "c"]);
    let source = bed.ground.get(SOURCE, "fleet");
    let told = failures(&source);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("fleet/broken.yaml:3 YAML-DUPKEY"), "{told:?}");
    assert!(told[1].starts_with("fleet/misspelt.yaml:6 FIELD-UNKNOWN Collection/d"), "{told:?}");
    assert!(told[1].contains("did you mean") && told[1].contains("all"), "{told:?}");
    assert_eq!(source["status"]["lastAttemptedRevision"], format!("main@sha1:{commit}"));
    assert_eq!(source["status"]["lastAppliedRevision"], Value::Null);
    let owned = bed.ground.get("collection", "a");
    assert_eq!(owned["metadata"]["labels"][annotations::OWNER_NAME], "fleet");
    assert_eq!(owned["metadata"]["annotations"][annotations::ORIGIN_FILE], "fleet/a.yaml#0");
    bed.repository.remove("fleet/broken.yaml").unwrap();
    bed.repository.remove("fleet/misspelt.yaml").unwrap();
    let commit = bed.repository.commit_all("without the broken ones").unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert_eq!(source["status"]["lastAppliedRevision"], format!("main@sha1:{commit}"));
}

pub async fn what_the_server_refuses_keeps_its_last_good_version(bed: &Bed) {
    // Passes our schema check; refused by a CEL rule of the server.
    let good = "apiVersion: patchtide.dev/v1alpha1\nkind: MaintenanceWindow\nmetadata:\n  name: night\nspec:\n  collection: e\n  start: '02:00'\n  duration: 2h\n  timeZone: UTC\n  recurrence: {daily: {}}\n";
    bed.repository.commit("window", &[("fleet/w.yaml", good)]).unwrap();
    bed.reconcile().await;
    assert_eq!(bed.names("maintenancewindows"), ["night"]);
    bed.repository.commit("longer than a day", &[("fleet/w.yaml", &good.replace("2h", "25h"))]).unwrap();
    let source = bed.reconcile().await;
    let told = failures(&source);
    assert!(told.len() == 1 && told[0].contains("OBJ-INVALID MaintenanceWindow/night"), "{told:?}");
    assert!(told[0].contains("duration"), "{told:?}");
    assert!(told[0].contains("the last good version of MaintenanceWindow/night stays in force"), "{told:?}");
    assert_eq!(bed.ground.get("maintenancewindow", "night")["spec"]["duration"], "2h");
    bed.repository.commit("short again", &[("fleet/w.yaml", good)]).unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}

/// 25 broken files beside good ones: counts tell all, the list is bounded, and the condition names the rest.
pub async fn bad_input_44_failures_beyond_twenty_are_counted_and_named(bed: &Bed) {
    let broken: Vec<(String, &str)> =
        (0..25).map(|n| (format!("fleet/broken/f{n:02}.yaml"), "kind: A\nkind: B\n")).collect();
    let mut files: Vec<(&str, &str)> = broken.iter().map(|(path, text)| (path.as_str(), *text)).collect();
    let good = collection("beside", "good");
    files.push(("fleet/beside.yaml", &good));
    let commit = bed.repository.commit("many broken", &files).unwrap();
    let source = bed.reconcile().await;
    let status = &source["status"];
    assert_eq!(status["inventory"]["failed"], 25, "{status:#}");
    assert_eq!(status["lastAttemptedRevision"], format!("main@sha1:{commit}"));
    let told: Vec<&str> =
        status["failures"].as_array().unwrap().iter().map(|f| f["file"].as_str().unwrap()).collect();
    assert_eq!(told, broken[..20].iter().map(|(path, _)| path.as_str()).collect::<Vec<_>>());
    let ready = condition(&source, "Ready");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("25 failed") && message.contains("the first 20"), "{message}");
    for (path, _) in &broken[20..] {
        assert!(message.contains(path.as_str()), "{path}: {message}");
    }
    assert!(!message.contains("f19.yaml"), "{message}");
    assert!(bed.names("collections").contains(&"beside".to_owned()));
    bed.repository.revert().unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert!(!bed.names("collections").contains(&"beside".to_owned()), "pruned once nothing fails");
}

pub async fn bad_input_20_objects_of_another_tenant_are_missing_ones(bed: &Bed) {
    bed.ground.plane.kubectl(&["create", "namespace", "tenant-b"]).unwrap();
    let theirs = collection("theirs", "x").replacen("metadata:", "metadata:\n  namespace: tenant-b", 1);
    bed.ground.plane.apply(&theirs).unwrap();
    let mut told = Vec::new();
    for name in ["theirs", "nobodys"] {
        let text = deployment(name, "x").replace("collection: a", &format!("collection: {name}"));
        bed.ground.apply(&text);
        bed.ground
            .until("updatedeployment", name, 60, |object| {
                let ready = condition(object, "Ready");
                if ready["status"] == "False" { Ok(()) } else { Err(ready.to_string()) }
            })
            .await;
        let ready = condition(&bed.ground.get("updatedeployment", name), "Ready");
        let message = ready["message"].as_str().unwrap().replace(name, "NAME");
        told.push((ready["reason"].clone(), message));
        bed.ground.kubectl(&["delete", "updatedeployment", name]);
    }
    // The same answer: it does not say what exists elsewhere.
    assert_eq!(told[0], told[1]);
    assert!(told[0].1.contains("does not exist"), "{told:?}");
}

/// No field of our kinds is immutable so far; a server whose definition makes one so refuses a change in its own words.
pub async fn bad_input_26_an_immutable_field_is_told_with_old_and_new(bed: &Bed) {
    let rule = r#"[{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/description/x-kubernetes-validations","value":[{"rule":"self == oldSelf","message":"the field is immutable"}]}]"#;
    let crd = "collections.patchtide.dev";
    bed.ground.plane.kubectl(&["patch", "crd", crd, "--type=json", "-p", rule]).unwrap();
    // The server takes a changed definition over within moments; until then the change passes and is taken back.
    let mut told = Vec::new();
    for number in 0..10 {
        let text = collection("a", &format!("other-{number}"));
        bed.repository.commit("changed", &[("fleet/a.yaml", &text)]).unwrap();
        told = failures(&bed.reconcile().await);
        if !told.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(told.len() == 1 && told[0].contains("FIELD-IMMUTABLE Collection/a"), "{told:?}");
    for part in ["spec.description is ", "cannot become", "other-", "last good version of Collection/a"] {
        assert!(told[0].contains(part), "{part}: {told:?}");
    }
    bed.repository.revert().unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
}

/// There is one version of the API so far, so nothing converts; what the server keeps is what it was given.
pub fn bad_input_27_nothing_of_an_object_is_lost_in_storage(bed: &Bed) {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/kinds");
    bed.ground.plane.kubectl(&["create", "namespace", "kept"]).unwrap();
    let mut kinds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bed.ground.plane.kubectl(&["-n", "kept", "apply", "-f", path.to_str().unwrap()]).unwrap();
        let given: Vec<Value> =
            serde_saphyr::from_multiple(&std::fs::read_to_string(&path).unwrap()).unwrap();
        for object in given {
            let (kind, name) =
                (object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap());
            let kept = bed.ground.plane.get(&["-n", "kept", kind, name]).unwrap();
            lost(&object["spec"], &kept["spec"], &format!("{kind}.spec"));
            kinds += 1;
        }
    }
    assert!(kinds >= 12, "{kinds}");
}

pub fn lost(given: &Value, kept: &Value, at: &str) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                lost(value, kept.get(key).unwrap_or(&Value::Null), &format!("{at}.{key}"));
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (n, (given, kept)) in given.iter().zip(kept).enumerate() {
                lost(given, kept, &format!("{at}[{n}]"));
            }
        }
        _ => assert_eq!(given, kept, "{at}"),
    }
}
