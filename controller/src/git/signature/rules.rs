//! How many must sign, and who may change what.

use std::{collections::BTreeSet, path::Path};

use git2::{Oid, Repository};
use jiff::Timestamp;

use super::{SignatureError, Signers};

/// Commits that are looked at for a path.
const LONGEST: usize = 20_000;
/// Commits of which each is looked for in the history by itself; beyond, the history is read once for all.
const CHEAP: usize = 8;

/// What is demanded beside a good signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Different keys that must have signed.
    pub threshold: usize,
    /// Who may change what.
    pub paths: Vec<PathRule>,
}

/// Who may change what lies at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathRule {
    /// A file or folder.
    pub path: String,
    /// Fingerprints: `SHA256:...` of an SSH key, hexadecimal of an OpenPGP key.
    pub keys: Vec<String>,
}

impl PathRule {
    fn allows(&self, signer: &str) -> bool {
        let (kind, id) = signer.split_once(' ').unwrap_or_default();
        self.keys.iter().any(|key| match kind {
            "OpenPGP" => key.replace(' ', "").eq_ignore_ascii_case(id),
            _ => key == id,
        })
    }
}

impl Rules {
    /// Whether enough different keys signed.
    pub fn enough(&self, what: String, signers: &BTreeSet<String>) -> Result<(), SignatureError> {
        if signers.len() < self.threshold {
            return Err(SignatureError::Threshold { what, have: signers.len(), need: self.threshold });
        }
        Ok(())
    }

    /// Checks every commit along the first parents that changes a path with a rule, from `head` back to what is in
    /// force; where nothing is, the last one that does: its signature stands for the state that it made.
    pub fn check_paths(
        &self,
        repository: &Repository,
        signers: &Signers,
        head: Oid,
        applied: Option<Oid>,
        now: Timestamp,
    ) -> Result<(), SignatureError> {
        for rule in &self.paths {
            check(repository, signers, rule, head, applied, now)?;
        }
        Ok(())
    }
}

fn check(
    repository: &Repository,
    signers: &Signers,
    rule: &PathRule,
    head: Oid,
    applied: Option<Oid>,
    now: Timestamp,
) -> Result<(), SignatureError> {
    let read = |error| SignatureError::Read("the history".to_owned(), error);
    let at = |commit: &git2::Commit<'_>| -> Result<Option<Oid>, SignatureError> {
        let tree = commit.tree().map_err(read)?;
        Ok(tree.get_path(Path::new(rule.path.trim_matches('/'))).ok().map(|entry| entry.id()))
    };
    let mut commit = repository.find_commit(head).map_err(read)?;
    let mut here = at(&commit)?;
    let mut in_force = InForce::new(repository, applied);
    for _ in 0..LONGEST {
        if in_force.holds(commit.id()).map_err(read)? {
            return Ok(());
        }
        let parent = commit.parent(0).ok();
        let before = parent.as_ref().map(&at).transpose()?.flatten();
        if before != here {
            let by = signers.verify_commit(repository, commit.id(), now)?;
            if !by.iter().any(|signer| rule.allows(signer)) {
                let who = by.into_iter().collect::<Vec<_>>().join(", ");
                return Err(SignatureError::Path { commit: commit.id(), path: rule.path.clone(), who });
            }
            if applied.is_none() {
                return Ok(());
            }
        }
        let Some(parent) = parent else { return Ok(()) };
        (commit, here) = (parent, before);
    }
    // Who made the change is not known, so it is not accepted: else commits without end would hide it.
    Err(SignatureError::TooFar { path: rule.path.clone(), longest: LONGEST })
}

/// What the applied revision holds: itself and all that it descends from.
struct InForce<'a> {
    repository: &'a Repository,
    applied: Option<Oid>,
    /// Filled when it is needed: mostly the applied commit is one of the first parents.
    ancestors: Option<BTreeSet<Oid>>,
    /// Commits asked for so far.
    asked: usize,
}

impl<'a> InForce<'a> {
    const fn new(repository: &'a Repository, applied: Option<Oid>) -> Self {
        Self { repository, applied, ancestors: None, asked: 0 }
    }

    fn holds(&mut self, commit: Oid) -> Result<bool, git2::Error> {
        let Some(applied) = self.applied else { return Ok(false) };
        if applied == commit {
            return Ok(true);
        }
        if let Some(known) = &self.ancestors {
            return Ok(known.contains(&commit));
        }
        self.asked += 1;
        if self.asked <= CHEAP {
            // The applied commit may be gone from the repository: then nothing of it is in force.
            return Ok(self.repository.graph_descendant_of(applied, commit).unwrap_or(false));
        }
        let mut ancestors = BTreeSet::new();
        if self.repository.find_commit(applied).is_ok() {
            let mut walk = self.repository.revwalk()?;
            walk.push(applied)?;
            for id in walk {
                ancestors.insert(id?);
            }
        }
        let held = ancestors.contains(&commit);
        self.ancestors = Some(ancestors);
        Ok(held)
    }
}
