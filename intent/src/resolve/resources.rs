//! The custom resources that policy depends on, typed.

use std::collections::BTreeMap;

use patchtide_crds::{
    ClientSettings, Collection, DeploymentPackage, DeploymentTemplate, DistributionPoint, MaintenanceWindow,
    SearchFolder, UpdateDeployment, UpdateList, conditions::reason,
};
use patchtide_model::ObjectName;
use serde_json::Value;

use super::Told;
use crate::problem::{Problem, object_name};

/// The objects of a site, by name.
#[derive(Debug, Clone, Default)]
pub struct Resources {
    /// Collections.
    pub collections: BTreeMap<ObjectName, Collection>,
    /// Windows.
    pub windows: BTreeMap<ObjectName, MaintenanceWindow>,
    /// Client settings.
    pub client_settings: BTreeMap<ObjectName, ClientSettings>,
    /// Distribution points.
    pub distribution_points: BTreeMap<ObjectName, DistributionPoint>,
    /// Templates.
    pub templates: BTreeMap<ObjectName, DeploymentTemplate>,
    /// Search folders.
    pub folders: BTreeMap<ObjectName, SearchFolder>,
    /// Lists.
    pub lists: BTreeMap<ObjectName, UpdateList>,
    /// Deployments.
    pub deployments: BTreeMap<ObjectName, UpdateDeployment>,
    /// Packages.
    pub packages: BTreeMap<ObjectName, DeploymentPackage>,
}

/// Calls the macro with each kind, as a text, and its field.
macro_rules! kinds {
    ($call:ident) => {
        $call!(
            "Collection" => collections,
            "MaintenanceWindow" => windows,
            "ClientSettings" => client_settings,
            "DistributionPoint" => distribution_points,
            "DeploymentTemplate" => templates,
            "SearchFolder" => folders,
            "UpdateList" => lists,
            "UpdateDeployment" => deployments,
            "DeploymentPackage" => packages,
        )
    };
}

impl Resources {
    /// Reads objects in the form of the API; one of the same kind and name replaces the one before. Kinds that policy
    /// does not depend on are passed over.
    pub fn read<'a>(objects: impl IntoIterator<Item = &'a Value>) -> (Self, Vec<Told>) {
        let mut resources = Self::default();
        let mut told = Vec::new();
        for object in objects {
            resources.put(object, &mut told);
        }
        (resources, told)
    }

    /// Adds or replaces one object in the form of the API.
    pub fn put(&mut self, object: &Value, told: &mut Vec<Told>) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
        let (kind, name) = (text("/kind"), text("/metadata/name"));
        macro_rules! put {
            ($($kind:literal => $field:ident,)*) => {
                match kind {
                    $($kind => match read(object, name) {
                        Ok((name, typed)) => drop(self.$field.insert(name, typed)),
                        Err(problem) => told.push(Told { kind: $kind, name: name.to_owned(), problem }),
                    },)*
                    _ => {}
                }
            };
        }
        kinds!(put);
    }

    /// Takes one object out; whether it was there.
    pub fn remove(&mut self, kind: &str, name: &str) -> bool {
        let Ok(name) = ObjectName::new(name) else { return false };
        macro_rules! remove {
            ($($kind:literal => $field:ident,)*) => {
                match kind {
                    $($kind => self.$field.remove(&name).is_some(),)*
                    _ => false,
                }
            };
        }
        kinds!(remove)
    }

    /// Whether the object is there.
    pub fn has(&self, kind: &str, name: &str) -> bool {
        let Ok(name) = ObjectName::new(name) else { return false };
        macro_rules! has {
            ($($kind:literal => $field:ident,)*) => {
                match kind {
                    $($kind => self.$field.contains_key(&name),)*
                    _ => false,
                }
            };
        }
        kinds!(has)
    }
}

fn read<T: serde::de::DeserializeOwned>(object: &Value, name: &str) -> Result<(ObjectName, T), Problem> {
    let name = object_name(name)?;
    let typed = T::deserialize(object)
        .map_err(|error| Problem::stalled(reason::INVALID_SPEC, format!("cannot be read: {error}")))?;
    Ok((name, typed))
}
