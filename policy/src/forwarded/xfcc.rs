//! The text form of `x-forwarded-client-cert`, as Envoy writes it.
//!
//! ```text
//! header  = element *( "," element )
//! element = pair *( ";" pair )
//! pair    = key "=" ( *plain / DQUOTE *( escaped / quotable ) DQUOTE )
//! ```
//!
//! Envoy quotes `Cert`, `Chain`, `Subject` and `Issuer` and nothing else; it writes `By`, `URI` and `DNS` once for each name
//! of the certificate, raw, and `URI=` if there is no such name. Keys have any case and otherwise occur once. What readers
//! differ on is malformed here: white space around keys, quotes inside a value, anything after a closing quote.

use std::borrow::Cow;

use super::Element;
use super::MAX_ELEMENTS;
use super::Malformed;
use crate::certificate::percent_decode;
use crate::hex;

/// Reads a whole header.
pub(super) fn parse(text: &str) -> Result<Vec<Element<'_>>, Malformed> {
    let mut elements = Vec::new();
    let mut rest = text;
    loop {
        if elements.len() == MAX_ELEMENTS {
            return Err(Malformed);
        }
        let mut element = Element::default();
        loop {
            let (key, value) = rest.split_once('=').ok_or(Malformed)?;
            let (value, after) = Value::split(value)?;
            element.set(key, value)?;
            rest = after;
            match rest.strip_prefix(';') {
                Some(next) => rest = next,
                None => break,
            }
        }
        elements.push(element);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None if rest.is_empty() => return Ok(elements),
            None => return Err(Malformed),
        }
    }
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Plain(&'a str),
    /// What stands between the quotes, its escapes kept.
    Quoted(&'a str),
}

impl<'a> Value<'a> {
    /// The value at the beginning of `text`, and what comes after it.
    fn split(text: &'a str) -> Result<(Self, &'a str), Malformed> {
        let Some(quoted) = text.strip_prefix('"') else {
            let end = text.find([',', ';']).unwrap_or(text.len());
            let (value, rest) = text.split_at(end);
            return if value.contains('"') { Err(Malformed) } else { Ok((Self::Plain(value), rest)) };
        };
        let mut escaped = false;
        for (position, byte) in quoted.bytes().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => {
                    let (value, rest) = quoted.split_at(position);
                    return Ok((Self::Quoted(value), rest.strip_prefix('"').unwrap_or(rest)));
                }
                _ => {}
            }
        }
        Err(Malformed)
    }

    /// A distinguished name. Its own escapes (RFC 2253 §2.4) are what keeps a quote in it from ending the value.
    fn name(self) -> Cow<'a, str> {
        let (Self::Plain(text) | Self::Quoted(text)) = self;
        Cow::Borrowed(text)
    }

    /// A value that has no quote to escape.
    fn text(self) -> Result<&'a str, Malformed> {
        match self {
            Self::Quoted(text) if text.contains('\\') => Err(Malformed),
            Self::Plain(text) | Self::Quoted(text) => Ok(text),
        }
    }

    fn pem(self) -> Result<Vec<u8>, Malformed> {
        percent_decode(self.text()?.as_bytes()).map_err(|_| Malformed)
    }
}

impl<'a> Element<'a> {
    fn set(&mut self, key: &str, value: Value<'a>) -> Result<(), Malformed> {
        let is = |name: &str| key.eq_ignore_ascii_case(name);
        if is("By") {
            let text = value.text()?;
            if text.is_empty() {
                return Err(Malformed);
            }
            self.by.push(text.into());
            Ok(())
        } else if is("Hash") {
            once(&mut self.hash, hash(value.text()?)?)
        } else if is("Cert") {
            once(&mut self.cert, value.pem()?)
        } else if is("Chain") {
            once(&mut self.chain, value.pem()?)
        } else if is("Subject") {
            once(&mut self.subject, value.name())
        } else if is("Issuer") {
            once(&mut self.issuer, value.name())
        } else if is("URI") {
            several(&mut self.uri, value.text()?)
        } else if is("DNS") {
            several(&mut self.dns, value.text()?)
        } else {
            Err(Malformed)
        }
    }
}

fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    if slot.replace(value).is_some() { Err(Malformed) } else { Ok(()) }
}

/// Adds a name. An empty one stands for "none" and stands alone.
fn several<'a>(slot: &mut Option<Vec<Cow<'a, str>>>, name: &'a str) -> Result<(), Malformed> {
    match (slot, name) {
        (slot @ None, "") => *slot = Some(Vec::new()),
        (slot @ None, name) => *slot = Some(vec![name.into()]),
        (Some(names), name) if !names.is_empty() && !name.is_empty() => names.push(name.into()),
        (Some(_), _) => return Err(Malformed),
    }
    Ok(())
}

/// The 64 hexadecimal digits of a SHA-256.
pub(super) fn hash(text: &str) -> Result<[u8; 32], Malformed> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let pairs: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| Malformed)?;
    if !rest.is_empty() {
        return Err(Malformed);
    }
    let mut hash = [0; 32];
    for (byte, &[high, low]) in hash.iter_mut().zip(pairs) {
        let (high, low) = hex::digit(high).zip(hex::digit(low)).ok_or(Malformed)?;
        *byte = high << 4 | low;
    }
    Ok(hash)
}
