//! Patterns as people write them into selectors and rules.

/// Whether `value` meets `pattern`, in which `*` stands for any characters; upper and lower case are the same. Linear in
/// the length of both for each `*`: no pattern makes it slow.
pub fn glob(pattern: &str, value: &str) -> bool {
    Pattern::new(pattern).matches(&value.to_lowercase())
}

/// A pattern that is asked of many values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    lowercase: String,
}

impl Pattern {
    /// Reads a pattern; see [`glob`].
    pub fn new(pattern: &str) -> Self {
        Self { lowercase: pattern.to_lowercase() }
    }

    /// Whether a value that is in lower case meets it.
    pub fn matches(&self, lowercase: &str) -> bool {
        let Some((first, others)) = self.lowercase.split_once('*') else {
            return self.lowercase == lowercase;
        };
        let Some(mut rest) = lowercase.strip_prefix(first) else { return false };
        let (middle, last) = others.rsplit_once('*').map_or((None, others), |(a, b)| (Some(a), b));
        for part in middle.into_iter().flat_map(|middle| middle.split('*')) {
            let Some((_, after)) = rest.split_once(part) else { return false };
            rest = after;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, value) in [
            ("linux*", "linux-signed"),
            ("*", ""),
            ("debian/*/main", "debian/bookworm/main"),
            ("*ssl*", "OpenSSL"),
            ("a*b*c", "axxbyyc"),
            ("exact", "Exact"),
            ("*a", "aaa"),
            ("a**b", "ab"),
        ] {
            assert!(glob(pattern, value), "{pattern} {value}");
        }
        for (pattern, value) in
            [("linux", "linux-signed"), ("a*b", "ab c"), ("", "x"), ("a*a", "a"), ("a*b*c", "acb")]
        {
            assert!(!glob(pattern, value), "{pattern} {value}");
        }
    }

    /// reliability 4 #24: a pattern that makes backtracking matchers run for years is answered at once.
    #[test]
    fn a_catastrophic_pattern_is_answered_at_once() {
        let pattern = "*a".repeat(100) + "*b";
        assert!(!glob(&pattern, &"a".repeat(100_000)));
    }
}
