//! What libgit2 asks back during a fetch: credentials, whether the server is the one, whether to go on.

use std::{
    cell::{Cell, RefCell},
    time::Instant,
};

use git2::{CertificateCheckStatus, Cred, CredentialType, ErrorClass, ErrorCode, RemoteCallbacks};

use super::{
    super::{
        peer::{self, Expected},
        relay::Relay,
    },
    Bound, Credentials, FetchError, Limits,
};

/// One fetch.
pub(super) struct Session<'a> {
    pub(super) credentials: &'a Credentials,
    pub(super) limits: Limits,
    pub(super) deadline: Instant,
    pub(super) peer: Expected<'a>,
    /// What leads to the server, where there is a network.
    pub(super) relay: Option<&'a Relay>,
    /// Whether the server's references have come.
    pub(super) listed: Cell<bool>,
    /// What a callback found: it says more than libgit2's error.
    pub(super) refused: RefCell<Option<FetchError>>,
}

/// What libgit2 calls while it connects, and while it fetches.
pub(super) fn callbacks<'a>(session: &'a Session<'a>) -> RemoteCallbacks<'a> {
    let mut callbacks = RemoteCallbacks::new();
    let mut asked = 0;
    callbacks.credentials(move |_url, user, allowed| {
        // libgit2 asks again and again while the server refuses; two answers are all we have.
        asked += 1;
        answer(session.credentials, user, allowed, asked)
    });
    callbacks.certificate_check(move |cert, _| match peer::judge(cert, session.peer) {
        Ok(()) => Ok(CertificateCheckStatus::CertificateOk),
        Err(why) => {
            let error = git2::Error::new(ErrorCode::Certificate, ErrorClass::Callback, &why);
            session.refused.replace(Some(FetchError::Peer(why)));
            Err(error)
        }
    });
    callbacks.transfer_progress(move |progress| {
        let limits = session.limits;
        let verdict = if progress.received_bytes() > limits.bytes {
            Some(FetchError::Limit { bound: Bound::Bytes, limit: limits.bytes })
        } else if progress.total_objects() > limits.objects {
            Some(FetchError::Limit { bound: Bound::Objects, limit: limits.objects })
        } else if Instant::now() > session.deadline {
            Some(FetchError::Timeout(limits.time))
        } else {
            None
        };
        let go_on = verdict.is_none();
        if let Some(verdict) = verdict {
            session.refused.replace(Some(verdict));
        }
        go_on
    });
    callbacks
}

fn answer(
    credentials: &Credentials,
    user: Option<&str>,
    allowed: CredentialType,
    asked: u32,
) -> Result<Cred, git2::Error> {
    let refuse = |why: &str| Err(git2::Error::new(ErrorCode::Auth, ErrorClass::Callback, why));
    if asked > 2 {
        return refuse("the server refused the credentials");
    }
    if allowed.contains(CredentialType::SSH_KEY)
        && let Some(key) = &credentials.identity
    {
        return Cred::ssh_key_from_memory(user.unwrap_or("git"), None, key, credentials.password.as_deref());
    }
    if allowed.contains(CredentialType::USERNAME) {
        return Cred::username(user.unwrap_or("git"));
    }
    if allowed.contains(CredentialType::USER_PASS_PLAINTEXT)
        && let Some(password) = &credentials.password
        // The passphrase of a key is not the server's to see.
        && credentials.identity.is_none()
    {
        return Cred::userpass_plaintext(credentials.username.as_deref().unwrap_or("git"), password);
    }
    refuse("no fitting credentials were given")
}
