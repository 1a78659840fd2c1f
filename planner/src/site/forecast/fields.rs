//! Which values differ, under the names that people write in YAML.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::SignedDuration;
use patchtide_model::{deployment::Deployment, object::ClientSettings};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A value that changes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettingChange {
    /// The field as it is written in YAML.
    pub field: String,
    /// What it was; none: there was nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// What it would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// The object that says so: the deployment, its template, or `default`; none: not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Fields whose name in YAML is not just another spelling.
const NAMES: &[(&str, &str)] = &[
    ("settings.client_local_time", "settings.timeEvaluation"),
    ("settings.suppress_restart_servers", "settings.restart.suppressServers"),
    ("settings.suppress_restart_workstations", "settings.restart.suppressWorkstations"),
    ("settings.restart_outside_windows", "settings.restart.outsideWindows"),
    ("settings.restart_countdown", "settings.restart.countdown"),
    ("settings.install_outside_windows", "settings.installation.outsideWindows"),
    ("settings.install_all_applicable", "settings.installation.installAllApplicable"),
    ("settings.install_all_within", "settings.installation.installAllWithin"),
    ("settings.allow_remove", "settings.installation.allowRemovals"),
    ("settings.disable_alerts", "settings.alerts.offDuringInstallation"),
    ("settings.alert_on_failure", "settings.alerts.onFailure"),
    ("settings.install_on_slow_boundary", "settings.download.slowBoundary"),
    ("settings.fallback_to_unprotected", "settings.download.unprotectedFallback"),
    ("settings.wake_on_lan", "settings.wakeOnLan.enabled"),
    ("settings.after_wake", "settings.wakeOnLan.afterwards"),
    ("policy_polling", "policyPollingInterval"),
    ("scan_cycle", "scanInterval"),
    ("reevaluation_cycle", "reevaluationInterval"),
    ("state_message_cycle", "stateMessageInterval"),
    ("restart_countdown", "restart.countdown"),
    ("restart_turnaround", "restart.turnaround"),
    ("no_deadline_spread", "disableDeadlineSpread"),
];

/// What no person writes, or what is told elsewhere.
const OWN: &[&str] = &["name", "uid", "generation", "updates", "anchor", "priority", "provenance"];

/// Of a deployment, its updates apart.
pub(super) fn deployment(before: Option<&Deployment>, after: Option<&Deployment>) -> Vec<SettingChange> {
    differences(before.map(flat).unwrap_or_default(), after.map(flat).unwrap_or_default())
}

/// Of the settings of a client.
pub(super) fn client_settings(before: &ClientSettings, after: &ClientSettings) -> Vec<SettingChange> {
    let of = |settings: &ClientSettings| {
        let mut values = flat(settings);
        values.remove("collection");
        values
    };
    differences(of(before), of(after))
}

fn differences(mut before: BTreeMap<String, String>, after: BTreeMap<String, String>) -> Vec<SettingChange> {
    let mut found = BTreeSet::new();
    for (field, after) in after {
        let before = before.remove(&field);
        if before.as_ref() != Some(&after) {
            found.insert(SettingChange { field, before, after: Some(after), from: None });
        }
    }
    for (field, before) in before {
        found.insert(SettingChange { field, before: Some(before), after: None, from: None });
    }
    found.into_iter().collect()
}

/// The values of an object by field. Its JSON is a contract, so a field that comes later is seen without a line here.
fn flat(object: &impl Serialize) -> BTreeMap<String, String> {
    let mut values = BTreeMap::new();
    let Ok(Value::Object(fields)) = serde_json::to_value(object) else { return values };
    for (key, value) in fields {
        match value {
            _ if OWN.contains(&key.as_str()) => {}
            Value::Object(inner) if key == "settings" => {
                for (key, value) in inner {
                    put(&mut values, &format!("settings.{key}"), &value);
                }
            }
            value => put(&mut values, &key, &value),
        }
    }
    values
}

fn put(values: &mut BTreeMap<String, String>, key: &str, value: &Value) {
    if value.is_null() {
        return;
    }
    let known = NAMES.iter().find(|(own, _)| *own == key);
    values.insert(known.map_or_else(|| camel(key), |(_, name)| (*name).to_owned()), said(key, value));
}

/// The value as people say it.
fn said(key: &str, value: &Value) -> String {
    match (key, value) {
        ("settings.client_local_time", Value::Bool(local)) => {
            if *local { "ClientLocal" } else { "UTC" }.to_owned()
        }
        ("settings.install_on_slow_boundary" | "settings.fallback_to_unprotected", Value::Bool(install)) => {
            if *install { "DownloadAndInstall" } else { "DoNotInstall" }.to_owned()
        }
        _ => plain(value),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if text == "AsSoonAsPossible" => "as soon as possible".to_owned(),
        Value::String(text) => text
            .parse::<SignedDuration>()
            .ok()
            .filter(|_| text.contains('P'))
            .map_or_else(|| text.clone(), length),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| format!("{} {}", camel(&key.to_lowercase()), plain(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// A length of time as durations are written in YAML: `14d`, `1h30m`, `0s`.
pub fn length(length: SignedDuration) -> String {
    let mut left = length.as_secs().max(0);
    let mut text = String::new();
    for (unit, seconds) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        let count = left / seconds;
        left %= seconds;
        if count > 0 {
            let _ = write!(text, "{count}{unit}");
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn camel(key: &str) -> String {
    let mut name = String::new();
    let mut upper = false;
    for c in key.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            name.push(c.to_ascii_uppercase());
        } else {
            name.push(c);
        }
    }
    name
}
