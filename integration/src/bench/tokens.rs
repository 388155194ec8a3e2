//! Requests with bearer tokens: the same tokens, keys and provider for Portcullis and for Envoy's own `jwt_authn`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use super::drive::Requests;
use super::variant;
use crate::environment::client::HOST_NAME;
use crate::tokens;
use crate::tokens::AUDIENCE;
use crate::tokens::ISSUER;
use crate::tokens::TokenIssuer;

/// How long tokens are good, in seconds: longer than any measurement.
const LIFETIME: i64 = 86_400;
/// Tokens that `jwt_authn` may keep: as many as Portcullis does.
const CACHE: u32 = 16 * 1024;

/// What the tokens of a load are like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) signed: Signed,
    pub(super) sent: Sent,
}

/// With which algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Signed {
    Es256,
    Rs256,
}

/// How often, and whether they are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sent {
    /// One token with every request.
    Cached,
    /// A good token with each request that nobody has seen before.
    First,
    /// Another forged signature with each request.
    Forged,
}

impl Kind {
    pub(super) const fn new(signed: Signed, sent: Sent) -> Self {
        Self { signed, sent }
    }

    /// `first-rs256`; ES256 goes without saying.
    pub(super) fn name(self) -> String {
        let sent = match self.sent {
            Sent::Cached => "cached",
            Sent::First => "first",
            Sent::Forged => "forged",
        };
        match self.signed {
            Signed::Es256 => sent.to_owned(),
            Signed::Rs256 => format!("{sent}-rs256"),
        }
    }

    /// The status of each answer.
    pub(super) fn status(self) -> u16 {
        if self.sent == Sent::Forged { 401 } else { 200 }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let signed = match self.signed {
            Signed::Es256 => "ES256",
            Signed::Rs256 => "RS256",
        };
        match self.sent {
            Sent::Cached => write!(f, "{signed} token, cached"),
            Sent::First => write!(f, "{signed} token, first"),
            Sent::Forged => write!(f, "{signed} token, forged"),
        }
    }
}

/// Who signs, and what was signed for the round in hand.
pub(super) struct Issuers {
    es256: TokenIssuer,
    rs256: TokenIssuer,
    now: i64,
    /// Tokens so far: the number of each is in it.
    count: usize,
    batches: BTreeMap<Kind, Requests>,
}

impl Issuers {
    /// With new keys, at `now` in Unix seconds.
    pub(super) fn new(now: i64) -> Self {
        let (es256, rs256) = (TokenIssuer::new("es256", "ES256"), TokenIssuer::new("rs256", "RS256"));
        Self { es256, rs256, now, count: 0, batches: BTreeMap::new() }
    }

    /// The next round: no token of the one before is sent again, but those that are to be.
    pub(super) fn next_round(&mut self) {
        self.batches.retain(|kind, _| kind.sent == Sent::Cached);
    }

    /// The requests of this round for `path`: the same for everybody who is asked for them.
    pub(super) fn requests(&mut self, kind: Kind, path: &str, count: u64) -> Requests {
        if let Some(known) = self.batches.get(&kind) {
            return known.again(count);
        }
        let requests = match kind.sent {
            Sent::Cached => Requests::Same(self.request(kind, path).into(), count),
            Sent::First | Sent::Forged => {
                Requests::Each((0..count).map(|_| self.request(kind, path)).collect::<Arc<_>>())
            }
        };
        self.batches.insert(kind, requests.clone());
        requests
    }

    fn request(&mut self, kind: Kind, path: &str) -> Vec<u8> {
        let issuer = match kind.signed {
            Signed::Es256 => &self.es256,
            Signed::Rs256 => &self.rs256,
        };
        self.count += 1;
        let mut claims = tokens::claims(self.now);
        claims["exp"] = json!(self.now + LIFETIME);
        claims["jti"] = json!(self.count.to_string());
        let token = if kind.sent == Sent::Forged { issuer.forge(&claims, self.count) } else { issuer.sign(&claims) };
        format!("GET {path} HTTP/1.1\r\nhost: {HOST_NAME}\r\nauthorization: Bearer {token}\r\n\r\n").into_bytes()
    }

    /// The policy of one rule, which wants a scope as well.
    pub(super) fn policy(&self) -> String {
        let mut policy: Value = serde_json::from_str(&variant::policy(1)).expect("it is written as JSON");
        policy["tokens"] = json!({ "corp": tokens::provider(&[&self.es256, &self.rs256], "off") });
        policy["rules"][0]["scopes"] = json!(["read"]);
        policy.to_string()
    }

    /// Envoy's own filter, with a cache.
    pub(super) fn jwt_authn(&self) -> Value {
        let jwks = json!({ "keys": [self.es256.jwk(), self.rs256.jwk()] }).to_string();
        json!({
            "name": "jwt_authn",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication",
                "providers": { "corp": {
                    "issuer": ISSUER,
                    "audiences": [AUDIENCE],
                    "local_jwks": { "inline_string": jwks },
                    "forward": true,
                    "jwt_cache_config": { "jwt_cache_size": CACHE }
                } },
                "rules": [{ "match": { "prefix": "/" }, "requires": { "provider_name": "corp" } }]
            }
        })
    }
}
