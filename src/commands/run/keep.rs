//! What becomes of the other lanes when one of them panics? Nothing: each runs as a task of its own, and the one that
//! panicked is started again.

use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::config::values::show_duration;
use crate::message::bug;
use crate::worker::waits::Doubling;

/// The waits before a lane starts again; one that ran longer than [`STEADY`] starts them afresh.
pub(super) const WAITS: Doubling =
    Doubling { first: Duration::from_secs(1), last: Duration::from_secs(60) };
const STEADY: Duration = Duration::from_secs(300);

/// Runs what `start` makes until it ends by itself; after a panic again, unless `stopping`. `down` is told of each
/// panic. A lane that starts again is to the broker and the API what a worker is that has crashed.
pub(super) async fn keep<F>(
    waits: Doubling,
    mut stopping: watch::Receiver<bool>,
    mut down: impl FnMut(&str),
    mut start: impl FnMut() -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let Err(ended) = tokio::spawn(start()).await else { return };
        if began.elapsed() > STEADY {
            failures = 0;
        }
        failures += 1;
        let wait = waits.after(failures);
        down(&format!(
            "its loop panicked ({}): this is a bug in sluice, report it; it starts again in {}",
            text(ended),
            show_duration(wait)
        ));
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            // A sender that is gone means that the process ends.
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}

fn text(ended: tokio::task::JoinError) -> String {
    ended
        .try_into_panic()
        .map_or_else(|_| "it was cancelled".to_owned(), |panic| bug::text(&*panic))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_lane_that_panics_starts_again_and_the_other_never_notices() {
        let (_stop, stopping) = watch::channel(false);
        let starts = Arc::new(AtomicU32::new(0));
        let mut told = Vec::new();
        let panicking = keep(
            Doubling { first: Duration::from_millis(10), ..WAITS },
            stopping.clone(),
            |why| told.push(why.to_owned()),
            || {
                let starts = Arc::clone(&starts);
                async move {
                    assert!(starts.fetch_add(1, Ordering::SeqCst) >= 2, "the second is {}", 2);
                }
            },
        );
        let ticks = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ticks);
        let other = keep(
            WAITS,
            stopping,
            |_| unreachable!("the other lane is well"),
            move || {
                let ticks = Arc::clone(&counted);
                async move {
                    for _ in 0..20 {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        ticks.fetch_add(1, Ordering::SeqCst);
                    }
                }
            },
        );
        tokio::join!(panicking, other);
        assert_eq!((starts.load(Ordering::SeqCst), ticks.load(Ordering::SeqCst)), (3, 20));
        assert!(
            told[0].contains("the second is 2") && told[0].contains("again in 10ms"),
            "{told:?}"
        );
        assert!(told[1].contains("again in 20ms"), "{told:?}");
    }

    #[tokio::test]
    async fn a_lane_that_is_down_stops_when_told() {
        let (stop, stopping) = watch::channel(false);
        let mut times = 0;
        keep(
            WAITS,
            stopping,
            |_| {
                times += 1;
                stop.send_replace(true);
            },
            || async { panic!("always") },
        )
        .await;
        assert_eq!(times, 1);
    }
}
