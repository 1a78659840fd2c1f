//! The site's keys in their Secret, and the enrolment bundle that machines are given.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use patchtide_model::SiteName;
use patchtide_protocol::bundle::Bundle;
use patchtide_signer::{SignerError, SignerKeys};

use crate::apply::{self, ApplyError};

/// Secret with the certificate authority and the policy key. Made at the first start, never changed after.
pub const SECRET: &str = "patchtide-signer";
/// `ConfigMap` with the enrolment bundle, without a token.
pub const BUNDLE: &str = "patchtide-bundle";
/// Its key.
pub const BUNDLE_KEY: &str = "bundle.json";

/// What can go wrong with keys and bundle.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The Secret cannot be read.
    #[error("cannot read Secret {SECRET}: give the controller get and create on secrets in its namespace")]
    Read(#[source] Box<kube::Error>),
    /// The Secret cannot be created.
    #[error("cannot create Secret {SECRET}: give the controller get and create on secrets in its namespace")]
    Create(#[source] Box<kube::Error>),
    /// The keys are of no use.
    #[error("the keys in Secret {SECRET} cannot be used")]
    Keys(#[source] SignerError),
    /// The bundle cannot be read.
    #[error("cannot read ConfigMap {BUNDLE}: give the controller get on configmaps in its namespace")]
    ReadBundle(#[source] Box<kube::Error>),
    /// The bundle cannot be written as JSON.
    #[error("the enrolment bundle cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
    /// The bundle cannot be published.
    #[error("the enrolment bundle cannot be published")]
    Publish(#[source] ApplyError),
}

/// The site's keys: read from their Secret, or made and put there when there is none. Of several processes that start
/// at once, one creates it and the others read it.
pub async fn ensure_signer_keys(
    client: &Client,
    namespace: &str,
    site: &SiteName,
    now: Timestamp,
) -> Result<SignerKeys, KeysError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = |source| KeysError::Read(Box::new(source));
    if let Some(secret) = api.get_opt(SECRET).await.map_err(read)? {
        return from_secret(secret);
    }
    let keys = SignerKeys::generate(site, now).map_err(KeysError::Keys)?;
    let data = keys.to_secret().into_iter().map(|(key, value)| (key, ByteString(value))).collect();
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    match api
        .create(
            &PostParams { field_manager: Some(apply::MANAGER.to_owned()), ..PostParams::default() },
            &secret,
        )
        .await
    {
        Ok(_) => Ok(keys),
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            from_secret(api.get(SECRET).await.map_err(read)?)
        }
        Err(source) => Err(KeysError::Create(Box::new(source))),
    }
}

fn from_secret(secret: Secret) -> Result<SignerKeys, KeysError> {
    let entries: BTreeMap<String, Vec<u8>> =
        secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect();
    SignerKeys::from_secret(&entries).map_err(KeysError::Keys)
}

/// Publishes the bundle when it differs from what is there. Returns whether it was written.
pub async fn publish_bundle(client: &Client, namespace: &str, bundle: &Bundle) -> Result<bool, KeysError> {
    let text = serde_json::to_string_pretty(bundle).map_err(KeysError::Encode)?;
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let there = api.get_opt(BUNDLE).await.map_err(|source| KeysError::ReadBundle(Box::new(source)))?;
    if there.and_then(|map| map.data).is_some_and(|data| data.get(BUNDLE_KEY) == Some(&text)) {
        return Ok(false);
    }
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some(BUNDLE.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(BUNDLE_KEY.to_owned(), text)])),
        ..ConfigMap::default()
    };
    apply::apply(client, namespace, BUNDLE, &map).await.map_err(KeysError::Publish)?;
    Ok(true)
}
