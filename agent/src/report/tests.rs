use std::collections::BTreeSet;

use patchtide_model::{
    Digest, LineId, UpdateId,
    state::{Compliance, Detection},
};
use patchtide_planner::client::Detected;
use patchtide_protocol::state::NumberedUpdate;

use super::*;
use crate::scan::Found;

fn compliance(uid: &str, state: Compliance) -> (String, StateBody) {
    (format!("compliance/{uid}"), StateBody::Compliance { deployment: uid.to_owned(), state })
}

fn open() -> (tempfile::TempDir, StateFolder, Outbox) {
    let folder = tempfile::tempdir().unwrap();
    let state = StateFolder::open(folder.path()).unwrap();
    let outbox = opened(&state);
    (folder, state, outbox)
}

/// Opened, and the site has been asked.
fn opened(state: &StateFolder) -> Outbox {
    let mut outbox = Outbox::open(state, T).unwrap();
    outbox.asking = None;
    outbox
}

fn seqs(outbox: &Outbox) -> Vec<u64> {
    let report = outbox.next_report(Uuid::nil(), None, Timestamp::UNIX_EPOCH);
    report.into_iter().flat_map(|report| report.messages).map(|message| message.seq).collect()
}

fn ack(acknowledged: u64, resync: bool) -> Acknowledgement {
    Acknowledgement { acknowledged, resync, by_name: false, superseded: false }
}

const T: Timestamp = Timestamp::UNIX_EPOCH;

#[test]
fn only_changes_are_sent_and_kept_until_acknowledged() {
    let (_folder, state, mut outbox) = open();
    assert!(
        outbox
            .enter([compliance("a", Compliance::Compliant), compliance("b", Compliance::Unknown)], T)
            .unwrap()
    );
    assert!(!outbox.enter([compliance("a", Compliance::Compliant)], T).unwrap());
    assert!(outbox.enter([compliance("a", Compliance::NonCompliant)], T).unwrap());
    assert_eq!(seqs(&outbox), [1, 2, 3]);
    outbox.acknowledge(&ack(1, false), T).unwrap();
    assert_eq!(seqs(&outbox), [2, 3]);

    let incarnation = outbox.incarnation;
    let mut again = opened(&state);
    assert_eq!((seqs(&again), again.incarnation), (vec![2, 3], incarnation), "a kill loses nothing");
    assert!(!again.enter([compliance("a", Compliance::NonCompliant)], T).unwrap());
    again.acknowledge(&ack(3, false), T).unwrap();
    assert_eq!(fs::read_dir(state.path("outbox")).unwrap().count(), 0);
    assert_eq!(opened(&state).books.next, 4, "numbers are never used twice");
}

#[test]
fn numbers_go_on_when_the_books_were_not_written() {
    let (_folder, state, mut outbox) = open();
    outbox.enter([compliance("a", Compliance::Compliant)], T).unwrap();
    let books = fs::read(state.path(BOOKS)).unwrap();
    outbox.enter([compliance("b", Compliance::Compliant)], T).unwrap();
    fs::write(state.path(BOOKS), books).unwrap();
    let mut again = opened(&state);
    again.enter([compliance("c", Compliance::Compliant)], T).unwrap();
    assert_eq!(seqs(&again), [1, 2, 3]);
}

#[test]
fn a_resync_sends_every_current_state_once() {
    let (_folder, _state, mut outbox) = open();
    outbox
        .enter([compliance("a", Compliance::Compliant), compliance("b", Compliance::Compliant)], T)
        .unwrap();
    outbox.forget(|key| !key.ends_with("/b")).unwrap();
    outbox.acknowledge(&ack(2, true), T).unwrap();
    assert_eq!(seqs(&outbox), [3]);
    outbox.acknowledge(&ack(3, false), T).unwrap();
    assert_eq!((seqs(&outbox).len(), outbox.acknowledged()), (0, 3));
}

/// A power cut after what the site acknowledged is written, and before what it asked for is: told at the next start.
#[test]
fn a_kill_in_the_middle_of_a_resync_loses_nothing() {
    let (_folder, state, mut outbox) = open();
    outbox.enter([compliance("a", Compliance::Compliant), compliance("b", Compliance::Unknown)], T).unwrap();
    // Nothing can be done with the messages from here on.
    fs::rename(state.path("outbox"), state.path("away")).unwrap();
    assert!(outbox.acknowledge(&ack(2, true), T).is_err());
    fs::rename(state.path("away"), state.path("outbox")).unwrap();
    let again = opened(&state);
    assert_eq!((seqs(&again), again.acknowledged()), (vec![3, 4], 2));
    assert_eq!(seqs(&opened(&state)), [3, 4], "once");
}

