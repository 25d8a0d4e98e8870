//! How did the last hour go? A bounded ring of samples of one lane, kept whether or not anybody looks; drawn as SVG, and
//! told as a table.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use tokio::sync::watch;

use super::page::clock;
use crate::message::status::Status;
use crate::observe::metrics::{Metrics, Totals};
use crate::report::text::grouped;

/// A sample so often ...
const EVERY: Duration = Duration::from_secs(5);
/// ... and so many of them: an hour.
const MOST: usize = 720;
/// The drawing's own units: one for a sample.
const WIDTH: i64 = 720;
const HEIGHT: f64 = 150.0;
/// A bar or a row is so long.
const BAR: i64 = 60;
const ROW: i64 = 300;

/// One lane at one instant.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub at: Timestamp,
    /// Calls a second since the sample before.
    pub made: f64,
    /// Calls a second allowed; `None`: no limit.
    pub allowed: Option<f64>,
    /// Requests that ended since the sample before.
    pub well: u64,
    pub failed: u64,
    pub open: bool,
}

/// The samples of the last hour.
#[derive(Clone, Debug, Default)]
pub struct Hour(Arc<Mutex<VecDeque<Sample>>>);

impl Hour {
    /// Takes samples for as long as somebody has this hour.
    pub fn keep(status: watch::Receiver<Status>, metrics: Arc<Metrics>) -> Self {
        let hour = Self::default();
        tokio::spawn(sample(Arc::downgrade(&hour.0), status, metrics));
        hour
    }

    pub fn push(&self, sample: Sample) {
        let mut samples = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if samples.len() == MOST {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    fn samples(&self) -> Vec<Sample> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    /// The drawings; they change with each sample only.
    pub(super) fn plots(&self, table: &str) -> Markup {
        let samples = self.samples();
        let Some(last) = samples.last() else {
            return html! { p.soft { "The first sample is taken within " (EVERY.as_secs()) " seconds." } };
        };
        html! {
            div.plots { (rates(&samples, last.at)) (outcomes(&samples, last.at)) }
            p.soft { a id="hour" href=(table) { "The figures of this hour as a table" } }
        }
    }

    /// The same for those who cannot see it.
    pub(super) fn table(&self) -> Markup {
        let samples = self.samples();
        let Some(last) = samples.last() else {
            return html! { p { "There are no figures yet: a sample is taken every " (EVERY.as_secs()) " seconds." } };
        };
        let mut rows = buckets(&samples, last.at, ROW);
        rows.reverse();
        html! {
            p { "Calls to the API against the limit, and how requests ended, by five minutes, the latest first." }
            div.scroll.card { table #hours {
                thead { tr { th { "From" } th.n { "Calls/s" } th.n { "Allowed/s" } th.n { "Ended well" } th.n { "Failed" } th.n { "Gate open" } } }
                tbody { @for row in &rows { tr {
                    td { (clock(row.from)) }
                    td.n { (format!("{:.2}", row.made)) }
                    td.n { (row.allowed.map_or_else(|| "no limit".to_owned(), |most| format!("{most:.2}"))) }
                    td.n { (grouped(row.well)) }
                    td.n { (grouped(row.failed)) }
                    td.n { (format!("{:.0} %", row.open * 100.0)) }
                } } }
            } }
        }
    }
}

async fn sample(
    hour: Weak<Mutex<VecDeque<Sample>>>,
    status: watch::Receiver<Status>,
    metrics: Arc<Metrics>,
) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut before: Option<(Totals, Instant)> = None;
    loop {
        ticks.tick().await;
        let Some(samples) = hour.upgrade() else { return };
        let (totals, now) = (metrics.totals(), Instant::now());
        // A lane that starts again after a panic goes on counting; nothing ever counts back.
        if let Some((was, then)) = before.replace((totals, now)) {
            let seconds = now.duration_since(then).as_secs_f64().max(0.001);
            let status = status.borrow();
            let calls = u32::try_from(totals.calls - was.calls).unwrap_or(u32::MAX);
            Hour(samples).push(Sample {
                at: Timestamp::now(),
                made: f64::from(calls) / seconds,
                allowed: status.limits.allowed_per_second,
                well: totals.well - was.well,
                failed: totals.failed - was.failed,
                open: status.gate.open,
            });
        }
    }
}

