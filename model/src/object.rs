//! The other kinds as the site database holds them: validated, in domain terms, one row an object.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::{
    ClientId, Digest, ObjectName,
    catalogue::LeafRef,
    deployment::Deployment,
    people::PeopleSettings,
    shared::{ContentDigest, Shared},
    window::Window,
};

/// A collection (R-COLL).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collection {
    /// Object name.
    pub name: ObjectName,
    /// Every client of the site.
    pub all: bool,
    /// Facts that must all match.
    pub selector: Vec<FactRequirement>,
    /// Clients by id or name, whatever their facts.
    pub direct_members: BTreeSet<String>,
    /// Members of these are members too.
    pub include: BTreeSet<ObjectName>,
    /// Members of these are not.
    pub exclude: BTreeSet<ObjectName>,
    /// Membership is intersected with this one.
    pub limiting: Option<ObjectName>,
    /// The collection this is a subcollection of.
    pub parent: Option<ObjectName>,
}

/// One requirement of a selector; the semantics of Kubernetes label selectors.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FactRequirement {
    /// Fact key.
    pub key: String,
    /// Operator.
    pub operator: FactOperator,
    /// Values; empty for `Exists` and `DoesNotExist`.
    pub values: BTreeSet<String>,
}

/// Operators of a selector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FactOperator {
    /// The value is one of the values.
    In,
    /// The value is none of the values, or the key is absent.
    NotIn,
    /// The key is present.
    Exists,
    /// The key is absent.
    DoesNotExist,
    /// The value matches one of the values, in which `*` stands for any characters; upper and lower case are the same.
    Glob,
}

/// Client settings (R-CLI), with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct ClientSettings {
    /// Object name; `default` for the built-in ones.
    pub name: String,
    /// Whom they apply to; none: everyone.
    pub collection: Option<ObjectName>,
    /// The object with the highest number applies as a whole; ties by name.
    pub priority: i32,
    /// Policy polling; the long poll makes it a floor. Default 60 min.
    pub policy_polling: SignedDuration,
    /// Scan cycle. Default 7 d.
    pub scan_cycle: SignedDuration,
    /// A scan younger than this is not repeated online. Default 24 h.
    pub scan_ttl: SignedDuration,
    /// Re-evaluation of deployments. Default 7 d.
    pub reevaluation_cycle: SignedDuration,
    /// State messages are sent in bulk after at most this time. Default 15 min.
    pub state_message_cycle: SignedDuration,
    /// Countdown before a restart. Default 5 min.
    pub restart_countdown: SignedDuration,
    /// Time a machine needs to come back. Default 10 min.
    pub restart_turnaround: SignedDuration,
    /// What happens to other updaters (unattended-upgrades, apt timers).
    pub other_updaters: OtherUpdaters,
    /// Software updates are switched on; otherwise these clients have nothing to scan against and nothing deployed.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
    /// Time after a deadline before installation is enforced. Default none.
    #[serde(default, skip_serializing_if = "SignedDuration::is_zero")]
    pub grace_period: SignedDuration,
    /// When something mandatory is installed, mandatory updates whose deadline comes within this time come along.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_due_within: Option<SignedDuration>,
    /// All clients start at the deadline, whatever a deployment says of a spread.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_deadline_spread: bool,
    /// What people at the machine see and may do.
    #[serde(default, skip_serializing_if = "PeopleSettings::is_default")]
    pub people: PeopleSettings,
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

/// What the agent does about other updaters on the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum OtherUpdaters {
    /// They are reported.
    Report,
    /// They are disabled, and that is reported.
    Disable,
}

/// A distribution point (R-DP).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DistributionPoint {
    /// Object name.
    pub name: ObjectName,
    /// Base URLs, `https://host:port`.
    pub endpoints: Vec<String>,
    /// Its boundaries.
    pub boundaries: Vec<Boundary>,
    /// Only for clients inside its boundaries.
    pub protected: bool,
}

/// A boundary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boundary {
    /// Network.
    pub cidr: IpNet,
    /// Fast ("local"), or slow and unreliable.
    pub fast: bool,
}

