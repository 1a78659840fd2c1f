//! Reading a map of a scenario: every field is known or refused, with its place.

use std::{cell::RefCell, collections::BTreeSet, fmt, net::IpAddr};

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use patchtide_crds::DurationText;
use patchtide_intent::{
    problem,
    yaml::document::{Node, Value},
};

/// What is wrong with a scenario, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    line: u64,
    column: u64,
    message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for Fault {}

impl Fault {
    pub(crate) fn at(node: &Node, message: impl Into<String>) -> Self {
        Self { line: node.line, column: node.column, message: message.into() }
    }
}

pub(crate) type Read<T> = Result<T, Fault>;

/// How times without a zone are read, and what `+2h` counts from.
#[derive(Debug, Clone)]
pub(crate) struct Times {
    pub start: Timestamp,
    pub zone: TimeZone,
}

/// A map that is being read.
pub(crate) struct Fields<'a> {
    pub node: &'a Node,
    what: &'a str,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(node: &'a Node, what: &'a str) -> Read<Self> {
        match &node.value {
            Value::Map(_) => Ok(Self { node, what, used: RefCell::default() }),
            _ => Err(Fault::at(node, format!("{what} is a map of fields"))),
        }
    }

    pub(crate) fn get(&self, field: &str) -> Option<&'a Node> {
        self.used.borrow_mut().insert(field.to_owned());
        self.node.get(field).filter(|node| node.value != Value::Null)
    }

    pub(crate) fn need(&self, field: &str) -> Read<&'a Node> {
        self.get(field).ok_or_else(|| Fault::at(self.node, format!("{} needs the field {field}", self.what)))
    }

    /// Refuses what nobody asked for.
    pub(crate) fn done(self) -> Read<()> {
        let Value::Map(map) = &self.node.value else { return Ok(()) };
        let used = self.used.borrow();
        match map.iter().find(|(key, _)| !used.contains(*key)) {
            None => Ok(()),
            Some((key, node)) => {
                let known: Vec<&str> = used.iter().map(String::as_str).collect();
                Err(Fault::at(node, format!("{} has no field {key}; it has {}", self.what, known.join(", "))))
            }
        }
    }

    pub(crate) fn text(&self, field: &str) -> Read<Option<&'a str>> {
        self.get(field).map(text).transpose()
    }

    pub(crate) fn number(&self, field: &str, most: i64) -> Read<Option<i64>> {
        self.get(field).map(|node| number(node, most)).transpose()
    }

    pub(crate) fn flag(&self, field: &str) -> Read<Option<bool>> {
        self.get(field).map(flag).transpose()
    }

    pub(crate) fn duration(&self, field: &str) -> Read<Option<SignedDuration>> {
        self.get(field).map(duration).transpose()
    }

    pub(crate) fn time(&self, field: &str, times: &Times) -> Read<Option<Timestamp>> {
        self.get(field).map(|node| time(node, times)).transpose()
    }

    pub(crate) fn list(&self, field: &str, most: usize) -> Read<Vec<&'a Node>> {
        self.get(field).map_or(Ok(Vec::new()), |node| list(node, most))
    }

    pub(crate) fn texts(&self, field: &str, most: usize) -> Read<Vec<&'a str>> {
        self.list(field, most)?.into_iter().map(text).collect()
    }

    /// A map of texts.
    pub(crate) fn map(&self, field: &str, most: usize) -> Read<Vec<(&'a str, &'a Node)>> {
        let Some(node) = self.get(field) else { return Ok(Vec::new()) };
        match &node.value {
            Value::Map(map) if map.len() <= most => {
                Ok(map.iter().map(|(key, node)| (key.as_str(), node)).collect())
            }
            Value::Map(_) => Err(Fault::at(node, format!("{field} has more than {most} entries"))),
            _ => Err(Fault::at(node, format!("{field} is a map"))),
        }
    }

    pub(crate) fn address(&self, field: &str) -> Read<Option<IpAddr>> {
        let Some(node) = self.get(field) else { return Ok(None) };
        text(node)?.parse().map(Some).map_err(|_| Fault::at(node, "is not an IP address"))
    }
}

pub(crate) fn text(node: &Node) -> Read<&str> {
    match &node.value {
        Value::Text(text) if text.len() <= 1_000 => Ok(text),
        Value::Text(_) => Err(Fault::at(node, "is longer than 1,000 characters")),
        _ => Err(Fault::at(node, "is not a text: put it in quotes")),
    }
}

pub(crate) fn number(node: &Node, most: i64) -> Read<i64> {
    match node.value {
        Value::Integer(number) if (0..=most).contains(&number) => Ok(number),
        _ => Err(Fault::at(node, format!("is not a whole number from 0 to {most}"))),
    }
}

pub(crate) fn flag(node: &Node) -> Read<bool> {
    match node.value {
        Value::Bool(flag) => Ok(flag),
        _ => Err(Fault::at(node, "is not true or false")),
    }
}

pub(crate) fn list(node: &Node, most: usize) -> Read<Vec<&Node>> {
    match &node.value {
        Value::List(items) if items.len() <= most => Ok(items.iter().collect()),
        Value::List(_) => Err(Fault::at(node, format!("has more than {most} entries"))),
        _ => Err(Fault::at(node, "is not a list")),
    }
}

/// `14d`, `2h30m`; with a minus in front of it: backwards.
pub(crate) fn duration(node: &Node) -> Read<SignedDuration> {
    let written = text(node)?;
    let (backwards, rest) = written.strip_prefix('-').map_or((false, written), |rest| (true, rest));
    let length = problem::duration("it", &DurationText(rest.to_owned()))
        .map_err(|problem| Fault::at(node, problem.message))?;
    Ok(if backwards { -length } else { length })
}

/// An instant (`2026-12-08T19:00:00Z`), a wall clock in the scenario's zone (`2026-12-08T20:00`), or a time after the start
/// (`+2h30m`).
pub(crate) fn time(node: &Node, times: &Times) -> Read<Timestamp> {
    let written = text(node)?;
    if let Some(rest) = written.strip_prefix('+') {
        let after = problem::duration("it", &DurationText(rest.to_owned()))
            .map_err(|problem| Fault::at(node, problem.message))?;
        return times.start.checked_add(after).map_err(|_| Fault::at(node, "lies beyond the end of time"));
    }
    if let Ok(instant) = written.parse::<Timestamp>() {
        return Ok(instant);
    }
    written
        .parse::<civil::DateTime>()
        .ok()
        .and_then(|civil| civil.to_zoned(times.zone.clone()).ok())
        .map(|zoned| zoned.timestamp())
        .ok_or_else(|| {
            Fault::at(
                node,
                "is no time: write an instant (2026-12-08T19:00:00Z), a wall clock in the scenario's zone (2026-12-08T20:00), or +2h for two hours after the start",
            )
        })
}
