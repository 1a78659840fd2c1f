//! Relations between packages: the syntax of `Depends`, `Pre-Depends` and `Provides`, and when they are satisfied.

use std::fmt;

use crate::packages::{MultiArch, architecture_is_valid, name_is_valid};
use crate::version::{Version, VersionError};

/// Most alternatives and relations together that one field may have.
pub const MAX_TERMS: usize = 20_000;

/// How a version is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `have` is what is wanted when it is compared with `wanted`.
    pub fn holds(self, have: &Version, wanted: &Version) -> bool {
        match self {
            Self::Earlier => have < wanted,
            Self::EarlierEqual => have <= wanted,
            Self::Equal => have == wanted,
            Self::LaterEqual => have >= wanted,
            Self::Later => have > wanted,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Earlier => "<<",
            Self::EarlierEqual => "<=",
            Self::Equal => "=",
            Self::LaterEqual => ">=",
            Self::Later => ">>",
        }
    }
}

/// One package that would do: `name[:arch] [(op version)] [[archs]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Name of a package, real or provided.
    pub name: String,
    /// The qualifier behind the colon: `any`, `native` or an architecture.
    pub qualifier: Option<String>,
    /// Which versions.
    pub version: Option<(Operator, Version)>,
    /// Architectures for which it counts (`[amd64 !i386]`); empty = all.
    pub only: Vec<String>,
}

/// A field: every element must be satisfied, by one of its alternatives.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Relations(pub Vec<Vec<Dependency>>);

/// One name that a package provides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provided {
    /// The name.
    pub name: String,
    /// The version; a relation with a version is satisfied only when there is one.
    pub version: Option<Version>,
}

/// Why a field cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RelationError {
    /// A part of it is wrong.
    #[error("{part:?} is not a relation: {reason}")]
    Syntax {
        /// The part, cut to 120 characters.
        part: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The version in a part of it is wrong.
    #[error("the version in {part:?} is not valid")]
    Version {
        /// The part, cut to 120 characters.
        part: String,
        /// Why.
        #[source]
        source: VersionError,
    },
    /// More than [`MAX_TERMS`].
    #[error("the field has more than {MAX_TERMS} relations")]
    TooMany,
}

/// A package that may satisfy a relation.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its version.
    pub version: &'a Version,
    /// Its architecture or `all`.
    pub architecture: &'a str,
    /// Mixing of architectures.
    pub multi_arch: MultiArch,
    /// What it provides.
    pub provides: &'a [Provided],
}

/// Who asks: the package that has the relation, on which machine.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Architecture of the package that has the relation, or `all`.
    pub architecture: &'a str,
    /// Native architecture of the machine.
    pub native: &'a str,
}

impl Relations {
    /// Reads a field; the empty text has no relations.
    pub fn parse(text: &str) -> Result<Self, RelationError> {
        let mut terms = 0;
        let mut groups = Vec::new();
        // A trailing comma is accepted, as dpkg does.
        for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            let mut alternatives = Vec::new();
            for part in group.split('|') {
                terms += 1;
                if terms > MAX_TERMS {
                    return Err(RelationError::TooMany);
                }
                alternatives.push(Dependency::parse(part)?);
            }
            groups.push(alternatives);
        }
        Ok(Self(groups))
    }

    /// The groups that none of the candidates satisfies.
    pub fn unsatisfied<'s, 'c, I>(
        &'s self,
        asker: Asker<'s>,
        candidates: I,
    ) -> impl Iterator<Item = &'s [Dependency]>
    where
        I: IntoIterator<Item = Candidate<'c>> + Clone + 's,
    {
        self.0.iter().map(Vec::as_slice).filter(move |group| {
            let mut counting = group.iter().filter(|d| d.counts_for(asker)).peekable();
            counting.peek().is_some()
                && !counting.any(|d| candidates.clone().into_iter().any(|c| d.satisfied_by(asker, c)))
        })
    }
}

impl Dependency {
    /// Reads one alternative.
    pub fn parse(text: &str) -> Result<Self, RelationError> {
        let part = text.trim();
        let wrong = |reason| RelationError::Syntax { part: part.chars().take(120).collect(), reason };
        let name_end = part.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(part.len());
        let (full_name, mut rest) = part.split_at(name_end);
        let (name, qualifier) = match full_name.split_once(':') {
            None => (full_name, None),
            Some((name, qualifier)) => (name, Some(qualifier)),
        };
        if !name_is_valid(name) {
            return Err(wrong("the name of the package is not valid"));
        }
        if qualifier.is_some_and(|q| !architecture_is_valid(q)) {
            return Err(wrong("the architecture behind the colon is not valid"));
        }
        let mut version = None;
        let mut only = Vec::new();
        loop {
            rest = rest.trim_start();
            let (close, inside) = match rest.chars().next() {
                None => break,
                Some('(') => (')', &rest[1..]),
                Some('[') => (']', &rest[1..]),
                Some('<') => ('>', &rest[1..]),
                Some(_) => {
                    return Err(wrong("text behind the name that is neither version nor architectures"));
                }
            };
            let Some((inside, after)) = inside.split_once(close) else {
                return Err(wrong("a bracket is not closed"));
            };
            match close {
                ')' if version.is_none() => version = Some(parse_constraint(inside.trim(), part)?),
                ')' => return Err(wrong("two versions")),
                ']' => only = inside.split_ascii_whitespace().map(str::to_owned).collect(),
                // Build profiles do not occur in binary packages; they are read and have no effect.
                _ => {}
            }
            rest = after;
        }
        Ok(Self { name: name.to_owned(), qualifier: qualifier.map(str::to_owned), version, only })
    }

