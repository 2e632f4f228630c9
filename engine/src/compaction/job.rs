//! Doing a compaction: reads the inputs in order, writes what survives to new tables, and returns the edit that puts them in
//! place. Nothing is installed here, and inputs are not touched.
//!
//! J1. What is read is taken for what the manifest says of it only after a look: an input whose checksums are right and whose
//! entries are out of order, or outside of what was claimed, is corruption and reaches no output.

use crate::blob::{BlobMeta, BlobUses};
use crate::compaction::flush::describe;
use crate::compaction::fold::Folding;
use crate::compaction::merge::Retention;
use crate::compaction::picker::{may_any_lie_below, may_lie_below};
use crate::compaction::plan::{Claim, Plan};
use crate::compaction::readers::Readers;
use crate::compaction::separate::{Collected, Place, Separator, whole};
use crate::env::OpenMode;
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::fragments::{Fragment, Fragments};
use crate::iter::InternalIterator;
use crate::iter::MergeIter;
use crate::iter::{ConcatIter, TableSource};
use crate::key::{BlobReference, InternalKey, KEY_LEN_MAX, KeyspaceId, Kind, SeqNo, compare, user_key};
use crate::manifest::edit::VersionEdit;
use crate::manifest::version::{TableMeta, Version};
use crate::mark::sometimes;
use crate::options::Options;
use crate::sst::{TableCache, TableOptions, TableWriter};
use bytes::Bytes;
use std::cmp::Ordering;
use std::collections::VecDeque;
use std::sync::Arc;

/// So many bytes are written between two looks at the rate.
const PIECE_BYTES: u64 = 4096;

/// What a job needs of its surroundings.
pub struct Surroundings<'a> {
    /// Where files are created.
    pub place: Place<'a>,
    /// The options of the keyspace.
    pub options: &'a Options,
    /// Opens input tables.
    pub tables: &'a Arc<TableCache>,
    /// Where large values lie, and which of them are to be moved.
    pub collected: Collected<'a>,
    /// Whether to give up; asked now and then.
    pub cancelled: &'a dyn Fn() -> bool,
    /// Told now and then how many bytes were written since; may wait. Whether to go on.
    pub written: &'a dyn Fn(u64) -> bool,
}

/// Runs a plan against the version that it was made from. `readers` were listed after the inputs were fixed. The outputs'
/// bytes are durable when it returns; their names are after a sync of the directory, which is the caller's. After an error
/// outputs may be left behind: they are in no version, and are removed as obsolete. `Ok(None)` where it was cancelled.
pub fn run(around: &Surroundings<'_>, version: &Version, plan: &Plan, readers: Readers) -> Result<Option<VersionEdit>> {
    // What has expired for this merge must have expired for whoever opens the store later.
    let time_ms = plan.tables().any(|(_, table)| table.expiring.is_some()).then_some(readers.now_ms());
    let mut edit = VersionEdit { time_ms, ..VersionEdit::default() };
    for (level, table) in plan.tables() {
        edit.removed.push((level, table.number));
    }
    // What is to be collected is read, and so does not move as it is.
    let refers = |table: &TableMeta| table.blobs.iter().any(|(file, _)| around.collected.sparse.contains(&file));
    let collects = plan.tables().any(|(_, table)| refers(table));
    if plan.trivial_move && !collects {
        let (_, table) = plan.tables().next().expect("a move has one input");
        edit.added.push((plan.output_level, TableMeta::clone(table)));
        return Ok(Some(edit));
    }
    if plan.expired {
        return Ok(Some(edit));
    }

    let mut input = input_iter(around, plan);
    // What stays in level 0 lies above older tables of it.
    let stays = plan.output_level == 0;
    let older_below = |user: &[u8]| stays || may_lie_below(version, plan.output_level, user);
    let operator = around.options.operator().map(|operator| &**operator);
    let upon = |entry: InternalKey<'_>, value: &Bytes| whole(around.collected.files, entry, value);
    let retention = Retention::new(readers, fragments_of(around, plan)?);
    let mut folding = Folding::new(retention, operator, &older_below, &upon);
    let range_deletes = folding
        .range_deletes(|range| stays || may_any_lie_below(version, plan.output_level, &range.start, &range.end))
        .into();
    let (keyspace, level) = (version.keyspace, plan.output_level);
    let separator = Separator::new(around.place, keyspace, around.options, Some(around.collected));
    let mut output = Output { around, keyspace, level, current: None, range_deletes, separator, done: Vec::new() };
    let mut sequence = Sequence::of(plan);
    input.seek_to_first()?;
    let (mut entries, mut unpaid) = (0u64, 0);
    while input.valid() {
        if entries.is_multiple_of(1024) && (around.cancelled)() {
            return Ok(None);
        }
        entries += 1;
        let key = input.key();
        let value = input.value();
        let entry = sequence.admit(key, &value).map_err(|found| odd_input(around, plan, &found))?;
        folding.take(key, entry, &value, &mut |key, value| {
            unpaid += output.add(key, value)?;
            Ok(())
        })?;
        input.next()?;
        if unpaid >= PIECE_BYTES && !(around.written)(std::mem::take(&mut unpaid)) {
            return Ok(None);
        }
    }
    folding.finish(&mut |key, value| {
        unpaid += output.add(key, value)?;
        Ok(())
    })?;
    let (mut tables, blobs) = output.finish()?;
    // Whatever the answer: the work is done.
    let _ = (around.written)(unpaid);

    // A read error that ended an input early would show here as missing entries, not as lost data.
    let expected: u64 = plan.tables().map(|(_, table)| table.entries).sum();
    let (kept, dropped) = folding.counts();
    assert_eq!(kept + dropped, entries, "every entry is kept or dropped for a reason");
    if entries != expected {
        let (_, table) = plan.tables().next().expect("a plan has inputs");
        return Err(Error::corruption(
            &FileKind::Sst(table.number).path(around.place.dir),
            0,
            format!("{expected} entries in this and the other inputs of a compaction, found {entries}"),
        ));
    }
    let mut claimed = BlobUses::default();
    plan.tables().for_each(|(_, table)| claimed.merge(&table.blobs));
    if sequence.uses != claimed {
        return Err(odd_input(around, plan, &format!("{:?} where there should be {claimed:?}", sequence.uses)));
    }
    if stays {
        // As new as the newest of them, and older than what was flushed meanwhile.
        let epoch = plan.tables().map(|(_, table)| table.epoch).max().expect("a plan has inputs");
        tables.iter_mut().for_each(|table| table.epoch = epoch);
    }
    edit.added.extend(tables.into_iter().map(|table| (plan.output_level, table)));
    edit.blobs_added = blobs;
    Ok(Some(edit))
}

