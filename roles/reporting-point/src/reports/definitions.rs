//! Which reports there are: what each is asked with, what it tells, and which one tells more of a row. Names and numbers of
//! A to E are those of the field (domain.md section 3); what the field has no report for is said to be ours.

use serde::Serialize;

use super::{ReportError, Values};

/// A report.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Definition {
    /// Its name in addresses and commands.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// Where it belongs.
    pub group: Group,
    /// What it answers.
    pub description: &'static str,
    /// What it is asked with.
    pub parameters: &'static [Parameter],
    /// What it tells.
    pub columns: &'static [Column],
    /// The report that tells more of a row.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drill_down: Option<&'static str>,
}

/// Groups of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Group {
    /// What is installed and what is missing.
    #[serde(rename = "A. Compliance")]
    Compliance,
    /// Which deployments there are, and what no deployment has.
    #[serde(rename = "B. Deployment management")]
    Management,
    /// How far deployments are.
    #[serde(rename = "C. Deployment states")]
    States,
    /// How scans went.
    #[serde(rename = "D. Scan")]
    Scan,
    /// What fails, and where.
    #[serde(rename = "E. Troubleshooting")]
    Troubleshooting,
    /// Where content is.
    #[serde(rename = "F. Distribution status")]
    Distribution,
    /// The machines themselves.
    #[serde(rename = "Clients")]
    Clients,
}

/// What a report is asked with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Parameter {
    /// Its name.
    pub name: &'static str,
    /// There is no report without it.
    pub required: bool,
    /// What it is.
    pub description: &'static str,
}

/// A column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Column {
    /// For programs.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    /// What its values are.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Left out where room is short.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub wide: bool,
}

/// What the values of a column are. Any may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Words.
    Text,
    /// A count.
    Count,
    /// Percent.
    Percent,
    /// An instant, RFC 3339 in UTC.
    Instant,
    /// True or false.
    Flag,
}

impl Definition {
    /// Refuses parameters that it does not have, and demands those that it needs.
    pub(super) fn check(&'static self, values: &Values) -> Result<(), ReportError> {
        let known = || self.parameters.iter().map(|parameter| parameter.name).chain(["limit"]);
        if let Some(name) = values.keys().find(|name| !known().any(|known| known == *name)) {
            return Err(ReportError::NoParameter {
                report: self.name,
                name: name.clone(),
                known: known().collect::<Vec<_>>().join(", "),
            });
        }
        let given = |name| values.get(name).is_some_and(|value: &String| !value.is_empty());
        match self.parameters.iter().find(|parameter| parameter.required && !given(parameter.name)) {
            Some(Parameter { name, description, .. }) => {
                Err(ReportError::Missing { report: self.name, name, description })
            }
            None => Ok(()),
        }
    }
}

/// The report of this name; the letter and the number of the field, `A1`, name it too.
pub fn find(name: &str) -> Option<&'static Definition> {
    let alias = |definition: &Definition| {
        let letter = match definition.group {
            Group::Compliance => 'a',
            Group::Management => 'b',
            Group::States => 'c',
            Group::Scan => 'd',
            Group::Troubleshooting => 'e',
            Group::Distribution => 'f',
            Group::Clients => return None,
        };
        let number = definition.name.rsplit('-').next()?;
        Some(format!("{letter}{number}"))
    };
    let name = name.to_ascii_lowercase();
    DEFINITIONS
        .iter()
        .find(|definition| definition.name == name || alias(definition).as_deref() == Some(&name))
}

const fn must(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, required: true, description }
}

const fn may(name: &'static str, description: &'static str) -> Parameter {
    Parameter { name, required: false, description }
}

const LIST: Parameter = must("list", "name of an update list");
const LIST_OR: Parameter = may("list", "name of an update list; or give a deployment");
const OR_DEPLOYMENT: Parameter = may("deployment", "name of a deployment, in place of a list");
const DEPLOYMENT: Parameter = must("deployment", "name of a deployment");
const COLLECTION: Parameter = may("collection", "name of a collection; none: all clients");
const NEEDED_COLLECTION: Parameter = must("collection", "name of a collection");
const UPDATE: Parameter = must("update", "identity of an update, <line>:<source>@<version>");
const CLIENT: Parameter = must("client", "host name or id of a client");
const VENDOR: Parameter = may("vendor", "first part of a line, for example debian-security");
const CLASSIFICATION: Parameter = may("classification", "for example SecurityUpdates");
const CODE: Parameter = must("code", "error code, for example 0x87D00664");
const SYMBOL: Parameter = may("symbol", "our short symbol of the error");

