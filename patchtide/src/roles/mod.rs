//! Which roles a process runs, and with what.

mod beat;
mod figures;
mod process;
mod tls;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use patchtide_controller::{Advertise, ControllerConfig, clock::SystemClock, keys};
use patchtide_distribution_point::Names;
use patchtide_endpoint::clock;
use patchtide_model::SiteName;
use patchtide_reporting_point::Registration;
use patchtide_signer::{ServerName, Signer, SignerKeys};
use patchtide_store::{OpenOptions, Store};
use url::Url;

use crate::{args, kubernetes};
use process::Process;
use tls::Source;

/// `patchtide all`.
pub(crate) async fn all(arguments: args::All) -> anyhow::Result<()> {
    let client = kubernetes::client(&arguments.kubernetes).await?;
    let site = &arguments.site.of.namespace;
    let keys: SignerKeys = keys::ensure_signer_keys(&client, site.as_str(), site, clock::system()()).await?;
    let signer: Arc<dyn Signer> = Arc::new(keys);
    let at = |port: u16| advertised(&arguments.advertise, port);
    let mut process = Process::start(&arguments.site).await?;

    let listeners = [arguments.mp.mp_listen, arguments.dp.dp_listen, arguments.sup.sup_listen];
    let mut names = tls::names(&arguments.advertise, &listeners);
    let registration = registration(site, &arguments.rp, signer.ca_pem());
    names.push(ServerName::Dns(registration.server_name()));
    let tls = Source::Signer { signer: Arc::clone(&signer), names };
    let tls = process.tls(tls)?;
    let sup = process.software_update_point(arguments.sup.sup_listen, &tls).await?;
    let points = at(sup.port())?;
    let mp = process.management_point(arguments.mp.mp_listen, &tls, strings(&points)).await?;
    let served = if arguments.dp_name.is_empty() {
        Names::All
    } else {
        Names::These(arguments.dp_name.iter().cloned().collect())
    };
    let dp = process.distribution_point(arguments.dp.dp_listen, &tls, served).await?;
    process.reporting_point(arguments.rp.rp_listen, &tls, &client, registration).await?;
    let advertise = Advertise {
        management_points: strings(&at(mp.port())?),
        software_update_points: strings(&points),
        distribution_points: strings(&at(dp.port())?),
    };
    let config = ControllerConfig {
        client,
        namespace: site.to_string(),
        store: process.store(),
        library: process.library(),
        signer,
        clock: Arc::new(SystemClock),
        cache_dir: arguments.site.data.join("cache"),
        allow_local_git: arguments.controlling.allow_local_git,
        advertise,
        keyring_folders: keyring_folders(&arguments.controlling.keyring_folders),
        metrics: process.controller_metrics(),
        instance: arguments.controlling.instance.clone(),
    };
    process.controller(config);
    process.run().await
}

/// `patchtide controller`.
pub(crate) async fn controller(arguments: args::Controller) -> anyhow::Result<()> {
    let client = kubernetes::client(&arguments.kubernetes).await?;
    let site = &arguments.site.of.namespace;
    let keys = keys::ensure_signer_keys(&client, site.as_str(), site, clock::system()()).await?;
    let mut process = Process::start(&arguments.site).await?;
    let config = ControllerConfig {
        client,
        namespace: site.to_string(),
        store: process.store(),
        library: process.library(),
        signer: Arc::new(keys),
        clock: Arc::new(SystemClock),
        cache_dir: arguments.site.data.join("cache"),
        allow_local_git: arguments.controlling.allow_local_git,
        advertise: Advertise {
            management_points: strings(&arguments.management_point_url),
            software_update_points: strings(&arguments.points.software_update_point_url),
            distribution_points: Vec::new(),
        },
        keyring_folders: keyring_folders(&arguments.controlling.keyring_folders),
        metrics: process.controller_metrics(),
        instance: arguments.controlling.instance.clone(),
    };
    process.controller(config);
    process.run().await
}

