//! The lists of a document that may be very long, read one element at a time: nobody holds them as a whole beside what is
//! compiled from them. The memory of a Wasm module never shrinks, so what is held for a moment is held for ever.

use std::fmt;

use serde::Deserialize;
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde::de::Error;
use serde::de::IgnoredAny;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;

use super::Member;
use super::Rule;
use super::Text;
use super::object::Object;
use super::read;
use crate::error::PolicyError;

/// The roles and rules of a document that [`read`](super::read) has taken, or of its candidate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lists<'t> {
    text: &'t [u8],
    of: Of,
}

#[derive(Clone, Copy, Debug)]
enum Of {
    Candidate,
    Document,
}

/// What becomes of an element; an error ends the reading.
type Visit<'v, T> = &'v mut dyn FnMut(T) -> Result<(), PolicyError>;

impl<'t> Lists<'t> {
    /// The lists of a document.
    pub(crate) fn of_document(text: &'t [u8]) -> Self {
        Self { text, of: Of::Document }
    }

    /// The lists of the candidate in a document.
    pub(crate) fn of_candidate(text: &'t [u8]) -> Self {
        Self { text, of: Of::Candidate }
    }

    /// Calls `visit` with each role and its members, in the document's order.
    ///
    /// # Errors
    ///
    /// What is not shaped like a role, with its place, and what `visit` refuses.
    pub(crate) fn each_role(self, visit: Visit<'_, (Text<'t>, Vec<Member<'t>>)>) -> Result<(), PolicyError> {
        let mut refused = None;
        let read = self.read("roles", Roles { visit, refused: &mut refused });
        refused.map_or(read, Err)
    }

    /// Calls `visit` with each rule, in the document's order.
    ///
    /// # Errors
    ///
    /// What is not shaped like a rule, with its place, and what `visit` refuses.
    pub(crate) fn each_rule(self, visit: Visit<'_, Rule<'t>>) -> Result<(), PolicyError> {
        let mut refused = None;
        let read = self.read("rules", Rules { visit, refused: &mut refused });
        refused.map_or(read, Err)
    }

    fn read<S: DeserializeSeed<'t, Value = ()>>(self, list: &str, seed: S) -> Result<(), PolicyError> {
        let path = ["candidate", list];
        match self.of {
            Of::Candidate => read::seeded(self.text, Some("candidate"), Field { path: path.as_slice(), seed }),
            Of::Document => read::seeded(self.text, None, Field { path: path.get(1..).unwrap_or_default(), seed }),
        }
    }
}

/// What is at a path of fields; everything beside it is skipped.
struct Field<'p, S> {
    path: &'p [&'p str],
    seed: S,
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> DeserializeSeed<'de> for Field<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.path {
            [] => self.seed.deserialize(deserializer),
            _ => deserializer.deserialize_map(self),
        }
    }
}

impl<'de, S: DeserializeSeed<'de, Value = ()>> Visitor<'de> for Field<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { path, seed } = self;
        let mut wanted = path.split_first().map(|(name, path)| (*name, Field { path, seed }));
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match wanted.take_if(|(name, _)| *name == key.as_str()) {
                Some((_, field)) => map.next_value_seed(field)?,
                None => map.next_value::<IgnoredAny>().map(|_| ())?,
            }
        }
        Ok(())
    }
}

struct Roles<'v, 't> {
    visit: Visit<'v, (Text<'t>, Vec<Member<'t>>)>,
    refused: &'v mut Option<PolicyError>,
}

impl<'de> DeserializeSeed<'de> for Roles<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Roles<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(role) = map.next_entry()? {
            (self.visit)(role).map_err(|error| refuse(self.refused, error))?;
        }
        Ok(())
    }
}

struct Rules<'v, 't> {
    visit: Visit<'v, Rule<'t>>,
    refused: &'v mut Option<PolicyError>,
}

impl<'de> DeserializeSeed<'de> for Rules<'_, 'de> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rules<'_, 'de> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(Object(rule)) = seq.next_element()? {
            (self.visit)(rule).map_err(|error| refuse(self.refused, error))?;
        }
        Ok(())
    }
}

/// Ends the reading; the reason is kept aside, since the reader's own errors hold nothing but text.
fn refuse<E: Error>(refused: &mut Option<PolicyError>, error: PolicyError) -> E {
    *refused = Some(error);
    E::custom("refused")
}

/// The names of roles, duplicates included; their members are left to [`Lists::each_role`].
#[derive(Debug, Default)]
pub(crate) struct RoleNames<'a>(pub(crate) Vec<Text<'a>>);

/// How many rules there are; they are left to [`Lists::each_rule`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct RuleCount(pub(crate) usize);

struct RoleNamesVisitor;

impl<'de> Visitor<'de> for RoleNamesVisitor {
    type Value = RoleNames<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut names = Vec::new();
        while let Some((name, IgnoredAny)) = map.next_entry()? {
            names.push(name);
        }
        Ok(RoleNames(names))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for RoleNames<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RoleNamesVisitor)
    }
}

struct RuleCountVisitor;

impl<'de> Visitor<'de> for RuleCountVisitor {
    type Value = RuleCount;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut count = 0;
        while let Some(IgnoredAny) = seq.next_element()? {
            count += 1;
        }
        Ok(RuleCount(count))
    }
}

impl<'de> Deserialize<'de> for RuleCount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(RuleCountVisitor)
    }
}
