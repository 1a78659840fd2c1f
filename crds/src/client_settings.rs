//! ClientSettings: how the agents of a collection behave.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ByteSize, DurationText,
    conditions::{Condition, status_contract},
    defaults,
    duration::between,
    recurrence::Weekday,
    reference::NAME,
    rules::time_of_day,
    schema::leave_description_to_field,
};

/// How agents behave: cycles, reminders, restarts, caches.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "ClientSettings",
    namespaced,
    plural = "clientsettings",
    status = "ClientSettingsStatus",
    derive = "PartialEq",
    shortname = "clset",
    category = "patchtide",
    doc = "How the agents of a collection behave. Of several that reach a client the one with the smallest priority number applies as a whole; one without a collection is the default for all clients.",
    selectable = ".spec.collection",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Collection", type_ = "string", json_path = ".spec.collection"),
    printcolumn(name = "Priority", type_ = "integer", json_path = ".spec.priority"),
    printcolumn(name = "Clients", type_ = "integer", json_path = ".status.clients"),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.collection) || self.priority == 10000").message("settings without a collection are the default for all clients and have priority 10000: name a collection, or leave priority out"))]
#[x_kube(validation = Rule::new("!has(self.collection) || self.priority < 10000").message("settings for a collection need a priority from 1 to 9999; smaller numbers win"))]
pub struct ClientSettingsSpec {
    /// What the settings are for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Collection whose members take them. Default: all clients that no other settings reach.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub collection: Option<String>,
    /// Of several settings that reach a client the smallest number wins, 1 to 9999; of equal ones the first by name.
    /// Default 10000, for settings without a collection.
    #[serde(default = "lowest")]
    #[schemars(range(min = 1, max = 10_000))]
    pub priority: u32,
    /// Switches software updates on these clients on. False: agents report themselves but neither scan nor install.
    /// Default true.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
    /// Time between two scans, from 1m to 31d, default 7d. A change of the catalogue causes one beside it where
    /// `scanOnCatalogueChange` is set.
    #[serde(default = "defaults::d7")]
    #[x_kube(validation = between("1m", "31d"))]
    pub scan_interval: DurationText,
    /// Scans soon after the catalogue changed for a client, spread over `cycleSpread`. Default true.
    #[serde(default = "defaults::yes")]
    pub scan_on_catalogue_change: bool,
    /// How old a scan result may be to be used instead of a new scan, from 0s to 31d, default 24h. 0s: each use scans.
    #[serde(default = "defaults::h24")]
    #[x_kube(validation = between("0s", "31d"))]
    pub scan_ttl: DurationText,
    /// What happens after a failed scan.
    #[serde(default)]
    pub scan_retry: ScanRetry,
    /// Time between two re-evaluations, which install again what fell below a deployed update, from 1m to 31d, default 7d.
    #[serde(default = "defaults::d7")]
    #[x_kube(validation = between("1m", "31d"))]
    pub reevaluation_interval: DurationText,
    /// Time between two polls for policy, from 10s to 24h, default 60m. It is the floor: with `longPoll` a change reaches
    /// clients that are online in seconds.
    #[serde(default = "hour_in_minutes")]
    #[x_kube(validation = between("10s", "24h"))]
    pub policy_polling_interval: DurationText,
    /// Holds a request open at the management point, so that a change arrives at once. Default true.
    #[serde(default = "defaults::yes")]
    pub long_poll: bool,
    /// Longest time that state messages are collected before they are sent, from 1s to 24h, default 15m. Failures and the
    /// end of an installation are sent at once.
    #[serde(default = "defaults::m15")]
    #[x_kube(validation = between("1s", "24h"))]
    pub state_message_interval: DurationText,
    /// Spreads scans, re-evaluations and polls of many clients at random over this time, from 0s to 24h, default 2h.
    #[serde(default = "defaults::h2")]
    #[x_kube(validation = between("0s", "24h"))]
    pub cycle_spread: DurationText,
    /// Ignores `deadlineSpread` of deployments: all start at the deadline. Default false.
    #[serde(default)]
    pub disable_deadline_spread: bool,
    /// Reminders of updates that wait for their deadline, and of restarts that count down.
    #[serde(default)]
    pub reminders: Reminders,
    /// Restarts.
    #[serde(default)]
    pub restart: ClientRestart,
    /// Also installs, when something mandatory is installed, other mandatory updates whose deadline comes within this
    /// time, from 1h to 365d. Default: off; deployments can say it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[x_kube(validation = between("1h", "365d"))]
    pub install_due_within: Option<DurationText>,
    /// Time after the deadline before installation is enforced, in which people can still choose the moment, from 0s
    /// (off, the default) to 120h.
    #[serde(default = "none")]
    #[x_kube(validation = between("0s", "120h"))]
    pub grace_period: DurationText,
    /// Lets general windows (AllDeployments) count for updates too on a client that has windows for updates. Default
    /// false: windows for updates displace general ones.
    #[serde(default)]
    pub general_windows_with_update_windows: bool,
    /// Times in which people are at work: installations that they asked for "outside of business hours"
    /// (`patchtide-agent install --after-hours`) avoid them.
    #[serde(default)]
    pub business_hours: BusinessHours,
    /// A time at which updates are installed before their deadline without anybody asking: those with a deadline that
    /// people see. Default: none; whom `userActions` allows may set one (`patchtide-agent schedule`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_schedule: Option<UserSchedule>,
    /// Who at the client may have updates installed before their deadline, set a schedule, postpone, and restart for a
    /// pending restart. Nobody: not even root. Root: root alone. Administrators: root and the members of the groups sudo
    /// and wheel in the machine's own files. Everybody: all who can log in. Default Root.
    #[serde(default)]
    pub user_actions: UserActions,
    /// Other things that patch behind the site's back: unattended-upgrades and timers of the package manager. Report: they
    /// are detected and reported. Disable: they are switched off too, and on again when this setting goes. Default Report.
    #[serde(default)]
    pub other_updaters: OtherUpdaters,
    /// Downloads and cache.
    #[serde(default)]
    pub download: ClientDownload,
    /// Keeps the agent itself up to date from the software update point, where that publishes it. Default true.
    #[serde(default = "defaults::yes")]
    pub agent_update: bool,
}

