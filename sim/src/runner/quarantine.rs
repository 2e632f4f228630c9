//! A store that goes on around what is damaged: what it has noted as damaged stays so, and is there for whoever mends it, from one
//! opening to the next. And the two ways back: the file is brought back as it was, or it is given up.

use super::{LifeEnd, Run};
use crate::invariants::{STORE_DIR, files_on_disk};
use crate::oracle::Finding;
use crate::store::{CheckReport, Store};

/// Where a whole copy of a file lies while it is read.
const COPY: &str = "copy-of-a-damaged-file";

impl Run {
    /// No power is cut before what is noted is durable: so a quarantine is for good, unless all that the file belongs to is
    /// dropped, or somebody has seen to it.
    pub(super) fn see_that_quarantine_lasts(&self, report: &CheckReport) -> Result<(), LifeEnd> {
        let forgotten = {
            let mut court = self.court.lock();
            let gone = court.quarantined.iter().find(|name| !report.quarantined.contains(name)).cloned();
            court.quarantined.extend(report.quarantined.iter().cloned());
            gone
        };
        let Some(name) = forgotten else { return Ok(()) };
        let rest = if files_on_disk(&self.world).contains(&name) { "forgotten to be so" } else { "removed" };
        let symptom = format!("{name} was in quarantine, and is {rest}");
        Err(self.fail(Finding::new("quarantine-forgotten", "", symptom)))
    }

    /// The operation `release-table`. What was whole before must be among those that are released.
    pub(super) fn release_table(&self, store: &dyn Store, nth: u8) -> Result<(), LifeEnd> {
        let Some((name, whole)) = self.choose_quarantined(store, nth)? else { return Ok(()) };
        let path = format!("{STORE_DIR}/{name}");
        self.world.with_disk(|disk| disk.put_back(&path, Some(&whole))).expect("a file that was just read");
        self.world.note(6, || format!("{name} is brought back"));
        let is_whole = |name: &str| {
            let path = format!("{STORE_DIR}/{name}");
            self.world.with_disk(|disk| {
                disk.stat(&path)
                    .is_ok_and(|file| !disk.damage().iter().any(|damage| damage.ino == file.ino && !damage.over))
            })
        };
        let all: Vec<String> = store.quarantined().into_iter().filter(|name| is_whole(name)).collect();
        self.court.lock().quarantined.retain(|name| !all.contains(name));
        let result = store.release_quarantined();
        self.heard(&result, "release", |count| *count)?;
        match result {
            Ok(count) => {
                // Another byte may have been struck meanwhile.
                let whole: Vec<&String> = all.iter().filter(|name| is_whole(name)).collect();
                if count < whole.len() as u64 {
                    let symptom = format!("{count} files were released, though all of {whole:?} are whole");
                    return Err(self.fail(Finding::new("whole-file-not-released", "", symptom)));
                }
                // Nobody gives up any more what is in use again.
                self.court.lock().giving_up.retain(|name, _| !all.contains(name));
                Ok(())
            }
            Err(_) => Ok(()),
        }
    }

    /// The operation `discard-table`. Where it fails, only the next opening tells what came of it.
    pub(super) fn discard_table(&self, store: &dyn Store, nth: u8) -> Result<(), LifeEnd> {
        let Some((name, whole)) = self.choose_quarantined(store, nth)? else { return Ok(()) };
        self.world.set_faults_enabled(false);
        let placed = self.world.with_disk(|disk| disk.put_back(COPY, Some(&whole)));
        let contents = placed.is_ok().then(|| store.contents(&name, COPY));
        self.world.with_disk(|disk| disk.put_back(COPY, None)).expect("the root is there");
        self.world.set_faults_enabled(true);
        let contents = contents.expect("there is room beside the store").map_err(|failure| {
            let symptom = format!("{name} cannot be read, though nothing in it is damaged: {}", failure.message);
            self.fail(Finding::new("unreadable-without-a-cause", "", symptom))
        })?;
        let Some(held) = contents else { return Ok(()) };
        let known: Result<Vec<_>, Finding> = {
            let oracle = self.oracle.lock();
            let of = |held: &crate::store::Held| {
                oracle.held((&held.key, held.end.as_deref()), held.seq, held.value.as_deref())
            };
            held.iter().map(of).collect()
        };
        let known = self.judge(known)?;
        {
            let mut court = self.court.lock();
            court.quarantined.remove(&name);
            court.giving_up.insert(name.clone(), known);
        }
        let result = store.discard_quarantined(&name);
        self.heard(&result, "discard", |()| 0)?;
        if result.is_ok() {
            self.see_what_was_given_up(store);
            if self.court.lock().giving_up.contains_key(&name) {
                let symptom = format!("{name} was given up, and is in quarantine still");
                return Err(self.fail(Finding::new("discard-without-effect", "", symptom)));
            }
        }
        Ok(())
    }

    /// The store is open again, and lists what was not given up when somebody tried to in its former life.
    pub(super) fn see_what_was_given_up_before(&self, store: &dyn Store) {
        self.see_what_was_given_up(store);
        self.court.lock().giving_up.clear();
    }

    /// Somebody was about to give files up: those are gone that the store does not list any more.
    fn see_what_was_given_up(&self, store: &dyn Store) {
        let mut court = self.court.lock();
        if court.giving_up.is_empty() {
            return;
        }
        let listed = store.quarantined();
        let gone: Vec<_> = court.giving_up.extract_if(.., |name, _| !listed.contains(name)).collect();
        for (name, held) in gone {
            self.world.note(held.len() as u64, || format!("{name} is gone, with {} entries", held.len()));
            court.quarantined.remove(&name);
            self.oracle.lock().give_up(&held);
        }
    }

    /// A file in quarantine, and its bytes as they were before the damage. `None` where there is none, or more was done to it than
    /// can be taken back.
    fn choose_quarantined(&self, store: &dyn Store, nth: u8) -> Result<Option<(String, Vec<u8>)>, LifeEnd> {
        let names = store.quarantined();
        if names.is_empty() {
            return Ok(None);
        }
        let name = names[usize::from(nth) % names.len()].clone();
        let path = format!("{STORE_DIR}/{name}");
        let (struck, whole) = self
            .world
            .with_disk(|disk| (disk.damage().iter().any(|damage| damage.name() == name), disk.undamaged(&path)));
        if !struck {
            let symptom = format!("{name} is in quarantine, and nothing was ever done to it");
            return Err(self.fail(Finding::new("quarantine-without-a-cause", "", symptom)));
        }
        Ok(whole.map(|whole| (name, whole)))
    }
}
