//! A bounded map that forgets what has not been asked for lately.

use std::hash::Hash;
use std::mem;

use hashbrown::HashMap;

/// Keeps at least the `CAPACITY / 2` entries used last and never more than `CAPACITY`.
///
/// Two halves: what is used moves to the young one; when that is full, it becomes the old one and what was old is
/// dropped. No list to keep in order, and no cost that depends on the number of entries but for the drop.
#[derive(Debug)]
pub struct Recent<K, V, const CAPACITY: usize> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V, const CAPACITY: usize> Default for Recent<K, V, CAPACITY> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Copy + Eq + Hash, V: Clone, const CAPACITY: usize> Recent<K, V, CAPACITY> {
    /// The value of a key, which counts as used.
    pub fn get(&mut self, key: &K) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.insert(*key, value.clone());
        Some(value)
    }

    /// Adds or replaces an entry.
    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= CAPACITY / 2 {
            self.old = mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}
