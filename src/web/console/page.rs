//! What do all pages share? The frame, the way around, notices.

use jiff::{SignedDuration, Timestamp};
use maud::{DOCTYPE, Markup, html};

use super::Console;
use super::access::{self, LogIn, Viewer};
use super::fields::Fields;
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
                main #main { (away()) h1 { (title) } (content) }
            }
        }
    }
}

/// Who asked for what: the frame says it, and its links lead back to it.
pub(super) struct Frame<'a> {
    pub(super) console: &'a Console,
    /// The lane that the page is about; `None`: all of them.
    pub(super) lane: Option<&'a str>,
    pub(super) viewer: &'a Viewer,
    /// The page's own path and query: where a log-in leads back to.
    pub(super) here: &'a str,
}

/// The pages that the head leads to.
const PAGES: [(&str, &str); 4] =
    [("Now", "/"), ("Batches", "/batches"), ("Dead letters", "/dead-letters"), ("Audit", "/audit")];

impl Frame<'_> {
    /// A page: its lane stands in the title, in the head, in the heading and in every link.
    pub(super) fn page(&self, title: &str, content: &Markup) -> Markup {
        // What a page leads to still belongs to it.
        let of = match title {
            "Request" | "The last hour" => "Now",
            "Batch" => "Batches",
            "Dead letter" | "Before anything moves" | "Act" => "Dead letters",
            title => title,
        };
        let whose = self
            .lane
            .map_or_else(|| "all lanes".to_owned(), |lane| format!("lane {}", visible(lane)));
        html! {
            (DOCTYPE)
            html lang="en" {
                (head(&format!("{title} · {whose}")))
                body {
                    a.skip href="#main" { "To the content" }
                    (self.header(title, of, &whose))
                    main #main { (away()) h1 { (title) " " span.of { "· " (whose) } } (content) }
                }
            }
        }
    }

    fn header(&self, title: &str, of: &str, whose: &str) -> Markup {
        let first = self.console.places.first().map(|place| &*place.name);
        let lane = self.lane.or(first).unwrap_or_default();
        let several = self.console.places.len() > 1;
        html! {
            header {
                strong { "Sluicegate " span.lane title=(whose) { (whose) } }
                nav aria-label="Pages" {
                    @for (name, path) in PAGES {
                        a href={ (path) (query(&[("lane", lane)])) } aria-current=[(name == of && self.lane.is_some()).then_some(if name == title { "page" } else { "true" })] { (name) }
                    }
                    @if several {
                        a.all href="/" aria-current=[self.lane.is_none().then_some("page")] { "All lanes" }
                        @for other in self.console.places.iter().filter(|other| Some(&*other.name) != self.lane) {
                            a.all href={ "/" (query(&[("lane", &other.name)])) } { "lane " (visible(&other.name)) }
                        }
                    }
                }
                (Self::find(lane))
                @match self.viewer {
                    Some(session) => form method="post" action="/log-out" {
                        (csrf(session)) span.soft { (visible(&session.who)) @if access::operator(self.viewer).is_none() { " (reads)" } @else if !session.own { span.wide { " (as typed)" } } " " } button.plain type="submit" { "Log out" }
                    },
                    None => a.log-in href=(access::log_in_link(self.here)) { "Log in" },
                }
            }
        }
    }

    /// The box that finds a request wherever it is, in every lane.
    fn find(lane: &str) -> Markup {
        html! {
            form.find method="get" action="/find" role="search" {
                (hidden("lane", lane))
                input type="search" name="q" required maxlength="200" aria-label="Find a server: name, source server, task, batch or message id" placeholder="Find: name, server, task, batch, message id" autocomplete="off" spellcheck="false";
                button.plain type="submit" { "Find" }
            }
        }
    }
}

/// Stands above everything, and comes to sight when the worker is gone: what stands below is grey then.
fn away() -> Markup {
    html! {
        p #away.notice.bad hidden role="alert" {
            strong { "The worker does not answer" } ": everything below is as it was at " span data-since {} ", " span data-age {} " ago. The page goes on by itself when the worker is back."
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

/// The number of the page that is asked for.
pub(super) fn number(fields: &Fields) -> usize {
    fields.get("page").and_then(|page| page.parse().ok()).unwrap_or(1_usize).max(1)
}

/// Which page of a list of so many rows is asked for, and how many there are.
pub(super) fn asked(fields: &Fields, rows: usize) -> (usize, usize) {
    let pages = rows.div_ceil(ROWS).max(1);
    (number(fields).min(pages), pages)
}

/// Links from a page of a list to those beside it; the latest stand first.
pub(super) fn turn(label: &str, page: usize, pages: usize, to: impl Fn(usize) -> String) -> Markup {
    turn_by(label, ["← newer", "older →"], page, pages, to)
}

/// The same with other words.
pub(super) fn turn_by(
    label: &str,
    words: [&str; 2],
    page: usize,
    pages: usize,
    to: impl Fn(usize) -> String,
) -> Markup {
    html! {
        nav.pages aria-label=(label) {
            @if page > 1 { a #prev href=(to(page - 1)) rel="prev" { (words[0]) } }
            span { "page " (page) " of " (pages) }
            @if page < pages { a #next href=(to(page + 1)) rel="next" { (words[1]) } }
        }
    }
}

/// A time of today, or with its date. A script turns it into the reader's own zone, and says which that is.
pub(super) fn clock(at: Timestamp) -> Markup {
    let near = at.duration_since(Timestamp::now()).abs() < SignedDuration::from_hours(12);
    let text = at.strftime(if near { "%H:%M:%S" } else { "%Y-%m-%d %H:%M" }).to_string();
    let exact = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    html! { time datetime=(exact) title=(exact) data-form=(if near { "time" } else { "date" }) { (text) " UTC" } }
}

/// A time, and how long ago that is.
pub(super) fn ago(at: Timestamp) -> Markup {
    let seconds = Timestamp::now().duration_since(at).max(SignedDuration::ZERO).as_secs();
    let text = format!("{} ago", roughly(seconds.unsigned_abs()));
    let exact = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    html! { time datetime=(exact) title=(exact) data-form="ago" { (text) } }
}

/// A name or an id of somebody else in a narrow place: cut for the eye, whole when it is pointed at or copied.
pub(super) fn whole(text: &str) -> Markup {
    let text = visible(text);
    html! { bdi.cut title=(text) { (text) } }
}
