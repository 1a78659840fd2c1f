//! Commands that do one thing and end.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use patchtide_controller::keys;
use patchtide_endpoint::clock;
use patchtide_protocol::bundle::Bundle;
use patchtide_reporting_point::snapshot::{Asked, Compression, Reading};
use patchtide_signer::{ServerName, Signer as _};
use tokio::sync::mpsc;

use crate::{args, kubernetes, roles};

/// `patchtide bundle`.
pub(crate) async fn bundle(arguments: args::Bundle) -> anyhow::Result<()> {
    let client = kubernetes::client(&arguments.kubernetes).await?;
    let namespace = arguments.of.namespace.as_str();
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = maps
        .get_opt(keys::BUNDLE)
        .await
        .with_context(|| format!("cannot read ConfigMap {namespace}/{}", keys::BUNDLE))?;
    let text = map.and_then(|map| map.data).and_then(|mut data| data.remove(keys::BUNDLE_KEY));
    let Some(text) = text else {
        bail!(
            "there is no ConfigMap {namespace}/{} yet: the controller publishes it when the namespace has a Site",
            keys::BUNDLE
        );
    };
    let mut bundle: Bundle = serde_json::from_str(&text).context("the published bundle cannot be read")?;
    if let Some(name) = &arguments.token_from_secret {
        bundle.token = Some(token(&Api::namespaced(client, namespace), name).await?);
    }
    let text = serde_json::to_string_pretty(&bundle).context("the bundle cannot be written as JSON")?;
    writeln!(std::io::stdout(), "{text}").context("cannot write to standard output")
}

async fn token(secrets: &Api<Secret>, name: &str) -> anyhow::Result<String> {
    let secret = secrets.get_opt(name).await.with_context(|| format!("cannot read Secret {name}"))?;
    let value = secret
        .and_then(|secret| secret.data)
        .and_then(|mut data| data.remove("token"))
        .with_context(|| format!("there is no Secret {name} with a key `token`"))?;
    let text =
        String::from_utf8(value.0).with_context(|| format!("the token in Secret {name} is not text"))?;
    // Several one-time tokens may stand one a line: the first is taken.
    text.lines()
        .map(str::trim)
        .find(|line| !line.is_empty())
        .map(str::to_owned)
        .with_context(|| format!("the token in Secret {name} is empty"))
}

/// `patchtide server-certificate`.
pub(crate) async fn server_certificate(arguments: args::ServerCertificate) -> anyhow::Result<()> {
    let client = kubernetes::client(&arguments.kubernetes).await?;
    let now = clock::system()();
    let site = &arguments.of.namespace;
    let signer = keys::ensure_signer_keys(&client, site.as_str(), site, now)
        .await
        .context("the site's keys cannot be had")?;
    let names: Vec<ServerName> = arguments.names.iter().map(|name| name.as_str().into()).collect();
    let server = signer.issue_server_certificate(&names, now)?;
    fs::create_dir_all(&arguments.out)
        .with_context(|| format!("cannot create {}", arguments.out.display()))?;
    write(&arguments.out.join("tls.key"), &server.key_pem, 0o600)?;
    write(&arguments.out.join("tls.crt"), &server.chain_pem, 0o644)?;
    write(&arguments.out.join("ca.crt"), signer.ca_pem(), 0o644)?;
    writeln!(std::io::stdout(), "valid until {}: issue the next one before", server.not_after)
        .context("cannot write to standard output")
}

fn write(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let mut file = create(path, mode)?;
    file.write_all(text.as_bytes()).with_context(|| format!("cannot write {}", path.display()))
}

fn create(path: &Path, mode: u32) -> anyhow::Result<fs::File> {
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    // The mode above is that of a new file only.
    file.set_permissions(fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot protect {}", path.display()))?;
    Ok(file)
}

/// `patchtide db`.
pub(crate) async fn database(arguments: args::Db) -> anyhow::Result<()> {
    let site = match arguments.command {
        args::DbCommand::Verify { site } => site,
        args::DbCommand::Reader { site, name } => return reader(&site, &name).await,
        args::DbCommand::Snapshot { site, out, client, no_catalogue } => {
            return snapshot(&site, &out, Asked { client, catalogue: !no_catalogue }).await;
        }
    };
    let store = roles::open_store(&site).await?;
    let of_site = store.site(&site.of.namespace);
    let counts = of_site.verify().await.context("the counts cannot be checked")?;
    let (commits, breaks) = of_site.verify_history().await.context("the history cannot be checked")?;
    store.close().await.context("the site database cannot be closed")?;
    let mut out = std::io::stdout().lock();
    let mut say = |line: String| writeln!(out, "{line}").context("cannot write to standard output");
    for count in &counts {
        say(format!("{}: kept {}, recounted {}", count.what, count.kept, count.recounted))?;
    }
    for row in &breaks {
        say(format!("the history was changed at commit {} (expected {})", row.kept, row.recounted))?;
    }
    if counts.is_empty() {
        say("every count equals a recount".to_owned())?;
    }
    if breaks.is_empty() {
        say(format!("the history is whole: {commits} commits, each chained to the one before"))?;
    }
    if counts.is_empty() && breaks.is_empty() {
        return Ok(());
    }
    bail!("{} counts differ from a recount, the history is broken in {} places", counts.len(), breaks.len());
}

async fn reader(site: &args::Site, name: &str) -> anyhow::Result<()> {
    let store = roles::open_store(site).await?;
    let views = store.grant_reader(name).await?;
    store.close().await.context("the site database cannot be closed")?;
    writeln!(
        std::io::stdout(),
        "{name} may read {views} views and no table; give it a password: ALTER ROLE {name} PASSWORD '...'"
    )
    .context("cannot write to standard output")
}

async fn snapshot(site: &args::Site, out: &Path, asked: Asked) -> anyhow::Result<()> {
    let plain = out.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("json"));
    let compression = if plain { Compression::None } else { Compression::Zstd };
    let store = roles::open_store(site).await?;
    let reading = Reading::start(&store.site(&site.of.namespace), &asked, clock::system()()).await?;
    let mut file = create(out, 0o600)?;
    let (sender, mut pieces) = mpsc::channel(4);
    let writing = tokio::spawn(async move { reading.write(compression, &sender).await });
    while let Some(piece) = pieces.recv().await {
        file.write_all(&piece?).with_context(|| format!("cannot write {}", out.display()))?;
    }
    writing.await.context("the snapshot was not finished")??;
    file.sync_all().with_context(|| format!("cannot write {}", out.display()))?;
    store.close().await.context("the site database cannot be closed")
}
