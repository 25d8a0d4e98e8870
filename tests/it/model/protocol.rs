//! What can happen to the requests for one source server? Broker, workers, network and API as one small state machine,
//! every order of events included.
//!
//! Time is counted in ticks, and only what compares times has any: the age of a `POST` at the API, the time since a
//! first look-up, and how long a worker that is cut off does not know it.

use stateright::{Model, Property};

/// The most requests and workers that a world holds.
const MOST: usize = 3;
/// The most workers, tasks and fates of one request are about.
const WORKERS: usize = 2;

/// What is assumed of the world outside, and how often it may fail. Each figure is a budget for one whole history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct World {
    /// Requests for the one source server (the second is a copy of the first).
    pub(crate) requests: usize,
    pub(crate) workers: usize,
    /// The API applies a `POST` at most so many ticks after its start, or never.
    pub(crate) applies_within: u8,
    /// `api.look_again` in ticks.
    pub(crate) look_again: u8,
    /// The API refuses a second live task for a source server (SMS.7605, 6615, 6005).
    pub(crate) refuses_second: bool,
    /// How many ticks a worker may go on after its successor became active, not knowing that it is cut off.
    pub(crate) overlap: u8,
    /// `POST`s that vanish, answers that are lost, answers that say "try again".
    pub(crate) lost_posts: u8,
    pub(crate) crashes: u8,
    /// Sessions lost while the process lives on.
    pub(crate) lost_sessions: u8,
    /// Sessions that the broker ends and the worker notices late.
    pub(crate) cuts: u8,
    /// Kills of a broker with classic queues: a message that was acknowledged is there again.
    pub(crate) comebacks: u8,
    /// Deliveries that a worker requeues unsettled (`window.max_hold`).
    pub(crate) requeues: u8,
    /// Times that the one request is parked: it is published anew to another queue, and only then the delivery is
    /// acknowledged; and fetched back the same way. The copies take the places of other requests.
    pub(crate) moves: u8,
    /// Times that its planner cancels it.
    pub(crate) orders: u8,
}

/// One rule of the protocol left out, to show what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Without {
    /// A redelivered request is sent like a fresh one.
    LookAfterRedelivery,
    /// One look that finds nothing is enough.
    SecondLook,
    /// Only the job whose attempt was ambiguous is in doubt, not the source server's other requests.
    DoubtOfTheSource,
    /// Two requests for one source server may be in flight at once.
    OneAttemptASource,
    /// The delivery is acknowledged as soon as the result is on its way.
    ConfirmBeforeAck,
    /// "This process requeued it itself" is believed of a delivery of a later session, too.
    MarksEndWithTheSession,
    /// A worker consumes without holding the exclusive queue.
    OneActiveWorker,
    /// What was published anew is taken for a fresh request.
    CopiesCountAsRedelivered,
    /// An active worker starts before it has read what was ordered.
    OrdersReadFirst,
    /// What is in doubt is told to be cancelled without a look-up.
    CancelledAfterLooks,
    /// What was settled lately is not remembered (no harm: the look-ups find it).
    Memory,
    /// `api.look_up = false`: what is in doubt settles as `unknown`.
    LookUp,
}

#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    pub(crate) world: World,
    pub(crate) without: Option<Without>,
}

/// Where the broker has a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    #[default]
    Queue,
    /// Delivered to this worker and not yet acknowledged.
    Held(usize),
    Gone,
    /// In the queue of what waits.
    Parked,
    /// Nobody has published it yet.
    Unborn,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Message {
    pub(crate) at: At,
    redelivered: bool,
    /// A result of it has been stored by the broker.
    pub(crate) result: bool,
    /// That result says that it was cancelled.
    cancelled: bool,
}

/// How far a worker is with a delivery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Stage {
    #[default]
    Absent,
    /// In the window, or its attempt is out.
    Waiting,
    /// It is known what became of it.
    Settling,
    /// The result is on its way to the broker.
    Sent,
    Stored,
    Confirmed,
    /// It is being published anew ...
    Moving,
    /// ... and the broker has confirmed the copy.
    Moved,
    /// It is to be told that it was cancelled.
    Cancelling,
}

