use patchtide_tests::git::Repository as Worktree;

use super::*;

struct Bed {
    worktree: Worktree,
    _folder: tempfile::TempDir,
}

fn deployment(name: &str, note: &str) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: UpdateDeployment\nmetadata:\n  name: {name}\nspec: {{note: {note}}}\n"
    )
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { worktree: Worktree::init(&folder.path().join("r")).unwrap(), _folder: folder }
    }

    /// A commit made at `date` by author and committer.
    fn commit(&self, date: &str, files: &[(&str, Option<String>)]) -> Oid {
        for (file, content) in files {
            match content {
                Some(content) => self.worktree.write(file, content).unwrap(),
                None => self.worktree.remove(file).unwrap(),
            }
        }
        self.worktree.git(&["add", "--all"]).unwrap();
        let mut command = self.worktree.command();
        command.env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date);
        let output = command.args(["commit", "-q", "--allow-empty", "-m", "x"]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.worktree.head().unwrap().parse().unwrap()
    }

    fn introduction(&self, name: &str, file: &str) -> Introduction {
        self.introduction_since(None, name, file)
    }

    fn introduction_since(&self, known: Option<Known<'_>>, name: &str, file: &str) -> Introduction {
        let repository = Repository::open(self.worktree.path()).unwrap();
        let head = repository.head().unwrap().peel_to_commit().unwrap().id();
        let wanted = BTreeMap::from([(name.to_owned(), file.to_owned())]);
        let mut history = History::new(
            &repository,
            "",
            "UpdateDeployment",
            tree::Limits::default(),
            document::Limits::default(),
        );
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        let mut found = history.introductions(head, &wanted, known, now).unwrap();
        found.remove(&("UpdateDeployment".to_owned(), name.to_owned())).unwrap()
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn edits_moves_and_broken_files_do_not_begin_anew() {
    let bed = Bed::new();
    bed.commit("2026-01-01T00:00:00Z", &[("readme.md", Some("x".into()))]);
    let first = bed.commit("2026-01-02T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    bed.commit("2026-01-03T00:00:00Z", &[("a.yaml", Some(deployment("march", "two")))]);
    bed.commit("2026-01-04T00:00:00Z", &[("a.yaml", Some("kind: UpdateDeployment\nkind: twice\n".into()))]);
    bed.commit(
        "2026-01-05T00:00:00Z",
        &[
            ("a.yaml", None),
            ("b/c.yaml", Some(format!("{}---\n{}", deployment("april", "x"), deployment("march", "three")))),
        ],
    );
    let found = bed.introduction("march", "b/c.yaml");
    assert_eq!(found, Introduction { commit: first, time: Some(at("2026-01-02T00:00:00Z")) });
    assert_eq!(bed.introduction("april", "b/c.yaml").time, Some(at("2026-01-05T00:00:00Z")));
}

#[test]
fn what_was_taken_out_and_comes_back_begins_anew() {
    let bed = Bed::new();
    bed.commit("2026-01-01T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    bed.commit("2026-01-02T00:00:00Z", &[("a.yaml", None)]);
    let again = bed.commit("2026-01-03T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    assert_eq!(bed.introduction("march", "a.yaml").commit, again);
}

#[test]
fn what_stood_in_a_known_revision_is_not_followed_beyond_it() {
    let bed = Bed::new();
    let march = bed.commit("2026-01-01T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    let known = bed.introduction("march", "a.yaml");
    assert_eq!(known.commit, march);
    // What is known is believed: another answer shows that nobody looked behind it.
    let told = Introduction { commit: march, time: Some(at("2025-12-24T00:00:00Z")) };
    let objects = BTreeMap::from([(("UpdateDeployment".to_owned(), "march".to_owned()), told.clone())]);
    let head = bed.commit("2026-01-02T00:00:00Z", &[("b.yaml", Some(deployment("april", "one")))]);
    let since =
        |head, name, file| bed.introduction_since(Some(Known { head, objects: &objects }), name, file);
    assert_eq!(since(march, "march", "a.yaml"), told);
    assert_eq!(since(march, "april", "b.yaml").commit, head);
    // Taken out and put back, it begins anew, whatever was known.
    bed.commit("2026-01-03T00:00:00Z", &[("a.yaml", None)]);
    let again = bed.commit("2026-01-04T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    assert_eq!(since(march, "march", "a.yaml").commit, again);
}

#[test]
fn a_merge_is_where_the_branch_came_in() {
    let bed = Bed::new();
    bed.commit("2026-01-01T00:00:00Z", &[("readme.md", Some("x".into()))]);
    bed.worktree.git(&["checkout", "-q", "-b", "work"]).unwrap();
    bed.commit("2026-01-02T00:00:00Z", &[("a.yaml", Some(deployment("march", "one")))]);
    bed.worktree.git(&["checkout", "-q", "main"]).unwrap();
    let mut command = bed.worktree.command();
    command.env("GIT_COMMITTER_DATE", "2026-02-01T00:00:00Z").env("GIT_AUTHOR_DATE", "2026-02-01T00:00:00Z");
    assert!(command.args(["merge", "-q", "--no-ff", "-m", "merge", "work"]).status().unwrap().success());
    assert_eq!(bed.introduction("march", "a.yaml").time, Some(at("2026-02-01T00:00:00Z")));
}

#[test]
fn bad_input_42_dates_that_lie() {
    let bed = Bed::new();
    bed.commit("2026-01-01T00:00:00Z", &[("readme.md", Some("x".into()))]);
    bed.commit("2099-01-01T00:00:00Z", &[("future.yaml", Some(deployment("future", "x")))]);
    bed.commit("1970-01-02T00:00:00Z", &[("past.yaml", Some(deployment("past", "x")))]);
    bed.commit("2010-01-01T00:00:00Z", &[("back.yaml", Some(deployment("back", "x")))]);
    assert_eq!(bed.introduction("future", "future.yaml").time, None);
    assert_eq!(bed.introduction("past", "past.yaml").time, None);
    assert_eq!(
        bed.introduction("back", "back.yaml").time,
        Some(at("2026-01-01T00:00:00Z")),
        "raised to its parents'"
    );
}
