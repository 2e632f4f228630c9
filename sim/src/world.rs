//! A simulated machine: a disk that fails as told, clocks, and tasks that take turns on one OS thread.
//!
//! A [`World`] is a handle, cheap to clone and formally `Send + Sync`, because an engine demands that of its
//! surroundings; yet it works only on the OS thread that made it. The handle that [`World::new`] returned owns the
//! world: when it is dropped, all tasks are ended and everything is freed, whatever clones remain.
//!
//! The driver, which is whoever made the world, starts tasks with [`World::spawn`] and lets them run with
//! [`World::run`] or [`World::block_on`]. Tasks switch at switch points only, see [`crate::scheduler`]; files are reached
//! through [`crate::syscall`].
//!
//! A crash ([`World::crash`], or a fault that crashes) freezes the disk and fails every later call of this
//! *incarnation*. Its tasks run on, see errors everywhere, wait for no time, and must come to their end. Then
//! [`World::restart`] builds what the crash left of the disk, and the next incarnation begins. The clocks and the trace
//! go on.
//!
//! Invariants: the world's own lock is never held while a task switches; every source of variety is a named decision;
//! the trace has every event in it.

use crate::clock::{Clock, ClockMark, Costs, Timing};
use crate::disk::{CrashKind, CrashReport, Disk, Profile};
use crate::fault::{Call, FaultRule, FileClass, FsOp, Injector, Phase};
use crate::fiber::{self, Fiber, Panic, ThreadBound};
use crate::ledger::Ledger;
use crate::rng::{Decisions, Site};
use crate::sanitizer::{Protocol, Sanitizer};
use crate::scheduler::{Doing, Next, Policy, Scheduler, SwitchPoint, TaskId, Wait};
use crate::syncs::Syncs;
use crate::trace::{Keep, Trace, TraceSummary, fold, hash_bytes};
use crate::watch::{Level, Watch};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Switch points after which a run that goes on and on is given up, unless the configuration says otherwise.
const STEPS_MAX: u64 = 20_000_000;

/// Rounds in which doomed tasks may finish their destructors before what they own is leaked.
const DOOM_ROUNDS: usize = 64;

/// What a file is, by the last name of its path.
pub type Classify = Arc<dyn Fn(&str) -> FileClass + Send + Sync>;

/// What a world is made of.
pub struct WorldConfig {
    /// Where every choice comes from.
    pub decisions: Decisions,
    /// What a crash may keep.
    pub profile: Profile,
    /// Bytes that fit on the disk; any number where `None`.
    pub capacity: Option<u64>,
    /// A disk to begin with, instead of an empty one; the profile and capacity are then its own.
    pub disk: Option<Disk>,
    /// What goes wrong.
    pub faults: Vec<FaultRule>,
    /// What each file is, for faults that strike files of a class.
    pub classify: Classify,
    /// What files say about each other, for the durability sanitizer.
    pub protocol: Option<Arc<dyn Protocol>>,
    /// How tasks take turns.
    pub policy: Policy,
    /// The probability with which a wait ends without cause, as the contract of a condition allows.
    pub spurious_wakeups: f64,
    /// What work costs in virtual time.
    pub costs: Costs,
    /// Which lines of the trace are kept.
    pub keep: Keep,
    /// Switch points and waits after which [`World::run`] gives up with [`RunEnd::NoProgress`].
    pub steps_max: u64,
    /// A crash at the system call of this ordinal, counted from 1 over the whole run: for sweeps.
    pub crash_at_call: Option<(u64, CrashKind)>,
    /// What becomes of syncs.
    pub syncs: Syncs,
}

impl WorldConfig {
    /// An empty, endless disk without faults, on which tasks switch now and then.
    pub fn new(decisions: Decisions, profile: Profile) -> WorldConfig {
        WorldConfig {
            decisions,
            profile,
            capacity: None,
            disk: None,
            faults: Vec::new(),
            classify: Arc::new(|_| FileClass::Other),
            protocol: None,
            policy: Policy::default(),
            spurious_wakeups: 0.0,
            costs: Costs::default(),
            keep: Keep::default(),
            steps_max: STEPS_MAX,
            crash_at_call: None,
            syncs: Syncs::Done,
        }
    }
}

