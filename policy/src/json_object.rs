//! A JSON object, written field by field in visible ASCII: for log lines and answers, of which there are many.
//!
//! What is outside of visible ASCII, in names of a certificate, is escaped without a loss, so that it can neither end a line
//! nor steer a terminal.

use std::fmt::Display;
use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::ascii;

/// What most lines need.
const CAPACITY: usize = 1024;

/// An object in the writing. The names of its fields are the program's own: they are written as they are.
#[derive(Debug)]
pub struct JsonObject {
    text: String,
}

impl Default for JsonObject {
    fn default() -> Self {
        let mut text = String::with_capacity(CAPACITY);
        text.push('{');
        Self { text }
    }
}

impl JsonObject {
    /// Adds a text.
    pub fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        quoted(value, &mut self.text);
    }

    /// Adds a list of texts.
    pub fn texts(&mut self, name: &str, values: &[String]) {
        self.name(name);
        self.text.push('[');
        for (position, value) in values.iter().enumerate() {
            if position > 0 {
                self.text.push(',');
            }
            quoted(value, &mut self.text);
        }
        self.text.push(']');
    }

    /// Adds a number, or what else is JSON of visible ASCII as it displays itself: `null`, the answer of `visible_ascii`.
    pub fn plain(&mut self, name: &str, value: impl Display) {
        self.name(name);
        // A `String` takes everything.
        let _ = write!(self.text, "{value}");
    }

    /// Adds an object.
    pub fn object(&mut self, name: &str, write: impl FnOnce(&mut Self)) {
        self.name(name);
        self.text.push('{');
        write(self);
        self.text.push('}');
    }

    /// The whole text.
    pub fn finish(mut self) -> String {
        self.text.push('}');
        self.text
    }

    fn name(&mut self, name: &str) {
        if !self.text.ends_with('{') {
            self.text.push(',');
        }
        self.text.push('"');
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
    text.push('"');
    if ascii::is_made_of(value.as_bytes(), &PLAIN) {
        text.push_str(value);
    } else {
        push(value, |byte| PLAIN.iter().any(|range| range.contains(&byte)), text);
    }
    text.push('"');
}

/// What stands for itself between quotes: visible ASCII without the quote and the backslash.
const PLAIN: [RangeInclusive<u8>; 3] = [b' '..=b'!', b'#'..=b'[', b']'..=b'~'];

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
        let mut object = JsonObject::default();
        object.text("empty", "");
        object.text("odd", ODD);
        object.texts("none", &[]);
        object.texts("list", &[ODD.to_owned(), "b".to_owned()]);
        object.plain("number", u64::MAX);
        object.plain("nothing", "null");
        object.object("inner", |_| {});
        object.object("other", |inner| {
            inner.text("a", "{");
            inner.text("b", ",");
        });
        object.plain("json", visible_ascii(&json!({ ODD: [ODD, 1, null] }).to_string()));
        let text = object.finish();
        assert!(text.bytes().all(is_visible), "{text}");
        let expected = json!({
            "empty": "", "odd": ODD, "none": [], "list": [ODD, "b"], "number": u64::MAX, "nothing": null, "inner": {},
            "other": { "a": "{", "b": "," }, "json": { ODD: [ODD, 1, null] },
        });
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }
}
