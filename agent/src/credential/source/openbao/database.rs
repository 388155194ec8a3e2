//! The database engine: accounts that it makes and takes away, and accounts whose password it changes.

use jiff::SignedDuration;
use jiff::Timestamp;
use reqwest::Method;
use reqwest::StatusCode;
use serde_json::Value;
use serde_json::json;

use super::BaoSettings;
use super::Engine;
use super::after;
use super::earlier;
use super::secret;
use super::text;
use crate::credential::material::Material;
use crate::credential::source::Lease;
use crate::credential::source::Obtained;
use crate::credential::source::SourceError;
use crate::openbao::BaoError;

const NAME: &str = "an account in `data.username`";
const PASSWORD: &str = "a password in `data.password`";
const LEASE: &str = "a lease in `lease_id` and `lease_duration`";
const RENEWAL: &str = "sys/leases/renew";
const REVOCATION: &str = "sys/leases/revoke";
/// With less than this left, a static role's password would be gone before anybody uses it.
const LEAST: u64 = 2;

/// A role that gives another account each time.
pub(in super::super) struct Database(Engine);

/// A role for one account.
pub(in super::super) struct Static(Engine);

impl Database {
    pub(in super::super) fn new(settings: BaoSettings) -> Result<Self, SourceError> {
        Engine::new(settings).map(Self)
    }

    /// The server that lends.
    pub(in super::super) fn place(&self) -> &str {
        &self.0.place
    }

    pub(in super::super) async fn obtain(&self) -> Result<Obtained, SourceError> {
        let path = self.0.path("creds");
        let since = Timestamp::now();
        let answer = self.0.hold(&path).await?;
        let malformed = || SourceError::Malformed { place: path.clone(), wanted: LEASE };
        let seconds = answer.body.get("lease_duration").and_then(Value::as_u64).ok_or_else(malformed)?;
        if seconds == 0 {
            return Err(SourceError::Expired { place: path });
        }
        let account = text(&answer.body, "/data/username", &path, NAME)?;
        let password = text(&answer.body, "/data/password", &path, PASSWORD)?;
        let lease = Lease {
            id: text(&answer.body, "/lease_id", &path, LEASE)?,
            renewable: answer.body.get("renewable").and_then(Value::as_bool).unwrap_or(false),
            login: answer.login.accessor,
        };
        Ok(Obtained {
            id: account.clone(),
            material: Material { account: Some(account), secret: secret(password, &path)? },
            not_after: earlier(after(since, seconds), answer.login.ends),
            lease: Some(lease),
        })
    }

    pub(in super::super) async fn renew(&self, lease: &Lease) -> Result<Option<Timestamp>, SourceError> {
        // The login comes first. One that was begun since then cannot keep what the one before was lent.
        let login = self.0.bao.stay().await.map_err(SourceError::Bao)?;
        if !lease.renewable || lease.login.is_none() || lease.login != login.accessor {
            return Ok(None);
        }
        let since = Timestamp::now();
        let answer = self.0.bao.ask_holding(Method::POST, RENEWAL, Some(&json!({ "lease_id": lease.id }))).await;
        let answer = answer.map_err(gone)?;
        // Refused, and logged in again: what was lent is gone with the login.
        if lease.login != answer.login.accessor {
            return Ok(None);
        }
        let seconds = answer.body.get("lease_duration").and_then(Value::as_u64);
        let seconds = seconds.ok_or(SourceError::Malformed { place: RENEWAL.to_owned(), wanted: LEASE })?;
        Ok(earlier(after(since, seconds), answer.login.ends))
    }

    pub(in super::super) async fn revoke(&self, lease: &Lease) -> Result<(), SourceError> {
        let body = json!({ "lease_id": lease.id, "sync": true });
        match self.0.bao.ask_holding(Method::POST, REVOCATION, Some(&body)).await.map_err(gone) {
            Ok(_) | Err(SourceError::LeaseGone) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Static {
    pub(in super::super) fn new(settings: BaoSettings) -> Result<Self, SourceError> {
        Engine::new(settings).map(Self)
    }

    pub(in super::super) async fn obtain(&self) -> Result<Obtained, SourceError> {
        let path = self.0.path("static-creds");
        let since = Timestamp::now();
        let answer = self.0.read(&path).await?.body;
        let wanted = "`data.ttl`, the seconds to its next rotation";
        let malformed = || SourceError::Malformed { place: path.clone(), wanted };
        let seconds = answer.pointer("/data/ttl").and_then(Value::as_u64).ok_or_else(malformed)?;
        let not_after = after(since, seconds);
        if seconds < LEAST {
            let until = not_after.unwrap_or(since) + SignedDuration::from_secs(1);
            return Err(SourceError::Rotating { path, until });
        }
        let account = text(&answer, "/data/username", &path, NAME)?;
        let password = text(&answer, "/data/password", &path, PASSWORD)?;
        let id = rotated(&answer, &path)?;
        let material = Material { account: Some(account), secret: secret(password, &path)? };
        Ok(Obtained { material, not_after, lease: None, id })
    }

    pub(in super::super) async fn current_id(&self) -> Result<String, SourceError> {
        let path = self.0.path("static-creds");
        rotated(&self.0.read(&path).await?.body, &path)
    }
}

fn rotated(answer: &Value, path: &str) -> Result<String, SourceError> {
    let at = text(answer, "/data/last_vault_rotation", path, "`data.last_vault_rotation`")?;
    Ok(format!("rotated {}", at.chars().filter(|letter| !letter.is_control()).take(40).collect::<String>()))
}

/// A lease that the server does not know, or that it will not prolong, is over for us.
fn gone(error: BaoError) -> SourceError {
    match &error {
        BaoError::Refused { status: StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND, words, .. }
            if words.contains("lease not found") || words.contains("invalid lease") || words.contains("expired") =>
        {
            SourceError::LeaseGone
        }
        _ => SourceError::Bao(error),
    }
}
