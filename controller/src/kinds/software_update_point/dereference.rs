//! Keyrings and addresses of the sources. A source whose keyring is missing fails alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use patchtide_catalog::{
    apt::{Approvals, AptSource, DatePolicy},
    openpgp::Keyring as Keys,
};
use patchtide_crds::{
    SoftwareUpdatePoint, SoftwareUpdatePointSpec, annotations,
    software_update_point::{AptSource as Wished, Keyring, UpdateRule, UpdateSource},
};

use super::{memory::Memory, rules};
use crate::{
    context::Context,
    error::{Failure, chain},
};

/// Default key of a keyring in a Secret or `ConfigMap`.
const KEY: &str = "keyring";

/// Everything a synchronisation needs.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// The spec it was read from.
    pub spec: SoftwareUpdatePointSpec,
    /// Each source, or why it cannot be used.
    pub sources: Vec<(String, Result<Box<AptSource>, String>)>,
    /// Approvals by hand that were not used before, by source.
    pub approved: BTreeMap<String, BTreeSet<String>>,
    /// Rules on single updates.
    pub update_rules: Vec<UpdateRule>,
}

/// Reads what the sources refer to.
pub async fn dereference(
    ctx: &Context,
    object: &SoftwareUpdatePoint,
    memory: &Memory,
) -> Result<Inputs, Failure> {
    let mut sources = Vec::new();
    let mut approved: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut keyrings = BTreeMap::new();
    for source in &object.spec.sources {
        let result = match &source.apt {
            Some(apt) => read(ctx, &object.spec, source, apt, &mut keyrings).await.map(|mut read| {
                let used = memory.sources.get(&source.name).map(|known| &known.approved);
                let mut approve = |annotation: &str| {
                    let words = object.annotations().get(annotation).map(String::as_str).unwrap_or_default();
                    let entry = approval(words, &source.name)
                        .map(|entry| format!("{annotation} {entry}"))
                        .filter(|entry| !used.is_some_and(|used| used.contains(entry)));
                    let given = entry.is_some();
                    approved.entry(source.name.clone()).or_default().extend(entry);
                    given
                };
                read.approvals = Approvals {
                    shrink: approve(annotations::APPROVE_SHRINK),
                    info_change: approve(annotations::APPROVE_INFO_CHANGE),
                };
                Box::new(read)
            }),
            None => Err("this kind of source is not built yet: only apt sources are synchronised".to_owned()),
        };
        sources.push((source.name.clone(), result));
    }
    Ok(Inputs {
        spec: object.spec.clone(),
        sources,
        approved,
        update_rules: object.spec.update_rules.clone(),
    })
}

/// The entry for `source` in the value of an annotation that approves: entries are separated by commas, the first word
/// of one is the source's name.
fn approval<'a>(value: &'a str, source: &str) -> Option<&'a str> {
    value.split(',').map(str::trim).find(|entry| entry.split_whitespace().next() == Some(source))
}

async fn read(
    ctx: &Context,
    spec: &SoftwareUpdatePointSpec,
    source: &UpdateSource,
    apt: &Wished,
    keyrings: &mut BTreeMap<String, Keys>,
) -> Result<AptSource, String> {
    let place = serde_json::to_string(&apt.keyring).unwrap_or_default();
    let keyring = if let Some(known) = keyrings.get(&place) {
        known.clone()
    } else {
        let bytes = keyring(ctx, &apt.keyring).await?;
        let keys = Keys::parse(&bytes).map_err(|error| format!("keyring: {}", chain(&error)))?;
        keyrings.insert(place, keys.clone());
        keys
    };
    let url = format!("{}/", apt.url.trim_end_matches('/'));
    let url = url.parse().map_err(|error| format!("apt.url: {}: {error}", apt.url))?;
    let max_age = match &apt.max_age {
        Some(text) => {
            Some(SignedDuration::from_secs(text.seconds().map_err(|error| format!("apt.maxAge: {error}"))?))
        }
        None => None,
    };
    Ok(AptSource {
        name: source.name.clone(),
        url,
        suites: apt.suites.clone(),
        components: apt.components.clone(),
        architectures: apt.architectures.iter().cloned().collect(),
        keyring,
        rules: rules::rules(spec, source),
        dates: DatePolicy { max_age, require_valid_until: apt.require_valid_until, ..DatePolicy::default() },
        approvals: Approvals::default(),
    })
}

async fn keyring(ctx: &Context, keyring: &Keyring) -> Result<Vec<u8>, String> {
    if let Some(text) = &keyring.inline {
        return Ok(text.clone().into_bytes());
    }
    if let Some(reference) = &keyring.config_map_ref {
        let key = reference.key.as_deref().unwrap_or(KEY);
        return config_map(&ctx.client, &ctx.namespace, &reference.name, key).await;
    }
    if let Some(reference) = &keyring.secret_ref {
        let key = reference.key.as_deref().unwrap_or(KEY);
        let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
        let secret = api.get_opt(&reference.name).await.map_err(|error| chain(&error))?;
        let data = secret.and_then(|secret| secret.data).and_then(|mut data| data.remove(key));
        return data.map(|bytes| bytes.0).ok_or_else(|| {
            format!("keyring: Secret {} with key {key} does not exist: create it", reference.name)
        });
    }
    let Some(path) = &keyring.keyring_file else {
        return Err("keyring: set one of inline, configMapRef, secretRef and keyringFile".to_owned());
    };
    file(ctx, path)
}

async fn config_map(client: &Client, namespace: &str, name: &str, key: &str) -> Result<Vec<u8>, String> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let map = api.get_opt(name).await.map_err(|error| chain(&error))?.unwrap_or_default();
    let binary = map.binary_data.and_then(|mut data| data.remove(key)).map(|bytes| bytes.0);
    binary
        .or_else(|| map.data.and_then(|mut data| data.remove(key)).map(String::into_bytes))
        .ok_or_else(|| format!("keyring: ConfigMap {name} with key {key} does not exist: create it"))
}

fn file(ctx: &Context, path: &str) -> Result<Vec<u8>, String> {
    let folders =
        || ctx.keyring_folders.iter().map(|f| f.display().to_string()).collect::<Vec<_>>().join(", ");
    let real = Path::new(path).canonicalize().map_err(|error| format!("keyring: {path}: {error}"))?;
    let allowed = ctx.keyring_folders.iter().filter_map(|folder| folder.canonicalize().ok());
    if !allowed.into_iter().any(|folder| real.starts_with(folder)) {
        return Err(format!(
            "keyring: {path} is outside of the folders for keyrings ({}): put it there, or into a Secret",
            folders()
        ));
    }
    std::fs::read(&real).map_err(|error| format!("keyring: {path}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_approval_is_for_the_source_it_names() {
        let value = "debian 2026-11-21, security moved";
        assert_eq!(approval(value, "security"), Some("security moved"));
        assert_eq!(approval(value, "debian"), Some("debian 2026-11-21"));
        assert_eq!(approval(value, "moved"), None);
        assert_eq!(approval("", "debian"), None);
    }
}
