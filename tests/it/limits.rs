//! Promise 4: never over the quota, and as close under it as possible.

use std::time::Duration;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand::rngs::SmallRng;
use sluicegate::core::{Limits, Moment, Rate};

const SECOND: Duration = Duration::from_secs(1);
/// What a call needs to reach the server at least; any figure will do.
const WAY: Duration = Duration::from_millis(37);

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

fn micros(range: std::ops::RangeInclusive<u64>, random: &mut SmallRng) -> Duration {
    Duration::from_micros(random.random_range(range))
}

/// The most calls that any window of this length sees: closed at both ends, which is stricter than a server's.
fn busiest(window: Duration, arrivals: &[Moment]) -> usize {
    let mut sorted = arrivals.to_vec();
    sorted.sort_unstable();
    let mut first = 0;
    (0..sorted.len())
        .map(|last| {
            while sorted[last] - sorted[first] > window {
                first += 1;
            }
            last - first + 1
        })
        .max()
        .unwrap_or(0)
}

#[track_caller]
fn assert_kept(rates: &[Rate], arrivals: &[Moment]) {
    for rate in rates {
        let most = busiest(rate.window(), arrivals);
        assert!(most <= rate.count() as usize, "{most} calls within one window of {rate}");
    }
}

/// Calls as fast as the limits allow from `now` on, each a little late as timers are, now and then with a pause; answers
/// when each arrived.
fn calls(
    limits: &mut Limits,
    now: &mut Moment,
    count: usize,
    (lateness, margin): (Duration, Duration),
    random: &mut SmallRng,
) -> Vec<Moment> {
    let mut arrivals = Vec::with_capacity(count);
    for _ in 0..count {
        if random.random_ratio(1, 40) {
            *now = *now + micros(0..=3_000_000, random);
        }
        let ready = limits.ready_at(*now);
        if ready > *now {
            *now = ready + micros(0..=u64::try_from(lateness.as_micros()).unwrap(), random);
        }
        limits.take(*now);
        arrivals.push(*now + WAY + micros(0..=u64::try_from(margin.as_micros()).unwrap(), random));
    }
    arrivals
}

