//! How far have the batches come, when will they end, and what went wrong in one?

use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

use super::LaneView;
use super::asked::Asked;
use super::ends::{self, Ends};
use super::fields::Fields;
use super::follow::{DAYS, Seen};
use super::page::{ROWS, ago, clock, notice, query, whole};
use super::{members, planned};
use crate::core::Outcome;
use crate::core::engine::{Sought, Upcoming};
use crate::message::generation::{RunPrefix, short};
use crate::report::batches::{BatchPattern, Batches, Together, common_beginnings};
use crate::report::progress::BatchProgress;
use crate::report::text::{grouped, visible};

/// So long a page waits for the stream to be read, before it shows what there is.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Older than this, the figures are not those of now.
const STALE: SignedDuration = SignedDuration::from_secs(15);

impl LaneView {
    pub(super) fn results<T>(&self, tell: impl FnOnce(&Seen) -> T) -> T {
        let review = &self.lane.review;
        self.follower.look(&review.settings, &review.queues, tell)
    }

    /// Waits a moment for the first reading to be whole.
    pub(super) async fn first_reading(&self) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let unread = || self.results(|seen| seen.whole_at.is_none() && seen.trouble.is_none());
        while unread() && tokio::time::Instant::now() < end {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(super) async fn list(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let wanted = match fields.get("begins").map(str::parse::<BatchPattern>).transpose() {
        Ok(wanted) => wanted,
        Err(why) => return asked.trouble(StatusCode::BAD_REQUEST, &why),
    };
    place.first_reading().await;
    let begins = wanted.as_ref().map(ToString::to_string);
    let shown = |seen: &Seen| {
        let meant =
            |one: &&BatchProgress| wanted.as_ref().is_none_or(|wanted| wanted.matches(&one.batch));
        ends::open(seen.batches.iter().filter(meant))
    };
    let ends = place.ends(shown).await;
    let content = place.results(|seen| {
        let mut again = vec![("lane", &*place.name), ("part", "1")];
        again.extend(begins.as_deref().map(|begins| ("begins", begins)));
        html! {
            div #part hx-get={ "/batches" (query(&again)) } hx-trigger="every 2s" hx-swap="outerHTML" {
                (how_old(seen))
                (table(place, seen, wanted.as_ref(), &ends))
            }
        }
    });
    if fields.get("part").is_some() {
        return content.into_response();
    }
    let content = html! {
        (content)
        @if begins.is_some() { p { a href={ "/batches" (query(&[("lane", &place.name)])) } { "To all batches" } } }
    };
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

/// What stands in the list: batches that begin alike together, under one line of all of them.
struct Section<'a> {
    /// `weekend-`
    beginning: Option<&'a str>,
    batches: Vec<&'a BatchProgress>,
}

impl Section<'_> {
    fn begun(&self) -> Option<Timestamp> {
        self.batches.iter().filter_map(|one| one.begun_at()).max()
    }
}

/// The latest first; those that belong together stand where the latest of them does, in the order in which they began.
fn sections<'a>(batches: &'a Batches, wanted: Option<&BatchPattern>) -> Vec<Section<'a>> {
    let known = |one: &&BatchProgress| {
        one.is_known() && wanted.is_none_or(|wanted| wanted.matches(&one.batch))
    };
    let ids = batches.ids();
    let beginnings = common_beginnings(&ids);
    let mut together: BTreeMap<&str, Vec<&BatchProgress>> = BTreeMap::new();
    let mut sections = Vec::new();
    for one in batches.iter().filter(known) {
        match beginnings.get(&*one.batch) {
            Some(beginning) => together.entry(beginning).or_default().push(one),
            None => sections.push(Section { beginning: None, batches: vec![one] }),
        }
    }
    for (beginning, mut all) in together {
        all.sort_by_key(|one| (one.begun_at(), one.batch.clone()));
        sections.push(Section { beginning: Some(beginning), batches: all });
    }
    sections.sort_by_cached_key(|one| {
        (std::cmp::Reverse(one.begun()), one.batches.first().map(|one| one.batch.clone()))
    });
    sections
}

