//! What people see: kubectl against a real kube-apiserver, through the aggregation layer.

use std::{fs, process::Stdio, time::Duration};

use futures::TryStreamExt as _;
use kube::{
    Api, Client, Config,
    api::DynamicObject,
    config::{KubeConfigOptions, Kubeconfig},
    core::{ApiResource, GroupVersionKind},
    runtime::watcher,
};
use patchtide_model::state::DeploymentEnforcement;
use patchtide_tests::{paths, process::run, wait};

use crate::{
    ground::{self, Ground, NAMESPACE},
    refused,
};

const LIST: &str = "/apis/reports.patchtide.dev/v1alpha1/namespaces/patchtide";

fn get(ground: &Ground, args: &[&str]) -> String {
    ground.plane.kubectl(&[&["get", "-n", NAMESPACE], args].concat()).unwrap()
}

fn told(text: &str, words: &[&str]) {
    for word in words {
        assert!(text.contains(word), "{word:?} is missing:\n{text}");
    }
}

/// The words of a line that has `word`.
fn line(text: &str, word: &str) -> Vec<String> {
    let line = text.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in {text}"));
    line.split_whitespace().map(str::to_owned).collect()
}

pub(crate) fn tables(ground: &Ground) {
    // Found by every name, and nothing of Kubernetes by these.
    let resources = ground
        .plane
        .kubectl(&["api-resources", "--api-group=reports.patchtide.dev", "-o", "wide", "--no-headers"])
        .unwrap();
    told(
        &line(&resources, "clients").join(" "),
        &["pcl", "true Client", "get,list,watch", "patchtide-reports"],
    );
    told(&line(&resources, "clientupdatestates").join(" "), &["cus", "ClientUpdateState", "get,list"]);
    assert!(!line(&resources, "clientupdatestates").join(" ").contains("watch"));
    for name in ["clients", "client", "pcl", "clients.reports.patchtide.dev"] {
        assert_eq!(get(ground, &[name, "-o", "name"]).lines().count(), ground::CLIENTS, "{name}");
    }
    assert_eq!(
        get(ground, &["patchtide-reports", "-o", "name"]).lines().count(),
        2 * ground::CLIENTS + ground::UPDATES
    );

    let clients = get(ground, &["clients"]);
    assert_eq!(line(&clients, "NAME"), ["NAME", "HOST", "STATE", "REQUIRED", "FAILED", "RESTART", "SEEN"]);
    // Requires those of 30 whose number 3 divides, but for the ones that it said nothing of.
    let required = (0..ground::UPDATES).filter(|n| n % 7 != 3 && n % 3 == 0).count().to_string();
    assert_eq!(
        line(&clients, "host-3")[..6],
        ["00000000-0000-0000-0000-000000000003", "host-3", "Active", &required, "0", "0"]
    );
    let wide = get(ground, &["clients", "-o", "wide"]);
    told(&wide, &["SCAN", "ADDRESS", "OS", "AGENT", "POLICY", "REPORTED", "debian 12", "<never reported>"]);
    let updates = get(ground, &["su", "--field-selector", "spec.source=source-06", "-o", "wide"]);
    told(
        &updates,
        &["SecurityUpdates", "Current", "debian/bookworm/main", "NOT REQUIRED", "source-06-1.2-3-"],
    );
    assert_eq!(updates.lines().count(), 2);
    let states = get(ground, &["uds"]);
    assert_eq!(line(&states, "NAME"), ["NAME", "HOST", "STATE", "COMPLIANCE", "ERROR", "SINCE"]);
    assert_eq!(states.lines().count(), ground::CLIENTS + 1, "who never said anything is there");
    told(
        &line(&states, "host-7").join(" "),
        &["one.00000000-0000-0000-0000-000000000007", "Unknown", "<never>"],
    );

    // Of one client, and of one update.
    let own = get(
        ground,
        &["cus", "--field-selector", "spec.client=host-3,status.detection=Required", "-o", "name"],
    );
    assert_eq!(own.lines().count().to_string(), required);
    let slug = get(
        ground,
        &["su", "--field-selector", "spec.source=source-06", "-o", "jsonpath={.items[0].metadata.name}"],
    );
    let of = get(
        ground,
        &["cus", "--field-selector", &format!("spec.update={slug},status.detection=Required"), "-o", "name"],
    );
    let count = get(ground, &["su", &slug, "-o", "jsonpath={.status.clients.required}"]);
    assert_eq!(of.lines().count().to_string(), count, "{of}");
    let one = get(ground, &["cus", &format!("00000000-0000-0000-0000-000000000003.{slug}"), "-o", "yaml"]);
    told(&one, &["clientName: host-3", "detectionId: 2", "message: Update is required", "since:"]);
}

