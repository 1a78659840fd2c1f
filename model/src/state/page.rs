//! `docs/states.md` says what the tables say. `PATCHTIDE_WRITE_DOCS=1` writes it.

use std::{fmt::Write as _, fs, path::Path};

use super::{
    Compliance, DeploymentEnforcement, Detection, Evaluation, Failure, LeaseKind, Leased, Scan,
    UpdateEnforcement, may_follow,
};

fn set<S: Leased>(out: &mut String, title: &str) {
    let _ = write!(out, "\n## {title}, topic {}\n\n", S::TOPIC);
    let _ = writeln!(
        out,
        "| | state | may be followed by | must move by | then |\n| --- | --- | --- | --- | --- |"
    );
    for state in S::ALL.iter().copied() {
        let next: Vec<String> = S::ALL
            .iter()
            .filter(|to| **to != state && **to != S::UNKNOWN && may_follow(state, **to))
            .map(|to| to.id().to_string())
            .collect();
        let next = if state == S::UNKNOWN { "any".to_owned() } else { next.join(", ") };
        let (by, then) = match state.lease_rule() {
            Some(rule) if rule.kind == LeaseKind::Ends => (rule.by, rule.then.to_owned()),
            Some(rule) => (rule.by, format!("{}; else renewed", rule.then)),
            None if state == S::UNKNOWN => ("", String::new()),
            None => ("final", String::new()),
        };
        let _ = writeln!(out, "| {} | {} | {next} | {by} | {then} |", state.id(), state.name());
    }
    if S::RULES.is_empty() {
        return;
    }
    let _ = writeln!(out, "\n| from | to | because |\n| --- | --- | --- |");
    for rule in S::RULES {
        let ids = |states: &[S]| {
            let mut ids: Vec<u8> = states.iter().map(|state| state.id()).collect();
            ids.sort_unstable();
            ids.iter().map(u8::to_string).collect::<Vec<_>>().join(", ")
        };
        let _ = writeln!(out, "| {} | {} | {} |", ids(rule.from), ids(rule.to), rule.because);
    }
}

fn tables() -> String {
    let mut out = String::new();
    set::<UpdateEnforcement>(&mut out, "Update enforcement");
    set::<DeploymentEnforcement>(&mut out, "Deployment enforcement");
    set::<Evaluation>(&mut out, "Deployment evaluation");
    set::<Compliance>(&mut out, "Deployment compliance");
    set::<Detection>(&mut out, "Update detection");
    set::<Scan>(&mut out, "Scan");
    failures(&mut out);
    out
}

fn failures(out: &mut String) {
    let _ = writeln!(
        out,
        "\n## Errors next to a state\n\n\
         Every error that the agent reports. The code is one that Configuration Manager publishes, the number in\n\
         brackets the status message that it sends beside such a state.\n\n\
         | symbol | code | what happened | what to do |\n| --- | --- | --- | --- |"
    );
    for failure in Failure::ALL {
        let message = failure.status_message().map_or_else(String::new, |id| format!(" ({id})"));
        let _ = writeln!(
            out,
            "| `{}` | `{:08X}`{message} | {} | {} |",
            failure.symbol(),
            failure.code(),
            failure.words(),
            failure.remedy()
        );
    }
}

const MARK: &str = "<!-- written from model/src/state: do not edit below -->\n";

#[test]
fn the_page_of_states_says_what_the_tables_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/states.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, kept) = page.split_once(MARK).unwrap();
    let tables = tables();
    if std::env::var_os("PATCHTIDE_WRITE_DOCS").is_some() {
        fs::write(&path, format!("{head}{MARK}{tables}")).unwrap();
    } else {
        assert_eq!(kept, tables, "write it with PATCHTIDE_WRITE_DOCS=1 cargo test -p patchtide-model page");
    }
}
