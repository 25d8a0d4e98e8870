//! Another process of the same account, which calls the API with what a worker lends it.

use std::time::Duration;

use rand::RngExt as _;
use sluicegate::core::limits::Limits;
use sluicegate::core::{Input, Moment, Rate, Reply, Steer};

use super::world::{Event, World, at};
use crate::support::bench::Inputs as _;

/// What the other process has been lent, and how it keeps to it.
pub(super) struct Lent {
    limits: Limits,
    calls: u32,
    until: Moment,
    /// The rates that it was lent under: it ends under them.
    under: Vec<Rate>,
}

impl World {
    /// It has the lock, as long as it may have calls left.
    pub(super) fn is_leasing(&self) -> bool {
        self.lent.as_ref().is_some_and(|lent| lent.until > self.now)
    }

    /// Asks the active worker; the answer takes its time, and the lease counts from the question.
    pub(super) fn lease(&mut self) {
        let Some(w) = self.active.filter(|_| !self.is_leasing()) else { return };
        let calls = self.leasing.random_range(1..20);
        let before = self.workers[w].core.gate().limits().ready_at(self.now);
        let waits = self.workers[w].core.counts().ready > 0;
        let lend = Input::Ordered(Steer::Lend { calls });
        match self.workers[w].core.tell(at(self.now), lend) {
            Reply::Lent(Ok(grant)) => {
                self.say(|| format!("worker {w} lends {grant:?}"));
                self.checks.count("calls lent to another process");
                let open = self.workers[w].core.shut().is_none();
                assert!(
                    !(waits && open && before <= self.now),
                    "a lease before a POST that is due"
                );
                assert!(grant.calls <= calls, "{grant:?}");
                let asked = self.now;
                let heard = self.now + Duration::from_millis(self.leasing.random_range(0..=300));
                let limits = Limits::new(&grant.rates, grant.margin, heard);
                let until = asked + grant.lasts;
                let under = self.history.settings.gate.rates.clone();
                self.lent = Some(Lent { limits, calls: grant.calls, until, under });
                self.after(heard - self.now, Event::Leased);
            }
            Reply::Lent(Err(why)) => {
                self.say(|| format!("worker {w} lends nothing: {why}"));
                self.checks.count("calls not lent");
            }
            other => panic!("calls are lent or not, not {other:?}"),
        }
    }

    /// Its next call goes as soon as it may, whatever has become of the worker.
    pub(super) fn leased(&mut self) {
        let now = self.now;
        let Some(lent) = &mut self.lent else { return };
        let ready = lent.limits.ready_at(now);
        if lent.calls == 0 || ready >= lent.until {
            return;
        }
        if ready > now {
            // Timers are late.
            let late = Duration::from_micros(self.leasing.random_range(0..1_000));
            return self.after(ready + late - now, Event::Leased);
        }
        lent.limits.take(now);
        lent.calls -= 1;
        let same = lent.under == self.history.settings.gate.rates;
        self.checks.count("a lent call");
        let margin = self.history.settings.gate.margin;
        let way = super::worker::WAY + margin.mul_f64(self.leasing.random());
        if same {
            self.checks.arrived(now + way);
        }
        self.after(Duration::ZERO, Event::Leased);
    }
}
