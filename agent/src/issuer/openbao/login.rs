//! Getting in, and staying in.

use std::fs;
use std::path::Path;
use std::time::Duration;

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
use super::api;
use crate::secret::Secret;

/// A token is renewed when this part of its life is left.
const PART_LEFT: u32 = 3;

/// A login that holds.
pub(super) struct Session {
    token: Secret,
    renewable: bool,
    /// When to renew it; none for one without an end.
    renew_at: Option<Instant>,
}

impl OpenBao {
    /// A token that is good for a while: the one there is, renewed if its end is near, or that of a new login.
    pub(super) async fn token(&self, session: &mut Option<Session>) -> Result<Secret, BaoError> {
        let is_good = |session: &&mut Session| session.renew_at.is_none_or(|at| Instant::now() < at);
        if let Some(session) = session.as_mut().filter(is_good) {
            return Ok(session.token.clone());
        }
        if let Some(old) = session.take().filter(|old| old.renewable) {
            match self.ask(&old.token, Method::POST, "auth/token/renew-self", Some(&json!({}))).await {
                Ok(answer) => {
                    let renewed = session.insert(session_of(&answer, Some(old.token), "auth/token/renew-self")?);
                    return Ok(renewed.token.clone());
                }
                // From scratch, then.
                Err(error) => tracing::warn!(error = crate::errors::chain(&error), "the login was not renewed"),
            }
        }
        let new = self.log_in().await?;
        Ok(session.insert(new).token.clone())
    }

    async fn log_in(&self) -> Result<Session, BaoError> {
        match &self.settings.login {
            Login::Token { file } => {
                let token = read_secret(file)?;
                let path = "auth/token/lookup-self";
                let answer = self.ask(&token, Method::GET, path, None).await?;
                let data = answer.get("data").unwrap_or(&Value::Null);
                Ok(Session::new(token, data.get("ttl"), data.get("renewable")))
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
        let answer = api::ask(&self.settings, &client, None, Method::POST, path, Some(body)).await?;
        session_of(&answer, None, path)
    }
}

impl Session {
    fn new(token: Secret, lease: Option<&Value>, renewable: Option<&Value>) -> Self {
        let lease = lease.and_then(Value::as_u64).filter(|seconds| *seconds > 0).map(Duration::from_secs);
        // An end that no clock holds is none.
        let renew_at = lease.and_then(|lease| Instant::now().checked_add(lease - lease / PART_LEFT));
        Self { token, renewable: renewable.and_then(Value::as_bool).unwrap_or(false), renew_at }
    }
}

/// What a login or a renewal answered; a renewal may leave the token out.
fn session_of(answer: &Value, old: Option<Secret>, path: &str) -> Result<Session, BaoError> {
    let malformed = || BaoError::Malformed { path: path.to_owned(), wanted: "a token in `auth.client_token`" };
    let auth = answer.get("auth").filter(|auth| auth.is_object()).ok_or_else(malformed)?;
    let token = auth.get("client_token").and_then(Value::as_str).filter(|token| !token.is_empty());
    let token = token.map(|token| Secret::new(token.to_owned())).or(old).ok_or_else(malformed)?;
    Ok(Session::new(token, auth.get("lease_duration"), auth.get("renewable")))
}

fn read(path: &Path) -> Result<Vec<u8>, BaoError> {
    fs::read(path).map_err(|source| BaoError::Read { path: path.to_owned(), source })
}

fn read_secret(path: &Path) -> Result<Secret, BaoError> {
    Secret::read(path).map_err(|source| BaoError::Read { path: path.to_owned(), source })
}
