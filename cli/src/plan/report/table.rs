//! The report on a terminal.

use std::fmt::Write as _;

use super::Report;

impl Report {
    /// Plain text.
    pub(in crate::plan) fn table(&self) -> String {
        let mut out = format!("{}\n", self.verdict);
        for line in &self.about {
            let _ = writeln!(out, "  {line}");
        }
        if !self.alarms.is_empty() {
            out.push('\n');
            for alarm in &self.alarms {
                let _ = writeln!(out, "!! {alarm}");
            }
        }
        if !self.summary.is_empty() {
            out.push('\n');
            for line in &self.summary {
                let _ = writeln!(out, "{line}");
            }
        }
        for section in &self.sections {
            let _ = writeln!(out, "\n{}", section.title);
            for line in &section.lines {
                let _ = writeln!(out, "  {line}");
            }
        }
        out
    }
}
