//! Looking at the whole store: does everything that must hold hold, and does everything on disk belong there?
//!
//! Verified: every checksum of every table, the order of its keys, its filter, and its numbers against the manifest; every byte of
//! every blob file, and that each reference leads to the value of its own key; that
//! tables of a level below 0 are disjoint; that of two versions of a key, and of a version and a range delete that holds its
//! key, the newer lies above (I2 of the version, entry by entry); that every file that should be there is, with the right
//! length. Not verified: tables in quarantine, which are known to be damaged; logs and the manifest, which are read at the next open,
//! and by [`verify`](super::verify).

use crate::blob::BlobFiles;
use crate::compaction::flush::describe;
use crate::compaction::picker;
use crate::db::obsolete;
use crate::db::state::{ReadView, State};
use crate::error::{Error, Result};
use crate::event::LevelShape;
use crate::filename::FileKind;
use crate::fragments::Fragments;
use crate::iter::InternalIterator;
use crate::key::{BlobReference, InternalKey, KIND_FOR_SEEK, Kind, SEQNO_MAX, SeqNo};
use crate::manifest::catalog::Catalog;
use crate::manifest::version::{TableMeta, Version};
use crate::sst::TableCache;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a check found. That it found nothing wrong is told by there being one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// Tables and their bytes, level by level, those of all keyspaces together.
    pub levels: Vec<LevelShape>,
    /// Entries in all tables, old versions and tombstones counted.
    pub entries: u64,
    /// The newest write that readers see.
    pub seqno: SeqNo,
    /// Levels that hold more than they should; and one more where a table is to be rewritten for the blob files that it refers to.
    pub debt: usize,
    /// Numbers of the tables in quarantine.
    pub quarantined: Vec<u64>,
    /// Names of the files that belong to the store, those among them that snapshots show of keyspaces that were dropped.
    pub files: BTreeSet<String>,
    /// Names of files of the store's kinds that are on disk and belong to nothing. While background work runs, or a reader
    /// holds an old version, some of them are in use.
    pub leftover: BTreeSet<String>,
    /// Whether background work ran, or readers held old versions, so that leftover files explain themselves.
    pub busy: bool,
}

impl fmt::Display for CheckReport {
    /// The shape of the tree: `L0:2 L1:3`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filled = self.levels.iter().enumerate().filter(|(_, level)| level.tables > 0);
        let parts: Vec<String> = filled.map(|(index, level)| format!("L{index}:{}", level.tables)).collect();
        f.write_str(if parts.is_empty() { "empty" } else { "" })?;
        f.write_str(&parts.join(" "))
    }
}

/// Shapes of all levels of all keyspaces together.
pub(crate) fn shape(catalog: &Catalog) -> Vec<LevelShape> {
    let mut levels = vec![LevelShape::default(); catalog.levels()];
    for (level, table) in catalog.tables() {
        levels[level].tables += 1;
        levels[level].bytes += table.bytes;
    }
    levels
}

/// Checks the store as it is now; writes go on meanwhile.
pub(crate) fn check(state: &State) -> Result<CheckReport> {
    obsolete::remove(state, 0);
    let view = state.view.load_full();
    let report = check_view(state, &view)?;
    let (files, busy) = expected_files(state);
    let present: BTreeSet<String> = state.env.read_dir(&state.dir)?.into_iter().map(|entry| entry.name).collect();
    // A file can only have gone if it stopped to belong meanwhile.
    let still = expected_files(state).0;
    if let Some(missing) = files.iter().find(|name| still.contains(*name) && !present.contains(*name)) {
        return Err(Error::corruption(&state.dir.join(missing), 0, "a file that the manifest names, found none"));
    }
    let ours = |name: &String| FileKind::parse(name).is_some();
    let leftover = present.iter().filter(|name| ours(name) && !files.contains(*name) && !still.contains(*name));
    let leftover = leftover.cloned().collect();
    Ok(CheckReport { seqno: state.visible.load(Ordering::Acquire), leftover, files, busy, ..report })
}

/// Checks the tables of a store whose files are another's: what is not a table is left alone.
pub(crate) fn check_tables(state: &State) -> Result<CheckReport> {
    check_view(state, &state.view.load_full())
}

