//! What is wished: the objects of a folder, of a file, or of a commit.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, anyhow, bail};
use git2::{ErrorCode, Oid, Repository, RevparseMode};
use patchtide_intent::yaml::{
    document,
    object::{Files, GitObject, Limits, Revision, collect, is_object_file},
    schema::Schemas,
    tree::{self, TreeError},
    verdict::{Finding, Place},
};

/// Objects of one change.
const OBJECTS: usize = 100_000;

/// What is wished.
#[derive(Debug, Default)]
pub(super) struct Wish {
    /// Objects that are to be as they stand here, by kind and name.
    pub objects: BTreeMap<(String, String), GitObject>,
    /// Objects that are to go.
    pub removed: Vec<(String, String)>,
    /// Whether these are all that there is to be, so that others can be pruned.
    pub whole: bool,
    /// What is wrong with files, and what should be known.
    pub findings: Vec<Finding>,
}

/// Reads what `wanted` names: a path that exists, or else a revision of the repository around the current folder.
pub(super) fn read(wanted: &str, path: &str, namespace: &str) -> anyhow::Result<Wish> {
    let file = Path::new(wanted);
    if file.exists() {
        if !path.is_empty() {
            bail!("--path is for a Git revision, and {wanted} is a file or folder: give the folder itself");
        }
        let files = from_disk(file)?;
        if files.files.is_empty() && files.findings.is_empty() {
            bail!("{wanted} holds no YAML file: give the folder in which the objects lie");
        }
        return Ok(whole(objects(files, namespace)));
    }
    let repository = Repository::discover(".").map_err(|error| {
        anyhow!(
            "{wanted} is neither a file nor a folder, and there is no Git repository here: {}",
            error.message()
        )
    })?;
    let (from, to) = revisions(&repository, wanted)?;
    let read = |commit: Oid| -> anyhow::Result<Revision> {
        let files =
            tree::read(&repository, commit, path, tree::Limits::default()).map_err(|error| told(&error))?;
        Ok(objects(files, namespace))
    };
    let new = read(to)?;
    let Some(from) = from else {
        if new.files == 0 && new.findings.is_empty() {
            bail!("{wanted} holds no YAML file below {path:?}: give the folder with --path");
        }
        return Ok(whole(new));
    };
    // A folder that begins with this change was empty before.
    let old = match tree::read(&repository, from, path, tree::Limits::default()) {
        Err(TreeError::NoPath(_)) => Revision::default(),
        Err(error) => return Err(told(&error)),
        Ok(files) => objects(files, namespace),
    };
    Ok(between(&old, new))
}

fn whole(revision: Revision) -> Wish {
    Wish { objects: revision.objects, removed: Vec::new(), whole: true, findings: revision.findings }
}

/// What the newer revision changes.
fn between(old: &Revision, new: Revision) -> Wish {
    // A file that cannot be read keeps its objects, as in the cluster.
    let broken = new.findings.iter().any(Finding::is_failure);
    let removed =
        old.objects.keys().filter(|key| !broken && !new.objects.contains_key(*key)).cloned().collect();
    let changed = |key: &(String, String), object: &GitObject| {
        old.objects.get(key).is_none_or(|before| before.json != object.json)
    };
    Wish {
        objects: new.objects.into_iter().filter(|(key, object)| changed(key, object)).collect(),
        removed,
        whole: false,
        findings: new.findings,
    }
}

fn objects(files: Files, namespace: &str) -> Revision {
    let limits = Limits { objects: OBJECTS, document: document::Limits::default() };
    collect(files, namespace, &Schemas::new(), limits)
}

/// The path of a revision is not that of a `GitSource` here.
fn told(error: &TreeError) -> anyhow::Error {
    anyhow!("{}", error.to_string().replace("spec.path", "--path"))
}

