//! Field and label selectors: the grammar of Kubernetes, and an error that names what could be asked instead.

use std::collections::BTreeSet;

use patchtide_model::object::{FactOperator, FactRequirement};

use super::Kind;
use crate::{answer::Answer, resource::Asked};

/// Fields that everything has.
pub(super) const NAME: &str = "metadata.name";
const NAMESPACE: &str = "metadata.namespace";
/// Longest selector, in bytes, and most requirements of one.
const LONGEST: usize = 8 * 1024;
const MOST: usize = 32;
/// Most values of one requirement.
const VALUES: usize = 100;

/// A field and what it must be, or not be.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Term {
    pub(super) field: &'static str,
    pub(super) equal: bool,
    pub(super) value: String,
}

/// What is chosen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) terms: Vec<Term>,
    pub(super) facts: Vec<FactRequirement>,
}

impl Selection {
    /// The one of this name.
    pub(super) fn named(name: &str) -> Self {
        let term = Term { field: NAME, equal: true, value: name.to_owned() };
        Self { terms: vec![term], facts: Vec::new() }
    }

    pub(super) fn read(kind: &dyn Kind, asked: &Asked<'_>) -> Result<Self, Answer> {
        let fields = asked.parameter("fieldSelector").unwrap_or_default();
        let labels = asked.parameter("labelSelector").unwrap_or_default();
        if fields.len() > LONGEST || labels.len() > LONGEST {
            return Err(Answer::bad(format!("a selector may have {LONGEST} bytes: ask for less at once")));
        }
        let terms = terms(kind, &fields)?;
        let facts = requirements(&labels)?;
        if !facts.is_empty() && !kind.has_labels() {
            return Err(Answer::bad(format!(
                "{} have no labels: leave the label selector out and use --field-selector with {}",
                kind.about().plural,
                supported(kind)
            )));
        }
        if terms.len() > MOST || facts.len() > MOST {
            return Err(Answer::bad(format!("a selector may have {MOST} requirements")));
        }
        Ok(Self { terms, facts })
    }

    /// Terms about what is in a namespace.
    pub(super) fn within(&self) -> impl Iterator<Item = &Term> {
        self.terms.iter().filter(|term| term.field != NAMESPACE)
    }

    pub(super) fn keeps_namespace(&self, namespace: &str) -> bool {
        let terms = self.terms.iter().filter(|term| term.field == NAMESPACE);
        terms.into_iter().all(|term| (term.value == namespace) == term.equal)
    }

    /// What it asks for, as a text that is the same for the same.
    pub(super) fn text(&self) -> String {
        format!("{:?}", (&self.terms, &self.facts))
    }
}

/// The fields of a kind, for people.
pub(super) fn supported(kind: &dyn Kind) -> String {
    let own = kind.fields().iter().map(|(field, values)| format!("{field} ({values})"));
    let all: Vec<String> = [NAME.to_owned(), NAMESPACE.to_owned()].into_iter().chain(own).collect();
    all.join(", ")
}

/// A value that a field cannot have.
pub(super) fn unusable(kind: &dyn Kind, term: &Term) -> Answer {
    let values =
        kind.fields().iter().find(|(field, _)| *field == term.field).map_or("", |(_, values)| values);
    Answer::bad(format!("{:?} is no value of the field {}: give {values}", term.value, term.field))
}

fn terms(kind: &dyn Kind, text: &str) -> Result<Vec<Term>, Answer> {
    let mut terms = Vec::new();
    for part in split(text).into_iter().filter(|part| !part.trim().is_empty()) {
        let found = ["!=", "==", "="].iter().find_map(|sign| Some((part.split_once(sign)?, *sign)));
        let Some(((field, value), sign)) = found else {
            return Err(Answer::bad(format!(
                "{part:?} is no field selector: write field=value or field!=value, several with commas"
            )));
        };
        let field = field.trim();
        let known = kind.fields().iter().map(|(known, _)| *known).chain([NAME, NAMESPACE]);
        let Some(field) = known.into_iter().find(|known| *known == field) else {
            return Err(Answer::bad(format!(
                "field label not supported: {} cannot be selected by {field:?}; they can by {}",
                kind.about().plural,
                supported(kind)
            )));
        };
        terms.push(Term { field, equal: sign != "!=", value: unescaped(value) });
    }
    Ok(terms)
}

