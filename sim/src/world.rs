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
use crate::disk::{CrashKind, Disk, Profile};
use crate::fault::{FaultRule, FileClass, Injector};
use crate::fiber::{Fiber, ThreadBound};
use crate::ledger::Ledger;
use crate::rng::{Decisions, Site};
use crate::sanitizer::{Protocol, Sanitizer};
use crate::scheduler::{Policy, Scheduler};
use crate::syncs::Syncs;
use crate::trace::{Keep, Trace, TraceSummary, fold};
use crate::watch::{Level, Watch};
use parking_lot::Mutex;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

mod incarnation;
mod tasks;

pub use tasks::Task;

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
    /// Switch points and waits after which [`World::run`] gives up with [`RunEnd::NoProgress`], counted anew after each
    /// [`World::progressed`].
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
    /// How long calls took by a fault, by what they were about.
    pub(crate) slow: BTreeMap<FileClass, Duration>,
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
            slow: BTreeMap::new(),
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

    /// Something that was asked for is done: what goes on and on without coming to this is given up. Timers that fire for ever
    /// while somebody waits are seen that way, whatever time passes.
    pub fn progressed(&self) {
        self.inner.state.lock().steps = 0;
    }

    /// Virtual time by which faults have made calls longer so far, those about files of this class left out.
    pub fn slowed_besides(&self, class: FileClass) -> Duration {
        self.inner.state.lock().slow.iter().filter(|(of, _)| **of != class).map(|(_, time)| *time).sum()
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
