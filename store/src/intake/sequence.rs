//! The rules of a client's sequence: what is new, what is a duplicate, what is missing, what cannot be one machine.

use std::time::Duration;

use patchtide_model::state::Scan;

use super::{IntakeReport, cache::Session};

/// A sequence number that jumps further than this is a fault, not a gap.
const JUMP: u64 = 1_000_000;
/// Earlier boots and incarnations remembered.
const EARLIER: usize = 16;

/// What a report is, against what is known of its client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The messages above `after` are new.
    Take {
        /// The session from now on.
        session: Session,
        /// Highest number that was known before.
        after: u64,
        /// Highest number known now: the acknowledgement.
        sequence: u64,
        /// Ask for a resync.
        resync: bool,
        /// The client was installed anew: what it reported before is forgotten.
        reinstalled: bool,
    },
    /// A report of an earlier boot, or a question of an earlier incarnation: nothing of it is taken, and whoever reads the
    /// answer is to begin anew.
    Late,
    /// Two machines seem to share the identity, or the numbers make no sense.
    Quarantine(&'static str),
}

/// Judges `report`, whose messages are sorted by number.
pub(crate) fn judge<D>(
    known: Option<&Session>,
    sequence: u64,
    report: &IntakeReport<D>,
    gap_age: Duration,
) -> Verdict {
    let (mut session, after, reinstalled) = match known {
        None => (first(report), 0, false),
        Some(known) if known.incarnation != report.incarnation => {
            if known.earlier.contains(&report.incarnation) {
                return if report.messages.is_empty() {
                    Verdict::Late
                } else {
                    Verdict::Quarantine("an earlier incarnation reports again")
                };
            }
            let mut session = first(report);
            session.earlier.clone_from(&known.earlier);
            remember(&mut session, known.boot);
            remember(&mut session, known.incarnation);
            (session, 0, true)
        }
        // Of a machine that has restarted nobody lives to read this answer, and what it sent before is sent again by the
        // boot that came after. Who does read it has a copy of its state at work elsewhere: it begins anew, and so the
        // copy, whose numbers may be equal to its own for ever, is the earlier incarnation that reports again.
        Some(known) if known.boot != report.boot && known.earlier.contains(&report.boot) => {
            return Verdict::Late;
        }
        Some(known) => {
            let mut session = known.clone();
            if session.boot != report.boot {
                remember(&mut session, known.boot);
                session.boot = report.boot;
            }
            (session, sequence, false)
        }
    };
    // Who sends only what follows the answer in which a resync was asked has read that answer.
    if let (Some(asked), Some(lowest)) = (session.asked, report.messages.first())
        && lowest.seq > asked
    {
        session.asked = None;
        session.gap_since = None;
    }
    let mut highest = after;
    for message in report.messages.iter().filter(|message| message.seq > after) {
        let step = message.seq.saturating_sub(highest);
        if step > JUMP {
            return Verdict::Quarantine("the sequence jumps");
        }
        if step > 1 && session.gap_since.is_none() {
            session.gap_since = Some(report.received_at);
        }
        highest = message.seq;
    }
    let resync = session.gap_since.is_some_and(|since| {
        let age = report.received_at.duration_since(since);
        age.is_negative() || age.unsigned_abs() >= gap_age
    });
    if resync {
        session.asked = Some(highest);
    }
    if report.policy.is_some() {
        session.policy = report.policy;
    }
    Verdict::Take { session, after, sequence: highest, resync, reinstalled }
}

fn first<D>(report: &IntakeReport<D>) -> Session {
    Session {
        incarnation: report.incarnation,
        boot: report.boot,
        earlier: Vec::new(),
        gap_since: None,
        asked: None,
        policy: report.policy,
        scan: Scan::Unknown,
        scan_error: None,
    }
}

