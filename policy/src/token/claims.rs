//! The registered claims (RFC 7519 §4.1), checked against what the configuration expects.

use std::fmt;
use std::time::Duration;

use serde_json::Map;
use serde_json::Value;

use super::TokenError;
use super::json;
use super::json::Glimpse;
use crate::time::UnixTime;

/// Latest instant that a claim may name: the end of the year 9999.
const MAX_INSTANT: f64 = 253_402_300_799.0;

/// What a token must say to be taken. A claim that is expected and missing is a refusal unless it is waived by name.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    /// The only `iss`; `None` takes every one.
    pub issuer: Option<String>,
    /// A token without `iss` is taken too.
    pub waive_issuer: bool,
    /// One of these must be in `aud`; empty takes every audience.
    pub audience: Vec<String>,
    /// A token without `aud` is taken too.
    pub waive_audience: bool,
    /// A token without `exp` is taken too.
    pub waive_expiry: bool,
    /// How far the issuer's clock may be off.
    pub clock_skew: Duration,
}

/// The registered claims of a payload that nobody needs to have signed: enough to refuse a token, and nothing to believe.
pub struct RegisteredClaims<'p> {
    payload: &'p [u8],
    issuer: Option<Glimpse<'p>>,
    audience: Option<Glimpse<'p>>,
    validity: Validity,
}

/// When a token is good.
#[derive(Clone, Copy, Debug, Default)]
struct Validity {
    /// `exp`.
    not_after: Option<i64>,
    /// `nbf`.
    not_before: Option<i64>,
}

impl<'p> RegisteredClaims<'p> {
    /// Reads a payload.
    ///
    /// # Errors
    ///
    /// [`TokenError::ClaimsInvalid`]: not a JSON object, a name in it twice, or `exp`, `nbf` or `iat` is no time.
    pub fn parse(payload: &'p [u8]) -> Result<Self, TokenError> {
        let (mut issuer, mut audience, mut exp, mut nbf, mut iat) = (None, None, None, None, None);
        let take = |name: &str, value| match name {
            "iss" => issuer = Some(value),
            "aud" => audience = Some(value),
            "exp" => exp = Some(value),
            "nbf" => nbf = Some(value),
            "iat" => iat = Some(value),
            _ => {}
        };
        json::members(payload, take).ok_or(TokenError::ClaimsInvalid)?;
        let validity = Validity { not_after: instant(exp)?, not_before: instant(nbf)? };
        instant(iat)?;
        Ok(Self { payload, issuer, audience, validity })
    }

    /// `iss`.
    ///
    /// # Errors
    ///
    /// [`TokenError::ClaimsInvalid`], if it is not text.
    pub(super) fn issuer(&self) -> Result<Option<&str>, TokenError> {
        match &self.issuer {
            None => Ok(None),
            Some(Glimpse::Text(iss)) => Ok(Some(iss)),
            Some(_) => Err(TokenError::ClaimsInvalid),
        }
    }

    /// Checks them.
    ///
    /// # Errors
    ///
    /// The first expectation that does not hold.
    pub fn check(&self, expected: &Expectations, now: UnixTime) -> Result<(), TokenError> {
        self.validity.check(expected, now)?;
        self.check_issuer(expected)?;
        let wanted = |aud: &str| expected.audience.is_empty() || expected.audience.iter().any(|one| one == aud);
        let found = match &self.audience {
            None if expected.waive_audience => true,
            None => return Err(TokenError::AudienceMissing),
            Some(Glimpse::Text(aud)) => wanted(aud),
            Some(Glimpse::Texts(list)) => list.iter().any(|aud| wanted(aud)),
            Some(_) => return Err(TokenError::ClaimsInvalid),
        };
        if found { Ok(()) } else { Err(TokenError::AudienceMismatch) }
    }

    /// Checks `iss` alone.
    pub(super) fn check_issuer(&self, expected: &Expectations) -> Result<(), TokenError> {
        match self.issuer()? {
            None if !expected.waive_issuer => Err(TokenError::IssuerMissing),
            Some(iss) if expected.issuer.as_ref().is_some_and(|issuer| issuer != iss) => {
                Err(TokenError::IssuerMismatch)
            }
            _ => Ok(()),
        }
    }

