//! `revocations:`, which no person writes.

use serde::Deserialize;

use super::objects;
use super::text::Text;
use super::text::present;
use crate::revocation::WhenStale;

/// A set of revoked certificates: see [`crate::revocation`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Revocations<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) keys: Option<Text<'a>>,
    #[serde(borrow, default, deserialize_with = "objects")]
    pub(crate) brakes: Vec<Brake<'a>>,
    #[serde(borrow, default, deserialize_with = "present")]
    pub(crate) fresh_until: Option<Text<'a>>,
    #[serde(default)]
    pub(crate) when_stale: WhenStale,
}

/// An authority, and an instant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Brake<'a> {
    #[serde(borrow)]
    pub(crate) issuer_sha256: Text<'a>,
    #[serde(borrow)]
    pub(crate) issued_before: Text<'a>,
}
