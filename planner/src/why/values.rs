//! Values that count for a client, and who set each: the object, its field, and where the object has it from.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use patchtide_model::{
    origin::DEFAULT,
    policy::{DeploymentPolicy, Policy, PolicyBody},
    window::time_zone,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Explanation;
use crate::client::{
    ClientView, Gate,
    merged::merged,
    merging::{CLIENT, DEPLOYMENT, MergeRule},
};

/// A value that counts for the client, and who set it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueWhy {
    /// The object that set it, as `Kind/name`; [`DEFAULT`] when nobody did.
    pub object: String,
    /// Its field, for example `spec.settings.deadline`.
    pub field: String,
    /// The value, in words.
    pub value: String,
    /// Where the object has it from, when it is not its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

/// Says of everything in `explanation` who set it.
pub(super) fn tell(explanation: &mut Explanation, policy: &Policy, view: &ClientView) {
    let body = &policy.body;
    for gate in &mut explanation.gates {
        origin(gate, body);
    }
    explanation.values = of_client(body);
    for deployment in &mut explanation.deployments {
        for gate in &mut deployment.gates {
            origin(gate, body);
        }
        if let Some(found) = body.deployments.iter().find(|found| found.uid == deployment.uid) {
            deployment.values = of_deployment(found);
        }
    }
    let zone = time_zone(&explanation.client.zone).unwrap_or(TimeZone::UTC);
    let mut merged: BTreeMap<_, _> = merged(policy, view, explanation.at, &zone);
    for update in &mut explanation.updates {
        for gate in &mut update.gates {
            origin(gate, body);
        }
        let values = merged.remove(&update.id).unwrap_or_default();
        update.values = values
            .into_iter()
            .filter_map(|value| {
                let deployment = body.deployments.iter().find(|found| found.uid == value.deployment)?;
                let object = object(deployment);
                let from = deployment.origin_of(&format!("settings.{}", value.field));
                Some(ValueWhy {
                    field: path(DEPLOYMENT, "spec.settings.", value.field),
                    value: words(&value.value),
                    from: (from != object).then(|| from.to_owned()),
                    object,
                })
            })
            .collect();
    }
}

fn object(deployment: &DeploymentPolicy) -> String {
    format!("UpdateDeployment/{}", deployment.name)
}

fn path(rules: &[MergeRule], before: &str, field: &str) -> String {
    let rule = rules.iter().find(|rule| rule.field == field);
    format!("{before}{}", rule.map_or(field, |rule| rule.path))
}

/// Where the value comes from that a gate names, when its object has it from elsewhere.
fn origin(gate: &mut Gate, body: &PolicyBody) {
    let Some(deployment) = body.deployments.iter().find(|found| object(found) == gate.object) else { return };
    let origins: Vec<&str> = match gate.field.strip_prefix("spec.settings.") {
        Some(path) => DEPLOYMENT
            .iter()
            .filter(|rule| rule.path == path)
            .map(|rule| deployment.origin_of(&format!("settings.{}", rule.field)))
            .collect(),
        None if gate.field == "spec.collection" => vec![deployment.origin_of("collection")],
        None => Vec::new(),
    };
    // Of two values that one field sets, the one that somebody wrote.
    let Some(found) = origins.iter().find(|from| **from != DEFAULT).or(origins.first()) else { return };
    // A collection has no default: one that does not say is the deployment's own.
    if *found != gate.object && !(*found == DEFAULT && gate.field == "spec.collection") {
        gate.from = Some((*found).to_owned());
    }
}

fn fields(value: &impl Serialize) -> serde_json::Map<String, Value> {
    match serde_json::to_value(value) {
        Ok(Value::Object(fields)) => fields,
        _ => serde_json::Map::new(),
    }
}