fn lowest() -> u32 {
    10_000
}

fn none() -> DurationText {
    DurationText("0s".to_owned())
}

fn hour_in_minutes() -> DurationText {
    DurationText("60m".to_owned())
}

/// What happens after a failed scan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScanRetry {
    /// Time between two tries, from 10s to 24h, default 30m.
    #[serde(default = "half_hour")]
    #[x_kube(validation = between("10s", "24h"))]
    pub interval: DurationText,
    /// Tries before the scan counts as failed and waits for the next cycle, 0 to 100, default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 0, max = 100))]
    pub attempts: u32,
}

fn half_hour() -> DurationText {
    DurationText("30m".to_owned())
}

fn four() -> u32 {
    4
}

impl Default for ScanRetry {
    fn default() -> Self {
        Self { interval: half_hour(), attempts: four() }
    }
}

/// Time between two reminders of updates that are due, by how far the deadline is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Reminders {
    /// Deadline more than a day away: from 1m to 30d, default 48h.
    #[serde(default = "defaults::h48")]
    #[x_kube(validation = between("1m", "30d"))]
    pub more_than_a_day: DurationText,
    /// Deadline within a day: from 1m to 24h, default 4h.
    #[serde(default = "defaults::h4")]
    #[x_kube(validation = between("1m", "24h"))]
    pub within_a_day: DurationText,
    /// Deadline within the hour: from 1m to 60m, default 15m.
    #[serde(default = "defaults::m15")]
    #[x_kube(validation = between("1m", "60m"))]
    pub within_the_hour: DurationText,
}

impl Default for Reminders {
    fn default() -> Self {
        Self {
            more_than_a_day: defaults::h48(),
            within_a_day: defaults::h4(),
            within_the_hour: defaults::m15(),
        }
    }
}

/// Restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientRestart {
    /// Time between the announcement of a restart and the restart, from 0s to 24h, default 5m. It counts towards the
    /// room an update needs in a window, so keep it shorter than the shortest one.
    #[serde(default = "defaults::m5")]
    #[x_kube(validation = between("0s", "24h"))]
    pub countdown: DurationText,
    /// Last part of the countdown, in which the message stays on the screen, from 0s to 24h, default 1m. Also the time
    /// between a person's word and the restart, so that others who are logged in are warned.
    #[serde(default = "defaults::m1")]
    #[x_kube(validation = between("0s", "24h"))]
    pub final_warning: DurationText,
    /// Time between two reminders of a restart that waits, from 1m to 14d, default 4h.
    #[serde(default = "defaults::h4")]
    #[x_kube(validation = between("1m", "14d"))]
    pub reminder: DurationText,
    /// Time that a restart itself takes, until the agent works again, from 0s to 24h, default 10m. It counts towards the
    /// room an update needs in a window.
    #[serde(default = "defaults::m10")]
    #[x_kube(validation = between("0s", "24h"))]
    pub turnaround: DurationText,
}

