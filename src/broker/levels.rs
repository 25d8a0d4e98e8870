//! What of a backlog has been delivered whole, while more of it still comes? A classic queue hands out its highest level
//! first, so whatever belongs to a higher level than the latest delivery is there. A message's level is its publisher's word:
//! only the order of a backlog that is larger than the window rests on it.

use super::planner::coarse;

/// The levels of a queue, and how far down the broker has come in a session.
#[derive(Debug)]
pub(super) struct Levels {
    /// By level, the highest priority that belongs to it.
    ends: Vec<u16>,
    lowest: u8,
}

impl Levels {
    /// `highest` is the queue's `x-max-priority`.
    pub(super) fn new(highest: u8) -> Self {
        let mut ends = vec![0; usize::from(highest) + 1];
        for priority in 0..=u16::MAX {
            ends[usize::from(coarse(priority, highest))] = priority;
        }
        Self { ends, lowest: highest }
    }

    /// A delivery has this level (absent is 0; the broker takes what is too high for its highest). If it is a lower one than all
    /// before: the priority above which nothing is missing.
    pub(super) fn come_to(&mut self, level: Option<u8>) -> Option<u16> {
        let level = level.unwrap_or(0);
        if level >= self.lowest {
            return None;
        }
        self.lowest = level;
        self.ends.get(usize::from(level)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_belongs_to_higher_levels_is_whole_when_a_lower_one_comes() {
        for highest in [1, 3, 4, 10, 255] {
            for level in 0..highest {
                let above = Levels::new(highest).come_to(Some(level)).unwrap();
                let is_higher = |priority| coarse(priority, highest) > level;
                assert!(!is_higher(above) && is_higher(above + 1), "{highest} {level} {above}");
            }
        }
    }

    #[test]
    fn only_a_lower_level_than_all_before_tells_something() {
        let mut levels = Levels::new(10);
        let told =
            [Some(12), Some(10), Some(9), Some(10), Some(9)].map(|level| levels.come_to(level));
        assert_eq!(told.map(|above| above.is_some()), [false, false, true, false, false]);
        assert_eq!(levels.come_to(None), Some(0), "without a level it is of the lowest");
        assert_eq!(levels.come_to(Some(0)), None);
    }
}
