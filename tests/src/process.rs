//! Child processes: started by one thread that lives as long as the test process, ended with it, logged to files.

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

/// Runs a command to its end and returns its standard output; the error holds the command line and standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let line = command_line(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{line}`: is the program installed?"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`run`], with `input` as standard input.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let line = command_line(command);
    // A file and not a pipe: a program that writes a lot before it has read everything would block both sides.
    let mut file = tempfile::tempfile().context("cannot create a temporary file")?;
    std::io::Write::write_all(&mut file, input.as_bytes()).context("cannot write a temporary file")?;
    file.seek(SeekFrom::Start(0)).context("cannot rewind a temporary file")?;
    let output = command.stdin(file).output().with_context(|| format!("cannot start `{line}`"))?;
    if !output.status.success() {
        bail!("`{line}` failed ({}): {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A command as one would type it.
pub fn command_line(command: &Command) -> String {
    let words: Vec<_> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    words.join(" ")
}

/// A running child process in a process group of its own, its output in a log file.
///
/// Dropping it sends SIGTERM to the group and, after ten seconds, SIGKILL. When the test process dies, the kernel
/// kills the child.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    log: PathBuf,
    pid: Pid,
    child: Mutex<Child>,
    ended: OnceLock<ExitStatus>,
}

impl Daemon {
    /// Starts `command` with standard output and error appended to `log`.
    pub fn spawn(name: &str, command: &Command, log: &Path) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot open the log {}", log.display()))?;
        let errors = output.try_clone().context("cannot share a log file")?;
        let mut wrapped = die_with_parent(command);
        wrapped.stdin(Stdio::null()).stdout(output).stderr(errors).process_group(0);
        let child = spawn_from_lasting_thread(wrapped)
            .with_context(|| format!("cannot start {name}: `{}`", command_line(command)))?;
        let pid = Pid::from_child(&child);
        Ok(Self {
            name: name.to_owned(),
            log: log.to_owned(),
            pid,
            child: Mutex::new(child),
            ended: OnceLock::new(),
        })
    }

    /// The name given at the start.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The process id, also of its process group.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Where its output goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last `lines` lines of its output.
    pub fn log_tail(&self, lines: usize) -> String {
        tail(&self.log, lines)
    }

    /// How it ended, if it has.
    pub fn ended(&self) -> Result<Option<ExitStatus>> {
        if let Some(status) = self.ended.get() {
            return Ok(Some(*status));
        }
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let status = child.try_wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if let Some(status) = status {
            self.ended.get_or_init(|| status);
        }
        Ok(status)
    }

    /// An error with the end of the log if the process has ended.
    pub fn check(&self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => Err(anyhow!(
                "{} ended ({status}); the end of {}:\n{}",
                self.name,
                self.log.display(),
                self.log_tail(20)
            )),
        }
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            bail!("{} has ended already", self.name);
        }
        kill_process(self.pid, signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// Ends the whole group at once with SIGKILL, as a power cut would, and waits for the process.
    pub fn kill(&self) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        // ESRCH: it ended in between.
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.wait(Duration::from_secs(10))
    }

    /// SIGTERM to the process, SIGKILL to the group after `limit`; returns how it ended.
    pub fn stop(&self, limit: Duration) -> Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        let _ = kill_process(self.pid, Signal::TERM);
        match self.wait(limit) {
            Ok(status) => {
                // What the process left behind in its group.
                let _ = kill_process_group(self.pid, Signal::KILL);
                Ok(status)
            }
            Err(_) => self.kill(),
        }
    }

    /// Waits for the process to end by itself.
    pub fn wait(&self, limit: Duration) -> Result<ExitStatus> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if start.elapsed() > limit {
                bail!("{} still runs after {:.1} s", self.name, limit.as_secs_f64());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// True when the process was ended by this signal.
    pub fn ended_by(&self, signal: Signal) -> bool {
        matches!(self.ended(), Ok(Some(status)) if status.signal() == Some(signal.as_raw()))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.stop(Duration::from_secs(10));
    }
}

/// The last `lines` lines of a text file; empty when it cannot be read.
pub fn tail(path: &Path, lines: usize) -> String {
    const MOST: u64 = 64 * 1024;
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(MOST)))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let mut last = VecDeque::new();
    for line in text.lines() {
        if last.len() == lines {
            last.pop_front();
        }
        last.push_back(line);
    }
    Vec::from(last).join("\n")
}

/// The same command under `setpriv --pdeathsig KILL`, which survives every later `exec`.
fn die_with_parent(command: &Command) -> Command {
    let mut wrapped = Command::new("setpriv");
    wrapped.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => wrapped.env(name, value),
            None => wrapped.env_remove(name),
        };
    }
    if let Some(folder) = command.get_current_dir() {
        wrapped.current_dir(folder);
    }
    wrapped
}

type Job = (Command, Sender<std::io::Result<Child>>);

/// The parent-death signal is sent when the *thread* that started the child ends, so one thread starts them all.
fn spawn_from_lasting_thread(command: Command) -> Result<Child> {
    static SPAWNER: OnceLock<Mutex<Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (sender, receiver) = channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, reply) in receiver {
                // Nobody to tell: the child is dropped, not killed, but its pid is known to no one either.
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = channel();
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, reply))
        .map_err(|_| anyhow!("the thread that starts processes has ended"))?;
    let child = answer.recv().context("the thread that starts processes has ended")??;
    Ok(child)
}

/// Finds a program in `PATH` and the system folders that a user's `PATH` may lack.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin", "/usr/local/sbin"].iter().map(PathBuf::from))
        .map(|folder| folder.join(OsStr::new(name)))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_carries_command_and_standard_error() {
        let error = run(Command::new("ls").arg("/nonexistent-folder")).unwrap_err().to_string();
        assert!(error.contains("`ls /nonexistent-folder`") && error.contains("No such file"), "{error}");
    }

    #[test]
    fn daemon_is_logged_and_stopped_with_its_group() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo hello; sleep 1000 & echo $!; wait"]);
        let daemon = Daemon::spawn("sleeper", &command, &folder.path().join("log")).unwrap();
        let inner = crate::wait::until("two lines", Duration::from_secs(5), || {
            let log = daemon.log_tail(5);
            log.lines().nth(1).map(str::to_owned).ok_or(log)
        })
        .unwrap();
        assert!(Path::new("/proc").join(&inner).exists());
        daemon.stop(Duration::from_secs(5)).unwrap();
        crate::wait::until("the grandchild's end", Duration::from_secs(5), || {
            let status = fs::read_to_string(format!("/proc/{inner}/status")).unwrap_or_default();
            if status.is_empty() || status.contains("State:\tZ") { Ok(()) } else { Err(status) }
        })
        .unwrap();
    }

    #[test]
    fn child_outlives_the_thread_that_asked_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let daemon = std::thread::spawn(move || {
            let mut command = Command::new("sleep");
            command.arg("1000");
            Daemon::spawn("sleep", &command, &log).unwrap()
        })
        .join()
        .unwrap();
        std::thread::sleep(Duration::from_millis(200));
        daemon.check().unwrap();
    }
}
