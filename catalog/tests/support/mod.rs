//! A small archive of our own and a server that can misbehave.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::format_push_string,
    clippy::format_collect,
    reason = "helpers of tests"
)]

pub mod keys;
pub mod machine;
pub mod repo;
pub mod server;

use jiff::Timestamp;
use patchtide_catalog::apt::{
    Approvals, AptSource, AptState, DatePolicy, LineEvent, LineResult, LineSnapshot, Mode, Rules, Run,
    RunOptions, SyncError,
};
use patchtide_catalog::http::{Fetcher, HttpOptions};
use patchtide_catalog::openpgp::Keyring;
use std::sync::Arc;
use std::time::Duration;

/// The time of signatures that are made now.
pub fn now() -> Timestamp {
    Timestamp::from_second(i64::from(pgp::types::Timestamp::now().as_secs())).unwrap()
}

pub fn fetcher() -> Fetcher {
    let options = HttpOptions {
        retry_pause: Duration::from_millis(10),
        read_timeout: Duration::from_secs(2),
        rate_window: Duration::from_millis(300),
        ..HttpOptions::default()
    };
    Fetcher::new(options).unwrap()
}

pub fn source(url: &str, keyring: &[u8]) -> AptSource {
    AptSource {
        name: "test".into(),
        url: url.parse().unwrap(),
        suites: vec!["stable".into()],
        components: vec!["main".into()],
        architectures: ["amd64".to_owned()].into(),
        keyring: Keyring::parse(keyring).unwrap(),
        rules: Rules::default(),
        dates: DatePolicy::default(),
        approvals: Approvals::default(),
    }
}

/// Runs to the end, accepting everything.
pub async fn run_all(
    source: AptSource,
    state: AptState,
    mode: Mode,
    options: RunOptions,
) -> (Vec<LineEvent>, AptState) {
    let mut run = Run::new(fetcher(), source, state, mode, now(), options).unwrap();
    let mut events = Vec::new();
    while let Some(event) = run.next().await {
        if matches!(event.result, Ok(LineResult::Changed(_))) {
            run.accept(&event.line);
        }
        events.push(event);
    }
    (events, run.into_state())
}

/// Runs a source with a single line.
pub async fn run_one(source: AptSource, state: AptState) -> (Result<LineResult, Arc<SyncError>>, AptState) {
    let (mut events, state) = run_all(source, state, Mode::Full, RunOptions::default()).await;
    assert_eq!(events.len(), 1, "{events:?}");
    (events.remove(0).result, state)
}

pub fn changed(result: Result<LineResult, Arc<SyncError>>) -> LineSnapshot {
    match result {
        Ok(LineResult::Changed(snapshot)) => *snapshot,
        Err(error) => panic!("{}", error.chain()),
        Ok(other) => panic!("{other:?}"),
    }
}

pub fn refused(result: Result<LineResult, Arc<SyncError>>) -> Arc<SyncError> {
    match result {
        Err(error) => error,
        Ok(other) => panic!("accepted: {other:?}"),
    }
}
