//! The tasks behind an open store: one that flushes, resumes and removes obsolete files, some that compact, one that syncs
//! what was promised to be synced soon.
//!
//! Each waits for `work_changed`, asks the state what is due (nothing is handed over in messages that could be lost, so work
//! that was due before a crash or a failure is found again), does one piece, and asks again. Work that failed is tried again
//! after `Options::retry_ms`, to new files.

use crate::compaction::flush::flush;
use crate::compaction::job::{self, Surroundings};
use crate::compaction::picker;
use crate::compaction::plan::{Claim, Plan};
use crate::compaction::rate::Urgency;
use crate::compaction::separate::{Collected, Place};
use crate::db::check::shape;
use crate::db::health::Part;
use crate::db::memory;
use crate::db::obsolete;
use crate::db::quarantine;
use crate::db::state::{Counters, Failure, Frozen, State, Work};
use crate::db::write;
use crate::env::TaskHandle;
use crate::error::{Error, Result};
use crate::event::{Event, Operation};
use crate::filename::FileKind;
use crate::key::{KeyspaceId, user_key};
use crate::manifest::catalog::Catalog;
use crate::manifest::edit::{TableMeta, VersionEdit};
use crate::mark::sometimes;
use crate::sync::{Mutex, MutexGuard};
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Starts the tasks of a store, with the one for its archive, where it has one.
pub(crate) fn start(state: &Arc<State>, archive: fn(&State)) -> Result<Vec<Box<dyn TaskHandle>>> {
    let mut tasks = Vec::new();
    let mut spawn = |name: String, body: fn(&State)| -> Result<()> {
        let own = state.clone();
        match state.env.spawn(&name, Box::new(move || body(&own))) {
            Ok(task) => {
                tasks.push(task);
                Ok(())
            }
            Err(error) => {
                stop(state, std::mem::take(&mut tasks));
                Err(error)
            }
        }
    };
    spawn("strata-flush".into(), flush_task)?;
    spawn("strata-sync".into(), sync_task)?;
    if state.archives() {
        spawn("strata-archive".into(), archive)?;
    }
    for index in 0..state.options.background_tasks {
        spawn(format!("strata-compact-{index}"), compaction_task)?;
    }
    Ok(tasks)
}

/// Ends the tasks, after the piece of work that each is doing.
pub(crate) fn stop(state: &State, tasks: Vec<Box<dyn TaskHandle>>) {
    state.work.lock().shutting_down = true;
    state.work_changed.notify_all();
    for task in tasks {
        task.join();
    }
}

/// Waits for a change of the work, at most until `until`.
pub(crate) fn wait(state: &State, work: &mut MutexGuard<'_, Work>, until: Option<Duration>) {
    match until {
        None => state.work_changed.wait(work),
        Some(until) => {
            let now = state.env.now();
            if until > now {
                state.work_changed.wait_for(work, until - now);
            }
        }
    }
}

/// Whether failed work must wait, and until when.
pub(crate) fn held_back(state: &State, failure: Option<&Failure>) -> Option<Duration> {
    failure.map(|failure| failure.retry_at).filter(|&at| at > state.env.now())
}

pub(crate) fn failure(state: &State, during: &'static str, error: Error, retry: Duration) -> Failure {
    state.tell_failure(during, &error);
    Failure { error, retry_at: state.env.now() + retry }
}

/// How long compactions wait after this error, with so many failures in a row: twice as long after each, up to half a minute. Each
/// try may write all but the last of its tables before it fails again at a table that is damaged for good, and the disk and the
/// rate for background work are for those that succeed. Space is looked for at the usual pace, as writers wait for it.
fn compaction_retry(retry: Duration, error: &Error, in_a_row: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(30);
    if error.is_out_of_space() {
        return retry;
    }
    let doubled = retry.saturating_mul(1 << in_a_row.saturating_sub(1).min(16));
    doubled.min(LONGEST.max(retry))
}