/// Several samples as one.
#[derive(Clone, Debug, PartialEq)]
struct Bucket {
    from: Timestamp,
    made: f64,
    allowed: Option<f64>,
    well: u64,
    failed: u64,
    /// The share of the time that the gate was open.
    open: f64,
}

/// By spans of `seconds` of the clock, oldest first; spans without a sample are left out.
fn buckets(samples: &[Sample], now: Timestamp, seconds: i64) -> Vec<Bucket> {
    let mut buckets: Vec<(Bucket, f64)> = Vec::new();
    for sample in samples.iter().filter(|sample| age(sample.at, now) < 3600) {
        let from = sample.at.as_second().div_euclid(seconds) * seconds;
        let from = Timestamp::from_second(from).unwrap_or(sample.at);
        if buckets.last().is_none_or(|(last, _)| last.from != from) {
            let empty = Bucket { from, made: 0.0, allowed: None, well: 0, failed: 0, open: 0.0 };
            buckets.push((empty, 0.0));
        }
        let Some((bucket, count)) = buckets.last_mut() else { continue };
        *count += 1.0;
        bucket.made += (sample.made - bucket.made) / *count;
        bucket.open += (f64::from(u8::from(sample.open)) - bucket.open) / *count;
        bucket.allowed = sample.allowed;
        bucket.well += sample.well;
        bucket.failed += sample.failed;
    }
    buckets.into_iter().map(|(bucket, _)| bucket).collect()
}

fn age(at: Timestamp, now: Timestamp) -> i64 {
    now.duration_since(at).max(SignedDuration::ZERO).as_secs()
}

/// From the left edge, an hour ago, to the right, now.
fn x(at: Timestamp, now: Timestamp) -> i64 {
    let five = i64::try_from(EVERY.as_secs()).unwrap_or(5);
    (WIDTH - age(at, now) / five).max(0)
}

fn y(value: f64, most: f64) -> f64 {
    HEIGHT - value / most * (HEIGHT - 8.0)
}

/// The points of a line; it breaks where there is no value.
fn lines(
    samples: &[Sample],
    now: Timestamp,
    value: impl Fn(&Sample) -> Option<f64>,
) -> Vec<String> {
    let mut lines = vec![String::new()];
    for sample in samples {
        match (value(sample), lines.last_mut()) {
            // Writing to a text cannot fail.
            (Some(value), Some(line)) => drop(write!(line, "{},{value:.1} ", x(sample.at, now))),
            _ => lines.push(String::new()),
        }
    }
    lines.retain(|line| !line.is_empty());
    lines
}

fn rates(samples: &[Sample], now: Timestamp) -> Markup {
    let allowed = samples.iter().filter_map(|sample| sample.allowed);
    let made = samples.iter().map(|sample| sample.made);
    let most = made.clone().chain(allowed).fold(0.1, f64::max);
    let highest = made.fold(0.0, f64::max);
    let last = samples.last();
    let limit = match last.and_then(|sample| sample.allowed) {
        Some(limit) => format!("{limit:.2} allowed now"),
        None => "no limit".to_owned(),
    };
    let latest = last.map_or(0.0, |sample| sample.made);
    let told = format!(
        "Calls a second in the last hour: {latest:.2} lately, {highest:.2} at most, {limit}"
    );
    html! {
        figure.plot {
            figcaption { "Calls a second: " span.key.made { "made" } " " span.key.most { "allowed" } " " span.key.shut { "gate shut" } }
            span.top { (format!("{most:.1}")) }
            svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(told) {
                @for (from, to) in shut(samples, now) { rect.shut x=(from) y="0" width=((to - from).max(1)) height=(HEIGHT) {} }
                @for line in lines(samples, now, |sample| sample.allowed.map(|value| y(value, most))) { polyline.most points=(line) vector-effect="non-scaling-stroke" {} }
                @for line in lines(samples, now, |sample| Some(y(sample.made, most))) { polyline.made points=(line) vector-effect="non-scaling-stroke" {} }
            }
            span.from { "an hour ago" } span.to { "now" }
        }
    }
}

