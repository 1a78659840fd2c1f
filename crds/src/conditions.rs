//! The status contract: condition types, reasons, how they are set, and the rules that every status must keep.
//!
//! It is the contract that Flux and kstatus understand. `Ready=True` means: this generation is accepted, resolved and
//! in force. It never means: the fleet is patched.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Always present: this generation is accepted, resolved and in force.
pub const READY: &str = "Ready";
/// Present only while true: working on a new generation, revision or retry.
pub const RECONCILING: &str = "Reconciling";
/// Present only while true: no progress without a change by a person.
pub const STALLED: &str = "Stalled";
/// False names the fields that are accepted but whose behaviour is not built.
pub const SUPPORTED: &str = "Supported";
/// Whether all references were found.
pub const RESOLVED: &str = "Resolved";
/// Whether the Git revision carries a signature that the source demands.
pub const VERIFIED: &str = "Verified";
/// Present only while true: the repository cannot be read.
pub const FETCH_FAILED: &str = "FetchFailed";
/// A prune waits for a person.
pub const PRUNE_BLOCKED: &str = "PruneBlocked";
/// The object belongs to another GitOps tool and is left alone.
pub const OWNED_BY_OTHER: &str = "OwnedByOther";
/// Clients are still on their way to compliance.
pub const ROLLOUT_PROGRESSING: &str = "RolloutProgressing";
/// Every targeted client is compliant.
pub const ROLLED_OUT: &str = "RolledOut";
/// Suspended by `spec.suspend`.
pub const SUSPENDED: &str = "Suspended";
/// Clients failed: see the ranked errors.
pub const DEGRADED: &str = "Degraded";
/// The pinned content of a reference differs from what the referenced object says now.
pub const REFERENCE_DIFFERS: &str = "ReferenceDiffers";
/// Updates left the deployment and stay installed where they were: updates are not uninstalled.
pub const LEFT_INSTALLED: &str = "LeftInstalled";
/// Members of the list are left out because two sources disagree about their files.
pub const CATALOGUE_CONFLICT: &str = "CatalogueConflict";
/// Updates of the deployment are in no deployment package.
pub const CONTENT_MISSING: &str = "ContentMissing";
/// No maintenance window opens before the deadline.
pub const DEADLINE_UNREACHABLE: &str = "DeadlineUnreachable";
/// Present only while true: clients are in a state that should have moved by now.
pub const STATES_OVERDUE: &str = "StatesOverdue";
/// Present only while true: machines seem to share the identity of a client, which gets nothing until a person decides.
pub const CLIENTS_QUARANTINED: &str = "ClientsQuarantined";
/// Whether the monitoring system takes silences and alerts; a deployment has it only while it is false.
pub const ALERTS_DELIVERED: &str = "AlertsDelivered";
/// The window has days on which it does not open, or never opens.
pub const NO_OCCURRENCE: &str = "NoOccurrence";
/// A role or part is working.
pub const HEALTHY: &str = "Healthy";
/// False while content that was damaged on disk is not replaced; True with reason `ContentRepaired` for 30 days after.
pub const INTACT: &str = "Intact";