fn check_view(state: &State, view: &ReadView) -> Result<CheckReport> {
    let catalog = &view.catalog;
    if let Err(broken) = catalog.check() {
        return Err(Error::corruption(&state.dir, 0, format!("a version that keeps its invariants, found: {broken}")));
    }
    let mut entries = 0;
    let quarantined: Vec<u64> = catalog.quarantined().map(|(_, table, _)| table.number).collect();
    for (level, table) in catalog.tables() {
        // What is wrong with those in quarantine is known.
        if !quarantined.contains(&table.number) {
            check_table(state, level, table)?;
        }
        entries += table.entries;
    }
    for blob in catalog.blobs().values() {
        state.blobs.file(blob.number)?.verify(blob, &mut |_| Ok(()))?;
    }
    catalog.entries().iter().try_for_each(|entry| check_order(state, &entry.version))?;
    let damaged_blobs = state.work.lock().damaged_blobs.clone();
    let collects = picker::pick_sparse(catalog, &[], &damaged_blobs).is_some();
    Ok(CheckReport {
        levels: shape(catalog),
        entries,
        seqno: state.visible.load(Ordering::Acquire),
        debt: picker::debt_of_all(catalog) + usize::from(collects),
        quarantined,
        files: catalog.files().map(FileKind::name).collect(),
        leftover: BTreeSet::new(),
        busy: true,
    })
}

fn check_table(state: &State, level: usize, meta: &TableMeta) -> Result<()> {
    let table = state.tables.table(meta.number, meta.bytes)?;
    compare_table(&state.dir, level, meta, describe(meta.number, table.properties().keyspace, table.verify()?))
}

/// Whether a table is what the manifest says of it.
pub(crate) fn compare_table(dir: &Path, level: usize, meta: &TableMeta, described: TableMeta) -> Result<()> {
    if described == (TableMeta { epoch: meta.number, ..meta.clone() }) {
        return Ok(());
    }
    let path = FileKind::Sst(meta.number).path(dir);
    let expected = format!("the table of level {level} that the manifest lists as {meta:?}, found {described:?}");
    Err(Error::corruption(&path, 0, expected))
}

/// Walks all tables side by side and sees that the versions of a key get older from the top down.
fn check_order(state: &State, version: &Version) -> Result<()> {
    let quarantined: BTreeSet<u64> = version.quarantined.keys().copied().collect();
    let mut from = None;
    loop {
        let (cache, pace) = ((&*state.tables, Some(&*state.blobs)), &mut |_| Ok(()));
        from = check_order_from(cache, &state.dir, version, from.as_deref(), &quarantined, pace)?;
        if from.is_none() {
            return Ok(());
        }
    }
}

/// Entries that are walked over between two looks at which tables there are.
const PIECE_ENTRIES: usize = 16_384;

