//! Reading the YAML files of a commit straight from the object database: no checkout, no filters, no links
//! followed, no submodules (bad-input catalogue #32 to #37).

mod reader;
#[cfg(test)]
mod tests;

use git2::{Commit, ObjectType, Oid, Repository, Tree};

use self::reader::Reader;
use super::verdict::clean;

/// Bytes of one commit, its message included.
const COMMIT_BYTES: usize = 1 << 20;
/// Bytes of one folder's listing.
const FOLDER_BYTES: usize = 32 << 20;

/// Mode of a symbolic link.
const LINK: i32 = 0o120_000;

/// Limits of a tree (reliability.md 3.9).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// YAML files below the path.
    pub files: usize,
    /// Bytes of one YAML file.
    pub file_bytes: usize,
    /// Bytes of all YAML files together.
    pub total_bytes: usize,
    /// Folders below each other.
    pub depth: usize,
    /// Entries visited, of whatever kind.
    pub entries: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { files: 10_000, file_bytes: 1 << 20, total_bytes: 64 << 20, depth: 32, entries: 200_000 }
    }
}

pub use super::object::Files;

/// Why a commit cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Damaged objects.
    #[error("GIT-CORRUPT: {what} cannot be read from the object database; it is fetched anew")]
    Corrupt {
        /// What.
        what: String,
        /// Cause.
        #[source]
        source: git2::Error,
    },
    /// The path is not in the commit.
    #[error(
        "GIT-PATH: spec.path: {0:?} is not a folder of the commit; give the folder that holds the objects"
    )]
    NoPath(String),
    /// The path leads through a link.
    #[error(
        "GIT-SYMLINK: spec.path: {0:?} is a symbolic link, and links are not followed; give the folder itself"
    )]
    Link(String),
    /// The path leads into another repository.
    #[error("GIT-UNSUPPORTED: spec.path: {0:?} is a submodule; give its repository a GitSource of its own")]
    Submodule(String),
    /// The path itself is not acceptable.
    #[error("GIT-PATH: spec.path: {0:?} must be relative, without .., empty or . parts")]
    BadPath(String),
    /// Too much.
    #[error(
        "GIT-LIMIT: the commit exceeds the limit of {limit} {what}; split the repository or set spec.path"
    )]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}

/// A commit, whose size is looked at before it is read.
pub fn commit(repository: &Repository, id: Oid) -> Result<Commit<'_>, TreeError> {
    let damaged = |source| TreeError::Corrupt { what: format!("commit {id}"), source };
    bounded(repository, id, "bytes of a commit with its message", COMMIT_BYTES)?.map_err(damaged)?;
    repository.find_commit(id).map_err(damaged)
}

fn folder<'a>(repository: &'a Repository, id: Oid, what: &str) -> Result<Tree<'a>, TreeError> {
    let damaged = |source| TreeError::Corrupt { what: what.to_owned(), source };
    bounded(repository, id, "bytes of a folder's listing", FOLDER_BYTES)?.map_err(damaged)?;
    repository.find_tree(id).map_err(damaged)
}

/// The header tells the size before anything is inflated.
fn bounded(
    repository: &Repository,
    id: Oid,
    what: &'static str,
    limit: usize,
) -> Result<Result<(), git2::Error>, TreeError> {
    match repository.odb().and_then(|odb| odb.read_header(id)) {
        Ok((size, _)) if size > limit => Err(TreeError::Limit { what, limit }),
        Ok(_) => Ok(Ok(())),
        Err(error) => Ok(Err(error)),
    }
}

/// Reads every `*.yaml` and `*.yml` below `path` of `commit`; hidden files and folders are left out.
pub fn read(repository: &Repository, commit: Oid, path: &str, limits: Limits) -> Result<Files, TreeError> {
    read_tree(repository, self::commit(repository, commit)?.tree_id(), path, limits)
}

/// The same of a commit's root tree.
pub fn read_tree(repository: &Repository, root: Oid, path: &str, limits: Limits) -> Result<Files, TreeError> {
    let top = folder(repository, root, "the root folder")?;
    let mut tree = top.clone();
    let path = path.trim_start_matches("./").trim_matches('/');
    if path.split('/').any(|part| part == "..") || path.contains('\\') || path.chars().any(char::is_control) {
        return Err(TreeError::BadPath(clean(path)));
    }
    let mut prefix = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let entry = tree.get_name(part).map(|entry| (entry.kind(), entry.filemode(), entry.id()));
        tree = match entry {
            Some((Some(ObjectType::Tree), _, id)) => folder(repository, id, path)?,
            Some((Some(ObjectType::Commit), ..)) => return Err(TreeError::Submodule(clean(path))),
            Some((_, LINK, _)) => return Err(TreeError::Link(clean(path))),
            _ => return Err(TreeError::NoPath(clean(path))),
        };
        prefix.push_str(part);
        prefix.push('/');
    }
    Reader::new(repository, &top, limits).read(&tree, &prefix)
}
