//! All objects of a site resolved in one go, without a cluster: what the controller does kind by kind as its watches wake
//! it, for those who only ask what would happen. The same validation, the same rules about what stays in force when an
//! object cannot be accepted.
//!
//! Not looked at: whether two sources disagree about a package (that needs their whole indices), and files.

mod deployments;
mod lists;
mod resources;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_crds::conditions::reason;
use patchtide_model::{
    Digest, ObjectName, UpdateId,
    catalogue::Update,
    object::{Blocked, SiteObjects},
    search::DetectionCounts,
};

pub use self::resources::Resources;
use crate::{
    Problem, client_settings, collection, distribution_point, maintenance_window,
    update_deployment::pin::Memory, update_list::Members,
};

/// What an answer stands on, beside the objects themselves.
#[derive(Debug, Clone, Copy)]
pub struct Ground<'a> {
    /// The instant of the answer.
    pub now: Timestamp,
    /// The catalogue: what searches look through. Without it they find nothing, and lists keep what they have.
    pub catalogue: Option<&'a BTreeMap<UpdateId, DetectionCounts>>,
    /// What the catalogue knows of an update; with a catalogue at least all of it.
    pub known: &'a BTreeMap<UpdateId, Update>,
    /// Files that are in the site.
    pub present: &'a BTreeSet<Digest>,
    /// What is in force.
    pub before: &'a SiteObjects,
    /// What deployments have pinned.
    pub pinned: &'a BTreeMap<ObjectName, Memory>,
    /// What lists hold.
    pub lists: &'a BTreeMap<ObjectName, Members>,
}

/// What came out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolution {
    /// What policy is compiled from.
    pub objects: SiteObjects,
    /// What deployments have pinned then.
    pub pinned: BTreeMap<ObjectName, Memory>,
    /// What lists hold then.
    pub lists: BTreeMap<ObjectName, Members>,
    /// What could not be accepted, or waits.
    pub problems: Vec<Told>,
}

/// A problem and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Kind.
    pub kind: &'static str,
    /// Name.
    pub name: String,
    /// The problem.
    pub problem: Problem,
}

/// Resolves `resources`. What an object that cannot be accepted said before stays in force, as in the cluster; a window
/// or a restriction that cannot be honoured blocks policy for those it concerns.
pub fn resolve(resources: &Resources, ground: &Ground<'_>) -> Resolution {
    let mut resolution = Resolution::default();
    simple(resources, ground, &mut resolution);
    lists::resolve(resources, ground, &mut resolution);
    deployments::resolve(resources, ground, &mut resolution);
    lists::packages(resources, ground, &mut resolution);
    // What an object from before is blocked for stays, unless the object was accepted or is gone.
    for (object, blocked) in &ground.before.blocked {
        let stands = object.split_once('/').is_some_and(|(kind, name)| {
            resources.has(kind, name)
                && resolution.problems.iter().any(|told| told.kind == kind && told.name == name)
        });
        if stands {
            resolution.objects.blocked.entry(object.clone()).or_insert_with(|| blocked.clone());
        }
    }
    resolution.problems.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    resolution
}

impl Resolution {
    fn tell(&mut self, kind: &'static str, name: &str, problem: Problem) {
        self.problems.push(Told { kind, name: name.to_owned(), problem });
    }

    fn block(&mut self, kind: &str, name: &str, reason: &str, collection: Option<ObjectName>) {
        let blocked = Blocked { reason: reason.to_owned(), collections: collection.into_iter().collect() };
        self.objects.blocked.insert(format!("{kind}/{name}"), blocked);
    }
}

/// The kinds that stand for themselves.
fn simple(resources: &Resources, ground: &Ground<'_>, resolution: &mut Resolution) {
    let before = ground.before;
    for (name, object) in &resources.collections {
        match collection::validate(name, &object.spec) {
            Ok(valid) => drop(resolution.objects.collections.insert(name.clone(), valid)),
            Err(problem) => {
                // Its members are not known: windows may be bound to it, so nobody knows whom they restrict.
                resolution.block("Collection", name.as_str(), &problem.message, Some(name.clone()));
                resolution.tell("Collection", name.as_str(), problem);
                keep(&before.collections, name, &mut resolution.objects.collections);
            }
        }
    }
    for (name, object) in &resources.windows {
        match maintenance_window::validate(name.as_str(), &object.spec) {
            Ok(valid) => drop(resolution.objects.windows.insert(name.clone(), valid)),
            Err(problem) => {
                let concerned = ObjectName::new(&object.spec.collection).ok();
                resolution.block("MaintenanceWindow", name.as_str(), &problem.message, concerned);
                resolution.tell("MaintenanceWindow", name.as_str(), problem);
                keep(&before.windows, name, &mut resolution.objects.windows);
            }
        }
    }
    for (name, object) in &resources.client_settings {
        match client_settings::validate(name.as_str(), &object.spec) {
            Ok((valid, _)) => drop(resolution.objects.client_settings.insert(name.clone(), valid)),
            Err(problem) => {
                if problem.reason == reason::RESTRICTION_NOT_BUILT {
                    let concerned =
                        object.spec.collection.as_ref().and_then(|name| ObjectName::new(name).ok());
                    resolution.block("ClientSettings", name.as_str(), &problem.message, concerned);
                }
                resolution.tell("ClientSettings", name.as_str(), problem);
                keep(&before.client_settings, name, &mut resolution.objects.client_settings);
            }
        }
    }
    for (name, object) in &resources.distribution_points {
        match distribution_point::validate(name.as_str(), &object.spec) {
            Ok(_) if object.spec.suspend => {}
            Ok(valid) => drop(resolution.objects.distribution_points.insert(name.clone(), valid)),
            Err(problem) => {
                resolution.tell("DistributionPoint", name.as_str(), problem);
                keep(&before.distribution_points, name, &mut resolution.objects.distribution_points);
            }
        }
    }
}

/// What was in force stays.
fn keep<T: Clone>(before: &BTreeMap<ObjectName, T>, name: &ObjectName, now: &mut BTreeMap<ObjectName, T>) {
    if let Some(old) = before.get(name) {
        now.insert(name.clone(), old.clone());
    }
}
