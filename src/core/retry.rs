//! When is it tried again? The one place that names `backoff`, used as a calculator of delays without its jitter, which
//! cannot be repeated: the caller's generator gives that. It is unmaintained, and replacing it is a matter of this file.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;
use serde::{Deserialize, Serialize};

/// `[retry]`: exponential delays with jitter, bounded in attempts and in age.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RetrySettings {
    pub initial: Duration,
    pub multiplier: f64,
    /// No delay is longer, jitter included.
    pub max: Duration,
    /// Attempts that count, the first included.
    pub attempts: u32,
    /// No attempt starts later than this after the first.
    pub max_age: Duration,
}

impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            multiplier: 2.0,
            max: Duration::from_secs(300),
            attempts: 8,
            max_age: Duration::from_secs(24 * 3600),
        }
    }
}

/// A delay that has grown so often and is not the longest one yet stays as it is.
const MOST_GROWTH: u32 = 10_000;

/// Where the jitter comes from: the same for the same seed, so that a history repeats by it.
pub type Jitter = fastrand::Rng;

/// The delay after the `failures`-th failure in a row (from 1): `initial * multiplier^(failures-1)`, give or take half
/// of it, at most `max`.
pub fn delay(settings: &RetrySettings, failures: u32, jitter: &mut Jitter) -> Duration {
    let most = settings.max.as_secs_f64();
    let mut current = settings.initial.as_secs_f64().min(most);
    // Not `powi`, whose last digits differ between platforms: a recording is replayed on another one.
    for _ in 1..failures.min(MOST_GROWTH) {
        if current >= most {
            break;
        }
        current = (current * settings.multiplier).min(most);
    }
    let mut calculator = ExponentialBackoff {
        current_interval: Duration::from_secs_f64(current * (0.5 + jitter.f64())),
        initial_interval: settings.initial,
        // Its own jitter cannot be repeated.
        randomization_factor: 0.0,
        multiplier: settings.multiplier,
        max_interval: settings.max,
        // Its default gives up 15 minutes after construction.
        max_elapsed_time: None,
        ..ExponentialBackoff::default()
    };
    calculator.next_backoff().unwrap_or(settings.max).min(settings.max)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_with_jitter_and_are_capped() {
        let (settings, jitter) = (RetrySettings::default(), &mut Jitter::with_seed(1));
        for failures in 1..=40 {
            let middle = 2_f64.powi(failures - 1).min(300.0);
            for _ in 0..50 {
                let d = delay(&settings, u32::try_from(failures).unwrap(), jitter).as_secs_f64();
                assert!(
                    d >= middle * 0.5 - 0.001 && d <= (middle * 1.5 + 0.001).min(300.0),
                    "{failures}: {d}"
                );
            }
        }
    }

    #[test]
    fn delays_differ_from_one_another() {
        let (settings, jitter) = (RetrySettings::default(), &mut Jitter::with_seed(1));
        let first = delay(&settings, 5, jitter);
        assert!((0..50).any(|_| delay(&settings, 5, jitter) != first));
    }

    #[test]
    fn extreme_settings_do_not_panic() {
        let jitter = &mut Jitter::with_seed(1);
        let settings =
            RetrySettings { initial: Duration::ZERO, multiplier: 1e9, ..RetrySettings::default() };
        assert_eq!(delay(&settings, u32::MAX, jitter), Duration::ZERO);
        let settings = RetrySettings {
            initial: Duration::from_secs(1),
            multiplier: 1e9,
            ..RetrySettings::default()
        };
        assert!(delay(&settings, u32::MAX, jitter) <= settings.max);
    }
}