/// What a worker does not know about the source server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Doubt {
    #[default]
    None,
    /// Two look-ups are due, or (after an answer of SMS itself) one.
    Looks(u8),
    /// The first look-up found nothing, so many ticks ago.
    Again(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Link {
    #[default]
    Down,
    Up,
    /// The broker has ended the session; the worker learns it within so many ticks.
    Cut(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Worker {
    link: Link,
    stages: [Stage; MOST],
    doubt: Doubt,
    /// The requests that brought the doubt (only looked at [`Without::DoubtOfTheSource`]).
    doubted: [bool; MOST],
    /// It knows of a task for the source server.
    knows: bool,
    /// Runs whose outcome it remembers.
    remembered: [bool; MOST],
    /// Deliveries that it requeued itself, not in doubt.
    marked: [bool; MOST],
    /// It knows of the order.
    heard: bool,
    /// What it has on the way says that it was cancelled.
    cancels: [bool; MOST],
}

/// What the API did with a `POST`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Fate {
    Pending,
    Applied,
    Refused,
    Dropped,
}

/// A `POST` that somebody waits for, or that may still be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Post {
    request: usize,
    /// The worker that waits for the answer.
    waiting: Option<usize>,
    age: u8,
    fate: Fate,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) messages: [Message; MOST],
    workers: [Worker; WORKERS],
    posts: Vec<Post>,
    /// Tasks of the source server, at most 2.
    pub(crate) tasks: u8,
    lost_posts: u8,
    crashes: u8,
    lost_sessions: u8,
    cuts: u8,
    comebacks: u8,
    requeues: u8,
    moves: u8,
    /// A copy is on its way to the broker: which.
    copy_under_way: Option<usize>,
    orders: u8,
    /// The order is kept by the broker ...
    ordered: bool,
    /// ... and its planner was told that it is obeyed.
    answered: bool,
    /// It was sent by the active worker after that.
    pub(crate) sent_after: bool,
}

/// The request, the copy of it that is parked, and the copy of that in the queue again.
const ORIGINAL: usize = 0;
const COPY: usize = 1;
const BACK: usize = 2;

/// First index: the worker, or the post. Second: the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Attach(usize),
    Deliver(usize, usize),
    Requeue(usize, usize),
    Look(usize),
    Start(usize, usize),
    Apply(usize),
    Drop(usize),
    Answer(usize),
    /// SMS itself answers "try again"; whatever happened has happened.
    AnswerTransient(usize),
    /// A timeout, a reset, a 5xx.
    LoseAnswer(usize),
    Send(usize, usize),
    Store(usize, usize),
    Confirm(usize, usize),
    Ack(usize, usize),
    Crash(usize),
    LoseSession(usize),
    Cut(usize),
    Detect(usize),
    ComeBack(usize),
    /// The worker parks the request, or fetches it back.
    Move(usize),
    Fetch(usize),
    LandCopy,
    /// Whoever published it is gone, and so is the copy.
    DropCopy,
    /// The planner's order is kept, and reaches the worker.
    Order,
    Hear(usize),
    Tick,
}

impl Protocol {
    fn keeps(&self, rule: Without) -> bool {
        self.without != Some(rule)
    }

    /// Messages that there may be.
    fn slots(&self) -> usize {
        if self.world.moves > 0 { MOST } else { self.world.requests }
    }

    /// It was acknowledged because its copy is with the broker.
    fn has_moved(&self, state: &State, r: usize) -> bool {
        self.world.moves > 0 && r < BACK && state.messages[r + 1].at != At::Unborn
    }

    fn is_settled(&self, state: &State, r: usize) -> bool {
        let message = &state.messages[r];
        let gone = message.at == At::Gone && (message.result || self.has_moved(state, r));
        gone || message.at == At::Unborn
    }

    /// Somebody else holds the exclusive queue.
    fn another_is_active(&self, state: &State, w: usize) -> bool {
        self.keeps(Without::OneActiveWorker)
            && (0..self.world.workers)
                .any(|other| other != w && state.workers[other].link == Link::Up)
    }

    fn in_flight(&self, state: &State, w: usize, request: usize) -> bool {
        state.posts.iter().any(|post| {
            post.waiting == Some(w)
                && (post.request == request || self.keeps(Without::OneAttemptASource))
        })
    }

    /// Whether a request is in doubt is asked when it would be sent: a copy may have been created in the meantime.
    fn in_doubt(&self, worker: &Worker, request: usize) -> bool {
        let concerned = self.keeps(Without::DoubtOfTheSource) || worker.doubted[request];
        worker.knows || (worker.doubt != Doubt::None && concerned)
    }

