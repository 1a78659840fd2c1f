//! The policies against the objects they come from. Clients share bodies, and bodies share what they say: each is compared
//! once, and who has which is compared in tables.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use patchtide_model::{
    ObjectName, UpdateId,
    catalogue::{Leaf, Update},
    deployment::Deployment,
    object::ClientSettings,
    policy::{DeploymentPolicy, PolicyBody, UpdatePolicy},
};

use super::{Violation, claims::Claims};
use crate::site::{SiteInput, SitePlan, Verdict};

/// `Kind/name` and what of it disagrees.
type Disagreement = (String, &'static str);

/// A body and who has it.
struct Held<'a> {
    body: &'a PolicyBody,
    /// Windows and deployments by place among the objects.
    windows: Vec<bool>,
    deployments: Vec<bool>,
    /// The settings object that it says; none: none of them.
    settings: Option<&'a ObjectName>,
    inside: Vec<Disagreement>,
}

/// Finds everything in which policies disagree with the objects.
pub(super) fn compare(
    input: &SiteInput,
    plan: &SitePlan,
    claims: &Claims<'_>,
    found: &mut BTreeSet<Violation>,
) {
    let mut bodies = Bodies::new(input);
    let mut numbers: HashMap<*const PolicyBody, usize> = HashMap::new();
    let mut held: Vec<Held<'_>> = Vec::new();
    let mut of: Vec<Option<usize>> = vec![None; claims.active.len()];
    for (n, client) in claims.active.iter().enumerate() {
        if let Some(Verdict::Policy(body)) = plan.policies.get(&client.id) {
            of[n] = Some(*numbers.entry(Arc::as_ptr(body)).or_insert_with(|| {
                held.push(bodies.read(body));
                held.len() - 1
            }));
        }
    }
    let mut tell = |n: usize, object: String, field| {
        found.insert(Violation::Policy { client: claims.active[n].id, object, field });
    };
    let with_body = || of.iter().enumerate().filter_map(|(n, body)| Some((n, (*body)?)));
    for (n, body) in with_body() {
        for (object, field) in &held[body].inside {
            tell(n, object.clone(), field);
        }
    }
    // Every window that selects the client, none more.
    for (w, (name, window)) in input.objects.windows.iter().enumerate() {
        let members = claims.of(&window.collection);
        for (n, _) in with_body().filter(|(n, body)| held[*body].windows[w] != members[*n]) {
            tell(n, format!("MaintenanceWindow/{name}"), "spec.collection");
        }
    }
    // Every deployment that reaches the client, none more; none at all where updates are switched off.
    for (d, name) in input.objects.deployments.keys().enumerate() {
        let Some(reached) = plan.targets.get(name).map(|set| claims.table(set, |_| {})) else { continue };
        for (n, body) in with_body() {
            if held[body].deployments[d] != (reached[n] && held[body].body.settings.enabled) {
                tell(n, format!("UpdateDeployment/{name}"), "spec.collection");
            }
        }
    }
    // The settings in force, and no others of a higher rank that reach the client.
    let mut expected: Vec<Option<&ClientSettings>> = vec![None; claims.active.len()];
    let mut names: BTreeMap<&str, &ObjectName> = BTreeMap::new();
    for (name, settings) in &input.objects.client_settings {
        names.insert(&settings.name, name);
        let rank = |settings: &ClientSettings| (settings.priority, std::cmp::Reverse(settings.name.clone()));
        let members = settings.collection.as_ref().map(|collection| claims.of(collection));
        for (n, best) in expected.iter_mut().enumerate() {
            if members.is_none_or(|members| members[n]) && best.is_none_or(|best| rank(best) < rank(settings))
            {
                *best = Some(settings);
            }
        }
    }
    let default = ClientSettings::default();
    for (n, body) in with_body() {
        let agrees = match expected[n] {
            Some(settings) => held[body].settings == names.get(settings.name.as_str()).copied(),
            None => held[body].body.settings == default,
        };
        if !agrees {
            let name = expected[n].map_or(&default.name, |settings| &settings.name);
            tell(n, format!("ClientSettings/{name}"), "spec");
        }
    }
}

/// What was compared already, by where it is in memory: the plan holds it all the while.
struct Bodies<'a> {
    input: &'a SiteInput,
    by_id: HashMap<&'a UpdateId, &'a Update>,
    by_uid: HashMap<&'a str, (usize, &'a Deployment)>,
    parts: HashMap<([usize; 3], bool), Vec<Disagreement>>,
    updates: HashMap<(&'a UpdateId, usize), Option<&'static str>>,
    named: HashMap<(usize, usize), bool>,
}

impl<'a> Bodies<'a> {
    fn new(input: &'a SiteInput) -> Self {
        let deployments = input.objects.deployments.values().enumerate();
        Self {
            input,
            by_id: input.updates.iter().collect(),
            by_uid: deployments.map(|(n, one)| (one.uid.as_str(), (n, one))).collect(),
            parts: HashMap::new(),
            updates: HashMap::new(),
            named: HashMap::new(),
        }
    }

