//! One Alertmanager: the five requests of its API (version 2) that are made, bounded in time and bytes.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use patchtide_crds::site::AlertmanagerSpec;
use patchtide_planner::site::alerts::{ALERT_NAME, CREATED_BY, SeenAlert, SeenSilence, Tell};
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode, redirect};
use serde::Deserialize;
use serde_json::{Value, json};

use super::error::AlertError;
use crate::context::Context;

/// Time for a connection to be made.
const CONNECT: Duration = Duration::from_secs(5);
/// Time for a request and its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes of an answer. Silences that have ended are kept there for five days and told each time.
const ANSWER: usize = 64 * 1024 * 1024;
/// Characters of a refusal that are told.
const SAYS: usize = 200;
/// A new silence begins this long ago, which there means now: its clock may be behind ours.
const BEFORE: SignedDuration = SignedDuration::from_hours(1);

/// How we show who we are.
#[derive(Clone)]
enum Credentials {
    None,
    Bearer(String),
    Basic { username: String, password: String },
}

/// One Alertmanager.
pub(super) struct Endpoint {
    url: String,
    client: Client,
    credentials: Credentials,
}

/// The Alertmanagers of a spec, with what its Secret holds.
pub(super) async fn endpoints(ctx: &Context, spec: &AlertmanagerSpec) -> Result<Vec<Endpoint>, AlertError> {
    let data = match &spec.secret_ref {
        None => BTreeMap::new(),
        Some(reference) => {
            let api: Api<Secret> = Api::namespaced(ctx.client.clone(), &ctx.namespace);
            let name = &reference.name;
            let found = api.get_opt(name).await;
            let found = found
                .map_err(|source| AlertError::Secret { name: name.clone(), source: Box::new(source) })?;
            let secret = found.ok_or_else(|| AlertError::SecretContent {
                name: name.clone(),
                problem: "does not exist in this namespace: create it",
            })?;
            secret.data.unwrap_or_default()
        }
    };
    let word = |key: &str| {
        let text = String::from_utf8(data.get(key)?.0.clone()).ok()?;
        Some(text.trim_end_matches(['\r', '\n']).to_owned())
    };
    let credentials = match (word("bearerToken"), word("username"), word("password")) {
        (Some(token), ..) => Credentials::Bearer(token),
        (None, Some(username), Some(password)) => Credentials::Basic { username, password },
        (None, None, None) => Credentials::None,
        (None, ..) => {
            return Err(AlertError::SecretContent {
                name: spec.secret_ref.as_ref().map(|one| one.name.clone()).unwrap_or_default(),
                problem: "has one of username and password alone: put both in, or bearerToken",
            });
        }
    };
    let authorities = data.get("ca.crt").map(|bytes| bytes.0.as_slice());
    let urls = spec.urls.iter().map(|url| url.trim_end_matches('/').to_owned());
    urls.map(|url| {
        let client = client(authorities).map_err(|source| AlertError::Setup { url: url.clone(), source })?;
        Ok(Endpoint { url, client, credentials: credentials.clone() })
    })
    .collect()
}

