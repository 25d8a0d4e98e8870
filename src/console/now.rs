//! How is the worker just now? The gate and why it is shut, the rate against its limit, the window, what runs; live.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::stream::{self, Stream};
use maud::{Markup, html};

use super::access::Viewer;
use super::page::{self, ago, notice, query};
use super::text::visible;
use super::{Console, Place, Shared};
use crate::status::{Session, Status};

/// People cannot read faster.
const EVERY: Duration = Duration::from_secs(1);

pub(super) async fn show(
    State(console): State<Shared>,
    Extension(viewer): Extension<Viewer>,
) -> Markup {
    let Some(first) = console.places.first() else {
        return page::bare("Now", &notice(true, "This worker has no lane."));
    };
    let content = html! {
        div hx-ext="sse" sse-connect="/events/now" sse-swap="now" { (lanes(&console)) }
        noscript { p.soft { "Without a script this page is of the moment it was loaded; load it again for the next." } }
    };
    page::framed(&console, first, &viewer, "Now", &content)
}

pub(super) async fn events(
    State(console): State<Shared>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold(console, async |console| {
        tokio::time::sleep(EVERY).await;
        // A carriage return would end the event's line.
        let text = lanes(&console).into_string().replace('\r', "");
        Some((Ok(Event::default().event("now").data(text)), console))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

fn lanes(console: &Console) -> Markup {
    let several = console.places.len() > 1;
    html! { @for place in &console.places { (lane(place, several)) } }
}

fn lane(place: &Place, several: bool) -> Markup {
    let status = place.lane.status.borrow().clone();
    let open = status.gate.open;
    let window = &status.window;
    html! {
        section.card.gate.open[open].shut[!open] {
            @if several { h2 { "Lane " (visible(&status.lane)) } }
            p.word { @if open { "The gate is open" } @else { "The gate is shut" } }
            p { (visible(&status.why())) }
            p.soft {
                "Worker " (visible(&status.worker)) ", version " (status.version) ", started " (ago(status.started_at))
                "; as of " (ago(status.at)) "."
                @if let Session::Active { server, .. } = &status.session { " RabbitMQ " (server) "." }
            }
        }
        section.card {
            h2 { "Rate against limit" }
            (rate(&status))
        }
        section.card {
            h2 { "Window" }
            dl.figures {
                (figure("ready", window.ready))
                (figure("waiting", window.waiting))
                (figure("in flight", window.in_flight))
                (figure("settling", window.settling))
                (figure("settled since the start", status.settled))
                (figure("bytes held", status.window_bytes))
                @if let Some(queues) = &status.queues { (figure("in the queue", queues.requests)) (figure("dead letters", queues.dead_letters)) }
                @if let Some(running) = &status.running { (figure("migrations running", format!("{} of {}", running.migrations, running.most))) }
                @if let Some(oldest) = status.oldest_held_seconds { (figure("oldest held", format!("{oldest:.0} s"))) }
            }
            @if let Some(queues) = status.queues && queues.dead_letters > 0 {
                p { a href={ "/dead-letters" (query(&[("lane", &status.lane)])) } { "Review " (queues.dead_letters) " dead letters" } }
            }
        }
        section.card {
            h2 { "Open batches" }
            @if status.batches.is_empty() { p.soft { "None: no batch has requests here just now." } }
            @else { (batches(&status)) }
        }
    }
}

fn figure(name: &str, value: impl std::fmt::Display) -> Markup {
    html! { div { dt { (name) } dd { (value.to_string()) } } }
}

fn rate(status: &Status) -> Markup {
    let limits = &status.limits;
    html! {
        @match limits.allowed_per_second {
            Some(allowed) => {
                progress max=(format!("{allowed:.3}")) value=(format!("{:.3}", limits.made_per_second)) aria-label="calls per second against the limit" {}
                p { (format!("{:.2}", limits.made_per_second)) " calls/s over the last minute, " (format!("{allowed:.2}")) " allowed" }
            }
            None => p { (format!("{:.2}", limits.made_per_second)) " calls/s over the last minute; no limit is set" },
        }
        @if !limits.rates.is_empty() { p.soft { "Limits: " (limits.rates.join(" and ")) "; at most " (limits.max_in_flight) " in flight" } }
    }
}

fn batches(status: &Status) -> Markup {
    html! {
        div.scroll { table {
            thead { tr { th { "Batch" } th.n { "held" } th.n { "done" } th.n { "failed" } } }
            tbody { @for batch in &status.batches {
                tr {
                    td { bdi { (visible(&batch.batch)) } }
                    td.n { (batch.open) } td.n { (batch.done) }
                    td.n { @if batch.failed > 0 { a href={ "/dead-letters" (query(&[("lane", &status.lane), ("batch", &batch.batch)])) } { (batch.failed) } } @else { "0" } }
                }
            } }
        } }
    }
}
