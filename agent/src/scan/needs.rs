//! What required updates newly depend on: packages that are not installed, or not new enough, found in the catalogues
//! by their relations, transitively.
//!
//! Each update is looked at for itself, as if only it were installed: whatever the site deploys of the rest, what is
//! named here is enough. apt has the last word on the machine; this list says what it may be given.

use std::collections::{BTreeMap, BTreeSet};

use patchtide_model::{
    UpdateId,
    catalogue::{LeafRef, ScanLeaf, ScanUpdate},
};
use patchtide_packaging::{
    Relations, StanzaReader, Version,
    packages::MultiArch,
    relation::{Asker, Candidate, Dependency, Provided, parse_provides},
};

use super::{Machine, Required, leaf_ref};

/// Longest chain of dependencies that is followed.
const ROUNDS: usize = 32;

/// A package as relations see it.
#[derive(Debug, Clone)]
struct Package {
    name: String,
    version: Version,
    architecture: String,
    multi_arch: MultiArch,
    provides: Vec<Provided>,
}

impl Package {
    fn candidate(&self) -> Candidate<'_> {
        Candidate {
            name: &self.name,
            version: &self.version,
            architecture: &self.architecture,
            multi_arch: self.multi_arch,
            provides: &self.provides,
        }
    }
}

/// Installed packages by every name they answer to.
struct World<'m> {
    machine: &'m Machine,
    packages: Vec<Package>,
    names: BTreeMap<String, Vec<usize>>,
}

impl<'m> World<'m> {
    fn new(machine: &'m Machine) -> Self {
        let mut world = Self { machine, packages: Vec::new(), names: BTreeMap::new() };
        for entry in machine.installed() {
            let Some(version) = entry.version.clone() else { continue };
            let provides = parse_provides(&entry.provides).unwrap_or_default();
            let index = world.packages.len();
            for name in std::iter::once(&entry.package).chain(provides.iter().map(|p| &p.name)) {
                world.names.entry(name.clone()).or_default().push(index);
            }
            world.packages.push(Package {
                name: entry.package.clone(),
                version,
                architecture: entry.architecture.clone(),
                multi_arch: entry.multi_arch,
                provides,
            });
        }
        world
    }

    fn own<'a>(&'a self, architecture: &'a str) -> &'a str {
        if architecture == "all" { self.machine.native() } else { architecture }
    }
}

/// The state after one update: what it brings hides what it replaces.
struct Plan<'r> {
    id: &'r UpdateId,
    added: Vec<Package>,
    needs: BTreeSet<LeafRef>,
    /// Relations that nothing satisfies yet, with the architecture of the package that has them.
    open: Vec<(String, Vec<Dependency>)>,
}

impl Plan<'_> {
    fn add(&mut self, world: &World<'_>, leaf: &ScanLeaf) {
        let Some(package) = package_of(world, leaf) else { return };
        if let Ok(relations) = Relations::parse(&leaf.depends) {
            self.open.extend(relations.0.into_iter().map(|group| (leaf.architecture.clone(), group)));
        }
        self.added.push(package);
    }

    fn satisfied(&self, world: &World<'_>, architecture: &str, group: &[Dependency]) -> bool {
        let asker = Asker { architecture, native: world.machine.native() };
        let mut counting = group.iter().filter(|d| d.counts_for(asker)).peekable();
        counting.peek().is_none()
            || counting.any(|d| {
                self.added.iter().any(|package| d.satisfied_by(asker, package.candidate()))
                    || world.names.get(&d.name).into_iter().flatten().any(|index| {
                        let package = &world.packages[*index];
                        !self.replaces(world, package) && d.satisfied_by(asker, package.candidate())
                    })
            })
    }

    fn replaces(&self, world: &World<'_>, package: &Package) -> bool {
        self.added.iter().any(|added| {
            added.name == package.name && world.own(&added.architecture) == world.own(&package.architecture)
        })
    }
}

fn package_of(world: &World<'_>, leaf: &ScanLeaf) -> Option<Package> {
    let installed = world.machine.matching(&leaf.package, &leaf.architecture).next();
    Some(Package {
        name: leaf.package.clone(),
        version: Version::parse(&leaf.version).ok()?,
        architecture: leaf.architecture.clone(),
        // The catalogue does not say; what is installed does, and apt decides in the end.
        multi_arch: installed.map_or(MultiArch::Foreign, |entry| entry.multi_arch),
        provides: parse_provides(&leaf.provides).unwrap_or_default(),
    })
}

