//! When should a worker stop? SIGTERM or SIGINT: gracefully. A second one: at once.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Exit;

/// The signals that stop a process, listened to from the moment this is made.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal's name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// Waits for the second signal and ends the process: what is unsettled stays in the queue, as after a crash.
    pub(super) async fn give_up(&mut self) -> ! {
        let signal = self.next().await;
        tracing::warn!(signal, "stopping at once");
        std::process::exit(Exit::NotAllWell as i32)
    }
}
