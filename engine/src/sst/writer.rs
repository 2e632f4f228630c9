//! Writes one table, front to back, from entries in key order.
//!
//! Finished blocks gather in a buffer that goes to the file in large pieces, so that a small table is one write and one
//! sync. Nothing is read back, and nothing written is changed. The name of the file is the caller's to make durable.
//!
//! After an error the writer is spent: each further call returns the same error, and the file must not be used.

use super::block::BlockBuilder;
use super::filter::FilterBuilder;
use super::format::{BLOCK_TRAILER_LEN, Compressor, FOOTER_LEN, FORMAT_VERSION, Footer, Properties, seal_block};
use super::index::IndexBuilder;
use crate::blob::BlobUses;
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::{Error, Result};
use crate::fragments::Fragment;
use crate::key::{
    BlobReference, Expiries, InternalKey, KEY_LEN_MAX, KeyspaceId, Kind, SEQNO_MAX, SeqNo, compare, range_end, user_key,
};
use crate::options::{Compression, Options};
use std::cmp::Ordering;

/// Bytes that gather before they go to the file: enough that the cost of a call does not count.
const WRITE_BYTES: usize = 256 * 1024;

/// How a table is written. The ranges are those of [`Options`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableOptions {
    /// Bytes of a data block before compression.
    pub block_bytes: usize,
    /// Entries between two restart points.
    pub restart_interval: usize,
    /// Bits of filter for each key; 0 is no filter.
    pub filter_bits_per_key: u32,
    /// How data blocks are compressed.
    pub compression: Compression,
}

impl TableOptions {
    /// What the options of a store ask of a table in `level`.
    pub fn at_level(options: &Options, level: usize) -> TableOptions {
        TableOptions {
            block_bytes: options.block_bytes,
            restart_interval: options.restart_interval,
            filter_bits_per_key: options.filter_bits_per_key,
            compression: options.compression_at(level),
        }
    }
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSummary {
    /// Length of the file.
    pub bytes: u64,
    /// Entries, deletes included, range deletes not.
    pub entries: u64,
    /// Entries that delete.
    pub deletes: u64,
    /// Range deletes, after they were cut.
    pub range_deletes: u64,
    /// Entries that expire, if there are any, and when.
    pub expiring: Option<Expiries>,
    /// The blob files that entries refer to.
    pub blobs: BlobUses,
    /// The first key, encoded internal.
    pub smallest: Vec<u8>,
    /// The last key, encoded internal, or the end of the last range delete.
    pub largest: Vec<u8>,
    /// The smallest sequence number of an entry.
    pub seqno_min: SeqNo,
    /// The largest.
    pub seqno_max: SeqNo,
    /// The masked CRC-32 of the whole file.
    pub checksum: u32,
}

/// Gathers the range deletes of one table.
struct RangeBuilder {
    block: BlockBuilder,
    deletes: u64,
    smallest: Vec<u8>,
    end: Vec<u8>,
}

impl RangeBuilder {
    fn new() -> RangeBuilder {
        RangeBuilder { block: BlockBuilder::new(1), deletes: 0, smallest: Vec::new(), end: Vec::new() }
    }

    fn len(&self) -> usize {
        if self.deletes == 0 { 0 } else { self.block.len() + BLOCK_TRAILER_LEN }
    }

    fn add(&mut self, fragment: &Fragment) {
        assert!(self.deletes == 0 || self.end.as_slice() <= &fragment.start[..], "F1: {fragment:?} does not come next");
        for &seqno in fragment.seqnos.iter() {
            let key = InternalKey::new(&fragment.start, seqno, Kind::RangeDelete).encode();
            self.block.add(&key, &fragment.end);
            if self.deletes == 0 {
                self.smallest = key;
            }
            self.deletes += 1;
        }
        fragment.end[..].clone_into(&mut self.end);
    }
}

/// Writes a table into a new and empty file.
pub struct TableWriter {
    file: File,
    number: u64,
    keyspace: KeyspaceId,
    options: TableOptions,
    compressor: Compressor,
    block: BlockBuilder,
    ranges: RangeBuilder,
    index: IndexBuilder,
    filter: Option<FilterBuilder>,
    /// Finished bytes that are not in the file yet.
    pending: Vec<u8>,
    /// Bytes in the file.
    written: u64,
    /// Of all bytes in the file.
    checksum: Checksum,
    smallest: Vec<u8>,
    entries: u64,
    deletes: u64,
    expiring: Option<Expiries>,
    blobs: BlobUses,
    seqno_min: SeqNo,
    seqno_max: SeqNo,
    failed: Option<Error>,
}

impl TableWriter {
    /// `file` is new and empty, and `number` is its number: it goes into every checksum.
    pub fn new(file: File, number: u64, keyspace: KeyspaceId, options: TableOptions) -> TableWriter {
        TableWriter {
            file,
            number,
            keyspace,
            compressor: Compressor::new(options.compression),
            block: BlockBuilder::new(options.restart_interval),
            ranges: RangeBuilder::new(),
            index: IndexBuilder::new(),
            filter: FilterBuilder::new(options.filter_bits_per_key),
            options,
            pending: Vec::new(),
            written: 0,
            checksum: Checksum::new(),
            smallest: Vec::new(),
            entries: 0,
            deletes: 0,
            expiring: None,
            blobs: BlobUses::default(),
            seqno_min: SEQNO_MAX,
            seqno_max: 0,
            failed: None,
        }
    }

