//! Keyspaces of an open store: how they come, get other options, and go.
//!
//! All three are one edit of the manifest, made under the commit lock, where nobody writes. A keyspace is durable when its creation
//! returns, and before it takes an entry.
//!
//! K1. A drop has a sequence number like a write, and makes every write before it durable. So what a power cut leaves is never a
//!     store that lacks the keyspace and an older write elsewhere.
//! K2. After a drop whose edit failed it is unknown which list of keyspaces a crash would bring. No write is acknowledged then
//!     before a new manifest says that the keyspace is there: one to the keyspace could vanish with it. The store goes the way
//!     that it goes after a failed write of the log.
//! K3. Where logs are archived, each of the three begins a new log, by the same edit: a log for an archive says which keyspaces there
//!     are, and that has to be true of all in it. A drop is the first thing that belongs to its new log.
//! K4. What a snapshot may show of a dropped keyspace is kept aside before readers see it go.

use crate::compaction::picker;
use crate::db::state::{Commit, Dropped, State};
use crate::db::write;
use crate::error::{Error, Result};
use crate::event::{Event, LevelShape};
use crate::key::{KEYSPACE_DEFAULT, KEYSPACE_DEFAULT_NAME, KEYSPACES_MAX, KeyspaceId, SEQNO_MAX, SeqNo};
use crate::manifest::catalog::CatalogEntry;
use crate::manifest::edit::{KeyspaceSet, TableMeta, VersionEdit, check_keyspace_name};
use crate::mark::sometimes;
use crate::options::KeyspaceOptions;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock};

/// Names a keyspace of a store: cheap to copy, good for as long as the keyspace is there, also after the store was opened again.
/// Belongs to the store that it came from; in another one its number may be that of another keyspace.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Keyspace {
    id: KeyspaceId,
    name: Arc<str>,
}

impl Keyspace {
    /// Its number, which no other keyspace of the store ever has.
    pub fn id(&self) -> KeyspaceId {
        self.id
    }

    /// Its name. Another one may get it once this keyspace was dropped.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The error where it does not exist.
    pub(crate) fn missing(&self) -> Error {
        Error::NoSuchKeyspace { keyspace: format!("{:?} (number {})", self.name, self.id) }
    }
}

impl Default for Keyspace {
    /// The one that every store has.
    fn default() -> Keyspace {
        static NAME: LazyLock<Arc<str>> = LazyLock::new(|| KEYSPACE_DEFAULT_NAME.into());
        Keyspace { id: KEYSPACE_DEFAULT, name: NAME.clone() }
    }
}

impl From<&Keyspace> for KeyspaceId {
    fn from(keyspace: &Keyspace) -> KeyspaceId {
        keyspace.id
    }
}

impl From<&CatalogEntry> for Keyspace {
    fn from(entry: &CatalogEntry) -> Keyspace {
        Keyspace { id: entry.id, name: entry.name.clone() }
    }
}

/// Numbers about one keyspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceStats {
    /// Tables and bytes of each of its levels.
    pub levels: Vec<LevelShape>,
    /// Bytes of its entries in memory, those that wait for a flush among them.
    pub memory_bytes: u64,
    /// Levels that hold more than they should.
    pub compaction_debt: usize,
}

/// What there is of a keyspace now.
pub(crate) fn stats(state: &State, keyspace: &Keyspace) -> Result<KeyspaceStats> {
    let view = state.view.load();
    let entry = view.keyspace(keyspace.id).map_err(|_| keyspace.missing())?;
    let shape = |tables: &Vec<Arc<TableMeta>>| LevelShape {
        tables: tables.len(),
        bytes: tables.iter().map(|table| table.bytes).sum(),
    };
    Ok(KeyspaceStats {
        levels: entry.version.levels.iter().map(shape).collect(),
        memory_bytes: view.memtables(keyspace.id).map(|memtable| memtable.bytes()).sum(),
        compaction_debt: picker::debt(&entry.version, &entry.options),
    })
}

/// Refuses a merge operator that is not at hand.
fn see_that_operator_is_known(state: &State, options: &KeyspaceOptions) -> Result<()> {
    match &options.merge_operator {
        Some(name) if state.options.merge_operators.named(name).is_none() => {
            let what = format!("the merge operator {name:?} is not at hand: add it to Options::merge_operators");
            Err(Error::InvalidArgument(what))
        }
        _ => Ok(()),
    }
}

