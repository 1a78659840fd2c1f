//! Going through the folders of a commit.

use std::{collections::BTreeMap, path::Path};

use git2::{ObjectType, Oid, Repository, Tree};

use super::{
    super::{
        object::is_object_file,
        verdict::{Finding, Place, clean},
    },
    Files, LINK, Limits, TreeError, folder,
};

/// Bytes of a link's target that are looked at: Linux knows no longer path.
const LINK_BYTES: usize = 4_096;

/// Reads folders, keeping count.
pub(super) struct Reader<'a> {
    repository: &'a Repository,
    top: &'a Tree<'a>,
    limits: Limits,
    out: Files,
    bytes: usize,
    entries: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the commit whose root folder is `top`.
    pub(super) fn new(repository: &'a Repository, top: &'a Tree<'a>, limits: Limits) -> Self {
        Self { repository, top, limits, out: Files::default(), bytes: 0, entries: 0 }
    }

    /// Everything below `tree`, which lies at `prefix`.
    pub(super) fn read(mut self, tree: &Tree<'_>, prefix: &str) -> Result<Files, TreeError> {
        self.folder(tree, prefix, 0)?;
        Ok(self.out)
    }

    fn folder(&mut self, tree: &Tree<'_>, prefix: &str, depth: usize) -> Result<(), TreeError> {
        if depth > self.limits.depth {
            return Err(TreeError::Limit { what: "folders below each other", limit: self.limits.depth });
        }
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for entry in tree {
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(TreeError::Limit { what: "entries", limit: self.limits.entries });
            }
            let shown = clean(&String::from_utf8_lossy(entry.name_bytes()));
            let place = Place::file(&format!("{prefix}{shown}"));
            let Some(name) = std::str::from_utf8(entry.name_bytes()).ok().filter(|name| acceptable(name))
            else {
                self.out.findings.push(Finding::failure(
                    "GIT-PATH",
                    place,
                    "the name is not acceptable: no .git, .., control characters, backslash, trailing dot or space; rename it",
                ));
                continue;
            };
            if let Some(twin) = seen.insert(name.to_lowercase(), name.to_owned()) {
                self.out.findings.push(Finding::failure(
                    "GIT-PATH",
                    place,
                    format!("stands beside {twin:?}, which differs at most in upper and lower case; rename one of them"),
                ));
                continue;
            }
            let yaml = is_object_file(name);
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) if name.starts_with('.') => {}
                (Some(ObjectType::Tree), _) => {
                    let folder = folder(self.repository, entry.id(), &place.path)?;
                    self.folder(&folder, &format!("{prefix}{name}/"), depth + 1)?;
                }
                (_, LINK) if yaml => self.out.findings.push(Finding::failure(
                    "GIT-SYMLINK",
                    place,
                    "symbolic links are not followed; commit the file itself",
                )),
                // A link beside the YAML is nobody's business, unless a folder of objects would lie behind it.
                (_, LINK) if self.leads_to_folder(entry.id(), prefix) => self.out.findings.push(Finding::failure(
                    "GIT-SYMLINK",
                    place,
                    "is a symbolic link to a folder, and links are not followed; commit the folder itself, or give what lies there a GitSource of its own",
                )),
                (Some(ObjectType::Commit), _) => self.out.findings.push(Finding::warning(
                    "GIT-UNSUPPORTED",
                    place,
                    "submodules are not followed; give their repository a GitSource of its own",
                )),
                (Some(ObjectType::Blob), _) if yaml => {
                    self.blob(entry.id(), place)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Whether a link that lies in `prefix` names a folder of the commit.
    fn leads_to_folder(&self, link: Oid, prefix: &str) -> bool {
        let size = self.repository.odb().and_then(|odb| odb.read_header(link)).map(|(size, _)| size);
        if !size.is_ok_and(|size| size <= LINK_BYTES) {
            return false;
        }
        let Ok(blob) = self.repository.find_blob(link) else { return false };
        let Ok(target) = std::str::from_utf8(blob.content()) else { return false };
        let mut parts: Vec<&str> = prefix.split('/').filter(|part| !part.is_empty()).collect();
        for part in target.split('/') {
            match part {
                "" | "." => {}
                ".." if parts.pop().is_some() => {}
                ".." => return false,
                part => parts.push(part),
            }
        }
        let path = parts.join("/");
        !target.starts_with('/')
            && (path.is_empty()
                || self
                    .top
                    .get_path(Path::new(&path))
                    .is_ok_and(|entry| entry.kind() == Some(ObjectType::Tree)))
    }

    fn blob(&mut self, id: Oid, place: Place) -> Result<(), TreeError> {
        let corrupt = |source| TreeError::Corrupt { what: place.path.clone(), source };
        let odb = self.repository.odb().map_err(corrupt)?;
        // The header tells the size before anything is inflated.
        let (size, _) = odb.read_header(id).map_err(corrupt)?;
        if size > self.limits.file_bytes {
            self.out.findings.push(Finding::failure(
                "YAML-SIZE",
                place,
                format!("{size} bytes are more than the {} allowed; split the file", self.limits.file_bytes),
            ));
            return Ok(());
        }
        self.bytes += size;
        if self.bytes > self.limits.total_bytes {
            return Err(TreeError::Limit { what: "bytes of YAML", limit: self.limits.total_bytes });
        }
        if self.out.files.len() >= self.limits.files {
            return Err(TreeError::Limit { what: "YAML files", limit: self.limits.files });
        }
        let blob = self.repository.find_blob(id).map_err(corrupt)?;
        if blob.content().starts_with(b"version https://git-lfs.") {
            self.out.findings.push(Finding::failure(
                "GIT-UNSUPPORTED",
                place,
                "is a Git LFS pointer; commit the file itself",
            ));
            return Ok(());
        }
        self.out.files.insert(place.path, blob.content().to_vec());
        Ok(())
    }
}

fn acceptable(name: &str) -> bool {
    !name.eq_ignore_ascii_case(".git")
        && name != ".."
        && name != "."
        && !name.contains(['/', '\\'])
        && !name.ends_with([' ', '.'])
        && !name.chars().any(char::is_control)
}
