//! Reading the YAML files of a commit straight from the object database: no checkout, no filters, no links
//! followed, no submodules (bad-input catalogue #32 to #37).

use std::collections::BTreeMap;

use git2::{Commit, ObjectType, Oid, Repository, Tree};

use super::verdict::{Finding, Place, clean};

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

/// The YAML files of a commit and what was wrong on the way.
#[derive(Debug, Default)]
pub struct Files {
    /// Contents by path from the repository's root.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Findings.
    pub findings: Vec<Finding>,
}

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
    let mut tree = folder(repository, root, "the root folder")?;
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
    let mut reader = Reader { repository, limits, out: Files::default(), bytes: 0, entries: 0 };
    reader.folder(&tree, &prefix, 0)?;
    Ok(reader.out)
}

struct Reader<'a> {
    repository: &'a Repository,
    limits: Limits,
    out: Files,
    bytes: usize,
    entries: usize,
}

impl Reader<'_> {
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
            let yaml = is_yaml(name);
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
                (Some(ObjectType::Commit), _) => self.out.findings.push(Finding::warning(
                    "GIT-UNSUPPORTED",
                    place,
                    "submodules are not followed; give their repository a GitSource of its own",
                )),
                (Some(ObjectType::Blob), _) if yaml && !is_kustomization(name) => {
                    self.blob(entry.id(), place)?;
                }
                _ => {}
            }
        }
        Ok(())
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

/// Hidden files (`.gitlab-ci.yml`) are other tools', as hidden folders are.
fn is_yaml(name: &str) -> bool {
    let (stem, ending) = name.rsplit_once('.').unwrap_or_default();
    !stem.is_empty() && !name.starts_with('.') && matches!(ending, "yaml" | "yml")
}

/// What kubectl and Flux read beside the objects.
fn is_kustomization(name: &str) -> bool {
    matches!(name, "kustomization.yaml" | "kustomization.yml")
}

