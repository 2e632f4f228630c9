//! Numbers about an open store.

use crate::blob::BlobMeta;
use crate::cache::{CacheStats, LookupStats};
use crate::compaction::picker;
use crate::db::check::shape;
use crate::db::memory::{self, Memory};
use crate::db::meter::{LevelWork, OperationStats};
use crate::db::quarantine::{self, QuarantinedTable};
use crate::db::state::State;
use crate::error::Error;
use crate::event::{Health, LevelShape, Operation};
use crate::hot::HotKey;
use crate::key::SeqNo;
use crate::manifest::catalog::Catalog;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a store is made of and has done since it was opened. Bytes and counts; each number is exact, and they are read one
/// after the other.
#[derive(Clone, Debug)]
pub struct Stats {
    /// The newest write that readers see.
    pub seqno: SeqNo,
    /// How the store is.
    pub health: Health,
    /// The error behind that; `None` where all is well.
    pub health_cause: Option<Error>,
    /// Times that the health has changed since the store was opened.
    pub health_changes: u64,
    /// Bytes of the reserve of space; 0 where it was given up, or none is wanted.
    pub reserve_bytes: u64,
    /// Tables in quarantine.
    pub quarantined: Vec<QuarantinedTable>,
    /// Tables and bytes of each level, those of all keyspaces together.
    pub levels: Vec<LevelShape>,
    /// What is in memory, by what it is for.
    pub memory: Memory,
    /// Bytes in the active memtables of all keyspaces.
    pub memtable_bytes: u64,
    /// Bytes in memtables that wait for their flush, and how many these are.
    pub frozen_bytes: u64,
    /// Memtables that wait for their flush.
    pub frozen: usize,
    /// What flushes and compactions did to each level.
    pub level_work: Vec<LevelWork>,
    /// Every operation: how often, and how long. Of gets and writes that are not synced one in 16 is timed, of steps one in 64.
    pub operations: Vec<OperationStats>,
    /// The keys that were named most often, with [`Options::hot_keys`](crate::options::Options::hot_keys) of them, in the calls
    /// that were timed.
    pub hot_keys: Vec<HotKey>,
    /// Block cache.
    pub cache: CacheStats,
    /// Lookups in tables, and what filters did for them.
    pub lookups: LookupStats,
    /// What lies in blob files, those of all keyspaces together.
    pub blobs: BlobStats,
    /// What has come to the archive, and what waits for it.
    pub archive: ArchiveStats,
    /// Levels that hold more than they should.
    pub compaction_debt: usize,
    /// Bytes of batches that users wrote.
    pub user_bytes: u64,
    /// Bytes written to logs.
    pub wal_bytes: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Bytes written by compactions.
    pub compaction_bytes: u64,
    /// Syncs of logs.
    pub wal_syncs: u64,
    /// Groups committed, and writes in them.
    pub groups: u64,
    /// Writes committed.
    pub writes: u64,
    /// Times that a writer had to wait for background work.
    pub stalls: u64,
    /// Keys that gets of many keys asked for.
    pub multi_get_keys: u64,
    /// Why the last flush failed, as long as none has succeeded since.
    pub flush_failure: Option<Error>,
    /// Why the last compaction failed, as long as none has succeeded since.
    pub compaction_failure: Option<Error>,
}

/// Logs on their way to the [archive](crate::archive). All zero where there is none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArchiveStats {
    /// Logs of which all is in tables, and that stay only because they are not archived yet.
    pub waiting: u64,
    /// Bytes of them.
    pub waiting_bytes: u64,
    /// Logs that were archived since the store was opened.
    pub archived: u64,
    /// Logs that never will be, of those since the store was opened: the archive has a gap for each.
    pub given_up: u64,
}

/// What lies in [blob files](crate::blob).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlobStats {
    /// Files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
    /// Values that tables refer to.
    pub live_values: u64,
    /// Bytes of these.
    pub live_bytes: u64,
    /// Bytes of the values that nothing refers to any more. Their space is given back with their file.
    pub garbage_bytes: u64,
}

