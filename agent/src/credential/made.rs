//! Values that the agent makes itself: passwords, keys of session tickets, keys that sign tokens, tokens.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::EncodingKey;
use jsonwebtoken::Header;
use rcgen::KeyPair;
use rcgen::PKCS_ECDSA_P256_SHA256;
use rcgen::PKCS_ED25519;
use rcgen::PublicKeyData as _;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use zeroize::Zeroizing;

use crate::keys;
use crate::keys::KeyError;
use crate::keys::PrivateKey;
use crate::leaf;
use crate::secret::Secret;
use crate::xds::TICKET_KEY;

/// Of a password's characters: none that a shell, a URL, a header or a quoted string gives a meaning to, and 64 of them, so
/// that each is drawn from six bits without a bias.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MakeError {
    /// No random numbers, or no key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The signing key could not sign.
    #[error("the token cannot be signed")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// How tokens are signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum SigningAlgorithm {
    /// Ed25519 (RFC 8037).
    #[serde(rename = "EdDSA")]
    EdDsa,
    /// P-256 with SHA-256 (RFC 7518 §3.4).
    #[default]
    #[serde(rename = "ES256")]
    Es256,
}

impl SigningAlgorithm {
    const fn jws(self) -> Algorithm {
        match self {
            Self::EdDsa => Algorithm::EdDSA,
            Self::Es256 => Algorithm::ES256,
        }
    }

    /// The name in a token's header.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::EdDsa => "EdDSA",
            Self::Es256 => "ES256",
        }
    }
}

/// What a token says beside its times.
#[derive(Clone, Debug, PartialEq)]
pub struct Claims {
    /// `iss`.
    pub issuer: String,
    /// `sub`.
    pub subject: String,
    /// `aud`.
    pub audience: Vec<String>,
    /// Others.
    pub more: Map<String, Value>,
}

/// An identifier that says nothing of what it is of.
///
/// # Errors
///
/// [`KeyError::Random`].
pub(super) fn id() -> Result<String, KeyError> {
    keys::random::<8>().map(|bytes| leaf::hex(&bytes))
}

/// A password of so many characters, six bits each.
///
/// # Errors
///
/// [`KeyError::Random`].
pub(super) fn password(length: usize) -> Result<Secret, KeyError> {
    let mut text = Zeroizing::new(String::with_capacity(length));
    while text.len() < length {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(keys::random()?);
        let left = length - text.len();
        text.extend(bytes.iter().take(left).map(|byte| char::from(ALPHABET[usize::from(byte % 64)])));
    }
    Ok(Secret::new(text.as_str().to_owned()))
}

/// A key of session tickets, in Base64.
///
/// # Errors
///
/// [`KeyError::Random`].
pub(super) fn ticket_key() -> Result<Secret, KeyError> {
    let key: Zeroizing<[u8; TICKET_KEY]> = Zeroizing::new(keys::random()?);
    Ok(Secret::new(STANDARD.encode(key.as_slice())))
}

/// The bytes of a key of session tickets.
pub(super) fn ticket_bytes(key: &Secret) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(STANDARD.decode(key.expose()).unwrap_or_default())
}

/// A key that signs tokens, PKCS#8 in PEM.
///
/// # Errors
///
/// [`KeyError::Generate`].
pub(super) fn signing_key(algorithm: SigningAlgorithm) -> Result<Secret, KeyError> {
    let kind = match algorithm {
        SigningAlgorithm::EdDsa => &PKCS_ED25519,
        SigningAlgorithm::Es256 => &PKCS_ECDSA_P256_SHA256,
    };
    let pair = KeyPair::generate_for(kind).map_err(KeyError::Generate)?;
    Ok(Secret::new(Zeroizing::new(pair.serialize_pem()).as_str().to_owned()))
}

