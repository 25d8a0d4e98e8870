//! `sluice watch` without a batch: which batches are there, and which generations of each?

use std::fmt::Write as _;

use jiff::Timestamp;

use super::super::times::local;
use super::super::{Exit, Failure, print, print_json};
use super::open;
use crate::broker::ReadFrom;
use crate::lane::Config;
use crate::message::generation::short;
use crate::report::batches::Batches;
use crate::report::progress::Summary;
use crate::report::text::one_line;

pub(super) async fn list(
    config: &Config,
    since: Option<Timestamp>,
    json: bool,
) -> Result<Exit, Failure> {
    let mut results = open(config, since.map_or(ReadFrom::First, ReadFrom::Time)).await?;
    let mut batches = Batches::default();
    while !results.is_caught_up() {
        if let Some(event) = results.next().await {
            batches.take(&event);
        }
    }
    results.close().await;
    let summaries = batches.summaries();
    if json {
        let lines: Vec<_> =
            summaries.iter().filter_map(|summary| serde_json::to_string(summary).ok()).collect();
        for line in &lines {
            print_json(&format!("{line}\n"));
        }
    } else if summaries.is_empty() {
        eprintln!(
            "the results stream knows no batches: nothing has been enqueued under queues.prefix = {:?}; is it the \
             planners' one?",
            config.queues.prefix
        );
    } else {
        print(&table(&summaries));
    }
    Ok(Exit::Done)
}

fn table(summaries: &[Summary]) -> String {
    let mut table = format!(
        "{:<36}  {:<13}  {:<19}  {:>13}  {:>6}  plan\n",
        "batch", "generation", "opened", "ended", "failed"
    );
    for summary in summaries {
        let opened = summary.opened_at.or(summary.first_settled_at).map(local).unwrap_or_default();
        let total = summary.total.map_or_else(|| "?".to_owned(), |total| total.to_string());
        let ended = format!("{} of {total}", summary.settled);
        let plan = [summary.plan.as_deref(), summary.by.as_deref()];
        let plan: Vec<_> = plan.into_iter().flatten().collect();
        let (batch, run, failed) = (&summary.batch, short(summary.batch_run), summary.failed);
        let _ = writeln!(
            table,
            "{:<36}  {:<13}  {opened:<19}  {ended:>13}  {failed:>6}  {}",
            one_line(batch),
            one_line(&run),
            one_line(&plan.join(" by "))
        );
    }
    table
}
