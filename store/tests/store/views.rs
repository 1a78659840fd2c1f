//! The views say on both databases what the store itself answers, whatever was reported and whoever came and went.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    ClientId, Digest, UpdateId,
    client::ClientState,
    state::{Compliance, DeploymentEnforcement, Detection, Evaluation, Failure, Scan, UpdateEnforcement},
};
use patchtide_store::{
    content::{ContentState, WantedContent},
    intake::IntakeBody,
    register::{Register, RegisteredList, RegisteredPackage},
};

use crate::{
    common::{Db, at, client, detected, id, on_both, report, rows, scan, sync},
    register::{collection, deployment, name, origin, window},
};

on_both!(
    views_say_what_the_store_answers,
    names_are_those_of_the_model,
    packages_are_told_by_distribution_point,
);

/// A small generator: the same on every run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

const CLIENTS: u128 = 7;
const SOURCES: usize = 40;

fn source(n: usize) -> String {
    format!("s{n:02}")
}

/// One random thing happens.
async fn step(
    db: &Db,
    dice: &mut Dice,
    seqs: &mut BTreeMap<u128, u64>,
    version: &mut u64,
    known: &mut usize,
) {
    let site = &db.site;
    let who = u128::from(dice.roll(u64::try_from(CLIENTS).unwrap() - 1)) + 1;
    let id_of = ClientId(uuid::Uuid::from_u128(who));
    let send = async |seqs: &mut BTreeMap<u128, u64>, bodies: Vec<IntakeBody>| {
        let seq = seqs.entry(who).or_insert(1);
        let count = bodies.len() as u64;
        let sent = site.intake(report(id_of, *seq, bodies)).await;
        if sent.is_ok() {
            *seq += count;
        }
    };
    match dice.roll(12) {
        0..=5 => {
            // Also what the catalogue has only later: kept until then, and of an early scan.
            let most = (*known + 5).min(SOURCES);
            let mut states = Vec::new();
            for n in 0..most {
                match dice.roll(4) {
                    2 => states.push(detected(&source(n), "1", Detection::Required)),
                    3 if dice.roll(8) > 1 => states.push(detected(&source(n), "1", Detection::Installed)),
                    _ => {}
                }
            }
            states.truncate(usize::try_from(dice.roll(most as u64 + 1)).unwrap());
            let back = dice.roll(2).min(*version - 1);
            let scanned = IntakeBody::Scan { state: Scan::Completed, error: None };
            send(seqs, vec![scan("b", *version - back, states), scanned]).await;
        }
        6 => {
            let update = id("b", &source(usize::try_from(dice.roll(*known as u64)).unwrap()), "1");
            let states = UpdateEnforcement::ALL;
            let state = states[usize::try_from(dice.roll(states.len() as u64)).unwrap()];
            let failed =
                matches!(state, UpdateEnforcement::InstallFailed | UpdateEnforcement::DownloadFailed);
            let error = failed.then(|| Failure::ScanHash.error("x"));
            send(seqs, vec![IntakeBody::Update { update, state, error }]).await;
        }
        7 => {
            let state = DeploymentEnforcement::ALL[usize::try_from(dice.roll(11)).unwrap()];
            let failed =
                matches!(state, DeploymentEnforcement::InstallFailed | DeploymentEnforcement::DownloadFailed);
            let error = failed.then(|| Failure::ScanHash.error("x"));
            let deployment = "uid-d".to_owned();
            send(seqs, vec![IntakeBody::Enforcement { deployment, state, until: None, error }]).await;
        }
        8 => {
            let state = Compliance::ALL[usize::try_from(dice.roll(3)).unwrap()];
            send(seqs, vec![IntakeBody::Compliance { deployment: "uid-d".to_owned(), state }]).await;
        }
        9 => {
            let state = if dice.roll(2) == 0 { ClientState::Active } else { ClientState::Revoked };
            site.set_client_state(id_of, state).await.unwrap();
        }
        10 => {
            let state = Evaluation::ALL[usize::try_from(dice.roll(4)).unwrap()];
            send(seqs, vec![IntakeBody::Evaluation { deployment: "uid-d".to_owned(), state }]).await;
        }
        _ => {
            *known = (*known + usize::try_from(dice.roll(6)).unwrap()).min(SOURCES);
            let sources: Vec<String> = (0..*known).map(source).collect();
            let updates: Vec<(&str, &str)> = sources.iter().map(|source| (source.as_str(), "1")).collect();
            *version = site.apply_line_sync(sync("b", &updates), at(1)).await.unwrap().version;
        }
    }
}

