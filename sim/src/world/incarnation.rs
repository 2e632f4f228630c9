//! Crashes: the end of one incarnation, and the beginning of the next on what is left of the disk.

use super::{DOOM_ROUNDS, Happening, RunEnd, State, World};
use crate::disk::{CrashKind, CrashReport, Disk};
use crate::fault::{Call, FileClass, FsOp};
use crate::fiber::Fiber;
use std::sync::atomic::Ordering;

impl World {
    /// Power goes, or the process ends: the disk is frozen, and every later call of this incarnation fails. The second
    /// crash of an incarnation changes nothing. A power loss is a torn one where a fault rule says so.
    pub fn crash(&self, kind: CrashKind) {
        let mut state = self.inner.state.lock();
        let (class, op, phase) = (FileClass::Other, FsOp::Write, state.scheduler.phase());
        let call = Call { op, class, phase, bytes: 0, ordinal: state.calls, now_ms: state.clock.now_ns() / 1_000_000 };
        let State { injector, decisions, crash, .. } = &mut *state;
        let kind = match kind {
            CrashKind::PowerLoss if crash.is_none() => injector.power_loss(call, decisions),
            kind => kind,
        };
        state.note_crash(kind);
        self.inner.crashed.store(true, Ordering::Relaxed);
    }

    /// Whether this incarnation has crashed, and how.
    pub fn crashed(&self) -> Option<CrashKind> {
        if self.inner.crashed.load(Ordering::Relaxed) { self.inner.state.lock().crash } else { None }
    }

    /// The call at which this incarnation crashed, in words; `None` where it lives, or crashed between two calls.
    pub fn crash_site(&self) -> Option<String> {
        self.inner.state.lock().crash_site.clone()
    }

    /// Which incarnation lives: 1 at first, one more after each restart.
    pub fn incarnation(&self) -> u32 {
        self.inner.incarnation.load(Ordering::Relaxed)
    }

    /// Has the crashed incarnation come to its end, builds the disk as the crash left it, and begins the next
    /// incarnation. Fails where a task of the crashed incarnation does not end: that is a finding, and the world is of
    /// no more use.
    pub fn restart(&self) -> Result<CrashReport, RunEnd> {
        self.finish_incarnation()?;
        let mut state = self.inner.state.lock();
        let kind = state.crash.expect("a restart follows a crash");
        let State { disk, decisions, .. } = &mut *state;
        let (image, report) = disk.crash(kind, decisions);
        if kind != CrashKind::Process {
            state.ledger.power_lost();
        }
        state.sanitizer.restarted(kind, &image);
        let hash = image.image_hash();
        self.begin_incarnation(&mut state, image, hash);
        Ok(report)
    }

    /// Like [`World::restart`], on a disk of the caller's choice instead of what the crash left, and its
    /// [`Disk::image_hash`].
    pub fn restart_on(&self, disk: Disk, hash: u64) -> Result<(), RunEnd> {
        self.finish_incarnation()?;
        let mut state = self.inner.state.lock();
        state.sanitizer.restarted(CrashKind::PowerLoss, &disk);
        self.begin_incarnation(&mut state, disk, hash);
        Ok(())
    }

    pub(super) fn finish_incarnation(&self) -> Result<(), RunEnd> {
        assert!(self.crashed().is_some(), "an incarnation ends by a crash");
        match self.run() {
            RunEnd::Finished => Ok(()),
            other => Err(other),
        }
    }

    pub(super) fn begin_incarnation(&self, state: &mut State, disk: Disk, image: u64) {
        state.disk = disk;
        state.levels.clear();
        state.crash_site = None;
        state.crash = None;
        state.locks.clear();
        let State { scheduler, decisions, .. } = state;
        scheduler.begin_again(decisions);
        let incarnation = self.inner.incarnation.fetch_add(1, Ordering::Relaxed) + 1;
        state.happened(Happening::Restart, u64::from(incarnation), image, |_| format!("RESTART {incarnation}"));
        let fibers = self.inner.fibers.get();
        let mut table = fibers.table.borrow_mut();
        fibers.first.set(fibers.first.get() + table.len() as u32);
        table.clear();
        self.inner.crashed.store(false, Ordering::Relaxed);
    }

    /// Ends the world: its tasks see a crash and run to their end; those that do not end are unwound. Returns how the
    /// last run ended, which is a finding where it did not finish. Done by dropping the owner, too.
    pub fn end(&self) -> RunEnd {
        if self.inner.state.lock().scheduler.alive() == 0 {
            return RunEnd::Finished;
        }
        self.crash(CrashKind::Process);
        let end = self.run();
        let mut last = end.clone();
        // A task that panics in its last moments does not keep the others from theirs.
        for _ in 0..DOOM_ROUNDS {
            if !matches!(last, RunEnd::Panicked { .. }) {
                break;
            }
            last = self.run();
        }
        self.doom();
        end
    }

    pub(super) fn doom(&self) {
        self.inner.dooming.store(true, Ordering::Relaxed);
        let fibers = self.inner.fibers.get();
        let guests = fibers.guests.borrow().clone();
        let handle = self.clone();
        guests.iter().for_each(|(_, guest)| guest.enter(&handle));
        for round in 0..DOOM_ROUNDS {
            let tasks = self.inner.state.lock().scheduler.alive_tasks();
            for id in tasks {
                self.inner.state.lock().scheduler.seize(id);
                // One that waits in a destructor is resumed as if it had been woken: unwinding twice at once would
                // abort.
                self.resume(id, if round == 0 { Fiber::doom } else { Fiber::resume });
            }
        }
        let rest = self.inner.state.lock().scheduler.alive_tasks();
        for id in rest {
            let index = (id.0 - fibers.first.get()) as usize;
            let fiber = fibers.table.borrow_mut()[index].take();
            fiber.into_iter().for_each(Fiber::abandon);
            self.inner.state.lock().scheduler.end(id);
        }
        guests.iter().for_each(|(_, guest)| guest.leave());
        self.inner.dooming.store(false, Ordering::Relaxed);
    }
}