const fn column(name: &'static str, title: &'static str, kind: Kind) -> Column {
    Column { name, title, kind, wide: false }
}

const fn wide(name: &'static str, title: &'static str, kind: Kind) -> Column {
    Column { name, title, kind, wide: true }
}

const ARTICLE: Column = column("article", "Article", Kind::Text);
const BULLETIN: Column = column("bulletin", "Bulletin", Kind::Text);
const TITLE: Column = wide("title", "Title", Kind::Text);
const VENDOR_OF: Column = column("vendor", "Vendor", Kind::Text);
const CLASS: Column = column("classification", "Classification", Kind::Text);
const ID: Column = column("update", "Update", Kind::Text);
const INSTALLED: Column = column("installed", "Installed", Kind::Count);
const REQUIRED: Column = column("required", "Required", Kind::Count);
const NOT_REQUIRED: Column = column("notRequired", "Not required", Kind::Count);
const UNKNOWN: Column = column("unknown", "Unknown", Kind::Count);
const FAILED: Column = column("failed", "Failed", Kind::Count);
const PENDING: Column = column("pending", "Pending", Kind::Count);
const TOTAL: Column = column("total", "Total", Kind::Count);
const COMPLIANT: Column = column("compliantPercent", "Compliant %", Kind::Percent);
const NOT_COMPLIANT: Column = wide("notCompliantPercent", "Not compliant %", Kind::Percent);
const UNKNOWN_PERCENT: Column = wide("unknownPercent", "Unknown %", Kind::Percent);
const STATE: Column = column("state", "State", Kind::Text);
const CLIENTS: Column = column("clients", "Clients", Kind::Count);
const PERCENT: Column = column("percent", "%", Kind::Percent);
const NAME: Column = column("client", "Client", Kind::Text);
const ADDRESS: Column = wide("address", "Address", Kind::Text);
const AGENT: Column = wide("agentVersion", "Agent", Kind::Text);
const SYSTEM: Column = wide("system", "System", Kind::Text);
const CONTACT: Column = column("lastContact", "Last contact", Kind::Instant);
const CLIENT_ID: Column = wide("clientId", "Client id", Kind::Text);
const SINCE: Column = column("since", "Since", Kind::Instant);
const ERROR: Column = column("errorCode", "Error", Kind::Text);
const ERROR_SYMBOL: Column = column("errorSymbol", "Symbol", Kind::Text);
const MESSAGE: Column = wide("errorMessage", "What happened", Kind::Text);
const REASON: Column = column("reason", "Reason", Kind::Text);
const SCANNED: Column = column("scanned", "Last scan", Kind::Instant);
const NAMED: Column = column("deployment", "Deployment", Kind::Text);
const UID: Column = wide("deploymentId", "Deployment id", Kind::Text);
const TARGET: Column = column("collection", "Collection", Kind::Text);
const AVAILABLE: Column = column("available", "Available", Kind::Instant);
const DEADLINE: Column = column("deadline", "Deadline", Kind::Instant);
const MODIFIED: Column = wide("modified", "Modified", Kind::Instant);
const DEPLOYED: Column = column("deployed", "Deployed", Kind::Flag);

const STATE_COUNTS: &[Column] = &[STATE, CLIENTS, PERCENT];
const DEPLOYMENTS: &[Column] = &[NAMED, UID, TARGET, AVAILABLE, DEADLINE, MODIFIED];
const CLIENT_STATE: &[Column] =
    &[NAME, STATE, SINCE, ERROR, ERROR_SYMBOL, MESSAGE, CONTACT, ADDRESS, AGENT, SYSTEM, CLIENT_ID];
const SCAN_STATE: &[Column] =
    &[NAME, STATE, SCANNED, ERROR, ERROR_SYMBOL, MESSAGE, CONTACT, ADDRESS, AGENT, SYSTEM, CLIENT_ID];