/// `patchtide management-point`.
pub(crate) async fn management_point(arguments: args::ManagementPoint) -> anyhow::Result<()> {
    let mut process = Process::start(&arguments.site).await?;
    let tls = process.tls(Source::Files(arguments.tls))?;
    let points = strings(&arguments.points.software_update_point_url);
    process.management_point(arguments.listen.mp_listen, &tls, points).await?;
    process.follow_other_processes();
    process.run().await
}

/// `patchtide distribution-point`.
pub(crate) async fn distribution_point(arguments: args::DistributionPoint) -> anyhow::Result<()> {
    let mut process = Process::start(&arguments.site).await?;
    let tls = process.tls(Source::Files(arguments.tls))?;
    let names: BTreeSet<_> = arguments.dp_name.into_iter().collect();
    process.distribution_point(arguments.listen.dp_listen, &tls, Names::These(names)).await?;
    process.follow_other_processes();
    process.run().await
}

/// `patchtide software-update-point`.
pub(crate) async fn software_update_point(arguments: args::SoftwareUpdatePoint) -> anyhow::Result<()> {
    let mut process = Process::start(&arguments.site).await?;
    let tls = process.tls(Source::Files(arguments.tls))?;
    process.software_update_point(arguments.listen.sup_listen, &tls).await?;
    process.follow_other_processes();
    process.run().await
}

/// `patchtide reporting-point`.
pub(crate) async fn reporting_point(arguments: args::ReportingPoint) -> anyhow::Result<()> {
    let client = kubernetes::client(&arguments.kubernetes).await?;
    let mut process = Process::start(&arguments.site).await?;
    let tls = process.tls(Source::Files(arguments.tls))?;
    let registration = registration(&arguments.site.of.namespace, &arguments.listen, &tls.client_ca);
    process.reporting_point(arguments.listen.rp_listen, &tls, &client, registration).await?;
    process.run().await
}

fn registration(site: &SiteName, listen: &args::RpListen, ca_pem: &str) -> Registration {
    let (namespace, service) = (site.to_string(), listen.rp_service.to_string());
    Registration { namespace, service, ca_pem: ca_pem.to_owned() }
}

/// Opens the site database that the arguments name.
pub(crate) async fn open_store(site: &args::Site) -> anyhow::Result<Store> {
    let url = if let Some(url) = &site.database {
        url.clone()
    } else {
        let folder = std::path::absolute(&site.data)
            .with_context(|| format!("{} is not a folder", site.data.display()))?;
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        format!("sqlite://{}", folder.join("site.db").display())
    };
    Ok(Store::open(&url, &OpenOptions::default()).await?)
}

fn strings(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.as_str().trim_end_matches('/').to_owned()).collect()
}

fn keyring_folders(further: &[PathBuf]) -> Vec<PathBuf> {
    let usual = patchtide_controller::run::KEYRING_FOLDERS.iter().map(PathBuf::from);
    usual.chain(further.iter().cloned()).collect()
}

/// The advertised hosts with a role's port.
fn advertised(hosts: &[Url], port: u16) -> anyhow::Result<Vec<Url>> {
    hosts
        .iter()
        .map(|host| {
            let mut url = host.clone();
            anyhow::ensure!(
                url.scheme() == "https" && url.host().is_some() && url.port().is_none(),
                "--advertise {host}: give https:// and a host name or address, without a port"
            );
            url.set_port(Some(port)).map_err(|()| anyhow::anyhow!("{host} cannot have a port"))?;
            url.set_path("");
            Ok(url)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_advertised_with_their_ports() {
        let hosts: Vec<Url> =
            ["https://mp.example", "https://[2001:db8::1]"].iter().map(|u| u.parse().unwrap()).collect();
        assert_eq!(
            strings(&advertised(&hosts, 8443).unwrap()),
            ["https://mp.example:8443", "https://[2001:db8::1]:8443"]
        );
        for bad in ["http://mp.example", "https://mp.example:1234"] {
            let error = advertised(&[bad.parse().unwrap()], 1).unwrap_err();
            assert!(error.to_string().contains("--advertise"), "{error}");
        }
    }
}
