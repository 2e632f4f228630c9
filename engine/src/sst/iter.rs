//! A cursor over one table.
//!
//! It holds one data block at a time and takes the next when it steps out of it. An error leaves it without position: it
//! never goes on behind a block that could not be read.

use super::block::{BlockCursor, Malformed, Target};
use super::reader::{ReadAhead, Table};
use crate::error::{Error, Result};
use crate::iter::internal::InternalIterator;
use bytes::Bytes;
use std::sync::Arc;

/// See [`Table::iter`].
pub struct TableIter {
    table: Arc<Table>,
    ahead: ReadAhead,
    fill_cache: bool,
    cursor: BlockCursor,
    /// The number of the block in the cursor.
    loaded: Option<usize>,
}

// Here and not beside the other methods, so that a table need not know its cursor.
impl Table {
    /// A cursor over all entries, range deletes not among them, which reads ahead where it goes forward. With `fill_cache`,
    /// blocks come from the cache and go there. Without, the cache is neither asked nor filled: right for reading a table once
    /// and whole.
    pub fn iter(self: &Arc<Self>, fill_cache: bool) -> TableIter {
        let (table, ahead, cursor) = (self.clone(), ReadAhead::default(), BlockCursor::default());
        TableIter { table, ahead, fill_cache, cursor, loaded: None }
    }
}

impl TableIter {
    /// Puts a block into the cursor, if it is not there. Whatever fails, the cursor is left without a block.
    fn load(&mut self, number: usize) -> Result<()> {
        if self.loaded == Some(number) {
            return Ok(());
        }
        self.unload();
        let (_, handle) = self.table.index_entry(number)?;
        let block = self.table.block_ahead(handle, &mut self.ahead, self.fill_cache)?;
        self.cursor.load(block);
        self.loaded = Some(number);
        Ok(())
    }

    fn unload(&mut self) {
        self.cursor.unload();
        self.loaded = None;
    }

    /// Turns what a move within the block came to into a result, and lets go of a block that is nonsense.
    #[inline]
    fn moved(&mut self, moved: std::result::Result<(), Malformed>) -> Result<()> {
        match moved {
            Ok(()) => Ok(()),
            Err(malformed) => Err(self.lost(malformed)),
        }
    }

    #[cold]
    fn lost(&mut self, malformed: Malformed) -> Error {
        let number = self.loaded.expect("only a block that is loaded is moved in");
        self.unload();
        match self.table.index_entry(number) {
            Ok((_, handle)) => self.table.malformed(handle.offset, malformed),
            Err(error) => error,
        }
    }

    /// From behind the last entry of a block to the first of the next.
    fn skip_forward(&mut self) -> Result<()> {
        match self.loaded {
            Some(number) if !self.cursor.valid() && number + 1 < self.table.blocks() => {
                self.load(number + 1)?;
                let moved = self.cursor.seek_to_first();
                self.moved(moved)
            }
            _ => Ok(()),
        }
    }

    /// From before the first entry of a block to the last of the one before.
    fn skip_backward(&mut self) -> Result<()> {
        match self.loaded {
            Some(number) if !self.cursor.valid() && number > 0 => {
                self.load(number - 1)?;
                let moved = self.cursor.seek_to_last();
                self.moved(moved)
            }
            _ => Ok(()),
        }
    }

    /// Loads the block to look into for `target`. Returns `false`, with no block loaded, where it lies behind all.
    fn load_for(&mut self, target: &[u8]) -> Result<bool> {
        match self.table.search(Target::new(target)) {
            Ok(number) if number < self.table.blocks() => self.load(number).map(|()| true),
            found => {
                self.unload();
                found.map(|_| false)
            }
        }
    }
}

impl InternalIterator for TableIter {
    #[inline]
    fn valid(&self) -> bool {
        self.cursor.valid()
    }

    fn seek_to_first(&mut self) -> Result<()> {
        if self.table.blocks() == 0 {
            return Ok(());
        }
        self.load(0)?;
        let moved = self.cursor.seek_to_first();
        self.moved(moved)
    }

    fn seek_to_last(&mut self) -> Result<()> {
        let Some(last) = self.table.blocks().checked_sub(1) else { return Ok(()) };
        self.load(last)?;
        let moved = self.cursor.seek_to_last();
        self.moved(moved)
    }

    fn seek(&mut self, target: &[u8]) -> Result<()> {
        if !self.load_for(target)? {
            return Ok(());
        }
        let moved = self.cursor.seek(Target::new(target));
        self.moved(moved)?;
        self.skip_forward()
    }

    fn seek_before(&mut self, target: &[u8]) -> Result<()> {
        if !self.load_for(target)? {
            return self.seek_to_last();
        }
        let moved = self.cursor.seek_before(Target::new(target));
        self.moved(moved)?;
        self.skip_backward()
    }

    #[inline]
    fn next(&mut self) -> Result<()> {
        let moved = self.cursor.next();
        self.moved(moved)?;
        if self.cursor.valid() { Ok(()) } else { self.skip_forward() }
    }

    #[inline]
    fn prev(&mut self) -> Result<()> {
        let moved = self.cursor.prev();
        self.moved(moved)?;
        if self.cursor.valid() { Ok(()) } else { self.skip_backward() }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.cursor.key()
    }

    #[inline]
    fn value(&self) -> Bytes {
        self.cursor.value()
    }
}
