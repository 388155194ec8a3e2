//! The command line's end of the control socket.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use axum::http::Method;
use axum::http::Request;
use axum::http::header::CONTENT_TYPE;
use axum::http::header::HOST;
use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::command::CommandError;
use crate::command::Insistence;
use crate::command::IssueRequest;
use crate::command::Issued;
use crate::command::Rehearsal;
use crate::command::Renewed;
use crate::command::RootsAsk;
use crate::control;
use crate::control::CredentialRequest;
use crate::control::RehearseRequest;
use crate::control::RenewRequest;
use crate::control::RollbackRequest;
use crate::control::VerifyRequest;
use crate::credential::Given;
use crate::credential::Rotated;
use crate::revocation::ChangeRequest;
use crate::revocation::Changed;
use crate::revocation::Revoked;
use crate::status::Status;

/// Speaks to a running agent.
#[derive(Clone, Debug)]
pub struct ControlClient {
    socket: PathBuf,
    patience: Option<Duration>,
}

/// Why the agent could not be asked, or would not do it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The agent understood and answered with an error.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The socket belongs to somebody else.
    #[error("may not connect to `{}`: run this as the agent's user or as root", socket.display())]
    Denied {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What came back is not what this version understands.
    #[error("the agent at `{}` answered something else than expected", socket.display())]
    Garbled {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The connection broke.
    #[error("the agent at `{}` broke off the connection", socket.display())]
    Interrupted {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// Nobody listens on the socket.
    #[error("cannot connect to `{}`: is the agent running? start it with `portcullis run`", socket.display())]
    NotRunning {
        /// The socket.
        socket: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error(
        "the agent at `{}` did not answer within {after:?}; what it was asked for may still go on: look at its log, or \
         wait longer with `--timeout`", socket.display()
    )]
    TimedOut {
        /// The socket.
        socket: PathBuf,
        /// How long was waited.
        after: Duration,
    },
}

impl ControlClient {
    /// For the agent that listens on this socket. Connects anew for each request.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, patience: None }
    }

    /// Gives up on every request that takes longer, from connecting to the last byte.
    #[must_use]
    pub fn within(self, patience: Duration) -> Self {
        Self { patience: Some(patience), ..self }
    }

    /// What the agent says of itself.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn status(&self) -> Result<Status, ControlError> {
        self.send(Method::GET, control::STATUS, &()).await
    }

    /// Renews now. Returns when the new certificate is proven served.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn renew(&self, name: String, insistence: Insistence) -> Result<Renewed, ControlError> {
        self.send(Method::POST, control::RENEW, &RenewRequest { name, insistence }).await
    }

    /// Tries a whole order where it does not count. Returns what came of it.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn rehearse(&self, name: String) -> Result<Rehearsal, ControlError> {
        self.send(Method::POST, control::REHEARSE, &RehearseRequest { name }).await
    }

    /// Puts the certificate before the stored one in its place. Returns when it is proven served.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn rollback(&self, name: String) -> Result<Renewed, ControlError> {
        self.send(Method::POST, control::ROLLBACK, &RollbackRequest { name }).await
    }

    /// Reads a credential.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn read_credential(&self, request: &CredentialRequest) -> Result<Given, ControlError> {
        self.send(Method::POST, control::READ_CREDENTIAL, request).await
    }

    /// Has a credential rotated. Returns when everybody has the new one.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn rotate_credential(&self, request: &CredentialRequest) -> Result<Rotated, ControlError> {
        self.send(Method::POST, control::ROTATE_CREDENTIAL, request).await
    }

    /// Has the listeners looked at now, and returns the picture after it.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn verify(&self, name: Option<String>) -> Result<Status, ControlError> {
        self.send(Method::POST, control::VERIFY, &VerifyRequest { name }).await
    }

    /// Has a certificate issued for somebody else.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn issue(&self, request: &IssueRequest) -> Result<Issued, ControlError> {
        self.send(Method::POST, control::ISSUE, request).await
    }

    /// Has one root of the built-in CA follow another. Returns when that is begun; the status says how it goes.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn roots(&self, ask: &RootsAsk) -> Result<(), ControlError> {
        self.send(Method::POST, control::ROOTS, ask).await
    }

    /// Revokes, or takes back. Returns when proxies took it.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn change(&self, request: &ChangeRequest) -> Result<Changed, ControlError> {
        self.send(Method::POST, control::REVOCATIONS, request).await
    }

    /// Everything that is revoked.
    ///
    /// # Errors
    ///
    /// [`ControlError`].
    pub async fn revoked(&self) -> Result<Revoked, ControlError> {
        self.send(Method::GET, control::REVOCATIONS, &()).await
    }

    async fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, ControlError> {
        let exchange = self.exchange(method, path, body);
        match self.patience {
            None => exchange.await,
            Some(after) => tokio::time::timeout(after, exchange)
                .await
                .unwrap_or_else(|_| Err(ControlError::TimedOut { socket: self.socket.clone(), after })),
        }
    }

    async fn exchange<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &B,
    ) -> Result<T, ControlError> {
        let interrupted = |source| ControlError::Interrupted { socket: self.socket.clone(), source };
        let garbled = |source| ControlError::Garbled { socket: self.socket.clone(), source };

        let stream = UnixStream::connect(&self.socket).await.map_err(|source| self.unreachable(source))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(interrupted)?;
        // Ends with the request; its error is the request's as well.
        tokio::spawn(connection);
        let body = Bytes::from(serde_json::to_vec(body).map_err(garbled)?);
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        request.headers_mut().insert(HOST, "portcullis".parse().expect("a host name is a header value"));
        request.headers_mut().insert(CONTENT_TYPE, "application/json".parse().expect("a type is a header value"));
        let response = sender.send_request(request).await.map_err(interrupted)?;
        let succeeded = response.status().is_success();
        let answer = response.into_body().collect().await.map_err(interrupted)?.to_bytes();
        if succeeded {
            serde_json::from_slice(&answer).map_err(garbled)
        } else {
            Err(ControlError::Command(serde_json::from_slice(&answer).map_err(garbled)?))
        }
    }

    fn unreachable(&self, source: io::Error) -> ControlError {
        let socket = self.socket.clone();
        match source.kind() {
            io::ErrorKind::PermissionDenied => ControlError::Denied { socket, source },
            _ => ControlError::NotRunning { socket, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::UnixListener;
    use tokio::sync::mpsc;
    use tokio::sync::watch;

    use std::sync::Arc;

    use super::*;
    use crate::command::Command;
    use crate::command::Usage;
    use crate::config;
    use crate::credential::Handle;
    use crate::revocation;
    use crate::revocation::Change;
    use crate::revocation::Mode;
    use crate::revocation::Revoker;
    use crate::revocation::Target;
    use crate::store::LocalStore;
    use crate::store::Store;

    /// A loop that knows one certificate and answers at once.
    async fn answer(mut commands: mpsc::Receiver<Command>) {
        while let Some(command) = commands.recv().await {
            match command {
                Command::Renew { name, reply, .. } if name == "gateway" => {
                    let renewed =
                        Renewed { name, old_serial: None, new_serial: "2a".to_owned(), issued_to_served_ms: Some(7) };
                    reply.send(Ok(renewed)).unwrap();
                }
                Command::Renew { name, reply, .. } | Command::Rollback { name, reply } => {
                    reply.send(Err(CommandError::UnknownName { name, known: "`gateway`".to_owned() })).unwrap();
                }
                Command::Rehearse { name, reply } => {
                    let what = format!("orders of `{name}` cannot be rehearsed");
                    reply.send(Err(CommandError::Invalid { what })).unwrap();
                }
                Command::Verify { name, reply } => {
                    assert_eq!(name, None);
                    reply.send(Ok(())).unwrap();
                }
                // As if the loop ended in the middle of it.
                Command::Issue { .. } | Command::Roots { .. } => {}
            }
        }
    }

    fn start() -> (tempfile::TempDir, ControlClient, watch::Sender<Status>) {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let (sender, commands) = mpsc::channel(1);
        let (publish, status) = watch::channel(Status::default());
        tokio::spawn(answer(commands));
        let store: Arc<dyn Store> = Arc::new(LocalStore::open(&directory.path().join("store.redb")).unwrap().store);
        let revoker =
            Revoker::open(revocation::Context::alone(store, directory.path()), &config::Revocation::default()).unwrap();
        tokio::spawn(control::serve(listener, sender, status, (revoker, Handle::default()), std::future::pending()));
        (directory, ControlClient::new(socket), publish)
    }

    #[tokio::test]
    async fn requests_and_answers_survive_the_way() {
        let (_directory, client, publish) = start();
        publish.send_modify(|status| status.reasons = vec!["starting".to_owned()]);
        assert_eq!(client.status().await.unwrap().reasons, ["starting"]);
        assert_eq!(client.verify(None).await.unwrap().reasons, ["starting"]);
        let renewed = client.renew("gateway".to_owned(), Insistence::default()).await.unwrap();
        assert_eq!((renewed.new_serial.as_str(), renewed.issued_to_served_ms), ("2a", Some(7)));
    }

    #[tokio::test]
    async fn an_error_of_the_loop_arrives_as_it_is() {
        let (_directory, client, _publish) = start();
        let error = client.renew("gatway".to_owned(), Insistence::default()).await.unwrap_err();
        assert_eq!(error.to_string(), "no certificate is called `gatway`; the configuration has `gateway`");
        let request = IssueRequest {
            spiffe: None,
            dns: Vec::new(),
            ip: Vec::new(),
            usage: vec![Usage::Client],
            lifetime_seconds: 1,
        };
        let error = client.issue(&request).await.unwrap_err();
        assert!(error.to_string().contains("the agent is stopping"), "{error}");
    }

    #[tokio::test]
    async fn a_hundred_thousand_targets_fit_into_one_request() {
        let (_directory, client, _publish) = start();
        let target = |number: u32| Target::identity(&format!("dns:{number:0200}")).unwrap();
        let request = ChangeRequest {
            change: Change::Revoke,
            targets: (0..100_000).map(target).collect(),
            reason: "all of them".to_owned(),
            mode: Mode::DryRun,
            patience: 0,
        };
        assert_eq!(client.change(&request).await.unwrap().changed, 100_000);
        assert_eq!(client.revoked().await.unwrap().operator, []);
    }

    #[tokio::test]
    async fn an_agent_that_does_not_run_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        for stale in [false, true] {
            if stale {
                drop(UnixListener::bind(&socket).unwrap());
            }
            let error = ControlClient::new(socket.clone()).status().await.unwrap_err();
            assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");
            let text = error.to_string();
            assert!(text.contains("control.sock") && text.contains("portcullis run"), "{text}");
        }
    }

    #[tokio::test]
    async fn an_agent_that_hangs_is_given_up_on() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("control.sock");
        // Takes connections, as the kernel does for it, and never reads.
        let _hanging = UnixListener::bind(&socket).unwrap();
        let client = ControlClient::new(socket).within(Duration::from_millis(20));
        for error in [
            client.status().await.map(drop).unwrap_err(),
            client.verify(None).await.map(drop).unwrap_err(),
            client.renew("gateway".to_owned(), Insistence::default()).await.map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, ControlError::TimedOut { .. }), "{error}");
            assert!(error.to_string().contains("within 20ms") && error.to_string().contains("--timeout"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_malformed_request_is_answered_with_the_reason() {
        let (_directory, client, _publish) = start();
        let mut stream = UnixStream::connect(&client.socket).await.unwrap();
        let body = r#"{"nam":"gateway"}"#;
        let request = format!(
            "POST {} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            control::RENEW,
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("unknown field `nam`"), "{answer}");
    }
}
