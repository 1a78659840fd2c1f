//! Patterns as people write them into selectors and rules.

/// Whether `value` meets `pattern`, in which `*` stands for any characters; upper and lower case are the same. Linear in
/// the length of both for each `*`: no pattern makes it slow.
pub fn glob(pattern: &str, value: &str) -> bool {
    let value = value.to_lowercase();
    let pattern = pattern.to_lowercase();
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = value.strip_prefix(first) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else {
        return rest.is_empty();
    };
    for part in middle {
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    rest.ends_with(last)
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
