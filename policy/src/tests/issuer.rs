//! An issuer of tokens, for tests.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use serde_json::Value;
use serde_json::json;

/// A key on P-256, and tokens signed with it.
pub(crate) struct Issuer {
    pair: rcgen::KeyPair,
    kid: &'static str,
}

impl Issuer {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self { pair: rcgen::KeyPair::generate().expect("a key"), kid }
    }

    pub(crate) fn jwk(&self) -> Value {
        let point = &self.pair.public_key_raw()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": self.kid, "x": x, "y": y })
    }

    /// A token with these claims.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&json!({ "alg": "ES256", "kid": self.kid }), &claims.to_string())
    }

    /// A token with this header and payload, signed with ES256 whatever they say.
    pub(crate) fn sign_as(&self, header: &Value, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header.to_string()), URL_SAFE_NO_PAD.encode(payload));
        let key = EncodingKey::from_ec_der(self.pair.serialized_der());
        let signature =
            jsonwebtoken::crypto::sign(signed.as_bytes(), &key, jsonwebtoken::Algorithm::ES256).expect("signed");
        format!("{signed}.{signature}")
    }
}

/// The `cnf` of a token that is bound to the certificate with this hash.
pub(crate) fn bound_to(sha256: [u8; 32]) -> Value {
    json!({ "x5t#S256": URL_SAFE_NO_PAD.encode(sha256) })
}
