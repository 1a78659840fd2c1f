//! Which tables and columns each kind of object has.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use patchtide_model::{ClientId, ObjectName, deployment::Deadline, shared::Shared, window::WindowAction};

use super::{
    Origin, RegisteredCollection, RegisteredDeployment, RegisteredList, RegisteredPackage, RegisteredWindow,
    schedule,
};
use crate::{
    Result,
    sql::{Many, Value, int, json},
};

/// A table whose rows belong to the rows of another one.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) select: &'static str,
    pub(super) insert: Many,
    pub(super) delete: Many,
    pub(super) clear: &'static str,
}

/// A kind of object: its table, and the tables that belong to it.
#[derive(Debug)]
pub(super) struct Kind {
    /// id, key, digest of the content, digest of the members, generation, created, modified.
    pub(super) select: &'static str,
    pub(super) put: Many,
    pub(super) delete: &'static str,
    pub(super) links: &'static [Link],
    /// Clients; bounded by the size of the fleet alone.
    pub(super) members: Option<Link>,
    /// Whether rows say when the object became what it is.
    pub(super) dated: bool,
}

macro_rules! link {
    ($table:literal, $owner:literal, $item:literal) => {
        Link {
            select: concat!("SELECT ", $item, " FROM ", $table, " WHERE ", $owner, " = $1"),
            insert: Many {
                head: concat!("INSERT INTO ", $table, " (", $owner, ", ", $item, ") VALUES "),
                columns: 2,
                tail: " ON CONFLICT DO NOTHING",
            },
            delete: Many {
                head: concat!("DELETE FROM ", $table, " WHERE (", $owner, ", ", $item, ") IN (VALUES "),
                columns: 2,
                tail: ")",
            },
            clear: concat!("DELETE FROM ", $table, " WHERE ", $owner, " = $1"),
        }
    };
}

/// `INSERT` of all columns that replaces what has the same number.
macro_rules! put {
    ($table:literal, $columns:literal, [$($column:literal),+ $(,)?]) => {
        Many {
            head: concat!("INSERT INTO ", $table, " (id, site", $(", ", $column,)+ ") VALUES "),
            columns: $columns,
            tail: concat!(" ON CONFLICT (id) DO UPDATE SET site = excluded.site" $(, ", ", $column, " = excluded.", $column)+),
        }
    };
}

pub(super) const COLLECTION: Kind = Kind {
    select: "SELECT id, name, content, members, 0, created, 0 FROM collection WHERE site = $1",
    put: put!("collection", 9, ["name", "uid", "description", "created", "content", "members", "parent"]),
    delete: "DELETE FROM collection WHERE id = $1",
    links: &[],
    members: Some(link!("collection_member", "collection", "client")),
    dated: false,
};

pub(super) const LIST: Kind = Kind {
    select: "SELECT id, name, content, '', generation, created, modified FROM update_list WHERE site = $1",
    put: put!(
        "update_list",
        10,
        ["name", "uid", "description", "created", "content", "generation", "modified", "folder"]
    ),
    delete: "DELETE FROM update_list WHERE id = $1",
    links: &[link!("update_list_member", "list", "update_id")],
    members: None,
    dated: true,
};

pub(super) const DEPLOYMENT: Kind = Kind {
    select: "SELECT id, uid, content, targets, generation, created, modified FROM deployment WHERE site = $1",
    put: put!(
        "deployment",
        26,
        [
            "name",
            "uid",
            "description",
            "created",
            "content",
            "targets",
            "generation",
            "modified",
            "collection",
            "include_subcollections",
            "available",
            "deadline",
            "local_time",
            "enabled",
            "required",
            "install_outside_windows",
            "restart_outside_windows",
            "suppress_restart_servers",
            "suppress_restart_workstations",
            "display_notifications",
            "disable_alerts",
            "alert_on_failure",
            "wake_on_lan",
            "settings"
        ]
    ),
    delete: "DELETE FROM deployment WHERE id = $1",
    links: &[
        link!("deployment_update", "deployment", "update_id"),
        link!("deployment_list", "deployment", "list"),
    ],
    members: Some(link!("deployment_target", "deployment", "client")),
    dated: true,
};

pub(super) const WINDOW: Kind = Kind {
    select: "SELECT id, name, content, '', 0, 0, 0 FROM service_window WHERE site = $1",
    put: put!(
        "service_window",
        17,
        [
            "name",
            "uid",
            "description",
            "content",
            "collection",
            "kind",
            "deny",
            "enabled",
            "start",
            "duration",
            "recurrence",
            "zone",
            "schedule",
            "effective_from",
            "effective_until"
        ]
    ),
    delete: "DELETE FROM service_window WHERE id = $1",
    links: &[],
    members: None,
    dated: false,
};

pub(super) const PACKAGE: Kind = Kind {
    select: "SELECT id, name, content, '', generation, created, modified FROM package WHERE site = $1",
    put: put!(
        "package",
        10,
        ["name", "uid", "description", "created", "content", "generation", "modified", "version"]
    ),
    delete: "DELETE FROM package WHERE id = $1",
    links: &[
        link!("package_update", "package", "update_id"),
        link!("package_file", "package", "digest"),
        link!("package_point", "package", "dp"),
    ],
    members: None,
    dated: true,
};

