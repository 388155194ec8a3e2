//! Where a token may be: one `Authorization` header of the scheme `Bearer` (RFC 6750 §2.1), and nowhere else.

use std::ops::RangeInclusive;

use crate::ascii;
use crate::decide::Head;

/// What the `Authorization` header of a request holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials<'h> {
    /// No token: there is no such header, or it is of another scheme.
    None,
    /// The text after `Bearer`.
    Bearer(&'h [u8]),
    /// The scheme `Bearer`, and after it anything but one space and one token; or `Bearer` behind another scheme.
    Malformed,
}

const SCHEME: &[u8] = b"bearer";

/// Reads the header.
pub(crate) fn read<'h>(head: &Head<'h>) -> Credentials<'h> {
    let mut values = head.fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"authorization"));
    let Some((_, value)) = values.next() else {
        return Credentials::None;
    };
    // A program behind the gate may skip white space that it should not: what it could take for a token is one.
    let trimmed = value.trim_ascii_start();
    let Some(rest) = after_scheme(trimmed) else {
        // Proxies join two fields into one with a comma (RFC 9110 §5.3).
        let joined = elements(trimmed).any(|element| after_scheme(element.trim_ascii_start()).is_some());
        return if joined { Credentials::Malformed } else { Credentials::None };
    };
    match rest.split_first() {
        Some((b' ', token)) if is_token68(token) && trimmed.len() == value.len() && values.next().is_none() => {
            Credentials::Bearer(token)
        }
        _ => Credentials::Malformed,
    }
}

/// What comes after the scheme `Bearer`; `None` if the text begins in another way.
fn after_scheme(text: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = text.split_at_checked(SCHEME.len())?;
    let ends = !rest.first().is_some_and(|next| is_token_byte(*next));
    (ends && scheme.eq_ignore_ascii_case(SCHEME)).then_some(rest)
}

/// What stands between the commas outside of quoted strings (RFC 9110 §5.6.4). A quotation mark that begins no parameter's
/// value, or whose string does not end, quotes nothing.
fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut length = 0;
        while let Some((&byte, ahead)) = text.get(length..).and_then(<[u8]>::split_first) {
            match byte {
                b',' => break,
                b'=' => length += 1 + quoted_length(ahead),
                _ => length += 1,
            }
        }
        let (element, after) = text.split_at_checked(length)?;
        rest = after.get(1..);
        Some(element)
    })
}

/// How long the quoted string is that the text begins with; 0 if it does not.
fn quoted_length(text: &[u8]) -> usize {
    let Some(inner) = text.strip_prefix(b"\"") else { return 0 };
    let mut escaped = false;
    let end = inner.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(0, |end| end + 2)
}

/// How many tokens the request's target carries (RFC 6750 §2.3).
pub(crate) fn in_query(path: &[u8]) -> usize {
    let query = path.iter().position(|&byte| byte == b'?').and_then(|mark| path.get(mark + 1..)).unwrap_or_default();
    // Some programs divide a query at semicolons too.
    let fields = query.split(|byte| matches!(byte, b'&' | b';'));
    let names = fields.map(|field| field.split(|&byte| byte == b'=').next().unwrap_or_default());
    names.filter(|name| unescape(name).eq(*b"access_token")).count()
}

/// The bytes of a query's name, as programs behind the gate read them.
fn unescape(name: &[u8]) -> impl Iterator<Item = u8> {
    let mut rest = name.iter().copied();
    std::iter::from_fn(move || {
        let byte = rest.next()?;
        let mut ahead = rest.clone();
        let digits = (byte == b'%').then(|| Some((hex(ahead.next()?)?, hex(ahead.next()?)?))).flatten();
        Some(match digits {
            Some((high, low)) => {
                rest = ahead;
                high << 4 | low
            }
            None => byte,
        })
    })
}

fn hex(digit: u8) -> Option<u8> {
    crate::hex::digit(digit)
}

/// A character of a token (RFC 9110 §5.6.2), such as a scheme's name or a field's.
pub(crate) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The syntax of RFC 6750 §2.1. Commas and spaces are not in it: no list of tokens passes for one.
fn is_token68(token: &[u8]) -> bool {
    let end = token.iter().rposition(|&byte| byte != b'=').map_or(0, |last| last + 1);
    let (text, _) = token.split_at_checked(end).unwrap_or_default();
    !text.is_empty() && ascii::is_made_of(text, &TOKEN68)
}

