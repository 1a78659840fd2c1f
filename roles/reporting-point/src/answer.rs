//! Errors as Kubernetes says them: a `Status` with reason, code and words that kubectl shows.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use serde_json::json;

use crate::{GROUP, path::Wanted, user::User};

/// A request that is not carried out.
#[derive(Debug)]
pub(crate) struct Answer {
    code: StatusCode,
    reason: &'static str,
    message: String,
    wanted: Option<Box<Wanted>>,
    retry_after: Option<u32>,
    going_on: Option<String>,
    cause: Option<(&'static str, &'static str)>,
}

impl Answer {
    fn new(code: StatusCode, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            wanted: None,
            retry_after: None,
            going_on: None,
            cause: None,
        }
    }

    fn about(mut self, wanted: &Wanted) -> Self {
        self.wanted = Some(Box::new(wanted.clone()));
        self
    }

    pub(crate) fn unauthorized() -> Self {
        let message = "this server takes requests that come through the kube-apiserver alone: use kubectl, or the \
                       kube-apiserver's address with your token";
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", message)
    }

    pub(crate) fn forbidden(user: &User, verb: &str, wanted: &Wanted) -> Self {
        let who = &user.name;
        let message = match wanted {
            Wanted::Path(path) => format!("forbidden: User {who:?} cannot {verb} path {path:?}"),
            Wanted::Resource { namespace, resource, name, .. } => {
                let place = match namespace {
                    Some(namespace) => format!("in the namespace {namespace:?}"),
                    None => "at the cluster scope".to_owned(),
                };
                let name = name.as_ref().map(|name| format!(" {name:?}")).unwrap_or_default();
                format!(
                    "{resource}.{GROUP}{name} is forbidden: User {who:?} cannot {verb} resource {resource:?} in API \
                     group {GROUP:?} {place}"
                )
            }
        };
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(wanted)
    }

    /// What a report would tell of is not for this user.
    pub(crate) fn hidden(
        user: &User,
        wanted: &Wanted,
        plural: &str,
        name: Option<&str>,
        remedy: &str,
    ) -> Self {
        let verb = if name.is_some() { "get" } else { "list" };
        let name = name.map(|name| format!(" {name:?}")).unwrap_or_default();
        let message =
            format!("forbidden: User {:?} cannot {verb} {plural}.patchtide.dev{name}; {remedy}", user.name);
        Self::new(StatusCode::FORBIDDEN, "Forbidden", message).about(wanted)
    }

    pub(crate) fn not_found(wanted: &Wanted) -> Self {
        let message = match wanted {
            Wanted::Resource { resource, name: Some(name), .. } => {
                format!("{resource}.{GROUP} {name:?} not found")
            }
            _ => "the server could not find the requested resource".to_owned(),
        };
        Self::new(StatusCode::NOT_FOUND, "NotFound", message).about(wanted)
    }

    /// Not found, and why.
    pub(crate) fn nothing(wanted: &Wanted, why: &str) -> Self {
        let mut answer = Self::not_found(wanted);
        answer.message = format!("{}: {why}", answer.message);
        answer
    }

    pub(crate) fn method(wanted: &Wanted) -> Self {
        let message =
            "the server does not allow this method on the requested resource: it is for reading one alone";
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message).about(wanted)
    }

    pub(crate) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(crate) fn not_acceptable(message: &str) -> Self {
        Self::new(StatusCode::NOT_ACCEPTABLE, "NotAcceptable", message)
    }

    /// What is asked for is of a moment that is too long ago.
    pub(crate) fn expired(message: &str) -> Self {
        Self::new(StatusCode::GONE, "Expired", message)
    }

    /// With the token of a list that can go on all the same.
    pub(crate) fn going_on(mut self, token: String) -> Self {
        self.going_on = Some(token);
        self
    }

    /// What is asked for is of a moment that has not come: clients know this cause and ask for what there is instead.
    pub(crate) fn too_large(number: u64) -> Self {
        let message = format!(
            "Too large resource version: this site is at {number} (was it restored?); leave resourceVersion out"
        );
        let mut answer = Self::new(StatusCode::GATEWAY_TIMEOUT, "Timeout", message);
        answer.retry_after = Some(1);
        answer.cause = Some(("ResourceVersionTooLarge", "Too large resource version"));
        answer
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> StatusCode {
        self.code
    }

    pub(crate) fn busy(message: &str) -> Self {
        let mut answer = Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message);
        answer.retry_after = Some(2);
        answer
    }

    pub(crate) fn unavailable(message: &str) -> Self {
        let mut answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message);
        answer.retry_after = Some(5);
        answer
    }
}

impl Answer {
    /// As an object.
    pub(crate) fn status(&self) -> serde_json::Value {
        let mut details = serde_json::Map::new();
        if let Some(Wanted::Resource { resource, name, .. }) = self.wanted.as_deref() {
            details.insert("group".to_owned(), GROUP.into());
            details.insert("kind".to_owned(), resource.as_str().into());
            if let Some(name) = name {
                details.insert("name".to_owned(), name.as_str().into());
            }
        }
        if let Some(seconds) = self.retry_after {
            details.insert("retryAfterSeconds".to_owned(), seconds.into());
        }
        if let Some((reason, message)) = self.cause {
            details.insert("causes".to_owned(), json!([{"reason": reason, "message": message}]));
        }
        let metadata = match &self.going_on {
            Some(token) => json!({"continue": token}),
            None => json!({}),
        };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "details": details,
            "code": self.code.as_u16(),
        })
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.status().to_string()));
        *response.status_mut() = self.code;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}