/// Creates a keyspace, durably.
pub(crate) fn create(state: &State, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
    check_keyspace_name(name).map_err(Error::InvalidArgument)?;
    options.validate()?;
    see_that_operator_is_known(state, &options)?;
    let mut commit = state.commit.lock();
    write::refuse_if_failed(state, &commit)?;
    let catalog = state.view.load().catalog.clone();
    if catalog.named(name).is_some() {
        return Err(Error::InvalidArgument(format!("the store has a keyspace with the name {name:?} already")));
    }
    if catalog.entries().len() > KEYSPACES_MAX {
        let what = format!("the store has {KEYSPACES_MAX} keyspaces beside the default one, and can have no more");
        return Err(Error::InvalidArgument(what));
    }
    // A number that was given to an attempt that failed may be in the manifest, so each attempt has another.
    let id = state.versions.lock().new_keyspace_id();
    let set = KeyspaceSet { id, name: name.into(), options };
    set_one(state, &mut commit, set)?;
    drop(commit);
    state.events.tell(|| Event::KeyspaceCreated { keyspace: id, name: name.into() });
    Ok(Keyspace { id, name: name.into() })
}

/// Makes a keyspace, or its options, durable.
fn set_one(state: &State, commit: &mut Commit, set: KeyspaceSet) -> Result<()> {
    let edit = VersionEdit { keyspaces_set: vec![set], ..VersionEdit::default() };
    if state.archives() {
        let next_seqno = commit.next_seqno;
        return write::rotate_with(state, commit, edit, next_seqno);
    }
    state.install(edit, None)
}

/// Gives a keyspace other options, durably.
pub(crate) fn set_options(state: &State, keyspace: &Keyspace, options: KeyspaceOptions) -> Result<()> {
    refuse_default(keyspace)?;
    options.validate()?;
    see_that_operator_is_known(state, &options)?;
    let mut commit = state.commit.lock();
    write::refuse_if_failed(state, &commit)?;
    let view = state.view.load();
    let had = &view.keyspace(keyspace.id).map_err(|_| keyspace.missing())?.own.merge_operator;
    if let Some(had) = had.as_ref().filter(|&had| Some(had) != options.merge_operator.as_ref()) {
        let what =
            format!("keyspace {:?} keeps its merge operator {had:?}, for which operands were written", keyspace.name);
        return Err(Error::InvalidArgument(what));
    }
    drop(view);
    let set = KeyspaceSet { id: keyspace.id, name: keyspace.name.to_string(), options };
    set_one(state, &mut commit, set)?;
    drop(commit);
    // Levels may ask for a compaction now that did not before.
    let _work = state.work.lock();
    state.work_changed.notify_all();
    Ok(())
}

/// Drops a keyspace and all that is in it, durably, and returns the number that the drop has among the writes.
pub(crate) fn drop_keyspace(state: &State, keyspace: &Keyspace) -> Result<SeqNo> {
    refuse_default(keyspace)?;
    let mut commit = state.commit.lock();
    write::refuse_if_failed(state, &commit)?;
    let view = state.view.load_full();
    view.keyspace(keyspace.id).map_err(|_| keyspace.missing())?;
    if commit.next_seqno >= SEQNO_MAX {
        return Err(Error::InvalidArgument("the store has used up its 2^56 sequence numbers".into()));
    }
    write::sync_wal(state, &mut commit)?;
    let seqno = commit.next_seqno;
    commit.next_seqno += 1;
    state.events.tell(|| Event::KeyspaceDropping { keyspace: keyspace.id, seqno });

    let kept = Dropped { keyspace: keyspace.id, seqno, view: Arc::new(view.only(keyspace.id)) };
    let ends_quarantine = !view.keyspace(keyspace.id)?.version.quarantined.is_empty();
    // Who holds it holds the files that are to go. Before the view goes that holds them now: a compaction may have replaced some
    // of them since.
    state.versions.lock().hold(&kept.view.catalog);
    drop(view);
    state.snapshots.lock().dropped.push(kept);
    state.env.yield_point("drop of a keyspace: log synced, edit not yet durable");
    let edit = VersionEdit { keyspaces_dropped: vec![keyspace.id], last_seqno: Some(seqno), ..VersionEdit::default() };
    let installed =
        if state.archives() { write::rotate_with(state, &mut commit, edit, seqno) } else { state.install(edit, None) };
    if let Err(error) = installed {
        sometimes!("the drop of a keyspace fails");
        state.snapshots.lock().dropped.retain(|dropped| dropped.seqno != seqno);
        // A rotation that failed has done this itself.
        if commit.wal.is_some() {
            write::abandon_wal(state, &mut commit, &error);
        }
        return Err(error);
    }
    state.visible.store(seqno, Ordering::Release);
    drop(commit);
    if ends_quarantine {
        sometimes!("a keyspace is dropped with a table in quarantine");
        state.report_quarantine();
    }
    state.forget_dropped();
    let mut work = state.work.lock();
    work.cursors.remove(&keyspace.id);
    // Its files may be removed now.
    work.released = true;
    state.work_changed.notify_all();
    Ok(seqno)
}

fn refuse_default(keyspace: &Keyspace) -> Result<()> {
    if keyspace.id != KEYSPACE_DEFAULT {
        return Ok(());
    }
    let what = "the default keyspace is part of every store, and has the options of the store";
    Err(Error::InvalidArgument(what.into()))
}
