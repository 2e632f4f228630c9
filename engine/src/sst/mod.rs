//! Sorted tables: immutable files of entries in key order, with an index and a filter.
//!
//! | file          | holds                                                               |
//! |---------------|---------------------------------------------------------------------|
//! | `format`      | the bytes of a file: block trailer, compression, properties, footer |
//! | `block`       | entries with shared prefixes and restart points, searched in place  |
//! | `index`       | separators, and where each data block lies                          |
//! | `filter`      | which keys are surely absent                                        |
//! | `writer`      | [`TableWriter`]                                                     |
//! | `reader`      | [`Table`]                                                           |
//! | `iter`        | [`TableIter`]                                                       |
//! | `remains`     | what is left of a table that is damaged                              |
//! | `table_cache` | [`TableCache`]                                                      |

mod block;
mod filter;
mod format;
mod index;
mod iter;
mod reader;
mod remains;
mod table_cache;
mod writer;

#[cfg(test)]
mod tests;

pub use format::{FORMAT_VERSION, Properties};
pub(crate) use format::{compression_from, compression_number};
pub use iter::TableIter;
pub use reader::{LastBlock, Table};
pub use remains::{Bounds, Entry, LostPart, Remains};
pub use table_cache::TableCache;
pub use writer::{TableOptions, TableSummary, TableWriter};
