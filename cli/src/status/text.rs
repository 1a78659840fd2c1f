//! Words that fit: what machines and archives said does not steer the terminal, and nothing is wider than its place.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// One line of text without anything that steers a terminal or turns the order of what is read.
pub(super) fn clean(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let kept = text.chars().filter(|c| !turns(*c)).map(|c| if c.is_control() { ' ' } else { c });
    kept.collect::<String>().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Columns that it takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The beginning that fits, with `...` where something is left out.
pub(super) fn clip(text: &str, columns: usize) -> String {
    if width(text) <= columns {
        return text.to_owned();
    }
    let (mut kept, mut used) = (String::new(), 0);
    let room = columns.saturating_sub(3);
    for c in text.chars() {
        used += c.width().unwrap_or(0);
        if used > room {
            break;
        }
        kept.push(c);
    }
    kept.push_str(&"..."[..columns.min(3)]);
    kept
}

/// Lines of at most so many columns, `most` of them; the last ends in `...` when there was more.
pub(super) fn wrap(text: &str, columns: usize, most: usize) -> Vec<String> {
    let (mut lines, mut line) = (Vec::new(), String::new());
    let mut words = text.split(' ').peekable();
    while let Some(word) = words.next() {
        let fits = line.is_empty() || width(&line) + 1 + width(word) <= columns;
        if !fits {
            if lines.len() + 1 == most {
                let rest: Vec<&str> = std::iter::once(word).chain(words).collect();
                line = clip(&format!("{line} {}", rest.join(" ")), columns);
                break;
            }
            lines.push(clip(&std::mem::take(&mut line), columns));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(clip(&line, columns));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_steers_the_terminal() {
        assert_eq!(clean("a\u{1b}[31mb\r\n\tc \u{202e}d\u{9b}2J"), "a [31mb c d 2J");
    }

    #[test]
    fn nothing_is_wider_than_its_place() {
        assert_eq!(clip("abcdef", 6), "abcdef");
        assert_eq!(clip("abcdefg", 6), "abc...");
        assert_eq!(clip("日本語版", 7), "日本...");
        assert_eq!(clip("abc", 2), "..");
        let text = "one two three four five six seven";
        assert_eq!(wrap(text, 9, 9), ["one two", "three", "four five", "six seven"]);
        assert_eq!(wrap(text, 9, 2), ["one two", "three ..."]);
        assert_eq!(wrap("averylongwordindeed and", 9, 3), ["averyl...", "and"]);
        for columns in 1..40 {
            for line in wrap("日本語 text with words of all kinds", columns, 3) {
                assert!(width(&line) <= columns, "{line} in {columns}");
            }
        }
    }
}
