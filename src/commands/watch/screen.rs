//! What does a person see while batches are followed, and at the end? A line for each batch, and one for all of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use super::super::outlook::Known;
use super::super::times::local;
use super::super::{World, print, print_json, progress_bar};
use super::which::{Watched, generation};
use crate::core::Outcome;
use crate::message::result::{self, Event, ResultData};
use crate::message::words;
use crate::report::batches::Together;
use crate::report::progress::{BatchChange, BatchProgress, failure_line};
use crate::report::text::one_line;

/// More batches than this have no line of their own while they run.
const LINES: usize = 20;
/// Working out how far they have come costs more than an event does.
const DRAW: Duration = Duration::from_millis(250);

/// What is shown while batches are followed.
pub(super) struct Screen<'a> {
    world: &'a World,
    lines: MultiProgress,
    bars: BTreeMap<String, ProgressBar>,
    /// Of all together; before it is known what is followed, of what has been read.
    all: ProgressBar,
    json: bool,
    is_one: bool,
    drawn: Option<Instant>,
    /// Why nothing moves, as was told last: a word.
    waiting: Option<&'static str>,
}

impl<'a> Screen<'a> {
    pub(super) fn new(world: &'a World, json: bool, is_one: bool) -> Self {
        let lines = MultiProgress::new();
        let all = lines.add(progress_bar(world, 0, ""));
        Self { world, lines, bars: BTreeMap::new(), all, json, is_one, drawn: None, waiting: None }
    }

    /// So much of the stream has been read, and the end of what was there has not come yet.
    pub(super) fn reading(&mut self, events: u64) {
        if self.is_due() {
            self.all.set_message(format!("reading the results stream: {events} events"));
        }
    }

    fn is_due(&mut self) -> bool {
        if self.all.is_hidden() || self.drawn.is_some_and(|at| at.elapsed() < DRAW) {
            return false;
        }
        self.drawn = Some(Instant::now());
        true
    }

    /// What had ended before: of JSON each result, else what did not end well.
    pub(super) fn begin(&self, watched: &Watched) {
        for one in watched.followed() {
            if self.json {
                let mut results = one.results();
                results.sort_by_key(|result| result.settled_at);
                results.into_iter().for_each(result_line);
            } else {
                for failure in one.failures(usize::MAX) {
                    self.tell(&failure_line(failure));
                }
            }
        }
    }

    /// Failures are told as they come; as JSON every result is.
    pub(super) fn show(&self, change: BatchChange, event: &Event) {
        let (BatchChange::Settled, Event::Result(event)) = (change, event) else { return };
        if self.json {
            result_line(&event.data);
        } else if event.data.outcome.is_dead_letter() {
            self.tell(&failure_line(&event.data));
        }
    }

    /// A line above those that are drawn.
    pub(super) fn tell(&self, line: &str) {
        self.lines.suspend(|| eprintln!("{}", one_line(line)));
    }

    /// Says why nothing moves, when that changes: its times, which count down, are no change.
    pub(super) fn waits(&mut self, known: &Known) {
        if let Some(blind) = &known.blind {
            return self.tell(blind);
        }
        if known.reason == self.waiting {
            return;
        }
        self.waiting = known.reason;
        if self.json {
            return typed_line(
                "waiting",
                &json!({ "reason": known.reason, "why": known.why, "end": known.end }),
            );
        }
        match &known.why {
            Some(why) => self.tell(&format!("waiting: {why}")),
            None => self.tell("going on"),
        }
    }

    /// Draws how far they have come, [`DRAW`] apart.
    pub(super) fn draw(&mut self, watched: &Watched, known: &Known) {
        if !self.is_due() {
            return;
        }
        let now = Timestamp::now();
        let followed = watched.followed();
        if !self.is_one {
            for one in followed.iter().take(LINES) {
                let bar = self.bars.entry(one.batch.clone()).or_insert_with(|| {
                    self.lines.insert_before(&self.all, progress_bar(self.world, 0, &one.batch))
                });
                paint(bar, one.total(), one.settled(), &line(one, None, now));
            }
        }
        match followed.as_slice() {
            [one] if self.is_one => {
                paint(&self.all, one.total(), one.settled(), &line(one, Some(known), now));
            }
            _ => {
                let all = watched.together();
                let said = format!("{} batches · {}", all.batches, outcomes_of(&all));
                paint(&self.all, all.total, all.settled, &said);
            }
        }
    }

