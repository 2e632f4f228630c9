//! Open blob files by number, each opened once and kept until it is evicted; and their values through the block cache.
//!
//! Values that gets ask for are kept in the block cache beside the blocks of tables, under the number of their file and their
//! offset, and count against its capacity and the memory of the store. One that is larger than a shard of the cache is not kept.
//! Walks look there, and leave nothing behind: a scan over large values would push out everything else. Compactions do neither.
//!
//! The lock is not held while a file is opened: two tasks may open the same one, and the first to finish wins.

use super::reader::BlobFile;
use crate::cache::BlockCache;
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::key::{BlobReference, Stored};
use crate::mark::sometimes;
use crate::sync::Mutex;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// The open blob files of one store.
pub struct BlobFiles {
    env: Env,
    dir: PathBuf,
    blocks: Arc<BlockCache>,
    open: Mutex<BTreeMap<u64, Arc<BlobFile>>>,
}

impl BlobFiles {
    /// Those of the store in `dir`, whose values go to `blocks`.
    pub fn new(env: Env, dir: PathBuf, blocks: Arc<BlockCache>) -> BlobFiles {
        BlobFiles { env, dir, blocks, open: Mutex::new("open blob files", BTreeMap::new()) }
    }

    /// The file with this number. That there is none is damage, as long as somebody refers to it.
    pub fn file(&self, number: u64) -> Result<Arc<BlobFile>> {
        if let Some(file) = self.open.lock().get(&number) {
            return Ok(file.clone());
        }
        let path = FileKind::Blob(number).path(&self.dir);
        let file = match self.env.open(&path, OpenMode::Read) {
            Err(error) if error.is_not_found() => {
                return Err(Error::corruption(&path, 0, "the blob file that a table refers to, found no file"));
            }
            opened => Arc::new(BlobFile::open(opened?, number)?),
        };
        Ok(self.open.lock().entry(number).or_insert(file).clone())
    }

    /// The value that an entry of this user key refers to, from the file.
    pub fn read(&self, key: &[u8], reference: BlobReference) -> Result<Bytes> {
        self.file(reference.file)?.value(key, reference)
    }

    /// The value that a reader sees of this user key, wherever it lies, by way of the cache. It stays there only with
    /// `fill_cache`.
    #[inline]
    pub fn value(&self, key: &[u8], stored: Stored, fill_cache: bool) -> Result<Bytes> {
        match stored {
            Stored::Here(value) => Ok(value),
            Stored::InBlob(reference) => self.cached(key, reference, fill_cache),
        }
    }

    fn cached(&self, key: &[u8], reference: BlobReference, fill_cache: bool) -> Result<Bytes> {
        if let Some(value) = self.blocks.get(reference.file, reference.offset) {
            sometimes!("the value of a blob file comes from the cache");
            return Ok(value);
        }
        sometimes!("a value is read from a blob file");
        let value = self.read(key, reference)?;
        if fill_cache {
            self.blocks.insert(reference.file, reference.offset, value.clone());
        }
        Ok(value)
    }

    /// Forgets a file that no version names any more. Those who read it go on.
    pub fn evict(&self, number: u64) {
        self.open.lock().remove(&number);
        self.blocks.remove_file(number);
    }

    /// The same with those of the open files that have these numbers, over the same blocks.
    pub fn with_only(&self, numbers: &BTreeSet<u64>) -> BlobFiles {
        let mut open = self.open.lock().clone();
        open.retain(|number, _| numbers.contains(number));
        BlobFiles {
            env: self.env.clone(),
            dir: self.dir.clone(),
            blocks: self.blocks.clone(),
            open: Mutex::new("open blob files", open),
        }
    }
}
