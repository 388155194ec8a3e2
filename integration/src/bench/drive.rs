//! The load: one thread on a core of its own, a few kept-alive HTTP/1.1 connections, each sending its next request when
//! the answer to the last is there. Bytes over TLS and no HTTP library, so that the client is never the slower one.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::client::TlsStream;

use super::BenchError;
use crate::environment::Client;
use crate::environment::Credentials;
use crate::environment::Protocol;
use crate::environment::client::HOST_NAME;

/// Connections at once.
pub(super) const CONNECTIONS: usize = 8;

/// What to send.
#[derive(Clone, Debug)]
pub(super) struct Drive {
    /// Envoy.
    pub(super) address: SocketAddr,
    /// The client's certificate.
    pub(super) own: Credentials,
    /// What is asked for, again and again.
    pub(super) path: String,
    /// How often.
    pub(super) requests: u64,
    /// The core to stay on.
    pub(super) core: u32,
}

/// What it took.
#[derive(Clone, Debug)]
pub(super) struct Driven {
    /// From the first request to the last answer.
    pub(super) elapsed: Duration,
    /// Of each request, sorted.
    pub(super) latencies: Vec<Duration>,
}

impl Driven {
    /// The latency that `share` (0 to 1) of the requests stayed below.
    pub(super) fn quantile(&self, share: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        let index = (last as f64 * share).round() as usize;
        self.latencies.get(index).copied().unwrap_or_default()
    }
}

/// Sends the load from a thread of its own.
///
/// `before` is called when all connections are open and the first request is about to leave, `after` at the last
/// answer: handshakes are not part of what is measured.
///
/// # Errors
///
/// [`BenchError::Driver`] at the first answer that is not 200.
pub(super) fn drive(
    plan: Drive,
    before: impl FnOnce() + Send + 'static,
    after: impl FnOnce() + Send + 'static,
) -> Result<Driven, BenchError> {
    let work = move || {
        stay_on(plan.core);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| BenchError::Driver(error.to_string()))?;
        runtime.block_on(send(plan, before, after))
    };
    let thread = std::thread::Builder::new().name("load".to_owned()).spawn(work);
    let thread = thread.map_err(|error| BenchError::Driver(error.to_string()))?;
    thread.join().unwrap_or_else(|_| Err(BenchError::Driver("the load's thread panicked".to_owned())))
}

/// Pins this thread. On a machine where that cannot be done the figures are noisier, and nothing else.
fn stay_on(core: u32) {
    let Ok(task) = fs::read_link("/proc/thread-self") else { return };
    let Some(id) = task.file_name() else { return };
    let mut pin = Command::new("taskset");
    pin.args(["--cpu-list", "--pid", &core.to_string()]).arg(id);
    let _ = pin.stdout(Stdio::null()).stderr(Stdio::null()).status();
}

async fn send(plan: Drive, before: impl FnOnce(), after: impl FnOnce()) -> Result<Driven, BenchError> {
    let broken = |error: &dyn std::error::Error| BenchError::Driver(crate::environment::chain(error));
    let client = Client::new(plan.address, &plan.own.ca_pem, Some(&plan.own), Protocol::Http1)?;
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(client.connect_tls().await.map_err(|error| broken(&error))?);
    }
    let request: Arc<[u8]> = format!("GET {} HTTP/1.1\r\nhost: {HOST_NAME}\r\n\r\n", plan.path).into_bytes().into();
    let left = Arc::new(AtomicU64::new(plan.requests));
    before();
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(repeat(connection, Arc::clone(&request), Arc::clone(&left)));
    }
    let mut latencies = Vec::new();
    while let Some(done) = workers.join_next().await {
        latencies.extend(done.map_err(|error| broken(&error))?.map_err(BenchError::Driver)?);
    }
    let elapsed = began.elapsed();
    after();
    latencies.sort_unstable();
    Ok(Driven { elapsed, latencies })
}

async fn repeat(
    mut tls: TlsStream<TcpStream>,
    request: Arc<[u8]>,
    left: Arc<AtomicU64>,
) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    while left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
        let began = Instant::now();
        tls.write_all(&request).await.map_err(|error| error.to_string())?;
        tls.flush().await.map_err(|error| error.to_string())?;
        answer.clear();
        // The answer has no body: it ends with its head.
        while !answer.ends_with(b"\r\n\r\n") {
            let count = tls.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("envoy closed a connection".to_owned());
            }
        }
        if !answer.starts_with(b"HTTP/1.1 200") {
            let head = String::from_utf8_lossy(&answer);
            return Err(format!("envoy answered `{}`", head.lines().next().unwrap_or_default()));
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}
