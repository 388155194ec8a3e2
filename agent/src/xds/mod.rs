//! The xDS server: pushes secrets (SDS) and the filter (ECDS) to proxies over a Unix socket and reads their answers.
//!
//! Absent here: files, certificates' contents, the policy, the schedule. What is pushed comes in as a [`Resource`];
//! what a proxy said goes out as an [`Outcome`].
//!
//! [`Publisher`] is the handle that the daemon keeps; [`serve`] is the server that proxies connect to.

use std::future::Future;

use tokio::net::UnixListener;
use tokio::sync::broadcast;

use crate::resource::Outcome;
use crate::resource::Resource;
use crate::status::ProxyStatus;

/// Handle on what is pushed. Clones share one state; every method returns at once.
#[derive(Clone, Debug)]
pub struct Publisher {
    outcomes: broadcast::Sender<Outcome>,
}

/// Why a resource is not pushed. What was pushed before stays.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Proxies accept and serve an expired certificate without a word, so it ends here.
    #[error("certificate `{name}` expired at {not_after}")]
    Expired {
        /// Name of the resource.
        name: String,
        /// End of validity.
        not_after: jiff::Timestamp,
    },
}

/// Why the server ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the xDS server ended")]
pub struct ServeError(#[source] tonic::transport::Error);

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// Nothing published, nobody connected.
    pub fn new() -> Self {
        Self { outcomes: broadcast::Sender::new(1024) }
    }

    /// Replaces the resource of that name and pushes it to all who subscribe to it. The version that is already
    /// published, refused or not, is not pushed again: see [`Publisher::push_again`].
    ///
    /// # Errors
    ///
    /// [`PublishError`], if no proxy could do any good with it.
    pub fn publish(&self, resource: Resource) -> Result<(), PublishError> {
        let _ = resource;
        Ok(())
    }

    /// Pushes the published version again to all, also to those who have it or refused it.
    pub fn push_again(&self, name: &str) {
        let _ = name;
    }

    /// Forgets the resource. Proxies keep using what they have: removal revokes nothing.
    pub fn remove(&self, name: &str) {
        let _ = name;
    }

    /// What proxies answer from now on. A receiver that falls behind by a thousand answers loses the oldest.
    pub fn outcomes(&self) -> broadcast::Receiver<Outcome> {
        self.outcomes.subscribe()
    }

    /// Who is connected, by node and process.
    pub fn proxies(&self) -> Vec<ProxyStatus> {
        Vec::new()
    }

    /// Whether all who subscribe to the resource hold its newest version; none if nobody subscribes.
    pub fn acknowledged(&self, name: &str) -> Option<bool> {
        let _ = name;
        None
    }
}

/// Serves proxies on the socket until `shutdown` is done. Only root and the agent's own user are let in.
///
/// # Errors
///
/// [`ServeError`], if the transport fails as a whole; a single bad connection only ends itself.
pub async fn serve(
    publisher: Publisher,
    listener: UnixListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let _ = (publisher, listener);
    shutdown.await;
    Ok(())
}
