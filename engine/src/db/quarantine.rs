//! Quarantine: a table that is damaged is recognised by whoever meets it, and from then on nothing but reads touches it, so that
//! the store goes on beside it.
//!
//! ```text
//! a read or a compaction meets damage -> the whole file is read again -> an edit of the manifest -> compactions go around it
//!                                                    | it is whole: nothing                            |
//!                                        released: the file is whole again <---------------------------+
//!                                        discarded: what it held is lost   <---------------------------+
//! ```
//!
//! Q1. A table comes into quarantine only when its file was read again and is not what the manifest says: a read that went to a
//!     wrong place damages nothing.
//! Q2. It stays in its version, and reads ask it like any other: whatever needs its damaged bytes is told of the damage, and
//!     whatever it hides stays hidden. What compactions leave alone for its sake is for the version to say
//!     ([I3](crate::manifest::version)), and for the picker.
//! Q3. It is never removed while it is in quarantine, but by whoever drops its keyspace or [discards](super::Db::discard_quarantined)
//!     it: a compaction that took it before comes to nothing.
//! Q4. It is in quarantine until it is released, also after the store was opened again. Its file may be missing meanwhile, or
//!     have another length.
//!
//! Not done: a table that the file system refuses to read stays as it is, and is tried again, since that may pass.

use crate::cache::BlockCache;
use crate::compaction::flush::describe;
use crate::compaction::plan::Plan;
use crate::db::check::compare_table;
use crate::db::health::Part;
use crate::db::state::State;
use crate::env::{Env, OpenMode};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::filename::FileKind;
use crate::key::KeyspaceId;
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{Quarantine, VersionEdit};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use crate::sst::Table;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// A table in quarantine.
#[derive(Clone, Debug)]
pub struct QuarantinedTable {
    /// The number of the table.
    pub table: u64,
    /// Whose keys it holds.
    pub keyspace: KeyspaceId,
    /// Its level.
    pub level: usize,
    /// Its length, as the manifest has it.
    pub bytes: u64,
    /// The first user key in it.
    pub smallest: Vec<u8>,
    /// The last user key in it, or the one behind it.
    pub largest: Vec<u8>,
    /// What was found: an [`Error::Corruption`] that names file, offset and expectation.
    pub cause: Error,
}

impl fmt::Display for QuarantinedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, to) = (self.smallest.escape_ascii(), self.largest.escape_ascii());
        let QuarantinedTable { keyspace, level, cause, .. } = self;
        write!(f, "level {level}, keys \"{from}\" to \"{to}\" of keyspace {keyspace}: {cause}")
    }
}

/// Every table in quarantine.
pub(crate) fn list(dir: &Path, catalog: &Catalog) -> Vec<QuarantinedTable> {
    let listed = catalog.quarantined().map(|(level, table, quarantine)| QuarantinedTable {
        table: table.number,
        keyspace: table.keyspace,
        level,
        bytes: table.bytes,
        smallest: table.smallest_user().to_vec(),
        largest: table.largest_user().to_vec(),
        cause: cause_of(dir, quarantine),
    });
    listed.collect()
}

fn cause_of(dir: &Path, quarantine: &Quarantine) -> Error {
    let path = FileKind::Sst(quarantine.table).path(dir);
    Error::corruption(&path, quarantine.offset, quarantine.expected.clone())
}

/// Takes note of an error that a read has met: if it is damage in a table, a background task looks at the whole of it.
#[cold]
pub(crate) fn suspect(state: &State, error: &Error) {
    let Some(number) = table_of(error) else { return };
    let is_known = state.view.load().catalog.entries().iter().any(|entry| entry.version.is_quarantined(number));
    if !is_known {
        state.work.lock().suspects.insert(number);
        state.work_changed.notify_all();
    }
}

/// The table in which there is damage.
fn table_of(error: &Error) -> Option<u64> {
    let Error::Corruption(damage) = error else { return None };
    match damage.path.file_name().and_then(|name| name.to_str()).and_then(FileKind::parse) {
        Some(FileKind::Sst(number)) => Some(number),
        _ => None,
    }
}

/// A compaction has met damage. Returns whether that counts for nothing: it was in its inputs, and they are in quarantine now, or are
/// whole.
pub(crate) fn blame_inputs(state: &State, plan: &Plan, error: &Error) -> bool {
    if !error.is_corruption() {
        return false;
    }
    let inputs: Vec<u64> = plan.tables().map(|(_, table)| table.number).collect();
    match look_into(state, &inputs) {
        Ok(0) => forgive(state, &inputs, error),
        Ok(_) => true,
        Err(error) => {
            state.tell_failure("the quarantine of a damaged table", &error);
            false
        }
    }
}

/// A compaction has met damage that is in no file. It may have read a file that was replaced meanwhile and released, or another
/// place than it asked for: it is worth another try at once, but not two of them for the same table.
fn forgive(state: &State, inputs: &[u64], error: &Error) -> bool {
    let Some(table) = table_of(error).filter(|table| inputs.contains(table)) else { return false };
    state.tables.evict(table);
    let forgives = state.work.lock().forgiven.replace(table) != Some(table);
    sometimes!("a compaction meets damage that is gone", if forgives);
    forgives
}

