//! Answers with bytes that never change: one entity tag, single ranges, HEAD (RFC 9110 sections 13 and 14).

use std::{convert::Infallible, str::FromStr};

use axum::{
    body::Body,
    extract::{FromRequestParts, Path},
    response::Response,
};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header, request::Parts};

use crate::Refusal;

/// How a role says that it does not have what was asked for.
#[derive(Debug, Clone, Copy)]
pub struct Absent {
    /// The stable symbol.
    pub code: &'static str,
    /// What is not there.
    pub detail: &'static str,
    /// What the client can do.
    pub remedy: &'static str,
}

impl From<Absent> for Refusal {
    fn from(absent: Absent) -> Self {
        Self::new(StatusCode::NOT_FOUND, absent.code, absent.detail, absent.remedy)
    }
}

/// Extractor for routes whose last part names a file by its digest: what is asked for, and how.
#[derive(Debug)]
pub struct Asked {
    name: String,
    method: Method,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Asked {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        // A name that cannot be decoded is one that names nothing.
        let name = Path::from_request_parts(parts, state).await.map(|Path(name)| name).unwrap_or_default();
        Ok(Self { name, method: parts.method.clone(), headers: parts.headers.clone() })
    }
}

impl Asked {
    /// Answers with the bytes that `find` has for the digest `D`. A name that is no digest ends here, as absent, before
    /// `find` touches a disk.
    pub async fn answer<D: FromStr>(
        self,
        absent: Absent,
        find: impl AsyncFnOnce(D) -> Result<Option<Bytes>, Refusal>,
    ) -> Result<Response, Refusal> {
        let digest = self.name.parse().map_err(|_| absent)?;
        let bytes = find(digest).await?.ok_or(absent)?;
        respond(&self.method, &self.headers, &self.name, &bytes)
    }
}

/// Answers a GET or HEAD for `bytes`, whose entity tag is `"<digest>"`. More than one range is refused with 416: it
/// would let a short request ask for a lot of work.
pub fn respond(
    method: &Method,
    headers: &HeaderMap,
    digest: &str,
    bytes: &Bytes,
) -> Result<Response, Refusal> {
    let Ok(tag) = HeaderValue::from_str(&format!("\"{digest}\"")) else {
        return Err(Refusal::unavailable("the content's name cannot be an entity tag"));
    };
    if none_match(headers, &tag) {
        return Ok(build(StatusCode::NOT_MODIFIED, tag, None, Body::empty()));
    }
    let total = bytes.len();
    let wanted = match headers.get(header::RANGE) {
        Some(range) if *method == Method::GET && in_range(headers, &tag) => parse(range, total),
        _ => Wanted::Whole,
    };
    let (status, part, range) = match wanted {
        Wanted::Whole => (StatusCode::OK, bytes.clone(), None),
        Wanted::Part(first, last) => (
            StatusCode::PARTIAL_CONTENT,
            bytes.slice(first..=last),
            Some(format!("bytes {first}-{last}/{total}")),
        ),
        Wanted::Refused(detail) => return Ok(unsatisfiable(total, detail)),
    };
    let length = part.len();
    let body = if *method == Method::HEAD { Body::empty() } else { Body::from(part) };
    let mut response = build(status, tag, range, body);
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(response)
}

fn unsatisfiable(total: usize, detail: &str) -> Response {
    use axum::response::IntoResponse as _;
    let refusal = Refusal::new(
        StatusCode::RANGE_NOT_SATISFIABLE,
        "RANGE",
        format!("{detail}; there are {total} bytes"),
        "ask for one range inside of the file",
    );
    let mut response = refusal.into_response();
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{total}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

fn build(status: StatusCode, tag: HeaderValue, range: Option<String>, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::ETAG, tag);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=31536000, immutable, no-transform"),
    );
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if let Some(value) = range.and_then(|range| HeaderValue::from_str(&range).ok()) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    response
}

fn none_match(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers.get_all(header::IF_NONE_MATCH).iter().any(|value| {
        value == "*"
            || value.to_str().is_ok_and(|list| {
                list.split(',').any(|one| one.trim().trim_start_matches("W/").as_bytes() == tag.as_bytes())
            })
    })
}

/// Whether a range applies: no `If-Range`, or one with our strong tag. A date never matches: there is none.
fn in_range(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    headers.get(header::IF_RANGE).is_none_or(|value| value == tag)
}

