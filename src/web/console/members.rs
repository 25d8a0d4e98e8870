//! What has become of each server of a batch? Those that failed by cause, each server by a box of its own, and what has not
//! ended so far.

use maud::{Markup, html};

use super::LaneView;
use super::fields::Fields;
use super::follow::Seen;
use super::letters::cause;
use super::page::{self, ROWS, ago, badge, hidden, notice, query, whole};
use super::waiting;
use crate::core::engine::Upcoming;
use crate::message::result::ResultData;
use crate::report::progress::BatchProgress;
use crate::report::text::{grouped, visible};
use crate::review::{Cause, groups_of_results};

/// The failures by cause; each leads to its dead letters.
pub(super) fn failures(place: &LaneView, one: &BatchProgress, letters: &str) -> Markup {
    let failed = one.failed();
    html! {
        @if failed == 0 { p.soft { "Nothing of it has failed." } }
        @else {
            section.card {
                h2 { (grouped(failed)) " failed" }
                p { a #letters href=(letters) { "Review them among the dead letters" } }
                table #failures.stack {
                    thead { tr { th.n { "Requests" } th { "Cause" } th { "Such as" } th { "Newest" } } }
                    tbody { @for (of, results) in groups_of_results(one.each()) {
                        tr {
                            td.n { strong { (grouped(results.len())) } }
                            td { a.cause href=(of_cause(place, one, &of)) { (cause(&of)) } }
                            td { @for (n, result) in results.iter().take(3).enumerate() { @if n > 0 { ", " } (whole(title(result))) } }
                            td.when { @if let Some(at) = results.iter().map(|result| result.settled_at).max() { (ago(at)) } }
                        }
                    } }
                }
            }
        }
    }
}

fn of_cause(place: &LaneView, one: &BatchProgress, of: &Cause) -> String {
    let run = one.run.map(|run| run.to_string());
    let mut fields = vec![("lane", &*place.name), ("batch", &*one.batch), ("cause", &*of.id)];
    fields.extend(run.as_deref().map(|run| ("batch_run", run)));
    format!("/dead-letters{}", query(&fields))
}

fn title(result: &ResultData) -> &str {
    if result.name.is_empty() { &result.request_id } else { &result.name }
}

/// What is asked of the servers of a batch.
pub(super) struct Wanted<'a> {
    pub(super) place: &'a LaneView,
    pub(super) fields: &'a Fields,
    pub(super) batch: &'a str,
    /// What the worker said of those of it that wait or are in flight.
    pub(super) held: &'a Result<Vec<Upcoming>, String>,
}

/// So many that have not ended come before the page that is asked for.
pub(super) fn first_pending(fields: &Fields) -> usize {
    (pending_page(fields) - 1).saturating_mul(ROWS)
}

fn pending_page(fields: &Fields) -> usize {
    fields.get("waiting").and_then(|page| page.parse().ok()).unwrap_or(1_usize).max(1)
}

