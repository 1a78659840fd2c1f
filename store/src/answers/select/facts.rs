//! Facts as labels: selectors of Kubernetes over the JSON document of a client's facts.

use patchtide_model::object::{FactOperator, FactRequirement};

use super::member;
use crate::sql::{Build, Pool};

const COLUMN: &str = "c.facts";

/// `AND` the client's facts, as far as they are labels, keep `requirement`.
pub(super) fn keep(build: &mut Build, pool: &Pool, requirement: &FactRequirement) {
    let key = &requirement.key;
    match requirement.operator {
        FactOperator::Exists => {
            build.and(true, |build| is_label(build, pool, key));
        }
        FactOperator::DoesNotExist => {
            build.and(false, |build| is_label(build, pool, key));
        }
        FactOperator::In => {
            build.and(true, |build| is_one_of(build, pool, requirement));
        }
        // As in Kubernetes: who does not have the key has none of the values.
        FactOperator::NotIn | FactOperator::Glob => {
            build.and(false, |build| is_one_of(build, pool, requirement));
        }
    }
}

fn value(build: &mut Build, pool: &Pool, key: &str) {
    build.push("COALESCE(");
    member(build, pool, COLUMN, key);
    // No label, and no value of one: what is missing compares as this.
    build.push(", ' ')");
}

fn is_one_of(build: &mut Build, pool: &Pool, requirement: &FactRequirement) {
    value(build, pool, &requirement.key);
    build.push(" IN (");
    for (n, value) in requirement.values.iter().enumerate() {
        build.push(if n == 0 { "" } else { ", " }).bind(value.as_str());
    }
    build.push(")");
}

/// At most 63 of letters, digits, `-`, `_` and `.`, with a letter or digit at both ends; or nothing.
fn is_label(build: &mut Build, pool: &Pool, key: &str) {
    match pool {
        Pool::Sqlite(_) => {
            value(build, pool, key);
            build.push(" NOT GLOB '*[^-A-Za-z0-9_.]*' AND length(");
            value(build, pool, key);
            build.push(") <= 63 AND ");
            value(build, pool, key);
            build.push(" NOT GLOB '[-_.]*' AND ");
            value(build, pool, key);
            build.push(" NOT GLOB '*[-_.]'");
        }
        Pool::Postgres(_) => {
            value(build, pool, key);
            build.push(" ~ '^(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?$'");
        }
    }
}
