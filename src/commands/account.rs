//! What does the account have? Its list of source servers, asked for within the rate, as plans are drafted, filled and checked by it.

use std::collections::HashSet;

use super::permits::Permits;
use super::share::Share;
use super::{Failure, World, online, progress_bar};
use crate::api::inventory::{self, Inventory};
use crate::api::survey::{self, ServerRow, Stopped, Told};
use crate::api::{Client, SourceFilter, SourceServer};
use crate::lane::Config;
use crate::plan::{Format, Known, Row, Servers, Written};

/// Which servers are asked for.
pub(super) struct Asked<'a> {
    pub(super) filter: SourceFilter,
    pub(super) wanted: &'a dyn Fn(&SourceServer) -> bool,
    /// Of which of them the single view is asked for, too, where the list does not tell all.
    pub(super) whole: &'a dyn Fn(&SourceServer) -> bool,
}

/// Reads the list.
///
/// # Errors
/// The configuration cannot be used, or the API did not tell.
pub(super) async fn ask(
    asked: &Asked<'_>,
    config: &Config,
    share: Option<Share>,
    world: &World,
) -> Result<Inventory, Failure> {
    let client = Client::new(&config.api).map_err(Failure::usage)?;
    let bar = progress_bar(world, 0, "asking");
    let mut permits = Permits::open(config, share, world, bar.clone()).await?;
    let retry = online::patience(config);
    let told = |told: Told<'_>| online::tell(&bar, &told);
    let wanted =
        inventory::Wanted { filter: &asked.filter, which: asked.wanted, whole: asked.whole };
    let found = inventory::inventory(&client, &wanted, &mut permits, &retry, told).await;
    permits.close().await;
    bar.finish_and_clear();
    found.map_err(|stopped: Stopped| {
        Failure::unreachable(format!("{}; nothing is written", online::why(&stopped)))
    })
}

/// What the account has, as rows of a plan mean it.
///
/// # Errors
/// As of [`ask`].
pub(super) async fn servers(
    rows: &[Row],
    config: &Config,
    share: Option<Share>,
    world: &World,
) -> Result<Servers, Failure> {
    let said = |of: fn(&Row) -> Option<&str>| -> HashSet<String> {
        rows.iter().filter_map(of).map(str::to_lowercase).collect()
    };
    let ids = said(|row| row.source_server_id.as_deref());
    let names = said(|row| row.server.name.as_deref());
    let addresses = said(|row| row.server.ip.as_deref());
    // Of the others the names are enough: they may be what was meant.
    let whole = |server: &SourceServer| {
        ids.contains(&server.id.to_lowercase())
            || names.contains(&server.name.to_lowercase())
            || addresses.contains(&server.ip.to_lowercase())
    };
    let asked = Asked { filter: SourceFilter::default(), wanted: &|_| true, whole: &whole };
    let found = ask(&asked, config, share, world).await?;
    Ok(Servers::new(found.servers.into_iter().map(known).collect()))
}

/// What a plan can be written as.
///
/// # Errors
/// It is none of these.
pub(super) fn written(format: Format) -> Result<Written, Failure> {
    match format {
        Format::Csv => Ok(Written::Csv),
        Format::Xlsx => Ok(Written::Xlsx),
        Format::Jsonl => Ok(Written::Jsonl),
        other => Err(Failure::usage(format!(
            "a plan is written as .xlsx, .csv or .jsonl, not as {other:?}"
        ))),
    }
}

/// As a plan takes it.
pub(super) fn known(server: SourceServer) -> Known {
    let row = survey::standing(server.clone());
    Known {
        why_not: online::problems(&row),
        checks: checks(&row),
        id: server.id,
        name: server.name,
        ip: server.ip,
        os_type: server.os_type,
        os_version: server.os_version,
        state: server.state,
        total_size: server.total_size,
        disks: server.disks,
        volume_groups: server.volume_groups,
        btrfs_list: server.btrfs_list,
    }
}

fn checks(row: &ServerRow) -> String {
    if row.failed_checks.is_empty() { "passed".to_owned() } else { row.failed_checks.join(", ") }
}