/// How a run came to its end. The texts are for people, a line for each task that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// What was waited for has happened.
    Finished,
    /// Every task waits, and none of them for time.
    Deadlock(String),
    /// The tasks run on without coming to an end.
    NoProgress(String),
    /// A task panicked.
    Panicked {
        /// The task.
        task: String,
        /// What it said.
        message: String,
        /// The source line, as `file:line:column`.
        location: String,
    },
}

impl fmt::Display for RunEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RunEnd::Finished => f.write_str("finished"),
            RunEnd::Deadlock(tasks) => write!(f, "deadlock: every task waits for another\n{tasks}"),
            RunEnd::NoProgress(tasks) => write!(f, "no progress: the tasks run on and on\n{tasks}"),
            RunEnd::Panicked { task, message, location } => write!(f, "task {task} panicked at {location}: {message}"),
        }
    }
}

/// What must be in place on this OS thread while tasks run, such as a thread-local by which an engine's locks find the
/// scheduler.
pub trait Guest {
    /// Tasks are about to run.
    fn enter(&self, world: &World);
    /// Tasks have stopped running.
    fn leave(&self);
}

/// A simulated machine. See the module.
pub struct World {
    inner: Arc<Inner>,
    /// Only the handle that `new` returned ends the world.
    owner: bool,
}

struct Inner {
    state: Mutex<State>,
    fibers: ThreadBound<Fibers>,
    /// Switch points that may pass before the scheduler is asked.
    countdown: AtomicU64,
    /// Whether this incarnation has crashed.
    crashed: AtomicBool,
    /// Whether tasks are being unwound: nothing switches then.
    dooming: AtomicBool,
    incarnation: AtomicU32,
}

/// What belongs to the OS thread.
struct Fibers {
    /// By ordinal of the task; those before `first` have ended. A running fiber is taken out.
    table: RefCell<Vec<Option<Fiber>>>,
    first: Cell<u32>,
    guests: RefCell<Vec<(&'static str, Rc<dyn Guest>)>>,
    running: Cell<bool>,
}

/// Everything of a world that a system call needs, behind its one lock.
pub(crate) struct State {
    pub(crate) disk: Disk,
    pub(crate) injector: Injector,
    pub(crate) ledger: Ledger,
    pub(crate) decisions: Decisions,
    pub(crate) clock: Clock,
    pub(crate) costs: Costs,
    pub(crate) trace: Trace,
    pub(crate) scheduler: Scheduler,
    pub(crate) classify: Classify,
    pub(crate) sanitizer: Sanitizer,
    /// Locked lock files, by path.
    pub(crate) locks: BTreeMap<String, u64>,
    pub(crate) locks_taken: u64,
    /// System calls so far.
    pub(crate) calls: u64,
    pub(crate) crash_at_call: Option<(u64, CrashKind)>,
    pub(crate) syncs: Syncs,
    pub(crate) watch: Option<Watch>,
    /// The levels of the store, as it told of them last in this incarnation.
    pub(crate) levels: Vec<Level>,
    /// The capacity that the disk has where no fault limits it.
    pub(crate) capacity: Option<u64>,
    /// Whether a call at which the machine crashed was made.
    pub(crate) made_site: Site,
    crash: Option<CrashKind>,
    /// The call at which it struck, in words.
    crash_site: Option<String>,
    /// What `countdown` was last set to.
    quiet_points: u64,
    steps: u64,
    steps_max: u64,
    spurious_wakeups: f64,
    spurious_site: Site,
    pub(crate) listing_site: Site,
    pub(crate) junk_site: Site,
    identities: u64,
}

/// Kinds of events that are no system calls; those have numbers of their own from 16 on.
#[derive(Clone, Copy)]
enum Happening {
    Start = 1,
    Switch,
    Park,
    Wake,
    End,
    Crash,
    Restart,
    Panic,
    Note,
}

impl State {
    /// What a file is.
    pub(crate) fn class_of(&self, path: &str) -> FileClass {
        (self.classify)(path.rsplit('/').next().unwrap_or(path))
    }

