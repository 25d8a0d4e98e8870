//! Which dead letters are there, and why did they die? By cause, with the conditions that are given, a page at a time.

use std::sync::Arc;

use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::access::{Viewer, operator};
use super::asked::Asked;
use super::deeds::{self, Notes};
use super::fields::{Fields, TEXTS};
use super::look::Look;
use super::page::{self, ROWS, ago, badge, csrf, hidden, notice, query, whole};
use super::{Console, LaneView};
use crate::broker::dead_letters::{Found, Snapshot};
use crate::report::text::{grouped, visible};
use crate::review::{Cause, DeadLetter, Filter, Group, groups};

/// Longer than the time between two counts of the queue.
const COUNTED: jiff::SignedDuration = jiff::SignedDuration::from_secs(30);

pub(super) async fn list(asked: Asked) -> Response {
    let Asked { console, place, viewer, fields, .. } = &asked;
    let again = fields.get("look").is_some();
    let look = match fields.get("wait") {
        Some(_) => place.glance_again().await,
        None => place.glance(again).await,
    };
    let content = match look {
        // Loading the page again does not look again.
        Look::Seen(_) if again => {
            return Redirect::to(&format!("/dead-letters?{}", fields.query())).into_response();
        }
        Look::Seen(snapshot) => {
            let (filter, wrong) = match fields.filter() {
                Ok(filter) => (filter, None),
                Err(why) => (Filter::default(), Some(why)),
            };
            let notes = deeds::notes(place, false).await.unwrap_or_default();
            let view = View { console, place, viewer, fields, notes: &notes };
            let selected = select(&snapshot, &filter).await;
            html! {
                @if let Some(why) = &wrong { (notice(true, why)) }
                (view.overview(&filter, &snapshot, &selected))
            }
        }
        Look::UnderWay => under_way(console, place, fields),
        Look::Failed(why) => html! {
            (notice(true, &format!("The dead letters cannot be seen now: {why}.")))
            p { a.button href={ "/dead-letters?look=1&" (fields.query()) } { "Try again" } }
        },
    };
    asked.page("Dead letters", &content)
}

/// Which dead letters meet the conditions, by their place in the queue. A text is looked for in bodies, which may lie in a
/// file, so that is done beside what serves pages.
pub(super) async fn select(snapshot: &Arc<Snapshot>, filter: &Filter) -> Vec<usize> {
    let (all, filter) = (Arc::clone(snapshot), filter.clone());
    let found = tokio::task::spawn_blocking(move || {
        let letters = all.letters.iter().enumerate();
        let met = letters.filter(|(_, found)| filter.matches(&found.letter, || found.body().ok()));
        met.map(|(at, _)| at).collect()
    });
    found.await.unwrap_or_default()
}

/// Asks for itself until the pass has ended.
fn under_way(console: &Console, place: &LaneView, fields: &Fields) -> Markup {
    let again = format!("/dead-letters?wait=1&{}", fields.query());
    html! {
        section.card #looking hx-get=(again) hx-trigger="load delay:400ms" hx-target="main" hx-select="main" hx-swap="outerHTML" {
            h2 { "Looking at the dead letters…" }
            progress aria-label="looking" {}
            @for job in console.jobs.going(&place.name) { p { "Waiting until this has ended: " (job) } }
            p.soft { "Each reading takes the whole queue for a moment and puts it back. While somebody else reviews (another console, or sluice dead-letters) it waits for them, up to "
                (place.lane.review.patience.as_secs()) " s, and then says so." }
            noscript { p { a href=(again) { "See whether it has ended" } } }
        }
    }
}

/// What all parts of this page look at.
struct View<'a> {
    console: &'a Console,
    place: &'a LaneView,
    viewer: &'a Viewer,
    fields: &'a Fields,
    notes: &'a Notes,
}

