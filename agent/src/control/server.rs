//! The agent's side of the control socket.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc, oneshot},
    task::JoinHandle,
};

use super::{Answer, Peer, Question};
use crate::run::Event;

/// Bytes of a question.
const LIMIT: u64 = 64 * 1024;
const PATIENCE: Duration = Duration::from_secs(10);

/// Connections of root, and of all others together: nobody keeps root out. Who finds no room is hung up on.
const ROOM: usize = 32;
/// How long a question of another than root takes at least, one after the other: nobody keeps the agent busy.
const PACE: Duration = Duration::from_millis(100);

/// Opens the socket and answers until the task is ended. Everybody may connect: the kernel says who it is, and
/// [`super::rights`] what for.
pub(crate) fn listen(path: &Path, events: mpsc::Sender<Event>) -> io::Result<JoinHandle<()>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    // Left by an agent that was killed; that only one runs is ensured by the lock on the state folder.
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o666))?;
    let turns = Arc::new(Semaphore::new(1));
    let (roots, others) = (Arc::new(Semaphore::new(ROOM)), Arc::new(Semaphore::new(ROOM)));
    Ok(tokio::spawn(async move {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let Ok(credentials) = stream.peer_cred() else { continue };
                    let peer = Peer { user: credentials.uid() };
                    let room = if peer.is_root() { &roots } else { &others };
                    let Ok(permit) = Arc::clone(room).try_acquire_owned() else { continue };
                    let events = events.clone();
                    let turns = (!peer.is_root()).then(|| Arc::clone(&turns));
                    tokio::spawn(async move {
                        let _ = tokio::time::timeout(PATIENCE * 2, serve(stream, peer, events, turns)).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "control socket");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    }))
}

async fn serve(
    stream: UnixStream,
    peer: Peer,
    events: mpsc::Sender<Event>,
    turns: Option<Arc<Semaphore>>,
) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = String::new();
    BufReader::new(read.take(LIMIT)).read_line(&mut line).await?;
    let turn = match &turns {
        Some(turns) => turns.acquire().await.ok(),
        None => None,
    };
    let answer = match serde_json::from_str::<Question>(&line) {
        Err(error) => Answer::refused(format!("not a question this agent knows: {error}")),
        Ok(question) => {
            let (reply, answered) = oneshot::channel();
            let asked = events.send(Event::Asked(question, peer, reply)).await.is_ok();
            match tokio::time::timeout(PATIENCE, answered).await {
                Ok(Ok(answer)) if asked => answer,
                _ => Answer::refused("the agent is stopping or busy: ask again"),
            }
        }
    };
    let mut text = serde_json::to_string(&answer)?;
    text.push('\n');
    write.write_all(text.as_bytes()).await?;
    write.shutdown().await?;
    if turn.is_some() {
        tokio::time::sleep(PACE).await;
    }
    Ok(())
}