impl BlobStats {
    /// Bytes of all files for each byte of a value that is referred to; 1 where there are none.
    pub fn space_amplification(&self) -> f64 {
        if self.bytes == 0 { 1.0 } else { self.bytes as f64 / (self.live_bytes as f64).max(1.0) }
    }

    fn of(catalog: &Catalog) -> BlobStats {
        let uses = catalog.blob_uses();
        let sum = |of: fn(&BlobMeta) -> u64| catalog.blobs().values().map(of).sum::<u64>();
        BlobStats {
            files: catalog.blobs().len(),
            bytes: sum(|blob| blob.bytes),
            live_values: uses.values(),
            live_bytes: uses.bytes(),
            garbage_bytes: sum(|blob| blob.value_bytes) - uses.bytes(),
        }
    }
}

impl Stats {
    /// Bytes written to disk for each byte that users wrote.
    pub fn write_amplification(&self) -> f64 {
        let written = self.wal_bytes + self.flush_bytes + self.compaction_bytes;
        written as f64 / (self.user_bytes as f64).max(1.0)
    }

    /// Blocks that were looked into for each key that a get asked for, alone or among many: the tables that were asked, less
    /// those that a filter spared.
    pub fn read_amplification(&self) -> f64 {
        let blocks = self.lookups.tables - self.lookups.filter_useful;
        blocks as f64 / ((self.calls(Operation::Get) + self.multi_get_keys) as f64).max(1.0)
    }

    /// Bytes of all tables and blob files for each byte of the last level that holds any, and of the values in blob files that
    /// are referred to. That level holds each key once, about, so this
    /// estimates what the store takes beyond what is in it; it says too little where the last level itself holds much that was
    /// deleted above. 1 where there are no tables.
    pub fn space_amplification(&self) -> f64 {
        let all: u64 = self.levels.iter().map(|level| level.bytes).sum();
        let last = self.levels.iter().rev().map(|level| level.bytes).find(|&bytes| bytes > 0);
        last.map_or(1.0, |last| (all + self.blobs.bytes) as f64 / (last + self.blobs.live_bytes) as f64)
    }

    /// Times that an operation was begun.
    pub fn calls(&self, operation: Operation) -> u64 {
        self.operations[operation as usize].calls
    }
}

