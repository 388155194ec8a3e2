//! The parts of a document that are not plain structs: borrowed text, lists or words, maps that keep duplicates.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::Error;
use serde::de::IntoDeserializer as _;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Unexpected;
use serde::de::Visitor;

use super::claims::TokenFields;
use super::object::Object;

/// Text that is borrowed from the document where it holds no escape: a large policy is read without a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text<'a>(Cow<'a, str>);

impl Text<'_> {
    pub(super) fn owned(text: &str) -> Self {
        Self(Cow::Owned(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

struct TextVisitor;

impl<'de> Visitor<'de> for TextVisitor {
    type Value = Text<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Text(Cow::Owned(text.to_owned())))
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(TextVisitor)
    }
}

/// For `Option` fields: absent is `None`, and `null` is an error.
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

/// As [`present`], in a box.
pub(super) fn boxed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Box<T>>, D::Error> {
    T::deserialize(deserializer).map(|value| Some(Box::new(value)))
}

struct ListVisitor;

impl<'de> Visitor<'de> for ListVisitor {
    type Value = Vec<Text<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        collect(seq)
    }
}

/// For `Option` fields that hold a list: as [`present`].
pub(super) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Text<'de>>>, D::Error> {
    deserializer.deserialize_seq(ListVisitor).map(Some)
}

/// Whom a rule is about: the word `any`, or a list of roles.
#[derive(Debug)]
pub(crate) enum Principals<'a> {
    Any,
    Roles(Vec<Text<'a>>),
}

struct PrincipalsVisitor;

impl<'de> Visitor<'de> for PrincipalsVisitor {
    type Value = Principals<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("`any` or a list of roles")
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<Self::Value, E> {
        if word == "any" { Ok(Principals::Any) } else { Err(E::invalid_value(Unexpected::Str(word), &self)) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
        collect(seq).map(Principals::Roles)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Principals<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PrincipalsVisitor)
    }
}

/// A map that keeps the document's order and its duplicates, so that a duplicate can be refused with its place.
#[derive(Clone, Debug)]
pub(crate) struct Entries<K, V>(pub(crate) Vec<(K, V)>);

/// Attributes of a distinguished name, by short name or dotted object identifier.
pub(crate) type Attributes<'a> = Entries<Text<'a>, Text<'a>>;

impl<K, V> Entries<K, V> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

struct EntriesVisitor<K, V>(PhantomData<(K, V)>);

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Visitor<'de> for EntriesVisitor<K, V> {
    type Value = Entries<K, V>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Entries(entries))
    }
}

impl<'de, K: Deserialize<'de>, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntriesVisitor(PhantomData))
    }
}

impl<K: Serialize, V: Serialize> Serialize for Entries<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// One way to hold a role: conditions of which all must hold. A list, because most members have one condition.
#[derive(Debug)]
pub(crate) struct Member<'a>(pub(crate) Vec<Condition<'a>>);

