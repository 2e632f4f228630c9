//! Syncs: what they make durable, how they fail, and what they only say.
//!
//! A sync that says `Ok` and does nothing is a promise that a crash may break. The disk remembers such a promise until an
//! honest sync keeps it, so that a crash can tell whether it has really cost something: only then is anybody excused.

use super::content::Content;
use super::damage::{Damage, Harm};
use super::error::DiskError;
use super::pending::{MetaKind, MetaOp, Origin};
use super::profile::{DirSync, FileSync};
use super::report::{Fate, Thing};
use super::volume::{Disk, Ino, Node, SyncFailure, SyncScope, with_requirements};
use crate::rng::Decisions;
use std::collections::BTreeSet;
use std::sync::Arc;

/// A sync said `Ok` for what was pending then, and did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lie {
    /// The file or directory that was synced.
    pub(super) ino: Ino,
    /// Changes with a smaller id were promised.
    below: u64,
    /// Number of the call.
    call: u64,
    /// The last name that the file had then. One that was renamed since took the place of another, with all that this held.
    name: Arc<str>,
    /// The sectors were marked clean, so that none of them is pending any more.
    dropped: bool,
}

impl Disk {
    /// Makes a file durable, as far as the rules of the profile say.
    pub fn sync_file(&mut self, ino: Ino, scope: SyncScope, origin: Origin) -> Result<(), DiskError> {
        if !self.content(ino)?.pending.is_empty() {
            self.writable()?;
        }
        match self.rules.file_sync {
            FileSync::Nothing => {
                self.content(ino)?;
                self.remember_lie(ino, origin.op, false);
                return Ok(());
            }
            FileSync::Data => self.content_mut(ino)?.sync(),
            FileSync::Names => {
                self.content_mut(ino)?.sync();
                self.commit_names_of(ino);
            }
            FileSync::JournalToFile => {
                self.content_mut(ino)?.sync();
                if let Some(last) = self.meta.iter().rposition(|op| op.ino == ino) {
                    self.commit_wanted((0..self.meta.len()).map(|index| index <= last).collect());
                }
            }
            FileSync::Journal => {
                let content = self.content_mut(ino)?;
                let grown = content.len != content.synced_len || content.pending.iter().any(|record| record.is_cut());
                content.sync();
                if grown || scope == SyncScope::All || self.meta.iter().any(|op| op.ino == ino) {
                    self.commit_journal();
                }
            }
        }
        if let Some(history) = &mut self.history {
            history.synced(ino);
        }
        if !self.lies.is_empty() {
            self.lies.retain(|lie| lie.ino != ino || lie.dropped);
        }
        Ok(())
    }

    /// Makes the names in a directory durable, as far as the rules of the profile say.
    pub fn sync_dir(&mut self, path: &str, origin: Origin) -> Result<(), DiskError> {
        let dir = self.walk(path)?;
        self.dir(dir)?;
        if !self.meta.is_empty() {
            self.writable()?;
        }
        match self.rules.dir_sync {
            DirSync::Nothing => self.remember_lie(dir, origin.op, false),
            DirSync::NoCall => {}
            DirSync::Dir => self.commit_dir(dir),
            DirSync::Journal => self.commit_journal(),
        }
        Ok(())
    }

    /// The sync of a directory says `Ok` and does nothing.
    pub fn lose_sync_dir(&mut self, path: &str, origin: Origin) -> Result<(), DiskError> {
        let dir = self.walk(path)?;
        self.dir(dir)?;
        self.note_broken(dir, "said Ok and did nothing", origin);
        self.remember_lie(dir, origin.op, false);
        Ok(())
    }

    /// The names of a file, and of the new directories above it, become durable.
    fn commit_names_of(&mut self, ino: Ino) {
        if self.meta.is_empty() {
            return;
        }
        let mut line = BTreeSet::from([ino]);
        let mut above = self.slots[ino.0 as usize].parent;
        while line.insert(above) {
            above = self.slots[above.0 as usize].parent;
        }
        let wanted = self.meta.iter().map(|op| line.contains(&op.ino)).collect();
        self.commit_wanted(wanted);
    }

    pub(super) fn commit_journal(&mut self) {
        let mut done = std::mem::take(&mut self.meta);
        self.commit(&done);
        done.clear();
        if self.meta.is_empty() {
            self.meta = done;
        }
    }

    /// The changes in this directory, and with them the earlier ones of the same names elsewhere, become durable.
    fn commit_dir(&mut self, dir: Ino) {
        if self.meta.iter().all(|op| op.touches(dir)) {
            return self.commit_journal();
        }
        let wanted: Vec<bool> = self.meta.iter().map(|op| op.touches(dir)).collect();
        self.commit_wanted(wanted);
    }