/// The public half as a JWK (RFC 7517 §4, RFC 7518 §6.2, RFC 8037 §2).
///
/// # Errors
///
/// [`KeyError::Unreadable`].
pub(super) fn jwk(kid: &str, key: &Secret, algorithm: SigningAlgorithm) -> Result<Value, KeyError> {
    let pair = PrivateKey::from_pem(Zeroizing::new(key.expose().to_owned()))?.pair()?;
    let public = pair.der_bytes();
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match algorithm {
        SigningAlgorithm::EdDsa => Ok(json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": encoded(public),
        })),
        SigningAlgorithm::Es256 => {
            // Uncompressed (SEC 1 §2.3.3): 4, x, y.
            let point = public.strip_prefix(&[4]).and_then(|point| point.split_at_checked(32));
            let (x, y) = point.filter(|(_, y)| y.len() == 32).ok_or(KeyError::Unreadable)?;
            Ok(json!({
                "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
                "x": encoded(x), "y": encoded(y),
            }))
        }
    }
}

/// A token that is good from `now` to `until`, both in Unix seconds, signed with the key called `kid`.
///
/// # Errors
///
/// [`MakeError`].
pub(super) fn token(
    claims: &Claims,
    (now, until): (i64, i64),
    (kid, key, algorithm): (&str, &Secret, SigningAlgorithm),
) -> Result<(String, Secret), MakeError> {
    let id = id()?;
    let mut document = claims.more.clone();
    let audience = match claims.audience.as_slice() {
        [one] => json!(one),
        several => json!(several),
    };
    let registered = [
        ("iss", json!(claims.issuer)),
        ("sub", json!(claims.subject)),
        ("aud", audience),
        ("iat", json!(now)),
        ("nbf", json!(now)),
        ("exp", json!(until)),
        ("jti", json!(id)),
    ];
    document.extend(registered.map(|(name, value)| (name.to_owned(), value)));
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(algorithm.jws()) };
    let der = PrivateKey::from_pem(Zeroizing::new(key.expose().to_owned()))?.der()?;
    let key = match algorithm {
        SigningAlgorithm::EdDsa => EncodingKey::from_ed_der(der.secret_der()),
        SigningAlgorithm::Es256 => EncodingKey::from_ec_der(der.secret_der()),
    };
    let signed = jsonwebtoken::encode(&header, &document, &key).map_err(MakeError::Sign)?;
    Ok((id, Secret::new(signed)))
}

#[cfg(test)]
mod tests {
    use portcullis_policy::token;

    use super::*;

    #[test]
    fn a_password_is_long_enough_and_needs_no_quotes() {
        for length in [1, 31, 32, 33, 128] {
            let (one, other) = (password(length).expect("made"), password(length).expect("made"));
            assert_eq!(one.expose().len(), length);
            assert!(one.expose().bytes().all(|byte| ALPHABET.contains(&byte)));
            assert!(length < 20 || one != other);
        }
    }

    #[test]
    fn a_ticket_key_has_the_length_that_proxies_want() {
        let key = ticket_key().expect("made");
        assert_eq!(ticket_bytes(&key).len(), TICKET_KEY);
        assert!(ticket_bytes(&Secret::new("no base64!".to_owned())).is_empty());
    }

    #[test]
    fn the_filter_takes_a_token_by_the_key_set_that_is_published() {
        for algorithm in [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa] {
            let key = signing_key(algorithm).expect("made");
            let jwk = jwk("k1", &key, algorithm).expect("a key");
            for private in ["d", "k"] {
                assert!(jwk.get(private).is_none(), "{algorithm:?}");
            }
            let claims = Claims {
                issuer: "https://portcullis.example".to_owned(),
                subject: "orders".to_owned(),
                audience: vec!["stock".to_owned()],
                more: Map::from_iter([("scope".to_owned(), json!("read"))]),
            };
            let (_, signed) = token(&claims, (1_000, 1_300), ("k1", &key, algorithm)).expect("signed");
            let accepted = token::Algorithm::parse(algorithm.as_str()).expect("an algorithm");
            let set = json!({ "keys": [jwk] }).to_string();
            let set = token::KeySet::from_json(set.as_bytes(), &[accepted]).expect("a key set");
            assert_eq!(set.keys().len(), 1, "{algorithm:?}");
            let header = jsonwebtoken::decode_header(signed.expose()).expect("a header");
            assert_eq!(header.kid.as_deref(), Some("k1"));
            let parts: Vec<&str> = signed.expose().split('.').collect();
            let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(parts[1]).expect("base64")).expect("JSON");
            assert_eq!((&body["exp"], &body["aud"], &body["scope"]), (&json!(1_300), &json!("stock"), &json!("read")));
        }
    }
}