fn any_rate() -> impl Strategy<Value = Rate> {
    let windows =
        prop_oneof![Just(50), Just(250), Just(1_000), Just(5_000), Just(60_000), 1..120_000_u64];
    (prop_oneof![1..12_u32, 1..2_000_u32], windows)
        .prop_map(|(count, window)| Rate::new(count, Duration::from_millis(window)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_sliding_window_sees_more_than_its_limit(
        rates in prop::collection::vec(any_rate(), 1..4),
        lateness in 0..20_u64,
        margin in 0..30_u64,
        seed: u64,
    ) {
        let random = &mut SmallRng::seed_from_u64(seed);
        let timing = (Duration::from_millis(lateness), Duration::from_millis(margin));
        let mut now = Moment::START + SECOND;
        let mut limits = Limits::new(&rates, timing.1, now);
        assert_kept(&rates, &calls(&mut limits, &mut now, 1_500, timing, random));
    }

    #[test]
    fn restarts_and_lowered_rates_never_put_a_window_over_its_limit(
        rates in prop::collection::vec(any_rate(), 1..3),
        seed: u64,
    ) {
        let random = &mut SmallRng::seed_from_u64(seed);
        let timing = (Duration::from_millis(3), Duration::from_millis(10));
        let mut now = Moment::START + SECOND;
        let mut limits = Limits::new(&rates, timing.1, now);
        let mut arrivals = Vec::new();
        for _ in 0..30 {
            let count = random.random_range(1..60);
            arrivals.extend(calls(&mut limits, &mut now, count, timing, random));
            match random.random_range(0..5) {
                0 => limits = Limits::new(&rates, timing.1, now),
                1 => limits.set_rates(&rates, now),
                2 => _ = limits.lower(now, None, now, now),
                3 => limits.restart(now),
                _ => _ = limits.tick(now),
            }
        }
        assert_kept(&rates, &arrivals);
    }

    #[test]
    fn a_changed_rate_holds_from_then_on_and_no_window_sees_more_than_the_greater(
        (before, after) in (1..300_u32, 1..300_u32),
        window in prop_oneof![Just(200), Just(1_000), Just(20_000_u64)],
        seed: u64,
    ) {
        let random = &mut SmallRng::seed_from_u64(seed);
        let timing = (Duration::from_millis(3), Duration::from_millis(10));
        let window = Duration::from_millis(window);
        let [before, after] = [before, after].map(|count| Rate::new(count, window).unwrap());
        let mut now = Moment::START + SECOND;
        let mut limits = Limits::new(&[before], timing.1, now);
        let mut arrivals = calls(&mut limits, &mut now, 700, timing, random);
        assert_kept(&[before], &arrivals);
        limits.set_rates(&[after], now);
        let since = calls(&mut limits, &mut now, 700, timing, random);
        assert_kept(&[after], &since);
        arrivals.extend(since);
        let greater = if before.count() > after.count() { before } else { after };
        assert_kept(&[greater], &arrivals);
    }
}

/// The share of a rate that is used when there is always something to send, with timers as late as was measured.
fn share_used(text: &str, margin: Duration) -> f64 {
    let random = &mut SmallRng::seed_from_u64(7);
    let rate = rate(text);
    let mut now = Moment::START + SECOND;
    let mut limits = Limits::new(&[rate], margin, now);
    let begin = now;
    let count = rate.count() * 30;
    for _ in 0..count {
        let ready = limits.ready_at(now);
        if ready > now {
            now = ready + micros(200..=2_000, random);
        }
        limits.take(now);
    }
    f64::from(count) / (now - begin).as_secs_f64() / rate.per_second()
}

#[test]
fn nearly_all_of_the_quota_is_used_at_every_rate() {
    let margin = Duration::from_millis(10);
    for text in ["1/s", "2/s", "10/s", "50/s", "100/s", "1000/s", "5000/s", "20000/s"] {
        let used = share_used(text, margin);
        assert!((0.98..1.0).contains(&used), "{text}: {used:.4}");
    }
    for text in ["1/min", "60/min", "100/min", "3000/min", "1000/h"] {
        let used = share_used(text, margin);
        assert!((0.995..1.0).contains(&used), "{text}: {used:.4}");
    }
}

#[test]
fn a_margin_costs_its_part_of_the_window_and_no_more_than_one_percent_besides() {
    for margin in [0, 20, 50, 100, 200_u64] {
        let margin = Duration::from_millis(margin);
        let used = share_used("100/s", margin);
        assert!(used >= 1.0 - margin.as_secs_f64() - 0.01, "margin {margin:?}: {used:.4}");
    }
}

#[test]
fn without_rates_every_call_goes_at_once() {
    let now = Moment::START + SECOND;
    let mut limits = Limits::new(&[], Duration::ZERO, now);
    for _ in 0..1_000 {
        assert_eq!(limits.ready_at(now), now);
        limits.take(now);
    }
    assert_eq!((limits.configured_per_second(), limits.permitted_per_second()), (None, None));
    assert_eq!(limits.tick(now), None);
}

#[test]
fn a_fresh_limiter_waits_a_whole_period_of_each_limit() {
    let now = Moment::START + SECOND;
    let limits = Limits::new(&[rate("2/s"), rate("10/min")], Duration::ZERO, now);
    let wait = limits.ready_at(now) - now;
    assert!(wait >= Duration::from_secs(6) && wait < Duration::from_millis(6_010), "{wait:?}");
}

#[test]
fn a_refusal_halves_the_rate_once_however_many_calls_were_under_way() {
    let start = Moment::START + SECOND;
    let now = start + SECOND;
    let mut limits = Limits::new(&[rate("100/s")], Duration::ZERO, start);
    assert!(limits.lower(now - Duration::from_millis(50), None, now, now));
    assert!(!limits.lower(
        now - Duration::from_millis(20),
        None,
        now + Duration::from_millis(30),
        now
    ));
    assert_eq!(limits.permitted_per_second(), Some(50.0));
    let later = now + Duration::from_millis(500);
    assert!(limits.lower(now + Duration::from_millis(1), None, later, later));
    assert_eq!(limits.permitted_per_second(), Some(25.0));
}

#[test]
fn a_lowered_rate_climbs_back_by_a_twentieth_a_window_and_creeps_near_where_it_was_refused() {
    let mut now = Moment::START + SECOND;
    let mut limits = Limits::new(&[rate("100/s")], Duration::ZERO, now);
    limits.lower(now, None, now, now + SECOND);
    let mut climb = Vec::new();
    while let Some(next) = limits.tick(now) {
        assert!(next > now);
        now = next;
        climb.push(limits.permitted_per_second().unwrap());
    }
    let steps: Vec<f64> = climb.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!((climb[0], *climb.last().unwrap()), (50.0, 99.5));
    assert!(steps[..8].iter().all(|step| (step - 5.0).abs() < 1e-9), "{steps:?}");
    assert!(steps[8..].iter().all(|step| (step - 0.5).abs() < 1e-9), "{steps:?}");
    // Two seconds until the first step (the gate was shut for one of them), then a second each.
    assert_eq!(now - (Moment::START + SECOND), Duration::from_secs(2 + 7 + 20));
    assert_eq!(limits.permitted_per_second(), Some(100.0));
}

#[test]
fn a_quota_that_the_refusal_names_is_kept_until_the_rates_are_set_anew() {
    let now = Moment::START + SECOND;
    let mut limits = Limits::new(&[rate("100/s")], Duration::ZERO, now);
    limits.lower(now, Some(rate("60/min")), now, now);
    let much_later = now + Duration::from_secs(36_000);
    assert_eq!(limits.tick(much_later), None);
    assert_eq!(
        (limits.permitted_per_second(), limits.configured_per_second()),
        (Some(1.0), Some(100.0))
    );
    limits.set_rates(&[rate("20/s")], much_later);
    assert_eq!(limits.permitted_per_second(), Some(20.0));
}

#[test]
fn a_client_that_shares_the_quota_settles_just_under_what_is_left_for_it() {
    // Half of the account's 100/s is somebody else's, so the server refuses what goes beyond 50/s.
    let left = rate("50/s");
    let mut now = Moment::START + SECOND;
    let mut limits = Limits::new(&[rate("100/s")], Duration::ZERO, now);
    let mut arrivals: std::collections::VecDeque<Moment> = std::collections::VecDeque::new();
    let (mut refused, mut answered) = (Vec::new(), 0);
    let begin = now;
    while now - begin < Duration::from_secs(600) {
        limits.tick(now);
        now = limits.ready_at(now);
        limits.take(now);
        while arrivals.front().is_some_and(|&first| now - first >= left.window()) {
            arrivals.pop_front();
        }
        if arrivals.len() < left.count() as usize {
            arrivals.push_back(now);
            answered += 1;
        } else if limits.lower(now, None, now, now + SECOND) {
            refused.push(now - begin);
            now = now + SECOND;
        }
    }
    assert!((2..40).contains(&refused.len()), "{refused:?}");
    assert!(answered > 600 * 50 * 7 / 10, "only {answered} calls in 600 s");
}

#[test]
fn rates_are_read_and_written_as_people_write_them() {
    for (text, count, window, shown) in [
        ("2/s", 2, 1_000, "2/s"),
        ("60/min", 60, 60_000, "60/min"),
        ("60/m", 60, 60_000, "60/min"),
        ("100/5s", 100, 5_000, "100/5s"),
        (" 7 / 90 s ", 7, 90_000, "7/90s"),
        ("500/h", 500, 3_600_000, "500/h"),
        ("1/1minute", 1, 60_000, "1/min"),
        ("3/250ms", 3, 250, "3/250ms"),
        ("1000/d", 1_000, 86_400_000, "1000/d"),
    ] {
        let rate = rate(text);
        assert_eq!((rate.count(), rate.window()), (count, Duration::from_millis(window)), "{text}");
        assert_eq!(rate.to_string(), shown);
        assert_eq!(shown.parse(), Ok(rate));
    }
}

#[test]
fn a_wrong_rate_is_refused_with_what_is_wrong_and_what_to_write() {
    for (text, why) in [
        ("2", "no slash"),
        ("/s", "not a whole number"),
        ("1.5/s", "not a whole number"),
        ("-1/s", "not a whole number"),
        ("0/s", "no call through"),
        ("2/", "no unit"),
        ("2/5", "no unit"),
        ("2/fortnight", "no unit"),
        ("2/0s", "between 1ms and 31d"),
        ("2/32d", "between 1ms and 31d"),
        ("2/99999999999s", "too long"),
        ("2/4000000000d", "between 1ms and 31d"),
    ] {
        let said = text.parse::<Rate>().unwrap_err().to_string();
        assert!(
            said.contains(why) && said.contains("\"60/min\"") && said.contains(text),
            "{text}: {said}"
        );
    }
}

#[test]
fn the_most_extreme_rates_neither_panic_nor_let_more_through() {
    for (count, window) in [
        (u32::MAX, Duration::from_millis(1)),
        (u32::MAX, Rate::LONGEST),
        (1, Rate::LONGEST),
        (1, Duration::from_millis(1)),
    ] {
        let rate = Rate::new(count, window).unwrap();
        for margin in [Duration::ZERO, Duration::from_secs(3_600)] {
            let mut now = Moment::START;
            let mut limits = Limits::new(&[rate], margin, now);
            let mut sent = Vec::new();
            for _ in 0..100 {
                now = limits.ready_at(now);
                limits.take(now);
                sent.push(now);
            }
            assert_kept(&[rate], &sent);
        }
    }
}
