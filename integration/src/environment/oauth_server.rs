//! A small authorization server (RFC 6749, RFC 8693) that is honest about who its clients are: it checks secrets, assertions
//! (RFC 7523) and client certificates (RFC 8705), and signs tokens that those verify who fetch its keys.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::SystemTime;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::Full;
use hyper::Request;
use hyper::Response;
use hyper::StatusCode;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::rt::TokioTimer;
use rcgen::ExtendedKeyUsagePurpose;
use ring::signature::ECDSA_P256_SHA256_FIXED;
use ring::signature::ED25519;
use ring::signature::UnparsedPublicKey;
use rustls::RootCertStore;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::server::WebPkiClientVerifier;
use serde_json::Value;
use serde_json::json;
use sha2::Digest as _;
use sha2::Sha256;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::EnvironmentError;
use crate::certificates::Authority;
use crate::tokens::TokenIssuer;

/// What it signs its tokens as.
pub const ISSUER: &str = "https://oauth.acme.example";
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// How the client `shop` shows who it is.
#[derive(Clone, Debug)]
pub enum Shows {
    /// `client_secret_basic`, with this secret.
    Basic(String),
    /// `private_key_jwt`, with the key to this public key: a point of P-256 or an Ed25519 key.
    Jwt(Vec<u8>),
    /// `client_secret_post`.
    Post(String),
    /// `tls_client_auth`: a certificate of [`OauthServer::authority`].
    Tls,
}

