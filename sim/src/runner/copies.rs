//! Copies of the store: checkpoints, backups and exports that clients have made, and what must be seen in them later.
//!
//! A backup is looked at by way of a restored store, and an export by way of an imported one. Imports are made while faults strike
//! as well: one that did not come to its end may be no store, and if it is one it is whole. Each client has a directory of backups
//! of its own, and keeps the newest few. A copy is to show the model at the sequence number that the store told, which lies between the call and its return, and it
//! survives whatever comes after the return. It is looked at once: after the next crash, or in the end. By then the model of
//! the store has gone on, or back, so each life leaves the copies that were made in it the oracle as it was when it ended.
//! Where the store archives its logs, clients restore their backups to points behind them, which is judged like an import; and
//! after each crash backups are restored to points behind them as well, those of the life in which they were made,
//! and nothing may be missing in the archive but for faults that explain it.
//! A restored store must survive what comes after its restoration as well: every other one is left alone until the crash after.

use super::{LifeEnd, Run, without_a_cause};
use crate::fault::FaultKind;
use crate::op::Bounds;
use crate::oracle::{Finding, Label, Oracle, ReadTicket, Restart, SnapshotMark};
use crate::store::{Failure, ScanResult, Store};
use parking_lot::Mutex;
use std::ops::Bound;
use std::sync::Arc;

/// Backups that a client keeps.
const BACKUPS_KEPT: u64 = 3;

/// Where a copy is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// It is this directory: a checkpoint, or what was restored.
    Store(String),
    /// It is the one of this number in this directory of the client, and was this attempt of the client to make one.
    Backup { dir: String, number: u64, attempt: u64 },
    /// It is in this file.
    Export(String),
    /// It was, or was to be, made in this directory of what was exported.
    Import { dir: String, is_done: bool },
    /// It was, or was to be, made in this directory for a point behind a backup; and the point that was reached.
    Point { dir: String, seqno: u64, reached: Option<u64> },
}

impl Place {
    /// Whether who was to make it was told that it is there. A copy is known of only then, unless it is made beside all that goes on.
    fn is_done(&self) -> bool {
        match self {
            Place::Import { is_done, .. } => *is_done,
            Place::Point { reached, .. } => reached.is_some(),
            _ => true,
        }
    }
}

/// A copy that was acknowledged, or an import or a restoration to a point that was begun.
pub(super) struct StoreCopy {
    place: Place,
    /// Who made it.
    label: Label,
    /// What it must show, or the backup behind which its point lies.
    mark: SnapshotMark,
    /// Who judges that: the oracle at the end of the life in which it was made. `None` while that lasts.
    judge: Option<Arc<Mutex<Oracle>>>,
}

/// All that an open store shows, if it is whole. The store is closed whatever came of it, for its tasks must end.
fn whole(store: &dyn Store) -> Result<ScanResult, Failure> {
    let all = store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX);
    let checked = store.check();
    let closed = store.close();
    all.and_then(|all| checked.and(closed).map(|()| all))
}

/// Whether an open copy shows what it must.
fn judge_copy(judge: &mut Oracle, mark: SnapshotMark, read: ReadTicket, all: &ScanResult) -> Result<(), Finding> {
    let mark = judge.reopened(mark, read);
    judge.end_scan_at(read, mark, (Bounds::ALL, false, usize::MAX), &all.entries)
}

/// Whether what was restored to a point shows the model as it was then, and, where the restoration came to its end, whether that is the
/// point which it reached.
fn judge_point(
    judge: &mut Oracle,
    backup: SnapshotMark,
    (seqno, reached): (u64, Option<u64>),
    read: ReadTicket,
    all: &ScanResult,
) -> Result<(), Finding> {
    // A batch is never split. The numbers of one that failed are those of nothing.
    let (whole_up_to, cuts_a_write) = judge.whole_up_to(seqno);
    judge_copy(judge, judge.mark_at(backup, whole_up_to), read, all)?;
    match reached {
        Some(reached) if reached != whole_up_to && (cuts_a_write || reached != seqno) => {
            let symptom = format!("a restoration to sequence number {seqno} came to {reached}");
            Err(Finding::new("another-point", "", symptom))
        }
        _ => Ok(()),
    }
}

