//! Rules that several kinds share, so that one mistake is answered by one sentence everywhere.

use kube::core::{Message, Rule};

fn rule(rule: String, message: &str) -> Rule {
    Rule { rule, message: Some(Message::Message(message.to_owned())), ..Rule::default() }
}

/// For a time of day.
pub(crate) fn time_of_day() -> Rule {
    rule(
        format!("self.matches('{}')", crate::recurrence::TIME_OF_DAY),
        "write a time of day as HH:MM from 00:00 to 23:59, in quotes, for example \"02:00\"",
    )
}

/// For a list of URLs under which clients reach a role.
pub(crate) fn https_addresses() -> Rule {
    rule(
        "self.all(a, a.matches('^https://[^/?#@ ]+(/[^?#@ ]*)?$'))".to_owned(),
        "write each address as https://host:port, without user name, query and fragment, for example https://patchtide.example:8443",
    )
}

/// For a time zone; `client_local` says whether the clients' own is one.
pub(crate) fn time_zone(client_local: bool) -> Rule {
    let (words, list) =
        if client_local { ("UTC, ClientLocal", "['UTC', 'ClientLocal']") } else { ("UTC", "['UTC']") };
    rule(
        format!("self in {list} || self.matches('^[A-Z][A-Za-z_]+(/[A-Za-z0-9_+-]+){{1,2}}$')"),
        &format!("TZ-UNKNOWN: write {words} or an IANA name with its region, for example Europe/Berlin"),
    )
}

/// For a list of updates in text form.
pub(crate) fn well_formed_updates() -> Rule {
    rule(
        format!("self.all(u, u.matches('{}'))", crate::update_list::UPDATE_ID),
        "write each update as <line>:<source>@<version>, for example debian/bookworm-security/main:openssl@3.0.22-1~deb12u2",
    )
}

/// For the URL of a source of files.
pub(crate) fn source_url(what: &str) -> Rule {
    rule(
        "self.matches('^(http|https|file)://[^ ?#@]+$')".to_owned(),
        &format!(
            "write {what} as http://, https:// or file:// URL without user name and password; credentials go into secretRef"
        ),
    )
}