/// Who is in the collection and reached by the deployment: sometimes not what is true of the clients at that moment.
fn register(members: &BTreeSet<u128>, updates: &[UpdateId]) -> Register {
    let list =
        RegisteredList { origin: origin("l", 1), folder: None, members: updates.iter().cloned().collect() };
    let mut one = deployment("d", "uid-d", "c", updates.to_vec(), members.iter().copied());
    one.list = Some(name("l"));
    Register {
        collections: BTreeMap::from([
            (name("c"), collection("c", members.iter().copied())),
            (name("none"), collection("n", [])),
        ]),
        lists: BTreeMap::from([(name("l"), list)]),
        deployments: BTreeMap::from([(name("d"), one)]),
        windows: BTreeMap::from([(name("night"), window("w", "c"))]),
        packages: BTreeMap::new(),
    }
}

async fn views_say_what_the_store_answers(db: Db) {
    let (site, mut dice) = (&db.site, Dice(7));
    let (mut known, mut seqs) = (20, BTreeMap::new());
    let sources: Vec<String> = (0..known).map(source).collect();
    let updates: Vec<(&str, &str)> = sources.iter().map(|source| (source.as_str(), "1")).collect();
    let mut version = site.apply_line_sync(sync("b", &updates), at(1)).await.unwrap().version;
    for n in 1..=CLIENTS {
        client(site, n).await;
    }
    let (mut pending, mut early) = (0, 0);
    for round in 0..20 {
        for _ in 0..6 {
            step(&db, &mut dice, &mut seqs, &mut version, &mut known).await;
        }
        let members: BTreeSet<u128> = (1..=CLIENTS).filter(|_| dice.roll(3) > 0).collect();
        let deployed: Vec<UpdateId> =
            (0..known).filter(|_| dice.roll(4) == 0).map(|n| id("b", &source(n), "1")).collect();
        site.put_register(&register(&members, &deployed), None, at(2)).await.unwrap();
        compare(&db, known, &deployed, &members, round).await;
        pending += i32::from(rows(&db, "SELECT count(*) FROM count_delta").await != [["0"]]);
        early += i32::from(rows(&db, "SELECT count(*) FROM update_detail WHERE early = 1").await != [["0"]]);
    }
    // Otherwise it was not seen that these are counted right.
    assert!(pending > 0 && early > 0, "{pending} {early}");
    assert!(site.verify().await.unwrap().is_empty());
}

type Key = (String, String);