    /// These changes of names, and the earlier ones that they rest on, become durable. Returns how many there were.
    pub(super) fn commit_wanted(&mut self, wanted: Vec<bool>) -> usize {
        let flags = with_requirements(&self.meta, wanted);
        let mut done = Vec::new();
        let mut rest = Vec::new();
        for (op, durable) in std::mem::take(&mut self.meta).into_iter().zip(flags) {
            if durable { done.push(op) } else { rest.push(op) }
        }
        self.meta = rest;
        self.commit(&done);
        done.len()
    }

    /// These changes of names, which are pending no longer, are durable.
    fn commit(&mut self, done: &[MetaOp]) {
        for op in done {
            let Node::File(content) = &mut self.slots[op.ino.0 as usize].node else { continue };
            match op.kind {
                MetaKind::Cut { id } => Arc::make_mut(content).commit_cut(id),
                MetaKind::Rename { flush_below, .. } if flush_below > 0 => {
                    Arc::make_mut(content).sync_below(flush_below)
                }
                _ => {}
            }
        }
        for op in done {
            op.inodes().for_each(|ino| self.forget(ino));
            op.entries().into_iter().flatten().for_each(|entry| self.forget(entry.dir));
        }
    }

    /// Makes the sync of a file fail. Whoever has the file open is told so by [`Disk::report_error`], or, where the failure is
    /// one that comes to light late, by the one after the next sync.
    pub fn fail_sync(&mut self, ino: Ino, how: SyncFailure, decisions: &mut Decisions, origin: Origin) {
        let Ok(content) = self.content(ino) else { return };
        let words = match how {
            SyncFailure::KeepDirty => "failed, everything stays pending",
            SyncFailure::CleanRevertOld => {
                let durable = content.durable();
                let (before, after) = (content.pages.taken(), durable.pages.taken());
                let lost: Vec<u64> = content.pending.iter().map(|record| record.id).collect();
                if let Some(lie) = self.broken_promise(ino, &lost, content).cloned() {
                    self.enter_broken_promise(&lie, false);
                }
                // What was promised and is durable needs no promise any more, and the rest is broken.
                self.lies.retain(|lie| lie.ino != ino);
                self.slots[ino.0 as usize].node = Node::File(Arc::new(durable));
                self.used_pages = self.used_pages - before + after;
                "failed, and the file went back to what was durable"
            }
            SyncFailure::CleanKeepNew => {
                self.drop_pending(ino, decisions);
                "failed, and what it did not write is marked clean"
            }
            SyncFailure::LateReport => {
                self.drop_pending(ino, decisions);
                self.remember_lie(ino, origin.op, true);
                "said Ok, and lost what it did not write; the next one is to say so"
            }
            SyncFailure::RemountReadOnly => {
                self.read_only = true;
                "failed, and the file system can only be read since"
            }
        };
        let slot = &mut self.slots[ino.0 as usize];
        slot.errors += 1;
        slot.error_seen = false;
        slot.error_lost_data = !matches!(how, SyncFailure::KeepDirty | SyncFailure::RemountReadOnly);
        self.note_broken(ino, words, origin);
    }

    /// Which errors of a file a new handle has seen: all but one that nobody was told of yet, as Linux has it.
    pub fn errors_seen(&self, ino: Ino) -> u32 {
        let slot = &self.slots[ino.0 as usize];
        slot.errors - u32::from(slot.errors > 0 && !slot.error_seen)
    }

    /// Whether a sync on a handle must report an error that this handle has not seen. Each handle is told once.
    pub fn report_error(&mut self, ino: Ino, seen: &mut u32) -> bool {
        let slot = &mut self.slots[ino.0 as usize];
        if *seen == slot.errors {
            return false;
        }
        *seen = slot.errors;
        slot.error_seen = true;
        true
    }

    /// Whether the last failed sync of a file has lost data.
    pub fn last_error_lost_data(&self, ino: Ino) -> bool {
        self.slots[ino.0 as usize].error_lost_data
    }

    /// Some sectors of what is pending are marked clean and not written, the others are written.
    fn drop_pending(&mut self, ino: Ino, decisions: &mut Decisions) {
        let lose = decisions.site("sync.lose");
        let Ok(content) = self.content_mut(ino) else { return };
        // The answer 0 keeps a sector; with no sector lost this would be no failure at all, so that the newest one always is.
        let touched = content.touched();
        let last = touched.last().copied();
        let kept = |sector: &u64| Some(*sector) == last || decisions.decide(lose, 2) == 1;
        let lost: BTreeSet<u64> = touched.into_iter().filter(kept).collect();
        let with_len = decisions.decide(lose, 2) == 0;
        content.drop_sectors(&lost, with_len);
        // What an earlier sync had promised is not pending any more: it is gone once the cache is.
        self.lies.iter_mut().filter(|lie| lie.ino == ino).for_each(|lie| lie.dropped = true);
    }