fn of_client(body: &PolicyBody) -> Vec<ValueWhy> {
    let identity = ["name", "collection", "priority"];
    let settings = fields(&body.settings).into_iter().filter(|(field, _)| !identity.contains(&&**field));
    let settings = settings.map(|(field, value)| ValueWhy {
        object: body.origin_of(&format!("settings.{field}")).unwrap_or_else(|| DEFAULT.to_owned()),
        field: path(CLIENT, "spec.", &field),
        value: words(&value),
        from: None,
    });
    let windows = body.windows.iter().map(|window| ValueWhy {
        object: format!("MaintenanceWindow/{}", window.name),
        field: "spec.collection".to_owned(),
        value: format!("selects this client by Collection/{}", window.collection),
        from: None,
    });
    settings.chain(windows).collect()
}

fn of_deployment(deployment: &DeploymentPolicy) -> Vec<ValueWhy> {
    let settings = fields(&deployment.settings);
    let settings = settings.iter().map(|(field, value)| ValueWhy {
        object: deployment.origin_of(&format!("settings.{field}")).to_owned(),
        field: path(DEPLOYMENT, "spec.settings.", field),
        value: words(value),
        from: None,
    });
    let updates = match deployment.origin_of("updates") {
        DEFAULT => object(deployment),
        list => list.to_owned(),
    };
    let updates = ValueWhy {
        object: updates,
        field: "spec.updates".to_owned(),
        value: format!("{} update(s)", deployment.updates.len()),
        from: None,
    };
    settings.chain(std::iter::once(updates)).collect()
}

/// A value as people read it.
fn words(value: &Value) -> String {
    match value {
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Null => "none".to_owned(),
        Value::String(text) => match (text.parse::<Timestamp>(), text.parse::<SignedDuration>()) {
            (Ok(at), _) => super::words::time(at),
            (_, Ok(span)) => length(span),
            _ => text.clone(),
        },
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| format!("{} {}", key.to_lowercase().replace('_', " "), words(value)))
            .collect::<Vec<_>>()
            .join(", "),
        Value::Number(number) => number.to_string(),
    }
}

/// A length as it is written in objects: `14d`, `12h30m`, `45s`.
fn length(span: SignedDuration) -> String {
    let seconds = span.as_secs();
    if seconds != 0 && seconds % 86_400 == 0 { format!("{}d", seconds / 86_400) } else { format!("{span:#}") }
}

#[cfg(test)]
mod tests {
    use patchtide_model::{
        ClientId,
        client::{Client, ClientState},
        deployment::Deadline,
    };
    use uuid::Uuid;

    use super::*;
    use crate::{
        fixtures::{
            add_deployment, add_window, at, daily, deployment, id, leaf, minutes, name, site, update,
        },
        snapshot::{ClientReport, Snapshot, UpdateReport},
        why::{explain, words},
    };

    const NOW: &str = "2026-11-21T10:00:00Z";

