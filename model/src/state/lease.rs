//! Leases: a state that is not final must move by some time. What the client does about it as data, and what the site can
//! say about a state that it was told long ago.

use jiff::{SignedDuration, Timestamp};

use super::{ClosedSet, Compliance, DeploymentEnforcement, Detection, Evaluation, Scan, UpdateEnforcement};
use crate::object::ClientSettings;

/// By when a state must move, and what happens then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseRule {
    /// Whether it may be renewed.
    pub kind: LeaseKind,
    /// By when, in words.
    pub by: &'static str,
    /// What happens then, in words.
    pub then: &'static str,
}

/// Whether a lease may be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeaseKind {
    /// Something is going on that ends: the state ends with it, or as a failure.
    Ends,
    /// It waits: looked at again at the end of the lease, and renewed, with the reason told, while the cause lasts.
    Waits,
}

const fn ends(by: &'static str, then: &'static str) -> LeaseRule {
    LeaseRule { kind: LeaseKind::Ends, by, then }
}

const fn waits(by: &'static str, then: &'static str) -> LeaseRule {
    LeaseRule { kind: LeaseKind::Waits, by, then }
}

/// A set whose states that are not final have leases.
pub trait Leased: ClosedSet {
    /// The lease of this state; none: it is final, or claims nothing.
    fn lease_rule(self) -> Option<LeaseRule>;
}

impl Leased for UpdateEnforcement {
    fn lease_rule(self) -> Option<LeaseRule> {
        Some(match self {
            Self::Started => ends(
                "twice the time that the transaction is expected to take, at least an hour",
                "failed with RUN-TIME; withdrawn earlier when a policy comes or a lock is held",
            ),
            Self::WaitingForContent => waits(
                "the next question to a distribution point; where only a policy can help, the re-evaluation",
                "asked again",
            ),
            Self::WaitingForAnother => waits(
                "30 s for a lock, the pause after a failed recovery, the longest run of the batch that runs",
                "tried again; a dpkg that cannot be recovered is a general failure, PRE-DPKG",
            ),
            Self::WaitingForWindow => waits(
                "the opening of the window that it fits; where none ever does, the re-evaluation",
                "installed; or told again that none fits, WINDOW-NEVER-FITS",
            ),
            Self::RestartRequiredBefore => {
                waits("the announced restart", "the machine restarts, then it goes on")
            }
            Self::PendingInstallation => waits(
                "the end of what goes before it: a batch, a scan's retry, two minutes' grace for content",
                "started",
            ),
            Self::Installing => ends(
                "twice the time that the transaction is expected to take, at least an hour",
                "failed with RUN-TIME; dpkg goes on, and its end is told",
            ),
            Self::PendingRestart => waits(
                "the announced restart, the window for it, or the deadline; where a person has to, the re-evaluation",
                "the machine restarts; or told again that a person has to",
            ),
            Self::Downloading => waits(
                "the time that the missing bytes take at 1 KiB/s, at least an hour; until a retry, its time",
                "looked at again; a source that is slower is given up within 30 s, the next one goes on",
            ),
            Self::Downloaded => {
                waits("its deadline; where a person has to ask, the re-evaluation", "installed")
            }
            Self::Unknown
            | Self::GeneralFailure
            | Self::Installed
            | Self::InstallFailed
            | Self::DownloadFailed => return None,
        })
    }
}

impl Leased for DeploymentEnforcement {
    fn lease_rule(self) -> Option<LeaseRule> {
        match self {
            Self::Installing => UpdateEnforcement::Installing.lease_rule(),
            Self::WaitingForRestart => UpdateEnforcement::RestartRequiredBefore.lease_rule(),
            Self::WaitingForAnother => UpdateEnforcement::WaitingForAnother.lease_rule(),
            Self::PendingRestart => UpdateEnforcement::PendingRestart.lease_rule(),
            Self::Downloading => UpdateEnforcement::Downloading.lease_rule(),
            Self::Downloaded => UpdateEnforcement::Downloaded.lease_rule(),
            Self::WaitingForWindow => UpdateEnforcement::WaitingForWindow.lease_rule(),
            Self::Unknown | Self::Installed | Self::InstallFailed | Self::DownloadFailed => None,
        }
    }
}

impl Leased for Evaluation {
    fn lease_rule(self) -> Option<LeaseRule> {
        (self == Self::Activated).then_some(waits(
            "the end of the scan, at most an hour; its retry after a failure",
            "succeeded or failed",
        ))
    }
}

impl Leased for Scan {
    fn lease_rule(self) -> Option<LeaseRule> {
        match self {
            Self::Running => Some(ends("an hour after it began", "given up: SCAN-TIMEOUT, tried again")),
            Self::WaitingForCatalogue | Self::PendingRetry => {
                Some(ends("the retry: 1 min, doubling to 30 min", "running again"))
            }
            Self::Unknown | Self::Completed | Self::Failed | Self::CompletedWithErrors => None,
        }
    }
}

impl Leased for Compliance {
    fn lease_rule(self) -> Option<LeaseRule> {
        None
    }
}