fn table(place: &LaneView, seen: &Seen, wanted: Option<&BatchPattern>, ends: &Ends) -> Markup {
    let sections = sections(&seen.batches, wanted);
    let count: usize = sections.iter().map(|section| section.batches.len()).sum();
    let (mut rows, mut shown) = (Vec::new(), 0);
    for section in &sections {
        if let Some(beginning) = section.beginning {
            rows.push(together(place, rows.len(), beginning, &seen.batches, section));
        }
        for one in &section.batches {
            let again = seen.batches.generations(&one.batch).len() > 1;
            rows.push(row(place, rows.len(), one, again, section.beginning.is_some(), ends));
        }
        shown += section.batches.len();
        if shown >= ROWS {
            break;
        }
    }
    html! {
        @if sections.is_empty() && seen.whole_at.is_some() {
            (notice(false, "No such batches in these days. `sluice enqueue PLAN` makes one; requests of other clients are told apart by the header x-sluice-batch."))
        } @else if !sections.is_empty() {
            div.card { table #batches.stack {
                thead { tr { th { "Batch" } th { "Progress" } th.n { "Ended" } th.n { "Failed" } th { "End" } th.wide { "Begun" } th.wide { "Plan" } } }
                tbody { @for row in &rows { (row) } }
            } }
            @if count > shown { p.soft { "The latest " (grouped(shown)) " of " (grouped(count)) "." } }
        }
    }
}

/// One line for batches that begin alike: of each id the latest generation counts.
fn together(
    place: &LaneView,
    number: usize,
    beginning: &str,
    batches: &Batches,
    section: &Section<'_>,
) -> Markup {
    let is_latest =
        |one: &&&BatchProgress| batches.latest(&one.batch).is_some_and(|it| it.run == one.run);
    let all = Together::of(section.batches.iter().filter(is_latest).copied());
    let begins = format!("{beginning}*");
    let link = format!("/batches{}", query(&[("lane", &place.name), ("begins", &begins)]));
    html! {
        tr.together {
            th scope="row" { a id={ "together-" (number) } href=(link) { (whole(&begins)) } " " span.soft { (grouped(all.batches)) " batches" } }
            td { (progress(all.settled, all.total)) }
            td.n { (ended(all.settled, all.total)) }
            td.n { (grouped(all.failed)) }
            td { @if all.done { span.good { "done" } } }
            td.wide {} td.wide {}
        }
    }
}

fn ended(settled: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {}", grouped(settled), grouped(total)),
        None => grouped(settled),
    }
}

fn row(
    place: &LaneView,
    number: usize,
    one: &BatchProgress,
    again: bool,
    inner: bool,
    ends: &Ends,
) -> Markup {
    html! {
        tr.inner[inner] {
            td { a id={ "batch-" (number) } href=(if again { generation(place, one) } else { of_batch("/batches/one", "run", place, one) }) { (whole(&one.batch)) } @if again { " " span.soft { "generation " (short(one.run)) } } }
            td { (bar(one)) }
            td.n { (ended(one.settled(), one.total())) }
            td.n { @if one.failed() > 0 { a id={ "failed-" (number) } href=(of_batch("/dead-letters", "batch_run", place, one)) { (grouped(one.failed())) } } @else { "0" } }
            td { (end(one, ends, false)) }
            td.wide { @if let Some(at) = one.begun_at() { (ago(at)) } }
            td.wide { @if let Some(plan) = &one.plan { (whole(plan)) } @if let Some(by) = &one.by { " by " bdi { (visible(by)) } } }
        }
    }
}

/// Where a page tells of this generation; `field` is what the page calls it.
fn of_batch(path: &str, field: &str, place: &LaneView, one: &BatchProgress) -> String {
    let run = one.run.map(|run| run.to_string());
    let mut fields = vec![("lane", &*place.name), ("batch", &*one.batch)];
    fields.extend(run.as_deref().map(|run| (field, run)));
    format!("{path}{}", query(&fields))
}