/// For each required update what it newly needs. `catalogues` walks over every leaf that there is; it is called once
/// for each step of the longest chain of new packages.
pub(super) fn resolve<E>(
    machine: &Machine,
    required: &[Required],
    catalogues: impl Fn(&mut dyn FnMut(ScanUpdate)) -> Result<(), E>,
) -> Result<BTreeMap<UpdateId, BTreeSet<LeafRef>>, E> {
    let world = World::new(machine);
    let mut plans: Vec<Plan<'_>> = required
        .iter()
        .map(|required| {
            let mut plan = Plan { id: &required.id, added: vec![], needs: BTreeSet::new(), open: vec![] };
            for leaf in &required.leaves {
                plan.add(&world, leaf);
            }
            plan
        })
        .collect();
    for _ in 0..ROUNDS {
        let mut wanted = BTreeSet::new();
        for plan in &mut plans {
            let open = std::mem::take(&mut plan.open);
            plan.open =
                open.into_iter().filter(|(arch, group)| !plan.satisfied(&world, arch, group)).collect();
            wanted.extend(plan.open.iter().flat_map(|(_, group)| group.iter().map(|d| d.name.clone())));
        }
        if wanted.is_empty() {
            break;
        }
        let offers = collect(&wanted, &catalogues)?;
        for plan in &mut plans {
            for (architecture, group) in std::mem::take(&mut plan.open) {
                // An earlier choice of this round may have brought it.
                if plan.satisfied(&world, &architecture, &group) {
                    continue;
                }
                if let Some(leaf) = choose(&world, &architecture, &group, &offers) {
                    plan.needs.insert(leaf_ref(leaf));
                    plan.add(&world, leaf);
                }
            }
        }
    }
    Ok(plans.into_iter().filter(|p| !p.needs.is_empty()).map(|p| (p.id.clone(), p.needs)).collect())
}

/// The newest leaf of each package and architecture that answers to one of the names.
fn collect<E>(
    names: &BTreeSet<String>,
    catalogues: impl Fn(&mut dyn FnMut(ScanUpdate)) -> Result<(), E>,
) -> Result<BTreeMap<(String, String), ScanLeaf>, E> {
    let mut offers: BTreeMap<(String, String), ScanLeaf> = BTreeMap::new();
    catalogues(&mut |update| {
        for leaf in update.leaves {
            let answers = names.contains(&leaf.package)
                || (!leaf.provides.is_empty()
                    && parse_provides(&leaf.provides)
                        .is_ok_and(|provided| provided.iter().any(|p| names.contains(&p.name))));
            if !answers {
                continue;
            }
            let key = (leaf.package.clone(), leaf.architecture.clone());
            let newer = offers.get(&key).is_none_or(|held| {
                Version::parse(&leaf.version)
                    .is_ok_and(|new| Version::parse(&held.version).is_ok_and(|held| new > held))
            });
            if newer {
                offers.insert(key, leaf);
            }
        }
    })?;
    Ok(offers)
}

/// The leaf that satisfies a group: the first alternative that can be had, a package of that name before one that only
/// provides it, one of the asker's architecture before another.
fn choose<'o>(
    world: &World<'_>,
    architecture: &str,
    group: &[Dependency],
    offers: &'o BTreeMap<(String, String), ScanLeaf>,
) -> Option<&'o ScanLeaf> {
    let asker = Asker { architecture, native: world.machine.native() };
    group.iter().filter(|d| d.counts_for(asker)).find_map(|dependency| {
        let mut fitting: Vec<&ScanLeaf> = offers
            .values()
            .filter(|leaf| {
                package_of(world, leaf).is_some_and(|p| dependency.satisfied_by(asker, p.candidate()))
            })
            .collect();
        fitting.sort_by_key(|leaf| {
            (
                leaf.package != dependency.name,
                world.own(&leaf.architecture) != world.own(architecture),
                leaf.package.clone(),
            )
        });
        fitting.first().copied()
    })
}

/// `Pre-Depends` and `Depends` of a stanza of the index, joined.
pub(super) fn depends_of(stanza: &str) -> String {
    let mut reader = StanzaReader::new(stanza.as_bytes());
    let Some(Ok(stanza)) = reader.next_stanza() else { return String::new() };
    let fields = ["Pre-Depends", "Depends"].map(|name| stanza.get(name).unwrap_or_default());
    fields.iter().filter(|text| !text.is_empty()).copied().collect::<Vec<_>>().join(", ")
}

/// `Provides` of a stanza of the index.
pub(super) fn provides_of(stanza: &str) -> String {
    let mut reader = StanzaReader::new(stanza.as_bytes());
    let Some(Ok(stanza)) = reader.next_stanza() else { return String::new() };
    stanza.get("Provides").unwrap_or_default().to_owned()
}