impl Leased for Detection {
    fn lease_rule(self) -> Option<LeaseRule> {
        None
    }
}

/// Longest silence of a client that is there: it says so once a day when it has nothing to report.
pub const HEARTBEAT: SignedDuration = SignedDuration::from_hours(24);
/// Longest that a scan may run.
pub const SCAN_PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// How old a state that ends by itself is before the site doubts it: a transaction may be long, and the site does not know
/// how long this one may be.
pub const LONGEST_END: SignedDuration = SignedDuration::from_hours(48);

/// Why a state that is not final is older than its lease allows, as far as the site can know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overdue {
    /// The client was last heard of then: it is off or cut off, and what it said may be long past.
    Silent {
        /// Last contact; none: never.
        since: Option<Timestamp>,
    },
    /// The client is there and should have said something else by then: a message was lost or is on its way, or it hangs.
    Late {
        /// The instant.
        by: Timestamp,
    },
}

/// What the site knows of a state that a client reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told<S> {
    /// The state.
    pub state: S,
    /// Since when, by the site's reckoning.
    pub since: Timestamp,
    /// Until when it waits, as the client said.
    pub until: Option<Timestamp>,
    /// Last contact with the client, of any kind.
    pub heard: Option<Timestamp>,
}

/// Whether a state is older than any lease allows; none: it is final, claims nothing, or stands.
pub fn overdue<S: Leased>(told: &Told<S>, settings: &ClientSettings, now: Timestamp) -> Option<Overdue> {
    let rule = told.state.lease_rule()?;
    let past = |from: Timestamp, span: SignedDuration| from.checked_add(span).ok().filter(|end| *end < now);
    // What was sent may wait one cycle at the client, and be lost once.
    let grace = settings.state_message_cycle.saturating_mul(2);
    // Nothing can have been heard before the state was.
    let heard = told.heard.map_or(told.since, |heard| heard.max(told.since));
    let silence = HEARTBEAT.max(settings.policy_polling.saturating_mul(2)).saturating_add(grace);
    if past(heard, silence).is_some() {
        return Some(Overdue::Silent { since: told.heard });
    }
    let by = match (told.until, rule.kind) {
        (Some(until), _) => until,
        (None, LeaseKind::Ends) => told.since.checked_add(LONGEST_END).ok()?,
        // Renewed as long as its cause lasts: a client that is heard of says what is true.
        (None, LeaseKind::Waits) => return None,
    };
    past(by, grace).map(|_| Overdue::Late { by })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all<S: Leased>() {
        for state in S::ALL {
            assert_eq!(state.lease_rule().is_some(), state.needs_lease(), "{state:?}");
        }
    }

    /// No state that never ends.
    #[test]
    fn every_state_that_is_not_final_has_a_lease() {
        all::<UpdateEnforcement>();
        all::<DeploymentEnforcement>();
        all::<Evaluation>();
        all::<Scan>();
        all::<Compliance>();
        all::<Detection>();
    }

    use DeploymentEnforcement as D;

    /// R-ENFD-14: who does not move is found; who only sleeps is told apart from who hangs.
    #[test]
    fn a_state_that_is_older_than_its_lease_is_told() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let settings = ClientSettings::default();
        let now = at("2026-11-21T12:00:00Z");
        let told = |state, since: &str, until: Option<&str>, heard: &str| Told {
            state,
            since: at(since),
            until: until.map(at),
            heard: Some(at(heard)),
        };
        let fresh = "2026-11-21T11:59:00Z";
        let long_ago = "2026-10-01T00:00:00Z";
        let window = |until| told(D::WaitingForWindow, long_ago, Some(until), fresh);
        assert_eq!(overdue(&window("2026-12-01T00:00:00Z"), &settings, now), None);
        assert_eq!(overdue(&window("2026-11-21T11:31:00Z"), &settings, now), None, "on its way");
        let late = Some(Overdue::Late { by: at("2026-11-21T11:29:00Z") });
        assert_eq!(overdue(&window("2026-11-21T11:29:00Z"), &settings, now), late);
        let optional = told(D::Downloaded, long_ago, None, fresh);
        assert_eq!(overdue(&optional, &settings, now), None, "waits for a person for months");
        let installing = told(D::Installing, "2026-11-19T11:00:00Z", None, fresh);
        assert_eq!(
            overdue(&installing, &settings, now),
            Some(Overdue::Late { by: at("2026-11-21T11:00:00Z") })
        );
        let off = told(D::WaitingForWindow, long_ago, Some("2026-12-01T00:00:00Z"), "2026-11-20T11:00:00Z");
        let silent = Some(Overdue::Silent { since: Some(at("2026-11-20T11:00:00Z")) });
        assert_eq!(overdue(&off, &settings, now), silent, "24 h and two cycles");
        let done = told(D::Installed, long_ago, None, long_ago);
        assert_eq!(overdue(&done, &settings, now), None, "final states do not age");
        let never = Told { heard: None, ..told(D::Installing, long_ago, None, long_ago) };
        assert_eq!(overdue(&never, &settings, now), Some(Overdue::Silent { since: None }));
    }
}
