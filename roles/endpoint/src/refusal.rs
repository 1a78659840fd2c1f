use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use patchtide_protocol::Problem;

/// A refused request: answered as a problem document with code, place and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    problem: Problem,
    code: &'static str,
    retry_after: Option<u64>,
    close: bool,
}

/// The symbol of a refusal, beside its response.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RefusalCode(pub(crate) &'static str);

/// Longest detail that is sent back; what a client sent may stand in it.
const DETAIL_CHARACTERS: usize = 400;

impl Refusal {
    /// A refusal with a stable symbol, what happened, and what can be done about it. Control characters, also those
    /// that reorder text, are escaped.
    pub fn new(
        status: StatusCode,
        code: &'static str,
        detail: impl AsRef<str>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            problem: Problem {
                code: code.to_owned(),
                status: status.as_u16(),
                detail: escape(detail.as_ref()),
                remedy: remedy.into(),
            },
            code,
            retry_after: None,
            close: false,
        }
    }

    /// Asks the client to come back after so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Closes the connection after the answer: what follows on it cannot be trusted to be a request.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.close = true;
        self
    }

    /// The stable symbol.
    pub fn code(&self) -> &str {
        &self.problem.code
    }

    /// The problem as it is sent.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The site cannot answer now; nothing was accepted.
    pub fn unavailable(what: &str) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SITE-UNAVAILABLE",
            what,
            "nothing was accepted: send it again later; operators see the cause in the role's log",
        )
        .retry_after(10)
    }
}

fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(DETAIL_CHARACTERS) {
        let reorders =
            matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if c.is_control() || reorders {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.problem).unwrap_or_default();
        let mut response = Response::new(Body::from(body));
        *response.status_mut() =
            StatusCode::from_u16(self.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        response.extensions_mut().insert(RefusalCode(self.code));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