const ERRORS: &[Column] = &[ERROR, ERROR_SYMBOL, CLIENTS, PERCENT, MESSAGE];

macro_rules! reports {
    ($($name:literal, $title:literal, $group:ident, $description:literal, [$($parameter:expr),*], $columns:expr $(, $drill:literal)?;)+) => {
        /// All of them, in the order in which people look for them.
        pub const DEFINITIONS: &[Definition] = &[$(Definition {
            name: $name,
            title: $title,
            group: Group::$group,
            description: $description,
            parameters: &[$($parameter),*],
            columns: $columns,
            drill_down: reports!(@drill $($drill)?),
        },)+];
    };
    (@drill) => { None };
    (@drill $drill:literal) => { Some($drill) };
}

reports! {
    "compliance-1", "Compliance 1 - Overall compliance", Compliance,
    "How many clients have everything of an update list, lack something, or have not said.",
    [LIST_OR, OR_DEPLOYMENT, COLLECTION], STATE_COUNTS, "compliance-7";

    "compliance-2", "Compliance 2 - Specific software update", Compliance,
    "The updates whose title or bulletin has the words asked for, and how many clients have each.",
    [must("filter", "words of the title, or a bulletin such as DSA-5000*"), COLLECTION, may("all", "true: superseded and expired ones too")],
    &[VENDOR_OF, ARTICLE, BULLETIN, TITLE, INSTALLED, REQUIRED, NOT_REQUIRED, UNKNOWN, TOTAL, COMPLIANT, NOT_COMPLIANT, UNKNOWN_PERCENT, ID],
    "compliance-6";

    "compliance-3", "Compliance 3 - Update list (per update)", Compliance,
    "The updates of a list, how many clients have each, and whether it is deployed there.",
    [LIST, COLLECTION],
    &[VENDOR_OF, ARTICLE, BULLETIN, TITLE, INSTALLED, REQUIRED, NOT_REQUIRED, UNKNOWN, TOTAL, COMPLIANT, NOT_COMPLIANT, UNKNOWN_PERCENT, DEPLOYED, ID],
    "compliance-6";

    "compliance-4", "Compliance 4 - Updates by vendor, month and year", Compliance,
    "The updates that were published in a month, and how many clients have each.",
    [COLLECTION, VENDOR, CLASSIFICATION, may("product", "for example Debian bookworm"), may("year", "for example 2026"), may("month", "1 to 12; needs a year")],
    &[VENDOR_OF, ARTICLE, BULLETIN, TITLE, CLASS, wide("posted", "Posted", Kind::Instant), INSTALLED, REQUIRED, NOT_REQUIRED, UNKNOWN, TOTAL, COMPLIANT, NOT_COMPLIANT, UNKNOWN_PERCENT, DEPLOYED, ID],
    "compliance-6";

    "compliance-5", "Compliance 5 - Specific client", Compliance,
    "The updates that a client requires or has installed, and what is deployed to it.",
    [CLIENT, VENDOR, CLASSIFICATION],
    &[VENDOR_OF, CLASS, BULLETIN, ARTICLE, TITLE, column("targeted", "Targeted", Kind::Flag), column("isInstalled", "Installed", Kind::Flag), column("isRequired", "Required", Kind::Flag), DEADLINE, SINCE, STATE, ERROR, ERROR_SYMBOL, ID];

    "compliance-6", "Compliance 6 - Specific software update states", Compliance,
    "How many clients are in each state of an update.",
    [UPDATE, COLLECTION], STATE_COUNTS, "compliance-8";

    "compliance-7", "Compliance 7 - Clients in a compliance state for an update list", Compliance,
    "Who has everything of a list, who lacks how many of its updates, and who has not said, with the reason.",
    [LIST_OR, OR_DEPLOYMENT, COLLECTION, may("state", "compliant, non-compliant or unknown; none: all"), may("missing", "just so many updates are missing")],
    &[NAME, STATE, column("required", "Missing", Kind::Count), INSTALLED, NOT_REQUIRED, UNKNOWN, FAILED, REASON, CONTACT, SCANNED, ADDRESS, AGENT, SYSTEM, CLIENT_ID],
    "compliance-5";

    "compliance-8", "Compliance 8 - Clients in a compliance state for an update", Compliance,
    "Who requires an update, has it, does not need it, or has not said, with the reason.",
    [UPDATE, COLLECTION, must("state", "required, installed, not-required or unknown")],
    &[NAME, STATE, SINCE, column("enforcement", "Enforcement", Kind::Text), REASON, CONTACT, SCANNED, ADDRESS, AGENT, SYSTEM, CLIENT_ID],
    "compliance-5";

    "compliance-9", "Compliance 9 - Overall health and compliance", Compliance,
    "The updates of a list, with the clients that were heard of and scanned lately.",
    [LIST, COLLECTION, may("days", "a client is healthy that scanned within so many days; default 7")],
    &[VENDOR_OF, wide("product", "Product", Kind::Text), CLASS, BULLETIN, ARTICLE, wide("severity", "Severity", Kind::Text), TITLE, TOTAL, column("healthy", "Healthy", Kind::Count), column("compliant", "Compliant", Kind::Count), column("notCompliant", "Not compliant", Kind::Count), UNKNOWN, COMPLIANT, ID],
    "compliance-6";

    "compliance-10", "Compliance 10 - Clients by degree of compliance", Compliance,
    "How many clients lack how many updates of a list or of a deployment. (A report of ours.)",
    [LIST_OR, OR_DEPLOYMENT, COLLECTION],
    &[STATE, column("missing", "Missing updates", Kind::Count), CLIENTS, PERCENT], "compliance-7";

    "management-1", "Management 1 - Deployments of an update list", Management,
    "The deployments that have every update of a list.",
    [LIST], DEPLOYMENTS, "management-3";

    "management-2", "Management 2 - Updates required but not deployed", Management,
    "What some client of a collection requires and no deployment to that collection has.",
    [NEEDED_COLLECTION, VENDOR, CLASSIFICATION],
    &[ARTICLE, BULLETIN, TITLE, REQUIRED, PERCENT, column("posted", "Posted", Kind::Instant), ID], "compliance-6";

    "management-3", "Management 3 - Updates in a deployment", Management,
    "The updates of a deployment, and how many of the clients it reaches have each.",
    [DEPLOYMENT], &[BULLETIN, ARTICLE, TITLE, INSTALLED, REQUIRED, NOT_REQUIRED, UNKNOWN, FAILED, PENDING, ID], "states-5";

    "management-4", "Management 4 - Deployments that target a collection", Management,
    "The deployments to a collection.",
    [NEEDED_COLLECTION], DEPLOYMENTS, "management-3";

    "management-5", "Management 5 - Deployments that target a client", Management,
    "The deployments that reach a client.",
    [CLIENT], DEPLOYMENTS, "management-3";

    "management-6", "Management 6 - Deployments that contain an update", Management,
    "The deployments that have an update.",
    [UPDATE], DEPLOYMENTS, "management-3";

    "management-7", "Management 7 - Updates in a deployment missing content", Management,
    "The updates of a deployment that some client requires and of which no distribution point has every file.",
    [DEPLOYMENT], &[ARTICLE, BULLETIN, TITLE, REQUIRED, PERCENT, column("files", "Missing files", Kind::Count), ID], "management-8";

    "management-8", "Management 8 - Clients missing content", Management,
    "The clients that wait for the content of an update, or could not fetch it.",
    [DEPLOYMENT, UPDATE], CLIENT_STATE, "compliance-5";

    "states-1", "States 1 - Enforcement states for a deployment", States,
    "How many of the clients that a deployment reaches are in each state.",
    [DEPLOYMENT], STATE_COUNTS, "states-4";

    "states-2", "States 2 - Evaluation states for a deployment", States,
    "How many of the clients that a deployment reaches have evaluated it.",
    [DEPLOYMENT], STATE_COUNTS, "states-4";

    "states-3", "States 3 - States for a deployment and client", States,
    "What a client says of each update of a deployment.",
    [DEPLOYMENT, CLIENT], &[ARTICLE, BULLETIN, TITLE, STATE, SINCE, ERROR, ERROR_SYMBOL, MESSAGE, ID];

    "states-4", "States 4 - Clients in a specific state for a deployment", States,
    "Who is in a state, since when, with which error.",
    [DEPLOYMENT, must("state", "a state of report states-1 or states-2, by its name or number")], CLIENT_STATE, "states-3";

    "states-5", "States 5 - States for an update in a deployment", States,
    "How many of the clients that a deployment reaches are in each state of one of its updates.",
    [DEPLOYMENT, UPDATE], STATE_COUNTS, "states-6";

    "states-6", "States 6 - Clients in a specific enforcement state for an update", States,
    "Who is in a state of an update, with which error.",
    [DEPLOYMENT, UPDATE, must("state", "a state of report states-5, by its name or number")], CLIENT_STATE, "states-3";

    "scan-1", "Scan 1 - Last scan states by collection", Scan,
    "How the last scans of a collection's clients went.",
    [NEEDED_COLLECTION], STATE_COUNTS, "scan-3";

    "scan-2", "Scan 2 - Last scan states by site", Scan,
    "How the last scans of all clients went.",
    [], STATE_COUNTS, "scan-4";

    "scan-3", "Scan 3 - Clients of a collection reporting a specific scan state", Scan,
    "Whose last scan ended so, when, with which error.",
    [NEEDED_COLLECTION, must("state", "a state of report scan-1, by its name or number")], SCAN_STATE, "compliance-5";

    "scan-4", "Scan 4 - Clients of the site reporting a specific scan state", Scan,
    "Whose last scan ended so, when, with which error.",
    [must("state", "a state of report scan-2, by its name or number")], SCAN_STATE, "compliance-5";

    "troubleshooting-1", "Troubleshooting 1 - Scan errors", Troubleshooting,
    "The errors of scans, the most frequent first.",
    [COLLECTION], ERRORS, "troubleshooting-3";

    "troubleshooting-2", "Troubleshooting 2 - Deployment errors", Troubleshooting,
    "The errors of a deployment, the most frequent first.",
    [DEPLOYMENT], ERRORS, "troubleshooting-4";

    "troubleshooting-3", "Troubleshooting 3 - Clients failing with a specific scan error", Troubleshooting,
    "Whose scan fails so.",
    [COLLECTION, CODE, SYMBOL], SCAN_STATE, "compliance-5";

    "troubleshooting-4", "Troubleshooting 4 - Clients failing with a specific deployment error", Troubleshooting,
    "On whom a deployment fails so.",
    [DEPLOYMENT, CODE, SYMBOL], CLIENT_STATE, "states-3";

    "troubleshooting-5", "Troubleshooting 5 - Most frequent errors", Troubleshooting,
    "The errors of all scans and deployments, the most frequent first. (A report of ours.)",
    [COLLECTION], &[column("of", "Of", Kind::Text), ERROR, ERROR_SYMBOL, CLIENTS, PERCENT, MESSAGE];

    "troubleshooting-6", "Troubleshooting 6 - Problems by client", Troubleshooting,
    "Each client that fails with all that fails on it, those with most problems first. (A report of ours.)",
    [COLLECTION],
    &[NAME, column("problems", "Problems", Kind::Count), column("of", "Of", Kind::Text), ERROR, ERROR_SYMBOL, SINCE, MESSAGE, CLIENT_ID], "compliance-5";

    "distribution-1", "Distribution 1 - Content on distribution points", Distribution,
    "Which files each distribution point shall have, and has. (A report of ours: the field's are not published.)",
    [],
    &[column("point", "Distribution point", Kind::Text), column("wanted", "Files", Kind::Count), column("present", "Present", Kind::Count), FAILED, column("bytesWanted", "Bytes", Kind::Count), column("bytesPresent", "Bytes present", Kind::Count), PERCENT, MESSAGE];

    "clients-1", "Clients 1 - Agent versions", Clients,
    "How many clients run which version of the agent on which system. (A report of ours.)",
    [COLLECTION], &[column("agentVersion", "Agent", Kind::Text), column("system", "System", Kind::Text), CLIENTS, PERCENT], "clients-2";

    "clients-2", "Clients 2 - Clients with an agent version", Clients,
    "Who runs that version. (A report of ours.)",
    [COLLECTION, must("version", "version of the agent, for example 0.1.0"), may("system", "as in report clients-1")],
    &[NAME, AGENT, SYSTEM, CONTACT, SCANNED, ADDRESS, CLIENT_ID], "compliance-5";
}
