//! Clients as the site knows them.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::ClientId;

/// Where a client stands with the site.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ClientState {
    /// Asked to enrol; gets nothing.
    Pending,
    /// Approved and in force.
    Active,
    /// Retired or revoked: its certificate is refused.
    Revoked,
    /// Two machines seem to share the identity: gets nothing until a person decides.
    Quarantined,
}

/// Facts a client reports about itself. Collections select by them. Keys: `hostname`, `os.id`, `os.version`,
/// `os.codename`, `architecture`, `kernel`, `agent.version`, `role` (server or workstation), every key of
/// `/etc/patchtide/labels.d` prefixed `label/`, and network cards that can wake the machine ([`crate::wake::FACT`]). At most 200 keys; keys 1 to 63 characters, values at most 256.
pub type Facts = BTreeMap<String, String>;

/// A client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// Identity.
    pub id: ClientId,
    /// For people: the host name it enrolled with.
    pub name: String,
    /// Standing.
    pub state: ClientState,
    /// Facts of its last report.
    pub facts: Facts,
    /// Address of its last contact.
    pub address: Option<IpAddr>,
    /// Last contact.
    pub last_contact: Option<Timestamp>,
}

impl Client {
    /// Whether `other` differs at most in when it was heard of last.
    pub fn is_same_but_for_contact(&self, other: &Self) -> bool {
        let Self { id, name, state, facts, address, last_contact: _ } = self;
        (*id, *state, *address) == (other.id, other.state, other.address)
            && *name == other.name
            && *facts == other.facts
    }

    /// The platform kind for restart suppression: servers unless the client says `role=workstation`.
    pub fn is_workstation(&self) -> bool {
        self.facts.get("role").is_some_and(|role| role == "workstation")
    }
}
