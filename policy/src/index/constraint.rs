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

/// A segment of a path, a label of a host counted from the right, or a claim of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Place {
    Path(u8),
    Host(u8),
    /// Looked at by itself: a claim may hold several texts.
    Claim,
}

/// Names of captures, each with the texts that a claim of the token offers for it.
pub(crate) type ClaimTexts<'r> = [(Symbol, Vec<&'r str>)];

/// The captures of a rule's path, host and claims, sorted by name.
pub(crate) fn slots(path: &[Step], host: &[Step], claims: impl Iterator<Item = Symbol>) -> Vec<Slot> {
    let path = (0..).map(Place::Path).zip(path);
    let host = (0..).map(Place::Host).zip(host);
    let named = path.chain(host).filter_map(|(place, step)| match step {
        Step::Capture(name) => Some(Slot { name: *name, place, joined: false }),
        Step::Literal(_) | Step::One => None,
    });
    let claims = claims.map(|name| Slot { name, place: Place::Claim, joined: false });
    let mut slots: Vec<Slot> = named.chain(claims).collect();
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
///
/// Each claim must offer the text that its name stands for; where nothing else says which that is, all claims of the name
/// must offer one in common.
pub(crate) fn satisfied(
    slots: &[Slot],
    bindings: &[Binding],
    path: &[Cow<'_, str>],
    host: Option<&Host<'_>>,
    claims: &ClaimTexts<'_>,
) -> bool {
    let text = |slot: &Slot| match slot.place {
        Place::Path(position) => path.get(usize::from(position)).map(AsRef::as_ref),
        Place::Host(position) => host.and_then(|host| labels(host).nth(usize::from(position))),
        Place::Claim => None,
    };
    let of_request = |slot: &&Slot| slot.place != Place::Claim;
    let following = slots.iter().filter(of_request).skip(1);
    let mut pairs = slots.iter().filter(of_request).zip(following).filter(|(one, other)| one.name == other.name);
    if !pairs.all(|(one, other)| text(one) == text(other)) {
        return false;
    }
    let agrees = |binding: &Binding| {
        slots.iter().all(|slot| match binding.text(slot.name) {
            Some(bound) => slot.place == Place::Claim || text(slot) == Some(bound),
            None => !slot.joined,
        }) && claims.iter().all(|(name, texts)| {
            let slot = || slots.iter().filter(of_request).find(|slot| slot.name == *name).and_then(text);
            match binding.text(*name).or_else(slot) {
                Some(text) => texts.contains(&text),
                None => texts
                    .iter()
                    .any(|text| claims.iter().all(|(other, offered)| other != name || offered.contains(text))),
            }
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