/// Whether a fault of this kind leaves every log as it was, as far as somebody was promised that it is there.
fn leaves_logs_whole(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::PowerLoss | FaultKind::ProcessCrash | FaultKind::TornWrite | FaultKind::SlowIo)
}

impl Run {
    /// The operation `checkpoint`.
    pub(super) fn checkpoint(&self, store: &dyn Store, label: Label) -> Result<(), LifeEnd> {
        let dir = format!("checkpoint-{}-{}", label.client, label.op);
        // Taken out again when the call returns: what is left here was cut short by a crash.
        self.court.lock().unfinished_copies.insert(dir.clone());
        self.copy(label, "checkpoint", || {
            let made = store.checkpoint(&dir);
            if !self.crashed() {
                self.court.lock().unfinished_copies.remove(&dir);
            }
            made.map(|at| (Place::Store(dir.clone()), at))
        })
    }

    /// The operation `backup`.
    pub(super) fn backup(&self, store: &dyn Store, label: Label) -> Result<(), LifeEnd> {
        let (dir, attempt) = {
            let mut court = self.court.lock();
            let dir = match court.stores_lost {
                0 => format!("backups-{}", label.client),
                lost => format!("backups-{}-{lost}", label.client),
            };
            let attempts = court.backups_tried.entry(label.client).or_insert(0);
            *attempts += 1;
            let newest = *attempts;
            // Those that the call may prune are given up before: it can fail, or be cut short, before and after. Attempts that
            // failed count, for each of them may have come far enough to leave a backup.
            court.copies.retain(|copy| match copy.place {
                Place::Backup { attempt, .. } if copy.label.client == label.client => newest - attempt < BACKUPS_KEPT,
                _ => true,
            });
            (dir, newest)
        };
        self.copy(label, "backup", || {
            let (number, at) = store.backup(&dir, BACKUPS_KEPT as usize)?;
            Ok((Place::Backup { dir, number, attempt }, at))
        })
    }

    /// The operation `export`. It promises nothing of the store.
    pub(super) fn export(&self, store: &dyn Store, label: Label) -> Result<(), LifeEnd> {
        let file = format!("export-{}-{}", label.client, label.op);
        let (clock, read) = self.begin_read(label);
        let result = store.export(&file);
        self.heard(&result, "export", |at| at.unwrap_or(0))?;
        if let Ok(at) = result {
            let read = read.timed(self.world.timing(clock));
            let judged = self.oracle.lock().end_snapshot(read, at);
            let mark = self.judge(judged)?;
            self.court.lock().copies.push(StoreCopy { place: Place::Export(file), label, mark, judge: None });
        }
        Ok(())
    }

    /// The operation `import`.
    pub(super) fn import(&self, label: Label) -> Result<(), LifeEnd> {
        let dir = format!("imported-{}-{}", label.client, label.op);
        let file = {
            let mut court = self.court.lock();
            let exports = court.copies.iter().rev().filter(|copy| copy.label.client == label.client);
            let mut exports = exports.filter_map(|copy| match &copy.place {
                Place::Export(file) => Some((file.clone(), copy.mark, copy.judge.clone())),
                _ => None,
            });
            let Some((file, mark, judge)) = exports.next() else { return Ok(()) };
            let place = Place::Import { dir: dir.clone(), is_done: false };
            court.copies.push(StoreCopy { place, label, mark, judge });
            file
        };
        let result = self.kind.import(&self.world, &file, &dir, &self.plan.options);
        self.heard(&result, "import", |()| 0)?;
        if result.is_ok() {
            self.replace_place(
                &Place::Import { dir: dir.clone(), is_done: false },
                Place::Import { dir, is_done: true },
            );
        }
        Ok(())
    }

