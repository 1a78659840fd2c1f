use patchtide_crds::{
    DistributionPointStatus, SiteStatus, SoftwareUpdatePointStatus, UpdateDeploymentStatus,
    site::{ClientCounts, RoleHealth},
    software_update_point::SourceStatus,
    update_deployment::UpdateDeploymentSpec,
};
use prometheus_client::registry::Registry;
use serde_json::json;

use super::*;

#[derive(Debug)]
struct Fixed(fn(&mut Values));

impl Collector for Fixed {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut values = Values::default();
        (self.0)(&mut values);
        for name in values.names() {
            assert!(FAMILIES.iter().any(|(known, ..)| *known == name), "{name} has no text");
        }
        values.encode(FAMILIES, &mut encoder)
    }
}

fn scrape(fill: fn(&mut Values)) -> String {
    let mut registry = Registry::with_prefix("patchtide");
    registry.register_collector(Box::new(Fixed(fill)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    text
}

fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line} is not in {text}");
    }
}

#[test]
fn a_deployment_is_told_as_its_status_says_it_and_a_state_that_nobody_is_in_is_zero() {
    let text = scrape(|values| {
        let mut object = UpdateDeployment::new("march", UpdateDeploymentSpec::default());
        deployment(values, "site", &object);
        assert_eq!(values.names().count(), 0, "nothing is concluded from a status that is not there");
        let count = |state: u8, clients| StateCount { id: u32::from(state), state: String::new(), clients };
        object.status = Some(UpdateDeploymentStatus {
            targeted: Some(10),
            failed: Some(1),
            past_deadline: Some(2),
            deadline: Some("2026-04-01T04:00:00Z".into()),
            compliance: vec![count(Compliance::Compliant.id(), 7)],
            enforcement: vec![count(DeploymentEnforcement::InstallFailed.id(), 1)],
            ..UpdateDeploymentStatus::default()
        });
        deployment(values, "site", &object);
        let mut local = object.clone();
        local.metadata.name = Some("local".into());
        local.status.as_mut().unwrap().deadline = Some("2026-04-01T04:00:00".into());
        deployment(values, "site", &local);
        let mut optional = object;
        optional.metadata.name = Some("optional".into());
        optional.status.as_mut().unwrap().deadline = Some("none".into());
        deployment(values, "site", &optional);
    });
    let labels = "namespace=\"site\",deployment=\"march\"";
    has(
        &text,
        &[
            &format!("patchtide_deployment_targeted_clients{{{labels}}} 10.0"),
            &format!("patchtide_deployment_late_clients{{{labels}}} 2.0"),
            &format!("patchtide_deployment_deadline_timestamp_seconds{{{labels}}} 1775016000.0"),
            "patchtide_deployment_deadline_timestamp_seconds{namespace=\"site\",deployment=\"local\"} 1775016000.0",
            &format!(
                "patchtide_deployment_compliance_clients{{{labels},state=\"{}\"}} 7.0",
                Compliance::Compliant.name()
            ),
            &format!(
                "patchtide_deployment_enforcement_clients{{{labels},state=\"{}\"}} 0.0",
                DeploymentEnforcement::Downloading.name()
            ),
        ],
    );
    assert!(!text.contains("deadline_timestamp_seconds{namespace=\"site\",deployment=\"optional\"}"));
}

#[test]
fn sites_catalogues_and_points_are_told() {
    let text = scrape(|values| {
        let spec = json!({
            "apiVersion": "patchtide.dev/v1alpha1", "kind": "Site", "metadata": {"name": "site"},
            "spec": {"managementPoint": {"addresses": ["https://mp.example:8443"]}}
        });
        let mut one: Site = serde_json::from_value(spec).unwrap();
        let role = |name: &str, healthy| RoleHealth { name: name.into(), healthy, ..RoleHealth::default() };
        one.status = Some(SiteStatus {
            clients: Some(ClientCounts { total: 5, active: 4, pending: 1, ..ClientCounts::default() }),
            roles: vec![role("distribution-point", true), role("distribution-point", false)],
            ..SiteStatus::default()
        });
        site(values, "site", &one);
        let mut sup =
            SoftwareUpdatePoint::new("debian", serde_json::from_value(json!({"sources": []})).unwrap());
        let time = |at: &str| Time(at.parse().unwrap());
        sup.status = Some(SoftwareUpdatePointStatus {
            sources: vec![SourceStatus {
                name: "security".into(),
                ok: true,
                last_success_time: Some(time("2026-04-01T04:00:00Z")),
                ..SourceStatus::default()
            }],
            ..SoftwareUpdatePointStatus::default()
        });
        catalogue(values, "site", &sup);
        let spec = serde_json::from_value(json!({"endpoints": ["https://dp.example:8444"]})).unwrap();
        let mut dp = DistributionPoint::new("dp1", spec);
        dp.status =
            Some(DistributionPointStatus { bytes_free: Some(12), ..DistributionPointStatus::default() });
        point(values, "site", &dp);
    });
    has(
        &text,
        &[
            "patchtide_clients{namespace=\"site\",state=\"active\"} 4.0",
            "patchtide_role_instances{namespace=\"site\",role=\"distribution-point\",state=\"working\"} 1.0",
            "patchtide_role_instances{namespace=\"site\",role=\"distribution-point\",state=\"silent\"} 1.0",
            "patchtide_catalogue_source_ok{namespace=\"site\",point=\"debian\",source=\"security\"} 1.0",
            "patchtide_catalogue_source_success_timestamp_seconds{namespace=\"site\",point=\"debian\",source=\"security\"} 1775016000.0",
            "patchtide_distribution_point_free_bytes{namespace=\"site\",distribution_point=\"dp1\"} 12.0",
        ],
    );
    assert!(!text.contains("patchtide_distribution_point_used_bytes{"), "unknown is no number: {text}");
}
