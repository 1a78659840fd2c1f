//! The scenarios of `examples/scenarios`, word for word. `PATCHTIDE_WRITE_SCENARIOS=1` writes what they say now.

use std::path::PathBuf;

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/scenarios")
}

fn told(name: &str, seed: u64, output: Output) -> (String, bool) {
    let scenario = read(&folder().join(format!("{name}.yaml"))).unwrap();
    tell(&scenario, seed, output).unwrap()
}

/// Reads a scenario from a text.
fn written(text: &str) -> anyhow::Result<Scenario> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("s.yaml");
    std::fs::write(&file, text)?;
    read(&file).map_err(|error| {
        let words = format!("{error:#}");
        anyhow::anyhow!("{}", words.rsplit_once("s.yaml:").map_or(words.as_str(), |(_, rest)| rest))
    })
}

fn check(name: &str) {
    let (text, held) = told(name, 0, Output::Text);
    let file = folder().join(format!("{name}.txt"));
    if std::env::var_os("PATCHTIDE_WRITE_SCENARIOS").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(held, "{text}");
    assert_eq!(text, golden, "PATCHTIDE_WRITE_SCENARIOS=1 cargo test -p patchtide-cli scenarios writes it");
}

/// R-DEPL, the seeds' "simple, single, global update".
#[test]
fn a_pilot_goes_before_production() {
    check("pilot-then-production");
}

/// R-SCHED-10, R-SCHED-11: staged unseen, released, installed from the cache.
#[test]
fn staged_then_approved() {
    check("staging-then-approval");
}

/// R-LIFE: superseded and deployed; expired and offered no more.
#[test]
fn superseded_but_deployed() {
    check("superseded-but-deployed");
}

/// R-DEPL-46: the three ways of the seeds, and suspend.
#[test]
fn four_ways_to_stop_a_deployment() {
    check("stopping-a-deployment");
}

/// R-MW-09: servers in a window that their owner agreed to; one restart for the batch.
#[test]
fn servers_in_a_window_with_their_owners_consent() {
    check("servers-in-a-window");
}

/// R-UX-16, R-DEPL-33, R-UX-06: people choose, put off up to the deadline, and are forced then.
#[test]
fn a_user_postpones_up_to_the_deadline() {
    check("a-user-postpones");
}

#[test]
fn what_goes_wrong_comes_right() {
    check("everything-goes-wrong");
}

/// Every scenario that is there is checked above.
#[test]
fn no_scenario_is_left_out() {
    let mut names: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .filter_map(|name| name.strip_suffix(".yaml").map(ToOwned::to_owned))
        .collect();
    names.sort();
    let source = include_str!("tests.rs");
    for name in names {
        assert!(source.contains(&format!("check(\"{name}\")")), "{name} is checked by no test");
    }
}

#[test]
fn same_seed_same_bytes() {
    for output in [Output::Text, Output::Json] {
        let first = told("everything-goes-wrong", 7, output);
        assert_eq!(first, told("everything-goes-wrong", 7, output));
    }
    let of = |seed| told("everything-goes-wrong", seed, Output::Json).0;
    assert_ne!(of(1), of(2), "messages are lost at other times");
    let json: serde_json::Value = serde_json::from_str(&of(0)).unwrap();
    assert_eq!(json["passed"], true);
    assert!(json["timeline"].as_array().unwrap().len() > 20);
}

const SMALL: &str = "start: 2026-01-01T00:00:00Z\nend: +1d\nclients:\n  - name: a\n";

/// A mistake is told with its place and what is right, bad input 14.
#[test]
fn mistakes_are_told_with_their_place() {
    let refused = |more: &str| written(&format!("{SMALL}{more}")).unwrap_err().to_string();
    assert!(written(SMALL).is_ok());
    for (more, words) in [
        ("    packges: {}\n", "5:14: a client has no field packges; it has address"),
        ("colour: red\n", "5:9: a scenario has no field colour"),
        ("    zone: Mars/Olympus\n", "5:11: Mars/Olympus is no time zone"),
        ("    count: 20000\n", "5:12: is not a whole number from 0 to 10000"),
        ("updates:\n  - id: openssl\n", "6:9: \"openssl\" is not a valid update"),
        ("events:\n  - at: tomorrow\n    expire: x\n", "6:9: is no time: write an instant"),
        ("events:\n  - at: +1h\n    client: b\n    does: scan\n", "7:13: there is no client b"),
        ("events:\n  - at: +1h\n    client: a\n    does: explode\n", "8:11: is one of kill-agent"),
        ("events:\n  - { at: +1h, client: a, does: schedule, time: noon }\n", "is no time of day"),
        (
            "events:\n  - { at: +1h, client: a, does: schedule, time: \"12:30\", weekdays: [Someday] }\n",
            "is no weekday",
        ),
        ("events:\n  - at: +1h\n", "6:5: an event says what happens"),
        ("expect:\n  - at: +1h\n", "6:5: an expectation is about a client"),
        (
            "objects:\n  - kind: Collection\n    metadata: { name: x }\n    spec: { everybody: true }\n",
            "Collection/x: ",
        ),
        ("objects:\n  - file: nowhere.yaml\n", "cannot read nowhere.yaml"),
    ] {
        let told = refused(more);
        assert!(told.contains(words), "{more}: {told}");
    }
    assert!(written("start: 2026-01-01T00:00:00Z\nend: -1d\nclients: []\n").is_err());
    assert!(written("a: 1\n---\nb: 2\n").unwrap_err().to_string().contains("one YAML document"));
}

#[test]
fn an_expectation_that_does_not_hold_fails_the_scenario() {
    let wrong = format!("{SMALL}expect:\n  - {{ at: +1h, client: a, packages: {{ bash: \"5\" }} }}\n");
    let (text, held) = tell(&written(&wrong).unwrap(), 0, Output::Text).unwrap();
    assert!(!held);
    assert!(
        text.contains("FAILED line 6, 2026-01-01T01:00:00Z: a: bash 5\n       but a: bash is not installed"),
        "{text}"
    );
    assert!(text.ends_with("0 of 1 expectations hold\n"), "{text}");
}
