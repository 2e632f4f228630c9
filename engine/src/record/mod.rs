//! Framing for files that grow at the end: how a log-shaped file is cut into records, each of which proves on its own
//! that it is whole and where it belongs. The write-ahead log and the manifest are both made of it. What a record means
//! is theirs.

pub mod format;
pub mod reader;
pub mod writer;

pub use format::Uuid;
pub use reader::{Record, RecordReader, Tail};
pub use writer::RecordWriter;

#[cfg(test)]
mod tests;