impl fmt::Display for Stats {
    /// A table for people and logs, some tens of lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        write!(f, "health            {}", self.health)?;
        if let Some(cause) = &self.health_cause {
            write!(f, ": {cause}")?;
        }
        writeln!(f, "\nnewest write      {}", self.seqno)?;
        writeln!(
            f,
            "memory            {:.1} MiB: {:.1} in the memtable, {:.1} in {} that wait, {:.1} of {:.1} of cache, {:.1} of open \
             tables, {:.1} for compactions",
            mib(self.memory.total()),
            mib(self.memory.memtable),
            mib(self.memory.frozen),
            self.frozen,
            mib(self.memory.cache),
            mib(self.cache.capacity),
            mib(self.memory.tables),
            mib(self.memory.compactions)
        )?;
        writeln!(
            f,
            "amplification     write {:.2}, read {:.2} blocks a get, space {:.2}",
            self.write_amplification(),
            self.read_amplification(),
            self.space_amplification()
        )?;
        writeln!(f, "cache             {} hits, {} misses", self.cache.hits, self.cache.misses)?;
        let LookupStats { tables, filter_useful, filter_false } = self.lookups;
        writeln!(f, "filters           {filter_useful} of {tables} tables spared, {filter_false} asked in vain")?;
        writeln!(f, "log               {} syncs, {} groups of {} writes", self.wal_syncs, self.groups, self.writes)?;
        if self.blobs.files > 0 {
            writeln!(
                f,
                "blob files        {} of {:.1} MiB, of which {:.1} are of {} values, {:.1} of what nothing refers to, space {:.2}",
                self.blobs.files,
                mib(self.blobs.bytes),
                mib(self.blobs.live_bytes),
                self.blobs.live_values,
                mib(self.blobs.garbage_bytes),
                self.blobs.space_amplification()
            )?;
        }
        if self.archive != ArchiveStats::default() {
            let ArchiveStats { waiting, waiting_bytes, archived, given_up } = self.archive;
            let waits = mib(waiting_bytes);
            writeln!(f, "archive           {archived} logs, {waiting} of {waits:.1} MiB wait, {given_up} given up")?;
        }
        writeln!(f, "reserve           {:.1} MiB", mib(self.reserve_bytes))?;
        writeln!(f, "too full          {} levels", self.compaction_debt)?;
        for table in &self.quarantined {
            writeln!(f, "in quarantine     {table}")?;
        }
        writeln!(
            f,
            "\n{:<10} {:>8} {:>12} {:>12} {:>12} {:>12}",
            "level", "tables", "MiB", "compactions", "MiB read", "MiB written"
        )?;
        let levels = self.levels.iter().zip(&self.level_work).enumerate();
        for (number, (shape, work)) in levels.filter(|(_, (shape, work))| shape.tables > 0 || work.compactions > 0) {
            writeln!(
                f,
                "{number:<10} {:>8} {:>12.1} {:>12} {:>12.1} {:>12.1}",
                shape.tables,
                mib(shape.bytes),
                work.compactions,
                mib(work.read_bytes),
                mib(work.written_bytes)
            )?;
        }
        write!(
            f,
            "\n{:<16} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "operation", "calls", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for OperationStats { operation, calls, latency } in self.operations.iter().filter(|stats| stats.calls > 0) {
            write!(f, "\n{:<16} {calls:>10}", operation.name())?;
            for part in [latency.p50, latency.p90, latency.p99, latency.p999, latency.max] {
                write!(f, " {:>10}", format!("{part:.1?}"))?;
            }
        }
        for HotKey { key, count, error } in &self.hot_keys {
            write!(f, "\nhot key {:<30} {count:>10}, of which {error} may be of others", key.escape_ascii())?;
        }
        Ok(())
    }
}

pub(crate) fn stats(state: &State) -> Stats {
    let view = state.view.load_full();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let counters = &state.counters;
    let work = state.work.lock();
    let (flush_failure, compaction_failure) = (
        work.flush_failure.as_ref().map(|failure| failure.error.clone()),
        work.compaction_failure.as_ref().map(|failure| failure.error.clone()),
    );
    let memory = memory::held(state, &view, work.running.len());
    drop(work);
    let (health, health_cause, health_changes) = state.vitals.look();
    Stats {
        health,
        health_cause,
        health_changes,
        quarantined: quarantine::list(&state.dir, &view.catalog),
        reserve_bytes: state.reserve.held_bytes(),
        seqno: state.visible.load(Ordering::Acquire),
        levels: shape(&view.catalog),
        memory,
        memtable_bytes: view.memtable.bytes(),
        frozen_bytes: view.frozen.iter().map(|frozen| frozen.memtable.bytes()).sum(),
        frozen: view.frozen.len(),
        level_work: state.meters.levels(),
        operations: state.meters.operations(),
        hot_keys: state.meters.hot_keys(),
        cache: state.blocks().stats(),
        lookups: state.blocks().lookup_stats(),
        blobs: BlobStats::of(&view.catalog),
        archive: ArchiveStats {
            waiting: count(&counters.archive_waiting),
            waiting_bytes: count(&counters.archive_waiting_bytes),
            archived: count(&counters.archived),
            given_up: count(&counters.archive_given_up),
        },
        compaction_debt: picker::debt_of_all(&view.catalog),
        user_bytes: count(&counters.user_bytes),
        wal_bytes: count(&counters.wal_bytes),
        flush_bytes: count(&counters.flush_bytes),
        compaction_bytes: count(&counters.compaction_bytes),
        wal_syncs: count(&counters.syncs),
        groups: count(&counters.groups),
        writes: count(&counters.writes),
        stalls: count(&counters.stalls),
        multi_get_keys: count(&counters.multi_get_keys),
        flush_failure,
        compaction_failure,
    }
}
