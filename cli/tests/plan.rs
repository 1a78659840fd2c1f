//! `kubectl patchtide plan` as people run it: the example of docs/plan.md with its golden outputs, what scripts rely on, a
//! real Git repository, and bad input. `PATCHTIDE_BLESS=1` writes the golden files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test says what is wrong by failing")]

mod example;

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use example::{root, snapshot};
use git2::{Oid, Repository, Signature};
use patchtide_planner::snapshot::Snapshot;
use serde_json::Value;

fn run(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kubectl-patchtide"))
        .arg("plan")
        .args(arguments)
        .current_dir(folder)
        .env_remove("KUBECONFIG")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Exit status and everything that was said.
fn said(output: &Output) -> (i32, String) {
    let all = format!("{}{}", text(&output.stdout), text(&output.stderr));
    (output.status.code().unwrap(), all)
}

/// Compares with the file, or writes it.
fn golden(name: &str, text: &str) {
    let file = root().join("examples/plan").join(name);
    if std::env::var_os("PATCHTIDE_BLESS").is_some() {
        fs::write(&file, text).unwrap();
    }
    let known = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, known, "{} differs: PATCHTIDE_BLESS=1 writes it", file.display());
}

#[test]
fn the_snapshot_of_the_example_is_what_its_folder_means() {
    let mut json = serde_json::to_string_pretty(&snapshot()).unwrap();
    json.push('\n');
    golden("snapshot.json", &json);
}

/// R-DEPL-30: a summary before anything is applied.
#[test]
fn the_example_in_all_three_forms() {
    for (form, file) in [("table", "plan.txt"), ("markdown", "plan.md"), ("json", "plan.json")] {
        let arguments = [
            "-f",
            "examples/plan/changed",
            "--snapshot",
            "examples/plan/snapshot.json",
            "--prune=all",
            "-o",
            form,
        ];
        let output = run(&root(), &arguments);
        assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(2)));
        golden(file, &text(&output.stdout));
    }
}

#[test]
fn exit_status_0_is_nothing_and_2_is_changes() {
    let plan = |folder: &str, more: &[&str]| {
        let mut arguments = vec!["-f", folder, "--snapshot", "examples/plan/snapshot.json"];
        arguments.extend(more);
        said(&run(&root(), &arguments))
    };
    let (status, told) = plan("examples/plan/now", &[]);
    assert_eq!((status, told.lines().next()), (0, Some("Nothing changes.")), "{told}");
    assert_eq!(plan("examples/plan/now", &["--prune=all"]).0, 0);
    // One file alone says nothing about the others, unless they are to be pruned.
    assert_eq!(plan("examples/plan/now/windows.yaml", &[]).0, 0);
    assert_eq!(plan("examples/plan/changed/windows.yaml", &[]).0, 2);
    // Nothing there came from a GitSource: it would prune nothing.
    assert_eq!(plan("examples/plan/now/windows.yaml", &["--prune"]).0, 0);
    let (status, told) = plan("examples/plan/now/windows.yaml", &["--prune=all"]);
    assert!(status == 2 && told.contains("- UpdateDeployment/openssl"), "{told}");
    // What was asked wrongly is an error and no change; help was asked for.
    let (status, told) = plan("examples/plan/now", &["--prnue"]);
    assert!(status == 1 && told.contains("--prune"), "{told}");
    assert_eq!(plan("examples/plan/now", &["--help"]).0, 0);
    // A hash that stays, wherever and whenever it is computed.
    let hash = |more: &[&str]| -> String {
        let mut arguments = vec!["-o", "json"];
        arguments.extend(more);
        let json: Value = serde_json::from_str(&plan("examples/plan/changed", &arguments).1).unwrap();
        json["hash"].as_str().unwrap().to_owned()
    };
    assert_eq!(hash(&[]), hash(&[]));
    assert_ne!(hash(&[]), hash(&["--prune=all"]));
}

/// Issue 4: planning again on its own result gives no changes.
#[test]
fn planning_again_on_the_result_gives_no_changes() {
    let folder = tempfile::tempdir().unwrap();
    let result: Snapshot = example::of(&root().join("examples/plan/changed"));
    let file = folder.path().join("result.json.zst");
    fs::write(&file, zstd::encode_all(serde_json::to_vec(&result).unwrap().as_slice(), 3).unwrap()).unwrap();
    let (status, told) = said(&run(
        &root(),
        &["-f", "examples/plan/changed", "--prune=all", "--snapshot", file.to_str().unwrap()],
    ));
    assert_eq!(status, 0, "{told}");
}

