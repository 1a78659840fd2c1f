//! The finished CustomResourceDefinitions.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The CustomResourceDefinitions of all kinds, in order of application.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        crate::Site::crd(),
        crate::SoftwareUpdatePoint::crd(),
        crate::DistributionPoint::crd(),
        crate::Collection::crd(),
        crate::MaintenanceWindow::crd(),
        crate::ClientSettings::crd(),
        crate::SearchFolder::crd(),
        crate::UpdateList::crd(),
        crate::DeploymentPackage::crd(),
        crate::DeploymentTemplate::crd(),
        crate::UpdateDeployment::crd(),
        crate::GitSource::crd(),
    ]
}
