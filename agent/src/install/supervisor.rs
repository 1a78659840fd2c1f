//! The process that carries out an operation: `patchtide-agent supervise FOLDER`, started by the agent alone.
//!
//! It leaves the agent's session, so that nothing that ends the agent reaches apt and dpkg, and writes down how they
//! ended. It has no time limit: dpkg is never killed.

use std::{
    fs::OpenOptions,
    path::Path,
    process::{ExitStatus, Stdio},
};

use super::operation::{self, Ended, Plan};
use crate::{
    root::clean_command,
    state::{StateError, read_json, write_json},
};

/// Carries out the plan in `folder`. The operation's lock is this process's standard input.
pub fn supervise(folder: &Path) -> Result<(), StateError> {
    // Fails only when this process leads a group already, which is as good.
    let _ = rustix::process::setsid();
    let path = folder.join(operation::PLAN);
    let plan: Plan = read_json(&path)?
        .ok_or_else(|| StateError::Read { path, source: std::io::ErrorKind::NotFound.into() })?;
    let log = folder.join(operation::OUTPUT);
    let mut ended = Ended { success: true, status: "done".to_owned() };
    for step in &plan.steps {
        let status = run(&step.arguments, &log);
        let (success, words) = match &status {
            Ok(status) => (status.success(), status.to_string()),
            Err(error) => (false, error.to_string()),
        };
        if !success && step.required {
            let program = step.arguments.iter().find(|word| !word.starts_with('/') && *word != "chroot");
            let status = format!("{}: {words}", program.map_or("program", String::as_str));
            ended = Ended { success: false, status };
            break;
        }
    }
    write_json(&folder.join(operation::RESULT), &ended)
}

fn run(arguments: &[String], log: &Path) -> std::io::Result<ExitStatus> {
    let out = OpenOptions::new().create(true).append(true).open(log)?;
    let err = out.try_clone()?;
    clean_command(arguments).stdin(Stdio::null()).stdout(out).stderr(err).status()
}
