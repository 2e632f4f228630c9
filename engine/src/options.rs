//! Options: plain values, each with a default, a unit, a range and a consequence.
//!
//! The five that most people set come first. All are fixed while a store is open, and may change from one open to the next,
//! but for those that say otherwise. [`Options::validate`] refuses what is out of range by name.
//!
//! [`KeyspaceOptions`] are what a keyspace can have otherwise than its store. They lie in the store and not with the caller.

use crate::error::{Error, Result};
use crate::operator::{MergeOperator, MergeOperators, OPERATOR_NAME_LEN_MAX};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The newest format version of a store that this library reads and writes, and the one that it gives to new stores unless it is
/// told otherwise.
///
/// - 1: all that is not listed below.
/// - 2: logs can be archived ([`crate::archive`]).
pub const FORMAT_VERSION: u32 = 2;

/// The oldest.
pub const FORMAT_VERSION_OLDEST: u32 = 1;

/// When a write counts as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Acknowledged means synced: the write, and every write before it, survives power loss.
    Always,
    /// Acknowledged means handed to the operating system; synced at most so much later, in milliseconds. Power loss may
    /// cost the newest writes of that time, never older ones, and never a part of a batch.
    PeriodicMs(u64),
    /// Acknowledged means handed to the operating system, which writes it when it likes. The end of the process loses
    /// nothing; power loss may cost everything since the last sync or flush, never a part of a batch.
    Buffered,
}

/// How the blocks of a table are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast both ways.
    Lz4,
    /// Deflate: half the speed or less, smaller; for levels that are seldom read.
    Deflate,
}

