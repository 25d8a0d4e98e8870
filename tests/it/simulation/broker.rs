//! A broker as pure state: where each message is, and whether a delivery was settled, and settled once.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use sluicegate::core::{Outcome, Request, Run};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Queue,
    /// In the queue of what waits.
    Parked,
    /// Delivered and not acknowledged: the delivery's tag.
    Held(u64),
    Gone,
}

#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) request: Request,
    pub(crate) at: At,
    pub(crate) redelivered: bool,
    pub(crate) results: Vec<Outcome>,
    /// A copy was published in its place.
    pub(crate) copied: bool,
}

impl Message {
    pub(crate) fn queued(request: Request) -> Self {
        Self { request, at: At::Queue, redelivered: false, results: Vec::new(), copied: false }
    }
}

/// The deliveries of the present session that nobody has settled yet, by tag.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    live: HashMap<u64, usize>,
    /// A delivery that was dropped unsettled while its session lived: it would stay unacknowledged for ever.
    leaked: Option<usize>,
}

/// A delivery. It cannot be copied, and dropping it unsettled is noticed.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) message: usize,
    tag: u64,
    ledger: Rc<RefCell<Ledger>>,
}

impl Drop for Token {
    fn drop(&mut self) {
        let mut ledger = self.ledger.borrow_mut();
        if ledger.live.remove(&self.tag).is_some() {
            ledger.leaked = Some(self.message);
        }
    }
}

#[derive(Debug)]
pub(crate) struct Broker {
    pub(crate) messages: Vec<Message>,
    pub(crate) session: Option<u32>,
    pub(crate) blocked: bool,
    /// The queue of dead letters refuses whatever comes.
    pub(crate) full: bool,
    ledger: Rc<RefCell<Ledger>>,
    tags: u64,
}

impl Broker {
    pub(crate) fn new(requests: Vec<Request>) -> Self {
        Self {
            messages: requests.into_iter().map(Message::queued).collect(),
            session: None,
            blocked: false,
            full: false,
            ledger: Rc::default(),
            tags: 0,
        }
    }

    /// Deliveries that are held by the worker in the present session.
    pub(crate) fn held(&self) -> usize {
        self.ledger.borrow().live.len()
    }

    pub(crate) fn leaked(&self) -> Option<usize> {
        self.ledger.borrow().leaked
    }

    pub(crate) fn waiting(&self) -> Vec<usize> {
        let queued =
            |(index, message): (usize, &Message)| (message.at == At::Queue).then_some(index);
        self.messages.iter().enumerate().filter_map(queued).collect()
    }

    pub(crate) fn deliver(&mut self, index: usize) -> Token {
        self.tags += 1;
        self.messages[index].at = At::Held(self.tags);
        self.ledger.borrow_mut().live.insert(self.tags, index);
        Token { message: index, tag: self.tags, ledger: Rc::clone(&self.ledger) }
    }

    /// The worker acknowledges. `false`: the delivery is void.
    pub(crate) fn acknowledge(&mut self, token: &Token) -> bool {
        let live = self.ledger.borrow_mut().live.remove(&token.tag).is_some();
        if live {
            self.messages[token.message].at = At::Gone;
        }
        live
    }

    /// The worker requeues a delivery. `false`: it is void.
    pub(crate) fn requeue(&mut self, token: &Token) -> bool {
        let live = self.ledger.borrow_mut().live.remove(&token.tag).is_some();
        if live {
            let message = &mut self.messages[token.message];
            (message.at, message.redelivered) = (At::Queue, true);
        }
        live
    }

    /// The same request in another queue, with the mark that counts as a redelivery, and with what orders have made of it.
    pub(crate) fn publish_copy(&mut self, of: usize, request: Request, to: At) {
        self.messages[of].copied = true;
        self.messages.push(Message { redelivered: true, at: to, ..Message::queued(request) });
    }

    pub(crate) fn parked(&self) -> Vec<usize> {
        let parked =
            |(index, message): (usize, &Message)| (message.at == At::Parked).then_some(index);
        self.messages.iter().enumerate().filter_map(parked).collect()
    }

    /// The request of this run as it was enqueued.
    pub(crate) fn original(&self, run: Run) -> Option<&Request> {
        let mut same = self.messages.iter().filter(|message| message.request.run == run);
        same.next().map(|message| &message.request)
    }

    /// What was published as the outcome of this run, whichever of its copies it was for.
    pub(crate) fn results(&self, run: Run) -> Vec<Outcome> {
        let same = self.messages.iter().filter(|message| message.request.run == run);
        same.flat_map(|message| message.results.iter().copied()).collect()
    }

    /// The session ends, whoever ends it: what was held is queued again.
    pub(crate) fn lose_session(&mut self) {
        self.session = None;
        self.ledger.borrow_mut().live.clear();
        for message in &mut self.messages {
            if matches!(message.at, At::Held(_)) {
                (message.at, message.redelivered) = (At::Queue, true);
            }
        }
    }

    /// A broker with classic queues was killed: acknowledged messages are there again, and all are flagged.
    pub(crate) fn bring_back(&mut self, mut which: impl FnMut() -> bool) {
        for message in &mut self.messages {
            message.redelivered = true;
            if message.at == At::Gone && which() {
                message.at = At::Queue;
            }
        }
    }
}
