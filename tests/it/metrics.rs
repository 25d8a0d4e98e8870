//! What dashboards see, and that its description keeps in step.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use sluicegate::core::gate::Reason;
use sluicegate::core::{Found, Outcome, VerdictKind};
use sluicegate::message::status::{BatchCounts, WindowCounts};
use sluicegate::observe::metrics::{self, Metrics};

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

/// The value of a series of the lane `a`: every one carries its lane.
fn of_a(text: &str, series: &str) -> Option<f64> {
    let labelled = match series.strip_suffix('}') {
        // Of a histogram the bound comes last.
        Some(labels) if labels.contains(",le=") => series.replace(",le=", ",lane=\"a\",le="),
        Some(labels) => format!("{labels},lane=\"a\"}}"),
        None => format!("{series}{{lane=\"a\"}}"),
    };
    value(text, &labelled)
}

#[test]
fn every_series_of_a_known_label_exists_at_zero_from_the_start() {
    let text = metrics::render([&Metrics::new("a").unwrap()]);
    for outcome in Outcome::ALL.map(Outcome::as_str) {
        assert_eq!(
            of_a(&text, &format!("sluice_requests_total{{outcome=\"{outcome}\"}}")),
            Some(0.0)
        );
        let count = format!("sluice_request_duration_seconds_count{{outcome=\"{outcome}\"}}");
        assert_eq!(of_a(&text, &count), Some(0.0));
    }
    for series in [
        "sluice_attempts_total{verdict=\"ambiguous\"}",
        "sluice_look_ups_total{found=\"nothing\"}",
        "sluice_gate_shut_seconds_total{reason=\"throttled\"}",
        "sluice_window_requests{state=\"settling\"}",
        "sluice_window_requests{state=\"unpublished\"}",
        "sluice_queue_messages{queue=\"dead-letters\"}",
        "sluice_gate_open",
        "sluice_redeliveries_total",
    ] {
        assert_eq!(of_a(&text, series), Some(0.0), "{series}");
    }
    assert_eq!(of_a(&text, "sluice_build_info{version=\"0.1.0\"}"), Some(1.0));
    assert!(value(&text, "process_resident_memory_bytes").unwrap() > 0.0);
}

#[test]
fn what_happened_is_counted_where_it_belongs() {
    let metrics = Metrics::new("a").unwrap();
    metrics.settled(Outcome::Rejected, Some(Duration::from_secs(90)));
    metrics.settled(Outcome::Created, None);
    metrics.attempted(VerdictKind::Throttled, Duration::from_millis(80));
    metrics.looked_up(Found::Conflict);
    metrics.gate_was_shut(Reason::Halted, Duration::from_millis(2500));
    metrics.set_window(
        WindowCounts { ready: 4, waiting: 3, in_flight: 2, settling: 1, unpublished: 5 },
        4096,
        Some(Duration::from_secs(7)),
    );
    metrics.set_queues(Some(12), Some(3));
    metrics.set_rate(1.5, None);
    metrics.set_session(true, false, 0);
    metrics.set_short_sessions(3);
    let text = metrics::render([&metrics]);
    for (series, expected) in [
        ("sluice_requests_total{outcome=\"rejected\"}", 1.0),
        ("sluice_requests_total{outcome=\"created\"}", 1.0),
        ("sluice_request_duration_seconds_count{outcome=\"created\"}", 0.0),
        ("sluice_request_duration_seconds_bucket{outcome=\"rejected\",le=\"60\"}", 0.0),
        ("sluice_request_duration_seconds_bucket{outcome=\"rejected\",le=\"300\"}", 1.0),
        ("sluice_attempts_total{verdict=\"throttled\"}", 1.0),
        ("sluice_attempt_duration_seconds_count", 1.0),
        ("sluice_look_ups_total{found=\"conflict\"}", 1.0),
        ("sluice_gate_shut_seconds_total{reason=\"halted\"}", 2.5),
        ("sluice_window_requests{state=\"ready\"}", 4.0),
        ("sluice_window_requests{state=\"settling\"}", 1.0),
        ("sluice_window_bytes", 4096.0),
        ("sluice_oldest_held_seconds", 7.0),
        ("sluice_queue_messages{queue=\"requests\"}", 12.0),
        ("sluice_gate_rate_per_second", 1.5),
        ("sluice_gate_limit_per_second", f64::INFINITY),
        ("sluice_broker_connected", 1.0),
        ("sluice_consumer_active", 0.0),
    ] {
        assert_eq!(of_a(&text, series), Some(expected), "{series}");
    }
}

