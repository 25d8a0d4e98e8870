//! How far has an act come? It runs on when the page is left, shows its progress, and can be stopped.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};
use uuid::Uuid;

use super::access::{Viewer, operator};
use super::asked::Asked;
use super::fields::Fields;
use super::orders::PreparedDeed;
use super::page::{csrf, hidden, notice, query};
use super::{Console, SharedConsole};
use crate::broker::dead_letters::{Attend, MoveProgress, Review, ReviewError};
use crate::message::audit::By;
use crate::report::text::visible;
use crate::review::Filter;

/// Orders that are remembered after they have ended.
const MOST: usize = 64;

/// What undoing calls itself.
const UNDO: &str = "put back";

const GONE: &str = "This act is not remembered any more; the audit says what was done.";

#[derive(Debug, Default)]
pub(super) struct Jobs(Mutex<VecDeque<Arc<Job>>>);

#[derive(Debug)]
struct Job {
    id: Uuid,
    lane: String,
    what: &'static str,
    who: String,
    state: Mutex<Course>,
    stop: AtomicBool,
}

#[derive(Debug, Default)]
struct Course {
    /// It holds the queue, or is about to: its turn among those of this console has come.
    begun: bool,
    progress: MoveProgress,
    /// What to say at its end; `Err`: it did not do all.
    end: Option<Result<String, String>>,
}

impl Jobs {
    fn find(&self, fields: &Fields) -> Option<Arc<Job>> {
        let id = fields.get("id")?.parse::<Uuid>().ok()?;
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.iter().find(|job| job.id == id).cloned()
    }

    /// What moves dead letters of a lane just now, for others who wait: `ada: replay, 312 of 1000`.
    pub(super) fn going(&self, lane: &str) -> Vec<Markup> {
        let jobs = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let of_lane = jobs.iter().filter(|job| job.lane == lane);
        of_lane.filter_map(|job| job.going()).collect()
    }
}