/// The range deletes of all inputs, each of which ends where its table does.
fn fragments_of(around: &Surroundings<'_>, plan: &Plan) -> Result<Fragments> {
    let mut all = Fragments::new();
    for (_, meta) in plan.tables().filter(|(_, meta)| meta.range_deletes > 0) {
        let table = around.tables.table(meta.number, meta.bytes)?;
        for fragment in table.fragments().iter() {
            let within = &fragment.start[..] >= meta.smallest_user() && &fragment.end[..] <= meta.largest_user();
            if !within || fragment.seqnos[0] > meta.seqno_max {
                return Err(odd_input(around, plan, &format!("range deletes {fragment:?} in {meta:?}")));
            }
        }
        all.merge(table.fragments());
    }
    Ok(all)
}

fn odd_input(around: &Surroundings<'_>, plan: &Plan, found: &str) -> Error {
    let (_, table) = plan.tables().next().expect("a plan has inputs");
    let path = FileKind::Sst(table.number).path(around.place.dir);
    Error::corruption(&path, 0, format!("entries as the manifest says in this and the other inputs, found {found}"))
}

/// What the entries of all inputs must be together, one after the other (J1).
struct Sequence {
    claim: Claim,
    seqno_max: SeqNo,
    /// The entry before; empty before the first.
    last: Vec<u8>,
    /// The blob files that the entries so far refer to.
    uses: BlobUses,
}

impl Sequence {
    fn of(plan: &Plan) -> Sequence {
        let seqno_max = plan.tables().map(|(_, table)| table.seqno_max).max().expect("a plan has inputs");
        Sequence { claim: plan.claim(), seqno_max, last: Vec::new(), uses: BlobUses::default() }
    }

