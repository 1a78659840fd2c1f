//! `kubectl patchtide why`: the chain of gates of a client's deployments and updates.

use std::path::Path;

use anyhow::{Context as _, bail};
use clap::ValueEnum;
use patchtide_model::{ClientId, client::Client, shared::Shared};
use patchtide_planner::{
    snapshot::Snapshot,
    why::{self, Explanation},
};

use crate::{
    action::say,
    snapshot::{self, Wanted},
};

/// Form of the output.
#[derive(Clone, Copy, Default, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// The explanation as data
    Json,
}

/// Explains from a snapshot that was kept, as of when it was taken.
pub(crate) fn from_file(
    file: &Path,
    client: &str,
    asked: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    print(&snapshot::read(file)?, client, asked, output)
}

/// Explains from the site as it is.
pub(crate) async fn live(
    cluster: &kube::Client,
    namespace: &str,
    client: &str,
    asked: Option<&str>,
    output: Output,
) -> anyhow::Result<()> {
    let of = |client: Option<String>| Wanted { client, catalogue: false, resources: false };
    let site = match snapshot::live(cluster, namespace, &of(Some(client.to_owned()))).await {
        // Perhaps it was typed a little differently: the whole site knows.
        Err(error) if error.is::<snapshot::NoClient>() => {
            snapshot::live(cluster, namespace, &of(None)).await?
        }
        site => site?,
    };
    print(&site, client, asked, output)
}

fn print(snapshot: &Snapshot, client: &str, asked: Option<&str>, output: Output) -> anyhow::Result<()> {
    let explanation = explain(snapshot, client, asked)?;
    match output {
        Output::Text => say(why::words::text(&explanation).trim_end()),
        Output::Json => say(&serde_json::to_string_pretty(&explanation)
            .context("the explanation cannot be written as JSON")?),
    }
    Ok(())
}

/// What is asked: all that reaches the client, or one deployment, or some updates.
fn explain(snapshot: &Snapshot, client: &str, asked: Option<&str>) -> anyhow::Result<Explanation> {
    let id = find(&snapshot.input.clients, client)?;
    let all = why::explain(snapshot, id, snapshot.taken_at).context("the client is gone")?;
    let Some(asked) = asked else { return Ok(why::reaching(&all)) };
    if let Some(chosen) = why::select(&all, asked) {
        return Ok(chosen);
    }
    let deployments = all.deployments.iter().map(|deployment| deployment.name.as_str());
    let names = deployments.chain(all.updates.iter().map(|update| update.id.source.as_str()));
    bail!(
        "no deployment of the site is called {asked:?}, and none names such an update{}",
        hint(asked, names)
    )
}

/// The client of that id or name.
fn find(clients: &[Shared<Client>], asked: &str) -> anyhow::Result<ClientId> {
    let lower = asked.to_lowercase();
    if let Some(known) = clients.iter().find(|known| known.id.to_string() == lower) {
        return Ok(known.id);
    }
    let named =
        |same: &dyn Fn(&Client) -> bool| clients.iter().filter(|known| same(known)).collect::<Vec<_>>();
    let exact = named(&|known| known.name == asked);
    let found = if exact.is_empty() { named(&|known| known.name.to_lowercase() == lower) } else { exact };
    match found.as_slice() {
        [one] => Ok(one.id),
        [] => bail!(
            "the site has no client {asked:?}{}",
            hint(asked, clients.iter().map(|known| known.name.as_str()))
        ),
        several => {
            let ids: Vec<String> =
                several.iter().take(10).map(|known| format!("{} ({:?})", known.id, known.state)).collect();
            bail!("{} clients are called {asked:?}; say which by its id: {}", several.len(), ids.join(", "))
        }
    }
}

