//! The salvage: list, read, merge, write.
//!
//! V1. The damaged store is only read: no lock is taken in it, no file made, changed or removed.
//! V2. Of each key the newest entry counts that is whole, and where that is an operand, those below it down to what it is merged
//!     upon; where there is a delete, or a newer range delete holds the key, there is nothing. Nothing is made up: every value and
//!     operand was found whole, under its key, in a file of the store. Where its value lies in a blob file and is not whole, the
//!     entry is lost, and the next older one counts, in doubt.
//! V3. A new store that was not finished is taken back where there is an error.

use crate::batch::{Expiry, WriteBatch};
use crate::db::{Db, WriteOptions};
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::filename::FileKind;
use crate::fragments::Fragments;
use crate::key::{InternalKey, KEYSPACE_DEFAULT, KeyspaceId, Kind, Lookup, SEQNO_MAX, SeqNo};
use crate::manifest::edit::TableMeta;
use crate::memtable::{Generation, Memtable};
use crate::options::{Durability, KeyspaceOptions, Options};
use crate::salvage::blob::{Blobs, LostValue};
use crate::salvage::list::{List, list};
use crate::salvage::log::read_log;
use crate::salvage::merge::{Source, Walk};
use crate::salvage::report::{LostBytes, SalvageReport, SalvagedFile, SalvagedKeyspace};
use crate::sst::{Bounds, Remains};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a batch that is written to the new store.
const BATCH_BYTES: usize = 1024 * 1024;

/// Makes `target`, which is missing or empty, a new store with all that is still whole in the damaged store `source`: keyspaces with
/// their options, values with the time at which they expire, without what was deleted. The new store has an identity of its own,
/// and `options`, and is durable when this returns; deletes, old versions and sequence numbers are not kept.
///
/// Tables are read block by block and logs record by record, also behind damage; a file that is missing is lost. Where the list
/// of files is damaged every table and log is read that is there. The [report](SalvageReport) says what is lost, and which keys
/// may have had a newer value there. `tell` hears now and then how many bytes have been written to the new store.
///
/// Nobody may have the damaged store open: it is not locked, because it is only read. Needs memory for all that its logs hold.
/// Operands are written as they are, so the [operators](crate::operator) that keyspaces name must be at hand in `options`. Where
/// the list of files is lost, operands that a compaction had merged may count twice, and those of a keyspace whose operator is not
/// known are left out and counted.
///
/// What cannot be read counts as lost, so that a salvage does not fail because of its source: errors are those of the target, an
/// [`Error::NotAStore`] where there is nothing to be salvaged, and a directory that cannot be listed.
///
/// ```
/// # let home = tempfile::tempdir().unwrap();
/// # let (broken, mended) = (home.path().join("broken"), home.path().join("mended"));
/// use strata::db::Db;
/// use strata::env::Env;
/// use strata::salvage::salvage;
///
/// let db = Db::open(&broken)?;
/// db.put(b"fruit/apple", b"red")?;
/// db.close()?;
/// std::fs::remove_file(broken.join("CURRENT")).unwrap();
/// assert!(Db::open(&broken).is_err());
///
/// let report = salvage(&Env::os(), &broken, &mended, Default::default(), &mut |_| ())?;
/// println!("{report}");
/// assert_eq!(Db::open(&mended)?.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
/// # Ok::<(), strata::error::Error>(())
/// ```
pub fn salvage(
    env: &Env,
    source: &Path,
    target: &Path,
    options: Options,
    tell: &mut dyn FnMut(u64),
) -> Result<SalvageReport> {
    let mut list = list(env, source)?;
    let mut places = Places::read(env, source, &mut list);
    list.merge_operator = list.merge_operator.or(options.merge_operator);
    let options = Options {
        merge_operator: list.merge_operator.clone(),
        create_if_missing: true,
        error_if_exists: true,
        durability: Durability::Buffered,
        // What is found without an expiry has none.
        default_ttl_ms: 0,
        // A store of its own, of which there is no backup.
        archive: None,
        ..options
    };
    let db = Db::open_with(env, target, options)?;
    let written = write_all(&db, &mut list, &mut places, tell).and_then(|keyspaces| {
        db.flush()?;
        db.close()?;
        Ok(keyspaces)
    });
    match written {
        Ok(keyspaces) => {
            let files = places.files.into_values().chain(places.blobs.into_files()).collect();
            Ok(SalvageReport { list_lost: list.lost, files, keyspaces })
        }
        Err(error) => {
            let _ = db.close();
            drop(db);
            take_back(env, target);
            Err(error)
        }
    }
}