    /// All claims of the payload, once its signature was verified.
    ///
    /// # Errors
    ///
    /// [`TokenError::ClaimsInvalid`].
    pub(super) fn keep(self) -> Result<Claims, TokenError> {
        let Self { payload, validity, .. } = self;
        let all = json::object(payload).ok_or(TokenError::ClaimsInvalid)?;
        Ok(Claims { all, validity, size: payload.len() })
    }
}

impl fmt::Debug for RegisteredClaims<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisteredClaims").finish_non_exhaustive()
    }
}

impl Validity {
    fn check(self, expected: &Expectations, now: UnixTime) -> Result<(), TokenError> {
        let skew = i64::try_from(expected.clock_skew.as_secs()).unwrap_or(i64::MAX);
        match self.not_after {
            // RFC 7519 §4.1.4: on or after `exp` the token must not be taken.
            Some(exp) if now.0 >= exp.saturating_add(skew) => return Err(TokenError::Expired),
            None if !expected.waive_expiry => return Err(TokenError::ExpiryMissing),
            _ => {}
        }
        if self.not_before.is_some_and(|nbf| now.0.saturating_add(skew) < nbf) {
            return Err(TokenError::NotYetValid);
        }
        Ok(())
    }
}

/// The claims of a token whose signature was verified.
#[derive(Clone)]
pub struct Claims {
    all: Map<String, Value>,
    validity: Validity,
    size: usize,
}

impl fmt::Debug for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Claims").finish_non_exhaustive()
    }
}

impl Claims {
    /// Parses a payload whose signature was verified.
    ///
    /// # Errors
    ///
    /// [`TokenError::ClaimsInvalid`].
    pub fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        RegisteredClaims::parse(payload)?.keep()
    }

    /// Claims that nobody signed.
    pub(super) fn thought_of(all: Map<String, Value>) -> Self {
        Self { all, validity: Validity::default(), size: 0 }
    }

    /// About how many bytes the claims take in memory: a JSON value takes several times its text.
    pub(super) fn size(&self) -> usize {
        self.size.saturating_mul(8)
    }

    /// Checks the claims whose answer changes with time: a token that is remembered is asked again with every request.
    pub(crate) fn check_time(&self, expected: &Expectations, now: UnixTime) -> Result<(), TokenError> {
        self.validity.check(expected, now)
    }

    /// The seconds at which the answer of [`Claims::check_time`] may change.
    pub(crate) fn dates(&self, expected: &Expectations) -> impl Iterator<Item = UnixTime> {
        let skew = i64::try_from(expected.clock_skew.as_secs()).unwrap_or(i64::MAX);
        let ends = self.validity.not_after.map(|exp| exp.saturating_add(skew));
        let begins = self.validity.not_before.map(|nbf| nbf.saturating_sub(skew));
        ends.into_iter().chain(begins).map(UnixTime)
    }

    /// First second at which the token is not good any more, without clock skew.
    pub fn expires(&self) -> Option<UnixTime> {
        self.validity.not_after.map(UnixTime)
    }

    /// Every claim.
    pub fn all(&self) -> &Map<String, Value> {
        &self.all
    }
}

/// A `NumericDate` (RFC 7519 §2): a number, fractions cut off, within the years that a clock can show.
fn instant(value: Option<Glimpse<'_>>) -> Result<Option<i64>, TokenError> {
    let seconds = match value {
        None => return Ok(None),
        Some(Glimpse::Number(seconds)) => seconds,
        Some(_) => return Err(TokenError::ClaimsInvalid),
    };
    if !(-MAX_INSTANT..=MAX_INSTANT).contains(&seconds) {
        return Err(TokenError::ClaimsInvalid);
    }
    #[expect(clippy::cast_possible_truncation, reason = "bounded above, and fractions are meant to go")]
    Ok(Some(seconds.floor() as i64))
}
