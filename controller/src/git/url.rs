//! Which repository URLs are accepted (bad-input catalogue #36).

use url::Url;

/// A URL that is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("GIT-URL: spec.url: {0}")]
pub struct UrlError(String);

/// Checks a repository URL: https, ssh, or (only where the installation allows it) file.
///
/// User names are accepted for ssh alone; passwords never, because credentials belong into the Secret of
/// `spec.secretRef`. Hosts and paths must not start with `-`, so that no helper can take them for an option.
pub fn check(text: &str, allow_local: bool) -> Result<Url, UrlError> {
    let refuse = |why: &str| UrlError(why.to_owned());
    if text.len() > 2_048 || text.chars().any(char::is_control) {
        return Err(refuse("too long or with control characters; give at most 2048 plain characters"));
    }
    let url = Url::parse(text)
        .map_err(|error| refuse(&format!("{error}; write https://host/path, ssh://user@host/path")))?;
    match url.scheme() {
        "https" | "ssh" => {
            let host = url.host_str().ok_or_else(|| refuse("has no host"))?;
            if host.starts_with('-') || host.contains('%') {
                return Err(refuse("the host must not start with - nor hold a zone"));
            }
        }
        "file" if allow_local => {
            if url.host_str().is_some_and(|host| !host.is_empty()) {
                return Err(refuse("a file URL has no host: write file:///path"));
            }
        }
        "file" => {
            return Err(refuse(
                "local repositories are not allowed in this installation; start the controller with --allow-local-git or use https",
            ));
        }
        other => return Err(refuse(&format!("the scheme {other:?} is not accepted; use https or ssh"))),
    }
    if url.password().is_some() || (url.scheme() == "https" && !url.username().is_empty()) {
        return Err(refuse("must not hold credentials; put them into the Secret named by spec.secretRef"));
    }
    if url.username().starts_with('-') || url.path().trim_start_matches('/').starts_with('-') {
        return Err(refuse("user and path must not start with -"));
    }
    Ok(url)
}

/// Checks a branch or tag name by Git's own rules, so that no part of it can be read as something else (#30).
pub fn check_reference(name: &str) -> Result<(), UrlError> {
    let full = format!("refs/heads/{name}");
    if name.starts_with('-') || !git2::Reference::is_valid_name(&full) {
        return Err(UrlError(format!(
            "GIT-REF-INVALID: spec.ref: {:?} is not a branch or tag name; give the short name, such as main",
            name.chars().take(120).collect::<String>()
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_input_36_urls_are_refused_with_the_field() {
        for bad in [
            "ssh://-oProxyCommand=x/y",
            "ext::sh -c x",
            "https://user:secret@host/r",
            "https://user@host/r",
            "git://host/r",
            "file:///srv/r",
            "ssh://host/-r",
            "https://[fe80::1%25eth0]/r",
            "\u{1b}https://h/r",
            "",
        ] {
            let error = check(bad, false).expect_err(bad).to_string();
            assert!(error.starts_with("GIT-URL: spec.url: "), "{error}");
        }
        for good in ["https://host/r.git", "ssh://git@host:2222/r.git"] {
            check(good, false).expect(good);
        }
        check("file:///srv/r", true).expect("allowed by the installation");
    }

    #[test]
    fn bad_input_30_reference_names() {
        for bad in ["-x", "a/../b", "a..b", "a b", "x.lock", "", "a\u{0}b"] {
            assert!(check_reference(bad).is_err(), "{bad}");
        }
        check_reference("release/1.2").unwrap();
    }
}
