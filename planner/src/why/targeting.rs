//! Why a deployment does not reach a client: which rule of which collection leaves it out.

use std::collections::BTreeSet;

use patchtide_model::{
    ObjectName,
    client::{Client, ClientState},
    deployment::Deployment,
    object::{Collection, FactOperator, FactRequirement},
};

use crate::{
    client::{Event, Gate, GateKind},
    site::{CollectionProblem, SiteInput, SitePlan, check_collections, selects},
};

/// The gate of a deployment that does not reach the client.
pub(super) fn not_targeted(
    input: &SiteInput,
    plan: &SitePlan,
    client: &Client,
    deployment: &Deployment,
) -> Gate {
    let object = format!("UpdateDeployment/{}", deployment.name);
    if let Some(reason) = standing(client) {
        return closed(format!("{reason}, and so in no collection")).by(object, "spec.collection");
    }
    let (object, field, reason) = missing(input, plan, client, &deployment.collection, 0);
    let below = if deployment.include_subcollections { ", nor of a collection below it" } else { "" };
    closed(format!(
        "not a member of Collection/{}{below}, which UpdateDeployment/{} is for: {reason}",
        deployment.collection, deployment.name
    ))
    .by(object, field)
}

fn closed(reason: String) -> Gate {
    Gate::waiting(GateKind::Targeted, Event::Policy, reason)
}

/// Why the client as such gets nothing; none: it is active.
pub(super) fn standing(client: &Client) -> Option<&'static str> {
    match client.state {
        ClientState::Active => None,
        ClientState::Pending => Some("it asked to enrol and was not approved yet"),
        ClientState::Revoked => Some("it was retired or its certificate was revoked"),
        ClientState::Quarantined => {
            Some("it is quarantined, because two machines seem to share its identity: a person has to decide")
        }
    }
}

type Reason = (String, &'static str, String);

/// Which rule keeps the client out of the collection: object, field, words.
fn missing(input: &SiteInput, plan: &SitePlan, client: &Client, name: &ObjectName, depth: usize) -> Reason {
    let object = format!("Collection/{name}");
    let collections = &input.objects.collections;
    let Some(collection) = collections.get(name) else {
        return (object, "metadata.name", "that collection does not exist".to_owned());
    };
    let problems = check_collections(collections);
    if let Some(problem) =
        problems.iter().find(|problem| concerns(problem, name, collections, &mut BTreeSet::new()))
    {
        return (object, "spec", format!("its members cannot be told: {problem}"));
    }
    let is_member =
        |other: &ObjectName| plan.membership.get(other).is_some_and(|set| set.contains(&client.id));
    let own = collection.all
        || selects(&collection.selector, &client.facts)
        || collection.direct_members.contains(&client.name)
        || collection.direct_members.iter().any(|direct| direct.eq_ignore_ascii_case(&client.id.to_string()))
        || collection.include.iter().any(is_member);
    if !own {
        return not_chosen(collection, client);
    }
    if let Some(other) = collection.exclude.iter().find(|other| is_member(other)) {
        return (object, "spec.exclude", format!("it is a member of Collection/{other}, which is excluded"));
    }
    match &collection.limiting {
        Some(limiting) if !is_member(limiting) && depth < collections.len() => {
            let (_, _, why) = missing(input, plan, client, limiting, depth + 1);
            let reason = format!("Collection/{limiting} limits it, and does not hold the client: {why}");
            (object, "spec.limitingCollection", reason)
        }
        _ => (object, "spec", "another policy is on its way".to_owned()),
    }
}

/// Whether a problem leaves the members of `name` undetermined.
fn concerns<'a>(
    problem: &CollectionProblem,
    name: &'a ObjectName,
    collections: &'a std::collections::BTreeMap<ObjectName, Collection>,
    seen: &mut BTreeSet<&'a ObjectName>,
) -> bool {
    if problem.collections().contains(name) {
        return true;
    }
    if !seen.insert(name) {
        return false;
    }
    let Some(collection) = collections.get(name) else { return false };
    let references = collection.include.iter().chain(&collection.exclude).chain(&collection.limiting);
    references.into_iter().any(|other| concerns(problem, other, collections, seen))
}

/// None of the ways in holds.
fn not_chosen(collection: &Collection, client: &Client) -> Reason {
    let object = format!("Collection/{}", collection.name);
    let unmet = collection
        .selector
        .iter()
        .find(|requirement| !selects(std::slice::from_ref(requirement), &client.facts));
    let others = {
        let mut ways = Vec::new();
        if !collection.direct_members.is_empty() {
            ways.push("not one of its direct members".to_owned());
        }
        if !collection.include.is_empty() {
            let names: Vec<&str> = collection.include.iter().map(ObjectName::as_str).collect();
            ways.push(format!("in none of its included collections ({})", names.join(", ")));
        }
        ways.join(", ")
    };
    match unmet {
        Some(requirement) => {
            let value = client.facts.get(&requirement.key).map_or_else(
                || "the client does not say it".to_owned(),
                |value| format!("the client says {value:?}"),
            );
            let mut reason = format!("its selector asks that {}; {value}", words(requirement));
            if !others.is_empty() {
                reason = format!("{reason}; {others}");
            }
            (object, "spec.selector", reason)
        }
        None if others.is_empty() => (object, "spec", "it selects nobody".to_owned()),
        None if collection.direct_members.is_empty() => (object, "spec.include", others),
        None => (object, "spec.directMembers", others),
    }
}

fn words(requirement: &FactRequirement) -> String {
    let values = requirement.values.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let key = &requirement.key;
    match requirement.operator {
        FactOperator::In => format!("fact {key} is one of {values}"),
        FactOperator::NotIn => format!("fact {key} is none of {values}"),
        FactOperator::Exists => format!("fact {key} is there"),
        FactOperator::DoesNotExist => format!("fact {key} is not there"),
        FactOperator::Glob => format!("fact {key} looks like one of {values}"),
    }
}
