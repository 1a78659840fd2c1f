//! The agent's life: enrol, then look, decide, do, report, until it is told to stop.

mod asked;
mod books;
mod carry;
mod engine;
mod events;
mod reports;
mod site;

pub(crate) use events::Event;

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use patchtide_protocol::bundle::Bundle;
use tokio::sync::mpsc;

use crate::{
    catalogue::Catalogues,
    clock,
    download::Cache,
    facts,
    identity::{DeviceKey, Identity, IdentityError, enrol, load_bundle},
    install::{InstallError, Site},
    policy::{PolicyError, PolicyStore},
    report::Outbox,
    restart,
    root::Root,
    scan::Machine,
    state::{StateError, StateFolder},
    transport::{
        Transport, TransportError,
        error::chain,
        retry::{Backoff, dice},
    },
};

/// What the agent is started with.
#[derive(Debug, Clone)]
pub struct Config {
    /// The machine.
    pub root: Root,
    /// The enrolment bundle, as seen from the agent.
    pub bundle: PathBuf,
    /// The state folder, as seen from the agent; below the root.
    pub state: PathBuf,
    /// The control socket, as seen from the agent.
    pub socket: PathBuf,
    /// The agent's own binary, which is started as supervisor.
    pub program: PathBuf,
}

/// Why the agent ends.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Identity or bundle.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The state folder.
    #[error(transparent)]
    State(#[from] StateError),
    /// The connection cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The kept policy.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The operation that ran before.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Another agent runs.
    #[error("another agent works on {0}: stop it first")]
    Busy(PathBuf),
    /// The control socket.
    #[error("the control socket {path} cannot be opened")]
    Socket {
        /// File.
        path: PathBuf,
        /// Cause.
        #[source]
        source: std::io::Error,
    },
}

/// Looks after the machine until `stop` is completed. Whatever installation runs then goes on without the agent.
pub async fn run(config: Config, stop: impl Future<Output = ()>) -> Result<(), RunError> {
    let state = StateFolder::open(&config.state)?;
    let _only = lock(&state)?;
    let bundle = load_bundle(&config.bundle)?;
    let key = Arc::new(DeviceKey::load_or_make(&state)?);
    let transport = Transport::new(&bundle)?;
    let (boot, new_boot) = restart::boot_id(&config.root)?;
    tracing::info!(site = %bundle.site, root = %config.root.folder().display(), %boot, new_boot, "agent starts");

    let mut stop = std::pin::pin!(stop);
    let identity = tokio::select! {
        identity = identify(&config, &state, &bundle, &key, &transport) => identity?,
        () = &mut stop => return Ok(()),
    };
    transport.set_identity(&identity.certificate_pem, key.private_key())?;
    tracing::info!(client = %identity.client, not_after = %identity.not_after, "enrolled");

    let (events, inbox) = mpsc::channel(64);
    let policies = PolicyStore::new(state.clone(), &bundle, identity.client);
    let policy = policies.load()?;
    let cache = Cache::open(&state)?;
    let engine = engine::Engine::new(engine::Parts {
        site: Site {
            root: config.root.clone(),
            state: state.clone(),
            cache,
            program: config.program.clone(),
        },
        catalogues: Catalogues::open(&state)?,
        outbox: Outbox::open(&state)?,
        transport: transport.clone(),
        client: identity.client,
        site_name: bundle.site.clone(),
        events: events.clone(),
        boot,
        new_boot,
        policy,
    })?;
    let held = engine.policy_number();
    let control = crate::control::server::listen(&config.socket, events.clone())
        .map_err(|source| RunError::Socket { path: config.socket.clone(), source })?;
    let tasks = [
        tokio::spawn(site::poll_policy(policies, transport.clone(), held, events)),
        tokio::spawn(site::keep_identity(state, Arc::clone(&key), identity, transport)),
        control,
    ];
    let result = tokio::select! {
        result = engine.live(inbox) => result,
        () = &mut stop => Ok(()),
    };
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    let _ = std::fs::remove_file(&config.socket);
    tracing::info!("agent ends");
    result
}

/// Only one agent works on a state folder.
fn lock(state: &StateFolder) -> Result<std::fs::File, RunError> {
    use rustix::fs::{FlockOperation, flock};
    let path = state.path("agent.lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(|source| StateError::Write { path: path.clone(), source })?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| RunError::Busy(path))?;
    Ok(file)
}

/// The identity on disk, or a new one: asks until the site has decided.
async fn identify(
    config: &Config,
    state: &StateFolder,
    bundle: &Bundle,
    key: &DeviceKey,
    transport: &Transport,
) -> Result<Identity, RunError> {
    if let Some(identity) = Identity::load(state, key)? {
        if identity.not_after > clock::now() {
            return Ok(identity);
        }
        tracing::warn!(not_after = %identity.not_after, "the certificate ran out: asking for a new one");
    }
    let native = Machine::read(&config.root).ok().map(|machine| machine.native().to_owned());
    let facts = facts::collect(&config.root, native.as_deref());
    let name = facts::hostname(&config.root);
    let name = if name.is_empty() { "unnamed".to_owned() } else { name };
    let mut pending = Backoff::new(enrol::PENDING.0, enrol::PENDING.1);
    let mut failing = Backoff::new(Duration::from_secs(1), Duration::from_mins(2));
    let mut asked = false;
    let mut said = String::new();
    loop {
        let step = async {
            if asked {
                enrol::poll(transport, key).await
            } else {
                enrol::greet(transport, bundle).await?;
                enrol::request(transport, bundle, key, &name, &facts).await
            }
        };
        let (words, wait) = match step.await {
            Ok(enrol::Standing::Approved(identity)) if identity.not_after > clock::now() => {
                identity.save(state)?;
                return Ok(*identity);
            }
            // The old certificate once more: the site makes a new one when it is asked anew.
            Ok(enrol::Standing::Approved(_) | enrol::Standing::NotAsked) => {
                asked = false;
                ("the site does not know this machine's request".to_owned(), failing.next(None, dice()))
            }
            Ok(enrol::Standing::Pending(reason)) => {
                asked = true;
                failing.reset();
                (format!("waiting for approval: {reason}"), pending.next(None, dice()))
            }
            Err(error @ enrol::EnrolError::Refused(_)) => {
                asked = false;
                (error.to_string(), Duration::from_mins(10))
            }
            Err(error) => {
                let asked_for = match &error {
                    enrol::EnrolError::Transport(error) => error.retry_after(),
                    _ => None,
                };
                (chain(&error), failing.next(asked_for, dice()))
            }
        };
        if words != said {
            tracing::info!(enrolment = %key.enrolment_id(), "not enrolled: {words}");
            said = words;
        }
        tokio::time::sleep(wait).await;
    }
}

/// How long until `at`; nothing when it is past.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
