//! The way of a write: a queue of writers, one leader, one log write and at most one sync for the group.
//!
//! The writer who finds nobody leading leads. It takes along those who wait behind it, up to a number of bytes, writes all
//! their batches to the log at once, syncs if one of them asked for it, puts them into the memtable, makes them visible, and
//! tells each follower the result that is true for it. The next in the queue then leads.
//!
//! W1. A seqno that was given to a batch is never given again in this run, whatever became of the batch.
//! W2. A batch is acknowledged only after its record, and every record before it in this log, was written (and synced, if
//!     asked for) without error; logs before this one were synced when they were closed.
//! W3. After a failed write or sync of the log nothing more goes to that log. Its memtable is frozen, flushed to a table, and
//!     the log is removed from the manifest before a new log takes writes: what failed can no longer appear.
//! W4. All of a group goes to one log and one memtable.

use crate::batch::WriteBatch;
use crate::db::conflict::{Guard, Written};
use crate::db::state::{Commit, Counters, Frozen, ReadView, State};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::filename::FileKind;
use crate::key::{SEQNO_MAX, SeqNo};
use crate::manifest::edit::VersionEdit;
use crate::mark::sometimes;
use crate::memtable::Memtable;
use crate::options::Durability;
use crate::sync::{Condvar, Mutex};
use crate::wal::{ClosedWal, WalWriter};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Writers that wait for their turn.
pub(crate) struct CommitQueue {
    inner: Mutex<Queue>,
}

struct Queue {
    leading: bool,
    waiting: VecDeque<Arc<Ticket>>,
}

/// One waiting writer.
struct Ticket {
    slot: Mutex<Slot>,
    changed: Condvar,
}

enum Slot {
    Waiting(Request),
    /// The leader has the request.
    Taken,
    /// The writer is to lead.
    Leads(Request),
    Done(Request, Result<()>),
}

/// A batch on its way.
struct Request {
    batch: WriteBatch,
    durability: Durability,
    /// What must not have been written by others.
    guard: Option<Guard>,
    /// Why it is not to be written, though the others of its group are.
    refusal: Option<Error>,
}

impl Request {
    fn bytes(&self) -> u64 {
        self.batch.bytes() as u64
    }

    /// Whether it is to go to the log.
    fn is_logged(&self) -> bool {
        self.refusal.is_none() && !self.batch.is_empty()
    }

    /// What its writer is told, where its group came to this result.
    fn verdict(&self, group: &Result<()>) -> Result<()> {
        self.refusal.clone().map_or_else(|| group.clone(), Err)
    }

    fn wants_sync(&self) -> bool {
        self.durability == Durability::Always
    }
}

impl CommitQueue {
    pub(crate) fn new() -> CommitQueue {
        CommitQueue { inner: Mutex::new("the queue of writers", Queue { leading: false, waiting: VecDeque::new() }) }
    }

    /// Commits a batch, together with others that come at the same time. An empty batch commits nothing, and with
    /// `Durability::Always` still makes everything before it durable.
    ///
    /// With a guard, nothing is done where what it names was written by others, and [`Error::Conflict`] says so.
    pub(crate) fn write(
        &self,
        state: &State,
        batch: &mut WriteBatch,
        durability: Durability,
        guard: Option<Guard>,
    ) -> Result<()> {
        batch.set_seqno(None);
        batch.check()?;
        state.ensure_open()?;
        let mut given = None;
        if state.has_default_ttl() && batch.puts_plainly_into(|keyspace| state.default_ttl_ms(keyspace).is_some()) {
            let with_default = batch.with_default_ttl(|keyspace| state.default_ttl_ms(keyspace));
            with_default.check()?;
            given = Some(std::mem::replace(batch, with_default));
        }
        batch.begin_lifetimes(|| state.now_ms());
        let request = Request { batch: std::mem::take(batch), durability, guard, refusal: None };
        let (request, result) = self.commit(state, request);
        *batch = request.batch;
        if let Some(mut given) = given.filter(|_| result.is_err()) {
            // As it was before.
            given.note_attempt(batch);
            *batch = given;
        }
        result
    }