async fn compare(db: &Db, known: usize, deployed: &[UpdateId], members: &BTreeSet<u128>, round: usize) {
    let site = &db.site;
    let active: Vec<ClientId> = site
        .clients()
        .await
        .unwrap()
        .into_iter()
        .filter(|client| client.state == ClientState::Active)
        .map(|client| client.id)
        .collect();
    let all: Vec<UpdateId> = (0..known).map(|n| id("b", &source(n), "1")).collect();

    // Every client and update.
    let mut said: BTreeMap<Key, (u8, u8)> = BTreeMap::new();
    let mut told: BTreeMap<Key, (u8, u8)> = BTreeMap::new();
    for client in &active {
        for state in site.client_states(*client).await.unwrap() {
            if state.detection >= Detection::Required {
                let both = (state.detection.id(), state.enforcement.id());
                told.insert((state.update.to_string(), client.to_string()), both);
            }
        }
        for update in &all {
            let state = site.client_update(*client, update).await.unwrap().unwrap();
            let both = (state.detection.id(), state.enforcement.id());
            said.insert((update.to_string(), client.to_string()), both);
        }
    }
    let of = async |view: &str| -> BTreeMap<Key, (u8, u8)> {
        let question = format!(
            "SELECT i.CI_UniqueID, r.SMS_Unique_Identifier0, v.Status, v.LastEnforcementMessageID FROM {view} v \
             JOIN v_UpdateInfo i ON i.CI_ID = v.CI_ID JOIN v_R_System r ON r.ResourceID = v.ResourceID"
        );
        let found = rows(db, &question).await;
        let count = found.len();
        let found: BTreeMap<Key, (u8, u8)> = found
            .into_iter()
            .map(|row| ((row[0].clone(), row[1].clone()), (row[2].parse().unwrap(), row[3].parse().unwrap())))
            .collect();
        assert_eq!(found.len(), count, "{view} has each once");
        found
    };
    assert_eq!(of("v_UpdateComplianceStatus").await, told, "round {round}");
    assert_eq!(of("v_Update_ComplianceStatusAll").await, said, "round {round}");
    let mut reported = said.clone();
    reported.retain(|_, (status, _)| *status > 0);
    assert_eq!(of("v_Update_ComplianceStatusReported").await, reported, "round {round}");
    let errors = "SELECT count(*) FROM v_UpdateComplianceStatus WHERE LastErrorCode IS NOT NULL \
                  AND (LastErrorCode <> -2145124350 OR LastEnforcementStatusMsgID <> 11701)";
    assert_eq!(rows(db, errors).await, [["0"]]);

    // The counts, also before the store has added up what it committed last.
    let counts = site.required_counts(&all).await.unwrap();
    let question = "SELECT i.CI_UniqueID, v.NumTotal, v.NumUnknown, v.NumNotApplicable, v.NumMissing, v.NumPresent \
                    FROM v_Update_ComplianceSummary v JOIN v_UpdateInfo i ON i.CI_ID = v.CI_ID";
    let summary = rows(db, question).await;
    assert_eq!(summary.len(), all.len());
    for row in summary {
        let count = counts[&row[0].parse().unwrap()];
        let kept = [count.unknown, count.not_required, count.required, count.installed];
        let numbers: Vec<u64> = row[1..].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(numbers[1..], kept, "{} in round {round}", row[0]);
        assert_eq!(numbers[0], kept.iter().sum::<u64>());
        let by_state = |status: u8| {
            said.iter().filter(|((update, _), (is, _))| *update == row[0] && *is == status).count() as u64
        };
        assert_eq!(kept, [by_state(0), by_state(1), by_state(2), by_state(3)], "the same as one by one");
    }

    summaries(db, deployed, members, &said, round).await;
    assignments(db, members, round).await;
}

/// By collection and by deployment: they add up to all members, and count those of the single states.
async fn summaries(
    db: &Db,
    deployed: &[UpdateId],
    members: &BTreeSet<u128>,
    said: &BTreeMap<Key, (u8, u8)>,
    round: usize,
) {
    let columns = "v.NumTotal, v.NumUnknown, v.NumNotApplicable, v.NumMissing, v.NumPresent, v.NumInstalled, v.NumFailed, v.NumPending";
    let collection = format!(
        "SELECT i.CI_UniqueID, {columns} FROM v_UpdateSummaryPerCollection v JOIN v_UpdateInfo i ON i.CI_ID = v.CI_ID \
         WHERE v.CollectionID = 'site/c'"
    );
    let deployment = format!(
        "SELECT i.CI_UniqueID, {columns} FROM v_UpdateDeploymentSummary v JOIN v_UpdateInfo i ON i.CI_ID = v.CI_ID \
         WHERE v.AssignmentName = 'd'"
    );
    let members: BTreeSet<String> =
        members.iter().map(|n| ClientId(uuid::Uuid::from_u128(*n)).to_string()).collect();
    for (question, updates) in [(collection, None), (deployment, Some(deployed.len()))] {
        let found = rows(db, &question).await;
        assert_eq!(found.len(), updates.unwrap_or(found.len()));
        for row in found {
            let n: Vec<usize> = row[1..].iter().map(|n| n.parse().unwrap()).collect();
            assert_eq!(n[0], members.len(), "everybody is counted, round {round}");
            assert_eq!(n[0], n[1..5].iter().sum::<usize>(), "they add up, round {round}");
            // A member that is not active any more is in no count of single states.
            if members.iter().all(|member| said.contains_key(&(row[0].clone(), member.clone()))) {
                let count = |meets: &dyn Fn(u8, u8) -> bool| {
                    let of =
                        said.iter().filter(|((update, who), _)| *update == row[0] && members.contains(who));
                    of.filter(|(_, (status, state))| meets(*status, *state)).count()
                };
                let failed = |_, state| [6, 11, 14].contains(&state);
                let kept: Vec<usize> = vec![
                    count(&|status, _| status == 0),
                    count(&|status, _| status == 1),
                    count(&|status, _| status == 2),
                    count(&|status, _| status == 3),
                    count(&|_, state| state == 10),
                    count(&|status, state| status != 3 && failed(status, state)),
                    count(&|status, state| status != 3 && state > 0 && state != 10 && !failed(status, state)),
                ];
                assert_eq!(n[1..], kept, "{} in round {round}", row[0]);
            }
        }
    }
    let empty =
        "SELECT count(*) FROM v_UpdateSummaryPerCollection WHERE CollectionName = 'none' AND NumTotal <> 0";
    assert_eq!(rows(db, empty).await, [["0"]]);
    let adds_up = "SELECT count(*) FROM (SELECT SUM(StateCount) AS n, MAX(NumTotal) AS t \
                   FROM v_AssignmentEnforcementSummaryPerUpdateAndState GROUP BY AssignmentID, CI_ID) x WHERE n <> t";
    assert_eq!(rows(db, adds_up).await, [["0"]]);
}

