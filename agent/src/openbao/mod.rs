//! OpenBao or HashiCorp Vault, which speak the same API: how to get in, how to stay in, and one question at a time.
//!
//! The agent's own login is renewed before it is needed: whoever cannot log in any more cannot renew anything else, and what was
//! lent to a login ends with it.

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
use tokio::sync::Mutex;

pub use settings::Login;
pub use settings::Server;

use crate::leaf;
use crate::secret::Secret;
use login::Session;

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(30);

/// One server, and somebody who is logged in there.
pub struct OpenBao {
    server: Server,
    /// Held over a question, so that many who ask log in once.
    session: Mutex<Option<Session>>,
}

/// Why there is no answer.
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

/// An answer, and the login that it was given to.
pub(crate) struct Answer {
    pub(crate) body: Value,
    pub(crate) login: Standing,
}

/// What is known of a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// What tells it from another one, and lets nobody in; none for one that the server does not name.
    pub(crate) accessor: Option<String>,
    /// When it ends if nobody renews it, and all that was lent to it; none for one without an end.
    pub(crate) ends: Option<UnixTime>,
}

impl BaoError {
    /// Until when the server asked to be left alone.
    pub fn retry_after(&self) -> Option<UnixTime> {
        if let Self::Refused { retry_after, .. } = self { *retry_after } else { None }
    }

    /// Whether the token is not good any more.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.status() == Some(StatusCode::FORBIDDEN)
    }

    /// Whether time alone may mend it.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Connect { .. } => true,
            Self::Refused { status, .. } => status.is_server_error() || *status == StatusCode::TOO_MANY_REQUESTS,
            _ => false,
        }
    }

    pub(crate) fn status(&self) -> Option<StatusCode> {
        if let Self::Refused { status, .. } = self { Some(*status) } else { None }
    }
}

impl OpenBao {
    /// Reads the server's roots, and asks nobody.
    ///
    /// # Errors
    ///
    /// [`BaoError`].
    pub fn new(server: Server) -> Result<Self, BaoError> {
        let openbao = Self { server, session: Mutex::new(None) };
        openbao.client(None)?;
        Ok(openbao)
    }

    /// Asks `/v1/PATH`, as somebody who is logged in.
    pub(crate) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, BaoError> {
        let mut session = self.session.lock().await;
        let token = self.token(&mut session).await?;
        let body = match self.ask_with(&token, method.clone(), path, body).await {
            // Revoked, or its policy changed: a new login shows which.
            Err(error) if error.is_forbidden() => {
                *session = None;
                let token = self.token(&mut session).await?;
                self.ask_with(&token, method, path, body).await?
            }
            answer => answer?,
        };
        Ok(Answer { body, login: standing(&session) })
    }

    /// The same for somebody to whom something is lent: a login that is good is kept, whatever it may not do.
    pub(crate) async fn ask_holding(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, BaoError> {
        let mut session = self.session.lock().await;
        let token = self.token(&mut session).await?;
        let body = match self.ask_with(&token, method.clone(), path, body).await {
            Err(error) if error.is_forbidden() => {
                match self.ask_with(&token, Method::GET, "auth/token/lookup-self", None).await {
                    Err(lookup) if lookup.is_forbidden() => {}
                    _ => return Err(error),
                }
                *session = None;
                let token = self.token(&mut session).await?;
                self.ask_with(&token, method, path, body).await?
            }
            answer => answer?,
        };
        Ok(Answer { body, login: standing(&session) })
    }

    /// Renews the login if it is time, begins another one if that fails, and says which it is.
    pub(crate) async fn stay(&self) -> Result<Standing, BaoError> {
        let mut session = self.session.lock().await;
        self.token(&mut session).await?;
        Ok(standing(&session))
    }

    /// Asks for its health, whatever that is, and says by how many seconds its clock is ahead of ours; none if it does not say.
    ///
    /// # Errors
    ///
    /// [`BaoError::Connect`].
    pub async fn ask_clock(&self) -> Result<Option<i64>, BaoError> {
        let address = self.server.address.to_string();
        let url = format!("{}/v1/sys/health", address.trim_end_matches('/'));
        let answer = self.client(None)?.get(url).send().await;
        let answer = answer.map_err(|source| BaoError::Connect { address, source: source.without_url() })?;
        let date = answer.headers().get(DATE).and_then(|date| httpdate::parse_http_date(date.to_str().ok()?).ok());
        let seconds = date.and_then(|date| date.duration_since(SystemTime::UNIX_EPOCH).ok());
        Ok(seconds.and_then(|seconds| i64::try_from(seconds.as_secs()).ok()).map(|date| date - leaf::now().0))
    }

    async fn ask_with(
        &self,
        token: &Secret,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, BaoError> {
        let client = self.client(None)?;
        api::ask(&self.server, &client, Some(token), method, path, body).await
    }

    /// A connection of its own each time: what is asked for is rare, and a login may need another certificate.
    fn client(&self, identity: Option<reqwest::Identity>) -> Result<Client, BaoError> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            // A token goes to the configured server and nowhere else.
            .redirect(reqwest::redirect::Policy::none())
            .https_only(self.server.address.scheme() == "https")
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if let Some(roots) = &self.server.roots {
            builder = builder.tls_certs_only(roots.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok()));
        }
        if let Some(identity) = identity {
            builder = builder.identity(identity);
        }
        let address = self.server.address.to_string();
        builder.build().map_err(|source| BaoError::Connect { address, source })
    }
}

fn standing(session: &Option<Session>) -> Standing {
    session.as_ref().map_or(Standing { accessor: None, ends: None }, Session::standing)
}