/// How a store behaves. `Options::default()` suits a server with some hundred megabytes to spare.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    // --- The five headlines ---------------------------------------------------------------------------------------------
    /// Bytes that a memtable holds before it is frozen and flushed. Default 64 MiB, range 1 KiB to 4 GiB. Larger means
    /// fewer and larger tables, more memory (up to `memtables_max` of them) and a longer recovery.
    pub memtable_bytes: u64,
    /// Bytes of table blocks kept in memory. Default 64 MiB, range 0 (nothing is kept) to 1 TiB.
    pub cache_bytes: u64,
    /// Bytes of memory for memtables, cached blocks, filters, indexes and compactions together. Default 0 (no such limit), range
    /// 16 KiB to 1 TiB. Memtables get half of it at most, and are frozen sooner than `memtable_bytes` says where that would be
    /// more; the cache gets what is left, at most `cache_bytes`. One group of writes may come on top, and filters and indexes of
    /// open tables where they alone take more than half.
    pub memory_bytes: u64,
    /// When a write counts as done, unless the write says otherwise. Default [`Durability::Always`].
    pub durability: Durability,
    /// Compression for each level from 0 on; levels beyond the list take its last entry. Default none for levels 0 and 1,
    /// LZ4 below. 1 to 16 entries. Applies to tables written from now on.
    pub compression: Vec<Compression>,
    /// Tasks that compact in the background, beside the one that flushes. Default 2, range 1 to 64.
    pub background_tasks: usize,

    /// Bytes a second that flushes and compactions may write together, over a time of seconds. Default 0 (as many as they can),
    /// range 0 to 1 TiB. Flushes are never held back, compactions of level 0 less than deeper ones, and none where level 0 slows
    /// writers down; so a rate below what is written for long ends in writers that are slowed.
    pub background_bytes_per_second: u64,

    // --- Opening --------------------------------------------------------------------------------------------------------
    /// Whether to start a new store where the directory is missing or empty. Default true.
    pub create_if_missing: bool,
    /// Whether to refuse a directory that holds a store already. Default false.
    pub error_if_exists: bool,
    /// The [format version](FORMAT_VERSION) of a store that is started, so that an older library can open
    /// it as well. Default the newest, which is 2, range 1 to 2. A store that is there keeps the version that it has, until
    /// [`Db::upgrade`](crate::db::Db::upgrade).
    pub format_version: u32,

    // --- Writing --------------------------------------------------------------------------------------------------------
    /// Memtables in memory, the one being written included, before writers wait for a flush. Default 4, range 2 to 64.
    pub memtables_max: usize,
    /// Bytes of batches that one group commit takes together. Default 1 MiB, range 1 byte to 1 GiB. Larger means fewer syncs
    /// and a longer wait for the first of the group.
    pub group_commit_bytes_max: u64,
    /// Bytes that all logs may hold before the memtable of the oldest is flushed, however small it is. Default 512 MiB,
    /// range 4 KiB to 1 TiB. Bounds disk use and recovery time.
    pub wal_bytes_max: u64,

    // --- Time -----------------------------------------------------------------------------------------------------------
    /// Milliseconds for which a value is kept that is put without a word about its lifetime, from when it is written. Default 0,
    /// which is for ever. Values that are there already keep what they were written with.
    pub default_ttl_ms: u64,

    // --- Merging --------------------------------------------------------------------------------------------------------
    /// The name of the [merge operator](crate::operator) of the default keyspace. Default none: its keys cannot be merged, or as
    /// they were before. The first name that is given is written down in the store; to open it with another is an error, since
    /// what was written for one operator would be merged by another.
    pub merge_operator: Option<String>,
    /// The operators that are at hand. A store whose operators are not all among them is not opened. Default those of
    /// [`crate::operator`].
    #[serde(skip)]
    pub merge_operators: MergeOperators,

    // --- Levels ---------------------------------------------------------------------------------------------------------
    /// Tables in level 0 at which they are compacted. Default 4, range 1 to 1000.
    pub l0_compaction_trigger: usize,
    /// Tables in level 0 from which writers are slowed, in proportion to the excess. Default 12, range 1 to 10,000, at
    /// least the compaction trigger.
    pub l0_slowdown_trigger: usize,
    /// Tables in level 0 at which writers wait. Default 24, range 2 to 100,000, above the slowdown trigger.
    pub l0_stop_trigger: usize,
    /// Levels. Default 7, range 2 to 16. May only grow from one open to the next.
    pub levels: usize,
    /// Bytes that level 1 should hold. Default 256 MiB, range 1 KiB to 1 TiB.
    pub level_base_bytes: u64,
    /// How many times larger each level below should be. Default 10, range 2 to 100.
    pub level_multiplier: u64,
    /// Bytes at which a table is closed and the next begun. Default 64 MiB, range 256 bytes to 4 GiB. All versions of one
    /// key stay in one table, whatever its size.
    pub table_bytes: u64,

    // --- Tables ---------------------------------------------------------------------------------------------------------
    /// Bytes of a data block before compression. Default 4 KiB, range 64 bytes to 16 MiB. Larger compresses better and
    /// reads more for one key.
    pub block_bytes: usize,
    /// Entries between two restart points, where a key is stored whole. Default 16, range 1 to 1024.
    pub restart_interval: usize,
    /// Bits of filter for each key. Default 10 (1% false positives), range 0 (no filter) to 64.
    pub filter_bits_per_key: u32,

    // --- Large values ---------------------------------------------------------------------------------------------------
    /// Bytes from which on a value lies in a [blob file](crate::blob) of its own kind, apart from its key, which has a reference
    /// of 32 bytes to it in its table: compactions then rewrite references, and the value stays where it is. Default 0 (values stay
    /// with their keys), range 32 bytes to 1 GiB. 1 KiB is low, 64 KiB is sensible. A read of such a value costs one more read of a
    /// file, values are not compressed, and up to half of all bytes in blob files can be values to which nothing refers any more:
    /// beyond that they are collected in the background.
    ///
    /// Counts for what is flushed or compacted from now on. Operands stay with their keys.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let path = dir.path().join("store");
    /// use strata::db::Db;
    /// use strata::env::Env;
    /// use strata::options::Options;
    ///
    /// let options = Options { blob_threshold: 64 * 1024, ..Options::default() };
    /// let db = Db::open_with(&Env::os(), &path, options)?;
    /// db.put(b"photo", &vec![7; 1024 * 1024])?;
    /// db.put(b"name", b"a small value")?;
    /// db.compact_range(None, None)?;
    /// let stats = db.stats();
    /// assert_eq!((stats.blobs.files, stats.blobs.live_bytes), (1, 1024 * 1024));
    /// assert!(stats.levels.iter().all(|level| level.bytes < 4096));
    /// assert_eq!(db.get(b"photo")?.map(|photo| photo.len()), Some(1024 * 1024));
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub blob_threshold: u64,

    // --- Looking at it --------------------------------------------------------------------------------------------------
    /// Milliseconds from which an operation is told of as slow, by an event that says what it waited for. Default 0 (none
    /// is), range 0 to 3,600,000. Anything but 0 costs two looks at the clock for every operation.
    pub slow_operation_ms: u64,
    /// How many of the most often named keys are counted, in gets and writes of which some are looked at. Default 0 (none),
    /// range 0 to 1000. Costs a lock and a search for each of these.
    pub hot_keys: usize,

    // --- Manifest -------------------------------------------------------------------------------------------------------
    /// Bytes that a manifest may hold before a new one is begun, if that is more than twice its snapshot. Default 1 MiB,
    /// range 256 bytes to 1 GiB.
    pub manifest_bytes_min: u64,

    // --- Archive --------------------------------------------------------------------------------------------------------
    /// A directory in which every log is kept for good once the store no longer needs it, so that a
    /// [backup](crate::backup::Backups) can be [restored to any later point](crate::backup::Backups::restore_to). Default none. It
    /// is made where it is missing when the store is opened, in a directory that exists; another disk than that of the store is a
    /// good place.
    ///
    /// Costs a copy of each log, 40 bytes of log for each millisecond in which something is written, and a new log whenever
    /// keyspaces come, go or get other options. While the archive cannot be written, the store goes on, says so by its health, and
    /// keeps up to `wal_bytes_max` bytes of logs that wait; beyond these the oldest is given up, and told of as a
    /// [gap](crate::event::Event::ArchiveGap).
    pub archive: Option<PathBuf>,

    // --- Disk full ------------------------------------------------------------------------------------------------------
    /// Bytes that the store keeps in a file of no use, and gives up when the disk is full, so that flushes, compactions and
    /// deletes have room to run. Meanwhile puts are refused with [`Error::OutOfSpace`]; the reserve is taken again, and puts
    /// go on, once twice as many bytes are free. Default 8 MiB, range 0 (no reserve) to 1 TiB. It should hold a memtable and
    /// one compaction. A disk with less free space than that when the store is opened leaves it without a reserve.
    pub space_reserve_bytes: u64,
    /// Milliseconds between two tries of background work that failed for lack of space or by another error. Default 1000,
    /// range 1 to 3,600,000. Compactions that fail again for another reason than lack of space wait twice as long after each
    /// failure, up to 30 seconds.
    pub retry_ms: u64,
}

