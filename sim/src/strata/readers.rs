//! Handles that only read, opened beside the store as by other processes, one for each client.
//!
//! They have the world of the store but for what could change a file or take a lock: that is refused, and remembered as a fault of
//! theirs. And they show what they have shown until they are brought up to date, whatever becomes of the files meanwhile.

use super::keyspaces::{Keyspaces, name};
use super::{DIR, Entries, StrataStore, failure};
use crate::env::{Crimes, strata_env_to_read};
use crate::op::outlives;
use crate::store::{Failure, FailureKind, ScanResult};
use crate::world::World;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use strata::db::{Db, Range, ReadOnlyDb};
use strata::key::KEYSPACE_DEFAULT_NAME;
use strata::options::Options;

/// The handles of all clients.
#[derive(Default)]
pub(super) struct Readers {
    by_client: Mutex<BTreeMap<u32, Arc<Shown>>>,
}

/// A handle and what it has shown.
struct Shown {
    db: ReadOnlyDb,
    /// `None` where the last walk came to nothing.
    entries: Mutex<Option<Entries>>,
    crimes: Crimes,
}

impl Readers {
    /// What [`crate::store::Store::look`] asks for.
    pub(super) fn look(
        &self,
        (world, dir, options): (&World, &Path, &Options),
        keyspaces: &Keyspaces,
        client: u32,
        anew: bool,
    ) -> Result<ScanResult, Failure> {
        let known = self.by_client.lock().get(&client).cloned();
        let shown = match known {
            Some(shown) if !anew => {
                shown.see_that_it_is_unmoved(keyspaces)?;
                shown.db.refresh().map_err(failure)?;
                shown
            }
            before => {
                drop(before);
                let crimes = Crimes::default();
                let env = strata_env_to_read(world, DIR, &crimes);
                // The logs may hold more than the budget of the writer, which would be no reader's fault.
                let options = Options { memory_bytes: 0, ..options.clone() };
                let opened = Db::open_read_only_with(&env, dir, options);
                judge(&crimes)?;
                let shown = Arc::new(Shown { db: opened.map_err(failure)?, entries: Mutex::default(), crimes });
                let before = self.by_client.lock().insert(client, shown.clone());
                drop(before);
                shown
            }
        };
        let entries = shown.walk(keyspaces)?;
        judge(&shown.crimes)?;
        *shown.entries.lock() = Some(entries.clone());
        Ok(ScanResult { at: Some(shown.db.seqno()), entries })
    }

    /// Lets go of all.
    pub(super) fn close(&self) {
        let all = std::mem::take(&mut *self.by_client.lock());
        drop(all);
    }
}

impl Shown {
    fn walk(&self, keyspaces: &Keyspaces) -> Result<Entries, Failure> {
        // One moment for all of them: what expires while they are walked through has expired for none or for all.
        let (mut all, snapshot) = (Vec::new(), self.db.snapshot());
        for (number, ..) in keyspaces.parts(Bound::Unbounded, Bound::Unbounded) {
            let keyspace = match number {
                0 => self.db.keyspace(KEYSPACE_DEFAULT_NAME),
                other => self.db.keyspace(&name(other)),
            };
            let Some(keyspace) = keyspace else { continue };
            let iter = self.db.iter_in_at(&keyspace, &snapshot, Range::all()).map_err(failure)?;
            let entries = StrataStore::walk(iter, false, usize::MAX)?;
            if let Some((key, value)) = entries.last() {
                let found = self.db.get_in(&keyspace, key).map_err(failure)?;
                // It may have expired since.
                if found.is_some_and(|found| found != value.as_slice() && !outlives(value, &found)) {
                    return other(format!("a get of {} shows another value than the scan", key.escape_ascii()));
                }
            }
            all.extend(entries.into_iter().map(|(key, value)| (keyspaces.join(number, &key), value)));
        }
        Ok(all)
    }

    /// Values may have expired since it was last looked at; nothing else may have changed.
    fn see_that_it_is_unmoved(&self, keyspaces: &Keyspaces) -> Result<(), Failure> {
        let Some(before) = self.entries.lock().take() else { return Ok(()) };
        let now = self.walk(keyspaces)?;
        judge(&self.crimes)?;
        let was = |(key, value): &(Vec<u8>, Vec<u8>)| {
            let at = before.binary_search_by(|(other, _)| other.cmp(key));
            at.is_ok_and(|at| before[at].1 == *value || outlives(&before[at].1, value))
        };
        match now.iter().find(|entry| !was(entry)) {
            None => Ok(()),
            Some((key, _)) => {
                other(format!("{} has changed in a handle that was not brought up to date", key.escape_ascii()))
            }
        }
    }
}

fn other<T>(message: String) -> Result<T, Failure> {
    Err(Failure { kind: FailureKind::Other, message, file: None })
}

/// Whether nothing was done that was not to be done.
pub(super) fn judge(crimes: &Crimes) -> Result<(), Failure> {
    match crimes.lock().first() {
        None => Ok(()),
        Some(crime) => other(format!("one who only reads {crime}")),
    }
}