impl Default for ClientRestart {
    fn default() -> Self {
        Self {
            countdown: defaults::m5(),
            final_warning: defaults::m1(),
            reminder: defaults::h4(),
            turnaround: defaults::m10(),
        }
    }
}

/// Times in which people are at work, in the client's wall clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.from < self.until").message("businessHours.from must be before until on the same day"))]
pub struct BusinessHours {
    /// From this time of day on, HH:MM, default 05:00.
    #[serde(default = "five")]
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub from: String,
    /// Until this time of day, HH:MM, default 22:00.
    #[serde(default = "twenty_two")]
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub until: String,
    /// On these days, default Monday to Friday.
    #[serde(default = "working_days")]
    #[schemars(length(max = 7))]
    pub weekdays: Vec<Weekday>,
}

fn five() -> String {
    "05:00".to_owned()
}

fn twenty_two() -> String {
    "22:00".to_owned()
}

fn working_days() -> Vec<Weekday> {
    vec![Weekday::Monday, Weekday::Tuesday, Weekday::Wednesday, Weekday::Thursday, Weekday::Friday]
}

impl Default for BusinessHours {
    fn default() -> Self {
        Self { from: five(), until: twenty_two(), weekdays: working_days() }
    }
}

/// A time at which updates are installed before their deadline (R-UX-07, R-UX-08).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UserSchedule {
    /// Time of day, HH:MM, in the client's wall clock. Maintenance windows still hold. A client that is off at that time
    /// leaves it out.
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub time: String,
    /// On these days. Default: every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 7))]
    pub weekdays: Vec<Weekday>,
    /// Lets the people at the client change or switch off the schedule. Default false.
    #[serde(default)]
    pub user_may_change: bool,
}

/// Who may act at the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(transform = leave_description_to_field)]
pub enum UserActions {
    /// Not even root.
    Nobody,
    /// Root.
    #[default]
    Root,
    /// Root and the administrators.
    Administrators,
    /// All.
    Everybody,
}

/// What is done about other updaters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OtherUpdaters {
    /// They are reported.
    #[default]
    Report,
    /// They are switched off too.
    Disable,
}

/// Downloads and cache of the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientDownload {
    /// Bytes of the agent's cache, default 5Gi. Content of mandatory deployments goes in before that of optional ones; what
    /// does not fit waits and says so.
    #[serde(default = "defaults::gib5")]
    pub cache_size: ByteSize,
    /// Bytes per second that the agent takes, for example `1Mi`. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<ByteSize>,
    /// Time after which no answer about where content is becomes a failure, from 1m to 31d, default 7d.
    #[serde(default = "defaults::d7")]
    #[x_kube(validation = between("1m", "31d"))]
    pub location_timeout: DurationText,
    /// Time after which a download that is not complete becomes a failure, from 1m to 31d, default 10d.
    #[serde(default = "defaults::d10")]
    #[x_kube(validation = between("1m", "31d"))]
    pub timeout: DurationText,
    /// Time without a byte after which the next distribution point is tried, from 1s to 8h, default 1h.
    #[serde(default = "defaults::h1")]
    #[x_kube(validation = between("1s", "8h"))]
    pub inactivity_timeout: DurationText,
    /// Files that are downloaded at the same time, 1 to 32, default 4.
    #[serde(default = "four")]
    #[schemars(range(min = 1, max = 32))]
    pub parallel: u32,
}

impl Default for ClientDownload {
    fn default() -> Self {
        Self {
            cache_size: defaults::gib5(),
            bandwidth: None,
            location_timeout: defaults::d7(),
            timeout: defaults::d10(),
            inactivity_timeout: defaults::h1(),
            parallel: four(),
        }
    }
}

/// What is true of the settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClientSettingsStatus {
    /// Last generation of the spec that ended ready or stalled; -1 before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, Reconciling, Stalled and the conditions of this kind. Ready=True means that this generation is accepted,
    /// resolved and in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 24))]
    pub conditions: Vec<Condition>,
    /// Value of the last `reconcile.patchtide.dev/requestedAt` annotation that was carried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub last_handled_reconcile_at: Option<String>,
    /// Clients that apply them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// Clients of the collection for which other settings win.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<u64>,
}

status_contract!(ClientSettingsStatus);
