//! Whether a client that shows a good certificate still has its standing. Asked of the site database, remembered for
//! seconds: a revoked client is refused that fast, and a distribution point does not ask for every file.

use std::{
    collections::HashMap,
    future::Future,
    pin::Pin,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::StatusCode;
use patchtide_protocol::identity::{ClientId, ClientState};

use crate::{AuthenticatedClient, Refusal};

/// What the site says about a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// In force.
    Active,
    /// Waits for approval.
    Pending,
    /// Retired or revoked.
    Revoked,
    /// Two machines seem to share the identity.
    Quarantined,
    /// Not known.
    Unknown,
}

impl From<Option<ClientState>> for Standing {
    fn from(state: Option<ClientState>) -> Self {
        match state {
            Some(ClientState::Active) => Self::Active,
            Some(ClientState::Pending) => Self::Pending,
            Some(ClientState::Revoked) => Self::Revoked,
            Some(ClientState::Quarantined) => Self::Quarantined,
            None => Self::Unknown,
        }
    }
}

impl Standing {
    /// Nothing, or why the client gets nothing.
    pub fn check(self) -> Result<(), Refusal> {
        let (code, detail, remedy) = match self {
            Self::Active => return Ok(()),
            Self::Pending => (
                "CLIENT-PENDING",
                "this client is not approved yet",
                "wait for the site's approval rule, or ask an administrator to approve it",
            ),
            Self::Revoked => (
                "CLIENT-REVOKED",
                "this client was retired",
                "remove the agent's state to enrol it as a new client, if it is to come back",
            ),
            Self::Quarantined => (
                "CLIENT-QUARANTINED",
                "two machines seem to use this client's identity",
                "remove the agent's state on each of these machines, so that each enrols as a client of its own",
            ),
            Self::Unknown => (
                "CLIENT-UNKNOWN",
                "this site does not know the client that the certificate names",
                "remove the agent's state to enrol it anew",
            ),
        };
        Err(Refusal::new(StatusCode::FORBIDDEN, code, detail, remedy))
    }
}

/// A question to the site database; the error is for the log.
type Lookup =
    Box<dyn Fn(ClientId) -> Pin<Box<dyn Future<Output = Result<Standing, String>> + Send>> + Send + Sync>;

/// Remembered standings.
pub struct Standings {
    lookup: Lookup,
    known: Mutex<HashMap<ClientId, (Standing, Instant)>>,
    fresh: Duration,
    /// While the site database does not answer, what was known stays good for so long.
    stale: Duration,
}

/// Clients remembered at once.
const MOST: usize = 50_000;

impl Standings {
    /// Standings that `lookup` tells, none for a client that the site does not know. They are asked again after `fresh`, and
    /// kept for ten minutes while the database does not answer.
    pub fn new<F, E>(lookup: impl Fn(ClientId) -> F + Send + Sync + 'static, fresh: Duration) -> Self
    where
        F: Future<Output = Result<Option<ClientState>, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let lookup: Lookup = Box::new(move |id| {
            let state = lookup(id);
            Box::pin(async move { state.await.map(Standing::from).map_err(|error| error.to_string()) })
        });
        Self { lookup, known: Mutex::default(), fresh, stale: Duration::from_mins(10) }
    }

    /// Whether the client is in force, or why it gets nothing.
    pub async fn check(&self, client: &AuthenticatedClient) -> Result<(), Refusal> {
        let known = self.lock().get(&client.id).copied();
        if let Some((standing, asked)) = known
            && asked.elapsed() < self.fresh
        {
            return standing.check();
        }
        match (self.lookup)(client.id).await {
            Ok(standing) => {
                let mut map = self.lock();
                if map.len() >= MOST {
                    map.retain(|_, (_, asked)| asked.elapsed() < self.fresh);
                }
                if map.len() < MOST {
                    map.insert(client.id, (standing, Instant::now()));
                }
                drop(map);
                standing.check()
            }
            Err(error) => match known {
                Some((standing, asked)) if asked.elapsed() < self.stale => standing.check(),
                _ => {
                    tracing::warn!(%error, "the site database does not say whether clients are in force");
                    Err(Refusal::unavailable("the site cannot check the client's standing now"))
                }
            },
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<ClientId, (Standing, Instant)>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
