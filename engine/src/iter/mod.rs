//! Cursors over entries in key order, and how several become one.
//!
//! [`InternalIterator`] is the one trait that memtables, tables and whole levels offer. [`MergeIter`] joins cursors that
//! overlap; [`ConcatIter`] strings together the disjoint tables of one level.

pub mod concat;
pub mod internal;
pub mod merge;

#[cfg(test)]
mod tests;

pub use concat::{ConcatIter, TableSource};
pub use internal::InternalIterator;
pub use merge::MergeIter;
