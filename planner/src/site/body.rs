//! The policy of clients that are told the same.

use std::{collections::BTreeSet, sync::Arc};

use patchtide_model::{
    ObjectName,
    object::ClientSettings,
    policy::{LinePolicy, PolicyBody},
    shared::Shared,
    window::Window,
};

use super::{SiteInput, Verdict, awaited::Reach, layers::Layer, parts::Parts};

/// Puts policies together.
pub(super) struct Maker<'a> {
    pub(super) input: &'a SiteInput,
    pub(super) parts: &'a mut Parts,
    pub(super) reach: &'a Reach,
    pub(super) lines: &'a Shared<Vec<LinePolicy>>,
}

impl Maker<'_> {
    /// What clients get that lie in these layers and reach these points.
    pub(super) fn verdict(&mut self, points: u32, layers: &[&Layer]) -> Verdict {
        let objects = &self.input.objects;
        let mut settings = None;
        let mut windows: BTreeSet<&ObjectName> = BTreeSet::new();
        let mut deployments: BTreeSet<&ObjectName> = BTreeSet::new();
        for layer in layers {
            match layer {
                Layer::Withheld(reason) => return Verdict::Withheld { reason: reason.clone() },
                Layer::Settings(name) => settings = Some(name),
                Layer::Window(name) => drop(windows.insert(name)),
                Layer::Deployment(name) => drop(deployments.insert(name)),
            }
        }
        let chosen = settings
            .and_then(|name| objects.client_settings.values().find(|candidate| candidate.name == *name));
        let settings = chosen.map_or_else(ClientSettings::default, Clone::clone);
        let windows: Vec<Window> =
            windows.into_iter().filter_map(|name| objects.windows.get(name)).cloned().collect();
        // Switched off: nothing to scan against, nothing deployed. Windows stay, they only restrict.
        let deployments = if settings.enabled { deployments } else { BTreeSet::new() };
        let lines = if settings.enabled { self.lines.clone() } else { Shared::default() };
        let names = deployments.into_iter().cloned().collect();
        let set = self.parts.set(names, settings.no_deadline_spread);
        Verdict::Policy(Arc::new(PolicyBody {
            settings,
            lines,
            windows,
            deployments: set.deployments.clone(),
            updates: set.updates.clone(),
            dependencies: set.dependencies.clone(),
            awaited: set.awaited(self.reach, self.input, points, &self.reach.set(points)),
            provenance: set.provenance.clone(),
        }))
    }
}