/// From where to where the gate was shut.
fn shut(samples: &[Sample], now: Timestamp) -> Vec<(i64, i64)> {
    let mut spans: Vec<(i64, i64)> = Vec::new();
    for sample in samples.iter().filter(|sample| !sample.open) {
        let at = x(sample.at, now);
        match spans.last_mut() {
            Some((_, to)) if *to >= at - 1 => *to = at + 1,
            _ => spans.push((at - 1, at + 1)),
        }
    }
    spans
}

fn outcomes(samples: &[Sample], now: Timestamp) -> Markup {
    let bars = buckets(samples, now, BAR);
    let most = bars.iter().map(|bar| bar.well + bar.failed).max().unwrap_or(0).max(1);
    let (well, failed): (u64, u64) =
        (bars.iter().map(|bar| bar.well).sum(), bars.iter().map(|bar| bar.failed).sum());
    let told = format!("Requests that ended in the last hour: {well} well, {failed} not");
    #[allow(clippy::cast_precision_loss)] // far below 2^52 in a minute
    let height = |count: u64| HEIGHT - y(count as f64, most as f64);
    html! {
        figure.plot {
            figcaption { "Requests that ended, by the minute: " span.key.well { (grouped(well)) " well" } " " span.key.failed { (grouped(failed)) " failed" } }
            span.top { (grouped(most)) }
            svg.plot viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(told) {
                @for bar in &bars {
                    @let (left, well, failed) = (x(bar.from, now), height(bar.well), height(bar.failed));
                    rect.well x=(left) y=(format!("{:.1}", HEIGHT - well)) width="10" height=(format!("{well:.1}")) {}
                    rect.failed x=(left) y=(format!("{:.1}", HEIGHT - well - failed)) width="10" height=(format!("{failed:.1}")) {}
                }
            }
            span.from { "an hour ago" } span.to { "now" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(count: i64) -> (Hour, Timestamp) {
        let hour = Hour::default();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let mut at = start;
        for n in 0..count {
            at = start + SignedDuration::from_secs(5 * n);
            let open = n % 4 != 0;
            hour.push(Sample { at, made: 1.5, allowed: Some(2.0), well: 7, failed: 1, open });
        }
        (hour, at)
    }

    #[test]
    fn an_hour_is_kept_and_no_more() {
        let (hour, now) = samples(5_000);
        let kept = hour.samples();
        assert_eq!(kept.len(), MOST);
        assert!(age(kept[0].at, now) < 3600);
        let page = hour.plots("/now/hour").into_string();
        assert!(page.contains("1.50 lately, 1.50 at most, 2.00 allowed now"), "{page}");
        assert!(page.contains("5040 well, 720 not"), "{page}");
        assert!(page.len() < 40_000, "{}", page.len());
        assert!(!page.contains("style="), "the policy allows no inline style");
    }

    #[test]
    fn samples_of_a_span_are_one_row() {
        let (hour, now) = samples(24);
        let rows = buckets(&hour.samples(), now, 60);
        let (made, wells): (Vec<_>, Vec<_>) = rows.iter().map(|row| (row.made, row.well)).unzip();
        assert_eq!((made, wells), (vec![1.5, 1.5], vec![84, 84]));
        assert!((rows[0].open - 0.75).abs() < 1e-9);
        assert!(hour.table().into_string().contains("75 %"));
    }

    #[test]
    fn a_line_breaks_where_there_is_no_limit() {
        let (hour, now) = samples(4);
        let kept = hour.samples();
        let broken = lines(&kept, now, |sample| sample.open.then_some(1.0));
        assert_eq!(broken.len(), 1);
        assert_eq!(shut(&kept, now), [(716, 718)]);
    }

    #[test]
    fn nothing_yet_says_so() {
        assert!(Hour::default().plots("/now/hour").into_string().contains("first sample"));
    }
}
