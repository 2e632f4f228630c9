//! Open tables by number, each opened once and kept until it is evicted.
//!
//! Reading a table's footer, index and filter costs more than most lookups in it, so an open table stays open as long as it
//! is live. The lock is not held while a table is opened: two tasks may open the same one, and the first to finish wins.

use super::reader::Table;
use crate::cache::BlockCache;
use crate::env::{Env, OpenMode};
use crate::error::Result;
use crate::filename::FileKind;
use crate::sync::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The open tables of one store.
pub struct TableCache {
    env: Env,
    dir: PathBuf,
    blocks: Arc<BlockCache>,
    open: Mutex<BTreeMap<u64, Arc<Table>>>,
}

impl TableCache {
    /// Tables of the store in `dir`, whose blocks go to `blocks`.
    pub fn new(env: Env, dir: PathBuf, blocks: Arc<BlockCache>) -> TableCache {
        TableCache { env, dir, blocks, open: Mutex::new("open tables", BTreeMap::new()) }
    }

    /// The table with this number, which must be `bytes` long.
    pub fn table(&self, number: u64, bytes: u64) -> Result<Arc<Table>> {
        if let Some(table) = self.open.lock().get(&number) {
            return Ok(table.clone());
        }
        let file = self.env.open(&FileKind::Sst(number).path(&self.dir), OpenMode::Read)?;
        let table = Arc::new(Table::open(file, number, bytes, self.blocks.clone())?);
        let opened = self.open.lock().entry(number).or_insert(table.clone()).clone();
        if Arc::ptr_eq(&opened, &table) {
            self.blocks.set_aside(table.memory_bytes());
        }
        Ok(opened)
    }

    /// Forgets a table that no version names any more. Those who read it go on.
    pub fn evict(&self, number: u64) {
        let closed = self.open.lock().remove(&number);
        if let Some(closed) = closed {
            self.blocks.give_back(closed.memory_bytes());
        }
        self.blocks.remove_file(number);
    }

    /// A cache with those of the open tables that have these numbers, over the same blocks.
    pub fn with_only(&self, numbers: &BTreeSet<u64>) -> TableCache {
        let mut open = self.open.lock().clone();
        open.retain(|number, _| numbers.contains(number));
        open.values().for_each(|table| self.blocks.set_aside(table.memory_bytes()));
        TableCache {
            env: self.env.clone(),
            dir: self.dir.clone(),
            blocks: self.blocks.clone(),
            open: Mutex::new("open tables", open),
        }
    }

    /// The block cache beneath.
    pub fn blocks(&self) -> &Arc<BlockCache> {
        &self.blocks
    }
}

impl Drop for TableCache {
    /// Others may share the blocks.
    fn drop(&mut self) {
        self.open.lock().values().for_each(|table| self.blocks.give_back(table.memory_bytes()));
    }
}
