//! What does every page need? Which lane is asked for, by whom, and in which words.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};
use maud::Markup;

use super::access::Viewer;
use super::fields::Fields;
use super::page::{self, notice};
use super::{Console, LaneView, SharedConsole};

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
        let Some(place) = place.map(Arc::clone) else {
            return Err(trouble(console, &viewer, StatusCode::NOT_FOUND, NO_LANE));
        };
        Ok(Self { console: Arc::clone(console), place, viewer, fields })
    }
}

impl Asked {
    /// Who is logged in.
    pub(super) fn who(&self) -> String {
        self.viewer.as_ref().map(|session| session.who.clone()).unwrap_or_default()
    }

    /// The answer, in the frame.
    pub(super) fn page(&self, title: &str, content: &Markup) -> Response {
        page::framed(&self.console, &self.place, &self.viewer, title, content).into_response()
    }

    /// The answer says what went wrong.
    pub(super) fn trouble(&self, code: StatusCode, why: &str) -> Response {
        trouble(&self.console, &self.viewer, code, why)
    }
}

fn trouble(console: &Console, viewer: &Viewer, code: StatusCode, why: &str) -> Response {
    let page = match console.places.first() {
        Some(place) => {
            page::framed(console, place, viewer, "That did not work", &notice(true, why))
        }
        None => page::bare("That did not work", &notice(true, why)),
    };
    (code, page).into_response()
}
