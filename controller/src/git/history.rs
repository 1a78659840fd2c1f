//! Since when an object stands in the repository: the first commit of the unbroken run of commits, seen along the
//! first parents, in which it does. An object that was taken out and comes back begins anew.
//!
//! A date is a claim of whoever made the commit. One from before Git was, or later than now, is no answer; one that
//! is earlier than what the commits before it say is raised to that (bad-input catalogue #42).

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use git2::{Commit, ObjectType, Oid, Repository};
use jiff::Timestamp;

use super::{
    document,
    tree::{self, TreeError},
};

/// Commits that are looked at.
const LONGEST: usize = 20_000;
/// Commits before an introduction whose dates bound its own.
const BEFORE: usize = 100;
/// Git's own first commit, 2005-04-07: no commit is older.
const FIRST_COMMIT: i64 = 1_112_832_000;
/// How far ahead of our clock a commit may be made, in seconds.
const CLOCK_TOLERANCE: i64 = 300;

/// Kind and name.
pub type Key = (String, String);

/// Since when an object stands in the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction {
    /// The commit that brought it.
    pub commit: Oid,
    /// When, as far as the commit can be believed.
    pub time: Option<Timestamp>,
}

/// What was found for an earlier revision with the same path.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The revision.
    pub head: Oid,
    /// Its introductions.
    pub objects: &'a BTreeMap<Key, Introduction>,
}

/// Where to look.
pub struct History<'a> {
    repository: &'a Repository,
    path: &'a str,
    tree: tree::Limits,
    document: document::Limits,
    kind: &'a str,
    /// Names of the kind by blob; none: the file cannot be read.
    blobs: BTreeMap<Oid, Option<Rc<BTreeSet<String>>>>,
    trees: BTreeMap<Oid, Rc<Folder>>,
}

/// The objects of the kind in a tree.
#[derive(Default)]
struct Folder {
    files: BTreeMap<String, String>,
    /// Whether a file cannot be read that may hold more.
    broken: bool,
}

/// How far back an object was followed.
struct Run {
    file: String,
    blob: Option<Oid>,
    sure: bool,
    since: Oid,
}

impl<'a> History<'a> {
    /// The objects of `kind` below `path`.
    pub fn new(
        repository: &'a Repository,
        path: &'a str,
        kind: &'a str,
        tree: tree::Limits,
        document: document::Limits,
    ) -> Self {
        Self { repository, path, tree, document, kind, blobs: BTreeMap::new(), trees: BTreeMap::new() }
    }

    /// The introductions of `wanted`, names with the files in which they stand at `head`. What goes back further than
    /// is looked is left out. What stood in the revision that is `known` is not followed beyond it.
    pub fn introductions(
        &mut self,
        head: Oid,
        wanted: &BTreeMap<String, String>,
        known: Option<Known<'_>>,
        now: Timestamp,
    ) -> Result<BTreeMap<Key, Introduction>, TreeError> {
        let repository = self.repository;
        let damaged = |source| TreeError::Corrupt { what: "the history".to_owned(), source };
        let mut open: BTreeMap<String, Run> = wanted
            .iter()
            .map(|(name, file)| {
                (name.clone(), Run { file: file.clone(), blob: None, sure: true, since: head })
            })
            .collect();
        let mut found = BTreeMap::new();
        let mut carried = BTreeMap::new();
        let mut next = Some(head);
        for _ in 0..LONGEST {
            let Some(id) = next.filter(|_| !open.is_empty()) else { break };
            let commit = match tree::commit(repository, id) {
                Ok(commit) => commit,
                // Never applied either: what lies behind it is not looked at.
                Err(TreeError::Limit { .. }) => break,
                Err(error) => return Err(error),
            };
            let root = commit.tree_id();
            let names: Vec<String> = open.keys().cloned().collect();
            for name in names {
                let Some(run) = open.get_mut(&name) else { continue };
                if !self.goes_on(root, &name, run, id)? {
                    let since = run.since;
                    open.remove(&name);
                    found.insert(name, since);
                } else if let Some(known) = known.filter(|known| known.head == id && run.sure) {
                    let key = (self.kind.to_owned(), name);
                    if let Some(introduction) = known.objects.get(&key) {
                        open.remove(&key.1);
                        carried.insert(key, introduction.clone());
                    }
                }
            }
            next = commit.parent_id(0).ok();
        }
        if next.is_none() {
            found.extend(open.into_iter().map(|(name, run)| (name, run.since)));
        }
        for (name, id) in found {
            let commit = repository.find_commit(id).map_err(damaged)?;
            let time = believable(&commit, now);
            carried.insert((self.kind.to_owned(), name), Introduction { commit: id, time });
        }
        Ok(carried)
    }

