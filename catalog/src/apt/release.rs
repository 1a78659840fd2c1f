//! The release of a suite: fetched, its signature checked, its dates and its identity compared with what is known.

use jiff::Timestamp;
use patchtide_model::Digest;
use patchtide_packaging::Release;

use super::error::SyncError;
use super::rules::SuiteInfo;
use super::state::SuiteState;
use super::{AptSource, DatePolicy, RunOptions};
use crate::http::{FetchError, Fetcher, Small, Validators, join, looks_html};
use crate::openpgp::{SignatureError, SignedText};

/// A release that may be believed now.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) release: Release,
    pub(super) state: SuiteState,
}

/// Answer to asking for a release.
#[derive(Debug)]
pub(super) enum Answer {
    /// The one that is known is still the newest, and may still be believed.
    Same,
    /// A release, perhaps the same again.
    Verified(Box<Verified>),
}

/// Fetches and checks the release of a suite. `ask_if_changed`: a mere "not modified" is good enough.
pub(super) async fn obtain(
    fetcher: &Fetcher,
    source: &AptSource,
    suite: &str,
    known: Option<&SuiteState>,
    ask_if_changed: bool,
    now: Timestamp,
    options: &RunOptions,
) -> Result<Answer, SyncError> {
    options.progress.change(|p| p.files_total += 1);
    let fetch_error = |source| SyncError::Fetch { what: format!("the release of {suite}"), source };
    let url = join(&source.url, &format!("dists/{suite}/InRelease")).map_err(fetch_error)?;
    let validators = match known {
        Some(known) if ask_if_changed => known.validators.clone(),
        _ => Validators::default(),
    };
    let (signed, validators, url) = match fetcher.small(&url, &validators, options.release_limit).await {
        Ok(Small::NotModified) => {
            if let Some(known) = known {
                check_age(&source.dates, suite, known.date, known.valid_until, now)?;
            }
            options.progress.change(|p| p.files += 1);
            return Ok(Answer::Same);
        }
        Ok(Small::Body { bytes, validators }) => {
            let size = bytes.len() as u64;
            options.progress.change(|p| (p.bytes, p.bytes_total) = (p.bytes + size, p.bytes_total + size));
            if looks_html(&bytes) {
                return Err(SyncError::NotIndex { url: url.to_string() });
            }
            let signed = source.keyring.verify_clearsigned(&bytes, now);
            (signed.map_err(|source| SyncError::Signature { url: url.to_string(), source })?, validators, url)
        }
        Err(FetchError::NotFound { .. }) => detached(fetcher, source, suite, now, options).await?,
        Err(error) => return Err(fetch_error(error)),
    };
    options.progress.change(|p| p.files += 1);
    let release = Release::parse(signed.text.as_bytes())
        .map_err(|source| SyncError::Release { url: url.to_string(), source })?;
    let date = release.date.unwrap_or(signed.signer.made);
    check_age(&source.dates, suite, date, release.valid_until, now)?;
    let info = SuiteInfo::of(&release);
    if !source.approvals.info_change {
        check_info(suite, known, &info)?;
    }
    if let Some(known) = known.filter(|known| date < known.date) {
        return Err(SyncError::Rollback { suite: suite.to_owned(), date, accepted: known.date });
    }
    let state = SuiteState {
        date,
        valid_until: release.valid_until,
        info,
        release: Digest::of(signed.text.as_bytes()),
        archive: source.url.to_string(),
        validators,
        signer: signed.signer.fingerprint,
    };
    Ok(Answer::Verified(Box::new(Verified { release, state })))
}

