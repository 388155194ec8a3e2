//! Words for patterns: what a sample has in place of `{name}` and `*`, and what several patterns match at once.

use std::collections::BTreeMap;

use crate::pattern::Step;
use crate::roles::Binding;
use crate::strings::Strings;

/// Steps in matching order, and whether anything may follow.
pub(crate) type Shape<'a> = (&'a [Step], bool);

/// What captures stand for. Each name has a word of its own, always the same, so that samples of a role, of a rule and of
/// another version of the policy join; names that are bound already keep what they are bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Words {
    bound: BTreeMap<String, String>,
    /// Free names get another word than usual, which joins with nothing.
    other: bool,
}

impl Words {
    /// Words that no role's captures are bound to.
    pub(crate) fn other() -> Self {
        Self { bound: BTreeMap::new(), other: true }
    }

    /// What the captures of a role stand for in one certificate.
    pub(crate) fn of(binding: &Binding, strings: &Strings) -> Self {
        let bound = binding.entries().map(|(name, word)| (strings.text(name).to_owned(), word.to_owned()));
        Self { bound: bound.collect(), other: false }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.bound.get(name).map(String::as_str)
    }

    /// Binds a name, or tells that it is bound to another word.
    pub(crate) fn bind(&mut self, name: &str, word: &str) -> bool {
        self.bound.entry(name.to_owned()).or_insert_with(|| word.to_owned()) == word
    }

    /// The word for a name that nothing is known about. Good in a path, in a host and in a SPIFFE ID.
    fn free(&self, name: &str) -> String {
        format!("{}-{}", name.to_ascii_lowercase(), if self.other { "b" } else { "a" })
    }
}

/// The word for `*`.
pub(super) const ANY: &str = "x";

/// The shortest words that all of these patterns match; captures are bound in `words`.
///
/// `found` has a place for each word that there must be at least, and the words that are fixed. `None` is certain: then
/// there are no words that all of the patterns match with what `words` binds.
pub(crate) fn unify(
    shapes: &[Shape<'_>],
    mut found: Vec<Option<String>>,
    words: &mut Words,
    strings: &Strings,
) -> Option<Vec<String>> {
    let length = shapes.iter().map(|(steps, _)| steps.len()).max().unwrap_or(0).max(found.len());
    let fixed = found.first().is_some_and(Option::is_some) && found.len() != length;
    if fixed || shapes.iter().any(|(steps, rest)| !rest && steps.len() != length) {
        return None;
    }
    found.resize(length, None);
    loop {
        while narrow(shapes, &mut found, words, strings)? {}
        // Nothing follows from anything any more, so the first place that is free can have any word.
        let Some((position, place)) = found.iter_mut().enumerate().find(|(_, place)| place.is_none()) else { break };
        let name = shapes.iter().find_map(|(steps, _)| match steps.get(position) {
            Some(Step::Capture(name)) => Some(strings.text(*name)),
            _ => None,
        });
        *place = Some(name.map_or_else(|| ANY.to_owned(), |name| words.free(name)));
    }
    let found: Vec<String> = found.into_iter().flatten().collect();
    let wildcard = |step: &Step| matches!(step, Step::Capture(_) | Step::One);
    let empty = |(steps, _): &Shape<'_>| steps.iter().zip(&found).any(|(step, word)| wildcard(step) && word.is_empty());
    (!shapes.iter().any(empty)).then_some(found)
}

/// Writes down what follows from the patterns and the words that are known. Tells whether anything did.
fn narrow(shapes: &[Shape<'_>], found: &mut [Option<String>], words: &mut Words, strings: &Strings) -> Option<bool> {
    let mut changed = false;
    for (steps, _) in shapes {
        for (place, step) in found.iter_mut().zip(*steps) {
            let wanted = match step {
                Step::Literal(word) => Some(strings.text(*word)),
                Step::Capture(name) => words.get(strings.text(*name)),
                Step::One => None,
            };
            match (&place, wanted) {
                (Some(known), Some(wanted)) if known != wanted => return None,
                (None, Some(wanted)) => {
                    *place = Some(wanted.to_owned());
                    changed = true;
                }
                _ => {}
            }
            if let (Step::Capture(name), Some(word)) = (step, &place)
                && words.get(strings.text(*name)).is_none()
            {
                words.bind(strings.text(*name), word);
                changed = true;
            }
        }
    }
    Some(changed)
}