/// A client that was restored to an earlier moment: nothing is lost, nothing counts twice. It asks before it says anything.
#[test]
fn a_restored_snapshot_begins_anew_and_tells_everything() {
    let (_folder, state, mut outbox) = open();
    outbox.enter([compliance("a", Compliance::NonCompliant)], T).unwrap();
    let before = outbox.incarnation;
    // These books are the copy; the life that the site saw went on to number 3.
    let mut again = Outbox::open(&state, T).unwrap();
    // Enough happens before the site is reached to pass its number unseen.
    let states = (0..5).map(|n| compliance(&format!("new-{n}"), Compliance::Compliant));
    again.enter(states, T).unwrap();
    let question = again.next_report(Uuid::nil(), None, T).unwrap();
    assert_eq!((question.messages.len(), question.incarnation), (0, before));
    question.check().unwrap();
    assert!(again.acknowledge(&ack(3, false), T).unwrap(), "the site is further than these books were");
    let report = again.next_report(Uuid::nil(), None, T).unwrap();
    assert_ne!(report.incarnation, before);
    let keys: BTreeSet<_> = report.messages.iter().filter_map(|m| bodies::key(&m.body)).collect();
    assert_eq!((keys.len(), report.messages.len(), report.messages[0].seq), (6, 6, 1), "each state once");

    // Restored once more from the same copy: the site knows that incarnation as an earlier one.
    let second = report.incarnation;
    again.ask();
    let superseded = Acknowledgement { superseded: true, ..ack(0, false) };
    assert!(again.acknowledge(&superseded, T).unwrap());
    assert_ne!(again.incarnation, second);
    assert!(!again.acknowledge(&ack(6, false), T).unwrap());
    assert_eq!(again.waiting(), 0);

    // Killed while it began anew: what is current is told all the same.
    again.books.owed = true;
    again.state.save(BOOKS, &again.books).unwrap();
    assert_eq!(opened(&state).waiting(), 6);
}

/// A power cut that tore the numbers: they begin anew, and what the site then forgets is told again.
#[test]
fn torn_books_begin_anew_and_tell_everything() {
    let (_folder, state, mut outbox) = open();
    outbox.enter([compliance("a", Compliance::Compliant)], T).unwrap();
    outbox.acknowledge(&ack(1, false), T).unwrap();
    fs::write(state.path(BOOKS), b"{\"incarnation\":").unwrap();
    let again = opened(&state);
    assert_ne!(again.incarnation, outbox.incarnation);
    assert_eq!(seqs(&again), [1]);
    // Killed between the messages and what is current: the messages count, and nothing is said twice.
    let (_folder, state, mut outbox) = open();
    outbox.enter([compliance("a", Compliance::Compliant)], T).unwrap();
    let current = fs::read(state.path(CURRENT)).unwrap();
    outbox.enter([compliance("a", Compliance::NonCompliant)], T).unwrap();
    fs::write(state.path(CURRENT), current).unwrap();
    assert!(!opened(&state).enter([compliance("a", Compliance::NonCompliant)], T).unwrap());
}

#[test]
fn a_large_detection_travels_in_parts_within_the_limits() {
    let (_folder, _state, mut outbox) = open();
    let detected: BTreeMap<_, _> = (0..3000)
        .map(|n| {
            let id = format!("debian/bookworm/main:source-{n:05}@1.0-{n}").parse().unwrap();
            let leaf = patchtide_model::catalogue::LeafRef {
                package: format!("package-{n}"),
                architecture: "amd64".to_owned(),
                version: format!("1.0-{n}"),
            };
            let leaves = std::collections::BTreeSet::from([leaf.clone()]);
            (id, Detected { state: Detection::Required, needs: leaves.clone(), leaves })
        })
        .collect();
    let covered = BTreeMap::from([("debian/bookworm/main".parse().unwrap(), 7)]);
    let found = Found { detected, covered, ..Found::default() };
    outbox.enter_scan(detections(&found), T).unwrap();
    let (mut states, mut needs, mut parts, mut reports) = (0, 0, Vec::new(), 0);
    while let Some(report) = outbox.next_report(Uuid::nil(), Some((1, 1)), T) {
        report.check().unwrap();
        let wire = encoding::compress(&binary::encode(&report)).unwrap();
        assert!(wire.len() <= STATE_WIRE_BYTES, "{}", wire.len());
        for message in &report.messages {
            let StateBody::Detection(part) = &message.body else { panic!() };
            states += part.states.len();
            needs += part.needs.len();
            parts.push((part.part, part.last));
        }
        reports += 1;
        outbox.acknowledge(&ack(report.messages.last().unwrap().seq, false), T).unwrap();
    }
    assert_eq!((states, needs), (3000, 3000));
    assert!(reports > 1 && parts.len() > 2);
    assert!(
        parts
            .iter()
            .enumerate()
            .all(|(n, (part, last))| n == usize::from(*part) && *last == (n + 1 == parts.len()))
    );
}

