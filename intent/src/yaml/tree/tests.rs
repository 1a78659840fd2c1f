use std::collections::BTreeMap;

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
    let mut text = format!("tree {tree}\nauthor a <a@b> 1 +0000\ncommitter a <a@b> 1 +0000\n\n").into_bytes();
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
fn bad_input_33_a_link_to_a_folder_of_objects_is_told_and_other_links_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let repository = Repository::init_bare(dir.path()).unwrap();
    let link = |target: &str| repository.blob(target.as_bytes()).unwrap();
    let file = repository.blob(b"kind: X\n").unwrap();
    let shared = tree(&repository, &[("100644", b"a.yaml", file)]);
    let site = tree(
        &repository,
        &[
            ("120000", b"LICENSE", link("../LICENSE")),
            ("120000", b"common", link("../shared/")),
            ("120000", b"loop", link("loop")),
            ("120000", b"outside", link("../../etc")),
            ("120000", b"root", link("/shared")),
        ],
    );
    let root = tree(
        &repository,
        &[("100644", b"LICENSE", file), ("40000", b"shared", shared), ("40000", b"site", site)],
    );
    let read = read(&repository, commit_of(&repository, root, b"x"), "site", Limits::default()).unwrap();
    assert!(read.files.is_empty(), "{:?}", read.files.keys());
    // A failure, so that nothing is pruned because a folder was replaced by a link to it.
    let told: Vec<_> =
        read.findings.iter().map(|f| (f.code, f.place.path.as_str(), f.is_failure())).collect();
    assert_eq!(told, [("GIT-SYMLINK", "site/common", true)]);
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
            ("100644", b".gitattributes", repository.blob(b"*.yaml filter=evil text eol=crlf\n").unwrap()),
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
    assert!(error.to_string().starts_with("GIT-LIMIT") && error.to_string().contains("commit"), "{error}");
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
    let entries: Vec<(&str, &[u8], u32)> = names.iter().map(|name| ("100644", name.as_bytes(), 0)).collect();
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
