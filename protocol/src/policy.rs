//! What is signed of a policy, and the parts that it names.
//!
//! Thousands of clients are told the same, each in a policy of its own. So what is signed for each is small: a
//! [`Statement`], which says whose policy this is and which number it has, and names two [`Part`]s by digest and size. A
//! part is made, kept and sent once for all that name it; a client that has it does not fetch it again. Orders change often
//! and are short, what may be installed is long and changes seldom: hence two. Nobody can put a statement together with
//! other parts, for the digests are signed with it; and each place of a statement takes only one kind of part.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
};

use jiff::Timestamp;
use patchtide_model::{
    ClientId, Digest, SiteName, UpdateId,
    catalogue::Leaf,
    object::ClientSettings,
    policy::{DeploymentPolicy, LinePolicy, Policy, PolicyBody, UpdatePolicy},
    shared::Shared,
    window::Window,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    encoding::WINDOW_LOG,
    limits::{POLICY_PART_BYTES, POLICY_PART_EXPANDED_BYTES},
};

/// What is signed for one client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Form of the statement and of its parts: [`patchtide_model::policy::POLICY_VERSION`].
    pub version: u32,
    /// The site.
    pub site: SiteName,
    /// The only client this is for.
    pub client: ClientId,
    /// Rises when a site is restored from a backup, so that lower numbers are obeyed again.
    pub epoch: u64,
    /// Only rises within an epoch.
    pub number: u64,
    /// When it was compiled.
    pub issued_at: Timestamp,
    /// What to do and when: settings, lines, windows, deployments.
    pub orders: Part,
    /// What may be installed: updates and what they depend on.
    pub updates: Part,
}

/// The name of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// SHA-256 of its bytes as they travel, one zstd frame.
    pub digest: Digest,
    /// Those bytes, at most [`POLICY_PART_BYTES`].
    pub size: u64,
    /// The bytes of JSON that come out of them, at most [`POLICY_PART_EXPANDED_BYTES`].
    pub expanded: u64,
}

/// A part as it is kept and sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// Its name.
    pub part: Part,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Why a part cannot be made or is not believed.
