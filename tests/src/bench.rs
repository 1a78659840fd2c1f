//! `make bench`: each measurement with its peer or limit in the same run, printed as it is.
//!
//! The roles' measurements live beside the roles, as examples of their crates; here they are started, and the peers of the
//! archive sync with them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::archive::{Archive, Suite, download};
use crate::ports::PortLease;
use crate::process::{Daemon, find_program, run};
use crate::wait;

/// Runs of everything that is timed here; the median is shown.
const RUNS: usize = 3;

/// Measurements that are programs of their own: name and example.
const EXAMPLES: [(&str, &str); 5] = [
    ("distribution-point", "bench_dp"),
    ("intake", "bench_intake"),
    ("policy-compiler", "bench_compile"),
    ("simulator", "bench_sim"),
    ("site-planner", "bench_site"),
];

/// Runs the named measurements; all of them when none is named. `examples` is the folder of cargo's built examples.
pub fn run_all(examples: &Path, names: &[String]) -> Result<()> {
    let known: Vec<&str> = EXAMPLES.iter().map(|(name, _)| *name).chain(["apt-sync"]).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(&name.as_str())) {
        bail!("there is no measurement {name}; there are {}", known.join(", "));
    }
    let wanted = |name: &str| names.is_empty() || names.iter().any(|other| other == name);
    if wanted("apt-sync") {
        apt_sync(&examples.join("apt_sync"))?;
    }
    for (name, example) in EXAMPLES {
        if wanted(name) {
            println!("\n==> {name}");
            let status = Command::new(examples.join(example))
                .status()
                .with_context(|| format!("cannot start the example {example}: build it in release mode"))?;
            if !status.success() {
                bail!("{example} failed ({status})");
            }
        }
    }
    Ok(())
}

/// What one round of the archive sync took.
#[derive(Default)]
struct Times {
    ours: Vec<Duration>,
    ours_unchanged: Vec<Duration>,
    apt: Vec<Duration>,
    apt_unchanged: Vec<Duration>,
    aptly: Vec<Duration>,
    xz: Vec<Duration>,
    /// Most memory that ours held, in bytes.
    memory: u64,
}

/// bookworm main from a loopback web server, the same bytes for all; in turns, so that a slow phase of the machine meets
/// everybody.
fn apt_sync(program: &Path) -> Result<()> {
    println!("==> apt-sync: bookworm main from a local nginx, {RUNS} rounds in turns, medians");
    let folder = tempfile::tempdir().context("cannot create a folder")?;
    let folder = folder.path();
    let archive = Archive::detect()?;
    let copy = copy_suite(&archive, folder)?;
    let (server, port) = serve(folder)?;
    let local = Suite { url: format!("http://127.0.0.1:{}", port.port()), ..archive.main.clone() };
    let aptly = Aptly::create(folder, &local, &archive.architecture)?;
    let mut times = Times::default();
    for _ in 0..RUNS {
        time_ours(program, folder, &local, &mut times)?;
        time_apt(folder, &local, &mut times)?;
        times.aptly.push(aptly.update()?);
        times.xz.push(time_xz(folder, &archive)?);
    }
    server.check()?;
    println!("  {copy} bytes of compressed indices (ours and apt take the xz, aptly the gz)");
    let Times { ours, ours_unchanged, apt, apt_unchanged, aptly, xz, memory } = times;
    let (ours, ours_unchanged) = (median(ours), median(ours_unchanged));
    let line = |name: &str, time: Duration, note: &str| {
        println!("  {name:<44} {:>8.3} s  {note}", time.as_secs_f64());
    };
    line("patchtide: fetch, verify, parse, full", ours, &format!("{} MB at most", memory / 1_000_000));
    line("patchtide: unchanged", ours_unchanged, "");
    line("xz alone, the same index (the limit)", median(xz.clone()), "");
    line("apt-get update, empty", median(apt.clone()), "");
    line("apt-get update, unchanged", median(apt_unchanged.clone()), "");
    line("aptly mirror update, nothing selected", median(aptly.clone()), "");
    println!("  RATIO apt-get update to ours: {:.2}", ratio(median(apt), ours));
    println!(
        "  RATIO apt-get update to ours, unchanged: {:.2}",
        ratio(median(apt_unchanged), ours_unchanged)
    );
    println!("  RATIO aptly to ours: {:.2}", ratio(median(aptly), ours));
    println!("  RATIO ours to xz alone: {:.2}", ratio(ours, median(xz)));
    println!("  (no package is stored by any of them; what the site database takes is told by `catalogue`)");
    Ok(())
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(1e-6)
}

/// Copies the release file and the package indices; returns their bytes.
fn copy_suite(archive: &Archive, folder: &Path) -> Result<u64> {
    let suite = &archive.main;
    let local = folder.join("www/dists").join(&suite.suite);
    let indices = format!("main/binary-{}", archive.architecture);
    let by_hash = local.join(&indices).join("by-hash/SHA256");
    fs::create_dir_all(&by_hash).with_context(|| format!("cannot create {}", by_hash.display()))?;
    // aptly, told to ignore signatures, asks for the unsigned file.
    for name in ["InRelease", "Release"] {
        download(&suite.file(name), &local.join(name))?;
    }
    let mut bytes = 0;
    for name in ["Packages.xz", "Packages.gz"] {
        let file = local.join(&indices).join(name);
        download(&suite.file(&format!("{indices}/{name}")), &file)?;
        let content = fs::read(&file).context("cannot read a fetched index")?;
        bytes += content.len() as u64;
        let hash = hex::encode(Sha256::digest(&content));
        fs::hard_link(&file, by_hash.join(hash)).context("cannot link an index")?;
    }
    Ok(bytes)
}

