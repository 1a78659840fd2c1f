//! What restricts holds from the first moment, on a real API server without an archive.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use patchtide_model::{
    ClientId, Digest, UpdateId,
    catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update},
};
use patchtide_store::{
    catalogue::LineSync,
    clients::{EnrolmentRow, EnrolmentState},
    roles::RoleBeat,
};

use crate::{
    contract::check_contract,
    now, policy, signing_request,
    support::{Ground, condition},
};

pub const HEAD: &str = "apiVersion: patchtide.dev/v1alpha1\nkind:";
const TOKEN: &str = "a-token-for-the-lab-machines";

/// An update of one package in a line of `source`; its file differs from source to source.
fn update(source: &str) -> Update {
    let id: UpdateId = format!("{source}/stable/main:tool@2").parse().unwrap();
    let leaf = Leaf {
        package: "tool".to_owned(),
        version: "2".to_owned(),
        architecture: "amd64".to_owned(),
        file: ContentFile {
            sha256: Digest::of(source.as_bytes()),
            size: 10,
            path: "pool/tool_2_amd64.deb".to_owned(),
        },
        stanza: "Package: tool\n".to_owned(),
    };
    Update {
        id,
        title: "tool - does it".to_owned(),
        classification: Classification::SecurityUpdates,
        product: "Lab".to_owned(),
        severity: Severity::None,
        cves: BTreeSet::new(),
        bulletins: BTreeSet::new(),
        posted: now(),
        leaves: vec![leaf],
        maximum_run_time: None,
        exclusive: false,
        restart: RestartRule::Auto,
        superseded_by: None,
        expired: false,
    }
}

pub async fn sync(ground: &Ground, source: &str) {
    let update = update(source);
    let line = update.id.line.clone();
    let sync = LineSync { line, release_date: now(), updates: vec![update], full: true };
    ground.store.apply_line_sync(sync, now()).await.unwrap();
}

pub async fn says(ground: &Ground, kind: &str, name: &str, of: &str, reason: &str, text: &str) {
    ground
        .until(kind, name, 20, |object| {
            let found = condition(object, of);
            let message = found["message"].as_str().unwrap_or_default();
            if found["reason"] == reason && message.contains(text) { Ok(()) } else { Err(format!("{found}")) }
        })
        .await;
}

async fn state(ground: &Ground, id: Digest) -> EnrolmentState {
    ground.store.enrolment(id).await.unwrap().unwrap().state
}

/// A machine with the token of the lab.
async fn ask(ground: &Ground) -> Digest {
    let (id, csr_pem) = signing_request();
    let request = EnrolmentRow {
        id,
        csr_pem,
        token_digest: Some(Digest::of(TOKEN.as_bytes())),
        name: "lab1".to_owned(),
        facts: BTreeMap::new(),
        address: Some("127.0.0.1".parse().unwrap()),
        requested_at: now(),
    };
    ground.store.put_enrolment(request).await.unwrap();
    id
}

