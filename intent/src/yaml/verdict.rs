//! Verdicts: what became of each file and object of a revision.

use std::fmt;

/// Where something stands in a repository. Lines and columns count from 1; 0 means the whole file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Path from the repository's root.
    pub path: String,
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl Place {
    /// The whole file.
    pub fn file(path: &str) -> Self {
        Self { path: path.to_owned(), line: 0, column: 0 }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line == 0 {
            f.write_str(&self.path)
        } else {
            write!(f, "{}:{}:{}", self.path, self.line, self.column)
        }
    }
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Told, and carried on.
    Warning,
    /// The file or object is not applied; its last good version stays, and nothing is pruned.
    Failure,
}

/// One finding: the place, the object and field as far as they are known, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Symbol of the bad-input catalogue, for example `YAML-DUPKEY`.
    pub code: &'static str,
    /// Severity.
    pub severity: Severity,
    /// Place.
    pub place: Place,
    /// `Kind/name`, or empty while it is not known.
    pub object: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Finding {
    /// A failure.
    pub fn failure(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Failure,
            place,
            object: String::new(),
            message: clean(&message.into()),
        }
    }

    /// A warning.
    pub fn warning(code: &'static str, place: Place, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::failure(code, place, message) }
    }

    /// The same, told of an object.
    #[must_use]
    pub fn of(mut self, kind: &str, name: &str) -> Self {
        self.object = format!("{}/{}", clean(kind), clean(name));
        self
    }

    /// What it is about: the object, or the file where none could be read.
    pub fn subject(&self) -> String {
        if self.object.is_empty() { self.place.to_string() } else { self.object.clone() }
    }

    /// Whether it is a failure.
    pub fn is_failure(&self) -> bool {
        self.severity == Severity::Failure
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.code)?;
        if !self.object.is_empty() {
            write!(f, " {}", self.object)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Text from a repository made safe to show: control characters (terminal escapes among them) are escaped and
/// the length is bounded.
pub fn clean(text: &str) -> String {
    let mut safe: String = text
        .chars()
        .take(1_000)
        .flat_map(|c| {
            if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
            {
                c.escape_default().collect::<Vec<_>>()
            } else {
                vec![c]
            }
        })
        .collect();
    if text.chars().nth(1_000).is_some() {
        safe.push('…');
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_escaped_and_bounded() {
        assert_eq!(clean("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
        assert_eq!(clean(&"x".repeat(5_000)).chars().count(), 1_001);
    }

    #[test]
    fn a_finding_names_place_code_object_and_message() {
        let finding = Finding::failure(
            "FIELD-UNKNOWN",
            Place { path: "a.yaml".into(), line: 3, column: 5 },
            "no field colection",
        )
        .of("UpdateDeployment", "march");
        assert_eq!(
            finding.to_string(),
            "a.yaml:3:5 FIELD-UNKNOWN UpdateDeployment/march: no field colection"
        );
    }
}
