//! Promise 8 by exhaustive search, in the smallest world: some requests that the account refuses every time stand before
//! some healthy ones, and the account as a whole may refuse everything for a while. Every order of calls and outages that the
//! rules of `core/breaker.rs` allow is tried; each rule is also left out once.

use stateright::{Checker, HasDiscoveries, Model, Property};

/// The most requests that a world holds.
const MOST: usize = 6;
/// So many different requests refused in a row open the breaker.
const ROW: usize = 3;
/// So many refusals while others are created end a request.
const AFTER: u8 = 3;

/// The first ones are the most urgent, and they are poisoned.
#[derive(Clone, Copy, Debug)]
struct World {
    poisoned: usize,
    healthy: usize,
    /// How often the account refuses everything for a while.
    outages: u8,
}

/// One rule left out, to show what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    /// What was refused stays first.
    SettingAside,
    /// The probe is the most urgent request, whatever it was answered before.
    AnotherProbe,
    /// Each refusal is held against its request, whatever others are answered.
    OthersAreAsked,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Stands {
    #[default]
    Waiting,
    Aside,
    Created,
    Rejected,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Request {
    stands: Stands,
    strikes: u8,
    /// How many had been created when it was refused last.
    created_then: u8,
    /// The call at which it was refused last, of all refusals; 0: never.
    refused: u8,
    in_row: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    requests: [Request; MOST],
    open: bool,
    down: bool,
    outages: u8,
    created: u8,
    refusals: u8,
    /// Calls while the account took healthy requests.
    calls: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Action {
    Call(usize),
    GoDown,
    ComeBack,
}

#[derive(Clone, Debug)]
struct Progress {
    world: World,
    without: Option<Without>,
}

impl Progress {
    fn keeps(&self, rule: Without) -> bool {
        self.without != Some(rule)
    }

    fn count(&self) -> usize {
        self.world.poisoned + self.world.healthy
    }

    /// Within so many calls every healthy one is created: each poisoned one has its refusals, and as many probes.
    fn bound(&self) -> u8 {
        let calls = self.world.healthy + self.world.poisoned * (usize::from(AFTER) + 2) + ROW;
        u8::try_from(calls).unwrap()
    }

    /// The requests that the next call may be for.
    fn next(&self, state: &State) -> Vec<usize> {
        let here = |i: &usize| matches!(state.requests[*i].stands, Stands::Waiting | Stands::Aside);
        let left: Vec<usize> = (0..self.count()).filter(here).collect();
        let first = |of: Vec<usize>| of.first().copied().into_iter().collect();
        if state.open && !self.keeps(Without::AnotherProbe) {
            return first(left);
        }
        let waiting: Vec<usize> =
            left.iter().copied().filter(|i| state.requests[*i].stands == Stands::Waiting).collect();
        if !state.open && !waiting.is_empty() {
            return first(waiting);
        }
        // Of equals any one.
        let least = left.iter().map(|i| state.requests[*i].refused).min();
        left.into_iter().filter(|i| Some(state.requests[*i].refused) == least).collect()
    }

    fn refused(&self, state: &mut State, i: usize) {
        state.refusals += 1;
        let (created, refusals) = (state.created, state.refusals);
        let request = &mut state.requests[i];
        let first = request.refused == 0;
        let fresh = first || request.created_then == created;
        request.refused = refusals;
        request.created_then = created;
        if self.keeps(Without::SettingAside) {
            request.stands = Stands::Aside;
        }
        request.strikes += u8::from(first || !fresh || !self.keeps(Without::OthersAreAsked));
        if state.open {
            if self.keeps(Without::OthersAreAsked) {
                request.strikes = 0;
            }
        } else if fresh {
            request.in_row = true;
            let row = state.requests.iter().filter(|request| request.in_row).count();
            let others = (0..self.count()).any(|i| state.requests[i].stands == Stands::Waiting);
            if row >= ROW || !others {
                state.open = true;
                for request in state.requests.iter_mut().filter(|request| request.in_row) {
                    if self.keeps(Without::OthersAreAsked) {
                        request.strikes = 0;
                    }
                }
            }
        }
        let request = &mut state.requests[i];
        if request.strikes >= AFTER {
            request.stands = Stands::Rejected;
        }
    }

    fn passed(state: &mut State, i: usize) {
        state.created += 1;
        state.requests[i].stands = Stands::Created;
        state.open = false;
        state.requests.iter_mut().for_each(|request| request.in_row = false);
    }

    fn is_healthy(&self, i: usize) -> bool {
        i >= self.world.poisoned
    }

    fn healthy_left(&self, state: &State) -> bool {
        (self.world.poisoned..self.count()).any(|i| state.requests[i].stands != Stands::Created)
    }
}

impl Model for Progress {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State { outages: self.world.outages, ..State::default() }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.calls > self.bound() || state.refusals > 40 || !self.healthy_left(state) {
            return;
        }
        actions.extend(self.next(state).into_iter().map(Action::Call));
        if state.down {
            actions.push(Action::ComeBack);
        } else if state.outages > 0 {
            actions.push(Action::GoDown);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Call(i) => {
                state.calls += u8::from(!state.down);
                if state.down || !self.is_healthy(i) {
                    self.refused(&mut state, i);
                } else {
                    Self::passed(&mut state, i);
                }
            }
            Action::GoDown => (state.down, state.outages) = (true, state.outages - 1),
            Action::ComeBack => state.down = false,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(IN_TIME, |model: &Self, state: &State| {
                state.calls <= model.bound() || !model.healthy_left(state)
            }),
            Property::always(UNHARMED, |model: &Self, state: &State| {
                let requests = state.requests.iter().enumerate();
                let mut healthy = requests.filter(|(i, _)| model.is_healthy(*i));
                healthy.all(|(_, request)| request.stands != Stands::Rejected)
            }),
            Property::sometimes("all healthy ones are created", |model: &Self, state: &State| {
                !model.healthy_left(state)
            }),
        ]
    }
}

const IN_TIME: &str = "every healthy request is created within the bound";
const UNHARMED: &str = "no healthy request is held responsible";

/// Poisoned requests before healthy ones, in an account that is well.
const POISONED: World = World { poisoned: 3, healthy: 3, outages: 0 };
/// An account that refuses everything for a while, twice.
const OUTAGES: World = World { poisoned: 1, healthy: 4, outages: 2 };

#[track_caller]
fn holds(world: World) {
    Progress { world, without: None }.checker().spawn_bfs().join().assert_properties();
}

#[track_caller]
fn breaks(property: &'static str, world: World, without: Without) {
    let only = HasDiscoveries::AnyOf([property].into());
    let model = Progress { world, without: Some(without) };
    model.checker().finish_when(only).spawn_bfs().join().assert_any_discovery(property);
}

#[test]
fn poisoned_requests_hold_up_no_healthy_one() {
    holds(POISONED);
    holds(World { poisoned: 4, healthy: 2, ..POISONED });
    holds(World { poisoned: 1, healthy: 1, ..POISONED });
}

#[test]
fn an_account_that_is_down_for_a_while_costs_no_request_and_none_waits_longer_than_the_bound() {
    holds(OUTAGES);
}

#[test]
fn a_refused_request_that_stays_first_holds_up_all_others() {
    breaks(IN_TIME, World { poisoned: 1, ..POISONED }, Without::SettingAside);
}

#[test]
fn a_probe_that_is_always_the_same_request_holds_up_all_others() {
    breaks(IN_TIME, POISONED, Without::AnotherProbe);
}

#[test]
fn refusals_that_count_whatever_others_are_answered_cost_a_healthy_request() {
    breaks(UNHARMED, World { outages: 1, ..OUTAGES }, Without::OthersAreAsked);
}

/// The limit of what can be told apart: a request that is refused in each of as many outages as refusals end it, while
/// others are created between them, looks like a poisoned one. Its tries lie ever further apart for that.
#[test]
fn an_account_that_comes_and_goes_as_often_as_refusals_end_a_request_can_cost_one() {
    let world = World { outages: AFTER, ..OUTAGES };
    let only = HasDiscoveries::AnyOf([UNHARMED].into());
    let model = Progress { world, without: None };
    model.checker().finish_when(only).spawn_bfs().join().assert_any_discovery(UNHARMED);
}
