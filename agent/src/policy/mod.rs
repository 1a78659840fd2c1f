//! The signed policy: fetched by long poll, believed only when a pinned key signed it for this client, kept durably,
//! never replaced by an older one (reliability.md 3.4).
//!
//! What is signed is a statement; it names the two parts that say the rest. A part that this machine has is not fetched
//! again. Statement and parts are one file, so that they belong together whenever the machine is switched off.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use patchtide_model::{ClientId, SiteName, policy::Policy};
use patchtide_protocol::{
    bundle::{Bundle, PolicyKey},
    envelope::{Envelope, EnvelopeError},
    limits, path,
    policy::{Part, PartError, Statement},
};
use reqwest::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::{
    state::{StateError, StateFolder},
    transport::{SHORT, Transport, TransportError, read, read_json},
};

const FILE: &str = "policy.json";
/// The highest epoch and number, apart from the policy: a policy file that is lost does not open the way back.
const HIGHEST: &str = "policy-highest.json";
/// Total time for a part: before there were parts, a policy had as long as its poll.
const PART: Duration = limits::LONGEST_POLL;

/// Why a policy is not taken.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// No usable answer.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// Nobody whom this machine trusts signed it.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// What came for one of its parts is not the part.
    #[error(transparent)]
    Part(#[from] PartError),
    /// A part that it names is not there any more.
    #[error("the policy became another one while it was fetched: asked for again")]
    Gone,
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

/// A policy as it is kept: what came over the network.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Kept {
    statement: Envelope,
    /// Base64 of the parts as they travel.
    orders: String,
    updates: String,
}

/// Parts that are here, by their places in the statement.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Parts {
    orders: Vec<u8>,
    updates: Vec<u8>,
}

impl Kept {
    fn new(statement: &Envelope, parts: &Parts) -> Self {
        let Parts { orders, updates } = parts;
        Self {
            statement: statement.clone(),
            orders: STANDARD.encode(orders),
            updates: STANDARD.encode(updates),
        }
    }

    /// What is not readable is fetched again.
    fn parts(&self) -> Parts {
        let read = |text| STANDARD.decode(text).unwrap_or_default();
        Parts { orders: read(&self.orders), updates: read(&self.updates) }
    }
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
        let Some(kept) = self.kept()? else { return Ok(None) };
        let parts = kept.parts();
        let policy = self.open(&kept.statement).and_then(|statement| assemble(&statement, &parts));
        match policy {
            Ok(policy) => Ok(Some(policy)),
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the kept policy does not count");
                Ok(None)
            }
        }
    }

    /// What is on disk. A file of another form is none: the policy is fetched anew.
    fn kept(&self) -> Result<Option<Kept>, PolicyError> {
        let file: Option<serde_json::Value> = self.state.load_or_default(FILE)?;
        Ok(file.and_then(|value| serde_json::from_value(value).ok()))
    }

    /// Whether a statement is of a policy that is to be obeyed: signed by whom this machine trusts, for this client of this
    /// site, and not older than what it has seen.
    fn judge(&self, envelope: &Envelope) -> Result<Statement, PolicyError> {
        let statement = self.open(envelope)?;
        let mut highest: Highest = self.state.load_or_default(HIGHEST)?;
        if highest.client.is_some_and(|client| client != self.client) {
            highest = Highest::default();
        }
        // The kept policy is the second witness, should the mark be lost.
        let kept = match self.kept()?.map(|kept| self.open(&kept.statement)) {
            Some(Ok(kept)) => (kept.epoch, kept.number),
            _ => (0, 0),
        };
        let held = kept.max((highest.epoch, highest.number));
        let found = (statement.epoch, statement.number);
        if found < held {
            return Err(PolicyError::Older { held, found });
        }
        Ok(statement)
    }

    /// Keeps a policy of which [`Self::judge`] found the statement good. Parts that are not the signed ones leave no mark.
    fn keep(&self, envelope: &Envelope, statement: &Statement, parts: &Parts) -> Result<Policy, PolicyError> {
        let policy = assemble(statement, parts)?;
        // The mark first: after a kill in between the policy is fetched again.
        let (client, epoch, number) = (Some(self.client), policy.epoch, policy.number);
        self.state.save(HIGHEST, &Highest { client, epoch, number })?;
        self.state.save(FILE, &Kept::new(envelope, parts))?;
        Ok(policy)
    }

    fn open(&self, envelope: &Envelope) -> Result<Statement, PolicyError> {
        let statement = envelope.open(&self.keys)?;
        let other = |expected: String, found: String| PolicyError::Other { expected, found };
        if statement.site != self.site {
            return Err(other(self.site.to_string(), statement.site.to_string()));
        }
        if statement.client != self.client {
            return Err(other(self.client.to_string(), statement.client.to_string()));
        }
        Ok(statement)
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
        let envelope: Envelope = read_json(response, limits::POLICY_STATEMENT_BYTES).await?;
        let statement = self.judge(&envelope)?;
        let here = self.kept()?.map(|kept| kept.parts()).unwrap_or_default();
        let parts = Parts {
            orders: part(transport, statement.orders, here.orders).await?,
            updates: part(transport, statement.updates, here.updates).await?,
        };
        let policy = self.keep(&envelope, &statement, &parts)?;
        if held == Some((policy.epoch, policy.number)) {
            return Ok(Polled::Unchanged);
        }
        Ok(Polled::New(Box::new(policy)))
    }
}

fn assemble(statement: &Statement, parts: &Parts) -> Result<Policy, PolicyError> {
    Ok(statement.policy(&parts.orders, &parts.updates)?)
}

/// A part: the one that is here if it is this one, else from the site.
async fn part(transport: &Transport, part: Part, here: Vec<u8>) -> Result<Vec<u8>, PolicyError> {
    if part.check(&here).is_ok() {
        return Ok(here);
    }
    part.is_within_limits()?;
    let path = format!("{}/{}", path::POLICY_PARTS, part.digest);
    let response = match transport.ask(Method::GET, &path, PART, |request| request).await {
        Err(TransportError::Refused { status: 404, .. }) => return Err(PolicyError::Gone),
        response => response?,
    };
    let url = response.url().to_string();
    let bytes = read(response, &url, usize::try_from(part.size).unwrap_or(limits::POLICY_PART_BYTES)).await?;
    part.check(&bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
