//! What did one pass see, and what would an edit do to it? Nothing here holds anything at the broker.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;
use uuid::Uuid;

use super::moves::again;
use crate::broker::consume::interner::Aside;
use crate::broker::dead_letters::pass::{HeldDeadLetter, restored};
use crate::contract::{Rules, Violation};
use crate::message::headers;
use crate::message::parcel::Parcel;
use crate::review::edit::{Difference, Edit, differences};
use crate::review::{DeadLetter, Filter, Group, Unread, groups, read_request};
use crate::worker::bodies::Body;

/// What one pass saw.
#[derive(Debug)]
pub struct Snapshot {
    pub at: Timestamp,
    pub letters: Vec<Found>,
    /// More dead letters than one pass can hold: so many were not looked at. They come to light when some of these are gone.
    pub left: u32,
}

/// A dead letter that a pass saw, with its body.
#[derive(Clone, Debug)]
pub struct Found {
    pub letter: DeadLetter,
    parcel: Parcel,
    header: Option<Arc<Aside>>,
    body: Arc<Body>,
}

/// What an edit would do to one dead letter.
#[derive(Clone, Debug, Serialize)]
pub struct Preview {
    pub id: Uuid,
    pub name: String,
    pub differences: Vec<Difference>,
    /// What would still be wrong with the body.
    pub violations: Vec<Violation>,
    /// Why it cannot be edited so at all.
    pub error: Option<String>,
}

impl From<HeldDeadLetter> for Found {
    fn from(entry: HeldDeadLetter) -> Self {
        let (letter, body, parcel, header) = entry.into_parts();
        Self { letter, parcel, header: header.map(Arc::new), body: Arc::new(body) }
    }
}

impl Found {
    /// # Errors
    /// The temporary file cannot be read.
    pub fn body(&self) -> std::io::Result<Bytes> {
        self.body.bytes()
    }

    /// The whole message, for an export.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn parcel(&self) -> std::io::Result<Parcel> {
        let parcel = restored(&self.parcel, self.header.as_deref())?;
        Ok(whole(&self.letter, parcel, self.body()?))
    }
}

/// The message with its body. Why the broker dead-lettered it stands in headers of the broker's own, which nobody else
/// may publish; ours says it from then on.
pub(in crate::broker) fn whole(letter: &DeadLetter, parcel: Parcel, body: Bytes) -> Parcel {
    let mut parcel = Parcel { body, ..parcel };
    if letter.stranger {
        parcel.headers.insert(headers::STRANGER.to_owned(), true.into());
    }
    if letter.death.is_some() {
        parcel.headers.insert(headers::REASON.to_owned(), letter.reason.clone().into());
    }
    parcel
}

impl Snapshot {
    /// The dead letters that are meant, in the order of the queue.
    pub fn select<'a>(&'a self, filter: &'a Filter) -> impl Iterator<Item = &'a Found> {
        let filter = filter.ready();
        self.letters.iter().filter(move |found| filter.matches(&found.letter, || found.body().ok()))
    }

    /// The dead letters that are meant, by cause.
    pub fn groups(&self, filter: &Filter) -> Vec<Group> {
        groups(self.select(filter).map(|found| &found.letter))
    }

    /// What an edit would do to each dead letter that is meant.
    ///
    /// # Errors
    /// The temporary file cannot be read.
    pub fn preview(
        &self,
        filter: &Filter,
        edit: &Edit,
        rules: &Rules,
    ) -> std::io::Result<Vec<Preview>> {
        self.select(filter)
            .map(|found| Ok(preview(&found.letter, &found.parcel()?, edit, rules).1))
            .collect()
    }
}

/// Whether the changed request may be sent, and what to tell about it. It is read as the worker will read it, headers and
/// all. `before` is the whole message.
pub(super) fn preview(
    letter: &DeadLetter,
    before: &Parcel,
    edit: &Edit,
    rules: &Rules,
) -> (bool, Preview) {
    let mut told = Preview {
        id: letter.id,
        name: letter.name.clone(),
        differences: Vec::new(),
        violations: Vec::new(),
        error: None,
    };
    let new = match edit.fits(&before.body).and_then(|()| edit.apply(&before.body)) {
        Ok(new) => new,
        Err(error) => {
            told.error = Some(error.to_string());
            return (false, told);
        }
    };
    told.differences = differences(&before.body, &new);
    let mut after = again(letter, before, new, Timestamp::now());
    edit.apply_to_headers(&mut after.headers);
    told.differences.extend(edit.headers().filter_map(|(name, _)| {
        let (before, after) = (before.header(name), after.header(name));
        let pointer = format!("header {name}");
        (before != after).then_some(Difference { pointer, before, after })
    }));
    told.violations = read_request(&after, rules, Unread::default()).violations;
    (told.violations.is_empty(), told)
}
