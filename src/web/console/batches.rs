//! How far have the batches come, when will they end, and what went wrong in one?

use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::LaneView;
use super::asked::Asked;
use super::follow::{DAYS, Seen};
use super::page::{ROWS, ago, clock, notice, query};
use crate::core::Outcome;
use crate::message::words::roughly;
use crate::report::progress::{BatchProgress, failure_line};
use crate::report::text::{grouped, visible};

/// So long a page waits for the stream to be read, before it shows what there is.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Older than this, the figures are not those of now.
const STALE: SignedDuration = SignedDuration::from_secs(15);

impl LaneView {
    fn results<T>(&self, tell: impl FnOnce(&Seen) -> T) -> T {
        let review = &self.lane.review;
        self.follower.look(&review.settings, &review.queues, tell)
    }

    /// Waits a moment for the first reading to be whole.
    async fn first_reading(&self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let unread = || self.results(|seen| seen.whole_at.is_none() && seen.trouble.is_none());
        while unread() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) async fn list(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    place.first_reading().await;
    let content = place.results(|seen| {
        let again = format!("/batches{}", query(&[("lane", &place.name), ("part", "1")]));
        html! {
            div #part hx-get=(again) hx-trigger="every 2s" hx-swap="outerHTML" {
                (how_old(seen))
                (table(place, seen, Timestamp::now()))
            }
        }
    });
    if fields.get("part").is_some() {
        return content.into_response();
    }
    asked.page("Batches", &content)
}

/// How much has been read, and how old that is.
fn how_old(seen: &Seen) -> Markup {
    let age = seen.whole_at.map(|at| Timestamp::now().duration_since(at));
    html! {
        @match (&seen.trouble, seen.whole_at, age) {
            (Some(why), ..) => (notice(true, &format!("The results cannot be read now: {why}. It is tried again."))),
            (None, None, _) => p.notice role="status" { "The results are being read: " (grouped(seen.events)) " so far. The figures grow until all are read." },
            (None, Some(at), Some(age)) if age > STALE => p.notice.bad role="alert" { "The results stream does not answer: this is as of " (ago(at)) "." },
            (None, Some(at), _) => p.soft { "Of the results of the last " (DAYS) " days, as of " (clock(at)) ". `sluice watch` tells of earlier ones." },
        }
        @if !seen.left_out.is_empty() {
            p.soft { (grouped(seen.left_out.len())) " older batches are left out, for there are too many results; `sluice watch BATCH` tells of one." }
        }
    }
}

fn table(place: &LaneView, seen: &Seen, now: Timestamp) -> Markup {
    let mut batches: Vec<&BatchProgress> =
        seen.batches.iter().filter(|one| one.is_known()).collect();
    let begun = |one: &BatchProgress| {
        let summary = one.summary();
        summary.opened_at.or(summary.first_settled_at)
    };
    batches.sort_by_cached_key(|one| (std::cmp::Reverse(begun(one)), one.batch.clone()));
    html! {
        @if batches.is_empty() && seen.whole_at.is_some() {
            (notice(false, "No batches in these days. `sluice enqueue PLAN` makes one; requests of other clients are told apart by the header x-sluice-batch."))
        } @else if !batches.is_empty() {
            div.scroll.card { table #batches {
                thead { tr { th { "Batch" } th { "Progress" } th.n { "Ended" } th.n { "Failed" } th { "End" } th.wide { "Begun" } th.wide { "Plan" } } }
                tbody { @for (n, one) in batches.iter().take(ROWS).enumerate() { (row(place, n, one, begun(one), now)) } }
            } }
            @if batches.len() > ROWS { p.soft { "The latest " (ROWS) " of " (grouped(batches.len())) "." } }
        }
    }
}

fn row(
    place: &LaneView,
    number: usize,
    one: &BatchProgress,
    begun: Option<Timestamp>,
    now: Timestamp,
) -> Markup {
    let total = one.total();
    let ended = match total {
        Some(total) => format!("{} of {}", grouped(one.settled()), grouped(total)),
        None => grouped(one.settled()),
    };
    html! {
        tr {
            td { a id={ "batch-" (number) } href=(of_batch("/batches/one", place, &one.batch)) { bdi { (visible(&one.batch)) } } }
            td { (bar(one)) }
            td.n { (ended) }
            td.n { @if one.failed() > 0 { a id={ "failed-" (number) } href=(of_batch("/dead-letters", place, &one.batch)) { (grouped(one.failed())) } } @else { "0" } }
            td { (forecast(one, now)) }
            td.wide { @if let Some(at) = begun { (ago(at)) } }
            td.wide { @if let Some(plan) = &one.plan { bdi { (visible(plan)) } } @if let Some(by) = &one.by { " by " bdi { (visible(by)) } } }
        }
    }
}

