//! The settings of a deployment. Templates and deployments share them, so every field may be missing.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{DurationText, duration::between, schema::leave_description_to_field};

/// Settings of a deployment. Every field may be missing: a template fills what a deployment leaves out, and what
/// neither says takes the default named at the field (R-TMPL-04).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.timeEvaluation) || !has(self.available) || !has(self.available.at) || (self.timeEvaluation == 'UTC') == self.available.at.endsWith('Z')").message("available.at: with timeEvaluation UTC end the time with Z (2026-12-01T02:00:00Z); with ClientLocal leave the Z out, it is then the wall clock of each client"))]
#[x_kube(validation = Rule::new("!has(self.timeEvaluation) || !has(self.deadline) || !has(self.deadline.at) || (self.timeEvaluation == 'UTC') == self.deadline.at.endsWith('Z')").message("deadline.at: with timeEvaluation UTC end the time with Z (2026-12-01T02:00:00Z); with ClientLocal leave the Z out, it is then the wall clock of each client"))]
#[x_kube(validation = Rule::new("!has(self.wakeOnLan) || !has(self.wakeOnLan.enabled) || !self.wakeOnLan.enabled || !has(self.deadline) || !has(self.deadline.none)").message("wakeOnLan wakes clients at the deadline: set deadline.after or deadline.at, or switch wakeOnLan off"))]
#[x_kube(validation = Rule::new("!has(self.available) || !has(self.available.at) || !has(self.deadline) || !has(self.deadline.at) || self.available.at.endsWith('Z') != self.deadline.at.endsWith('Z') || self.available.at <= self.deadline.at").message("deadline.at is before available.at: nothing is installed before it is available; write a later deadline.at or an earlier available.at"))]
pub struct DeploymentSettings {
    /// What people at the client see, on terminals and desktops. Allow: messages, reminders and the restart countdown.
    /// BalloonOnly: short messages on desktops; terminals hear of restarts alone. Suppress: no message, but who asks
    /// (`patchtide-agent list`) finds the updates. Silent: nothing, and only root finds them. Of several deployments of
    /// an update the one that shows most counts. Default Allow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub display_notifications: Option<DisplayNotifications>,
    /// How `available.at` and `deadline.at` are read. UTC: one instant for all clients. ClientLocal: the wall clock of
    /// each client, so that 02:00 is 02:00 everywhere. Default UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_evaluation: Option<TimeEvaluation>,
    /// When clients learn of the updates and may download them. Default: as soon as possible.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub available: Option<Available>,
    /// When installation is enforced. Default: 14 days after the available time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Deadline>,
    /// Spreads the start after the deadline: every client waits a steady random share of this time. Updates are still
    /// due at the deadline. From 0s to 24h; default 0s, all start at the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("0s", "24h"))]
    pub deadline_spread: Option<DurationText>,
    /// Restarts after the installation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartSettings>,
    /// The installation itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub installation: Option<InstallationSettings>,
    /// Alerts of the monitoring system while the deployment runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alerts: Option<AlertSettings>,
    /// Where clients may take content from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<DownloadSettings>,
    /// Magic packets at the deadline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wake_on_lan: Option<WakeOnLanSettings>,
    /// Clients of the earlier generation that take whole packages, know no windows and are not re-evaluated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy_clients: Option<LegacyClientSettings>,
}

/// What people at the client see (R-DEPL-08, R-DEPL-09, R-UX-10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum DisplayNotifications {
    /// Messages, reminders and the restart countdown.
    #[default]
    Allow,
    /// Short messages on desktops only.
    BalloonOnly,
    /// No message, but the list.
    Suppress,
    /// Nothing.
    Silent,
}

/// How times are read (R-DEPL-10, R-DEPL-11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum TimeEvaluation {
    /// One instant for all.
    #[default]
    #[serde(rename = "UTC")]
    Utc,
    /// The wall clock of each client.
    ClientLocal,
}

/// What a time in a deployment looks like.
pub(crate) const TIME: &str = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z?$";

/// When a deployment becomes active (R-DEPL-27).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.at) ? 1 : 0) + (has(self.asSoonAsPossible) ? 1 : 0) == 1").message("set exactly one of at and asSoonAsPossible"))]
pub struct Available {
    /// Active as soon as possible after the commit that brings it. The moment is recorded once and survives a rebuilt
    /// cluster. Only `true` makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("leave asSoonAsPossible out, or set it to true; for a later start use at"))]
    pub as_soon_as_possible: Option<bool>,
    /// Active from this time on: `2026-12-01T02:00:00Z`, or without Z when timeEvaluation is ClientLocal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 19, max = 20), regex(pattern = TIME))]
    #[x_kube(validation = Rule::new("timestamp(self.endsWith('Z') ? self : self + 'Z') > timestamp('2000-01-01T00:00:00Z')").message("write a date that exists, after the year 2000, for example 2026-12-01T02:00:00Z"))]
    pub at: Option<String>,
}