/// The same for a piece of the keys, from this user key on (`None`: from the first), without the tables of these numbers. Reads
/// what entries refer to where it has the blob files. Calls `pace` for each entry with its bytes. Returns where the next piece
/// begins.
pub(crate) fn check_order_from(
    (tables, blobs): (&TableCache, Option<&BlobFiles>),
    dir: &Path,
    version: &Version,
    from: Option<&[u8]>,
    without: &BTreeSet<u64>,
    pace: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<Option<Vec<u8>>> {
    let begin = from.map(|user| InternalKey::new(user, SEQNO_MAX, KIND_FOR_SEEK).encode());
    let mut sources: Vec<(usize, &TableMeta, Box<dyn InternalIterator>)> = Vec::new();
    for (rank, table) in ranked(version).filter(|(_, table)| !without.contains(&table.number)) {
        if from.is_some_and(|from| table.ends_before(from)) {
            continue;
        }
        let mut iter = tables.table(table.number, table.bytes)?.iter(false);
        match &begin {
            Some(begin) => iter.seek(begin)?,
            None => iter.seek_to_first()?,
        }
        sources.push((rank, table, Box::new(iter)));
    }
    let deleted = Deletes::of(tables, version, without)?;
    if from.is_none() {
        deleted.check_among_each_other().map_err(|wrong| Error::corruption(dir, 0, wrong))?;
    }
    let mut last: Option<(Vec<u8>, usize)> = None;
    let mut entries = 0;
    loop {
        let ahead = sources.iter_mut().filter(|(_, _, iter)| iter.valid());
        let Some((rank, table, iter)) = ahead.min_by(|a, b| crate::key::compare(a.2.key(), b.2.key())) else {
            return Ok(None);
        };
        let entry = InternalKey::decode(iter.key());
        let path = || FileKind::Sst(table.number).path(dir);
        let Some(entry) = entry else {
            return Err(Error::corruption(&path(), 0, "whole internal keys"));
        };
        if entry.kind == Kind::BlobReference {
            let reference = BlobReference::decode(&iter.value()).ok_or_else(|| {
                Error::corruption(&path(), 0, format!("a reference to a blob file, found another value of {entry:?}"))
            })?;
            blobs.map(|blobs| blobs.read(entry.user, reference)).transpose()?;
        }
        deleted.check(*rank, entry).map_err(|wrong| Error::corruption(&path(), 0, wrong))?;
        match &mut last {
            Some((user, above)) if user == entry.user => {
                if *above > *rank {
                    let expected =
                        format!("no version of {entry:?} above an older table or level that holds a newer one");
                    return Err(Error::corruption(&path(), 0, expected));
                }
                *above = *rank;
            }
            _ if entries >= PIECE_ENTRIES => return Ok(Some(entry.user.to_vec())),
            Some((user, above)) => {
                user.clear();
                user.extend_from_slice(entry.user);
                *above = *rank;
            }
            None => last = Some((entry.user.to_vec(), *rank)),
        }
        entries += 1;
        pace((iter.key().len() + iter.value().len()) as u64)?;
        iter.next()?;
    }
}

/// The range deletes of all tables that have any, each with its rank.
struct Deletes {
    ranked: Vec<(usize, Arc<Fragments>)>,
}

impl Deletes {
    fn of(tables: &TableCache, version: &Version, without: &BTreeSet<u64>) -> Result<Deletes> {
        let mut ranked_deletes = Vec::new();
        let with = |table: &TableMeta| table.range_deletes > 0 && !without.contains(&table.number);
        for (rank, table) in ranked(version).filter(|(_, table)| with(table)) {
            let table = tables.table(table.number, table.bytes)?;
            ranked_deletes.push((rank, table.fragments().clone()));
        }
        Ok(Deletes { ranked: ranked_deletes })
    }

    /// Range deletes above an entry are newer than it, and those below it are older.
    fn check(&self, rank: usize, entry: InternalKey<'_>) -> std::result::Result<(), String> {
        for (place, fragments) in &self.ranked {
            let Some(fragment) = fragments.at(entry.user) else { continue };
            let above = *place < rank && fragment.seqnos.iter().any(|&deleted| deleted < entry.seqno);
            let below = *place > rank && fragment.newest(SEQNO_MAX).is_some_and(|deleted| deleted > entry.seqno);
            if above || below {
                let side = if above { "above" } else { "below" };
                return Err(format!("{entry:?} between older and newer range deletes, found {fragment:?} {side} it"));
            }
        }
        Ok(())
    }

    /// Of two that hold the same key the newer lies above.
    fn check_among_each_other(&self) -> std::result::Result<(), String> {
        for (index, (rank, upper)) in self.ranked.iter().enumerate() {
            for (_, lower) in self.ranked[index + 1..].iter().filter(|(other, _)| other > rank) {
                for above in upper.iter() {
                    let overlapping = lower.from(&above.start).take_while(|below| below.start < above.end);
                    for below in overlapping {
                        if above.seqnos.iter().any(|&newer| newer < below.seqnos[0]) {
                            return Err(format!(
                                "range deletes that get older from above, found {above:?} over {below:?}"
                            ));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// All tables, each with a rank: the smaller, the newer what it holds of any key.
fn ranked(version: &Version) -> impl Iterator<Item = (usize, &Arc<TableMeta>)> {
    let zero = version.levels[0].len();
    let top = version.levels[0].iter().enumerate();
    let below = version.levels.iter().enumerate().skip(1);
    top.chain(below.flat_map(move |(level, tables)| tables.iter().map(move |table| (zero + level, table))))
}

/// Names of the files that belong to the store, and whether others may be in use for a while.
fn expected_files(state: &State) -> (BTreeSet<String>, bool) {
    let versions = state.versions.lock();
    let mut files: BTreeSet<FileKind> = [FileKind::Current, FileKind::Identity, FileKind::Lock].into();
    files.insert(FileKind::Manifest(versions.manifest_number()));
    files.extend(versions.current().files());
    files.extend(versions.wals().keys().copied().map(FileKind::Wal));
    files.extend(state.reserve.is_held().then_some(FileKind::Reserve));
    files.extend(state.files_kept_for_snapshots());
    let ambiguous = versions.is_ambiguous();
    let held = versions.live_tables().len() > versions.current().tables().count()
        || versions.live_blobs().len() > versions.current().blobs().len();
    drop(versions);
    let work = state.work.lock();
    let busy = ambiguous
        || held
        || work.flushing
        || work.resume_due
        || !work.running.is_empty()
        || !work.obsolete.is_empty()
        || state.reserve.is_missing()
        || !state.view.load().frozen.is_empty();
    (files.into_iter().map(FileKind::name).collect(), busy)
}