pub(crate) fn shapes(ground: &Ground) {
    let name = "00000000-0000-0000-0000-000000000002";
    let yaml = get(ground, &["client", name, "-o", "yaml"]);
    told(
        &yaml,
        &[
            "apiVersion: reports.patchtide.dev/v1alpha1",
            "kind: Client",
            "label/rack: a",
            "timezone: Europe/Berlin",
            "namespace: patchtide",
            "name: host-2",
            "inForce: \"1.1\"",
        ],
    );
    let labels = get(ground, &["client", name, "-o", "jsonpath={.metadata.labels}"]);
    assert!(labels.contains("os.id") && !labels.contains("timezone"), "{labels}");
    let described = ground.plane.kubectl(&["describe", "client", name, "-n", NAMESPACE]).unwrap();
    told(&described, &["Kind:         Client", "Required:", "os.id:       debian"]);
    told(&get(ground, &["clients", "--show-labels"]), &["label/rack=b"]);
    wait::until("kubectl explain", Duration::from_secs(90), || {
        let explain = |what: &str| {
            let api = "--api-version=reports.patchtide.dev/v1alpha1";
            ground.plane.kubectl(&["explain", what, api]).map_err(|error| error.to_string())
        };
        told(&explain("clients.status.updates")?, &["FIELDS:", "pendingRestart", "wait for a restart"]);
        told(&explain("softwareupdates.spec")?, &["classification", "Advisories."]);
        told(&explain("clientupdatestates")?, &["spec.client=<name>"]);
        Ok(())
    })
    .unwrap();
    // Version 2 is merged with everybody's.
    wait::until("the merged document", Duration::from_secs(90), || {
        let all =
            ground.plane.kubectl(&["get", "--raw", "/openapi/v2"]).map_err(|error| error.to_string())?;
        let has = all.contains("dev.patchtide.reports.v1alpha1.DeploymentState");
        if has { Ok(()) } else { Err("no schema of ours".to_owned()) }
    })
    .unwrap();
    // What is read of many, page by page, is what is read at once.
    let all = get(ground, &["clients", "-o", "name", "--chunk-size=0"]);
    for chunk in ["1", "2", "3", "100"] {
        assert_eq!(get(ground, &["clients", "-o", "name", &format!("--chunk-size={chunk}")]), all, "{chunk}");
    }
    let everywhere = ground.plane.kubectl(&["get", "clients", "-A", "-o", "name", "--chunk-size=3"]).unwrap();
    assert_eq!(everywhere, all);
    assert_eq!(ground.plane.kubectl(&["get", "clients", "-n", "default", "-o", "name"]).unwrap(), "");
    assert_eq!(
        get(ground, &["clients", "--sort-by=.status.name", "-o", "name"]).lines().count(),
        ground::CLIENTS
    );
}