fn sync_task(state: &State) {
    loop {
        let mut work = state.work.lock();
        loop {
            if work.shutting_down {
                return;
            }
            if work.sync_due.is_some_and(|due| due <= state.env.now()) {
                work.sync_due = None;
                break;
            }
            let until = work.sync_due;
            wait(state, &mut work, until);
        }
        drop(work);
        write::sync_if_due(state);
    }
}

fn flush_task(state: &State) {
    loop {
        let mut work = state.work.lock();
        let mut looks = 0;
        let takes_reserve = loop {
            if work.shutting_down {
                return;
            }
            if work.released && !work.obsolete.is_empty() {
                sometimes!("a reader lets go of an old version");
                break false;
            }
            if let Some((at, again)) = work.look_again
                && at <= state.env.now()
            {
                sometimes!("obsolete files that stayed are looked at again");
                work.look_again = None;
                looks = again;
                break false;
            }
            let due = work.resume_due || !state.view.load().frozen.is_empty();
            let held = held_back(state, work.flush_failure.as_ref());
            if due && held.is_none() {
                break false;
            }
            let reserve_at = state.reserve.due();
            if reserve_at.is_some_and(|at| at <= state.env.now()) {
                break true;
            }
            let flush_at = if due { held } else { None };
            let look_at = work.look_again.map(|(at, _)| at);
            wait(state, &mut work, flush_at.into_iter().chain(reserve_at).chain(look_at).min());
        };
        work.flushing = !takes_reserve;
        drop(work);
        if takes_reserve {
            state.reserve.take(&state.vitals, &|| state.work.lock().shutting_down);
            continue;
        }

        let result = flush_all(state);
        obsolete::remove(state, looks);
        let again = result.as_ref().is_err_and(|error| state.reserve.give_up(&state.vitals, error));

        let mut work = state.work.lock();
        work.flushing = false;
        match result {
            Ok(()) => {
                sometimes!("a flush succeeds after one that failed", if work.flush_failure.is_some());
                work.flush_failure = None;
                state.vitals.report(&state.events, Part::Flush, None);
            }
            Err(_) if again => {
                sometimes!("a flush is tried again with the space of the reserve");
            }
            Err(error) => {
                sometimes!("a flush fails");
                work.flushes_failed += 1;
                state.vitals.report(&state.events, Part::Flush, Some(&error));
                work.flush_failure = Some(failure(state, "a flush", error, state.options.retry()));
            }
        }
        drop(work);
        state.work_changed.notify_all();
    }
}

/// Flushes what is frozen, oldest first, and then has a failed log replaced.
fn flush_all(state: &State) -> Result<()> {
    loop {
        let view = state.view.load_full();
        let Some(frozen) = view.frozen.last().cloned() else { break };
        sometimes!("several memtables wait for their flush", if view.frozen.len() > 1);
        drop(view);
        flush_one(state, &frozen)?;
        let _work = state.work.lock();
        state.work_changed.notify_all();
    }
    let resume = std::mem::take(&mut state.work.lock().resume_due);
    if resume && let Err(error) = write::resume(state) {
        sometimes!("a resumption fails");
        state.work.lock().resume_due = true;
        return Err(error);
    }
    Ok(())
}

/// Waits until everything that is frozen by now has been flushed, or a flush has failed after so many that had.
pub(crate) fn wait_for_flush(state: &State, failed_before: u64) -> Result<()> {
    let Some(newest) = state.view.load().frozen.first().cloned() else { return Ok(()) };
    let mut work = state.work.lock();
    loop {
        if !state.view.load().frozen.iter().any(|frozen| Arc::ptr_eq(frozen, &newest)) {
            return Ok(());
        }
        if work.shutting_down {
            return Err(Error::Closed);
        }
        if let (Some(failure), true) = (&work.flush_failure, work.flushes_failed > failed_before) {
            return Err(failure.error.clone());
        }
        state.work_changed.wait(&mut work);
    }
}

