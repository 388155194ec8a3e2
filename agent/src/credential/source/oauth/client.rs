//! How a client shows who it is (RFC 6749 §2.3, RFC 7523 §2.2, RFC 8705 §2).

use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use reqwest::Identity;
use reqwest::Url;
use reqwest::header::HeaderValue;
use rustls::crypto::ring;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Form;
use super::encoded;
use crate::credential::source::SourceError;
use crate::leaf;
use crate::secret::Secret;

const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds that an assertion may be used for: the time of one question.
const ASSERTION_LIFE: i64 = 60;
/// The algorithms of a key in PKCS #8 (RFC 5480 §2.1.1.1, RFC 8410 §3), DER.
const P256: &[u8] = &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const ED25519: &[u8] = &[0x06, 0x03, 0x2b, 0x65, 0x70];

/// How a client shows who it is. Secrets and keys stay in their files, which are read anew each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// `client_secret_basic`.
    Basic {
        /// `client_id`.
        id: String,
        /// The file with the secret.
        secret: PathBuf,
    },
    /// `private_key_jwt`.
    Jwt {
        /// `client_id`.
        id: String,
        /// A key in PKCS #8: P-256 (ES256) or Ed25519 (EdDSA).
        key: PathBuf,
        /// `kid`, where the server knows more than one key.
        key_id: Option<String>,
        /// `aud`; the token endpoint where there is none.
        audience: Option<String>,
    },
    /// `client_secret_post`.
    Post {
        /// `client_id`.
        id: String,
        /// The file with the secret.
        secret: PathBuf,
    },
    /// `tls_client_auth` and `self_signed_tls_client_auth`: the token is bound to the certificate, if the server does that.
    Tls {
        /// `client_id`.
        id: String,
        /// Chain in PEM.
        certificate: PathBuf,
        /// Key in PEM.
        key: PathBuf,
    },
}

/// What is shown beside the form.
#[derive(Default)]
pub(super) struct Proof {
    pub(super) authorization: Option<HeaderValue>,
    pub(super) identity: Option<Identity>,
}

#[derive(Serialize)]
struct Assertion<'a> {
    iss: &'a str,
    sub: &'a str,
    aud: &'a str,
    jti: String,
    iat: i64,
    exp: i64,
}

impl ClientAuth {
    /// Adds to the form what belongs there, and to `told` what is secret of it.
    pub(super) fn prove(&self, endpoint: &Url, form: &mut Form, told: &mut Vec<Secret>) -> Result<Proof, SourceError> {
        match self {
            Self::Basic { id, secret } => {
                let secret = read_secret(secret)?;
                // Both are encoded as in a form before they are put together (RFC 6749 §2.3.1).
                let pair = Zeroizing::new(format!("{}:{}", *encoded(id), *encoded(secret.expose())));
                let pair = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
                let value = HeaderValue::from_str(&format!("Basic {}", *pair));
                let mut value = value.expect("base64 is fit for a header");
                value.set_sensitive(true);
                told.extend([secret, Secret::new(pair.to_string())]);
                Ok(Proof { authorization: Some(value), identity: None })
            }
            Self::Post { id, secret } => {
                let secret = read_secret(secret)?;
                form.add("client_id", id);
                form.add("client_secret", secret.expose());
                told.push(secret);
                Ok(Proof::default())
            }
            Self::Jwt { id, key, key_id, audience } => {
                let aud = audience.as_deref().unwrap_or(endpoint.as_str());
                let assertion = assertion(id, aud, key, key_id.clone())?;
                form.add("client_id", id);
                form.add("client_assertion_type", ASSERTION);
                form.add("client_assertion", assertion.expose());
                told.push(assertion);
                Ok(Proof::default())
            }
            Self::Tls { id, certificate, key } => {
                form.add("client_id", id);
                let mut pem = read(certificate)?;
                pem.push(b'\n');
                pem.extend_from_slice(&read(key)?);
                let why = "and its key are no certificate and key in PEM";
                let unusable = |_| SourceError::ClientKey { path: certificate.clone(), why };
                Ok(Proof { authorization: None, identity: Some(Identity::from_pem(&pem).map_err(unusable)?) })
            }
        }
    }
}

/// Signs who asks, for one question (RFC 7523 §3).
fn assertion(id: &str, aud: &str, file: &Path, kid: Option<String>) -> Result<Secret, SourceError> {
    let unusable = |why| SourceError::ClientKey { path: file.to_owned(), why };
    let der = PrivatePkcs8KeyDer::from_pem_slice(&read(file)?);
    let der = der.map_err(|_| unusable("holds no key in PKCS #8 (`BEGIN PRIVATE KEY`)"))?;
    let der = der.secret_pkcs8_der();
    let has = |algorithm: &[u8]| der.windows(algorithm.len()).take(32).any(|window| window == algorithm);
    let (algorithm, key) = if has(P256) {
        (Algorithm::ES256, EncodingKey::from_ec_der(der))
    } else if has(ED25519) {
        (Algorithm::EdDSA, EncodingKey::from_ed_der(der))
    } else {
        return Err(unusable("is neither a P-256 nor an Ed25519 key"));
    };
    let mut random = [0; 16];
    let filled = ring::default_provider().secure_random.fill(&mut random);
    filled.map_err(|_| unusable("is not used: the system has no random numbers"))?;
    let now = leaf::now().0;
    let claims = Assertion { iss: id, sub: id, aud, jti: leaf::hex(&random), iat: now, exp: now + ASSERTION_LIFE };
    let header = Header { kid, ..Header::new(algorithm) };
    let signed = jsonwebtoken::encode(&header, &claims, &key);
    signed.map(Secret::new).map_err(|_| unusable("does not sign"))
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let read = fs::read(path).map(Zeroizing::new);
    read.map_err(|source| SourceError::Read { path: path.to_owned(), source })
}

pub(super) fn read_secret(path: &Path) -> Result<Secret, SourceError> {
    let failed = |source: io::Error| SourceError::Read { path: path.to_owned(), source };
    Secret::read(path).map_err(failed)
}
