//! A collection's spec in domain form. Pure.

use std::collections::BTreeSet;

use patchtide_crds::{
    CollectionSpec,
    collection::{FactExpression, FactOperator as Wished},
    conditions::reason,
};
use patchtide_model::{
    ObjectName,
    object::{Collection, FactOperator, FactRequirement},
};

use crate::problem::{Problem, object_name};

/// The domain form of `spec`.
pub fn validate(name: &ObjectName, spec: &CollectionSpec) -> Result<Collection, Problem> {
    let names = |all: &[String]| all.iter().map(|name| object_name(name)).collect::<Result<BTreeSet<_>, _>>();
    let name_of = |one: &Option<String>| one.as_deref().map(object_name).transpose();
    let mut selector = Vec::new();
    if let Some(wished) = &spec.selector {
        for (key, value) in &wished.match_labels {
            selector.push(FactRequirement {
                key: key.clone(),
                operator: FactOperator::In,
                values: BTreeSet::from([value.clone()]),
            });
        }
        selector.extend(wished.match_expressions.iter().map(requirement));
    }
    let all = spec.all == Some(true);
    let empty = selector.is_empty() && spec.direct_members.is_empty() && spec.include.is_empty();
    if empty && !all {
        return Err(Problem::stalled(
            reason::INVALID_SPEC,
            "SELECTOR-EMPTY: the collection has no rule: give selector, directMembers or include, or write all: true",
        ));
    }
    Ok(Collection {
        name: name.clone(),
        all,
        selector,
        direct_members: spec.direct_members.iter().cloned().collect(),
        include: names(&spec.include)?,
        exclude: names(&spec.exclude)?,
        limiting: name_of(&spec.limiting_collection)?,
        parent: name_of(&spec.parent)?,
    })
}

fn requirement(wished: &FactExpression) -> FactRequirement {
    let operator = match wished.operator {
        Wished::In => FactOperator::In,
        Wished::NotIn => FactOperator::NotIn,
        Wished::Exists => FactOperator::Exists,
        Wished::DoesNotExist => FactOperator::DoesNotExist,
        Wished::Glob => FactOperator::Glob,
    };
    FactRequirement { key: wished.key.clone(), operator, values: wished.values.iter().cloned().collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unwrap_in_result, reason = "the fixture itself must be readable")]
    fn collection(yaml: &str) -> Result<Collection, Problem> {
        validate(&ObjectName::new("web").unwrap(), &serde_saphyr::from_str(yaml).unwrap())
    }

    #[test]
    fn labels_and_expressions_become_requirements() {
        let collection = collection(
            "selector:\n  matchLabels: {os.codename: bookworm}\n  matchExpressions: [{key: label/role, operator: In, values: [web, proxy]}]\n",
        )
        .unwrap();
        assert_eq!(collection.selector.len(), 2);
        assert_eq!(collection.selector[1].values.len(), 2);
    }

    #[test]
    fn an_empty_collection_never_means_everyone() {
        // reliability.md #23: the API server refuses it already; an object from before that rule must not slip through.
        assert!(collection("{}").unwrap_err().message.starts_with("SELECTOR-EMPTY"));
        assert!(collection("all: true").unwrap().all);
    }

    #[test]
    fn a_pattern_is_an_operator_of_its_own() {
        let yaml = "selector: {matchExpressions: [{key: hostname, operator: Glob, values: ['web*']}]}";
        assert_eq!(collection(yaml).unwrap().selector[0].operator, FactOperator::Glob);
    }
}