impl View<'_> {
    fn overview(&self, filter: &Filter, snapshot: &Snapshot, selected: &[usize]) -> Markup {
        let all = *filter == Filter::default();
        let of = |places: &[usize]| {
            let letters = places.iter().filter_map(|at| snapshot.letters.get(*at));
            groups(letters.map(|found| &found.letter))
        };
        let met = of(selected);
        let every = groups(snapshot.letters.iter().map(|found| &found.letter));
        html! {
            (self.heading(snapshot, every.len()))
            @if snapshot.letters.is_empty() {
                (notice(false, "No dead letters: every request so far has ended well, or waits for its turn."))
            } @else {
                (self.conditions(&every, all))
                @if let (Some(cause), [group]) = (&filter.cause, &met[..]) && *cause == group.cause.id { (one_cause(group)) }
                @else if selected.is_empty() { (notice(false, "No dead letter meets these conditions; clear the filter to see all.")) }
                @else { (self.causes(&met)) }
                @if !selected.is_empty() { (self.letters(snapshot, selected, all)) }
            }
        }
    }

    fn heading(&self, snapshot: &Snapshot, causes: usize) -> Markup {
        let (letters, left) = (snapshot.letters.len(), snapshot.left);
        let copies: u64 = snapshot.letters.iter().map(|one| u64::from(one.letter.copies)).sum();
        let seen = copies + u64::from(left);
        // The count of the status is some seconds old itself.
        let is_old = jiff::Timestamp::now().duration_since(snapshot.at) > COUNTED;
        let now = self.place.lane.status.borrow().queues.map(|queues| queues.dead_letters);
        html! {
            div.bar {
                p { strong.big { (letters) } (if letters == 1 { " dead letter of " } else { " dead letters of " }) strong.big { (causes) } (if causes == 1 { " cause" } else { " causes" })
                    span.soft { ", as of " (ago(snapshot.at)) } }
                a.button href={ "/dead-letters?look=1&" (self.fields.query()) } { "Look again" }
            }
            @for job in self.console.jobs.going(&self.place.name) { p.notice role="status" { "Under way: " (job) } }
            @if let Some(now) = now && now > seen && is_old {
                p.soft { "The queue holds " (now) " now: look again to see the others." }
            }
            @if left > 0 {
                (notice(false, &format!("More than one pass can hold: {left} further dead letters were not looked at. They are shown when some of these are gone, so work in parts.")))
            }
        }
    }

    fn conditions(&self, causes: &[Group], all: bool) -> Markup {
        let value = |name: &str| self.fields.get(name).unwrap_or("");
        html! {
            details.card open[!all] {
                summary { "Filter" }
                form.line method="get" action="/dead-letters" role="search" {
                    @if let Some(lane) = self.fields.get("lane") { (hidden("lane", lane)) }
                    label.full { "Cause"
                        select name="cause" {
                            option value="" { "any" }
                            @for group in causes {
                                option value=(group.cause.id) selected[value("cause") == group.cause.id] { (group.count) " × " (visible(&group.cause.in_a_line())) }
                            }
                        }
                    }
                    @for (name, label, _) in TEXTS { label { (label) input type="text" name=(name) value=(value(name)); } }
                    (hidden("zone", if value("zone").is_empty() { "UTC" } else { value("zone") }))
                    @for (name, label) in [("from", "Failed from"), ("to", "Failed before")] {
                        label { (label) ", " span data-zone { "UTC" } input type="text" name=(name) value=(value(name)) placeholder="2026-01-31T12:00" inputmode="numeric"; }
                    }
                    span.actions {
                        button type="submit" { "Show" }
                        @if !all { a.button.plain href={ "/dead-letters" (query(&[("lane", &self.place.name)])) } { "Clear" } }
                    }
                }
            }
        }
    }

    fn causes(&self, groups: &[Group]) -> Markup {
        let here = |group: &Group| self.fields.with("cause", &group.cause.id);
        html! {
            section.card aria-labelledby="by-cause" {
                h2 #by-cause { "By cause" }
                table #causes.stack {
                    thead { tr { th.n { "Dead letters" } th { "Cause" } th { "Newest" } th { "Oldest" } } }
                    tbody { @for group in groups { tr {
                        td.n.count { (group.count) }
                        td { a.cause href={ "/dead-letters?" (here(group)) } { (cause(&group.cause)) } }
                        td.when data-label="newest" { @if let Some(at) = group.newest { (ago(at)) } }
                        td.when data-label="oldest" { @if let Some(at) = group.oldest { (ago(at)) } }
                    } } }
                }
            }
        }
    }

    fn letters(&self, snapshot: &Snapshot, selected: &[usize], all: bool) -> Markup {
        let count = selected.len();
        let (page, pages) = page::asked(self.fields, count);
        // The latest stand first.
        let shown = selected.iter().rev().skip((page - 1) * ROWS).take(ROWS);
        let shown: Vec<&Found> = shown.filter_map(|at| snapshot.letters.get(*at)).collect();
        html! {
            form.card method="post" action="/dead-letters/prepare" {
                h2 { (count) (if count == 1 { " dead letter" } else { " dead letters" }) @if !all { " by these conditions" } }
                (hidden("lane", &self.place.name))
                @for (name, value) in self.fields.conditions() { (hidden(name, value)) }
                @if let Some(session) = operator(self.viewer) {
                    (csrf(session))
                    (what_to_do(count, all))
                } @else {
                    p.soft { a href="/log-in" { "Log in as an operator" } " to replay, edit or discard." }
                }
                p { "Download " (if all { "all" } else { "these" }) ": "
                    a href={ "/dead-letters/export?format=jsonl&" (self.fields.query()) } { ".jsonl" } " to import again, "
                    a href={ "/dead-letters/export?format=csv&" (self.fields.query()) } { ".csv" } " for a spreadsheet" }
                (self.table(&shown))
                @if pages > 1 { (self.pages(page, pages)) }
            }
        }
    }

    fn table(&self, shown: &[&Found]) -> Markup {
        let ticks = operator(self.viewer).is_some();
        html! {
            table #letters.stack {
                thead { tr { @if ticks { th { span.unseen { "Tick" } } } th { "Name" } th { "Reason" } th { "Batch" } th { "Failed" } } }
                tbody { @for found in shown { (self.row(ticks, &found.letter)) } }
            }
        }
    }

    fn row(&self, ticks: bool, letter: &DeadLetter) -> Markup {
        let id = letter.id.to_string();
        let name = title(letter);
        let batch = letter.batch.as_deref().unwrap_or("-");
        html! {
            tr {
                @if ticks { td.tick { input type="checkbox" name="id" value=(id) aria-label={ "tick " (name) }; } }
                td { a href={ "/dead-letters/one" (query(&[("lane", &self.place.name), ("id", &id)])) } { (whole(&name)) } @if letter.copies > 1 { span.soft { " ×" (letter.copies) } } }
                td.why { bdi { (visible(&letter.reason)) }
                    @if let Some(note) = self.notes.get(&letter.id).and_then(|notes| notes.last()) {
                        p.note { "Note of " bdi { (visible(&note.who)) } ": " bdi { (visible(note.why.as_deref().unwrap_or_default())) } }
                    }
                }
                td.when data-label="batch" { (whole(batch)) }
                td.when data-label="failed" { @if let Some(at) = letter.failed_at { (ago(at)) } }
            }
        }
    }

    fn pages(&self, page: usize, pages: usize) -> Markup {
        let to = |n: usize| format!("/dead-letters?{}", self.fields.with("page", &n.to_string()));
        page::turn("Pages of dead letters", page, pages, to)
    }
}