fn flush_one(state: &State, frozen: &Arc<Frozen>) -> Result<()> {
    let drawn = Drawn::new(state);
    let begun = state.meters.begin(Operation::Flush);
    let result = flush_and_install(state, frozen, &drawn);
    state.meters.end(Operation::Flush, begun, &[], "its table and the manifest");
    if result.is_err() {
        drawn.abandon();
    }
    result
}

fn flush_and_install(state: &State, frozen: &Arc<Frozen>, drawn: &Drawn<'_>) -> Result<()> {
    let mut edit =
        VersionEdit { wals_removed: vec![frozen.wal], last_seqno: Some(frozen.last_seqno), ..VersionEdit::default() };
    edit.wals_kept.extend(frozen.kept);
    sometimes!("an empty memtable is flushed", if frozen.memtable.is_empty());
    let new_file = |kind: fn(u64) -> FileKind| drawn.draw(kind);
    let place = Place { env: &state.env, dir: &state.dir, store: state.store, new_file: &new_file };
    for (keyspace, memtable) in frozen.memtable.memtables() {
        // No more is held of the catalog: while it is, the files that it names stay.
        let options = state.view.load().catalog.get(keyspace).map(|entry| entry.options.clone());
        let Some(options) = options.filter(|_| !memtable.is_empty()) else {
            sometimes!("a flush leaves out a keyspace that was dropped", if !memtable.is_empty());
            continue;
        };
        let number = drawn.draw(FileKind::Sst);
        let readers = state.readers();
        state.env.yield_point("flush: snapshots listed, nothing merged");
        if memtable.has_expiring() {
            edit.time_ms = edit.time_ms.max(Some(readers.now_ms()));
        }
        if let Some(flushed) = flush(place, number, keyspace, &memtable, readers, &options)? {
            edit.added.push((0, flushed.table));
            edit.blobs_added.extend(flushed.blobs);
        }
    }
    sometimes!("a flush writes tables of several keyspaces", if edit.added.len() > 1);
    let told: Vec<(u64, u64)> = edit.added.iter().map(|(_, table)| (table.number, table.bytes)).collect();
    if !told.is_empty() {
        // The names of tables and blob files must be durable before the manifest names them.
        state.env.sync_dir(&state.dir)?;
        let bytes = told.iter().map(|(_, bytes)| bytes).sum::<u64>() + blob_bytes(&edit);
        Counters::add(&state.counters.flush_bytes, bytes);
        state.meters.wrote_level(0, bytes);
        let _ = pay(state, bytes, &|| Urgency::AtOnce);
    }
    state.env.yield_point("flush: table durable, not yet installed");
    state.install(edit, Some(frozen))?;
    let flushed = |table, bytes| Event::Flushed { table, bytes, levels: shape(&state.view.load().catalog) };
    match told.as_slice() {
        [] => state.events.tell(|| flushed(None, 0)),
        tables => tables.iter().for_each(|&(table, bytes)| state.events.tell(|| flushed(Some(table), bytes))),
    }
    Ok(())
}

/// Bytes of the blob files that come.
fn blob_bytes(edit: &VersionEdit) -> u64 {
    edit.blobs_added.iter().map(|blob| blob.bytes).sum()
}

fn compaction_task(state: &State) {
    loop {
        let mut work = state.work.lock();
        let (plan, claim) = loop {
            if work.shutting_down {
                return;
            }
            if let Some(suspect) = work.suspects.pop_first() {
                drop(work);
                if let Err(error) = quarantine::look_into(state, &[suspect]) {
                    state.tell_failure("the quarantine of a damaged table", &error);
                }
                work = state.work.lock();
                continue;
            }
            let mut until = held_back(state, work.compaction_failure.as_ref());
            if until.is_none() && work.manual_waiting == 0 {
                // Let go of before the wait: it would hold the files of a version that is gone.
                let catalog = state.view.load().catalog.clone();
                let (expired, next) = expired(state, &catalog, &work);
                let due = || picker::pick_of_all(&catalog, &work.running, &work.cursors);
                let sparse = || {
                    let plan = picker::pick_sparse(&catalog, &work.running, &work.damaged_blobs);
                    sometimes!("a table is rewritten for the blob files that it refers to", if plan.is_some());
                    plan
                };
                if let Some(plan) = expired.or_else(due).or_else(sparse) {
                    let claim = begin(state, &mut work, &plan);
                    break (plan, claim);
                }
                if work.compaction_failure.is_some() && work.running.is_empty() {
                    // What failed is not to be done any more: others have done it, or it was asked for by hand.
                    sometimes!("a compaction that failed is not due any more");
                    work.compaction_failure = None;
                    work.compactions_failed = 0;
                    state.vitals.report(&state.events, Part::Compaction, None);
                    state.work_changed.notify_all();
                }
                until = next;
            }
            wait(state, &mut work, until);
        };
        drop(work);
        let result = compact(state, &plan);
        end(state, &claim, result.err().filter(|error| !quarantine::blame_inputs(state, &plan, error)));
    }
}

