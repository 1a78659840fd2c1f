//! State messages.

use std::collections::BTreeSet;

use patchtide_model::{
    UpdateId,
    client::{ClientState, Facts},
    state::{Compliance, DeploymentEnforcement, Detection, Scan, StateError, UpdateEnforcement},
};
use patchtide_store::intake::{DetectionReport, IntakeAck, IntakeBody, IntakeReport, Sender};
use uuid::Uuid;

use crate::common::{Db, at, client, detected, id, kept, leaf_ref, line, on_both, report, scan, sync};

on_both!(
    absence_means_not_required_within_the_watermark_and_unknown_beyond,
    required_leaves_and_needs_are_told,
    parts_take_effect_with_the_last_one,
    unknown_updates_are_parked_until_the_catalogue_has_them,
    sequences_are_kept,
    a_reinstalled_client_starts_from_nothing,
    two_boots_at_once_are_quarantined,
    enforcement_lies_beside_detection,
    facts_and_scan_state_are_kept,
    few_and_many_states_in_a_segment_read_alike,
    hostile_text_is_data,
    many_reports_at_once_are_all_kept,
    two_writing_processes_agree,
);

const fn tuple(counts: patchtide_store::answers::DetectionCounts) -> (u64, u64, u64, u64) {
    (counts.unknown, counts.not_required, counts.required, counts.installed)
}

async fn counts(db: &Db, update: &UpdateId) -> (u64, u64, u64, u64) {
    tuple(db.site.required_counts(std::slice::from_ref(update)).await.unwrap()[update])
}