    fn look_is_due(&self, state: &State, w: usize) -> bool {
        let worker = &state.workers[w];
        let waiting = (0..self.slots()).any(|r| {
            worker.stages[r] == Stage::Waiting
                && self.in_doubt(worker, r)
                && !self.in_flight(state, w, r)
        });
        waiting && !matches!(worker.doubt, Doubt::Again(since) if since < self.world.look_again)
    }

    fn may_start(&self, state: &State, w: usize, request: usize) -> bool {
        let worker = &state.workers[w];
        worker.link != Link::Down
            && worker.stages[request] == Stage::Waiting
            && !worker.heard
            && !self.in_doubt(worker, request)
            && !self.in_flight(state, w, request)
    }

    /// What waits, is not in doubt and was cancelled ends so.
    fn cancel(&self, state: &mut State, w: usize) {
        for r in 0..self.slots() {
            let worker = &state.workers[w];
            let doubt = self.keeps(Without::CancelledAfterLooks) && self.in_doubt(worker, r);
            let waits = worker.stages[r] == Stage::Waiting && worker.link != Link::Down;
            if worker.heard && waits && !doubt && !self.in_flight(state, w, r) {
                state.workers[w].stages[r] = Stage::Cancelling;
            }
        }
    }

    /// Time goes on only while something that must end in time may still be late.
    fn may_tick(&self, state: &State) -> bool {
        let overdue = state
            .posts
            .iter()
            .any(|p| p.fate == Fate::Pending && p.age == self.world.applies_within)
            || state.workers.iter().any(|worker| worker.link == Link::Cut(0));
        let aging = state.posts.iter().any(|post| post.fate == Fate::Pending)
            || state.workers.iter().any(|worker| {
                matches!(worker.link, Link::Cut(_))
                    || matches!(worker.doubt, Doubt::Again(since) if since < self.world.look_again)
            });
        aging && !overdue
    }

    fn deliver(&self, state: &mut State, w: usize, request: usize) {
        let message = &mut state.messages[request];
        message.at = At::Held(w);
        let worker = &mut state.workers[w];
        let own = std::mem::take(&mut worker.marked[request]);
        worker.stages[request] = Stage::Waiting;
        if worker.remembered[request] {
            worker.stages[request] = Stage::Settling;
        } else if message.redelivered && !own && self.keeps(Without::LookAfterRedelivery) {
            worker.doubt_arises(2, request);
        }
    }

    fn look(&self, state: &mut State, w: usize) {
        let worker = &mut state.workers[w];
        let found = state.tasks > 0 || !self.keeps(Without::LookUp);
        if found {
            worker.knows |= state.tasks > 0;
            worker.doubt = Doubt::None;
            for r in 0..self.slots() {
                if worker.stages[r] == Stage::Waiting
                    && (self.keeps(Without::DoubtOfTheSource) || worker.doubted[r] || worker.knows)
                {
                    self.settle(worker, r);
                }
            }
            worker.doubted = [false; MOST];
            return;
        }
        worker.doubt = match worker.doubt {
            Doubt::Looks(2) if self.keeps(Without::SecondLook) => Doubt::Again(0),
            _ => Doubt::None,
        };
        if worker.doubt == Doubt::None {
            worker.doubted = [false; MOST];
        }
    }

    fn settle(&self, worker: &mut Worker, request: usize) {
        worker.remembered[request] |= self.keeps(Without::Memory);
        if self.world.moves > 0 {
            // A copy is the same run.
            worker.remembered = [worker.remembered[request]; MOST];
        }
        if worker.stages[request] == Stage::Waiting {
            worker.stages[request] = Stage::Settling;
        }
    }

    /// The answer reaches whoever waits for it, if that process still lives. Its session need not.
    fn answer(&self, state: &mut State, index: usize, looks: Option<u8>) {
        let post = &mut state.posts[index];
        let (request, fate) = (post.request, post.fate);
        let Some(w) = post.waiting.take() else { return };
        let worker = &mut state.workers[w];
        match looks {
            None if fate == Fate::Applied => {
                worker.knows = true;
                self.settle(worker, request);
            }
            // A conflict: another task is in the way, perhaps our own.
            None => worker.doubt_arises(2, request),
            Some(looks) => worker.doubt_arises(looks, request),
        }
    }