impl Wanted<'_> {
    fn text(&self) -> String {
        self.fields.get("q").unwrap_or_default().to_lowercase()
    }

    /// Every server of the batch, with a box to find one.
    pub(super) fn servers(&self, seen: &Seen, one: Option<&BatchProgress>) -> Markup {
        html! {
            section.card #servers {
                h2 { "Servers" }
                form.line method="get" action="/batches/one" role="search" {
                    (hidden("lane", &self.place.name)) (hidden("batch", self.batch))
                    @if let Some(run) = self.fields.get("run") { (hidden("run", run)) }
                    label { "Name, source server, task or message id contains" input type="search" name="q" value=(self.fields.get("q").unwrap_or_default()) maxlength="200" autocomplete="off"; }
                    span.actions { button type="submit" { "Find in this batch" } }
                }
                (self.lists(seen, one))
            }
        }
    }

    /// What waits first, then what has ended, a page at a time; it keeps itself up to date, and leaves the box alone.
    pub(super) fn lists(&self, seen: &Seen, one: Option<&BatchProgress>) -> Markup {
        let text = self.text();
        let mut ended = one.map(BatchProgress::results).unwrap_or_default();
        ended.retain(|result| is_meant(result, &text));
        let held = self.held.as_deref().unwrap_or_default();
        let (before, is_full) = (first_pending(self.fields), held.len() == ROWS);
        let seen_pending = (before + held.len()) as u64;
        // What has ended a moment ago may still be told of as in flight.
        let is_over = |one: &Upcoming| ended.iter().any(|result| result.run == one.run);
        let held: Vec<&Upcoming> = held.iter().filter(|one| !is_over(one)).collect();
        let (page, pages) = page::asked(self.fields, ended.len());
        let left = one.and_then(|one| Some(one.total()?.saturating_sub(one.settled())));
        let waiting = pending_page(self.fields).to_string();
        let again = [("part", "servers"), ("page", &page.to_string()), ("waiting", &waiting)];
        let again = self.address(&again);
        html! {
            div #lists hx-get=(again) hx-trigger="every 5s" hx-swap="outerHTML" {
                h3 { "Not ended: " @match left { Some(left) => (grouped(left)), None => "of a number that was not announced" } }
                @if let Err(why) = self.held { (notice(false, &format!("What of it waits cannot be said now: {why}."))) }
                @if !held.is_empty() { (self.pending(&held)) }
                @if before > 0 || is_full { (self.turn_pending(before, held.len(), is_full)) }
                @if let Some(left) = left.filter(|left| *left > seen_pending && text.is_empty() && !is_full) {
                    p.soft { (grouped(left - seen_pending)) " more of it are parked, or in the queue of requests: they lie on the broker and cannot be listed before the window has them." }
                }
                h3 { "Ended: " (grouped(ended.len())) }
                @if !seen.left_out.is_empty() && one.is_none() { p.soft { "Its results are left out here, for there are too many." } }
                @if !ended.is_empty() {
                    table #ended.stack {
                        thead { tr { th.n { "Row" } th { "Name" } th { "Ended" } th { "Task, or why not" } th { "Source server" } th { "When" } } }
                        tbody { @for result in ended.iter().skip((page - 1) * ROWS).take(ROWS) { (self.row(result)) } }
                    }
                    @if pages > 1 { (self.turn(page, pages)) }
                }
            }
        }
    }

    /// This page with what was asked of it, and more.
    fn address(&self, more: &[(&str, &str)]) -> String {
        let mut fields = vec![("lane", &*self.place.name), ("batch", self.batch)];
        let kept = ["run", "q"].into_iter();
        fields.extend(kept.filter_map(|name| Some((name, self.fields.get(name)?))));
        fields.extend(more);
        format!("/batches/one{}", query(&fields))
    }

    fn pending(&self, held: &[&Upcoming]) -> Markup {
        html! {
            table #pending.stack {
                thead { tr { th { "Name" } th.n { "Priority" } th { "Why it waits" } th { "Source server" } } }
                tbody { @for one in held { tr {
                    td { (waiting::link(self.place, one)) }
                    td.n data-label="priority" { (one.priority) }
                    td.why { (waiting::waits(one)) }
                    td data-label="source server" { (whole(&one.source_server_id)) }
                } } }
            }
        }
    }

    fn row(&self, result: &ResultData) -> Markup {
        html! {
            tr {
                td.n data-label="row" { @if let Some(row) = result.row { (row) } }
                td { @if result.outcome.is_dead_letter() { a href=(self.letter(result)) { (whole(title(result))) } } @else { (whole(title(result))) } }
                td { (badge(result.outcome.as_str())) }
                td.why { @match &result.task_id { Some(task) => (whole(task)), None => bdi { (visible(&result.reason)) } } }
                td data-label="source server" { (whole(&result.source_server_id)) }
                td.when { (ago(result.settled_at)) }
            }
        }
    }

    /// Its dead letter.
    fn letter(&self, result: &ResultData) -> String {
        let fields = [
            ("lane", &*self.place.name),
            ("batch", self.batch),
            ("source_server", &*result.source_server_id),
        ];
        format!("/dead-letters{}", query(&fields))
    }

    /// Nobody counts what waits of a batch: a full page may have another one after it.
    fn turn_pending(&self, before: usize, shown: usize, is_full: bool) -> Markup {
        let page = pending_page(self.fields);
        let to =
            |page: usize| format!("{}#servers", self.address(&[("waiting", &page.to_string())]));
        html! {
            nav.pages aria-label="Pages of servers that have not ended" {
                @if page > 1 { a #sooner href=(to(page - 1)) rel="prev" { "← sooner" } }
                span { @if shown == 0 { "none further" } @else { (grouped(before + 1)) " to " (grouped(before + shown)) } }
                @if is_full { a #later href=(to(page + 1)) rel="next" { "later →" } }
            }
        }
    }

    fn turn(&self, page: usize, pages: usize) -> Markup {
        page::turn_by("Pages of servers", ["← before", "further →"], page, pages, |n| {
            format!("{}#servers", self.address(&[("page", &n.to_string())]))
        })
    }
}

fn is_meant(result: &ResultData, text: &str) -> bool {
    let texts = [&result.name, &result.source_server_id, &result.request_id];
    let mut all = texts.into_iter().chain(&result.task_id);
    text.is_empty() || all.any(|whole| whole.to_lowercase().contains(text))
}