/// The page of a generation that has others beside it: the one without a UUID is named, too.
fn generation(place: &LaneView, one: &BatchProgress) -> String {
    let run = one.run.map_or_else(|| "-".to_owned(), |run| run.to_string());
    let fields = [("lane", &*place.name), ("batch", &one.batch), ("run", &run)];
    format!("/batches/one{}", query(&fields))
}

fn bar(one: &BatchProgress) -> Markup {
    progress(one.settled(), one.total())
}

fn progress(settled: u64, total: Option<u64>) -> Markup {
    let told = match total {
        Some(total) => format!("{settled} of {total} have ended"),
        None => format!("{settled} have ended, of a number that was not announced"),
    };
    let most = total.unwrap_or(settled).max(settled).max(1);
    html! { progress max=(most) value=(settled) aria-label=(told) { (told) } }
}

/// When it ends, as the forecast says; and its pace.
fn end(one: &BatchProgress, ends: &Ends, whole: bool) -> Markup {
    let now = Timestamp::now();
    let last = one.summary().last_settled_at;
    html! {
        @if one.is_done() { span.good { "done" } @if let Some(at) = last { " " (ago(at)) } }
        @else if one.total().is_none() { span.soft { "not announced" } }
        @else {
            (ends.of(one, now, whole))
            @if let Some(rate) = one.per_second(now) { span.soft { ", at " (format!("{rate:.2}")) "/s" } }
        }
    }
}

pub(super) async fn one(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let Some(batch) = fields.get("batch") else {
        let why = "Which batch? The list of batches leads to each.";
        return asked.trouble(StatusCode::NOT_FOUND, why);
    };
    let run = match fields.get("run").map(str::parse::<RunPrefix>).transpose() {
        Ok(run) => run,
        Err(why) => return asked.trouble(StatusCode::BAD_REQUEST, &why),
    };
    place.first_reading().await;
    let part = fields.get("part");
    let shown = run.as_ref().map(ToString::to_string);
    let ends = place.ends(|seen| ends::open(this(seen, batch, run.as_ref()).into_iter())).await;
    let content = place.results(|seen| {
        let mut again = vec![("lane", &*place.name), ("batch", batch), ("part", "1")];
        again.extend(shown.as_deref().map(|run| ("run", run)));
        let all = seen.batches.generations(batch);
        html! {
            div #part hx-get={ "/batches/one" (query(&again)) } hx-trigger="every 2s" hx-swap="outerHTML" {
                @match this(seen, batch, run.as_ref()) {
                    Some(progress) => (details(place, progress, &all, &ends)),
                    None if seen.whole_at.is_none() => p { "It has not been found so far." },
                    None => (notice(true, &format!("The results of the last {DAYS} days know no {}batch {batch:?}. `sluice watch` knows older ones.", if shown.is_some() { "such generation of " } else { "" }))),
                }
                (how_old(seen))
            }
        }
    });
    if part == Some("1") {
        return content.into_response();
    }
    let held = held(place, batch, fields).await;
    let wanted = members::Wanted { place, fields, batch, held: &held };
    let servers = place.results(|seen| {
        let all = seen.batches.generations(batch);
        let meant = all.into_iter().find(|one| run.as_ref().is_none_or(|run| run.matches(one.run)));
        if part.is_some() { wanted.lists(seen, meant) } else { wanted.servers(seen, meant) }
    });
    if part.is_some() {
        return servers.into_response();
    }
    let latest = || place.results(|seen| seen.batches.latest(batch).and_then(|one| one.run));
    let meant = run.as_ref().map_or_else(latest, |run| {
        place.results(|seen| {
            let all = seen.batches.generations(batch);
            all.iter().find(|one| run.matches(one.run)).and_then(|one| one.run)
        })
    });
    let planned = planned::form(place, &asked.viewer, batch, meant, &asked.console.told(fields));
    let content = html! { (content) (servers) (planned) p { a href={ "/batches" (query(&[("lane", &place.name)])) } { "To all batches" } } };
    asked.page("Batch", &content)
}