/// 2,000 updates that the catalogue numbers, and one that it does not.
fn numbered() -> Found {
    let line: LineId = "debian/bookworm/main".parse().unwrap();
    let mut found = Found {
        covered: BTreeMap::from([(line.clone(), 7)]),
        catalogues: BTreeMap::from([(line, Digest::of(b"catalogue"))]),
        ..Found::default()
    };
    for n in 0..=2_000_u64 {
        let id: UpdateId = format!("debian/bookworm/main:source-{n:05}@1").parse().unwrap();
        let detected =
            Detected { state: Detection::Installed, leaves: BTreeSet::new(), needs: BTreeSet::new() };
        found.detected.insert(id.clone(), detected);
        if n > 0 {
            let numbered = NumberedUpdate { number: 5_000 - n, state: Detection::Installed, leaves: vec![] };
            found.numbered.insert(id, numbered);
        }
    }
    found
}

#[test]
fn what_has_a_number_is_sent_by_it_and_by_name_when_the_site_asks() {
    let (_folder, state, mut outbox) = open();
    let found = numbered();
    assert!(outbox.enter_scan(detections(&found), T).unwrap());
    assert!(!outbox.enter_scan(detections(&found), T).unwrap(), "nothing changed");
    let (mut by_number, mut names, mut bytes) = (Vec::new(), Vec::new(), 0);
    while let Some(report) = outbox.next_report(Uuid::nil(), None, T) {
        report.check().unwrap();
        bytes += binary::encode(&report).len();
        for message in &report.messages {
            let StateBody::Detection(part) = &message.body else { panic!() };
            let numbered = part.numbered.as_ref().unwrap();
            assert_eq!((numbered.catalogue, part.catalogue_version), (Digest::of(b"catalogue"), 7));
            by_number.extend(numbered.states.iter().map(|state| state.number));
            names.extend(part.states.iter().map(|state| state.source.clone()));
        }
        outbox.acknowledge(&ack(report.messages.last().unwrap().seq, false), T).unwrap();
    }
    assert_eq!(by_number, (3_000..5_000).collect::<Vec<_>>(), "in the order of the numbers");
    assert_eq!(names, ["source-00000"]);
    assert!(bytes < 5_000, "{bytes}");

    // The site lost the catalogue that the numbers are of.
    outbox.enter([compliance("a", Compliance::Compliant)], T).unwrap();
    let last = outbox.books.next - 1;
    let answer = Acknowledgement { by_name: true, ..ack(last, false) };
    let mut again = opened(&state);
    again.acknowledge(&answer, T).unwrap();
    let mut names = 0;
    while let Some(report) = again.next_report(Uuid::nil(), None, T) {
        report.check().unwrap();
        for message in &report.messages {
            let StateBody::Detection(part) = &message.body else { panic!("only what the scans found") };
            assert!(part.numbered.is_none() && message.seq > last);
            names += part.states.len();
        }
        again.acknowledge(&ack(report.messages.last().unwrap().seq, false), T).unwrap();
    }
    assert_eq!(names, 2_001);
}

/// A site that does not answer for months costs a bounded number of files; what is kept is the newest.
#[test]
fn a_site_that_stays_away_does_not_fill_the_disk() {
    let (_folder, state, mut outbox) = open();
    // Fifty at once: a durable write costs milliseconds.
    for n in 0..=PENDING / 50 {
        let states = (0..50).map(|m| compliance(&format!("{n}-{m}"), Compliance::Compliant));
        outbox.enter_always(states, T).unwrap();
    }
    assert!(outbox.waiting() <= PENDING / 2 + 50, "{}", outbox.waiting());
    assert!(fs::read_dir(state.path("outbox")).unwrap().count() <= PENDING / 100 + 1);
    let newest = PENDING as u64 + 50;
    assert_eq!(outbox.pending.back().unwrap().seq, newest);
    // The site asked for every state in an answer that was lost, and sees no gap: it is told of its own accord.
    let given_up = outbox.pending.front().unwrap().seq - 1;
    outbox.acknowledge(&ack(given_up, false), T).unwrap();
    let told: BTreeSet<_> = outbox.pending.iter().filter_map(|message| bodies::key(&message.body)).collect();
    assert_eq!(told.len(), outbox.current().len(), "every state");
    let again = opened(&state);
    assert_eq!((again.waiting(), again.books.next), (outbox.waiting(), outbox.books.next));
}
