//! YAML documents with the position of every value, under limits (bad-input catalogue #1 to #13).

use std::{collections::BTreeMap, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, options::DuplicateKeyPolicy, options::MergeKeyPolicy};

use super::verdict::{Finding, Place};

/// Limits of one file's YAML (reliability.md 3.9).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Nesting of maps and lists.
    pub depth: usize,
    /// Documents in one file.
    pub documents: usize,
    /// Aliases in one file; 0 switches them off, anchors with them.
    pub aliases: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { depth: 32, documents: 200, aliases: 0 }
    }
}

/// A value with its position.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// The value.
    pub value: Value,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1.
    pub column: u64,
}

/// What a node holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Null,
    /// true or false.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number beyond i64, or with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map with text keys.
    Map(BTreeMap<String, Node>),
}

impl Node {
    /// The place of this node in `path`.
    pub fn place(&self, path: &str) -> Place {
        Place { path: path.to_owned(), line: self.line, column: self.column }
    }

    /// The field `key` of a map.
    pub fn get(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Value::Map(map) => map.get(key),
            _ => None,
        }
    }

    /// The text of a text node.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// As JSON, positions dropped.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Integer(value) => (*value).into(),
            Value::Float(value) => (*value).into(),
            Value::Text(value) => value.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(map) => serde_json::Value::Object(
                map.iter().map(|(key, node)| (key.clone(), node.to_json())).collect(),
            ),
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self {
            value: spanned.value,
            line: spanned.referenced.line(),
            column: spanned.referenced.column(),
        })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Integer(value))
    }

    #[expect(clippy::cast_precision_loss, reason = "a number beyond i64 is only ever told as out of range")]
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(i64::try_from(value).map_or(Value::Float(value as f64), Value::Integer))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((key, value)) = access.next_entry::<String, Node>()? {
            map.insert(key, value);
        }
        Ok(Value::Map(map))
    }
}

/// The documents of one file, or why it is refused as a whole.
pub fn parse(path: &str, bytes: &[u8], limits: Limits) -> (Vec<Node>, Vec<Finding>) {
    let mut findings = Vec::new();
    let file = || Place::file(path);
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").map_or(bytes, |rest| {
        findings.push(Finding::warning(
            "YAML-ENCODING",
            file(),
            "a byte order mark is not needed; save as plain UTF-8",
        ));
        rest
    });
    let text = match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => text,
        _ => {
            findings.push(Finding::failure(
                "YAML-ENCODING",
                file(),
                "is not plain UTF-8 text; save it as UTF-8",
            ));
            return (Vec::new(), findings);
        }
    };
    match serde_saphyr::from_multiple_with_options::<Node>(text, options(limits)) {
        Ok(documents) if documents.is_empty() => {
            findings.push(Finding::warning("YAML-EMPTY", file(), "holds no object"));
            (documents, findings)
        }
        Ok(documents) => (documents, findings),
        Err(error) => {
            findings.push(explain(path, error.without_snippet()));
            (Vec::new(), findings)
        }
    }
}

fn options(limits: Limits) -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_aliases: limits.aliases,
            max_anchors: limits.aliases,
            max_depth: limits.depth,
            flow_nesting_limit: limits.depth,
            max_documents: limits.documents,
            max_nodes: 100_000,
            max_events: 400_000,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Error,
        strict_booleans: true,
        reject_unsupported_tags: true,
        emit_comments: false,
    }
}

