//! Under whose rights a source applies: what is refused says who lacks which verb, and how it is given.

use serde_json::Value;

use super::{Bed, collection, failures, support::condition};

const WINDOW: &str = "apiVersion: patchtide.dev/v1alpha1\nkind: MaintenanceWindow\nmetadata:\n  name: night\nspec:\n  collection: f\n  start: '02:00'\n  duration: 2h\n  timeZone: UTC\n  recurrence: {daily: {}}\n";

/// What a refusal must say beside the server's own words.
fn denied(told: &[String], object: &str, parts: &[&str]) {
    let refusal = told.iter().find(|told| told.contains(&format!("ACCESS-DENIED {object}")));
    let refusal = refusal.unwrap_or_else(|| panic!("{object} was not refused: {told:?}"));
    for part in parts {
        assert!(refusal.contains(part), "{part} is missing: {refusal}");
    }
}

pub async fn an_account_without_rights_applies_nothing(bed: &Bed) {
    bed.ground.plane.apply(IMPERSONATION).unwrap();
    bed.source("  path: fleet\n  serviceAccountName: tenant\n");
    bed.repository.commit("as the tenant", &[("fleet/f.yaml", &collection("f", "seven"))]).unwrap();
    let source = bed.reconcile().await;
    let told = failures(&source);
    assert_eq!(told.len(), 1, "{told:?}");
    denied(
        &told,
        "Collection/f",
        &[
            "system:serviceaccount:patchtide:tenant",
            "collections",
            "give service account tenant",
            "RoleBinding",
        ],
    );
    assert!(!bed.names("collections").contains(&"f".to_owned()));
}

/// The tenant may write collections, but neither delete them nor do anything with windows.
pub async fn an_account_with_rights_applies_what_it_may_and_nothing_else(bed: &Bed) {
    bed.ground.plane.apply(&role("[get, create, patch]")).unwrap();
    bed.repository.commit("a window too", &[("fleet/w.yaml", WINDOW)]).unwrap();
    let source = bed.reconcile().await;
    let told = failures(&source);
    assert_eq!(told.len(), 1, "{told:?}");
    let account = "system:serviceaccount:patchtide:tenant";
    denied(
        &told,
        "MaintenanceWindow/night",
        &["fleet/w.yaml:1", account, "cannot patch resource", "maintenancewindows", "RoleBinding"],
    );
    assert_eq!(bed.names("maintenancewindows"), Vec::<String>::new());
    let written = bed.ground.kubectl(&["get", "collection", "f", "-o", "json", "--show-managed-fields"]);
    let written: Value = serde_json::from_str(&written).unwrap();
    let fields = written["metadata"]["managedFields"].as_array().unwrap();
    let owner = fields.iter().find(|entry| entry["fieldsV1"]["f:spec"].is_object()).unwrap();
    assert_eq!((&owner["manager"], &owner["operation"]), (&"patchtide-git:fleet".into(), &"Apply".into()));

    // The window goes from Git, and a collection: there is no right to delete it.
    bed.repository.remove("fleet/w.yaml").unwrap();
    bed.repository.remove("fleet/f.yaml").unwrap();
    bed.repository.commit_all("two less").unwrap();
    let told = failures(&bed.reconcile().await);
    assert!(told.len() == 1 && told[0].contains("PRUNE-FAILED Collection/f"), "{told:?}");
    assert!(told[0].contains(account) && told[0].contains("cannot delete"), "{told:?}");
    assert!(bed.names("collections").contains(&"f".to_owned()));
    bed.ground.plane.apply(&role("[get, create, patch, delete]")).unwrap();
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert!(!bed.names("collections").contains(&"f".to_owned()));
}

/// That the controller may not act as an account is the installation's to mend, not the account's.
pub async fn an_account_that_may_not_be_acted_as_is_told(bed: &Bed) {
    bed.source("  path: fleet\n  serviceAccountName: stranger\n");
    bed.repository.commit("as a stranger", &[("fleet/g.yaml", &collection("g", "eight"))]).unwrap();
    let told = failures(&bed.reconcile().await);
    assert_eq!(told.len(), 1, "{told:?}");
    denied(
        &told,
        "Collection/g",
        &["cannot impersonate", "verb impersonate on serviceaccounts", "[stranger]"],
    );
    assert!(!bed.names("collections").contains(&"g".to_owned()));
    bed.source("  path: fleet\n");
    let source = bed.reconcile().await;
    assert_eq!(condition(&source, "Ready")["status"], "True", "{:#}", source["status"]);
    assert!(bed.names("collections").contains(&"g".to_owned()));
}

fn role(verbs: &str) -> String {
    format!(
        "
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: tenant, namespace: patchtide}}
rules:
- {{apiGroups: [patchtide.dev], resources: [collections], verbs: {verbs}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: tenant, namespace: patchtide}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}}
subjects:
- {{kind: ServiceAccount, name: tenant, namespace: patchtide}}
"
    )
}

const IMPERSONATION: &str = "
apiVersion: v1
kind: ServiceAccount
metadata: {name: tenant, namespace: patchtide}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: impersonate-tenant, namespace: patchtide}
rules:
- {apiGroups: [''], resources: [serviceaccounts], resourceNames: [tenant], verbs: [impersonate]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: impersonate-tenant, namespace: patchtide}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: impersonate-tenant}
subjects:
- {kind: ServiceAccount, name: patchtide, namespace: patchtide}
";
