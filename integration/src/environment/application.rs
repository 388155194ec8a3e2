//! An application that holds no credentials: it speaks plain HTTP to a port of its own machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Request;
use hyper::header::HOST;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::Seen;

/// Longer than anything takes that is not broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// The application. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct Application {
    client: Client<HttpConnector, Full<Bytes>>,
    way_out: SocketAddr,
}

/// An application at work. Dropped, it stops at once.
#[derive(Debug)]
pub struct Work {
    workers: JoinSet<()>,
    stop: Arc<AtomicBool>,
    tally: Arc<Mutex<BTreeMap<String, u64>>>,
}

impl Application {
    /// One that goes out by this port.
    pub fn new(way_out: SocketAddr) -> Self {
        Self { client: Client::builder(TokioExecutor::new()).build_http(), way_out }
    }

    /// Asks, with these headers of its own. Answers with the status and what the service says that it saw, if it was the service
    /// that answered.
    ///
    /// # Errors
    ///
    /// A word for it, to count by.
    pub async fn ask(&self, path: &str, headers: &[(&str, &str)]) -> Result<(u16, Option<Seen>), String> {
        let mut request = Request::builder().uri(format!("http://{}{path}", self.way_out)).header(HOST, "app");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::default()).map_err(|_| "request impossible".to_owned())?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|error| format!("no answer: {error}"))?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|_| "connection broke".to_owned())?.to_bytes();
            Ok((status, serde_json::from_slice(&body).ok()))
        };
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or_else(|_| Err("no answer".to_owned()))
    }

    /// Asks again and again, so many at once.
    pub fn work(&self, path: &'static str, at_once: usize, every: Duration) -> Work {
        let (stop, tally) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(BTreeMap::new())));
        let mut workers = JoinSet::new();
        for _ in 0..at_once {
            let (this, stop, tally) = (self.clone(), Arc::clone(&stop), Arc::clone(&tally));
            workers.spawn(async move {
                let mut beat = tokio::time::interval(every);
                beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
                while !stop.load(Ordering::Relaxed) {
                    beat.tick().await;
                    let kind = match this.ask(path, &[]).await {
                        Ok((status, _)) => status.to_string(),
                        Err(error) => error,
                    };
                    *tally.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
                }
            });
        }
        Work { workers, stop, tally }
    }
}

impl Work {
    /// Lets what is under way come to its end, and says how often each answer came.
    pub async fn stop(mut self) -> BTreeMap<String, u64> {
        self.stop.store(true, Ordering::Relaxed);
        while self.workers.join_next().await.is_some() {}
        self.so_far()
    }

    /// How often each answer came so far.
    pub fn so_far(&self) -> BTreeMap<String, u64> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
