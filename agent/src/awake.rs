//! Keeping the machine awake while updates are downloaded and installed (R-SCHED-07), by an inhibitor lock of logind.
//!
//! `systemd-inhibit` holds the lock as long as the program that it runs lives. That program is `cat`, which reads from a pipe
//! of this process: whatever ends the agent ends the pipe, and the machine may sleep again.

use std::{
    io,
    process::{Child, Command, Stdio},
    thread,
};

use crate::root::Root;

/// Sleep at a word of a person or of a timer, and what a closed lid does to a machine that was just woken.
const WHAT: &str = "--what=sleep:idle:handle-lid-switch";

/// Holds the machine awake, or not.
#[derive(Debug)]
pub struct Awake {
    root: Root,
    held: Option<Child>,
    /// It did not work: told once, and not tried again by this process.
    given_up: bool,
}

impl Awake {
    /// Holds nothing yet.
    pub const fn new(root: Root) -> Self {
        Self { root, held: None, given_up: false }
    }

    /// Holds the machine awake from now on, or lets it go.
    pub fn keep(&mut self, awake: bool) {
        if self.held.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None))) {
            self.held = None;
            self.give_up("systemd-inhibit ended by itself: no logind runs here, or it refuses");
        }
        if !awake {
            self.release();
        } else if self.held.is_none() && !self.given_up {
            let words = [
                "systemd-inhibit",
                WHAT,
                "--who=Patchtide",
                "--why=Updates are being installed",
                "--mode=block",
                "cat",
            ];
            match hold(self.root.command(&words)) {
                Ok(child) => self.held = Some(child),
                Err(error) => self.give_up(&error.to_string()),
            }
        }
    }

    /// Whether it is held, as far as is known.
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn give_up(&mut self, why: &str) {
        if !self.given_up {
            tracing::info!(why, "this machine cannot be kept awake during installations");
        }
        self.given_up = true;
    }

    fn release(&mut self) {
        let Some(mut child) = self.held.take() else { return };
        drop(child.stdin.take());
        // It ends by itself in a moment; nobody waits for it here.
        thread::spawn(move || drop(child.wait()));
    }
}

impl Drop for Awake {
    fn drop(&mut self) {
        self.release();
    }
}

fn hold(mut command: Command) -> io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// What systemd-inhibit runs ends when the agent lets go of its pipe, and not before.
    #[test]
    fn what_holds_the_lock_ends_with_the_pipe() {
        let mut child = hold(Command::new("cat")).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(child.try_wait().unwrap().is_none());
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }

    /// Without systemd nothing is held, nothing fails, and it is not tried again and again.
    #[test]
    fn a_machine_without_logind_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let mut awake = Awake::new(Root::new(folder.path()));
        for _ in 0..200 {
            awake.keep(true);
            if awake.given_up {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        assert!(awake.given_up && !awake.is_held());
        awake.keep(true);
        assert!(!awake.is_held());
        awake.keep(false);
    }
}
