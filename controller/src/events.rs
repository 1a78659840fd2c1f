//! Kubernetes events: on change only. The recorder folds repeats into a series.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use patchtide_crds::conditions::{Condition, READY, clip};

/// Name under which events are reported.
const CONTROLLER: &str = "patchtide";
/// Longest note that the API server takes, in bytes.
const NOTE_LIMIT: usize = 1024;

/// Publishes events; cheap to clone, one recorder for all so that repeats are seen.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl Events {
    /// Events reported as this instance (a pod's name).
    pub fn new(client: Client, instance: Option<String>) -> Self {
        Self { recorder: Recorder::new(client, Reporter { controller: CONTROLLER.to_owned(), instance }) }
    }

    /// Publishes one event on `object`. A failure is logged and otherwise ignored: events are told, not kept.
    pub async fn publish<K: Resource<DynamicType = ()>>(
        &self,
        object: &K,
        warning: bool,
        reason: &str,
        action: &str,
        note: &str,
    ) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: clip(reason, 128),
            note: Some(clip(note, NOTE_LIMIT)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::debug!(error = &error as &dyn std::error::Error, reason, "event not published");
        }
    }
}

/// The event that a change of `Ready` is worth: whether it is a warning, and the condition.
pub(crate) fn ready_event<'a>(old: &[Condition], new: &'a [Condition]) -> Option<(bool, &'a Condition)> {
    fn ready(all: &[Condition]) -> Option<&Condition> {
        all.iter().find(|condition| condition.type_ == READY)
    }
    let now = ready(new)?;
    // Being at work is no news.
    if now.status == "Unknown" {
        return None;
    }
    let changed = ready(old).is_none_or(|old| old.status != now.status || old.reason != now.reason);
    changed.then_some((now.status == "False", now))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use patchtide_crds::{SiteStatus, conditions};

    use super::*;

    #[test]
    fn only_a_change_of_ready_is_news() {
        let now = Time(Timestamp::UNIX_EPOCH);
        let mut status = SiteStatus::default();
        conditions::progressing(&mut status, 1, &now, "at work");
        assert!(ready_event(&[], &status.conditions).is_none());
        conditions::ready(&mut status, 1, &now, "ReconciliationSucceeded", "3 members");
        let before = status.conditions.clone();
        assert_eq!(ready_event(&[], &before).map(|(warning, _)| warning), Some(false));
        conditions::ready(&mut status, 2, &now, "ReconciliationSucceeded", "4 members");
        assert!(ready_event(&before, &status.conditions).is_none());
        conditions::stalled(&mut status, 3, &now, "InvalidSpec", "no");
        assert_eq!(ready_event(&before, &status.conditions).map(|(warning, _)| warning), Some(true));
    }
}
