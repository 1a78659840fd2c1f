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
const EXAMPLES: [(&str, &str); 2] = [("distribution-point", "bench_dp"), ("intake", "bench_intake")];

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

/// bookworm main from a loopback web server, the same bytes for all three.
fn apt_sync(program: &Path) -> Result<()> {
    println!("==> apt-sync: bookworm main from a local nginx, median of {RUNS}");
    let folder = tempfile::tempdir().context("cannot create a folder")?;
    let archive = Archive::detect()?;
    let copy = copy_suite(&archive, folder.path())?;
    let (server, port) = serve(folder.path())?;
    let local = Suite { url: format!("http://127.0.0.1:{}", port.port()), ..archive.main.clone() };

    let (empty, unchanged) = time_apt(folder.path(), &local)?;
    let ours = time_ours(program, folder.path(), &local)?;
    let aptly = time_aptly(folder.path(), &local, &archive.architecture)?;
    server.check()?;
    println!("  {copy} bytes of compressed indices (xz and gz)");
    let line = |name: &str, time: Duration, note: &str| {
        println!("  {:<44} {:>8.3} s  {note}", name, time.as_secs_f64());
    };
    line("patchtide: fetch, verify, parse, full", ours.0, "");
    line("apt-get update, empty", empty, &ratio(empty, ours.0));
    line("aptly mirror update, nothing selected", aptly, &ratio(aptly, ours.0));
    line("patchtide: unchanged", ours.1, "");
    line("apt-get update, unchanged", unchanged, &ratio(unchanged, ours.1));
    println!("  (no package is stored by any of them; the site database is not part of it)");
    Ok(())
}

fn ratio(peer: Duration, ours: Duration) -> String {
    format!("{:.1} times ours", peer.as_secs_f64() / ours.as_secs_f64().max(1e-6))
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

fn time_apt(folder: &Path, suite: &Suite) -> Result<(Duration, Duration)> {
    let config = apt_config(folder, suite)?;
    let update = || -> Result<Duration> {
        let start = Instant::now();
        run(Command::new("apt-get").args(["--quiet", "update"]).env("APT_CONFIG", &config))?;
        Ok(start.elapsed())
    };
    let (mut empty, mut unchanged) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        for name in ["lists", "cache"] {
            fs::remove_dir_all(folder.join("apt").join(name)).context("cannot empty apt's folders")?;
        }
        apt_config(folder, suite)?;
        empty.push(update()?);
        unchanged.push(update()?);
    }
    Ok((median(empty), median(unchanged)))
}

/// The example says how long a full and an unchanged synchronisation took.
fn time_ours(program: &Path, folder: &Path, suite: &Suite) -> Result<(Duration, Duration)> {
    let config = apt_config(folder, suite)?;
    let (mut full, mut unchanged) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        let text = run(Command::new(program).arg(&suite.suite).env("APT_CONFIG", &config))?;
        for line in text.lines() {
            let told: Value =
                serde_json::from_str(line).context("the example printed something that is not JSON")?;
            let seconds = told["seconds"].as_f64().context("the example told no seconds")?;
            let list = if told["what"] == "full" { &mut full } else { &mut unchanged };
            list.push(Duration::from_secs_f64(seconds));
        }
    }
    Ok((median(full), median(unchanged)))
}

fn time_aptly(folder: &Path, suite: &Suite, architecture: &str) -> Result<Duration> {
    let aptly = find_program("aptly").context("aptly is missing: `cargo xtask bench` installs it")?;
    let config = folder.join("aptly.conf");
    fs::write(&config, format!(r#"{{"rootDir":"{}"}}"#, folder.join("aptly").display()))
        .context("cannot write aptly.conf")?;
    let command = |words: &[&str]| {
        let mut command = Command::new(&aptly);
        command.arg(format!("-config={}", config.display())).args(words);
        command
    };
    let architectures = format!("-architectures={architecture}");
    run(&mut command(&[
        "mirror",
        "create",
        "-ignore-signatures",
        "-filter=Name (= none)",
        &architectures,
        "local",
        &suite.url,
        &suite.suite,
        "main",
    ]))?;
    let mut times = Vec::new();
    for _ in 0..RUNS {
        let start = Instant::now();
        run(&mut command(&["mirror", "update", "-ignore-signatures", "local"]))?;
        times.push(start.elapsed());
    }
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
