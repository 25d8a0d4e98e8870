//! What is said once, on the page that an act leads to? The page can be loaded again and does nothing then; and an address
//! that somebody else has written says nothing of theirs.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use maud::{Markup, html};
use uuid::Uuid;

use super::Console;
use super::fields::Fields;
use super::page::notice;

/// Older ones are forgotten.
const MOST: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Tellings(Mutex<VecDeque<(Uuid, String)>>);

impl Console {
    /// Keeps what is to be said; the answer goes into the address as `told`.
    pub(super) fn tell(&self, text: &str) -> String {
        let id = Uuid::new_v4();
        let mut all = self.tellings.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.truncate(MOST - 1);
        all.push_front((id, text.to_owned()));
        id.to_string()
    }

    pub(super) fn told(&self, fields: &Fields) -> Markup {
        let id = fields.get("told").and_then(|id| id.parse::<Uuid>().ok());
        let all = self.tellings.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = id.and_then(|id| all.iter().find(|(known, _)| *known == id));
        html! { @if let Some((_, text)) = text { (notice(false, text)) } }
    }
}