    /// The broker ends the session of `w`: what it held is queued again.
    fn requeue(state: &mut State, w: usize) {
        for (r, message) in state.messages.iter_mut().enumerate() {
            if message.at == At::Held(w) {
                let parked = r == COPY
                    && state.workers[w].stages[r] >= Stage::Moving
                    && state.workers[w].stages[r] <= Stage::Moved;
                let at = if parked { At::Parked } else { At::Queue };
                *message = Message { at, redelivered: true, ..*message };
            }
        }
    }

    /// The worker knows that its session is lost: its deliveries are void. An attempt that is out stays out.
    fn void(&self, worker: &mut Worker) {
        worker.link = Link::Down;
        worker.stages = [Stage::Absent; MOST];
        worker.cancels = [false; MOST];
        if self.keeps(Without::MarksEndWithTheSession) {
            worker.marked = [false; MOST];
        }
    }

    fn tick(&self, state: &mut State) {
        for post in &mut state.posts {
            post.age += u8::from(post.fate == Fate::Pending);
        }
        for worker in &mut state.workers {
            if let Link::Cut(left) = &mut worker.link {
                *left -= 1;
            }
            if let Doubt::Again(since) = &mut worker.doubt {
                *since = (*since + 1).min(self.world.look_again);
            }
        }
    }

    fn worker_actions(&self, state: &State, w: usize, actions: &mut Vec<Action>) {
        let worker = &state.workers[w];
        if worker.link == Link::Down && !self.another_is_active(state, w) {
            actions.push(Action::Attach(w));
        }
        if worker.link == Link::Up {
            actions.extend((state.ordered && !worker.heard).then_some(Action::Hear(w)));
            actions.extend((state.lost_sessions > 0).then_some(Action::LoseSession(w)));
            actions.extend((state.cuts > 0).then_some(Action::Cut(w)));
        }
        if matches!(worker.link, Link::Cut(_)) {
            actions.push(Action::Detect(w));
        }
        let doing =
            worker.link != Link::Down || state.posts.iter().any(|post| post.waiting == Some(w));
        actions.extend((doing && state.crashes > 0).then_some(Action::Crash(w)));
        actions.extend(self.look_is_due(state, w).then_some(Action::Look(w)));
        for r in 0..self.slots() {
            actions.extend(self.may_start(state, w, r).then_some(Action::Start(w, r)));
            if worker.link == Link::Up {
                self.broker_actions(state, w, r, actions);
            }
        }
    }

    fn broker_actions(&self, state: &State, w: usize, r: usize, actions: &mut Vec<Action>) {
        let worker = &state.workers[w];
        let held = state.messages[r].at == At::Held(w);
        if state.messages[r].at == At::Queue {
            actions.push(Action::Deliver(w, r));
        }
        let idle = worker.stages[r] == Stage::Waiting && !self.in_flight(state, w, r);
        actions.extend((idle && state.requeues > 0).then_some(Action::Requeue(w, r)));
        let free = state.copy_under_way.is_none();
        let moves = r == ORIGINAL && idle && state.moves > 0 && !self.in_doubt(worker, r);
        actions.extend((moves && free).then_some(Action::Move(w)));
        let fetches = r == COPY && state.messages[r].at == At::Parked && free;
        // Of two copies of one run in the queue the one is as good as the other.
        let there = !matches!(state.messages[BACK].at, At::Unborn | At::Gone);
        actions.extend((fetches && !there).then_some(Action::Fetch(w)));
        match worker.stages[r] {
            Stage::Settling | Stage::Cancelling => actions.push(Action::Send(w, r)),
            Stage::Sent => actions.push(Action::Store(w, r)),
            Stage::Stored => actions.push(Action::Confirm(w, r)),
            Stage::Confirmed | Stage::Moved => actions.push(Action::Ack(w, r)),
            Stage::Absent | Stage::Waiting | Stage::Moving => {}
        }
        let unconfirmed = matches!(worker.stages[r], Stage::Sent | Stage::Moving);
        if held && unconfirmed && !self.keeps(Without::ConfirmBeforeAck) {
            actions.push(Action::Ack(w, r));
        }
    }

