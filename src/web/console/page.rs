//! What do all pages share? The frame, the way around, notices.

use jiff::{SignedDuration, Timestamp};
use maud::{DOCTYPE, Markup, html};

use super::access::{self, LogIn, Viewer};
use super::fields::Fields;
use super::{Console, LaneView};
use crate::message::words::roughly;
use crate::report::text::visible;

/// No inline styles, no evaluated texts, nothing kept: as the content security policy wants it.
const HTMX: &str = r#"{"includeIndicatorStyles":false,"allowEval":false,"historyCacheSize":0,"selfRequestsOnly":true}"#;

fn head(title: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            meta name="htmx-config" content=(HTMX);
            title { (title) " · Sluicegate" }
            link rel="icon" href="/assets/icon.svg";
            link rel="stylesheet" href="/assets/console.css";
            script src="/assets/htmx.min.js" defer {}
            script src="/assets/htmx-sse.js" defer {}
            script src="/assets/live.js" defer {}
        }
    }
}

/// A page without the way around, for those who may not read.
pub(super) fn bare(title: &str, content: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                a.skip href="#main" { "To the content" }
                header { strong { "Sluicegate" } nav { a href="/" { "Console" } } }
                main #main { h1 { (title) } (content) }
            }
        }
    }
}

/// A page of one lane.
pub(super) fn framed(
    console: &Console,
    place: &LaneView,
    viewer: &Viewer,
    title: &str,
    content: &Markup,
) -> Markup {
    let several = console.places.len() > 1;
    // What a page leads to still belongs to it.
    let of = match title {
        "Request" | "The last hour" => "Now",
        "Batch" => "Batches",
        "Dead letter" | "Before anything moves" | "Act" => "Dead letters",
        title => title,
    };
    let lane = if several { query(&[("lane", &place.name)]) } else { String::new() };
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(title))
            body {
                a.skip href="#main" { "To the content" }
                header {
                    strong { "Sluicegate" }
                    nav aria-label="Pages" {
                        @for (name, path) in [("Now", "/"), ("Batches", "/batches"), ("Dead letters", "/dead-letters"), ("Audit", "/audit")] {
                            a href={ (path) (lane) } aria-current=[(name == of).then_some(if name == title { "page" } else { "true" })] { (name) }
                        }
                        @if several {
                            @for other in &console.places {
                                a href={ "/" (query(&[("lane", &other.name)])) } { "lane " (visible(&other.name)) }
                            }
                        }
                    }
                    @match viewer {
                        Some(session) => form method="post" action="/log-out" {
                            (csrf(session)) span.soft { (visible(&session.who)) @if access::operator(viewer).is_none() { " (reads)" } " " } button.plain type="submit" { "Log out" }
                        },
                        None => a href="/log-in" { "Log in" },
                    }
                }
                main #main { h1 { (title) } (content) }
            }
        }
    }
}

/// An outcome or an action as a word in its colour.
pub(super) fn badge(word: &str) -> Markup {
    html! { span class={ "badge " (word) } { (word) } }
}

pub(super) fn csrf(session: &LogIn) -> Markup {
    html! { input type="hidden" name="csrf" value=(session.csrf); }
}

pub(super) fn hidden(name: &str, value: &str) -> Markup {
    html! { input type="hidden" name=(name) value=(value); }
}

pub(super) fn notice(bad: bool, text: &str) -> Markup {
    html! { p.notice.bad[bad] role=(if bad { "alert" } else { "status" }) { (visible(text)) } }
}

/// `?name=value&…`
pub(super) fn query(pairs: &[(&str, &str)]) -> String {
    format!("?{}", form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish())
}

/// Rows on a page of a list.
pub(super) const ROWS: usize = 100;

/// Which page of a list of so many rows is asked for, and how many there are.
pub(super) fn asked(fields: &Fields, rows: usize) -> (usize, usize) {
    let pages = rows.div_ceil(ROWS).max(1);
    let page = fields.get("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize);
    (page.clamp(1, pages), pages)
}

/// Links from a page of a list to those beside it; the latest stand first.
pub(super) fn turn(label: &str, page: usize, pages: usize, to: impl Fn(usize) -> String) -> Markup {
    html! {
        nav.pages aria-label=(label) {
            @if page > 1 { a href=(to(page - 1)) rel="prev" { "← newer" } }
            span { "page " (page) " of " (pages) }
            @if page < pages { a href=(to(page + 1)) rel="next" { "older →" } }
        }
    }
}

/// A time of today, or with its date.
pub(super) fn clock(at: Timestamp) -> Markup {
    let near = at.duration_since(Timestamp::now()).abs() < SignedDuration::from_hours(12);
    let text = at.strftime(if near { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string();
    let exact = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    html! { time datetime=(exact) title=(exact) { (text) " UTC" } }
}

/// A time, and how long ago that is.
pub(super) fn ago(at: Timestamp) -> Markup {
    let seconds = Timestamp::now().duration_since(at).max(SignedDuration::ZERO).as_secs();
    let text = format!("{} ago", roughly(seconds.unsigned_abs()));
    let exact = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    html! { time datetime=(exact) title=(exact) { (text) } }
}