async fn absence_means_not_required_within_the_watermark_and_unknown_beyond(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("n", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let (a, n, later) = (id("b", "a", "1"), id("b", "n", "1"), id("b", "later", "1"));
    assert_eq!(counts(&db, &a).await, (2, 0, 0, 0));
    site.intake(report(one, 1, vec![scan("b", 1, vec![detected("a", "1", Detection::Installed)])]))
        .await
        .unwrap();
    assert_eq!(counts(&db, &a).await, (1, 0, 0, 1));
    assert_eq!(counts(&db, &n).await, (1, 1, 0, 0));
    site.apply_line_sync(sync("b", &[("a", "1"), ("n", "1"), ("later", "1")]), at(2)).await.unwrap();
    assert_eq!(counts(&db, &later).await, (2, 0, 0, 0));
    let state =
        async |update: &UpdateId, who| site.client_update(who, update).await.unwrap().unwrap().detection;
    assert_eq!(state(&later, one).await, Detection::Unknown);
    assert_eq!((state(&n, one).await, state(&n, two).await), (Detection::NotRequired, Detection::Unknown));
    // A watermark cannot be ahead of what the site has published.
    site.intake(report(two, 1, vec![scan("b", 99, vec![])])).await.unwrap();
    assert_eq!(site.client_scans(two).await.unwrap(), [(line("b"), 2, at(11))]);
    assert_eq!(counts(&db, &later).await, (1, 1, 0, 0));
    // What is no longer named is no longer required.
    site.intake(report(one, 2, vec![scan("b", 2, vec![])])).await.unwrap();
    assert_eq!(counts(&db, &a).await, (0, 2, 0, 0));
    assert!(site.client_states(one).await.unwrap().is_empty());
    assert_eq!(site.verify().await.unwrap(), []);
    assert!(site.recount().await.unwrap().is_empty());
}

async fn required_leaves_and_needs_are_told(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let mut state = detected("a", "1", Detection::Required);
    state.leaves.push(leaf_ref("a-data", "1"));
    state.leaves.push(leaf_ref("a", "1"));
    let body = IntakeBody::Detection(DetectionReport {
        line: line("b"),
        catalogue_version: 1,
        part: 0,
        last: true,
        states: vec![state],
        needs: vec![leaf_ref("new", "1")],
        numbered: None,
    });
    site.intake(report(one, 1, vec![body])).await.unwrap();
    site.intake(report(two, 1, vec![scan("b", 1, vec![detected("a", "1", Detection::Required)])]))
        .await
        .unwrap();
    let a = id("b", "a", "1");
    let asked = BTreeSet::from([a.clone(), id("b", "b", "1")]);
    let leaves = site.required_leaves(&asked).await.unwrap();
    assert_eq!(leaves.len(), 1);
    assert_eq!(leaves[&a], BTreeSet::from([leaf_ref("a", "1"), leaf_ref("a-data", "1")]));
    assert_eq!(site.needed_leaves().await.unwrap(), BTreeSet::from([leaf_ref("new", "1")]));
    assert_eq!(site.requiring_clients(&a).await.unwrap(), [one, two]);
    site.set_client_state(one, ClientState::Quarantined).await.unwrap();
    assert_eq!(site.required_leaves(&asked).await.unwrap()[&a], BTreeSet::from([leaf_ref("a", "1")]));
    assert!(site.needed_leaves().await.unwrap().is_empty());
}

fn part(number: u16, last: bool, source: &str) -> IntakeBody {
    part_with(number, last, source, &[])
}

fn part_with(number: u16, last: bool, source: &str, needs: &[&str]) -> IntakeBody {
    IntakeBody::Detection(DetectionReport {
        line: line("b"),
        catalogue_version: 1,
        part: number,
        last,
        states: vec![detected(source, "1", Detection::Required)],
        needs: needs.iter().map(|package| leaf_ref(package, "1")).collect(),
        numbered: None,
    })
}

async fn parts_take_effect_with_the_last_one(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1"), ("c", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    site.intake(report(one, 1, vec![part(0, false, "a")])).await.unwrap();
    assert!(
        site.client_states(one).await.unwrap().is_empty() && site.client_scans(one).await.unwrap().is_empty()
    );
    // Another process takes the rest in: nothing was only in memory.
    let other = db.second().await;
    other.intake(report(one, 2, vec![part(1, false, "b"), part(2, true, "c")])).await.unwrap();
    assert_eq!(site.client_states(one).await.unwrap().len(), 3);
    let all = [id("b", "a", "1"), id("b", "b", "1"), id("b", "c", "1")];
    assert_eq!(site.required_leaves(&all.into()).await.unwrap().len(), 3);
    // A part is missing: the scan does not count, the states stay.
    site.intake(report(one, 4, vec![part(0, false, "a"), part(2, true, "c")])).await.unwrap();
    assert_eq!(site.client_states(one).await.unwrap().len(), 3);
    site.intake(report(one, 6, vec![part(0, false, "a"), part(1, true, "b")])).await.unwrap();
    assert_eq!(site.client_states(one).await.unwrap().len(), 2);
    // What is newly depended on may be in several parts too.
    let several = vec![part_with(0, false, "a", &["x", "y"]), part_with(1, true, "b", &["y", "z"])];
    site.intake(report(one, 8, several)).await.unwrap();
    assert_eq!(site.needed_leaves().await.unwrap(), ["x", "y", "z"].map(|name| leaf_ref(name, "1")).into());
    assert_eq!(other.needed_leaves().await.unwrap().len(), 3);
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn unknown_updates_are_parked_until_the_catalogue_has_them(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let failed = StateError::told(0x87D0_0664, "INSTALL-SCRIPT".to_owned(), "no".to_owned());
    let messages = vec![
        scan(
            "b",
            1,
            vec![detected("a", "1", Detection::Installed), detected("new", "1", Detection::Required)],
        ),
        IntakeBody::Update {
            update: id("b", "new", "1"),
            state: UpdateEnforcement::InstallFailed,
            error: Some(failed.clone()),
        },
        scan("elsewhere", 1, vec![detected("x", "1", Detection::Installed)]),
    ];
    assert_eq!(site.intake(report(one, 1, messages)).await.unwrap(), kept(3));
    site.intake(report(two, 1, vec![scan("b", 1, vec![])])).await.unwrap();
    assert_eq!(site.client_states(one).await.unwrap().len(), 1);
    site.apply_line_sync(sync("b", &[("a", "1"), ("new", "1")]), at(2)).await.unwrap();
    let new = id("b", "new", "1");
    assert_eq!(counts(&db, &new).await, (1, 0, 1, 0));
    let state = site.client_update(one, &new).await.unwrap().unwrap();
    assert_eq!(
        (state.detection, state.enforcement, state.error),
        (Detection::Required, UpdateEnforcement::InstallFailed, Some(failed))
    );
    assert_eq!(site.required_leaves(&[new.clone()].into()).await.unwrap()[&new].len(), 1);
    assert_eq!(site.verify().await.unwrap(), []);
    site.apply_line_sync(sync("elsewhere", &[("x", "1")]), at(2)).await.unwrap();
    assert_eq!(counts(&db, &id("elsewhere", "x", "1")).await, (1, 0, 0, 1));
    // From the next scan on it is as any other.
    site.intake(report(two, 2, vec![scan("b", 2, vec![])])).await.unwrap();
    assert_eq!(counts(&db, &new).await, (0, 1, 1, 0));
    site.intake(report(one, 4, vec![scan("b", 2, vec![])])).await.unwrap();
    assert_eq!(counts(&db, &new).await, (0, 2, 0, 0));
    assert_eq!(site.verify().await.unwrap(), []);
    // Bounded: of 1,200 unknown ones 1,000 are kept, and the report is accepted.
    let many = (0..1_200).map(|n| detected(&format!("u{n}"), "1", Detection::Installed)).collect();
    assert_eq!(site.intake(report(one, 5, vec![scan("b", 2, many)])).await.unwrap(), kept(5));
    let names: Vec<String> = (0..1_200).map(|n| format!("u{n}")).collect();
    let mut all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    all.extend([("a", "1"), ("new", "1")]);
    site.apply_line_sync(sync("b", &all), at(3)).await.unwrap();
    let installed =
        site.client_states(one).await.unwrap().into_iter().filter(|s| s.detection == Detection::Installed);
    assert_eq!(installed.filter(|s| s.update.line == line("b")).count(), 1_000);
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn sequences_are_kept(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let beats = |n: usize| vec![IntakeBody::Heartbeat; n];
    assert_eq!(site.intake(report(one, 1, beats(3))).await.unwrap(), kept(3));
    assert_eq!(site.intake(report(one, 1, beats(2))).await.unwrap(), kept(3));
    assert_eq!(site.intake(report(one, 6, beats(1))).await.unwrap(), IntakeAck { resync: true, ..kept(6) });
    assert!(site.client_reports().await.unwrap()[0].gap);
    assert_eq!(site.intake(report(one, 7, beats(1))).await.unwrap(), kept(7));
    let found = site.client_reports().await.unwrap().remove(0);
    assert_eq!((found.sequence, found.gap, found.skew_us), (7, false, -1_000_000));
    let far = site.intake(report(one, 2_000_000, beats(1))).await.unwrap();
    assert_eq!(far, IntakeAck { sender: Sender::Quarantined, ..kept(7) });
    assert_eq!(site.client(one).await.unwrap().unwrap().state, ClientState::Quarantined);
    assert_eq!(site.intake(report(one, 8, beats(1))).await.unwrap().sender, Sender::Quarantined);
    let (rows, broken) = site.verify_history().await.unwrap();
    assert_eq!((rows, broken), (3, vec![]));
}

async fn a_reinstalled_client_starts_from_nothing(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    let compliant = IntakeBody::Compliance { deployment: "uid".to_owned(), state: Compliance::Compliant };
    let states = vec![detected("a", "1", Detection::Required), detected("parked", "1", Detection::Required)];
    site.intake(report(one, 1, vec![scan("b", 1, states), compliant])).await.unwrap();
    let again =
        IntakeReport { incarnation: Uuid::from_u128(5), boot: Uuid::from_u128(6), ..report(one, 1, vec![]) };
    assert_eq!(site.intake(again.clone()).await.unwrap(), kept(0));
    assert_eq!(counts(&db, &id("b", "a", "1")).await, (1, 0, 0, 0));
    assert!(site.deployment_clients("uid").await.unwrap().is_empty());
    let scanned = vec![scan("b", 1, vec![detected("a", "1", Detection::Installed)])];
    let next = IntakeReport { messages: report(one, 1, scanned).messages, ..again };
    assert_eq!(site.intake(next).await.unwrap(), kept(1));
    assert_eq!(counts(&db, &id("b", "a", "1")).await, (0, 0, 0, 1));
    site.apply_line_sync(sync("b", &[("a", "1"), ("parked", "1")]), at(2)).await.unwrap();
    assert_eq!(counts(&db, &id("b", "parked", "1")).await, (1, 0, 0, 0));
    assert_eq!(site.verify().await.unwrap(), []);
    assert_eq!(
        site.intake(report(one, 9, vec![IntakeBody::Heartbeat])).await.unwrap().sender,
        Sender::Quarantined
    );
    assert_eq!(counts(&db, &id("b", "a", "1")).await, (0, 0, 0, 0));
    assert_eq!(site.verify().await.unwrap(), []);
}

async fn two_boots_at_once_are_quarantined(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let boot = |boot: u128, first| IntakeReport {
        boot: Uuid::from_u128(boot),
        ..report(one, first, vec![IntakeBody::Heartbeat])
    };
    assert_eq!(site.intake(boot(1, 1)).await.unwrap(), kept(1));
    assert_eq!(site.intake(boot(2, 2)).await.unwrap(), kept(2));
    // Equal numbers or higher ones: nothing of it is kept, and whoever lives in that boot begins anew.
    for first in [2, 3] {
        let late = site.intake(boot(1, first)).await.unwrap();
        assert_eq!(late, IntakeAck { sender: Sender::Superseded, ..kept(2) });
    }
    let anew = IntakeReport { incarnation: Uuid::from_u128(9), ..boot(1, 1) };
    assert_eq!(site.intake(anew.clone()).await.unwrap(), kept(1));
    assert_eq!(site.intake(boot(2, 3)).await.unwrap().sender, Sender::Quarantined);
    assert_eq!(site.intake(anew).await.unwrap().sender, Sender::Quarantined);
    // A person decides.
    site.set_client_state(one, ClientState::Active).await.unwrap();
    let next = IntakeReport { incarnation: Uuid::from_u128(9), ..boot(1, 2) };
    assert_eq!(site.intake(next).await.unwrap(), kept(2));
}

async fn enforcement_lies_beside_detection(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    let a = id("b", "a", "1");
    let enforcement = |state, error| IntakeBody::Update { update: id("b", "a", "1"), state, error };
    let failed = StateError::told(1, "PKG-HASH".to_owned(), "wrong".to_owned());
    let required = || scan("b", 1, vec![detected("a", "1", Detection::Required)]);
    let messages = vec![required(), enforcement(UpdateEnforcement::InstallFailed, Some(failed.clone()))];
    site.intake(report(one, 1, messages)).await.unwrap();
    let state = async || {
        let state = site.client_states(one).await.unwrap().remove(0);
        (state.detection, state.enforcement, state.error)
    };
    assert_eq!(state().await, (Detection::Required, UpdateEnforcement::InstallFailed, Some(failed.clone())));
    // A scan changes the detection alone.
    site.intake(report(one, 3, vec![required()])).await.unwrap();
    assert_eq!(state().await, (Detection::Required, UpdateEnforcement::InstallFailed, Some(failed.clone())));
    site.intake(report(one, 4, vec![scan("b", 1, vec![])])).await.unwrap();
    assert_eq!(state().await, (Detection::Unknown, UpdateEnforcement::InstallFailed, Some(failed)));
    assert_eq!(site.client_update(one, &a).await.unwrap().unwrap().detection, Detection::NotRequired);
    site.intake(report(one, 5, vec![required(), enforcement(UpdateEnforcement::Installed, None)]))
        .await
        .unwrap();
    assert_eq!(state().await, (Detection::Required, UpdateEnforcement::Installed, None));
    assert_eq!(site.required_leaves(&[a.clone()].into()).await.unwrap().len(), 1);
    assert_eq!(counts(&db, &a).await, (0, 0, 1, 0));
    assert_eq!(site.verify().await.unwrap(), []);
}

/// Bad input 83: what is beyond the limits is left out and counted.
async fn facts_and_scan_state_are_kept(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let mut facts: Facts = (0..300).map(|n| (format!("label/{n:03}"), "v".to_owned())).collect();
    facts.insert("x".repeat(64), "long key".to_owned());
    facts.insert("hostname".to_owned(), "x".repeat(257));
    let error = StateError::told(2, "SCAN".to_owned(), "no catalogue".to_owned());
    let failed = IntakeBody::Scan { state: Scan::Failed, error: Some(error.clone()) };
    let sent =
        IntakeReport { policy: Some((1, 7)), ..report(one, 1, vec![IntakeBody::Facts(facts), failed]) };
    assert_eq!(site.intake(sent).await.unwrap(), IntakeAck { dropped_facts: 102, ..kept(2) });
    let known = site.client(one).await.unwrap().unwrap();
    assert_eq!(known.facts.len(), 200);
    assert!(!known.facts.contains_key("hostname"));
    let found = site.client_reports().await.unwrap().remove(0);
    assert_eq!((found.policy, found.scan, found.scan_error), (Some((1, 7)), Scan::Failed, Some(error)));
}

async fn few_and_many_states_in_a_segment_read_alike(db: Db) {
    let site = &db.site;
    let names: Vec<String> = (0..600).map(|n| format!("s{n:03}")).collect();
    let all: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "1")).collect();
    site.apply_line_sync(sync("b", &all), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let states = |picked: &mut dyn Iterator<Item = &String>| {
        let state = |n: usize| if n.is_multiple_of(3) { Detection::Required } else { Detection::Installed };
        picked.enumerate().map(|(n, name)| detected(name, "1", state(n))).collect::<Vec<_>>()
    };
    site.intake(report(one, 1, vec![scan("b", 1, states(&mut names.iter()))])).await.unwrap();
    // Few, many, few again: from rows to bytes and back.
    for (seq, step) in [(1, 100), (2, 2), (3, 150), (4, 1_000), (5, 1)] {
        let wanted = states(&mut names.iter().step_by(step));
        site.intake(report(two, seq, vec![scan("b", 1, wanted.clone())])).await.unwrap();
        let found = site.client_states(two).await.unwrap();
        assert_eq!(found.len(), wanted.len(), "every {step}");
        for (found, wanted) in found.iter().zip(&wanted) {
            assert_eq!((&found.update.source, found.detection), (&wanted.source, wanted.state));
        }
        let last = id("b", &names[0], "1");
        assert_eq!(site.requiring_clients(&last).await.unwrap(), [one, two]);
        assert_eq!(site.verify().await.unwrap(), []);
        // What a process that starts now reads is the same.
        assert_eq!(db.second().await.client_states(two).await.unwrap(), found);
    }
}

async fn hostile_text_is_data(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1")]), at(1)).await.unwrap();
    let one = client(site, 1).await;
    for (seq, text) in
        (1..).zip(["'); DROP TABLE client; --", "%s{{x}}$1?", "\u{202e}\u{0}", "<script>", "\\x27"])
    {
        let error = StateError::told(1, text.to_owned(), text.to_owned());
        let bodies = vec![
            IntakeBody::Enforcement {
                deployment: text.to_owned(),
                state: DeploymentEnforcement::InstallFailed,
                until: None,
                error: Some(error.clone()),
            },
            scan(
                "b",
                1,
                vec![detected(text, text, Detection::Installed), detected("a", "1", Detection::Installed)],
            ),
            IntakeBody::Facts(Facts::from([("hostname".to_owned(), text.to_owned())])),
        ];
        site.intake(report(one, seq * 3 - 2, bodies)).await.unwrap();
        assert_eq!(site.client(one).await.unwrap().unwrap().facts["hostname"], text);
        let told = site.deployment_clients(&text.replace('\0', "\u{fffd}")).await.unwrap();
        assert_eq!(told[0].error, Some(error));
    }
    assert_eq!(site.clients().await.unwrap().len(), 1);
}

async fn many_reports_at_once_are_all_kept(db: Db) {
    let site = &db.site;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    let mut clients = Vec::new();
    for n in 0..40 {
        clients.push(client(site, n).await);
    }
    let tasks = clients.into_iter().map(|one| {
        let site = site.clone();
        tokio::spawn(async move {
            for seq in 1..=10 {
                let state = if seq % 2 == 0 { Detection::Installed } else { Detection::Required };
                let sent = report(one, seq, vec![scan("b", 1, vec![detected("a", "1", state)])]);
                assert_eq!(site.intake(sent).await.unwrap(), kept(seq));
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!(counts(&db, &id("b", "a", "1")).await, (0, 0, 0, 40));
    assert_eq!(site.verify().await.unwrap(), []);
    assert_eq!(site.verify_history().await.unwrap().1, []);
}

async fn two_writing_processes_agree(db: Db) {
    let site = &db.site;
    let other = db.second().await;
    site.apply_line_sync(sync("b", &[("a", "1"), ("b", "1")]), at(1)).await.unwrap();
    let (one, two) = (client(site, 1).await, client(&other, 2).await);
    for seq in 1..=6 {
        let (here, there) = if seq % 2 == 0 { (site, &other) } else { (&other, site) };
        let state = if seq % 3 == 0 { Detection::Installed } else { Detection::Required };
        here.intake(report(one, seq, vec![scan("b", 1, vec![detected("a", "1", state)])])).await.unwrap();
        there.intake(report(two, seq, vec![scan("b", 1, vec![detected("b", "1", state)])])).await.unwrap();
        let asked = [id("b", "a", "1"), id("b", "b", "1")];
        assert_eq!(here.required_counts(&asked).await.unwrap(), there.required_counts(&asked).await.unwrap());
        assert_eq!((here.verify().await.unwrap(), there.verify().await.unwrap()), (vec![], vec![]));
    }
    assert_eq!(other.verify_history().await.unwrap(), (12, vec![]));
}