    fn api_actions(state: &State, actions: &mut Vec<Action>) {
        let faults = state.lost_posts > 0;
        for (index, post) in state.posts.iter().enumerate() {
            let waited = post.waiting.is_some();
            if post.fate == Fate::Pending {
                actions.push(Action::Apply(index));
                // A process that died took its connection along: the POST may vanish without a fault of its own.
                actions.extend((faults || !waited).then_some(Action::Drop(index)));
            }
            if waited {
                if matches!(post.fate, Fate::Applied | Fate::Refused) {
                    actions.push(Action::Answer(index));
                }
                let gone = post.fate == Fate::Dropped;
                actions.extend((faults || gone).then_some(Action::LoseAnswer(index)));
                actions.extend((faults && !gone).then_some(Action::AnswerTransient(index)));
            }
        }
    }

    fn act_on_post(&self, state: &mut State, action: Action) {
        match action {
            Action::Apply(i) => {
                let refused = self.world.refuses_second && state.tasks > 0;
                state.posts[i].fate = if refused { Fate::Refused } else { Fate::Applied };
                state.tasks = (state.tasks + u8::from(!refused)).min(2);
            }
            Action::Drop(i) => {
                state.lost_posts -= u8::from(state.posts[i].waiting.is_some());
                state.posts[i].fate = Fate::Dropped;
            }
            Action::Answer(i) => self.answer(state, i, None),
            Action::AnswerTransient(i) => {
                state.lost_posts -= 1;
                if state.posts[i].fate == Fate::Pending {
                    state.posts[i].fate = Fate::Dropped;
                }
                self.answer(state, i, Some(1));
            }
            Action::LoseAnswer(i) => {
                state.lost_posts -= u8::from(state.posts[i].fate != Fate::Dropped);
                self.answer(state, i, Some(2));
            }
            _ => {}
        }
    }

    fn act_on_session(&self, state: &mut State, action: Action) {
        match action {
            Action::Attach(w) => {
                state.workers[w].link = Link::Up;
                // Every order is read before anything starts.
                state.workers[w].heard |= state.ordered && self.keeps(Without::OrdersReadFirst);
            }
            Action::Order => {
                state.orders -= 1;
                state.ordered = true;
            }
            Action::Hear(w) => {
                state.workers[w].heard = true;
                state.answered = true;
            }
            Action::Crash(w) => {
                state.crashes -= 1;
                Self::requeue(state, w);
                state.workers[w] = Worker::default();
                for post in state.posts.iter_mut().filter(|post| post.waiting == Some(w)) {
                    post.waiting = None;
                }
            }
            Action::LoseSession(w) => {
                state.lost_sessions -= 1;
                Self::requeue(state, w);
                self.void(&mut state.workers[w]);
            }
            Action::Cut(w) => {
                state.cuts -= 1;
                Self::requeue(state, w);
                state.workers[w].link = Link::Cut(self.world.overlap);
            }
            Action::Detect(w) => self.void(&mut state.workers[w]),
            Action::Move(w) => {
                state.moves -= 1;
                state.copy_under_way = Some(COPY);
                state.workers[w].stages[ORIGINAL] = Stage::Moving;
                // What was known of the request is known of its copy.
                state.workers[w].marked[BACK] = true;
            }
            Action::Fetch(w) => {
                state.copy_under_way = Some(BACK);
                state.messages[COPY].at = At::Held(w);
                state.workers[w].stages[COPY] = Stage::Moving;
            }
            Action::LandCopy => {
                let Some(copy) = state.copy_under_way.take() else { return };
                let redelivered = self.keeps(Without::CopiesCountAsRedelivered);
                let at = if copy == COPY { At::Parked } else { At::Queue };
                state.messages[copy] = Message { at, redelivered, ..state.messages[copy] };
                for worker in &mut state.workers {
                    if worker.stages[copy - 1] == Stage::Moving {
                        worker.stages[copy - 1] = Stage::Moved;
                    }
                }
            }
            Action::DropCopy => state.copy_under_way = None,
            Action::ComeBack(r) => {
                state.comebacks -= 1;
                state.messages[r] =
                    Message { at: At::Queue, redelivered: true, ..state.messages[r] };
            }
            _ => {}
        }
    }
}

