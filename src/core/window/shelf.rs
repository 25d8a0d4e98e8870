//! Where do the jobs stand, whatever they wait for? By arrival: each is found by its number, and the first one has been
//! held longest.

use std::collections::BTreeMap;

use super::Key;

/// So many arrivals in a row stand on one board.
const BOARD: usize = 16;

/// A map of arrival numbers, which mostly come in order and lie close together. Boards of neighbours in place of single
/// entries: the tree is small enough for the processor's cache, and its nodes, half empty where keys only grow, are
/// paid by sixteen. A board goes with its last job, so the room is bounded by what is held, whatever the numbers.
#[derive(Debug)]
pub(super) struct Shelf<T> {
    boards: BTreeMap<u64, [Option<T>; BOARD]>,
    len: usize,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { boards: BTreeMap::new(), len: 0 }
    }
}

/// The board of a job, and its place there.
#[allow(clippy::cast_possible_truncation)] // less than BOARD
fn place(key: Key) -> (u64, usize) {
    (key / BOARD as u64, (key % BOARD as u64) as usize)
}

fn key(board: u64, at: usize) -> Key {
    board * BOARD as u64 + at as u64
}

impl<T> Shelf<T> {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(super) fn insert(&mut self, key: Key, value: T) {
        let (board, at) = place(key);
        let old = self.boards.entry(board).or_default()[at].replace(value);
        self.len += usize::from(old.is_none());
    }

    pub(super) fn get(&self, key: Key) -> Option<&T> {
        let (board, at) = place(key);
        self.boards.get(&board)?[at].as_ref()
    }

    pub(super) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let (board, at) = place(key);
        self.boards.get_mut(&board)?[at].as_mut()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<T> {
        let (number, at) = place(key);
        let board = self.boards.get_mut(&number)?;
        let value = board[at].take()?;
        self.len -= 1;
        if board.iter().all(Option::is_none) {
            self.boards.remove(&number);
        }
        Some(value)
    }

    /// The one that arrived first.
    pub(super) fn first(&self) -> Option<(Key, &T)> {
        self.iter().next()
    }

    /// In the order of arrival.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Key, &T)> {
        let boards = self.boards.iter();
        boards.flat_map(|(number, board)| {
            let entries = board.iter().enumerate();
            entries.filter_map(|(at, value)| Some((key(*number, at), value.as_ref()?)))
        })
    }

    pub(super) fn into_values(self) -> impl Iterator<Item = T> {
        self.boards.into_values().flatten().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_does_what_a_map_does() {
        let (mut shelf, mut map) = (Shelf::default(), BTreeMap::new());
        let mut number: u64 = 1;
        for round in 0..20_000_u64 {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let key = number >> 52;
            if number & (1 << 40) == 0 {
                shelf.insert(key, round);
                map.insert(key, round);
            } else {
                assert_eq!(shelf.remove(key), map.remove(&key));
            }
            assert_eq!(shelf.get(key), map.get(&key));
            assert_eq!(shelf.first(), map.iter().next().map(|(key, value)| (*key, value)));
            assert_eq!((shelf.len(), shelf.is_empty()), (map.len(), map.is_empty()));
        }
        assert!(!map.is_empty());
        assert!(shelf.iter().eq(map.iter().map(|(key, value)| (*key, value))));
        assert!(shelf.into_values().eq(map.into_values()));
    }

    #[test]
    fn what_is_gone_leaves_no_room_behind() {
        let mut shelf = Shelf::default();
        for key in 0..10_000 {
            shelf.insert(key, ());
            shelf.remove(key.saturating_sub(40));
            assert!(shelf.boards.len() <= 4);
        }
    }
}