    /// Whether this alternative counts at all for the architecture of the one who asks (`[amd64]`, `[!i386]`).
    pub fn counts_for(&self, asker: Asker<'_>) -> bool {
        let own = asker.own();
        let matches = |pattern: &str| {
            matches!(pattern, "any" | "linux-any")
                || pattern == own
                || pattern.strip_prefix("any-").is_some_and(|cpu| cpu == own)
        };
        if self.only.iter().any(|a| a.starts_with('!')) {
            !self.only.iter().any(|a| a.strip_prefix('!').is_some_and(matches))
        } else {
            self.only.is_empty() || self.only.iter().any(|a| matches(a))
        }
    }

    /// Whether the candidate satisfies this alternative for the one who asks.
    ///
    /// A name that is only provided satisfies a relation without a version always, one with a version when the
    /// provided version holds. `all` counts as the machine's native architecture, on both sides.
    pub fn satisfied_by(&self, asker: Asker<'_>, candidate: Candidate<'_>) -> bool {
        self.architecture_fits(asker, candidate)
            && (candidate.name == self.name && self.version_fits(Some(candidate.version))
                || candidate
                    .provides
                    .iter()
                    .any(|p| p.name == self.name && self.version_fits(p.version.as_ref())))
    }

    fn version_fits(&self, have: Option<&Version>) -> bool {
        match (&self.version, have) {
            (None, _) => true,
            (Some((operator, wanted)), Some(have)) => operator.holds(have, wanted),
            (Some(_), None) => false,
        }
    }

    fn architecture_fits(&self, asker: Asker<'_>, candidate: Candidate<'_>) -> bool {
        let have = if candidate.architecture == "all" { asker.native } else { candidate.architecture };
        match self.qualifier.as_deref() {
            None => have == asker.own() || candidate.multi_arch == MultiArch::Foreign,
            Some("any") => {
                have == asker.own() || matches!(candidate.multi_arch, MultiArch::Allowed | MultiArch::Foreign)
            }
            Some("native") => have == asker.native,
            Some(exact) => have == exact,
        }
    }
}

impl Asker<'_> {
    fn own(&self) -> &str {
        if self.architecture == "all" { self.native } else { self.architecture }
    }
}

/// Reads a `Provides` field: names, each with `(= version)` or none.
pub fn parse_provides(text: &str) -> Result<Vec<Provided>, RelationError> {
    let mut provided = Vec::new();
    for mut group in Relations::parse(text)?.0 {
        let wrong = |reason| RelationError::Syntax { part: group_text(&group), reason };
        if group.len() > 1 {
            return Err(wrong("what is provided has no alternatives"));
        }
        if group.iter().any(|d| d.version.as_ref().is_some_and(|(op, _)| *op != Operator::Equal)) {
            return Err(wrong("what is provided has exactly one version (=)"));
        }
        provided
            .extend(group.drain(..).map(|d| Provided { name: d.name, version: d.version.map(|(_, v)| v) }));
    }
    Ok(provided)
}

fn parse_constraint(text: &str, part: &str) -> Result<(Operator, Version), RelationError> {
    let cut = || part.chars().take(120).collect();
    let length = text.bytes().take_while(|b| b"<>=".contains(b)).count();
    let (operator, version) = text.split_at(length);
    let operator = match operator {
        "<<" => Operator::Earlier,
        // The single forms are ancient and mean "or equal", as in dpkg.
        "<=" | "<" => Operator::EarlierEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterEqual,
        ">>" => Operator::Later,
        _ => {
            return Err(RelationError::Syntax {
                part: cut(),
                reason: "the version needs one of << <= = >= >>",
            });
        }
    };
    let version =
        Version::parse(version.trim()).map_err(|source| RelationError::Version { part: cut(), source })?;
    Ok((operator, version))
}

fn group_text(group: &[Dependency]) -> String {
    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ").chars().take(120).collect()
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(qualifier) = &self.qualifier {
            write!(f, ":{qualifier}")?;
        }
        if let Some((operator, version)) = &self.version {
            write!(f, " ({} {version})", operator.text())?;
        }
        if !self.only.is_empty() {
            write!(f, " [{}]", self.only.join(" "))?;
        }
        Ok(())
    }
}

impl fmt::Display for Relations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, group) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            let names: Vec<String> = group.iter().map(ToString::to_string).collect();
            write!(f, "{separator}{}", names.join(" | "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
