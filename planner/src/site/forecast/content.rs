//! What distribution points would hold.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{Digest, ObjectName};

use super::PointForecast;
use crate::site::SiteInput;

type Files = BTreeMap<Digest, u64>;

/// What changes at each point: files that are to come and are not there, files that nothing asks for any more. Of a package
/// with `content: All` only what clients lack is seen.
pub(super) fn points(before: &SiteInput, after: &SiteInput) -> Vec<PointForecast> {
    let (was, will) = (wanted(before), wanted(after));
    let nothing = Files::new();
    let names: BTreeSet<&ObjectName> = was.keys().chain(will.keys()).copied().collect();
    names
        .into_iter()
        .filter_map(|name| {
            let (was, will) = (was.get(name).unwrap_or(&nothing), will.get(name).unwrap_or(&nothing));
            let there = |file: &Digest| {
                let holders = before.holders.as_ref().and_then(|holders| holders.get(file));
                holders.is_some_and(|holders| holders.contains(name))
            };
            let new = will.iter().filter(|(file, _)| !was.contains_key(file) && !there(file));
            let freed = was.iter().filter(|(file, _)| !will.contains_key(file));
            let sum = |found: &mut dyn Iterator<Item = (&Digest, &u64)>| {
                found.fold((0_u64, 0_u64), |(files, bytes), (_, size)| (files + 1, bytes + size))
            };
            let ((new_files, new_bytes), (freed_files, freed_bytes)) =
                (sum(&mut { new }), sum(&mut { freed }));
            (new_files + freed_files > 0).then(|| PointForecast {
                name: name.clone(),
                new_files,
                new_bytes,
                freed_files,
                freed_bytes,
            })
        })
        .collect()
}

/// The files that packages ask for, by point.
fn wanted(input: &SiteInput) -> BTreeMap<&ObjectName, Files> {
    let mut points: BTreeMap<&ObjectName, Files> = BTreeMap::new();
    for package in input.objects.packages.values() {
        let mut files = Files::new();
        for update in package.updates.iter().filter_map(|id| input.updates.get(id)) {
            let Some(required) = input.required_leaves.get(&update.id).filter(|_| !update.expired) else {
                continue;
            };
            let leaves = update.leaves.iter().filter(|leaf| required.contains(&leaf.reference()));
            files.extend(leaves.map(|leaf| (leaf.file.sha256, leaf.file.size)));
        }
        // What updates newly depend on comes with them.
        if !files.is_empty() {
            files.extend(input.dependencies.iter().map(|leaf| (leaf.file.sha256, leaf.file.size)));
        }
        for point in &package.distribution_points {
            points.entry(point).or_default().extend(&files);
        }
    }
    points
}
