//! When may a command call the API that a worker may be calling, too? As the active worker lends it; with no worker at the
//! configured rates, one process at a time; and where nobody can be asked at a share of them.

use std::time::Duration;

use indicatif::ProgressBar;

use super::share::Share;
use super::{Failure, World, gate};
use crate::api::survey;
use crate::broker::{Leasing, PlannerError, Turn};
use crate::core::{Limits, Moment, Rate};
use crate::lane::Config;
use crate::message::command::Lease;
use crate::worker::clock::Clock;

/// So many calls are asked for at once: more than the lists of an account have pages.
const CALLS: u32 = 12;
/// How often a process looks whether the lock is free.
const AGAIN: Duration = Duration::from_millis(500);
/// The worker is asked again after this at the latest: it may have more to spare by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the API is called by.
pub(super) struct Permits {
    clock: Clock,
    bar: ProgressBar,
    /// Whom to ask; nobody: `own` is all there is.
    desk: Option<Leasing>,
    /// What may be called without being lent.
    own: Limits,
    lent: Option<Lent>,
    rates: Vec<Rate>,
    margin: Duration,
    /// What was said last of a wait.
    said: String,
}

/// What the worker has lent.
struct Lent {
    limits: Limits,
    calls: u32,
    until: Moment,
}

impl Permits {
    /// Waits for the lock where a broker answers.
    ///
    /// # Errors
    /// The settings of the broker are wrong.
    pub(super) async fn open(
        config: &Config,
        share: Option<Share>,
        world: &World,
        bar: ProgressBar,
    ) -> Result<Self, Failure> {
        let clock = Clock::start();
        let (rates, margin) = (config.limits.rates.clone(), config.limits.margin);
        let own = |share: Share| Limits::new(&share.of(&rates), margin, clock.now().at);
        let mut permits = Self {
            clock,
            bar,
            desk: None,
            own: own(share.unwrap_or(Share::WHOLE)),
            lent: None,
            rates: rates.clone(),
            margin,
            said: String::new(),
        };
        if share.is_some() {
            return Ok(permits);
        }
        let opened = Leasing::open(&config.broker, &config.queues, &gate::who(world)).await;
        match opened {
            Ok(desk) => permits.take_turns(desk).await,
            Err(why @ (PlannerError::Settings(_) | PlannerError::LogIn(_))) => {
                return Err(Failure::usage(why));
            }
            Err(why) => permits.alone(&why.to_string()),
        }
        Ok(permits)
    }

    async fn take_turns(&mut self, mut desk: Leasing) {
        loop {
            match desk.lock().await {
                Ok(true) => {
                    self.own = Limits::new(&self.rates, self.margin, self.clock.now().at);
                    self.desk = Some(desk);
                    return;
                }
                Ok(false) => {
                    self.say("another process asks the API beside the worker just now: waiting for its end");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(why) => {
                    desk.close().await;
                    return self.alone(&why.to_string());
                }
            }
        }
    }

    /// Nobody can be asked: a tenth is what a worker can spare.
    fn alone(&mut self, why: &str) {
        let share = Share::TENTH;
        self.say(&format!(
            "no worker can be asked for calls ({why}); {share} of limits.rates is taken, and --share says otherwise"
        ));
        self.own = Limits::new(&share.of(&self.rates), self.margin, self.clock.now().at);
        self.desk = None;
        self.lent = None;
    }

    pub(super) async fn close(self) {
        if let Some(desk) = self.desk {
            desk.close().await;
        }
    }

    /// Each thing once.
    fn say(&mut self, what: &str) {
        if self.said != what {
            what.clone_into(&mut self.said);
            self.bar.suspend(|| eprintln!("{what}"));
        }
    }

    /// Takes a call of what is lent; `false`: nothing of it is left.
    async fn of_lent(&mut self) -> bool {
        let clock = self.clock;
        let Some(lent) = self.lent.as_mut().filter(|lent| lent.calls > 0) else { return false };
        let ready = lent.limits.ready_at(clock.now().at);
        if ready >= lent.until {
            return false;
        }
        tokio::time::sleep_until(clock.instant(ready)).await;
        let now = clock.now().at;
        let late = now >= lent.until;
        if !late {
            lent.limits.take(now);
            lent.calls -= 1;
        }
        !late
    }

    async fn of_own(&mut self) {
        let ready = self.own.ready_at(self.clock.now().at);
        tokio::time::sleep_until(self.clock.instant(ready)).await;
        self.own.take(self.clock.now().at);
    }

    fn borrow(&mut self, asked: Moment, lease: &Lease) {
        let margin = Duration::from_millis(lease.margin_ms);
        let lasts = Duration::try_from_secs_f64(lease.seconds).unwrap_or_default();
        let limits = Limits::new(&lease.rates, margin, self.clock.now().at);
        self.lent = Some(Lent { limits, calls: lease.calls, until: asked + lasts });
        self.say(&format!(
            "a worker is active: it lends {} calls for {:.0} s",
            lease.calls,
            lease.seconds.floor()
        ));
    }
}

impl survey::Permits for Permits {
    async fn permit(&mut self) -> Result<(), String> {
        while self.desk.is_some() {
            if self.of_lent().await {
                return Ok(());
            }
            // What is heard now holds for a call that goes now.
            let ready = self.own.ready_at(self.clock.now().at);
            if self.lent.is_none() {
                tokio::time::sleep_until(self.clock.instant(ready)).await;
            }
            let asked = self.clock.now().at;
            let Some(desk) = &self.desk else { break };
            match desk.ask(CALLS).await {
                Ok(Turn::Lent(lease)) => self.borrow(asked, &lease),
                Ok(Turn::Free) => {
                    self.lent = None;
                    if self.own.ready_at(asked) <= asked {
                        self.own.take(self.clock.now().at);
                        return Ok(());
                    }
                }
                Ok(Turn::Later(why, wait)) => {
                    self.say(&format!("a worker is active, and lends no calls just now: {why}"));
                    tokio::time::sleep(wait.clamp(AGAIN, PATIENCE)).await;
                }
                Ok(Turn::Never(why)) => {
                    return Err(format!("the active worker lends no calls: {why}"));
                }
                Err(why) => self.alone(&why.to_string()),
            }
        }
        self.of_own().await;
        Ok(())
    }

    fn refused(&mut self, named: Option<Rate>) {
        let now = self.clock.now().at;
        self.own.lower(now, named, now, now);
    }
}