    fn commit(&self, state: &State, request: Request) -> (Request, Result<()>) {
        let mut queue = self.inner.lock();
        if !queue.leading {
            queue.leading = true;
            drop(queue);
            return self.lead(state, request);
        }
        let ticket = Arc::new(Ticket {
            slot: Mutex::new("a writer's ticket", Slot::Waiting(request)),
            changed: Condvar::new("the leader of the group commit"),
        });
        queue.waiting.push_back(ticket.clone());
        drop(queue);
        let mut slot = ticket.slot.lock();
        loop {
            match std::mem::replace(&mut *slot, Slot::Taken) {
                Slot::Done(request, result) => return (request, result),
                Slot::Leads(request) => {
                    drop(slot);
                    return self.lead(state, request);
                }
                unfinished => {
                    *slot = unfinished;
                    ticket.changed.wait(&mut slot);
                }
            }
        }
    }

    /// Commits a request and those that wait behind it.
    fn lead(&self, state: &State, request: Request) -> (Request, Result<()>) {
        let room = make_room(state);
        let followers = self.gather(&request, state.options.group_commit_bytes_max);
        sometimes!("a group commit has followers", if !followers.is_empty());
        let mut group = Vec::with_capacity(1 + followers.len());
        group.push(request);
        for ticket in &followers {
            match std::mem::replace(&mut *ticket.slot.lock(), Slot::Taken) {
                Slot::Waiting(request) => group.push(request),
                _ => unreachable!("only the leader takes requests from tickets"),
            }
        }
        let result = room.and_then(|()| commit_group(state, &mut group));
        self.hand_over();
        let mut group = group.into_iter();
        let own = group.next().expect("the leader's own request comes first");
        for (ticket, request) in followers.iter().zip(group) {
            let verdict = request.verdict(&result);
            *ticket.slot.lock() = Slot::Done(request, verdict);
            ticket.changed.notify_one();
        }
        let verdict = own.verdict(&result);
        (own, verdict)
    }

    /// Those at the front of the queue that fit into one group with `first`. One who wants a sync is not taken along by one
    /// who does not, whom it would delay.
    fn gather(&self, first: &Request, bytes_max: u64) -> Vec<Arc<Ticket>> {
        let mut queue = self.inner.lock();
        let mut bytes = first.bytes();
        let mut taken = Vec::new();
        while let Some(ticket) = queue.waiting.front() {
            let fits = match &*ticket.slot.lock() {
                Slot::Waiting(request) => {
                    bytes += request.bytes();
                    let delays = !first.wants_sync() && request.wants_sync();
                    sometimes!("a waiting writer does not fit into the group", if bytes > bytes_max);
                    sometimes!("a writer that wants a sync waits behind a group that does not", if delays);
                    bytes <= bytes_max && !delays
                }
                _ => unreachable!("a queued ticket waits"),
            };
            if !fits {
                break;
            }
            taken.extend(queue.waiting.pop_front());
        }
        taken
    }

    /// Lets the next in the queue lead.
    fn hand_over(&self) {
        let mut queue = self.inner.lock();
        match queue.waiting.pop_front() {
            None => queue.leading = false,
            Some(ticket) => {
                sometimes!("the next waiting writer is told to lead");
                drop(queue);
                let mut slot = ticket.slot.lock();
                match std::mem::replace(&mut *slot, Slot::Taken) {
                    Slot::Waiting(request) => *slot = Slot::Leads(request),
                    _ => unreachable!("a queued ticket waits"),
                }
                drop(slot);
                ticket.changed.notify_one();
            }
        }
    }
}

