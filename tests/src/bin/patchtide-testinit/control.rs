//! The socket between process 1 and the commands on the host: one line asked, one line answered.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

const SOCKET: &str = "/run/patchtide-test/init.sock";

/// A line from a command, and where the answer goes.
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) answer: Sender<String>,
}

/// Listens in the background and passes requests on.
pub(crate) fn listen(requests: Sender<Request>) -> Result<(), String> {
    let folder = Path::new(SOCKET).parent().unwrap_or(Path::new("/run"));
    fs::create_dir_all(folder).map_err(|error| format!("cannot create {}: {error}", folder.display()))?;
    let listener =
        UnixListener::bind(SOCKET).map_err(|error| format!("cannot listen on {SOCKET}: {error}"))?;
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let requests = requests.clone();
            std::thread::spawn(move || serve(stream, &requests));
        }
    });
    Ok(())
}

fn serve(mut stream: UnixStream, requests: &Sender<Request>) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut line = String::new();
    BufReader::new(stream.try_clone().ok()?).read_line(&mut line).ok()?;
    let (answer, answered) = channel();
    requests.send(Request { line: line.trim().to_owned(), answer }).ok()?;
    let text = answered.recv_timeout(Duration::from_secs(30)).ok()?;
    writeln!(stream, "{text}").ok()
}

/// Asks process 1; an answer that does not begin with `ok` is an error.
pub(crate) fn ask(line: &str) -> Result<(), String> {
    let answer = ask_text(line)?;
    if answer.starts_with("ok") { Ok(()) } else { Err(answer) }
}

/// Asks process 1 and returns its answer.
pub(crate) fn ask_text(line: &str) -> Result<String, String> {
    let mut stream =
        UnixStream::connect(SOCKET).map_err(|error| format!("cannot reach process 1: {error}"))?;
    writeln!(stream, "{line}").map_err(|error| format!("cannot ask process 1: {error}"))?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(|error| format!("no answer of process 1: {error}"))?;
    Ok(answer.trim().to_owned())
}