#[test]
fn batches_are_bounded_and_gone_once_they_are_done() {
    let metrics = Metrics::new("a").unwrap();
    let batch = |i: u64| BatchCounts {
        batch: format!("b{i}"),
        batch_run: None,
        open: i,
        done: 2,
        failed: 1,
    };
    metrics.set_batches(&(0..100).map(batch).collect::<Vec<_>>());
    let text = metrics::render([&metrics]);
    assert_eq!(text.lines().filter(|line| line.starts_with("sluice_batch_requests{")).count(), 60);
    assert_eq!(of_a(&text, "sluice_batch_requests{batch=\"b7\",state=\"open\"}"), Some(7.0));
    metrics.set_batches(&[]);
    assert!(!metrics::render([&metrics]).contains("sluice_batch_requests{"));
}

#[test]
fn lanes_are_told_apart_by_a_label_and_every_family_is_described_once() {
    let lanes = [Metrics::new("a").unwrap(), Metrics::new("b").unwrap()];
    lanes[1].settled(Outcome::Exists, None);
    let text = metrics::render(&lanes);
    assert_eq!(value(&text, "sluice_requests_total{outcome=\"exists\",lane=\"a\"}"), Some(0.0));
    assert_eq!(value(&text, "sluice_requests_total{outcome=\"exists\",lane=\"b\"}"), Some(1.0));
    let described: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
    assert_eq!(described.len(), described.iter().collect::<BTreeSet<_>>().len());
    assert!(
        text.lines().any(|line| line.starts_with("process_cpu_seconds_total ")),
        "the process is no lane"
    );
}

#[test]
fn names_have_units_and_help_and_the_documentation_is_of_this_code() {
    let metrics = Metrics::new("a").unwrap();
    let page = metrics.document();
    let text = metrics::render([&metrics]);
    for line in text.lines().filter_map(|line| line.strip_prefix("# HELP sluice_")) {
        let (name, help) = line.split_once(' ').unwrap();
        assert!(help.ends_with('.') || help.contains("label"), "sluice_{name}: {help}");
        assert!(page.contains(&format!("| `sluice_{name}` |")), "sluice_{name}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), page, "run the tests with UPDATE_DOCS=1");
}

#[test]
fn dead_letters_are_told_apart_by_their_code_and_never_by_free_text_or_without_a_bound() {
    let metrics = Metrics::new("a").unwrap();
    let count = |code: &str| {
        let series = format!("sluice_dead_letters_total{{code=\"{code}\"}}");
        of_a(&metrics::render([&metrics]), &series)
    };
    assert_eq!((count("none"), count("other")), (Some(0.0), Some(0.0)));
    metrics.dead_lettered(Some("SMS.6603"));
    metrics.dead_lettered(Some("SMS.6603"));
    metrics.dead_lettered(None);
    for text in ["a text", "SMS.", "SMS.66x3", "SMS.123456789", "x\"} 1\nevil{a=\"", ""] {
        metrics.dead_lettered(Some(text));
    }
    assert_eq!(
        (count("SMS.6603"), count("none"), count("other")),
        (Some(2.0), Some(1.0), Some(6.0))
    );
    for n in 0..100 {
        metrics.dead_lettered(Some(&format!("SMS.7{n:03}")));
    }
    let text = metrics::render([&metrics]);
    let series = text.lines().filter(|line| line.starts_with("sluice_dead_letters_total{")).count();
    assert_eq!(series, 22);
    assert_eq!(count("other"), Some(6.0 + 81.0));
}

#[test]
fn the_oldest_of_each_class_of_priority_counts_since_it_was_enqueued() {
    let metrics = Metrics::new("a").unwrap();
    let now: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
    let ago = |seconds| now - jiff::SignedDuration::from_secs(seconds);
    let held = [(1, ago(60)), (0, ago(90)), (2, ago(5)), (65_535, ago(600)), (1000, ago(700))];
    metrics.set_oldest_enqueued(now, held.into_iter());
    let text = metrics::render([&metrics]);
    let age =
        |class: &str| of_a(&text, &format!("sluice_oldest_enqueued_seconds{{class=\"{class}\"}}"));
    let ages = (age("normal"), age("raised"), age("urgent"));
    assert_eq!(ages, (Some(90.0), Some(5.0), Some(700.0)));
}

#[test]
fn what_holds_just_now_is_told_whoever_set_it() {
    let metrics = Metrics::new("a").unwrap();
    metrics.set_caps(500, 16, 100);
    metrics.set_steered(true, true);
    metrics.set_drain(Some(90.0));
    let text = metrics::render([&metrics]);
    for (series, expected) in [
        ("sluice_window_size", 500.0),
        ("sluice_max_in_flight", 16.0),
        ("sluice_max_running", 100.0),
        ("sluice_paused", 1.0),
        ("sluice_rates_overridden", 1.0),
        ("sluice_drain_seconds", 90.0),
    ] {
        assert_eq!(of_a(&text, series), Some(expected), "{series}");
    }
    metrics.set_drain(None);
    let text = metrics::render([&metrics]);
    assert!(of_a(&text, "sluice_drain_seconds").unwrap().is_nan());
}
