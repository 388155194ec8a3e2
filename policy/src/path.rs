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
    let decoded = String::from_utf8(decoded).map_err(|_| Reason::PathNotUtf8)?;
    // Beyond ASCII there are more: U+0080 to U+009F, of which some end a line.
    if decoded.chars().any(char::is_control) {
        return Err(Reason::PathInvalidCharacter);
    }
    Ok(Cow::Owned(decoded))
}

/// The byte that two hexadecimal digits stand for, and what comes after them.
fn escape(digits: &[u8]) -> Option<(u8, &[u8])> {
    let (&[high, low], after) = digits.split_first_chunk::<2>()?;
    Some((hex::digit(high)? << 4 | hex::digit(low)?, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const AS_IT_IS: Normalization = Normalization { normalize_path: false, merge_slashes: false };
    const DOTS: Normalization = Normalization { normalize_path: true, merge_slashes: false };
    const SLASHES: Normalization = Normalization { normalize_path: false, merge_slashes: true };
    const BOTH: Normalization = Normalization { normalize_path: true, merge_slashes: true };

    type Form = Result<&'static str, Reason>;

    /// The segments joined by slashes, so that a table can be read.
    fn parse(target: &[u8], normalization: Normalization) -> Result<String, Reason> {
        let path = RequestPath::parse(target, normalization)?;
        Ok(path.segments().iter().flat_map(|segment| ["/", segment]).collect())
    }

    #[test]
    fn a_path_has_one_form_or_a_reason_why_not() {
        use Reason::*;
        let cases: &[(&str, &[u8], Form)] = &[
            ("the root", b"/", Ok("/")),
            ("segments", b"/orders/42/items", Ok("/orders/42/items")),
            ("a trailing slash", b"/orders/", Ok("/orders/")),
            ("case is kept", b"/Orders/ABC", Ok("/Orders/ABC")),
            ("a query", b"/orders?id=/../x&y=%2f//%zz", Ok("/orders")),
            ("an empty query", b"/orders?", Ok("/orders")),
            ("a second question mark", b"/orders?a?b", Ok("/orders")),
            ("what RFC 3986 lets stand in a segment", b"/a-._~!$&'()*+,=:@", Ok("/a-._~!$&'()*+,=:@")),
            ("dots that are no dot segment", b"/.../.a/a./..a", Ok("/.../.a/a./..a")),
            ("an escaped letter", b"/%61dmin", Ok("/admin")),
            ("an escaped space", b"/a%20b", Ok("/a b")),
            ("escaped UTF-8", b"/b%c3%BCcher", Ok("/b\u{fc}cher")),
            ("an escaped per cent sign", b"/100%25", Ok("/100%")),
            ("an escaped per cent sign before one digit", b"/%254", Ok("/%4")),
            ("an escaped question mark", b"/a%3fb", Ok("/a?b")),
            ("an escaped number sign", b"/a%23b", Ok("/a#b")),
            ("missing", b"", Err(PathMissing)),
            ("no leading slash", b"orders", Err(PathNotAbsolute)),
            ("an asterisk", b"*", Err(PathNotAbsolute)),
            ("the absolute form", b"http://a.example/orders", Err(PathNotAbsolute)),
            ("the authority form", b"a.example:443", Err(PathNotAbsolute)),
            ("only a query", b"?a", Err(PathNotAbsolute)),
            ("a backslash in front", b"\\orders", Err(PathNotAbsolute)),
            ("two slashes in front", b"//admin", Err(PathEmptySegment)),
            ("two slashes inside", b"/a//b", Err(PathEmptySegment)),
            ("two slashes at the end", b"/a//", Err(PathEmptySegment)),
            ("a dot segment", b"/a/./b", Err(PathDotSegment)),
            ("two dots", b"/a/../admin", Err(PathDotSegment)),
            ("two dots at the end", b"/a/..", Err(PathDotSegment)),
            ("two dots before the query", b"/a/..?b", Err(PathDotSegment)),
            ("escaped dots", b"/a/%2e%2e/admin", Err(PathDotSegment)),
            ("one escaped dot of two", b"/a/.%2E/admin", Err(PathDotSegment)),
            ("an escaped slash", b"/a%2fb", Err(PathEscapedSeparator)),
            ("an escaped slash in upper case", b"/a%2Fb", Err(PathEscapedSeparator)),
            ("dots behind an escaped slash", b"/a%2f..%2fadmin", Err(PathEscapedSeparator)),
            ("an escaped backslash", b"/a%5cb", Err(PathEscapedSeparator)),
            ("an escaped NUL", b"/admin%00.html", Err(PathEscapedSeparator)),
            ("a backslash", b"/a\\b", Err(PathInvalidCharacter)),
            ("dots and a backslash", b"/a/..\\admin", Err(PathInvalidCharacter)),
            ("a fragment", b"/admin#x", Err(PathInvalidCharacter)),
            ("a fragment in the query", b"/a?b#c", Err(PathInvalidCharacter)),
            ("a space", b"/a b", Err(PathInvalidCharacter)),
            ("a space in the query", b"/a?b HTTP/1.1", Err(PathInvalidCharacter)),
            ("a NUL", b"/a\0", Err(PathInvalidCharacter)),
            ("a NUL in the query", b"/a?\0", Err(PathInvalidCharacter)),
            ("a tab", b"/a\t", Err(PathInvalidCharacter)),
            ("delete", b"/a\x7f", Err(PathInvalidCharacter)),
            ("raw UTF-8", "/b\u{fc}cher".as_bytes(), Err(PathInvalidCharacter)),
            ("raw bytes in the query", b"/a?\xff", Err(PathInvalidCharacter)),
            ("an escaped line feed", b"/a%0aX: y", Err(PathInvalidCharacter)),
            ("only an escaped line feed", b"/a%0ab", Err(PathInvalidCharacter)),
            ("an escaped delete", b"/a%7f", Err(PathInvalidCharacter)),
            ("the first control character beyond ASCII", b"/a%C2%80b", Err(PathInvalidCharacter)),
            ("a line's end beyond ASCII", b"/a%c2%85b", Err(PathInvalidCharacter)),
            ("the last control character beyond ASCII", b"/a%c2%9f", Err(PathInvalidCharacter)),
            ("the character after it", b"/a%c2%a0", Ok("/a\u{a0}")),
            ("a parameter", b"/a;b=c", Err(PathParameter)),
            ("dots with a parameter", b"/a/..;/admin", Err(PathParameter)),
            ("an escaped semicolon", b"/a/..%3b/admin", Err(PathParameter)),
            ("a lone per cent sign", b"/a%", Err(PathBadEscape)),
            ("one digit", b"/a%2", Err(PathBadEscape)),
            ("an escape across a slash", b"/a%2/f", Err(PathBadEscape)),
            ("no digits", b"/a%zz", Err(PathBadEscape)),
            ("a sign for a digit", b"/a%+1", Err(PathBadEscape)),
            ("a code point of IIS", b"/a%u002f", Err(PathBadEscape)),
            ("an escaped slash, escaped", b"/a%252fb", Err(PathDoubleEncoding)),
            ("an escaped dot, escaped", b"/%252e%252e/admin", Err(PathDoubleEncoding)),
            ("an escape put together from escapes", b"/a%25%32%66b", Err(PathDoubleEncoding)),
            ("escaped three times", b"/a%25252fb", Err(PathDoubleEncoding)),
            ("overlong slash", b"/a%c0%afadmin", Err(PathNotUtf8)),
            ("overlong dots", b"/%c0%ae%c0%ae/admin", Err(PathNotUtf8)),
            ("escaped Latin-1", b"/b%fccher", Err(PathNotUtf8)),
            ("an escaped surrogate", b"/%ed%a0%80", Err(PathNotUtf8)),
        ];
        for &(name, target, want) in cases {
            assert_eq!(parse(target, AS_IT_IS).as_deref(), want.as_ref().copied(), "{name}");
        }
    }

    #[test]
    fn what_the_proxy_rewrites_is_matched_as_rewritten() {
        use Reason::*;
        let cases: &[(&str, Normalization, &[u8], Form)] = &[
            ("a dot", DOTS, b"/a/./b", Ok("/a/b")),
            ("a dot at the end", DOTS, b"/a/.", Ok("/a/")),
            ("two dots", DOTS, b"/a/../b", Ok("/b")),
            ("two dots at the end", DOTS, b"/a/b/..", Ok("/a/")),
            ("two dots back to the root", DOTS, b"/a/..", Ok("/")),
            ("above the root", DOTS, b"/../../admin", Ok("/admin")),
            ("escaped dots", DOTS, b"/public/%2e%2e/admin", Ok("/admin")),
            ("dots do not merge slashes", DOTS, b"/a//b", Err(PathEmptySegment)),
            ("two slashes", SLASHES, b"/a//b", Ok("/a/b")),
            ("two slashes in front", SLASHES, b"//admin", Ok("/admin")),
            ("many at the end", SLASHES, b"/a///", Ok("/a/")),
            ("nothing but slashes", SLASHES, b"///", Ok("/")),
            ("merging does not remove dots", SLASHES, b"/a/../b", Err(PathDotSegment)),
            ("two dots take one of two slashes away", BOTH, b"/a//../b", Ok("/a/b")),
            ("both", BOTH, b"//a/.//b/../c", Ok("/a/c")),
            ("separators stay refused", BOTH, b"/a/..%2fadmin", Err(PathEscapedSeparator)),
        ];
        for &(name, normalization, target, want) in cases {
            assert_eq!(parse(target, normalization).as_deref(), want.as_ref().copied(), "{name}");
        }
    }

    #[test]
    fn only_the_path_has_a_limit() {
        let path = |length| [&b"/"[..], &vec![b'a'; length - 1]].concat();
        let longest = path(MAX_PATH);
        assert!(RequestPath::parse(&longest, AS_IT_IS).is_ok());
        assert!(RequestPath::parse(&[&longest[..], b"?", &longest].concat(), AS_IT_IS).is_ok());
        assert_eq!(parse(&path(MAX_PATH + 1), AS_IT_IS), Err(Reason::PathTooLong));
        assert_eq!(parse(&path(60 * 1024), AS_IT_IS), Err(Reason::PathTooLong));
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        let path = RequestPath::parse(b"/orders/42", AS_IT_IS).unwrap();
        assert!(path.segments().iter().all(|segment| matches!(segment, Cow::Borrowed(_))));
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_free_of_what_is_refused(
            // Mostly pieces that mean something, so that many paths are accepted.
            pieces in proptest::collection::vec(
                prop_oneof![
                    Just("/".to_owned()), Just(".".to_owned()), Just("..".to_owned()), Just("a".to_owned()),
                    "%[0-9a-f]{2}", "%c2%[89ab][0-9a-f]", "[ -~]", "%25", "\\?"
                ],
                0..12,
            ),
            normalize_path: bool,
            merge_slashes: bool,
        ) {
            let target = format!("/{}", pieces.concat());
            let normalization = Normalization { normalize_path, merge_slashes };
            if let Ok(path) = RequestPath::parse(target.as_bytes(), normalization) {
                let (last, others) = path.segments().split_last().expect("a path has a segment");
                prop_assert!(others.iter().all(|segment| !segment.is_empty()));
                for segment in others.iter().chain([last]) {
                    prop_assert!(segment != "." && segment != "..");
                    prop_assert!(!segment.contains(['/', '\\', ';', '\0']));
                    prop_assert!(!segment.chars().any(|character| character.is_control()));
                }
                // What no proxy would rewrite does not depend on the policy's word about it.
                if let Ok(as_it_is) = RequestPath::parse(target.as_bytes(), AS_IT_IS) {
                    prop_assert_eq!(path, as_it_is);
                }
            }
        }

        #[test]
        fn segments_survive_being_escaped(segments in proptest::collection::vec("[a-zA-Z0-9 #?\u{e4}\u{4e2d}]{1,8}", 1..6)) {
            let target: String = segments
                .iter()
                .map(|segment| segment.bytes().fold("/".to_owned(), |text, byte| format!("{text}%{byte:02X}")))
                .collect();
            let path = RequestPath::parse(target.as_bytes(), AS_IT_IS).unwrap();
            prop_assert_eq!(path.segments(), segments);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused(target: Vec<u8>) {
            let _ = RequestPath::parse(&target, AS_IT_IS);
            let _ = RequestPath::parse(&[b"/", &target[..]].concat(), BOTH);
        }
    }
}
