//! What several of the tests need.

use std::net::SocketAddr;
use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use portcullis::credential::target::Place;
use portcullis::credential::target::Setting;
use portcullis::credential::target::Target;
use portcullis::credential::target::TargetError;
use portcullis::errors::chain;
use portcullis::secret::Secret;
use tokio::net::TcpListener;

/// The agent, where nothing else is said.
pub(crate) const OWNER: &str = "edge-1";
/// What nobody would take for anything else.
pub(crate) const FIRST: &str = "first-s3cret'\"\\of-the-tests";
pub(crate) const SECOND: &str = "second-s3cret-öf-the-tests";
/// For a server that answers.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// For one that does not.
pub(crate) const SHORT: Duration = Duration::from_millis(300);

pub(crate) fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

pub(crate) fn at(address: SocketAddr) -> Place {
    Place::Tcp { host: address.ip().to_string(), port: address.port(), tls: None }
}

pub(crate) fn file(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

pub(crate) async fn set(target: &Target, account: &str, new: &str, known: &[&str]) -> Result<(), TargetError> {
    set_by(target, OWNER, account, new, known).await
}

pub(crate) async fn set_by(
    target: &Target,
    owner: &str,
    account: &str,
    new: &str,
    known: &[&str],
) -> Result<(), TargetError> {
    let known: Vec<Secret> = known.iter().map(|text| secret(text)).collect();
    let secret = secret(new);
    target.set(&Setting { account, secret: &secret, known: &known, until: None, owner }).await
}

/// The error's code, if none of the secrets is in its text.
pub(crate) fn refused<T: std::fmt::Debug>(answer: Result<T, TargetError>) -> &'static str {
    let error = answer.expect_err("refused");
    let text = format!("{} {error:?}", chain(&error));
    for secret in [FIRST, SECOND] {
        assert!(!text.contains(secret), "a secret is told: {text}");
    }
    error.code()
}

/// A server that takes connections and says nothing, for as long as the listener is held.
pub(crate) async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    (listener, address)
}
