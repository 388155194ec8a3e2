//! The path of a request, in the one form that rules are matched against, or the reason why it has none.
//!
//! A path is never interpreted as a URL and never repaired: what a back end could read in another way than the rules do is
//! refused, unless the policy says that the proxy rewrites it first.

use std::borrow::Cow;

use crate::hex;
use crate::reason::Reason;

/// The longest path that is read, in bytes, without the query.
const MAX_PATH: usize = 8 * 1024;

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
        if target.is_empty() {
            return Err(Reason::PathMissing);
        }
        let mut parts = target.splitn(2, |&byte| byte == b'?');
        let path = parts.next().unwrap_or_default();
        let query = parts.next().unwrap_or_default();
        if path.len() > MAX_PATH {
            return Err(Reason::PathTooLong);
        }
        // The form that proxies and `*` are asked with does not begin with a slash (RFC 9112 §3.2).
        let path = path.strip_prefix(b"/").ok_or(Reason::PathNotAbsolute)?;
        // A query is not matched against, only kept from being a way to hide another request or fragment.
        if !query.iter().all(|&byte| byte.is_ascii_graphic() && byte != b'#') {
            return Err(Reason::PathInvalidCharacter);
        }

        let mut segments: Vec<Cow<'a, str>> = Vec::with_capacity(path.iter().filter(|&&byte| byte == b'/').count() + 1);
        let mut raw = path.split(|&byte| byte == b'/').peekable();
        while let Some(segment) = raw.next() {
            let segment = decode(segment)?;
            let last = raw.peek().is_none();
            match segment.as_ref() {
                // As Envoy does, dots first and slashes then: `/a//..` is `/a/`.
                "." | ".." if normalization.normalize_path => {
                    if segment == ".." {
                        segments.pop();
                    }
                    // `/a/.` and `/a/b/..` are `/a/`.
                    if last {
                        segments.push(Cow::Borrowed(""));
                    }
                }
                "." | ".." => return Err(Reason::PathDotSegment),
                "" if !last && !normalization.merge_slashes => return Err(Reason::PathEmptySegment),
                _ => segments.push(segment),
            }
        }
        if normalization.merge_slashes {
            let end = segments.pop();
            segments.retain(|segment| !segment.is_empty());
            segments.extend(end);
        }
        Ok(Self { segments })
    }

    /// The decoded segments; `/` is one empty segment, a trailing slash is an empty one at the end.
    pub fn segments(&self) -> &[Cow<'a, str>] {
        &self.segments
    }
}

/// Undoes the percent-encoding of one segment, once (RFC 3986 §2.1).
fn decode(raw: &[u8]) -> Result<Cow<'_, str>, Reason> {
    let mut escapes = 0;
    for &byte in raw {
        match byte {
            b'%' => escapes += 1,
            b';' => return Err(Reason::PathParameter),
            b'#' | b'\\' => return Err(Reason::PathInvalidCharacter),
            _ if !byte.is_ascii_graphic() => return Err(Reason::PathInvalidCharacter),
            _ => {}
        }
    }
    if escapes == 0 {
        return str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| Reason::PathNotUtf8);
    }
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            decoded.push(byte);
            continue;
        }
        let (byte, after) = escape(after).ok_or(Reason::PathBadEscape)?;
        match byte {
            b'/' | b'\\' | 0 => return Err(Reason::PathEscapedSeparator),
            b';' => return Err(Reason::PathParameter),
            _ if byte.is_ascii_control() => return Err(Reason::PathInvalidCharacter),
            _ => decoded.push(byte),
        }
        rest = after;
    }
    // Looked for in what came out, since `%25%32%66` hides `%2f` as well as `%252f` does.
    if decoded.windows(3).any(|window| window.strip_prefix(b"%").and_then(escape).is_some()) {
        return Err(Reason::PathDoubleEncoding);
    }
    String::from_utf8(decoded).map(Cow::Owned).map_err(|_| Reason::PathNotUtf8)
}

/// The byte that two hexadecimal digits stand for, and what comes after them.
fn escape(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = digits.split_first_chunk::<2>()?;
    Some((hex::digit(high)? << 4 | hex::digit(low)?, after))
}
