//! Is a process after hours what it was after minutes? Looks at its memory, its open files and its series, judged.

use std::fmt::Write as _;
use std::time::Duration;

/// How often a process is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// A run that is shorter tells little of memory: what the worker remembers of ended runs still fills up, and the allocator
/// warms. Bodies that were kept would show, so those of such a run are large.
pub(super) const SHORT: Duration = Duration::from_secs(600);
/// KiB. The client library has 4 MiB for each direction of a session's two connections, which become resident with what has
/// gone through them, and end with the session.
const BUFFERS: u64 = 4 * 4 * 1_024;

/// The process at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Since the start.
    pub(super) at: Duration,
    /// KiB resident.
    pub(super) memory: u64,
    pub(super) files: u64,
    pub(super) series: u64,
}

/// How long sessions come and go because something is broken, and how long one stays after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases {
    pub(super) faults: Duration,
    pub(super) calm: Duration,
}

/// The values of a quarter of a phase.
#[derive(Clone, Copy, Debug)]
struct Range {
    /// A tenth is lower: the lowest alone could be a moment like no other.
    low: u64,
    high: u64,
}

impl Range {
    fn of(samples: &[Sample], value: fn(&Sample) -> u64) -> Self {
        let mut values: Vec<u64> = samples.iter().map(value).collect();
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or(0);
        Self { low: at(values.len() / 10), high: at(values.len().saturating_sub(1)) }
    }
}

impl Phases {
    /// A third of an hour is calm; of a short run the end, in which the last session opens and stays.
    pub(super) fn of(lasts: Duration) -> Self {
        let calm = if lasts < SHORT { Duration::from_secs(30) } else { lasts / 3 };
        Self { faults: lasts.saturating_sub(calm), calm }
    }

    pub(super) fn all(&self) -> Duration {
        self.faults + self.calm
    }

    fn is_short(&self) -> bool {
        self.all() < SHORT
    }

    /// Of a phase, the second quarter and the last: the first one is the time of filling up.
    fn quarters(&self, phase: Phase, samples: &[Sample]) -> [Vec<Sample>; 2] {
        let (from, lasts) = match phase {
            // A short run is all one.
            Phase::Faults if self.is_short() => (Duration::ZERO, self.all()),
            Phase::Faults => (Duration::ZERO, self.faults),
            Phase::Calm => (self.faults, self.calm),
        };
        let quarter = lasts / 4;
        let within = |number: u32| {
            let (from, to) = (from + quarter * number, from + quarter * (number + 1));
            samples.iter().filter(|s| s.at >= from && s.at < to).copied().collect()
        };
        [within(1), within(3)]
    }

    fn phases(&self) -> &'static [Phase] {
        if self.is_short() { &[Phase::Faults] } else { &[Phase::Faults, Phase::Calm] }
    }

    /// What was not flat; empty if all was.
    pub(super) fn rises(&self, samples: &[Sample]) -> Vec<String> {
        let mut rises = Vec::new();
        let wanted = self.all().as_secs() / LOOK.as_secs();
        if (samples.len() as u64) < wanted / 2 {
            rises.push(format!("only {} of some {wanted} looks at the process", samples.len()));
        }
        for phase in self.phases() {
            let [before, after] = self.quarters(*phase, samples);
            let mut flat = |what: &str, before: u64, after: u64, room: u64| {
                if after > before + room {
                    rises.push(format!("{phase:?}: {what} rose from {before} to {after}"));
                }
            };
            let ranges = |value| (Range::of(&before, value), Range::of(&after, value));
            let (memory, later) = ranges(|sample: &Sample| sample.memory);
            let room = memory.low / 20 + if self.is_short() { 16 * 1_024 } else { 2_048 };
            // What stays for ever is there at the lowest moments, too; the highest ones say how long a session lasted as well.
            flat("low memory (KiB)", memory.low, later.low, room);
            let buffers = if *phase == Phase::Faults { BUFFERS } else { 0 };
            flat("the highest memory (KiB)", memory.high, later.high, room + buffers);
            // A session that ends while the next begins holds its sockets for a moment.
            let (files, later) = ranges(|sample| sample.files);
            flat("open files", files.high, later.high, 8);
            let (series, later) = ranges(|sample| sample.series);
            flat("series", series.high, later.high, 0);
        }
        rises
    }

    /// The values that are judged, as a table.
    pub(super) fn table(&self, samples: &[Sample]) -> String {
        let mut table =
            "lowest but a tenth, and highest | second quarter | last quarter\n--- | --- | ---\n"
                .to_owned();
        for phase in self.phases() {
            let [before, after] = self.quarters(*phase, samples);
            let mut row = |what: &str, value: fn(&Sample) -> u64| {
                let [before, after] = [&before, &after].map(|part| Range::of(part, value));
                let Range { low, high } = after;
                let Range { low: was_low, high: was_high } = before;
                let _ = writeln!(
                    table,
                    "{phase:?}: {what} | {was_low} and {was_high} | {low} and {high}"
                );
            };
            row("memory (KiB)", |sample| sample.memory);
            row("open files", |sample| sample.files);
            row("series", |sample| sample.series);
        }
        table
    }
}

