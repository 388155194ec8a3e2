//! JSON objects in which every name occurs once, at every depth. Of two equal names one parser takes the first and
//! another the last: a token that holds both means two things.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;

use serde::de::Deserialize;
use serde::de::DeserializeSeed;
use serde::de::Deserializer;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Map;
use serde_json::Number;
use serde_json::Value;

/// Parses exactly one JSON object. `None` if it is anything else or names anything twice; `serde_json` bounds the depth.
pub(super) fn object(text: &[u8]) -> Option<Map<String, Value>> {
    match serde_json::from_slice::<Strict>(text) {
        Ok(Strict(Value::Object(map))) => Some(map),
        _ => None,
    }
}

/// Parses exactly one JSON object and hands each of its members to `take`, in their order and without keeping them. `None`
/// where [`object`] answers it; then `take` may have seen some.
pub(super) fn members<'t>(text: &'t [u8], mut take: impl FnMut(&str, Glimpse<'t>)) -> Option<()> {
    // Once, and not for each name and text in it.
    let mut deserializer = serde_json::Deserializer::from_str(str::from_utf8(text).ok()?);
    deserializer.deserialize_map(MembersVisitor(&mut take)).ok()?;
    deserializer.end().ok()
}

/// A value, as far as one look tells it. Every name in it occurs once.
#[derive(Debug, PartialEq)]
pub(super) enum Glimpse<'t> {
    Bool(bool),
    Number(f64),
    Text(Cow<'t, str>),
    Texts(Vec<Cow<'t, str>>),
    /// `null`, an object, or a list with anything but texts in it.
    Other,
}

/// `dyn`: headers and claims are read by the same code, and less code is faster when it is met cold.
struct MembersVisitor<'a, 't>(&'a mut dyn FnMut(&str, Glimpse<'t>));

impl<'t> Visitor<'t> for MembersVisitor<'_, 't> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object without duplicate names")
    }

    fn visit_map<A: MapAccess<'t>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut names = Names::default();
        while let Some(name) = entries.next_key_seed(TextSeed)? {
            (self.0)(&name, entries.next_value()?);
            names.add(name);
        }
        if names.are_different() { Ok(()) } else { Err(A::Error::custom("a name occurs twice")) }
    }
}

impl<'t> Deserialize<'t> for Glimpse<'t> {
    fn deserialize<D: Deserializer<'t>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GlimpseVisitor)
    }
}

struct GlimpseVisitor;

impl<'t> Visitor<'t> for GlimpseVisitor {
    type Value = Glimpse<'t>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Glimpse::Other)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Glimpse::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Glimpse::Number(value as f64))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        Ok(Glimpse::Number(value as f64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Glimpse::Number(value))
    }

    fn visit_borrowed_str<E: Error>(self, value: &'t str) -> Result<Self::Value, E> {
        Ok(Glimpse::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Glimpse::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'t>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut texts = Some(Vec::new());
        while let Some(item) = seq.next_element()? {
            match (item, &mut texts) {
                (Glimpse::Text(text), Some(texts)) => texts.push(text),
                _ => texts = None,
            }
        }
        Ok(texts.map_or(Glimpse::Other, Glimpse::Texts))
    }

    fn visit_map<A: MapAccess<'t>>(self, entries: A) -> Result<Self::Value, A::Error> {
        MembersVisitor(&mut |_, _| ()).visit_map(entries)?;
        Ok(Glimpse::Other)
    }
}

/// Text that is borrowed where nothing in it is escaped.
struct TextSeed;

impl<'t> DeserializeSeed<'t> for TextSeed {
    type Value = Cow<'t, str>;

    fn deserialize<D: Deserializer<'t>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'t> Visitor<'t> for TextSeed {
    type Value = Cow<'t, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E: Error>(self, value: &'t str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(value.to_owned()))
    }
}

/// The names of one object: few are compared with each other, many are looked up.
#[derive(Default)]
struct Names<'t> {
    few: Vec<Cow<'t, str>>,
    many: BTreeSet<Cow<'t, str>>,
    is_repeated: bool,
}

