//! The task that brings logs to the archive, once what they hold is in tables.
//!
//! Which logs wait is in the manifest ([`crate::archive`], A2), so that a crash at any point leaves the next open the same work to do,
//! and an archive that cannot be written keeps no store from being opened. A log whose bytes cannot be read back as they were written,
//! as may be after a failed sync, never comes there, and neither does the oldest of too many that wait for an archive that fails.

use crate::archive::{ArchivedWal, put};
use crate::db::background::{failure, held_back, wait, wait_for_flush};
use crate::db::health::Part;
use crate::db::obsolete;
use crate::db::state::{Counters, State};
use crate::db::write;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::key::SeqNo;
use crate::manifest::edit::VersionEdit;
use crate::mark::sometimes;
use crate::wal::KeptWal;
use std::path::Path;

/// Makes the archive of a store that is being opened: whoever looks for it finds it, and where it cannot be made, the store says so from
/// the beginning, and its task tries again.
pub(crate) fn begin(state: &State) {
    let Some(archive) = &state.options.archive else { return };
    let made = see_that_it_is_there(state, archive);
    tell(state, made.err());
}

/// The body of the task.
pub(crate) fn task(state: &State) {
    let Some(archive) = state.options.archive.clone() else { return };
    loop {
        let mut work = state.work.lock();
        loop {
            if work.shutting_down {
                return;
            }
            let held = held_back(state, work.archive_failure.as_ref());
            if work.archive_due && held.is_none() {
                break;
            }
            let until = if work.archive_due { held } else { None };
            wait(state, &mut work, until);
        }
        work.archive_due = false;
        // Somebody may have taken the directory away, or put it there.
        let is_there = work.archive_failure.is_none();
        drop(work);

        let outcome = archive_all(state, &archive, is_there).err();
        let given_up = outcome.as_ref().map(|cause| give_up_oldest(state, cause));
        obsolete::remove(state, 0);
        tell(state, outcome);
        if let Some(Err(error)) = given_up {
            state.tell_failure("giving up a log for the archive", &error);
        }
        state.work_changed.notify_all();
    }
}

/// Tells what came of an attempt to write the archive, and has a failed one repeated.
fn tell(state: &State, outcome: Option<Error>) {
    let mut work = state.work.lock();
    state.vitals.report(&state.events, Part::Archive, outcome.as_ref());
    work.archive_failure = outcome.map(|error| {
        sometimes!("the archive cannot be written");
        work.archives_failed += 1;
        work.archive_due = true;
        failure(state, "the archive", error, state.options.retry())
    });
}

/// The oldest log that waits.
fn oldest(state: &State) -> Option<ArchivedWal> {
    let versions = state.versions.lock();
    let (_, &wal) = versions.kept_wals().first_key_value()?;
    Some(ArchivedWal { history: versions.history()?, wal })
}

/// Makes the directory of the archive, and its name durable: one that is there may be so for this process only.
fn see_that_it_is_there(state: &State, archive: &Path) -> Result<()> {
    state.env.create_dir(archive)?;
    state.env.sync_parent(archive)
}

/// Archives the logs that wait, oldest first. `is_there`: whether the name of the archive is known to be durable.
fn archive_all(state: &State, archive: &Path, is_there: bool) -> Result<()> {
    if !is_there {
        see_that_it_is_there(state, archive)?;
    }
    while let Some(next) = oldest(state) {
        if state.work.lock().shutting_down {
            return Ok(());
        }
        let KeptWal { number: wal, first_seqno, last_seqno, .. } = next.wal;
        state.env.yield_point("archive: log chosen, not yet copied");
        match put(&state.env, (&state.dir, state.store), archive, &next) {
            Ok(()) => {
                state.env.yield_point("archive: log durable, not yet let go");
                let_go(state, next.wal)?;
                sometimes!("a log is archived");
                Counters::add(&state.counters.archived, 1);
                state.events.tell(|| Event::Archived { wal, first_seqno, last_seqno });
            }
            // The bytes are gone, and no later try finds them.
            Err(error) if error.is_corruption() => give_up(state, next.wal, &error)?,
            Err(error) => return Err(error),
        }
        obsolete::remove(state, 0);
    }
    Ok(())
}

/// The store needs the log no more.
fn let_go(state: &State, wal: KeptWal) -> Result<()> {
    state.install(VersionEdit { wals_let_go: vec![wal.number], ..VersionEdit::default() }, None)?;
    state.work.lock().archive_steps += 1;
    state.work_changed.notify_all();
    Ok(())
}

fn give_up(state: &State, wal: KeptWal, cause: &Error) -> Result<()> {
    // Counted first: who sees that it waits no longer sees why.
    state.work.lock().archives_failed += 1;
    let_go(state, wal)?;
    sometimes!("a log never comes to the archive");
    Counters::add(&state.counters.archive_given_up, 1);
    let KeptWal { first_seqno, last_seqno, .. } = wal;
    state.events.tell(|| Event::ArchiveGap { first_seqno, last_seqno, cause: cause.to_string() });
    Ok(())
}

/// Gives up the oldest logs where more wait than may.
fn give_up_oldest(state: &State, cause: &Error) -> Result<()> {
    loop {
        let waiting: u64 = state.versions.lock().kept_wals().values().map(|wal| wal.bytes).sum();
        let Some(oldest) = oldest(state) else { return Ok(()) };
        if waiting <= state.options.wal_bytes_max {
            return Ok(());
        }
        give_up(state, oldest.wal, cause)?;
    }
}

/// Has everything that was written so far archived.
pub(crate) fn archive_now(state: &State) -> Result<SeqNo> {
    if !state.archives() {
        let what = "the store has no archive: name a directory in Options::archive";
        return Err(Error::InvalidArgument(what.into()));
    }
    let (flushes_failed, archives_failed) = {
        let mut work = state.work.lock();
        // The task need not wait any longer.
        if let Some(failure) = &mut work.archive_failure {
            failure.retry_at = state.env.now();
        }
        (work.flushes_failed, work.archives_failed)
    };
    state.work_changed.notify_all();
    let last_seqno = write::rotate_for_archive(state)?;
    wait_for_flush(state, flushes_failed)?;
    loop {
        let steps = state.work.lock().archive_steps;
        let waits = state.versions.lock().kept_wals().values().any(|wal| wal.first_seqno <= last_seqno);
        let mut work = state.work.lock();
        if work.archives_failed > archives_failed {
            let cause = work.archive_failure.as_ref().map(|failure| failure.error.clone());
            return Err(cause.unwrap_or_else(|| given_up(last_seqno)));
        }
        // Where nothing was ever written, an archive of nothing is there all the same.
        if !waits && work.archive_failure.is_none() {
            return Ok(last_seqno);
        }
        if work.shutting_down {
            return Err(Error::Closed);
        }
        if work.archive_steps == steps {
            state.work_changed.wait(&mut work);
        }
    }
}

/// The log was given up meanwhile.
fn given_up(last_seqno: SeqNo) -> Error {
    let what = "what was written could not be read back, and never comes to the archive: make a backup";
    Error::InvalidArgument(format!("not all up to sequence number {last_seqno} is archived: {what}"))
}
