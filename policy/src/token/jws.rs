//! The compact serialization (RFC 7515 §7.1), read strictly.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::TokenError;
use super::json;
use super::json::Glimpse;
use crate::signature::Algorithm;

/// Longest token that is read, in bytes. Header maps of proxies end well below it.
const MAX_TOKEN: usize = 16 * 1024;

/// A token that is well formed. Nothing of it is trusted before [`verify`](super::verify) or
/// [`KeySet::verify`](super::KeySet::verify).
#[derive(Debug)]
pub struct Jws<'t> {
    algorithm: Algorithm,
    kid: Option<String>,
    signed: &'t [u8],
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'t> Jws<'t> {
    /// Parses the compact form. `jwk`, `jku`, `x5u` and `x5c` are never looked at: keys come from configuration.
    ///
    /// # Errors
    ///
    /// A [`TokenError`] of form: nothing here depends on a key.
    pub fn parse(token: &'t [u8]) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN {
            return Err(TokenError::TooLarge);
        }
        let is_dot = |byte: &u8| *byte == b'.';
        let mut parts = token.splitn(3, is_dot);
        let (Some(header), Some(payload), Some(signature)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(TokenError::Malformed);
        };
        if signature.contains(&b'.') {
            // Five parts are the compact form of JWE (RFC 7516 §7.1).
            let is_jwe = signature.split(is_dot).count() == 3;
            return Err(if is_jwe { TokenError::Nested } else { TokenError::Malformed });
        }
        let signed_length = header.len() + 1 + payload.len();
        let signed = token.get(..signed_length).ok_or(TokenError::Malformed)?;
        let (algorithm, kid) = read_header(&decode(header)?)?;
        let (payload, signature) = (decode(payload)?, decode(signature)?);
        Ok(Self { algorithm, kid, signed, payload, signature })
    }

    /// `alg`, as the token claims it.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// `kid`: a look-up key and nothing else.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What the signature covers: header, dot, payload, as they came.
    pub fn signed(&self) -> &'t [u8] {
        self.signed
    }

    /// The payload's bytes.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signature's bytes, as RFC 7518 lays them out.
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }
}

/// Strict base64url: not empty, no padding, no white space, no stray bits at the end.
fn decode(part: &[u8]) -> Result<Vec<u8>, TokenError> {
    match URL_SAFE_NO_PAD.decode(part) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(TokenError::Malformed),
    }
}

fn read_header(bytes: &[u8]) -> Result<(Algorithm, Option<String>), TokenError> {
    let (mut is_critical, mut is_encrypted) = (false, false);
    let (mut b64, mut cty, mut typ, mut kid, mut alg) = (None, None, None, None, None);
    let take = |name: &str, value| match name {
        "crit" => is_critical = true,
        "enc" => is_encrypted = true,
        "b64" => b64 = Some(value),
        "cty" => cty = Some(value),
        "typ" => typ = Some(value),
        "kid" => kid = Some(value),
        "alg" => alg = Some(value),
        _ => {}
    };
    json::members(bytes, take).ok_or(TokenError::HeaderInvalid)?;
    // RFC 7515 §4.1.11: a recipient that does not understand an extension must reject the token. None is understood.
    if is_critical {
        return Err(TokenError::CriticalHeader);
    }
    // RFC 7797: with `b64: false` the signed bytes are others than those that are read here.
    if b64.is_some_and(|b64| b64 != Glimpse::Bool(true)) {
        return Err(TokenError::HeaderInvalid);
    }
    if is_encrypted || text(cty)?.is_some_and(|content_type| is_jwt(&content_type)) {
        return Err(TokenError::Nested);
    }
    text(typ)?;
    let kid = text(kid)?.map(Cow::into_owned);
    let name = text(alg)?.ok_or(TokenError::HeaderInvalid)?;
    let algorithm = Algorithm::parse(&name).ok_or(TokenError::AlgorithmNotAllowed)?;
    Ok((algorithm, kid))
}

/// Whether a content type says that the payload is a token. `application/` may be left out (RFC 7515 §4.1.10).
fn is_jwt(content_type: &str) -> bool {
    ["jwt", "application/jwt"].iter().any(|known| content_type.eq_ignore_ascii_case(known))
}

/// A parameter that is a string where it is present.
fn text(value: Option<Glimpse<'_>>) -> Result<Option<Cow<'_, str>>, TokenError> {
    match value {
        None => Ok(None),
        Some(Glimpse::Text(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::HeaderInvalid),
    }
}
