//! From binary packages to updates: packages of one source version are one update, the newer one supersedes.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use patchtide_model::catalogue::{Classification, ContentFile, Leaf, RestartRule, Severity, Update};
use patchtide_model::{Digest, LineId, UpdateId};
use patchtide_packaging::{BinaryPackage, Version};
use serde::{Deserialize, Serialize};

use super::rules::Rules;

/// How many malformed stanzas are named; all are counted.
const NAMED: usize = 20;

/// A stanza that was left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadStanza {
    /// Path of the index below the suite.
    pub index: String,
    /// Number of the stanza in it, from 1.
    pub number: u64,
    /// The package it names, when that could be read.
    pub package: Option<String>,
    /// A code of reliability.md section 4.
    pub code: String,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for BadStanza {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} stanza {}", self.index, self.number)?;
        if let Some(package) = &self.package {
            write!(f, " (package {package})")?;
        }
        write!(f, ": {}: {}", self.code, self.reason)
    }
}

/// Order of two versions of a source as dpkg has it; a text that is no version is before all that are.
pub fn compare_versions(a: &str, b: &str) -> Ordering {
    match (Version::parse(a), Version::parse(b)) {
        (Ok(a), Ok(b)) => a.cmp(&b),
        (a, b) => a.is_ok().cmp(&b.is_ok()),
    }
}

#[derive(Debug)]
struct DraftLeaf {
    leaf: Leaf,
    index: usize,
}

impl DraftLeaf {
    fn key(&self) -> (&str, &str) {
        (&self.leaf.package, &self.leaf.architecture)
    }
}

/// One version of a source. Nearly all have a package or two: a sorted list of them takes a tenth of a tree's memory.
#[derive(Debug)]
struct Draft {
    version: Version,
    /// Sorted by [`DraftLeaf::key`].
    leaves: Vec<DraftLeaf>,
    /// Packages whose file differs between two stanzas: none of them is believed.
    conflicts: BTreeSet<(String, String)>,
    /// Description of the package named like the source, else of the first.
    summary: Option<(bool, String)>,
}

/// Why a package is left out.
enum Problem {
    None,
    Conflict,
    Twice,
}

/// Collects the packages of one line.
#[derive(Debug)]
pub(crate) struct LineBuilder {
    line: LineId,
    /// By source; the versions of each in their order.
    sources: BTreeMap<String, Vec<Draft>>,
    updates: u64,
    indices: Vec<String>,
    pub(crate) stanzas: u64,
    pub(crate) bad: u64,
    pub(crate) named: Vec<BadStanza>,
}

/// What all updates of a line have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub(crate) product: String,
    pub(crate) classification: Classification,
    pub(crate) posted: Timestamp,
}

impl LineBuilder {
    pub(crate) fn new(line: LineId) -> Self {
        Self {
            line,
            sources: BTreeMap::new(),
            updates: 0,
            indices: Vec::new(),
            stanzas: 0,
            bad: 0,
            named: Vec::new(),
        }
    }

    /// The next packages come from this index.
    pub(crate) fn begin_index(&mut self, path: &str) {
        self.indices.push(path.to_owned());
    }

    /// Counts a stanza that is left out.
    pub(crate) fn leave_out(&mut self, number: u64, package: Option<String>, code: &str, reason: String) {
        self.bad += 1;
        if self.named.len() < NAMED {
            let index = self.indices.last().cloned().unwrap_or_default();
            self.named.push(BadStanza { index, number, package, code: code.to_owned(), reason });
        }
    }

    /// Updates so far.
    pub(crate) fn updates(&self) -> u64 {
        self.updates
    }

    /// What is known of one version of a source.
    fn draft(&mut self, source: &str, version: &Version) -> &mut Draft {
        let versions = self.sources.entry(source.to_owned()).or_insert_with(|| Vec::with_capacity(1));
        match versions.binary_search_by(|draft| draft.version.cmp(version)) {
            Ok(at) => &mut versions[at],
            Err(at) => {
                self.updates += 1;
                let version = version.clone();
                let leaves = Vec::with_capacity(1);
                versions.insert(at, Draft { version, leaves, conflicts: BTreeSet::new(), summary: None });
                &mut versions[at]
            }
        }
    }

