//! How does a test wait? For the thing itself, which is looked at again and again here. Nothing else in the tests sleeps:
//! `scripts/check-sleeps` has the exceptions, each with its reason.

use std::time::{Duration, Instant};

use super::rabbit::SOON;

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(20);

/// Looks until it is so; after `patience` the test fails with what the last try said.
pub(crate) async fn until<T>(
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + patience;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(instead) => {
                assert!(Instant::now() < end, "not within {patience:?}; last seen: {instead}");
            }
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// Looks until it is so; after [`SOON`] the test fails with `what` was waited for.
pub(crate) async fn until_so(what: &str, mut is_so: impl FnMut() -> bool) {
    until(SOON, async || if is_so() { Ok(()) } else { Err(format!("not {what}")) }).await;
}