    /// The operation `restore-to`, beside all that goes on. It promises nothing of the store.
    pub(super) fn restore_to(&self, label: Label) -> Result<(), LifeEnd> {
        let Some(archive) = self.kind.archive(&self.plan.options) else { return Ok(()) };
        // Those of this life: a crash may have taken some of the numbers back that were given out behind older ones.
        let newest = self.court.lock().copies.iter().rev().find_map(|copy| match &copy.place {
            Place::Backup { dir, number, .. } if copy.label.client == label.client && copy.judge.is_none() => {
                Some((dir.clone(), *number, copy.mark))
            }
            _ => None,
        });
        let Some((backups, number, mark)) = newest else { return Ok(()) };
        let extent = self.kind.recoverable(&self.world, &backups, number, &archive);
        self.heard(&extent, "a look at the points", |(_, last)| *last)?;
        let Ok((first, last)) = extent else { return Ok(()) };
        if last < first {
            return Ok(());
        }
        let seqno = first
            + self.world.with_decisions(|decisions| {
                let site = decisions.site("restore.point");
                decisions.decide(site, last - first + 1)
            });
        let target = format!("restored-{}-{}-to-{seqno}", label.client, label.op);
        let begun = Place::Point { dir: target.clone(), seqno, reached: None };
        self.court.lock().copies.push(StoreCopy { place: begun.clone(), label, mark, judge: None });
        let result = self.kind.restore_to(&self.world, &backups, &archive, seqno, &target);
        self.heard(&result, "a restoration to a point", |reached| *reached)?;
        if let Ok(point) = result {
            self.replace_place(&begun, Place::Point { dir: target, seqno, reached: Some(point) });
        }
        Ok(())
    }

    /// More is known of a copy of this life.
    fn replace_place(&self, known: &Place, place: Place) {
        let mut court = self.court.lock();
        let own = court.copies.iter_mut().find(|copy| copy.place == *known);
        own.expect("copies stay as long as the life in which they are made").place = place;
    }

    /// The operation `prune-archive`.
    pub(super) fn prune_archive(&self, label: Label) -> Result<(), LifeEnd> {
        let Some(archive) = self.kind.archive(&self.plan.options) else { return Ok(()) };
        let backups = self.court.lock().copies.iter().rev().find_map(|copy| match &copy.place {
            Place::Backup { dir, .. } if copy.label.client == label.client => Some(dir.clone()),
            _ => None,
        });
        let Some(backups) = backups else { return Ok(()) };
        let result = self.kind.prune_archive(&self.world, &backups, &archive);
        self.heard(&result, "pruning the archive", |gone| *gone as u64)
    }

