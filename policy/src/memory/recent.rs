//! A bounded map that forgets what has not been asked for lately.

use std::hash::Hash;
use std::mem;

use hashbrown::Equivalent;
use hashbrown::HashMap;

/// Keeps at least the half of its bounds that was used last, and never more than both bounds: a number of entries, and a
/// sum of their weights.
///
/// Two halves: what is used moves to the young one; when that is full, it becomes the old one and what was old is
/// dropped. No list to keep in order, and no cost that depends on the number of entries but for the drop.
#[derive(Debug)]
pub struct Recent<K, V> {
    capacity: usize,
    weight: usize,
    young: HashMap<K, (V, usize)>,
    young_weight: usize,
    old: HashMap<K, (V, usize)>,
}

impl<K: Eq + Hash, V: Clone> Recent<K, V> {
    /// An empty map that holds at most `capacity` entries, which together weigh at most `weight`.
    pub fn new(capacity: usize, weight: usize) -> Self {
        Self { capacity, weight, young: HashMap::new(), young_weight: 0, old: HashMap::new() }
    }

    /// What is remembered for a key.
    pub fn get<Q: Equivalent<K> + Hash + ?Sized>(&mut self, key: &Q) -> Option<V> {
        if let Some((value, _)) = self.young.get(key) {
            return Some(value.clone());
        }
        // A key is hashed to be looked for, even where there is nothing.
        if self.old.is_empty() {
            return None;
        }
        let (key, (value, weight)) = self.old.remove_entry(key)?;
        self.insert(key, value.clone(), weight);
        Some(value)
    }

    /// Remembers a value. One that weighs more than half of the bound is not remembered.
    pub fn insert(&mut self, key: K, value: V, weight: usize) {
        self.remove(&key);
        if weight > self.weight / 2 {
            return;
        }
        if self.young.len() >= self.capacity / 2 || self.young_weight + weight > self.weight / 2 {
            self.old = mem::take(&mut self.young);
            self.young_weight = 0;
        }
        self.young_weight += weight;
        self.young.insert(key, (value, weight));
    }

    /// Forgets a key.
    pub fn remove<Q: Equivalent<K> + Hash + ?Sized>(&mut self, key: &Q) {
        if let Some((_, weight)) = self.young.remove(key) {
            self.young_weight = self.young_weight.saturating_sub(weight);
        }
        self.old.remove(key);
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_more_than_the_bounds_and_what_is_used_stays() {
        let mut recent = Recent::new(8, 1000);
        recent.insert(0, "used", 1);
        for key in 1..100 {
            recent.insert(key, "once", 1);
            assert_eq!(recent.get(&0), Some("used"), "{key}");
            assert!(recent.len() <= 8, "{key}");
        }
        assert_eq!(recent.get(&50), None);
        assert_eq!(recent.get(&99), Some("once"));
    }

    #[test]
    fn weights_are_bounded_too() {
        let mut recent = Recent::new(1000, 100);
        for key in 0..100 {
            recent.insert(key, (), 20);
            assert!(recent.len() <= 4, "{key}");
        }
        recent.insert(100, (), 51);
        assert_eq!(recent.get(&100), None, "heavier than a half");
        recent.insert(99, (), 20);
        recent.insert(99, (), 20);
        recent.insert(101, (), 20);
        assert_eq!((recent.get(&99), recent.get(&101)), (Some(()), Some(())), "a key weighs once");
    }

    #[test]
    fn what_is_forgotten_is_gone() {
        let mut recent = Recent::new(4, 4);
        recent.insert(1, 'a', 1);
        recent.insert(1, 'b', 1);
        assert_eq!(recent.get(&1), Some('b'));
        recent.remove(&1);
        assert_eq!((recent.get(&1), recent.is_empty()), (None, true));
    }
}