    /// One update in two deployments, of which one has its deadline from a template as pinned.
    fn explained() -> Explanation {
        let mut input = site(vec![update("a", 2)]);
        let host = ClientId(Uuid::from_u128(1));
        input.clients = vec![
            Client {
                id: host,
                name: "web-1".to_owned(),
                state: ClientState::Active,
                facts: BTreeMap::new(),
                address: None,
                last_contact: Some(at(NOW)),
            }
            .into(),
        ];
        input.required_leaves.insert(id("a", 2), [leaf("a", 2).reference()].into());
        let template = || "DeploymentTemplate/monthly@sha256:0123456789abcdef".to_owned();
        let mut march = deployment("march", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
        march.settings.deadline = Deadline::After(minutes(60 * 24));
        march.settings.install_outside_windows = true;
        march.provenance = [
            ("settings.deadline".to_owned(), template()),
            ("settings.install_outside_windows".to_owned(), "UpdateDeployment/march".to_owned()),
            ("collection".to_owned(), template()),
        ]
        .into();
        let mut april = deployment("april", &[id("a", 2)], at("2026-11-21T09:00:00Z"));
        april.settings.deadline = Deadline::After(minutes(60 * 48));
        april.settings.suppress_restart_servers = true;
        april.provenance = [
            ("settings.deadline".to_owned(), "UpdateDeployment/april".to_owned()),
            ("settings.suppress_restart_servers".to_owned(), "UpdateDeployment/april".to_owned()),
        ]
        .into();
        add_deployment(&mut input, march);
        add_deployment(&mut input, april);
        add_window(&mut input, daily("noon", 12, minutes(60)));
        let settings = patchtide_model::object::ClientSettings {
            name: "servers".to_owned(),
            scan_cycle: minutes(60 * 24),
            ..patchtide_model::object::ClientSettings::default()
        };
        input.objects.client_settings.insert(name("servers"), settings);
        let mut snapshot = Snapshot::new(input, at(NOW));
        let required = UpdateReport {
            detection: patchtide_model::state::Detection::Required,
            enforcement: None,
            error: None,
            since: Some(at(NOW)),
            leaves: [leaf("a", 2).reference()].into(),
        };
        let report = ClientReport {
            policy: Some((1, 1)),
            last_scan: Some(at(NOW)),
            covered: BTreeMap::from([(crate::fixtures::line(), 1)]),
            updates: BTreeMap::from([(id("a", 2), required)]),
            ..ClientReport::default()
        };
        snapshot.reports.insert(host, report);
        explain(&snapshot, host, at(NOW)).unwrap()
    }

    /// Issue 4, section 2: for each value that a merge decided, which object and field it came from.
    #[test]
    fn every_merged_value_says_which_object_and_field_it_came_from() {
        let told = explained();
        let of = |field: &str| {
            told.updates[0]
                .values
                .iter()
                .find(|value| value.field == field)
                .unwrap_or_else(|| panic!("{field}"))
        };
        let template = Some("DeploymentTemplate/monthly@sha256:0123456789abcdef".to_owned());
        let deadline = of("spec.settings.deadline");
        assert_eq!(
            (deadline.object.as_str(), deadline.value.as_str(), &deadline.from),
            ("UpdateDeployment/march", "2026-11-22T09:00:00Z", &template),
            "the earliest"
        );
        let suppressed = of("spec.settings.restart.suppressServers");
        assert_eq!(
            (suppressed.object.as_str(), suppressed.value.as_str()),
            ("UpdateDeployment/april", "yes")
        );
        let gate = |kind: &str| told.updates[0].gates.iter().find(|gate| gate.kind.name() == kind).unwrap();
        assert_eq!(
            (gate("deadline").object.as_str(), &gate("deadline").from),
            ("UpdateDeployment/march", &template)
        );
        assert_eq!(gate("available").from.as_deref(), Some("default"));
        let text = words::text(&told);
        for part in [
            "set by      ClientSettings/servers: scanInterval 1d\n",
            "set by      MaintenanceWindow/noon: collection selects this client by Collection/everyone\n",
            "set by      DeploymentTemplate/monthly as pinned (0123456789ab): deadline after 1d\n",
            "set by      UpdateDeployment/march: installation.outsideWindows yes; updates 1 update(s)\n",
            "counts      deadline 2026-11-22T09:00:00Z [UpdateDeployment/march spec.settings.deadline, from DeploymentTemplate/monthly as pinned (0123456789ab)]\n",
            "counts      restart.suppressServers yes [UpdateDeployment/april spec.settings.restart.suppressServers]\n",
            "[UpdateDeployment/april spec.settings.available, the default]",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        // The data says of each setting who set it, the defaults too.
        let march = told.deployments.iter().find(|found| found.name == "march").unwrap();
        let said =
            |field: &str| march.values.iter().find(|value| value.field == field).unwrap().object.clone();
        assert_eq!(said("spec.settings.installation.outsideWindows"), "UpdateDeployment/march");
        assert_eq!(said("spec.settings.alerts.onFailure"), "default");
        let json = serde_json::to_string(&told).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), told);
    }
}
