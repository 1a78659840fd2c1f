//! What the compiler keeps from one run to the next: what it compiled from, the plan, and which policy each client has. A
//! run then costs what changed. It is kept as long as there is no doubt about it: after any failure, and when another
//! process stored policies or the epoch is another, the next run begins with everything. Once an hour the whole is proved
//! and compared with a full compilation.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest, SiteName, object::SiteObjects};
use patchtide_planner::{
    check::{Violation, check, check_clients},
    site::{self, Compiler, Delta, SiteInput, SitePlan},
};
use patchtide_signer::Signer;
use patchtide_store::{SiteStore, site::OfferedLines};
use tokio::time::Instant;

use super::{
    CompileError,
    arrivals::Arrivals,
    input,
    sign::{self, Signing},
    store,
};
use crate::error::chain;

/// The kept plan is compared with a full compilation this often.
const AUDIT: Duration = Duration::from_hours(1);

/// Where policies come from and go to.
#[derive(Clone, Copy)]
pub struct Ground<'a> {
    /// The site.
    pub site: &'a SiteName,
    /// Its database.
    pub store: &'a SiteStore,
    /// Its keys.
    pub signer: &'a Arc<dyn Signer>,
}

/// The policies of a site, brought up to the database run by run.
#[derive(Debug, Default)]
pub struct Policies {
    kept: Option<Kept>,
    news: News,
    arrivals: Arrivals,
}

/// The number and the body of the policy that a client has.
pub(super) type Numbers = BTreeMap<ClientId, (u64, Digest)>;

#[derive(Debug)]
struct Kept {
    compiler: Compiler,
    /// Clients are as of this change number.
    seen: u64,
    epoch: u64,
    numbers: Numbers,
    /// Clients whose verdict is proved and may be another than that of the policy they have.
    open: BTreeSet<ClientId>,
    withheld: usize,
    /// Clients whose policy is larger than agents take.
    too_large: BTreeSet<ClientId>,
    audited: Instant,
}

/// What is other than it was when somebody last took the news.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is one part of what is told")]
pub struct News {
    /// Everything may be other: there was nothing to compare with.
    pub all: bool,
    /// Some client, or what is known of it.
    pub clients: bool,
    /// Something that deployments and policies are made of, clients apart.
    pub input: bool,
    /// Something of the plan.
    pub plan: bool,
}

impl News {
    /// Whether there are any.
    pub fn any(&self) -> bool {
        *self != Self::default()
    }

    const fn add(&mut self, later: Self) {
        self.all |= later.all;
        self.clients |= later.clients;
        self.input |= later.input;
        self.plan |= later.plan;
    }
}

impl Policies {
    /// Takes in what changed and proves what follows from it. Nothing goes out before [`Self::issue`]. `now` is when files
    /// that are on their way are told of.
    pub async fn compile(
        &mut self,
        ground: Ground<'_>,
        objects: SiteObjects,
        offered: OfferedLines,
        now: Instant,
    ) -> Result<(), CompileError> {
        // Given back at the end: whatever fails in between leaves nothing that could be believed.
        let kept = self.kept.take();
        let epoch = ground.store.epoch().await.map_err(store("read the epoch"))?;
        // Before the clients: what is written in between comes again with the next run.
        let seen = ground.store.change_number().await.map_err(store("read the change number"))?;
        let kept = kept.filter(|kept| kept.epoch == epoch && kept.seen <= seen);
        let audit = kept.as_ref().is_none_or(|kept| now.duration_since(kept.audited) >= AUDIT);
        let after = kept.as_ref().filter(|_| !audit).map(|kept| kept.seen);
        let input = input::load(ground, objects, offered, after, &mut self.arrivals, now).await?;
        let numbers = match &kept {
            Some(_) => None,
            None => Some(ground.store.policy_digests().await.map_err(store("read policy numbers"))?),
        };
        // For a large site this takes a while, and others are to go on meanwhile.
        let run = move || match (kept, numbers) {
            (Some(kept), _) => kept.go_on(input, seen, audit.then_some(now)),
            (None, numbers) => Kept::begin(input, seen, epoch, numbers.unwrap_or_default(), now),
        };
        let done = tokio::task::spawn_blocking(run).await;
        let (kept, news) = done.map_err(|source| CompileError::Ended { source })??;
        self.kept = Some(kept);
        self.news.add(news);
        Ok(())
    }

    /// Whether a client may get another policy than it has.
    pub fn is_open(&self) -> bool {
        self.kept.as_ref().is_some_and(|kept| !kept.open.is_empty())
    }

