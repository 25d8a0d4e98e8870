//! `sluice gate list`: the window, in the order in which its requests go.

use std::fmt::Write as _;

use super::super::Failure;
use super::super::times::local;
use crate::core::engine::Upcoming;
use crate::report::text::one_line;

/// Where a worker tells its window.
pub(super) fn address(
    base: &str,
    first: Option<usize>,
    lane: Option<&str>,
) -> Result<String, Failure> {
    let mut address = reqwest::Url::parse(&format!("{base}/window"))
        .map_err(|error| Failure::usage(format!("--url {base}: {error}")))?;
    let first = first.map(|first| first.to_string());
    let asked = [("first", first.as_deref()), ("lane", lane)];
    address
        .query_pairs_mut()
        .extend_pairs(asked.into_iter().filter_map(|(name, value)| Some((name, value?))));
    Ok(address.into())
}

pub(super) fn table(window: &[Upcoming]) -> String {
    if window.is_empty() {
        return "nothing waits in the window\n".to_owned();
    }
    let mut text = format!(
        "{:>4}  {:>8}  {:<36}  {:<36}  {:<19}  {:<24}  waits for\n",
        "#", "priority", "message id", "source server", "enqueued", "name"
    );
    for (i, one) in window.iter().enumerate() {
        let enqueued = one.enqueued_at.map_or_else(|| "-".to_owned(), local);
        let until = one.until.map(|until| format!(", at {}", local(until))).unwrap_or_default();
        let waits = one.waits_for();
        let _ = writeln!(
            text,
            "{:>4}  {:>8}  {:<36}  {:<36}  {enqueued:<19}  {:<24}  {waits}{until}",
            i + 1,
            one.priority,
            one_line(&one.id),
            one_line(&one.source_server_id),
            one_line(&one.name),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::engine::Waits;

    #[test]
    fn the_window_is_a_table_with_a_header_that_says_what_each_waits_for() {
        let one = |id: &str, waits, until| Upcoming {
            run: uuid::Uuid::nil(),
            id: id.to_owned(),
            name: "web\u{1b}[31m".to_owned(),
            source_server_id: "s1".to_owned(),
            batch: None,
            priority: 500,
            enqueued_at: None,
            attempts: 0,
            waits,
            until,
        };
        let until = "2026-11-23T12:00:00Z".parse().ok();
        let text = table(&[one("m1", Waits::Turn, None), one("m2", Waits::Retry, until)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert!(lines[0].contains("priority") && lines[0].ends_with("waits for"), "{text}");
        assert!(lines[1].contains("m1") && lines[1].ends_with("its turn"), "{text}");
        assert!(lines[2].contains("the next try, at 2026-11-23 "), "{text}");
        assert!(!text.contains('\u{1b}'), "what others have named cannot steer a terminal");
        let places = |word: &str, line: &str| line.find(word).unwrap();
        assert_eq!(places("message id", lines[0]), places("m1", lines[1]));
        assert_eq!(table(&[]), "nothing waits in the window\n");
    }

    #[test]
    fn the_address_names_the_lane_and_how_many() {
        let told = address("http://127.0.0.1:9464", Some(20), Some("a b")).ok();
        assert_eq!(told.as_deref(), Some("http://127.0.0.1:9464/window?first=20&lane=a+b"));
    }
}
