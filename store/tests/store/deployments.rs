//! What clients report of deployments.

use patchtide_model::state::{Compliance, DeploymentEnforcement, Evaluation};
use patchtide_store::{
    ObjectRow,
    intake::{IntakeBody, IntakeReport},
};

use crate::common::{Db, at, client, on_both, report};

on_both!(deployments_are_told, what_was_said_of_a_deployment_goes_with_it);

async fn deployments_are_told(db: Db) {
    let site = &db.site;
    let (one, two) = (client(site, 1).await, client(site, 2).await);
    let uid = || "uid-1".to_owned();
    let waiting = IntakeBody::Enforcement {
        deployment: uid(),
        state: DeploymentEnforcement::WaitingForWindow,
        until: Some(at(500)),
        error: None,
    };
    let evaluated = IntakeBody::Evaluation { deployment: uid(), state: Evaluation::Succeeded };
    site.intake(report(one, 1, vec![waiting.clone(), evaluated])).await.unwrap();
    let compliance = |state| IntakeBody::Compliance { deployment: uid(), state };
    let later =
        IntakeReport { received_at: at(50), ..report(one, 3, vec![compliance(Compliance::NonCompliant)]) };
    site.intake(later).await.unwrap();
    let repeated =
        IntakeReport { received_at: at(60), ..report(one, 4, vec![compliance(Compliance::NonCompliant)]) };
    site.intake(repeated).await.unwrap();
    site.intake(report(two, 1, vec![compliance(Compliance::Compliant)])).await.unwrap();
    let found = site.deployment_clients("uid-1").await.unwrap();
    assert_eq!(found.len(), 2);
    let first = &found[0];
    assert_eq!(
        (first.client, first.enforcement, first.until),
        (one, DeploymentEnforcement::WaitingForWindow, Some(at(500)))
    );
    assert_eq!((first.evaluation, first.compliance), (Evaluation::Succeeded, Compliance::NonCompliant));
    assert_eq!(first.changed_at, at(50), "a repeated state changes nothing");
    assert_eq!(
        (found[1].enforcement, found[1].compliance),
        (DeploymentEnforcement::Unknown, Compliance::Compliant)
    );
    assert_eq!(
        site.deployment_clients_at_it("uid-1").await.unwrap(),
        found[..1],
        "the other said nothing of it"
    );
    let done = IntakeBody::Enforcement {
        deployment: uid(),
        state: DeploymentEnforcement::Installed,
        until: None,
        error: None,
    };
    site.intake(report(one, 5, vec![waiting, done])).await.unwrap();
    assert!(site.deployment_clients_at_it("uid-1").await.unwrap().is_empty());
    let found = site.deployment_clients("uid-1").await.unwrap().remove(0);
    assert_eq!((found.enforcement, found.until), (DeploymentEnforcement::Installed, None));
}

async fn what_was_said_of_a_deployment_goes_with_it(db: Db) {
    let site = &db.site;
    let one = client(site, 1).await;
    let object = |name: &str, uid: &str| ObjectRow {
        kind: "UpdateDeployment".to_owned(),
        name: name.to_owned(),
        uid: uid.to_owned(),
        generation: 1,
        json: "{}".to_owned(),
    };
    let compliant =
        |uid: &str| IntakeBody::Compliance { deployment: uid.to_owned(), state: Compliance::Compliant };
    for (name, uid) in [("a", "uid-a"), ("b", "uid-b"), ("c", "uid-c")] {
        site.put_object(object(name, uid)).await.unwrap();
    }
    let all = ["uid-a", "uid-b", "uid-c"];
    site.intake(report(one, 1, all.iter().map(|uid| compliant(uid)).collect())).await.unwrap();
    let known = async || {
        let mut known = Vec::new();
        for uid in ["uid-a", "uid-a2", "uid-b", "uid-c"] {
            if !site.deployment_clients(uid).await.unwrap().is_empty() {
                known.push(uid);
            }
        }
        known
    };
    site.delete_object("UpdateDeployment", "b").await.unwrap();
    assert_eq!(known().await, ["uid-a", "uid-c"]);
    // Deleted and made again under the same name.
    site.put_object(object("a", "uid-a2")).await.unwrap();
    assert_eq!(known().await, ["uid-c"]);
    // Said too late: it goes with the next one.
    site.intake(report(one, 4, vec![compliant("uid-b"), compliant("uid-a2")])).await.unwrap();
    site.delete_object("UpdateDeployment", "c").await.unwrap();
    assert_eq!(known().await, ["uid-a2"]);
}