/// Logs a group, syncs it if one of it asks for that, and makes it visible. All or none of it succeeds, but for those that
/// are refused because of what others wrote.
fn commit_group(state: &State, group: &mut [Request]) -> Result<()> {
    let mut commit = state.commit.lock();
    refuse_if_failed(state, &commit)?;
    refuse_conflicts(state, group);
    let logged = group.iter().filter(|request| request.is_logged());
    let entries: u64 = logged.map(|request| u64::from(request.batch.count())).sum();
    if commit.next_seqno + entries > SEQNO_MAX {
        return Err(Error::InvalidArgument("the store has used up its 2^56 sequence numbers".into()));
    }
    let sync = group.iter().any(Request::wants_sync);
    sometimes!("a sync commits no entry", if sync && entries == 0);
    sometimes!("a buffered write is synced along with its group", if sync && !group.iter().all(Request::wants_sync));
    if let Err(error) = log_group(state, &mut commit, group, sync) {
        abandon_wal(state, &mut commit, &error);
        return Err(error);
    }
    state.env.yield_point("write: logged, not yet inserted");
    if entries > 0 {
        let view = state.view.load_full();
        for request in group.iter_mut() {
            insert(&view.memtable, &mut request.batch);
        }
        state.env.yield_point("write: inserted, not yet visible");
        state.visible.store(commit.next_seqno - 1, Ordering::Release);
        state.env.yield_point("write: visible, not yet acknowledged");
    }
    Counters::add(&state.counters.groups, 1);
    Counters::add(&state.counters.writes, group.len() as u64);
    if !sync {
        promise_sync(state, &mut commit, group);
    }
    Ok(())
}

/// Decides of each batch that rests on something whether it may commit behind those of the group before it.
fn refuse_conflicts(state: &State, group: &mut [Request]) {
    let Some(last) = group.iter().rposition(|request| request.guard.is_some()) else { return };
    let mut written = Written::default();
    for request in &mut group[..=last] {
        if let Some(guard) = &request.guard {
            request.refusal = guard.hold(state, &written).err();
            sometimes!("a transaction meets another one in its group", if request.refusal.is_some() && !written.is_empty());
        }
        if request.refusal.is_none() {
            written.add(&request.batch);
        }
    }
}

fn log_group(state: &State, commit: &mut Commit, group: &mut [Request], sync: bool) -> Result<()> {
    let wal = commit.wal.as_mut().expect("checked to be there");
    let before = wal.bytes();
    for request in group.iter_mut().filter(|request| request.is_logged()) {
        request.batch.set_seqno(Some(commit.next_seqno));
        wal.push(commit.next_seqno, &request.batch);
        commit.next_seqno += u64::from(request.batch.count());
        Counters::add(&state.counters.user_bytes, request.bytes());
    }
    wal.write()?;
    Counters::add(&state.counters.wal_bytes, wal.bytes() - before);
    state.wal_bytes.store(wal.bytes(), Ordering::Relaxed);
    sometimes!("a sync finds everything synced", if sync && wal.synced_bytes() == wal.bytes());
    if sync && wal.synced_bytes() < wal.bytes() {
        wal.sync()?;
        Counters::add(&state.counters.syncs, 1);
    }
    if sync {
        commit.sync_due = None;
    }
    Ok(())
}

/// Puts a logged batch into the memtable. The values stay where they are and are shared.
fn insert(memtable: &Memtable, batch: &mut WriteBatch) {
    let Some(first) = batch.seqno() else { return };
    let entries = batch.take_entries().map(|entry| entry.expect("a batch that was put together here can be read"));
    memtable.insert_batch(first, entries);
}

/// Notes by when a periodic write must be synced, for the background task.
fn promise_sync(state: &State, commit: &mut Commit, group: &[Request]) {
    let soonest = group.iter().filter_map(|request| match request.durability {
        Durability::PeriodicMs(ms) => Some(Duration::from_millis(ms)),
        _ => None,
    });
    let Some(within) = soonest.min() else { return };
    let due = state.env.now() + within;
    if commit.sync_due.is_none_or(|already| due < already) {
        commit.sync_due = Some(due);
        state.work.lock().sync_due = Some(due);
        state.work_changed.notify_all();
    }
}

