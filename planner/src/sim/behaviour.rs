//! How a machine behaves, and what can happen to it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use patchtide_model::{UpdateId, people::UserSchedule};

/// How a machine behaves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// How long a scan takes; at least a second, like everything here.
    pub scan: SignedDuration,
    /// How long a download takes.
    pub download: SignedDuration,
    /// How long a transaction takes.
    pub install: SignedDuration,
    /// How long it is away when it restarts.
    pub restart: SignedDuration,
    /// How long the recovery of an interrupted dpkg takes.
    pub recover: SignedDuration,
    /// Packages whose installation fails so many times.
    pub install_failures: BTreeMap<String, u32>,
    /// So many downloads fail before they work.
    pub download_failures: u32,
    /// So many scans fail before they work.
    pub scan_failures: u32,
    /// So many recoveries of dpkg fail before they work.
    pub recovery_failures: u32,
    /// Packages after which the system itself says that it needs a restart.
    pub restart_packages: BTreeSet<String>,
    /// Its way to the site.
    pub network: Network,
}

/// The way between a machine and the site.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// How long everything takes on the way.
    pub delay: SignedDuration,
    /// Up to so much longer, differently each time: what was sent later may arrive earlier.
    pub jitter: SignedDuration,
    /// Of 100 messages in either direction so many are lost.
    pub loss: u8,
    /// Of 100 reports so many arrive twice.
    pub repeat: u8,
    /// The client holds a long poll: a new policy comes at once. Otherwise it asks in its policy cycle.
    pub long_poll: bool,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay: SignedDuration::ZERO,
            jitter: SignedDuration::ZERO,
            loss: 0,
            repeat: 0,
            long_poll: true,
        }
    }
}

/// Something that happens to a machine from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// The agent is killed and started again after this time. dpkg runs on.
    AgentKilled {
        /// How long it is away.
        back: SignedDuration,
    },
    /// The agent is killed in the middle of the next thing it does: what that changed is sent, perhaps, but not remembered.
    AgentKilledMidway {
        /// How long it is away.
        back: SignedDuration,
    },
    /// The power fails; dpkg, when it runs, is cut off.
    PowerCut {
        /// How long it is away.
        back: SignedDuration,
    },
    /// The owner restarts the machine.
    Restarted,
    /// A laptop is closed.
    Suspended,
    /// And opened.
    Resumed,
    /// The machine's clock jumps by so much.
    ClockJump {
        /// Forwards, or backwards.
        by: SignedDuration,
    },
    /// The network is there, or not.
    Online(bool),
    /// A person asks for these updates now; none: for all that are deployed here.
    InstallNow(BTreeSet<UpdateId>),
    /// A person asks the agent for something that it may refuse.
    Asks(Wish),
    /// A person asks for a scan.
    ScanNow,
    /// A person asks for an evaluation.
    EvaluateNow,
    /// A package is changed by another hand; none: it is removed.
    PackageChanged {
        /// Package.
        package: String,
        /// Version from now on.
        version: Option<String>,
    },
    /// From now on it behaves so.
    Behaves(Box<Behaviour>),
}

/// What a person asks the agent of a machine for, and what it may refuse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// Install at this time of day, before deadlines.
    Schedule(UserSchedule),
    /// Install nothing before its deadline.
    NoSchedule,
    /// The schedule of the client settings again.
    UsualSchedule,
    /// Put off what waits for its deadline until then, by the clock that is right; none: as long as may be.
    Postpone(Option<Timestamp>),
    /// Restart now, where a restart is pending.
    Restart,
}
