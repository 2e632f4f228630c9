//! A frozen memtable becomes a table of level 0 of its keyspace.

use crate::compaction::fold::Folding;
use crate::compaction::merge::Retention;
use crate::compaction::readers::Readers;
use crate::env::{Env, OpenMode};
use crate::error::Result;
use crate::filename::FileKind;
use crate::fragments::Fragments;
use crate::iter::InternalIterator;
use crate::key::{InternalKey, KeyspaceId};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use crate::memtable::Memtable;
use crate::options::Options;
use crate::sst::{TableOptions, TableSummary, TableWriter};
use std::path::Path;
use std::sync::Arc;

/// Writes what readers can still see of a memtable to table `number`, and makes its bytes durable; its name is durable after
/// a sync of the directory, which is the caller's. Returns `None`, and leaves no file, where the memtable is empty.
/// Tombstones, range deletes and what has expired stay: older versions may lie anywhere below. `options` are those of the keyspace.
#[track_caller]
pub fn flush(
    env: &Env,
    dir: &Path,
    number: u64,
    keyspace: KeyspaceId,
    memtable: &Arc<Memtable>,
    readers: Readers,
    options: &Options,
) -> Result<Option<TableMeta>> {
    if memtable.is_empty() {
        return Ok(None);
    }
    let mut iter = memtable.iter();
    iter.seek_to_first()?;
    let path = FileKind::Sst(number).path(dir);
    let file = env.open(&path, OpenMode::CreateNew)?;
    let mut writer = TableWriter::new(file, number, keyspace, TableOptions::at_level(options, 0));
    let retention = Retention::new(readers, Fragments::clone(&memtable.fragments()));
    let mut folding = Folding::new(retention, options.operator().map(|operator| &**operator), &|_| true);
    while iter.valid() {
        let entry = InternalKey::decode(iter.key()).expect("a memtable holds whole keys");
        let value = iter.value();
        folding.take(iter.key(), entry, &value, &mut |key, value| writer.add(key, value))?;
        iter.next()?;
    }
    folding.finish(&mut |key, value| writer.add(key, value))?;
    for fragment in folding.range_deletes(|_| true) {
        writer.add_range_deletes(&fragment);
    }
    let (kept, dropped) = folding.counts();
    assert_eq!(kept + dropped, memtable.entries(), "every entry of a memtable is kept or dropped for a reason");
    sometimes!("a flush drops a version that nobody sees", if dropped > 0);
    let summary = writer.finish()?;
    Ok(Some(describe(number, keyspace, summary)))
}

/// What the manifest is to know of a table that was just written. Table numbers grow in the order in which memtables are
/// flushed, so the number orders level 0 as well.
pub(crate) fn describe(number: u64, keyspace: KeyspaceId, summary: TableSummary) -> TableMeta {
    TableMeta {
        number,
        keyspace,
        bytes: summary.bytes,
        entries: summary.entries,
        deletes: summary.deletes,
        range_deletes: summary.range_deletes,
        expiring: summary.expiring,
        smallest: summary.smallest,
        largest: summary.largest,
        seqno_min: summary.seqno_min,
        seqno_max: summary.seqno_max,
        checksum: summary.checksum,
        epoch: number,
    }
}