    fn read(&mut self, body: &'a PolicyBody) -> Held<'a> {
        let objects = &self.input.objects;
        let mut inside = Vec::new();
        let mut windows = vec![false; objects.windows.len()];
        for in_policy in &body.windows {
            match objects.windows.values().position(|object| object == in_policy) {
                Some(at) => windows[at] = true,
                None => inside.push((format!("MaintenanceWindow/{}", in_policy.name), "spec")),
            }
        }
        let mut deployments = vec![false; objects.deployments.len()];
        for in_policy in &body.deployments {
            if let Some((at, _)) = self.by_uid.get(in_policy.uid.as_str()) {
                deployments[*at] = true;
            }
        }
        let mut settings = objects.client_settings.iter().filter(|(_, object)| **object == body.settings);
        inside.extend(self.shared(body));
        let lines: BTreeSet<_> = body.lines.iter().map(|line| &line.line).collect();
        let expected: BTreeSet<_> =
            self.input.lines.iter().filter(|_| body.settings.enabled).map(|line| &line.line).collect();
        if lines != expected || body.lines.iter().any(|line| !self.input.lines.contains(line)) {
            inside.push(("lines".to_owned(), "other than the catalogue's"));
        }
        Held { body, windows, deployments, settings: settings.next().map(|(name, _)| name), inside }
    }

    /// What bodies have in common.
    fn shared(&mut self, body: &'a PolicyBody) -> Vec<Disagreement> {
        let addresses = [body.deployments.address(), body.updates.address(), body.dependencies.address()];
        let key = (addresses, body.settings.no_deadline_spread);
        if let Some(known) = self.parts.get(&key) {
            return known.clone();
        }
        let mut found = Vec::new();
        for in_policy in &body.deployments {
            if let Some(field) = self.deployment(body, in_policy) {
                found.push((format!("UpdateDeployment/{}", in_policy.name), field));
            }
        }
        let named: BTreeSet<&UpdateId> =
            body.deployments.iter().flat_map(|deployment| &deployment.updates).collect();
        for (id, in_policy) in &body.updates {
            let known = self.updates.get(&(id, in_policy.address())).copied();
            let field = known.unwrap_or_else(|| {
                let field = update(self.input, self.by_id.get(id).copied(), in_policy);
                self.updates.insert((id, in_policy.address()), field);
                field
            });
            if let Some(field) = field {
                found.push((format!("update {id}"), field));
            } else if !named.contains(id) {
                found.push((format!("update {id}"), "no deployment names it"));
            }
        }
        if named.iter().any(|id| !body.updates.contains_key(*id)) {
            found.push(("updates".to_owned(), "missing in the policy"));
        }
        if body.dependencies.iter().any(|leaf| !self.input.dependencies.contains(leaf)) {
            found.push(("dependencies".to_owned(), "not approved"));
        }
        self.parts.insert(key, found.clone());
        found
    }

    fn deployment(&mut self, body: &PolicyBody, in_policy: &DeploymentPolicy) -> Option<&'static str> {
        let Some((at, object)) = self.by_uid.get(in_policy.uid.as_str()).copied() else {
            return Some("metadata.uid");
        };
        let mut settings = object.settings.clone();
        if body.settings.no_deadline_spread {
            settings.deadline_spread = in_policy.settings.deadline_spread;
        }
        let by_id = &self.by_id;
        let agree = *self.named.entry((at, in_policy.updates.address())).or_insert_with(|| {
            let offered = |id: &&UpdateId| by_id.get(*id).is_some_and(|update| !update.expired);
            let updates: BTreeSet<&UpdateId> = object.updates.iter().filter(offered).collect();
            in_policy.updates.iter().collect::<BTreeSet<_>>() == updates
        });
        [
            ("metadata.generation", in_policy.generation == object.generation),
            ("spec.suspend", in_policy.suspend == object.suspend),
            ("spec.settings", in_policy.settings == settings),
            ("anchor", in_policy.anchor == object.anchor),
            ("spec.updates", agree),
        ]
        .into_iter()
        .find_map(|(field, agrees)| (!agrees).then_some(field))
    }
}

fn update(input: &SiteInput, object: Option<&Update>, in_policy: &UpdatePolicy) -> Option<&'static str> {
    let Some(object) = object else { return Some("not in the catalogue") };
    let required = input.required_leaves.get(&object.id);
    let approved = |leaf: &Leaf| {
        object.leaves.contains(leaf) && required.is_some_and(|required| required.contains(&leaf.reference()))
    };
    [
        ("expired", !object.expired),
        ("a leaf that is not approved", in_policy.leaves.iter().all(approved)),
        ("maximum run time", in_policy.maximum_run_time == object.maximum_run_time),
        ("exclusive", in_policy.exclusive == object.exclusive),
        ("restart", in_policy.restart == object.restart),
    ]
    .into_iter()
    .find_map(|(field, agrees)| (!agrees).then_some(field))
}
