//! From the reporting point, through the kube-apiserver.

use std::io::Write as _;

use anyhow::{Context as _, bail};
use http_body_util::BodyExt as _;
use kube::{Client, client::Body};

use super::Wanted;

/// Largest error that is read.
const ERROR: usize = 64 * 1024;

/// A snapshot on its way, as text.
pub(super) struct Incoming {
    body: Body,
    decoder: Option<zstd::stream::write::Decoder<'static, Vec<u8>>>,
}

impl Incoming {
    pub(super) async fn open(client: &Client, namespace: &str, wanted: &Wanted) -> anyhow::Result<Self> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("catalogue", if wanted.catalogue { "true" } else { "false" });
        if let Some(client) = &wanted.client {
            query.append_pair("client", client);
        }
        let query = query.finish();
        let path =
            format!("/apis/reports.patchtide.dev/v1alpha1/namespaces/{namespace}/snapshots/current?{query}");
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, "application/json")
            .header(http::header::ACCEPT_ENCODING, "zstd")
            .body(Body::empty())
            .with_context(|| format!("{namespace:?} is not the name of a namespace"))?;
        let response = client.send(request).await.context("the cluster does not answer")?;
        let (parts, mut body) = response.into_parts();
        if !parts.status.is_success() {
            let mut text = Vec::new();
            while let Some(Ok(frame)) = body.frame().await
                && text.len() < ERROR
            {
                text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
            }
            let words = refusal(parts.status, &text, namespace);
            if wanted.client.is_some() && is_no_client(parts.status, &text) {
                return Err(NoClient(words).into());
            }
            bail!(words);
        }
        let encoding = parts.headers.get(http::header::CONTENT_ENCODING).map(http::HeaderValue::as_bytes);
        let decoder = match encoding {
            None => None,
            Some(b"zstd") => {
                Some(zstd::stream::write::Decoder::new(Vec::new()).context("nothing can be decompressed")?)
            }
            Some(other) => bail!("the answer is compressed as {}", String::from_utf8_lossy(other)),
        };
        Ok(Self { body, decoder })
    }

    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        while let Some(frame) = self.body.frame().await {
            let frame =
                frame.context("the answer ended in the middle: see the log of the reporting point")?;
            let Ok(data) = frame.into_data() else { continue };
            let Some(decoder) = &mut self.decoder else { return Ok(Some(data.to_vec())) };
            decoder.write_all(&data).context("the answer cannot be decompressed")?;
            let text = std::mem::take(decoder.get_mut());
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        if let Some(mut decoder) = self.decoder.take() {
            decoder.flush().context("the answer cannot be decompressed")?;
            let text = std::mem::take(decoder.get_mut());
            if !text.is_empty() {
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

/// The site is there, and has no client of that name or id.
#[derive(Debug)]
pub(crate) struct NoClient(String);

impl std::fmt::Display for NoClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoClient {}

fn is_no_client(status: http::StatusCode, text: &[u8]) -> bool {
    let object: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    status == http::StatusCode::NOT_FOUND
        && object["message"].as_str().is_some_and(|said| said.contains("no client of the site"))
}

/// Why there is no snapshot, in words, and what can be done.
fn refusal(status: http::StatusCode, text: &[u8], namespace: &str) -> String {
    let object: serde_json::Value = serde_json::from_slice(text).unwrap_or_default();
    let said = object["message"].as_str().map_or_else(|| format!("the answer is {status}"), str::to_owned);
    let remedy = match status.as_u16() {
        403 => format!("ask for a role in namespace {namespace} that may get snapshots of reports.patchtide.dev (view has it)"),
        404 if object["details"]["name"].is_null() => {
            return "the cluster has no reporting point: kubectl apply --server-side -k manifests/reports".to_owned()
        }
        // Somebody who is new has forgotten -n.
        404 if said.contains("no site of this name") => {
            format!("namespace {namespace} holds no site; name the site's namespace with -n")
        }
        503 => "the reporting point cannot be reached: kubectl describe apiservice v1alpha1.reports.patchtide.dev \
                says why"
            .to_owned(),
        _ => return said,
    };
    format!("{said}; {remedy}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_can_be_done() {
        let status = |code| http::StatusCode::from_u16(code).unwrap();
        let body = br#"{"message":"no","details":{"name":"current"}}"#;
        assert_eq!(refusal(status(404), body, "lab"), "no");
        assert!(refusal(status(404), br#"{"message":"no"}"#, "lab").ends_with("-k manifests/reports"));
        let none = br#"{"message":"not found: no site of this name is here","details":{"name":"current"}}"#;
        assert!(
            refusal(status(404), none, "lab")
                .ends_with("namespace lab holds no site; name the site's namespace with -n")
        );
        assert!(refusal(status(403), body, "lab").contains("namespace lab"));
        assert!(refusal(status(503), b"service unavailable", "lab").starts_with("the answer is 503"));
    }
}
