//! What is a report as a page? One file without anything from elsewhere and without a script, to open, to send on or to
//! print: how it went in a sentence, the timeline, what failed and why, and every row.

use std::borrow::Cow;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::plot::{Point, plot, shown};
use super::report::{Cell, Column, OpenRow, Report, called, reason};
use crate::core::Outcome;
use crate::message::result::ResultData;
use crate::message::words::span;
use crate::report::batches::Together;
use crate::report::text::visible;

const STYLE: &str = include_str!("report.css");
/// The page may do nothing but look as it does. The hash is of the style.
const POLICY: &str = "default-src 'none'; base-uri 'none'; form-action 'none'; style-src 'sha256-/C7+m1mHYgiWg999Gl4WMf0cPSshz95Y7V7e/4xx2tE='";

pub(super) fn report(report: &Report<'_>, now: Timestamp, zone: &TimeZone) -> String {
    let all = report.together();
    let results: Vec<&ResultData> = report.rows.iter().filter_map(|row| row.result).collect();
    let failures: Vec<_> = results.iter().filter(|r| r.outcome.is_dead_letter()).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="generator" content={ "Sluicegate " (env!("CARGO_PKG_VERSION")) };
                title { (visible(&report.title)) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (visible(&report.title)) }
                (headline(&all, report.is_whole.then(|| report.len() as u64)))
                (facts(report, now, zone))
                @if !results.is_empty() {
                    h2 { "Timeline" }
                    (timeline(report, &all, &results, zone))
                    h2 { "Outcomes" }
                    (outcomes(&all))
                }
                @if !failures.is_empty() {
                    h2 { "What did not end well" }
                    (failed(&failures))
                }
                @if report.is_whole && !report.open().is_empty() {
                    h2 { "What has not ended" }
                    (open(&report.open()))
                }
                details {
                    summary { "All " (report.len()) " requests" @if results.len() == report.len() { " that have ended" } }
                    (rows(report, zone))
                }
            }
        }
    };
    page.into_string()
}

/// No more than is known: that they were created, not what became of them.
fn headline(all: &Together, rows: Option<u64>) -> Markup {
    let count = |outcome| all.outcomes.get(&outcome).copied().unwrap_or_default();
    let (exist, cancelled) = (count(Outcome::Exists), count(Outcome::Cancelled));
    let of = rows.or(all.total).unwrap_or(all.settled);
    let left = of.saturating_sub(all.settled);
    let class = match (all.failed, left + cancelled) {
        (1.., _) => "bad",
        (0, 0) => "good",
        _ => "",
    };
    html! {
        p class={ "headline " (class) } {
            (count(Outcome::Created)) " of " (of) " migration tasks were created"
            @if exist > 0 { ", " (exist) " existed already" }
            @if cancelled > 0 { ", " (cancelled) " were cancelled" }
            @if all.failed > 0 { ", " (all.failed) " did not end well" }
            @if left > 0 { ", " (left) " have not ended yet" }
            "."
        }
    }
}

fn facts(report: &Report<'_>, now: Timestamp, zone: &TimeZone) -> Markup {
    let offset = zone.to_offset(now);
    let zone_name = zone.iana_name().map_or_else(
        || format!("UTC{offset}"),
        |name| if name == "UTC" { name.to_owned() } else { format!("{name} (UTC{offset})") },
    );
    html! {
        dl {
            @for batch in &report.batches {
                @let summary = batch.summary();
                @let began = summary.opened_at.or(summary.first_settled_at);
                @let took = began.zip(summary.last_settled_at).map(|(began, end)| end.duration_since(began));
                @if report.batches.len() > 1 { dt { "Batch" } dd { strong { (visible(&called(batch, &report.batches))) } ": " (summary.settled) @if let Some(total) = summary.total { " of " (total) } " have ended" @if summary.failed > 0 { ", " (summary.failed) " did not end well" } } }
                @if let Some(plan) = &summary.plan { dt { "Plan" } dd { (visible(plan)) } }
                @if let Some(by) = &summary.by { dt { "Enqueued by" } dd { (visible(by)) } }
                @if let Some(at) = summary.opened_at { dt { "Enqueued" } dd { (time(at, zone)) } }
                @if let Some(at) = summary.last_settled_at { dt { "Last one ended" } dd { (time(at, zone)) } }
                @if let Some(took) = took { dt { "Took" } dd { (span(took.as_secs().unsigned_abs())) } }
            }
            dt { "As of" } dd { (time(now, zone)) " " span.soft { "(times are " (zone_name) ")" } }
        }
    }
}

fn timeline(
    report: &Report<'_>,
    all: &Together,
    results: &[&ResultData],
    zone: &TimeZone,
) -> Markup {
    let mut points: Vec<_> = results
        .iter()
        .map(|result| Point { at: result.settled_at, failed: result.outcome.is_dead_letter() })
        .collect();
    points.sort_by_key(|point| point.at);
    let opened = report.batches.iter().filter_map(|batch| batch.opened_at);
    let from = opened.chain(points.first().map(|point| point.at)).min();
    let total = all.total.unwrap_or(all.settled);
    html! {
        (plot(&points, from.unwrap_or_default(), total, zone))
        p.soft { "How many requests had ended by which time; a dot marks those that did not end well." }
    }
}

fn outcomes(all: &Together) -> Markup {
    html! {
        table {
            thead { tr { th { "Outcome" } th.n { "Requests" } th.n { "Share" } th { "Meaning" } } }
            tbody {
                @for (outcome, count) in &all.outcomes {
                    tr {
                        td class=(if outcome.is_dead_letter() { "bad" } else if outcome.is_success() { "good" } else { "" }) { (outcome.as_str()) }
                        td.n { (count) }
                        td.n { (share(*count, all.settled)) }
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

fn open(rows: &[&OpenRow]) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th.n { "Row" } th { "Name" } th { "Source server" } th { "State" } th { "Why" } } }
            tbody {
                @for row in rows {
                    tr {
                        td.n { (row.row) }
                        td { (visible(&row.name)) }
                        td { (visible(&row.source_server_id)) }
                        td { (row.state.as_str()) }
                        td { (visible(&row.why)) }
                    }
                }
            }
        } }
    }
}

fn rows(report: &Report<'_>, zone: &TimeZone) -> Markup {
    let name = |column: &Column| match column.name.strip_prefix('#') {
        Some(note) => note.trim().to_owned(),
        None => column.name.replace('_', " "),
    };
    html! {
        div.scroll { table {
            thead { tr { @for column in &report.columns { th { (visible(&name(column))) } } } }
            tbody {
                @for row in &report.rows {
                    tr { @for cell in &row.cells { (self::cell(cell, zone)) } }
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
