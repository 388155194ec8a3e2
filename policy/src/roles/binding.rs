//! What the captures of a role's patterns stand for in one certificate.

use crate::strings::Symbol;

/// Names of captures and the text that each is bound to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Binding(Vec<(Symbol, Box<str>)>);

impl Binding {
    /// Binds a name, or tells that it is bound to another text.
    pub(crate) fn bind(&mut self, name: Symbol, text: &str) -> bool {
        if let Some(bound) = self.text(name) {
            return bound == text;
        }
        let place = self.0.partition_point(|(known, _)| *known < name);
        self.0.insert(place, (name, text.into()));
        true
    }

    /// What a name is bound to.
    pub(crate) fn text(&self, name: Symbol) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, text)| text.as_ref())
    }

    /// The names with what they are bound to.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (Symbol, &str)> {
        self.0.iter().map(|(name, text)| (*name, text.as_ref()))
    }

    /// The same with one name more; `None` if it is bound to another text.
    pub(crate) fn with(&self, name: Symbol, text: &str) -> Option<Self> {
        let mut more = self.clone();
        more.bind(name, text).then_some(more)
    }

    /// Both at once; `None` if they bind a name to different texts.
    pub(crate) fn join(&self, other: &Self) -> Option<Self> {
        let mut joined = self.clone();
        other.0.iter().all(|(name, text)| joined.bind(*name, text)).then_some(joined)
    }
}