    /// Adds an entry. `key` is an encoded internal key behind all keys before; everything else is a bug of the caller, as
    /// are a key or a value beyond the limits. May write to the file.
    pub fn add(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let parts = InternalKey::decode(key).expect("a table is given encoded internal keys");
        assert!(parts.kind.is_point(), "{parts:?} is of a kind that this version does not write");
        assert!(parts.user.len() <= KEY_LEN_MAX, "a key of {} bytes is beyond {KEY_LEN_MAX}", parts.user.len());
        assert!(parts.kind.admits_value(value), "{parts:?} cannot have a value of {} bytes", value.len());
        let mut new_user_key = true;
        if self.entries == 0 {
            self.smallest = key.to_vec();
        } else {
            // The block with the last key is only finished when the next key is known.
            let last = self.block.last_key();
            assert!(
                compare(last, key) == Ordering::Less,
                "{parts:?} does not come after {:?}",
                InternalKey::decode(last)
            );
            new_user_key = user_key(last) != parts.user;
            if self.block.len_with(key, value) > self.options.block_bytes {
                self.finish_block(Some(key))?;
            }
        }
        if new_user_key && let Some(filter) = &mut self.filter {
            filter.add(parts.user);
        }
        self.block.add(key, value);
        self.entries += 1;
        self.deletes += u64::from(parts.kind == Kind::Delete);
        if let Some(expires_ms) = parts.kind.expires_ms(value) {
            self.expiring = Some(self.expiring.map_or(Expiries::of(expires_ms), |expiring| expiring.and(expires_ms)));
        }
        if parts.kind == Kind::BlobReference {
            let reference = BlobReference::decode(value).expect("the value was looked at");
            self.blobs.add(reference.file, u64::from(reference.len));
        }
        self.seqno_min = self.seqno_min.min(parts.seqno);
        self.seqno_max = self.seqno_max.max(parts.seqno);
        Ok(())
    }

    /// Adds range deletes, which lie behind all that were added so, before or after any entries. They are kept in memory until
    /// the table is finished.
    pub fn add_range_deletes(&mut self, fragment: &Fragment) {
        self.ranges.add(fragment);
        self.seqno_min = self.seqno_min.min(*fragment.seqnos.last().expect("F2: a fragment has a seqno"));
        self.seqno_max = self.seqno_max.max(fragment.seqnos[0]);
    }

    /// An estimate of the file's length, if the table were finished now.
    pub fn bytes(&self) -> u64 {
        let filter_len = self.filter.as_ref().map_or(0, |filter| filter.len() + BLOCK_TRAILER_LEN);
        let bounds_len = self.smallest.len() + self.block.last_key().len();
        let ends = self.block.len() + self.index.len() + filter_len + bounds_len + 3 * BLOCK_TRAILER_LEN + FOOTER_LEN;
        self.position() + (ends + self.ranges.len()) as u64
    }