fn client(authorities: Option<&[u8]>) -> reqwest::Result<Client> {
    let builder = Client::builder()
        .no_proxy()
        .user_agent(concat!("patchtide/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT)
        .timeout(PATIENCE);
    match authorities {
        None => builder.build(),
        Some(pem) => builder.tls_certs_only(Certificate::from_pem_bundle(pem)?).build(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GotSilence {
    id: String,
    #[serde(default)]
    comment: String,
    #[serde(default)]
    created_by: String,
    starts_at: Timestamp,
    ends_at: Timestamp,
    status: GotStatus,
    matchers: Vec<GotMatcher>,
}

#[derive(Deserialize)]
struct GotStatus {
    state: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GotMatcher {
    name: String,
    value: String,
    is_regex: bool,
    #[serde(default = "equal")]
    is_equal: bool,
}

const fn equal() -> bool {
    true
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GotAlert {
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    ends_at: Timestamp,
}

impl Endpoint {
    /// Silences that have not ended.
    pub(super) async fn silences(&self) -> Result<Vec<SeenSilence>, AlertError> {
        let body = self.send(self.request(Method::GET, "/api/v2/silences")).await?;
        let got: Vec<GotSilence> = self.read(&body)?;
        let lasting = got.into_iter().filter(|silence| silence.status.state != "expired");
        Ok(lasting
            .map(|silence| SeenSilence {
                id: silence.id,
                created_by: silence.created_by,
                comment: silence.comment,
                matcher: match silence.matchers.as_slice() {
                    [one] if one.is_regex && one.is_equal => Some((one.name.clone(), one.value.clone())),
                    _ => None,
                },
                starts: silence.starts_at,
                ends: silence.ends_at,
            })
            .collect())
    }

    /// Alerts of our kind about this site that have not ended.
    pub(super) async fn alerts(&self, site: &str) -> Result<Vec<SeenAlert>, AlertError> {
        let filter =
            [("filter", format!("alertname=\"{ALERT_NAME}\"")), ("filter", format!("site=\"{site}\""))];
        let body = self.send(self.request(Method::GET, "/api/v2/alerts").query(&filter)).await?;
        let got: Vec<GotAlert> = self.read(&body)?;
        Ok(got
            .into_iter()
            .map(|alert| SeenAlert {
                labels: alert.labels,
                annotations: alert.annotations,
                starts: alert.starts_at,
                ends: alert.ends_at,
            })
            .collect())
    }

    /// Tells one thing.
    pub(super) async fn tell(&self, tell: &Tell, now: Timestamp) -> Result<(), AlertError> {
        let request = match tell {
            Tell::Alerts(alerts) => {
                let alerts: Vec<Value> = alerts
                    .iter()
                    .map(|alert| {
                        json!({
                            "labels": alert.labels, "annotations": alert.annotations,
                            "startsAt": alert.starts, "endsAt": alert.ends,
                        })
                    })
                    .collect();
                self.request(Method::POST, "/api/v2/alerts").json(&alerts)
            }
            Tell::Silence { renews, silence } => {
                let starts = match renews {
                    Some((_, starts)) => *starts,
                    None => now.checked_sub(BEFORE).unwrap_or(now),
                };
                let mut body = json!({
                    "matchers": [{"name": silence.label, "value": silence.value, "isRegex": true, "isEqual": true}],
                    "startsAt": starts, "endsAt": silence.ends,
                    "createdBy": CREATED_BY, "comment": silence.comment,
                });
                if let Some((id, _)) = renews {
                    body["id"] = json!(id);
                }
                self.request(Method::POST, "/api/v2/silences").json(&body)
            }
            Tell::Expire { id } => self.request(Method::DELETE, &format!("/api/v2/silence/{id}")),
        };
        match self.send(request).await {
            // It went meanwhile: the next round makes a new one, or is content.
            Err(AlertError::Refused { status: 404, .. })
                if matches!(tell, Tell::Expire { .. } | Tell::Silence { renews: Some(_), .. }) =>
            {
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.url));
        match &self.credentials {
            Credentials::None => request,
            Credentials::Bearer(token) => request.bearer_auth(token),
            Credentials::Basic { username, password } => request.basic_auth(username, Some(password)),
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Vec<u8>, AlertError> {
        let unreachable = |source: reqwest::Error| AlertError::Unreachable {
            url: self.url.clone(),
            source: source.without_url(),
        };
        let mut response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER {
                return Err(AlertError::TooLong { url: self.url.clone(), limit: ANSWER });
            }
            body.extend_from_slice(&chunk);
        }
        if status == StatusCode::OK {
            return Ok(body);
        }
        Err(AlertError::Refused { url: self.url.clone(), status: status.as_u16(), says: says(&body) })
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, body: &[u8]) -> Result<T, AlertError> {
        serde_json::from_slice(body)
            .map_err(|source| AlertError::Unreadable { url: self.url.clone(), source })
    }
}

/// What an Alertmanager says of a refusal. Anything else that answers is not quoted: the URL may lead elsewhere.
fn says(body: &[u8]) -> String {
    let text = match serde_json::from_slice(body) {
        Ok(Value::String(text)) => text,
        Ok(Value::Object(fields)) => {
            fields.get("message").and_then(Value::as_str).unwrap_or_default().to_owned()
        }
        _ => String::new(),
    };
    let text: String = text.chars().filter(|c| !c.is_control()).take(SAYS).collect();
    if text.is_empty() { text } else { format!(" ({text})") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_alertmanager_says_is_quoted() {
        assert_eq!(says(br#""silence invalid: x""#), " (silence invalid: x)");
        assert_eq!(
            says(br#"{"code":602,"message":"comment in body is required"}"#),
            " (comment in body is required)"
        );
        for other in [&b"<html>secret</html>"[..], b"", b"[1]", b"{}"] {
            assert_eq!(says(other), "");
        }
    }
}