impl Default for Options {
    fn default() -> Options {
        const MIB: u64 = 1024 * 1024;
        Options {
            memtable_bytes: 64 * MIB,
            cache_bytes: 64 * MIB,
            memory_bytes: 0,
            durability: Durability::Always,
            compression: vec![Compression::None, Compression::None, Compression::Lz4],
            background_tasks: 2,
            background_bytes_per_second: 0,
            create_if_missing: true,
            error_if_exists: false,
            format_version: FORMAT_VERSION,
            memtables_max: 4,
            group_commit_bytes_max: MIB,
            wal_bytes_max: 512 * MIB,
            default_ttl_ms: 0,
            merge_operator: None,
            merge_operators: MergeOperators::default(),
            l0_compaction_trigger: 4,
            l0_slowdown_trigger: 12,
            l0_stop_trigger: 24,
            levels: 7,
            level_base_bytes: 256 * MIB,
            level_multiplier: 10,
            table_bytes: 64 * MIB,
            block_bytes: 4096,
            restart_interval: 16,
            filter_bits_per_key: 10,
            blob_threshold: 0,
            slow_operation_ms: 0,
            hot_keys: 0,
            manifest_bytes_min: MIB,
            archive: None,
            space_reserve_bytes: 8 * MIB,
            retry_ms: 1000,
        }
    }
}

