//! A count, what was sent since, and what room that leaves.

use super::*;

fn now(seconds: u64) -> Now {
    Now { at: Moment::START + Duration::from_secs(seconds), wall: wall(seconds) }
}

fn wall(seconds: u64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::try_from(seconds).unwrap()).unwrap()
}

fn task(source: &str, created: u64) -> Task {
    Task {
        id: format!("t-{source}"),
        name: "n".into(),
        state: "RUNNING".into(),
        source_server_id: source.into(),
        target_vm_id: None,
        create_date: Some(wall(created)),
    }
}

/// A whole count: the tasks that are READY, RUNNING and SYNCING.
fn count(running: &mut Running, at: u64, states: [Vec<Task>; 3]) {
    for (tasks, state) in states.into_iter().zip(COUNTED) {
        running.next = Moment::START;
        assert!(running.wants(now(at).at));
        assert_eq!(running.ask(now(at).at), Query::State { state, offset: 0 });
        let count = u32::try_from(tasks.len()).unwrap();
        running.answered(
            now(at),
            &Listing { tasks, count, ..Listing::default() },
            SignedDuration::ZERO,
        );
    }
}

fn watched(most: usize) -> Running {
    Running::new(most, Duration::from_secs(45))
}

#[test]
fn without_a_count_nothing_is_let_through() {
    let running = watched(2);
    assert!(running.admits(now(0).at).is_err());
    assert!(running.wants(now(0).at));
}

#[test]
fn a_stale_count_lets_nothing_through() {
    let mut running = watched(2);
    count(&mut running, 10, [vec![], vec![], vec![]]);
    assert!(running.admits(now(130).at).is_ok());
    assert!(running.admits(now(131).at).is_err());
}

#[test]
fn an_own_submission_takes_a_place_at_once_and_is_counted_once() {
    let mut running = watched(2);
    count(&mut running, 10, [vec![], vec![], vec![]]);
    running.started(now(11).at, &"a".into(), true);
    running.started(now(11).at, &"b".into(), true);
    assert!(running.admits(now(12).at).is_err());
    count(&mut running, 20, [vec![task("a", 11)], vec![], vec![]]);
    assert_eq!(running.taken(), 2, "b has not been seen and may still come");
    count(&mut running, 57, [vec![], vec![task("a", 11)], vec![]]);
    assert_eq!(running.taken(), 1, "a count begun look_again after its POST does not show b");
}

#[test]
fn a_place_is_free_as_soon_as_a_task_that_was_seen_is_gone() {
    let mut running = watched(1);
    running.started(now(1).at, &"a".into(), true);
    count(&mut running, 2, [vec![], vec![task("a", 1)], vec![]]);
    count(&mut running, 4, [vec![], vec![], vec![]]);
    assert!(running.admits(now(4).at).is_ok());
}

#[test]
fn what_was_sent_after_a_look_had_begun_keeps_its_place_when_that_shows_nothing() {
    let mut running = watched(1);
    count(&mut running, 2, [vec![], vec![], vec![]]);
    running.started(now(5).at, &"a".into(), true);
    running.gave_up(&"a".into(), now(4).at);
    assert!(running.admits(now(6).at).is_err());
    running.gave_up(&"a".into(), now(5).at);
    assert!(running.admits(now(6).at).is_ok());
}

#[test]
fn a_cap_that_is_changed_holds_at_once_and_a_new_one_waits_until_the_api_shows_what_was_sent() {
    let mut running = watched(1);
    running.started(now(1).at, &"a".into(), true);
    count(&mut running, 2, [vec![], vec![task("a", 1)], vec![]]);
    assert!(running.admits(now(3).at).is_err());
    running.set_most(2, now(3).at);
    assert!(running.admits(now(3).at).is_ok(), "a second place, without a count");
    running.set_most(0, now(4).at);
    assert!(running.admits(now(4).at).is_ok() && !running.wants(now(4).at));
    running.set_most(1, now(5).at);
    assert!(running.admits(now(5).at).is_err());
    assert!(!running.wants(now(49).at), "what was sent just now may not be listed yet");
    count(&mut running, 51, [vec![], vec![], vec![]]);
    assert!(running.admits(now(51).at).is_ok());
}

fn read_as(running: &mut Running, at: u64, state: Option<&str>) {
    assert!(running.wants(now(at).at));
    assert_eq!(running.ask(now(at).at), Query::Task("t-a".into()));
    let tasks =
        state.map(|state| Task { state: state.into(), ..task("a", 1) }).into_iter().collect();
    running.answered(now(at), &Listing { tasks, ..Listing::default() }, SignedDuration::ZERO);
}

#[test]
fn a_migration_that_ends_before_a_count_shows_it_frees_its_place_at_once() {
    let mut running = watched(1);
    count(&mut running, 0, [vec![], vec![], vec![]]);
    running.started(now(1).at, &"a".into(), true);
    running.created(&"a".into(), "t-a");
    // It may not be listed yet, or not even be there, or be between two states.
    for state in [None, Some("READY"), Some("SKIPPING")] {
        count(&mut running, 3, [vec![], vec![], vec![]]);
        read_as(&mut running, 4, state);
        assert!(running.admits(now(4).at).is_err(), "{state:?}");
    }
    count(&mut running, 5, [vec![], vec![], vec![]]);
    read_as(&mut running, 6, Some("MIGRATE_FAIL"));
    assert!(running.admits(now(6).at).is_ok());
    assert_eq!(running.known(), Some(0));
}

