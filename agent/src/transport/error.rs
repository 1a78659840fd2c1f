//! What can go wrong between this machine and the site.

use std::{error::Error, time::Duration};

use patchtide_protocol::Problem;

/// Why a request got no usable answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The pinned certificates or keys cannot be used.
    #[error("{0}: fetch the enrolment bundle anew with `patchtide bundle`")]
    Setup(&'static str),
    /// TLS could not be set up.
    #[error("TLS cannot be set up with this machine's certificate: remove client.pem to enrol anew")]
    Tls(#[source] rustls::Error),
    /// The HTTP client could not be made.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
    /// No connection, or it broke.
    #[error("{url} cannot be reached: check the network, the address and that the role runs")]
    Unreachable {
        /// Address.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// It answers, but so slowly that nobody can wait for it.
    #[error(
        "{url} is too slow ({what}): another one is asked and what came is kept; check its load and the network"
    )]
    Slow {
        /// Address.
        url: String,
        /// How slow.
        what: String,
    },
    /// The other side's certificate is not of this site.
    #[error(
        "{url} is not a system of this site (TLS-CA): compare the bundle's ca_pem with the site's; a proxy in between is not accepted"
    )]
    NotPinned {
        /// Address.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// The other side's certificate is not valid at this machine's time.
    #[error("the certificate of {url} is not valid by this machine's clock (TLS-TIME): set the clock")]
    Clock {
        /// Address.
        url: String,
        /// Cause.
        #[source]
        source: reqwest::Error,
    },
    /// The site does not speak this agent's protocol version.
    #[error("the site does not speak this agent's protocol version: {}", words(problem.as_deref(), "update the agent"))]
    Version {
        /// Address.
        url: String,
        /// What the site said.
        problem: Option<Box<Problem>>,
    },
    /// Not now.
    #[error("{url} is busy (status {status}); it is asked again later: {}", words(problem.as_deref(), "nothing to do"))]
    Busy {
        /// Address.
        url: String,
        /// HTTP status.
        status: u16,
        /// After what time.
        retry_after: Option<Duration>,
        /// What the site said.
        problem: Option<Box<Problem>>,
    },
    /// No.
    #[error("{url} refused with status {status}: {}", words(problem.as_deref(), "see the site's log"))]
    Refused {
        /// Address.
        url: String,
        /// HTTP status.
        status: u16,
        /// What the site said.
        problem: Option<Box<Problem>>,
    },
    /// More bytes than allowed.
    #[error(
        "the answer of {url} is larger than {limit} bytes: update the agent, or tell the site's administrator"
    )]
    TooLarge {
        /// Address.
        url: String,
        /// Limit.
        limit: usize,
    },
    /// Something else answers.
    #[error("{url} answers with something that is not a site (NET-CAPTIVE): check proxies and the address")]
    NotTheSite {
        /// Address.
        url: String,
    },
    /// JSON, but not of the form that is due.
    #[error("the answer of {url} cannot be read: update the agent")]
    Form {
        /// Address.
        url: String,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}

fn words(problem: Option<&Problem>, otherwise: &str) -> String {
    problem.map_or_else(
        || otherwise.to_owned(),
        |p| format!("{} [{}]; {}", cut(&p.detail), cut(&p.code), cut(&p.remedy)),
    )
}

fn cut(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

impl TransportError {
    /// Classifies why sending or receiving failed.
    pub fn send(url: &str, source: reqwest::Error) -> Self {
        use rustls::CertificateError as E;
        let url = url.to_owned();
        match tls_cause(&source) {
            Some(rustls::Error::InvalidCertificate(
                E::NotValidYet | E::NotValidYetContext { .. } | E::Expired | E::ExpiredContext { .. },
            )) => Self::Clock { url, source },
            Some(rustls::Error::InvalidCertificate(_)) => Self::NotPinned { url, source },
            _ => Self::Unreachable { url, source },
        }
    }

    /// Whether another management point may do better.
    pub fn is_unreachable(&self) -> bool {
        // One certificate that ran out is that management point's fault, not this machine's clock's.
        matches!(
            self,
            Self::Unreachable { .. } | Self::NotPinned { .. } | Self::NotTheSite { .. } | Self::Clock { .. }
        ) || matches!(self, Self::Busy { status: 503, .. })
            || matches!(self, Self::Refused { status, .. } if *status >= 500)
    }

    /// After what time the site wants to be asked again.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// The HTTP status, when there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Version { .. } => Some(426),
            Self::Busy { status, .. } | Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// The TLS error below `error`; `io::Error` hides its inner error from `source()`.
fn tls_cause(error: &reqwest::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(current) = next {
        if let Some(found) = current.downcast_ref::<rustls::Error>() {
            return Some(found);
        }
        next = current
            .downcast_ref::<std::io::Error>()
            .and_then(|io| io.get_ref().map(|inner| inner as &(dyn Error + 'static)))
            .or_else(|| current.source());
    }
    None
}

/// An error with all its causes, for a log line, a status or a report.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}
