//! Getting in, and staying in.

use std::fs;
use std::path::Path;
use std::time::Duration;

use portcullis_policy::UnixTime;
use reqwest::Client;
use reqwest::Identity;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::BaoError;
use super::Login;
use super::OpenBao;
use super::Standing;
use super::api;
use crate::leaf;
use crate::secret::Secret;

/// A token is renewed when this part of its life is left.
const PART_LEFT: u32 = 3;

/// A login that holds.
pub(super) struct Session {
    token: Secret,
    /// What the server calls it; a renewal may leave it out.
    accessor: Option<String>,
    renewable: bool,
    /// How many seconds it had when it was new; none for one without an end.
    full: Option<u64>,
    /// When to renew it; the same.
    renew_at: Option<Instant>,
    /// When it ends; the same.
    ends: Option<UnixTime>,
}

impl OpenBao {
    /// A token that is good for a while: the one there is, renewed if its end is near, or that of a new login.
    pub(super) async fn token(&self, session: &mut Option<Session>) -> Result<Secret, BaoError> {
        let is_good = |session: &&mut Session| session.renew_at.is_none_or(|at| Instant::now() < at);
        if let Some(session) = session.as_mut().filter(is_good) {
            return Ok(session.token.clone());
        }
        if let Some(old) = session.take().filter(|old| old.renewable) {
            let (path, full) = ("auth/token/renew-self", old.full);
            match self.ask_with(&old.token, Method::POST, path, Some(&json!({}))).await {
                Ok(answer) => {
                    let renewed = session_of(&answer, Some(old), path)?;
                    // Near the end of what it may be renewed to, it is no ground for anything that is lent to it.
                    if renewed.full >= full.map(|full| full / 2) {
                        return Ok(session.insert(Session { full, ..renewed }).token.clone());
                    }
                    tracing::info!("the login is near its longest life and begun again");
                }
                // It may be good for a while yet, and what was lent to it with it.
                Err(error) if error.is_passing() => {
                    *session = Some(old);
                    return Err(error);
                }
                // From scratch, then.
                Err(error) => tracing::warn!(error = crate::errors::chain(&error), "the login was not renewed"),
            }
        }
        let new = self.log_in().await?;
        Ok(session.insert(new).token.clone())
    }

    async fn log_in(&self) -> Result<Session, BaoError> {
        match &self.server.login {
            Login::Token { file } => {
                let token = read_secret(file)?;
                let path = "auth/token/lookup-self";
                let answer = self.ask_with(&token, Method::GET, path, None).await?;
                let data = answer.get("data").unwrap_or(&Value::Null);
                Ok(Session::new(token, data, "ttl"))
            }
            Login::AppRole { mount, role_id, secret_id } => {
                let secret = read_secret(secret_id)?;
                let body = json!({ "role_id": role_id, "secret_id": secret.expose() });
                self.log_in_at(self.client(None)?, &format!("auth/{mount}/login"), &body).await
            }
            Login::Certificate { mount, role, certificate, key } => {
                let mut pem = Zeroizing::new(read(certificate)?);
                pem.extend_from_slice(&Zeroizing::new(read(key)?));
                let identity = Identity::from_pem(&pem).map_err(|source| BaoError::ClientPair {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    source,
                })?;
                let body = role.as_ref().map_or_else(|| json!({}), |role| json!({ "name": role }));
                self.log_in_at(self.client(Some(identity))?, &format!("auth/{mount}/login"), &body).await
            }
        }
    }

    async fn log_in_at(&self, client: Client, path: &str, body: &Value) -> Result<Session, BaoError> {
        let answer = api::ask(&self.server, &client, None, Method::POST, path, Some(body)).await?;
        session_of(&answer, None, path)
    }
}

impl Session {
    fn new(token: Secret, said: &Value, lease: &str) -> Self {
        let seconds = said.get(lease).and_then(Value::as_u64).filter(|seconds| *seconds > 0);
        let lease = seconds.map(Duration::from_secs);
        let text = |name: &str| said.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        Self {
            token,
            accessor: text("accessor").map(str::to_owned),
            renewable: said.get("renewable").and_then(Value::as_bool).unwrap_or(false),
            full: seconds,
            // An end that no clock holds is none.
            renew_at: lease.and_then(|lease| Instant::now().checked_add(lease - lease / PART_LEFT)),
            ends: seconds
                .and_then(|seconds| i64::try_from(seconds).ok())
                .and_then(|seconds| leaf::now().0.checked_add(seconds))
                .map(UnixTime),
        }
    }

    pub(super) fn standing(&self) -> Standing {
        Standing { accessor: self.accessor.clone(), ends: self.ends }
    }
}

/// What a login or a renewal answered; a renewal may leave out what has not changed.
fn session_of(answer: &Value, old: Option<Session>, path: &str) -> Result<Session, BaoError> {
    let malformed = || BaoError::Malformed { path: path.to_owned(), wanted: "a token in `auth.client_token`" };
    let auth = answer.get("auth").filter(|auth| auth.is_object()).ok_or_else(malformed)?;
    let token = auth.get("client_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let (old_token, accessor) = old.map(|old| (old.token, old.accessor)).unzip();
    let token = token.map(|token| Secret::new(token.to_owned())).or(old_token).ok_or_else(malformed)?;
    let mut session = Session::new(token, auth, "lease_duration");
    session.accessor = session.accessor.or_else(|| accessor.flatten());
    Ok(session)
}

fn read(path: &Path) -> Result<Vec<u8>, BaoError> {
    fs::read(path).map_err(|source| BaoError::Read { path: path.to_owned(), source })
}

fn read_secret(path: &Path) -> Result<Secret, BaoError> {
    Secret::read(path).map_err(|source| BaoError::Read { path: path.to_owned(), source })
}