/// Reasons in CamelCase; where Flux has one, it is the same.
pub mod reason {
    /// All is well.
    pub const SUCCEEDED: &str = "Succeeded";
    /// A reconcile of this generation ended well.
    pub const RECONCILIATION_SUCCEEDED: &str = "ReconciliationSucceeded";
    /// It did not.
    pub const RECONCILIATION_FAILED: &str = "ReconciliationFailed";
    /// At work.
    pub const PROGRESSING: &str = "Progressing";
    /// At work again after a failure.
    pub const PROGRESSING_WITH_RETRY: &str = "ProgressingWithRetry";
    /// `spec.suspend` is set.
    pub const SUSPENDED: &str = "Suspended";
    /// A referenced object exists but is not ready.
    pub const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";
    /// A referenced object does not exist.
    pub const REFERENCE_NOT_FOUND: &str = "RefNotFound";
    /// References lead back to the object.
    pub const REFERENCE_CYCLE: &str = "RefCycle";
    /// The spec contradicts itself.
    pub const INVALID_SPEC: &str = "InvalidSpec";
    /// A field is accepted whose behaviour is not built.
    pub const NOT_BUILT: &str = "NotBuilt";
    /// A deployment asks for silences or alerts, and the Site names no Alertmanager.
    pub const ALERTS_NOT_CONFIGURED: &str = "AlertsNotConfigured";
    /// An Alertmanager did not take what it was told.
    pub const ALERTMANAGER_FAILED: &str = "AlertmanagerFailed";
    /// Such a field would restrict, so nothing goes out that ignores it.
    pub const RESTRICTION_NOT_BUILT: &str = "RestrictionNotBuilt";
    /// More than one Site in the namespace.
    pub const MORE_THAN_ONE_SITE: &str = "MoreThanOneSite";
    /// Another software update point is the active one.
    pub const MORE_THAN_ONE_ACTIVE_POINT: &str = "MoreThanOneActivePoint";
    /// The path does not exist in the revision.
    pub const INVALID_PATH: &str = "InvalidPath";
    /// The URL cannot be used.
    pub const URL_INVALID: &str = "URLInvalid";
    /// Credentials were refused.
    pub const AUTHENTICATION_FAILED: &str = "AuthenticationFailed";
    /// Fetching failed.
    pub const GIT_OPERATION_FAILED: &str = "GitOperationFailed";
    /// A signature is missing or wrong.
    pub const VERIFICATION_ERROR: &str = "VerificationError";
    /// Some files or objects of the revision are broken; the rest is in force.
    pub const PARTIALLY_APPLIED: &str = "PartiallyApplied";
    /// Deleting failed.
    pub const PRUNE_FAILED: &str = "PruneFailed";
    /// More objects would go than `maxDeletions` allows.
    pub const TOO_MANY_DELETIONS: &str = "TooManyDeletions";
    /// The impersonated account may not do it.
    pub const ACCESS_DENIED: &str = "AccessDenied";
    /// A synchronisation failed; it is retried.
    pub const SYNC_FAILED: &str = "SyncFailed";
    /// Waits for the first synchronisation.
    pub const WAITING_FOR_CATALOGUE: &str = "WaitingForCatalogue";
    /// Content is being fetched or distributed.
    pub const DISTRIBUTING: &str = "Distributing";
    /// Content could not be fetched.
    pub const CONTENT_FAILED: &str = "ContentFailed";
    /// Everything targeted is compliant.
    pub const ALL_COMPLIANT: &str = "AllCompliant";
    /// Updates were taken out of the deployment.
    pub const UPDATES_LEFT: &str = "UpdatesLeft";
    /// All compliant, but updates of the deployment are in no package.
    pub const SUCCESS_WITH_ERRORS: &str = "SuccessWithErrors";
    /// No update is in force.
    pub const NO_UPDATES: &str = "NoUpdates";
    /// No client is targeted.
    pub const NO_CLIENTS: &str = "NoClients";
}

/// Longest message that the schema of a condition takes, in bytes.
pub const MESSAGE_LIMIT: usize = 32_768;

/// What all statuses have in common.
pub trait StatusContract: Default {
    /// Last generation that ended ready or stalled; -1 before the first.
    fn observed_generation(&self) -> i64;
    /// Sets it.
    fn set_observed_generation(&mut self, generation: i64);
    /// The conditions.
    fn conditions(&self) -> &[Condition];
    /// The conditions, to change.
    fn conditions_mut(&mut self) -> &mut Vec<Condition>;
    /// The last `requestedAt` that was carried out.
    fn last_handled_reconcile_at(&self) -> Option<&str>;
    /// Sets it.
    fn set_last_handled_reconcile_at(&mut self, value: Option<String>);

    /// The condition of this type.
    fn condition(&self, kind: &str) -> Option<&Condition> {
        self.conditions().iter().find(|condition| condition.type_ == kind)
    }

    /// Whether the condition of this type is there and true.
    fn is_true(&self, kind: &str) -> bool {
        self.condition(kind).is_some_and(|condition| condition.status == "True")
    }
}

macro_rules! status_contract {
    ($($status:ty),+ $(,)?) => {
        $(impl $crate::conditions::StatusContract for $status {
            fn observed_generation(&self) -> i64 {
                self.observed_generation.unwrap_or(-1)
            }
            fn set_observed_generation(&mut self, generation: i64) {
                self.observed_generation = Some(generation);
            }
            fn conditions(&self) -> &[$crate::conditions::Condition] {
                &self.conditions
            }
            fn conditions_mut(&mut self) -> &mut Vec<$crate::conditions::Condition> {
                &mut self.conditions
            }
            fn last_handled_reconcile_at(&self) -> Option<&str> {
                self.last_handled_reconcile_at.as_deref()
            }
            fn set_last_handled_reconcile_at(&mut self, value: Option<String>) {
                self.last_handled_reconcile_at = value;
            }
        })+
    };
}
pub(crate) use status_contract;

