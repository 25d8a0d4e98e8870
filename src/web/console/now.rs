//! How is the worker just now? The gate and why it is shut, the rate against its limit, the window, what runs; live.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use maud::{Markup, html};
use tokio::sync::OwnedSemaphorePermit;

use super::access::Viewer;
use super::asked::Asked;
use super::page::{self, query};
use super::{LaneView, SharedConsole, gate, standby, steer, waiting};
use crate::message::status::{BatchCounts, Status};
use crate::message::words::roughly;
use crate::report::text::{grouped, visible};
use crate::web::http::Reading;

/// People cannot read faster.
const EVERY: Duration = Duration::from_secs(1);

/// What is exchanged live, each piece by itself and only when it has changed.
const PARTS: [&str; 4] = ["gate", "plots", "figures", "window"];

pub(super) async fn show(asked: Asked) -> Response {
    let Asked { place, fields, .. } = &asked;
    let of_all = asked.console.places.len() > 1 && fields.get("lane").is_none();
    let content = if of_all {
        html! { div hx-ext="sse" sse-connect="/events/now" { div sse-swap="lanes" { (lanes(&asked.console.places)) } } }
    } else {
        let status = place.lane.status.borrow().clone();
        let page = page::number(fields);
        let [gate, plots, figures, window] = parts(place, &asked.viewer, page).await;
        let number = page.to_string();
        let events = query(&[("lane", &place.name), ("page", &number)]);
        html! {
            div hx-ext="sse" sse-connect={ "/events/now" (events) } {
                (asked.console.told(fields))
                div sse-swap="gate" { (gate) }
                (steer::forms(place, &asked.viewer, &status))
                section.card { h2 { "The last hour" } div sse-swap="plots" { (plots) } }
                div sse-swap="figures" { (figures) }
                section.card { h2 { "Next in the window" } div sse-swap="window" { (window) } }
            }
        }
    };
    let content = html! {
        (content)
        noscript { p.soft { "Without a script this page is of the moment it was loaded; load it again for the next." } }
    };
    if of_all { asked.page_of_all("Now", &content) } else { asked.page("Now", &content) }
}

/// The hour as a table.
pub(super) async fn hour(asked: Asked) -> Response {
    asked.page("The last hour", &asked.place.lane.hour.table())
}

struct Live {
    console: SharedConsole,
    /// What the browser sent with its question: it is asked anew before each event whether this may read.
    asker: Parts,
    /// `None`: all lanes in short.
    lane: Option<String>,
    /// Of the window.
    page: usize,
    told: Vec<String>,
    due: VecDeque<Event>,
    /// Its place among those that are kept up to date.
    _place: OwnedSemaphorePermit,
}

impl Live {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Self)> {
        while self.due.is_empty() {
            tokio::time::sleep(EVERY).await;
            if self.console.doors.may_read(&self.asker) != Reading::Allowed {
                return None;
            }
            self.look().await;
        }
        let event = self.due.pop_front()?;
        Some((Ok(event), self))
    }

    async fn look(&mut self) {
        let fresh: Vec<(&str, Markup)> = match &self.lane {
            None => vec![("lanes", lanes(&self.console.places))],
            Some(name) => match self.console.places.iter().find(|place| place.name == *name) {
                Some(place) => {
                    let viewer = self.console.doors.session(&self.asker.headers);
                    PARTS.into_iter().zip(parts(place, &viewer, self.page).await).collect()
                }
                None => Vec::new(),
            },
        };
        self.told.resize(fresh.len(), String::new());
        for (told, (name, markup)) in self.told.iter_mut().zip(fresh) {
            // A carriage return would end the event's line.
            let text = markup.into_string().replace('\r', "");
            if text != *told {
                self.due.push_back(Event::default().event(name).data(&text));
                *told = text;
            }
        }
    }
}

pub(super) async fn events(sent: Parts, asked: Asked) -> Response {
    let Asked { console, fields, .. } = asked;
    let Ok(place) = Arc::clone(&console.streams).try_acquire_owned() else {
        let why = "too many pages are kept up to date by this worker: close some\n";
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "10")], why)
            .into_response();
    };
    let one = fields.get("lane").or_else(|| {
        let [only] = &console.places[..] else { return None };
        Some(&*only.name)
    });
    let lane = one.map(str::to_owned);
    let page = page::number(&fields);
    let (told, due) = (Vec::new(), VecDeque::new());
    let live = Live { console, asker: sent, lane, page, told, due, _place: place };
    Sse::new(stream::unfold(live, Live::next)).keep_alive(KeepAlive::default()).into_response()
}

async fn parts(place: &Arc<LaneView>, viewer: &Viewer, page: usize) -> [Markup; PARTS.len()] {
    let status = place.lane.status.borrow().clone();
    let table = format!("/now/hour{}", query(&[("lane", &place.name)]));
    [
        html! { (gate::card(&status, Some((place, viewer)))) (standby::active(place, &status).await) },
        place.lane.hour.plots(&table),
        figures(&status),
        waiting::table(place, &status, page).await,
    ]
}

