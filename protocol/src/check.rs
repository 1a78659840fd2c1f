//! Limits on state reports: on the bytes of JSON before it is parsed, on the values after.

use patchtide_model::{catalogue::LeafRef, client::Facts};

use crate::{
    limits::{DEPTH, FACT_KEY_CHARACTERS, FACT_VALUE_CHARACTERS, FACTS, STATE_ITEMS, STRING_BYTES},
    state::{Numbered, StateBody, StateReport},
};

/// A limit that a report does not keep.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// JSON nests too deep.
    #[error("nesting is deeper than {DEPTH} at byte {offset}")]
    Depth {
        /// Byte.
        offset: usize,
    },
    /// A list is too long.
    #[error("a list has more than {STATE_ITEMS} items at byte {offset}")]
    Items {
        /// Byte.
        offset: usize,
    },
    /// A string is too long.
    #[error("a string is longer than {STRING_BYTES} bytes at byte {offset}")]
    String {
        /// Byte.
        offset: usize,
    },
    /// A value breaks a rule.
    #[error("{path} {rule}")]
    Value {
        /// Where, for example `messages[3].body.source`.
        path: String,
        /// Which rule.
        rule: String,
    },
}

/// Checks nesting, list lengths and string lengths of JSON text in one pass, without judging anything else about it.
pub fn json_shape(text: &[u8]) -> Result<(), Violation> {
    // Items so far of each open list or object.
    let mut open: Vec<usize> = Vec::with_capacity(DEPTH);
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => {
                let start = at;
                at += 1;
                while let Some(byte) = text.get(at) {
                    match byte {
                        b'"' => break,
                        b'\\' => at += 2,
                        _ => at += 1,
                    }
                }
                if at - start - 1 > STRING_BYTES {
                    return Err(Violation::String { offset: start });
                }
            }
            b'{' | b'[' => {
                open.push(0);
                if open.len() > DEPTH {
                    return Err(Violation::Depth { offset: at });
                }
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some(items) = open.last_mut() {
                    *items += 1;
                    if *items >= STATE_ITEMS {
                        return Err(Violation::Items { offset: at });
                    }
                }
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// Whether a text may travel: not too long, no NUL (databases cannot keep it), nothing that reorders what people read.
pub fn is_plain(text: &str) -> bool {
    if text.len() > STRING_BYTES {
        return false;
    }
    // Nearly all text is ASCII: no need to decode it. Without a way out in the middle, whole registers are compared.
    let odd = text.bytes().fold(false, |odd, byte| odd | !(1..0x80).contains(&byte));
    !odd || !text.chars().any(is_hostile)
}

fn is_hostile(c: char) -> bool {
    c == '\0' || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Makes any text one that may travel: hostile characters are replaced, what is too long is cut. For senders: the
/// output of other programs stands in error messages.
pub fn clean(text: &str) -> String {
    let mut out: String = text.chars().map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect();
    if out.len() > STRING_BYTES {
        let mut end = STRING_BYTES;
        while !out.is_char_boundary(end) {
            end -= 1;
        }
        out.truncate(end);
    }
    out
}

impl<S: AsRef<str>> StateReport<S> {
    /// Whether it keeps every limit on values; names the first place that does not. A sender that checks before sending
    /// is never refused with `MSG-VALUE`.
    pub fn check(&self) -> Result<(), Violation> {
        let violation = |path: String, rule: String| Err(Violation::Value { path, rule });
        if self.messages.len() > STATE_ITEMS {
            return violation("messages".into(), format!("has more than {STATE_ITEMS} items"));
        }
        let mut last = 0;
        for (index, message) in self.messages.iter().enumerate() {
            if message.seq <= last || message.seq > i64::MAX as u64 {
                return violation(
                    format!("messages[{index}].seq"),
                    "does not rise from 1, one message after the other".into(),
                );
            }
            last = message.seq;
            if let Err((path, rule)) = check_body(&message.body) {
                return violation(format!("messages[{index}].body{path}"), rule);
            }
        }
        Ok(())
    }
}

/// Whether facts keep their limits; names the first that does not. In a report, facts beyond [`FACTS`] are no violation: the
/// site leaves them out and counts them.
pub fn facts(facts: &Facts) -> Result<(), Violation> {
    let violation = |(path, rule): Broken| Violation::Value { path: path[1..].to_owned(), rule };
    if facts.len() > FACTS {
        return Err(violation((".facts".into(), format!("has more than {FACTS} keys"))));
    }
    check_facts(facts).map_err(violation)
}

type Broken = (String, String);

fn check_facts(facts: &Facts) -> Result<(), Broken> {
    items(|| ".facts", facts.len())?;
    for (key, value) in facts {
        if key.is_empty() || key.chars().count() > FACT_KEY_CHARACTERS || !is_plain(key) {
            let rule = format!("has a key that is empty or longer than {FACT_KEY_CHARACTERS} characters");
            return Err((".facts".into(), rule));
        }
        if value.chars().count() > FACT_VALUE_CHARACTERS || !is_plain(value) {
            let rule =
                format!("is longer than {FACT_VALUE_CHARACTERS} characters or holds control characters");
            return Err((format!(".facts[{key}]"), rule));
        }
    }
    Ok(())
}

/// `path` is only called for what is refused: a report has thousands of texts.
fn text<P: Into<String>>(path: impl FnOnce() -> P, text: &str) -> Result<(), Broken> {
    if is_plain(text) {
        return Ok(());
    }
    let rule = format!("is longer than {STRING_BYTES} bytes or holds NUL or characters that reorder text");
    Err((path().into(), rule))
}

fn items<P: Into<String>>(path: impl FnOnce() -> P, count: usize) -> Result<(), Broken> {
    if count > STATE_ITEMS {
        return Err((path().into(), format!("has more than {STATE_ITEMS} items")));
    }
    Ok(())
}

fn check_body<S: AsRef<str>>(body: &StateBody<S>) -> Result<(), Broken> {
    match body {
        StateBody::Facts { facts } => check_facts(facts),
        StateBody::Scan { error, .. } | StateBody::Update { error, .. } => check_error(error.as_ref()),
        StateBody::Enforcement { deployment, error, .. } => {
            text(|| ".deployment", deployment)?;
            check_error(error.as_ref())
        }
        StateBody::Evaluation { deployment, .. } | StateBody::Compliance { deployment, .. } => {
            text(|| ".deployment", deployment)
        }
        StateBody::Heartbeat {} => Ok(()),
        StateBody::Detection(report) => {
            items(|| ".states", report.states.len())?;
            items(|| ".needs", report.needs.len())?;
            if let Some(numbered) = &report.numbered {
                check_numbered(numbered)?;
            }
            for (index, state) in report.states.iter().enumerate() {
                let path = |field: &str| format!(".states[{index}].{field}");
                text(|| path("source"), state.source.as_ref())?;
                text(|| path("version"), state.version.as_ref())?;
                items(|| path("leaves"), state.leaves.len())?;
                for leaf in &state.leaves {
                    check_leaf(|| path("leaves"), leaf)?;
                }
            }
            report.needs.iter().try_for_each(|leaf| check_leaf(|| ".needs", leaf))
        }
    }
}

fn check_numbered(numbered: &Numbered) -> Result<(), Broken> {
    items(|| ".numbered.states", numbered.states.len())?;
    let mut last = 0;
    for (index, state) in numbered.states.iter().enumerate() {
        let broken =
            |field: &str, rule: &str| Err((format!(".numbered.states[{index}].{field}"), rule.into()));
        if state.number <= last || state.number > i64::MAX as u64 {
            return broken("number", "does not rise from 1, one state after the other");
        }
        last = state.number;
        items(|| format!(".numbered.states[{index}].leaves"), state.leaves.len())?;
        if !state.leaves.is_sorted_by(|a, b| a < b) {
            return broken("leaves", "does not rise");
        }
    }
    Ok(())
}

fn check_leaf<S: AsRef<str>, P: Into<String>>(path: impl Fn() -> P, leaf: &LeafRef<S>) -> Result<(), Broken> {
    text(&path, leaf.package.as_ref())?;
    text(&path, leaf.architecture.as_ref())?;
    text(&path, leaf.version.as_ref())
}

fn check_error(error: Option<&patchtide_model::state::StateError>) -> Result<(), Broken> {
    let Some(error) = error else { return Ok(()) };
    text(|| ".error.symbol", &error.symbol)?;
    text(|| ".error.message", &error.message)
}
