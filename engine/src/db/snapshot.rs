//! A moment that reads can go back to.

use crate::compaction::readers::Reader;
use crate::db::state::State;
use crate::key::SeqNo;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A consistent picture of the whole store at one moment, unmoved by later writes, flushes and compactions, by keyspaces that are
/// dropped, and by time: what had not expired when it was taken has not expired in it. It keeps old
/// versions of keys from being dropped, so let go of it: dropping it releases it. Ends with the handle that it came from:
/// after a reopen there are no snapshots.
pub struct Snapshot {
    state: Arc<State>,
    at: Reader,
}

impl Snapshot {
    pub(crate) fn take(state: &Arc<State>) -> Snapshot {
        let mut list = state.snapshots.lock();
        // Read under the lock: a merge that lists the snapshots before this one has only inputs that are older than it.
        let seqno = state.newest_seqno();
        state.env.yield_point("snapshot: seqno read, not yet listed");
        let at = Reader { seqno, now_ms: state.now_ms() };
        *list.holders.entry(at).or_insert(0) += 1;
        drop(list);
        Snapshot { state: state.clone(), at }
    }

    /// The newest write that the snapshot shows.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno
    }

    /// The store's time when it was taken, in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.at.now_ms
    }

    pub(crate) fn at(&self) -> Reader {
        self.at
    }

    /// Whether it was taken from this store handle.
    pub(crate) fn belongs_to(&self, state: &Arc<State>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut list = self.state.snapshots.lock();
        let holders = list.holders.get_mut(&self.at).expect("a snapshot is listed as long as it lives");
        *holders -= 1;
        if *holders == 0 {
            list.holders.remove(&self.at);
        }
        let holds_dropped = !list.dropped.is_empty();
        drop(list);
        if holds_dropped {
            self.state.forget_dropped();
        }
        if self.state.sweep_waits.swap(false, Ordering::AcqRel) {
            let _work = self.state.work.lock();
            self.state.work_changed.notify_all();
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.at.seqno)
    }
}