/// Clients and the deployment.
async fn assignments(db: &Db, members: &BTreeSet<u128>, round: usize) {
    let said: BTreeMap<String, [u8; 3]> = db
        .site
        .deployment_clients("uid-d")
        .await
        .unwrap()
        .into_iter()
        .map(|one| (one.client.to_string(), [one.compliance.id(), one.enforcement.id(), one.evaluation.id()]))
        .collect();
    let question = "SELECT r.SMS_Unique_Identifier0, v.LastComplianceMessageID, v.LastEnforcementMessageID, \
                    v.LastEvaluationMessageID, v.IsCompliant, p.StatusType FROM v_UpdateAssignmentStatus v \
                    JOIN v_R_System r ON r.ResourceID = v.ResourceID JOIN vSMS_SUMDeploymentStatusPerAsset p \
                    ON p.AssignmentID = v.AssignmentID AND p.ResourceID = v.ResourceID";
    let found = rows(db, question).await;
    assert_eq!(found.len(), members.len(), "each that it reaches");
    let mut by_type: BTreeMap<u8, u64> = BTreeMap::new();
    for row in found {
        let n: Vec<u8> = row[1..].iter().map(|n| n.parse().unwrap()).collect();
        assert_eq!(n[..3], said.get(&row[0]).copied().unwrap_or_default(), "round {round}");
        assert_eq!(n[3] == 1, n[0] == 1);
        *by_type.entry(n[4]).or_default() += 1;
    }
    let summary = "SELECT NumberTotal, NumberSuccess, NumberInProgress, NumberUnknown, NumberErrors \
                   FROM v_DeploymentSummary WHERE SoftwareName = 'd'";
    let n: Vec<u64> = rows(db, summary).await[0].iter().map(|n| n.parse().unwrap()).collect();
    let of = |kind: u8| by_type.get(&kind).copied().unwrap_or(0);
    assert_eq!(n, [members.len() as u64, of(1), of(2), of(4), of(5)]);
    for topic in [300, 301, 302] {
        let question = format!(
            "SELECT CAST(SUM(StateCount) AS BIGINT) FROM v_AssignmentSummaryPerTopic WHERE TopicType = {topic}"
        );
        let sum = rows(db, &question).await[0][0].clone();
        assert_eq!(sum.parse().unwrap_or(0), members.len(), "topic {topic}");
    }
}