    /// Whether the object stands in this tree too.
    fn goes_on(&mut self, root: Oid, name: &str, run: &mut Run, commit: Oid) -> Result<bool, TreeError> {
        let blob = self.blob(root, &run.file);
        if blob.is_some() && blob == run.blob {
            if run.sure {
                run.since = commit;
            }
            return Ok(true);
        }
        match blob.and_then(|blob| self.names(blob)) {
            Some(names) if names.contains(name) => {
                *run = Run { file: run.file.clone(), blob, sure: true, since: commit };
                Ok(true)
            }
            _ => {
                let folder = self.folder(root)?;
                if let Some(file) = folder.files.get(name) {
                    let blob = self.blob(root, file);
                    *run = Run { file: file.clone(), blob, sure: true, since: commit };
                    return Ok(true);
                }
                // Nothing is pruned from a revision with a broken file: it neither ends the run nor begins one.
                run.blob = blob;
                run.sure = false;
                Ok(folder.broken)
            }
        }
    }

    fn blob(&self, root: Oid, file: &str) -> Option<Oid> {
        let tree = self.repository.find_tree(root).ok()?;
        let entry = tree.get_path(std::path::Path::new(file)).ok()?;
        (entry.kind() == Some(ObjectType::Blob)).then(|| entry.id())
    }

    fn names(&mut self, blob: Oid) -> Option<Rc<BTreeSet<String>>> {
        if let Some(known) = self.blobs.get(&blob) {
            return known.clone();
        }
        let size = self.repository.odb().and_then(|odb| odb.read_header(blob)).map(|(size, _)| size);
        let content = match size {
            Ok(size) if size <= self.tree.file_bytes => self.repository.find_blob(blob).ok(),
            _ => None,
        };
        let names =
            content.and_then(|content| names_in(content.content(), self.kind, self.document)).map(Rc::new);
        self.blobs.insert(blob, names.clone());
        names
    }

    /// The objects in a tree. A tree beyond the limits holds nothing: it was never applied.
    fn folder(&mut self, root: Oid) -> Result<Rc<Folder>, TreeError> {
        if let Some(known) = self.trees.get(&root) {
            return Ok(Rc::clone(known));
        }
        let read = match tree::read_tree(self.repository, root, self.path, self.tree) {
            Ok(read) => read,
            Err(error @ TreeError::Corrupt { .. }) => return Err(error),
            Err(_) => tree::Files::default(),
        };
        let mut folder = Folder::default();
        for (path, bytes) in &read.files {
            match names_in(bytes, self.kind, self.document) {
                Some(names) => folder.files.extend(names.into_iter().map(|name| (name, path.clone()))),
                None => folder.broken = true,
            }
        }
        let folder = Rc::new(folder);
        self.trees.insert(root, Rc::clone(&folder));
        Ok(folder)
    }
}

/// The names of the objects of `kind` in a file; none when it is no YAML.
fn names_in(bytes: &[u8], kind: &str, limits: document::Limits) -> Option<BTreeSet<String>> {
    if !bytes.windows(kind.len()).any(|window| window == kind.as_bytes()) {
        return Some(BTreeSet::new());
    }
    let (documents, findings) = document::parse("", bytes, limits);
    if findings.iter().any(super::verdict::Finding::is_failure) {
        return None;
    }
    let of_kind =
        documents.iter().filter(|document| document.get("kind").and_then(document::Node::text) == Some(kind));
    let name = |document: &document::Node| {
        document.get("metadata")?.get("name").and_then(document::Node::text).map(str::to_owned)
    };
    Some(of_kind.filter_map(name).collect())
}

/// Whether a moment can be when a commit was made.
pub fn plausible(seconds: i64, now: Timestamp) -> bool {
    (FIRST_COMMIT..=now.as_second() + CLOCK_TOLERANCE).contains(&seconds)
}

/// When the commit was made, as far as it can be believed: the latest plausible date of it and of those before it.
fn believable(commit: &Commit<'_>, now: Timestamp) -> Option<Timestamp> {
    let own = commit.time().seconds();
    if !plausible(own, now) {
        return None;
    }
    let mut latest = own;
    let mut at = commit.parent(0).ok();
    for _ in 0..BEFORE {
        let Some(commit) = at else { break };
        let seconds = commit.time().seconds();
        if plausible(seconds, now) {
            latest = latest.max(seconds);
        }
        at = commit.parent(0).ok();
    }
    Timestamp::from_second(latest.min(now.as_second())).ok()
}
