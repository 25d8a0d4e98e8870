//! What do new orders do to the requests that are here?

use std::collections::BTreeSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Core;
use crate::core::orders::{self, Order};
use crate::core::request::{Doubt, Request};
use crate::core::time::Now;
use crate::core::window::Key;

/// What orders have done to what waited in the window. What is in flight ends as it does, and is not retried if it is
/// cancelled; what is not here yet, they meet when it comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Obeyed {
    /// How many requests of the window they are about.
    pub here: usize,
    /// How many of these are in doubt: they are looked up first.
    pub in_doubt: usize,
    /// How many wait outside of the window, for what is known; whether they are meant shows when they are read.
    pub parked: usize,
}

impl<D> Core<D> {
    pub(super) fn obey(&mut self, now: Now, orders: Vec<Order>) -> Obeyed {
        let mut obeyed = Obeyed { parked: self.out.parking.len(), ..Obeyed::default() };
        let kept = Arc::make_mut(&mut self.orders);
        let about: BTreeSet<_> = orders.iter().map(|order| order.of.clone()).collect();
        for order in orders {
            kept.take(order);
        }
        let meant =
            |request: &Request| orders::targets(request).iter().any(|of| about.contains(of));
        let keys: Vec<Key> = self.window.keys_where(|job| meant(&job.request));
        for key in keys {
            let Some(job) = self.window.take(key) else { continue };
            obeyed.here += 1;
            obeyed.in_doubt += usize::from(job.progress.doubt != Doubt::None);
            self.admit(now, job);
        }
        self.out.parking.look();
        obeyed
    }
}
