//! The control socket: HTTP with JSON over a Unix socket, for the command line. Only root and the agent's own user are
//! let in.
//!
//! `GET /v1/status` answers with the [`Status`]; `GET /v1/revocations` with what is revoked; `POST` to `/v1/renew`,
//! `/v1/rehearse`, `/v1/rollback`, `/v1/verify`, `/v1/issue`, `/v1/roots`, `/v1/credential/read`, `/v1/credential/rotate` and
//! `/v1/revocations` carry out a command and answer when it is done. An error is a [`CommandError`] with a status of 4xx or 5xx.

use std::future::Future;
use std::io;

use axum::Json;
use axum::Router;
use axum::extract::ConnectInfo;
use axum::extract::DefaultBodyLimit;
use axum::extract::FromRequest;
use axum::extract::Request;
use axum::extract::State;
use axum::extract::connect_info::Connected;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::response::Response;
use axum::routing::get;
use axum::routing::post;
use axum::serve::IncomingStream;
use axum::serve::Listener;
use serde::Deserialize;
use serde::Serialize;
use tokio::net::UnixListener;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::sync::watch;

use crate::command::Command;
use crate::command::CommandError;
use crate::command::Insistence;
use crate::command::IssueRequest;
use crate::command::Issued;
use crate::command::Rehearsal;
use crate::command::Renewed;
use crate::command::RootsAsk;
use crate::command::Urgency;
use crate::credential::Asker;
use crate::credential::Given;
use crate::credential::Handle;
use crate::credential::Rotated;
use crate::peer;
use crate::revocation::ChangeRequest;
use crate::revocation::Changed;
use crate::revocation::Revoked;
use crate::revocation::Revoker;
use crate::status::Status;

/// Path of the status.
pub const STATUS: &str = "/v1/status";
/// Path of the command to renew.
pub const RENEW: &str = "/v1/renew";
/// Path of the command to rehearse a renewal.
pub const REHEARSE: &str = "/v1/rehearse";
/// Path of the command to take one step back.
pub const ROLLBACK: &str = "/v1/rollback";
/// Path of the command to verify.
pub const VERIFY: &str = "/v1/verify";
/// Path of the command to issue.
pub const ISSUE: &str = "/v1/issue";
/// Path of what is revoked, and of the command to change it.
pub const REVOCATIONS: &str = "/v1/revocations";

/// Path of the command about the built-in CA's roots.
pub const ROOTS: &str = "/v1/roots";
/// Reads a credential.
pub const READ_CREDENTIAL: &str = "/v1/credential/read";
/// Rotates a credential.
pub const ROTATE_CREDENTIAL: &str = "/v1/credential/rotate";

/// Bytes of a request about revocations: more than the most targets that one may have.
const REVOCATIONS_MAX: usize = 32 << 20;

/// Body of a request to renew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RenewRequest {
    /// Name of the certificate.
    pub name: String,
    /// What it sets aside.
    #[serde(default)]
    pub insistence: Insistence,
}

/// Body of a request about a credential.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CredentialRequest {
    /// Name of the credential.
    pub name: String,
    /// Why, for the audit log.
    #[serde(default)]
    pub why: Option<String>,
    /// Whether a blackout is set aside.
    #[serde(default)]
    pub urgency: Urgency,
}

/// Body of a request to rehearse a renewal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RehearseRequest {
    /// Name of the certificate.
    pub name: String,
}

/// Body of a request to take one step back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Name of the certificate.
    pub name: String,
}

/// Body of a request to verify.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerifyRequest {
    /// One certificate, or all.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Clone, Debug)]
struct Loop {
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    revoker: Revoker,
    credentials: Handle,
}

/// Answers until `shutdown` is done.
///
/// # Errors
///
/// The listener's.
pub async fn serve(
    listener: UnixListener,
    commands: mpsc::Sender<Command>,
    status: watch::Receiver<Status>,
    (revoker, credentials): (Revoker, Handle),
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let router = Router::new()
        .route(STATUS, get(show))
        .route(RENEW, post(renew))
        .route(REHEARSE, post(rehearse))
        .route(ROLLBACK, post(rollback))
        .route(VERIFY, post(verify))
        .route(ISSUE, post(issue))
        .route(ROOTS, post(roots))
        .route(READ_CREDENTIAL, post(read_credential))
        .route(ROTATE_CREDENTIAL, post(rotate_credential))
        .route(REVOCATIONS, get(revoked).post(revoke).layer(DefaultBodyLimit::max(REVOCATIONS_MAX)))
        .with_state(Loop { commands, status, revoker, credentials });
    let service = router.into_make_service_with_connect_info::<Peer>();
    axum::serve(Admitting(listener), service).with_graceful_shutdown(shutdown).await
}

/// Hands out only connections of those who may connect.
struct Admitting(UnixListener);

impl Listener for Admitting {
    type Addr = Peer;
    type Io = UnixStream;