    /// Entries added.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Writes what is left and syncs the file. At least one entry or range delete must have been added. When this returns
    /// `Ok`, content and length of the file are durable; its name is durable after a sync of the directory. The sync
    /// carries the caller's site: a flush and a compaction need it for different reasons.
    #[track_caller]
    pub fn finish(mut self) -> Result<TableSummary> {
        let is_empty = self.entries == 0 && self.ranges.deletes == 0;
        assert!(!is_empty, "table {} has no entries, so it has no smallest key: it must not exist", self.number);
        if let Some(error) = self.failed {
            return Err(error);
        }
        let (smallest, largest) = self.bounds();
        if self.entries > 0 {
            self.finish_block(None)?;
        }
        let mut raw = Compressor::None;
        let range_offset = self.position();
        let mut range_bytes = 0;
        if self.ranges.deletes > 0 {
            let block = self.ranges.block.finish();
            range_bytes = seal_block(&mut self.pending, block, &mut raw, self.number, range_offset).len;
        }
        let filter = self.filter.take().filter(|_| self.entries > 0).map(|filter| {
            let offset = self.position();
            seal_block(&mut self.pending, &filter.finish(), &mut raw, self.number, offset)
        });
        let offset = self.position();
        let index = seal_block(&mut self.pending, self.index.finish(), &mut raw, self.number, offset);
        let properties = Properties {
            number: self.number,
            format_version: FORMAT_VERSION,
            keyspace: self.keyspace,
            compression: self.options.compression,
            filter_bits_per_key: self.options.filter_bits_per_key,
            entries: self.entries,
            deletes: self.deletes,
            range_deletes: self.ranges.deletes,
            range_offset: if range_bytes > 0 { range_offset } else { 0 },
            range_bytes,
            expiring: self.expiring,
            blobs: self.blobs.clone(),
            data_blocks: self.index.blocks(),
            seqno_min: self.seqno_min,
            seqno_max: self.seqno_max,
            smallest: smallest.clone(),
            largest: largest.clone(),
        };
        let mut encoded = Vec::new();
        properties.encode_into(&mut encoded);
        let offset = self.position();
        let properties = seal_block(&mut self.pending, &encoded, &mut raw, self.number, offset);
        let bytes = self.position() + FOOTER_LEN as u64;
        Footer { filter, index, properties }.encode_into(&mut self.pending, self.number, bytes);
        self.write_pending()?;
        assert_eq!(self.written, bytes, "the footer names the length of the file");
        self.file.sync_data()?;
        Ok(TableSummary {
            bytes,
            entries: self.entries,
            deletes: self.deletes,
            range_deletes: self.ranges.deletes,
            expiring: self.expiring,
            blobs: self.blobs,
            smallest,
            largest,
            seqno_min: self.seqno_min,
            seqno_max: self.seqno_max,
            checksum: self.checksum.masked(),
        })
    }

    /// The first and the last key, and what range deletes add to that.
    fn bounds(&self) -> (Vec<u8>, Vec<u8>) {
        let ranges = (self.ranges.deletes > 0).then(|| (self.ranges.smallest.clone(), range_end(&self.ranges.end)));
        let entries = (self.entries > 0).then(|| (self.smallest.clone(), self.block.last_key().to_vec()));
        match (entries, ranges) {
            (Some(entries), Some(ranges)) => widened(entries, ranges),
            (entries, ranges) => entries.or(ranges).expect("not empty"),
        }
    }

    /// The offset of the next byte that becomes pending.
    fn position(&self) -> u64 {
        self.written + self.pending.len() as u64
    }

    /// Ends the current block, knowing the key that follows it.
    fn finish_block(&mut self, next: Option<&[u8]>) -> Result<()> {
        let offset = self.position();
        let handle = seal_block(&mut self.pending, self.block.finish(), &mut self.compressor, self.number, offset);
        if let Err(error) = self.index.add(self.block.last_key(), next, handle) {
            return self.fail(error);
        }
        self.block.clear();
        if self.pending.len() >= WRITE_BYTES { self.write_pending() } else { Ok(()) }
    }

    fn write_pending(&mut self) -> Result<()> {
        if let Err(error) = self.file.write_all_at(&self.pending, self.written) {
            return self.fail(error);
        }
        self.checksum.update(&self.pending);
        self.written += self.pending.len() as u64;
        self.pending.clear();
        self.pending.shrink_to(2 * WRITE_BYTES);
        Ok(())
    }

    fn fail(&mut self, error: Error) -> Result<()> {
        self.failed = Some(error.clone());
        Err(error)
    }
}

/// The smaller of two smallest keys, and the larger of two largest.
pub(super) fn widened(a: (Vec<u8>, Vec<u8>), b: (Vec<u8>, Vec<u8>)) -> (Vec<u8>, Vec<u8>) {
    let smallest = if compare(&a.0, &b.0) == Ordering::Less { a.0 } else { b.0 };
    let largest = if compare(&a.1, &b.1) == Ordering::Less { b.1 } else { a.1 };
    (smallest, largest)
}