    fn happened(&mut self, what: Happening, a: u64, b: u64, line: impl FnOnce(&State) -> String) {
        let words = [what as u64, u64::from(self.scheduler.running().0) << 32 | a, b, self.clock.now_ns()];
        let line = if self.trace.keeps_lines() { line(self) } else { String::new() };
        self.trace.event(words, || line);
    }

    /// Gives the disk the space and the handles that the faults leave it.
    pub(crate) fn limit_disk(&mut self) {
        self.disk.set_capacity(self.injector.capacity().or(self.capacity));
        self.disk.set_handles_max(self.injector.handles_max());
    }

    fn note_crash(&mut self, kind: CrashKind) {
        if self.crash.is_some() {
            return;
        }
        self.happened(Happening::Crash, kind as u64, 0, |_| format!("CRASH: {kind}"));
        self.crash = Some(kind);
        self.scheduler.hurry();
    }
}

impl Clone for World {
    fn clone(&self) -> World {
        World { inner: self.inner.clone(), owner: false }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.owner {
            self.end();
        }
    }
}

/// A task that was started, to wait for its end.
#[derive(Clone, Debug)]
pub struct Task {
    world: World,
    id: TaskId,
}

impl Task {
    /// Its ordinal.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Whether it has ended.
    pub fn has_ended(&self) -> bool {
        self.world.inner.state.lock().scheduler.has_ended(self.id)
    }

    /// Says what it is about, for those who count where faults strike.
    pub fn set_phase(&self, phase: Phase) {
        self.world.inner.state.lock().scheduler.set_phase(self.id, phase);
    }

    /// Waits for its end. Called from a task.
    pub fn join(&self) {
        while !self.has_ended() {
            self.world.wait(Wait::End(self.id), None);
        }
    }
}

impl World {
    /// A new machine, switched on. The returned handle owns it.
    pub fn new(config: WorldConfig) -> World {
        let WorldConfig { mut decisions, profile, capacity, disk, faults, classify, .. } = config;
        let scheduler = Scheduler::new(config.policy, &mut decisions);
        let injector = Injector::new(faults, &mut decisions);
        let spurious_site = decisions.site("wake.spurious");
        let listing_site = decisions.site("read-dir.order");
        let junk_site = decisions.site("read-dir.junk");
        let made_site = decisions.site("crash.call-made");
        let mut disk = disk.unwrap_or_else(|| Disk::new(profile, capacity));
        let capacity = disk.capacity();
        disk.set_capacity(injector.capacity().or(capacity));
        disk.set_handles_max(injector.handles_max());
        if injector.does_damage() {
            disk.keep_history();
        }
        let state = State {
            sanitizer: Sanitizer::new(config.protocol, &disk),
            disk,
            injector,
            ledger: Ledger::default(),
            clock: Clock::default(),
            costs: config.costs,
            trace: Trace::new(config.keep),
            scheduler,
            classify,
            locks: BTreeMap::new(),
            locks_taken: 0,
            calls: 0,
            crash_at_call: config.crash_at_call,
            syncs: config.syncs,
            watch: None,
            levels: Vec::new(),
            capacity,
            made_site,
            crash: None,
            crash_site: None,
            quiet_points: 0,
            steps: 0,
            steps_max: config.steps_max,
            spurious_wakeups: config.spurious_wakeups,
            spurious_site,
            listing_site,
            junk_site,
            identities: 0,
            decisions,
        };
        let fibers = Fibers {
            table: RefCell::new(Vec::new()),
            first: Cell::new(1),
            guests: RefCell::new(Vec::new()),
            running: Cell::new(false),
        };
        let inner = Inner {
            state: Mutex::new(state),
            fibers: ThreadBound::new(fibers),
            countdown: AtomicU64::new(0),
            crashed: AtomicBool::new(false),
            dooming: AtomicBool::new(false),
            incarnation: AtomicU32::new(1),
        };
        World { inner: Arc::new(inner), owner: true }
    }

