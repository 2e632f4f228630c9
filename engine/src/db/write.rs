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
//! W4. All of a group goes to one log and one generation of memtables.
//! W5. A writer that gives up, because its time is over or it was not to wait, has not come to a log, and keeps nobody else.
//! W6. What goes to the log is for keyspaces that exist, and none is dropped before it is in the memtable.

use crate::batch::WriteBatch;
use crate::db::conflict::{Guard, Written};
use crate::db::health::Part;
use crate::db::memory;
use crate::db::stall::{Cause, Patience, wait_until, wait_while_stalled};
use crate::db::state::{Commit, Counters, Frozen, ReadView, State};
use crate::error::{Error, Result};
use crate::event::{Event, Operation};
use crate::filename::FileKind;
use crate::key::{KEYSPACE_DEFAULT, KeyspaceId, SEQNO_MAX, SeqNo};
use crate::manifest::edit::VersionEdit;
use crate::mark::sometimes;
use crate::memtable::Generation;
use crate::options::Durability;
use crate::sync::{Condvar, Mutex};
use crate::wal::{ClosedWal, KeptWal, WalWriter};
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
    /// What the leader waits for before it commits, if it does.
    stalled: Option<Cause>,
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
    patience: Patience,
    /// What took longest, for people.
    waited_for: &'static str,
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
        CommitQueue {
            inner: Mutex::new(
                "the queue of writers",
                Queue { leading: false, stalled: None, waiting: VecDeque::new() },
            ),
        }
    }

    /// Commits a batch, together with others that come at the same time. An empty batch commits nothing, and with
    /// `Durability::Always` still makes everything before it durable.
    ///
    /// With a guard, nothing is done where what it names was written by others, and [`Error::Conflict`] says so. Says beside
    /// the result what took longest.
    pub(crate) fn write(
        &self,
        state: &State,
        batch: &mut WriteBatch,
        durability: Durability,
        guard: Option<Guard>,
        patience: Patience,
    ) -> (Result<()>, &'static str) {
        batch.set_seqno(None);
        if let Err(refused) = batch.check().and_then(|()| state.ensure_open()) {
            return (Err(refused), "nothing");
        }
        let mut given = None;
        if state.has_default_ttl() && batch.puts_plainly_into(|keyspace| state.default_ttl_ms(keyspace).is_some()) {
            let with_default = batch.with_default_ttl(|keyspace| state.default_ttl_ms(keyspace));
            if let Err(refused) = with_default.check() {
                return (Err(refused), "nothing");
            }
            given = Some(std::mem::replace(batch, with_default));
        }
        batch.begin_lifetimes(|| state.now_ms());
        let batch_taken = std::mem::take(batch);
        let waited_for = "the log, and the writers before it";
        let request = Request { batch: batch_taken, durability, guard, refusal: None, patience, waited_for };
        let (request, result) = self.commit(state, request);
        *batch = request.batch;
        if let Some(mut given) = given.filter(|_| result.is_err()) {
            // As it was before.
            given.note_attempt(batch);
            *batch = given;
        }
        (result, request.waited_for)
    }

    fn commit(&self, state: &State, request: Request) -> (Request, Result<()>) {
        let mut queue = self.inner.lock();
        if !queue.leading {
            queue.leading = true;
            drop(queue);
            return self.lead(state, request);
        }
        if let (Some(cause), true) = (queue.stalled, request.patience.no_wait) {
            sometimes!("a writer that does not wait comes to a queue that does");
            return (request, Err(cause.refusal()));
        }
        let mut until = request.patience.until;
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
                    if wait_until(state, &ticket.changed, &mut slot, until) {
                        continue;
                    }
                    drop(slot);
                    if let Some(request) = self.withdraw(&ticket) {
                        sometimes!("a writer gives up its place in the queue");
                        let cause = "the writers before it had not come to their end".to_string();
                        return (request, Err(Error::TimedOut { cause }));
                    }
                    // It is being written, or is to lead: what comes of that comes soon.
                    until = None;
                    slot = ticket.slot.lock();
                }
            }
        }
    }

    /// Takes a request out of the queue, if it is still in it.
    fn withdraw(&self, ticket: &Arc<Ticket>) -> Option<Request> {
        let mut queue = self.inner.lock();
        let place = queue.waiting.iter().position(|other| Arc::ptr_eq(other, ticket))?;
        queue.waiting.remove(place);
        match std::mem::replace(&mut *ticket.slot.lock(), Slot::Taken) {
            Slot::Waiting(request) => Some(request),
            _ => unreachable!("a queued ticket waits"),
        }
    }

    /// The leader has to wait for background work: those behind it that are not to wait go away.
    fn stall(&self, cause: Cause) {
        let mut queue = self.inner.lock();
        queue.stalled = Some(cause);
        let waiting = std::mem::take(&mut queue.waiting);
        for ticket in waiting {
            let mut slot = ticket.slot.lock();
            match std::mem::replace(&mut *slot, Slot::Taken) {
                Slot::Waiting(request) if request.patience.no_wait => {
                    sometimes!("a writer that does not wait is sent away by one that does");
                    *slot = Slot::Done(request, Err(cause.refusal()));
                    ticket.changed.notify_one();
                }
                waits => {
                    *slot = waits;
                    drop(slot);
                    queue.waiting.push_back(ticket);
                }
            }
        }
    }

    /// Commits a request and those that wait behind it.
    fn lead(&self, state: &State, request: Request) -> (Request, Result<()>) {
        let mut stalled = false;
        let room = make_room(state, request.patience, &mut |cause| {
            stalled = true;
            self.stall(cause);
        });
        if stalled {
            self.inner.lock().stalled = None;
        }
        if let Err(error @ (Error::Stalled { .. } | Error::TimedOut { .. })) = room {
            // Its own business: the next one may have more patience.
            self.hand_over();
            return (request, Err(error));
        }
        let followers = self.gather(&request, state.options.group_commit_bytes_max);
        sometimes!("a group commit has followers", if !followers.is_empty());
        let commit = |group: &mut [Request]| {
            let has_waited = room.as_ref().is_ok_and(|waited| !waited.is_zero());
            let result = room.and_then(|_| commit_group(state, group));
            if has_waited {
                group.iter_mut().for_each(|request| request.waited_for = "background work that is behind");
            }
            self.hand_over();
            result
        };
        if followers.is_empty() {
            let mut own = request;
            let result = commit(std::slice::from_mut(&mut own));
            let verdict = own.verdict(&result);
            return (own, verdict);
        }
        let mut group = Vec::with_capacity(1 + followers.len());
        group.push(request);
        for ticket in &followers {
            match std::mem::replace(&mut *ticket.slot.lock(), Slot::Taken) {
                Slot::Waiting(request) => group.push(request),
                _ => unreachable!("only the leader takes requests from tickets"),
            }
        }
        let result = commit(&mut group);
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
    refuse_unknown_keyspaces(state, group);
    refuse_merges(state, group);
    refuse_puts(state, group);
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
    commit.wal_acknowledged = commit.wal.as_ref().map_or(0, WalWriter::bytes);
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

/// While the reserve of space is given up, the room that it has left is for deletes.
fn refuse_puts(state: &State, group: &mut [Request]) {
    let Some(error) = state.reserve.refusal() else { return };
    for request in group.iter_mut().filter(|request| !request.batch.only_deletes()) {
        sometimes!("a put is refused because the reserve of space is given up");
        request.refusal = Some(error.clone());
    }
    sometimes!("a delete is taken while the reserve of space is given up", if group.iter().any(Request::is_logged));
}

/// Refuses batches for keyspaces that do not exist (W6).
fn refuse_unknown_keyspaces(state: &State, group: &mut [Request]) {
    for request in group.iter_mut().filter(|request| !request.batch.keyspaces().is_empty()) {
        let view = state.view.load();
        let mut unknown = request.batch.keyspaces().iter().filter_map(|&id| view.keyspace(id).err());
        request.refusal = unknown.next();
        sometimes!("a batch is refused because a keyspace is gone", if request.refusal.is_some());
    }
}

/// Refuses operands for keyspaces that have no merge operator: nobody could ever say what became of them.
fn refuse_merges(state: &State, group: &mut [Request]) {
    for request in group.iter_mut().filter(|request| !request.batch.merged_keyspaces().is_empty()) {
        let view = state.view.load();
        let has_none =
            |id: &&KeyspaceId| view.catalog.get(**id).is_some_and(|entry| entry.options.operator().is_none());
        if let Some(id) = request.batch.merged_keyspaces().iter().find(has_none) {
            let option = if *id == KEYSPACE_DEFAULT { "Options" } else { "KeyspaceOptions" };
            request.refusal.get_or_insert_with(|| {
                let what = "has no merge operator, and takes no operands";
                Error::InvalidArgument(format!("keyspace {id} {what}: name one in {option}::merge_operator"))
            });
        }
    }
}

/// Decides of each batch that rests on something whether it may commit behind those of the group before it.
fn refuse_conflicts(state: &State, group: &mut [Request]) {
    let Some(last) = group.iter().rposition(|request| request.guard.is_some()) else { return };
    let mut written = Written::default();
    for request in &mut group[..=last] {
        if let (Some(guard), None) = (&request.guard, &request.refusal) {
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
    if state.archives() && group.iter().any(Request::is_logged) {
        let wall_ms = state.env.wall_ms();
        if wall_ms > commit.stamp_ms {
            wal.push_stamp(wall_ms);
            commit.stamp_ms = wall_ms;
        }
    }
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
        let begun = state.env.now();
        wal.sync()?;
        Counters::add(&state.counters.syncs, 1);
        state.meters.note(Operation::LogSync, state.env.now().saturating_sub(begun), "the disk");
        group.iter_mut().for_each(|request| request.waited_for = "a sync of the log");
    }
    if sync {
        commit.sync_due = None;
    }
    Ok(())
}

/// Puts a logged batch into the memtable. The values stay where they are and are shared.
fn insert(memtable: &Generation, batch: &mut WriteBatch) {
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
    let so_far = sync_wal(state, &mut commit)?;
    Ok(look(so_far, commit.next_seqno - 1))
}

/// Makes everything that was written durable, and returns the log as one who replays it must know it.
pub(super) fn sync_wal(state: &State, commit: &mut Commit) -> Result<ClosedWal> {
    let wal = commit.wal.as_mut().expect("checked to be there");
    if wal.synced_bytes() < wal.bytes() {
        Counters::add(&state.counters.syncs, 1);
        if let Err(error) = wal.sync() {
            abandon_wal(state, commit, &error);
            return Err(error);
        }
    }
    let so_far = ClosedWal { number: wal.number(), bytes: wal.bytes(), last_seqno: wal.last_seqno() };
    commit.sync_due = None;
    Ok(so_far)
}

pub(super) fn refuse_if_failed(state: &State, commit: &Commit) -> Result<()> {
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
pub(super) fn abandon_wal(state: &State, commit: &mut Commit, error: &Error) {
    sometimes!("wal abandoned after a failure");
    sometimes!("wal abandoned while memtables wait for their flush", if !state.view.load().frozen.is_empty());
    state.tell_failure("a write to the log", error);
    commit.wal = None;
    commit.sync_due = None;
    commit.failure = Some(error.clone());
    state.vitals.report(&state.events, Part::Log, Some(error));
    freeze(state, commit, commit.next_seqno - 1);
    state.reserve.give_up(&state.vitals, error);
    state.work.lock().resume_due = true;
    state.work_changed.notify_all();
}

/// The active memtable takes no more writes, and an empty one takes its place. `last_seqno`: the last that was given to a write
/// for its log.
fn freeze(state: &State, commit: &Commit, last_seqno: SeqNo) {
    let memtable = Arc::new(Generation::new());
    let kept = state.archives().then_some(KeptWal {
        number: commit.wal_number,
        bytes: commit.wal_acknowledged,
        first_seqno: commit.wal_first_seqno,
        last_seqno,
    });
    state.view.rcu(|view| {
        let frozen = Arc::new(Frozen { memtable: view.memtable.clone(), wal: commit.wal_number, last_seqno, kept });
        ReadView {
            memtable: memtable.clone(),
            frozen: std::iter::once(frozen).chain(view.frozen.iter().cloned()).collect(),
            catalog: view.catalog.clone(),
            has_range_deletes: view.has_range_deletes,
            reads_from: view.reads_from,
        }
    });
}

/// Freezes the active memtable and begins a new log. The old log is whole and synced, and the manifest says so, before the
/// new one takes its first record: so no later write can survive an earlier one.
fn rotate(state: &State, commit: &mut Commit) -> Result<()> {
    rotate_with(state, commit, VersionEdit::default(), commit.next_seqno)
}

/// The same, and makes a change to keyspaces in the same step, so that no log for an archive knows two lists of them.
/// `first_seqno`: the first that belongs to the new log, which is that of the change, where it has one.
pub(super) fn rotate_with(state: &State, commit: &mut Commit, change: VersionEdit, first_seqno: SeqNo) -> Result<()> {
    let result = begin_wal_behind(state, commit, change, first_seqno);
    match result {
        Ok(wal) => {
            state.env.yield_point("rotation: log begun, memtable not yet frozen");
            sometimes!("wal rotated while a snapshot is live", if is_any_snapshot_live(state));
            sometimes!("wal rotated while a flush runs", if state.work.try_lock().is_some_and(|work| work.flushing));
            freeze(state, commit, first_seqno - 1);
            state.env.yield_point("rotation: memtable frozen, log not yet in use");
            state.events.tell(|| Event::WalRotated { wal: wal.number() });
            commit.take_up(state, wal, first_seqno);
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
    state.snapshots.try_lock().is_some_and(|snapshots| !snapshots.holders.is_empty())
}

fn begin_wal_behind(state: &State, commit: &mut Commit, change: VersionEdit, first_seqno: SeqNo) -> Result<WalWriter> {
    let closed = commit.wal.take().expect("checked to be there").close()?;
    Counters::add(&state.counters.syncs, 1);
    let wal = create_wal(state, first_seqno, &change)?;
    let edit = VersionEdit {
        wals_closed: vec![closed],
        wals_added: vec![wal.number()],
        last_seqno: Some(commit.next_seqno - 1),
        ..change
    };
    state.install(edit, None)?;
    Ok(wal)
}

/// A new log with a durable name, for the keyspaces that there are after a change.
fn create_wal(state: &State, first_seqno: SeqNo, change: &VersionEdit) -> Result<WalWriter> {
    let number = state.numbers.next();
    let version = state.versions.lock().format_version();
    let created = WalWriter::create(&state.env, &state.dir, number, (state.store, version), first_seqno);
    let begun = created.and_then(|mut wal| {
        if state.archives() {
            let keyspaces = state.versions.lock().keyspaces_after(change).encode();
            wal.begin_for_archive(&keyspaces, state.env.wall_ms())?;
        }
        Ok(wal)
    });
    let durable = begun.and_then(|wal| state.env.sync_dir(&state.dir).map(|()| wal));
    if durable.is_err() {
        sometimes!("a new wal cannot be created");
        state.work.lock().obsolete.insert(FileKind::Wal(number));
    }
    durable
}

impl Commit {
    /// Writes go to this log from now on.
    fn take_up(&mut self, state: &State, wal: WalWriter, first_seqno: SeqNo) {
        state.wal_bytes.store(wal.bytes(), Ordering::Relaxed);
        self.wal_number = wal.number();
        self.wal_first_seqno = first_seqno;
        self.wal_acknowledged = wal.bytes();
        self.stamp_ms = 0;
        self.wal = Some(wal);
    }
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
    let wal = create_wal(state, commit.next_seqno, &VersionEdit::default())?;
    let edit = VersionEdit {
        wals_added: vec![wal.number()],
        last_seqno: Some(commit.next_seqno - 1),
        ..VersionEdit::default()
    };
    state.install(edit, None)?;
    let first_seqno = commit.next_seqno;
    commit.take_up(state, wal, first_seqno);
    sometimes!("the store resumes with a new wal");
    sometimes!("the store resumes after the disk was full", if matches!(commit.failure, Some(Error::OutOfSpace(_))));
    commit.failure = None;
    state.vitals.report(&state.events, Part::Log, None);
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

/// Has all that was written so far go to a log that takes no more, for the archive. Returns the last seqno of it.
pub(crate) fn rotate_for_archive(state: &State) -> Result<SeqNo> {
    let mut commit = state.commit.lock();
    refuse_if_failed(state, &commit)?;
    let last = commit.next_seqno - 1;
    if commit.wal_first_seqno <= last {
        rotate(state, &mut commit)?;
    }
    Ok(last)
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

/// Whether the memtable should be frozen: it holds enough, or its log takes more than its share of what all may take.
fn is_full(state: &State, view: &ReadView) -> bool {
    let options = &state.options;
    let wal_share = options.wal_bytes_max / options.memtables_max as u64;
    view.memtable.is_full(options.memtable_bytes)
        || (memory::is_half_full(options, view) && !view.memtable.is_empty())
        || (state.wal_bytes.load(Ordering::Relaxed) > wal_share && !view.memtable.is_empty())
}

/// How fast a writer may go: a pure function of how far the background is behind.
fn pace(state: &State, view: &ReadView, slept: bool) -> Pace {
    let options = &state.options;
    let full = is_full(state, view);
    let tables = view.catalog.level_zero_max();
    let too_many = view.frozen.len() + 1 >= options.memtables_max;
    if full && (too_many || (memory::is_half_full(options, view) && !view.frozen.is_empty())) {
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

/// Waits until a writer may go on, as long as its patience lasts; calls `stall` before it does. Returns how long it waited. A
/// stall ends with an error when the background work that it waits for has failed: it always waits for something that can run.
fn make_room(state: &State, patience: Patience, stall: &mut dyn FnMut(Cause)) -> Result<Duration> {
    let mut slept = false;
    let mut waited = Duration::ZERO;
    loop {
        if patience.until.is_some_and(|until| until <= state.env.now()) {
            return Err(Error::TimedOut { cause: "its turn came too late".into() });
        }
        let view = state.view.load_full();
        match pace(state, &view, slept) {
            Pace::Go => return Ok(waited),
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
                return Ok(waited);
            }
            Pace::Slow(duration) => {
                let cause = Cause::LevelZero(view.catalog.level_zero_max());
                if patience.no_wait {
                    return Err(cause.refusal());
                }
                sometimes!("a writer is slowed by level 0");
                stall(cause);
                let begun = state.meters.begin(Operation::Slowdown);
                let left = patience.until.map(|until| until.saturating_sub(state.env.now()));
                state.env.sleep(left.map_or(duration, |left| left.min(duration)));
                state.meters.end(Operation::Slowdown, begun, &[], "level 0");
                waited += duration;
                slept = true;
                if left.is_some_and(|left| left <= duration) {
                    return Err(Error::TimedOut { cause: cause.to_string() });
                }
            }
            Pace::Wait(cause) => {
                sometimes!("a writer is stalled by level 0", if matches!(cause, Cause::LevelZero(_)));
                sometimes!("a writer is stalled by frozen memtables", if matches!(cause, Cause::Memtables(_)));
                if patience.no_wait {
                    sometimes!("a writer does not wait");
                    return Err(cause.refusal());
                }
                stall(cause);
                state.events.tell(|| Event::Stalled { cause: cause.to_string() });
                Counters::add(&state.counters.stalls, 1);
                let begun = state.env.now();
                let result = wait_while_stalled(state, cause, patience.until);
                let stalled = state.env.now().saturating_sub(begun);
                state.meters.note(cause.operation(), stalled, "background work that is behind");
                waited += stalled;
                result?;
            }
        }
    }
}