/// A repository with the two folders of the example as two commits of `fleet/`, the second on a branch of its own.
fn repository(folder: &Path) -> Repository {
    let repository = Repository::init(folder).unwrap();
    let fill = |from: &str| {
        let to = folder.join("fleet");
        fs::remove_dir_all(&to).ok();
        fs::create_dir(&to).unwrap();
        for entry in fs::read_dir(root().join("examples/plan").join(from)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    fill("now");
    let first = commit(&repository, "HEAD", &[]);
    repository.branch("main-line", &repository.find_commit(first).unwrap(), false).unwrap();
    fill("changed");
    let second = commit(&repository, "refs/heads/feature", &[first]);
    repository.set_head("refs/heads/feature").unwrap();
    assert_eq!(repository.head().unwrap().target(), Some(second));
    // The working tree says nothing: only what is committed counts.
    fs::remove_dir_all(folder.join("fleet")).unwrap();
    repository
}

fn commit(repository: &Repository, reference: &str, parents: &[Oid]) -> Oid {
    let mut index = repository.index().unwrap();
    index.add_all(["*"], git2::IndexAddOption::DEFAULT, None).unwrap();
    index.update_all(["*"], None).unwrap();
    let tree = repository.find_tree(index.write_tree().unwrap()).unwrap();
    let who = Signature::new("a", "a@b", &git2::Time::new(1, 0)).unwrap();
    let parents: Vec<_> = parents.iter().map(|id| repository.find_commit(*id).unwrap()).collect();
    let parents: Vec<_> = parents.iter().collect();
    repository.commit(Some(reference), &who, &who, "x", &tree, &parents).unwrap()
}

#[test]
fn commits_and_ranges_of_a_real_repository() {
    let folder = tempfile::tempdir().unwrap();
    let repository = repository(folder.path());
    let base = root().join("examples/plan/snapshot.json");
    let plan = |revision: &str, more: &[&str]| {
        let mut arguments = vec!["-f", revision, "--snapshot", base.to_str().unwrap(), "-o", "json"];
        arguments.extend(more);
        run(folder.path(), &arguments)
    };
    let hash = |output: &Output| -> (i32, String) {
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(output).1));
        (output.status.code().unwrap(), json["objects"].as_array().unwrap().len().to_string())
    };
    let fleet = ["--path", "fleet"];
    assert_eq!(hash(&plan("main-line", &fleet)), (0, "0".to_owned()));
    assert_eq!(hash(&plan("HEAD", &fleet)), (2, "3".to_owned()));
    let head = repository.head().unwrap().target().unwrap().to_string();
    assert_eq!(hash(&plan(&head[..10], &fleet)), (2, "3".to_owned()));
    // A range says what goes as well; three dots start where the branch began.
    assert_eq!(hash(&plan("main-line..feature", &fleet)), (2, "4".to_owned()));
    assert_eq!(hash(&plan("main-line...HEAD", &fleet)), (2, "4".to_owned()));
    assert_eq!(hash(&plan("HEAD..HEAD", &fleet)), (0, "0".to_owned()));
    assert_eq!(hash(&plan("feature", &["--path", "fleet", "--prune=all"])), (2, "4".to_owned()));
    for (revision, more, needle) in [
        ("no-such-branch", &fleet[..], "neither a file nor a folder nor a revision"),
        ("main-line..nothing", &fleet[..], "neither a file nor a folder nor a revision"),
        (
            "HEAD",
            &["--path", "elsewhere"][..],
            "GIT-PATH: --path: \"elsewhere\" is not a folder of the commit",
        ),
        ("HEAD", &["--path", "../.."][..], "GIT-PATH: --path"),
        ("main-line..HEAD", &["--path", "fleet", "--prune=all"][..], "leave --prune out"),
    ] {
        let (status, told) = said(&plan(revision, more));
        assert!(status == 1 && told.contains(needle), "{revision}: {told}");
    }
}

