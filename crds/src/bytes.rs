//! Amounts of bytes in YAML: `500Mi`, `20Gi`, `1048576`.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// What the schema demands; the parser demands the same.
pub const PATTERN: &str = "^[0-9]{1,15}(Ki|Mi|Gi|Ti)?$";

/// An amount of bytes: a whole number with an optional power-of-1024 unit (`Ki`, `Mi`, `Gi`, `Ti`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ByteSize(pub String);

/// A text that is not an amount of bytes, or one beyond 2^63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidByteSize {
    text: String,
}

impl fmt::Display for InvalidByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} is not an amount of bytes: write a whole number with Ki, Mi, Gi or Ti, for example 20Gi",
            self.text
        )
    }
}

impl std::error::Error for InvalidByteSize {}

impl ByteSize {
    /// The amount in bytes.
    pub fn bytes(&self) -> Result<u64, InvalidByteSize> {
        let invalid = || InvalidByteSize { text: self.0.chars().take(40).collect() };
        let end = self.0.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.0.len());
        let (digits, unit) = self.0.split_at(end);
        if digits.is_empty() || digits.len() > 15 {
            return Err(invalid());
        }
        let shift = match unit {
            "" => 0,
            "Ki" => 10,
            "Mi" => 20,
            "Gi" => 30,
            "Ti" => 40,
            _ => return Err(invalid()),
        };
        let amount: u64 = digits.parse().map_err(|_| invalid())?;
        amount.checked_mul(1_u64 << shift).filter(|bytes| i64::try_from(*bytes).is_ok()).ok_or_else(invalid)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for ByteSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": PATTERN, "minLength": 1, "maxLength": 17})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_units_and_refuses_the_rest() {
        let bytes = |text: &str| ByteSize(text.to_owned()).bytes().ok();
        assert_eq!(bytes("5Gi"), Some(5 << 30));
        assert_eq!(bytes("1048576"), Some(1 << 20));
        for bad in ["", "Gi", "5G", "5 Gi", "-1", "1.5Gi", "999999999999999Ti"] {
            assert_eq!(bytes(bad), None, "{bad}");
        }
    }
}
