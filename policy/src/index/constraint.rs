//! Captures that must agree: within a rule's path and host, and with what a role binds.

use std::borrow::Cow;

use crate::host::Host;
use crate::pattern::Step;
use crate::roles::Binding;
use crate::strings::Symbol;

/// A capture's name, and a place of the request whose text it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Slot {
    pub(crate) name: Symbol,
    pub(crate) place: Place,
    /// The role names it too: whoever holds the role without having it bound does not match.
    pub(crate) joined: bool,
}

/// A segment of a path, or a label of a host counted from the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Path(u8),
    Host(u8),
}

/// The captures of a rule's path and host, sorted by name.
pub(crate) fn slots(path: &[Step], host: &[Step]) -> Vec<Slot> {
    let path = (0..).map(Place::Path).zip(path);
    let host = (0..).map(Place::Host).zip(host);
    let named = path.chain(host).filter_map(|(place, step)| match step {
        Step::Capture(name) => Some(Slot { name: *name, place, joined: false }),
        Step::Literal(_) | Step::One => None,
    });
    let mut slots: Vec<Slot> = named.collect();
    slots.sort_unstable();
    slots
}

/// The captures that can fail to agree, when the members of the role name those in `bound`: the ones that occur twice, and
/// the ones that the role names.
pub(crate) fn constrained(slots: &[Slot], bound: &[Symbol]) -> Vec<Slot> {
    let same_name = slots.chunk_by(|one, other| one.name == other.name);
    let asked = same_name.filter_map(|slots| {
        let joined = slots.first().is_some_and(|slot| bound.binary_search(&slot.name).is_ok());
        (joined || slots.len() > 1).then(|| slots.iter().map(move |slot| Slot { joined, ..*slot }))
    });
    asked.flatten().collect()
}

/// Whether the captures agree, with at least one of the ways in which the role is held. No way at all is a role that binds
/// nothing. A way that leaves a name of its role unbound, since another member binds it, agrees with no text for it.
pub(crate) fn satisfied(slots: &[Slot], bindings: &[Binding], path: &[Cow<'_, str>], host: Option<&Host<'_>>) -> bool {
    let text = |slot: &Slot| match slot.place {
        Place::Path(position) => path.get(usize::from(position)).map(AsRef::as_ref),
        Place::Host(position) => host.and_then(|host| labels(host).nth(usize::from(position))),
    };
    let mut pairs = slots.iter().zip(slots.iter().skip(1)).filter(|(one, other)| one.name == other.name);
    if !pairs.all(|(one, other)| text(one) == text(other)) {
        return false;
    }
    let agrees = |binding: &Binding| {
        slots.iter().all(|slot| match binding.text(slot.name) {
            Some(bound) => text(slot) == Some(bound),
            None => !slot.joined,
        })
    };
    if bindings.is_empty() { agrees(&Binding::default()) } else { bindings.iter().any(agrees) }
}

/// The labels of a host from the right; an address in brackets is one.
pub(crate) fn labels<'h>(host: &'h Host<'_>) -> impl Iterator<Item = &'h str> {
    let host = host.as_str();
    let address = host.starts_with('[');
    host.rsplit(move |c| c == '.' && !address)
}