    /// The key of an entry that may come next; else what is wrong with it.
    fn admit<'k>(&mut self, key: &'k [u8], value: &[u8]) -> std::result::Result<InternalKey<'k>, String> {
        let Some(entry) = InternalKey::decode(key) else {
            return Err(format!("{}, which is no internal key", key.escape_ascii()));
        };
        if !entry.kind.is_point() || entry.user.len() > KEY_LEN_MAX || !entry.kind.admits_value(value) {
            let (kind, key_len, value_len) = (entry.kind, entry.user.len(), value.len());
            return Err(format!("an entry of kind {kind:?} with {key_len} bytes of key and {value_len} of value"));
        }
        if !self.last.is_empty() && compare(&self.last, key) != Ordering::Less {
            return Err(format!("{entry:?} after {:?}", InternalKey::decode(&self.last)));
        }
        if entry.user < self.claim.smallest.as_slice() || entry.user > self.claim.largest.as_slice() {
            return Err(format!("{entry:?}, which lies outside of all inputs"));
        }
        if entry.seqno > self.seqno_max {
            return Err(format!("{entry:?}, which is newer than all inputs, that end at {}", self.seqno_max));
        }
        if entry.kind == Kind::BlobReference {
            let reference = BlobReference::decode(value).expect("the value was looked at");
            self.uses.add(reference.file, u64::from(reference.len));
        }
        self.last.clear();
        self.last.extend_from_slice(key);
        Ok(entry)
    }
}

fn input_iter(around: &Surroundings<'_>, plan: &Plan) -> MergeIter {
    let mut children: Vec<Box<dyn InternalIterator>> = Vec::new();
    for (level, tables) in &plan.inputs {
        if *level == 0 {
            // Tables of level 0 overlap: each is a run of its own.
            for table in tables {
                children.push(Box::new(ConcatIter::new(InputRun::new(around, vec![table.clone()]))));
            }
        } else {
            children.push(Box::new(ConcatIter::new(InputRun::new(around, tables.clone()))));
        }
    }
    MergeIter::new(children)
}

/// Disjoint input tables in order, opened one after the other, their blocks kept out of the cache.
struct InputRun {
    cache: Arc<TableCache>,
    tables: Vec<Arc<TableMeta>>,
}

impl InputRun {
    fn new(around: &Surroundings<'_>, tables: Vec<Arc<TableMeta>>) -> InputRun {
        InputRun { cache: around.tables.clone(), tables }
    }
}

impl TableSource for InputRun {
    fn count(&self) -> usize {
        self.tables.len()
    }

    fn smallest(&self, index: usize) -> &[u8] {
        &self.tables[index].smallest
    }

    fn largest(&self, index: usize) -> &[u8] {
        &self.tables[index].largest
    }

    fn open(&self, index: usize) -> Result<Box<dyn InternalIterator>> {
        let table = self.cache.table(self.tables[index].number, self.tables[index].bytes)?;
        Ok(Box::new(table.iter(false)))
    }
}

/// Tables being written. All versions of a user key go to one table, so that a level never has a key in two; a range delete
/// that reaches from one table into the next is cut where the next one begins.
struct Output<'a> {
    around: &'a Surroundings<'a>,
    keyspace: KeyspaceId,
    level: usize,
    current: Option<Open>,
    /// Those that are in no table yet.
    range_deletes: VecDeque<Fragment>,
    separator: Separator<'a>,
    done: Vec<TableMeta>,
}

struct Open {
    number: u64,
    writer: TableWriter,
    last_user_key: Vec<u8>,
    /// The range deletes that begin in this table last, as far as they are known to lie in it.
    reaching: Option<Fragment>,
}

