//! Header fields that must have one of some values.
//!
//! Who reads a request behind the gate may take the first of two fields, the last, or all of them, may split values at commas or
//! not, and may fold `-` and `_` in names into one. So every field that anybody could take for the named one is looked at, as
//! a whole and item by item, and the doubt goes against the request: what lets it in must hold of all of them, what keeps it out of
//! any.

use crate::decide::Head;

use super::Truth;

/// A header field's name and the values that are asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// In lower case.
    pub(crate) name: Box<str>,
    pub(crate) values: Box<[Box<str>]>,
}

/// How many of a field's values must be among those asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Quantity {
    /// Every value: for what lets a request in.
    All,
    /// At least one: for what keeps it out.
    Any,
}

impl Quantity {
    /// What to ask within a `not`, which turns letting in into keeping out.
    pub(super) fn opposite(self) -> Self {
        match self {
            Self::All => Self::Any,
            Self::Any => Self::All,
        }
    }
}

impl Header {
    /// Whether the fields of this name have the values; unknown if there is none.
    pub(super) fn truth(&self, head: &Head<'_>, quantity: Quantity) -> Truth {
        let mut aliases = head.fields.iter().filter(|(name, _)| could_be(name, self.name.as_bytes())).peekable();
        if aliases.peek().is_none() {
            return Truth::Unknown;
        }
        match quantity {
            Quantity::Any => {
                let items: Vec<&[u8]> = aliases.flat_map(|(_, value)| items(value)).collect();
                Truth::of(self.values.iter().any(|wanted| occurs(wanted.as_bytes(), &items)))
            }
            Quantity::All => {
                let mut exact = false;
                let all = aliases.all(|(name, value)| {
                    exact |= name.eq_ignore_ascii_case(self.name.as_bytes());
                    self.takes(value)
                });
                // A field that only some would take for this one is no reason to let a request in.
                if all && !exact { Truth::Unknown } else { Truth::of(all) }
            }
        }
    }

    /// Whether a field's value is among those asked for, or each item of it is.
    fn takes(&self, value: &[u8]) -> bool {
        let known = |text: &[u8]| self.values.iter().any(|wanted| wanted.as_bytes() == text);
        let value = value.trim_ascii();
        known(value) || value.split(|byte| *byte == b',').all(|item| known(item.trim_ascii()))
    }
}

/// The items of a list (RFC 9110 §5.6.1); empty ones do not count.
fn items(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|item| !item.is_empty())
}

/// Whether the items of `wanted`, usually one, occur in this order.
fn occurs(wanted: &[u8], all: &[&[u8]]) -> bool {
    let wanted: Vec<&[u8]> = items(wanted).collect();
    !wanted.is_empty() && all.windows(wanted.len()).any(|window| window == wanted)
}

/// Whether some server could take a field of this name for the one named in the policy: many fold every character that is neither
/// letter nor digit into one.
fn could_be(name: &[u8], wanted: &[u8]) -> bool {
    name.len() == wanted.len()
        && name.iter().zip(wanted).all(|(byte, own)| {
            byte.eq_ignore_ascii_case(own) || !(byte.is_ascii_alphanumeric() || own.is_ascii_alphanumeric())
        })
}