pub(crate) fn selections(ground: &Ground) {
    let count = |args: &[&str]| get(ground, &[args, &["-o", "name"]].concat()).lines().count();
    assert_eq!(count(&["clients", "-l", "label/rack=a"]), 3);
    assert_eq!(count(&["clients", "-l", "label/rack notin (a),os.id"]), 4);
    assert_eq!(count(&["clients", "-l", "timezone"]), 0, "no label");
    assert_eq!(count(&["clients", "--field-selector", "status.name=host-5"]), 1);
    assert_eq!(count(&["clients", "--field-selector", "status.state!=Active"]), 0);
    assert_eq!(count(&["clients", "--field-selector", "metadata.namespace=other"]), 0);
    assert_eq!(count(&["su", "--field-selector", "status.required=true"]), {
        let of = get(ground, &["su", "-o", "jsonpath={.items[*].status.clients.required}"]);
        of.split_whitespace().filter(|count| *count != "0").count()
    });
    assert_eq!(count(&["uds", "--field-selector", "spec.deployment=one,status.state=0"]), ground::CLIENTS);
    for (args, words) in [
        (
            &["clients", "--field-selector", "status.nmae=x"][..],
            &[
                "(BadRequest)",
                "field label not supported",
                "status.nmae",
                "status.name (a host name)",
                "status.silent",
            ][..],
        ),
        (
            &["clients", "--field-selector", "status.state=Up"],
            &["\"Up\"", "Pending, Active, Revoked or Quarantined"],
        ),
        (&["su", "-l", "a=b"], &["softwareupdates have no labels", "--field-selector"]),
        (&["cus"], &["(BadRequest)", "of one client or of one update", "spec.client=<name>"]),
        (&["cus", "--field-selector", "status.failed=true"], &["spec.client=<name> or spec.update=<name>"]),
        (
            &["clients", "nobody"],
            &["(NotFound)", "clients.reports.patchtide.dev \"nobody\" not found", "kubectl get clients"],
        ),
        (&["cus", "--field-selector", "spec.client=x", "-w"], &["not allow"]),
    ] {
        told(&refused(ground, &[&["get", "-n", NAMESPACE], args].concat()), words);
    }
    for (query, words) in [
        ("clients?continue=abc", &["continue token is none of this server"][..]),
        ("clients?limit=many", &["no number"]),
        ("clients?resourceVersion=99999999", &["Too large resource version"]),
        ("clients?resourceVersion=1&resourceVersionMatch=Exact", &["too old"]),
        ("clients?resourceVersionMatch=Exact", &["forbidden unless resourceVersion is provided"]),
        ("clients?watch=1&resourceVersion=1", &["too old resource version"]),
        ("clients?watch=1&sendInitialEvents=true", &["NotOlderThan"]),
        ("clients?includeObject=Some", &["None, Metadata or Object"]),
    ] {
        told(&refused(ground, &["get", "--raw", &format!("{LIST}/{query}")]), words);
    }
    for verb in ["delete", "patch"] {
        let more: &[&str] = if verb == "patch" { &["-p", "{}", "--type=merge"] } else { &["--wait=false"] };
        let words =
            [&[verb, "client", "00000000-0000-0000-0000-000000000002", "-n", NAMESPACE], more].concat();
        let error = refused(ground, &words);
        assert!(error.contains("MethodNotAllowed") || error.contains("not allow"), "{error}");
    }
}

/// Rights are asked for each resource and namespace, and the roles of the manifests have them.
pub(crate) fn rights(ground: &Ground) {
    for resource in ["clients", "softwareupdates", "deploymentstates"] {
        assert!(!get(ground, &[resource, "--as=alice", "-o", "name"]).is_empty(), "{resource}");
        let error = refused(ground, &["get", resource, "-A", "--as=alice"]);
        told(&error, &["(Forbidden)", "\"alice\" cannot list", "at the cluster scope"]);
        let error = refused(ground, &["get", resource, "-n", NAMESPACE, "--as=bob"]);
        told(&error, &["(Forbidden)", &format!("{resource}.reports.patchtide.dev is forbidden")]);
        let error = refused(ground, &["get", "--raw", &format!("{LIST}/{resource}?watch=1"), "--as=bob"]);
        told(&error, &["cannot watch"]);
    }
    let selector = ["cus", "--field-selector", "spec.client=host-3", "--as=alice", "-o", "name"];
    assert!(!get(ground, &selector).is_empty());
}

