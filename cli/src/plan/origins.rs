//! Who says a setting of a deployment: the deployment, its template, or nobody.

use patchtide_crds::UpdateDeployment;
use patchtide_intent::{
    resolve::{Resolution, Resources},
    update_deployment::pin::Memory,
};
use patchtide_planner::site::forecast::DeploymentForecast;

/// Fills in where each value that would be in force comes from; `written` are the resources as they stand, without the
/// defaults of their types.
pub(super) fn fill(
    told: &mut DeploymentForecast,
    written: &[serde_json::Value],
    resources: &Resources,
    resolution: &Resolution,
) {
    let Some(object) = resources.deployments.get(&told.name) else { return };
    let own = written.iter().find(|resource| {
        resource["kind"] == "UpdateDeployment" && resource["metadata"]["name"] == told.name.as_str()
    });
    let own = own.map(|resource| resource["spec"].clone()).unwrap_or_default();
    let template = template(object, resources, resolution.pinned.get(&told.name));
    for setting in told.settings.iter_mut().filter(|setting| setting.after.is_some()) {
        let pointer = format!("/{}", setting.field.replace('.', "/"));
        let says = |spec: &serde_json::Value| spec.pointer(&pointer).is_some_and(|value| !value.is_null());
        setting.from = Some(match &template {
            _ if says(&own) => format!("UpdateDeployment/{}", told.name),
            Some((name, spec)) if says(spec) => format!("DeploymentTemplate/{name}"),
            _ => "default".to_owned(),
        });
    }
}

/// The template in force, as pinned or as it is.
fn template(
    object: &UpdateDeployment,
    resources: &Resources,
    memory: Option<&Memory>,
) -> Option<(String, serde_json::Value)> {
    let name = object.spec.template.as_ref()?;
    let pinned = memory.and_then(|memory| memory.template.as_ref()).map(|pinned| &pinned.spec);
    let found = resources.templates.values().find(|template| template.metadata.name.as_ref() == Some(name));
    let spec = pinned.or_else(|| found.map(|template| &template.spec))?;
    Some((name.clone(), serde_json::to_value(spec).ok()?))
}
