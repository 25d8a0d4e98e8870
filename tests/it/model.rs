//! Promises 1 and 2 by exhaustive search: every order of deliveries, looks, attempts, results and failures that a small
//! world allows is tried, with the protocol of `docs/architecture.md` ("Doubt"), before the code is trusted with it.
//!
//! What is assumed of the API, each a figure of [`protocol::World`] and a line of `docs/assumptions.md`:
//! 1. A `POST` is applied, and to be seen by a look-up, within `api.look_again` of its start, or never (`applies_within`).
//! 2. A look-up shows every task that was applied before it began.
//! 3. An answer of SMS itself ends the attempt: nothing of it is applied later.
//! 4. A worker that is cut off starts nothing more later than `overlap` after its successor became active, and
//!    `overlap + applies_within < look_again`.
//! 5. Only for two *different* requests for one source server, of which a crash hides the first from the second: the API
//!    refuses a second live task (`refuses_second`). One request needs no such help, whatever happens to it.
//!
//! Every rule of the protocol, and every assumption, is also left out once: then the search must find the double or the
//! loss, which shows that the rule is needed and that the search can see.

mod paging;
mod progress;
mod protocol;

use protocol::{Protocol, Without, World};
use stateright::{Checker, HasDiscoveries, Model};

const TWICE: &str = "nothing is created twice";
const LOST: &str = "nothing is acknowledged before its result is stored";
const SENT: &str = "what was cancelled is not sent afterwards";
const CREATED: &str = "what is told to be cancelled was not created";

/// One request, one worker, nothing ever fails. The API applies within one tick, a second look-up comes after two.
const CALM: World = World {
    requests: 1,
    workers: 1,
    applies_within: 1,
    look_again: 2,
    refuses_second: false,
    overlap: 0,
    lost_posts: 0,
    crashes: 0,
    lost_sessions: 0,
    cuts: 0,
    comebacks: 0,
    requeues: 0,
    moves: 0,
    orders: 0,
};
/// One request, and everything that can happen to one worker.
const ROUGH: World = World {
    lost_posts: 3,
    crashes: 2,
    lost_sessions: 2,
    comebacks: 2,
    requeues: 2,
    applies_within: 2,
    look_again: 3,
    ..CALM
};
/// Two requests for one source server at one worker.
const COPIES: World =
    World { requests: 2, lost_posts: 2, lost_sessions: 1, requeues: 1, comebacks: 1, ..CALM };
/// A worker that does not know for a tick that another has taken over.
const FAILOVER: World = World {
    workers: 2,
    overlap: 1,
    look_again: 3,
    cuts: 2,
    crashes: 1,
    lost_posts: 2,
    requeues: 1,
    ..CALM
};

/// The request is parked and fetched back while everything fails around it.
const MOVED: World =
    World { requeues: 0, lost_posts: 1, comebacks: 1, lost_sessions: 1, moves: 1, ..ROUGH };

#[track_caller]
fn holds(world: World, without: Option<Without>) {
    let checker = Protocol { world, without }.checker().spawn_bfs().join();
    checker.assert_properties();
}

#[track_caller]
fn breaks(property: &'static str, world: World, without: Option<Without>) {
    let only = HasDiscoveries::AnyOf([property].into());
    let checker = Protocol { world, without }.checker().finish_when(only).spawn_bfs().join();
    checker.assert_any_discovery(property);
}

#[test]
fn one_request_is_neither_lost_nor_created_twice_whatever_fails() {
    holds(ROUGH, None);
}

#[test]
fn a_request_that_is_parked_and_fetched_back_is_neither_lost_nor_created_twice() {
    holds(MOVED, None);
    holds(World { moves: 1, requeues: 0, lost_posts: 1, cuts: 1, ..FAILOVER }, None);
}

#[test]
fn a_copy_that_is_taken_for_a_fresh_request_creates_twice() {
    breaks(TWICE, MOVED, Some(Without::CopiesCountAsRedelivered));
}

#[test]
fn a_request_that_is_acknowledged_before_its_copy_is_confirmed_is_lost() {
    let quiet = World { crashes: 1, lost_posts: 0, ..MOVED };
    breaks(LOST, quiet, Some(Without::ConfirmBeforeAck));
}

/// Its planner cancels the request while everything fails around it.
const CANCELLED: World = World {
    orders: 1,
    lost_posts: 2,
    crashes: 1,
    lost_sessions: 1,
    comebacks: 1,
    requeues: 1,
    ..ROUGH
};