/// What is wrong is told with its place, and nothing is promised about the rest.
#[test]
fn bad_input_is_named_and_ends_with_1() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = root().join("examples/plan/snapshot.json");
    let plan = |name: &str, yaml: &str| {
        let file = folder.path().join(name);
        fs::write(&file, yaml).unwrap();
        said(&run(folder.path(), &["-f", name, "--snapshot", snapshot.to_str().unwrap()]))
    };
    let object = |kind: &str, spec: &str| {
        format!("apiVersion: patchtide.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
    };
    let window = |zone: &str| {
        let spec = format!(
            "{{collection: web, start: '02:00', duration: 1h, timeZone: {zone}, recurrence: {{daily: {{}}}}}}"
        );
        object("MaintenanceWindow", &spec)
    };
    for (yaml, needle) in [
        // Bad input 13: a field that there is not.
        (object("Collection", "{al: true}"), "x.yaml:4:12 FIELD-UNKNOWN Collection/x"),
        ("kind: [\n".to_owned(), "x.yaml:"),
        (object("Colection", "{all: true}"), "did you mean patchtide.dev/v1alpha1 Collection?"),
        (object("Collection", "{all: true}").repeat(2).replace("apiV", "---\napiV"), "OBJ-DUP"),
        // Bad input 94: a zone that there is not.
        (window("Europe/Berlim"), "did you mean Europe/Berlin?"),
    ] {
        let (status, told) = plan("x.yaml", &yaml);
        assert!(status == 1 && told.contains(needle), "{status} {told}");
    }
    // What waits for something else is told and is no error: the rest of the change may bring it.
    for (spec, needle) in [
        (
            "{updates: ['debian/bookworm-security/main:gone@1'], collection: web}",
            "the catalogue does not know",
        ),
        (
            "{updates: ['debian/bookworm-security/main:openssl@3.0.22-1'], collection: gone}",
            "collection gone does not exist",
        ),
        (
            "{updates: ['debian/bookworm-security/main:openssl@3.0.22-1'], collection: web, template: t}",
            "deployment template t does not exist",
        ),
    ] {
        let (status, told) = plan("x.yaml", &object("UpdateDeployment", spec));
        assert!(status == 2 && told.contains("waits") && told.contains(needle), "{status} {told}");
    }
    let (status, told) =
        said(&run(folder.path(), &["-f", "nowhere", "--snapshot", snapshot.to_str().unwrap()]));
    assert!(
        status == 1 && told.contains("neither a file nor a folder, and there is no Git repository"),
        "{told}"
    );
    fs::create_dir(folder.path().join("empty")).unwrap();
    let (status, told) =
        said(&run(folder.path(), &["-f", "empty", "--snapshot", snapshot.to_str().unwrap()]));
    assert!(status == 1 && told.contains("holds no YAML file"), "{told}");
}

#[test]
fn snapshots_that_cannot_be_used_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let known: Value = serde_json::to_value(snapshot()).unwrap();
    let plan = |name: &str, bytes: &[u8]| {
        let file: PathBuf = folder.path().join(name);
        fs::write(&file, bytes).unwrap();
        let now = root().join("examples/plan/now");
        said(&run(folder.path(), &["-f", now.to_str().unwrap(), "--snapshot", name]))
    };
    let mut other = known.clone();
    other["version"] = 99.into();
    let (status, told) = plan("other.json", other.to_string().as_bytes());
    assert!(status == 1 && told.contains("snapshot of form 99"), "{told}");
    let (status, told) = plan("text.json", b"hello");
    assert!(status == 1 && told.contains("it is no snapshot"), "{told}");
    let mut cut = zstd::encode_all(known.to_string().as_bytes(), 3).unwrap();
    cut.truncate(cut.len() / 2);
    let (status, told) = plan("cut.zst", &cut);
    assert!(status == 1 && told.contains("it is no snapshot"), "{told}");
    let mut bare = known;
    bare.as_object_mut().unwrap().remove("resources");
    let (status, told) = plan("bare.json", bare.to_string().as_bytes());
    assert!(status == 1 && told.contains("holds no custom resources"), "{told}");
    let (status, told) = said(&run(folder.path(), &["-f", "/", "--snapshot", "missing.json"]));
    assert!(status == 1 && told.contains("missing.json"), "{told}");
}

/// R-COLL-04: machines that a token enrolled are members although no spec names them.
#[test]
fn members_by_token_stay_members() {
    let folder = tempfile::tempdir().unwrap();
    let mut base = snapshot();
    let kiosk = base.input.clients.iter().find(|client| client.name == "kiosk-1").unwrap().id.to_string();
    let web = base.input.objects.collections.values_mut().find(|c| c.name.as_str() == "web").unwrap();
    web.direct_members.insert(kiosk);
    let file = folder.path().join("base.json");
    fs::write(&file, serde_json::to_vec(&base).unwrap()).unwrap();
    let (status, told) =
        said(&run(&root(), &["-f", "examples/plan/now", "--snapshot", file.to_str().unwrap()]));
    assert_eq!(status, 0, "{told}");
}

/// A comment on a pull request has a limit; what does not fit is counted.
#[test]
fn a_comment_keeps_its_limit() {
    let folder = tempfile::tempdir().unwrap();
    let mut yaml = String::new();
    for number in 0..600 {
        let _ = write!(
            yaml,
            "---\napiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata: {{name: d-{number}}}\nspec: {{updates: ['debian/bookworm-security/main:openssl@3.0.22-1'], collection: web}}\n"
        );
        if number % 150 == 149 {
            fs::write(folder.path().join(format!("{number}.yaml")), std::mem::take(&mut yaml)).unwrap();
        }
    }
    let snapshot = root().join("examples/plan/snapshot.json");
    let output = run(folder.path(), &["-f", ".", "--snapshot", snapshot.to_str().unwrap(), "-o", "markdown"]);
    let comment = text(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output).1);
    assert!(comment.len() <= 60_000 && comment.len() > 30_000, "{}", comment.len());
    assert!(comment.contains("are left out here"), "{}", &comment[comment.len() - 400..]);
    assert_eq!(comment.matches("<details>").count(), comment.matches("</details>").count());
}