fn serve(folder: &Path) -> Result<(Daemon, PortLease)> {
    let nginx =
        find_program("nginx").context("nginx is missing: `cargo xtask bench` installs nginx-light")?;
    let port = PortLease::take()?;
    let config = folder.join("nginx.conf");
    let text = format!(
        "daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/nginx.err; user root;\n\
         events {{}}\nhttp {{ access_log off; sendfile on; client_body_temp_path {dir}/t1; proxy_temp_path {dir}/t2;\n\
         fastcgi_temp_path {dir}/t3; uwsgi_temp_path {dir}/t4; scgi_temp_path {dir}/t5;\n\
         server {{ listen 127.0.0.1:{port}; root {dir}/www; }} }}\n",
        dir = folder.display(),
        port = port.port()
    );
    fs::write(&config, text).context("cannot write nginx.conf")?;
    let daemon =
        Daemon::spawn("nginx", Command::new(nginx).arg("-c").arg(&config), &folder.join("nginx.log"))?;
    wait::until("nginx", Duration::from_secs(10), || {
        std::net::TcpStream::connect(("127.0.0.1", port.port()))
            .map(|_| ())
            .map_err(|error| error.to_string())
    })?;
    Ok((daemon, port))
}

/// An apt configuration of its own, which has this suite alone.
fn apt_config(folder: &Path, suite: &Suite) -> Result<PathBuf> {
    for name in ["apt/lists/partial", "apt/cache/archives/partial", "apt/state"] {
        fs::create_dir_all(folder.join(name)).context("cannot create a folder for apt")?;
    }
    let dir = folder.join("apt");
    fs::write(dir.join("sources.list"), suite.source_line() + "\n").context("cannot write a sources.list")?;
    let config = dir.join("apt.conf");
    let text = format!(
        "Dir::Etc::Parts \"/dev/null\"; Dir::Etc::Main \"/dev/null\"; Dir::Etc::SourceList \"{dir}/sources.list\";\n\
         Dir::Etc::SourceParts \"/dev/null\"; Dir::State::Lists \"{dir}/lists\"; Dir::State \"{dir}/state\";\n\
         Dir::Cache \"{dir}/cache\"; Acquire::Languages \"none\"; APT::Sandbox::User \"root\";\n",
        dir = dir.display()
    );
    fs::write(&config, text).context("cannot write an apt.conf")?;
    Ok(config)
}

fn time_apt(folder: &Path, suite: &Suite, times: &mut Times) -> Result<()> {
    for name in ["lists", "cache"] {
        fs::remove_dir_all(folder.join("apt").join(name)).context("cannot empty apt's folders")?;
    }
    let config = apt_config(folder, suite)?;
    for list in [&mut times.apt, &mut times.apt_unchanged] {
        let start = Instant::now();
        run(Command::new("apt-get").args(["--quiet", "update"]).env("APT_CONFIG", &config))?;
        list.push(start.elapsed());
    }
    Ok(())
}

/// The example says how long a full and an unchanged synchronisation took, and what memory they needed.
fn time_ours(program: &Path, folder: &Path, suite: &Suite, times: &mut Times) -> Result<()> {
    let config = apt_config(folder, suite)?;
    let text = run(Command::new(program).arg(&suite.suite).env("APT_CONFIG", &config))?;
    for line in text.lines() {
        let told: Value =
            serde_json::from_str(line).context("the example printed something that is not JSON")?;
        let seconds = told["seconds"].as_f64().context("the example told no seconds")?;
        let full = told["what"] == "full";
        let list = if full { &mut times.ours } else { &mut times.ours_unchanged };
        list.push(Duration::from_secs_f64(seconds));
        times.memory = times.memory.max(told["peak_rss_bytes"].as_u64().unwrap_or_default());
    }
    Ok(())
}

/// Decompressing the index and throwing it away: no reader of it can be faster.
fn time_xz(folder: &Path, archive: &Archive) -> Result<Duration> {
    let file = format!("www/dists/{}/main/binary-{}/Packages.xz", archive.main.suite, archive.architecture);
    let start = Instant::now();
    run(Command::new("xz").args(["--test", "--threads=1"]).arg(folder.join(file)))?;
    Ok(start.elapsed())
}

struct Aptly {
    program: PathBuf,
    config: PathBuf,
}

impl Aptly {
    /// A mirror whose filter selects nothing: fetching and parsing alone.
    fn create(folder: &Path, suite: &Suite, architecture: &str) -> Result<Self> {
        let program = find_program("aptly").context("aptly is missing: `cargo xtask bench` installs it")?;
        let config = folder.join("aptly.conf");
        fs::write(&config, format!(r#"{{"rootDir":"{}"}}"#, folder.join("aptly").display()))
            .context("cannot write aptly.conf")?;
        let aptly = Self { program, config };
        run(aptly
            .command()
            .args(["mirror", "create", "-ignore-signatures", "-filter=Name (= none)"])
            .arg(format!("-architectures={architecture}"))
            .args(["local", &suite.url, &suite.suite, "main"]))?;
        Ok(aptly)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg(format!("-config={}", self.config.display()));
        command
    }

    fn update(&self) -> Result<Duration> {
        let start = Instant::now();
        run(self.command().args(["mirror", "update", "-ignore-signatures", "local"]))?;
        Ok(start.elapsed())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
