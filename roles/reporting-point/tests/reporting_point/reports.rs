//! Reports through the kube-apiserver: by kubectl, by the command, and by who may see what.

use std::{collections::BTreeSet, process::Command};

use patchtide_model::{ClientId, ObjectName, deployment::Deployment};
use patchtide_store::register::{
    Origin, Register, RegisteredCollection, RegisteredDeployment, RegisteredList,
};
use patchtide_tests::process::run;
use uuid::Uuid;

use crate::ground::{CLIENTS, Ground, NAMESPACE};

const RIGHTS: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: of-servers, namespace: patchtide}
rules:
  - {apiGroups: [reports.patchtide.dev], resources: [reports], verbs: [get, list]}
  - {apiGroups: [patchtide.dev], resources: [collections], resourceNames: [servers], verbs: [get]}
  - {apiGroups: [patchtide.dev], resources: [updatelists], verbs: [get, list]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: of-servers, namespace: patchtide}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: of-servers}
subjects: [{kind: User, apiGroup: rbac.authorization.k8s.io, name: dave}]
"#;

/// What the leader would keep: two collections, a list and a deployment of the deployed update.
async fn register(ground: &Ground) {
    let name = |text: &str| ObjectName::new(text).unwrap();
    let origin = |uid: &str| Origin { uid: uid.to_owned(), generation: 1, description: None, created: None };
    let members = |to: usize| (1..=to).map(|n| ClientId(Uuid::from_u128(n as u128))).collect();
    let objects = ground.site.load_objects().await.unwrap();
    let deployment: &Deployment = objects.deployments.values().next().unwrap();
    let updates: BTreeSet<_> = deployment.updates.iter().cloned().collect();
    let mut register = Register::default();
    for (of, to) in [("everyone", CLIENTS), ("servers", 3)] {
        let collection = RegisteredCollection { origin: origin(of), parent: None, members: members(to) };
        register.collections.insert(name(of), collection);
    }
    register
        .lists
        .insert(name("security"), RegisteredList { origin: origin("l"), folder: None, members: updates });
    let registered = RegisteredDeployment {
        origin: origin("uid-one"),
        deployment: deployment.clone(),
        list: Some(name("security")),
        available: None,
        deadline: None,
        targets: members(CLIENTS),
    };
    register.deployments.insert(name("one"), registered);
    ground.site.put_register(&register, None, ground.bed.now()).await.unwrap();
}

/// The command's output, or its error.
fn report(ground: &Ground, args: &[&str]) -> Result<String, String> {
    let program = patchtide_tests::paths::program("patchtide-cli", "kubectl-patchtide").unwrap();
    let mut command = Command::new(program);
    command.env("KUBECONFIG", ground.plane.kubeconfig()).args(["-n", NAMESPACE, "report"]).args(args);
    run(&mut command).map_err(|error| format!("{error:#}"))
}

pub(crate) async fn are_read_by_who_may_see_what_they_tell(ground: &Ground) {
    register(ground).await;
    let plane = &ground.plane;

    let listed = plane.kubectl(&["get", "reports.reports.patchtide.dev", "-n", NAMESPACE]).unwrap();
    assert!(listed.starts_with("NAME") && listed.contains("Compliance 1 - Overall compliance"), "{listed}");
    let all = report(ground, &[]).unwrap();
    assert!(all.starts_with("A. Compliance\n  compliance-1 "), "{all}");
    assert!(all.contains("states-4") && all.contains("deployment state\n"), "{all}");

    let table = report(ground, &["compliance-1", "--list", "security"]).unwrap();
    assert!(table.starts_with("Compliance 1 - Overall compliance\n  Update list: security\n"), "{table}");
    assert!(
        table.contains("Clients: 7") && table.contains("kubectl patchtide report compliance-7"),
        "{table}"
    );
    // What is printed as the way on is a way on.
    let line = table.lines().find(|line| line.starts_with("More of the first row: ")).unwrap();
    let words: Vec<&str> = line.split_once("report ").unwrap().1.split(' ').collect();
    report(ground, &words).unwrap();
    let csv = report(ground, &["states-1", "--deployment", "one", "-o", "csv"]).unwrap();
    assert_eq!(csv.lines().next(), Some("state,clients,percent"));
    let json =
        report(ground, &["A7", "--list", "security", "--collection", "servers", "-o", "json"]).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["kind"], &json["metadata"]["name"]), (&"Report".into(), &"compliance-7".into()));
    assert_eq!((json["rows"].as_array().map(Vec::len), &json["totalRows"]), (Some(3), &3.into()));

    for (args, words) in [
        (&["compliance-1"][..], "report compliance-1 needs the parameter list"),
        (&["compliance-1", "--list", "nothing"], "there is no update list \"nothing\"; there is security"),
        (&["compliance-99"], "there is no report \"compliance-99\""),
        (&["scan-2", "--set", "colour=red"], "report scan-2 has no parameter \"colour\""),
        (&["scan-2", "--set", "colour"], "give it as NAME=VALUE"),
    ] {
        let error = report(ground, args).unwrap_err();
        assert!(error.contains(words), "{args:?}: {error}");
    }

    // Dave may see one collection.
    plane.apply(RIGHTS).unwrap();
    let get = |name: &str, query: &str| {
        let path =
            format!("/apis/reports.patchtide.dev/v1alpha1/namespaces/{NAMESPACE}/reports/{name}?{query}");
        plane.kubectl(&["get", "--raw", &path, "--as=dave"]).map_err(|error| format!("{error:#}"))
    };
    patchtide_tests::wait::until("the role", std::time::Duration::from_secs(30), || {
        get("compliance-7", "list=security&collection=servers").map(drop)
    })
    .unwrap();
    get("compliance-5", "client=host-2").unwrap();
    for (name, query, words) in [
        (
            "compliance-7",
            "list=security",
            "cannot list collections.patchtide.dev; name a collection that you may see",
        ),
        (
            "compliance-7",
            "list=security&collection=everyone",
            "cannot get collections.patchtide.dev \\\"everyone\\\"",
        ),
        ("compliance-5", "client=host-5", "cannot list collections.patchtide.dev"),
        ("states-1", "deployment=one", "cannot get updatedeployments.patchtide.dev \\\"one\\\""),
        ("distribution-1", "", "cannot list distributionpoints.patchtide.dev"),
    ] {
        let error = get(name, query).unwrap_err();
        let plain = words.replace("\\\"", "\"");
        assert!(error.contains(words) || error.contains(&plain), "{name} {query}: {error}");
    }
}
