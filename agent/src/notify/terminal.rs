//! Writing to terminals, as `wall` does.

use std::{
    fs::{File, OpenOptions},
    io::{self, IsTerminal as _, Write as _},
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use super::{sessions, words::Message};
use crate::root::Root;

/// How long one terminal that takes nothing (stopped, or nobody reads) is waited for.
const PATIENCE: Duration = Duration::from_secs(2);

/// Writes to every terminal on which somebody is logged in.
pub(super) fn write(root: &Root, message: &Message) {
    let text = text(message);
    for line in sessions::terminals(root) {
        if let Err(error) = write_one(&root.path("/dev").join(&line), text.as_bytes()) {
            tracing::debug!(line, %error, "not told on this terminal");
        }
    }
}

/// Begins and ends on a line of its own; a terminal in raw mode gets its carriage returns too.
fn text(message: &Message) -> String {
    let mut text = format!("\r\n*** Patchtide: {}\r\n", message.summary);
    for line in message.body.lines() {
        text.push_str("    ");
        text.push_str(line);
        text.push_str("\r\n");
    }
    text
}

fn write_one(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let flags = i32::try_from(flags.bits()).unwrap_or_default();
    let mut file: File = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.file_type().is_char_device() || !file.is_terminal() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a terminal"));
    }
    let ends = Instant::now() + PATIENCE;
    let mut rest = bytes;
    while !rest.is_empty() {
        match file.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < ends => {
                sleep(Duration::from_millis(50));
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_terminals_are_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pts");
        std::fs::write(&file, "precious").unwrap();
        let message = Message { summary: "s".to_owned(), body: "one\ntwo".to_owned() };
        assert!(write_one(&file, text(&message).as_bytes()).is_err());
        assert!(write_one(Path::new("/dev/null"), b"x").is_err(), "a device, but no terminal");
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
        assert_eq!(text(&message), "\r\n*** Patchtide: s\r\n    one\r\n    two\r\n");
    }
}