impl Options {
    /// Refuses values that are out of range, naming the option, the value and the range.
    pub fn validate(&self) -> Result<()> {
        fn within(name: &str, value: u64, low: u64, high: u64) -> Result<()> {
            if (low..=high).contains(&value) {
                return Ok(());
            }
            Err(Error::InvalidArgument(format!("option {name} is {value}, and must be within {low} and {high}")))
        }
        const KIB: u64 = 1024;
        const GIB: u64 = 1024 * 1024 * KIB;
        within("memtable_bytes", self.memtable_bytes, KIB, 4 * GIB)?;
        within("cache_bytes", self.cache_bytes, 0, 1024 * GIB)?;
        if self.memory_bytes > 0 {
            within("memory_bytes (where it is not 0)", self.memory_bytes, 16 * KIB, 1024 * GIB)?;
        }
        within("compression (number of entries)", self.compression.len() as u64, 1, 16)?;
        within("background_tasks", self.background_tasks as u64, 1, 64)?;
        within("background_bytes_per_second", self.background_bytes_per_second, 0, 1024 * GIB)?;
        within("memtables_max", self.memtables_max as u64, 2, 64)?;
        within("group_commit_bytes_max", self.group_commit_bytes_max, 1, GIB)?;
        within("wal_bytes_max", self.wal_bytes_max, 4 * KIB, 1024 * GIB)?;
        within("l0_compaction_trigger", self.l0_compaction_trigger as u64, 1, 1000)?;
        within("l0_slowdown_trigger", self.l0_slowdown_trigger as u64, self.l0_compaction_trigger as u64, 10_000)?;
        within("l0_stop_trigger", self.l0_stop_trigger as u64, self.l0_slowdown_trigger as u64 + 1, 100_000)?;
        let (oldest, newest) = (FORMAT_VERSION_OLDEST.into(), FORMAT_VERSION.into());
        within("format_version", self.format_version.into(), oldest, newest)?;
        within("levels", self.levels as u64, 2, 16)?;
        within("level_base_bytes", self.level_base_bytes, KIB, 1024 * GIB)?;
        within("level_multiplier", self.level_multiplier, 2, 100)?;
        within("table_bytes", self.table_bytes, 256, 4 * GIB)?;
        within("block_bytes", self.block_bytes as u64, 64, 16 * 1024 * KIB)?;
        within("restart_interval", self.restart_interval as u64, 1, 1024)?;
        within("filter_bits_per_key", u64::from(self.filter_bits_per_key), 0, 64)?;
        if self.blob_threshold > 0 {
            within("blob_threshold (where it is not 0)", self.blob_threshold, 32, GIB)?;
        }
        within("slow_operation_ms", self.slow_operation_ms, 0, 3_600_000)?;
        within("hot_keys", self.hot_keys as u64, 0, 1000)?;
        within("manifest_bytes_min", self.manifest_bytes_min, 256, GIB)?;
        within("space_reserve_bytes", self.space_reserve_bytes, 0, 1024 * GIB)?;
        within("retry_ms", self.retry_ms, 1, 3_600_000)?;
        if let Some(name) = &self.merge_operator {
            within("merge_operator (bytes of its name)", name.len() as u64, 1, OPERATOR_NAME_LEN_MAX as u64)?;
        }
        if let Durability::PeriodicMs(ms) = self.durability {
            within("durability (periodic, milliseconds)", ms, 1, 3_600_000)?;
        }
        Ok(())
    }

    /// What these options are for a keyspace that has some of them otherwise.
    pub fn with(&self, keyspace: &KeyspaceOptions) -> Options {
        Options {
            compression: keyspace.compression.clone().unwrap_or_else(|| self.compression.clone()),
            block_bytes: keyspace.block_bytes.unwrap_or(self.block_bytes),
            restart_interval: keyspace.restart_interval.unwrap_or(self.restart_interval),
            filter_bits_per_key: keyspace.filter_bits_per_key.unwrap_or(self.filter_bits_per_key),
            level_base_bytes: keyspace.level_base_bytes.unwrap_or(self.level_base_bytes),
            level_multiplier: keyspace.level_multiplier.unwrap_or(self.level_multiplier),
            table_bytes: keyspace.table_bytes.unwrap_or(self.table_bytes),
            default_ttl_ms: keyspace.default_ttl_ms.unwrap_or(self.default_ttl_ms),
            blob_threshold: keyspace.blob_threshold.unwrap_or(self.blob_threshold),
            // That of the default keyspace is of no other.
            merge_operator: keyspace.merge_operator.clone(),
            ..self.clone()
        }
    }

    /// The merge operator, if there is one and it is at hand.
    pub fn operator(&self) -> Option<&Arc<dyn MergeOperator>> {
        self.merge_operators.named(self.merge_operator.as_deref()?)
    }

    /// Compression of tables in `level`.
    pub fn compression_at(&self, level: usize) -> Compression {
        let last = self.compression.len() - 1;
        self.compression[level.min(last)]
    }

    /// Bytes that `level` should hold. Level 0 is counted in tables and has no such number.
    pub fn level_bytes(&self, level: usize) -> u64 {
        assert!(level >= 1, "level 0 is counted in tables");
        let factor = self.level_multiplier.saturating_pow(level as u32 - 1);
        self.level_base_bytes.saturating_mul(factor)
    }