fn acceptable(name: &str) -> bool {
    !name.eq_ignore_ascii_case(".git")
        && name != ".."
        && name != "."
        && !name.contains(['/', '\\'])
        && !name.ends_with([' ', '.'])
        && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A commit made of raw tree entries, as a hostile server could offer them.
    fn commit(repository: &Repository, entries: &[(&str, &[u8], u32)]) -> Oid {
        let mut raw = Vec::new();
        for (mode, name, _) in entries {
            let blob = repository.blob(b"kind: X\n").unwrap();
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend_from_slice(blob.as_bytes());
        }
        let tree = repository.odb().unwrap().write(ObjectType::Tree, &raw).unwrap();
        let text = format!("tree {tree}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\nx\n");
        repository.odb().unwrap().write(ObjectType::Commit, text.as_bytes()).unwrap()
    }

    #[test]
    fn bad_input_32_33_names_links_and_twins() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let head = commit(
            &repository,
            &[
                ("100644", b"A.yaml", 0),
                ("100644", b"a.yaml", 0),
                ("100644", b"b\x1b.yaml", 0),
                ("100644", b"c.yaml ", 0),
                ("120000", b"link.yaml", 0),
                ("100644", b"ok.yml", 0),
                ("100644", b"readme.md", 0),
            ],
        );
        let read = read(&repository, head, "", Limits::default()).unwrap();
        assert_eq!(read.files.keys().collect::<Vec<_>>(), ["A.yaml", "ok.yml"]);
        let codes: Vec<_> = read.findings.iter().map(|f| (f.code, f.place.path.as_str())).collect();
        assert_eq!(
            codes,
            [
                ("GIT-PATH", "a.yaml"),
                ("GIT-PATH", "b\\u{1b}.yaml"),
                ("GIT-PATH", "c.yaml "),
                ("GIT-SYMLINK", "link.yaml")
            ]
        );
    }

    #[test]
    fn bad_input_7_37_sizes_and_counts() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let head = commit(&repository, &[("100644", b"a.yaml", 0), ("100644", b"b.yaml", 0)]);
        let small = Limits { file_bytes: 3, ..Limits::default() };
        let findings = read(&repository, head, "", small).unwrap().findings;
        assert!(findings.len() == 2 && findings.iter().all(|f| f.code == "YAML-SIZE"));
        let few = Limits { files: 1, ..Limits::default() };
        assert!(matches!(read(&repository, head, "", few), Err(TreeError::Limit { what: "YAML files", .. })));
    }

    /// A tree entry of any mode that names any object.
    fn tree(repository: &Repository, entries: &[(&str, &[u8], Oid)]) -> Oid {
        let mut raw = Vec::new();
        for (mode, name, id) in entries {
            raw.extend_from_slice(mode.as_bytes());
            raw.push(b' ');
            raw.extend_from_slice(name);
            raw.push(0);
            raw.extend_from_slice(id.as_bytes());
        }
        repository.odb().unwrap().write(ObjectType::Tree, &raw).unwrap()
    }

    fn commit_of(repository: &Repository, tree: Oid, message: &[u8]) -> Oid {
        let mut text =
            format!("tree {tree}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n").into_bytes();
        text.extend_from_slice(message);
        repository.odb().unwrap().write(ObjectType::Commit, &text).unwrap()
    }

    #[test]
    fn bad_input_33_34_links_in_the_path_and_twins_of_folders() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let inside = tree(&repository, &[("100644", b"a.yaml", repository.blob(b"kind: X\n").unwrap())]);
        let link = repository.blob(b"../../etc").unwrap();
        let root = tree(
            &repository,
            &[
                ("120000", b"fleet", link),
                ("40000", b"fleet", inside),
                ("120000", b"loop", repository.blob(b"loop").unwrap()),
            ],
        );
        let head = commit_of(&repository, root, b"x");
        // 33: a link in the read path.
        let error = read(&repository, head, "loop", Limits::default()).unwrap_err();
        assert!(error.to_string().starts_with("GIT-SYMLINK: spec.path"), "{error}");
        // 34: a link and a folder of the same name: neither leads out, and the twin is told.
        let read = read(&repository, head, "", Limits::default()).unwrap();
        assert!(read.files.is_empty(), "{:?}", read.files.keys());
        assert_eq!(
            read.findings.iter().map(|f| (f.code, f.place.path.as_str())).collect::<Vec<_>>(),
            [("GIT-PATH", "fleet")]
        );
    }

    #[test]
    fn bad_input_35_submodules_pointers_and_filters_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n";
        let other = Oid::from_str("00000000000000000000000000000000000000aa").unwrap();
        let root = tree(
            &repository,
            &[
                (
                    "100644",
                    b".gitattributes",
                    repository.blob(b"*.yaml filter=evil text eol=crlf\n").unwrap(),
                ),
                ("100644", b"big.yaml", repository.blob(pointer).unwrap()),
                ("100644", b"plain.yaml", repository.blob(b"kind: X\n").unwrap()),
                ("160000", b"vendor", other),
            ],
        );
        let head = commit_of(&repository, root, b"x");
        let read_all = read(&repository, head, "", Limits::default()).unwrap();
        // No filter and no line end of gitattributes: the bytes as they were committed.
        assert_eq!(read_all.files, BTreeMap::from([("plain.yaml".to_owned(), b"kind: X\n".to_vec())]));
        let told: Vec<_> =
            read_all.findings.iter().map(|f| (f.code, f.place.path.as_str(), f.is_failure())).collect();
        assert_eq!(told, [("GIT-UNSUPPORTED", "big.yaml", true), ("GIT-UNSUPPORTED", "vendor", false)]);
        // Where the path needs it, it is an error.
        let error = read(&repository, head, "vendor/fleet", Limits::default()).unwrap_err();
        assert!(error.to_string().starts_with("GIT-UNSUPPORTED: spec.path"), "{error}");
    }

    #[test]
    fn bad_input_37_43_oversized_commits_and_bombs_are_not_inflated() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let blob = repository.blob(b"kind: X\n").unwrap();
        let root = tree(&repository, &[("100644", b"a.yaml", blob)]);
        // 43: bytes that are no text pass, for a message decides nothing; a message of megabytes does not.
        let odd = commit_of(&repository, root, b"\xff\xfe\x1b[31mred\x1b]0;title\x07");
        assert_eq!(read(&repository, odd, "", Limits::default()).unwrap().files.len(), 1);
        let huge = commit_of(&repository, root, &vec![b'x'; 100 << 20]);
        let error = read(&repository, huge, "", Limits::default()).unwrap_err();
        assert!(
            error.to_string().starts_with("GIT-LIMIT") && error.to_string().contains("commit"),
            "{error}"
        );
        // 37: a zlib bomb is refused by its header.
        let bomb = repository.blob(&vec![0; 200 << 20]).unwrap();
        let root = tree(&repository, &[("100644", b"bomb.yaml", bomb)]);
        let head = commit_of(&repository, root, b"x");
        let started = std::time::Instant::now();
        let read = read(&repository, head, "", Limits::default()).unwrap();
        assert_eq!(read.findings[0].code, "YAML-SIZE");
        assert!(started.elapsed().as_millis() < 500);
    }

    #[test]
    fn files_of_other_tools_are_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let names = [".gitlab-ci.yml", "a.yaml", "kustomization.yaml", "kustomization.yml", "package.json"];
        let entries: Vec<(&str, &[u8], u32)> =
            names.iter().map(|name| ("100644", name.as_bytes(), 0)).collect();
        let read = read(&repository, commit(&repository, &entries), "", Limits::default()).unwrap();
        assert_eq!(read.files.keys().collect::<Vec<_>>(), ["a.yaml"]);
        assert!(read.findings.is_empty());
    }

    #[test]
    fn a_path_that_is_not_there_or_leads_out_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let head = commit(&repository, &[("100644", b"a.yaml", 0)]);
        assert!(matches!(read(&repository, head, "fleet", Limits::default()), Err(TreeError::NoPath(_))));
        assert!(matches!(read(&repository, head, "../x", Limits::default()), Err(TreeError::BadPath(_))));
    }
}
