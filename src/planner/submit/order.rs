//! In which order would the rows go? As the worker would take them, as far as that is known before anything is sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytes::Bytes;
use jiff::Timestamp;
use serde::Serialize;

use super::journal::Past;
use super::source::message;
use crate::contract::Rules;
use crate::plan::{self, Load, Plan, PlanError};

/// A row that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Next {
    pub row: u64,
    pub name: String,
    pub source_server_id: String,
    /// What orders it: `x-sluice-priority`, else the body's.
    pub priority: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Timestamp>,
    /// Begun before, without a result: it is looked up before it is sent.
    pub in_doubt: bool,
    #[serde(skip)]
    pub load: Load,
}

/// All rows that have not ended.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub rows: Vec<Next>,
    /// What is sent for the first of them.
    pub first: Option<Bytes>,
}

/// What may go first, then what is more urgent, then what stands before.
type Urgency = (Option<Timestamp>, Reverse<u16>, u64);

/// The rows of `plan` that `past` does not know the end of. Of `window` rows, as many as are held at once, the most
/// urgent one goes next.
///
/// # Errors
/// The plan cannot be read on.
pub fn order(
    plan: Plan,
    past: &Past,
    rules: &Rules,
    window: usize,
    now: Timestamp,
) -> Result<Order, PlanError> {
    let mut order = Order::default();
    let mut held: BinaryHeap<Reverse<(Urgency, usize)>> = BinaryHeap::new();
    let (mut rows, mut bodies) = (Vec::new(), Vec::new());
    let mut places = Vec::new();
    for row in plan::valid(plan) {
        let (row, view) = row?;
        let run = past.head.as_ref().map(|head| message(head, rules, &row, &view).1.request.run);
        if run.is_some_and(|run| past.ended.contains_key(&run)) {
            continue;
        }
        let not_before = row.settings.not_before.filter(|time| *time > now);
        let priority = row.priority().unwrap_or(view.priority);
        held.push(Reverse(((not_before, Reverse(priority), row.number), rows.len())));
        // the first one to go is among those that are held first
        if rows.len() < window.max(1) {
            bodies.push(row.body.clone());
        }
        let starts = view.auto_start != Some(false);
        rows.push(Next {
            row: row.number,
            in_doubt: run.is_some_and(|run| past.started.contains(&run)),
            name: view.name,
            source_server_id: view.source_server_id,
            priority,
            not_before,
            load: Load { not_before, starts },
        });
        if held.len() >= window.max(1) {
            places.extend(held.pop());
        }
    }
    while let Some(next) = held.pop() {
        places.push(next);
    }
    let places: Vec<usize> = places.into_iter().map(|Reverse((_, place))| place).collect();
    order.first = places.first().and_then(|place| bodies.get(*place).cloned());
    order.rows = places.into_iter().filter_map(|place| rows.get(place).cloned()).collect();
    Ok(order)
}