/// A row of a link, without its owner.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Number(i64),
    Text(String),
}

impl From<Item> for Value {
    fn from(item: Item) -> Self {
        match item {
            Item::Number(number) => number.into(),
            Item::Text(text) => text.into(),
        }
    }
}

/// An object as its rows are to be.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// Its name, or its uid where another uid is another object.
    pub(super) key: String,
    pub(super) name: String,
    pub(super) origin: &'a Origin,
    /// Columns of its kind's own, in the order of [`Kind::put`].
    pub(super) own: Vec<Value>,
    /// Rows of its links, in the order of [`Kind::links`].
    pub(super) links: Vec<BTreeSet<Item>>,
    pub(super) members: Option<&'a Shared<BTreeSet<ClientId>>>,
}

impl<'a> Wanted<'a> {
    fn new(name: &ObjectName, origin: &'a Origin, own: Vec<Value>, links: Vec<BTreeSet<Item>>) -> Self {
        Self { key: name.to_string(), name: name.to_string(), origin, own, links, members: None }
    }
}

/// Numbers of objects by their names.
pub(super) type Numbers = BTreeMap<String, i64>;

fn number(numbers: &Numbers, name: Option<&ObjectName>) -> Option<i64> {
    numbers.get(name?.as_str()).copied()
}

pub(super) fn collection<'a>(name: &ObjectName, of: &'a RegisteredCollection) -> Wanted<'a> {
    let parent = of.parent.as_ref().map(ToString::to_string);
    let wanted = Wanted::new(name, &of.origin, vec![parent.into()], Vec::new());
    Wanted { members: Some(&of.members), ..wanted }
}

pub(super) fn list<'a>(name: &ObjectName, of: &'a RegisteredList, members: BTreeSet<Item>) -> Wanted<'a> {
    Wanted::new(name, &of.origin, vec![of.folder.clone().into()], vec![members])
}

pub(super) fn deployment<'a>(
    name: &ObjectName,
    of: &'a RegisteredDeployment,
    updates: BTreeSet<Item>,
    collections: &Numbers,
    lists: &Numbers,
) -> Result<Wanted<'a>> {
    let (deployment, settings) = (&of.deployment, &of.deployment.settings);
    let own = vec![
        number(collections, Some(&deployment.collection)).into(),
        deployment.include_subcollections.into(),
        of.available.into(),
        of.deadline.into(),
        settings.client_local_time.into(),
        (!deployment.suspend).into(),
        (settings.deadline != Deadline::None).into(),
        settings.install_outside_windows.into(),
        settings.restart_outside_windows.into(),
        settings.suppress_restart_servers.into(),
        settings.suppress_restart_workstations.into(),
        settings.display_notifications.into(),
        settings.disable_alerts.into(),
        settings.alert_on_failure.into(),
        settings.wake_on_lan.into(),
        json("deployment settings", settings)?.into(),
    ];
    let list = number(lists, of.list.as_ref()).map(Item::Number).into_iter().collect();
    let wanted = Wanted::new(name, &of.origin, own, vec![updates, list]);
    Ok(Wanted { key: of.origin.uid.clone(), members: Some(&of.targets), ..wanted })
}

pub(super) fn window<'a>(name: &ObjectName, of: &'a RegisteredWindow, collections: &Numbers) -> Wanted<'a> {
    let window = &of.window;
    let own = vec![
        number(collections, Some(&window.collection)).into(),
        schedule::kind(window).into(),
        (window.action == WindowAction::Deny).into(),
        of.enabled.into(),
        schedule::start(window).into(),
        (window.duration.as_secs() / 60).into(),
        schedule::recurrence(window).into(),
        schedule::zone(window).into(),
        schedule::words(window).into(),
        window.effective_from.map(schedule::midnight).into(),
        window.effective_until.map(schedule::midnight).into(),
    ];
    Wanted::new(name, &of.origin, own, Vec::new())
}

pub(super) fn package<'a>(
    name: &ObjectName,
    of: &'a RegisteredPackage,
    updates: BTreeSet<Item>,
) -> Wanted<'a> {
    let files = of.files.iter().map(|digest| Item::Text(digest.to_string())).collect();
    let points = of.points.iter().map(|name| Item::Text(name.to_string())).collect();
    Wanted::new(name, &of.origin, vec![int(of.version).into()], vec![updates, files, points])
}

impl Kind {
    /// The row of an object.
    pub(super) fn row(
        &self,
        site: &str,
        wanted: &Wanted<'_>,
        id: i64,
        content: &str,
        members: &str,
        (created, modified): (Timestamp, Timestamp),
    ) -> Vec<Value> {
        let origin = wanted.origin;
        let mut row: Vec<Value> = vec![
            id.into(),
            site.into(),
            wanted.name.as_str().into(),
            origin.uid.as_str().into(),
            origin.description.clone().into(),
        ];
        if self.dated || self.members.is_some() {
            row.push(created.into());
        }
        row.push(content.into());
        if self.members.is_some() {
            row.push(members.into());
        }
        if self.dated {
            row.push(origin.generation.into());
            row.push(modified.into());
        }
        row.extend(wanted.own.iter().cloned());
        row
    }
}
