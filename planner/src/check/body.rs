//! A policy against the objects it comes from.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use patchtide_model::{
    ClientId, ObjectName, UpdateId,
    deployment::Deployment,
    object::ClientSettings,
    policy::{DeploymentPolicy, PolicyBody, UpdatePolicy},
};

use crate::site::{SiteInput, SitePlan};

/// `Kind/name` and what of it disagrees.
pub(super) type Disagreement = (String, &'static str);

/// Compares policies; clients share bodies, and what lies in a body is compared once.
pub(super) struct Bodies<'a> {
    input: &'a SiteInput,
    plan: &'a SitePlan,
    seen: BTreeMap<*const PolicyBody, Vec<Disagreement>>,
}

impl<'a> Bodies<'a> {
    pub(super) const fn new(input: &'a SiteInput, plan: &'a SitePlan) -> Self {
        Self { input, plan, seen: BTreeMap::new() }
    }

    /// Everything in which the policy of a client disagrees with the objects.
    pub(super) fn compare(&mut self, client: ClientId, body: &'a Arc<PolicyBody>) -> Vec<Disagreement> {
        let input = self.input;
        let content = self.seen.entry(Arc::as_ptr(body)).or_insert_with(|| inside(input, body));
        let mut found = content.clone();
        self.windows(client, body, &mut found);
        self.settings(client, body, &mut found);
        self.deployments(client, body, &mut found);
        found
    }

    fn is_member(&self, client: ClientId, collection: &ObjectName) -> bool {
        self.plan.membership.get(collection).is_some_and(|members| members.contains(&client))
    }

    /// Every window that selects the client, none more.
    fn windows(&self, client: ClientId, body: &PolicyBody, found: &mut Vec<Disagreement>) {
        for (name, window) in &self.input.objects.windows {
            let there = body.windows.iter().any(|in_policy| in_policy == window);
            if there != self.is_member(client, &window.collection) {
                found.push((format!("MaintenanceWindow/{name}"), "spec.collection"));
            }
        }
        let known = |window| self.input.objects.windows.values().any(|object| object == window);
        for window in body.windows.iter().filter(|window| !known(*window)) {
            found.push((format!("MaintenanceWindow/{}", window.name), "spec"));
        }
    }

    /// The settings in force, and no others of a higher rank that reach the client.
    fn settings(&self, client: ClientId, body: &PolicyBody, found: &mut Vec<Disagreement>) {
        let all = self.input.objects.client_settings.values();
        let reaching = all.filter(|settings| {
            settings.collection.as_ref().is_none_or(|collection| self.is_member(client, collection))
        });
        let rank = |settings: &ClientSettings| (settings.priority, std::cmp::Reverse(settings.name.clone()));
        let expected = reaching.max_by_key(|settings| rank(settings)).cloned().unwrap_or_default();
        if body.settings != expected {
            found.push((format!("ClientSettings/{}", expected.name), "spec"));
        }
    }

    /// Every deployment that reaches the client, none more; none at all where updates are switched off.
    fn deployments(&self, client: ClientId, body: &PolicyBody, found: &mut Vec<Disagreement>) {
        let reached = |name: &ObjectName| {
            body.settings.enabled
                && self.plan.targets.get(name).is_some_and(|targets| targets.contains(&client))
        };
        let expected: BTreeSet<&str> = self
            .input
            .objects
            .deployments
            .values()
            .filter(|deployment| reached(&deployment.name))
            .map(|deployment| deployment.uid.as_str())
            .collect();
        let there: BTreeSet<&str> =
            body.deployments.iter().map(|deployment| deployment.uid.as_str()).collect();
        for uid in expected.symmetric_difference(&there) {
            let by_uid = self.input.objects.deployments.values().find(|deployment| deployment.uid == **uid);
            let name = by_uid.map_or_else(|| (*uid).to_owned(), |deployment| deployment.name.to_string());
            found.push((format!("UpdateDeployment/{name}"), "spec.collection"));
        }
    }
}

/// What does not depend on the client.
fn inside(input: &SiteInput, body: &PolicyBody) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for in_policy in &body.deployments {
        let object = input.objects.deployments.values().find(|deployment| deployment.uid == in_policy.uid);
        let problem =
            object.map_or(Some("metadata.uid"), |object| deployment(input, body, object, in_policy));
        if let Some(field) = problem {
            found.push((format!("UpdateDeployment/{}", in_policy.name), field));
        }
    }
    let named: BTreeSet<&UpdateId> =
        body.deployments.iter().flat_map(|deployment| &deployment.updates).collect();
    for (id, in_policy) in &body.updates {
        if let Some(field) = update(input, id, in_policy, named.contains(id)) {
            found.push((format!("update {id}"), field));
        }
    }
    if named.iter().any(|id| !body.updates.contains_key(*id)) {
        found.push(("updates".to_owned(), "missing in the policy"));
    }
    if body.dependencies.iter().any(|leaf| !input.dependencies.contains(leaf)) {
        found.push(("dependencies".to_owned(), "not approved"));
    }
    let lines: BTreeSet<_> = body.lines.iter().map(|line| &line.line).collect();
    let expected: BTreeSet<_> =
        input.lines.iter().filter(|_| body.settings.enabled).map(|line| &line.line).collect();
    if lines != expected || body.lines.iter().any(|line| !input.lines.contains(line)) {
        found.push(("lines".to_owned(), "other than the catalogue's"));
    }
    found
}

fn deployment(
    input: &SiteInput,
    body: &PolicyBody,
    object: &Deployment,
    in_policy: &DeploymentPolicy,
) -> Option<&'static str> {
    let mut settings = object.settings.clone();
    if body.settings.no_deadline_spread {
        settings.deadline_spread = in_policy.settings.deadline_spread;
    }
    let offered = |id: &UpdateId| input.updates.get(id).is_some_and(|update| !update.expired);
    let updates: BTreeSet<&UpdateId> = object.updates.iter().filter(|id| offered(id)).collect();
    [
        ("metadata.generation", in_policy.generation == object.generation),
        ("spec.suspend", in_policy.suspend == object.suspend),
        ("spec.settings", in_policy.settings == settings),
        ("anchor", in_policy.anchor == object.anchor),
        ("spec.updates", in_policy.updates.iter().collect::<BTreeSet<_>>() == updates),
    ]
    .into_iter()
    .find_map(|(field, agrees)| (!agrees).then_some(field))
}

fn update(input: &SiteInput, id: &UpdateId, in_policy: &UpdatePolicy, named: bool) -> Option<&'static str> {
    let Some(object) = input.updates.get(id) else { return Some("not in the catalogue") };
    let required = input.required_leaves.get(id);
    let approved = |leaf: &patchtide_model::catalogue::Leaf| {
        object.leaves.contains(leaf) && required.is_some_and(|required| required.contains(&leaf.reference()))
    };
    [
        ("no deployment names it", named),
        ("expired", !object.expired),
        ("a leaf that is not approved", in_policy.leaves.iter().all(approved)),
        ("maximum run time", in_policy.maximum_run_time == object.maximum_run_time),
        ("exclusive", in_policy.exclusive == object.exclusive),
        ("restart", in_policy.restart == object.restart),
    ]
    .into_iter()
    .find_map(|(field, agrees)| (!agrees).then_some(field))
}
