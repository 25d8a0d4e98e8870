//! How long does all that waits take, as far as one can say in a figure? A forecast that knows the schedule, the places of
//! the account and each request's time is `sluice watch`'s.

use crate::core::gate::Reason;
use crate::message::status::WindowCounts;

/// Seconds until the `queued` messages and what the window holds have gone, at the rate that is allowed, or where there is
/// no limit at that of the last minute. Infinite while somebody has to end what holds them; `None`: not known.
pub(super) fn drain(
    queued: Option<u64>,
    window: WindowCounts,
    (made, allowed): (f64, Option<f64>),
    shut: Option<Reason>,
) -> Option<f64> {
    let held = window.ready + window.waiting + window.in_flight;
    let waiting = queued?.saturating_add(u64::try_from(held).unwrap_or(u64::MAX));
    if waiting == 0 {
        return Some(0.0);
    }
    if let Some(Reason::Paused | Reason::Halted | Reason::Blocked | Reason::Stopping) = shut {
        return Some(f64::INFINITY);
    }
    #[allow(clippy::cast_precision_loss)] // no queue holds 2^53 messages
    let waiting = waiting as f64;
    Some(allowed.unwrap_or(made)).filter(|rate| *rate > 0.0).map(|rate| waiting / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_takes_as_long_as_the_rate_says_and_for_ever_while_it_is_paused() {
        let window =
            WindowCounts { ready: 10, waiting: 5, in_flight: 5, ..WindowCounts::default() };
        let takes = |queued, rates, shut| drain(queued, window, rates, shut);
        assert_eq!(takes(Some(100), (0.5, Some(2.0)), Some(Reason::Rate)), Some(60.0));
        assert_eq!(
            takes(Some(100), (0.5, None), None),
            Some(240.0),
            "without a limit as fast as now"
        );
        assert_eq!(takes(Some(100), (0.0, None), None), None, "nobody knows");
        assert_eq!(takes(None, (1.0, Some(2.0)), None), None, "a standby does not look");
        for shut in [Reason::Paused, Reason::Halted, Reason::Blocked] {
            assert_eq!(takes(Some(0), (1.0, Some(2.0)), Some(shut)), Some(f64::INFINITY));
        }
        let nothing = drain(Some(0), WindowCounts::default(), (0.0, None), Some(Reason::Paused));
        assert_eq!(nothing, Some(0.0));
    }
}
