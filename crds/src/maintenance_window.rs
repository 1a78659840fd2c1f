//! MaintenanceWindow: when something may, or may not, happen.

use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    DurationText,
    conditions::{Condition, status_contract},
    defaults,
    duration::between,
    recurrence::Recurrence,
    reference::NAME,
    rules::{time_of_day, time_zone},
};

/// When updates may, or may not, be installed and machines restarted.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "patchtide.dev",
    version = "v1alpha1",
    kind = "MaintenanceWindow",
    namespaced,
    status = "MaintenanceWindowStatus",
    derive = "PartialEq",
    shortname = "mw",
    category = "patchtide",
    doc = "When updates may, or may not, be installed on the clients of a collection and these be restarted. The windows of all collections of a client add up; deny wins over allow. After the deadline a client is free only if no window object at all selects it: one that is past, disabled or invalid still keeps the rest of the time closed. Where all its windows deny, it is free outside of them. Windows are not inherited by subcollections and do not limit downloads.",
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
    printcolumn(name = "Action", type_ = "string", json_path = ".spec.action"),
    printcolumn(name = "Applies To", type_ = "string", json_path = ".spec.appliesTo"),
    printcolumn(name = "Duration", type_ = "string", json_path = ".spec.duration"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.next"),
    printcolumn(name = "Enabled", type_ = "boolean", json_path = ".spec.enabled", priority = 1),
    printcolumn(name = "Never Fit", type_ = "integer", json_path = ".status.neverFitting", priority = 1),
    printcolumn(
        name = "Status",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.effectiveFrom) || !has(self.effectiveUntil) || self.effectiveFrom <= self.effectiveUntil").message("WIN-RANGE: effectiveFrom must not be after effectiveUntil"))]
#[x_kube(validation = Rule::new("!((has(self.recurrence.daily) && self.recurrence.daily.every > 1) || (has(self.recurrence.weekly) && self.recurrence.weekly.every > 1) || (has(self.recurrence.monthlyByDate) && self.recurrence.monthlyByDate.every > 1) || (has(self.recurrence.monthlyByWeekday) && self.recurrence.monthlyByWeekday.every > 1)) || has(self.effectiveFrom)").message("every: 2 or more is counted from a day: set effectiveFrom"))]
#[x_kube(validation = Rule::new("!(has(self.recurrence.monthlyByDate) && has(self.recurrence.monthlyByDate.day) && self.recurrence.monthlyByDate.every == 12 && has(self.effectiveFrom)) || !((self.recurrence.monthlyByDate.day > 29 && self.effectiveFrom.getMonth() == 1) || (self.recurrence.monthlyByDate.day == 31 && self.effectiveFrom.getMonth() in [3, 5, 8, 10]))").message("WIN-NO-OCCURRENCE: every: 12 opens in the month of effectiveFrom only, and that month never has this day: use lastDay: true or another effectiveFrom"))]
#[x_kube(validation = Rule::new("!has(self.recurrence.once) || (!has(self.effectiveFrom) && !has(self.effectiveUntil))").message("recurrence.once has its date: leave effectiveFrom and effectiveUntil out"))]
pub struct MaintenanceWindowSpec {
    /// What the window is for, for people. At most 1024 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub description: Option<String>,
    /// Collection whose members the window selects. One with all clients is possible but not advised: a new machine
    /// then waits for it too.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub collection: String,
    /// On which days it opens: exactly one of once, daily, weekly, monthlyByDate and monthlyByWeekday.
    pub recurrence: Recurrence,
    /// Time of day when it opens, HH:MM, in the time zone. A time that a change of the clocks leaves out opens at the
    /// first instant after it; one that comes twice opens once, the first time.
    #[schemars(length(max = 5))]
    #[x_kube(validation = time_of_day())]
    pub start: String,
    /// How long it is open, from 5m to 24h, in elapsed time whatever the clocks do. An update starts only if the rest of
    /// the window covers its maximum run time and the restart.
    #[x_kube(validation = between("5m", "24h"))]
    pub duration: DurationText,
    /// Time zone of start, days and effective dates: ClientLocal (default, the wall clock of each client), UTC, or an
    /// IANA name such as `Europe/Berlin`.
    #[serde(default = "client_local")]
    #[schemars(length(min = 3, max = 64))]
    #[x_kube(validation = time_zone(true))]
    pub time_zone: String,
    /// First day on which it may open, as YYYY-MM-DD; days, weeks and months of `every` are counted from it. Default: no
    /// limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 10), extend("format" = "date"))]
    pub effective_from: Option<String>,
    /// Last day on which it may open, as YYYY-MM-DD. Default: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 10, max = 10), extend("format" = "date"))]
    pub effective_until: Option<String>,
    /// AllDeployments: installations of every kind and restarts. Updates: installation of updates and their restarts; where
    /// a client has such a window, general ones do not count for updates unless the ClientSettings say so.
    /// RestartsOnly: restricts restarts alone. Default AllDeployments.
    #[serde(default)]
    pub applies_to: WindowScope,
    /// Allow: it may happen in the window. Deny: it must not happen in it, whatever other windows allow; with Deny windows
    /// only, a client is free outside of them. Default Allow.
    #[serde(default)]
    pub action: WindowAction,
    /// False: the window opens never, but still selects its clients, so that they do not become free. Default true.
    #[serde(default = "defaults::yes")]
    pub enabled: bool,
}

fn client_local() -> String {
    "ClientLocal".to_owned()
}

/// What a window is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WindowScope {
    /// All deployments and restarts.
    #[default]
    AllDeployments,
    /// Updates and their restarts.
    Updates,
    /// Restarts alone.
    RestartsOnly,
}

/// Whether a window allows or denies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum WindowAction {
    /// It may happen.
    #[default]
    Allow,
    /// It must not happen.
    Deny,
}

/// What is true of the window.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MaintenanceWindowStatus {
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
    /// For people: `open until 2026-12-01T04:00:00Z`, or when it opens next, or `never again`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub next: Option<String>,
    /// The next 5 openings; for ClientLocal as wall-clock times without zone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 5))]
    pub next_occurrences: Vec<Occurrence>,
    /// Clients that it selects.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clients: Option<u64>,
    /// Deployed updates that are too long for every window of some client.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub never_fitting: Option<u64>,
    /// The first 20 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    pub never_fit: Vec<NeverFits>,
}

status_contract!(MaintenanceWindowStatus);

/// One opening.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Occurrence {
    /// It opens.
    #[schemars(length(max = 40))]
    pub start: String,
    /// It closes.
    #[schemars(length(max = 40))]
    pub end: String,
}

/// An update that can never start in the windows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NeverFits {
    /// The update.
    #[schemars(length(max = 612))]
    pub update: String,
    /// What it needs: run time, restart countdown and restart.
    pub needs: DurationText,
    /// The longest window that these clients have.
    pub longest: DurationText,
}
