//! Why an Alertmanager was not told.

use patchtide_store::StoreError;

/// Why an Alertmanager was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum AlertError {
    /// The site database did not answer.
    #[error("site database")]
    Store(#[from] StoreError),
    /// The Secret cannot be read.
    #[error("alertmanager.secretRef: cannot read Secret {name}")]
    Secret {
        name: String,
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret is not there, or of no use.
    #[error("alertmanager.secretRef: Secret {name} {problem}")]
    SecretContent { name: String, problem: &'static str },
    /// No client for it.
    #[error("{url}: no connection can be set up: check the URL and ca.crt of the Secret")]
    Setup {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// No answer.
    #[error("{url} does not answer: check the URL, the network and, for https, ca.crt of the Secret")]
    Unreachable {
        url: String,
        #[source]
        source: reqwest::Error,
    },
    /// Another status than success.
    #[error("{url} answered {status}{says}: {}", remedy(*status))]
    Refused { url: String, status: u16, says: String },
    /// More than an answer may have.
    #[error(
        "{url} answered with more than {limit} bytes: lower --data.retention of the Alertmanager, which keeps silences that have ended"
    )]
    TooLong { url: String, limit: usize },
    /// Something else than the API's JSON.
    #[error("{url} did not answer as an Alertmanager with API version 2: check the URL and its path")]
    Unreadable {
        url: String,
        #[source]
        source: serde_json::Error,
    },
    /// It took too long.
    #[error("the Alertmanager answers too slowly: look at its load")]
    Slow,
}

const fn remedy(status: u16) -> &'static str {
    match status {
        401 | 403 => "put bearerToken, or username and password, into the Secret of alertmanager.secretRef",
        300..=399 => "redirects are not followed, write the URL it leads to",
        400 => "compare its clock with that of this site, and report this when they agree",
        404 => "check the URL and its path",
        429 => "it is tried again",
        _ => "look at its log; it is tried again",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_what_to_do() {
        let refused =
            |status| AlertError::Refused { url: "http://am:9093".into(), status, says: String::new() };
        assert!(refused(401).to_string().contains("bearerToken"));
        assert!(refused(302).to_string().contains("redirects are not followed"));
        assert!(refused(503).to_string().contains("tried again"));
    }
}