impl Job {
    fn going(&self) -> Option<Markup> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let MoveProgress { moved, of, .. } = state.progress;
        (state.begun && state.end.is_none()).then(|| {
            html! { a href={ "/jobs" (query(&[("lane", &self.lane), ("id", &self.id.to_string())])) } { (visible(&self.who)) ": " (self.what) @if of > 0 { ", " (moved) " of " (of) } } }
        })
    }

    fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn tell(&self, change: impl FnOnce(&mut Course)) {
        change(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn end(&self, result: Result<MoveProgress, ReviewError>) -> Result<String, String> {
        let moved =
            |n: usize| format!("{n} {} moved", if n == 1 { "dead letter" } else { "dead letters" });
        match result {
            Ok(MoveProgress { moved: n, of, .. }) if n < of => {
                Err(format!("Stopped: {n} of {of} moved, the others are still there."))
            }
            Ok(progress) if self.what == UNDO => Ok(format!(
                "Done: {} dead letters are back among the dead letters, as they were.",
                progress.moved
            )),
            Ok(progress) => Ok(format!("Done: {}.", moved(progress.moved))),
            Err(error) => Err(format!("{} did not do all: {error}.", self.what)),
        }
    }
}

pub(super) fn start(console: &SharedConsole, lane: String, deed: PreparedDeed, by: By) -> Uuid {
    let (id, what) = (Uuid::new_v4(), deed.verb());
    let (state, stop) = (Mutex::default(), AtomicBool::new(false));
    let job = Arc::new(Job { id, lane, what, who: by.who.clone(), state, stop });
    {
        let mut jobs = console.jobs.0.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.truncate(MOST - 1);
        jobs.push_front(Arc::clone(&job));
    }
    let console = Arc::clone(console);
    tokio::spawn(async move {
        let Some(place) = console.places.iter().find(|place| place.name == job.lane) else {
            return;
        };
        // Those of this console go one after another, however long each takes; others are waited for by the review.
        let turn = place.acting.lock().await;
        if job.is_stopped() {
            let end = Err("Stopped before it began: nothing was moved.".to_owned());
            return job.tell(|state| state.end = Some(end));
        }
        job.tell(|state| state.begun = true);
        let watched = Arc::clone(&job);
        let attend = move |progress: MoveProgress| {
            watched.tell(|state| state.progress = progress);
            !watched.is_stopped()
        };
        let review = &place.lane.review;
        let result = match deed {
            PreparedDeed::Act { ids, action } => {
                review.act(&Filter::ids(ids), &action, &by, attend).await
            }
            PreparedDeed::Undo(acts) => undo(review, &acts, &by, attend).await,
        };
        place.forget();
        let end = job.end(result);
        job.tell(|state| state.end = Some(end));
        drop(turn);
    });
    id
}

/// Puts back what these acts took away, but for what somebody has put back since.
async fn undo(
    review: &Review,
    acts: &HashSet<Uuid>,
    by: &By,
    attend: impl Attend + 'static,
) -> Result<MoveProgress, ReviewError> {
    let left = review.undoable(|act| acts.contains(&act.id)).await?;
    let left: HashSet<Uuid> = left.iter().map(|act| act.id).collect();
    if left.is_empty() {
        return Err(ReviewError::Nothing("it was undone already; nothing was put back".to_owned()));
    }
    review.undo(&left, by, attend).await
}

pub(super) async fn show(asked: Asked) -> Response {
    let Asked { console, viewer, fields, .. } = &asked;
    let Some(job) = console.jobs.find(fields) else {
        return asked.trouble(StatusCode::NOT_FOUND, GONE);
    };
    if fields.get("part").is_some() {
        return state(console, &job, viewer).into_response();
    }
    let Some(place) = console.places.iter().find(|place| place.name == job.lane) else {
        return asked.trouble(StatusCode::NOT_FOUND, GONE);
    };
    let asked = Asked { place: Arc::clone(place), ..asked };
    asked.page("Act", &state(&asked.console, &job, &asked.viewer))
}

/// Asks for itself again until it has ended.
fn state(console: &Console, job: &Job, viewer: &Viewer) -> Markup {
    let id = job.id.to_string();
    let others = console.jobs.going(&job.lane);
    let state = job.state.lock().unwrap_or_else(PoisonError::into_inner);
    let MoveProgress { moved, of, .. } = state.progress;
    let again = format!("/jobs{}", query(&[("lane", &job.lane), ("id", &id), ("part", "1")]));
    let going = state.end.is_none();
    html! {
        section.card #job hx-get=[going.then_some(again)] hx-trigger=[going.then_some("every 500ms")] hx-swap="outerHTML" {
            h2 { (visible(&job.who)) ": " (job.what) }
            @if going && !state.begun {
                p { "Waiting for its turn: somebody else moves dead letters just now. " @for other in &others { (other) " " } }
                progress aria-label="waiting" {}
            } @else if going && of == 0 {
                p { "Taking the queue. While somebody else reviews (another console, or sluice dead-letters) it waits for them." }
                progress aria-label="waiting" {}
            } @else if of > 0 {
                progress max=(of) value=(moved) aria-label="progress" {}
                p { strong.big { (moved) } " of " (of) }
            }
            @match &state.end {
                Some(Ok(said)) => (notice(false, said)),
                Some(Err(said)) => (notice(true, said)),
                None => {
                    @if of > 0 && moved == of { p.soft { "All have moved; what else was held is requeued." } }
                    @else if let Some(session) = operator(viewer) {
                        form method="post" action="/jobs/stop" { (csrf(session)) (hidden("lane", &job.lane)) (hidden("id", &id)) button.plain type="submit" { "Stop" } }
                    }
                    noscript { p { "Load this page again to see how far it is." } }
                }
            }
            p { a href={ "/dead-letters" (query(&[("lane", &job.lane)])) } { "To the dead letters" } " · " a href={ "/audit" (query(&[("lane", &job.lane)])) } { "To the audit" } }
        }
    }
}

pub(super) async fn stop(asked: Asked) -> Response {
    let Some(job) = asked.console.jobs.find(&asked.fields) else {
        return asked.trouble(StatusCode::NOT_FOUND, GONE);
    };
    job.stop.store(true, Ordering::Relaxed);
    let back = query(&[("lane", &job.lane), ("id", &job.id.to_string())]);
    Redirect::to(&format!("/jobs{back}")).into_response()
}