#[test]
fn what_was_cancelled_is_not_sent_afterwards_and_what_was_created_is_not_told_to_be() {
    holds(CANCELLED, None);
    holds(World { orders: 1, requeues: 0, lost_posts: 1, cuts: 1, ..FAILOVER }, None);
    holds(World { orders: 1, moves: 1, lost_posts: 1, crashes: 1, ..CALM }, None);
}

#[test]
fn a_worker_that_starts_before_it_has_read_the_orders_sends_what_was_cancelled() {
    breaks(SENT, CANCELLED, Some(Without::OrdersReadFirst));
}

#[test]
fn what_is_in_doubt_and_not_looked_up_is_told_to_be_cancelled_and_created_all_the_same() {
    breaks(CREATED, CANCELLED, Some(Without::CancelledAfterLooks));
}

#[test]
fn copies_of_one_request_make_one_task_while_the_worker_lives() {
    holds(COPIES, None);
}

#[test]
fn copies_make_one_task_across_crashes_if_the_api_refuses_a_second_one() {
    holds(World { crashes: 1, lost_posts: 1, refuses_second: true, ..COPIES }, None);
}

#[test]
fn a_worker_that_is_cut_off_and_does_not_know_it_creates_nothing_twice() {
    holds(FAILOVER, None);
}

#[test]
fn copies_make_one_task_across_a_failover_if_the_api_refuses_a_second_one() {
    holds(
        World { requests: 2, crashes: 0, cuts: 1, lost_posts: 1, refuses_second: true, ..FAILOVER },
        None,
    );
}

#[test]
fn what_is_remembered_saves_looks_but_is_not_needed_for_safety() {
    holds(ROUGH, Some(Without::Memory));
}

#[test]
fn without_look_ups_doubt_settles_as_unknown_and_nothing_is_created_twice() {
    holds(ROUGH, Some(Without::LookUp));
}

#[test]
fn a_second_look_that_comes_too_early_creates_twice() {
    breaks(TWICE, World { look_again: 2, ..ROUGH }, None);
}

#[test]
fn one_look_creates_twice() {
    breaks(TWICE, ROUGH, Some(Without::SecondLook));
}

#[test]
fn a_redelivery_that_is_not_looked_up_creates_twice() {
    breaks(TWICE, ROUGH, Some(Without::LookAfterRedelivery));
}

#[test]
fn an_acknowledgement_before_the_confirm_loses() {
    breaks(LOST, ROUGH, Some(Without::ConfirmBeforeAck));
}

#[test]
fn two_attempts_for_one_source_server_create_twice() {
    breaks(TWICE, COPIES, Some(Without::OneAttemptASource));
}

#[test]
fn doubt_of_one_job_that_does_not_hold_up_its_copy_creates_twice() {
    breaks(TWICE, COPIES, Some(Without::DoubtOfTheSource));
}

#[test]
fn a_successor_that_looks_twice_before_the_cut_off_worker_has_noticed_creates_twice() {
    breaks(TWICE, World { look_again: 2, ..FAILOVER }, None);
}

/// Ticks of five seconds: a heartbeat of one tick is noticed after two, a `POST` takes six at most (`api.timeout`), and the
/// looks are nine apart (`api.look_again`).
const DEFAULTS: World = World {
    overlap: 2,
    applies_within: 6,
    look_again: 9,
    cuts: 1,
    crashes: 0,
    lost_posts: 1,
    requeues: 0,
    ..FAILOVER
};

#[test]
fn the_default_figures_close_the_window_of_a_one_sided_cut() {
    holds(DEFAULTS, None);
    let slower_heartbeat = World { overlap: 4, ..DEFAULTS };
    breaks(TWICE, slower_heartbeat, None);
}

#[test]
fn a_requeue_that_is_trusted_after_the_session_creates_twice() {
    breaks(TWICE, World { lost_sessions: 1, ..FAILOVER }, Some(Without::MarksEndWithTheSession));
}

#[test]
fn a_standby_that_consumes_creates_twice() {
    breaks(TWICE, World { requests: 2, ..FAILOVER }, Some(Without::OneActiveWorker));
}

#[test]
fn a_fresh_copy_of_what_a_crash_left_behind_needs_the_apis_refusal() {
    breaks(TWICE, World { crashes: 1, ..COPIES }, None);
}
