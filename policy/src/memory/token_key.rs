//! What a remembered token is found by: its own text, and what the policy said of tokens when it was verified.
//!
//! The text is a secret. Two of them are compared as a whole, in a time that does not depend on where they differ. Which
//! texts are compared at all depends on a hash of all their bytes: whoever could time that would learn a few bits of a hash,
//! and nothing of the bytes that it was made from. The hash is not a cryptographic one and need not be: only
//! tokens that an issuer signed are remembered, so nobody chooses texts that fall together, and what falls together is only
//! compared.

use std::fmt;
use std::hash::Hash;
use std::hash::Hasher;

use hashbrown::Equivalent;
use subtle::ConstantTimeEq as _;

/// A key that is kept.
pub(super) struct TokenKey {
    providers: Box<str>,
    text: Box<[u8]>,
}

/// The same, as a request has it.
#[derive(Clone, Copy)]
pub(super) struct Sought<'a> {
    /// Version of what the policy says of tokens, keys included.
    pub(super) providers: &'a str,
    /// The token as it came.
    pub(super) text: &'a [u8],
}

impl TokenKey {
    /// Bytes that it takes.
    pub(super) fn size(&self) -> usize {
        size_of::<Self>() + self.providers.len() + self.text.len()
    }

    fn sought(&self) -> Sought<'_> {
        Sought { providers: &self.providers, text: &self.text }
    }
}

impl From<Sought<'_>> for TokenKey {
    fn from(sought: Sought<'_>) -> Self {
        Self { providers: sought.providers.into(), text: sought.text.into() }
    }
}

impl Sought<'_> {
    fn is(&self, other: &Self) -> bool {
        self.providers == other.providers && is_same(self.text, other.text)
    }
}

/// Eight bytes at a time: one by one costs more than the rest of the way to a remembered token.
fn is_same(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    let ((one, one_rest), (other, other_rest)) = (one.as_chunks::<8>(), other.as_chunks::<8>());
    let word = |bytes: &[u8; 8]| u64::from_ne_bytes(*bytes);
    let differing = one.iter().zip(other).fold(0, |differing, (one, other)| differing | (word(one) ^ word(other)));
    (differing.ct_eq(&0) & one_rest.ct_eq(other_rest)).into()
}

impl Hash for Sought<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // One token under two policies: that is rare, and they are told apart.
        state.write(self.text);
    }
}

impl Hash for TokenKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.sought().hash(state);
    }
}

impl PartialEq for TokenKey {
    fn eq(&self, other: &Self) -> bool {
        self.sought().is(&other.sought())
    }
}

impl Eq for TokenKey {}

impl Equivalent<TokenKey> for Sought<'_> {
    fn equivalent(&self, key: &TokenKey) -> bool {
        self.is(&key.sought())
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("providers", &self.providers).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_the_same_as_a_whole_or_not_at_all() {
        let text = b"0123456789abcdefghij";
        for length in 0..text.len() {
            let whole = &text[..length];
            assert!(is_same(whole, whole), "{length}");
            assert!(!is_same(whole, &text[..length + 1]), "{length}");
            for position in 0..length {
                let mut other = whole.to_vec();
                other[position] ^= 1;
                assert!(!is_same(whole, &other), "{position} of {length}");
            }
        }
    }

    #[test]
    fn a_key_is_of_one_policy_and_shows_no_token() {
        let sought = Sought { providers: "a", text: b"secret" };
        let key = TokenKey::from(sought);
        assert!(sought.equivalent(&key));
        assert!(!Sought { providers: "b", ..sought }.equivalent(&key));
        assert!(!Sought { text: b"secreT", ..sought }.equivalent(&key));
        assert!(!format!("{key:?}").contains("secret"));
    }
}