/// R-STMSG: published numbers and names.
async fn names_are_those_of_the_model(db: Db) {
    let mut names = Vec::new();
    macro_rules! names {
        ($($topic:ty),+) => {
            $(names.extend(<$topic>::ALL.iter().map(|state| {
                (<$topic>::TOPIC, state.id(), state.name().to_owned())
            }));)+
        };
    }
    names!(Detection, UpdateEnforcement, DeploymentEnforcement, Evaluation, Compliance, Scan);
    names.sort();
    let kept = rows(&db, "SELECT TopicType, StateID, StateName FROM v_StateNames ORDER BY 1, 2").await;
    let kept: Vec<(u16, u8, String)> = kept
        .into_iter()
        .map(|row| (row[0].parse().unwrap(), row[1].parse().unwrap(), row[2].clone()))
        .collect();
    assert_eq!(kept, names);

    let mut failures: Vec<Vec<String>> = Failure::ALL
        .iter()
        .map(|failure| {
            let message = failure.status_message().map_or_else(|| "-".to_owned(), |n| n.to_string());
            vec![failure.symbol().to_owned(), failure.code().to_string(), message]
        })
        .collect();
    failures.sort();
    let mut kept = rows(&db, "SELECT symbol, code, message FROM failure").await;
    kept.sort();
    assert_eq!(kept, failures);
    let unnamed = "SELECT count(*) FROM failure WHERE message IS NOT NULL \
                   AND message NOT IN (SELECT MessageID FROM v_AdvertisementStatusInformation)";
    assert_eq!(rows(&db, unnamed).await, [["0"]]);
}

/// R-DP-18, R-RPT-26, R-RPT-27.
async fn packages_are_told_by_distribution_point(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("one", "1:2"), ("two", "1")]), at(0)).await.unwrap();
    let updates = [id("b", "one", "1:2"), id("b", "two", "1")];
    let files = [Digest::of(b"one"), Digest::of(b"two")];
    let wanted = updates.iter().zip(files).map(|(update, digest)| WantedContent {
        digest,
        size: 10,
        url: "http://archive.test/x.deb".to_owned(),
        update: update.clone(),
    });
    site.put_content_wanted(wanted.collect()).await.unwrap();
    site.set_content_state(files[0], ContentState::Present, at(1)).await.unwrap();
    let points = ["dp1", "dp2", "dp3"].map(name);
    for point in &points {
        site.set_dp_wanted(point, files.into()).await.unwrap();
    }
    for file in files {
        site.set_dp_present(&points[0], file, Ok(()), at(2)).await.unwrap();
    }
    site.set_dp_present(&points[1], files[0], Err("no room".to_owned()), at(3)).await.unwrap();
    let package = RegisteredPackage {
        origin: origin("p", 1),
        version: 7,
        updates: updates.iter().cloned().collect(),
        files: files.into(),
        points: points.into(),
    };
    let register = Register { packages: BTreeMap::from([(name("p"), package)]), ..Register::default() };
    site.put_register(&register, None, at(4)).await.unwrap();

    let by_point = "SELECT ServerName, SourceVersion, State, InstallStatus, NumberOfFilesPresent \
                    FROM v_PackageStatusDistPointsSumm WHERE PackageID = 'site/p' ORDER BY 1";
    let shown = [
        ["dp1", "7", "0", "Installed", "2"],
        ["dp2", "7", "2", "Install Retrying", "0"],
        ["dp3", "7", "1", "Install Pending", "0"],
    ];
    assert_eq!(rows(&db, by_point).await, shown);
    let whole = "SELECT Name, Targeted, Installed, Pending, Retrying FROM v_PackageStatusDetailSumm";
    assert_eq!(rows(&db, whole).await, [["p", "3", "1", "1", "1"]]);
    let packed = "SELECT PackageID, SourceSize, NumberOfUpdates FROM v_Package";
    assert_eq!(rows(&db, packed).await, [["site/p", "20", "2"]]);
    let content = "SELECT i.CI_UniqueID, c.ContentDownloaded, c.PkgID FROM v_CIContentPackage c \
                   JOIN v_UpdateInfo i ON i.CI_ID = c.CI_ID ORDER BY 1";
    let shown = [
        [updates[0].to_string(), "1".to_owned(), "site/p".to_owned()],
        [updates[1].to_string(), "0".to_owned(), "site/p".to_owned()],
    ];
    assert_eq!(rows(&db, content).await, shown);
}
