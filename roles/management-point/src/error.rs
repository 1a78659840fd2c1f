//! What a failure of the site database means to a client.

use http::StatusCode;
use patchtide_endpoint::{Refusal, standing::Standing};
use patchtide_store::StoreError;

/// The refusal for an error of the store; what only operators may know goes to the log.
pub(crate) fn refusal(what: &'static str, error: &StoreError) -> Refusal {
    let by_standing = |standing: Standing| {
        standing.check().err().unwrap_or_else(|| Refusal::unavailable("the client's standing changed"))
    };
    match error {
        StoreError::Busy { retry_after } => {
            Refusal::unavailable("the site takes in more reports than it can keep up with")
                .retry_after(retry_after.as_secs().max(1))
        }
        StoreError::UnknownClient(_) => by_standing(Standing::Unknown),
        StoreError::NotActive { state, .. } => by_standing(Standing::from(Some(*state))),
        StoreError::Limit { what, limit } => Refusal::new(
            StatusCode::TOO_MANY_REQUESTS,
            "LIMIT",
            format!("{what} would exceed {limit}"),
            "wait until some were decided on, or ask an administrator",
        )
        .retry_after(600),
        error => {
            tracing::error!(what, error = %chain(error), "the site database failed");
            Refusal::unavailable("the site database does not answer")
        }
    }
}

/// An error with its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
