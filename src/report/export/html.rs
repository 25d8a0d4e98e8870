//! What is a report as a page? One file without anything from elsewhere and without a script, to open, to send on or to
//! print: how it went in a sentence, the timeline, what failed and why, and every row.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::{Point, plot, shown};
use super::{COLUMNS, Cell, cells, reason};
use crate::core::Outcome;
use crate::message::result::ResultData;
use crate::message::words::span;
use crate::report::progress::{BatchProgress, Summary};
use crate::report::text::visible;

const STYLE: &str = include_str!("report.css");
/// The page may do nothing but look as it does. The hash is of the style.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-/C7+m1mHYgiWg999Gl4WMf0cPSshz95Y7V7e/4xx2tE='";

pub(super) fn report(
    progress: &BatchProgress,
    results: &[&ResultData],
    now: Timestamp,
    zone: &TimeZone,
) -> String {
    let summary = progress.summary();
    let failures: Vec<_> = results.iter().filter(|r| r.outcome.is_dead_letter()).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="generator" content={ "Sluicegate " (env!("CARGO_PKG_VERSION")) };
                title { "Batch " (visible(&summary.batch)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "Batch " (visible(&summary.batch)) }
                (headline(&summary))
                (facts(&summary, now, zone))
                @if !results.is_empty() {
                    h2 { "Timeline" }
                    (timeline(&summary, results, zone))
                    h2 { "Outcomes" }
                    (outcomes(&summary))
                }
                @if !failures.is_empty() {
                    h2 { "What did not end well" }
                    (failed(&failures))
                }
                details {
                    summary { "All " (results.len()) " requests that have ended" }
                    (rows(results, zone))
                }
            }
        }
    };
    page.into_string()
}

fn headline(summary: &Summary) -> Markup {
    let well = summary.settled - summary.failed;
    let of = summary.total.unwrap_or(summary.settled);
    let left = of.saturating_sub(summary.settled);
    let all_well = summary.failed == 0 && left == 0;
    html! {
        p class={ "headline " (if all_well { "good" } else if summary.failed > 0 { "bad" } else { "" }) } {
            (well) " of " (of) " migration tasks are in place"
            @if summary.failed > 0 { ", " (summary.failed) " did not end well" }
            @if left > 0 { ", " (left) " have not ended yet" }
            "."
        }
    }
}

fn facts(summary: &Summary, now: Timestamp, zone: &TimeZone) -> Markup {
    let began = summary.opened_at.or(summary.first_settled_at);
    let took = began.zip(summary.last_settled_at).map(|(began, end)| end.duration_since(began));
    let offset = zone.to_offset(now);
    let zone_name = zone.iana_name().map_or_else(
        || format!("UTC{offset}"),
        |name| if name == "UTC" { name.to_owned() } else { format!("{name} (UTC{offset})") },
    );
    html! {
        dl {
            @if let Some(plan) = &summary.plan { dt { "Plan" } dd { (visible(plan)) } }
            @if let Some(by) = &summary.by { dt { "Enqueued by" } dd { (visible(by)) } }
            @if let Some(at) = summary.opened_at { dt { "Enqueued" } dd { (time(at, zone)) } }
            @if let Some(at) = summary.last_settled_at { dt { "Last one ended" } dd { (time(at, zone)) } }
            @if let Some(took) = took { dt { "Took" } dd { (span(took.as_secs().unsigned_abs())) } }
            dt { "As of" } dd { (time(now, zone)) " " span.soft { "(times are " (zone_name) ")" } }
        }
    }
}

fn timeline(summary: &Summary, results: &[&ResultData], zone: &TimeZone) -> Markup {
    let mut points: Vec<_> = results
        .iter()
        .map(|result| Point { at: result.settled_at, failed: result.outcome.is_dead_letter() })
        .collect();
    points.sort_by_key(|point| point.at);
    let from = summary.opened_at.into_iter().chain(points.first().map(|point| point.at)).min();
    let total = summary.total.unwrap_or(summary.settled);
    html! {
        (plot(&points, from.unwrap_or_default(), total, zone))
        p.soft { "How many requests had ended by which time; a dot marks those that did not end well." }
    }
}

fn outcomes(summary: &Summary) -> Markup {
    html! {
        table {
            thead { tr { th { "Outcome" } th.n { "Requests" } th.n { "Share" } th { "Meaning" } } }
            tbody {
                @for (outcome, count) in &summary.outcomes {
                    tr {
                        td class=(if outcome.is_dead_letter() { "bad" } else { "good" }) { (outcome.as_str()) }
                        td.n { (count) }
                        td.n { (share(*count, summary.settled)) }
                        td { (meaning(*outcome)) }
                    }
                }
            }
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a tenth of a percent is shown")]
fn share(count: u64, of: u64) -> String {
    format!("{:.1} %", count as f64 * 100.0 / of.max(1) as f64)
}

fn meaning(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Created => "The migration task was created.",
        Outcome::Exists => "The source server had this task already.",
        Outcome::Rejected => "The migration service refused the request.",
        Outcome::Conflict => "Another task of the server stands in the way.",
        Outcome::Invalid => "The request breaks a rule of the service and was never sent.",
        Outcome::Exhausted => "It was tried again and again, without success.",
        Outcome::Expired => "Its deadline passed before it could be sent.",
        Outcome::Unknown => "It may or may not have been created: look at the service.",
        Outcome::Cancelled => "Its planner took it back before it was sent.",
    }
}

fn failed(failures: &[&&ResultData]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th.n { "Row" } th { "Name" } th { "Source server" } th { "Outcome" } th { "Reason" } } }
            tbody {
                @for result in failures {
                    tr {
                        td.n { @if let Some(row) = result.row { (row) } }
                        td { (visible(&result.name)) }
                        td { (visible(&result.source_server_id)) }
                        td.bad { (result.outcome.as_str()) }
                        td { (visible(&reason(result))) }
                    }
                }
            }
        } }
    }
}

fn rows(results: &[&ResultData], zone: &TimeZone) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { @for name in COLUMNS { th { (name.replace('_', " ")) } } } }
            tbody {
                @for result in results {
                    tr { @for cell in cells(result) { (self::cell(&cell, zone)) } }
                }
            }
        } }
    }
}

fn cell(cell: &Cell<'_>, zone: &TimeZone) -> Markup {
    let number = |text: Cow<'_, str>| html! { td.n { (text) } };
    match cell {
        Cell::Empty => html! { td {} },
        Cell::Text(text) => html! { td { (visible(text)) } },
        Cell::Count(count) => number(count.to_string().into()),
        Cell::Seconds(seconds) => number(format!("{seconds:.3}").into()),
        Cell::Time(at) => html! { td { (time(*at, zone)) } },
    }
}

fn time(at: Timestamp, zone: &TimeZone) -> Markup {
    html! { time datetime=(format!("{at:.3}")) { (shown(at, zone)) } }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for three in bytes.chunks(3) {
            let at = |n: usize| u32::from(three.get(n).copied().unwrap_or_default());
            let bits = at(0) << 16 | at(1) << 8 | at(2);
            for digit in 0..4 {
                let value = (bits >> (18 - 6 * digit)) & 63;
                text.push(if digit > three.len() { '=' } else { DIGITS[value as usize].into() });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_this_style_and_nothing_else() {
        let hash = base64(&Sha256::digest(STYLE));
        assert!(POLICY.ends_with(&format!("style-src 'sha256-{hash}'")), "write {hash}");
    }
}
