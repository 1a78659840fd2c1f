//! Notifications on desktops (`org.freedesktop.Notifications`), sent as the user whose desktop it is.
//!
//! `busctl` of systemd does it, or `notify-send` where that is not there: a program started as the user, with an argument
//! vector and an empty environment. A D-Bus library in the agent would be more code in a process that is root.

use std::{
    io,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    Urgency,
    sessions::{self, Bus},
    words::Message,
};
use crate::root::Root;

/// How long a desktop that does not answer is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Shows the message on every desktop.
pub(super) fn show(root: &Root, message: &Message, urgency: Urgency) {
    for bus in sessions::buses(root) {
        let shown = run(root, &bus, &busctl(message, urgency)).unwrap_or_else(|error| {
            tracing::debug!(%error, "busctl");
            run(root, &bus, &notify_send(message, urgency)).unwrap_or(false)
        });
        tracing::debug!(user = bus.user, shown, "desktop");
    }
}

fn busctl(message: &Message, urgency: Urgency) -> Vec<String> {
    let level = match urgency {
        Urgency::Low => "0",
        Urgency::Normal => "1",
        Urgency::Critical => "2",
    };
    // Critical ones stay until they are put away; others as long as the desktop thinks fit.
    let expires = if urgency == Urgency::Critical { "0" } else { "-1" };
    [
        "busctl",
        "--user",
        "--timeout=5",
        "--quiet",
        "--",
        "call",
        "org.freedesktop.Notifications",
        "/org/freedesktop/Notifications",
        "org.freedesktop.Notifications",
        "Notify",
        "susssasa{sv}i",
        "Patchtide",
        "0",
        "system-software-update",
        &message.summary,
        &markup(&message.body),
        "0",
        "1",
        "urgency",
        "y",
        level,
        expires,
    ]
    .map(str::to_owned)
    .to_vec()
}

fn notify_send(message: &Message, urgency: Urgency) -> Vec<String> {
    let level = match urgency {
        Urgency::Low => "low",
        Urgency::Normal => "normal",
        Urgency::Critical => "critical",
    };
    [
        "notify-send",
        "--app-name=Patchtide",
        "--urgency",
        level,
        "--",
        &message.summary,
        &markup(&message.body),
    ]
    .map(str::to_owned)
    .to_vec()
}

/// Desktops read the body as markup.
fn markup(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Runs a program as the user; whether it ended well. An error: it could not be started.
fn run(root: &Root, bus: &Bus, words: &[String]) -> io::Result<bool> {
    let mut command: Command = root.command_as(bus.user, bus.group, words);
    let folder = bus.folder.display();
    command
        .env("XDG_RUNTIME_DIR", &bus.folder)
        .env("DBUS_SESSION_BUS_ADDRESS", format!("unix:path={folder}/bus"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn()?;
    let ends = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            // What chroot and env say when there is no such program.
            return match status.code() {
                Some(127) => Err(io::ErrorKind::NotFound.into()),
                code => Ok(code == Some(0)),
            };
        }
        if Instant::now() >= ends {
            child.kill()?;
            child.wait()?;
            return Ok(false);
        }
        sleep(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_arguments_and_no_markup() {
        let message = Message { summary: "-x".to_owned(), body: "<b>a & b</b>".to_owned() };
        let words = busctl(&message, Urgency::Critical);
        assert_eq!(words[14..16], ["-x", "&lt;b&gt;a &amp; b&lt;/b&gt;"]);
        assert_eq!(words[19..], ["y", "2", "0"]);
        assert_eq!(notify_send(&message, Urgency::Low)[3..6], ["low", "--", "-x"]);
    }
}
