//! The signed policy: fetched by long poll, believed only when a pinned key signed it for this client, kept durably,
//! never replaced by an older one (reliability.md 3.4).

use std::time::Duration;

use patchtide_model::{ClientId, SiteName, policy::Policy};
use patchtide_protocol::{
    bundle::{Bundle, PolicyKey},
    envelope::{Envelope, EnvelopeError},
    limits, path,
};
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    state::{StateError, StateFolder},
    transport::{SHORT, Transport, TransportError, read_json},
};

const FILE: &str = "policy.json";
/// The highest epoch and number, apart from the policy: a policy file that is lost does not open the way back.
const HIGHEST: &str = "policy-highest.json";

/// Why a policy is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No usable answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Nobody whom this machine trusts signed it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// It is for someone else.
    #[error(
        "the policy is for {found}, this is {expected}: the management point mixes clients up; tell the site's administrator"
    )]
    Other {
        /// This client or site.
        expected: String,
        /// The policy's.
        found: String,
    },
    /// It is older than the one in force.
    #[error(
        "the policy {found:?} is older than {held:?}, which this machine has already seen: someone replays old policy, or the site was restored without a new epoch"
    )]
    Older {
        /// Epoch and number seen.
        held: (u64, u64),
        /// Epoch and number offered.
        found: (u64, u64),
    },
    /// It cannot be kept.
    #[error(transparent)]
    State(#[from] StateError),
}

/// What a poll brought.
#[derive(Debug)]
pub enum Polled {
    /// Nothing new.
    Unchanged,
    /// A new policy, kept and in force.
    New(Box<Policy>),
}

#[derive(Debug, Default, Clone, Copy, Serialize, Deserialize)]
struct Highest {
    /// Whose numbers these are: a machine that is taken in as another client counts anew.
    #[serde(default)]
    client: Option<ClientId>,
    epoch: u64,
    number: u64,
}

/// The policy of this client on disk.
#[derive(Debug, Clone)]
pub struct PolicyStore {
    state: StateFolder,
    keys: Vec<PolicyKey>,
    site: SiteName,
    client: ClientId,
}

impl PolicyStore {
    /// The store of this client; its bundle says whose signature counts.
    pub fn new(state: StateFolder, bundle: &Bundle, client: ClientId) -> Self {
        Self { state, keys: bundle.policy_keys.clone(), site: bundle.site.clone(), client }
    }

    /// The policy in force. What is on disk is checked like what came over the network; what fails is fetched anew.
    pub fn load(&self) -> Result<Option<Policy>, PolicyError> {
        let Some(envelope) = self.state.load_or_default::<Option<Envelope>>(FILE)? else { return Ok(None) };
        match self.open(&envelope) {
            Ok(policy) => Ok(Some(policy)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the kept policy does not count");
                Ok(None)
            }
        }
    }

    /// Judges an envelope, and keeps it when it is to be obeyed.
    pub fn take(&self, envelope: &Envelope) -> Result<Policy, PolicyError> {
        let policy = self.open(envelope)?;
        let mut highest: Highest = self.state.load_or_default(HIGHEST)?;
        if highest.client.is_some_and(|client| client != self.client) {
            highest = Highest::default();
        }
        // The kept policy is the second witness, should the mark be lost.
        let kept = self.load()?.map_or((0, 0), |kept| (kept.epoch, kept.number));
        let held = kept.max((highest.epoch, highest.number));
        let found = (policy.epoch, policy.number);
        if found < held {
            return Err(PolicyError::Older { held, found });
        }
        // The mark first: after a kill in between the policy is fetched again.
        let (client, epoch, number) = (Some(self.client), policy.epoch, policy.number);
        self.state.save(HIGHEST, &Highest { client, epoch, number })?;
        self.state.save(FILE, envelope)?;
        Ok(policy)
    }

    fn open(&self, envelope: &Envelope) -> Result<Policy, PolicyError> {
        let policy = envelope.open(&self.keys)?;
        let other = |expected: String, found: String| PolicyError::Other { expected, found };
        if policy.site != self.site {
            return Err(other(self.site.to_string(), policy.site.to_string()));
        }
        if policy.client != self.client {
            return Err(other(self.client.to_string(), policy.client.to_string()));
        }
        Ok(policy)
    }

    /// Asks for a policy other than `held`, and waits for it at most `wait` at the site.
    pub async fn poll(
        &self,
        transport: &Transport,
        held: Option<(u64, u64)>,
        wait: Duration,
    ) -> Result<Polled, PolicyError> {
        let wait = wait.min(limits::LONGEST_POLL);
        let path = format!("{}?wait={}", path::POLICY, wait.as_secs());
        let response = transport
            .ask(Method::GET, &path, wait + SHORT, |request| match held {
                Some((epoch, number)) => {
                    request.header(header::IF_NONE_MATCH, format!("\"{epoch}.{number}\""))
                }
                None => request,
            })
            .await?;
        if matches!(response.status(), StatusCode::NOT_MODIFIED | StatusCode::NO_CONTENT) {
            return Ok(Polled::Unchanged);
        }
        // Base64 makes a third more of it; the limit is for the policy itself.
        let envelope: Envelope = read_json(response, limits::POLICY_BYTES / 3 * 4 + 4096).await?;
        let policy = self.take(&envelope)?;
        if held == Some((policy.epoch, policy.number)) {
            return Ok(Polled::Unchanged);
        }
        Ok(Polled::New(Box::new(policy)))
    }
}

#[cfg(test)]
mod tests;
