//! Reading the YAML files of a commit straight from the object database: no checkout, no filters, no links
//! followed, no submodules (bad-input catalogue #32 to #37).

use std::collections::BTreeMap;

use git2::{ObjectType, Oid, Repository, Tree};

use super::verdict::{Finding, Place, clean};

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
    #[error("GIT-PATH: spec.path: {0:?} is not a folder of the commit; give the folder that holds the objects")]
    NoPath(String),
    /// The path itself is not acceptable.
    #[error("GIT-PATH: spec.path: {0:?} must be relative, without .., empty or . parts")]
    BadPath(String),
    /// Too much.
    #[error("GIT-LIMIT: the commit exceeds the limit of {limit} {what}; split the repository or set spec.path")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many.
        limit: usize,
    },
}

/// Reads every `*.yaml` and `*.yml` below `path` of `commit`.
pub fn read(repository: &Repository, commit: Oid, path: &str, limits: Limits) -> Result<Files, TreeError> {
    let corrupt = |what: &str, source| TreeError::Corrupt { what: what.to_owned(), source };
    let mut tree = repository
        .find_commit(commit)
        .and_then(|commit| commit.tree())
        .map_err(|source| corrupt("the commit", source))?;
    let path = path.trim_start_matches("./").trim_matches('/');
    if path.split('/').any(|part| part == "..") || path.contains('\\') || path.chars().any(char::is_control) {
        return Err(TreeError::BadPath(clean(path)));
    }
    let mut prefix = String::new();
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        let entry = tree.get_name(part).map(|entry| (entry.kind(), entry.id()));
        let Some((Some(ObjectType::Tree), id)) = entry else {
            return Err(TreeError::NoPath(clean(path)));
        };
        tree = repository.find_tree(id).map_err(|source| corrupt(path, source))?;
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
            let Some(name) = std::str::from_utf8(entry.name_bytes()).ok().filter(|name| acceptable(name)) else {
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
                    format!("differs from {twin:?} only in upper and lower case; rename one of them"),
                ));
                continue;
            }
            let yaml = is_yaml(name);
            match (entry.kind(), entry.filemode()) {
                (Some(ObjectType::Tree), _) if name.starts_with('.') => {}
                (Some(ObjectType::Tree), _) => {
                    let folder = self.repository.find_tree(entry.id()).map_err(|source| TreeError::Corrupt {
                        what: place.path.clone(),
                        source,
                    })?;
                    self.folder(&folder, &format!("{prefix}{name}/"), depth + 1)?;
                }
                (_, 0o120_000) if yaml => self.out.findings.push(Finding::failure(
                    "GIT-SYMLINK",
                    place,
                    "symbolic links are not followed; commit the file itself",
                )),
                (Some(ObjectType::Commit), _) => self.out.findings.push(Finding::warning(
                    "GIT-UNSUPPORTED",
                    place,
                    "submodules are not followed; give their repository a GitSource of its own",
                )),
                (Some(ObjectType::Blob), _) if yaml && name != "kustomization.yaml" => {
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

fn is_yaml(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(stem, ending)| !stem.is_empty() && matches!(ending, "yaml" | "yml"))
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

    #[test]
    fn a_path_that_is_not_there_or_leads_out_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let repository = Repository::init_bare(dir.path()).unwrap();
        let head = commit(&repository, &[("100644", b"a.yaml", 0)]);
        assert!(matches!(read(&repository, head, "fleet", Limits::default()), Err(TreeError::NoPath(_))));
        assert!(matches!(read(&repository, head, "../x", Limits::default()), Err(TreeError::BadPath(_))));
    }
}