/// What happens while the process is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Faults,
    Calm,
}

mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Looks of an hour at a worker of 40 MB and up to half a MB more or less, whose sessions last so many looks each while
    /// there are faults, fill the buffers by 120 KiB with each look, and leave so many bytes behind with each of 12 requests a
    /// second, for ever or until their end.
    fn hour(lasts: fn(u64) -> u64, leak: u64, of_session: bool) -> Vec<Sample> {
        let faults = Phases::of(HOUR).faults;
        let mut age = 0;
        let look = |n: u64| {
            let at = LOOK * u32::try_from(n).unwrap();
            age = if age >= lasts(n) && at < faults { 0 } else { age + 1 };
            let leaking = if of_session { age } else { n };
            let noise = n.wrapping_mul(7_919) % 512;
            let memory = 40_000 + noise + (120 * age).min(BUFFERS) + leaking * 24 * leak / 1_024;
            Sample { at, memory, files: 20, series: 100 }
        };
        (0..1_800).map(look).collect()
    }

    #[test]
    fn sessions_that_last_longer_are_no_leak() {
        let longer = |n: u64| if n < 700 { 10 } else { 100 };
        let samples = hour(longer, 0, false);
        let [before, after] = Phases::of(HOUR).quarters(Phase::Faults, &samples);
        let [before, after] = [before, after].map(|part| Range::of(&part, |s| s.memory).high);
        assert!(after > before + 8_000, "{before} {after}");
        assert_eq!(Phases::of(HOUR).rises(&samples), Vec::<String>::new());
    }

    #[test]
    fn a_leak_of_300_bytes_a_request_is_seen_by_what_is_low() {
        let rises = Phases::of(HOUR).rises(&hour(|_| 10, 300, false));
        assert!(rises[0].contains("Faults: low memory"), "{rises:?}");
    }

    #[test]
    fn what_grows_for_as_long_as_a_session_lasts_is_seen_in_the_calm() {
        let rises = Phases::of(HOUR).rises(&hour(|_| 10, 800, true));
        assert!(rises.iter().all(|rise| rise.starts_with("Calm")), "{rises:?}");
        assert!(rises[0].contains("low memory"), "{rises:?}");
    }

    #[test]
    fn what_is_high_may_rise_by_the_buffers_and_no_more() {
        let mut samples = hour(|_| 10, 0, false);
        samples[1_100].memory += BUFFERS + 6_000;
        let rises = Phases::of(HOUR).rises(&samples);
        assert!(rises.len() == 1 && rises[0].contains("Faults: the highest"), "{rises:?}");
    }

    #[test]
    fn files_and_series_that_grow_are_told_and_so_is_a_process_that_was_not_looked_at() {
        let mut samples = hour(|_| 10, 0, false);
        let last = samples.last_mut().unwrap();
        (last.files, last.series) = (29, 101);
        let told = Phases::of(HOUR).rises(&samples);
        assert!(told[0].contains("open files") && told[1].contains("series"), "{told:?}");
        assert!(Phases::of(HOUR).rises(&samples[..800])[0].contains("only 800 of some 1800"));
    }

    #[test]
    fn bodies_that_a_short_run_keeps_are_seen() {
        let lasts = Duration::from_secs(180);
        let kept = |n: u64| Sample {
            at: LOOK * u32::try_from(n).unwrap(),
            memory: 40_000 + n * 24 * 30,
            files: 20,
            series: 100,
        };
        let rises = Phases::of(lasts).rises(&(0..90).map(kept).collect::<Vec<_>>());
        assert!(rises[0].contains("low memory"), "{rises:?}");
    }
}