/// Where something is left.
struct Places {
    files: BTreeMap<FileKind, SalvagedFile>,
    /// Tables that are yet to be read, by keyspace.
    tables: BTreeMap<KeyspaceId, Vec<(FileKind, Remains)>>,
    /// What the logs held.
    logs: BTreeMap<KeyspaceId, Vec<Arc<Memtable>>>,
    blobs: Blobs,
}

impl Places {
    fn read(env: &Env, dir: &Path, list: &mut List) -> Places {
        let (files, tables, logs) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut places = Places { files, tables, logs, blobs: Blobs::of(env, dir) };
        for (number, bytes) in list.logs.clone() {
            let kind = FileKind::Wal(number);
            let mut file = SalvagedFile { kind, bytes: 0, entries: 0, lost: Vec::new() };
            let memtables = Generation::new();
            let read = read_log(env, &kind.path(dir), (number, list.store), bytes, &memtables, &mut file);
            if let Err(cause) = read {
                file.lost.push(lost_whole(cause, None));
            }
            for (keyspace, memtable) in memtables.memtables() {
                if !memtable.is_empty() && list.keeps(keyspace) {
                    places.logs.entry(keyspace).or_default().push(memtable);
                }
            }
            places.files.insert(kind, file);
        }
        for (number, listed) in list.tables.clone() {
            let kind = FileKind::Sst(number);
            let mut file = SalvagedFile { kind, bytes: 0, entries: 0, lost: Vec::new() };
            match open_table(env, &kind.path(dir), number, listed.as_ref(), &mut file) {
                Ok((keyspace, remains)) if list.keeps(keyspace) => {
                    places.tables.entry(keyspace).or_default().push((kind, remains));
                }
                Ok(_) => {}
                Err(cause) => file.lost.push(lost_whole(cause, listed.as_ref())),
            }
            places.files.insert(kind, file);
        }
        places
    }
}

/// A table, and whose it is. `listed` is what the list says of it.
fn open_table(
    env: &Env,
    path: &Path,
    number: u64,
    listed: Option<&TableMeta>,
    file: &mut SalvagedFile,
) -> Result<(KeyspaceId, Remains)> {
    let opened = env.open(path, OpenMode::Read)?;
    let len = opened.len()?;
    file.bytes = listed.map_or(len, |listed| listed.bytes.min(len));
    let remains = Remains::open(opened, number, file.bytes, bounds_of(listed));
    match listed.map(|listed| listed.keyspace).or(remains.keyspace()) {
        Some(keyspace) => Ok((keyspace, remains)),
        None => Err(Error::corruption(path, 0, "a table of which it is known what keyspace it is of")),
    }
}

fn bounds_of(listed: Option<&TableMeta>) -> Bounds {
    let of = |key: fn(&TableMeta) -> &[u8]| listed.map(|listed| key(listed).to_vec());
    (of(TableMeta::smallest_user), of(TableMeta::largest_user))
}

/// A file of which nothing could be read.
fn lost_whole(cause: Error, listed: Option<&TableMeta>) -> LostBytes {
    let (keyspace, bytes) = (listed.map(|listed| listed.keyspace), listed.map_or(0, |listed| listed.bytes));
    let (from, to) = bounds_of(listed);
    LostBytes { offset: 0, bytes, keyspace, from, to, seqnos: None, was_durable: true, cause }
}

