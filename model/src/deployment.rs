//! Deployments as the site database holds them: validated, references resolved, template and overrides merged.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use crate::{ObjectName, UpdateId, people::Display};

/// Settings of a deployment with every default filled in (design section 3; R-DEPL).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "each is an independent switch of the seeds' wizard pages")]
pub struct DeploymentSettings {
    /// Notifications of available updates are shown (R-DEPL-08, -09).
    pub display_notifications: bool,
    /// Times are read in client local time instead of UTC (R-DEPL-10, -11).
    pub client_local_time: bool,
    /// When it becomes available.
    pub available: Available,
    /// By when it is enforced.
    pub deadline: Deadline,
    /// No restart of servers (R-DEPL-13).
    pub suppress_restart_servers: bool,
    /// No restart of workstations (R-DEPL-13).
    pub suppress_restart_workstations: bool,
    /// Installation does not wait for a window.
    pub install_outside_windows: bool,
    /// A restart does not wait for a window (R-DEPL-14).
    pub restart_outside_windows: bool,
    /// Alerts are silenced while installing (R-DEPL-15).
    pub disable_alerts: bool,
    /// An alert is raised on failure (R-DEPL-16).
    pub alert_on_failure: bool,
    /// On a slow boundary: download and install; otherwise do not install (R-DEPL-17).
    pub install_on_slow_boundary: bool,
    /// When only unprotected distribution points have the content: use them (R-DEPL-18).
    pub fallback_to_unprotected: bool,
    /// Install all other applicable deployed updates together with the mandatory ones (R-DEPL-42).
    pub install_all_applicable: bool,
    /// Wake clients at the deadline (R-DEPL-29).
    pub wake_on_lan: bool,
    /// Removal of packages is allowed in the transaction; otherwise `--no-remove`.
    pub allow_remove: bool,
    /// Clients spread the start after the deadline over this time, each deterministically.
    pub deadline_spread: SignedDuration,
    /// Limits `install_all_applicable` to updates whose deadline comes within this time; none: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub install_all_within: Option<SignedDuration>,
    /// Time between the announcement of a restart because of it and the restart; none: that of the client settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart_countdown: Option<SignedDuration>,
    /// How much people see, where `display_notifications` says too little (an older agent goes by that); none: everything
    /// or the list alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub display: Option<Display>,
    /// The countdown is shown, then the restart is left to people (R-RST-05). Restarts are suppressed as well, so that an
    /// older agent does not restart.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restart_left_to_people: bool,
    /// What a client that was woken does when all is done (R-RST-10).
    #[serde(default, skip_serializing_if = "AfterWake::is_sleep")]
    pub after_wake: AfterWake,
}

/// What a woken client does when all is done. In the order in which they are merged: the earliest one counts, because it
/// keeps most of what the machine was.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AfterWake {
    /// Nothing: what put it to sleep puts it to sleep again (R-SCHED-08).
    #[default]
    Sleep,
    /// It restarts.
    Restart,
    /// It shuts down.
    ShutDown,
}

impl AfterWake {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks with a reference")]
    const fn is_sleep(&self) -> bool {
        matches!(self, Self::Sleep)
    }
}

/// Time from available to deadline where nobody gives one (R-DEPL-12).
pub const DEADLINE: SignedDuration = SignedDuration::from_hours(14 * 24);

/// The settings of a deployment that says nothing about them (R-DEPL-08 to R-DEPL-18).
impl Default for DeploymentSettings {
    fn default() -> Self {
        Self {
            display_notifications: true,
            client_local_time: false,
            available: Available::AsSoonAsPossible,
            deadline: Deadline::After(DEADLINE),
            suppress_restart_servers: false,
            suppress_restart_workstations: false,
            install_outside_windows: false,
            restart_outside_windows: false,
            disable_alerts: false,
            alert_on_failure: false,
            install_on_slow_boundary: false,
            fallback_to_unprotected: true,
            install_all_applicable: false,
            wake_on_lan: false,
            allow_remove: false,
            deadline_spread: SignedDuration::ZERO,
            install_all_within: None,
            restart_countdown: None,
            display: None,
            restart_left_to_people: false,
            after_wake: AfterWake::Sleep,
        }
    }
}

impl DeploymentSettings {
    /// How much people at the machine see of it.
    pub fn display(&self) -> Display {
        self.display.unwrap_or(if self.display_notifications { Display::Full } else { Display::Listed })
    }

    /// Whether a machine of this role must not be restarted because of the deployment (R-DEPL-13).
    pub const fn suppresses_restart(&self, workstation: bool) -> bool {
        if workstation { self.suppress_restart_workstations } else { self.suppress_restart_servers }
    }
}

/// When a deployment becomes available.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Available {
    /// At once; anchored once in the site database.
    AsSoonAsPossible,
    /// At a civil time, read in UTC or client local time.
    At(civil::DateTime),
}

/// By when a deployment is enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Deadline {
    /// Optional deployment: installed only on the user's word (R-DEPL-33).
    None,
    /// At a civil time, read in UTC or client local time.
    At(civil::DateTime),
    /// So long after it became available (default 14 days, R-DEPL-12).
    After(SignedDuration),
}

/// A deployment, resolved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Object name.
    pub name: ObjectName,
    /// Kubernetes UID: the identity in policy and state messages (a re-created deployment is another one).
    pub uid: String,
    /// Generation of the object that is in force.
    pub generation: i64,
    /// The target.
    pub collection: ObjectName,
    /// Members of collections below it too (R-DEPL-06).
    pub include_subcollections: bool,
    /// Held: clients start nothing of it.
    pub suspend: bool,
    /// Settings.
    pub settings: DeploymentSettings,
    /// Its updates, sorted.
    pub updates: Vec<UpdateId>,
    /// What "as soon as possible" and `After` count from.
    pub anchor: Timestamp,
    /// For each value that is not the default the object that sets it: `settings.deadline` ->
    /// `DeploymentTemplate/monthly@sha256:...`. Names of fields as in this type.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, String>,
}