/// What is ticked is what is meant; all of them are a choice of their own, with their number.
fn what_to_do(count: usize, all: bool) -> Markup {
    html! {
        fieldset.choice {
            legend.unseen { "Which" }
            label { input type="radio" name="which" value="ticked" checked; " those ticked below" span data-ticked {} }
            label { input type="radio" name="which" value="all"; " all " (grouped(count)) @if !all { " by these conditions" } }
        }
        div.actions {
            button type="submit" name="do" value="replay" { "Replay…" }
            button.danger type="submit" name="do" value="discard" { "Discard…" }
            span.soft { "Before anything moves you see what it will do." }
        }
        details {
            summary { "Edit and replay" }
            label for="changes" { "One change a line: " code { "target_server.name=web-1" } " sets a field, " code { "tags!" } " removes one, " code { "header x-sluice-priority=3" } " sets a header" }
            textarea #changes name="changes" spellcheck="false" {}
            button type="submit" name="do" value="edit" { "Preview the edit…" }
        }
    }
}

fn one_cause(group: &Group) -> Markup {
    html! {
        section.card {
            h2 { (cause(&group.cause)) }
            p.soft { (group.count) " dead letters"
                @if let Some(at) = group.newest { ", newest " (ago(at)) }
                @if let Some(at) = group.oldest { ", oldest " (ago(at)) } }
        }
    }
}

/// The outcome, the code and the message.
pub(super) fn cause(cause: &Cause) -> Markup {
    html! {
        (badge(&cause.outcome))
        @if let Some(code) = &cause.error_code { " " code { (visible(code)) } }
        @if let Some(status) = cause.status { span.soft { " HTTP " (status) } }
        @if cause.outcome == "invalid" { " at" } " " bdi { (visible(&cause.message)) }
    }
}

/// What a dead letter is called, even if its name is empty.
pub(super) fn title(letter: &DeadLetter) -> String {
    let name = if letter.name.trim().is_empty() { &letter.request_id } else { &letter.name };
    let name = visible(name);
    if name.trim().is_empty() { "(no name)".to_owned() } else { name.into_owned() }
}