/// What it says whatever it is asked.
#[derive(Clone, Debug, Default)]
pub enum Mood {
    /// As it should be.
    #[default]
    Honest,
    /// Nothing at all, ever.
    Silent,
    /// This: status, headers, body.
    Says(u16, Vec<(&'static str, String)>, String),
    /// A good answer with this in place of some of it.
    With(Value),
}

/// A running server. It ends when it is dropped.
#[derive(Debug)]
pub struct OauthServer {
    address: SocketAddr,
    authority: Arc<Authority>,
    state: Arc<Mutex<State>>,
    task: AbortHandle,
}

#[derive(Debug)]
struct State {
    endpoint: String,
    shows: Shows,
    mood: Mood,
    lifetime: u64,
    signer: TokenIssuer,
    /// Tokens that may be exchanged.
    subjects: BTreeSet<String>,
    /// `jti` of the assertions that were used.
    used: BTreeSet<String>,
    /// The form of each question that was answered with a token.
    granted: Vec<Vec<(String, String)>>,
    asked: usize,
    refused: usize,
}

/// A refusal (RFC 6749 §5.2).
struct Refusal(StatusCode, &'static str, &'static str);

impl OauthServer {
    /// Starts one that knows the client `shop`.
    ///
    /// # Errors
    ///
    /// [`EnvironmentError`], if there is no port or no certificate to be had.
    pub async fn start(shows: Shows) -> Result<Self, EnvironmentError> {
        let authority = Arc::new(Authority::new("the authorization server's"));
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let leaf = authority.leaf().ip(loopback).usages(&[ExtendedKeyUsagePurpose::ServerAuth]).issue();
        let acceptor = TlsAcceptor::from(Arc::new(tls(&authority, &leaf.pem(), leaf.key_pem())?));
        let socket = |source| EnvironmentError::Socket { doing: "listen as an authorization server", source };
        let listener = TcpListener::bind((loopback, 0)).await.map_err(socket)?;
        let address = listener.local_addr().map_err(socket)?;
        let state = Arc::new(Mutex::new(State {
            endpoint: format!("https://{address}/token"),
            shows,
            mood: Mood::Honest,
            lifetime: 300,
            signer: TokenIssuer::new("key-1", "ES256"),
            subjects: BTreeSet::new(),
            used: BTreeSet::new(),
            granted: Vec::new(),
            asked: 0,
            refused: 0,
        }));
        let task = tokio::spawn(accept(listener, acceptor, Arc::clone(&state))).abort_handle();
        Ok(Self { address, authority, state, task })
    }

    /// Where tokens are asked for.
    pub fn token_endpoint(&self) -> String {
        format!("https://{}/token", self.address)
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("https://{}/jwks", self.address)
    }

    /// Who vouches for the server, and for the clients that show a certificate.
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Has the client show who it is in another way.
    pub fn expect(&self, shows: Shows) {
        self.lock().shows = shows;
    }

    /// Answers like this from now on.
    pub fn be(&self, mood: Mood) {
        self.lock().mood = mood;
    }

    /// Makes tokens that live so many seconds from now on.
    pub fn lifetime(&self, seconds: u64) {
        self.lock().lifetime = seconds;
    }

    /// A token that it takes in exchange for another one.
    pub fn subject_token(&self, subject: &str) -> String {
        let mut state = self.lock();
        let token = state.signer.sign(&json!({ "iss": ISSUER, "sub": subject, "exp": now() + 3_600 }));
        state.subjects.insert(token.clone());
        token
    }

    /// How often it was asked for a token.
    pub fn asked(&self) -> usize {
        self.lock().asked
    }

    /// How often it said no.
    pub fn refused(&self) -> usize {
        self.lock().refused
    }

    /// The form of each question that was answered with a token.
    pub fn granted(&self) -> Vec<Vec<(String, String)>> {
        self.lock().granted.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OauthServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn jwks(&self) -> Value {
        json!({ "keys": [self.signer.jwk()] })
    }

    /// Answers a question for a token.
    fn token(
        &mut self,
        form: Vec<(String, String)>,
        authorization: Option<&str>,
        certificate: Option<&[u8]>,
    ) -> Result<Value, Refusal> {
        let fields: HashMap<&str, &str> = form.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        self.client(&fields, authorization, certificate)?;
        let bad = |words| Refusal(StatusCode::BAD_REQUEST, "invalid_request", words);
        let subject = match fields.get("grant_type").copied() {
            Some("client_credentials") => "shop".to_owned(),
            Some(EXCHANGE) => {
                if !fields.contains_key("subject_token_type") {
                    return Err(bad("no subject_token_type"));
                }
                let token = fields.get("subject_token").ok_or_else(|| bad("no subject_token"))?;
                if !self.subjects.contains(*token) {
                    return Err(bad("the subject token is not mine"));
                }
                payload(token).and_then(|payload| Some(payload.get("sub")?.as_str()?.to_owned())).unwrap_or_default()
            }
            _ => return Err(Refusal(StatusCode::BAD_REQUEST, "unsupported_grant_type", "not here")),
        };
        if fields.get("scope").is_some_and(|scope| scope.contains("forbidden")) {
            return Err(Refusal(StatusCode::BAD_REQUEST, "invalid_scope", "not yours"));
        }
        let audiences = form.iter().filter(|(name, _)| name == "audience").map(|(_, value)| value.as_str());
        let number = self.granted.len() + 1;
        let mut claims = json!({
            "iss": ISSUER, "sub": subject, "client_id": "shop", "jti": format!("token-{number}"),
            "iat": now(), "exp": now() + self.lifetime, "aud": audiences.collect::<Vec<_>>(),
            "scope": fields.get("scope").copied().unwrap_or_default(),
        });
        // RFC 8705 §3.1: bound to the certificate that the client came with.
        if let Some(certificate) = certificate {
            claims["cnf"] = json!({ "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(Sha256::digest(certificate)) });
        }
        let mut answer = json!({
            "access_token": self.signer.sign(&claims), "token_type": "Bearer", "expires_in": self.lifetime,
        });
        if fields.get("grant_type") == Some(&EXCHANGE) {
            answer["issued_token_type"] = json!("urn:ietf:params:oauth:token-type:access_token");
        }
        self.granted.push(form);
        Ok(answer)
    }

    /// Checks who asks.
    fn client(
        &mut self,
        fields: &HashMap<&str, &str>,
        authorization: Option<&str>,
        certificate: Option<&[u8]>,
    ) -> Result<(), Refusal> {
        let is_named = fields.get("client_id") == Some(&"shop");
        let is_good = match &self.shows {
            Shows::Basic(secret) => {
                let pair = authorization.and_then(|value| value.strip_prefix("Basic "));
                let pair = pair.and_then(|pair| String::from_utf8(BASE64_STANDARD.decode(pair).ok()?).ok());
                let pair = pair.as_deref().and_then(|pair| pair.split_once(':'));
                pair.is_some_and(|(id, given)| decoded(id) == "shop" && decoded(given) == *secret)
            }
            Shows::Post(secret) => is_named && fields.get("client_secret") == Some(&secret.as_str()),
            Shows::Tls => is_named && certificate.is_some(),
            Shows::Jwt(key) => {
                let claims = fields.get("client_assertion").and_then(|assertion| verified(assertion, key));
                let is_type = fields.get("client_assertion_type") == Some(&ASSERTION);
                let is_ours = claims.as_ref().is_some_and(|claims| {
                    let is = |name: &str, want: &str| claims.get(name).and_then(Value::as_str) == Some(want);
                    let exp = claims.get("exp").and_then(Value::as_u64).unwrap_or_default();
                    let is_new = (now()..now() + 120).contains(&exp);
                    is("iss", "shop") && is("sub", "shop") && is("aud", &self.endpoint) && is_new
                });
                // RFC 7523 §3: no assertion is good twice.
                let jti = claims.as_ref().and_then(|claims| claims.get("jti")?.as_str());
                is_type && is_ours && jti.is_some_and(|jti| self.used.insert(jti.to_owned()))
            }
        };
        if is_good { Ok(()) } else { Err(Refusal(StatusCode::UNAUTHORIZED, "invalid_client", "who are you?")) }
    }
}

/// The claims of an assertion that this key signed.
fn verified(assertion: &str, key: &[u8]) -> Option<Value> {
    let (signed, signature) = assertion.rsplit_once('.')?;
    let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?;
    let header: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(signed.split('.').next()?).ok()?).ok()?;
    let verified = match header.get("alg")?.as_str()? {
        "ES256" => UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), &signature),
        "EdDSA" => UnparsedPublicKey::new(&ED25519, key).verify(signed.as_bytes(), &signature),
        _ => return None,
    };
    verified.ok()?;
    payload(assertion)
}

fn payload(token: &str) -> Option<Value> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?).ok()
}