/// The tables that can go because all that they hold has expired, or when, by the monotonic clock, there will be some.
fn expired(state: &State, catalog: &Catalog, work: &Work) -> (Option<Plan>, Option<Duration>) {
    let versions = || catalog.entries().iter().map(|entry| &entry.version).filter(|version| version.has_expiring());
    if versions().next().is_none() {
        return (None, None);
    }
    // Before the snapshots are listed: one that is let go of after that sees it.
    state.sweep_waits.store(true, Ordering::Release);
    let (now, readers) = (state.env.now(), state.readers());
    let plan = versions().find_map(|version| picker::pick_expired(version, &work.running, &readers));
    let next_ms = versions().filter_map(|version| picker::next_expiry_ms(version, readers.now_ms())).min();
    (plan, next_ms.and_then(|next_ms| now.checked_add(Duration::from_millis(next_ms - readers.now_ms()))))
}

/// Marks a plan as running.
fn begin(state: &State, work: &mut Work, plan: &Plan) -> Claim {
    let claim = plan.claim();
    work.running.push(claim.clone());
    sometimes!("two compactions run at once", if work.running.len() > 1);
    sometimes!(
        "two keyspaces are compacted at once",
        if work.running.iter().any(|running| running.keyspace != plan.keyspace)
    );
    memory::balance(state, work.running.len());
    let (level, tables) = &plan.inputs[0];
    if let Some(largest) = tables.iter().map(|table| user_key(&table.largest)).max() {
        let cursors = work.cursors.entry(plan.keyspace).or_default();
        cursors.resize(cursors.len().max(level + 1), Vec::new());
        cursors[*level] = largest.to_vec();
    }
    claim
}

/// Takes the mark away. Says whether it failed for lack of space and there is more now, so that it should be tried again.
fn end(state: &State, claim: &Claim, error: Option<Error>) -> bool {
    obsolete::remove(state, 0);
    let again = error.as_ref().is_some_and(|error| state.reserve.give_up(&state.vitals, error));
    let mut work = state.work.lock();
    work.running.retain(|running| running != claim);
    memory::balance(state, work.running.len());
    if again {
        sometimes!("a compaction is tried again with the space of the reserve");
    } else {
        sometimes!("a compaction fails", if error.is_some());
        sometimes!(
            "a compaction succeeds after one that failed",
            if error.is_none() && work.compaction_failure.is_some()
        );
        state.vitals.report(&state.events, Part::Compaction, error.as_ref());
        work.compactions_failed = if error.is_some() { work.compactions_failed.saturating_add(1) } else { 0 };
        work.compaction_failure = error.map(|error| {
            let retry = compaction_retry(state.options.retry(), &error, work.compactions_failed);
            failure(state, "a compaction", error, retry)
        });
    }
    drop(work);
    state.work_changed.notify_all();
    again
}

/// Background work has written so many bytes, or read them where it does nothing else: waits as long as the rate asks for, less where the work becomes urgent. Says no
/// where the store closes meanwhile.
pub(crate) fn pay(state: &State, bytes: u64, urgency: &dyn Fn() -> Urgency) -> bool {
    let Some(rate) = &state.rate else { return true };
    let mut owed = bytes;
    loop {
        let wait_for = rate.lock().take(state.env.now(), std::mem::take(&mut owed), urgency());
        if wait_for.is_zero() {
            return true;
        }
        sometimes!("a compaction is held back by the rate");
        let mut work = state.work.lock();
        if work.shutting_down {
            return false;
        }
        state.work_changed.wait_for(&mut work, wait_for);
    }
}

