//! State messages' closed sets with Configuration Manager's topic and state numbers (domain.md section 1): the states,
//! which may follow which, which must move by when, and the errors next to failed ones.

mod edges;
mod errors;
mod lease;
#[cfg(test)]
mod page;
mod transitions;

use serde::{Deserialize, Serialize};

pub use errors::{Failure, StateError};
pub use lease::{
    HEARTBEAT, LONGEST_END, LeaseKind, LeaseRule, Leased, Overdue, SCAN_PATIENCE, Told, overdue,
};
pub use transitions::{ClosedSet, Rule, may_follow, way, why_follows};

macro_rules! states {
    ($(#[$doc:meta])* $name:ident, topic $topic:literal, rules $rules:expr, ends $($end:ident)|+ { $($(#[$vdoc:meta])* $variant:ident = $id:literal, $text:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "u8", into = "u8")]
        #[repr(u8)]
        pub enum $name {
            $($(#[$vdoc])* #[doc = $text] $variant = $id,)+
        }

        impl $name {
            /// Published topic type.
            pub const TOPIC: u16 = $topic;
            /// Every state in order of its number.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Published state number.
            pub const fn id(self) -> u8 {
                self as u8
            }

            /// Published name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)+
                }
            }

            /// The state with this number.
            pub const fn from_id(id: u8) -> Option<Self> {
                match id {
                    $($id => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// Whether it has ended until something new happens. Every other state but *unknown* carries a lease.
            pub const fn is_final(self) -> bool {
                matches!(self, $(Self::$end)|+)
            }
        }

        impl ClosedSet for $name {
            const TOPIC: u16 = $topic;
            const ALL: &'static [Self] = Self::ALL;
            const UNKNOWN: Self = Self::Unknown;
            const RULES: &'static [Rule<Self>] = $rules;

            fn id(self) -> u8 {
                Self::id(self)
            }

            fn name(self) -> &'static str {
                Self::name(self)
            }

            fn is_final(self) -> bool {
                Self::is_final(self)
            }
        }

        impl From<$name> for u8 {
            fn from(state: $name) -> u8 {
                state.id()
            }
        }

        impl TryFrom<u8> for $name {
            type Error = UnknownState;

            fn try_from(id: u8) -> Result<Self, UnknownState> {
                Self::from_id(id).ok_or(UnknownState { topic: $topic, id })
            }
        }
    };
}

/// A state number outside its topic's closed set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("topic {topic} has no state {id}")]
pub struct UnknownState {
    /// Topic type.
    pub topic: u16,
    /// The number.
    pub id: u8,
}

states!(
    /// Update detection, topic 500: what users call compliance of an update.
    Detection, topic 500, rules edges::DETECTION, ends NotRequired | Required | Installed {
        Unknown = 0, "Detection state unknown";
        NotRequired = 1, "Update is not required";
        Required = 2, "Update is required";
        Installed = 3, "Update is installed";
    }
);

states!(
    /// Update enforcement, topic 402: the 15 states of R-ENFU.
    UpdateEnforcement, topic 402, rules edges::UPDATE, ends Installed | InstallFailed | DownloadFailed | GeneralFailure {
        Unknown = 0, "Enforcement state unknown";
        Started = 1, "Enforcement started";
        WaitingForContent = 2, "Enforcement waiting for content";
        WaitingForAnother = 3, "Waiting for another installation to complete";
        WaitingForWindow = 4, "Waiting for maintenance window before installing";
        RestartRequiredBefore = 5, "Restart required before installing";
        GeneralFailure = 6, "General failure";
        PendingInstallation = 7, "Pending installation";
        Installing = 8, "Installing update";
        PendingRestart = 9, "Pending system restart";
        Installed = 10, "Successfully installed update";
        InstallFailed = 11, "Failed to install update";
        Downloading = 12, "Downloading update";
        Downloaded = 13, "Downloaded update";
        DownloadFailed = 14, "Failed to download update";
    }
);

states!(
    /// Deployment enforcement, topic 301: the 11 states of R-ENFD.
    DeploymentEnforcement, topic 301, rules edges::DEPLOYMENT, ends Installed | InstallFailed | DownloadFailed {
        Unknown = 0, "Enforcement state unknown";
        Installing = 1, "Installing update(s)";
        WaitingForRestart = 2, "Waiting for restart";
        WaitingForAnother = 3, "Waiting for another installation to complete";
        Installed = 4, "Successfully installed update(s)";
        PendingRestart = 5, "Pending system restart";
        InstallFailed = 6, "Failed to install update(s)";
        Downloading = 7, "Downloading update(s)";
        Downloaded = 8, "Downloaded update(s)";
        DownloadFailed = 9, "Failed to download update(s)";
        WaitingForWindow = 10, "Waiting for maintenance window before installing";
    }
);

states!(
    /// Deployment evaluation, topic 302.
    Evaluation, topic 302, rules edges::EVALUATION, ends Succeeded | Failed {
        Unknown = 0, "Evaluation state unknown";
        Activated = 1, "Evaluation activated";
        Succeeded = 2, "Evaluation succeeded";
        Failed = 3, "Evaluation failed";
    }
);

states!(
    /// Deployment compliance, topic 300.
    Compliance, topic 300, rules edges::COMPLIANCE, ends Compliant | NonCompliant | Conflict {
        Unknown = 0, "Compliance state unknown";
        Compliant = 1, "Compliant";
        NonCompliant = 2, "Non-compliant";
        Conflict = 3, "Conflict detected";
    }
);

states!(
    /// Scan of an update source, topic 501.
    Scan, topic 501, rules edges::SCAN, ends Completed | Failed | CompletedWithErrors {
        Unknown = 0, "Scan state unknown";
        WaitingForCatalogue = 1, "Scan is waiting for catalog location";
        Running = 2, "Scan is running";
        Completed = 3, "Scan completed";
        PendingRetry = 4, "Scan is pending retry";
        Failed = 5, "Scan failed";
        CompletedWithErrors = 6, "Scan completed with errors";
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sets_are_complete() {
        assert_eq!(UpdateEnforcement::ALL.len(), 15);
        assert_eq!(DeploymentEnforcement::ALL.len(), 11);
        for (index, state) in UpdateEnforcement::ALL.iter().enumerate() {
            assert_eq!(usize::from(state.id()), index);
            assert_eq!(UpdateEnforcement::from_id(state.id()), Some(*state));
        }
        assert!(Detection::try_from(4).is_err());
        assert_eq!(serde_json::to_string(&Detection::Required).unwrap(), "2");
    }
}
