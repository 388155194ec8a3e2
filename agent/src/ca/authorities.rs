//! The roots as they are now: which are trusted, and which one signs.

use std::sync::Arc;

use tokio::sync::watch;

use super::Authority;
use crate::issuer::Roots;

/// Handle on the roots. Clones share one state; what it says is whole at any moment.
#[derive(Clone)]
pub struct Authorities(Arc<watch::Sender<Standing>>);

#[derive(Clone)]
struct Standing {
    /// Oldest first.
    trusted: Vec<Arc<Authority>>,
    issuing: Arc<Authority>,
    /// Of those that are trusted.
    roots: Arc<Roots>,
    /// Of the one that signs.
    signing: Arc<Roots>,
}

impl From<Arc<Authority>> for Authorities {
    fn from(only: Arc<Authority>) -> Self {
        Self(Arc::new(watch::Sender::new(Standing::new(vec![Arc::clone(&only)], only))))
    }
}

impl Standing {
    fn new(trusted: Vec<Arc<Authority>>, issuing: Arc<Authority>) -> Self {
        let roots = Roots::these(trusted.iter().map(|authority| authority.der().clone()).collect());
        let signing = Roots::these(vec![issuing.der().clone()]);
        Self { trusted, issuing, roots: Arc::new(roots), signing: Arc::new(signing) }
    }
}

impl Authorities {
    /// The roots that are trusted, oldest first, and the one among them that signs.
    pub fn new(trusted: Vec<Arc<Authority>>, issuing: Arc<Authority>) -> Self {
        Self(Arc::new(watch::Sender::new(Standing::new(trusted, issuing))))
    }

    /// Replaces all of it at once.
    pub(crate) fn set(&self, trusted: Vec<Arc<Authority>>, issuing: Arc<Authority>) {
        self.0.send_replace(Standing::new(trusted, issuing));
    }

    /// Changes whenever the roots do.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.0.subscribe())
    }

    /// Who signs.
    pub fn issuing(&self) -> Arc<Authority> {
        Arc::clone(&self.0.borrow().issuing)
    }

    /// Who is trusted, oldest first.
    pub fn trusted(&self) -> Vec<Arc<Authority>> {
        self.0.borrow().trusted.clone()
    }

    /// What certificates of this CA lead to.
    pub fn roots(&self) -> Arc<Roots> {
        Arc::clone(&self.0.borrow().roots)
    }

    /// What certificates that are signed now lead to.
    pub(crate) fn signing(&self) -> Arc<Roots> {
        Arc::clone(&self.0.borrow().signing)
    }

    /// The roots that are trusted, PEM, oldest first.
    pub fn pem(&self) -> String {
        self.0.borrow().trusted.iter().map(|authority| authority.pem()).collect()
    }
}

/// Tells when the roots are others.
pub(crate) struct Changes(watch::Receiver<Standing>);

impl Changes {
    /// Waits until they are others than at the last call.
    pub(crate) async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could change them.
            std::future::pending::<()>().await;
        }
    }
}
