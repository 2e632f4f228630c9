//! Tasks and their turns: how they start, wait for each other, and hand over at switch points.

use super::{Guest, Happening, RunEnd, State, World};
use crate::fault::Phase;
use crate::fiber::{self, Fiber, Panic};
use crate::scheduler::{Doing, Next, SwitchPoint, TaskId, Wait};
use crate::trace::hash_bytes;
use parking_lot::Mutex;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

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

    pub(super) fn wait(&self, wait: Wait, timeout: Option<Duration>) -> bool {
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

    pub(super) fn drive(&self, until: Option<TaskId>) -> RunEnd {
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
    pub(super) fn resume(&self, id: TaskId, how: fn(Fiber) -> Option<Fiber>) -> Option<Panic> {
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
}