/// The commit meant, and for a range the one that it starts from.
fn revisions(repository: &Repository, wanted: &str) -> anyhow::Result<(Option<Oid>, Oid)> {
    let unknown = |error: git2::Error| match error.code() {
        ErrorCode::NotFound | ErrorCode::InvalidSpec => anyhow!(
            "{wanted} is neither a file nor a folder nor a revision of the Git repository here: write for example HEAD, main, a commit, or main..HEAD"
        ),
        ErrorCode::Ambiguous => {
            anyhow!("{wanted} stands for several objects of the repository: write more of it")
        }
        _ => anyhow!("{wanted} cannot be read from the Git repository here: {}", error.message()),
    };
    let commit = |object: &git2::Object<'_>| -> anyhow::Result<Oid> {
        object.peel_to_commit().map(|commit| commit.id()).map_err(|_| anyhow!("{wanted} is not a commit"))
    };
    let spec = repository.revparse(wanted).map_err(unknown)?;
    match (spec.from(), spec.to()) {
        (Some(from), Some(to)) => {
            let (mut from, to) = (commit(from)?, commit(to)?);
            if spec.mode().contains(RevparseMode::MERGE_BASE) {
                from = repository.merge_base(from, to).map_err(|_| {
                    anyhow!("{wanted}: the two have no commit in common; fetch more of the history")
                })?;
            }
            Ok((Some(from), to))
        }
        (Some(only), None) => Ok((None, commit(only)?)),
        _ => bail!("{wanted} names no commit"),
    }
}

/// YAML files below a folder, or one file, under the limits that hold for a commit.
fn from_disk(path: &Path) -> anyhow::Result<Files> {
    let limits = tree::Limits::default();
    let mut files = Files::default();
    if path.is_file() {
        read_file(path, limits, &mut files)?;
        return Ok(files);
    }
    let (mut folders, mut entries) = (vec![(path.to_owned(), 0)], 0);
    while let Some((folder, depth)) = folders.pop() {
        if depth > limits.depth {
            bail!("more than {} folders below each other in {}", limits.depth, path.display());
        }
        let unreadable = || format!("{} cannot be read", folder.display());
        let mut below: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(&folder).with_context(unreadable)? {
            entries += 1;
            if entries > limits.entries {
                bail!("more than {} entries below {}: give a smaller folder", limits.entries, path.display());
            }
            below.push(entry.with_context(unreadable)?.path());
        }
        below.sort();
        for entry in below {
            let name = entry.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let kind = fs::symlink_metadata(&entry).with_context(unreadable)?.file_type();
            if kind.is_dir() && !name.starts_with('.') {
                folders.push((entry, depth + 1));
            } else if kind.is_symlink() && (is_object_file(&name) || entry.is_dir()) {
                files.findings.push(Finding::failure(
                    "GIT-SYMLINK",
                    Place::file(&shown(&entry)),
                    "symbolic links are not followed; put the file or folder itself here",
                ));
            } else if kind.is_file() && is_object_file(&name) {
                read_file(&entry, limits, &mut files)?;
            }
        }
    }
    Ok(files)
}

fn read_file(path: &Path, limits: tree::Limits, files: &mut Files) -> anyhow::Result<()> {
    let unreadable = || format!("{} cannot be read", path.display());
    let size = fs::metadata(path).with_context(unreadable)?.len();
    if size > limits.file_bytes as u64 {
        files.findings.push(Finding::failure(
            "YAML-SIZE",
            Place::file(&shown(path)),
            format!("{size} bytes are more than the {} allowed; split the file", limits.file_bytes),
        ));
        return Ok(());
    }
    if files.files.len() >= limits.files {
        bail!("more than {} YAML files: give a smaller folder", limits.files);
    }
    files.files.insert(shown(path), fs::read(path).with_context(unreadable)?);
    Ok(())
}

fn shown(path: &Path) -> String {
    path.strip_prefix("./").unwrap_or(path).to_string_lossy().into_owned()
}