/// Names like the one that was typed.
pub(crate) fn hint<'a>(asked: &str, names: impl Iterator<Item = &'a str>) -> String {
    let alike = |name: &str| {
        let close = strsim::jaro_winkler(asked, name);
        if name.contains(asked) { close.max(0.9) } else { close }
    };
    let mut near: Vec<(&str, f64)> =
        names.map(|name| (name, alike(name))).filter(|(_, close)| *close > 0.75).collect();
    near.sort_by(|(a, close), (b, other)| other.total_cmp(close).then_with(|| a.cmp(b)));
    near.dedup();
    let near: Vec<&str> = near.into_iter().take(5).map(|(name, _)| name).collect();
    if near.is_empty() { String::new() } else { format!("; there is {}", near.join(", ")) }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::{BTreeMap, BTreeSet},
        process,
    };

    use patchtide_model::{
        client::ClientState,
        deployment::{Deployment, DeploymentSettings},
        object::{Collection, SiteObjects},
    };
    use patchtide_planner::site::SiteInput;

    use super::*;

    fn client(number: u128, name: &str) -> Shared<Client> {
        Shared::new(Client {
            id: ClientId(uuid::Uuid::from_u128(number)),
            name: name.to_owned(),
            state: ClientState::Active,
            facts: BTreeMap::new(),
            address: None,
            last_contact: None,
        })
    }

    /// A site of two machines called alike and one other, and a deployment to nobody of them.
    fn site() -> Snapshot {
        let settings: DeploymentSettings = serde_json::from_value(serde_json::json!({
            "display_notifications": true, "client_local_time": false, "available": "AsSoonAsPossible",
            "deadline": "None", "suppress_restart_servers": false, "suppress_restart_workstations": false,
            "install_outside_windows": false, "restart_outside_windows": false, "disable_alerts": false,
            "alert_on_failure": false, "install_on_slow_boundary": false, "fallback_to_unprotected": true,
            "install_all_applicable": false, "wake_on_lan": false, "allow_remove": false,
            "deadline_spread": "PT0S",
        }))
        .unwrap();
        let deployment = Deployment {
            name: "march".parse().unwrap(),
            uid: "u1".to_owned(),
            generation: 1,
            collection: "web".parse().unwrap(),
            include_subcollections: false,
            suspend: false,
            settings,
            updates: vec!["debian/bookworm-security/main:openssl@3.0.22-1".parse().unwrap()],
            anchor: jiff::Timestamp::UNIX_EPOCH,
            provenance: std::collections::BTreeMap::new(),
        };
        let web = Collection {
            name: "web".parse().unwrap(),
            all: false,
            selector: vec![],
            direct_members: ["web-2".to_owned()].into(),
            include: BTreeSet::new(),
            exclude: BTreeSet::new(),
            limiting: None,
            parent: None,
        };
        let input = SiteInput {
            site: "lab".parse().unwrap(),
            objects: SiteObjects {
                collections: BTreeMap::from([(web.name.clone(), web)]),
                deployments: BTreeMap::from([(deployment.name.clone(), deployment)]),
                ..SiteObjects::default()
            },
            clients: vec![client(1, "web-1"), client(2, "db"), client(3, "db")],
            lines: vec![],
            updates: BTreeMap::new(),
            required_leaves: BTreeMap::new(),
            dependencies: vec![],
            holders: None,
        };
        Snapshot::new(input, "2026-11-21T10:00:00Z".parse().unwrap())
    }

    #[test]
    fn clients_are_found_by_name_or_id_and_faults_help() {
        let clients = site().input.clients;
        assert_eq!(find(&clients, "web-1").unwrap(), clients[0].id);
        assert_eq!(find(&clients, "WEB-1").unwrap(), clients[0].id);
        assert_eq!(find(&clients, &clients[2].id.to_string()).unwrap(), clients[2].id);
        let said = |asked: &str| find(&clients, asked).unwrap_err().to_string();
        assert_eq!(said("web-2"), "the site has no client \"web-2\"; there is web-1");
        assert!(said("db").starts_with("2 clients are called \"db\""), "{}", said("db"));
        assert_eq!(said("mainframe"), "the site has no client \"mainframe\"");
    }

    #[test]
    fn a_kept_snapshot_answers_plain_and_packed() {
        let site = self::site();
        let json = serde_json::to_vec(&site).unwrap();
        let folder = std::env::temp_dir().join(format!("patchtide-why-{}", process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for (name, bytes) in
            [("plain", json.clone()), ("packed", zstd::encode_all(json.as_slice(), 1).unwrap())]
        {
            let file = folder.join(name);
            std::fs::write(&file, bytes).unwrap();
            assert_eq!(snapshot::read(&file).unwrap(), site, "{name}");
            assert!(from_file(&file, "web-1", Some("march"), Output::Json).is_ok());
            assert!(from_file(&file, "web-9", None, Output::Text).is_err());
        }
        std::fs::remove_dir_all(folder).unwrap();
        let chosen = explain(&site, "web-1", Some("openssl")).unwrap();
        let text = why::words::text(&chosen);
        assert!(
            text.contains("not a member of Collection/web") && text.contains("spec.directMembers"),
            "{text}"
        );
        assert_eq!(explain(&site, "web-1", None).unwrap().deployments.len(), 0, "nothing reaches it");
        let missed = explain(&site, "web-1", Some("opensl")).unwrap_err().to_string();
        assert!(missed.contains("there is openssl"), "{missed}");
    }
}