impl Worker {
    /// Something ambiguous about the source server: whatever looks were made before do not count.
    fn doubt_arises(&mut self, looks: u8, request: usize) {
        self.doubted[request] = true;
        let one_more_is_harmless = looks == 1 && self.doubt != Doubt::None;
        if !one_more_is_harmless {
            self.doubt = Doubt::Looks(looks);
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let World {
            lost_posts,
            crashes,
            lost_sessions,
            cuts,
            comebacks,
            requeues,
            moves,
            orders,
            ..
        } = self.world;
        let mut messages = [Message::default(); MOST];
        if moves > 0 {
            (messages[COPY].at, messages[BACK].at) = (At::Unborn, At::Unborn);
        }
        vec![State {
            messages,
            workers: [Worker::default(); WORKERS],
            posts: Vec::new(),
            tasks: 0,
            lost_posts,
            crashes,
            lost_sessions,
            cuts,
            comebacks,
            requeues,
            moves,
            copy_under_way: None,
            orders,
            ordered: false,
            answered: false,
            sent_after: false,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for w in 0..self.world.workers {
            self.worker_actions(state, w, actions);
        }
        Self::api_actions(state, actions);
        for r in 0..self.slots() {
            let gone = state.messages[r].at == At::Gone;
            actions.extend((gone && state.comebacks > 0).then_some(Action::ComeBack(r)));
        }
        actions.extend((state.orders > 0).then_some(Action::Order));
        if let Some(copy) = state.copy_under_way {
            actions.push(Action::LandCopy);
            let publishing = state.workers.iter().any(|w| w.stages[copy - 1] == Stage::Moving);
            actions.extend((!publishing).then_some(Action::DropCopy));
        }
        actions.extend(self.may_tick(state).then_some(Action::Tick));
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Deliver(w, r) => self.deliver(&mut state, w, r),
            Action::Requeue(w, r) => {
                state.requeues -= 1;
                state.messages[r] =
                    Message { at: At::Queue, redelivered: true, ..state.messages[r] };
                let worker = &mut state.workers[w];
                worker.stages[r] = Stage::Absent;
                // A doubt stays with the source server, so even what was in doubt needs no fresh one.
                worker.marked[r] = true;
            }
            Action::Look(w) => self.look(&mut state, w),
            Action::Start(w, request) => {
                // One that is cut off and does not know it hears nothing for a while.
                state.sent_after |= state.answered && state.workers[w].link == Link::Up;
                state.posts.push(Post { request, waiting: Some(w), age: 0, fate: Fate::Pending });
            }
            Action::Send(w, r) => {
                let worker = &mut state.workers[w];
                worker.cancels[r] = worker.stages[r] == Stage::Cancelling;
                worker.stages[r] = Stage::Sent;
                // What has ended is known to have, however it comes again.
                self.settle(worker, r);
            }
            Action::Store(w, r) => {
                state.messages[r].result = true;
                state.messages[r].cancelled |= state.workers[w].cancels[r];
                state.workers[w].stages[r] = Stage::Stored;
            }
            Action::Confirm(w, r) => state.workers[w].stages[r] = Stage::Confirmed,
            Action::Ack(w, r) => {
                state.messages[r].at = At::Gone;
                if matches!(state.workers[w].stages[r], Stage::Confirmed | Stage::Moved) {
                    state.workers[w].stages[r] = Stage::Absent;
                }
            }
            Action::Tick => self.tick(&mut state),
            action => {
                self.act_on_post(&mut state, action);
                self.act_on_session(&mut state, action);
            }
        }
        (0..self.world.workers).for_each(|w| self.cancel(&mut state, w));
        state.posts.retain(|post| post.waiting.is_some() || post.fate == Fate::Pending);
        state.posts.sort_unstable();
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("nothing is created twice", |_, state: &State| state.tasks < 2),
            Property::always(
                "nothing is acknowledged before its result is stored",
                |protocol: &Self, state: &State| {
                    let kept = |r: usize| {
                        let message = &state.messages[r];
                        message.at != At::Gone || message.result || protocol.has_moved(state, r)
                    };
                    (0..MOST).all(kept)
                },
            ),
            Property::always("what was cancelled is not sent afterwards", |_, state: &State| {
                !state.sent_after
            }),
            Property::always("what is told to be cancelled was not created", |_, state: &State| {
                let cancelled = state.messages.iter().any(|message| message.cancelled);
                !cancelled || state.tasks == 0
            }),
            Property::always("nothing is left over", |protocol: &Self, state: &State| {
                let mut actions = Vec::new();
                protocol.actions(state, &mut actions);
                !actions.is_empty() || (0..protocol.slots()).all(|r| protocol.is_settled(state, r))
            }),
            Property::sometimes("a request is settled", |_, state: &State| {
                state.messages[0].at == At::Gone && state.messages[0].result
            }),
        ]
    }
}
