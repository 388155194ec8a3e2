//! Conditions on one claim of a verified token.

use serde_json::Map;
use serde_json::Value;

use crate::strings::Symbol;

/// How deep a claim may be looked for.
const MAX_DEPTH: usize = 8;

/// Where a claim is: names with dots between them, from the outside in (`realm_access.roles`); or, for names that hold dots
/// themselves, a JSON Pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimPath {
    text: Box<str>,
    names: Box<[Box<str>]>,
}

impl ClaimPath {
    /// Reads a path; `None` if a name is empty, or an escape is not one of RFC 6901.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let names: Option<Vec<Box<str>>> = match text.strip_prefix('/') {
            Some(pointer) => pointer.split('/').map(unescape).collect(),
            None => Some(text.split('.').map(Into::into).collect()),
        };
        let names = names.filter(|names| names.len() <= MAX_DEPTH && names.iter().all(|name| !name.is_empty()))?;
        Some(Self { text: text.into(), names: names.into() })
    }

    /// As it was written.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// The claim, if it is there. Lists are not walked into.
    pub(crate) fn find<'c>(&self, claims: &'c Map<String, Value>) -> Option<&'c Value> {
        let (first, rest) = self.names.split_first()?;
        rest.iter().try_fold(claims.get(first.as_ref())?, |value, name| value.as_object()?.get(name.as_ref()))
    }
}

fn unescape(name: &str) -> Option<Box<str>> {
    let mut plain = String::with_capacity(name.len());
    let mut letters = name.chars();
    while let Some(letter) = letters.next() {
        plain.push(match letter {
            '~' => match letters.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            letter => letter,
        });
    }
    Some(plain.into())
}

/// A condition on one claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClaimTest {
    pub(crate) path: ClaimPath,
    pub(crate) wanted: Wanted,
}

/// What a claim has to be, or, if it is a list, has to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// One of these.
    OneOf(Box<[Plain]>),
    /// Text that a `{name}` stands for.
    Capture(Symbol),
}

/// A value that a claim is compared with. No kind passes for another: `"true"` is not `true`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Plain {
    Bool(bool),
    Integer(i64),
    Text(Box<str>),
}

impl Plain {
    fn is(&self, value: &Value) -> bool {
        match self {
            Self::Bool(wanted) => value.as_bool() == Some(*wanted),
            Self::Integer(wanted) => value.as_i64() == Some(*wanted),
            Self::Text(wanted) => value.as_str() == Some(wanted),
        }
    }
}

impl ClaimTest {
    /// The name of the capture that the claim is compared with.
    pub(crate) fn capture(&self) -> Option<Symbol> {
        match self.wanted {
            Wanted::Capture(name) => Some(name),
            Wanted::OneOf(_) => None,
        }
    }

    /// Whether the claim is as wanted; `None` if it is missing. A capture is true of any text: see [`ClaimTest::texts`].
    pub(crate) fn holds(&self, claims: &Map<String, Value>) -> Option<bool> {
        let claim = self.path.find(claims).filter(|claim| !claim.is_null())?;
        Some(match &self.wanted {
            Wanted::Capture(_) => self.texts(claims).next().is_some(),
            Wanted::OneOf(wanted) => elements(claim).iter().any(|value| wanted.iter().any(|plain| plain.is(value))),
        })
    }

    /// The texts that a capture may stand for.
    pub(crate) fn texts<'c>(&self, claims: &'c Map<String, Value>) -> impl Iterator<Item = &'c str> + use<'c> {
        self.path.find(claims).map_or(&[][..], elements).iter().filter_map(Value::as_str)
    }
}

/// The elements of a list, or the one value that is none.
fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        value => std::slice::from_ref(value),
    }
}