/// Writes what is left, keyspace by keyspace.
fn write_all(
    db: &Db,
    list: &mut List,
    places: &mut Places,
    tell: &mut dyn FnMut(u64),
) -> Result<Vec<SalvagedKeyspace>> {
    let mut salvaged = Vec::new();
    let mut bytes = 0;
    for (&id, known) in &list.keyspaces {
        // Its default lifetime comes last, so that it gives none to what had none.
        let plain = KeyspaceOptions { default_ttl_ms: Some(0), ..known.options.clone() };
        let keyspace = if id == KEYSPACE_DEFAULT { None } else { Some(db.create_keyspace(&known.name, plain)?) };
        let to = keyspace.as_ref().map_or(KEYSPACE_DEFAULT, KeyspaceId::from);
        let (name, has_operator) = match &keyspace {
            None => (known.name.clone(), list.merge_operator.is_some()),
            Some(_) => (known.name.clone(), known.options.merge_operator.is_some()),
        };
        let mut counts = SalvagedKeyspace { name, id, keys: 0, in_doubt: 0, unmerged: 0 };
        write_keyspace(db, to, has_operator, places, &mut counts, &mut |more| {
            bytes += more;
            tell(bytes);
        })?;
        if let Some(keyspace) = &keyspace {
            db.set_keyspace_options(keyspace, known.options.clone())?;
        }
        salvaged.push(counts);
    }
    Ok(salvaged)
}

/// What is left of a key, gathered from its newest entry on.
#[derive(Default)]
struct Left {
    key: Vec<u8>,
    /// With their sequence numbers, newest first.
    operands: Vec<(SeqNo, Bytes)>,
    /// What they are merged upon, or what the key has.
    base: Option<Lookup>,
    /// Nothing older counts.
    is_complete: bool,
    /// Entries whose values are lost, with their sequence numbers. Where the list of files is lost, the same entry may be met again
    /// with its value in another place, from which it was moved, or to which.
    lost: Vec<(SeqNo, Box<LostValue>)>,
}

impl Left {
    /// The next older entry of the key. An operand may have been merged already, by a compaction whose inputs are still there: what
    /// came of it has its sequence number.
    fn take(&mut self, seqno: SeqNo, kind: Kind, value: Bytes) {
        self.lost.pop_if(|(lost, _)| *lost == seqno);
        let is_known = self.operands.last().is_some_and(|(newer, _)| *newer == seqno);
        match Lookup::of(kind, || value.clone()) {
            Some(Lookup::Operand) if is_known => {}
            Some(Lookup::Operand) => self.operands.push((seqno, value)),
            Some(base @ (Lookup::Found(_) | Lookup::Expiring { .. })) => {
                if is_known {
                    self.operands.pop();
                }
                (self.base, self.is_complete) = (Some(base), true);
            }
            Some(Lookup::Deleted) => self.is_complete = true,
            Some(Lookup::InBlob(_)) | None => {
                unreachable!("what is taken says something of its key, and has its value, and not {kind:?}")
            }
        }
    }

    /// Whether there was anything.
    fn write(&self, batch: &mut WriteBatch, to: KeyspaceId, with_operands: bool) -> bool {
        match &self.base {
            Some(Lookup::Found(value)) => batch.put_in(to, &self.key, value),
            Some(Lookup::Expiring { expires_ms, value }) => {
                batch.put_expiring_in(to, &self.key, value, Expiry::At(*expires_ms));
            }
            _ => {}
        }
        let operands = self.operands.iter().rev().filter(|_| with_operands);
        operands.for_each(|(_, operand)| batch.merge_in(to, &self.key, operand));
        self.base.is_some() || (with_operands && !self.operands.is_empty())
    }
}

