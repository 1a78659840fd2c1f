//! `kubectl patchtide report`: the reports of the reporting point, as a table, CSV or JSON.

mod print;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use kube::Client;
use serde::Deserialize;
use serde_json::Value;

use crate::action::say;

/// What is asked for.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Name of a report, for example compliance-1 or A1; none: which there are
    name: Option<String>,
    /// Update list
    #[arg(long)]
    list: Option<String>,
    /// Deployment
    #[arg(long)]
    deployment: Option<String>,
    /// Collection; none: all clients
    #[arg(long)]
    collection: Option<String>,
    /// Client, by its host name or id
    #[arg(long)]
    client: Option<String>,
    /// Update, by its identity
    #[arg(long)]
    update: Option<String>,
    /// State, by its name or number
    #[arg(long)]
    state: Option<String>,
    /// Any other parameter of the report
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    set: Vec<(String, String)>,
    /// Rows at most. Default: 10000
    #[arg(long)]
    limit: Option<usize>,
    /// Output
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// Form of the output.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Table,
    /// The same with all columns
    Wide,
    /// Comma-separated values, all columns, with a line of names
    Csv,
    /// The report as the reporting point gives it
    Json,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("give it as NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

/// A report as it comes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    title: String,
    taken_at: jiff::Timestamp,
    header: Vec<(String, Value)>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    total_rows: usize,
    drill_down: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
struct Column {
    name: String,
    title: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    wide: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    cells: Vec<Value>,
    drill_down: Option<std::collections::BTreeMap<String, String>>,
}

/// A list of reports as it comes.
#[derive(Debug, Deserialize)]
struct Index {
    items: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    metadata: Metadata,
    title: String,
    group: String,
    parameters: Vec<Parameter>,
}

#[derive(Debug, Deserialize)]
struct Parameter {
    name: String,
    required: bool,
}

impl Options {
    /// Prints it.
    pub(crate) async fn run(&self, client: &Client, namespace: &str) -> anyhow::Result<()> {
        let Some(name) = &self.name else { return self.index(client, namespace).await };
        let value = ask(client, namespace, &format!("/{name}"), &self.query()).await?;
        if self.output == Output::Json {
            say(&serde_json::to_string_pretty(&value).context("the report cannot be written as JSON")?);
            return Ok(());
        }
        let report: Report = serde_json::from_value(value)
            .context("the reporting point tells another form of a report: is it of the same version?")?;
        match self.output {
            Output::Csv => print!("{}", print::csv(&report)?),
            _ => say(print::table(&report, self.output == Output::Wide).trim_end()),
        }
        Ok(())
    }

    fn query(&self) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let named = [
            ("list", &self.list),
            ("deployment", &self.deployment),
            ("collection", &self.collection),
            ("client", &self.client),
            ("update", &self.update),
            ("state", &self.state),
        ];
        for (name, value) in named {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        for (name, value) in &self.set {
            query.append_pair(name, value);
        }
        if let Some(limit) = self.limit {
            query.append_pair("limit", &limit.to_string());
        }
        query.finish()
    }

    /// Which reports there are.
    async fn index(&self, client: &Client, namespace: &str) -> anyhow::Result<()> {
        let value = ask(client, namespace, "", "").await?;
        if self.output == Output::Json {
            say(&serde_json::to_string_pretty(&value).context("the list cannot be written as JSON")?);
            return Ok(());
        }
        let index: Index = serde_json::from_value(value)
            .context("the reporting point tells another form of reports: is it of the same version?")?;
        say(print::index(&index).trim_end());
        Ok(())
    }
}

async fn ask(client: &Client, namespace: &str, name: &str, query: &str) -> anyhow::Result<Value> {
    let mut path = format!("/apis/reports.patchtide.dev/v1alpha1/namespaces/{namespace}/reports{name}");
    if !query.is_empty() {
        path = format!("{path}?{query}");
    }
    let request = http::Request::get(path).header(http::header::ACCEPT, "application/json").body(Vec::new());
    let request = request.with_context(|| format!("{namespace:?} or {name:?} is no name"))?;
    let refused = match client.request::<Value>(request).await {
        Ok(value) => return Ok(value),
        Err(kube::Error::Api(refused)) => refused,
        Err(error) => return Err(error).context("the cluster does not answer"),
    };
    let about = refused.details.as_ref().map(|details| details.name.as_str()).unwrap_or_default();
    let (code, said) = (refused.code, refused.message);
    match code {
        404 if about.is_empty() => {
            bail!("the cluster has no reporting point: kubectl apply --server-side -k manifests/reports")
        }
        404 if said.contains("no site of this name") => {
            bail!("{said}; namespace {namespace} holds no site; name the site's namespace with -n")
        }
        403 => bail!(
            "{said}; a role in namespace {namespace} that may get reports of reports.patchtide.dev is needed (view has it)"
        ),
        503 => bail!(
            "{said}; the reporting point cannot be reached: kubectl describe apiservice v1alpha1.reports.patchtide.dev says why"
        ),
        _ => bail!(said),
    }
}