/// Part of a form.
fn decoded(text: &str) -> String {
    let query = reqwest::Url::parse(&format!("http://localhost/?x={text}"));
    let value = query.ok().and_then(|url| url.query_pairs().next().map(|(_, value)| value.into_owned()));
    value.unwrap_or_default()
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

fn tls(authority: &Authority, chain_pem: &str, key_pem: &str) -> Result<ServerConfig, EnvironmentError> {
    let unreadable = |text: String| EnvironmentError::Unreadable { what: "a certificate".to_owned(), text };
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from(authority.der().to_vec());
    roots.add(root).map_err(|source| EnvironmentError::Tls { what: "the server's authority", source })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let verifier = verifier.allow_unauthenticated().build().map_err(|error| unreadable(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| unreadable(error.to_string()))?;
    let failed = |source| EnvironmentError::Tls { what: "the server's certificate", source };
    let builder =
        ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(failed)?;
    let builder = builder.with_client_cert_verifier(verifier);
    builder.with_single_cert(super::certificates_of(chain_pem)?, key).map_err(failed)
}

async fn accept(listener: TcpListener, acceptor: TlsAcceptor, state: Arc<Mutex<State>>) {
    // The connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((tcp, _)) = accepted else { continue };
                let (acceptor, state) = (acceptor.clone(), Arc::clone(&state));
                connections.spawn(async move {
                    // What breaks is the other side's to notice.
                    let Ok(tls) = acceptor.accept(tcp).await else { return };
                    let chain = tls.get_ref().1.peer_certificates();
                    let certificate = chain.and_then(|chain| chain.first()).map(|leaf| leaf.to_vec());
                    let service = service_fn(|request| answer(request, certificate.clone(), Arc::clone(&state)));
                    let mut server = http1::Builder::new();
                    let _ = server.timer(TokioTimer::new()).serve_connection(TokioIo::new(tls), service).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(
    request: Request<Incoming>,
    certificate: Option<Vec<u8>>,
    state: Arc<Mutex<State>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let is_keys = request.uri().path() == "/jwks";
    let authorization = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let (status, headers, text) = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if is_keys {
            (200, Vec::new(), Some(state.jwks().to_string()))
        } else {
            state.asked += 1;
            let text = format!("http://localhost/?{}", String::from_utf8_lossy(&body));
            let form = reqwest::Url::parse(&text).map(|url| {
                url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect::<Vec<_>>()
            });
            match state.mood.clone() {
                Mood::Silent => (200, Vec::new(), None),
                Mood::Says(status, headers, text) => (status, headers, Some(text)),
                mood => {
                    let answer =
                        state.token(form.unwrap_or_default(), authorization.as_deref(), certificate.as_deref());
                    match answer {
                        Ok(mut answer) => {
                            if let (Mood::With(other), Some(answer)) = (mood, answer.as_object_mut()) {
                                answer.extend(other.as_object().cloned().unwrap_or_default());
                            }
                            (200, Vec::new(), Some(answer.to_string()))
                        }
                        Err(Refusal(status, error, description)) => {
                            state.refused += 1;
                            let text = json!({ "error": error, "error_description": description }).to_string();
                            (status.as_u16(), Vec::new(), Some(text))
                        }
                    }
                }
            }
        }
    };
    let Some(text) = text else { return std::future::pending().await };
    let mut response = Response::builder().status(status).header(CONTENT_TYPE, "application/json");
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let broken = |_| Response::new(Full::from("the test's own headers are wrong"));
    Ok(response.body(Full::from(text)).unwrap_or_else(broken))
}
