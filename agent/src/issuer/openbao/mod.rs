//! The PKI engine of OpenBao or HashiCorp Vault, which speak the same API: a certificate request goes there, a chain comes
//! back. The key stays here.
//!
//! The agent's own login is renewed before it is needed: whoever cannot log in any more cannot renew anything else.

mod api;
mod login;
mod settings;

use std::io;
use std::path::PathBuf;
use std::time::Duration;
use std::time::SystemTime;

use portcullis_policy::UnixTime;
use reqwest::Client;
use reqwest::Method;
use reqwest::StatusCode;
use reqwest::header::DATE;
use serde_json::Value;
use serde_json::json;
use tokio::sync::Mutex;

pub use settings::Login;
pub use settings::Settings;

use super::Request;
use super::csr;
use super::csr::CsrError;
use crate::leaf;
use crate::secret::Secret;

use login::Session;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(30);

/// One PKI engine and how to get in.
pub struct OpenBao {
    settings: Settings,
    /// Held over a login, so that many certificates log in once.
    session: Mutex<Option<Session>>,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BaoError {
    /// The client's own certificate for the login is not a pair.
    #[error("`{}` and `{}` are not a certificate and its key in PEM", certificate.display(), key.display())]
    ClientPair {
        /// The certificate.
        certificate: PathBuf,
        /// Its key.
        key: PathBuf,
        /// The cause.
        source: reqwest::Error,
    },
    /// No connection, or none in time.
    #[error("cannot reach `{address}`")]
    Connect {
        /// Where.
        address: String,
        /// The cause.
        source: reqwest::Error,
    },
    /// The request could not be made.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// The answer is not what the API promises.
    #[error("`{path}` answered something else than {wanted}")]
    Malformed {
        /// What was asked.
        path: String,
        /// What should have come.
        wanted: &'static str,
    },
    /// A file with a secret is missing.
    #[error("cannot read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// It said no.
    #[error("`{path}` answered {status}{}{}", if words.is_empty() { "" } else { ": " }, words)]
    Refused {
        /// What was asked.
        path: String,
        /// The status; 503 is a sealed or standby server.
        status: StatusCode,
        /// Its words.
        words: String,
        /// Until when it asked to be left alone.
        retry_after: Option<UnixTime>,
    },
    /// Longer than what is read.
    #[error("`{path}` answered more than {limit} bytes")]
    TooLong {
        /// What was asked.
        path: String,
        /// The bound.
        limit: usize,
    },
}

impl BaoError {
    /// Until when the server asked to be left alone.
    pub fn retry_after(&self) -> Option<UnixTime> {
        if let Self::Refused { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether the token is not good any more.
    fn is_forbidden(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::FORBIDDEN, .. })
    }
}

impl OpenBao {
    /// Reads the server's roots, and asks nobody.
    ///
    /// # Errors
    ///
    /// [`BaoError`].
    pub fn new(settings: Settings) -> Result<Self, BaoError> {
        let openbao = Self { settings, session: Mutex::new(None) };
        openbao.client(None)?;
        Ok(openbao)
    }

    /// Has a request signed. Asked again after a crash it signs again: the engine has no orders to come back to, and the first
    /// certificate is used by nobody.
    ///
    /// # Errors
    ///
    /// [`BaoError`].
    pub async fn sign(&self, request: &Request) -> Result<String, BaoError> {
        let path = format!("{}/sign/{}", self.settings.mount, self.settings.role);
        let body = sign_body(request)?;
        let mut session = self.session.lock().await;
        let token = self.token(&mut session).await?;
        let answer = match self.ask(&token, Method::POST, &path, Some(&body)).await {
            // Revoked, or its policy changed: a new login shows which.
            Err(error) if error.is_forbidden() => {
                *session = None;
                let token = self.token(&mut session).await?;
                self.ask(&token, Method::POST, &path, Some(&body)).await?
            }
            answer => answer?,
        };
        drop(session);
        chain(&answer).ok_or(BaoError::Malformed { path, wanted: "a certificate in `data.certificate`" })
    }

    /// Asks for its health, whatever that is, and says by how many seconds its clock is ahead of ours; none if it does not say.
    ///
    /// # Errors
    ///
    /// [`BaoError::Connect`].
    pub async fn ask_clock(&self) -> Result<Option<i64>, BaoError> {
        let address = self.settings.address.to_string();
        let url = format!("{}/v1/sys/health", address.trim_end_matches('/'));
        let answer = self.client(None)?.get(url).send().await;
        let answer = answer.map_err(|source| BaoError::Connect { address, source: source.without_url() })?;
        let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let seconds = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(seconds.and_then(|seconds| i64::try_from(seconds.as_secs()).ok()).map(|date| date - leaf::now().0))
    }

    async fn ask(&self, token: &Secret, method: Method, path: &str, body: Option<&Value>) -> Result<Value, BaoError> {
        let client = self.client(None)?;
        api::ask(&self.settings, &client, Some(token), method, path, body).await
    }

    /// A connection of its own each time: what is asked for is rare, and a login may need another certificate.
    fn client(&self, identity: Option<reqwest::Identity>) -> Result<Client, BaoError> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            // A token goes to the configured server and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(self.settings.address.scheme() == "https")
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if let Some(roots) = &self.settings.server_roots {
            builder = builder.tls_certs_only(roots.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok()));
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        let address = self.settings.address.to_string();
        builder.build().map_err(|source| BaoError::Connect { address, source })
    }
}

/// The body of `sign`: the engine takes names from here or from the request, and uses from itself, as its role says.
fn sign_body(request: &Request) -> Result<Value, CsrError> {
    let names = &request.names;
    let alternative: Vec<&str> = names.dns().iter().map(String::as_str).collect();
    let addresses: Vec<String> = names.ip().iter().map(ToString::to_string).collect();
    Ok(json!({
        "csr": csr::pem(request)?,
        "common_name": names.dns().first().map_or("", String::as_str),
        "alt_names": alternative.join(","),
        "ip_sans": addresses.join(","),
        "uri_sans": names.spiffe().unwrap_or_default(),
        // The name is asked for once, as an alternative name.
        "exclude_cn_from_sans": true,
        "ttl": format!("{}s", request.lifetime),
        "format": "pem",
    }))
}

/// Leaf and intermediates; a CA that signed itself is the root, which peers have.
fn chain(answer: &Value) -> Option<String> {
    let data = answer.get("data")?;
    let mut chain = data.get("certificate")?.as_str()?.trim().to_owned();
    chain.push('\n');
    let above = data.get("ca_chain").and_then(Value::as_array).cloned().unwrap_or_default();
    for certificate in above.iter().filter_map(Value::as_str) {
        let der = leaf::chain(certificate).ok()?;
        if der.iter().all(|der| leaf::is_self_issued(der)) {
            continue;
        }
        chain.push_str(certificate.trim());
        chain.push('\n');
    }
    Some(chain)
}
