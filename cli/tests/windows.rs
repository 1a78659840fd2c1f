//! `kubectl patchtide windows -f` as people run it: no cluster, the example file, all three outputs, and mistakes.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    io::Write as _,
    process::{Command, Output, Stdio},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kinds/maintenance-window.yaml");

fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_kubectl-patchtide"))
        .arg("windows")
        .args(arguments)
        .env("KUBECONFIG", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn said(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(arguments: &[&str], input: &str) -> String {
    let output = run(arguments, input);
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

/// R-MW-09: the night after Patch Tuesday, weekday nights on the client's clock, the year's end denied.
#[test]
fn the_example_file_is_shown_without_a_cluster() {
    let range =
        ["-f", EXAMPLE, "--client-zone", "Europe/Berlin", "--from", "2026-12-01", "--to", "2027-01-02"];
    let table = said(&range, "");
    assert!(
        table.contains("after-patch-tuesday  Wed 2026-12-09 01:00 +01:00  Wed 2026-12-09 04:00 +01:00  3h"),
        "{table}"
    );
    assert!(table.contains("weekday-nights       Tue 2026-12-01 22:00 +01:00"), "{table}");
    assert!(
        table.lines().any(|line| line.starts_with("year-end-closing") && line.ends_with("Deny")),
        "{table}"
    );

    let json = said(&[&range[..], &["--union", "-o", "json"]].concat(), "");
    let list: serde_json::Value = serde_json::from_str(&json).unwrap();
    // Updates have a window of their own, which displaces those for all deployments.
    assert_eq!(list, serde_json::json!([{"start": "2026-12-09T00:00:00Z", "end": "2026-12-09T03:00:00Z"}]));
    let restarts = said(&[&range[..], &["--union", "--purpose", "restart", "-o", "json"]].concat(), "");
    assert!(restarts.contains("2026-12-06T03:00:00Z"), "{restarts}");

    let calendar = said(&[&range[..], &["-o", "ics"]].concat(), "");
    assert!(calendar.starts_with("BEGIN:VCALENDAR\r\n") && calendar.trim_end().ends_with("END:VCALENDAR"));
    assert!(
        calendar.contains("UID:20261209T000000Z.after-patch-tuesday.default@patchtide.dev\r\n"),
        "{calendar}"
    );
}

/// Bad input 94: a name that is nearly right, with file, line, field and what was meant.
#[test]
fn a_mistake_ends_with_one_and_says_where() {
    let text = std::fs::read_to_string(EXAMPLE).unwrap().replace("Europe/Berlin", "Europe/Berlim");
    let told = complaint(&["-f", "-"], &text);
    assert!(told.contains("-:17:13") && told.contains("did you mean Europe/Berlin?"), "{told}");
    assert!(complaint(&["-f", EXAMPLE], "").contains("--client-zone"));
    assert!(complaint(&["-f", "/nowhere.yaml"], "").contains("cannot be read"));
    let told = complaint(&["nights"], "");
    assert!(told.contains("no cluster is known") && told.contains("KUBECONFIG"), "{told}");
}