/// Runs a plan that is marked as running, and installs its result.
fn compact(state: &State, plan: &Plan) -> Result<()> {
    let drawn = Drawn::new(state);
    let begun = state.meters.begin(Operation::Compaction);
    let result = compact_and_install(state, plan, &drawn);
    state.meters.end(Operation::Compaction, begun, &[], "its tables and the manifest");
    if !matches!(result, Ok(true)) {
        drawn.abandon();
    }
    result.map(|_| ())
}

fn compact_and_install(state: &State, plan: &Plan, drawn: &Drawn<'_>) -> Result<bool> {
    // What lies below the output level cannot change under a running plan but for what others compact out of its claim.
    let catalog = state.view.load().catalog.clone();
    let Some(entry) = catalog.get(plan.keyspace) else { return Ok(false) };
    let urgency = || match plan.level() {
        0 if state.view.load().catalog.level_zero_max() >= state.options.l0_slowdown_trigger => Urgency::AtOnce,
        0 => Urgency::Soon,
        _ => Urgency::Later,
    };
    let new_file = |kind: fn(u64) -> FileKind| drawn.draw(kind);
    let mut sparse = Cow::Borrowed(&catalog.sparse_blobs().files);
    let damaged = state.work.lock().damaged_blobs.clone();
    if !damaged.is_disjoint(&sparse) {
        sparse.to_mut().retain(|file| !damaged.contains(file));
    }
    let note_damage = |file: u64, error: &Error| {
        if state.work.lock().damaged_blobs.insert(file) {
            state.tell_failure("the collection of a blob file", error);
        }
    };
    let around = Surroundings {
        place: Place { env: &state.env, dir: &state.dir, store: state.store, new_file: &new_file },
        collected: Collected { files: &state.blobs, sparse: &sparse, damaged: &note_damage },
        options: &entry.options,
        tables: &state.tables,
        cancelled: &|| state.work.lock().shutting_down,
        written: &|bytes| pay(state, bytes, &urgency),
    };
    // Listed after the inputs were fixed: a snapshot that is taken from now on is newer than all of them.
    let readers = state.readers();
    state.env.yield_point("compaction: snapshots listed, nothing merged");
    let Some(edit) = job::run(&around, &entry.version, plan, readers)? else {
        sometimes!("a compaction is cancelled by closing");
        return Ok(false);
    };
    let outputs = edit.added.len();
    let is_input = |table: &TableMeta| plan.tables().any(|(_, input)| input.number == table.number);
    let moved = plan.trivial_move && edit.added.iter().any(|(_, table)| is_input(table));
    sometimes!("a table moves down as it is", if moved);
    sometimes!("a compaction leaves no table", if outputs == 0);
    sometimes!("tables that have expired go unread", if plan.expired);
    sometimes!("a compaction writes several tables", if outputs > 1);
    if !moved && outputs > 0 {
        state.env.sync_dir(&state.dir)?;
        let bytes = edit.added.iter().map(|(_, table)| table.bytes).sum::<u64>() + blob_bytes(&edit);
        Counters::add(&state.counters.compaction_bytes, bytes);
        state.meters.wrote_level(plan.output_level, bytes);
        for (level, tables) in &plan.inputs {
            state.meters.read_level(*level, tables.iter().map(|table| table.bytes).sum());
        }
    }
    state.env.yield_point("compaction: tables durable, not yet installed");
    if !state.install_compacted(plan.keyspace, edit)? {
        return Ok(false);
    }
    state.events.tell(|| Event::Compacted {
        level: plan.level(),
        inputs: plan.tables().count(),
        outputs,
        moved,
        levels: shape(&state.view.load().catalog),
    });
    Ok(true)
}