    /// Time between two tries of failed background work.
    pub fn retry(&self) -> Duration {
        Duration::from_millis(self.retry_ms)
    }
}

/// What a keyspace has otherwise than its store; `None` is what the store's [`Options`] say at the time. Each has the meaning
/// and the range of the option of that name. Written down when they are set, so that they need not be named at each open.
///
/// Only what shapes tables and levels is here, and how long values last: the log, the memory and the pace of writers are shared by all keyspaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyspaceOptions {
    /// See [`Options::compression`].
    pub compression: Option<Vec<Compression>>,
    /// See [`Options::block_bytes`].
    pub block_bytes: Option<usize>,
    /// See [`Options::restart_interval`].
    pub restart_interval: Option<usize>,
    /// See [`Options::filter_bits_per_key`].
    pub filter_bits_per_key: Option<u32>,
    /// See [`Options::level_base_bytes`].
    pub level_base_bytes: Option<u64>,
    /// See [`Options::level_multiplier`].
    pub level_multiplier: Option<u64>,
    /// See [`Options::table_bytes`].
    pub table_bytes: Option<u64>,
    /// See [`Options::default_ttl_ms`]. 0 keeps values for ever, whatever the store says.
    pub default_ttl_ms: Option<u64>,
    /// See [`Options::blob_threshold`]. 0 keeps values with their keys, whatever the store says.
    pub blob_threshold: Option<u64>,
    /// The name of its [merge operator](crate::operator), which must be at hand: see [`Options::merge_operators`]. `None`: its keys
    /// cannot be merged, whatever those of the default keyspace can. Once given it cannot be changed.
    pub merge_operator: Option<String>,
}

impl KeyspaceOptions {
    /// Refuses values that are out of range, naming the option, the value and the range.
    pub fn validate(&self) -> Result<()> {
        Options::default().with(self).validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyspace_has_what_it_was_given_and_else_what_its_store_has() {
        let store = Options { block_bytes: 512, table_bytes: 4096, ..Options::default() };
        assert_eq!(store.with(&KeyspaceOptions::default()), store);
        let appends = Options { merge_operator: Some("strata.append".into()), ..store.clone() };
        assert_eq!(appends.with(&KeyspaceOptions::default()), store, "an operator is of one keyspace");
        let own = KeyspaceOptions {
            compression: Some(vec![Compression::Deflate]),
            block_bytes: Some(128),
            restart_interval: Some(1),
            filter_bits_per_key: Some(0),
            level_base_bytes: Some(2048),
            level_multiplier: Some(3),
            table_bytes: None,
            default_ttl_ms: Some(5),
            blob_threshold: Some(100),
            merge_operator: Some("strata.add".into()),
        };
        assert!(own.validate().is_ok());
        let both = store.with(&own);
        assert_eq!((both.block_bytes, both.table_bytes, both.level_bytes(2)), (128, 4096, 3 * 2048));
        assert_eq!(both.blob_threshold, 100);
        assert_eq!((both.default_ttl_ms, both.operator().expect("at hand").name()), (5, "strata.add"));
        let wrong = KeyspaceOptions { restart_interval: Some(0), ..own };
        let message = wrong.validate().expect_err("no restart points at all").to_string();
        insta::assert_snapshot!(message, @"option restart_interval is 0, and must be within 1 and 1024");
    }

    #[test]
    fn defaults_are_in_range_and_a_wrong_value_is_refused_by_name() {
        assert!(Options::default().validate().is_ok());
        let wrong = Options { memtables_max: 1, ..Options::default() };
        let message = wrong.validate().expect_err("one memtable cannot be frozen and written").to_string();
        insta::assert_snapshot!(message, @"option memtables_max is 1, and must be within 2 and 64");
        let triggers = Options { l0_slowdown_trigger: 24, ..Options::default() };
        assert!(triggers.validate().is_err(), "the stop trigger lies above the slowdown trigger");
    }

    #[test]
    fn levels_grow_by_the_multiplier_and_never_overflow() {
        let options = Options::default();
        assert_eq!(options.level_bytes(3), 100 * options.level_bytes(1));
        let extreme = Options { level_multiplier: 100, ..options };
        assert_eq!(extreme.level_bytes(15), u64::MAX);
        assert_eq!(extreme.compression_at(0), Compression::None);
        assert_eq!(extreme.compression_at(12), Compression::Lz4);
    }
}
