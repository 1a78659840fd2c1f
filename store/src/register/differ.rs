//! What has to be written so that the rows say what the register says. Only reads.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;
use patchtide_model::{ClientId, Digest, UpdateId, shared::Shared};

use super::{
    Register,
    columns::{self, COLLECTION, DEPLOYMENT, Item, Kind, LIST, Link, Numbers, PACKAGE, WINDOW, Wanted},
    keep::PORTION,
};
use crate::{
    Result, SiteStore,
    sql::{Many, Value, sql},
};

const CLIENTS: Many =
    Many { head: "SELECT uuid, id FROM client WHERE (site, uuid) IN (VALUES ", columns: 2, tail: ")" };
/// From so many clients on, the numbers of all are read at once.
const MANY: usize = 2_000;

/// What is done, in this order.
#[derive(Debug)]
pub(super) enum Step {
    /// Rows of one statement.
    Rows(Many, Vec<Value>),
    /// A statement about the rows of one object.
    Of(&'static str, i64),
}

/// From what there is to what is to be.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// What belongs together.
    pub(super) groups: Vec<Vec<Step>>,
    /// The register's revision that this is the difference to.
    pub(super) revision: i64,
    /// The last number that was given to an object before, and the one after it.
    pub(super) numbers: (i64, i64),
}

/// An object as its rows are.
#[derive(Debug)]
struct Known {
    id: i64,
    content: String,
    members: String,
    generation: i64,
    created: Timestamp,
    modified: Timestamp,
}

/// Sets of clients that were written, by their digests.
type Written<'a> = HashMap<String, &'a Shared<BTreeSet<ClientId>>>;

struct Differ<'a> {
    site: &'a SiteStore,
    difference: Difference,
    updates: HashMap<UpdateId, i64>,
    clients: HashMap<ClientId, i64>,
    all_clients: bool,
    written: Written<'a>,
    now: Timestamp,
}

impl SiteStore {
    /// What leads to `register`. `before` is what was written last, as far as that is remembered.
    pub(super) async fn register_difference(
        &self,
        register: &Register,
        before: Option<&Register>,
        now: Timestamp,
    ) -> Result<Difference> {
        let query = sql("SELECT COALESCE(r.revision, 0), n.last FROM register_number n \
                         LEFT JOIN register r ON r.site = $1 WHERE n.id = 1");
        let row = self.row("the register", query.bind(self.name().as_str())).await?;
        let (revision, last) = match row {
            Some(row) => (row.int(0)?, row.int(1)?),
            None => (0, 0),
        };
        let named = register.lists.values().flat_map(|list| &list.members);
        let named = named.chain(register.deployments.values().flat_map(|one| &one.deployment.updates));
        let named = named.chain(register.packages.values().flat_map(|package| &package.updates));
        let mut differ = Differ {
            site: self,
            difference: Difference { revision, numbers: (last, last), groups: Vec::new() },
            updates: self.update_numbers(named).await?,
            clients: HashMap::new(),
            all_clients: false,
            written: written(before),
            now,
        };
        differ.all(register).await?;
        Ok(differ.difference)
    }
}

fn written(before: Option<&Register>) -> Written<'_> {
    let Some(before) = before else { return Written::new() };
    let members = before.collections.values().map(|collection| &collection.members);
    let targets = before.deployments.values().map(|deployment| &deployment.targets);
    members.chain(targets).map(|clients| (clients.digest().to_string(), clients)).collect()
}

impl<'a> Differ<'a> {
    async fn all(&mut self, register: &'a Register) -> Result<()> {
        let wanted = register.collections.iter().map(|(name, of)| columns::collection(name, of)).collect();
        let collections = self.kind(&COLLECTION, wanted).await?;
        let wanted = register.lists.iter();
        let wanted = wanted.map(|(name, of)| columns::list(name, of, self.items(&of.members))).collect();
        let lists = self.kind(&LIST, wanted).await?;
        let wanted = register.deployments.iter().map(|(name, of)| {
            columns::deployment(name, of, self.items(&of.deployment.updates), &collections, &lists)
        });
        let wanted = wanted.collect::<Result<_>>()?;
        self.kind(&DEPLOYMENT, wanted).await?;
        let wanted = register.windows.iter().map(|(name, of)| columns::window(name, of, &collections));
        self.kind(&WINDOW, wanted.collect()).await?;
        let wanted = register.packages.iter();
        let wanted = wanted.map(|(name, of)| columns::package(name, of, self.items(&of.updates))).collect();
        self.kind(&PACKAGE, wanted).await?;
        Ok(())
    }

