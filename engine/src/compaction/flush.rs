//! A frozen memtable becomes a table of level 0 of its keyspace.

use crate::blob::BlobMeta;
use crate::compaction::fold::Folding;
use crate::compaction::merge::Retention;
use crate::compaction::readers::Readers;
use crate::compaction::separate::{Place, Separator};
use crate::env::OpenMode;
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
use std::sync::Arc;

/// What a flush has written.
#[derive(Debug)]
pub struct Flushed {
    /// The table.
    pub table: TableMeta,
    /// The blob files that it alone refers to.
    pub blobs: Vec<BlobMeta>,
}

/// Writes what readers can still see of a memtable to table `number`, and large values to blob files, and makes their bytes durable;
/// their names are durable after a sync of the directory, which is the caller's. Returns `None`, and leaves no file, where the memtable is empty.
/// Tombstones, range deletes and what has expired stay: older versions may lie anywhere below. `options` are those of the keyspace.
#[track_caller]
pub fn flush(
    place: Place<'_>,
    number: u64,
    keyspace: KeyspaceId,
    memtable: &Arc<Memtable>,
    readers: Readers,
    options: &Options,
) -> Result<Option<Flushed>> {
    if memtable.is_empty() {
        return Ok(None);
    }
    let mut iter = memtable.iter();
    iter.seek_to_first()?;
    let path = FileKind::Sst(number).path(place.dir);
    let file = place.env.open(&path, OpenMode::CreateNew)?;
    let mut writer = TableWriter::new(file, number, keyspace, TableOptions::at_level(options, 0));
    let retention = Retention::new(readers, Fragments::clone(&memtable.fragments()));
    let operator = options.operator().map(|operator| &**operator);
    let mut folding = Folding::new(retention, operator, &|_| true, &|_, value| Ok(value.clone()));
    let mut separator = Separator::new(place, keyspace, options, None);
    let mut add = |key: &[u8], value: &[u8]| match separator.separate(key, value)? {
        Some((key, reference)) => writer.add(&key, &reference),
        None => writer.add(key, value),
    };
    while iter.valid() {
        let entry = InternalKey::decode(iter.key()).expect("a memtable holds whole keys");
        let value = iter.value();
        folding.take(iter.key(), entry, &value, &mut add)?;
        iter.next()?;
    }
    folding.finish(&mut add)?;
    for fragment in folding.range_deletes(|_| true) {
        writer.add_range_deletes(&fragment);
    }
    let (kept, dropped) = folding.counts();
    assert_eq!(kept + dropped, memtable.entries(), "every entry of a memtable is kept or dropped for a reason");
    sometimes!("a flush drops a version that nobody sees", if dropped > 0);
    let blobs = separator.finish()?;
    sometimes!("a flush writes large values to a blob file", if !blobs.is_empty());
    let summary = writer.finish()?;
    Ok(Some(Flushed { table: describe(number, keyspace, summary), blobs }))
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
        blobs: summary.blobs,
        smallest: summary.smallest,
        largest: summary.largest,
        seqno_min: summary.seqno_min,
        seqno_max: summary.seqno_max,
        checksum: summary.checksum,
        epoch: number,
    }
}