/// What a token may be made of, its padding apart.
const TOKEN68: [RangeInclusive<u8>; 6] = [b'+'..=b'+', b'-'..=b'9', b'A'..=b'Z', b'_'..=b'_', b'a'..=b'z', b'~'..=b'~'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_space_and_one_token_after_the_scheme() {
        let cases: &[(&str, &[&[u8]], Credentials<'_>)] = &[
            ("no header", &[], Credentials::None),
            ("a token", &[b"Bearer a.b-c_d"], Credentials::Bearer(b"a.b-c_d")),
            ("the scheme has no case", &[b"bEARER a"], Credentials::Bearer(b"a")),
            ("padding is left to the token's form", &[b"Bearer a=="], Credentials::Bearer(b"a==")),
            ("another scheme", &[b"Basic dXNlcjpwYXNz"], Credentials::None),
            ("a scheme that begins alike", &[b"BearerX a"], Credentials::None),
            ("a scheme that begins alike, with a hyphen", &[b"Bearer-X a"], Credentials::None),
            ("a part of the scheme", &[b"Bear"], Credentials::None),
            ("an empty value", &[b""], Credentials::None),
            ("no token", &[b"Bearer"], Credentials::Malformed),
            ("an empty token", &[b"Bearer "], Credentials::Malformed),
            ("padding alone", &[b"Bearer =="], Credentials::Malformed),
            ("two spaces", &[b"Bearer  a"], Credentials::Malformed),
            ("a tab", &[b"Bearer\ta"], Credentials::Malformed),
            ("white space before it", &[b" Bearer a"], Credentials::Malformed),
            ("white space after it", &[b"Bearer a "], Credentials::Malformed),
            ("a list of tokens", &[b"Bearer a, Bearer b"], Credentials::Malformed),
            ("a list without spaces", &[b"Bearer a,b"], Credentials::Malformed),
            ("two words", &[b"Bearer a b"], Credentials::Malformed),
            ("quotes", &[b"Bearer \"a\""], Credentials::Malformed),
            ("a comma after the scheme", &[b"Bearer,a"], Credentials::Malformed),
            ("NUL", &[b"Bearer a\0"], Credentials::Malformed),
            ("not ASCII", &[b"Bearer \xff"], Credentials::Malformed),
            ("padding in the middle", &[b"Bearer a=b"], Credentials::Malformed),
            ("another scheme before it", &[b"Basic a, Bearer b"], Credentials::Malformed),
            ("another scheme before it, without spaces", &[b"Basic a,bEARER b"], Credentials::Malformed),
            ("two schemes before it", &[b"Basic a, Digest x=\"1\", y=2,\tBearer b"], Credentials::Malformed),
            ("the scheme alone behind another", &[b"Basic a, Bearer"], Credentials::Malformed),
            ("nothing before the comma", &[b", Bearer a"], Credentials::Malformed),
            ("a scheme that begins alike behind another", &[b"Basic a, BearerX b"], Credentials::None),
            ("the scheme as a word of another", &[b"Basic Bearer a"], Credentials::None),
            ("the scheme in quotes", &[b"Digest x=\"a, Bearer b\", y=1"], Credentials::None),
            ("the scheme in quotes with an escape", &[b"Digest x=\"a\\\", Bearer b\""], Credentials::None),
            ("behind an escape that is escaped", &[b"Digest x=\"a\\\\\", Bearer b"], Credentials::Malformed),
            ("behind quotes", &[b"Digest x=\"a,\", Bearer b"], Credentials::Malformed),
            ("behind quotes that do not end", &[b"Digest x=\"a, Bearer b"], Credentials::Malformed),
            ("between quotes of no value", &[b"Basic \", Bearer a, Basic \""], Credentials::Malformed),
            ("two headers", &[b"Bearer a", b"Bearer b"], Credentials::Malformed),
            ("two headers of one value", &[b"Bearer a", b"Bearer a"], Credentials::Malformed),
        ];
        for (name, values, expected) in cases {
            let fields = values.iter().map(|value| (&b"Authorization"[..], *value)).collect();
            assert_eq!(read(&Head { fields, ..Head::default() }), *expected, "{name}");
        }
    }

    #[test]
    fn tokens_in_the_query_are_found_however_they_are_written() {
        let cases = [
            ("/a", 0),
            ("/a?x=1", 0),
            ("/a?access_token=t", 1),
            ("/a?x=1&access_token=t", 1),
            ("/a?x=1;access_token=t", 1),
            ("/a?access_token", 1),
            ("/a?access%5Ftoken=t", 1),
            ("/a?%61ccess_token=t", 1),
            ("/a?access_token=t&access_token=u", 2),
            ("/a?access_token=t&x=1;access%5ftoken=t", 2),
            ("/a?y=?access_token=t", 0),
            ("/a?access_tokens=t", 0),
            ("/a?xaccess_token=t", 0),
            ("/a?x=access_token", 0),
            ("/access_token=t", 0),
            ("/a?access%5_token=t", 0),
            ("/a?%", 0),
        ];
        for (path, expected) in cases {
            assert_eq!(in_query(path.as_bytes()), expected, "{path}");
        }
    }
}
