//! Is a process after hours what it was after minutes? Looks at its memory, its open files and its series, judged.
//!
//! How much memory a session with the broker has depends on how long it has lasted, and under faults no two stretches of
//! time have sessions of the same lengths. So faults stop twice: what they leave behind is what a session that nobody
//! disturbs has more, the second time, at the same age.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::Duration;

use jiff::Timestamp;

/// How often a process is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(2);
/// A run that is shorter tells little of memory: what the worker remembers of ended runs still fills up, the allocator warms,
/// and its calm parts are too short for a session to fill its buffers, which takes some five minutes. Bodies that were kept
/// would show, so those of such a run are large.
pub(super) const SHORT: Duration = Duration::from_secs(3_600);
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
    /// Since when the session with the broker has lasted, if there is one.
    pub(super) session: Option<Timestamp>,
}

/// When something is broken in a run. All else of it is calm.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    lasts: Duration,
    /// In order, apart.
    pub(super) faults: Vec<Range<Duration>>,
}

/// Two parts of a run, of which the later one may have no more than the earlier one and some room.
#[derive(Debug)]
struct Comparison {
    what: &'static str,
    before: Range<Duration>,
    after: Range<Duration>,
    /// KiB by which what is low of the memory may rise; none where it says more of the sessions than of the process.
    low: Option<u64>,
    /// KiB by which the highest memory may rise.
    high: u64,
}

/// The values of a part of a run.
#[derive(Clone, Copy, Debug)]
struct Values {
    /// A tenth is lower: the lowest alone could be a moment like no other.
    low: u64,
    high: u64,
}

impl Values {
    fn of(samples: &[Sample], within: &Range<Duration>, value: fn(&Sample) -> u64) -> Self {
        let mut values: Vec<u64> =
            samples.iter().filter(|sample| within.contains(&sample.at)).map(value).collect();
        values.sort_unstable();
        let at = |index: usize| values.get(index).copied().unwrap_or(0);
        Self { low: at(values.len() / 10), high: at(values.len().saturating_sub(1)) }
    }
}

impl Plan {
    /// Of an hour: 15 minutes with faults, 10 without, 20 with, 15 without. A short run is calm at its end only, when the
    /// last session opens and stays.
    pub(super) fn of(lasts: Duration) -> Self {
        let part = lasts / 12;
        let faults = if lasts < SHORT {
            vec![Duration::ZERO..lasts.saturating_sub((lasts / 3).min(Duration::from_secs(30)))]
        } else {
            vec![Duration::ZERO..part * 3, part * 5..part * 9]
        };
        Self { lasts, faults }
    }

    /// Where one session must last.
    fn calm(&self) -> Vec<Range<Duration>> {
        let part = self.lasts / 12;
        let is_long = self.lasts >= SHORT;
        [part * 4..part * 5, part * 10..self.lasts].into_iter().filter(|_| is_long).collect()
    }

    fn comparisons(&self) -> Vec<Comparison> {
        let part = self.lasts / 12;
        if self.lasts < SHORT {
            let (before, after) = (part * 3..part * 6, part * 9..self.lasts);
            let low = 16 * 1_024;
            return vec![Comparison {
                what: "all",
                before,
                after,
                low: Some(low),
                high: low + BUFFERS,
            }];
        }
        vec![
            Comparison {
                what: "with faults",
                before: part..part * 3,
                after: part * 7..part * 9,
                low: None,
                high: 4_096 + BUFFERS,
            },
            Comparison {
                what: "a calm session, and one after more faults",
                before: part * 4..part * 5,
                after: part * 10..part * 11,
                low: Some(4_096),
                high: 4_096,
            },
            Comparison {
                what: "within a calm session",
                before: part * 10..part * 11,
                after: part * 11..self.lasts,
                low: Some(1_024),
                high: 1_024,
            },
        ]
    }

