//! The keys that are named most often, in fixed memory.
//!
//! Space-Saving (Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams",
//! 2005): so many keys are counted; one that is not among them takes the place, and the count, of the one with the fewest.
//! A count is never too small, and too large by at most what the key found in its place, which is kept beside it. A key that is
//! named in more than one of `capacity` times is surely among them.

use std::collections::{BTreeMap, BTreeSet};

/// Longer keys are known by so many bytes of theirs.
const KEY_BYTES_MAX: usize = 128;

/// A key that is named often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HotKey {
    /// The key; of a long one its first 128 bytes.
    pub key: Vec<u8>,
    /// Times that it was named, at most.
    pub count: u64,
    /// By how much that may be too large.
    pub error: u64,
}

/// The sketch.
#[derive(Debug)]
pub struct HotKeys {
    capacity: usize,
    counts: BTreeMap<Vec<u8>, (u64, u64)>,
    /// The same by count, so that the smallest is found at once.
    order: BTreeSet<(u64, Vec<u8>)>,
}

impl HotKeys {
    /// Counts so many keys; with 0 none.
    pub fn new(capacity: usize) -> HotKeys {
        HotKeys { capacity, counts: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// A key was named.
    pub fn name(&mut self, key: &[u8]) {
        if self.capacity == 0 {
            return;
        }
        let key = &key[..key.len().min(KEY_BYTES_MAX)];
        let (count, error, key) = match self.counts.get(key) {
            Some(&(count, error)) => {
                let key = key.to_vec();
                let listed = (count, key);
                self.order.remove(&listed);
                (count, error, listed.1)
            }
            None if self.counts.len() < self.capacity => (0, 0, key.to_vec()),
            None => {
                let (fewest, replaced) = self.order.pop_first().expect("as many are listed as are counted");
                self.counts.remove(&replaced);
                (fewest, fewest, key.to_vec())
            }
        };
        self.order.insert((count + 1, key.clone()));
        self.counts.insert(key, (count + 1, error));
    }

    /// Those that are counted, the most often named first.
    pub fn top(&self) -> Vec<HotKey> {
        let with_error =
            |(count, key): &(u64, Vec<u8>)| HotKey { key: key.clone(), count: *count, error: self.counts[key].1 };
        self.order.iter().rev().map(with_error).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_count_is_never_too_small_and_a_frequent_key_is_never_missed(
            names in prop::collection::vec(prop::collection::vec(0u8..3, 0..3), 1..300),
            capacity in 1usize..8,
        ) {
            let mut sketch = HotKeys::new(capacity);
            let mut exact: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
            for name in &names {
                sketch.name(name);
                *exact.entry(name.clone()).or_default() += 1;
            }
            let top = sketch.top();
            prop_assert!(top.len() <= capacity && top.is_sorted_by(|a, b| a.count >= b.count));
            prop_assert_eq!(top.iter().map(|hot| hot.count).sum::<u64>(), names.len() as u64);
            for hot in &top {
                let truth = exact[&hot.key];
                prop_assert!(hot.count >= truth && hot.count - hot.error <= truth, "{:?} for {}", hot, truth);
            }
            for (key, count) in &exact {
                let is_frequent = *count as usize * capacity > names.len();
                prop_assert!(!is_frequent || top.iter().any(|hot| hot.key == *key), "{:?} is missed", key);
            }
        }
    }

    #[test]
    fn long_keys_are_cut_and_no_room_counts_nothing() {
        let mut sketch = HotKeys::new(2);
        sketch.name(&[7; 4000]);
        assert_eq!(sketch.top(), [HotKey { key: vec![7; KEY_BYTES_MAX], count: 1, error: 0 }]);
        let mut none = HotKeys::new(0);
        none.name(b"a");
        assert_eq!(none.top(), []);
    }
}