    fn copy(
        &self,
        label: Label,
        doing: &'static str,
        make: impl FnOnce() -> Result<(Place, Option<u64>), Failure>,
    ) -> Result<(), LifeEnd> {
        let (clock, read) = self.begin_read(label);
        let sync = self.oracle.lock().begin_sync();
        let promised = self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged_so_far());
        let result = make();
        self.heard(&result, doing, |(_, at)| at.unwrap_or(0))?;
        if let Ok((place, at)) = result {
            let read = read.timed(self.world.timing(clock));
            let judged = self.oracle.lock().end_snapshot(read, at);
            let mark = self.judge(judged)?;
            self.end_sync(sync);
            self.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(promised));
            self.court.lock().copies.push(StoreCopy { place, label, mark, judge: None });
        }
        Ok(())
    }

    /// A life has ended, and the oracle is about to take what was recovered for the truth. Where a disk that lied has lost
    /// some of what it promised, nobody knows what the copies still hold, nor whether this is still the store whose backups
    /// lie in the directories: where its name is gone, the next opening has made another.
    pub(super) fn keep_judge_of_copies(&self, restart: Restart) {
        let broken = self.with_circumstances(|circumstances| circumstances.promise_is_broken());
        let court = &mut *self.court.lock();
        let copies = &mut court.copies;
        if restart == Restart::PowerLoss && broken {
            copies.clear();
            court.unfinished_copies.clear();
            court.stores_lost += 1;
        }
        if copies.iter().any(|copy| copy.judge.is_none()) {
            let judge = Arc::new(Mutex::new(self.oracle.lock().clone()));
            for copy in copies.iter_mut().filter(|copy| copy.judge.is_none()) {
                copy.judge = Some(judge.clone());
            }
        }
    }

    /// Opens every copy of former lives and sees that it shows what it must. Called while no fault can strike. `more` says that
    /// there may be another crash, for which some are left.
    pub(super) fn look_at_copies(&self, more: bool) -> Result<(), LifeEnd> {
        let copies = std::mem::take(&mut self.court.lock().copies);
        for copy in copies {
            self.look_at_copy(copy, more)?;
        }
        let unfinished = std::mem::take(&mut self.court.lock().unfinished_copies);
        for dir in unfinished {
            self.look_at_unfinished(&dir)?;
        }
        Ok(())
    }

    /// Restores the backups of former lives, where there is an archive, to a point behind each, and sees that it shows the model as it
    /// was then.
    pub(super) fn look_at_points(&self, store: &Arc<dyn Store>) -> Result<(), LifeEnd> {
        let Some(archive) = self.kind.archive(&self.plan.options) else { return Ok(()) };
        let archived = store.archive_now();
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        let may_lack = self.plan.faults.iter().any(|rule| !leaves_logs_whole(rule.kind()));
        let archived = match archived {
            Ok(archived) => archived,
            Err(_) if may_lack => return Ok(()),
            Err(failure) => return Err(self.fail(without_a_cause(&failure, "archiving"))),
        };
        let looks: Vec<_> = {
            let court = self.court.lock();
            let backups = court.copies.iter().filter_map(|copy| match &copy.place {
                Place::Backup { dir, number, .. } => {
                    Some((dir.clone(), *number, copy.label, copy.mark, copy.judge.clone()?))
                }
                _ => None,
            });
            backups.collect()
        };
        for (dir, number, label, mark, judge) in looks {
            let extent = self.kind.recoverable(&self.world, &dir, number, &archive);
            self.heard_of_point(&extent)?;
            let Ok((first, last)) = extent else { continue };
            if last < archived && !may_lack {
                let symptom = format!(
                    "backup {number} in {dir}, which ends with {first}, can be restored up to {last}, and all up to {archived} was \
                     archived, though no fault took a log"
                );
                return Err(self.fail(Finding::new("gap-in-the-archive", "", symptom)));
            }
            let end = last.min(judge.lock().newest());
            if end < first {
                continue;
            }
            let seqno = first
                + self.world.with_decisions(|decisions| {
                    let site = decisions.site("archive.point");
                    decisions.decide(site, end - first + 1)
                });
            let target = format!("restored-{}-{number}-{}-to-{seqno}-{archived}", label.client, label.op);
            self.world.note(6, || format!("restore backup {number} in {dir} to {seqno} of {first} to {last}"));
            let (clock, read) = (self.world.clock_mark(), judge.lock().begin_read(Label::HARNESS));
            let restored = self.kind.restore_to(&self.world, &dir, &archive, seqno, &target);
            self.heard_of_point(&restored)?;
            let Ok(reached) = restored else { continue };
            let shown = self.kind.open_copy(&self.world, &target, &self.plan.options).and_then(|store| whole(&*store));
            self.heard_of_point(&shown)?;
            let Ok(all) = shown else { continue };
            let read = read.timed(self.world.timing(clock));
            let judged = judge_point(&mut judge.lock(), mark, (seqno, Some(reached)), read, &all);
            let about = |finding: Finding| {
                finding.with(format!("in {target}, made for sequence number {seqno}, of backup {number} in {dir}"))
            };
            self.judge(judged.map_err(about))?;
        }
        Ok(())
    }

    /// A failure on the way to a point needs a cause.
    fn heard_of_point<T>(&self, result: &Result<T, Failure>) -> Result<(), LifeEnd> {
        match result {
            _ if self.crashed() => Err(LifeEnd::Crashed),
            Err(failure) if !self.with_circumstances(|circumstances| circumstances.explain(failure, true)) => {
                Err(self.fail(without_a_cause(failure, "a restoration to a point")))
            }
            _ => Ok(()),
        }
    }

    /// A copy that nobody was told of is no store, or a whole one.
    fn look_at_unfinished(&self, dir: &str) -> Result<(), LifeEnd> {
        self.world.note(6, || format!("look at {dir}, which was not finished"));
        let result = self.kind.counts_as_store(&self.world, dir).and_then(|counts| match counts {
            true => {
                self.kind.open_copy(&self.world, dir, &self.plan.options).and_then(|store| whole(&*store)).map(drop)
            }
            false => Ok(()),
        });
        match result {
            _ if self.crashed() => Err(LifeEnd::Crashed),
            Err(failure) if !self.with_circumstances(|circumstances| circumstances.explain(&failure, true)) => {
                Err(self
                    .fail(without_a_cause(&failure, "a look at a copy that was cut short").with(format!("in {dir}"))))
            }
            _ => Ok(()),
        }
    }

    fn look_at_copy(&self, copy: StoreCopy, more: bool) -> Result<(), LifeEnd> {
        let StoreCopy { place, label, mark, judge } = &copy;
        let judge = judge.as_ref().expect("copies are looked at when the life that made them is over");
        self.world.note(6, || format!("look at {place:?}"));
        let (clock, read) = (self.world.clock_mark(), judge.lock().begin_read(Label::HARNESS));
        let opened = match place {
            Place::Store(dir) => self.kind.open_copy(&self.world, dir, &self.plan.options),
            Place::Backup { dir, number, .. } => {
                let target = format!("restored-{}-{number}-{}", label.client, label.op);
                match self.kind.restore(&self.world, dir, *number, &target) {
                    Ok(()) if more && number % 2 == 0 => {
                        self.court.lock().copies.push(StoreCopy { place: Place::Store(target), ..copy });
                        return Ok(());
                    }
                    restored => restored.and_then(|()| self.kind.open_copy(&self.world, &target, &self.plan.options)),
                }
            }
            Place::Export(file) => {
                let target = format!("restored-of-{file}");
                let imported = self.kind.import(&self.world, file, &target, &self.plan.options);
                imported.and_then(|()| self.kind.open_copy(&self.world, &target, &self.plan.options))
            }
            Place::Import { dir, .. } | Place::Point { dir, .. } => match self.kind.counts_as_store(&self.world, dir) {
                Ok(false) if !place.is_done() => {
                    self.world.note(7, || format!("{dir} is no store"));
                    return if self.crashed() { Err(LifeEnd::Crashed) } else { Ok(()) };
                }
                counts => counts.and_then(|_| self.kind.open_copy(&self.world, dir, &self.plan.options)),
            },
        };
        let result = opened.and_then(|store| whole(&*store));
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        let about = |finding: crate::oracle::Finding| finding.with(format!("in {place:?}, made by {label}"));
        match result {
            Ok(all) => {
                let read = read.timed(self.world.timing(clock));
                let judged = match *place {
                    Place::Point { seqno, reached, .. } => {
                        judge_point(&mut judge.lock(), *mark, (seqno, reached), read, &all)
                    }
                    _ => judge_copy(&mut judge.lock(), *mark, read, &all),
                };
                self.judge(judged.map_err(about))
            }
            Err(failure) => {
                if self.with_circumstances(|circumstances| circumstances.explain(&failure, true)) {
                    return Ok(());
                }
                Err(self.fail(about(without_a_cause(&failure, "a look at a copy"))))
            }
        }
    }
}