impl<'t> Names<'t> {
    /// So many are compared with each other.
    const FEW: usize = 16;

    fn add(&mut self, name: Cow<'t, str>) {
        self.is_repeated |= self.few.contains(&name);
        if self.few.len() < Self::FEW {
            self.few.push(name);
        } else {
            self.is_repeated |= !self.many.insert(name);
        }
    }

    fn are_different(&self) -> bool {
        !self.is_repeated
    }
}

/// A value in which every name occurs once.
pub(crate) struct Strict(pub(crate) Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate names")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(Strict(item)) = seq.next_element()? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, _>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name occurs twice"));
            }
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What [`members`] sees of an object, which it has to take or refuse as [`object`] does.
    fn check(text: &[u8]) {
        let mut seen = Vec::new();
        let taken = members(text, |name, value| seen.push((name.to_owned(), value)));
        let all = object(text);
        assert_eq!(taken.is_some(), all.is_some(), "{}", text.escape_ascii());
        let Some(all) = all else { return };
        assert_eq!(seen.len(), all.len());
        for (name, glimpse) in seen {
            let text = |value: &Value| value.as_str().map(|text| Cow::Owned(text.to_owned()));
            let expected = match &all[&name] {
                Value::Bool(value) => Glimpse::Bool(*value),
                Value::Number(number) => Glimpse::Number(number.as_f64().unwrap()),
                Value::String(text) => Glimpse::Text(text.into()),
                Value::Array(list) => {
                    list.iter().map(text).collect::<Option<_>>().map_or(Glimpse::Other, Glimpse::Texts)
                }
                Value::Null | Value::Object(_) => Glimpse::Other,
            };
            assert_eq!(glimpse, expected, "{name}");
        }
    }

    #[test]
    fn a_look_finds_what_a_reading_finds() {
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        let many = |count: usize, last: &str| {
            let members: Vec<String> = (0..count).map(|number| format!("\"m{number}\":{number}")).collect();
            format!("{{{},\"{last}\":0}}", members.join(","))
        };
        let texts = [
            "{}",
            " { \"a\" : 1 } ",
            "{\"a\":1}x",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\":nul}",
            "{1:1}",
            "[]",
            "null",
            "",
            "{\"a\":1,\"a\":1}",
            "{\"a\":1,\"\\u0061\":1}",
            "{\"a\":{\"b\":1,\"b\":2}}",
            "{\"a\":[{\"b\":1,\"c\":[{\"d\":1,\"d\":1}]}]}",
            "{\"a\":{\"b\":1},\"b\":2}",
            "{\"a\":[\"x\",\"\\u0079\"],\"b\":[],\"c\":[\"x\",1],\"d\":[[\"x\"]],\"e\":\"\\n\",\"\\u0066\":true}",
            "{\"a\":1e300,\"b\":-1,\"c\":18446744073709551615,\"d\":0.5,\"e\":null}",
            "{\"a\":1e400}",
            "{\"a\":01}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\u{1}\"}",
            "{\"a\":\"\u{7f}é\"}",
        ];
        texts.iter().for_each(|text| check(text.as_bytes()));
        for count in [15, 16, 17, 40] {
            for last in ["m0", "m14", "m15", "m16", "other"] {
                check(many(count, last).as_bytes());
            }
        }
        for depth in [1, 126, 127, 128, 129, 10_000] {
            check(deep(depth).as_bytes());
        }
        check(b"{\"a\":\"\xff\"}");
        check(b"{\"\xff\":1}");
    }

    proptest! {
        #[test]
        fn a_look_finds_what_a_reading_finds_in_anything(
            text in r#"\{("[ab]":([0-9]{1,3}|"[a\\\"]*"|\[("x",?|1)*\]|\{"c":1(,"[cd]":2)?\}),?){0,4}\}?"#,
        ) {
            check(text.as_bytes());
        }
    }
}