/// Syncs the log because a periodic sync is due. A failure is told to the next writer.
pub(crate) fn sync_if_due(state: &State) {
    let mut commit = state.commit.lock();
    if commit.sync_due.is_none_or(|due| due > state.env.now()) {
        return;
    }
    commit.sync_due = None;
    let Some(wal) = commit.wal.as_mut() else { return };
    if wal.synced_bytes() == wal.bytes() {
        return;
    }
    sometimes!("a periodic sync comes due");
    Counters::add(&state.counters.syncs, 1);
    // The mark lets a later open tell damage in what was just synced from a torn tail, though no write follows.
    if let Err(error) = wal.sync().and_then(|()| wal.mark()) {
        state.tell_failure("a periodic sync of the log", &error);
        abandon_wal(state, &mut commit, &error);
    }
}

/// Makes everything that was written durable, and while nobody writes, calls `look` with the log as one who replays it must
/// know it, and with the last seqno that was given to a write, those of failed writes counted.
pub(crate) fn sync_and_look<T>(state: &State, look: impl FnOnce(ClosedWal, SeqNo) -> T) -> Result<T> {
    let mut commit = state.commit.lock();
    refuse_if_failed(state, &commit)?;
    let wal = commit.wal.as_mut().expect("checked to be there");
    if wal.synced_bytes() < wal.bytes() {
        Counters::add(&state.counters.syncs, 1);
        if let Err(error) = wal.sync() {
            abandon_wal(state, &mut commit, &error);
            return Err(error);
        }
    }
    let so_far = ClosedWal { number: wal.number(), bytes: wal.bytes(), last_seqno: wal.last_seqno() };
    commit.sync_due = None;
    Ok(look(so_far, commit.next_seqno - 1))
}

fn refuse_if_failed(state: &State, commit: &Commit) -> Result<()> {
    state.ensure_open()?;
    match &commit.failure {
        None => Ok(()),
        Some(cause @ Error::OutOfSpace(_)) => {
            sometimes!("a write is refused because the disk is full");
            Err(cause.clone())
        }
        Some(cause) => {
            sometimes!("a write is refused because the store is read-only");
            Err(Error::ReadOnly { cause: Box::new(cause.clone()) })
        }
    }
}

/// Gives up a log that failed (W3), and has the background task bring the store back to work.
fn abandon_wal(state: &State, commit: &mut Commit, error: &Error) {
    sometimes!("wal abandoned after a failure");
    sometimes!("wal abandoned while memtables wait for their flush", if !state.view.load().frozen.is_empty());
    state.tell_failure("a write to the log", error);
    commit.wal = None;
    commit.sync_due = None;
    commit.failure = Some(error.clone());
    freeze(state, commit);
    state.work.lock().resume_due = true;
    state.work_changed.notify_all();
}

/// The active memtable takes no more writes, and an empty one takes its place.
fn freeze(state: &State, commit: &Commit) {
    let memtable = Arc::new(Memtable::new());
    state.view.rcu(|view| {
        let frozen = Arc::new(Frozen {
            memtable: view.memtable.clone(),
            wal: commit.wal_number,
            last_seqno: commit.next_seqno - 1,
        });
        ReadView {
            memtable: memtable.clone(),
            frozen: std::iter::once(frozen).chain(view.frozen.iter().cloned()).collect(),
            version: view.version.clone(),
            has_range_deletes: view.has_range_deletes,
        }
    });
}

/// Freezes the active memtable and begins a new log. The old log is whole and synced, and the manifest says so, before the
/// new one takes its first record: so no later write can survive an earlier one.
fn rotate(state: &State, commit: &mut Commit) -> Result<()> {
    let result = begin_wal_behind(state, commit);
    match result {
        Ok(wal) => {
            state.env.yield_point("rotation: log begun, memtable not yet frozen");
            sometimes!("wal rotated while a snapshot is live", if is_any_snapshot_live(state));
            sometimes!("wal rotated while a flush runs", if state.work.try_lock().is_some_and(|work| work.flushing));
            freeze(state, commit);
            state.env.yield_point("rotation: memtable frozen, log not yet in use");
            state.events.tell(|| Event::WalRotated { wal: wal.number() });
            state.wal_bytes.store(wal.bytes(), Ordering::Relaxed);
            commit.wal_number = wal.number();
            commit.wal = Some(wal);
            commit.sync_due = None;
            let _work = state.work.lock();
            state.work_changed.notify_all();
            Ok(())
        }
        Err(error) => {
            sometimes!("wal rotation fails");
            abandon_wal(state, commit, &error);
            Err(error)
        }
    }
}

