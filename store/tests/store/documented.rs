//! Every query that the documentation shows gives, on both databases, the rows that it shows.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use patchtide_model::{
    SiteName,
    state::{Compliance, DeploymentEnforcement, Detection, Failure, Scan, UpdateEnforcement},
};
use patchtide_store::{
    SiteStore,
    intake::IntakeBody,
    register::{Register, RegisteredList},
};

use crate::{
    common::{Db, at, client, detected, id, on_both, report, rows, scan, sync},
    register::{collection, deployment, name, origin, window},
};

on_both!(documented_queries_give_the_documented_rows);

const LINE: &str = "bookworm-security";
const VERSIONS: [(&str, &str); 3] = [("curl", "7.88.1-10"), ("linux", "6.1.140-1"), ("openssl", "3.0.22-1")];

/// A site of six machines, one of which was never heard of.
async fn fill(site: &SiteStore) {
    site.apply_line_sync(sync(LINE, &VERSIONS), at(0)).await.unwrap();
    let version = |source: &str| VERSIONS.iter().find(|(name, _)| *name == source).unwrap().1;
    let (required, installed) = (Detection::Required, Detection::Installed);
    let states: [&[(&str, Detection)]; 6] = [
        &[("openssl", required), ("curl", installed), ("linux", installed)],
        &[("openssl", required), ("linux", required)],
        &[("openssl", installed), ("curl", installed)],
        &[],
        &[("openssl", required), ("linux", required)],
        &[],
    ];
    let uid = || "openssl-now-uid".to_owned();
    let enforcement =
        |state, error: Option<_>| IntakeBody::Enforcement { deployment: uid(), state, until: None, error };
    let compliance = |state| IntakeBody::Compliance { deployment: uid(), state };
    for (n, states) in (1_u128..).zip(states) {
        let id_of = client(site, n).await;
        if n == 6 {
            continue;
        }
        let states = states.iter().map(|(source, state)| detected(source, version(source), *state)).collect();
        let mut bodies =
            vec![scan(LINE, 1, states), IntakeBody::Scan { state: Scan::Completed, error: None }];
        let error = || Some(Failure::Script.error("the script of openssl ended with 1"));
        bodies.extend(match n {
            1 => vec![
                enforcement(DeploymentEnforcement::Downloading, None),
                compliance(Compliance::NonCompliant),
            ],
            2 => vec![
                enforcement(DeploymentEnforcement::WaitingForWindow, None),
                compliance(Compliance::NonCompliant),
            ],
            3 => vec![enforcement(DeploymentEnforcement::Installed, None), compliance(Compliance::Compliant)],
            4 => vec![compliance(Compliance::Compliant)],
            _ => vec![
                IntakeBody::Update {
                    update: id(LINE, "openssl", version("openssl")),
                    state: UpdateEnforcement::InstallFailed,
                    error: error(),
                },
                enforcement(DeploymentEnforcement::InstallFailed, error()),
                compliance(Compliance::NonCompliant),
            ],
        });
        site.intake(report(id_of, 1, bodies)).await.unwrap();
    }
    let listed: BTreeSet<_> =
        ["openssl", "curl"].iter().map(|source| id(LINE, source, version(source))).collect();
    let list = RegisteredList { origin: origin("l", 1), folder: None, members: listed.clone() };
    let openssl = vec![id(LINE, "openssl", version("openssl"))];
    let mut baseline =
        deployment("baseline-june", "baseline-uid", "web", listed.into_iter().collect(), 1..=3);
    baseline.list = Some(name("baseline"));
    let register = Register {
        collections: BTreeMap::from([
            (name("all"), collection("all", 1..=6)),
            (name("web"), collection("web", 1..=3)),
        ]),
        lists: BTreeMap::from([(name("baseline"), list)]),
        deployments: BTreeMap::from([
            (name("openssl-now"), deployment("openssl-now", &uid(), "all", openssl, 1..=6)),
            (name("baseline-june"), baseline),
        ]),
        windows: BTreeMap::from([(name("night"), window("w", "web"))]),
        packages: BTreeMap::new(),
    };
    site.put_register(&register, None, at(1)).await.unwrap();
}

/// Queries and the rows below them.
fn documented() -> Vec<(String, Vec<Vec<String>>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let text = fs::read_to_string(path).unwrap();
    let block = |text: &str, kind: &str| -> String {
        let (_, rest) = text.split_once(&format!("```{kind}\n")).expect("a query and its rows");
        rest.split_once("```").unwrap().0.to_owned()
    };
    let queries = text.split("\n### ").skip(1).map(|part| {
        let rows = block(part, "text");
        let rows = rows.lines().map(|line| line.split(" | ").map(str::to_owned).collect()).collect();
        (block(part, "sql"), rows)
    });
    queries.collect()
}

async fn documented_queries_give_the_documented_rows(db: Db) {
    let site = db.store.site(&SiteName::new("patchtide").unwrap());
    fill(&site).await;
    let documented = documented();
    assert_eq!(documented.len(), 10);
    for (query, shown) in documented {
        assert_eq!(rows(&db, &query).await, shown, "{query}");
        if db.url.starts_with("sqlite") {
            // No query of these reads all states: a large site answers them too.
            for step in rows(&db, &format!("EXPLAIN QUERY PLAN {query}")).await {
                let scans = ["SCAN g", "SCAN p", "SCAN seg_state", "SCAN sparse_state"];
                assert!(
                    !scans.iter().any(|scan| step[3] == *scan || step[3].starts_with(&format!("{scan} "))),
                    "{step:?}: {query}"
                );
            }
        }
    }
}

/// What the documentation lists is what there is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_view_is_documented() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/sql.md");
    let text = fs::read_to_string(path).unwrap();
    let views = "SELECT name FROM sqlite_master WHERE type = 'view'";
    for view in rows(&Db::sqlite().await, views).await {
        let stem = view[0].trim_end_matches("_All").trim_end_matches("_Live");
        assert!(
            text.contains(&format!("`{}`", view[0])) || text.contains(&format!("`{stem}`")),
            "{}",
            view[0]
        );
    }
}