fn explain(path: &str, error: &serde_saphyr::Error) -> Finding {
    use serde_saphyr::Error as E;
    let place = error.location().map_or_else(
        || Place::file(path),
        |at| Place { path: path.to_owned(), line: at.line(), column: at.column() },
    );
    let text = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
    let (code, remedy) = match error {
        E::DuplicateMappingKey { .. } => ("YAML-DUPKEY", "keep one of the two keys"),
        E::Budget { .. } if text.contains("lias") || text.contains("nchor") => {
            ("YAML-ALIAS", "aliases and anchors are off: write the value out")
        }
        E::Budget { .. } if text.contains("epth") || text.contains("nest") => {
            ("YAML-DEPTH", "nest less deeply")
        }
        E::Budget { .. } if text.contains("ocument") => ("YAML-DOCS", "split the file"),
        E::Budget { .. } => ("YAML-SIZE", "split the file"),
        E::UnknownAnchor { .. } | E::AliasError { .. } | E::MergeKeyNotAllowed { .. } => {
            ("YAML-ALIAS", "aliases, anchors and merge keys are off: write the value out")
        }
        E::UnsupportedTag { .. } => ("YAML-TAG", "tags are not accepted: remove it"),
        _ if text.contains("nesting") || text.contains("recursion") => ("YAML-DEPTH", "nest less deeply"),
        _ => ("YAML-SYNTAX", "correct the YAML there"),
    };
    Finding::failure(code, place, format!("{text}; {remedy}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> String {
        let (_, findings) = parse("f.yaml", text.as_bytes(), Limits::default());
        findings.first().map(|f| format!("{} {}", f.code, f.place)).unwrap_or_default()
    }

    #[test]
    fn positions_are_those_of_the_file() {
        let (documents, findings) =
            parse("f.yaml", b"kind: A\n---\nkind: B\nspec:\n  list: [1, two]\n", Limits::default());
        assert!(findings.is_empty());
        let list = documents[1].get("spec").unwrap().get("list").unwrap();
        assert_eq!((list.line, list.column), (5, 9));
        assert_eq!(list.to_json(), serde_json::json!([1, "two"]));
    }

    #[test]
    fn bad_input_1_to_8_yaml() {
        assert_eq!(code(""), "YAML-EMPTY f.yaml");
        assert_eq!(code("# only\n---\n"), "YAML-EMPTY f.yaml");
        assert!(code("a:\n\tb: 1\n").starts_with("YAML-SYNTAX f.yaml:2"));
        assert!(code("a: 1\nb: 2\na: 3\n").starts_with("YAML-DUPKEY f.yaml:3"));
        assert!(code("a: &x [1]\nb: [*x, *x]\n").starts_with("YAML-ALIAS f.yaml:"));
        assert!(code("a: &x [*x]\n").starts_with("YAML-ALIAS"));
        assert!(code(&"[".repeat(10_000)).starts_with("YAML-DEPTH"));
        let deep = (0..40).fold(String::new(), |text, n| text + &" ".repeat(n) + "k:\n");
        assert!(code(&deep).starts_with("YAML-DEPTH"));
        assert!(code(&"a: 1\n---\n".repeat(201)).starts_with("YAML-DOCS"));
    }

    #[test]
    fn bad_input_9_encodings() {
        for bytes in [&b"\xff\xfea\0"[..], b"caf\xe9: 1", b"a: \"x\0\"", b"\xed\xa0\x80"] {
            assert_eq!(parse("f.yaml", bytes, Limits::default()).1[0].code, "YAML-ENCODING");
        }
        let (documents, findings) = parse("f.yaml", b"\xef\xbb\xbfa: 1", Limits::default());
        assert_eq!(documents.len(), 1);
        assert!(!findings[0].is_failure());
    }

    #[test]
    fn bad_input_10_only_yaml_1_2_words() {
        let (documents, _) =
            parse("f.yaml", b"a: no\nb: on\nc: 12:30:45\nd: 1_000\ne: 0x10\n", Limits::default());
        assert_eq!(documents[0].get("a").unwrap().text(), Some("no"));
        assert_eq!(documents[0].get("b").unwrap().text(), Some("on"));
        assert_eq!(documents[0].get("c").unwrap().text(), Some("12:30:45"));
    }

    #[test]
    fn bad_input_12_tags() {
        for text in ["a: !!python/object:x {}\n", "a: !include other.yaml\n"] {
            assert!(code(text).starts_with("YAML-TAG"), "{}", code(text));
        }
    }
}