/// At commas that no backslash stands before.
fn split(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut escaped) = (Vec::new(), String::new(), false);
    for char in text.chars() {
        match char {
            ',' if !escaped => parts.push(std::mem::take(&mut part)),
            _ => part.push(char),
        }
        escaped = char == '\\' && !escaped;
    }
    parts.push(part);
    parts
}

fn unescaped(value: &str) -> String {
    let (mut text, mut escaped) = (String::new(), false);
    for char in value.chars() {
        if char == '\\' && !escaped {
            escaped = true;
        } else {
            text.push(char);
            escaped = false;
        }
    }
    text
}

fn requirements(text: &str) -> Result<Vec<FactRequirement>, Answer> {
    let wrong = |what: &str| {
        Answer::bad(format!(
            "{what:?} is no label selector: write key, !key, key=value, key!=value, key in (a,b) or key notin (a,b)"
        ))
    };
    let mut found = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let open = rest.find('(');
        let end = match (rest.find(','), open) {
            (Some(comma), Some(open)) if open < comma => {
                rest.find(')').map(|close| close + 1).ok_or_else(|| wrong(rest))?
            }
            (None, Some(_)) => rest.find(')').map(|close| close + 1).ok_or_else(|| wrong(rest))?,
            (Some(comma), _) => comma,
            (None, None) => rest.len(),
        };
        let (part, after) = rest.split_at(end);
        found.push(requirement(part.trim()).ok_or_else(|| wrong(part.trim()))?);
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) if !more.trim().is_empty() => more.trim(),
            None if after.is_empty() => "",
            _ => return Err(wrong(text)),
        };
    }
    Ok(found)
}

fn requirement(part: &str) -> Option<FactRequirement> {
    let make = |key: &str, operator, values: BTreeSet<String>| {
        let good = is_key(key) && values.len() <= VALUES && values.iter().all(|value| is_value(value));
        good.then(|| FactRequirement { key: key.to_owned(), operator, values })
    };
    if let Some((head, list)) = part.split_once('(') {
        let list = list.strip_suffix(')')?;
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?, words.next()?);
        let operator = match (operator, words.next()) {
            ("in", None) => FactOperator::In,
            ("notin", None) => FactOperator::NotIn,
            _ => return None,
        };
        return make(key, operator, list.split(',').map(|value| value.trim().to_owned()).collect());
    }
    for (sign, operator) in [("!=", FactOperator::NotIn), ("==", FactOperator::In), ("=", FactOperator::In)] {
        if let Some((key, value)) = part.split_once(sign) {
            return make(key.trim(), operator, BTreeSet::from([value.trim().to_owned()]));
        }
    }
    match part.strip_prefix('!') {
        Some(key) => make(key.trim(), FactOperator::DoesNotExist, BTreeSet::new()),
        None => make(part, FactOperator::Exists, BTreeSet::new()),
    }
}

/// Whether a text can be the key of a label.
pub(super) fn is_key(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_domain = |prefix: &str| {
        prefix.len() <= 253
            && prefix.split('.').all(|part| {
                let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
                !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
            })
    };
    !name.is_empty() && is_value(name) && prefix.is_none_or(is_domain)
}

/// Whether a text can be the value of a label.
pub(super) fn is_value(value: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.is_empty()
        || (bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_selected_as_in_kubernetes() {
        use FactOperator::{DoesNotExist, Exists, In, NotIn};

        let one = |key: &str, operator, values: &[&str]| FactRequirement {
            key: key.to_owned(),
            operator,
            values: values.iter().map(|value| (*value).to_owned()).collect(),
        };
        let text = "os.id=debian, role != workstation,label/rack in (a1, b2),kernel notin (6.1,),architecture,!gone,x==";
        assert_eq!(
            requirements(text).unwrap(),
            [
                one("os.id", In, &["debian"]),
                one("role", NotIn, &["workstation"]),
                one("label/rack", In, &["a1", "b2"]),
                one("kernel", NotIn, &["", "6.1"]),
                one("architecture", Exists, &[]),
                one("gone", DoesNotExist, &[]),
                one("x", In, &[""]),
            ]
        );
        assert_eq!(requirements(" ").unwrap(), []);
        for bad in
            ["a,", ",a", "a in b", "a in (b", "a in (b) c", "=b", "a=b=c", "-a", "a=b c", "A/b", "a>1", "a=ö"]
        {
            assert!(requirements(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn fields_are_split_at_commas_that_are_not_escaped() {
        assert_eq!(split("a=b,c=d\\,e"), ["a=b", "c=d\\,e"]);
        assert_eq!(unescaped("d\\,e\\\\\\="), "d,e\\=");
    }
}