    pub(super) fn close(&self, watched: &Watched, known: &Known) {
        self.bars.values().for_each(ProgressBar::finish_and_clear);
        self.all.finish_and_clear();
        let now = Timestamp::now();
        for one in watched.followed() {
            if self.json {
                let mut summary = serde_json::to_value(one.summary()).unwrap_or_default();
                if let Some(object) = summary.as_object_mut().filter(|_| !one.is_done()) {
                    known.end.map(|end| object.insert("end".to_owned(), json!(end)));
                    if known.on_hold > 0 {
                        object.insert("on_hold".to_owned(), json!(known.on_hold));
                    }
                }
                typed_line("summary", &summary);
            } else {
                print(&in_words(watched, one, known, now, self.is_one));
            }
        }
        let all = watched.together();
        if !self.is_one && self.json {
            typed_line("total", &all);
        } else if !self.is_one {
            let of = all.total.map_or_else(String::new, |total| format!(" of {total}"));
            let said = outcomes_of(&all);
            print(&format!(
                "{}: {} batches: {}{of} have ended: {said}\n",
                watched.which.shown(),
                all.batches,
                all.settled
            ));
        }
    }
}

fn paint(bar: &ProgressBar, total: Option<u64>, settled: u64, said: &str) {
    bar.set_length(total.unwrap_or(settled));
    bar.set_position(settled);
    bar.set_message(one_line(said).into_owned());
}

fn result_line(result: &ResultData) {
    typed_line(&result::kind(result.outcome), result);
}

/// A line of JSON that says what it is.
fn typed_line(kind: &str, what: &impl Serialize) {
    let mut line = serde_json::to_value(what).unwrap_or_default();
    if let Some(object) = line.as_object_mut() {
        object.insert("type".to_owned(), json!(kind));
    }
    print_json(&format!("{line}\n"));
}

/// `created 12, rejected 1 · 2.0/s · done about 22:10:31, in 4 min`
fn line(progress: &BatchProgress, known: Option<&Known>, now: Timestamp) -> String {
    let mut parts = vec![outcomes(|outcome| progress.count(outcome))];
    if let Some(rate) = progress.per_second(now).filter(|_| !progress.is_done()) {
        parts.push(format!("{rate:.1}/s"));
    }
    let known = known.filter(|_| !progress.is_done());
    if let Some(end) = known.and_then(|known| known.end) {
        let left = end.duration_since(now).as_secs().max(1).unsigned_abs();
        let day = if left < 12 * 3_600 { "%H:%M:%S" } else { "%a %F %H:%M" };
        let end = end.to_zoned_datetime(TimeZone::system());
        parts.push(format!("done about {}, in {}", end.strftime(day), words::roughly(left)));
    }
    if let Some(on_hold) = known.map(|known| known.on_hold).filter(|on_hold| *on_hold > 0) {
        parts.push(format!("without {on_hold} on hold"));
    }
    if let Some(reason) = known.and_then(|known| known.reason) {
        parts.push(format!("waiting ({reason})"));
    }
    parts.join(" · ")
}

fn outcomes_of(all: &Together) -> String {
    outcomes(|outcome| all.outcomes.get(&outcome).copied().unwrap_or_default())
}

fn outcomes(count: impl Fn(Outcome) -> u64) -> String {
    let counts = Outcome::ALL.map(|outcome| (outcome, count(outcome)));
    let told = counts.iter().filter(|(_, count)| *count > 0);
    let told: Vec<_> =
        told.map(|(outcome, count)| format!("{} {count}", outcome.as_str())).collect();
    if told.is_empty() { "nothing has ended yet".to_owned() } else { told.join(", ") }
}

fn in_words(
    watched: &Watched,
    progress: &BatchProgress,
    known: &Known,
    now: Timestamp,
    whole: bool,
) -> String {
    let summary = progress.summary();
    let of = summary
        .total
        .map_or_else(|| "of a batch of unknown size".to_owned(), |total| format!("of {total}"));
    let (batch, generation) = (one_line(&summary.batch), generation(watched, progress));
    let said = line(progress, Some(known).filter(|_| whole), now);
    let mut text =
        format!("batch {batch}{generation}: {} {of} have ended: {said}\n", summary.settled);
    if let (Some(first), Some(last), true) =
        (summary.opened_at.or(summary.first_settled_at), summary.last_settled_at, whole)
    {
        let took = words::span(last.duration_since(first).as_secs().unsigned_abs());
        let _ = writeln!(text, "from {} to {}: {took}", local(first), local(last));
    }
    if summary.failed > 0 {
        let run = match progress.run {
            Some(run) if !generation.is_empty() => format!(" --batch-run {run}"),
            None if !generation.is_empty() => " --batch-run -".to_owned(),
            _ => String::new(),
        };
        let _ = writeln!(
            text,
            "{} did not end well: sluice dead-letters list --batch {batch}{run}",
            summary.failed
        );
    }
    let others = watched.generations(&summary.batch).saturating_sub(1);
    if others > 0 && whole {
        let _ = writeln!(
            text,
            "this id was enqueued {} times: `sluice watch` lists the generations, --run follows one",
            others + 1
        );
    }
    text
}
