//! Who becomes a client. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;
use jiff::Timestamp;
use patchtide_crds::site::{Approval, ApprovalMode, TokenUse};
use patchtide_model::Digest;
use patchtide_store::clients::EnrolmentRow;

/// A token that the Site names, as its Secret has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Name in the Site.
    pub name: String,
    /// How often it may be used.
    pub usage: TokenUse,
    /// When it ends.
    pub expires: Option<Timestamp>,
    /// A one-time token that was used before.
    pub used: bool,
    /// Collection of which its machines become direct members.
    pub collection: Option<String>,
}

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Becomes a client; a one-time token is used up by it.
    Approve {
        /// Digest of the token to be used up.
        consume: Option<Digest>,
    },
    /// Waits for a person.
    Wait,
    /// Is told no, and why.
    Refuse(String),
}

/// Decides one request. `tokens_complete` is false while a Secret with tokens is missing: then an unknown token may
/// still become known.
pub fn decide(
    request: &EnrolmentRow,
    approval: &Approval,
    tokens: &BTreeMap<Digest, Token>,
    tokens_complete: bool,
    by_hand: &[&str],
    now: Timestamp,
) -> Decision {
    let id = request.id.to_string();
    let named = by_hand.iter().any(|word| word.len() >= 8 && id.starts_with(&word.to_ascii_lowercase()));
    let token = request.token_digest.and_then(|digest| tokens.get(&digest).map(|token| (digest, token)));
    if named {
        let consume = token.filter(|(_, token)| token.usage == TokenUse::OneTime && !token.used);
        return Decision::Approve { consume: consume.map(|(digest, _)| digest) };
    }
    let Some((digest, token)) = token else {
        if !tokens_complete {
            return Decision::Wait;
        }
        return Decision::Refuse(if request.token_digest.is_some() {
            "the token is not one of this site: ask for the enrolment bundle of this site".to_owned()
        } else {
            "this site takes requests with a token only: put one into the enrolment bundle".to_owned()
        });
    };
    if token.expires.is_some_and(|expires| now >= expires) {
        return Decision::Refuse(format!("token {} has ended: ask for a new one", token.name));
    }
    if token.used {
        return Decision::Refuse(format!(
            "a token of {} is good for one machine and was used: ask for another one",
            token.name
        ));
    }
    let consume = (token.usage == TokenUse::OneTime).then_some(digest);
    let by_token = approval.tokens.is_empty() || approval.tokens.contains(&token.usage);
    let by_network =
        approval.cidrs.is_empty() || request.address.is_some_and(|address| within(&approval.cidrs, address));
    let rules = !approval.tokens.is_empty() || !approval.cidrs.is_empty();
    if approval.mode == ApprovalMode::Automatic && rules && by_token && by_network {
        Decision::Approve { consume }
    } else {
        Decision::Wait
    }
}

/// Whether one of the networks contains the address. What is no network contains nothing.
fn within(cidrs: &[String], address: IpAddr) -> bool {
    let address = address.to_canonical();
    cidrs.iter().filter_map(|cidr| cidr.parse::<IpNet>().ok()).any(|network| network.contains(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(token: Option<&str>, address: &str) -> EnrolmentRow {
        EnrolmentRow {
            id: Digest::of(b"key"),
            csr_pem: String::new(),
            token_digest: token.map(|token| Digest::of(token.as_bytes())),
            name: "web1".into(),
            facts: BTreeMap::new(),
            address: Some(address.parse().unwrap()),
            requested_at: Timestamp::UNIX_EPOCH,
        }
    }

    fn tokens(usage: TokenUse, used: bool) -> BTreeMap<Digest, Token> {
        let token = Token {
            name: "t".into(),
            usage,
            expires: Some(Timestamp::from_second(100).unwrap()),
            used,
            collection: None,
        };
        BTreeMap::from([(Digest::of(b"secret"), token)])
    }

    fn approval(yaml: &str) -> Approval {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn rules_approve_and_everything_else_waits() {
        let automatic = approval("{mode: Automatic, tokens: [Site], cidrs: [10.1.0.0/16]}");
        let site = tokens(TokenUse::Site, false);
        let decide = |request: &EnrolmentRow, approval: &Approval, tokens: &BTreeMap<Digest, Token>| {
            decide(request, approval, tokens, true, &[], at(1))
        };
        let good = request(Some("secret"), "10.1.2.3");
        assert_eq!(decide(&good, &automatic, &site), Decision::Approve { consume: None });
        // An IPv4 client on a socket that serves both families.
        assert_eq!(
            decide(&request(Some("secret"), "::ffff:10.1.2.3"), &automatic, &site),
            Decision::Approve { consume: None }
        );
        assert_eq!(decide(&request(Some("secret"), "10.2.2.3"), &automatic, &site), Decision::Wait);
        assert_eq!(decide(&good, &automatic, &tokens(TokenUse::OneTime, false)), Decision::Wait);
        assert_eq!(decide(&good, &approval("{}"), &site), Decision::Wait);
    }

    #[test]
    fn a_one_time_token_is_used_up_once() {
        let automatic = approval("{mode: Automatic, tokens: [OneTime]}");
        let request = request(Some("secret"), "10.1.2.3");
        let fresh = decide(&request, &automatic, &tokens(TokenUse::OneTime, false), true, &[], at(1));
        assert_eq!(fresh, Decision::Approve { consume: Some(Digest::of(b"secret")) });
        let used = decide(&request, &automatic, &tokens(TokenUse::OneTime, true), true, &[], at(1));
        assert!(matches!(used, Decision::Refuse(_)));
        let late = decide(&request, &automatic, &tokens(TokenUse::OneTime, false), true, &[], at(100));
        assert!(matches!(late, Decision::Refuse(text) if text.contains("ended")));
    }

    #[test]
    fn no_token_is_no_enrolment_but_a_persons_word_counts() {
        let automatic = approval("{mode: Automatic, cidrs: [0.0.0.0/0]}");
        let bare = request(None, "10.1.2.3");
        let site = tokens(TokenUse::Site, false);
        assert!(matches!(decide(&bare, &automatic, &site, true, &[], at(1)), Decision::Refuse(_)));
        // Its Secret may still come.
        assert_eq!(decide(&bare, &automatic, &site, false, &[], at(1)), Decision::Wait);
        let id = bare.id.to_string();
        assert_eq!(
            decide(&bare, &automatic, &site, true, &[&id[..8]], at(1)),
            Decision::Approve { consume: None }
        );
        assert!(matches!(decide(&bare, &automatic, &site, true, &[&id[..4]], at(1)), Decision::Refuse(_)));
    }
}