/// When installation is enforced (R-DEPL-28, R-DEPL-33).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("(has(self.after) ? 1 : 0) + (has(self.at) ? 1 : 0) + (has(self.none) ? 1 : 0) == 1").message("set exactly one of after, at and none"))]
pub struct Deadline {
    /// This long after the available time, from 0s (at once) to 365d. The default deadline is `after: 14d`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("0s", "365d"))]
    pub after: Option<DurationText>,
    /// At this time: `2026-12-01T02:00:00Z`, or without Z when timeEvaluation is ClientLocal.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 19, max = 20), regex(pattern = TIME))]
    #[x_kube(validation = Rule::new("timestamp(self.endsWith('Z') ? self : self + 'Z') > timestamp('2000-01-01T00:00:00Z')").message("write a date that exists, after the year 2000, for example 2026-12-01T02:00:00Z"))]
    pub at: Option<String>,
    /// No deadline: the deployment is optional, people choose whether and when. Only `true` makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = Rule::new("self").message("leave none out, or set it to true; for a deadline use after or at"))]
    pub none: Option<bool>,
}

/// Restarts (R-DEPL-13, R-DEPL-14, R-RST-04, R-RST-05).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RestartSettings {
    /// No restart of servers because of this deployment; they report a pending restart. Of several deployments on one
    /// client, one that suppresses is enough. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_servers: Option<bool>,
    /// The same for workstations. A client is a workstation when its fact `role` says so. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub suppress_workstations: Option<bool>,
    /// Restarts of servers and workstations need no maintenance window. Default false: they wait for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<bool>,
    /// Time between the announcement of a restart and the restart, from 0s to 24h; of several deployments that hold an
    /// update which asks for the restart the longest counts. Default: that of the ClientSettings.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("0s", "24h"))]
    pub countdown: Option<DurationText>,
    /// Forced: at the end of the countdown the client restarts. CountdownOnly: the countdown is shown, then the restart
    /// is left to people (`patchtide-agent restart`), who are reminded of it. Of several deployments that hold an update
    /// which asks for the restart, one that says CountdownOnly is enough. Default Forced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforcement: Option<RestartEnforcement>,
}

/// What happens at the end of a restart countdown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum RestartEnforcement {
    /// Restart.
    #[default]
    Forced,
    /// Leave it to people.
    CountdownOnly,
}

/// The installation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct InstallationSettings {
    /// After the deadline, install without waiting for a maintenance window. Default false: they wait for one where a
    /// window selects the client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outside_windows: Option<bool>,
    /// When something mandatory is installed, also install all other applicable deployed updates whose deadline is yet
    /// to come (R-DEPL-42). Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_all_applicable: Option<bool>,
    /// Limits installAllApplicable to deadlines that come within this time, from 1h to 365d. Default: all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "365d"))]
    pub install_all_within: Option<DurationText>,
    /// Lets the package manager remove packages where an update needs it. Default false: such an update fails before
    /// anything starts and names what would go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allow_removals: Option<bool>,
}

/// Alerts (R-DEPL-15, R-DEPL-16).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AlertSettings {
    /// Silences the alerts of a client while updates are installed on it, the restart included, in the Alertmanager that
    /// the Site names. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub off_during_installation: Option<bool>,
    /// Raises the alert `PatchtideInstallationFailed` there when an installation fails on a client, until it is mended.
    /// Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_failure: Option<bool>,
}

/// Where clients may take content from (R-DEPL-17, R-DEPL-18).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DownloadSettings {
    /// For a client within a slow or unreliable boundary. DoNotInstall: it waits until it is in a fast one.
    /// DownloadAndInstall: it downloads over the slow line. Default DoNotInstall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_boundary: Option<DownloadBehaviour>,
    /// For a client inside the boundaries of a protected distribution point when only unprotected ones have the
    /// content. DoNotInstall: it waits until a protected one has it. DownloadAndInstall: it takes it from an unprotected
    /// one. Default DownloadAndInstall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprotected_fallback: Option<DownloadBehaviour>,
}

/// Whether a client takes content over a way that is not the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum DownloadBehaviour {
    /// Wait for a better way.
    DoNotInstall,
    /// Take it.
    DownloadAndInstall,
}

/// Wake on LAN (R-DEPL-29, R-SCHED-06 to R-SCHED-08).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WakeOnLanSettings {
    /// Sends magic packets to sleeping clients at the deadline. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// What a client that was woken does after the installation. Sleep: it goes back to what it did before. ShutDown: it
    /// shuts down. Restart: it restarts. Default Sleep.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub afterwards: Option<AfterWake>,
}

/// What a woken client does afterwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum AfterWake {
    /// What put it to sleep before puts it to sleep again.
    #[default]
    Sleep,
    /// Shut down.
    ShutDown,
    /// Restart.
    Restart,
}

/// Clients of the earlier generation (R-DEPL-19 to R-DEPL-21).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LegacyClientSettings {
    /// Deploys to legacy clients of the collection too. Every update must be deployable to them. Default
    /// false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deploy: Option<bool>,
    /// Collects their hardware inventory at once after the installation, so that status does not wait for the next
    /// inventory cycle. Default false.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub collect_inventory_immediately: Option<bool>,
    /// When a distribution point is available locally: DoNotInstall or DownloadAndInstall. Default DownloadAndInstall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local_distribution_point: Option<DownloadBehaviour>,
    /// When the client is within a slow or unreliable boundary: DoNotInstall or DownloadAndInstall. Default DoNotInstall.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slow_boundary: Option<DownloadBehaviour>,
}
