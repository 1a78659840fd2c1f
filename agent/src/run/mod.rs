//! The agent's life: enrol, then look, decide, do, report, until it is told to stop.

mod asked;
mod books;
mod carry;
mod engine;
mod enrolling;
mod events;
mod look;
mod reports;
mod site;
mod states;

pub(crate) use events::Event;

use std::{path::PathBuf, sync::Arc, time::Duration};

use enrolling::Enrolling;
use jiff::Timestamp;
use patchtide_planner::client::limits;
use tokio::sync::{Notify, mpsc};

use crate::{
    catalogue::Catalogues,
    clock,
    control::Answer,
    download::Cache,
    identity::{self, DeviceKey, IdentityError, load_bundle},
    install::{InstallError, Site},
    policy::{PolicyError, PolicyStore},
    report::Outbox,
    restart,
    root::Root,
    state::{StateError, StateFolder},
    transport::{Transport, TransportError},
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
    /// The site took this machine in as another client.
    #[error("the site took this machine in as another client: starting anew as that one")]
    OtherClient,
    /// Another agent runs.
    #[error("another agent works on {0}: stop it first, for example with `systemctl stop patchtide-agent`")]
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
    if let Some(aside) = identity::machine::check(&state, &config.root)? {
        tracing::error!(aside = %aside.display(),
            "the state is of another machine, whose disk was copied: this one begins anew and enrols");
    }
    let bundle = load_bundle(&config.bundle)?;
    let key = Arc::new(DeviceKey::load_or_make(&state)?);
    let transport = Transport::new(&bundle)?;
    let (boot, new_boot) = restart::boot_id(&config.root)?;
    tracing::info!(site = %bundle.site, root = %config.root.folder().display(), %boot, new_boot, "agent starts");

    let (events, mut inbox) = mpsc::channel(64);
    let control = crate::control::server::listen(&config.socket, events.clone())
        .map_err(|source| RunError::Socket { path: config.socket.clone(), source })?;
    let control = Task(control);
    let mut stop = std::pin::pin!(stop);
    let enrolling = Enrolling::new(&config, &bundle, &key);
    let identity = {
        let mut identified = std::pin::pin!(enrolling.identify(&state, &transport));
        loop {
            tokio::select! {
                identity = &mut identified => break identity?,
                () = &mut stop => return Ok(()),
                event = inbox.recv() => {
                    if let Some(Event::Asked(question, peer, reply)) = event {
                        let answer = if peer.is_root() {
                            enrolling.answer(&question)
                        } else {
                            Answer::refused("this machine is not enrolled at a site yet")
                        };
                        // The one who asked may have gone.
                        let _ = reply.send(answer);
                    }
                }
            }
        }
    };
    transport.set_identity(&identity.certificate_pem, key.private_key())?;
    tracing::info!(client = %identity.client, not_after = %identity.not_after, "enrolled");

    let policies = PolicyStore::new(state.clone(), &bundle, identity.client);
    let policy = policies.load()?;
    let cache = Cache::open(&state)?;
    let woken = Arc::new(Notify::new());
    let engine = engine::Engine::new(engine::Parts {
        site: Site {
            root: config.root.clone(),
            state: state.clone(),
            cache,
            program: config.program.clone(),
            script_limit: limits::LEAST_PATIENCE,
        },
        catalogues: Catalogues::open(&state)?,
        outbox: Outbox::open(&state, clock::now())?,
        transport: transport.clone(),
        client: identity.client,
        site_name: bundle.site.clone(),
        events: events.clone(),
        boot,
        new_boot,
        policy,
        woken: Arc::clone(&woken),
    })?;
    let held = engine.policy_number();
    let tasks = [
        Task(tokio::spawn(site::poll_policy(policies, transport.clone(), held, events.clone(), woken))),
        Task(tokio::spawn(site::keep_identity(site::Keeper {
            state,
            key: Arc::clone(&key),
            identity,
            transport,
            events,
            enrolling,
            anonymous: Transport::new(&bundle)?,
        }))),
        control,
    ];
    let result = tokio::select! {
        result = engine.live(inbox) => result,
        () = &mut stop => Ok(()),
    };
    drop(tasks);
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

/// A task that ends with its owner.
struct Task(tokio::task::JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How long until `at`; nothing when it is past.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
}
