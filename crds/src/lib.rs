//! Patchtide's custom resources: the twelve kinds of `patchtide.dev/v1alpha1`, their validation rules and the
//! contract of their status. Types, schemas and pure helpers only; no I/O and no client.
//!
//! Every kind is namespaced; a namespace is a site, and a reference is always the name of an object in the same
//! namespace. `schema::crds` gives the finished CustomResourceDefinitions, which `crds/generated/` holds as YAML.
//! Use it rather than `CustomResourceExt::crd`: it bounds, tightens and completes what the derive produces.

#![allow(
    unreachable_pub,
    reason = "KubeSchema copies each struct into a function body, where `pub` reaches nobody"
)]
#![allow(
    clippy::duplicated_attributes,
    reason = "takes the fields of two printer columns for one attribute given twice"
)]
#![allow(
    clippy::doc_markdown,
    reason = "the doc comments are what `kubectl explain` prints, where backticks around every kind's name disturb"
)]
#![allow(clippy::struct_excessive_bools, reason = "switches of the public interface")]

pub mod annotations;
pub mod bytes;
pub mod client_settings;
pub mod collection;
pub mod conditions;
mod defaults;
pub mod deployment_package;
pub mod deployment_template;
pub mod distribution_point;
pub mod duration;
pub mod git_source;
pub mod maintenance_window;
pub mod recurrence;
pub mod reference;
pub mod registry;
mod rules;
pub mod schema;
pub mod search_folder;
pub mod settings;
pub mod site;
pub mod site_alertmanager;
pub mod site_enrolment;
pub mod site_status;
pub mod software_update_point;
pub mod software_update_point_sources;
pub mod software_update_point_status;
pub mod update_deployment;
pub mod update_list;

pub use bytes::ByteSize;
pub use client_settings::{ClientSettings, ClientSettingsSpec, ClientSettingsStatus};
pub use collection::{Collection, CollectionSpec, CollectionStatus};
pub use conditions::{Condition, StatusContract, set_condition};
pub use deployment_package::{DeploymentPackage, DeploymentPackageSpec, DeploymentPackageStatus};
pub use deployment_template::{DeploymentTemplate, DeploymentTemplateSpec, DeploymentTemplateStatus};
pub use distribution_point::{DistributionPoint, DistributionPointSpec, DistributionPointStatus};
pub use duration::DurationText;
pub use git_source::{GitSource, GitSourceSpec, GitSourceStatus};
pub use maintenance_window::{MaintenanceWindow, MaintenanceWindowSpec, MaintenanceWindowStatus};
pub use registry::{GROUP, KINDS, Kind, VERSION};
pub use schema::crds;
pub use search_folder::{SearchFolder, SearchFolderSpec, SearchFolderStatus};
pub use settings::DeploymentSettings;
pub use site::{Site, SiteSpec, SiteStatus};
pub use software_update_point::{SoftwareUpdatePoint, SoftwareUpdatePointSpec, SoftwareUpdatePointStatus};
pub use update_deployment::{UpdateDeployment, UpdateDeploymentSpec, UpdateDeploymentStatus};
pub use update_list::{UpdateList, UpdateListSpec, UpdateListStatus};