/// Compacts what a keyspace holds of the user keys `[from, to]` down to the last level that holds any of it, in the calling
/// task; there, tables that it did not write itself are rewritten in place. What is flushed meanwhile is left alone, so that
/// it comes to an end beside writers.
pub(crate) fn compact_range(state: &State, keyspace: KeyspaceId, from: Option<&[u8]>, to: Option<&[u8]>) -> Result<()> {
    let number_end = state.numbers.peek();
    for level in 0..state.options.levels {
        while let Some((plan, claim)) = begin_manual(state, keyspace, level, from, to, number_end)? {
            let result = compact(state, &plan);
            // What is damaged is left, and the rest goes around it.
            let result = result.or_else(|error| match quarantine::blame_inputs(state, &plan, &error) {
                true => Ok(()),
                false => Err(error),
            });
            if !end(state, &claim, result.clone().err()) {
                result?;
            }
        }
    }
    Ok(())
}

/// The next step of a manual compaction of `level`, marked as running once nothing that runs is in its way. Tables from
/// `number_end` on are newer than the compaction.
fn begin_manual(
    state: &State,
    keyspace: KeyspaceId,
    level: usize,
    from: Option<&[u8]>,
    to: Option<&[u8]>,
    number_end: u64,
) -> Result<Option<(Plan, Claim)>> {
    let mut work = state.work.lock();
    work.manual_waiting += 1;
    let begun = loop {
        if work.shutting_down {
            break Err(Error::Closed);
        }
        let view = state.view.load_full();
        let entry = match view.keyspace(keyspace) {
            Ok(entry) => entry,
            Err(gone) => break Err(gone),
        };
        let Some(plan) = picker::plan_range(&entry.version, level, from, to, number_end, &entry.options) else {
            break Ok(None);
        };
        let claim = plan.claim();
        if work.running.iter().all(|other| claim.is_compatible(other)) {
            sometimes!("a manual compaction rewrites the last level in place", if plan.output_level == plan.level());
            break Ok(Some((plan.clone(), begin(state, &mut work, &plan))));
        }
        sometimes!("a manual compaction waits for another");
        state.work_changed.wait(&mut work);
    };
    work.manual_waiting -= 1;
    drop(work);
    state.work_changed.notify_all();
    begun
}

/// Numbers drawn for files that are not in the manifest yet.
struct Drawn<'a> {
    state: &'a State,
    files: Mutex<Vec<FileKind>>,
}

impl Drawn<'_> {
    fn new(state: &State) -> Drawn<'_> {
        Drawn { state, files: Mutex::new("files begun by a job", Vec::new()) }
    }

    /// For a file of this kind.
    fn draw(&self, kind: fn(u64) -> FileKind) -> u64 {
        let number = self.state.numbers.next();
        self.files.lock().push(kind(number));
        number
    }

    /// The job came to nothing: its files can go.
    fn abandon(self) {
        let files = self.files.into_inner();
        self.state.work.lock().obsolete.extend(files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::ErrorKind;
    use std::path::Path;

    #[test]
    fn a_compaction_that_fails_again_and_again_waits_longer_but_for_space() {
        let damaged = Error::corruption(Path::new("000001.sst"), 0, "a footer, found zeros");
        let full = Error::io("write", Path::new("000001.sst"), None, ErrorKind::StorageFull.into());
        let wait = |retry_ms, error, in_a_row| {
            compaction_retry(Duration::from_millis(retry_ms), error, in_a_row).as_millis() as u64
        };
        for (retry_ms, in_a_row, expected) in [
            (1000, 1, 1000),
            (1000, 2, 2000),
            (1000, 5, 16_000),
            (1000, 6, 30_000),
            (1, u32::MAX, 30_000),
            (60_000, 9, 60_000),
        ] {
            assert_eq!(wait(retry_ms, &damaged, in_a_row), expected, "{in_a_row} times {retry_ms} ms");
            assert_eq!(wait(retry_ms, &full, in_a_row), retry_ms);
        }
    }
}
