//! A JSON object, written field by field in visible ASCII: for log lines and answers, of which there are many.
//!
//! What is outside of visible ASCII, in names of a certificate, is escaped without a loss, so that it can neither end a line
//! nor steer a terminal.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::ascii;
use crate::hex::Hex;

/// An object in the writing. The names of its fields are the program's own: they are written as they are.
#[derive(Debug)]
pub struct JsonObject<'t> {
    text: &'t mut String,
    is_empty: bool,
}

impl<'t> JsonObject<'t> {
    /// Begins an object at the end of a text. [`JsonObject::finish`] ends it.
    pub fn begin(text: &'t mut String) -> Self {
        text.push('{');
        Self { text, is_empty: true }
    }

    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quoted(value, self.text);
    }

    /// Adds what somebody else wrote, as [`slice::escape_ascii`] shows it.
    pub fn bytes(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        match str::from_utf8(value) {
            Ok(value) if ascii::is_made_of(value.as_bytes(), &UNESCAPED) => verbatim(value, self.text),
            _ => quoted(&value.escape_ascii().to_string(), self.text),
        }
    }

    /// Adds bytes in hexadecimal.
    pub fn hex(&mut self, name: &str, value: &[u8]) {
        self.name(name);
        self.text.push('"');
        Hex(value).push_to(self.text);
        self.text.push('"');
    }

    /// Adds a list of texts.
    pub fn texts(&mut self, name: &str, values: &[String]) {
        self.name(name);
        self.text.push('[');
        for (position, value) in values.iter().enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            quoted(value, self.text);
        }
        self.text.push(']');
    }

    /// Adds a number.
    pub fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        // A `String` takes everything.
        let _ = write!(self.text, "{value}");
    }

    /// Adds what is JSON of visible ASCII already: `null`, the answer of `visible_ascii`.
    pub fn json(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    /// Adds an object.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut JsonObject<'_>)) {
        self.name(name);
        let mut inner = JsonObject::begin(self.text);
        write(&mut inner);
        inner.finish();
    }

    /// Ends the object.
    pub fn finish(self) {
        self.text.push('}');
    }

    fn name(&mut self, name: &str) {
        self.text.push_str(if self.is_empty { "\"" } else { ",\"" });
        self.is_empty = false;
        self.text.push_str(name);
        self.text.push_str("\":");
    }
}

/// The same JSON in visible ASCII. `json` has no white space between its tokens.
pub(crate) fn visible_ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    push(json, is_visible, &mut text);
    text
}

fn quoted(value: &str, text: &mut String) {
    if ascii::is_made_of(value.as_bytes(), &PLAIN) {
        return verbatim(value, text);
    }
    text.push('"');
    push(value, |byte| PLAIN.iter().any(|range| range.contains(&byte)), text);
    text.push('"');
}

fn verbatim(value: &str, text: &mut String) {
    text.push('"');
    text.push_str(value);
    text.push('"');
}

/// What stands for itself between quotes: visible ASCII without the quote and the backslash.
const PLAIN: [RangeInclusive<u8>; 3] = [b' '..=b'!', b'#'..=b'[', b']'..=b'~'];

/// What [`slice::escape_ascii`] leaves as it is: the same without the apostrophe.
const UNESCAPED: [RangeInclusive<u8>; 4] = [b' '..=b'!', b'#'..=b'&', b'('..=b'[', b']'..=b'~'];

fn is_visible(byte: u8) -> bool {
    byte == b' ' || byte.is_ascii_graphic()
}

/// Appends `value`: what is plain in runs, every other character escaped (RFC 8259 §7).
fn push(value: &str, is_plain: impl Fn(u8) -> bool, text: &mut String) {
    let mut rest = value;
    // Plain bytes are characters of their own, so what follows them begins a character.
    while let Some(end) = rest.bytes().position(|byte| !is_plain(byte)) {
        let Some((run, after)) = rest.split_at_checked(end) else { break };
        text.push_str(run);
        let mut characters = after.chars();
        match characters.next() {
            Some(character @ ('"' | '\\')) => text.extend(['\\', character]),
            Some(character) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            None => {}
        }
        rest = characters.as_str();
    }
    text.push_str(rest);
}

#[cfg(test)]
mod tests {
    use serde_json::Value;
    use serde_json::json;

    use super::*;

    const ODD: &str = "plain \"quoted\\\" \n\r\t\u{1b}[2J\u{7f}\u{85}é\u{2028}\u{202e}🦀 end\\";

    #[test]
    fn what_is_written_is_what_is_read_and_all_of_it_is_visible() {
        let mut text = "before ".to_owned();
        let mut object = JsonObject::begin(&mut text);
        object.text("empty", "");
        object.text("odd", ODD);
        object.bytes("bytes", b"a \"b\" 'c' \\ \n \xff");
        object.bytes("plain bytes", b"/a?b=c&d");
        object.hex("hex", &[0, 0xfe]);
        object.texts("none", &[]);
        object.texts("list", &[ODD.to_owned(), "b".to_owned()]);
        object.number("number", u64::MAX);
        object.json("nothing", "null");
        object.object("inner", |_| {});
        object.object("other", |inner| {
            inner.text("a", "{");
            inner.text("b", ",");
        });
        object.json("json", &visible_ascii(&json!({ ODD: [ODD, 1, null] }).to_string()));
        object.finish();
        let text = text.strip_prefix("before ").unwrap();
        assert!(text.bytes().all(is_visible), "{text}");
        let expected = json!({
            "empty": "", "odd": ODD, "bytes": r#"a \"b\" \'c\' \\ \n \xff"#, "plain bytes": "/a?b=c&d", "hex": "00fe",
            "none": [], "list": [ODD, "b"], "number": u64::MAX, "nothing": null, "inner": {},
            "other": { "a": "{", "b": "," }, "json": { ODD: [ODD, 1, null] },
        });
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), expected);
    }

    #[test]
    fn bytes_are_written_as_they_are_where_that_is_how_they_are_shown() {
        for byte in 0..=u8::MAX {
            let mut text = String::new();
            let mut object = JsonObject::begin(&mut text);
            object.bytes("a", &[byte]);
            object.finish();
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["a"], [byte].escape_ascii().to_string(), "{byte:#x}");
        }
    }
}
