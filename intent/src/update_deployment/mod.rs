//! A deployment: references pinned or followed, template and own settings merged, defaults filled in. Pure.

pub mod pin;
pub mod settings;
mod validate;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_crds::DeploymentTemplateSpec;
use patchtide_model::{UpdateId, catalogue::Update};

use self::pin::Memory;
pub use self::{pin::pin, validate::validate};

/// Everything that validation needs beside the spec.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The template as it is now, with its digest.
    pub template: Option<(String, DeploymentTemplateSpec)>,
    /// The list's members as they are now.
    pub members: Option<BTreeSet<UpdateId>>,
    /// What was pinned before.
    pub memory: Memory,
    /// What the catalogue knows of every update that may be meant.
    pub known: BTreeMap<UpdateId, Update>,
    /// Updates named in the spec itself.
    pub own: BTreeSet<UpdateId>,
    /// What "as soon as possible" counts from.
    pub anchor: Timestamp,
    /// Names of the collections there are.
    pub collections: BTreeSet<String>,
}