/// One condition of a member.
#[derive(Debug)]
pub(crate) enum Condition<'a> {
    Dns(Text<'a>),
    Eku(Vec<Text<'a>>),
    Email(Text<'a>),
    Ip(Text<'a>),
    Issuer(Attributes<'a>),
    Key(Box<Key<'a>>),
    MaxLifetime(Text<'a>),
    Not(Member<'a>),
    Oid(Vec<Text<'a>>),
    Role(Text<'a>),
    Serial(Text<'a>),
    Sha256(Text<'a>),
    Spiffe(Text<'a>),
    SpkiSha256(Text<'a>),
    Subject(Attributes<'a>),
    Token(Box<TokenFields<'a>>),
    Uri(Text<'a>),
}

impl Condition<'_> {
    /// The field that it is written under.
    pub(crate) fn field(&self) -> &'static str {
        match self {
            Self::Dns(_) => "dns",
            Self::Eku(_) => "eku",
            Self::Email(_) => "email",
            Self::Ip(_) => "ip",
            Self::Issuer(_) => "issuer",
            Self::Key(_) => "key",
            Self::MaxLifetime(_) => "max_lifetime",
            Self::Not(_) => "not",
            Self::Oid(_) => "oid",
            Self::Role(_) => "role",
            Self::Serial(_) => "serial",
            Self::Sha256(_) => "sha256",
            Self::Spiffe(_) => "spiffe",
            Self::SpkiSha256(_) => "spki_sha256",
            Self::Subject(_) => "subject",
            Self::Token(_) => "token",
            Self::Uri(_) => "uri",
        }
    }
}

/// A certificate whose holder forwards the certificates of others, and how it does.
#[derive(Debug)]
pub(crate) struct Forwarder<'a> {
    pub(crate) member: Member<'a>,
    pub(crate) hops: Option<u64>,
    pub(crate) by: Option<Text<'a>>,
    pub(crate) keep: bool,
}

/// The fields of a member, as they are listed in errors.
#[derive(Clone, Copy, Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Field {
    Spiffe,
    Uri,
    Dns,
    Email,
    Ip,
    Subject,
    Issuer,
    SpkiSha256,
    Sha256,
    Eku,
    Serial,
    Oid,
    Key,
    MaxLifetime,
    Role,
    Token,
    Not,
}

/// The key of a certificate.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key<'a> {
    #[serde(borrow)]
    pub(crate) r#type: Text<'a>,
    #[serde(default, deserialize_with = "present")]
    pub(crate) min_bits: Option<usize>,
}

/// Conditions of which a member wants not all to hold.
struct Negated<'a>(Member<'a>);

struct MemberVisitor {
    /// Within a `not`, where there is no other.
    negated: bool,
}

impl<'de> Visitor<'de> for MemberVisitor {
    type Value = Member<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of conditions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut conditions: Vec<Condition<'de>> = Vec::with_capacity(1);
        while let Some(field) = map.next_key()? {
            add_condition(&mut conditions, self.negated, field, &mut map)?;
        }
        Ok(Member(conditions))
    }
}

/// Adds the condition under `field`, whose value comes next in `map`; `negated` says that this is within a `not`.
fn add_condition<'de, A: MapAccess<'de>>(
    conditions: &mut Vec<Condition<'de>>,
    negated: bool,
    field: Field,
    map: &mut A,
) -> Result<(), A::Error> {
    let condition = match field {
        Field::Dns => Condition::Dns(map.next_value()?),
        Field::Eku => Condition::Eku(map.next_value()?),
        Field::Email => Condition::Email(map.next_value()?),
        Field::Ip => Condition::Ip(map.next_value()?),
        Field::Issuer => Condition::Issuer(map.next_value()?),
        Field::Key => Condition::Key(Box::new(map.next_value::<Object<Key<'de>>>()?.0)),
        Field::MaxLifetime => Condition::MaxLifetime(map.next_value()?),
        Field::Not if negated => return Err(A::Error::custom("`not` within `not`")),
        Field::Not => Condition::Not(map.next_value::<Negated<'de>>()?.0),
        Field::Oid => Condition::Oid(map.next_value()?),
        Field::Role => Condition::Role(map.next_value()?),
        Field::Serial => Condition::Serial(map.next_value()?),
        Field::Sha256 => Condition::Sha256(map.next_value()?),
        Field::Spiffe => Condition::Spiffe(map.next_value()?),
        Field::SpkiSha256 => Condition::SpkiSha256(map.next_value()?),
        Field::Subject => Condition::Subject(map.next_value()?),
        Field::Token => Condition::Token(Box::new(map.next_value::<Object<_>>()?.0)),
        Field::Uri => Condition::Uri(map.next_value()?),
    };
    if conditions.iter().any(|known| known.field() == condition.field()) {
        return Err(A::Error::duplicate_field(condition.field()));
    }
    conditions.push(condition);
    Ok(())
}

impl<'de: 'a, 'a> Deserialize<'de> for Member<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MemberVisitor { negated: false })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Negated<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MemberVisitor { negated: true }).map(Negated)
    }
}

struct ForwarderVisitor;

impl<'de> Visitor<'de> for ForwarderVisitor {
    type Value = Forwarder<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map of conditions")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut conditions: Vec<Condition<'de>> = Vec::with_capacity(1);
        let (mut hops, mut by, mut keep) = (None, None, None);
        while let Some(name) = map.next_key::<Text<'de>>()? {
            let twice = match name.as_str() {
                "hops" => hops.replace(map.next_value()?).map(|_: u64| "hops"),
                "by" => by.replace(map.next_value()?).map(|_: Text<'de>| "by"),
                "keep" => keep.replace(map.next_value()?).map(|_: bool| "keep"),
                name => {
                    add_condition(&mut conditions, false, Field::deserialize(name.into_deserializer())?, &mut map)?;
                    None
                }
            };
            if let Some(name) = twice {
                return Err(A::Error::duplicate_field(name));
            }
        }
        Ok(Forwarder { member: Member(conditions), hops, by, keep: keep.unwrap_or(false) })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Forwarder<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ForwarderVisitor)
    }
}

pub(super) fn collect<'de, A: SeqAccess<'de>>(mut seq: A) -> Result<Vec<Text<'de>>, A::Error> {
    // Most lists have one element, and a policy may have hundreds of thousands of lists.
    let mut texts = Vec::with_capacity(1);
    while let Some(text) = seq.next_element()? {
        texts.push(text);
    }
    Ok(texts)
}
