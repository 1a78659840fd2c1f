//! Every report, on both databases: rows fit their columns, numbers add up, and what a row leads to is just what it counts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod data;

use std::{collections::BTreeSet, fmt::Write as _};

use patchtide_reporting_point::reports::{
    Cell, Column, DEFINITIONS, Kind, Line, Report, ReportError, Values, find, run,
};
use patchtide_store::{OpenOptions, SiteStore, Store};

use data::{NOW, SITE, fill, now};

async fn ask(site: &SiteStore, name: &str, values: &Values) -> Result<Report, ReportError> {
    run(site, name, values.clone(), now(NOW)).await
}

fn values<const N: usize>(values: [(&str, &str); N]) -> Values {
    values.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

fn column(report: &Report, name: &str) -> Option<usize> {
    report.columns.iter().position(|column: &Column| column.name == name)
}

fn text(report: &Report, row: &Line, name: &str) -> String {
    match &row.cells[column(report, name).unwrap_or_else(|| panic!("{} has no {name}", report.name))] {
        Cell::Text(text) => text.clone(),
        other => panic!("{}: {name} is {other:?}", report.name),
    }
}

fn number(report: &Report, row: &Line, name: &str) -> Option<u64> {
    match row.cells[column(report, name)?] {
        Cell::Number(number) => Some(number),
        _ => None,
    }
}

/// What a report is asked with here, first.
fn first(name: &str) -> Vec<Values> {
    let all: &[&[(&str, &str)]] = match name {
        "compliance-1" | "compliance-10" => &[
            &[("list", "security")],
            &[("list", "security"), ("collection", "servers")],
            &[("deployment", "march")],
        ],
        "compliance-2" => &[&[("filter", "alpha")], &[("filter", "DSA-1*"), ("collection", "servers")]],
        "compliance-3" => &[&[("list", "security")], &[("list", "security"), ("collection", "servers")]],
        "compliance-4" => {
            &[&[], &[("collection", "servers"), ("year", "2023"), ("month", "11"), ("vendor", "debian")]]
        }
        "compliance-5" => &[&[("client", "host-1")]],
        "compliance-7" => &[&[("list", "security")], &[("list", "security"), ("missing", "2")]],
        "compliance-9" => &[&[("list", "security"), ("days", "3")]],
        "management-1" => &[&[("list", "security")]],
        "management-2" | "management-4" | "scan-1" => &[&[("collection", "servers")]],
        "management-5" => &[&[("client", "host-2")]],
        "scan-2" | "distribution-1" => &[&[]],
        "troubleshooting-1" | "troubleshooting-5" | "troubleshooting-6" | "clients-1" => {
            &[&[], &[("collection", "servers")]]
        }
        "compliance-6" | "management-6" => &[&[("update", data::ALPHA)]],
        "management-3" | "management-7" | "states-1" | "states-2" | "troubleshooting-2" => {
            &[&[("deployment", "march")]]
        }
        "states-5" => &[&[("deployment", "march"), ("update", data::ALPHA)]],
        // What other reports lead to.
        _ => &[],
    };
    all.iter()
        .map(|values| values.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        .collect()
}

/// Follows every row of every report to the end; what was asked is returned.
async fn follow(site: &SiteStore, name: &'static str, asked: Values, seen: &mut BTreeSet<(String, Values)>) {
    let mut waiting = vec![(name, asked, None)];
    while let Some((name, asked, expected)) = waiting.pop() {
        if !seen.insert((name.to_owned(), asked.clone())) {
            continue;
        }
        let report =
            ask(site, name, &asked).await.unwrap_or_else(|error| panic!("{name} {asked:?}: {error}"));
        if let Some(expected) = expected {
            assert_eq!(
                report.total_rows as u64, expected,
                "{name} {asked:?}: what was counted is what is listed"
            );
        }
        let whole: Option<u64> = report.rows.iter().map(|row| number(&report, row, "clients")).sum();
        for row in &report.rows {
            assert_eq!(row.cells.len(), report.columns.len(), "{name}");
            for (cell, column) in row.cells.iter().zip(report.columns) {
                let fits = match column.kind {
                    Kind::Text => matches!(cell, Cell::Text(_) | Cell::None),
                    Kind::Count => matches!(cell, Cell::Number(_) | Cell::None),
                    Kind::Percent => matches!(cell, Cell::Percent(_) | Cell::None),
                    Kind::Instant => matches!(cell, Cell::Instant(_) | Cell::None),
                    Kind::Flag => matches!(cell, Cell::Flag(_)),
                };
                assert!(fits, "{name}: {} is {cell:?}", column.name);
            }
            let sum =
                ["installed", "required", "notRequired", "unknown"].map(|name| number(&report, row, name));
            if let ([Some(a), Some(b), Some(c), Some(d)], Some(total)) = (sum, number(&report, row, "total"))
            {
                assert_eq!(a + b + c + d, total, "{name}: {row:?}");
            }
            let Some(more) = &row.drill_down else { continue };
            let target = report.drill_down.unwrap_or_else(|| panic!("{name} leads nowhere"));
            // A row that counts clients leads to these clients.
            let counts = matches!(
                target,
                "compliance-7" | "compliance-8" | "states-4" | "states-6" | "scan-3" | "scan-4"
            ) || target.starts_with("troubleshooting-")
                || target == "clients-2";
            let expected = counts.then(|| number(&report, row, "clients")).flatten();
            waiting.push((target, more.clone(), expected));
        }
        if let Some(whole) = whole.filter(|_| name.starts_with("states-") || name.starts_with("scan-")) {
            let clients =
                report.header.iter().find(|(name, _)| *name == "Clients").map(|(_, value)| value.clone());
            assert_eq!(clients, Some(Cell::Number(whole)), "{name} {asked:?}: all clients are in some state");
        }
    }
}

async fn every_report(site: &SiteStore) {
    let mut seen = BTreeSet::new();
    for definition in DEFINITIONS {
        for asked in first(definition.name) {
            follow(site, definition.name, asked, &mut seen).await;
        }
    }
    let asked: BTreeSet<&str> = seen.iter().map(|(name, _)| name.as_str()).collect();
    let all: BTreeSet<&str> = DEFINITIONS.iter().map(|definition| definition.name).collect();
    assert_eq!(asked, all, "every report was asked for, or led to by another");
}

/// A report as text: state or name, and count.
async fn told(site: &SiteStore, name: &str, asked: &Values, of: &str, count: &str) -> String {
    let report = ask(site, name, asked).await.unwrap();
    let mut out = String::new();
    for row in &report.rows {
        let _ = write!(out, "{} {}; ", text(&report, row, of), number(&report, row, count).unwrap());
    }
    out.trim_end_matches("; ").to_owned()
}

async fn the_numbers_are_right(site: &SiteStore) {
    let list = values([("list", "security")]);
    let servers = values([("list", "security"), ("collection", "servers")]);
    // host-1 lacks alpha and beta, host-2 lacks alpha, host-3 has all, host-4 failed to scan, host-5 never reported, host-6
    // scanned before gamma.
    let overall = told(site, "compliance-1", &list, "state", "clients").await;
    assert_eq!(overall, "Compliant 1; Non-compliant 2; Compliance state unknown 3");
    let overall = told(site, "A1", &servers, "state", "clients").await;
    assert_eq!(overall, "Compliant 1; Non-compliant 2; Compliance state unknown 1");
    let degree = ask(site, "compliance-10", &list).await.unwrap();
    let degrees: Vec<_> = degree
        .rows
        .iter()
        .map(|row| {
            (text(&degree, row, "state"), number(&degree, row, "missing"), number(&degree, row, "clients"))
        })
        .collect();
    let expected = [
        ("Compliant", 0, 1),
        ("Non-compliant", 1, 1),
        ("Non-compliant", 2, 1),
        ("Compliance state unknown", 0, 3),
    ];
    assert_eq!(
        degrees,
        expected.map(|(state, missing, clients)| (state.to_owned(), Some(missing), Some(clients)))
    );
    let clients = ask(site, "compliance-7", &list).await.unwrap();
    let reasons: Vec<String> = clients
        .rows
        .iter()
        .map(|row| {
            let reason = match &row.cells[column(&clients, "reason").unwrap()] {
                Cell::Text(text) => text.clone(),
                _ => "-".to_owned(),
            };
            format!(
                "{} {}: {reason}",
                text(&clients, row, "client"),
                number(&clients, row, "required").unwrap()
            )
        })
        .collect();
    assert_eq!(
        reasons,
        [
            "host-1 2: -",
            "host-2 1: -",
            "host-3 0: -",
            "host-4 0: the last scan failed",
            "host-5 0: never reported",
            "host-6 0: the catalogue is newer than the last scan",
        ]
    );

    let march = values([("deployment", "march")]);
    let states = told(site, "states-1", &march, "state", "clients").await;
    // host-3 said compliant; host-2 did too, and its scan says otherwise.
    assert_eq!(
        states,
        "Never reported 1; Compliant 1; Enforcement state unknown 1; Failed to install update(s) 1"
    );
    let errors = ask(site, "troubleshooting-2", &march).await.unwrap();
    assert_eq!(errors.rows.len(), 1);
    assert_eq!(text(&errors, &errors.rows[0], "errorCode"), "0x87D00664");
    let missing =
        told(site, "management-2", &values([("collection", "servers")]), "article", "required").await;
    assert_eq!(missing, "delta 1", "alpha and beta are deployed there");
    let content = told(site, "management-7", &march, "article", "required").await;
    assert_eq!(content, "beta 1", "alpha is on a distribution point");
    assert_eq!(
        told(site, "scan-2", &Values::new(), "state", "clients").await,
        "Scan completed 4; Scan state unknown 1; Scan failed 1"
    );
    let of_client = ask(site, "compliance-5", &values([("client", "host-1")])).await.unwrap();
    let flags = |row: &Line, name: &str| row.cells[column(&of_client, name).unwrap()] == Cell::Flag(true);
    let told: Vec<_> = of_client
        .rows
        .iter()
        .map(|row| (text(&of_client, row, "article"), flags(row, "targeted"), flags(row, "isRequired")))
        .collect();
    let expected =
        [("alpha", true, true), ("beta", true, true), ("delta", false, true), ("gamma", true, false)];
    assert_eq!(told, expected.map(|(name, targeted, required)| (name.to_owned(), targeted, required)));

    // Fewer rows than there are say so.
    let mut some = list.clone();
    some.insert("limit".to_owned(), "2".to_owned());
    let cut = ask(site, "compliance-7", &some).await.unwrap();
    assert_eq!((cut.rows.len(), cut.total_rows), (2, 6));
}

async fn what_is_asked_wrongly_is_said(site: &SiteStore) {
    let wrong: [(&str, Values, &str); 9] = [
        ("compliance-11", Values::new(), "there is no report \"compliance-11\"; there are compliance-1, "),
        (
            "compliance-3",
            Values::new(),
            "report compliance-3 needs the parameter list: name of an update list",
        ),
        ("compliance-1", Values::new(), "report compliance-1 needs the parameter list"),
        (
            "compliance-1",
            values([("lst", "x")]),
            "has no parameter \"lst\"; it has list, deployment, collection, limit",
        ),
        ("compliance-1", values([("list", "sec")]), "there is no update list \"sec\"; there is security"),
        (
            "compliance-1",
            values([("list", "security"), ("collection", "x")]),
            "parameter collection: there is no collection \"x\"; there is everyone, servers",
        ),
        (
            "states-4",
            values([("deployment", "march"), ("state", "fine")]),
            "parameter state: \"fine\" is not one of Compliant",
        ),
        (
            "compliance-5",
            values([("client", "host-9")]),
            "there is no active client \"host-9\"; there is host-1",
        ),
        (
            "compliance-4",
            values([("year", "2023"), ("month", "13")]),
            "parameter month: \"13\" is not a month of a year",
        ),
    ];
    for (name, asked, words) in wrong {
        let error = ask(site, name, &asked).await.unwrap_err().to_string();
        assert!(error.contains(words), "{name} {asked:?}: {error}");
    }
    let nowhere = site.store().site(&patchtide_model::SiteName::new("elsewhere").unwrap());
    assert!(matches!(ask(&nowhere, "scan-2", &Values::new()).await, Err(ReportError::NoSite)));
}

async fn all(url: &str) {
    let database = Store::open(url, &OpenOptions::default()).await.unwrap();
    let site = database.site(&patchtide_model::SiteName::new(SITE).unwrap());
    fill(&site).await;
    the_numbers_are_right(&site).await;
    every_report(&site).await;
    what_is_asked_wrongly_is_said(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_on_sqlite() {
    let folder = tempfile::tempdir().unwrap();
    all(&format!("sqlite://{}/site.db", folder.path().display())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_report_on_postgresql() {
    let server = patchtide_tests::postgres::Postgres::start().unwrap();
    all(&server.create_database("reports").unwrap()).await;
}

#[test]
fn reports_are_found_by_name_and_by_letter() {
    assert_eq!(find("C1").unwrap().name, "states-1");
    assert_eq!(find("a10").unwrap().name, "compliance-10");
    assert_eq!(find("Compliance-7").unwrap().name, "compliance-7");
    assert!(find("x1").is_none() && find("").is_none());
    let names: BTreeSet<&str> = DEFINITIONS.iter().map(|definition| definition.name).collect();
    assert_eq!(names.len(), DEFINITIONS.len());
    for definition in DEFINITIONS {
        let columns: BTreeSet<&str> = definition.columns.iter().map(|column| column.name).collect();
        assert_eq!(columns.len(), definition.columns.len(), "{}", definition.name);
        assert!(definition.drill_down.is_none_or(|name| names.contains(name)), "{}", definition.name);
    }
}

/// The page that people read lists them as they are.
#[test]
fn the_page_lists_every_report() {
    const BEGIN: &str = "--test reports -->\n";
    const END: &str = "<!-- end -->";
    let path = patchtide_tests::paths::workspace().join("docs/reports.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = page.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let mut table =
        String::from("| report | what it answers | asked with | leads to |\n| --- | --- | --- | --- |\n");
    for definition in DEFINITIONS {
        let parameters: Vec<String> = definition
            .parameters
            .iter()
            .map(|parameter| {
                if parameter.required {
                    format!("`{}`", parameter.name)
                } else {
                    format!("[`{}`]", parameter.name)
                }
            })
            .collect();
        let more = definition.drill_down.unwrap_or("");
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {more} |",
            definition.name,
            definition.description,
            parameters.join(" ")
        );
    }
    let wanted = format!("{head}{BEGIN}{table}{END}{tail}");
    if std::env::var_os("PATCHTIDE_WRITE_REPORTS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    assert!(
        page == wanted,
        "docs/reports.md is not what the reports are: PATCHTIDE_WRITE_REPORTS=1 writes it"
    );
}