    /// Takes in a package.
    pub(crate) fn add(&mut self, number: u64, package: BinaryPackage) {
        // The catalogue's identities are narrower than what an archive may write.
        let id = format!("{}:{}@{}", self.line, package.source.name, package.source.version);
        if id.parse::<UpdateId>().is_err() {
            let reason = format!("{id:?} cannot be the identity of an update");
            self.leave_out(number, Some(package.package), "APT-STANZA", reason);
            return;
        }
        let index = self.indices.len();
        let draft = self.draft(&package.source.name, &package.source.version);
        let named_like_source = package.package == package.source.name;
        if draft.summary.as_ref().is_none_or(|(best, _)| named_like_source && !best) {
            draft.summary = Some((named_like_source, package.description_short));
        }
        let sha256 = Digest::from_bytes(package.sha256.0);
        let key = (package.package.as_str(), package.architecture.as_str());
        let place = draft.leaves.binary_search_by(|leaf| leaf.key().cmp(&key));
        let conflict = draft.conflicts.iter().any(|(name, architecture)| (&**name, &**architecture) == key);
        let twice = match place {
            Ok(at) => Some((compare_versions(package.version.as_str(), &draft.leaves[at].leaf.version), at)),
            Err(_) => None,
        };
        let problem = match twice {
            _ if conflict => Problem::Conflict,
            None | Some((Ordering::Greater, _)) => Problem::None,
            Some((Ordering::Equal, at)) if draft.leaves[at].leaf.file.sha256 != sha256 => Problem::Conflict,
            Some((Ordering::Equal, at)) if draft.leaves[at].index == index => Problem::Twice,
            // Older than the one that is there, or a package for all architectures in the index of each.
            Some((Ordering::Less | Ordering::Equal, _)) => return,
        };
        match problem {
            Problem::Conflict => {
                if let Ok(at) = place {
                    draft.leaves.remove(at);
                }
                draft.conflicts.insert((package.package.clone(), package.architecture));
                let reason = "its file differs between two stanzas".to_owned();
                self.leave_out(number, Some(package.package), "CAT-CONFLICT", reason);
            }
            Problem::Twice => {
                let reason = "the same package occurs twice".to_owned();
                self.leave_out(number, Some(package.package), "APT-STANZA", reason);
            }
            Problem::None => {
                let leaf = Leaf {
                    package: package.package,
                    version: package.version.as_str().to_owned(),
                    architecture: package.architecture,
                    file: ContentFile { sha256, size: package.size, path: package.filename },
                    stanza: package.stanza,
                };
                let leaf = DraftLeaf { leaf, index };
                match place {
                    Ok(at) => draft.leaves[at] = leaf,
                    Err(at) => draft.leaves.insert(at, leaf),
                }
            }
        }
    }

    /// The updates, in the order of their sources, older versions of a source before newer ones.
    pub(crate) fn finish(self, common: &Common, rules: &Rules) -> Vec<Update> {
        let mut updates = Vec::new();
        for (source, versions) in self.sources {
            let first = updates.len();
            for draft in versions {
                if draft.leaves.is_empty() {
                    continue;
                }
                let id = UpdateId {
                    line: self.line.clone(),
                    source: source.clone(),
                    version: draft.version.as_str().to_owned(),
                };
                let summary = draft.summary.map(|(_, text)| text).filter(|text| !text.is_empty());
                let mut update = Update {
                    id,
                    title: summary.map_or_else(|| source.clone(), |text| format!("{source}: {text}")),
                    classification: common.classification,
                    product: common.product.clone(),
                    severity: Severity::default(),
                    cves: BTreeSet::new(),
                    bulletins: BTreeSet::new(),
                    posted: common.posted,
                    leaves: draft.leaves.into_iter().map(|draft| draft.leaf).collect(),
                    maximum_run_time: None,
                    exclusive: false,
                    restart: RestartRule::default(),
                    superseded_by: None,
                    expired: false,
                };
                rules.apply(&mut update);
                updates.push(update);
            }
            supersede(&mut updates[first..]);
        }
        updates
    }
}

