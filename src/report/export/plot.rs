//! What does the plot of a batch show? How many requests had ended by which time, and where failures ended. An SVG
//! picture without scripts or styles of its own: it stands in a page of any content security policy.

use std::fmt::Write as _;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};

/// A request that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    pub(super) failed: bool,
}

/// The picture in pixels, and the part of it that has the line.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 944.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 280.0;
/// What falls into one of so many columns is drawn as one: the picture of a million requests is as small as any.
const COLUMNS: u32 = 880;
/// Labels of the time axis, at most.
const LABELS: i64 = 7;
/// Seconds between two labels of the time axis.
const STEPS: [i64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200,
    86_400, 172_800, 604_800, 2_592_000, 31_536_000,
];

/// A column of the picture in which something ended.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    x: f64,
    /// Ended by then.
    count: u64,
    /// Failures in this column.
    failed: u64,
}

struct Scale {
    from: Timestamp,
    span: SignedDuration,
    most: u64,
}

impl Scale {
    fn x(&self, at: Timestamp) -> f64 {
        let part = at.duration_since(self.from).as_secs_f64() / self.span.as_secs_f64();
        LEFT + part.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    #[expect(clippy::cast_precision_loss, reason = "a place in a picture")]
    fn y(&self, count: u64) -> f64 {
        BOTTOM - count as f64 / self.most as f64 * (BOTTOM - TOP)
    }

    /// The column in which something ended, by its right edge: never earlier than it happened.
    fn column(&self, at: Timestamp) -> f64 {
        let width = (RIGHT - LEFT) / f64::from(COLUMNS);
        (LEFT + ((self.x(at) - LEFT) / width).ceil() * width).min(RIGHT)
    }
}

/// `points`: sorted by time. `from`: when the batch began. `total`: how many requests it has.
pub(super) fn plot(points: &[Point], from: Timestamp, total: u64, zone: &TimeZone) -> Markup {
    let Some(last) = points.last() else { return html! {} };
    let from = from.min(points[0].at);
    let span = last.at.duration_since(from).max(SignedDuration::from_secs(1));
    let scale = Scale { from, span, most: total.max(points.len() as u64) };
    let steps = steps(points, &scale);
    let failed = points.iter().filter(|point| point.failed).count();
    let about = format!(
        "{} of {} requests had ended by {}; {failed} of them did not end well",
        points.len(),
        scale.most,
        shown(last.at, zone)
    );
    html! {
        svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width="100%" role="img" aria-label=(about) font-size="13" {
            title { (about) }
            (axes(&scale, zone))
            path class="ended" d=(line(&steps, &scale)) fill="none" stroke="#0b57b0" stroke-width="2.5" stroke-linejoin="round" {}
            @for step in steps.iter().filter(|step| step.failed > 0) {
                circle class="failed" cx=(pixel(step.x)) cy=(pixel(scale.y(step.count))) r="4" fill="#c62828" {
                    title { (step.failed) " did not end well" }
                }
            }
        }
    }
}

fn steps(points: &[Point], scale: &Scale) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (point, count) in points.iter().zip(1..) {
        let x = scale.column(point.at);
        let failed = u64::from(point.failed);
        match steps.last_mut() {
            Some(last) if (last.x - x).abs() < f64::EPSILON => {
                last.count = count;
                last.failed += failed;
            }
            _ => steps.push(Step { x, count, failed }),
        }
    }
    steps
}

/// Stairs: nothing is known between two requests.
fn line(steps: &[Step], scale: &Scale) -> String {
    let mut path = format!("M{} {}", pixel(LEFT), pixel(BOTTOM));
    for step in steps {
        // Writing to a text cannot fail.
        let _ = write!(path, "H{}V{}", pixel(step.x), pixel(scale.y(step.count)));
    }
    path
}

fn axes(scale: &Scale, zone: &TimeZone) -> Markup {
    html! {
        g class="axes" fill="#6b7480" stroke="none" {
            @for count in counts(scale.most) {
                @let y = pixel(scale.y(count));
                line x1=(pixel(LEFT)) x2=(pixel(RIGHT)) y1=(y) y2=(y) stroke="#9aa4b0" stroke-opacity="0.4" {}
                text x=(pixel(LEFT - 8.0)) y=(y) text-anchor="end" dominant-baseline="middle" { (count) }
            }
            @for (at, label) in times(scale, zone) {
                @let x = pixel(scale.x(at));
                line x1=(x) x2=(x) y1=(pixel(BOTTOM)) y2=(pixel(BOTTOM + 6.0)) stroke="#9aa4b0" {}
                text x=(x) y=(pixel(BOTTOM + 22.0)) text-anchor="middle" { (label) }
            }
        }
    }
}

