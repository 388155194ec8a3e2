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

/// Connections at once.
pub(super) const CONNECTIONS: usize = 8;

/// What to send.
#[derive(Clone, Debug)]
pub(super) struct Drive {
    /// Envoy.
    pub(super) address: SocketAddr,
    /// The client's certificate.
    pub(super) own: Credentials,
    /// What is asked.
    pub(super) requests: Requests,
    /// What each answer has to be.
    pub(super) status: u16,
    /// The core to stay on.
    pub(super) core: u32,
}

/// The requests of one measurement, as bytes.
#[derive(Clone, Debug)]
pub(super) enum Requests {
    /// One, so often.
    Same(Arc<[u8]>, u64),
    /// Each of these once.
    Each(Arc<[Vec<u8>]>),
}

impl Requests {
    /// How many.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Same(_, count) => *count,
            Self::Each(requests) => requests.len() as u64,
        }
    }

    /// The same ones; what may be repeated is, `count` times.
    pub(super) fn again(&self, count: u64) -> Self {
        match self {
            Self::Same(request, _) => Self::Same(Arc::clone(request), count),
            Self::Each(requests) => Self::Each(Arc::clone(requests)),
        }
    }

    fn get(&self, index: u64) -> Option<&[u8]> {
        match self {
            Self::Same(request, count) => (index < *count).then_some(request),
            Self::Each(requests) => requests.get(usize::try_from(index).ok()?).map(Vec::as_slice),
        }
    }
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
/// [`BenchError::Driver`] at the first answer that has another status than the one expected.
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
    let next = Arc::new(AtomicU64::new(0));
    let begin: Arc<[u8]> = format!("HTTP/1.1 {}", plan.status).into_bytes().into();
    before();
    let began = Instant::now();
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(repeat(connection, plan.requests.clone(), Arc::clone(&next), Arc::clone(&begin)));
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
    requests: Requests,
    next: Arc<AtomicU64>,
    begin: Arc<[u8]>,
) -> Result<Vec<Duration>, String> {
    let mut latencies = Vec::new();
    let mut answer = Vec::with_capacity(4096);
    while let Some(request) = requests.get(next.fetch_add(1, Ordering::Relaxed)) {
        let began = Instant::now();
        tls.write_all(request).await.map_err(|error| error.to_string())?;
        tls.flush().await.map_err(|error| error.to_string())?;
        answer.clear();
        while !is_whole(&answer) {
            let count = tls.read_buf(&mut answer).await.map_err(|error| error.to_string())?;
            if count == 0 {
                return Err("envoy closed a connection".to_owned());
            }
        }
        if !answer.starts_with(&begin) {
            let answer = String::from_utf8_lossy(&answer);
            let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
            return Err(format!("envoy answered `{}`: {body}", head.lines().next().unwrap_or_default()));
        }
        latencies.push(began.elapsed());
    }
    Ok(latencies)
}

/// Whether an answer has come to its end: that of its head, or that of the body which the head announces.
fn is_whole(answer: &[u8]) -> bool {
    let Some(head) = answer.windows(4).position(|four| four == b"\r\n\r\n").map(|end| end + 4) else { return false };
    let length = answer[..head].split(|&byte| byte == b'\n').find_map(|line| {
        let (name, value) = std::str::from_utf8(line).ok()?.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    answer.len() >= head + length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_with_its_body() {
        for (answer, whole) in [
            ("HTTP/1.1 200 OK\r\n", false),
            ("HTTP/1.1 200 OK\r\nserver: envoy\r\n\r\n", true),
            ("HTTP/1.1 401 Unauthorized\r\nContent-Length: 3\r\n\r\nno", false),
            ("HTTP/1.1 401 Unauthorized\r\ncontent-length: 3\r\n\r\nno!", true),
        ] {
            assert_eq!(is_whole(answer.as_bytes()), whole, "{answer}");
        }
    }
}
