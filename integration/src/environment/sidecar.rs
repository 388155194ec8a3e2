//! A proxy beside a client that speaks no TLS of its own: takes it in the clear on loopback, goes on over mTLS.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;
use std::time::SystemTime;

use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use super::Client;
use super::EnvironmentError;
use super::wait;

/// Dropped, it takes nobody any more, and what is open ends.
#[derive(Debug)]
pub struct Sidecar {
    address: SocketAddr,
    /// When the connections ended that did.
    ended: Arc<Mutex<Vec<SystemTime>>>,
    task: AbortHandle,
}

impl Sidecar {
    /// Goes on with everybody who comes as `client`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::Socket`].
    pub async fn start(client: Client) -> Result<Self, EnvironmentError> {
        let failed = |source| EnvironmentError::Socket { doing: "listen for a client", source };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let ended = Arc::new(Mutex::new(Vec::new()));
        let ends = Arc::clone(&ended);
        let task = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            while let Ok((mut plain, _)) = listener.accept().await {
                let (client, ends) = (client.clone(), Arc::clone(&ends));
                open.spawn(async move {
                    if let Ok(tls) = client.connect_tls().await {
                        let (mut from_client, mut to_client) = plain.split();
                        let (mut from_gate, mut to_gate) = tokio::io::split(tls);
                        // With one direction it is over, however that ended: an idle client would never close the other.
                        tokio::select! {
                            _ = tokio::io::copy(&mut from_client, &mut to_gate) => {}
                            _ = tokio::io::copy(&mut from_gate, &mut to_client) => {}
                        }
                    }
                    ends.lock().unwrap_or_else(PoisonError::into_inner).push(SystemTime::now());
                });
            }
        });
        Ok(Self { address, ended, task: task.abort_handle() })
    }

    /// Where it takes clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections have ended.
    pub fn ended(&self) -> usize {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Waits until a connection has ended that nobody here closed; when that was.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError::TimedOut`].
    pub async fn end(&self, within: Duration) -> Result<SystemTime, EnvironmentError> {
        wait::until("the connection to end", within, async || {
            let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.last().copied().ok_or("it goes on")
        })
        .await
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.task.abort();
    }
}