#[derive(Debug, thiserror::Error)]
pub enum PartError {
    /// More than agents take.
    #[error(
        "a part of the policy has {size} bytes ({expanded} expanded), more than agents take ({POLICY_PART_BYTES}, {POLICY_PART_EXPANDED_BYTES}): deploy fewer updates to one machine"
    )]
    TooLarge {
        /// Bytes as they travel.
        size: u64,
        /// Bytes of JSON.
        expanded: u64,
    },
    /// Cannot be written.
    #[error("a part of the policy cannot be written")]
    Write(#[source] std::io::Error),
    /// Other bytes than the signed ones.
    #[error(
        "the site signed the part {expected} and {found} came: the management point serves other bytes, or they were damaged on the way"
    )]
    Other {
        /// The signed name.
        expected: Digest,
        /// The name of what came.
        found: Digest,
    },
    /// Signed, but not as long as the statement says.
    #[error(
        "a signed part of the policy is not what its statement says: report this to the site's administrator"
    )]
    Length,
    /// Signed, but not one zstd frame.
    #[error("a signed part of the policy cannot be expanded: update the agent")]
    Frame(#[source] std::io::Error),
    /// Signed, but not of a known form.
    #[error("a signed part of the policy cannot be read: update the agent")]
    Form(#[source] serde_json::Error),
}

#[derive(Serialize, Deserialize)]
struct Orders {
    settings: ClientSettings,
    lines: Shared<Vec<LinePolicy>>,
    windows: Vec<Window>,
    deployments: Shared<Vec<DeploymentPolicy>>,
    #[serde(default, skip_serializing_if = "is_empty")]
    awaited: Shared<BTreeSet<Digest>>,
    provenance: Shared<BTreeMap<String, String>>,
}

#[derive(Serialize, Deserialize)]
struct Updates {
    updates: Shared<BTreeMap<UpdateId, Shared<UpdatePolicy>>>,
    dependencies: Shared<Vec<Leaf>>,
}

fn is_empty<T>(set: &Shared<BTreeSet<T>>) -> bool {
    set.is_empty()
}

/// The parts of a body as values; what it shares stays shared.
fn split(body: &PolicyBody) -> (Orders, Updates) {
    let PolicyBody { settings, lines, windows, deployments, updates, dependencies, awaited, provenance } =
        body.clone();
    (Orders { settings, lines, windows, deployments, awaited, provenance }, Updates { updates, dependencies })
}

/// The part of a body that says what to do.
pub fn pack_orders(body: &PolicyBody) -> Result<Packed, PartError> {
    pack(&split(body).0)
}

/// The part of a body that says what may be installed.
pub fn pack_updates(body: &PolicyBody) -> Result<Packed, PartError> {
    pack(&split(body).1)
}

fn pack(value: &impl Serialize) -> Result<Packed, PartError> {
    let json = serde_json::to_vec(value).map_err(|error| PartError::Write(error.into()))?;
    let bytes = zstd::bulk::compress(&json, LEVEL).map_err(PartError::Write)?;
    let (size, expanded) = (bytes.len() as u64, json.len() as u64);
    let part = Part { digest: Digest::of(&bytes), size, expanded };
    part.is_within_limits()?;
    Ok(Packed { part, bytes })
}

/// Made once and sent to many.
const LEVEL: i32 = 3;

impl Part {
    /// Whether it is no larger than agents take: asked before a byte of it is fetched.
    pub fn is_within_limits(&self) -> Result<(), PartError> {
        let Self { size, expanded, .. } = *self;
        if size > POLICY_PART_BYTES as u64 || expanded > POLICY_PART_EXPANDED_BYTES as u64 {
            return Err(PartError::TooLarge { size, expanded });
        }
        Ok(())
    }

    /// Whether these are its bytes. Nothing of them is read before.
    pub fn check(&self, bytes: &[u8]) -> Result<(), PartError> {
        match Digest::of(bytes) {
            found if found != self.digest => Err(PartError::Other { expected: self.digest, found }),
            _ if bytes.len() as u64 != self.size => Err(PartError::Length),
            _ => Ok(()),
        }
    }

    fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, PartError> {
        self.is_within_limits()?;
        self.check(bytes)?;
        let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(PartError::Frame)?;
        decoder.window_log_max(WINDOW_LOG).map_err(PartError::Frame)?;
        let mut json = Vec::new();
        decoder.take(self.expanded + 1).read_to_end(&mut json).map_err(PartError::Frame)?;
        if json.len() as u64 != self.expanded {
            return Err(PartError::Length);
        }
        serde_json::from_slice(&json).map_err(PartError::Form)
    }
}

impl Statement {
    /// The policy that it makes of the bytes of its parts, which must be those it names.
    pub fn policy(&self, orders: &[u8], updates: &[u8]) -> Result<Policy, PartError> {
        let Orders { settings, lines, windows, deployments, awaited, provenance } =
            self.orders.open(orders)?;
        let Updates { updates, dependencies } = self.updates.open(updates)?;
        let body =
            PolicyBody { settings, lines, windows, deployments, updates, dependencies, awaited, provenance };
        let Self { version, ref site, client, epoch, number, issued_at, .. } = *self;
        Ok(Policy { version, site: site.clone(), client, epoch, number, issued_at, body })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body() -> PolicyBody {
        PolicyBody {
            settings: ClientSettings::default(),
            lines: Shared::default(),
            windows: vec![],
            deployments: Shared::default(),
            updates: Shared::default(),
            dependencies: Shared::default(),
            awaited: [Digest::of(b"a file")].into_iter().collect(),
            provenance: BTreeMap::from([("a".to_owned(), "b".to_owned())]).into(),
        }
    }

    fn statement(orders: Part, updates: Part) -> Statement {
        Statement {
            version: patchtide_model::policy::POLICY_VERSION,
            site: "lab".parse().unwrap(),
            client: ClientId(uuid::Uuid::from_u128(1)),
            epoch: 1,
            number: 7,
            issued_at: Timestamp::UNIX_EPOCH,
            orders,
            updates,
        }
    }

    /// Bytes named as somebody who may sign names them.
    fn named(bytes: Vec<u8>, expanded: u64) -> Packed {
        let part = Part { digest: Digest::of(&bytes), size: bytes.len() as u64, expanded };
        Packed { part, bytes }
    }

    #[test]
    fn a_body_comes_back_from_its_parts_and_only_from_these() {
        let (orders, updates) = (pack_orders(&body()).unwrap(), pack_updates(&body()).unwrap());
        let policy = statement(orders.part, updates.part).policy(&orders.bytes, &updates.bytes).unwrap();
        assert_eq!((policy.number, &policy.body), (7, &body()));

        // Parts of another statement, signed as they may be, and each other's places.
        let other = pack_orders(&PolicyBody { awaited: Shared::default(), ..body() }).unwrap();
        let signed = statement(orders.part, updates.part);
        let error = signed.policy(&other.bytes, &updates.bytes).unwrap_err();
        assert!(matches!(error, PartError::Other { .. }), "{error}");
        let error = signed.policy(&updates.bytes, &orders.bytes).unwrap_err();
        assert!(matches!(error, PartError::Other { .. }), "{error}");
        let swapped = statement(updates.part, orders.part).policy(&updates.bytes, &orders.bytes);
        assert!(matches!(swapped, Err(PartError::Form(_))), "one kind of part in each place");
    }

    /// Bad input: too long before and after expansion, cut off, something behind it, not a frame.
    #[test]
    fn no_part_is_longer_than_its_statement_and_the_limits_say() {
        let updates = pack_updates(&body()).unwrap();
        let refused = |orders: &Packed, bytes: &[u8]| {
            statement(orders.part, updates.part).policy(bytes, &updates.bytes).unwrap_err()
        };
        let good = pack_orders(&body()).unwrap();
        let cut = &good.bytes[..good.bytes.len() - 1];
        assert!(matches!(refused(&good, cut), PartError::Other { .. }));
        for expanded in [good.part.expanded - 1, good.part.expanded + 1] {
            let lying = named(good.bytes.clone(), expanded);
            assert!(matches!(refused(&lying, &lying.bytes), PartError::Length));
        }
        let mut size = good.clone();
        size.part.size += 1;
        assert!(matches!(refused(&size, &good.bytes), PartError::Length));
        let bomb = zstd::bulk::compress(&vec![b' '; POLICY_PART_EXPANDED_BYTES + 1], 1).unwrap();
        let bomb = named(bomb, POLICY_PART_EXPANDED_BYTES as u64 + 1);
        assert!(matches!(refused(&bomb, &bomb.bytes), PartError::TooLarge { .. }));
        let bomb = named(bomb.bytes, 100);
        assert!(
            matches!(refused(&bomb, &bomb.bytes), PartError::Length),
            "it is expanded so far and no further"
        );
        let long = Part { size: POLICY_PART_BYTES as u64 + 1, ..good.part };
        assert!(matches!(long.is_within_limits(), Err(PartError::TooLarge { .. })));
        let garbage = named(b"garbage".to_vec(), 7);
        assert!(matches!(refused(&garbage, &garbage.bytes), PartError::Frame(_)));
    }

    /// What is too large for agents is never signed.
    #[test]
    fn a_part_that_agents_refuse_is_not_made() {
        let long = "x".repeat(POLICY_PART_EXPANDED_BYTES);
        let body = PolicyBody { provenance: BTreeMap::from([("a".to_owned(), long)]).into(), ..body() };
        assert!(matches!(pack_orders(&body), Err(PartError::TooLarge { .. })));
    }
}
