//! One budget for all that a store keeps in memory: memtables, cached blocks, filters and indexes of open tables, and what
//! compactions read and write through.
//!
//! ```text
//! budget | memtables: at most half | tables and compactions, as they are | blocks: what is left, at most cache_bytes |
//! ```
//!
//! G1. Memtables together take at most half of the budget: the active one is frozen when they do, and writers wait for a flush
//!     while they do and one is frozen. They may be over by one group of writes, which is not looked at while it comes in.
//! G2. The cache gets what the others leave, and gives back at once when they grow: when a table is opened, or a compaction
//!     begins.
//! G3. Filters and indexes of tables that are open, and compactions that run, cannot be refused. Where they alone take more
//!     than the other half, there is no cache and the budget is exceeded by what they are over.
//!
//! So the sum is at most the larger of the budget and of half of it with G3's part, and one group of writes. Not counted, because
//! nobody knows: blocks that are in no cache any more and that iterators or values still hold.

use crate::db::state::{ReadView, State};
use crate::options::Options;

/// Bytes that a store holds in memory, by what they are for. Closely estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    /// The memtable that is being written.
    pub memtable: u64,
    /// Memtables that wait for their flush.
    pub frozen: u64,
    /// Blocks in the cache, and values of blob files.
    pub cache: u64,
    /// Filters, indexes and range deletes of open tables.
    pub tables: u64,
    /// Set aside for compactions that run.
    pub compactions: u64,
}

impl Memory {
    /// All of it.
    pub fn total(&self) -> u64 {
        self.memtable + self.frozen + self.cache + self.tables + self.compactions
    }
}

/// Bytes that one input of a compaction reads at once, at most.
const INPUT_BYTES: u64 = 256 * 1024;

/// What is set aside for one compaction: what its inputs read ahead, as many as are usual, the block that it writes, and what
/// gathers for a blob file.
fn compaction_bytes(options: &Options) -> u64 {
    let inputs = options.l0_compaction_trigger as u64 + 2;
    let blobs = if options.blob_threshold > 0 { INPUT_BYTES.min(options.table_bytes) } else { 0 };
    inputs * INPUT_BYTES.min(options.table_bytes) + 2 * options.block_bytes as u64 + blobs
}

/// What the store holds now.
pub(crate) fn held(state: &State, view: &ReadView, running: usize) -> Memory {
    Memory {
        memtable: view.memtable.bytes(),
        frozen: view.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum(),
        cache: state.blocks().stats().bytes,
        tables: state.blocks().aside(),
        compactions: running as u64 * compaction_bytes(&state.options),
    }
}

/// Whether memtables take their half of the budget (G1).
pub(crate) fn is_half_full(options: &Options, view: &ReadView) -> bool {
    options.memory_bytes > 0 && {
        let frozen: u64 = view.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum();
        view.memtable.bytes() + frozen >= options.memory_bytes / 2
    }
}

/// What the cache and the tables may take together beside the others (G2). Memtables have their half whether they fill it or
/// not: a cache that followed each write would be emptied by it.
fn room(options: &Options, running: usize) -> u64 {
    let half = options.memory_bytes - options.memory_bytes / 2;
    half.saturating_sub(running as u64 * compaction_bytes(options))
}

/// So many compactions run now: the cache makes room for them, or has theirs.
pub(crate) fn balance(state: &State, running: usize) {
    if state.options.memory_bytes > 0 {
        state.blocks().set_room(room(&state.options, running));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memtables_have_half_and_compactions_come_before_the_cache() {
        let options = Options { memory_bytes: 1001, table_bytes: 50, block_bytes: 64, ..Options::default() };
        let one = compaction_bytes(&options);
        assert_eq!(one, 6 * 50 + 2 * 64);
        assert_eq!([0, 1, 2].map(|running| room(&options, running)), [501, 501 - one, 0]);
    }
}
