//! `/metrics`, `/healthz` and `/readyz`, for those who watch the agent. Plain HTTP: nothing secret is said, and the
//! configuration allows loopback addresses only.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use jiff::Timestamp;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::metrics;
use crate::metrics::Metrics;
use crate::status::Status;

/// After so many seconds without a tick the loop is taken for dead. It ticks every minute or more often.
const PATIENCE: i64 = 180;

/// A sign of life: the loop beats it at every tick, `/healthz` looks how long ago that was.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Beats>);

#[derive(Debug)]
struct Beats {
    count: AtomicU64,
    last: AtomicI64,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

impl Heartbeat {
    /// Beaten now.
    pub fn new() -> Self {
        Self(Arc::new(Beats { count: AtomicU64::new(0), last: AtomicI64::new(Timestamp::now().as_second()) }))
    }

    /// Call at every tick of the loop.
    pub fn beat(&self) {
        self.0.last.store(Timestamp::now().as_second(), Ordering::Relaxed);
        self.0.count.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it was beaten, which no clock has a part in.
    pub fn beats(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// Seconds since the last beat; none while the clock says that it lies ahead.
    fn age(&self, now: Timestamp) -> Option<i64> {
        Some(now.as_second() - self.0.last.load(Ordering::Relaxed)).filter(|age| *age >= 0)
    }
}

#[derive(Clone, Debug)]
struct Observed {
    status: watch::Receiver<Status>,
    metrics: Metrics,
    heartbeat: Heartbeat,
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
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/metrics", get(exposition))
        .route("/readyz", get(readyz))
        .with_state(Observed { status, metrics, heartbeat });
    axum::serve(listener, router).with_graceful_shutdown(shutdown).await
}

async fn exposition(State(observed): State<Observed>) -> impl IntoResponse {
    observed.metrics.update(&observed.status.borrow());
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], observed.metrics.encode())
}

async fn healthz(State(observed): State<Observed>) -> (StatusCode, String) {
    // A clock that was set back does not make the agent dead.
    match observed.heartbeat.age(Timestamp::now()) {
        Some(age) if age > PATIENCE => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("the loop has not ticked for {age} s\n"))
        }
        _ => (StatusCode::OK, "alive\n".to_owned()),
    }
}

async fn readyz(State(observed): State<Observed>) -> (StatusCode, String) {
    let status = observed.status.borrow();
    if status.ready {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let reasons: String = status.reasons.iter().map(|reason| format!("{reason}\n")).collect();
    (StatusCode::SERVICE_UNAVAILABLE, if reasons.is_empty() { "starting\n".to_owned() } else { reasons })
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpStream;
    use tokio::sync::oneshot;

    use super::*;

    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn each_endpoint_says_its_part() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (publish, status) = watch::channel(Status::default());
        let heartbeat = Heartbeat::new();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = serve(listener, status, Metrics::new(), heartbeat.clone(), async {
            let _ = stopped.await;
        });
        let server = tokio::spawn(served);

        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("starting\n"), "{answer}");
        publish.send_modify(|status| status.reasons = vec!["one".to_owned(), "two".to_owned()]);
        let answer = get(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.ends_with("\r\n\r\none\ntwo\n"), "{answer}");
        publish.send_modify(|status| status.ready = true);
        assert!(get(address, "/readyz").await.starts_with("HTTP/1.1 200 "));

        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "));
        heartbeat.0.last.fetch_sub(PATIENCE + 1, Ordering::Relaxed);
        let answer = get(address, "/healthz").await;
        assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("has not ticked for"), "{answer}");
        heartbeat.0.last.fetch_add(10 * PATIENCE, Ordering::Relaxed);
        assert!(get(address, "/healthz").await.starts_with("HTTP/1.1 200 "), "the clock was set back");

        let answer = get(address, "/metrics").await;
        assert!(answer.contains(metrics::CONTENT_TYPE) && answer.ends_with("# EOF\n"), "{answer}");
        assert!(answer.contains("portcullis_ready 1\n"), "as the status is now: {answer}");
        assert!(get(address, "/").await.starts_with("HTTP/1.1 404 "));

        stop.send(()).unwrap();
        server.await.unwrap().unwrap();
    }
}
