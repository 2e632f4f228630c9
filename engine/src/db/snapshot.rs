//! A moment that reads can go back to.

use crate::compaction::readers::Reader;
use crate::db::iter::{DbIter, Range};
use crate::db::keyspace::Keyspace;
use crate::db::state::State;
use crate::env::Env;
use crate::error::Result;
use crate::key::{KeyspaceId, SeqNo};
use crate::manifest::catalog::CatalogEntry;
use crate::operator::MergeOperator;
use crate::options::KeyspaceOptions;
use crate::record::Uuid;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A consistent picture of the whole store at one moment, unmoved by later writes, flushes and compactions, by keyspaces that are
/// dropped, and by time: what had not expired when it was taken has not expired in it. It keeps old
/// versions of keys from being dropped, so let go of it: dropping it releases it. Ends with the handle that it came from:
/// after a reopen there are no snapshots.
pub struct Snapshot {
    state: Arc<State>,
    at: Reader,
    /// Every keyspace that it shows has a smaller number.
    keyspaces_end: KeyspaceId,
}

impl Snapshot {
    pub(crate) fn take(state: &Arc<State>) -> Snapshot {
        let mut list = state.snapshots.lock();
        // Read under the lock: a merge that lists the snapshots before this one has only inputs that are older than it.
        let seqno = state.newest_seqno();
        state.env.yield_point("snapshot: seqno read, not yet listed");
        let at = Reader { seqno, now_ms: state.now_ms() };
        *list.holders.entry(at).or_insert(0) += 1;
        drop(list);
        let keyspaces_end = state.view.load().catalog.next_id();
        Snapshot { state: state.clone(), at, keyspaces_end }
    }

    /// The newest write that the snapshot shows.
    pub fn seqno(&self) -> SeqNo {
        self.at.seqno
    }

    /// The store's time when it was taken, in milliseconds since the Unix epoch.
    pub fn time_ms(&self) -> u64 {
        self.at.now_ms
    }

    /// The keyspaces that it shows, the default one first, the others in the order in which they were created: those that there were,
    /// also where they were dropped since, with the options that they have now, or had when they were dropped. The default one has
    /// the options of the store, and so none of its own. One that is created while the snapshot is taken may be among them, empty.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// # let db = strata::db::Db::open(dir.path().join("store"))?;
    /// let people = db.create_keyspace("people", Default::default())?;
    /// let before = db.snapshot();
    /// db.drop_keyspace(&people)?;
    /// db.create_keyspace("pets", Default::default())?;
    /// let names: Vec<String> = before.keyspaces()?.iter().map(|(keyspace, _)| keyspace.name().to_string()).collect();
    /// assert_eq!(names, ["default", "people"]);
    /// # Ok::<(), strata::error::Error>(())
    /// ```
    pub fn keyspaces(&self) -> Result<Vec<(Keyspace, KeyspaceOptions)>> {
        self.state.ensure_open()?;
        // The view first: what is dropped after that is found in it, and what was dropped before it among the dropped ones.
        let view = self.state.view.load_full();
        let mut shown: BTreeMap<KeyspaceId, (Keyspace, KeyspaceOptions)> = BTreeMap::new();
        let mut add = |entry: &CatalogEntry| {
            if entry.id < self.keyspaces_end {
                shown.insert(entry.id, (Keyspace::from(entry), entry.own.clone()));
            }
        };
        view.catalog.entries().iter().for_each(&mut add);
        for dropped in &self.state.snapshots.lock().dropped {
            if self.at.seqno < dropped.seqno {
                dropped.view.catalog.get(dropped.keyspace).into_iter().for_each(&mut add);
            }
        }
        // Of two with one name the first was there, and was dropped before the other came.
        let mut keyspaces: Vec<(Keyspace, KeyspaceOptions)> = Vec::new();
        for (keyspace, own) in shown.into_values() {
            if keyspaces.iter().all(|(known, _)| known.name() != keyspace.name()) {
                keyspaces.push((keyspace, own));
            }
        }
        Ok(keyspaces)
    }

    /// The name of the merge operator of the default keyspace, if it has one.
    pub(crate) fn merge_operator(&self) -> Option<String> {
        self.state.view.load().catalog.merge_operator().map(str::to_string)
    }

    /// The merge operator of a keyspace, if it has one; also of one that was dropped since.
    pub(crate) fn operator_of(&self, keyspace: &Keyspace) -> Result<Option<Arc<dyn MergeOperator>>> {
        let view = self.state.view_at(keyspace.id(), self.at.seqno)?;
        view.keyspace(keyspace.id()).map(|entry| entry.options.operator().cloned())
    }

    /// What [`Db::iter_in_at`](crate::db::Db::iter_in_at) gives, also of a store that is only read.
    pub(crate) fn iter_in(&self, keyspace: &Keyspace, range: Range) -> Result<DbIter> {
        self.state.ensure_open()?;
        let view = self.state.view_at(keyspace.id(), self.at.seqno)?;
        DbIter::new(&self.state, view, keyspace.id(), self.at, range)
    }

    /// The identity of the store that it was taken of.
    pub(crate) fn uuid(&self) -> Uuid {
        self.state.store
    }

    /// The world that the store lives in.
    pub(crate) fn env(&self) -> &Env {
        &self.state.env
    }

    pub(crate) fn at(&self) -> Reader {
        self.at
    }

    /// Whether it was taken from this store handle.
    pub(crate) fn belongs_to(&self, state: &Arc<State>) -> bool {
        Arc::ptr_eq(&self.state, state)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        let mut list = self.state.snapshots.lock();
        let holders = list.holders.get_mut(&self.at).expect("a snapshot is listed as long as it lives");
        *holders -= 1;
        if *holders == 0 {
            list.holders.remove(&self.at);
        }
        let holds_dropped = !list.dropped.is_empty();
        drop(list);
        if holds_dropped {
            self.state.forget_dropped();
        }
        if self.state.sweep_waits.swap(false, Ordering::AcqRel) {
            let _work = self.state.work.lock();
            self.state.work_changed.notify_all();
        }
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({})", self.at.seqno)
    }
}
