//! Where a list goes on.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::answer::Answer;

/// A list that nobody goes on with for so long begins anew: what is told of its moment is too far from now.
const GOOD: SignedDuration = SignedDuration::from_mins(15);
/// Longest token, in bytes.
const LONGEST: usize = 4096;

/// How far a list is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    /// Form of this.
    v: u8,
    /// The resource version of the whole list.
    pub(super) rv: u64,
    /// Site and key of the last object that was told.
    pub(super) site: String,
    pub(super) key: String,
    /// What is listed.
    of: String,
    /// When it was given, seconds.
    at: i64,
}

impl Token {
    pub(super) fn new(rv: u64, site: &str, key: String, list: &str, now: Timestamp) -> Self {
        Self { v: 1, rv, site: site.to_owned(), key, of: digest(list), at: now.as_second() }
    }

    pub(super) fn text(&self) -> String {
        // A struct of texts and numbers is always JSON.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Reads what a client gives back for the list that it asks for now. One that is too old is answered with the same
    /// place as of `number`, as Kubernetes does: who can live with a list of two moments goes on with that.
    pub(super) fn read(text: &str, list: &str, number: u64, now: Timestamp) -> Result<Self, Answer> {
        let wrong = || Answer::bad("the continue token is none of this server: begin the list anew");
        if text.len() > LONGEST {
            return Err(wrong());
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| wrong())?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_| wrong())?;
        if token.v != 1 || token.rv == 0 || token.rv > number || token.at > now.as_second() + 60 {
            return Err(wrong());
        }
        if token.of != digest(list) {
            return Err(Answer::bad(
                "the continue token is of another list: give the namespace and the selectors of the first request",
            ));
        }
        if token.at < now.as_second() - GOOD.as_secs() {
            let fresh = Self { rv: number, at: now.as_second(), ..token };
            return Err(Answer::expired(
                "the continue token is older than 15 minutes: begin the list anew, or go on with the token in this answer \
                 and have a list of two moments",
            )
            .going_on(fresh.text()));
        }
        Ok(token)
    }
}

fn digest(list: &str) -> String {
    hex::encode(Sha256::digest(list.as_bytes()).get(..8).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_list_and_for_a_while() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let token = Token::new(7, "lab", "a\nb".to_owned(), "clients", now);
        let read = |text: &str, list: &str, number, later| {
            Token::read(text, list, number, now + SignedDuration::from_secs(later))
        };
        assert_eq!(read(&token.text(), "clients", 9, 899).unwrap(), token);
        let code = |result: Result<Token, Answer>| result.unwrap_err().code().as_u16();
        assert_eq!(code(read(&token.text(), "others", 9, 0)), 400);
        assert_eq!(code(read(&token.text(), "clients", 9, 901)), 410);
        assert_eq!(code(read(&token.text(), "clients", 6, 0)), 400, "a site that was restored");
        for bad in ["", "x", "e30", "AAAA", &"A".repeat(5000)] {
            assert_eq!(code(read(bad, "clients", 9, 0)), 400, "{bad}");
        }
    }
}
