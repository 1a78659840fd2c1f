//! The main loop of process 1: services, orphans, shutdown.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, kill_process_group, test_kill_process, wait};
use rustix::system::RebootCommand;

use crate::control::{self, Request};

/// One service per line: name, program, arguments, separated by blanks.
const SERVICES: &str = "/etc/patchtide-test/services";

/// Between the end of a service and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// For a service to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(15);

struct Service {
    words: Vec<String>,
    pid: Option<Pid>,
    /// When it is to be started; none for a service that was stopped by hand.
    due: Option<Instant>,
}

struct Init {
    services: BTreeMap<String, Service>,
    shutdown: Option<(RebootCommand, Instant)>,
}

/// Runs until the host is shut down; returns only on an error.
pub(crate) fn run() -> Result<(), String> {
    let (sender, requests) = channel();
    control::listen(sender)?;
    let mut init = Init { services: read_services()?, shutdown: None };
    println!("testinit: up, services: {}", init.services.keys().cloned().collect::<Vec<_>>().join(" "));
    loop {
        init.reap();
        init.start_due();
        init.answer(&requests);
        if let Some((how, when)) = init.shutdown
            && when <= Instant::now()
        {
            return init.end(how);
        }
    }
}

fn read_services() -> Result<BTreeMap<String, Service>, String> {
    let text = match fs::read_to_string(SERVICES) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(format!("cannot read {SERVICES}: {error}")),
    };
    let mut services = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let mut words = line.split_whitespace().map(str::to_owned);
        if let Some(name) = words.next() {
            let service = Service { words: words.collect(), pid: None, due: Some(Instant::now()) };
            services.insert(name, service);
        }
    }
    Ok(services)
}

impl Init {
    /// Takes the exit status of every ended process: services and orphans alike.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            for (name, service) in &mut self.services {
                if service.pid == Some(pid) {
                    println!("testinit: {name} ended ({status:?})");
                    service.pid = None;
                    service.due = service.due.map(|_| Instant::now() + PAUSE);
                }
            }
        }
    }

    fn start_due(&mut self) {
        for (name, service) in &mut self.services {
            if service.pid.is_some() || service.due.is_none_or(|due| due > Instant::now()) {
                continue;
            }
            let Some((program, args)) = service.words.split_first() else { continue };
            let spawned = Command::new(program)
                .args(args)
                .current_dir("/")
                .stdin(Stdio::null())
                .process_group(0)
                .spawn();
            match spawned {
                Ok(child) => service.pid = Some(Pid::from_child(&child)),
                Err(error) => {
                    println!("testinit: cannot start {name}: {program}: {error}");
                    service.due = Some(Instant::now() + PAUSE);
                }
            }
        }
    }

    fn answer(&mut self, requests: &Receiver<Request>) {
        let Ok(Request { line, answer }) = requests.recv_timeout(Duration::from_millis(50)) else { return };
        let text = self.request(&line).unwrap_or_else(|error| error);
        // The asking command may have gone away.
        let _ = answer.send(text);
    }

    fn request(&mut self, line: &str) -> Result<String, String> {
        let (verb, argument) = line.split_once(' ').unwrap_or((line, ""));
        match verb {
            "reboot" | "poweroff" => {
                let how = if verb == "reboot" { RebootCommand::Restart } else { RebootCommand::PowerOff };
                let delay: u64 =
                    argument.parse().map_err(|_| format!("{argument} is not a number of seconds"))?;
                println!("testinit: {verb} asked, in {delay} s");
                self.shutdown = Some((how, Instant::now() + Duration::from_secs(delay)));
            }
            "cancel" => self.shutdown = None,
            "is-active" => {
                let service = self.service(argument)?;
                let state = if service.pid.is_some() { "ok active" } else { "ok inactive" };
                return Ok(state.to_owned());
            }
            "start" => {
                self.service(argument)?.due = Some(Instant::now());
            }
            "stop" | "restart" => {
                let service = self.service(argument)?;
                service.due = None;
                if let Some(pid) = service.pid {
                    stop(pid);
                }
                if verb == "restart" {
                    service.due = Some(Instant::now());
                }
            }
            _ => return Err(format!("unknown request {verb}")),
        }
        Ok("ok".to_owned())
    }

    fn service(&mut self, name: &str) -> Result<&mut Service, String> {
        let name = name.trim_end_matches(".service");
        self.services.get_mut(name).ok_or_else(|| format!("Unit {name}.service could not be found."))
    }

    /// Stops the services, then everything else, and makes the call.
    fn end(&mut self, how: RebootCommand) -> Result<(), String> {
        for (name, service) in self.services.iter_mut().rev() {
            service.due = None;
            if let Some(pid) = service.pid.take() {
                println!("testinit: stopping {name}");
                stop(pid);
            }
        }
        for signal in [Signal::TERM, Signal::KILL] {
            for pid in others() {
                let _ = kill_process(pid, signal);
            }
            let start = Instant::now();
            while !others().is_empty() && start.elapsed() < Duration::from_secs(2) {
                let _ = wait(WaitOptions::NOHANG);
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        println!("testinit: down");
        rustix::fs::sync();
        rustix::system::reboot(how).map_err(|error| format!("reboot(2): {error}"))
    }
}

/// SIGTERM, patience, SIGKILL to its group.
fn stop(pid: Pid) {
    let _ = kill_process(pid, Signal::TERM);
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        // Orphans are reaped on the way; the service's own status is not needed any more.
        let _ = wait(WaitOptions::NOHANG);
        if test_kill_process(pid).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = kill_process_group(pid, Signal::KILL);
}

/// All processes of the host but this one.
fn others() -> Vec<Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|&pid| pid != 1)
        .filter_map(Pid::from_raw)
        .collect()
}
