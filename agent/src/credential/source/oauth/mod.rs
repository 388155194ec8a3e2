//! Tokens of an OAuth 2.0 authorization server: client credentials (RFC 6749 §4.4) and token exchange (RFC 8693).

mod answer;
mod client;

use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use reqwest::Client;
use reqwest::Url;
use reqwest::header::ACCEPT;
use reqwest::header::AUTHORIZATION;
use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

pub use client::ClientAuth;

use super::Obtained;
use super::SourceError;
use crate::secret::Secret;

const CONNECT: Duration = Duration::from_secs(5);
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";

/// What is asked for, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OauthSettings {
    /// The token endpoint; `http` to loopback only.
    pub token_endpoint: Url,
    /// Authorities that may vouch for the server; the system's where there is none.
    pub roots: Option<Vec<CertificateDer<'static>>>,
    /// What a token is given for.
    pub grant: Grant,
    /// Who asks.
    pub client: ClientAuth,
    /// `scope`, names with blanks between them.
    pub scope: Option<String>,
    /// `audience` (RFC 8693 §2.1), each once.
    pub audience: Vec<String>,
    /// `resource` (RFC 8707 §2), each once.
    pub resource: Vec<String>,
    /// How long one question may take.
    pub timeout: Duration,
}

/// What a token is given for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// For being the client.
    ClientCredentials,
    /// For another token.
    TokenExchange {
        /// The file that holds it, read anew each time.
        subject_token: PathBuf,
        /// `urn:ietf:params:oauth:token-type:jwt`, and so on (RFC 8693 §3).
        subject_token_type: String,
        /// What is wanted, where that is not the server's to say.
        requested_token_type: Option<String>,
    },
}

/// An authorization server that can be asked.
pub(super) struct Oauth(OauthSettings);

impl Oauth {
    pub(super) fn new(settings: OauthSettings) -> Result<Self, SourceError> {
        let oauth = Self(settings);
        // Keys and certificates may be written anew before they are needed.
        oauth.builder().build().map_err(|source| oauth.failed(source))?;
        Ok(oauth)
    }

    pub(super) async fn obtain(&self) -> Result<Obtained, SourceError> {
        let settings = &self.0;
        let mut form = Form::default();
        // What the server must not be quoted with.
        let mut told: Vec<Secret> = Vec::new();
        match &settings.grant {
            Grant::ClientCredentials => form.add("grant_type", "client_credentials"),
            Grant::TokenExchange { subject_token, subject_token_type, requested_token_type } => {
                let token = client::read_secret(subject_token)?;
                form.add("grant_type", EXCHANGE);
                form.add("subject_token", token.expose());
                form.add("subject_token_type", subject_token_type);
                if let Some(wanted) = requested_token_type {
                    form.add("requested_token_type", wanted);
                }
                told.push(token);
            }
        }
        if let Some(scope) = &settings.scope {
            form.add("scope", scope);
        }
        settings.audience.iter().for_each(|audience| form.add("audience", audience));
        settings.resource.iter().for_each(|resource| form.add("resource", resource));
        let proof = settings.client.prove(&settings.token_endpoint, &mut form, &mut told)?;
        let mut builder = self.builder();
        if let Some(identity) = proof.identity {
            builder = builder.identity(identity);
        }
        let client = builder.build().map_err(|source| self.failed(source))?;
        let request = client
            .post(settings.token_endpoint.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(form.text());
        let request = match proof.authorization {
            Some(value) => request.header(AUTHORIZATION, value),
            None => request,
        };
        // A token's life is counted from before it was asked for.
        let since = Timestamp::now();
        let response = request.send().await.map_err(|source| self.failed(source))?;
        answer::read(self, response, since, &told).await
    }

    /// A client of its own for each question: keys and certificates may be others by then.
    fn builder(&self) -> reqwest::ClientBuilder {
        let settings = &self.0;
        let is_https = settings.token_endpoint.scheme() == "https";
        let mut builder = Client::builder()
            .connect_timeout(CONNECT)
            .timeout(settings.timeout)
            // Secrets go to the configured server and nowhere else.
            .redirect(Policy::none())
            .https_only(is_https)
            .user_agent(concat!("portcullis/", env!("CARGO_PKG_VERSION")));
        if !is_https {
            builder = builder.no_proxy();
        }
        if let Some(roots) = &settings.roots {
            builder = builder.tls_certs_only(roots.iter().filter_map(|der| reqwest::Certificate::from_der(der).ok()));
        }
        builder
    }

    fn host(&self) -> String {
        self.0.token_endpoint.host_str().unwrap_or_default().to_owned()
    }

    fn failed(&self, source: reqwest::Error) -> SourceError {
        let (host, source) = (self.host(), source.without_url());
        if source.is_timeout() {
            SourceError::TimedOut { host, source }
        } else if source.is_connect() || source.is_builder() {
            SourceError::Connect { host, source }
        } else {
            SourceError::Interrupted { host, source }
        }
    }
}

/// `application/x-www-form-urlencoded` (RFC 6749 appendix B).
#[derive(Default)]
struct Form(Zeroizing<String>);

impl Form {
    fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        self.0.push_str(&encoded(value));
    }

    fn text(self) -> String {
        self.0.to_string()
    }
}

/// A value as a form has it.
fn encoded(value: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(value.len() * 3));
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'*' | b'-' | b'.' | b'_' => text.push(char::from(byte)),
            b' ' => text.push('+'),
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_encoded_as_rfc_6749_appendix_b_has_it() {
        assert_eq!(encoded(" %&+\u{a3}\u{20ac}").as_str(), "+%25%26%2B%C2%A3%E2%82%AC");
        let mut form = Form::default();
        form.add("a", "b c");
        form.add("d", "e&f=g");
        assert_eq!(form.text(), "a=b+c&d=e%26f%3Dg");
    }
}