fn remember(session: &mut Session, id: uuid::Uuid) {
    if session.earlier.len() == EARLIER {
        session.earlier.remove(0);
    }
    session.earlier.push(id);
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use patchtide_model::ClientId;
    use uuid::Uuid;

    use super::*;
    use crate::intake::{IntakeBody, IntakeMessage};

    fn report(boot: u128, seqs: &[u64]) -> IntakeReport {
        let at = Timestamp::UNIX_EPOCH;
        IntakeReport {
            client: ClientId(Uuid::nil()),
            incarnation: Uuid::from_u128(1),
            boot: Uuid::from_u128(boot),
            sent_at: at,
            received_at: at,
            policy: None,
            messages: seqs
                .iter()
                .map(|seq| IntakeMessage { seq: *seq, at, body: IntakeBody::Heartbeat })
                .collect(),
        }
    }

    fn take(known: Option<&Session>, sequence: u64, report: &IntakeReport) -> (Session, u64, bool) {
        match judge(known, sequence, report, Duration::ZERO) {
            Verdict::Take { session, sequence, resync, .. } => (session, sequence, resync),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn duplicates_and_lower_numbers_are_harmless() {
        let (session, sequence, resync) = take(None, 0, &report(9, &[1, 2, 3]));
        assert_eq!((sequence, resync), (3, false));
        assert_eq!(take(Some(&session), 3, &report(9, &[2, 3])), (session.clone(), 3, false));
        assert_eq!(take(Some(&session), 3, &report(9, &[0])).1, 3);
    }

    #[test]
    fn a_gap_asks_until_the_client_has_heard() {
        let (session, sequence, resync) = take(None, 0, &report(9, &[1, 4]));
        assert_eq!((sequence, resync), (4, true));
        // The answer was lost: the same comes again, and more.
        let (session, sequence, resync) = take(Some(&session), sequence, &report(9, &[1, 4, 5]));
        assert_eq!((sequence, resync), (5, true));
        let (session, sequence, resync) = take(Some(&session), sequence, &report(9, &[6]));
        assert_eq!((sequence, resync, session.gap_since), (6, false, None));
    }

    #[test]
    fn a_gap_waits_for_its_age() {
        let age = Duration::from_mins(1);
        let Verdict::Take { session, resync: false, .. } = judge(None, 0, &report(9, &[2]), age) else {
            panic!()
        };
        let mut later = report(9, &[3]);
        later.received_at += age;
        assert!(matches!(judge(Some(&session), 2, &later, age), Verdict::Take { resync: true, .. }));
    }

    #[test]
    fn what_cannot_be_one_machine_is_quarantined() {
        let (session, sequence, _) = take(None, 0, &report(9, &[1]));
        for far in [1 + JUMP + 1, u64::MAX] {
            assert!(matches!(
                judge(Some(&session), 1, &report(9, &[far]), Duration::ZERO),
                Verdict::Quarantine(_)
            ));
        }
        assert!(take(Some(&session), sequence, &report(9, &[1 + JUMP])).2);
        let (rebooted, sequence, _) = take(Some(&session), sequence, &report(10, &[1, 2]));
        // What was under way when the machine restarted, however late it comes, is no second machine.
        for late in [&[][..], &[2], &[3]] {
            let late = judge(Some(&rebooted), sequence, &report(9, late), Duration::ZERO);
            assert_eq!(late, Verdict::Late);
        }
        let mut fresh = report(11, &[1]);
        fresh.incarnation = Uuid::from_u128(2);
        let Verdict::Take { session, reinstalled: true, sequence: 1, .. } =
            judge(Some(&rebooted), sequence, &fresh, Duration::ZERO)
        else {
            panic!()
        };
        assert!(matches!(
            judge(Some(&session), 1, &report(10, &[3]), Duration::ZERO),
            Verdict::Quarantine(_)
        ));
        // A restored copy asks before it says anything, and is told to begin anew.
        assert_eq!(judge(Some(&session), 1, &report(12, &[]), Duration::ZERO), Verdict::Late);
        let mut anew = report(12, &[1, 2]);
        anew.incarnation = Uuid::from_u128(3);
        let Verdict::Take { session, reinstalled: true, .. } =
            judge(Some(&session), 1, &anew, Duration::ZERO)
        else {
            panic!()
        };
        // The machine of which it was a copy is still there: both are stopped.
        let mut other = report(11, &[2]);
        other.incarnation = Uuid::from_u128(2);
        assert!(matches!(judge(Some(&session), 2, &other, Duration::ZERO), Verdict::Quarantine(_)));
    }

    /// A client that was restored to an earlier moment asks where the site is, and finds it beyond its own numbers.
    #[test]
    fn who_asks_without_a_message_is_told_the_number() {
        let (session, sequence, _) = take(None, 0, &report(9, &[1, 2, 3]));
        assert_eq!(take(Some(&session), sequence, &report(10, &[])).1, 3);
    }
}
