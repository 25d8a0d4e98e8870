//! What is remembered, and for how long? As much as fits: a map that forgets its oldest entry when it is full.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use super::Hashes;

/// How many entries that must stay are passed over for one that is inserted.
const PASSED_OVER: usize = 8;

/// A map bounded in count. Forgetting a run costs a look-up. Forgetting a source server would spare another request for it a look-up
/// that it needs: no account has as many as are remembered, and those in doubt must stay.
#[derive(Debug)]
pub struct Memory<K, V> {
    /// The hash is seeded from the core's generator, so anew in each process. It is no defence against somebody who
    /// chooses source servers while he watches how long we take; whoever may publish requests is trusted that far.
    entries: HashMap<K, (u64, V), Hashes>,
    order: VecDeque<(u64, K)>,
    capacity: usize,
    inserted: u64,
}

impl<K: Hash + Eq + Clone, V> Memory<K, V> {
    pub fn new(capacity: usize, hashes: Hashes) -> Self {
        let entries = HashMap::with_hasher(hashes);
        Self { entries, order: VecDeque::new(), capacity, inserted: 0 }
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.insert_beside(key, value, |_| false);
    }

    /// Forgets nothing that `must_stay`: there are as many more entries as that takes.
    pub fn insert_beside(&mut self, key: K, value: V, must_stay: impl Fn(&V) -> bool) {
        self.inserted += 1;
        self.entries.insert(key.clone(), (self.inserted, value));
        self.order.push_back((self.inserted, key));
        // An entry that was removed, or inserted anew since, has left its old place in the order behind.
        let entries = &mut self.entries;
        if self.order.len() > 2 * entries.len().max(self.capacity) {
            self.order.retain(|(number, key)| current(entries, *number, key).is_some());
        }
        let mut passed_over = 0;
        while entries.len() > self.capacity && passed_over < PASSED_OVER {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            match current(entries, number, &oldest) {
                Some(value) if must_stay(value) => {
                    self.order.push_back((number, oldest));
                    passed_over += 1;
                }
                Some(_) => drop(entries.remove(&oldest)),
                None => {}
            }
        }
    }

    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.remove(key).map(|(_, value)| value)
    }

    /// In no order that means anything: for what is done to all alike.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.entries.values_mut().map(|(_, value)| value)
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// What stands under the key, if it was inserted with this number.
fn current<'a, K: Hash + Eq, V>(
    entries: &'a HashMap<K, (u64, V), Hashes>,
    number: u64,
    key: &K,
) -> Option<&'a V> {
    entries.get(key).filter(|(inserted, _)| *inserted == number).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_is_forgotten_first() {
        let mut memory = Memory::new(2, Hashes::default());
        memory.insert(1, "a");
        memory.insert(2, "b");
        memory.insert(1, "again");
        memory.insert(3, "c");
        assert_eq!(
            (memory.get(&1), memory.get(&2), memory.get(&3)),
            (Some(&"again"), None, Some(&"c"))
        );
    }

    #[test]
    fn inserting_and_removing_for_ever_keeps_it_small() {
        let mut memory = Memory::new(4, Hashes::default());
        for key in 0..10_000 {
            memory.insert(key, ());
            memory.remove(&key);
        }
        assert!(memory.is_empty() && memory.order.len() <= 8);
    }

    #[test]
    fn inserting_the_same_for_ever_forgets_no_other() {
        let mut memory = Memory::new(4, Hashes::default());
        memory.insert(0, ());
        for _ in 0..10_000 {
            memory.insert(1, ());
        }
        assert!(memory.get(&0).is_some() && memory.order.len() <= 8);
    }

    #[test]
    fn what_must_stay_is_kept_beyond_the_bound_and_no_longer() {
        let mut memory = Memory::new(4, Hashes::default());
        for key in 0..100 {
            memory.insert_beside(key, key < 50, |stays| *stays);
        }
        assert!((0..50).all(|key| memory.get(&key).is_some()));
        for key in 100..200 {
            memory.insert(key, false);
        }
        assert_eq!((memory.len(), memory.order.len() <= 8), (4, true));
    }
}