enum Wanted {
    Whole,
    /// First and last byte, both inside.
    Part(usize, usize),
    Refused(&'static str),
}

fn parse(value: &HeaderValue, total: usize) -> Wanted {
    const MALFORMED: &str = "the range is malformed";
    const OUTSIDE: &str = "the range is outside of the file";
    let Ok(text) = value.to_str() else { return Wanted::Refused(MALFORMED) };
    // Another unit is ignored, as the standard says.
    let Some(range) = text.strip_prefix("bytes=") else { return Wanted::Whole };
    if range.contains(',') {
        return Wanted::Refused("more than one range");
    }
    let Some((first, last)) = range.trim().split_once('-') else { return Wanted::Refused(MALFORMED) };
    let number = |text: &str| {
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()))
            // More digits than fit are simply beyond every end.
            .then(|| text.parse::<usize>().unwrap_or(usize::MAX))
    };
    match (first, last, number(first), number(last)) {
        ("", _, None, Some(0)) => Wanted::Refused(OUTSIDE),
        ("", _, None, Some(_)) if total == 0 => Wanted::Refused(OUTSIDE),
        ("", _, None, Some(suffix)) => Wanted::Part(total.saturating_sub(suffix), total - 1),
        (_, "", Some(first), None) if first < total => Wanted::Part(first, total - 1),
        (_, _, Some(first), Some(last)) if first <= last && first < total => {
            Wanted::Part(first, last.min(total - 1))
        }
        (_, "", Some(_), None) | (_, _, Some(_), Some(_)) => Wanted::Refused(OUTSIDE),
        _ => Wanted::Refused(MALFORMED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(method: &Method, pairs: &[(&str, &str)]) -> (StatusCode, Response) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(http::HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        let response = respond(method, &headers, "abc", &Bytes::from_static(b"0123456789")).unwrap();
        (response.status(), response)
    }

    #[test]
    fn ranges_follow_the_standard_and_never_multiply() {
        for (range, status, content_range) in [
            ("bytes=0-0", 206, Some("bytes 0-0/10")),
            ("bytes=2-5", 206, Some("bytes 2-5/10")),
            ("bytes=5-", 206, Some("bytes 5-9/10")),
            ("bytes=-3", 206, Some("bytes 7-9/10")),
            ("bytes=-99", 206, Some("bytes 0-9/10")),
            ("bytes=8-99999999999999999999999", 206, Some("bytes 8-9/10")),
            ("bytes=10-", 416, Some("bytes */10")),
            ("bytes=99999999999999999999999-", 416, Some("bytes */10")),
            ("bytes=5-2", 416, Some("bytes */10")),
            ("bytes=-0", 416, Some("bytes */10")),
            ("bytes=0-,0-", 416, Some("bytes */10")),
            ("bytes=", 416, Some("bytes */10")),
            ("bytes=-", 416, Some("bytes */10")),
            ("bytes=+1-2", 416, Some("bytes */10")),
            ("bytes=a-b", 416, Some("bytes */10")),
            ("lines=1-2", 200, None),
        ] {
            let (got, response) = ask(&Method::GET, &[("range", range)]);
            assert_eq!(got.as_u16(), status, "{range}");
            let got = response.headers().get("content-range").map(|v| v.to_str().unwrap());
            assert_eq!(got, content_range, "{range}");
        }
    }

    #[test]
    fn validators_decide_before_ranges() {
        assert_eq!(ask(&Method::GET, &[("if-none-match", "\"x\", W/\"abc\"")]).0, 304);
        assert_eq!(ask(&Method::HEAD, &[("if-none-match", "*")]).0, 304);
        assert_eq!(ask(&Method::GET, &[("if-none-match", "\"abcd\"")]).0, 200);
        assert_eq!(ask(&Method::GET, &[("range", "bytes=1-2"), ("if-range", "\"abc\"")]).0, 206);
        assert_eq!(ask(&Method::GET, &[("range", "bytes=1-2"), ("if-range", "W/\"abc\"")]).0, 200);
        let (status, response) = ask(&Method::HEAD, &[("range", "bytes=1-2")]);
        assert_eq!((status.as_u16(), response.headers()["content-length"].to_str().unwrap()), (200, "10"));
    }

    #[test]
    fn an_empty_file_has_no_range() {
        let mut headers = HeaderMap::new();
        headers.insert("range", "bytes=-1".parse().unwrap());
        let response = respond(&Method::GET, &headers, "abc", &Bytes::new()).unwrap();
        assert_eq!(response.status(), 416);
    }
}