/// Cuts a text to at most `limit` bytes at a character's border, with an ellipsis when something went.
pub fn clip(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let room = limit.saturating_sub('…'.len_utf8());
    let end = (0..=room).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// Puts `condition` into the list. The transition time stays when the status stays; the message is clipped to what the
/// schema takes. Returns whether anything changed, so that an unchanged status needs no write.
pub fn set_condition(conditions: &mut Vec<Condition>, mut condition: Condition) -> bool {
    condition.message = clip(&condition.message, MESSAGE_LIMIT);
    let Some(old) = conditions.iter_mut().find(|old| old.type_ == condition.type_) else {
        conditions.push(condition);
        return true;
    };
    if old.status == condition.status {
        condition.last_transition_time = old.last_transition_time.clone();
    }
    let changed = *old != condition;
    *old = condition;
    changed
}

/// Takes the condition of this type out. Returns whether it was there.
pub fn remove_condition(conditions: &mut Vec<Condition>, kind: &str) -> bool {
    let before = conditions.len();
    conditions.retain(|condition| condition.type_ != kind);
    conditions.len() != before
}

/// Sets what every settled reconcile leaves behind: ready, nothing in work, nothing stalled.
pub fn ready<S: StatusContract>(status: &mut S, generation: i64, now: &Time, reason: &str, message: &str) {
    status.set_observed_generation(generation);
    remove_condition(status.conditions_mut(), RECONCILING);
    remove_condition(status.conditions_mut(), STALLED);
    put(status, READY, "True", generation, now, reason, message);
}

/// Sets a failure that heals by itself (a retry or a missing object that may still come).
pub fn retrying<S: StatusContract>(status: &mut S, generation: i64, now: &Time, reason: &str, message: &str) {
    remove_condition(status.conditions_mut(), STALLED);
    put(status, RECONCILING, "True", generation, now, reason::PROGRESSING_WITH_RETRY, message);
    put(status, READY, "False", generation, now, reason, message);
}

/// Sets the middle of a run.
pub fn progressing<S: StatusContract>(status: &mut S, generation: i64, now: &Time, message: &str) {
    remove_condition(status.conditions_mut(), STALLED);
    put(status, RECONCILING, "True", generation, now, reason::PROGRESSING, message);
    put(status, READY, "Unknown", generation, now, reason::PROGRESSING, message);
}

/// Sets a failure that only a person can end.
pub fn stalled<S: StatusContract>(status: &mut S, generation: i64, now: &Time, reason: &str, message: &str) {
    status.set_observed_generation(generation);
    remove_condition(status.conditions_mut(), RECONCILING);
    put(status, STALLED, "True", generation, now, reason, message);
    put(status, READY, "False", generation, now, reason, message);
}

/// Sets one condition of a status.
pub fn put<S: StatusContract>(
    status: &mut S,
    kind: &str,
    value: &str,
    generation: i64,
    now: &Time,
    reason: &str,
    message: &str,
) -> bool {
    set_condition(
        status.conditions_mut(),
        Condition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: now.clone(),
            reason: reason.to_owned(),
            message: message.to_owned(),
        },
    )
}

