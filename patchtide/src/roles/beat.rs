//! Signs of life: what the roles of this process say of themselves, for the status of the Site.

use std::time::Duration;

use patchtide_controller::kinds::site::status::certificate_end;
use patchtide_endpoint::Clock;
use patchtide_store::{SiteStore, roles::RoleBeat};
use tokio::{sync::watch, time::sleep};

/// Time between two signs of life; the controller takes a role for dead after two minutes without one.
const PERIOD: Duration = Duration::from_secs(30);

/// A role that listens, and the certificate that it shows at present.
pub(super) struct Listening {
    pub(super) role: &'static str,
    pub(super) address: String,
    pub(super) chain: watch::Receiver<String>,
}

/// Beats until aborted. A beat that fails is told; the next one comes anyway.
pub(super) async fn run(store: SiteStore, clock: Clock, listening: Vec<Listening>) {
    let instance = instance();
    loop {
        for one in &listening {
            let beat = RoleBeat {
                at: clock(),
                address: one.address.clone(),
                certificate_expires: certificate_end(&one.chain.borrow()),
                waiting: if one.role == "management-point" { store.waiting_reports() } else { 0 },
            };
            if let Err(error) = store.beat(one.role, &instance, &beat).await {
                tracing::warn!(role = one.role, "no sign of life could be given: {error}");
            }
        }
        sleep(PERIOD).await;
    }
}

/// Tells replicas of a role apart: the machine's or pod's name.
fn instance() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "server".to_owned() } else { name.replace('/', "-") }
}
