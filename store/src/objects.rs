//! Custom resources in domain form: validated, one row an object, the last good one of each.

use patchtide_model::object::{Blocked, SiteObjects};

use crate::{Result, SiteStore, StoreError};

/// An object as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectRow {
    /// `Collection`, `MaintenanceWindow`, `UpdateDeployment`, `ClientSettings`, `DistributionPoint`, `DeploymentPackage`;
    /// any other kind is kept too, but is not part of [`SiteObjects`].
    pub kind: String,
    /// Object name.
    pub name: String,
    /// Kubernetes UID.
    pub uid: String,
    /// Generation this row was made from.
    pub generation: i64,
    /// The domain object as JSON.
    pub json: String,
}

impl SiteStore {
    /// Keeps `row`. True when that changed anything; an equal row is not written.
    pub async fn put_object(&self, row: ObjectRow) -> Result<bool> {
        let _ = row;
        Err(StoreError::NotBuilt("put_object"))
    }

    /// One object.
    pub async fn object(&self, kind: &str, name: &str) -> Result<Option<ObjectRow>> {
        let _ = (kind, name);
        Err(StoreError::NotBuilt("object"))
    }

    /// All objects of a kind, by name.
    pub async fn objects(&self, kind: &str) -> Result<Vec<ObjectRow>> {
        let _ = kind;
        Err(StoreError::NotBuilt("objects"))
    }

    /// Removes an object and its blocked row. True when there was one.
    pub async fn delete_object(&self, kind: &str, name: &str) -> Result<bool> {
        let _ = (kind, name);
        Err(StoreError::NotBuilt("delete_object"))
    }

    /// Names of the objects of a kind (blocked ones without a good row too), sorted.
    pub async fn object_names(&self, kind: &str) -> Result<Vec<String>> {
        let _ = kind;
        Err(StoreError::NotBuilt("object_names"))
    }

    /// Says that the newest generation of an object blocks policy, or no longer does. True when that changed anything.
    pub async fn set_blocked(&self, kind: &str, name: &str, blocked: Option<Blocked>) -> Result<bool> {
        let _ = (kind, name, blocked);
        Err(StoreError::NotBuilt("set_blocked"))
    }

    /// All objects policy is compiled from; `blocked` has keys `<kind>/<name>`. A row that does not read back is an error:
    /// policy must not ignore it.
    pub async fn load_objects(&self) -> Result<SiteObjects> {
        Err(StoreError::NotBuilt("load_objects"))
    }
}
