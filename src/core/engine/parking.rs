//! What of the window waits for a time or for a planner's word, beyond half of it? It is parked: published anew to a queue
//! of its own, and only then acknowledged; and fetched back when it is due. Else a wave for tomorrow keeps today's out.
//!
//! To the broker and to every other worker a copy is what a delivery requeued is: the same run, delivered before. So
//! whatever happens in between, a worker that does not know better looks it up before it sends. To this one it is no new
//! doubt: what was known of the request, its retries too, is known of its copy.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::timetable::Timetable;
use super::{Core, Step};
use crate::core::orders::Orders;
use crate::core::request::Job;
use crate::core::time::{Moment, Now};

/// How many may be on their way at once: each has its body in memory until the broker has confirmed it.
const MOST: usize = 64;
/// Where there is room, what is due so soon is fetched with what is due now: fetching reads all that is parked.
const AHEAD: Duration = Duration::from_secs(60);
/// After the broker refused a copy, or a fetch failed, so long nothing is tried.
const PAUSE: Duration = Duration::from_secs(30);
/// So often it is looked through whatever is known: a copy of a worker that is gone may have come late.
const EVERY: Duration = Duration::from_secs(5 * 60);
/// Between two fetches lies this at least, and ten times as long as the former took.
const APART: Duration = Duration::from_secs(1);

/// What is to be fetched back.
#[derive(Clone, Debug)]
pub struct Fetch {
    pub session: u32,
    /// What is due by now.
    pub due: Timestamp,
    /// And at most so many of what is due by then.
    pub ahead: (Timestamp, usize),
    /// What says when a request is due ([`Orders::due`]).
    pub orders: Arc<Orders>,
}

/// What a fetch has come to.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Fetched {
    /// How many are still parked.
    pub left: usize,
    /// When the first of them is due.
    pub next: Option<Timestamp>,
    /// What they wait for. No decision rests on it, so no recording has it.
    #[serde(skip)]
    pub timetable: Timetable,
}

/// What is known of the parked requests.
#[derive(Debug)]
pub(super) struct Parking {
    /// On their way there.
    moving: usize,
    /// How many are there, for what is known.
    parked: usize,
    /// When the first of them is due.
    next: Option<Timestamp>,
    /// What they wait for, and what those wait for that were parked since a fetch began.
    timetable: Timetable,
    meanwhile: Timetable,
    /// Somebody has to look: nobody has in this session, or an order may have made something due.
    look: bool,
    /// A fetch is under way since then.
    fetching: Option<Moment>,
    /// When the latest ended.
    fetched: Moment,
    /// No copy is published before this, and nothing fetched.
    parks_from: Moment,
    fetches_from: Moment,
}

impl Parking {
    pub(super) fn new() -> Self {
        Self {
            moving: 0,
            parked: 0,
            next: None,
            timetable: Timetable::default(),
            meanwhile: Timetable::default(),
            look: false,
            fetching: None,
            fetched: Moment::START,
            parks_from: Moment::START,
            fetches_from: Moment::START,
        }
    }

    pub(super) fn session_opened(&mut self, now: Moment) {
        (self.parked, self.next, self.look) = (0, None, true);
        (self.timetable, self.meanwhile) = Default::default();
        (self.parks_from, self.fetches_from) = (now, now);
    }

    /// How many are parked, for what is known.
    pub(super) fn len(&self) -> usize {
        self.parked
    }

    /// What is parked waits for this, for what is known.
    pub(super) fn timetable(&self) -> &Timetable {
        &self.timetable
    }

    /// An order may have made something due that is parked. What is known of their number may be old, and where there are
    /// none looking costs next to nothing.
    pub(super) fn look(&mut self) {
        self.look = true;
    }