/// Archives without `InRelease`: the text and its signature are two files.
async fn detached(
    fetcher: &Fetcher,
    source: &AptSource,
    suite: &str,
    now: Timestamp,
    options: &RunOptions,
) -> Result<(SignedText, Validators, url::Url), SyncError> {
    let fetch_error = |what: &str| {
        let what = format!("{what} of {suite}");
        move |source| SyncError::Fetch { what, source }
    };
    let url = join(&source.url, &format!("dists/{suite}/Release")).map_err(fetch_error("the release"))?;
    let signature_url =
        join(&source.url, &format!("dists/{suite}/Release.gpg")).map_err(fetch_error("the signature"))?;
    let mut bodies = Vec::new();
    for (url, what) in [(&url, "the release"), (&signature_url, "the signature")] {
        match fetcher
            .small(url, &Validators::default(), options.release_limit)
            .await
            .map_err(fetch_error(what))?
        {
            Small::Body { bytes, .. } if looks_html(&bytes) => {
                return Err(SyncError::NotIndex { url: url.to_string() });
            }
            Small::Body { bytes, .. } => bodies.push(bytes),
            Small::NotModified => return Err(SyncError::Interrupted),
        }
    }
    let [body, signature] = bodies.as_slice() else { return Err(SyncError::Interrupted) };
    let signer = source
        .keyring
        .verify_detached(body, signature, now)
        .map_err(|source| SyncError::Signature { url: signature_url.to_string(), source })?;
    let text = String::from_utf8(body.clone()).map_err(|_| SyncError::Signature {
        url: url.to_string(),
        source: SignatureError::Framing("the text is not UTF-8"),
    })?;
    // Two files can be of two moments, so nothing is asked conditionally next time.
    Ok((SignedText { text, signer }, Validators::default(), url))
}

fn check_age(
    dates: &DatePolicy,
    suite: &str,
    date: Timestamp,
    valid_until: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), SyncError> {
    if date > now.saturating_add(dates.future_tolerance).unwrap_or(now) {
        return Err(SyncError::Future { suite: suite.to_owned(), date });
    }
    if dates.require_valid_until && valid_until.is_none() {
        return Err(SyncError::NoEnd { suite: suite.to_owned() });
    }
    let said = valid_until.filter(|_| dates.check_valid_until);
    let ours = dates.max_age.and_then(|age| date.checked_add(age).ok());
    match [said, ours].into_iter().flatten().min() {
        Some(until) if until < now => Err(SyncError::Expired { suite: suite.to_owned(), until }),
        _ => Ok(()),
    }
}

/// Not one suite in place of another, and no change of identity that nobody approved (reliability.md 4 #49).
fn check_info(suite: &str, known: Option<&SuiteState>, info: &SuiteInfo) -> Result<(), SyncError> {
    let changed = |field, before: Option<&str>, after: Option<&str>| SyncError::InfoChanged {
        suite: suite.to_owned(),
        field,
        before: before.unwrap_or_default().to_owned(),
        after: after.unwrap_or_default().to_owned(),
    };
    if let Some(known) = known {
        for ((field, before), (_, after)) in known.info.fields().into_iter().zip(info.fields()) {
            if before != after {
                return Err(changed(field, before, after));
            }
        }
        return Ok(());
    }
    let names = [info.codename.as_deref(), info.suite.as_deref()];
    // `buster/updates` is called `buster` inside.
    let asked = [suite, suite.split('/').next().unwrap_or(suite)];
    if names.iter().flatten().count() > 0 && !names.iter().flatten().any(|name| asked.contains(name)) {
        return Err(changed("Codename", Some(suite), info.codename.as_deref().or(info.suite.as_deref())));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    /// Bad input 109: a release counts until its last second. A synchronisation asks with the time of its start, so what
    /// ends while it runs does not end in the middle of it.
    #[test]
    fn bad_input_109_a_release_counts_to_the_second_of_its_end() {
        let until: Timestamp = "2026-11-22T03:00:00Z".parse().unwrap();
        let second = SignedDuration::from_secs(1);
        let made = until - second * 3600;
        let check = |now| check_age(&DatePolicy::default(), "bookworm", made, Some(until), now);
        assert!(check(until - second).is_ok() && check(until).is_ok());
        assert!(
            matches!(check(until + second), Err(SyncError::Expired { until: told, .. }) if told == until)
        );
        let ours = DatePolicy { max_age: Some(second * 60), ..DatePolicy::default() };
        let check = |now| check_age(&ours, "bookworm", made, Some(until), now);
        assert!(check(made + second * 60).is_ok() && check(made + second * 61).is_err());
    }
}
