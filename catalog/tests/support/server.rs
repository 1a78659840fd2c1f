//! An HTTP server that does what a test tells it, right or wrong. It only listens on the loopback address.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

#[derive(Clone)]
pub enum Answer {
    /// The file, with ranges and conditional requests.
    File(Vec<u8>),
    /// The file without ranges: always everything.
    Whole(Vec<u8>),
    /// The first time only so many bytes before the connection breaks; then as `File`.
    CutOnce(Vec<u8>, usize),
    /// From where the range asks, so many bytes before the connection breaks; every time.
    CutAlways(Vec<u8>, usize),
    /// One byte at a time with this pause.
    Dribble(Vec<u8>, Duration),
    /// This status and body.
    Status(u16, &'static str, &'static str),
    /// A redirect to this location, written as it is.
    Redirect(String),
    /// The first answer once, from then on the second.
    Then(Box<Answer>, Box<Answer>),
}

#[derive(Default)]
struct State {
    answers: BTreeMap<String, Answer>,
    requests: Vec<(String, String)>,
}

#[derive(Clone)]
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { url, state }
    }

    pub fn set(&self, path: &str, answer: Answer) {
        self.state.lock().unwrap().answers.insert(path.trim_start_matches('/').to_owned(), answer);
    }

    pub fn file(&self, path: &str, bytes: impl Into<Vec<u8>>) {
        self.set(path, Answer::File(bytes.into()));
    }

    pub fn remove(&self, path: &str) {
        self.state.lock().unwrap().answers.remove(path.trim_start_matches('/'));
    }

    pub fn files(&self, files: BTreeMap<String, Vec<u8>>) {
        for (path, bytes) in files {
            self.file(&path, bytes);
        }
    }

    /// Requested paths since the last call, with what each asked for beyond them.
    pub fn take_requests(&self) -> Vec<(String, String)> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }
}

async fn serve(mut stream: TcpStream, state: Arc<Mutex<State>>) {
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    while !request.windows(4).any(|w| w == b"\r\n\r\n") {
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => request.extend_from_slice(&buffer[..n]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&request).into_owned();
    let path = head.split(' ').nth(1).unwrap_or("/").trim_start_matches('/').to_owned();
    let header = |name: &str| {
        head.lines().find_map(|l| {
            l.split_once(": ").filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.to_owned())
        })
    };
    let (range, known) = (header("range"), header("if-none-match"));
    let answer = {
        let mut state = state.lock().unwrap();
        let asked = range.clone().or_else(|| known.clone()).unwrap_or_default();
        state.requests.push((path.clone(), asked));
        let answer = state.answers.get(&path).cloned();
        match &answer {
            Some(Answer::CutOnce(bytes, _)) => {
                state.answers.insert(path, Answer::File(bytes.clone()));
            }
            Some(Answer::Then(_, next)) => {
                state.answers.insert(path, (**next).clone());
            }
            _ => {}
        }
        match answer {
            Some(Answer::Then(first, _)) => Some(*first),
            other => other,
        }
    };
    let _ = send(&mut stream, answer, range, known).await;
    let _ = stream.shutdown().await;
}

fn head(status: &str, length: usize, more: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
}

async fn send(
    stream: &mut TcpStream,
    answer: Option<Answer>,
    range: Option<String>,
    known: Option<String>,
) -> std::io::Result<()> {
    match answer {
        None | Some(Answer::Then(..)) => stream.write_all(head("404 Not Found", 0, "").as_bytes()).await,
        Some(Answer::Status(status, more, body)) => {
            stream.write_all(head(&format!("{status} X"), body.len(), more).as_bytes()).await?;
            stream.write_all(body.as_bytes()).await
        }
        Some(Answer::Redirect(to)) => {
            stream.write_all(head("302 Found", 0, &format!("location: {to}\r\n")).as_bytes()).await
        }
        Some(Answer::Whole(bytes)) => {
            stream.write_all(head("200 OK", bytes.len(), "").as_bytes()).await?;
            stream.write_all(&bytes).await
        }
        Some(Answer::CutOnce(bytes, at)) => {
            stream.write_all(head("200 OK", bytes.len(), "etag: \"cut\"\r\n").as_bytes()).await?;
            stream.write_all(&bytes[..at]).await
        }
        Some(Answer::CutAlways(bytes, count)) => {
            let start = range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
            let start: usize = start.unwrap_or(0);
            let more = format!("content-range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            let status = if start == 0 { "200 OK" } else { "206 Partial Content" };
            stream.write_all(head(status, bytes.len() - start, &more).as_bytes()).await?;
            stream.write_all(&bytes[start..][..count]).await
        }
        Some(Answer::Dribble(bytes, pause)) => {
            stream.write_all(head("200 OK", bytes.len(), "").as_bytes()).await?;
            for byte in bytes {
                stream.write_all(&[byte]).await?;
                stream.flush().await?;
                tokio::time::sleep(pause).await;
            }
            Ok(())
        }
        Some(Answer::File(bytes)) => {
            let etag = format!("\"{}\"", &patchtide_model::Digest::of(&bytes).to_string()[..16]);
            if known.as_deref() == Some(&etag) {
                return stream.write_all(head("304 Not Modified", 0, "").as_bytes()).await;
            }
            let more = format!("etag: {etag}\r\n");
            let start =
                range.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
            match start.filter(|start| *start < bytes.len()) {
                None => {
                    stream.write_all(head("200 OK", bytes.len(), &more).as_bytes()).await?;
                    stream.write_all(&bytes).await
                }
                Some(start) => {
                    let more =
                        format!("{more}content-range: bytes {start}-{}/{}\r\n", bytes.len() - 1, bytes.len());
                    stream
                        .write_all(head("206 Partial Content", bytes.len() - start, &more).as_bytes())
                        .await?;
                    stream.write_all(&bytes[start..]).await
                }
            }
        }
    }
}
