//! Bearer tokens made for one test: issuers with a key of each kind, and tokens with whatever is odd about them.
//!
//! Signed with another library than the one that verifies in the gate.

pub mod table;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa;
use ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
use ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
use ring::signature::EcdsaKeyPair;
use ring::signature::EcdsaSigningAlgorithm;
use ring::signature::Ed25519KeyPair;
use ring::signature::KeyPair as _;
use ring::signature::RSA_PKCS1_SHA256;
use ring::signature::RSA_PKCS1_SHA384;
use ring::signature::RSA_PKCS1_SHA512;
use ring::signature::RSA_PSS_SHA256;
use ring::signature::RsaEncoding;
use serde_json::Value;
use serde_json::json;

/// RSA keys take too long to make: this one, of 2,048 bits and PKCS #1, is everybody's and protects nothing.
const RSA_KEY: &str = include_str!("rsa_key.base64");

/// The `iss` of every token that [`claims`] makes.
pub const ISSUER: &str = "https://login.acme.example";
/// Its `aud`.
pub const AUDIENCE: &str = "orders";

/// Every algorithm that an issuer can sign with.
pub const ALGORITHMS: [&str; 7] = ["ES256", "ES384", "RS256", "RS384", "RS512", "PS256", "EdDSA"];

/// Somebody who signs tokens with one key.
#[derive(Debug)]
pub struct TokenIssuer {
    kid: String,
    algorithm: &'static str,
    key: Key,
}

#[derive(Debug)]
enum Key {
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Rsa(Box<rsa::KeyPair>),
}

impl TokenIssuer {
    /// An issuer with a new key (of RSA: with the one that there is) for one of [`ALGORITHMS`].
    ///
    /// # Panics
    ///
    /// If the algorithm is none of them.
    pub fn new(kid: &str, algorithm: &str) -> Self {
        let known = ALGORITHMS.into_iter().find(|known| *known == algorithm);
        let algorithm = known.unwrap_or_else(|| panic!("no issuer signs with `{algorithm}`"));
        let ec = |algorithm: &'static EcdsaSigningAlgorithm| {
            let random = SystemRandom::new();
            let document = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key can be made");
            Key::Ec(EcdsaKeyPair::from_pkcs8(algorithm, document.as_ref(), &random).expect("a key that was just made"))
        };
        let key = match algorithm {
            "ES256" => ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            "ES384" => ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            "EdDSA" => {
                let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key can be made");
                Key::Ed(Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("a key that was just made"))
            }
            _ => {
                let der = BASE64_STANDARD.decode(RSA_KEY.split_whitespace().collect::<String>()).expect("base64");
                Key::Rsa(Box::new(rsa::KeyPair::from_der(&der).expect("an RSA key")))
            }
        };
        Self { kid: kid.to_owned(), algorithm, key }
    }

    /// The algorithm, as `alg` says it.
    pub fn algorithm(&self) -> &'static str {
        self.algorithm
    }

    /// The public key as a JWK (RFC 7517).
    pub fn jwk(&self) -> Value {
        let encode = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let mut jwk = match &self.key {
            Key::Ec(pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if x.len() == 32 { "P-256" } else { "P-384" };
                json!({ "kty": "EC", "crv": curve, "x": encode(x), "y": encode(y) })
            }
            Key::Ed(pair) => json!({ "kty": "OKP", "crv": "Ed25519", "x": encode(pair.public_key().as_ref()) }),
            Key::Rsa(pair) => {
                let public = rsa::PublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "n": encode(&public.n), "e": encode(&public.e) })
            }
        };
        jwk["kid"] = json!(self.kid);
        jwk["alg"] = json!(self.algorithm);
        jwk["use"] = json!("sig");
        jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_with_header(&self.header(), claims)
    }

    /// A token with this header, which may lie about the key.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(header, &claims.to_string())
    }

    /// A token with this payload, which may be no claims.
    pub fn sign_text(&self, header: &Value, payload: &str) -> String {
        let signed = signed(header, payload);
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes())))
    }

    /// A token with these claims whose signature has the right length and is nobody's; another one for each `number`.
    pub fn forge(&self, claims: &Value, number: usize) -> String {
        let length = match &self.key {
            Key::Ec(pair) => pair.public_key().as_ref().len() - 1,
            Key::Ed(_) => 64,
            Key::Rsa(pair) => pair.public().modulus_len(),
        };
        format!("{}.{}", signed(&self.header(), &claims.to_string()), no_signature(number, length))
    }

    fn header(&self) -> Value {
        json!({ "alg": self.algorithm, "kid": self.kid, "typ": "at+jwt" })
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.key {
            Key::Ec(pair) => pair.sign(&random, message).expect("a message can be signed").as_ref().to_vec(),
            Key::Ed(pair) => pair.sign(message).as_ref().to_vec(),
            Key::Rsa(pair) => {
                let padding: &dyn RsaEncoding = match self.algorithm {
                    "RS256" => &RSA_PKCS1_SHA256,
                    "RS384" => &RSA_PKCS1_SHA384,
                    "RS512" => &RSA_PKCS1_SHA512,
                    _ => &RSA_PSS_SHA256,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &random, message, &mut signature).expect("a message can be signed");
                signature
            }
        }
    }
}

/// Claims of a token that is good for ten minutes from `now` (Unix seconds), with the scope `read`.
pub fn claims(now: i64) -> Value {
    json!({ "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 600, "sub": "somebody", "scope": "read" })
}

/// The provider of a policy that takes the tokens of these issuers, by clocks that agree.
pub fn provider(issuers: &[&TokenIssuer], binding: &str) -> Value {
    let keys: Vec<Value> = issuers.iter().map(|issuer| issuer.jwk()).collect();
    json!({
        "issuer": ISSUER, "audience": [AUDIENCE], "binding": binding, "clock_skew": "0s", "jwks": { "keys": keys },
    })
}

/// What the signature covers.
fn signed(header: &Value, payload: &str) -> String {
    let encode = |part: &str| BASE64_URL_SAFE_NO_PAD.encode(part);
    format!("{}.{}", encode(&header.to_string()), encode(payload))
}

/// Bytes in place of a signature, in base64url. As numbers they could be one: they are below the order of every curve, or
/// the modulus of every key, so that only the arithmetic tells.
pub fn no_signature(number: usize, length: usize) -> String {
    use sha2::Digest as _;
    let parts = (0..length.div_ceil(32)).map(|part| sha2::Sha256::digest(format!("{number}/{part}")));
    let mut bytes: Vec<u8> = parts.flatten().take(length).collect();
    bytes.iter_mut().step_by(16).for_each(|byte| *byte &= 0x7f);
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The `cnf` of a token for the certificate with this DER only (RFC 8705 §3.1).
pub fn bound_to(der: &[u8]) -> Value {
    use sha2::Digest as _;
    json!({ "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(der)) })
}
