//! References to other objects. All of them stay inside the namespace.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What every name of a Kubernetes object looks like.
pub(crate) const NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";

/// How a reference takes later edits of what it names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum ReferenceMode {
    /// The content at the time the reference was made stays in force; later edits do not reach it, and status says
    /// that they differ. To take the edits over, change the reference.
    #[default]
    Pinned,
    /// Later edits are taken over as they come.
    Follow,
}

/// A Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretRef {
    /// Name of the Secret in this namespace. Which keys it must hold is said at the field that refers to it.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
}

/// One key of a Secret in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretKeyRef {
    /// Name of the Secret in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key in the Secret's data. What it defaults to is said at the field that refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// One key of a ConfigMap in the same namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConfigMapKeyRef {
    /// Name of the ConfigMap in this namespace.
    #[schemars(length(min = 1, max = 253), regex(pattern = NAME))]
    pub name: String,
    /// Key in the ConfigMap's data or binaryData. What it defaults to is said at the field that refers to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub key: Option<String>,
}

/// The structured form of an update's identity, for tools that would otherwise have to compose the text.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateRef {
    /// Product line: `<source>/<suite>/<component>`, for example `debian/bookworm-security/main`.
    #[schemars(length(min = 5, max = 200))]
    pub line: String,
    /// Source package name, for example `openssl`.
    #[schemars(length(min = 1, max = 200))]
    pub source: String,
    /// Source version, always quoted in YAML, for example `"3.0.22-1~deb12u2"`.
    #[schemars(length(min = 1, max = 200))]
    pub version: String,
}

impl UpdateRef {
    /// The text form `<line>:<source>@<version>`.
    pub fn id(&self) -> String {
        format!("{}:{}@{}", self.line, self.source, self.version)
    }
}

/// All updates named by a pair of text and structured lists, in text form, sorted, without repeats.
pub fn update_ids(texts: &[String], structured: &[UpdateRef]) -> Vec<String> {
    let mut ids: Vec<String> = texts.iter().cloned().chain(structured.iter().map(UpdateRef::id)).collect();
    ids.sort();
    ids.dedup();
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_an_update_are_one() {
        let structured = UpdateRef {
            line: "debian/bookworm/main".to_owned(),
            source: "xz-utils".to_owned(),
            version: "5.4.1-1".to_owned(),
        };
        let text = "debian/bookworm/main:xz-utils@5.4.1-1".to_owned();
        assert_eq!(update_ids(std::slice::from_ref(&text), &[structured]), [text]);
    }
}
