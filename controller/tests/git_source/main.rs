//! A Git source on a real API server, with repositories made by the real git.

#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, dead_code, reason = "a test")]

mod bad;
#[path = "../line/contract.rs"]
mod contract;
mod introduced;
mod rights;
mod story;
#[path = "../support/mod.rs"]
mod support;
mod suspended;
mod verified;

use std::time::Instant;

use patchtide_crds::annotations;
use patchtide_tests::git::Repository;
use serde_json::Value;
use support::Ground;

const SOURCE: &str = "gitsource";

struct Bed {
    ground: Ground,
    repository: Repository,
    folder: tempfile::TempDir,
}

fn collection(name: &str, description: &str) -> String {
    format!(
        "apiVersion: patchtide.dev/v1alpha1\nkind: Collection\nmetadata:\n  name: {name}\nspec:\n  all: true\n  description: {description}\n"
    )
}

impl Bed {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut ground = Ground::new(folder.path()).await;
        ground.start();
        let repository = Repository::init(&folder.path().join("repository")).unwrap();
        Self { ground, repository, folder }
    }

    fn source(&self, extra: &str) {
        let url = self.repository.url();
        self.ground.apply(&format!(
            "apiVersion: patchtide.dev/v1alpha1\nkind: GitSource\nmetadata:\n  name: fleet\nspec:\n  url: {url}\n  interval: 10s\n  retryInterval: 10s\n  prune: true\n{extra}"
        ));
    }

    /// Asks for a reconcile and waits until the source says that it was done; returns the source.
    async fn reconcile(&self) -> Value {
        let token = format!("{:?}", Instant::now());
        let note = format!("{}={token}", annotations::REQUESTED_AT);
        self.ground.kubectl(&["annotate", "--overwrite", SOURCE, "fleet", &note]);
        self.ground
            .until(SOURCE, "fleet", 60, |object| {
                let handled = &object["status"]["lastHandledReconcileAt"];
                if *handled == token { Ok(()) } else { Err(format!("handled {handled}, not {token}")) }
            })
            .await;
        self.ground.get(SOURCE, "fleet")
    }

    fn names(&self, kind: &str) -> Vec<String> {
        let text = self.ground.kubectl(&["get", kind, "-o", "name"]);
        text.lines().map(|line| line.rsplit('/').next().unwrap().to_owned()).collect()
    }
}

fn failures(source: &Value) -> Vec<String> {
    let all = source["status"]["failures"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|f| {
            format!("{}:{} {} {}: {}", f["file"], f["line"], f["code"], f["object"], f["message"])
                .replace('"', "")
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_is_brought_into_force_and_kept_there() {
    let mut bed = Bed::new().await;
    bad::valid_objects_apply_beside_a_broken_file(&bed).await;
    story::an_unchanged_resync_writes_nothing(&bed).await;
    story::commit_removal_and_revert_are_carried_out(&bed).await;
    story::drift_is_taken_back(&bed).await;
    bad::what_the_server_refuses_keeps_its_last_good_version(&bed).await;
    story::too_many_deletions_wait_for_approval(&bed).await;
    story::rewritten_history_is_refused(&bed).await;
    introduced::a_deployment_begins_with_the_commit_that_introduced_it(&mut bed).await;
    introduced::bad_input_42_a_date_that_cannot_be_is_told_and_not_used(&bed).await;
    bad::bad_input_20_objects_of_another_tenant_are_missing_ones(&bed).await;
    bad::bad_input_26_an_immutable_field_is_told_with_old_and_new(&bed).await;
    bed.ground.stop().await;
    bad::bad_input_27_nothing_of_an_object_is_lost_in_storage(&bed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_keeps_to_its_suspension_its_account_and_its_own_objects() {
    let mut bed = Bed::new().await;
    suspended::nothing_is_fetched_applied_or_pruned_until_it_is_let_go(&bed).await;
    bad::bad_input_44_failures_beyond_twenty_are_counted_and_named(&bed).await;
    verified::only_what_is_signed_by_those_who_may_is_applied(&bed).await;
    rights::an_account_without_rights_applies_nothing(&bed).await;
    rights::an_account_with_rights_applies_what_it_may_and_nothing_else(&bed).await;
    rights::an_account_that_may_not_be_acted_as_is_told(&bed).await;
    story::what_a_deleted_source_left_is_taken_over_and_its_cache_goes(&bed).await;
    bed.ground.stop().await;
}

impl Bed {
    /// A commit that says that it was made at `date`.
    fn commit_at(&self, date: &str, files: &[(&str, &str)]) -> String {
        for (file, content) in files {
            self.repository.write(file, content).unwrap();
        }
        self.repository.git(&["add", "--all"]).unwrap();
        let mut command = self.repository.command();
        command.env("GIT_AUTHOR_DATE", date).env("GIT_COMMITTER_DATE", date);
        assert!(command.args(["commit", "-q", "-m", "dated"]).status().unwrap().success());
        self.repository.head().unwrap()
    }

    async fn deadline(&self, name: &str) -> String {
        let told = |object: &Value| object["status"]["deadline"].as_str().map(str::to_owned);
        self.ground
            .until("updatedeployment", name, 60, |object| {
                told(object).map(drop).ok_or_else(|| "no deadline".into())
            })
            .await;
        told(&self.ground.get("updatedeployment", name)).unwrap()
    }
}
