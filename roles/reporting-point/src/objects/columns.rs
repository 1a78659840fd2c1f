//! How instants, spans and errors stand in objects and tables.

use jiff::{SignedDuration, Timestamp};
use patchtide_model::state::StateError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

/// An error that a client reported.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Error {
    /// Published code, hexadecimal, for example `0x87D00664`.
    code: String,
    /// Short symbol, for example `PKG-HASH`.
    symbol: String,
    /// What happened and what to do.
    message: String,
    /// What a person does about it, as far as it is one of our own errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'static str>,
}

impl From<&StateError> for Error {
    fn from(error: &StateError) -> Self {
        Self {
            code: format!("0x{:08X}", error.code),
            symbol: error.symbol.clone(),
            message: error.message.clone(),
            remedy: error.failure().map(patchtide_model::state::Failure::remedy),
        }
    }
}

/// An instant as Kubernetes writes it.
pub(super) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// How long ago, as kubectl writes ages; kubectl prints what it is given.
pub(super) fn age(at: Option<Timestamp>, now: Timestamp) -> Value {
    at.map_or_else(|| "<never>".into(), |at| span(now.duration_since(at)).into())
}

/// In how long, or how long ago.
pub(super) fn until(at: Option<Timestamp>, now: Timestamp) -> Value {
    match at {
        None => "<none>".into(),
        Some(at) if at > now => format!("in {}", span(at.duration_since(now))).into(),
        Some(at) => format!("{} ago", span(now.duration_since(at))).into(),
    }
}

#[expect(clippy::match_overlapping_arm, reason = "from the shortest on, as the first that fits")]
fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        ..120 => format!("{seconds}s"),
        ..600 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        ..10_800 => format!("{minutes}m"),
        ..28_800 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        ..172_800 => format!("{hours}h"),
        ..691_200 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        ..63_072_000 => format!("{days}d"),
        _ => format!("{}y{}d", days / 365, days % 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_those_of_kubectl() {
        let of = |seconds| span(SignedDuration::from_secs(seconds));
        let all =
            [0, 119, 120, 125, 599, 660, 10_799, 10_800, 11_000, 30_000, 172_799, 172_800, 180_000, 700_000];
        let told = [
            "0s", "119s", "2m", "2m5s", "9m59s", "11m", "179m", "3h", "3h3m", "8h", "47h", "2d", "2d2h", "8d",
        ];
        assert_eq!(all.map(of), told);
        assert_eq!(of(70_000_000), "2y80d");
        let now = Timestamp::from_second(1_000_000).unwrap();
        assert_eq!(age(None, now), "<never>");
        assert_eq!(age(Some(now), now), "0s");
        assert_eq!(until(now.checked_add(SignedDuration::from_secs(3600)).ok(), now), "in 60m");
        assert_eq!(time(now), "1970-01-12T13:46:40Z");
    }
}