/// Round numbers from 0 to the most, five or so.
fn counts(most: u64) -> Vec<u64> {
    let tenths = (0..=18).map(|power| 10_u64.pow(power));
    let steps = tenths.flat_map(|ten| [1, 2, 5].map(|digit| ten.saturating_mul(digit)));
    let step = steps.into_iter().find(|step| most / step <= 5).unwrap_or(u64::MAX);
    (0..=most / step).map(|number| number * step).collect()
}

/// Moments of the axis that are round on the clock of the zone, and their labels.
fn times(scale: &Scale, zone: &TimeZone) -> Vec<(Timestamp, String)> {
    let seconds = scale.span.as_secs().max(1);
    let step = STEPS.into_iter().find(|step| seconds / step < LABELS).unwrap_or(31_536_000);
    let format = match step {
        ..60 => "%H:%M:%S",
        60..86_400 if seconds < 86_400 => "%H:%M",
        60..86_400 => "%d %b %H:%M",
        _ => "%d %b %Y",
    };
    let offset = i64::from(zone.to_offset(scale.from).seconds());
    let begin = scale.from.as_second() + offset;
    let first = begin.div_euclid(step) * step - offset;
    (0..=LABELS + 1)
        .filter_map(|number| Timestamp::from_second(first + number * step).ok())
        .filter(|at| *at >= scale.from && at.duration_since(scale.from) <= scale.span)
        .map(|at| (at, at.to_zoned_datetime(zone.clone()).strftime(format).to_string()))
        .collect()
}

pub(super) fn shown(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned_datetime(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

fn pixel(place: f64) -> String {
    format!("{place:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_000_000 + seconds).unwrap()
    }

    fn scale(span: i64, most: u64) -> Scale {
        Scale { from: at(0), span: SignedDuration::from_secs(span), most }
    }

    #[test]
    fn the_line_counts_what_has_ended_and_marks_failures_where_they_ended() {
        let scale = scale(880, 4);
        let points = [(0, false), (10, false), (10, true), (880, false)]
            .map(|(seconds, failed)| Point { at: at(seconds), failed });
        let steps = steps(&points, &scale);
        let told: Vec<_> = steps.iter().map(|step| (step.x, step.count, step.failed)).collect();
        assert_eq!(told, [(64.0, 1, 0), (74.0, 3, 1), (944.0, 4, 0)]);
        assert_eq!(line(&steps, &scale), "M64.0 280.0H64.0V214.0H74.0V82.0H944.0V16.0");
    }

    #[test]
    fn a_hundred_thousand_points_are_drawn_in_a_thousand_steps_and_none_is_left_out() {
        let scale = scale(100_000, 100_000);
        let points: Vec<_> =
            (0..100_000).map(|n| Point { at: at(n), failed: n % 1000 == 0 }).collect();
        let steps = steps(&points, &scale);
        assert!(steps.len() < 1_000, "{}", steps.len());
        assert_eq!(steps.last().unwrap().count, 100_000);
        assert_eq!(steps.iter().map(|step| step.failed).sum::<u64>(), 100);
    }

    #[test]
    fn axes_have_round_numbers() {
        assert_eq!(counts(1), [0, 1]);
        assert_eq!(counts(300), [0, 100, 200, 300]);
        assert_eq!(counts(1_000), [0, 200, 400, 600, 800, 1_000]);
        let zone = TimeZone::get("Asia/Kolkata").unwrap();
        for (span, most) in [(1, 2), (59, 8), (3_600, 8), (200_000, 8), (90_000_000, 8)] {
            let labels = times(&scale(span, 1), &zone);
            assert!((1..=most).contains(&labels.len()), "{span}: {labels:?}");
        }
        let hours = times(&scale(6 * 3_600, 1), &zone);
        assert!(hours.iter().all(|(_, label)| label.ends_with(":00")), "{hours:?}");
    }
}