fn of_batch(path: &str, place: &LaneView, batch: &str) -> String {
    format!("{path}{}", query(&[("lane", &place.name), ("batch", batch)]))
}

fn bar(one: &BatchProgress) -> Markup {
    let settled = one.settled();
    let told = match one.total() {
        Some(total) => format!("{settled} of {total} have ended"),
        None => format!("{settled} have ended, of a number that was not announced"),
    };
    let most = one.total().unwrap_or(settled).max(settled).max(1);
    html! { progress max=(most) value=(settled) aria-label=(told) { (told) } }
}

/// When it ends, as far as its pace tells.
fn forecast(one: &BatchProgress, now: Timestamp) -> Markup {
    let last = one.summary().last_settled_at;
    html! {
        @if one.is_done() { span.good { "done" } @if let Some(at) = last { " " (ago(at)) } }
        @else if one.total().is_none() { span.soft { "not announced" } }
        @else if let Some(left) = one.remaining(now) {
            @let end = now.saturating_add(left).unwrap_or(now);
            "about " (clock(end)) ", in " (roughly(left.as_secs().max(1)))
            @if let Some(rate) = one.per_second(now) { span.soft { ", at " (format!("{rate:.2}")) "/s" } }
        }
        @else if one.settled() == 0 { span.soft { "nothing has ended yet" } }
        @else { span.soft { "no pace lately" } @if let Some(at) = last { span.soft { ", the last one ended " (ago(at)) } } }
    }
}

pub(super) async fn one(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let Some(batch) = fields.get("batch") else {
        let why = "Which batch? The list of batches leads to each.";
        return asked.trouble(StatusCode::NOT_FOUND, why);
    };
    place.first_reading().await;
    let content = place.results(|seen| {
        let again =
            of_batch("/batches/one", place, batch) + "&part=1";
        let progress = seen.batches.get(batch);
        html! {
            div #part hx-get=(again) hx-trigger="every 2s" hx-swap="outerHTML" {
                @match progress {
                    Some(progress) => (details(place, progress, Timestamp::now())),
                    None if seen.whole_at.is_none() => p { "It has not been found so far." },
                    None => (notice(true, &format!("The results of the last {DAYS} days know no batch {batch:?}. `sluice watch` knows older ones."))),
                }
                (how_old(seen))
            }
        }
    });
    if fields.get("part").is_some() {
        return content.into_response();
    }
    let content = html! { (content) p { a href={ "/batches" (query(&[("lane", &place.name)])) } { "To all batches" } } };
    asked.page("Batch", &content)
}

fn details(place: &LaneView, one: &BatchProgress, now: Timestamp) -> Markup {
    let settled = grouped(one.settled());
    let letters = of_batch("/dead-letters", place, &one.batch);
    html! {
        section.card {
            h2 { bdi { (visible(&one.batch)) } }
            @if let Some(plan) = &one.plan { p.soft { "Plan " bdi { (visible(plan)) } @if let Some(by) = &one.by { ", enqueued by " bdi { (visible(by)) } } @if let Some(at) = one.opened_at { ", " (ago(at)) } "." } }
            (bar(one))
            p {
                strong { (settled) } @if let Some(total) = one.total() { " of " strong { (grouped(total)) } } " have ended. "
                @if !one.is_done() { "End: " } (forecast(one, now)) "."
            }
            @if one.total().is_some() && !one.enqueued { p.soft { "Not all of it is in the queue yet." } }
        }
        section.card {
            h2 { "How they ended" }
            dl.figures {
                @for outcome in Outcome::ALL {
                    @let count = one.count(outcome);
                    @if count > 0 || outcome == Outcome::Created { div.bad[outcome.is_dead_letter()] { dt { (outcome.as_str()) } dd { (grouped(count)) } } }
                }
                @if let Some(total) = one.total() { div { dt { "not ended yet" } dd { (grouped(total.saturating_sub(one.settled()))) } } }
            }
        }
        (failures(one, &letters))
    }
}

fn failures(one: &BatchProgress, letters: &str) -> Markup {
    let failed = one.failed();
    html! {
        @if failed == 0 { p.soft { "Nothing of it has failed." } }
        @else {
            section.card {
                h2 { (grouped(failed)) " failed" }
                p { a #letters href=(letters) { "Review them among the dead letters" } }
                div.scroll { table #failures {
                    thead { tr { th { "What and why" } th { "Outcome" } th.wide { "When" } } }
                    tbody { @for result in one.failures(ROWS) {
                        tr {
                            td { bdi { (visible(&failure_line(result))) } }
                            td.word { (result.outcome.as_str()) }
                            td.wide { (ago(result.settled_at)) }
                        }
                    } }
                } }
                @if failed > ROWS as u64 { p.soft { "The first " (ROWS) " of " (grouped(failed)) "." } }
            }
        }
    }
}