/// How a client comes to a distribution point, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Inside a fast boundary.
    Fast,
    /// Inside a slow one.
    Slow,
    /// From outside its boundaries.
    Outside,
}

impl DistributionPoint {
    /// How a client at `address` comes to it; of boundaries that overlap the better one counts. None: it is protected, and
    /// the client is outside.
    pub fn way(&self, address: IpAddr) -> Option<Way> {
        let address = address.to_canonical();
        let inside = self.boundaries.iter().filter(|boundary| boundary.cidr.contains(&address));
        match inside.map(|boundary| boundary.fast).max() {
            None if self.protected => None,
            None => Some(Way::Outside),
            Some(true) => Some(Way::Fast),
            Some(false) => Some(Way::Slow),
        }
    }
}

/// A deployment package (R-PKG).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentPackage {
    /// Object name.
    pub name: ObjectName,
    /// Distribution points that host it.
    pub distribution_points: BTreeSet<ObjectName>,
    /// Updates in it, sorted.
    pub updates: Vec<crate::UpdateId>,
    /// Rises when its content changes or a start time of a deployment of it does (R-PKG-23, R-DEPL-56).
    pub version: u64,
}

/// What is kept of a package's files.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageContent {
    /// Package version.
    pub version: u64,
    /// Distribution points that get it.
    pub points: BTreeSet<ObjectName>,
    /// Files with their bytes.
    pub files: BTreeMap<Digest, u64>,
    /// Packages that its updates newly depended on when they were first wanted.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub dependencies: BTreeSet<LeafRef>,
    /// Digest over updates, files and start times: another one is another version.
    pub fingerprint: Option<Digest>,
}

/// All objects of a site that policy is compiled from. `blocked` names objects whose newest generation restricts in a
/// way that is not understood, so that no policy may go out that ignores it: kind and name, with the reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteObjects {
    /// Collections by name.
    pub collections: BTreeMap<ObjectName, Collection>,
    /// Windows by name.
    pub windows: BTreeMap<ObjectName, Window>,
    /// Deployments by name.
    pub deployments: BTreeMap<ObjectName, Deployment>,
    /// Client settings by name.
    pub client_settings: BTreeMap<ObjectName, ClientSettings>,
    /// Distribution points by name.
    pub distribution_points: BTreeMap<ObjectName, DistributionPoint>,
    /// Packages by name.
    pub packages: BTreeMap<ObjectName, DeploymentPackage>,
    /// Objects that block policy: (kind, name) -> reason and the collections they concern (empty: all).
    pub blocked: BTreeMap<String, Blocked>,
}

/// Why an object blocks policy and for whom.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Reason in words.
    pub reason: String,
    /// Collections whose members get no new policy; empty: every client of the site.
    pub collections: BTreeSet<ObjectName>,
}

/// Membership: for each collection its clients.
pub type Membership = BTreeMap<ObjectName, Shared<BTreeSet<ClientId>>>;

impl ContentDigest for BTreeSet<ClientId> {
    fn content_digest(&self) -> Digest {
        let mut bytes = Vec::with_capacity(self.len() * 16);
        for client in self {
            bytes.extend_from_slice(client.0.as_bytes());
        }
        Digest::of(&bytes)
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        let hours = SignedDuration::from_hours;
        Self {
            name: "default".to_owned(),
            collection: None,
            priority: i32::MIN,
            policy_polling: hours(1),
            scan_cycle: hours(7 * 24),
            scan_ttl: hours(24),
            reevaluation_cycle: hours(7 * 24),
            state_message_cycle: SignedDuration::from_mins(15),
            restart_countdown: SignedDuration::from_mins(5),
            restart_turnaround: SignedDuration::from_mins(10),
            other_updaters: OtherUpdaters::Report,
            enabled: true,
            grace_period: SignedDuration::ZERO,
            install_due_within: None,
            no_deadline_spread: false,
            people: PeopleSettings::default(),
        }
    }
}