impl Output<'_> {
    /// Returns how many bytes that is to be written.
    fn add(&mut self, key: &[u8], value: &[u8]) -> Result<u64> {
        let user = user_key(key);
        while let Some(fragment) = self.range_deletes.pop_front_if(|fragment| &fragment.start[..] <= user) {
            self.add_range_deletes(fragment)?;
        }
        let separated = self.separator.separate(key, value)?;
        let open = self.at(user)?;
        match separated {
            Some((key, reference)) => {
                open.writer.add(&key, &reference)?;
                let moved = BlobReference::decode(&reference).map_or(0, |reference| u64::from(reference.len));
                Ok((key.len() + reference.len()) as u64 + moved)
            }
            None => open.writer.add(key, value).map(|()| (key.len() + value.len()) as u64),
        }
    }

    fn add_range_deletes(&mut self, fragment: Fragment) -> Result<()> {
        let open = self.at(&fragment.start)?;
        if let Some(before) = open.reaching.replace(fragment) {
            open.writer.add_range_deletes(&before);
        }
        Ok(())
    }

    /// The table for what comes next, at a user key.
    fn at(&mut self, user: &[u8]) -> Result<&mut Open> {
        // Several tables of level 0 would have to be of several ages.
        let limit = if self.level == 0 { u64::MAX } else { self.around.options.table_bytes };
        let full = |open: &Open| open.writer.bytes() >= limit && open.last_user_key != user;
        let mut reaching = None;
        if self.current.as_ref().is_some_and(full) {
            reaching = self.close_table(Some(user))?;
        }
        if self.current.is_none() {
            let number = (self.around.place.new_file)(FileKind::Sst);
            let path = FileKind::Sst(number).path(self.around.place.dir);
            let file = self.around.place.env.open(&path, OpenMode::CreateNew)?;
            let options = TableOptions::at_level(self.around.options, self.level);
            let writer = TableWriter::new(file, number, self.keyspace, options);
            self.current = Some(Open { number, writer, last_user_key: Vec::new(), reaching });
        }
        let open = self.current.as_mut().expect("opened above");
        open.last_user_key.clear();
        open.last_user_key.extend_from_slice(user);
        Ok(open)
    }

    /// Adds what is left. Returns all tables and blob files.
    fn finish(mut self) -> Result<(Vec<TableMeta>, Vec<BlobMeta>)> {
        while let Some(fragment) = self.range_deletes.pop_front() {
            self.add_range_deletes(fragment)?;
        }
        self.close_table(None)?;
        Ok((self.done, self.separator.finish()?))
    }

    /// Ends a table before user key `next`, and returns the range deletes that go on there.
    fn close_table(&mut self, next: Option<&[u8]>) -> Result<Option<Fragment>> {
        let Some(mut open) = self.current.take() else { return Ok(None) };
        let mut rest = None;
        if let Some(mut last) = open.reaching.take() {
            if let Some(next) = next.filter(|&next| next < &last.end[..]) {
                sometimes!("a range delete is cut at the end of a table");
                let cut = Bytes::copy_from_slice(next);
                rest = Some(Fragment { start: cut.clone(), ..last.clone() });
                last.end = cut;
            }
            open.writer.add_range_deletes(&last);
        }
        let summary = open.writer.finish()?;
        self.done.push(describe(open.number, self.keyspace, summary));
        Ok(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::{KEYSPACE_DEFAULT, Kind};

    fn key(user: &[u8], seqno: SeqNo, kind: Kind) -> Vec<u8> {
        InternalKey::new(user, seqno, kind).encode()
    }

    fn plan() -> Plan {
        let table = |number, smallest: &[u8], largest: &[u8]| {
            Arc::new(TableMeta {
                number,
                keyspace: KEYSPACE_DEFAULT,
                bytes: 100,
                entries: 2,
                deletes: 0,
                range_deletes: 0,
                expiring: None,
                blobs: BlobUses::default(),
                smallest: key(smallest, 9, Kind::Put),
                largest: key(largest, 4, Kind::Put),
                seqno_min: 4,
                seqno_max: 9,
                checksum: 0,
                epoch: number,
            })
        };
        Plan {
            keyspace: KEYSPACE_DEFAULT,
            inputs: vec![(1, vec![table(7, b"f", b"m")]), (2, vec![table(3, b"c", b"h")])],
            output_level: 2,
            trivial_move: false,
            expired: false,
        }
    }

    #[test]
    fn inputs_that_are_not_what_the_manifest_says_are_refused_before_anything_is_written() {
        let told = |entries: &[(&[u8], SeqNo, Kind)]| {
            let mut sequence = Sequence::of(&plan());
            let admitted =
                |&(user, seqno, kind): &(&[u8], SeqNo, Kind)| sequence.admit(&key(user, seqno, kind), b"v").map(|_| ());
            entries.iter().try_for_each(admitted)
        };
        told(&[(b"c", 9, Kind::Put), (b"c", 5, Kind::Delete), (b"m", 4, Kind::Put)]).expect("in order, and within");
        for (entries, word) in [
            (&[(&b"d"[..], 5, Kind::Put), (&b"c"[..], 5, Kind::Put)][..], "after"),
            (&[(b"d", 5, Kind::Put), (b"d", 5, Kind::Put)], "after"),
            (&[(b"d", 5, Kind::Put), (b"d", 6, Kind::Put)], "after"),
            (&[(b"b", 5, Kind::Put)], "outside"),
            (&[(b"n", 5, Kind::Put)], "outside"),
            (&[(b"d", 10, Kind::Put)], "newer"),
            (&[(b"d", 5, Kind::BlobReference)], "BlobReference"),
            (&[(b"d", 5, Kind::PutExpiring)], "of value"),
            (&[(&vec![b'd'; KEY_LEN_MAX + 1], 5, Kind::Put)], "bytes of key"),
        ] {
            let refused = told(entries).expect_err("an odd input");
            assert!(refused.contains(word), "{refused}");
        }
        let mut sequence = Sequence::of(&plan());
        assert!(sequence.admit(b"short", b"").expect_err("no key").contains("no internal key"));
    }
}
