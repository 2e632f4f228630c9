//! The newest writes, in memory and in order. What is in a memtable is in a log as well, until the memtable was
//! flushed.
//!
//! Reading takes no lock and never waits, not even while another task inserts. A reader asks at a sequence number, and
//! sees nothing above it; so a batch becomes visible at once when its last sequence number is published, and not entry
//! by entry.
//!
//! Range deletes lie beside the entries, as [`Fragments`](crate::fragments::Fragments) that are replaced as a whole. A memtable
//! without any is told from others by one number.
//!
//! Values are shared, not copied: the memory of a batch lives as long as one value of it. Nothing is ever removed; a
//! memtable is dropped as a whole.

mod entries;
mod generation;
mod skiplist;

pub use entries::{Memtable, MemtableIter};
pub use generation::Generation;