/// The generation that is meant: the latest, where none is named.
fn this<'a>(seen: &'a Seen, batch: &str, run: Option<&RunPrefix>) -> Option<&'a BatchProgress> {
    let all = seen.batches.generations(batch);
    all.into_iter().find(|one| run.is_none_or(|run| run.matches(one.run)))
}

/// A page of what of the batch waits in the window or is in flight, and has what was looked for.
async fn held(place: &LaneView, batch: &str, fields: &Fields) -> Result<Vec<Upcoming>, String> {
    let sought = Sought { text: fields.get("q").unwrap_or_default(), batch: Some(batch) };
    let asked = place.find_requests(sought, members::first_pending(fields));
    let told = tokio::time::timeout(PATIENCE, asked).await;
    told.unwrap_or_else(|_| Err("the worker has not answered in time".to_owned()))
}

/// The other generations of this id, if there are some.
fn others(place: &LaneView, one: &BatchProgress, all: &[&BatchProgress]) -> Markup {
    html! {
        @if all.len() > 1 {
            p.soft {
                "This is generation " (short(one.run)) " of " (all.len()) "; the id was used again. Others: "
                @for (n, other) in all.iter().filter(|other| other.run != one.run).enumerate() {
                    @if n > 0 { ", " }
                    a id={ "generation-" (n) } href=(generation(place, other)) { (short(other.run)) }
                    @if let Some(at) = other.begun_at() { " (" (ago(at)) ")" }
                }
                "."
            }
        }
    }
}

fn details(place: &LaneView, one: &BatchProgress, all: &[&BatchProgress], ends: &Ends) -> Markup {
    let settled = grouped(one.settled());
    let letters = of_batch("/dead-letters", "batch_run", place, one);
    html! {
        section.card {
            h2 { (whole(&one.batch)) }
            @if let Some(plan) = &one.plan { p.soft { "Plan " bdi { (visible(plan)) } @if let Some(by) = &one.by { ", enqueued by " bdi { (visible(by)) } } @if let Some(at) = one.opened_at { ", " (ago(at)) } "." } }
            (others(place, one, all))
            (bar(one))
            p {
                strong { (settled) } @if let Some(total) = one.total() { " of " strong { (grouped(total)) } } " have ended. "
                @if !one.is_done() { "End: " } (end(one, ends, true)) "."
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
        (members::failures(place, one, &letters))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::message::result::{self, Event, Opened};

    fn opened(batches: &mut Batches, batch: &str, run: u128, second: i64) {
        let opened = Opened {
            batch: batch.into(),
            batch_run: Some(Uuid::from_u128(run)),
            total: 1,
            plan: "p".into(),
            by: "mei".into(),
        };
        let at = Timestamp::from_second(second).unwrap();
        batches.take(&Event::Opened(result::opened(opened, "sluice", at)));
    }

    #[test]
    fn batches_that_begin_alike_stand_together_and_each_generation_has_a_line() {
        let mut batches = Batches::default();
        for (n, batch) in ["nightly", "w-1", "alone", "w-2", "nightly"].into_iter().enumerate() {
            opened(&mut batches, batch, n as u128, 1_800_000_000 + i64::try_from(n).unwrap());
        }
        let told = |wanted: Option<&str>| -> Vec<_> {
            let wanted = wanted.map(|wanted| wanted.parse().unwrap());
            let names = |section: Section<'_>| {
                let all = section.batches.iter().map(|one| one.batch.clone()).collect::<Vec<_>>();
                (section.beginning.map(str::to_owned), all.join(" "))
            };
            sections(&batches, wanted.as_ref()).into_iter().map(names).collect()
        };
        let alone = |batch: &str| (None, batch.to_owned());
        let waves = (Some("w-".to_owned()), "w-1 w-2".to_owned());
        assert_eq!(told(None), [alone("nightly"), waves.clone(), alone("alone"), alone("nightly")]);
        assert_eq!(told(Some("w-*")), [waves]);
    }
}