async fn approved(ground: &Ground, id: Digest) -> ClientId {
    for _ in 0..100 {
        if let EnrolmentState::Approved { client, .. } = state(ground, id).await {
            return client;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("not approved: {:?}", state(ground, id).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_restricts_holds_from_the_first_moment() {
    let folder = tempfile::tempdir().unwrap();
    let mut ground = Ground::new(folder.path()).await;
    ground.start();
    a_token_puts_its_machines_under_the_windows_of_its_collection(&ground).await;
    one_point_is_active_and_sources_that_disagree_are_left_out(&ground).await;
    the_site_keeps_to_its_limits(&ground).await;
    points_that_are_held_get_nothing(&ground).await;
    // Ten bytes do not fit into five: what waits for them says so.
    says(&ground, "deploymentpackage", "tools", "Ready", "ContentFailed", "Site.spec.limits.contentStore")
        .await;
    the_site_shows_its_roles(&ground).await;
    // It is at work for ever: its archive is away.
    ground.kubectl(&["delete", "deploymentpackage", "tools"]);
    check_contract(&ground);
    ground.stop().await;
}

async fn a_token_puts_its_machines_under_the_windows_of_its_collection(ground: &Ground) {
    ground.apply(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: lab\nstringData: {{token: {TOKEN}}}\n"
    ));
    ground.apply(&format!("{HEAD} Site\nmetadata:\n  name: site\nspec: {{managementPoint: {{addresses: ['https://127.0.0.1:8443']}}, enrolment: {{tokens: [{{name: lab, secretRef: {{name: lab}}, use: Site, collection: lab}}], approval: {{mode: Automatic, tokens: [Site]}}}}}}\n"));
    ground.ready("site", "site", 20).await;
    // Its collection is not there: nobody could tell which windows hold, so it stays outside.
    let id = ask(ground).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(matches!(state(ground, id).await, EnrolmentState::Pending));
    // Within the nine years that openings are looked for.
    let far = format!("{}-01-31", now().to_zoned(jiff::tz::TimeZone::UTC).year() + 2);
    ground.apply(&format!("{HEAD} MaintenanceWindow\nmetadata:\n  name: far\nspec: {{collection: lab, start: '02:00', duration: 2h, timeZone: UTC, recurrence: {{once: {{date: '{far}'}}}}}}\n"));
    ground.apply(&format!("{HEAD} Collection\nmetadata:\n  name: lab\nspec: {{selector: {{matchExpressions: [{{key: hostname, operator: Glob, values: ['nobody*']}}]}}}}\n"));
    let client = approved(ground, id).await;
    let first = policy(ground, client, "anything", |_| true).await;
    assert_eq!(first.body.windows.len(), 1, "the very first policy has the window");
    ground
        .until("collection", "lab", 20, |lab| match lab["status"]["members"].as_u64() {
            Some(1) => Ok(()),
            other => Err(format!("members {other:?}")),
        })
        .await;

    // reliability.md #103, and an update whose content is in no package.
    sync(ground, "a").await;
    ground.apply(&format!("{HEAD} UpdateDeployment\nmetadata:\n  name: soon\nspec: {{updates: ['a/stable/main:tool@2'], collection: lab, settings: {{deadline: {{after: 1h}}, restart: {{countdown: 30m}}}}}}\n"));
    ground.ready("updatedeployment", "soon", 20).await;
    says(
        ground,
        "updatedeployment",
        "soon",
        "DeadlineUnreachable",
        "NoWindowBefore",
        &format!("the first opens {far}"),
    )
    .await;
    says(ground, "updatedeployment", "soon", "ContentMissing", "NotInAPackage", "a/stable/main:tool@2").await;
    let deployed =
        policy(ground, client, "the deployment", |policy| policy.body.deployments.len() == 1).await;
    assert_eq!(deployed.body.deployments[0].settings.restart_countdown.unwrap().as_mins(), 30);
    assert_eq!(condition(&ground.get("updatedeployment", "soon"), "Supported"), serde_json::Value::Null);
    // #101, #102: the next openings, and the days that are left out.
    ground.apply(&format!("{HEAD} MaintenanceWindow\nmetadata:\n  name: monthly\nspec: {{collection: lab, start: '02:00', duration: 2h, timeZone: UTC, recurrence: {{monthlyByDate: {{day: 31}}}}}}\n"));
    says(ground, "maintenancewindow", "monthly", "NoOccurrence", "DaysLeftOut", "WIN-NO-OCCURRENCE").await;
    assert_eq!(
        ground.get("maintenancewindow", "monthly")["status"]["nextOccurrences"].as_array().unwrap().len(),
        5
    );
    // Switched off: the machine keeps its windows and has nothing to do.
    ground.apply(&format!("{HEAD} ClientSettings\nmetadata:\n  name: lab\nspec: {{collection: lab, priority: 5, enabled: false}}\n"));
    let off = policy(ground, client, "nothing deployed", |policy| policy.body.deployments.is_empty()).await;
    assert_eq!(off.body.windows.len(), 2);
    ground.kubectl(&["delete", "clientsettings", "lab"]);
}

/// An update that its source withdrew eight days ago.
async fn relic(ground: &Ground, source: &str) -> UpdateId {
    let id: UpdateId = format!("{source}/stable/main:relic@1").parse().unwrap();
    let days = |days: i64| now() - jiff::SignedDuration::from_hours(24 * days);
    let line = id.line.clone();
    let sync = |updates, at| LineSync { line: line.clone(), release_date: at, updates, full: true };
    let update = Update { id: id.clone(), ..update(source) };
    ground.store.apply_line_sync(sync(vec![update], days(9)), days(9)).await.unwrap();
    ground.store.apply_line_sync(sync(vec![], days(8)), days(8)).await.unwrap();
    assert!(ground.store.update(&id).await.unwrap().unwrap().expired);
    id
}

/// R-LIFE-04, R-LIFE-05: after the first synchronisation, whatever came of it.
async fn what_expired_long_ago_is_gone(ground: &Ground, gone: &UpdateId, held: &UpdateId) {
    for _ in 0..100 {
        if ground.store.update(gone).await.unwrap().is_none() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(ground.store.update(gone).await.unwrap().is_none(), "cleanupAge is 7 days");
    assert!(ground.store.update(held).await.unwrap().is_some(), "an update list holds it");
    ground.kubectl(&["delete", "updatelist", "relics"]);
}

/// reliability.md #53; R-SUP-09.
async fn one_point_is_active_and_sources_that_disagree_are_left_out(ground: &Ground) {
    let apt = |name: &str| {
        format!(
            "{{name: {name}, apt: {{url: 'http://127.0.0.1:9/x', suites: [stable], components: [main], architectures: [amd64], keyring: {{keyringFile: /usr/share/keyrings/none.gpg}}}}}}"
        )
    };
    let (gone, held) = (relic(ground, "gone").await, relic(ground, "held").await);
    ground.apply(&format!("{HEAD} UpdateList\nmetadata:\n  name: relics\nspec: {{updates: ['{held}']}}\n"));
    ground.ready("updatelist", "relics", 20).await;
    ground.apply(&format!(
        "{HEAD} SoftwareUpdatePoint\nmetadata:\n  name: first\nspec: {{sources: [{}, {}]}}\n",
        apt("a"),
        apt("b")
    ));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    ground.apply(&format!(
        "{HEAD} SoftwareUpdatePoint\nmetadata:\n  name: second\nspec: {{sources: [{}]}}\n",
        apt("c")
    ));
    says(ground, "softwareupdatepoint", "second", "Ready", "MoreThanOneActivePoint", "first is older").await;
    ground.kubectl(&[
        "patch",
        "softwareupdatepoint",
        "second",
        "--type=merge",
        "-p",
        r#"{"spec":{"role":"Spare"}}"#,
    ]);
    says(ground, "softwareupdatepoint", "second", "Ready", "SyncFailed", "keyring").await;

    what_expired_long_ago_is_gone(ground, &gone, &held).await;
    sync(ground, "b").await;
    ground.apply(&format!(
        "{HEAD} SearchFolder\nmetadata:\n  name: tools\nspec: {{criteria: {{sources: [tool]}}}}\n"
    ));
    ground.apply(&format!(
        "{HEAD} UpdateList\nmetadata:\n  name: tools\nspec: {{searchFolder: {{name: tools}}}}\n"
    ));
    says(ground, "updatelist", "tools", "CatalogueConflict", "CatConflict", "CAT-CONFLICT: 2 updates").await;
    assert_eq!(ground.get("updatelist", "tools")["status"]["resolved"], 0);
    ground.kubectl(&[
        "patch",
        "updatelist",
        "tools",
        "--type=merge",
        "-p",
        r#"{"spec":{"updates":["b/stable/main:tool@2"]}}"#,
    ]);
    ground
        .until("updatelist", "tools", 20, |list| {
            let said = condition(list, "CatalogueConflict");
            match list["status"]["resolved"].as_u64() {
                Some(1)
                    if said["message"].as_str().unwrap_or_default().contains("CAT-CONFLICT: 1 updates") =>
                {
                    Ok(())
                }
                other => Err(format!("resolved {other:?}, {said}")),
            }
        })
        .await;
    // R-ULST-13: pinned, and in no package.
    assert_eq!(ground.get("updatelist", "tools")["status"]["withoutContent"], 1);
}

async fn the_site_keeps_to_its_limits(ground: &Ground) {
    let patch = r#"{"spec":{"limits":{"clients":7,"reportSize":"1Mi","contentStore":"5"}}}"#;
    ground.kubectl(&["patch", "site", "site", "--type=merge", "-p", patch]);
    says(ground, "site", "site", "Stalled", "InvalidSpec", "limits.reportSize: 1Mi is more").await;
    let before = ground.store.site_limits().await.unwrap().unwrap();
    assert_eq!((before.clients, before.content_store), (100_000, None), "the last good ones stay in force");
    let patch = r#"{"spec":{"limits":{"reportSize":"64Ki"}}}"#;
    ground.kubectl(&["patch", "site", "site", "--type=merge", "-p", patch]);
    ground.ready("site", "site", 20).await;
    let limits = ground.store.site_limits().await.unwrap().unwrap();
    assert_eq!((limits.clients, limits.report_size, limits.content_store), (7, 64 << 10, Some(5)));
    assert_eq!(condition(&ground.get("site", "site"), "Supported"), serde_json::Value::Null);
}

async fn points_that_are_held_get_nothing(ground: &Ground) {
    let point = |name: &str, more: &str| {
        ground.apply(&format!("{HEAD} DistributionPoint\nmetadata:\n  name: {name}\nspec: {{endpoints: ['https://{name}.example:8444']{more}}}\n"));
    };
    point("open", "");
    point("small", ", capacity: '5'");
    point("limited", ", bandwidth: {limit: 1Mi}");
    point("away", ", suspend: true");
    says(ground, "distributionpoint", "limited", "Ready", "RestrictionNotBuilt", "bandwidth is not built")
        .await;
    ground.apply(&format!("{HEAD} DeploymentPackage\nmetadata:\n  name: tools\nspec: {{updateLists: [tools], allDistributionPoints: true, content: All}}\n"));
    let wanted = |name: &str| {
        let name = patchtide_model::ObjectName::new(name).unwrap();
        async move { ground.store.dp_wanted(&name).await.unwrap().len() }
    };
    for _ in 0..100 {
        if wanted("open").await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!((wanted("open").await, wanted("small").await), (1, 0));
    assert_eq!((wanted("limited").await, wanted("away").await), (0, 0));
    says(ground, "distributionpoint", "small", "Healthy", "CapacityExceeded", "1 files do not fit").await;
    let status = ground.get("deploymentpackage", "tools")["status"].clone();
    let points: Vec<&str> = status["distributionPoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["name"].as_str().unwrap())
        .collect();
    assert_eq!(points, ["open", "small"], "{status:#}");
}

async fn the_site_shows_its_roles(ground: &Ground) {
    let beat = RoleBeat {
        at: now(),
        address: "127.0.0.1:8443".to_owned(),
        certificate_expires: Some("2099-01-01T00:00:00Z".parse().unwrap()),
        waiting: 7,
    };
    ground.store.beat("management-point", "here", &beat).await.unwrap();
    // Signs of life wake nobody: the next look at the Site shows them.
    ground.kubectl(&["annotate", "site", "site", "reconcile.patchtide.dev/requestedAt=now"]);
    ground
        .until("site", "site", 20, |site| {
            let status = &site["status"];
            let roles = status["roles"].as_array().map_or(0, Vec::len);
            let waiting = status["backlog"]["messages"].as_u64();
            let expires = status["keys"]["serverCertificateExpires"].as_str();
            if (roles, waiting, expires) == (1, Some(7), Some("2099-01-01T00:00:00Z")) {
                Ok(())
            } else {
                Err(format!("{roles} roles, {waiting:?} waiting, {expires:?}"))
            }
        })
        .await;
}
