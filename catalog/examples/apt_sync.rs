//! Times the synchronisation of the machine's own Debian archive, and prints one JSON object per line for benchmarks.
//!
//! `cargo run --release -p patchtide-catalog --example apt_sync -- [SUITE...] [--gz]`; without a suite: `bookworm`.
//! The archive is the one of the machine's apt configuration.

use std::time::Instant;

use patchtide_catalog::apt::{
    Approvals, AptSource, AptState, Compression, DatePolicy, LineResult, Mode, Rules, Run, RunOptions,
};
use patchtide_catalog::http::{Fetcher, HttpOptions};
use patchtide_catalog::openpgp::Keyring;

#[path = "../tests/support/machine.rs"]
#[expect(unreachable_pub, reason = "shared with the tests")]
mod machine;

type Failure = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let (flags, mut suites): (Vec<String>, Vec<String>) =
        std::env::args().skip(1).partition(|a| a.starts_with("--"));
    if suites.is_empty() {
        suites.push("bookworm".to_owned());
    }
    for suite in suites {
        let archive = machine::suites().into_iter().find(|s| s.suite == suite);
        let archive = archive.ok_or_else(|| format!("apt has no source for {suite}"))?.archive;
        let source = AptSource {
            name: "debian".into(),
            url: archive.parse()?,
            suites: vec![suite],
            components: vec!["main".into()],
            architectures: [machine::architecture()].into(),
            keyring: Keyring::parse(&std::fs::read(machine::KEYRING)?)?,
            rules: Rules::default(),
            dates: DatePolicy { check_valid_until: false, ..DatePolicy::default() },
            approvals: Approvals::default(),
        };
        let gzip = flags.iter().any(|f| f == "--gz");
        let state = sync("full", source.clone(), AptState::default(), gzip).await?;
        sync("unchanged", source, state, gzip).await?;
    }
    Ok(())
}

async fn sync(what: &str, source: AptSource, state: AptState, gzip: bool) -> Result<AptState, Failure> {
    let mut options = RunOptions::default();
    if gzip {
        options.compressions = vec![Compression::Gzip];
    }
    let progress = options.progress.clone();
    #[expect(clippy::disallowed_methods, reason = "the edge of a program")]
    let now = jiff::Timestamp::now();
    let begin = Instant::now();
    let mut run = Run::new(Fetcher::new(HttpOptions::default())?, source, state, Mode::Full, now, options)?;
    while let Some(event) = run.next().await {
        let (updates, superseded, packages) = match event.result {
            Ok(LineResult::Changed(snapshot)) => {
                let superseded = snapshot.updates.iter().filter(|u| u.superseded_by.is_some()).count();
                run.accept(&event.line);
                (snapshot.updates.len(), superseded, snapshot.stanzas)
            }
            Ok(_) => (0, 0, 0),
            Err(error) => return Err(error.chain().into()),
        };
        let told = serde_json::json!({
            "bench": "apt-sync", "what": what, "line": event.line.to_string(), "seconds": begin.elapsed().as_secs_f64(),
            "updates": updates, "superseded": superseded, "packages": packages, "bytes": progress.snapshot().bytes,
            "peak_rss_bytes": peak_rss(),
        });
        println!("{told}");
    }
    Ok(run.into_state())
}

/// The most memory that this process has held, in bytes; 0 where the kernel does not say.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
