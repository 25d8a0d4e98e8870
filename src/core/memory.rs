//! What is remembered, and for how long? As much as fits: a map that forgets its oldest entry when it is full.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use foldhash::quality::RandomState;

/// A map bounded in count. Forgetting is safe where it is used: it costs a look. Of a source server whose `POST` has no
/// answer it would be safe only later than `api.look_again`, for another request that had looked before; but within that time
/// as many others would have to be sent as the window holds.
#[derive(Debug)]
pub struct Memory<K, V> {
    /// The hash is seeded anew in each process. It is no defence against somebody who chooses source servers while he
    /// watches how long we take; whoever may publish requests is trusted that far.
    entries: HashMap<K, (u64, V), RandomState>,
    order: VecDeque<(u64, K)>,
    capacity: usize,
    inserted: u64,
}

impl<K: Hash + Eq + Clone, V> Memory<K, V> {
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashMap::default(), order: VecDeque::new(), capacity, inserted: 0 }
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.inserted += 1;
        self.entries.insert(key.clone(), (self.inserted, value));
        self.order.push_back((self.inserted, key));
        while self.entries.len() > self.capacity || self.order.len() > 2 * self.capacity {
            let Some((number, oldest)) = self.order.pop_front() else { break };
            // An entry that was removed, or inserted anew since, leaves its old place in the order behind.
            if self.entries.get(&oldest).is_some_and(|(current, _)| *current == number) {
                self.entries.remove(&oldest);
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

    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        self.entries.remove(key).map(|(_, value)| value)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_entry_is_forgotten_first() {
        let mut memory = Memory::new(2);
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
        let mut memory = Memory::new(4);
        for key in 0..10_000 {
            memory.insert(key, ());
            memory.remove(&key);
        }
        assert!(memory.is_empty() && memory.order.len() <= 8);
    }
}