/// For a mark: never waits, and says no where it would have to.
fn is_any_snapshot_live(state: &State) -> bool {
    state.snapshots.try_lock().is_some_and(|snapshots| !snapshots.is_empty())
}

fn begin_wal_behind(state: &State, commit: &mut Commit) -> Result<WalWriter> {
    let closed = commit.wal.take().expect("checked to be there").close()?;
    Counters::add(&state.counters.syncs, 1);
    let wal = create_wal(state, commit.next_seqno)?;
    let edit = VersionEdit {
        wals_closed: vec![closed],
        wals_added: vec![wal.number()],
        last_seqno: Some(commit.next_seqno - 1),
        ..VersionEdit::default()
    };
    state.install(edit, None)?;
    Ok(wal)
}

fn create_wal(state: &State, next_seqno: SeqNo) -> Result<WalWriter> {
    let number = state.numbers.next();
    let created = WalWriter::create(&state.env, &state.dir, number, state.store, next_seqno);
    let durable = created.and_then(|wal| state.env.sync_dir(&state.dir).map(|()| wal));
    if durable.is_err() {
        sometimes!("a new wal cannot be created");
        state.work.lock().obsolete.insert(FileKind::Wal(number));
    }
    durable
}

/// Brings a store whose log failed back to work, once everything in memory has been flushed: begins a new log, and takes the
/// failed one out of the manifest if it is still there. Does nothing where the log is fine.
pub(crate) fn resume(state: &State) -> Result<()> {
    let mut commit = state.commit.lock();
    if commit.failure.is_none() || state.closed.load(Ordering::Acquire) {
        return Ok(());
    }
    if !state.view.load().frozen.is_empty() {
        // A write failed again since the flush began: flush that as well first.
        state.work.lock().resume_due = true;
        return Ok(());
    }
    let wal = create_wal(state, commit.next_seqno)?;
    let edit = VersionEdit {
        wals_added: vec![wal.number()],
        last_seqno: Some(commit.next_seqno - 1),
        ..VersionEdit::default()
    };
    state.install(edit, None)?;
    state.wal_bytes.store(wal.bytes(), Ordering::Relaxed);
    commit.wal_number = wal.number();
    commit.wal = Some(wal);
    sometimes!("the store resumes with a new wal");
    sometimes!("the store resumes after the disk was full", if matches!(commit.failure, Some(Error::OutOfSpace(_))));
    commit.failure = None;
    state.events.tell(|| Event::Resumed);
    Ok(())
}

/// Freezes the active memtable, if it holds anything, so that everything written so far can be flushed.
pub(crate) fn freeze_for_flush(state: &State) -> Result<()> {
    let mut commit = state.commit.lock();
    refuse_if_failed(state, &commit)?;
    if state.view.load().memtable.is_empty() {
        return Ok(());
    }
    rotate(state, &mut commit)
}

/// Ends the log with its trailer, synced: nothing more is written.
pub(crate) fn close_wal(state: &State) -> Result<()> {
    let mut commit = state.commit.lock();
    sometimes!("closing leaves entries to be replayed", if !state.view.load().memtable.is_empty());
    match (commit.wal.take(), commit.failure.take()) {
        (Some(wal), _) => wal.close().map(|_| ()),
        (None, Some(failure)) => {
            sometimes!("closing finds the wal abandoned");
            Err(failure)
        }
        (None, None) => Ok(()),
    }
}

