//! The name of the agent that sets a role's password, in the role's comment beside what people wrote there.

use std::fmt;

const BEGIN: &str = "[portcullis:";
const END: char = ']';

/// An agent's name, as a comment holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mark(String);

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{BEGIN}{}{END}", self.0)
    }
}

impl Mark {
    /// The agent's; what would end the mark early is replaced.
    pub(super) fn of(owner: &str) -> Self {
        let plain = |letter: char| if letter.is_control() || matches!(letter, '[' | ']') { '-' } else { letter };
        Self(owner.chars().map(plain).collect())
    }

    /// The one that a comment has.
    pub(super) fn read(comment: &str) -> Option<Self> {
        let (_, after) = comment.split_once(BEGIN)?;
        let (owner, _) = after.split_once(END)?;
        Some(Self(owner.to_owned()))
    }

    /// A comment with the mark at its end.
    pub(super) fn beside(&self, comment: &str) -> String {
        let blank = if comment.is_empty() { "" } else { " " };
        format!("{comment}{blank}{self}")
    }

    /// The agent's name.
    pub(super) fn name(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_beside_what_people_wrote() {
        for (name, owner, comment) in [
            ("nothing there", "edge-1", ""),
            ("words there", "edge-1", "the shop's, ask Jo [urgent]"),
            ("an odd name", "a]b[c\nd", "x"),
        ] {
            let mark = Mark::of(owner);
            assert_eq!(Mark::read(comment), None, "{name}");
            let marked = mark.beside(comment);
            assert!(marked.starts_with(comment), "{name}: {marked}");
            assert_eq!(Mark::read(&marked), Some(mark), "{name}: {marked}");
        }
        assert_ne!(Mark::of("edge-1"), Mark::of("edge-2"));
    }
}