fn lanes(places: &[Arc<LaneView>]) -> Markup {
    html! {
        @for place in places {
            @let status = place.lane.status.borrow().clone();
            section.lane {
                h2 { a id={ "lane-" (visible(&place.name)) } href={ "/" (query(&[("lane", &place.name)])) } { "Lane " (visible(&place.name)) } }
                (gate::card(&status, None))
                dl.figures { (counts(&status)) }
            }
        }
    }
}

fn figures(status: &Status) -> Markup {
    html! {
        section.card {
            h2 { "Rate against limit" }
            (rate(status))
        }
        section.card {
            h2 { "Held and waiting" }
            dl.figures { (counts(status)) }
            @if let Some(queues) = status.queues && queues.dead_letters > 0 {
                p { a #letters href={ "/dead-letters" (query(&[("lane", &status.lane)])) } { "Review " (grouped(queues.dead_letters)) " dead letters" } }
            }
        }
        @if !status.batches.is_empty() {
            section.card {
                h2 { "Open batches" }
                (batches(status))
            }
        }
    }
}

fn counts(status: &Status) -> Markup {
    let window = &status.window;
    let in_flight = format!("{} of {}", window.in_flight, status.limits.max_in_flight);
    html! {
        (figure("ready", grouped(window.ready)))
        (figure("waiting for a time or a look-up", grouped(window.waiting)))
        (figure("in flight", in_flight))
        (figure("being settled", grouped(window.settling)))
        @if window.unpublished > 0 { (figure("refused by the broker", grouped(window.unpublished))) }
        @if let Some(queues) = &status.queues { (figure("more in the queue", grouped(queues.requests))) (figure("dead letters", grouped(queues.dead_letters))) }
        @if let Some(running) = &status.running { (figure("migrations running", running.migrations.map_or_else(|| format!("not counted yet, of {}", running.most), |migrations| format!("{migrations} of {}", running.most)))) }
        (figure("settled since the start", grouped(status.settled)))
        (figure("bodies held", size(status.window_bytes)))
        @if let Some(oldest) = status.oldest_held_seconds { (figure("oldest held for", roughly(Duration::from_secs_f64(oldest.max(0.0)).as_secs()))) }
    }
}

fn figure(name: &str, value: impl std::fmt::Display) -> Markup {
    html! { div { dt { (name) } dd { (value.to_string()) } } }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_240 => format!("{} B", grouped(bytes)),
        10_240..10_485_760 => format!("{} KiB", grouped(bytes / 1024)),
        _ => format!("{} MiB", grouped(bytes / 1_048_576)),
    }
}

fn rate(status: &Status) -> Markup {
    let limits = &status.limits;
    html! {
        @match limits.allowed_per_second {
            Some(allowed) => {
                progress max=(format!("{allowed:.3}")) value=(format!("{:.3}", limits.made_per_second)) aria-label="calls per second against the limit" {}
                p { strong { (format!("{:.2}", limits.made_per_second)) } " calls/s over the last minute, " strong { (format!("{allowed:.2}")) } " allowed" }
            }
            None => p { strong { (format!("{:.2}", limits.made_per_second)) } " calls/s over the last minute; no limit is set" },
        }
        @if !limits.rates.is_empty() { p.soft { "Limits: " (limits.rates.join(" and ")) "; at most " (limits.max_in_flight) " in flight" } }
    }
}

fn batches(status: &Status) -> Markup {
    let of = |path: &str, field: &str, batch: &BatchCounts| {
        let run = batch.batch_run.map(|run| run.to_string());
        let run = run.as_deref().map(|run| (field, run));
        let fields: Vec<_> =
            [("lane", &*status.lane), ("batch", &*batch.batch)].into_iter().chain(run).collect();
        format!("{path}{}", query(&fields))
    };
    html! {
        div.scroll { table {
            thead { tr { th { "Batch" } th.n { "held" } th.n { "done" } th.n { "failed" } } }
            tbody { @for (n, batch) in status.batches.iter().enumerate() {
                tr {
                    td { a id={ "open-" (n) } href=(of("/batches/one", "run", batch)) { bdi { (visible(&batch.batch)) } } }
                    td.n { (grouped(batch.open)) } td.n { (grouped(batch.done)) }
                    td.n { @if batch.failed > 0 { a id={ "failed-" (n) } href=(of("/dead-letters", "batch_run", batch)) { (grouped(batch.failed)) } } @else { "0" } }
                }
            } }
        } }
        p.soft { "As this worker counts since it started; the batch's own page counts all." }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_told_in_units_that_people_read() {
        assert_eq!((size(900), size(2_000_000)), ("900 B".to_owned(), "1,953 KiB".to_owned()));
    }
}
