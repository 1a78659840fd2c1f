//! SPDX licence expressions, as far as crates use them: names, `AND`, `OR`, `WITH`, parentheses, the old `/`.

/// True when `allowed` licences alone satisfy the expression. An expression that cannot be read is not satisfied.
pub(crate) fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut position = 0;
    let result = either(&words, &mut position, allowed);
    result == Some(true) && position == words.len()
}

fn either(words: &[&str], position: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut result = both(words, position, allowed)?;
    while words.get(*position) == Some(&"OR") {
        *position += 1;
        result |= both(words, position, allowed)?;
    }
    Some(result)
}

fn both(words: &[&str], position: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let mut result = single(words, position, allowed)?;
    while words.get(*position) == Some(&"AND") {
        *position += 1;
        result &= single(words, position, allowed)?;
    }
    Some(result)
}

fn single(words: &[&str], position: &mut usize, allowed: &dyn Fn(&str) -> bool) -> Option<bool> {
    let word = *words.get(*position)?;
    *position += 1;
    if word == "(" {
        let result = either(words, position, allowed)?;
        let closed = words.get(*position) == Some(&")");
        *position += 1;
        return closed.then_some(result);
    }
    if words.get(*position) == Some(&"WITH") {
        let exception = words.get(*position + 1)?;
        *position += 2;
        return Some(allowed(&format!("{word} WITH {exception}")));
    }
    Some(allowed(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str) -> bool {
        satisfied(expression, &|name| {
            ["MIT", "BSD-3-Clause", "Apache-2.0 WITH LLVM-exception"].contains(&name)
        })
    }

    #[test]
    fn expressions() {
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/Apache-2.0",
            "(GPL-2.0 OR MIT) AND BSD-3-Clause",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(check(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(MIT", "", "MIT OR", "MIT BSD-3-Clause", "Apache-2.0"] {
            assert!(!check(bad), "{bad}");
        }
    }
}
