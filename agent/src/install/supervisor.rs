//! The process that carries out an operation: `patchtide-agent supervise FOLDER`, started by the agent alone.
//!
//! It leaves the agent's session, so that nothing that ends the agent reaches apt and dpkg, and writes down how they
//! ended. It has no time limit: dpkg is never killed; a maintainer script or hook that hangs is (see [`super::stuck`]).

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    path::Path,
    process::{ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    operation::{self, Ended, Plan},
    stuck::Watch,
};
use crate::{
    clock,
    root::clean_command,
    state::{StateError, read_json, write_json},
};

/// Carries out the plan in `folder`. The operation's lock is this process's standard input.
pub fn supervise(folder: &Path) -> Result<(), StateError> {
    // Fails only when this process leads a group already, which is as good.
    let _ = rustix::process::setsid();
    let path = folder.join(operation::PLAN);
    let plan: Plan =
        read_json(&path)?.ok_or_else(|| StateError::Read { path, source: io::ErrorKind::NotFound.into() })?;
    let log = folder.join(operation::OUTPUT);
    let limit = Duration::try_from(plan.script_limit).unwrap_or(Duration::MAX);
    let mut ended = Ended { success: true, status: "done".to_owned(), overran: Vec::new(), withdrawn: false };
    if plan.not_after.is_some_and(|latest| clock::read().running > latest) {
        "too late: the window is too short now".clone_into(&mut ended.status);
        (ended.success, ended.withdrawn) = (false, true);
        return write_json(&folder.join(operation::RESULT), &ended);
    }
    for step in &plan.steps {
        let (success, words) = match run(&step.arguments, &log, limit, &mut ended.overran) {
            Ok(status) => (status.success(), status.to_string()),
            Err(error) => (false, error.to_string()),
        };
        if !success && step.required {
            let program = step.arguments.iter().find(|word| !word.starts_with('/') && *word != "chroot");
            ended.success = false;
            ended.status = format!("{}: {words}", program.map_or("program", String::as_str));
            break;
        }
    }
    write_json(&folder.join(operation::RESULT), &ended)
}

fn run(
    arguments: &[String],
    log: &Path,
    limit: Duration,
    overran: &mut Vec<String>,
) -> io::Result<ExitStatus> {
    let out = OpenOptions::new().create(true).append(true).open(log)?;
    let (err, own) = (out.try_clone()?, out.try_clone()?);
    // Whoever asks a question finds no terminal and an end at once, never a wait.
    let mut child = clean_command(arguments).stdin(Stdio::null()).stdout(out).stderr(err).spawn()?;
    let top = i32::try_from(child.id()).unwrap_or_default();
    let (done, ends) = channel::<()>();
    let watcher = thread::spawn(move || {
        let mut watch = Watch::new(top, limit);
        while ends.recv_timeout(watch.interval()) == Err(RecvTimeoutError::Timeout) {
            for name in watch.look(Instant::now()) {
                note(&own, &name, limit);
            }
        }
        watch.finish()
    });
    let status = child.wait();
    drop(done);
    overran.extend(watcher.join().unwrap_or_default());
    status
}

/// A word in the output, between those of dpkg. A disk that is full must not keep the script alive.
fn note(mut log: &File, name: &str, limit: Duration) {
    let _ = writeln!(log, "patchtide-agent: {name} runs longer than {} s: it is ended", limit.as_secs());
}