    async fn accept(&mut self) -> (UnixStream, Peer) {
        let (stream, credentials) = peer::accept(&self.0, "control").await;
        (stream, Peer { user: credentials.uid(), process: credentials.pid() })
    }

    fn local_addr(&self) -> io::Result<Peer> {
        let process = i32::try_from(std::process::id()).ok();
        Ok(Peer { user: rustix::process::geteuid().as_raw(), process })
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
struct Peer {
    user: u32,
    process: Option<i32>,
}

impl Connected<IncomingStream<'_, Admitting>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Admitting>) -> Self {
        *stream.remote_addr()
    }
}

impl Peer {
    fn asks(self, why: Option<String>) -> Asker {
        let process = self.process.map_or_else(String::new, |process| format!(", process {process}"));
        Asker { who: format!("user {}{process}", self.user), why }
    }
}

/// An error as it is answered.
struct Refusal(CommandError);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            CommandError::Blackout { .. } | CommandError::CredentialBlackout { .. } => StatusCode::CONFLICT,
            CommandError::Failed { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            CommandError::Invalid { .. } => StatusCode::BAD_REQUEST,
            CommandError::Removed { .. }
            | CommandError::UnknownCredential { .. }
            | CommandError::UnknownName { .. } => StatusCode::NOT_FOUND,
        };
        (status, Json(self.0)).into_response()
    }
}

/// A JSON body whose refusal is a [`CommandError`] as well.
struct Body<T>(T);

impl<T, S> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
    S: Send + Sync,
{
    type Rejection = Refusal;

    async fn from_request(request: Request, state: &S) -> Result<Self, Refusal> {
        match Json::from_request(request, state).await {
            Ok(Json(body)) => Ok(Self(body)),
            Err(rejection) => Err(Refusal(CommandError::Invalid { what: rejection.body_text() })),
        }
    }
}

impl Loop {
    /// Hands a command to the loop and waits for its answer, however long that takes: the client decides when to give up.
    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command,
    ) -> Result<T, Refusal> {
        let stopping = || CommandError::Failed {
            step: "handing the command over".to_owned(),
            cause: "the agent is stopping".to_owned(),
        };
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).await.map_err(|_| Refusal(stopping()))?;
        answer.await.unwrap_or_else(|_| Err(stopping())).map_err(Refusal)
    }
}

async fn show(State(state): State<Loop>) -> Json<Status> {
    Json(state.status.borrow().clone())
}

async fn renew(
    State(state): State<Loop>,
    Body(RenewRequest { name, insistence }): Body<RenewRequest>,
) -> Result<Json<Renewed>, Refusal> {
    state.ask(|reply| Command::Renew { name, insistence, reply }).await.map(Json)
}

async fn rehearse(
    State(state): State<Loop>,
    Body(RehearseRequest { name }): Body<RehearseRequest>,
) -> Result<Json<Rehearsal>, Refusal> {
    state.ask(|reply| Command::Rehearse { name, reply }).await.map(Json)
}

async fn rollback(
    State(state): State<Loop>,
    Body(RollbackRequest { name }): Body<RollbackRequest>,
) -> Result<Json<Renewed>, Refusal> {
    state.ask(|reply| Command::Rollback { name, reply }).await.map(Json)
}

async fn verify(
    State(state): State<Loop>,
    Body(VerifyRequest { name }): Body<VerifyRequest>,
) -> Result<Json<Status>, Refusal> {
    state.ask(|reply| Command::Verify { name, reply }).await?;
    Ok(show(State(state)).await)
}

async fn issue(State(state): State<Loop>, Body(request): Body<IssueRequest>) -> Result<Json<Issued>, Refusal> {
    state.ask(|reply| Command::Issue { request, reply }).await.map(Json)
}

async fn roots(State(state): State<Loop>, Body(ask): Body<RootsAsk>) -> Result<Json<()>, Refusal> {
    state.ask(|reply| Command::Roots { ask, reply }).await.map(Json)
}

async fn read_credential(
    State(state): State<Loop>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(CredentialRequest { name, why, urgency: _ }): Body<CredentialRequest>,
) -> Result<Json<Given>, Refusal> {
    state.credentials.read(name, peer.asks(why)).await.map(Json).map_err(Refusal)
}

async fn rotate_credential(
    State(state): State<Loop>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Body(CredentialRequest { name, why, urgency }): Body<CredentialRequest>,
) -> Result<Json<Rotated>, Refusal> {
    state.credentials.rotate(name, urgency, peer.asks(why)).await.map(Json).map_err(Refusal)
}

async fn revoked(State(state): State<Loop>) -> Json<Revoked> {
    Json(state.revoker.revoked())
}

async fn revoke(State(state): State<Loop>, Body(request): Body<ChangeRequest>) -> Result<Json<Changed>, Refusal> {
    state.revoker.change(request).await.map(Json).map_err(Refusal)
}