    /// What was not flat; empty if all was.
    pub(super) fn rises(&self, samples: &[Sample]) -> Vec<String> {
        let mut rises = Vec::new();
        for calm in self.calm() {
            let within = samples.iter().filter(|sample| calm.contains(&sample.at));
            let sessions: BTreeSet<_> = within.map(|sample| sample.session).collect();
            if sessions.len() != 1 || sessions.contains(&None) {
                rises.push(format!("not one session within {calm:?}: {sessions:?}"));
            }
        }
        for Comparison { what, before, after, low, high } in self.comparisons() {
            for range in [&before, &after] {
                let looks = samples.iter().filter(|sample| range.contains(&sample.at)).count();
                let wanted = range.end.saturating_sub(range.start).as_secs() / LOOK.as_secs();
                if (looks as u64) < wanted / 2 {
                    rises.push(format!("{what}: {looks} of some {wanted} looks within {range:?}"));
                }
            }
            let mut flat = |name: &str, before: u64, after: u64, room: u64| {
                if after > before + room {
                    rises.push(format!("{what}: {name} rose from {before} to {after}"));
                }
            };
            let values =
                |value| (Values::of(samples, &before, value), Values::of(samples, &after, value));
            let (memory, later) = values(|sample| sample.memory);
            if let Some(room) = low {
                flat("low memory (KiB)", memory.low, later.low, room);
            }
            flat("the highest memory (KiB)", memory.high, later.high, high);
            // A session that ends while the next begins holds its sockets for a moment.
            let (files, later) = values(|sample| sample.files);
            flat("open files", files.high, later.high, 8);
            let (series, later) = values(|sample| sample.series);
            flat("series", series.high, later.high, 0);
        }
        rises
    }

    /// The values that are judged, as a table.
    pub(super) fn table(&self, samples: &[Sample]) -> String {
        let mut table = "compared | memory (KiB), low and highest | later | files | later | series | later\n--- | --- | --- | --- | --- | --- | ---\n".to_owned();
        for Comparison { what, before, after, .. } in self.comparisons() {
            let of = |within, value| {
                let Values { low, high } = Values::of(samples, within, value);
                format!("{low} and {high}")
            };
            let _ = write!(table, "{what}");
            let values: [fn(&Sample) -> u64; 3] = [|s| s.memory, |s| s.files, |s| s.series];
            for value in values {
                let _ = write!(table, " | {} | {}", of(&before, value), of(&after, value));
            }
            table.push('\n');
        }
        table
    }
}

mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    /// Bytes that a process keeps of each.
    #[derive(Clone, Copy, Default)]
    struct Leak {
        request: u64,
        /// Until the session ends.
        request_in_session: u64,
        session: u64,
    }

    /// Looks of an hour at a worker of 40 MB and up to half a MB more or less under 12 requests a second, whose sessions last so
    /// many readings each while there are faults, and fill the buffers by 120 KiB with each reading.
    fn hour(lasts: fn(u64) -> u64, leak: Leak) -> Vec<Sample> {
        let plan = Plan::of(HOUR);
        let (mut age, mut sessions, mut disturbed) = (0, 0, false);
        let look = |n: u64| {
            let at = LOOK * u32::try_from(n).unwrap();
            let disturbs = plan.faults.iter().any(|faults| faults.contains(&at));
            let ends = if disturbs { age >= lasts(n) } else { disturbed };
            (age, sessions, disturbed) =
                if ends { (0, sessions + 1, disturbs) } else { (age + 1, sessions, disturbs) };
            let kept =
                24 * (leak.request * n + leak.request_in_session * age) + leak.session * sessions;
            let noise = n.wrapping_mul(7_919) % 512;
            let memory = 40_000 + noise + (120 * age).min(BUFFERS) + kept / 1_024;
            let session = Timestamp::from_second(sessions.try_into().unwrap()).ok();
            Sample { at, memory, files: 20, series: 100, session }
        };
        (0..1_800).map(look).collect()
    }

    fn low(samples: &[Sample], minutes: Range<u64>) -> u64 {
        let within = Duration::from_secs(60 * minutes.start)..Duration::from_secs(60 * minutes.end);
        Values::of(samples, &within, |sample| sample.memory).low
    }

    #[test]
    fn sessions_that_last_longer_are_no_leak() {
        let longer = |n: u64| if n < 700 { 10 } else { 100 };
        let samples = hour(longer, Leak::default());
        let (before, after) = (low(&samples, 5..15), low(&samples, 35..45));
        assert!(after > before + 500, "{before} {after}");
        assert_eq!(Plan::of(HOUR).rises(&samples), Vec::<String>::new());
    }

    #[test]
    fn a_leak_of_250_bytes_a_request_is_seen_however_long_sessions_last() {
        let shorter = |n: u64| if n < 700 { 100 } else { 10 };
        let rises = Plan::of(HOUR).rises(&hour(shorter, Leak { request: 250, ..Leak::default() }));
        assert!(
            rises[0].starts_with("a calm session, and one after more faults: low"),
            "{rises:?}"
        );
    }

    #[test]
    fn a_leak_of_100_kb_a_session_is_seen() {
        let rises =
            Plan::of(HOUR).rises(&hour(|_| 10, Leak { session: 100_000, ..Leak::default() }));
        let what = "a calm session, and one after more faults";
        assert!(!rises.is_empty() && rises.iter().all(|rise| rise.starts_with(what)), "{rises:?}");
    }

    #[test]
    fn what_grows_for_as_long_as_a_session_lasts_is_seen_in_the_calm() {
        let leak = Leak { request_in_session: 400, ..Leak::default() };
        let rises = Plan::of(HOUR).rises(&hour(|_| 10, leak));
        assert!(!rises.is_empty(), "{rises:?}");
        assert!(rises.iter().all(|rise| rise.starts_with("within a calm session")), "{rises:?}");
    }

    #[test]
    fn what_is_high_with_faults_may_rise_by_the_buffers_and_no_more() {
        let mut samples = hour(|_| 10, Leak::default());
        samples[1_200].memory += BUFFERS;
        assert_eq!(Plan::of(HOUR).rises(&samples), Vec::<String>::new());
        samples[1_200].memory += 6_000;
        let rises = Plan::of(HOUR).rises(&samples);
        assert!(rises.len() == 1 && rises[0].starts_with("with faults: the highest"), "{rises:?}");
    }

    #[test]
    fn files_and_series_that_grow_are_told() {
        let mut samples = hour(|_| 10, Leak::default());
        let last = samples.last_mut().unwrap();
        (last.files, last.series) = (29, 101);
        let told = Plan::of(HOUR).rises(&samples);
        assert!(told[0].contains("open files") && told[1].contains("series"), "{told:?}");
    }

    #[test]
    fn a_process_that_was_not_looked_at_to_the_end_is_told() {
        let mut samples = hour(|_| 10, Leak::default());
        samples.truncate(1_700);
        let told = Plan::of(HOUR).rises(&samples);
        assert_eq!(told, ["within a calm session: 50 of some 150 looks within 3300s..3600s"]);
    }

    #[test]
    fn a_session_that_ends_in_the_calm_is_told_and_so_is_one_that_never_was() {
        let mut samples = hour(|_| 10, Leak::default());
        samples[1_600].session = None;
        let told = Plan::of(HOUR).rises(&samples);
        assert!(told.len() == 1 && told[0].starts_with("not one session within"), "{told:?}");
        for sample in &mut samples {
            sample.session = None;
        }
        assert_eq!(Plan::of(HOUR).rises(&samples).len(), 2);
    }

    #[test]
    fn half_an_hour_whose_last_session_still_fills_its_buffers_is_flat() {
        let samples = hour(|_| 10, Leak::default());
        let lasts = HOUR / 2;
        let told = Plan::of(lasts).rises(&samples[..900]);
        assert_eq!(told, Vec::<String>::new());
    }

    #[test]
    fn bodies_that_a_short_run_keeps_are_seen() {
        let lasts = Duration::from_secs(180);
        let kept = |n: u64| Sample {
            at: LOOK * u32::try_from(n).unwrap(),
            memory: 40_000 + n * 24 * 30,
            files: 20,
            series: 100,
            session: None,
        };
        let rises = Plan::of(lasts).rises(&(0..90).map(kept).collect::<Vec<_>>());
        assert!(rises[0].contains("low memory"), "{rises:?}");
    }
}