/// The newest version of a source supersedes every older one whose architectures it has been built for. While an
/// architecture is still waiting for its build, the older version is the current one there.
fn supersede(versions: &mut [Update]) {
    let architectures = |update: &Update| -> BTreeSet<String> {
        update.leaves.iter().map(|l| l.architecture.clone()).collect()
    };
    for older in 0..versions.len().saturating_sub(1) {
        let needed = architectures(&versions[older]);
        let newer = versions[older + 1..].iter().rev().find(|newer| {
            let built = architectures(newer);
            // A package for all architectures may have become one per architecture, and the other way round.
            needed
                .iter()
                .all(|a| built.contains(a) || a == "all" || built.contains("all") && built.len() == 1)
        });
        versions[older].superseded_by = newer.map(|newer| newer.id.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchtide_packaging::StanzaReader;

    fn package(name: &str, source: &str, version: &str, architecture: &str, hash: char) -> BinaryPackage {
        let text = format!(
            "Package: {name}\nSource: {source}\nVersion: {version}\nArchitecture: {architecture}\n\
             Filename: pool/{name}.deb\nSize: 1\nSHA256: {}\nDescription: what {name} does\n",
            hash.to_string().repeat(64)
        );
        let mut reader = StanzaReader::new(text.as_bytes());
        BinaryPackage::parse(&reader.next_stanza().unwrap().unwrap()).unwrap()
    }

    fn builder() -> LineBuilder {
        let mut builder = LineBuilder::new("debian/bookworm/main".parse().unwrap());
        builder.begin_index("main/binary-amd64/Packages");
        builder
    }

    fn finish(builder: LineBuilder) -> Vec<Update> {
        let common = Common {
            product: "Debian bookworm".into(),
            classification: Classification::Updates,
            posted: Timestamp::UNIX_EPOCH,
        };
        builder.finish(&common, &Rules::default())
    }

    #[test]
    fn packages_of_a_source_are_one_update() {
        let mut all = builder();
        all.add(1, package("libssl3", "openssl", "3.0-1", "amd64", 'a'));
        all.add(2, package("openssl", "openssl", "3.0-1", "amd64", 'b'));
        all.add(3, package("libssl-doc", "openssl", "3.0-1", "all", 'c'));
        all.add(4, package("rebuilt", "other (1.0-2)", "1.0-2+b6", "amd64", 'd'));
        let updates = finish(all);
        let ids: Vec<String> = updates.iter().map(|u| u.id.to_string()).collect();
        assert_eq!(ids, ["debian/bookworm/main:openssl@3.0-1", "debian/bookworm/main:other@1.0-2"]);
        assert_eq!(updates[0].title, "openssl: what openssl does");
        let leaves: Vec<&str> = updates[0].leaves.iter().map(|l| l.package.as_str()).collect();
        assert_eq!(leaves, ["libssl-doc", "libssl3", "openssl"]);
        assert_eq!(updates[1].leaves[0].version, "1.0-2+b6");
    }

    #[test]
    fn the_newer_version_supersedes_where_it_is_built() {
        let mut all = builder();
        all.add(1, package("a", "a", "1.9", "amd64", 'a'));
        all.add(2, package("a", "a", "1.10", "amd64", 'b'));
        all.add(3, package("a", "a", "1.9", "arm64", 'c'));
        all.add(4, package("b", "b", "1", "all", 'd'));
        all.add(5, package("b", "b", "2", "amd64", 'e'));
        all.add(6, package("b", "b", "1:0", "amd64", 'f'));
        let updates = finish(all);
        let superseded: Vec<(String, Option<String>)> = updates
            .iter()
            .map(|u| (u.id.version.clone(), u.superseded_by.as_ref().map(|id| id.version.clone())))
            .collect();
        let expected = [("1.9", None), ("1.10", None), ("1", Some("1:0")), ("2", Some("1:0")), ("1:0", None)];
        assert_eq!(superseded, expected.map(|(v, by)| (v.to_owned(), by.map(str::to_owned))));
    }

    /// reliability.md 4 #50: a duplicate is counted and named, the first one is kept.
    #[test]
    fn bad_input_50_duplicate_stanza_is_named() {
        let mut all = builder();
        all.add(1, package("a", "a", "1", "amd64", 'a'));
        all.add(2, package("a", "a", "1", "amd64", 'a'));
        assert_eq!((all.bad, all.named[0].number, all.named[0].package.as_deref()), (1, 2, Some("a")));
        assert_eq!(finish(all)[0].leaves.len(), 1);
    }

    /// reliability.md 4 #53: neither of two files for one name and version is believed.
    #[test]
    fn bad_input_53_conflicting_files_are_both_left_out() {
        let mut all = builder();
        all.add(1, package("a", "a", "1", "all", 'a'));
        all.begin_index("main/binary-arm64/Packages");
        all.add(1, package("a", "a", "1", "all", 'b'));
        all.add(2, package("c", "a", "1", "arm64", 'c'));
        all.begin_index("main/binary-i386/Packages");
        all.add(1, package("a", "a", "1", "all", 'a'));
        assert_eq!(all.bad, 2);
        assert!(all.named.iter().all(|bad| bad.code == "CAT-CONFLICT"));
        let updates = finish(all);
        assert_eq!(updates[0].leaves.iter().map(|l| l.package.as_str()).collect::<Vec<_>>(), ["c"]);
    }

    #[test]
    fn a_package_for_all_architectures_stands_in_every_index_once() {
        let mut all = builder();
        all.add(1, package("a", "a", "1", "all", 'a'));
        all.begin_index("main/binary-arm64/Packages");
        all.add(1, package("a", "a", "1", "all", 'a'));
        assert_eq!(all.bad, 0);
        assert_eq!(finish(all)[0].leaves.len(), 1);
    }
}
