//! Which source server does a row mean that has no id? By its name or its address in the account's list, and what the list
//! knows of it fills what the row leaves out.

use std::collections::HashMap;

use rust_xlsxwriter::XlsxError;

use super::again::{Again, Returned, Written, again};
use super::cell::Refused;
use super::clean::same;
use super::drafted::of_known;
use super::settings::SKIP;
use super::tree::Node;
use super::{Known, Notes, Row};
use crate::contract::{Part, shown};

/// By what a server is named in place of its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Name,
    Ip,
}

pub(super) const NAME: &str = "source_server.name";
pub(super) const IP: &str = "source_server.ip";

impl By {
    pub(super) fn named(column: &str) -> Option<Self> {
        match column {
            NAME => Some(Self::Name),
            IP => Some(Self::Ip),
            _ => None,
        }
    }
}

/// What a row says of its server beside the id. It is never sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Named {
    pub name: Option<String>,
    pub ip: Option<String>,
}

impl Named {
    pub(super) fn put(&mut self, by: By, text: String) {
        let text = Some(text).filter(|text| !text.is_empty());
        match by {
            By::Name => self.name = text,
            By::Ip => self.ip = text,
        }
    }

    /// Whether it says anything.
    pub fn says(&self) -> bool {
        self.name.is_some() || self.ip.is_some()
    }

    fn in_words(&self) -> String {
        let part = |what: &str, text: &Option<String>| {
            text.as_ref().map(|text| format!("the {what} {}", shown(text)))
        };
        let parts = [part("name", &self.name), part("address", &self.ip)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" and ")
    }
}

/// What a finding about it is told of.
pub(super) const ID: &str = "/source_server/id";
const ALLOWED: &str =
    "the id of a source server, or a name or an address that one of the account's has";

/// The account's source servers.
#[derive(Debug, Default)]
pub struct Servers {
    all: Vec<Known>,
    by_id: HashMap<String, usize>,
}

impl Servers {
    pub fn new(all: Vec<Known>) -> Self {
        let by_id = all.iter().enumerate().map(|(at, server)| (same(&server.id).into(), at));
        Self { by_id: by_id.collect(), all }
    }

    /// Whether it has this one.
    pub fn has(&self, id: &str) -> bool {
        self.of_id(id).is_some()
    }

    pub(super) fn of_id(&self, id: &str) -> Option<&Known> {
        self.by_id.get(&*same(id)).map(|at| &self.all[*at])
    }

    /// The one server that is meant.
    pub(super) fn of_named(&self, named: &Named) -> Result<&Known, Refused> {
        let is = |text: &Option<String>, of: &str| {
            text.as_ref().is_none_or(|text| text.eq_ignore_ascii_case(of))
        };
        let found: Vec<&Known> = self
            .all
            .iter()
            .filter(|server| is(&named.name, &server.name) && is(&named.ip, &server.ip))
            .collect();
        let advice = match found[..] {
            [one] => return Ok(one),
            [] => self.alike(named),
            [..] => {
                let each = |server: &&Known| format!("{} ({})", server.id, server.ip);
                let these: Vec<String> = found.iter().take(5).map(each).collect();
                let (count, these) = (found.len(), these.join(", "));
                format!("{count} have it: write the id of one: {these}")
            }
        };
        Err(Refused { found: named.in_words(), allowed: ALLOWED.to_owned(), advice: advice.into() })
    }

    /// The names that are written most alike.
    fn alike(&self, named: &Named) -> String {
        const MOST: usize = 3;
        let Some(wanted) = &named.name else {
            return "the account has no source server with it".to_owned();
        };
        let wanted = wanted.to_lowercase();
        let near = wanted.chars().count() / 3 + 1;
        let mut alike: Vec<(usize, &str)> = self
            .all
            .iter()
            .map(|server| {
                (strsim::osa_distance(&server.name.to_lowercase(), &wanted), &*server.name)
            })
            .filter(|(distance, _)| *distance <= near)
            .collect();
        alike.sort_unstable();
        alike.dedup();
        let meant: Vec<String> = alike.iter().take(MOST).map(|(_, name)| shown(name)).collect();
        if meant.is_empty() {
            return "the account has no source server with it".to_owned();
        }
        format!("did you mean {}?", meant.join(", "))
    }
}

/// Where nobody has asked the account.
pub(super) fn unresolved(named: &Named) -> Refused {
    Refused {
        found: format!("no id, but {}", named.in_words()),
        allowed: "the id of the source server".to_owned(),
        advice: "`sluice plan fill` writes it, and what the account knows of the server".into(),
    }
}

/// Writes the id of its server into a body, and fills what is absent.
///
/// `refresh`: its disks and what is on them are taken anew; what the account does not know of them, `disk_id`, stays.
pub(super) fn fill(body: &mut Node, server: &Known, refresh: bool) {
    let id = [Part::Key("source_server"), Part::Key("id")];
    // There may be something else than an object: the contract says so.
    let _ = body.set(&id, Node::text(&server.id));
    let mut old = None;
    if refresh && let Some(target) = body.field("target_server") {
        old = target.remove("disks");
        target.remove("volume_groups");
        target.remove("btrfs_list");
    }
    body.fill_deep(&of_known(server));
    let Some(Node::Array(disks)) = old.map(opened) else { return };
    for (at, mut disk) in disks.into_iter().enumerate() {
        let way = ["target_server", "disks"].map(Part::Key);
        let way = [&way[..], &[Part::Index(at), Part::Key("disk_id")]].concat();
        let there = body.field("target_server").and_then(|target| target.field("disks")).cloned();
        let there = matches!(there.map(opened), Some(Node::Array(disks)) if disks.len() > at);
        if there && let Some(id) = disk.remove("disk_id") {
            let _ = body.set(&way, id);
        }
    }
}

fn opened(mut node: Node) -> Node {
    node.open();
    node
}

/// The rows of a plan as it was read with [`Options::servers`](super::Options::servers), to be written down again with the
/// plan's own columns.
///
/// # Errors
/// A workbook cannot hold them.
pub fn filled(rows: &[Row], notes: &Notes, format: Written) -> Result<Again, XlsxError> {
    let returned = |row: &Row| {
        let mut settings = row.settings.texts();
        settings.extend(row.skip.clone().map(|why| (SKIP, why)));
        Returned {
            body: row.body.to_vec(),
            settings,
            row: Some(row.number),
            source_server_id: row.source_server_id.clone().unwrap_or_default(),
            server: row.server.clone(),
            ..Returned::default()
        }
    };
    again(&rows.iter().map(returned).collect::<Vec<_>>(), notes, format)
}
