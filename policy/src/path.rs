//! The path of a request, in the one form that rules are matched against, or the reason why it has none.

use std::borrow::Cow;

use crate::reason::Reason;

/// How the proxy rewrites a path before it forwards it; by default not at all, so that what it could rewrite is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Normalization {
    /// Envoy's `normalize_path`: dot segments are removed (RFC 3986 §5.2.4).
    pub normalize_path: bool,
    /// Envoy's `merge_slashes`: adjacent slashes become one.
    pub merge_slashes: bool,
}

/// A path that a rule can be matched against: decoded once, split into segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestPath<'a> {
    segments: Vec<Cow<'a, str>>,
}

impl<'a> RequestPath<'a> {
    /// Parses the `:path` of a request (path and query).
    ///
    /// # Errors
    ///
    /// The [`Reason`] to refuse the request with.
    pub fn parse(target: &'a [u8], normalization: Normalization) -> Result<Self, Reason> {
        let _ = (target, normalization);
        Err(Reason::PathMissing)
    }

    /// The decoded segments; `/` is one empty segment, a trailing slash is an empty one at the end.
    pub fn segments(&self) -> &[Cow<'a, str>] {
        &self.segments
    }
}