/// Every command of the page works.
pub(crate) fn the_page(ground: &Ground) {
    let page = fs::read_to_string(paths::workspace().join("docs/kubectl.md")).unwrap();
    let block = page.split("```sh").nth(1).unwrap().split("```").next().unwrap();
    let mut commands = 0;
    for command in block.lines().filter(|line| line.starts_with("kubectl ")) {
        let words = words(command).into_iter().skip(1);
        let words: Vec<String> =
            words.map(|word| word.replace("web-1", "host-3").replace("=night", "=one")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = ground.plane.kubectl(&words).unwrap_or_else(|error| panic!("{command}: {error:#}"));
        let may_be_empty = ["silent=true", "failed=true", "InstallFailed", "PKG-HASH", "severity!=None"];
        assert!(!answer.is_empty() || may_be_empty.iter().any(|word| command.contains(word)), "{command}");
        commands += 1;
    }
    assert!(commands > 20, "{commands}");
}

/// As a shell takes it.
fn words(command: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for char in command.chars() {
        match char {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.push(std::mem::take(&mut word)),
            _ => word.push(char),
        }
    }
    words.push(word);
    words
}

/// `get -w`, and a watcher of a controller.
pub(crate) async fn watches(ground: &Ground) {
    let out = ground.folder.path().join("watch.out");
    let mut command = ground.plane.kubectl_command();
    command.args([
        "get",
        "uds",
        "-n",
        NAMESPACE,
        "-w",
        "--output-watch-events",
        "--field-selector",
        "spec.deployment=one",
    ]);
    let mut child = command.stdout(fs::File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let seen = |what: &'static str, words: &'static [&'static str]| {
        let out = out.clone();
        wait::until(what, Duration::from_secs(30), move || {
            let text = fs::read_to_string(&out).unwrap();
            let has = text.lines().any(|line| words.iter().all(|word| line.contains(word)));
            if has { Ok(()) } else { Err(text) }
        })
        .unwrap();
    };
    seen("the list", &["ADDED", "host-7"]);
    let now = ground.bed.now();
    // The watch itself comes after the list.
    let mut seq = 2;
    let mut say = async |site: &patchtide_store::SiteStore, state| {
        seq += 1;
        ground::say(site, 3, seq, state, now).await;
    };
    say(&ground.site, DeploymentEnforcement::Downloading).await;
    seen("a change", &["MODIFIED", "host-3", "Downloading"]);
    say(&ground.site, DeploymentEnforcement::InstallFailed).await;
    seen("another one", &["MODIFIED", "host-3", "InstallFailed", "PKG-HASH"]);
    child.kill().unwrap();
    child.wait().unwrap();

    // With the settings of informers, both ways in which they begin.
    let read = Kubeconfig::read_from(ground.plane.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
    let client = Client::try_from(config).unwrap();
    let kind = GroupVersionKind::gvk("reports.patchtide.dev", "v1alpha1", "DeploymentState");
    let api: Api<DynamicObject> = Api::namespaced_with(client, NAMESPACE, &ApiResource::from_gvk(&kind));
    let failed = "status.state=InstallFailed";
    for config in [watcher::Config::default().streaming_lists(), watcher::Config::default()] {
        let mut events = std::pin::pin!(watcher(api.clone(), config.fields(failed)));
        let mut next = async |what: &str| {
            let mut gone = Vec::new();
            loop {
                let event = tokio::time::timeout(Duration::from_mins(1), events.try_next()).await;
                match event.unwrap_or_else(|_| panic!("{what}: nothing comes")) {
                    Ok(Some(event)) => {
                        let name = |object: &DynamicObject| {
                            object.data["spec"]["clientName"].as_str().unwrap_or_default().to_owned()
                        };
                        match event {
                            watcher::Event::Init => gone.clear(),
                            watcher::Event::InitApply(object) => gone.push(name(&object)),
                            watcher::Event::InitDone => return format!("all {}", gone.join(" ")),
                            watcher::Event::Apply(object) => return format!("apply {}", name(&object)),
                            watcher::Event::Delete(object) => return format!("delete {}", name(&object)),
                        }
                    }
                    Ok(None) => panic!("{what}: the end"),
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        };
        assert_eq!(next("the beginning").await, "all host-3");
        say(&ground.site, DeploymentEnforcement::WaitingForWindow).await;
        assert_eq!(next("it is chosen no longer").await, "delete host-3");
        say(&ground.site, DeploymentEnforcement::InstallFailed).await;
        assert_eq!(next("it is chosen again").await, "apply host-3");
    }

    // A watch that is asked to end ends, with a bookmark if these are wanted.
    let mut command = ground.plane.kubectl_command();
    let query = "clients?watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=2";
    let events = run(command.args(["get", "--raw", &format!("{LIST}/{query}")])).unwrap();
    let kinds: Vec<serde_json::Value> = events
        .lines()
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(kinds.len(), ground::CLIENTS + 2, "{events}");
    let end = &kinds[ground::CLIENTS];
    assert_eq!(end["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    assert_eq!((end["type"].as_str(), end["object"]["kind"].as_str()), (Some("BOOKMARK"), Some("Client")));
}
