//! Annotations, labels and finalizers of the group, and those of other tools that are honoured.

/// Annotation: reconcile now. Any value that differs from `status.lastHandledReconcileAt` asks for it.
pub const REQUESTED_AT: &str = "reconcile.patchtide.dev/requestedAt";
/// Annotation: `disabled` leaves the object alone: it is not reconciled until the annotation goes.
pub const RECONCILE: &str = "patchtide.dev/reconcile";
/// Annotation: `disabled` keeps the object in the cluster when it goes from Git.
pub const PRUNE: &str = "patchtide.dev/prune";
/// Annotation on a GitSource: approves one blocked prune. The value is the revision shown in `status.prune.revision`.
pub const APPROVE_PRUNE: &str = "patchtide.dev/approvePrune";
/// Annotation on a SoftwareUpdatePoint: approves once that lines of a source lose more than half of their updates
/// (CAT-SHRINK). Entries separated by commas; the first word of an entry is the source's name, the rest of it any text that
/// was not used before, for example `debian 2026-11-21`.
pub const APPROVE_SHRINK: &str = "patchtide.dev/approveShrink";
/// Annotation on a SoftwareUpdatePoint: approves once that an archive says it is another one than before
/// (APT-INFO-CHANGED); the value as for [`APPROVE_SHRINK`].
pub const APPROVE_INFO_CHANGE: &str = "patchtide.dev/approveInfoChange";
/// Annotation on a SoftwareUpdatePoint: `full` or `delta` says which synchronisation `requestedAt` asks for; default `delta` (R-SYNC-18).
pub const SYNC: &str = "patchtide.dev/sync";
/// Value of [`PRUNE`] and [`RECONCILE`] that switches off.
pub const DISABLED: &str = "disabled";

/// Label: name of the GitSource that applied the object and may prune it.
pub const OWNER_NAME: &str = "patchtide.dev/source-name";
/// Label: namespace of that GitSource.
pub const OWNER_NAMESPACE: &str = "patchtide.dev/source-namespace";
/// Annotation: file in the repository that the object came from, with its document number (`lists/security.yaml#0`).
pub const ORIGIN_FILE: &str = "patchtide.dev/origin-file";
/// Annotation on an UpdateDeployment from Git: the commit that introduced it.
pub const INTRODUCED_BY: &str = "patchtide.dev/introduced-by";
/// Annotation on an UpdateDeployment from Git: when it was introduced, RFC 3339 in UTC. Relative times count from it.
pub const INTRODUCED_AT: &str = "patchtide.dev/introduced-at";
/// Label on a Secret or ConfigMap: its change reconciles those who refer to it at once.
pub const WATCH: &str = "reconcile.patchtide.dev/watch";

/// Finalizer of every kind that has something to undo.
pub const FINALIZER: &str = "patchtide.dev/finalizer";

/// Field manager that applies specs from Git; `:<source>` is appended.
pub const MANAGER_GIT: &str = "patchtide-git";
/// Field manager that writes status.
pub const MANAGER_STATUS: &str = "patchtide-status";

/// Flux's request annotation: honoured like [`REQUESTED_AT`].
pub const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Label that says an object belongs to a Flux Kustomization: never taken over.
pub const FLUX_OWNER: &str = "kustomize.toolkit.fluxcd.io/name";
/// Annotation that says an object belongs to an Argo CD application: never taken over.
pub const ARGO_OWNER: &str = "argocd.argoproj.io/tracking-id";

use std::collections::BTreeMap;

/// The pending reconcile request on an object, ours before Flux's.
pub fn requested_at(annotations: Option<&BTreeMap<String, String>>) -> Option<&str> {
    let annotations = annotations?;
    annotations.get(REQUESTED_AT).or_else(|| annotations.get(FLUX_REQUESTED_AT)).map(String::as_str)
}

/// Whether the object opted out of pruning.
pub fn prune_disabled(annotations: Option<&BTreeMap<String, String>>) -> bool {
    annotations.and_then(|all| all.get(PRUNE)).is_some_and(|value| value == DISABLED)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_request_comes_before_flux() {
        let both = BTreeMap::from([
            (REQUESTED_AT.to_owned(), "1".to_owned()),
            (FLUX_REQUESTED_AT.to_owned(), "2".to_owned()),
            (PRUNE.to_owned(), "disabled".to_owned()),
        ]);
        assert_eq!(requested_at(Some(&both)), Some("1"));
        assert!(prune_disabled(Some(&both)));
        assert_eq!(requested_at(None), None);
    }
}