    /// A sync says `Ok` and does nothing. What was pending stays pending.
    pub fn lose_sync(&mut self, ino: Ino, origin: Origin) {
        self.note_broken(ino, "said Ok and did nothing", origin);
        self.remember_lie(ino, origin.op, false);
    }

    fn note_broken(&mut self, ino: Ino, how: &'static str, origin: Origin) {
        let thing = Thing::BrokenSync { path: self.path_of(ino), how };
        self.broken_syncs.push(Fate { thing, origin: Some(origin) });
    }

    fn remember_lie(&mut self, ino: Ino, call: u64, dropped: bool) {
        let pending = match &self.slots[ino.0 as usize].node {
            Node::File(content) => dropped || !content.pending.is_empty(),
            _ => self.meta.iter().any(|op| op.touches(ino)),
        };
        if pending {
            let name = self.slots[ino.0 as usize].name.clone();
            self.lies.push(Lie { ino, below: self.next_id, call, name, dropped });
        }
    }

    /// The first promise of a change that was lost, by its id.
    fn first_promise(&self, ino: Ino, lost: &mut dyn Iterator<Item = u64>) -> Option<&Lie> {
        let lies: Vec<&Lie> = self.lies.iter().filter(|lie| lie.ino == ino).collect();
        let promised = |id: u64| lies.get(lies.partition_point(|lie| lie.below <= id)).copied();
        lost.filter_map(promised).min_by_key(|lie| lie.call)
    }

    /// Enters into `image` the promises about a file that it breaks: `lost` are the pending changes that it has not got.
    pub(super) fn break_promises(&self, ino: Ino, lost: &[u64], content: &Content, image: &mut Disk) {
        if let Some(lie) = self.broken_promise(ino, lost, content) {
            image.enter_broken_promise(lie, false);
        }
    }

    /// The first promise about a file that is broken where these pending changes of it are lost, and what was marked clean and
    /// not written.
    fn broken_promise(&self, ino: Ino, lost: &[u64], content: &Content) -> Option<&Lie> {
        let has_dropped = !content.dropped.is_empty() || content.synced_len < content.len;
        let dropped = self.lies.iter().find(|lie| has_dropped && lie.ino == ino && lie.dropped);
        let pending = self.first_promise(ino, &mut lost.iter().copied());
        dropped.into_iter().chain(pending).min_by_key(|lie| lie.call)
    }

    /// Enters into `image` the promises about names that it breaks; `kept` says of each pending change whether it has it.
    pub(super) fn break_name_promises(&self, kept: &[bool], image: &mut Disk) {
        let is_dir = |ino: &Ino| !matches!(self.slots[ino.0 as usize].node, Node::File(_));
        let dirs: BTreeSet<Ino> = self.lies.iter().map(|lie| lie.ino).filter(is_dir).collect();
        for dir in dirs {
            let ops = self.meta.iter().zip(kept).filter(|(op, kept)| !**kept && op.touches(dir));
            if let Some(lie) = self.first_promise(dir, &mut ops.map(|(op, _)| op.id)) {
                image.enter_broken_promise(lie, true);
            }
        }
    }

    fn enter_broken_promise(&mut self, lie: &Lie, of_names: bool) {
        let Lie { ino, call, .. } = *lie;
        let replaced = self.slots[ino.0 as usize].name != lie.name;
        let forgives = Some(if of_names || replaced { 0 } else { call });
        let (path, harm) = (self.path_of(ino), Harm::BrokenPromise { of_names });
        self.damage.push(Damage { ino, path, bytes: 0..u64::MAX, harm, call, forgives, over: false, met: false });
    }

    /// Clean pages of a file leave the cache, so that reads show what a failed sync did not write. Returns how many
    /// sectors changed their content.
    pub fn evict(&mut self, ino: Ino) -> Result<usize, DiskError> {
        if self.content(ino)?.dropped.is_empty() {
            return Ok(0);
        }
        let changed = self.content_mut(ino)?.evict();
        if changed > 0
            && let Some(index) = self.lies.iter().position(|lie| lie.ino == ino && lie.dropped)
        {
            let lie = self.lies.remove(index);
            self.enter_broken_promise(&lie, false);
        }
        Ok(changed)
    }
}
