//! Large values apart from their keys: files of records, each written once, to which the entries of tables refer.
//!
//! A value that lies in a table is rewritten by every compaction that its key goes through. One that lies in a blob file is
//! written when its memtable is flushed, and from then on compactions copy the 32 bytes of its
//! [reference](crate::key::BlobReference). The idea is that of WiscKey (Lu et al., FAST 2016), without its log that is the
//! store: here the write-ahead log has every value whole, and a blob file is a part of the tables that refer to it, as in
//! RocksDB's BlobDB and in Pebble.
//!
//! | file     | holds                                                                    |
//! |----------|--------------------------------------------------------------------------|
//! | `format` | the bytes of a file, and what the manifest and tables say of one         |
//! | `writer` | [`BlobWriter`]                                                           |
//! | `reader` | [`BlobFile`], and [`BlobRecords`], which walks over a whole file         |
//! | `open`   | [`BlobFiles`]: those that are open, and values through the block cache   |
//!
//! B1. A blob file is synced, and its name as well, before a manifest names it; and an edit that names a table names the blob
//!     files that it refers to, or an earlier one has.
//! B2. A blob file is in the manifest as long as a table refers to it, and not longer. It is removed like a table: when the edit
//!     that takes it out is durable, and nobody reads a version in which a table refers to it.
//! B3. No record is changed or moved. Of a file of which less than half is referred to, compactions copy what they meet to a new
//!     file, and refer to that; the old one goes when nothing is left that refers to it. Where that is so of all files together,
//!     tables are rewritten for it. A damaged value is left where it is.
//! B4. A value is returned only if the record in its place carries its key and the checksum that the reference names.

mod format;
mod open;
mod reader;
mod writer;

pub use format::{BLOB_HEADER_LEN, BlobMeta, BlobUse, BlobUses, LIVE_PERCENT_MIN};
pub use open::BlobFiles;
pub use reader::{BlobFile, BlobRecord, BlobRecords};
pub use writer::BlobWriter;