/// Writes what is left of one keyspace to the keyspace `to`, and counts it.
fn write_keyspace(
    db: &Db,
    to: KeyspaceId,
    has_operator: bool,
    places: &mut Places,
    counts: &mut SalvagedKeyspace,
    tell: &mut dyn FnMut(u64),
) -> Result<()> {
    let id = counts.id;
    let (mut deleted, mut sources, mut kinds) = (Fragments::new(), Vec::new(), Vec::new());
    for (kind, remains) in places.tables.remove(&id).unwrap_or_default() {
        if let Some(fragments) = remains.fragments() {
            deleted.merge(fragments);
        }
        sources.push(Source::table(remains));
        kinds.push(kind);
    }
    for memtable in places.logs.remove(&id).unwrap_or_default() {
        deleted.merge(&memtable.fragments());
        sources.push(Source::log(&memtable));
    }
    let missing = places.files.values().flat_map(|file| &file.lost).filter(|lost| lost.keyspace == Some(id));
    let mut walk = Walk::over(sources, missing.map(|lost| (lost.from.clone(), lost.to.clone())).collect());
    let mut batch = WriteBatch::new();
    let mut write = |batch: &mut WriteBatch, least: usize| -> Result<()> {
        if batch.bytes() >= least {
            tell(batch.bytes() as u64);
            db.write(batch, WriteOptions::default())?;
        }
        Ok(())
    };
    let mut finish =
        |mut left: Left, is_in_doubt: bool, batch: &mut WriteBatch| -> Result<Vec<(SeqNo, Box<LostValue>)>> {
            let is_in_doubt = is_in_doubt || !left.lost.is_empty();
            if left.write(batch, to, has_operator) {
                counts.keys += 1;
                counts.in_doubt += u64::from(is_in_doubt);
            }
            counts.unmerged += u64::from(!has_operator && !left.operands.is_empty());
            write(batch, BATCH_BYTES)?;
            Ok(std::mem::take(&mut left.lost))
        };
    let (mut left, mut lost) = (None::<Left>, Vec::new());
    while let Some((encoded, value)) = walk.next() {
        let entry = InternalKey::decode(&encoded).expect("only whole internal keys are handed out");
        if let Some(done) = left.take_if(|left| left.key != entry.user) {
            let is_in_doubt = walk.is_in_doubt(&done.key);
            lost.extend(finish(done, is_in_doubt, &mut batch)?);
        }
        let own = left.get_or_insert_with(|| Left { key: entry.user.to_vec(), ..Left::default() });
        if own.is_complete {
            continue;
        }
        if deleted.newest(entry.user, SEQNO_MAX).is_some_and(|newer| newer > entry.seqno) {
            own.is_complete = true;
        } else {
            match places.blobs.whole(id, entry, value) {
                Ok((kind, value)) => own.take(entry.seqno, kind, value),
                Err(value) => own.lost.push((entry.seqno, value)),
            }
        }
    }
    if let Some(done) = left.take() {
        let is_in_doubt = walk.is_in_doubt(&done.key);
        lost.extend(finish(done, is_in_doubt, &mut batch)?);
    }
    lost.into_iter().for_each(|(_, value)| places.blobs.lose(*value));
    write(&mut batch, 1)?;
    for ((source, entries), kind) in walk.into_sources().zip(kinds) {
        let Source::Table(remains, _) = source else { continue };
        let file = places.files.get_mut(&kind).expect("every table has been noted");
        file.entries = entries + remains.fragments().map_or(0, |fragments| fragments.len() as u64);
        file.lost.extend(remains.lost().iter().map(|part| LostBytes {
            offset: part.offset,
            bytes: part.bytes,
            keyspace: Some(id),
            from: part.from.clone(),
            to: part.to.clone(),
            seqnos: None,
            was_durable: true,
            cause: part.cause.clone(),
        }));
    }
    Ok(())
}

/// V3. What cannot be removed stays.
fn take_back(env: &Env, dir: &Path) {
    for entry in env.read_dir(dir).unwrap_or_default() {
        if let Some(kind) = FileKind::parse(&entry.name) {
            let _ = env.remove_file(&kind.path(dir));
        }
    }
}
