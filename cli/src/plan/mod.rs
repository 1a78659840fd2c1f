//! `kubectl patchtide plan`: what a change of YAML would do, before it is committed or merged. The files are read as the
//! controller reads them, resolved as it resolves them, and compiled by the same compiler; nothing is written anywhere.

mod fields;
mod json;
mod make;
mod merge;
mod origins;
mod report;
mod source;
mod words;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use jiff::Timestamp;
use kube::Client;

use self::{make::Outcome, words::Style};
use crate::{
    action::say,
    clock,
    snapshot::{self, Wanted},
};

/// Bytes of a comment on a pull request that the common forges take.
const COMMENT_BYTES: usize = 60_000;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder or file of YAML, or a Git revision of the repository here: HEAD, a branch, a commit; or A..B for what B
    /// changes of A
    #[arg(short, long, value_name = "DIR|FILE|REV")]
    filename: String,
    /// Folder within the commit, for a Git revision. Default: its root
    #[arg(long, default_value = "")]
    path: String,
    /// A file of `kubectl patchtide snapshot` to plan against, instead of the cluster
    #[arg(long)]
    snapshot: Option<PathBuf>,
    /// What is not in the folder or commit goes: objects that a GitSource applied (owned), or all of them
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "owned")]
    prune: Option<Prune>,
    /// Output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
    /// Instant from which to look ahead, RFC 3339. Default: the present; with a snapshot the time when it was taken
    #[arg(long, value_name = "TIME")]
    now: Option<Timestamp>,
}

/// What goes when it is not in the folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Prune {
    /// What a `GitSource` applied, as it does itself
    Owned,
    /// Everything
    All,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Output {
    /// For people
    #[default]
    Table,
    /// For a comment on a pull request
    Markdown,
    /// For programs; docs/plan.md describes it
    Json,
}

/// The exit status when something changes, as those who use `diff` in scripts expect; an error is 1, nothing 0.
const CHANGES: u8 = 2;

/// Makes and prints the plan; the exit status.
pub(crate) async fn run(
    arguments: Arguments,
    connect: impl Future<Output = anyhow::Result<(Client, String)>>,
) -> anyhow::Result<u8> {
    let base = if let Some(file) = &arguments.snapshot {
        snapshot::read(file)?
    } else {
        let (client, namespace) = connect.await?;
        let wanted = Wanted { client: None, catalogue: true, resources: true };
        snapshot::live(&client, &namespace, &wanted).await?
    };
    let now = arguments
        .now
        .unwrap_or_else(|| if arguments.snapshot.is_some() { base.taken_at } else { clock::now() });
    let wish = source::read(&arguments.filename, &arguments.path, base.input.site.as_str())?;
    let plan = make::plan(&base, wish, arguments.prune, now)?;
    let text = match arguments.output {
        Output::Json => json::text(&plan).context("the plan cannot be written as JSON")?,
        Output::Table => report::Report::of(&plan, Style::Plain).table(),
        Output::Markdown => report::Report::of(&plan, Style::Markdown).markdown(COMMENT_BYTES),
    };
    say(text.trim_end());
    Ok(match plan.outcome {
        Outcome::Nothing => 0,
        Outcome::Changes => CHANGES,
        Outcome::Error => 1,
    })
}
