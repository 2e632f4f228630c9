//! Numbers about an open store.

use crate::cache::CacheStats;
use crate::compaction::picker;
use crate::db::check::shape;
use crate::db::state::State;
use crate::error::Error;
use crate::event::LevelShape;
use crate::key::SeqNo;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store is made of and has done since it was opened. Bytes and counts; each number is exact, and they are read one
/// after the other.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The newest write that readers see.
    pub seqno: SeqNo,
    /// Tables and bytes of each level, those of all keyspaces together.
    pub levels: Vec<LevelShape>,
    /// Bytes in the active memtables of all keyspaces.
    pub memtable_bytes: u64,
    /// Bytes in memtables that wait for their flush, and how many these are.
    pub frozen_bytes: u64,
    /// Memtables that wait for their flush.
    pub frozen: usize,
    /// Block cache.
    pub cache: CacheStats,
    /// Levels that hold more than they should.
    pub compaction_debt: usize,
    /// Bytes of batches that users wrote.
    pub user_bytes: u64,
    /// Bytes written to logs.
    pub wal_bytes: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Bytes written by compactions.
    pub compaction_bytes: u64,
    /// Syncs of logs.
    pub wal_syncs: u64,
    /// Groups committed, and writes in them.
    pub groups: u64,
    /// Writes committed.
    pub writes: u64,
    /// Times that a writer had to wait for background work.
    pub stalls: u64,
    /// Why the last flush failed, as long as none has succeeded since.
    pub flush_failure: Option<Error>,
    /// Why the last compaction failed, as long as none has succeeded since.
    pub compaction_failure: Option<Error>,
}

impl Stats {
    /// Bytes written to disk for each byte that users wrote.
    pub fn write_amplification(&self) -> f64 {
        let written = self.wal_bytes + self.flush_bytes + self.compaction_bytes;
        written as f64 / (self.user_bytes as f64).max(1.0)
    }
}

pub(crate) fn stats(state: &State) -> Stats {
    let view = state.view.load_full();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &state.counters;
    let work = state.work.lock();
    let (flush_failure, compaction_failure) = (
        work.flush_failure.as_ref().map(|failure| failure.error.clone()),
        work.compaction_failure.as_ref().map(|failure| failure.error.clone()),
    );
    drop(work);
    Stats {
        seqno: state.visible.load(Ordering::Acquire),
        levels: shape(&view.catalog),
        memtable_bytes: view.memtable.bytes(),
        frozen_bytes: view.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum(),
        frozen: view.frozen.len(),
        cache: state.blocks().stats(),
        compaction_debt: picker::debt_of_all(&view.catalog),
        user_bytes: count(&counters.user_bytes),
        wal_bytes: count(&counters.wal_bytes),
        flush_bytes: count(&counters.flush_bytes),
        compaction_bytes: count(&counters.compaction_bytes),
        wal_syncs: count(&counters.syncs),
        groups: count(&counters.groups),
        writes: count(&counters.writes),
        stalls: count(&counters.stalls),
        flush_failure,
        compaction_failure,
    }
}
