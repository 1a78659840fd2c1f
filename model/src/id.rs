//! Identities, each a newtype that validates on the way in.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::Digest;

/// A text that cannot be the identity it was given for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value:?} is not a valid {what}: {rule}")]
pub struct InvalidId {
    what: &'static str,
    value: String,
    rule: &'static str,
}

impl InvalidId {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(120).collect(), rule }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The identity in `text`, when it keeps the rule of this type.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(InvalidId::new($what, &text, $rule)) }
            }

            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.0
            }
        }
    };
}

text_id!(
    /// A site: the Kubernetes namespace that holds its objects. All data is keyed by it.
    SiteName,
    "site",
    "a namespace name: 1 to 63 of a-z, 0-9 and -, starting and ending with a letter or digit",
    |text| is_dns_name(text, 63, false)
);

text_id!(
    /// The name of a custom resource within a site.
    ObjectName,
    "object name",
    "1 to 253 of a-z, 0-9, - and ., starting and ending with a letter or digit",
    |text| is_dns_name(text, 253, true)
);

text_id!(
    /// A product line: `<source>/<suite>/<component>`, for example `debian/bookworm-security/main`.
    LineId,
    "product line",
    "<source>/<suite>/<component>, at most 200 of letters, digits and + - . _ ~ in each part",
    |text| {
        text.len() <= 200
            && text.split('/').count() >= 3
            && text.split('/').all(|part| {
                !part.is_empty()
                    && part != "."
                    && part != ".."
                    && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._~".contains(&b))
            })
    }
);

fn is_dns_name(text: &str, longest: usize, dots: bool) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= longest
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes
            .iter()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-' || (dots && *b == b'.'))
}

/// A client's identity: a random UUID that the site gives at enrolment and its certificate carries. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClientId(pub Uuid);

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for ClientId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::parse_str(text).map(Self).map_err(|_| InvalidId::new("client", text, "a UUID"))
    }
}

/// A software update (bundle): one source at one version in one line, written `<line>:<source>@<version>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UpdateId {
    /// The product line.
    pub line: LineId,
    /// Source package name.
    pub source: String,
    /// Source version, in the form of the package system.
    pub version: String,
}

impl UpdateId {
    /// A name for the API and for files: a slug of the identity with the first 8 digits of its digest.
    pub fn slug(&self) -> String {
        let text = self.to_string();
        let mut slug: String = format!("{}-{}", self.source, self.version)
            .to_ascii_lowercase()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
            .take(200)
            .collect();
        slug.push('-');
        slug.push_str(&Digest::of(text.as_bytes()).to_string()[..8]);
        slug
    }
}

impl fmt::Display for UpdateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.line, self.source, self.version)
    }
}

impl FromStr for UpdateId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            InvalidId::new(
                "update",
                text,
                "write <line>:<source>@<version>, for example debian/bookworm-security/main:openssl@3.0.22-1~deb12u2",
            )
        };
        let (line, rest) = text.split_once(':').ok_or_else(invalid)?;
        let (source, version) = rest.split_once('@').ok_or_else(invalid)?;
        let plain = |part: &str, extra: &[u8]| {
            !part.is_empty()
                && part.len() <= 200
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || extra.contains(&b))
        };
        if !plain(source, b"+-._") || !plain(version, b"+-.~:") {
            return Err(invalid());
        }
        Ok(Self { line: line.parse()?, source: source.to_owned(), version: version.to_owned() })
    }
}

impl TryFrom<String> for UpdateId {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UpdateId> for String {
    fn from(id: UpdateId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn update_id_reads_epochs_and_tildes_back() {
        let text = "debian/bookworm-security/main:openssl@1:3.0.22-1~deb12u2";
        let id: UpdateId = text.parse().unwrap();
        assert_eq!((id.source.as_str(), id.version.as_str()), ("openssl", "1:3.0.22-1~deb12u2"));
        assert_eq!(id.to_string(), text);
        assert!(id.slug().starts_with("openssl-1-3.0.22-1-deb12u2-"));
    }

    #[test]
    fn bad_identities_name_the_rule() {
        for bad in ["", "openssl", "a/b/c:openssl", "a/b/c:openssl@", "a/../c:x@1", "a/b/c:x@1 2", "a/b:x@1"]
        {
            assert!(bad.parse::<UpdateId>().is_err(), "{bad}");
        }
        assert!(SiteName::new("Prod").unwrap_err().to_string().contains("a-z"));
        assert!(ObjectName::new("a.b").is_ok() && SiteName::new("a.b").is_err());
    }
}