    /// Signs and stores the policies that are new; how many they are.
    pub async fn issue(&mut self, ground: Ground<'_>, now: Timestamp) -> Result<usize, CompileError> {
        let Some(mut kept) = self.kept.take() else { return Ok(0) };
        let new = sign::changed(kept.compiler.plan(), &kept.open, &kept.numbers);
        let mut signing = Signing::new(ground, kept.epoch, now);
        let mut too_large = Vec::new();
        let mut count = 0;
        for portion in sign::portions(new) {
            // For a large site this takes a while, and others are to go on meanwhile.
            let run = move || signing.sign(portion).map(|signed| (signing, signed));
            let done = tokio::task::spawn_blocking(run).await;
            let (next, signed) = done.map_err(|source| CompileError::Ended { source })??;
            signing = next;
            let told = signed.policies.iter().map(|one| (one.client, (one.number, one.body_digest)));
            kept.numbers.extend(told);
            count += signed.policies.len();
            too_large.extend(signed.too_large);
            let (expected, put) = (signed.policies.len(), (signed.policies, signed.parts));
            let stored = ground.store.put_policies(put.0, put.1).await.map_err(store("store policies"))?;
            if stored != expected as u64 {
                return Err(CompileError::Overtaken);
            }
        }
        if count > 0 {
            // What no policy says any more. Left over, it costs room until the next time.
            if let Err(error) = ground.store.collect_policy_parts().await {
                tracing::warn!(error = %chain(&error), "parts of policies are not collected");
            }
        }
        kept.too_large.retain(|client| !kept.open.contains(client));
        if let Some((client, error)) = too_large.first() {
            tracing::error!(%client, clients = too_large.len(), %error, "policies that no agent takes are not sent");
            kept.too_large.extend(too_large.iter().map(|(client, _)| *client));
        }
        kept.open.clear();
        self.kept = Some(kept);
        Ok(count)
    }

    /// What is other since this was asked last.
    pub fn take_news(&mut self) -> News {
        std::mem::take(&mut self.news)
    }

    /// Clients for which no policy may go out.
    pub fn withheld(&self) -> usize {
        self.kept.as_ref().map_or(0, |kept| kept.withheld + kept.too_large.len())
    }

    /// What the last run compiled from, and to.
    pub fn last(&self) -> Option<(&SiteInput, &SitePlan)> {
        self.kept.as_ref().map(|kept| (kept.compiler.input(), kept.compiler.plan()))
    }
}

impl Kept {
    /// The first run.
    fn begin(
        input: SiteInput,
        seen: u64,
        epoch: u64,
        known: BTreeMap<ClientId, (u64, u64, Digest)>,
        now: Instant,
    ) -> Result<(Self, News), CompileError> {
        let compiler = Compiler::new(input);
        sound(&check(compiler.input(), compiler.plan()))?;
        // In another epoch everybody is told again, from the beginning.
        let numbers = known.into_iter().filter(|(_, (of, ..))| *of == epoch);
        let numbers = numbers.map(|(client, (_, number, body))| (client, (number, body))).collect();
        let open = compiler.plan().policies.keys().copied().collect();
        let withheld = compiler.plan().withheld().count();
        let too_large = BTreeSet::new();
        let kept = Self { compiler, seen, epoch, numbers, open, withheld, too_large, audited: now };
        Ok((kept, News { all: true, clients: true, input: true, plan: true }))
    }

    /// A later run. With an audit `input` has all clients, otherwise those that changed.
    fn go_on(
        mut self,
        input: SiteInput,
        seen: u64,
        audit: Option<Instant>,
    ) -> Result<(Self, News), CompileError> {
        let changes = self.compiler.changes_to(input);
        self.seen = seen;
        let mut news = News {
            all: false,
            clients: !changes.clients.is_empty(),
            input: !changes.is_clients_only(),
            plan: false,
        };
        let mut unproved = None;
        if !changes.is_empty() {
            let notes = self.compiler.plan().notes.clone();
            let touched: BTreeSet<ClientId> = changes.clients.keys().copied().collect();
            let whole = changes.objects.is_some();
            let delta = self.compiler.apply(changes);
            news.plan = delta != Delta::default() || notes != self.compiler.plan().notes;
            if news.plan {
                self.withheld = self.compiler.plan().withheld().count();
            }
            self.open.extend(&delta.verdicts);
            unproved = Some((touched, whole));
        }
        if let Some(now) = audit {
            // Proves the whole.
            self.audit()?;
            self.audited = now;
        } else if let Some((touched, whole)) = unproved {
            self.prove(touched, whole)?;
        }
        Ok((self, news))
    }

    /// Fails closed: what cannot be proved is a defect, and no policy goes out that may ignore a restriction. What an object
    /// says can concern anybody, so then the whole is proved; otherwise all that can go out, and all that is said of clients
    /// that changed.
    fn prove(&self, touched: BTreeSet<ClientId>, whole: bool) -> Result<(), CompileError> {
        let (input, plan) = (self.compiler.input(), self.compiler.plan());
        if whole {
            return sound(&check(input, plan));
        }
        let mut asked = touched;
        asked.extend(&self.open);
        // So many are proved faster together.
        if asked.len() > plan.policies.len() / 8 {
            return sound(&check(input, plan));
        }
        sound(&check_clients(input, plan, &asked, |id| self.compiler.client(id)))
    }

    /// Proves the whole, and that it is what a compilation of everything gives.
    fn audit(&self) -> Result<(), CompileError> {
        let (input, plan) = (self.compiler.input(), self.compiler.plan());
        sound(&check(input, plan))?;
        if site::compile(input) == *plan { Ok(()) } else { Err(CompileError::Strayed) }
    }
}

fn sound(violations: &[Violation]) -> Result<(), CompileError> {
    match violations.first() {
        None => Ok(()),
        Some(first) => Err(CompileError::Unsound { count: violations.len(), first: first.clone() }),
    }
}
