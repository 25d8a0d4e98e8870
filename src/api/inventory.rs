//! Which source servers does the account have? `sluice plan draft` reads the whole list, page by page, and the single view
//! of those that have a Btrfs, which nothing else tells.
//!
//! Pages follow each other without an overlap, so a server that comes or goes meanwhile shows by the list's count, or by a
//! row that comes twice: the list is begun anew then.

use std::collections::BTreeSet;

use serde_json::Value;

use super::asking::{Asking, Permits, Stopped, Told};
use super::{Client, SourceFilter, SourceServer};
use crate::core::retry::RetrySettings;

/// How often the list is begun anew.
const RESTARTS: u32 = 5;
/// The highest offset that the API takes.
const MAX_OFFSET: u32 = 65_535;

/// What the account has.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// Those that were wanted, in the API's order.
    pub servers: Vec<SourceServer>,
    /// How many the account has, as far as the filter lets them through.
    pub count: u32,
    /// Rows that cannot be read, or have no id.
    pub unread: u32,
    /// Names (or ids) of those that were gone when their single view was asked for.
    pub gone: Vec<String>,
    pub calls: u32,
}

/// Which source servers are wanted.
pub struct Wanted<'a> {
    pub filter: &'a SourceFilter,
    pub which: &'a dyn Fn(&SourceServer) -> bool,
    /// Of which of them what the list does not have is wanted, too.
    pub whole: &'a dyn Fn(&SourceServer) -> bool,
}

/// Reads the list, and what it does not have.
///
/// # Errors
/// Why the API did not tell: an inventory is whole, or it is none.
pub async fn inventory(
    client: &Client,
    wanted: &Wanted<'_>,
    permits: &mut impl Permits,
    retry: &RetrySettings,
    told: impl FnMut(Told<'_>),
) -> Result<Inventory, Stopped> {
    let mut asking = Asking::new(client, permits, retry, told);
    let mut found = Inventory::default();
    let mut restarts = 0;
    while !read(&mut asking, wanted.filter, &mut found).await? {
        restarts += 1;
        if restarts > RESTARTS {
            let why = "source servers come and go while their list is read: try again in a while";
            return Err(Stopped::Denied(why.to_owned()));
        }
        found = Inventory::default();
    }
    found.servers.retain(wanted.which);
    let servers = std::mem::take(&mut found.servers);
    let looks = |server: &SourceServer| has_btrfs(server) && (wanted.whole)(server);
    let of = u32::try_from(servers.iter().filter(|server| looks(server)).count());
    let of = of.unwrap_or(u32::MAX);
    let mut looked = 0;
    for mut server in servers {
        if looks(&server) {
            let single = asking.ask(|| client.source(&server.id)).await?;
            looked += 1;
            asking.say("Btrfs file systems", looked - 1, 1, of);
            let Some(single) = single else {
                found.gone.push(if server.name.is_empty() { server.id } else { server.name });
                continue;
            };
            server.btrfs_list = single.btrfs_list;
        }
        found.servers.push(server);
    }
    found.calls = asking.calls;
    Ok(found)
}

/// Reads the list once; `false`: it has changed meanwhile.
async fn read<P: Permits, F: FnMut(Told<'_>)>(
    asking: &mut Asking<'_, P, F>,
    filter: &SourceFilter,
    found: &mut Inventory,
) -> Result<bool, Stopped> {
    let (client, mut offset) = (asking.client, 0_u32);
    let mut seen = BTreeSet::new();
    loop {
        let page = asking.ask(|| client.sources(offset, filter)).await?;
        if offset > 0 && page.count != found.count {
            return Ok(false);
        }
        found.count = page.count;
        found.unread += page.unread;
        let rows = u32::try_from(page.servers.len()).unwrap_or(u32::MAX) + page.unread;
        asking.say("source servers", offset, rows as usize, page.count);
        for server in page.servers {
            if !seen.insert(server.id.clone()) {
                return Ok(false);
            }
            found.servers.push(server);
        }
        offset = offset.saturating_add(rows);
        if offset >= page.count {
            return Ok(true);
        }
        if rows == 0 {
            return Ok(false);
        }
        if offset > MAX_OFFSET {
            let why = format!(
                "the account has {} source servers, and the API lists no more than {MAX_OFFSET}",
                page.count
            );
            return Err(Stopped::Denied(why));
        }
    }
}

/// Whether a part of its disks or volume groups is a Btrfs.
pub fn has_btrfs(server: &SourceServer) -> bool {
    let is = |part: &Value| {
        let says = |field: &str, word: &str| {
            part[field].as_str().is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        says("device_use", "BTRFS") || says("file_system", "btrfs")
    };
    let parts = |of: &[Value], name: &str| {
        of.iter().any(|whole| whole[name].as_array().is_some_and(|parts| parts.iter().any(is)))
    };
    parts(&server.disks, "physical_volumes") || parts(&server.volume_groups, "logical_volumes")
}
