//! What does every page need? Which lane is asked for, by whom, and in which words.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};

use super::access::Viewer;
use super::fields::Fields;
use super::page::{self, Frame, notice};
use super::{LaneView, SharedConsole};

const NO_LANE: &str =
    "There is no lane of this name; the links above lead to those that are there.";

/// A question that [`super::access`] has let through.
pub(super) struct Asked {
    pub(super) console: SharedConsole,
    /// The lane that `lane` names; without it, the first.
    pub(super) place: Arc<LaneView>,
    /// An operator, where something is to be changed.
    pub(super) viewer: Viewer,
    /// Of the address, or of the form that was sent.
    pub(super) fields: Fields,
    pub(super) whence: Whence,
}

/// Where a question comes from.
#[derive(Clone, Debug, Default)]
pub(super) struct Whence {
    /// The page itself; of a form that was sent, the page that it stood on.
    pub(super) here: String,
    /// The page of ours that led here.
    pub(super) from: Option<String>,
}

impl FromRequestParts<SharedConsole> for Asked {
    type Rejection = Response;

    async fn from_request_parts(
        parts: &mut Parts,
        console: &SharedConsole,
    ) -> Result<Self, Response> {
        let viewer = parts.extensions.remove::<Viewer>().flatten();
        let fields = parts.extensions.remove::<Fields>().unwrap_or_default();
        let place = match fields.get("lane") {
            Some(name) => console.places.iter().find(|place| place.name == name),
            None => console.places.first(),
        };
        let whence = parts.extensions.remove::<Whence>().unwrap_or_default();
        let Some(place) = place.map(Arc::clone) else {
            let frame = Frame { console, lane: None, viewer: &viewer, here: "/" };
            return Err(trouble(&frame, whence.from.as_deref(), StatusCode::NOT_FOUND, NO_LANE));
        };
        Ok(Self { console: Arc::clone(console), place, viewer, fields, whence })
    }
}

impl Asked {
    /// Who is logged in.
    pub(super) fn who(&self) -> String {
        self.viewer.as_ref().map(|session| session.who.clone()).unwrap_or_default()
    }

    fn frame(&self) -> Frame<'_> {
        let (console, viewer, here) = (&*self.console, &self.viewer, &*self.whence.here);
        Frame { console, lane: Some(&self.place.name), viewer, here }
    }

    /// The answer, in the frame.
    pub(super) fn page(&self, title: &str, content: &Markup) -> Response {
        self.frame().page(title, content).into_response()
    }

    /// The answer, about every lane.
    pub(super) fn page_of_all(&self, title: &str, content: &Markup) -> Response {
        Frame { lane: None, ..self.frame() }.page(title, content).into_response()
    }

    /// The answer says what went wrong.
    pub(super) fn trouble(&self, code: StatusCode, why: &str) -> Response {
        trouble(&self.frame(), self.whence.from.as_deref(), code, why)
    }
}

fn trouble(frame: &Frame<'_>, from: Option<&str>, code: StatusCode, why: &str) -> Response {
    let lane = frame.lane.map(|lane| page::query(&[("lane", lane)])).unwrap_or_default();
    let content = html! {
        (notice(true, why))
        p.actions #back {
            @if let Some(from) = from { a.button href=(from) { "← Back" } }
            a.button.plain href={ "/" (lane) } { "Now" }
            a.button.plain href={ "/dead-letters" (lane) } { "Dead letters" }
        }
    };
    (code, frame.page("That did not work", &content)).into_response()
}

/// An address that is none of ours.
pub(super) async fn nowhere(asked: Asked) -> Response {
    let why = "There is no such page; the links above lead to those that are there.";
    asked.trouble(StatusCode::NOT_FOUND, why)
}