    /// When the next fetch is due.
    fn fetch_at(&self, now: Now) -> Option<Moment> {
        if self.fetching.is_some() {
            return None;
        }
        let due = self.next.map(|next| {
            let wait = next.duration_since(now.wall).try_into().unwrap_or_default();
            now.at + wait
        });
        let again = self.fetched + EVERY;
        let due = if self.look { now.at } else { due.map_or(again, |due| due.min(again)) };
        Some(due.max(self.fetches_from))
    }
}

impl<D> Core<D> {
    /// Something to park, or a fetch.
    pub(super) fn park_or_fetch(&mut self, now: Now) -> Option<Step<D>> {
        if !self.settings.parks || self.gate.is_blocked() {
            return None;
        }
        let (half, waits) = (self.settings.window / 2, self.window.planned_len());
        let parking = &mut self.out.parking;
        if waits > half && parking.moving < MOST && parking.parks_from <= now.at {
            let key = self.window.last_planned()?;
            let job = self.window.take(key)?;
            return Some(self.park(now, job));
        }
        if parking.fetch_at(now).is_some_and(|at| at <= now.at) {
            let session = self.session.number()?;
            parking.fetching = Some(now.at);
            (parking.look, parking.next) = (false, None);
            parking.meanwhile = Timetable::default();
            let soon = now.wall.saturating_add(AHEAD).unwrap_or(now.wall);
            let orders = Arc::clone(&self.orders);
            let ahead = (soon, half.saturating_sub(waits) / 2);
            return Some(Step::Fetch(Fetch { session, due: now.wall, ahead, orders }));
        }
        None
    }

    fn park(&mut self, now: Now, job: Job<D>) -> Step<D> {
        self.put_out_of_sight(now, &job);
        let due = self.orders.due(&job.request);
        let parking = &mut self.out.parking;
        parking.moving += 1;
        parking.note(due);
        parking.timetable.note(&job.request);
        if parking.fetching.is_some() {
            parking.meanwhile.note(&job.request);
        }
        self.out.settling += 1;
        Step::Park(job)
    }

    /// A request was published anew and acknowledged, or its session was lost under it.
    pub(super) fn parked(&mut self) {
        self.park_ended();
        self.out.parking.parked += 1;
    }

    /// The broker refuses the copy: the delivery is held as before.
    pub(super) fn not_parked(&mut self, now: Now, mut job: Job<D>) {
        self.park_ended();
        self.out.parking.parks_from = now.at + PAUSE;
        if let Some((progress, _)) = self.ledger.carried.remove(&job.request.run) {
            job.progress = progress;
        }
        self.admit(now, job);
    }

    /// Nothing of it is on its way any more.
    pub(super) fn park_ended(&mut self) {
        self.out.settling -= 1;
        self.out.parking.moving -= 1;
    }

    /// A fetch of this session has ended; `None`: it failed.
    pub(super) fn fetched(&mut self, now: Now, session: u32, fetched: Option<Fetched>) {
        let is_ours = self.session.is(session);
        let parking = &mut self.out.parking;
        let took = parking.fetching.take().map_or(Duration::ZERO, |since| now.at - since);
        parking.fetched = now.at;
        if !is_ours {
            return;
        }
        if let Some(Fetched { left, next, timetable }) = fetched {
            parking.parked = left;
            parking.timetable = timetable;
            parking.timetable.add_all(&std::mem::take(&mut parking.meanwhile));
            parking.note(next);
            parking.fetches_from = now.at + APART.max(took * 10);
        } else {
            parking.look = true;
            parking.fetches_from = now.at + PAUSE;
        }
    }

    /// When there is something to fetch, or to park.
    pub(super) fn next_parking(&self, now: Now) -> Option<Moment> {
        if !self.settings.parks || !self.session.is_open() || self.gate.is_blocked() {
            return None;
        }
        let waits = self.window.planned_len() > self.settings.window / 2;
        let parks = waits.then_some(self.out.parking.parks_from);
        parks.into_iter().chain(self.out.parking.fetch_at(now)).min()
    }
}

impl Parking {
    fn note(&mut self, due: Option<Timestamp>) {
        self.next = self.next.into_iter().chain(due).min();
    }
}
