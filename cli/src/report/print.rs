//! A report for people and for spreadsheets.

use std::fmt::Write as _;

use anyhow::Context as _;
use serde_json::Value;

use super::{Column, Index, Report};

/// Widest cell of a table, in characters.
const WIDEST: usize = 60;

/// A value as people read it.
fn words(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Text in columns; numbers stand to the right.
fn columns(rows: &[Vec<String>], right: &[bool]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..right.len()).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).zip(right).map(|((cell, width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let _ = writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    out
}

/// One line of it, without what would move the cursor, and not too long.
fn cell(value: &Value, wide: bool) -> String {
    let text: String = words(value).chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if wide || text.chars().count() <= WIDEST {
        return text;
    }
    text.chars().take(WIDEST - 1).chain(['…']).collect()
}

/// The report on a terminal.
pub(super) fn table(report: &Report, wide: bool) -> String {
    let mut out = format!("{}\n", report.title);
    let header = report.header.iter().map(|(name, value)| format!("{name}: {}", words(value)));
    for line in header.chain([format!("Taken: {}", report.taken_at)]) {
        let _ = writeln!(out, "  {line}");
    }
    out.push('\n');
    let shown: Vec<(usize, &Column)> =
        report.columns.iter().enumerate().filter(|(_, column)| wide || !column.wide).collect();
    let mut rows = vec![shown.iter().map(|(_, column)| column.title.to_uppercase()).collect::<Vec<_>>()];
    for row in &report.rows {
        let value = |at: &usize| row.cells.get(*at).unwrap_or(&Value::Null);
        rows.push(shown.iter().map(|(at, _)| cell(value(at), wide)).collect());
    }
    let right: Vec<bool> =
        shown.iter().map(|(_, column)| matches!(column.kind.as_str(), "count" | "percent")).collect();
    out.push_str(&if report.rows.is_empty() { "nothing\n".to_owned() } else { columns(&rows, &right) });
    if report.total_rows > report.rows.len() {
        let _ = writeln!(
            out,
            "\n{} of {} rows: --limit {} shows all",
            report.rows.len(),
            report.total_rows,
            report.total_rows
        );
    }
    if let (Some(name), Some(row)) = (&report.drill_down, report.rows.first())
        && let Some(values) = &row.drill_down
    {
        let _ = writeln!(out, "\nMore of the first row: {}", command(name, values));
    }
    out
}

/// The command that asks for a report with these parameters.
fn command(name: &str, values: &std::collections::BTreeMap<String, String>) -> String {
    let mut command = format!("kubectl patchtide report {name}");
    for (name, value) in values {
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || "-._/:@+~".contains(c));
        let value = if plain { value.clone() } else { format!("'{}'", value.replace('\'', "'\\''")) };
        let _ = match name.as_str() {
            "list" | "deployment" | "collection" | "client" | "update" | "state" => {
                write!(command, " --{name} {value}")
            }
            _ => write!(command, " --set {name}={value}"),
        };
    }
    command
}

/// All columns, with a line of their names. A value that a spreadsheet would take for a formula is kept from that.
pub(super) fn csv(report: &Report) -> anyhow::Result<String> {
    let cannot = "the report cannot be written as CSV";
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(report.columns.iter().map(|column| &column.name)).context(cannot)?;
    for row in &report.rows {
        let value = |value: &Value| match value {
            Value::Null => String::new(),
            Value::String(text) if text.starts_with(['=', '+', '-', '@', '\t', '\r']) => format!("'{text}"),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        writer.write_record(row.cells.iter().map(value)).context(cannot)?;
    }
    let bytes = writer.into_inner().context(cannot)?;
    String::from_utf8(bytes).context(cannot)
}

/// Which reports there are.
pub(super) fn index(index: &Index) -> String {
    let mut out = String::new();
    let mut group = None;
    let width = index.items.iter().map(|entry| entry.metadata.name.len()).max().unwrap_or(0);
    let longest = index.items.iter().map(|entry| title(&entry.title).len()).max().unwrap_or(0);
    for entry in &index.items {
        if group != Some(&entry.group) {
            let _ = writeln!(out, "{}{}", if group.is_some() { "\n" } else { "" }, entry.group);
            group = Some(&entry.group);
        }
        let parameters = entry.parameters.iter().map(|parameter| {
            if parameter.required { parameter.name.clone() } else { format!("[{}]", parameter.name) }
        });
        let parameters = parameters.collect::<Vec<_>>().join(" ");
        let line =
            format!("  {:<width$}  {:<longest$}  {parameters}", entry.metadata.name, title(&entry.title));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}

/// A title without the group and number that the name says.
fn title(title: &str) -> &str {
    title.split_once(" - ").map_or(title, |(_, title)| title)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report() -> Report {
        serde_json::from_value(json!({
            "metadata": {"name": "compliance-1"},
            "title": "Compliance 1 - Overall compliance",
            "parameters": {"list": "security"},
            "takenAt": "2026-03-01T12:00:00Z",
            "header": [["Update list", "security"], ["Clients", 3]],
            "columns": [
                {"name": "state", "title": "State", "type": "text"},
                {"name": "clients", "title": "Clients", "type": "count"},
                {"name": "note", "title": "Note", "type": "text", "wide": true},
            ],
            "rows": [
                {"cells": ["Compliant", 2, "=1+1"], "drillDown": {"list": "security", "state": "non compliant", "days": "7"}},
                {"cells": ["Non-compliant", 1, null]},
            ],
            "totalRows": 3,
            "drillDown": "compliance-7",
        }))
        .unwrap()
    }

    #[test]
    fn a_table_says_what_it_is_of_and_where_more_is() {
        let expected = "\
Compliance 1 - Overall compliance
  Update list: security
  Clients: 3
  Taken: 2026-03-01T12:00:00Z

STATE          CLIENTS
Compliant            2
Non-compliant        1

2 of 3 rows: --limit 3 shows all

More of the first row: kubectl patchtide report compliance-7 --set days=7 --list security --state 'non compliant'
";
        assert_eq!(table(&report(), false), expected);
        assert!(table(&report(), true).contains("NOTE"));
    }

    #[test]
    fn a_spreadsheet_gets_every_column_and_no_formula() {
        assert_eq!(csv(&report()).unwrap(), "state,clients,note\nCompliant,2,'=1+1\nNon-compliant,1,\n");
    }

    #[test]
    fn what_would_move_the_cursor_is_not_printed() {
        assert_eq!(cell(&json!("a\u{1b}[2Jb"), false), "a [2Jb");
        assert_eq!(cell(&json!("x".repeat(80)), false).chars().count(), WIDEST);
        assert_eq!(cell(&json!("x".repeat(80)), true).len(), 80);
    }
}