/// Rules of the contract that a status breaks, each as a sentence. Empty means that kstatus, Flux and Argo read it right.
/// `settled` says that the reconcile has ended: then Unknown is not an answer.
pub fn violations<S: StatusContract>(status: &S, generation: i64, settled: bool) -> Vec<String> {
    let mut broken = Vec::new();
    let observed = status.observed_generation();
    let is_ready = status.is_true(READY);
    let state = |kind: &str| status.condition(kind).map(|condition| condition.status.as_str());
    let mut rule = |holds: bool, text: &str| {
        if !holds {
            broken.push(text.to_owned());
        }
    };
    rule(state(READY).is_some(), "Ready is missing");
    rule(observed <= generation, "observedGeneration is ahead of the object's generation");
    rule(!(is_ready && state(RECONCILING).is_some()), "Ready is True while Reconciling is present");
    rule(
        state(STALLED).is_none() || state(READY) == Some("False"),
        "Stalled is present and Ready is not False",
    );
    rule(
        !(state(STALLED).is_some() && state(RECONCILING).is_some()),
        "Reconciling and Stalled are both present",
    );
    rule(state(RECONCILING).is_none_or(|value| value == "True"), "Reconciling is present and not True");
    rule(state(STALLED).is_none_or(|value| value == "True"), "Stalled is present and not True");
    rule(!is_ready || observed == generation, "Ready is True for an older generation");
    rule(state(STALLED).is_none() || observed == generation, "Stalled without moving observedGeneration");
    rule(
        state(READY) != Some("Unknown") || (!settled && state(RECONCILING).is_some()),
        "Ready is Unknown outside of a run",
    );
    let mut seen = std::collections::BTreeSet::new();
    for condition in status.conditions() {
        if !seen.insert(&condition.type_) {
            broken.push(format!("{} is there twice", condition.type_));
        }
        match condition.observed_generation {
            None => broken.push(format!("{} has no observedGeneration", condition.type_)),
            Some(of) if is_ready && of != observed => {
                broken.push(format!("{} is of generation {of}, status of {observed}", condition.type_));
            }
            Some(of) if of > generation => broken.push(format!("{} is ahead of the object", condition.type_)),
            Some(_) => {}
        }
        if condition.reason.is_empty() || !condition.reason.starts_with(|c: char| c.is_ascii_uppercase()) {
            broken.push(format!("{} has no CamelCase reason", condition.type_));
        }
    }
    broken
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;

    use super::*;
    use crate::SiteStatus;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_four_ways_to_end_keep_the_contract() {
        let mut status = SiteStatus::default();
        assert_eq!(status.observed_generation(), -1);
        progressing(&mut status, 1, &at(1), "at work");
        assert_eq!(violations(&status, 1, false), Vec::<String>::new());
        assert!(!violations(&status, 1, true).is_empty());
        retrying(&mut status, 1, &at(2), reason::REFERENCE_NOT_FOUND, "no collection all");
        assert_eq!(violations(&status, 1, true), Vec::<String>::new());
        ready(&mut status, 1, &at(3), reason::SUCCEEDED, "in force");
        assert_eq!(violations(&status, 1, true), Vec::<String>::new());
        assert_eq!(violations(&status, 2, true), ["Ready is True for an older generation"]);
        stalled(&mut status, 2, &at(4), reason::INVALID_SPEC, "contradiction");
        assert_eq!(violations(&status, 2, true), Vec::<String>::new());
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut status = SiteStatus::default();
        assert!(put(&mut status, READY, "True", 1, &at(1), "Succeeded", "a"));
        assert!(!put(&mut status, READY, "True", 1, &at(2), "Succeeded", "a"));
        assert!(put(&mut status, READY, "True", 2, &at(3), "Succeeded", "b"));
        assert_eq!(status.conditions[0].last_transition_time, at(1));
        assert!(put(&mut status, READY, "False", 2, &at(4), "Failed", "c"));
        assert_eq!(status.conditions[0].last_transition_time, at(4));
    }

    #[test]
    fn what_kstatus_would_misread_is_found() {
        let mut status = SiteStatus::default();
        ready(&mut status, 1, &at(1), reason::SUCCEEDED, "in force");
        put(&mut status, RECONCILING, "True", 1, &at(1), reason::PROGRESSING, "again");
        put(&mut status, STALLED, "True", 1, &at(1), reason::FAILED_FOR_TEST, "stuck");
        let broken = violations(&status, 1, true).join("; ");
        assert!(broken.contains("Ready is True while Reconciling"), "{broken}");
        assert!(broken.contains("both present"), "{broken}");
    }

    #[test]
    fn clipping_keeps_characters_whole() {
        assert_eq!(clip("abc", 3), "abc");
        assert_eq!(clip("ääää", 6), "ä…");
        assert!(clip(&"x".repeat(40_000), MESSAGE_LIMIT).len() <= MESSAGE_LIMIT);
    }

    mod reason {
        pub(super) use super::super::reason::*;
        pub(super) const FAILED_FOR_TEST: &str = "Failed";
    }
}
