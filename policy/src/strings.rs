//! Interned text: every word of a policy is stored once and compared as a number.

use hashbrown::HashTable;

use crate::pages::Pages;

/// A word of the policy. Equal words have equal symbols.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Symbol(u32);

impl Symbol {
    /// The empty word; every [`Strings`] holds it.
    pub(crate) const EMPTY: Self = Self(0);

    /// A word that is not in the policy.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);

    pub(crate) fn of_number(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn number(self) -> u32 {
        self.0
    }
}

/// The words of a policy. Only the policy's author adds to it; a request merely looks up.
#[derive(Debug)]
pub(crate) struct Strings {
    text: String,
    /// Where each word ends in the text; it begins where the one before it ends. Documents are bounded, so 32 bits hold
    /// every position.
    ends: Pages<u32>,
    /// Each word with its beginning, so that a look-up can go from the table to the text at once.
    table: HashTable<(Symbol, u32)>,
}

impl Strings {
    pub(crate) fn new() -> Self {
        let mut strings = Self { text: String::new(), ends: Pages::default(), table: HashTable::new() };
        strings.intern("");
        strings
    }

    /// The symbol of a word, which becomes one of the policy's.
    pub(crate) fn intern(&mut self, word: &str) -> Symbol {
        let known = self.find(word);
        if known != Symbol::UNKNOWN {
            return known;
        }
        let start = self.text.len() as u32;
        // Not to the double, for the reason that `Pages` has.
        if self.text.capacity() - self.text.len() < word.len() {
            self.text.reserve_exact(word.len() + self.text.len() / 8);
        }
        self.text.push_str(word);
        let symbol = Symbol(self.ends.push(self.text.len() as u32));
        let Self { text, ends, table } = self;
        let hash_of = |(symbol, start): &(Symbol, u32)| hash(word_at(text, ends, *symbol, *start).as_bytes());
        table.insert_unique(hash(word.as_bytes()), (symbol, start), hash_of);
        symbol
    }

    /// The symbol of a word, or [`Symbol::UNKNOWN`].
    pub(crate) fn find(&self, word: &str) -> Symbol {
        let found = self.table.find(hash(word.as_bytes()), |(symbol, start)| {
            let start = *start as usize;
            let end = start + word.len();
            // The text is looked at first, and where it is another the rest need not be fetched.
            self.text.get(start..end) == Some(word) && self.ends.get(symbol.0) == Some(&(end as u32))
        });
        found.map_or(Symbol::UNKNOWN, |(symbol, _)| *symbol)
    }

    /// The word of a symbol; empty for one of another policy.
    pub(crate) fn text(&self, symbol: Symbol) -> &str {
        let start = match symbol.0.checked_sub(1) {
            Some(before) => self.ends.get(before).copied().unwrap_or_default(),
            None => 0,
        };
        word_at(&self.text, &self.ends, symbol, start)
    }

    pub(crate) fn shrink(&mut self) {
        self.text.shrink_to_fit();
        self.ends.shrink();
        let Self { text, ends, table } = self;
        table.shrink_to_fit(|(symbol, start)| hash(word_at(text, ends, *symbol, *start).as_bytes()));
    }
}

fn word_at<'t>(text: &'t str, ends: &Pages<u32>, symbol: Symbol, start: u32) -> &'t str {
    let end = ends.get(symbol.0).copied().unwrap_or_default();
    text.get(start as usize..end as usize).unwrap_or_default()
}

/// A hash for tables that only the policy's author fills. It has no secret: who sends requests can choose what is looked
/// up, never what is stored, so the longest chain is the author's.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = bytes.len() as u64;
    for word in words {
        state = mix(state ^ u64::from_le_bytes(*word));
    }
    let mut last = [0; 8];
    for (to, from) in last.iter_mut().zip(tail) {
        *to = *from;
    }
    mix(state ^ u64::from_le_bytes(last))
}

/// Spreads the bits of a number: a multiplication, and its high half over the low one.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ 0x9e37_79b9_7f4a_7c15).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let number = (number ^ (number >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    number ^ (number >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_one_symbol_and_keeps_its_text() {
        let mut strings = Strings::new();
        let words: Vec<String> = (0..10_000).map(|n| format!("word-{n}")).collect();
        let symbols: Vec<Symbol> = words.iter().map(|word| strings.intern(word)).collect();
        for (word, &symbol) in words.iter().zip(&symbols) {
            assert_eq!(strings.intern(word), symbol, "{word}");
            assert_eq!(strings.find(word), symbol, "{word}");
            assert_eq!(strings.text(symbol), word);
        }
        assert_eq!(strings.find(""), Symbol::EMPTY);
        assert_eq!(strings.find("word-10000"), Symbol::UNKNOWN);
        assert_eq!(strings.text(Symbol::UNKNOWN), "");
        for part in ["word", "word-", "ord-1", "word-0word-1"] {
            assert_eq!(strings.find(part), Symbol::UNKNOWN, "{part} is a part of the text, and no word");
        }
    }
}