    // --- Tasks
    // ----------------------------------------------------------------------------------------------------------

    /// Starts a task, which runs when its turn comes.
    pub fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Task {
        self.spawn_boxed(name, Box::new(body))
    }

    /// Like [`World::spawn`].
    pub fn spawn_boxed(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> Task {
        let id = {
            let mut state = self.inner.state.lock();
            let State { scheduler, decisions, .. } = &mut *state;
            let id = scheduler.start(name, decisions);
            state.happened(Happening::Start, u64::from(id.0), hash_bytes(name.as_bytes()), |_| format!("start {name}"));
            id
        };
        let fibers = self.inner.fibers.get();
        let mut table = fibers.table.borrow_mut();
        assert_eq!(table.len() as u32 + fibers.first.get(), id.0, "each task has a fiber");
        table.push(Some(Fiber::new(body)));
        Task { world: self.clone(), id }
    }

    /// Lets tasks run until all have ended. Called by the driver.
    pub fn run(&self) -> RunEnd {
        self.drive(None)
    }

    /// Lets tasks run until this one has ended. Called by the driver.
    pub fn run_until_end_of(&self, task: &Task) -> RunEnd {
        self.drive(Some(task.id))
    }

    /// Runs `body` as a task, and the other tasks beside it, until it has ended. Called by the driver. Where the run
    /// ended otherwise, the task is left as it was.
    pub fn block_on<T: Send + 'static>(
        &self,
        name: &str,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, RunEnd> {
        let slot = Arc::new(Mutex::new(None));
        let result = slot.clone();
        let task = self.spawn(name, move || *result.lock() = Some(body()));
        match self.run_until_end_of(&task) {
            RunEnd::Finished => Ok(slot.lock().take().expect("a task that returned has left its result")),
            other => Err(other),
        }
    }

    /// Does something in the running task, which is about this meanwhile.
    pub fn within<T>(&self, phase: Phase, body: impl FnOnce() -> T) -> T {
        let set = |phase| {
            let scheduler = &mut self.inner.state.lock().scheduler;
            scheduler.set_phase(scheduler.running(), phase)
        };
        let before = set(phase);
        let result = body();
        set(before);
        result
    }

    /// A place at which another task may come to its turn. A few nanoseconds when none does.
    #[inline]
    pub fn yield_point(&self, label: &'static str) {
        if !self.passes() {
            self.switch(SwitchPoint::Named(label));
        }
    }

    /// Counts a switch point, and says whether the caller may go on at once.
    #[inline]
    pub(crate) fn passes(&self) -> bool {
        let left = self.inner.countdown.load(Ordering::Relaxed);
        // All tasks run on one OS thread, so a load and a store are as good as one step.
        self.inner.countdown.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    #[cold]
    pub(crate) fn switch(&self, at: SwitchPoint) {
        if !fiber::on_fiber() || self.inner.dooming.load(Ordering::Relaxed) {
            return;
        }
        let switches = {
            let mut state = self.inner.state.lock();
            let state = &mut *state;
            let passed = state.quiet_points;
            state.steps += passed + 1;
            state.clock.advance((passed + 1) * state.costs.step_ns);
            state.scheduler.note(Doing { label: at.label(), at: None });
            let due = state.scheduler.is_due(at, passed, &mut state.decisions);
            state.quiet_points = state.scheduler.quiet_points(&state.decisions);
            self.inner.countdown.store(state.quiet_points, Ordering::Relaxed);
            let State { scheduler, clock, decisions, .. } = state;
            // A task that runs alone beyond the budget is stopped too.
            (due && scheduler.preempt(clock, decisions))
                || (state.steps >= state.steps_max && state.scheduler.requeue())
        };
        if switches {
            fiber::suspend();
        }
    }

    /// Suspends the calling task until [`World::unpark_one`] or [`World::unpark_all`] names the address, or until the
    /// timeout has passed. Returns whether it was woken. A wake-up without cause is possible. `name` is for reports.
    pub fn park(&self, address: usize, name: &'static str, timeout: Option<Duration>) -> bool {
        self.wait(Wait::Address(address, name), timeout)
    }

    /// Wakes one task that is parked on the address, if there is one. No switch point: whoever waits for a condition lets go
    /// of its lock this way and must be parked before anybody else runs, or it misses what it waits for.
    pub fn unpark_one(&self, address: usize) {
        let mut state = self.inner.state.lock();
        let State { scheduler, decisions, .. } = &mut *state;
        let Some(woken) = scheduler.wake_one(address, decisions) else { return };
        state.happened(Happening::Wake, u64::from(woken.0), 0, |state| {
            format!("{} wakes {}", state.scheduler.name(state.scheduler.running()), state.scheduler.name(woken))
        });
    }

    /// Wakes all tasks that are parked on the address. No switch point either.
    pub fn unpark_all(&self, address: usize) {
        let mut state = self.inner.state.lock();
        let woken = state.scheduler.wake_all(address);
        if woken == 0 {
            return;
        }
        state.happened(Happening::Wake, u64::MAX >> 32, woken as u64, |state| {
            format!("{} wakes {woken} tasks", state.scheduler.name(state.scheduler.running()))
        });
    }

    /// Suspends the calling task for so long.
    pub fn sleep(&self, duration: Duration) {
        if !fiber::on_fiber() {
            self.inner.state.lock().clock.advance(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
            return;
        }
        self.wait(Wait::Time, Some(duration));
    }

    fn wait(&self, wait: Wait, timeout: Option<Duration>) -> bool {
        assert!(
            fiber::on_fiber(),
            "only a task can wait, and the driver is none: use World::block_on; waited for {wait:?}"
        );
        {
            let mut state = self.inner.state.lock();
            let state = &mut *state;
            state.steps += 1;
            state.clock.advance(state.costs.step_ns);
            let now_ns = state.clock.now_ns();
            let may_be_spurious = state.spurious_wakeups > 0.0 && matches!(wait, Wait::Address(..));
            if may_be_spurious && state.decisions.chance(state.spurious_site, state.spurious_wakeups) {
                state.happened(Happening::Park, 1, 0, |state| {
                    format!("{} is woken without cause", state.scheduler.name(state.scheduler.running()))
                });
                state.scheduler.park(Wait::Time, Some(Duration::ZERO), now_ns);
            } else {
                let kind = match wait {
                    Wait::Address(_, name) => hash_bytes(name.as_bytes()),
                    Wait::End(task) => u64::from(task.0),
                    Wait::Time => timeout.map_or(0, |timeout| timeout.as_nanos() as u64),
                };
                state.happened(Happening::Park, 0, kind, |state| {
                    let name = state.scheduler.name(state.scheduler.running());
                    match wait {
                        Wait::Address(_, what) => format!("{name} waits for `{what}`"),
                        Wait::End(task) => format!("{name} waits for the end of {}", state.scheduler.name(task)),
                        Wait::Time => format!("{name} sleeps {timeout:?}"),
                    }
                });
                state.scheduler.park(wait, timeout, now_ns);
            }
        }
        fiber::suspend();
        self.inner.state.lock().scheduler.was_woken()
    }

    /// The running task, [`TaskId::DRIVER`] outside all tasks.
    pub fn current_task(&self) -> TaskId {
        self.inner.state.lock().scheduler.running()
    }

    /// Has a guest in place whenever tasks run. The second guest of a name is turned away.
    pub fn add_guest(&self, name: &'static str, guest: impl FnOnce() -> Rc<dyn Guest>) {
        let fibers = self.inner.fibers.get();
        if fibers.guests.borrow().iter().any(|(other, _)| *other == name) {
            return;
        }
        let guest = guest();
        fibers.guests.borrow_mut().push((name, guest.clone()));
        if fibers.running.get() {
            guest.enter(&self.clone());
        }
    }

    fn drive(&self, until: Option<TaskId>) -> RunEnd {
        assert!(!fiber::on_fiber(), "the driver lets tasks run, and a task is no driver");
        let fibers = self.inner.fibers.get();
        self.inner.state.lock().steps = 0;
        let guests = fibers.guests.borrow().clone();
        let handle = self.clone();
        guests.iter().for_each(|(_, guest)| guest.enter(&handle));
        fibers.running.set(true);
        let end = loop {
            let next = {
                let mut state = self.inner.state.lock();
                let state = &mut *state;
                if until.is_some_and(|task| state.scheduler.has_ended(task)) {
                    break RunEnd::Finished;
                }
                if state.steps >= state.steps_max {
                    break RunEnd::NoProgress(state.scheduler.describe(state.clock.now_ns()));
                }
                let next = state.scheduler.next(&mut state.clock, &mut state.decisions);
                match next {
                    Next::Run(id) => state.happened(Happening::Switch, u64::from(id.0), 0, |state| {
                        format!("-- {} --", state.scheduler.name(id))
                    }),
                    Next::Nobody => break RunEnd::Finished,
                    Next::Deadlock => break RunEnd::Deadlock(state.scheduler.describe(state.clock.now_ns())),
                }
                next
            };
            if let Next::Run(id) = next
                && let Some(Panic { message, location }) = self.resume(id, Fiber::resume)
            {
                let mut state = self.inner.state.lock();
                let task = state.scheduler.name(id).to_string();
                let what = hash_bytes(message.as_bytes());
                state.happened(Happening::Panic, what >> 32, what, |_| format!("{task} panicked: {message}"));
                break RunEnd::Panicked { task, message, location };
            }
        };
        fibers.running.set(false);
        fibers.guests.borrow().iter().for_each(|(_, guest)| guest.leave());
        end
    }

    /// Lets a task, which is the running one, have its turn. Returns what it said if it panicked.
    fn resume(&self, id: TaskId, how: fn(Fiber) -> Option<Fiber>) -> Option<Panic> {
        let fibers = self.inner.fibers.get();
        let index = (id.0 - fibers.first.get()) as usize;
        let fiber = fibers.table.borrow_mut()[index].take().expect("a task that has not ended has a fiber");
        match how(fiber) {
            Some(fiber) => fibers.table.borrow_mut()[index] = Some(fiber),
            None => {
                let mut state = self.inner.state.lock();
                state.happened(Happening::End, u64::from(id.0), 0, |state| {
                    format!("end of {}", state.scheduler.name(id))
                });
                state.scheduler.end(id);
            }
        }
        fiber::take_panic()
    }

    // --- Crashes
    // --------------------------------------------------------------------------------------------------------

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

    fn finish_incarnation(&self) -> Result<(), RunEnd> {
        assert!(self.crashed().is_some(), "an incarnation ends by a crash");
        match self.run() {
            RunEnd::Finished => Ok(()),
            other => Err(other),
        }
    }

    fn begin_incarnation(&self, state: &mut State, disk: Disk, image: u64) {
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

    fn doom(&self) {
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

    // --- What can be seen and set
    // ---------------------------------------------------------------------------------------

    /// Virtual time since the start of the run.
    pub fn now(&self) -> Duration {
        self.inner.state.lock().clock.now()
    }

    /// Virtual time of day, in milliseconds since the Unix epoch.
    pub fn wall_ms(&self) -> u64 {
        self.inner.state.lock().clock.wall_ms()
    }

    /// This moment, to be told later what could be read since.
    pub fn clock_mark(&self) -> ClockMark {
        self.inner.state.lock().clock.mark()
    }

    /// What a store could read from the clocks since that moment.
    pub fn timing(&self, since: ClockMark) -> Timing {
        self.inner.state.lock().clock.since(since)
    }

    /// Sets the wall clock forward or back.
    pub fn jump_wall(&self, ms: i64) {
        self.inner.state.lock().clock.jump_wall(ms);
    }

    /// Numbers that look random and are the same in every run: for identities.
    pub fn identity(&self) -> u64 {
        let mut state = self.inner.state.lock();
        state.identities += 1;
        fold(state.identities ^ 0x9e37_79b9_7f4a_7c15, 0xd1b5_4a32_d192_ed03)
    }

    /// Switches all faults off, or on again. Off means that the disk reads, writes and has space again, too, until they are
    /// on; what is lost or damaged already stays so.
    pub fn set_faults_enabled(&self, enabled: bool) {
        let mut state = self.inner.state.lock();
        state.injector.set_enabled(enabled);
        if !enabled {
            state.disk.heal();
        }
        state.limit_disk();
    }

    /// Switch points and waits after which a run is given up.
    pub fn set_steps_max(&self, steps_max: u64) {
        self.inner.state.lock().steps_max = steps_max;
    }

    /// System calls so far, in all incarnations.
    pub fn calls(&self) -> u64 {
        self.inner.state.lock().calls
    }

    /// Looks at the disk, or changes it behind the back of the tasks. `look` must not call the world.
    pub fn with_disk<T>(&self, look: impl FnOnce(&mut Disk) -> T) -> T {
        look(&mut self.inner.state.lock().disk)
    }

    /// Makes decisions, from the run's one source. `decide` must not call the world.
    pub fn with_decisions<T>(&self, decide: impl FnOnce(&mut Decisions) -> T) -> T {
        decide(&mut self.inner.state.lock().decisions)
    }

    /// Looks at the faults, such as their counts. `look` must not call the world.
    pub fn with_injector<T>(&self, look: impl FnOnce(&mut Injector) -> T) -> T {
        look(&mut self.inner.state.lock().injector)
    }

    /// Looks at the refused calls. `look` must not call the world.
    pub fn with_ledger<T>(&self, look: impl FnOnce(&mut Ledger) -> T) -> T {
        look(&mut self.inner.state.lock().ledger)
    }

    /// Shows every call to `watch` from now on, before it is made; `None` ends that. The watch must not call the world.
    pub fn set_watch(&self, watch: Option<Watch>) {
        self.inner.state.lock().watch = watch;
    }

    /// What the levels of the store look like from now on: for those who watch. It leaves no trace.
    pub fn tell_levels(&self, levels: Vec<Level>) {
        self.inner.state.lock().levels = levels;
    }

    /// Tells the durability sanitizer something, or asks it. `look` must not call the world.
    pub fn with_sanitizer<T>(&self, look: impl FnOnce(&mut Sanitizer) -> T) -> T {
        look(&mut self.inner.state.lock().sanitizer)
    }

    /// Adds something to the trace: what the driver or a client did or saw, as a hash and in words.
    pub fn note(&self, what: u64, line: impl FnOnce() -> String) {
        self.inner.state.lock().happened(Happening::Note, 0, what, |_| line());
    }

    /// The trace as it stands.
    pub fn trace(&self) -> TraceSummary {
        self.inner.state.lock().trace.summary()
    }

    /// The hash of the trace as it stands.
    pub fn trace_hash(&self) -> u128 {
        self.inner.state.lock().trace.hash()
    }

    /// For system calls: everything, locked. Not to be held across a switch.
    #[inline]
    pub(crate) fn lock(&self) -> parking_lot::MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    /// Marks this incarnation as crashed, with the state already locked.
    pub(crate) fn crash_locked(&self, state: &mut State, kind: CrashKind, site: String) {
        state.crash_site = Some(site);
        state.note_crash(kind);
        self.inner.crashed.store(true, Ordering::Relaxed);
    }

    /// Whether calls of this incarnation fail.
    #[inline]
    pub(crate) fn is_dead(&self, incarnation: u32) -> bool {
        self.inner.crashed.load(Ordering::Relaxed) || incarnation != self.incarnation()
    }
}

#[cfg(test)]
mod tests;