    /// Those that the catalogue has.
    fn items<'u>(&self, updates: impl IntoIterator<Item = &'u UpdateId>) -> BTreeSet<Item> {
        updates.into_iter().filter_map(|id| self.updates.get(id).copied()).map(Item::Number).collect()
    }

    /// All objects of a kind; their numbers.
    async fn kind(&mut self, kind: &'static Kind, wanted: Vec<Wanted<'a>>) -> Result<Numbers> {
        let rows = self.site.rows("the register", sql(kind.select).bind(self.site.name().as_str())).await?;
        let mut known = BTreeMap::new();
        for row in rows {
            let one = Known {
                id: row.int(0)?,
                content: row.text(2)?,
                members: row.text(3)?,
                generation: row.int(4)?,
                created: row.time(5)?,
                modified: row.time(6)?,
            };
            known.insert(row.text(1)?, one);
        }
        let keys: BTreeSet<&str> = wanted.iter().map(|wanted| wanted.key.as_str()).collect();
        // First of all: another object of the same name may take the place.
        for gone in known.iter().filter(|(key, _)| !keys.contains(key.as_str())).map(|(_, gone)| gone.id) {
            let links = kind.links.iter().chain(&kind.members);
            let clear = links.map(|link| Step::Of(link.clear, gone));
            self.difference.groups.push(clear.chain([Step::Of(kind.delete, gone)]).collect());
        }
        let mut numbers = Numbers::new();
        for wanted in wanted {
            let id = self.object(kind, &wanted, known.get(&wanted.key)).await?;
            numbers.insert(wanted.name, id);
        }
        Ok(numbers)
    }

    async fn object(
        &mut self,
        kind: &'static Kind,
        wanted: &Wanted<'a>,
        known: Option<&Known>,
    ) -> Result<i64> {
        let origin = wanted.origin;
        let who = (&origin.uid, origin.generation, &origin.description);
        let said = (who, &wanted.own, &wanted.links, &wanted.name);
        let content = Digest::of(format!("{said:?}").as_bytes()).to_string();
        let mut members = wanted.members.map(|clients| clients.digest().to_string()).unwrap_or_default();
        if let Some(known) = known
            && known.content == content
            && known.members == members
        {
            return Ok(known.id);
        }
        let id = known.map_or_else(
            || {
                self.difference.numbers.1 += 1;
                self.difference.numbers.1
            },
            |known| known.id,
        );
        let mut links = Vec::new();
        if known.is_none_or(|known| known.content != content) {
            for (link, items) in kind.links.iter().zip(&wanted.links) {
                let there = if known.is_some() { self.rows_of(link, id).await? } else { BTreeSet::new() };
                links.extend(difference(link, id, &there, items));
            }
        }
        let (rows, complete) = match (&kind.members, wanted.members) {
            (Some(link), Some(clients)) if known.is_none_or(|known| known.members != members) => {
                self.members(link, id, known, clients).await?
            }
            _ => (Vec::new(), true),
        };
        if !complete {
            members.clear();
        }
        let created = origin.created.or_else(|| known.map(|known| known.created)).unwrap_or(self.now);
        let modified = match known {
            Some(known) if links.is_empty() && known.generation == origin.generation => known.modified,
            None if origin.generation <= 1 => created,
            _ => self.now,
        };
        let site = self.site.name().as_str();
        // So many rows are not written at once: until they are, the row says that they are not those of the digest.
        let rows: Vec<Step> = links.into_iter().chain(rows).collect();
        let put = Step::Rows(kind.put, kind.row(site, wanted, id, &content, &members, (created, modified)));
        if rows.iter().map(Step::len).sum::<usize>() > PORTION {
            let unfinished = Step::Rows(kind.put, kind.row(site, wanted, id, "", "", (created, modified)));
            let steps = std::iter::once(unfinished).chain(rows).chain([put]);
            self.difference.groups.extend(steps.map(|step| vec![step]));
        } else {
            self.difference.groups.push(rows.into_iter().chain([put]).collect());
        }
        Ok(id)
    }

    async fn rows_of(&self, link: &Link, id: i64) -> Result<BTreeSet<Item>> {
        let rows = self.site.rows("the register", sql(link.select).bind(id)).await?;
        let item =
            |row: &crate::sql::Row| row.int(0).map(Item::Number).or_else(|_| row.text(0).map(Item::Text));
        rows.iter().map(item).collect()
    }

    /// What becomes other in a set of clients, and whether all of them are known.
    async fn members(
        &mut self,
        link: &Link,
        id: i64,
        known: Option<&Known>,
        clients: &BTreeSet<ClientId>,
    ) -> Result<(Vec<Step>, bool)> {
        let before = match known {
            None => Some(&BTreeSet::new()),
            Some(known) => self.written.get(&known.members).map(|clients| &***clients),
        };
        if let Some(before) = before {
            let gone: Vec<ClientId> = before.difference(clients).copied().collect();
            let new: Vec<ClientId> = clients.difference(before).copied().collect();
            let (gone, _) = self.numbers_of(&gone).await?;
            let (new, complete) = self.numbers_of(&new).await?;
            return Ok((steps(link, id, &gone, &new), complete));
        }
        let there = self.rows_of(link, id).await?;
        let clients: Vec<ClientId> = clients.iter().copied().collect();
        let (numbers, complete) = self.numbers_of(&clients).await?;
        let wanted = numbers.into_iter().collect();
        Ok((difference(link, id, &there, &wanted), complete))
    }

    async fn numbers_of(&mut self, clients: &[ClientId]) -> Result<(Vec<Item>, bool)> {
        let missing: Vec<ClientId> =
            clients.iter().filter(|client| !self.clients.contains_key(client)).copied().collect();
        let site = self.site.name().as_str();
        let rows = if missing.is_empty() || self.all_clients {
            Vec::new()
        } else if missing.len() > MANY {
            self.all_clients = true;
            let query = sql("SELECT uuid, id FROM client WHERE site = $1").bind(site);
            self.site.rows("the clients", query).await?
        } else {
            let keys = missing.iter().flat_map(|client| [site.into(), (*client).into()]).collect();
            self.site.rows_many("clients", CLIENTS, keys).await?
        };
        for row in rows {
            self.clients.insert(row.parse(0, "client id")?, row.int(1)?);
        }
        let numbers: Vec<Item> =
            clients.iter().filter_map(|client| self.clients.get(client).copied()).map(Item::Number).collect();
        let complete = numbers.len() == clients.len();
        Ok((numbers, complete))
    }
}

fn difference(link: &Link, id: i64, there: &BTreeSet<Item>, wanted: &BTreeSet<Item>) -> Vec<Step> {
    let gone: Vec<Item> = there.difference(wanted).cloned().collect();
    let new: Vec<Item> = wanted.difference(there).cloned().collect();
    steps(link, id, &gone, &new)
}

fn steps(link: &Link, id: i64, gone: &[Item], new: &[Item]) -> Vec<Step> {
    let portions = |many: Many, items: &[Item]| -> Vec<Step> {
        let values =
            |items: &[Item]| items.iter().flat_map(|item| [id.into(), item.clone().into()]).collect();
        items.chunks(PORTION / 8).map(|items| Step::Rows(many, values(items))).collect()
    };
    let mut steps = portions(link.delete, gone);
    steps.extend(portions(link.insert, new));
    steps
}

impl Step {
    /// Rows it writes, or one where nobody knows.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Rows(many, values) => values.len() / many.columns,
            Self::Of(..) => 1,
        }
    }
}
