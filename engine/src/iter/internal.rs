//! The cursor that everything sorted offers.

use crate::error::Result;
use bytes::Bytes;

/// A cursor over entries (encoded internal key, value) in key order. A new one is not valid; a seek gives it a position.
///
/// After any `Err` the cursor is not valid, and only a seek makes it usable again: it never goes on behind something that
/// could not be read. A seek or step that finds no entry is `Ok` and leaves the cursor not valid.
pub trait InternalIterator: Send {
    /// Whether the cursor is at an entry.
    fn valid(&self) -> bool;
    /// To the first entry.
    fn seek_to_first(&mut self) -> Result<()>;
    /// To the last entry.
    fn seek_to_last(&mut self) -> Result<()>;
    /// To the first entry at or behind `target`, an encoded internal key.
    fn seek(&mut self, target: &[u8]) -> Result<()>;
    /// To the last entry before `target`, an encoded internal key.
    fn seek_before(&mut self, target: &[u8]) -> Result<()>;
    /// To the next entry. Needs a valid cursor.
    fn next(&mut self) -> Result<()>;
    /// To the entry before. Needs a valid cursor.
    fn prev(&mut self) -> Result<()>;
    /// The encoded internal key. Needs a valid cursor.
    fn key(&self) -> &[u8];
    /// The value; a cheap clone that may keep a whole block in memory. Needs a valid cursor.
    fn value(&self) -> Bytes;
}
