//! The report as a comment on a pull request: the summary in sight, the rest folded, all of it within a limit.

use std::fmt::Write as _;

use super::{Report, Section};

/// Room that is kept for saying what was left out.
const RESERVE: usize = 200;

impl Report {
    /// Markdown of at most `limit` bytes.
    pub(in crate::plan) fn markdown(&self, limit: usize) -> String {
        let limit = limit.saturating_sub(RESERVE);
        let mut out = format!("### Patchtide plan: {}\n\n", self.verdict);
        let mut left = 0;
        if !self.alarms.is_empty() {
            out.push_str("> [!WARNING]\n");
            left += lines(&mut out, &self.alarms, "> - ", limit);
            out.push('\n');
        }
        if !self.summary.is_empty() {
            left += lines(&mut out, &self.summary, "- ", limit);
            out.push('\n');
        }
        let mut folded = 0;
        for section in &self.sections {
            let before = out.len();
            left += fold(&mut out, section, limit);
            folded += usize::from(out.len() == before);
        }
        if left + folded > 0 {
            let _ = writeln!(
                out,
                "_{left} lines and {folded} sections are left out here: see them with `kubectl patchtide plan -o table`._\n"
            );
        }
        for line in &self.about {
            let _ = writeln!(out, "<sub>{line}</sub>  ");
        }
        out
    }
}

/// As many of the lines as there is room for; how many are left out.
fn lines(out: &mut String, all: &[String], bullet: &str, limit: usize) -> usize {
    let mut left = 0;
    for line in all {
        if out.len() + line.len() + bullet.len() + RESERVE > limit {
            left += 1;
        } else {
            let _ = writeln!(out, "{bullet}{line}");
        }
    }
    left
}

fn fold(out: &mut String, section: &Section, limit: usize) -> usize {
    const END: &str = "\n</details>\n\n";
    let head = format!("<details><summary>{}</summary>\n\n", section.title);
    if out.len() + head.len() + 2 * RESERVE > limit {
        return 0;
    }
    out.push_str(&head);
    let left = lines(out, &section.lines, "- ", limit.saturating_sub(END.len()));
    out.push_str(END);
    left
}
