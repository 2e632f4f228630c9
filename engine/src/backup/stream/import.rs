//! Making a store of a stream: sorted tables in its last level, and then a list that names them.
//!
//! ```text
//! an empty log, synced -> sync dir -> tables, each synced -> IDENTITY -> manifest, synced -> sync dir -> CURRENT -> sync parent
//! ```
//!
//! I1. CURRENT comes last, when the end of the stream has been seen and everything that it leads to is durable. So an import that
//!     was cut short, by a crash or by the end of its stream, is no store: with the log there, and no CURRENT, whoever
//!     opens the directory is told that it is missing, and makes no new store in its place.
//! I2. Entries get sequence numbers one by one. Of one key there is one entry, or a value and the operands upon it, which lie in one
//!     table.

use super::format::NAME;
use super::reader::StreamReader;
use crate::backup::list;
use crate::batch::BatchEntry;
use crate::compaction::flush::describe;
use crate::env::{Env, OpenMode};
use crate::error::Result;
use crate::filename::FileKind;
use crate::key::{InternalKey, KeyspaceId, SeqNo};
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{TableMeta, VersionEdit};
use crate::manifest::format::Identity;
use crate::options::Options;
use crate::record::Uuid;
use crate::sst::{TableOptions, TableWriter};
use crate::wal::WalWriter;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

/// What was made of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The identity of the new store.
    pub store: Uuid,
    /// The newest write in the store that was exported that the stream showed. The new store counts its own.
    pub seqno: SeqNo,
    /// Keyspaces, the default one counted.
    pub keyspaces: usize,
    /// Keys with a value.
    pub keys: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Makes `target`, which is missing or empty, in a directory that exists, a new store with what the stream holds, which has an
/// identity of its own and is durable when this returns. Of `options` those count that shape tables and levels; keyspaces have the options of
/// their own, and the default one its merge operator, which the stream brings along. Whoever opens the store needs the operators.
///
/// Keys go into sorted tables of the last level as they come, so that there is nothing to be flushed or compacted. Takes memory for
/// one record of the stream, and reads nothing behind its end. `tell` hears now and then how many bytes of keys and values there
/// were, after decompression.
///
/// [`Corruption`](crate::error::Error::Corruption) with the offset in the stream where that is damaged or cut short,
/// [`NewerFormat`](crate::error::Error::NewerFormat), [`InvalidArgument`](crate::error::Error::InvalidArgument) for a target that is
/// in use or options that cannot be. After an error what was put there is removed as far as possible; a crash may leave a
/// directory that cannot be opened as a store, and can be emptied.
pub fn import(
    env: &Env,
    from: &mut dyn Read,
    target: &Path,
    options: &Options,
    tell: &mut dyn FnMut(u64),
) -> Result<Imported> {
    read(env, from, Path::new(NAME), target, options, tell)
}

fn read(
    env: &Env,
    from: &mut dyn Read,
    name: &Path,
    target: &Path,
    options: &Options,
    tell: &mut dyn FnMut(u64),
) -> Result<Imported> {
    options.validate()?;
    let mut reader = StreamReader::begin(from, name)?;
    let is_new = list::claim_dir(env, target)?;
    let made = make(env, &mut reader, target, options, tell);
    if made.is_err() {
        list::take_back(env, target, is_new);
    }
    made
}

/// [Imports](import()) a file of this world.
///
/// ```
/// # let home = tempfile::tempdir().unwrap();
/// use strata::backup::{export_file, import_file};
/// use strata::db::Db;
/// use strata::env::Env;
///
/// let db = Db::open(home.path().join("store"))?;
/// db.put(b"fruit/apple", b"red")?;
/// let file = home.path().join("store.strata");
/// export_file(&db.snapshot(), &file, &mut |_| ())?;
///
/// let target = home.path().join("elsewhere");
/// let imported = import_file(&Env::os(), &file, &target, &Default::default(), &mut |_| ())?;
/// assert_eq!(imported.keys, 1);
/// # Ok::<(), strata::error::Error>(())
/// ```
pub fn import_file(
    env: &Env,
    path: &Path,
    target: &Path,
    options: &Options,
    tell: &mut dyn FnMut(u64),
) -> Result<Imported> {
    let file = env.open(path, OpenMode::Read)?;
    read(env, &mut file.reader(), path, target, options, tell)
}

