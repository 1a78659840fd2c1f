//! Process 1 of a test host, and the commands by which programs on that host talk to it.
//!
//! Under the names `shutdown`, `reboot`, `poweroff`, `halt` and `systemctl` it is what those commands are on a real
//! machine: they ask process 1, which stops the services in order and makes the `reboot(2)` call. In a PID namespace
//! that call ends process 1 with SIGHUP (restart) or SIGINT (power off), which the runner outside sees.

mod boot;
mod control;
mod supervise;
mod systemctl;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let name = args.first().and_then(|word| Path::new(word).file_name()?.to_str()).unwrap_or_default();
    let words: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    let result =
        match (name, words.as_slice()) {
            ("shutdown", words) => shutdown(words),
            ("reboot", _) => control::ask("reboot 0"),
            ("poweroff" | "halt", _) => control::ask("poweroff 0"),
            ("systemctl", words) => return systemctl::main(words),
            (_, ["boot", root, hostname]) => boot::boot(Path::new(root), hostname),
            (_, ["init"]) => supervise::run(),
            _ => Err("usage: patchtide-testinit boot ROOT HOSTNAME (as process 1 of a new PID namespace)"
                .to_owned()),
        };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// `shutdown [-r|-P|-h|-c] [now|+MINUTES]`
fn shutdown(words: &[&str]) -> Result<(), String> {
    let mut verb = "poweroff";
    let mut delay = 60;
    for word in words {
        match *word {
            "-r" | "--reboot" => verb = "reboot",
            "-P" | "-h" | "-H" | "--poweroff" | "--halt" => verb = "poweroff",
            "-c" => return control::ask("cancel"),
            "now" => delay = 0,
            word if word.starts_with('+') => {
                let minutes: u64 = word[1..].parse().map_err(|_| format!("{word} is not +MINUTES"))?;
                delay = minutes * 60;
            }
            word if word.starts_with('-') => return Err(format!("unknown option {word}")),
            // The message for logged-in users.
            _ => {}
        }
    }
    control::ask(&format!("{verb} {delay}"))
}
