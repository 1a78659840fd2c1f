//! A deployment template. Pure.

use patchtide_crds::DeploymentTemplateSpec;
use patchtide_model::Digest;

/// `sha256:` over the template's content: what a deployment pins.
pub fn digest(spec: &DeploymentTemplateSpec) -> String {
    let content = (&spec.collection, &spec.include_subcollections, &spec.settings);
    format!("sha256:{}", Digest::of(&serde_json::to_vec(&content).unwrap_or_default()))
}