/// Reads these tables again, and puts those in quarantine that are damaged (Q1). Returns how many.
pub(crate) fn look_into(state: &State, numbers: &[u64]) -> Result<usize> {
    let mut found = Vec::new();
    for &number in numbers {
        let catalog = state.view.load().catalog.clone();
        let listed = catalog.tables().find(|(_, table)| table.number == number);
        let Some((level, meta)) = listed.map(|(level, meta)| (level, meta.clone())) else { continue };
        drop(catalog);
        let whole = read_again(&state.env, &state.dir, level, &meta, &mut |_| state.ensure_open());
        match whole {
            Err(Error::Corruption(damage)) => found.push(Quarantine::new(number, damage.offset, &damage.expected)),
            Err(error) => return Err(error),
            Ok(()) => sometimes!("a table that was suspected is whole"),
        }
    }
    let count = found.len();
    if count > 0 {
        state.quarantine(found)?;
    }
    Ok(count)
}

/// Whether the file of a table is what the manifest says, by its name and not by what is open. The first thing that is wrong is
/// the error.
fn read_again(
    env: &Env,
    dir: &Path,
    level: usize,
    meta: &TableMeta,
    pace: &mut dyn FnMut(u64) -> Result<()>,
) -> Result<()> {
    let path = FileKind::Sst(meta.number).path(dir);
    let file = env.open(&path, OpenMode::Read).map_err(|error| match error.is_not_found() {
        true => Error::corruption(&path, 0, "the table that the manifest names, found no file"),
        false => error,
    })?;
    let table = Table::open(file, meta.number, meta.bytes, Arc::new(BlockCache::new(0)))?;
    let mut first = None;
    let summary = table.read_back(pace, &mut |damage| {
        first.get_or_insert(damage);
    })?;
    if let Some(damage) = first {
        return Err(damage);
    }
    let summary = summary.expect("there is a summary where nothing is damaged");
    compare_table(dir, level, meta, describe(meta.number, table.properties().keyspace, summary))
}

/// Ends the quarantine of every table of which the file is whole again. Returns how many that are.
pub(crate) fn release(state: &State) -> Result<usize> {
    let catalog = state.view.load().catalog.clone();
    let all: Vec<(usize, Arc<TableMeta>)> =
        catalog.quarantined().map(|(level, table, _)| (level, table.clone())).collect();
    drop(catalog);
    let mut whole = Vec::new();
    for (level, meta) in all {
        match read_again(&state.env, &state.dir, level, &meta, &mut |_| state.ensure_open()) {
            Ok(()) => whole.push(meta.number),
            Err(error) if error.is_corruption() => {}
            Err(error) => return Err(error),
        }
    }
    state.end_quarantine(whole, &[])
}

/// Takes a table out of the store for good, with all that it holds and hides.
pub(crate) fn discard(state: &State, table: u64) -> Result<()> {
    match state.end_quarantine(Vec::new(), &[table])? {
        0 => Err(Error::InvalidArgument(format!(
            "table {table} is not in quarantine: Db::quarantined lists those that are"
        ))),
        _ => Ok(()),
    }
}

impl State {
    /// Puts tables in quarantine, durably; those that are not listed any more, or are in it already, are passed over.
    fn quarantine(&self, mut found: Vec<Quarantine>) -> Result<()> {
        let versions = self.versions.lock();
        let now = versions.current().clone();
        let lists = |number: u64| {
            let of =
                |version: &crate::manifest::version::Version| version.tables().any(|(_, table)| table.number == number);
            now.entries().iter().any(|entry| of(&entry.version) && !entry.version.is_quarantined(number))
        };
        found.retain(|quarantine| lists(quarantine.table));
        drop(now);
        if found.is_empty() {
            return Ok(());
        }
        sometimes!("a damaged table comes into quarantine");
        let told = found.clone();
        self.install_under(versions, VersionEdit { quarantined: found, ..VersionEdit::default() }, None)?;
        for quarantine in told {
            let cause = cause_of(&self.dir, &quarantine).to_string();
            self.events.tell(|| Event::Quarantined { table: quarantine.table, cause });
        }
        self.report_quarantine();
        self.work_changed.notify_all();
        Ok(())
    }

    /// Releases some tables, and discards others. Returns how many there were of both.
    fn end_quarantine(&self, mut released: Vec<u64>, discarded: &[u64]) -> Result<usize> {
        let versions = self.versions.lock();
        let catalog = versions.current().clone();
        released.retain(|&number| catalog.quarantined().any(|(_, table, _)| table.number == number));
        let discards = catalog.quarantined().filter(|(_, table, _)| discarded.contains(&table.number));
        let removed: Vec<(usize, u64)> = discards.map(|(level, table, _)| (level, table.number)).collect();
        drop(catalog);
        let over: Vec<u64> = released.iter().copied().chain(removed.iter().map(|&(_, number)| number)).collect();
        if over.is_empty() {
            return Ok(0);
        }
        // A compaction that has one of them runs on.
        self.discarded.lock().extend(removed.iter().map(|&(_, number)| number));
        // What is open may be another file than the one that has its name now. It is let go of before a compaction can take the table.
        over.iter().for_each(|&table| self.tables.evict(table));
        self.install_under(versions, VersionEdit { released, removed, ..VersionEdit::default() }, None)?;
        for &table in &over {
            self.events.tell(|| Event::QuarantineEnded { table });
        }
        self.report_quarantine();
        self.work.lock().released = true;
        self.work_changed.notify_all();
        Ok(over.len())
    }

    /// Tells how the store is as far as tables are in quarantine. To be called when the view shows what has changed.
    pub(crate) fn report_quarantine(&self) {
        self.vitals.report_what(&self.events, Part::Quarantine, || {
            let catalog = self.view.load().catalog.clone();
            catalog.quarantined().next().map(|(_, _, quarantine)| cause_of(&self.dir, quarantine))
        });
    }
}