#[test]
fn while_counts_fail_the_places_of_our_own_come_free_one_by_one() {
    let mut running = watched(1);
    count(&mut running, 0, [vec![], vec![], vec![]]);
    running.started(now(1).at, &"a".into(), true);
    running.created(&"a".into(), "t-a");
    count(&mut running, 2, [vec![], vec![task("a", 1)], vec![]]);
    running.next = Moment::START;
    running.ask(now(20).at);
    running.failed(now(20).at);
    read_as(&mut running, 21, Some("MIGRATE_SUCCESS"));
    assert!(running.admits(now(21).at).is_ok());
    // Of others nothing is known without a count.
    assert!(running.admits(now(300).at).is_err());
}

#[test]
fn a_foreign_ready_task_takes_a_place_for_ten_minutes() {
    let mut running = watched(9);
    count(&mut running, 700, [vec![task("new", 200), task("old", 50)], vec![], vec![]]);
    assert_eq!(running.taken(), 1);
}

#[test]
fn a_task_that_does_not_start_by_itself_takes_no_place_until_it_runs() {
    let mut running = watched(9);
    running.started(now(1).at, &"a".into(), false);
    assert_eq!(running.taken(), 0);
    count(&mut running, 2, [vec![task("a", 1)], vec![], vec![]]);
    assert_eq!(running.taken(), 0);
    count(&mut running, 4, [vec![], vec![task("a", 1)], vec![]]);
    assert_eq!(running.taken(), 1);
}

#[test]
fn a_task_that_waits_to_be_started_stays_our_own_however_long() {
    let mut running = watched(9);
    running.started(now(1).at, &"a".into(), false);
    for at in [50, 100, 500] {
        count(&mut running, at, [vec![task("a", 1)], vec![], vec![]]);
        assert_eq!(running.taken(), 0, "after {at} s");
    }
    count(&mut running, 510, [vec![], vec![], vec![]]);
    assert!(running.own.is_empty());
}

#[test]
fn a_task_that_moves_on_while_it_is_counted_is_counted_once() {
    let mut running = watched(9);
    count(&mut running, 2, [vec![task("a", 1)], vec![task("a", 1)], vec![]]);
    assert_eq!(running.taken(), 1);
}

#[test]
fn more_that_run_than_a_page_has_count_in_full() {
    let mut running = watched(300);
    for (count, state) in [(0, "READY"), (250, "RUNNING"), (0, "SYNCING")] {
        running.next = Moment::START;
        assert_eq!(running.ask(now(1).at), Query::State { state, offset: 0 });
        let tasks = (0..count.min(200)).map(|n| task(&n.to_string(), 1)).collect();
        running.answered(
            now(1),
            &Listing { tasks, count, ..Listing::default() },
            SignedDuration::ZERO,
        );
    }
    assert_eq!(running.taken(), 250);
}

/// One page of a state.
fn page(running: &mut Running, (state, offset): (&'static str, u32), tasks: Vec<Task>, count: u32) {
    running.next = Moment::START;
    assert!(running.wants(now(2_000).at));
    assert_eq!(running.ask(now(2_000).at), Query::State { state, offset });
    running.answered(
        now(2_000),
        &Listing { tasks, count, ..Listing::default() },
        SignedDuration::ZERO,
    );
}

#[test]
fn ready_tasks_are_read_to_the_last_page_so_that_old_ones_take_no_place() {
    let mut running = watched(100);
    let rows =
        |from: u32, to: u32, created| (from..to).map(|n| task(&n.to_string(), created)).collect();
    page(&mut running, ("READY", 0), rows(0, 200, 1), 320);
    page(&mut running, ("READY", 180), rows(180, 320, 1), 320);
    page(&mut running, ("RUNNING", 0), rows(1_000, 1_008, 1), 8);
    page(&mut running, ("SYNCING", 0), vec![], 0);
    assert_eq!(running.known(), Some(8));
}

#[test]
fn whoever_takes_over_counts_anew_and_leaves_room_for_what_is_not_shown_yet() {
    let mut running = watched(10);
    count(&mut running, 10, [vec![], vec![], vec![]]);
    running.take_over(now(20).at, 4);
    assert!(running.admits(now(20).at).is_err() && running.known().is_none());
    let eight = || (0..6).map(|n| task(&n.to_string(), 1)).collect();
    count(&mut running, 21, [vec![], eight(), vec![]]);
    assert!(running.admits(now(21).at).is_err(), "four more may show by 65");
    count(&mut running, 65, [vec![], eight(), vec![]]);
    assert!(running.admits(now(65).at).is_ok());
}

#[test]
fn at_a_slow_rate_counts_leave_most_of_it_to_what_they_are_made_for() {
    for seconds in [3, 60] {
        let mut running = watched(10);
        running.set_pace(Duration::from_secs(seconds));
        let eight = (0..8).map(|n| task(&n.to_string(), 1)).collect();
        count(&mut running, 5_000, [vec![], eight, vec![]]);
        let counted = now(5_000).at;
        let due = running.next - counted;
        assert_eq!(due, Duration::from_secs(12 * seconds));
        // The next one takes three calls.
        assert!(running.admits(counted + due + Duration::from_secs(3 * seconds)).is_ok());
    }
}

#[test]
fn work_that_starts_nothing_is_not_remembered_for_ever() {
    let mut running = watched(9);
    for n in 0..10_000 {
        running.started(now(n).at, &n.to_string().into(), false);
    }
    assert!(running.own.len() < 700 && running.still.len() < 700, "{}", running.own.len());
}
