//! Who may read what a merge writes: the snapshots that are held, and everybody who comes later.
//!
//! A snapshot reads at a sequence number and at a time, and so does everybody else. Both only grow from one reader to the
//! next, because the store's time never goes back. So whatever has expired for the first reader that can see a write has
//! expired for all of them.
//!
//! The snapshots must have been listed, and the time been read, after the inputs of the merge were fixed: a snapshot that is
//! taken later is newer than every input, and for it no less time has passed.

use crate::key::SeqNo;

/// A snapshot as a merge sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reader {
    /// The newest write that it shows.
    pub seqno: SeqNo,
    /// The store's time when it was taken, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Readers {
    /// By seqno, ascending, one each. The time of each is the earliest of it and of all behind it.
    snapshots: Vec<Reader>,
    now_ms: u64,
}

impl Readers {
    /// These snapshots, in any order, and those who come when it is `now_ms` or later.
    pub fn new(mut snapshots: Vec<Reader>, now_ms: u64) -> Readers {
        snapshots.sort_unstable();
        snapshots.dedup_by_key(|reader| reader.seqno);
        let mut earliest = now_ms;
        for reader in snapshots.iter_mut().rev() {
            earliest = earliest.min(reader.now_ms);
            reader.now_ms = earliest;
        }
        Readers { snapshots, now_ms }
    }

    /// The time for those who come later.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// The stripe of a write: how many snapshots do not show it. See [`super::merge`].
    pub fn stripe_of(&self, seqno: SeqNo) -> usize {
        self.snapshots.partition_point(|reader| reader.seqno < seqno)
    }

    /// What expires at this time or before has expired for everybody who can see a write of this seqno.
    pub fn horizon_ms(&self, seqno: SeqNo) -> u64 {
        self.snapshots.get(self.stripe_of(seqno)).map_or(self.now_ms, |reader| reader.now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_horizon_is_the_earliest_time_of_all_who_see_a_write() {
        let reader = |seqno, now_ms| Reader { seqno, now_ms };
        let readers = Readers::new(vec![reader(20, 200), reader(10, 100), reader(10, 150)], 300);
        for (seqno, stripe, horizon_ms) in
            [(0, 0, 100), (10, 0, 100), (11, 1, 200), (20, 1, 200), (21, 2, 300), (99, 2, 300)]
        {
            assert_eq!((readers.stripe_of(seqno), readers.horizon_ms(seqno)), (stripe, horizon_ms), "seqno {seqno}");
        }
        // Nothing is taken for granted about their order in time.
        assert_eq!(Readers::new(vec![reader(10, 500)], 300).horizon_ms(5), 300);
    }
}