/// What a writer must do before it may write.
#[derive(Debug, PartialEq, Eq)]
enum Pace {
    Go,
    /// Freeze the memtable first.
    Rotate,
    /// Sleep once, then go on.
    Slow(Duration),
    /// Wait for background work.
    Wait(Cause),
}

/// What a stalled writer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Memtables(usize),
    LevelZero(usize),
}

/// Whether the memtable should be frozen: it holds enough, or its log takes more than its share of what all may take.
fn is_full(state: &State, view: &ReadView) -> bool {
    let options = &state.options;
    let wal_share = options.wal_bytes_max / options.memtables_max as u64;
    view.memtable.is_full(options.memtable_bytes)
        || (state.wal_bytes.load(Ordering::Relaxed) > wal_share && !view.memtable.is_empty())
}

/// How fast a writer may go: a pure function of how far the background is behind.
fn pace(state: &State, view: &ReadView, slept: bool) -> Pace {
    let options = &state.options;
    let full = is_full(state, view);
    let tables = view.version.levels[0].len();
    if full && view.frozen.len() + 1 >= options.memtables_max {
        return Pace::Wait(Cause::Memtables(view.frozen.len()));
    }
    if tables >= options.l0_stop_trigger {
        return Pace::Wait(Cause::LevelZero(tables));
    }
    if tables > options.l0_slowdown_trigger && !slept {
        // From nothing to 10 ms a write, in proportion to the way from the slowdown to the stop.
        let over = (tables - options.l0_slowdown_trigger) as u32;
        let range = (options.l0_stop_trigger - options.l0_slowdown_trigger) as u32;
        return Pace::Slow(Duration::from_millis(10) * over / range);
    }
    if full { Pace::Rotate } else { Pace::Go }
}

/// Waits until a writer may go on. A stall ends with an error when the background work that it waits for has failed: it
/// always waits for something that can run.
fn make_room(state: &State) -> Result<()> {
    let mut slept = false;
    loop {
        let view = state.view.load_full();
        match pace(state, &view, slept) {
            Pace::Go => return Ok(()),
            Pace::Rotate => {
                let mut commit = state.commit.lock();
                refuse_if_failed(state, &commit)?;
                // Somebody else may have rotated meanwhile.
                if is_full(state, &state.view.load()) {
                    let memtable_is_full = view.memtable.is_full(state.options.memtable_bytes);
                    sometimes!(
                        "wal rotated because the log is long, though the memtable is not full",
                        if !memtable_is_full
                    );
                    rotate(state, &mut commit)?;
                } else {
                    sometimes!("wal rotated before a writer could do it");
                }
                return Ok(());
            }
            Pace::Slow(duration) => {
                sometimes!("a writer is slowed by level 0");
                state.env.sleep(duration);
                slept = true;
            }
            Pace::Wait(cause) => {
                sometimes!("a writer is stalled by level 0", if matches!(cause, Cause::LevelZero(_)));
                sometimes!("a writer is stalled by frozen memtables", if matches!(cause, Cause::Memtables(_)));
                state.events.tell(|| Event::Stalled { cause: format!("{cause:?}") });
                Counters::add(&state.counters.stalls, 1);
                wait_while_stalled(state, cause)?;
            }
        }
    }
}

fn wait_while_stalled(state: &State, cause: Cause) -> Result<()> {
    let mut work = state.work.lock();
    loop {
        if work.shutting_down {
            return Err(Error::Closed);
        }
        let failure = match cause {
            Cause::Memtables(_) => &work.flush_failure,
            Cause::LevelZero(_) => &work.compaction_failure,
        };
        if let Some(failure) = failure {
            sometimes!("a stall ends because its background work failed");
            return Err(failure.error.clone());
        }
        let view = state.view.load();
        let over = match cause {
            Cause::Memtables(_) => view.frozen.len() + 1 < state.options.memtables_max,
            Cause::LevelZero(_) => view.version.levels[0].len() < state.options.l0_stop_trigger,
        };
        if over {
            return Ok(());
        }
        drop(view);
        state.work_changed.wait(&mut work);
    }
}