/// The number of the log that holds nothing.
const LOG: u64 = 1;

fn make(
    env: &Env,
    reader: &mut StreamReader<'_>,
    target: &Path,
    options: &Options,
    tell: &mut dyn FnMut(u64),
) -> Result<Imported> {
    let head = reader.head().clone();
    let listed = head.as_edit();
    let empty = Catalog::empty(options.levels, &Arc::new(options.clone()));
    let catalog = empty
        .apply(&listed)
        .map_err(|wrong| reader.damaged(0, &format!("keyspaces that can be together, but {wrong}")))?;
    let identity = Identity { store: Uuid::random(env), format_version: options.format_version };
    // I1.
    let log = WalWriter::create(env, target, LOG, (identity.store, identity.format_version), 1)?.close()?;
    env.sync_dir(target)?;

    let mut tables = Tables { env, target, level: options.levels - 1, next: LOG + 1, open: None, done: Vec::new() };
    let (mut keys, mut seqno, mut told) = (0, 0, 0);
    let mut next = reader.next()?;
    while let Some(first) = next.take() {
        let mut entries = vec![first];
        next = loop {
            match reader.next()? {
                Some(operand) if is_same_key(&operand, &entries[0]) => entries.push(operand),
                other => break other,
            }
        };
        keys += 1;
        seqno += entries.len() as SeqNo;
        let keyspace = catalog.get(entries[0].keyspace).expect("the reader knows the keyspaces of the list");
        tables.add(&keyspace.options, seqno, &entries)?;
        if reader.bytes() > told {
            told = reader.bytes();
            tell(told);
        }
    }
    let (next_file, tables) = tables.finish()?;
    let snapshot = VersionEdit {
        next_file: Some(next_file + 1),
        last_seqno: Some(seqno),
        levels: Some(options.levels),
        wals_added: vec![log.number],
        wals_closed: vec![log],
        added: tables.into_iter().map(|table| (options.levels - 1, table)).collect(),
        ..listed
    };
    list::make_store(env, target, &identity, next_file, &snapshot)?;
    let (store, keyspaces, bytes) = (identity.store, catalog.entries().len(), reader.offset());
    Ok(Imported { store, seqno: head.seqno, keyspaces, keys, bytes })
}

fn is_same_key(one: &BatchEntry, other: &BatchEntry) -> bool {
    (one.keyspace, &one.key) == (other.keyspace, &other.key)
}

/// Tables of one level, one after the other.
struct Tables<'a> {
    env: &'a Env,
    target: &'a Path,
    level: usize,
    next: u64,
    open: Option<(KeyspaceId, u64, TableWriter)>,
    done: Vec<TableMeta>,
}

impl Tables<'_> {
    /// Adds all that there is of a key, oldest first, of which the newest gets this number. `options` are those of its keyspace.
    fn add(&mut self, options: &Options, newest: SeqNo, entries: &[BatchEntry]) -> Result<()> {
        let BatchEntry { keyspace, ref key, .. } = entries[0];
        let goes_on =
            self.open.as_ref().is_some_and(|(of, _, writer)| *of == keyspace && writer.bytes() < options.table_bytes);
        if !goes_on {
            self.close()?;
        }
        let (_, _, writer) = match &mut self.open {
            Some(open) => open,
            None => {
                let number = self.next;
                self.next += 1;
                let file = self.env.open(&FileKind::Sst(number).path(self.target), OpenMode::CreateNew)?;
                let writer = TableWriter::new(file, number, keyspace, TableOptions::at_level(options, self.level));
                self.open.insert((keyspace, number, writer))
            }
        };
        for (seqno, entry) in (0..=newest).rev().zip(entries.iter().rev()) {
            writer.add(&InternalKey::new(key, seqno, entry.kind).encode(), &entry.value)?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        if let Some((keyspace, number, writer)) = self.open.take() {
            self.done.push(describe(number, keyspace, writer.finish()?));
        }
        Ok(())
    }

    /// A number that no file has, and the tables.
    fn finish(mut self) -> Result<(u64, Vec<TableMeta>)> {
        self.close()?;
        Ok((self.next, self.done))
    }
}
