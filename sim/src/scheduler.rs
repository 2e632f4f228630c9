//! Who runs next. The scheduler is a table of tasks and a few rules; it runs nothing itself ([`crate::world`] does).
//!
//! All tasks of a world take turns on one OS thread, so a switch happens only where a task asks: at a *switch point*
//! (each system call, each named yield point, each wake-up of a waiter), or when it must wait. A preemption is a rare
//! decision, one per switch point, of which 0 is to go on. Which of the ready tasks comes next, and which of several
//! waiters is woken, are decisions too, 0 being the one that has waited longest.
//!
//! When nothing is ready, time jumps to the next deadline. When there is none either, that is a deadlock, and the
//! report says what every task waits for. A task waits for an address (a lock or a condition of the engine, with a name
//! for people), for the end of another task, or for time; addresses are only compared, never ordered, so that a run
//! does not depend on where the allocator puts things.

use crate::clock::Clock;
use crate::fault::Phase;
use crate::rng::{Decisions, Site};
use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::panic::Location;
use std::time::Duration;

mod policy;
pub use policy::Policy;

/// A place at which a task may be preempted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SwitchPoint {
    /// A system call.
    Call(&'static str),
    /// A yield point that the code names.
    Named(&'static str),
}

impl SwitchPoint {
    /// Its name.
    pub(crate) fn label(self) -> &'static str {
        match self {
            SwitchPoint::Call(label) | SwitchPoint::Named(label) => label,
        }
    }
}

/// Switch points after which a task that never waits is preempted in favour of others, whatever the decisions say:
/// without this, a task that polls would starve the one it polls for.
const FAIR_GAP: u64 = 10_000;

/// A task, by the order in which tasks were started in a world: 1, 2 and so on. 0 is whoever is no task: the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub u32);

impl TaskId {
    /// The driver of the simulation, outside all tasks.
    pub const DRIVER: TaskId = TaskId(0);
}

/// What a task waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// For a lock or condition at this address, of this name.
    Address(usize, &'static str),
    /// For the end of a task.
    End(TaskId),
    /// For time to pass.
    Time,
}

/// What a task did last, for reports.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Doing {
    pub(crate) label: &'static str,
    pub(crate) at: Option<&'static Location<'static>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Running,
    Parked { wait: Wait, deadline_ns: Option<u64>, since_ns: u64 },
    Ended,
}

#[derive(Debug)]
struct Task {
    name: Box<str>,
    state: State,
    /// Whether the last wait ended by a wake-up and not by its deadline.
    woken: bool,
    /// A deadline that is to be reached when the task runs next, because waiting is over for this world.
    due_ns: u64,
    priority: u64,
    doing: Doing,
    phase: Phase,
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Run this task.
    Run(TaskId),
    /// All tasks wait, and none of them for time.
    Deadlock,
    /// There is no task.
    Nobody,
}

/// The table of tasks.
pub(crate) struct Scheduler {
    policy: Policy,
    /// `tasks[0]` is the task of this ordinal; those before it have ended and are forgotten.
    first: u32,
    tasks: Vec<Task>,
    /// Longest ready first.
    ready: VecDeque<TaskId>,
    /// Longest parked first.
    parked: Vec<TaskId>,
    running: Option<TaskId>,
    /// Who was chosen to run next, at a preemption.
    chosen: Option<TaskId>,
    /// No parked task has a deadline before this.
    next_deadline_ns: u64,
    /// Whether waits for time end at once.
    hurried: bool,
    /// Counts down: a task that is demoted comes behind all others.
    lowest_priority: u64,
    /// Switch points since a task came to its turn.
    since_switch: u64,
    /// Switch points of this incarnation, and those at which something changes by [`Policy::Pct`] or [`Policy::Delays`],
    /// latest first.
    points: u64,
    changes: Vec<u64>,
    change_site: Site,
    preempt_site: Site,
    switch_site: Site,
    next_site: Site,
    wake_site: Site,
    priority_site: Site,
}

impl Scheduler {
    pub(crate) fn new(policy: Policy, decisions: &mut Decisions) -> Scheduler {
        let change_site = decisions.site("switch.change");
        Scheduler {
            policy,
            first: 1,
            tasks: Vec::new(),
            ready: VecDeque::new(),
            parked: Vec::new(),
            running: None,
            chosen: None,
            next_deadline_ns: u64::MAX,
            hurried: false,
            lowest_priority: u64::MAX / 2,
            since_switch: 0,
            points: 0,
            changes: draw_changes(policy, change_site, decisions),
            change_site,
            preempt_site: decisions.site("switch.preempt"),
            switch_site: decisions.rare_site("switch", policy.rarity()),
            next_site: decisions.site("switch.next"),
            wake_site: decisions.site("switch.wake"),
            priority_site: decisions.site("switch.priority"),
        }
    }

    /// Counts a switch point and the `passed` ones before it. Whether a preemption is due here.
    pub(crate) fn is_due(&mut self, at: SwitchPoint, passed: u64, decisions: &mut Decisions) -> bool {
        self.since_switch += passed + 1;
        self.points += passed + 1;
        let tired = self.since_switch >= FAIR_GAP;
        if self.policy.named_only() && matches!(at, SwitchPoint::Call(_)) {
            return tired;
        }
        let drawn = match self.policy {
            // What is decided is decided when it is known who is ready.
            Policy::Systematic { .. } => true,
            Policy::Pct { .. } | Policy::Delays { .. } => {
                let due = self.changes.last().is_some_and(|&point| point <= self.points);
                while self.changes.pop_if(|point| *point <= self.points).is_some() {}
                due
            }
            Policy::Random { .. } | Policy::RoundRobin { .. } | Policy::Priorities { .. } | Policy::Named { .. } => {
                // Asked in any case, so that decisions are counted alike whether or not fairness steps in.
                decisions.skip(self.switch_site, passed);
                decisions.rare(self.switch_site)
            }
        };
        drawn || tired
    }

    /// Switch points that may pass without asking [`Scheduler::is_due`].
    pub(crate) fn quiet_points(&self, decisions: &Decisions) -> u64 {
        let quiet = match self.policy {
            Policy::Named { .. } | Policy::Systematic { .. } => 0,
            Policy::Pct { .. } | Policy::Delays { .. } => {
                self.changes.last().map_or(u64::MAX, |point| point.saturating_sub(self.points + 1))
            }
            Policy::Random { .. } | Policy::RoundRobin { .. } | Policy::Priorities { .. } => {
                decisions.quiet_calls(self.switch_site)
            }
        };
        quiet.min(FAIR_GAP.saturating_sub(self.since_switch))
    }

    /// The task that runs.
    pub(crate) fn running(&self) -> TaskId {
        self.running.unwrap_or(TaskId::DRIVER)
    }

    /// Tasks that have not ended.
    pub(crate) fn alive(&self) -> usize {
        self.ready.len() + self.parked.len() + usize::from(self.running.is_some())
    }

    /// Whether the task has ended, or was forgotten after its end.
    pub(crate) fn has_ended(&self, task: TaskId) -> bool {
        self.get(task).is_none_or(|task| task.state == State::Ended)
    }

    pub(crate) fn name(&self, task: TaskId) -> &str {
        self.get(task).map_or("driver", |task| &task.name)
    }

    /// What the running task is about.
    #[inline]
    pub(crate) fn phase(&self) -> Phase {
        self.get(self.running()).map_or(Phase::default(), |task| task.phase)
    }

    /// Says what a task is about, and returns what it was about before.
    pub(crate) fn set_phase(&mut self, task: TaskId, phase: Phase) -> Phase {
        // The driver itself is no task, and is about nothing.
        if self.get(task).is_none() {
            return Phase::default();
        }
        std::mem::replace(&mut self.get_mut(task).phase, phase)
    }

    /// Adds a task, ready to run.
    pub(crate) fn start(&mut self, name: &str, decisions: &mut Decisions) -> TaskId {
        let id = TaskId(self.first + self.tasks.len() as u32);
        let priority = match self.policy.by_priority() {
            true => u64::MAX - decisions.decide(self.priority_site, 1 << 20),
            false => 0,
        };
        let doing = Doing { label: "its start", at: None };
        let state = State::Ready;
        self.tasks.push(Task {
            name: name.into(),
            state,
            woken: false,
            due_ns: 0,
            priority,
            doing,
            phase: Phase::default(),
        });
        self.ready.push_back(id);
        id
    }

    /// Notes what the running task is about to do.
    #[inline]
    pub(crate) fn note(&mut self, doing: Doing) {
        if let Some(running) = self.running {
            self.get_mut(running).doing = doing;
        }
    }

    /// At a preemption: picks another ready task in favour of the running one. False where there is none, or where it is
    /// decided here that the running one goes on.
    pub(crate) fn preempt(&mut self, clock: &mut Clock, decisions: &mut Decisions) -> bool {
        let Some(running) = self.running else { return false };
        self.expire(clock);
        if self.policy.by_priority() {
            self.lowest_priority -= 1;
            let lowest = self.lowest_priority;
            self.get_mut(running).priority = lowest;
        }
        if self.ready.is_empty() {
            return false;
        }
        let chosen = match self.policy {
            Policy::Systematic { .. } if self.since_switch < FAIR_GAP => {
                match decisions.decide(self.preempt_site, self.ready.len() as u64 + 1) {
                    0 => return false,
                    pick => self.ready[pick as usize - 1],
                }
            }
            _ => self.choose(decisions),
        };
        self.chosen = Some(chosen);
        self.running = None;
        self.get_mut(running).state = State::Ready;
        self.ready.push_back(running);
        true
    }

    /// Makes the running task wait for its next turn. True, for [`Scheduler::preempt`]'s sake.
    pub(crate) fn requeue(&mut self) -> bool {
        if let Some(running) = self.running.take() {
            self.make_ready(running, false);
        }
        true
    }

    /// Parks the running task.
    pub(crate) fn park(&mut self, wait: Wait, timeout: Option<Duration>, now_ns: u64) {
        let running = self.running.take().expect("a task that waits is running");
        let deadline_ns = timeout.map(|timeout| {
            now_ns.saturating_add(u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX)).min(u64::MAX - 1)
        });
        let hurried = self.hurried;
        let task = self.get_mut(running);
        task.woken = false;
        if let (true, Some(deadline_ns)) = (hurried, deadline_ns) {
            task.state = State::Ready;
            task.due_ns = deadline_ns;
            // A task that waits in order to try again would otherwise keep all below it from ever coming to their end.
            self.lowest_priority -= 1;
            let lowest = self.lowest_priority;
            self.get_mut(running).priority = lowest;
            self.ready.push_back(running);
            return;
        }
        task.state = State::Parked { wait, deadline_ns, since_ns: now_ns };
        self.parked.push(running);
        self.next_deadline_ns = self.next_deadline_ns.min(deadline_ns.unwrap_or(u64::MAX));
    }

    /// Whether the running task's last wait ended by a wake-up.
    pub(crate) fn was_woken(&self) -> bool {
        self.running.and_then(|running| self.get(running)).is_some_and(|task| task.woken)
    }

    /// Wakes one of those who wait for this, and says whom.
    pub(crate) fn wake_one(&mut self, address: usize, decisions: &mut Decisions) -> Option<TaskId> {
        let waits = |scheduler: &Scheduler, id: TaskId| match scheduler.get(id).map(|task| task.state) {
            Some(State::Parked { wait: Wait::Address(at, _), .. }) => at == address,
            _ => false,
        };
        let waiters = self.parked.iter().filter(|&&id| waits(self, id)).count();
        let pick = match waiters {
            0 => return None,
            1 => 0,
            _ => decisions.decide(self.wake_site, waiters as u64) as usize,
        };
        let index = (0..self.parked.len()).filter(|&index| waits(self, self.parked[index])).nth(pick);
        let id = self.parked.remove(index.expect("so many waiters were counted"));
        self.make_ready(id, true);
        Some(id)
    }

    /// Wakes all who wait for this, longest waiting first. Returns how many.
    pub(crate) fn wake_all(&mut self, address: usize) -> usize {
        self.wake_where(|wait| matches!(wait, Wait::Address(at, _) if at == address))
    }

    /// Ends a task, and wakes those who wait for its end.
    pub(crate) fn end(&mut self, id: TaskId) {
        if self.running == Some(id) {
            self.running = None;
        }
        self.ready.retain(|&ready| ready != id);
        self.parked.retain(|&parked| parked != id);
        self.get_mut(id).state = State::Ended;
        self.wake_where(|wait| wait == Wait::End(id));
    }

    /// From now on waits for time end at once, and so do those that are under way: nothing is worth waiting for.
    pub(crate) fn hurry(&mut self) {
        self.hurried = true;
        let timed: Vec<TaskId> =
            self.parked.extract_if(.., |id| deadline_in(&self.tasks, self.first, *id).is_some()).collect();
        for id in timed {
            let due_ns = deadline_in(&self.tasks, self.first, id).expect("it waits for time");
            self.get_mut(id).due_ns = due_ns;
            self.make_ready(id, false);
        }
        self.next_deadline_ns = u64::MAX;
    }

    /// Forgets ended tasks, for a new incarnation; all have ended.
    pub(crate) fn begin_again(&mut self, decisions: &mut Decisions) {
        assert_eq!(self.alive(), 0, "tasks of an incarnation end before the next one begins");
        self.first += self.tasks.len() as u32;
        self.tasks.clear();
        self.hurried = false;
        self.points = 0;
        self.changes = draw_changes(self.policy, self.change_site, decisions);
    }

    /// Chooses who runs, letting time jump where all wait.
    pub(crate) fn next(&mut self, clock: &mut Clock, decisions: &mut Decisions) -> Next {
        assert!(self.running.is_none(), "one task runs at a time");
        self.expire(clock);
        let id = match self.chosen.take() {
            Some(id) => id,
            None => {
                // The noted deadline may be of a task that was woken before it came: then there is a later one, or none.
                while self.ready.is_empty() {
                    if self.parked.is_empty() {
                        return Next::Nobody;
                    }
                    if self.next_deadline_ns == u64::MAX {
                        return Next::Deadlock;
                    }
                    clock.advance_to(self.next_deadline_ns);
                    self.expire(clock);
                }
                self.choose(decisions)
            }
        };
        let index = self.ready.iter().position(|&ready| ready == id).expect("a chosen task is ready");
        self.ready.remove(index);
        self.running = Some(id);
        self.since_switch = 0;
        let task = self.get_mut(id);
        task.state = State::Running;
        clock.advance_to(std::mem::take(&mut task.due_ns));
        Next::Run(id)
    }

    /// What every task waits for or does, a line each.
    pub(crate) fn describe(&self, now_ns: u64) -> String {
        let mut text = String::new();
        for task in self.tasks.iter().filter(|task| task.state != State::Ended) {
            let _ = write!(text, "task {} ", task.name);
            let _ = match task.state {
                State::Parked { wait, deadline_ns, since_ns } => {
                    let _ = match wait {
                        Wait::Address(_, name) => write!(text, "waits for `{name}`"),
                        Wait::End(other) => write!(text, "waits for the end of task {}", self.name(other)),
                        Wait::Time => write!(text, "sleeps"),
                    };
                    let _ = write!(text, " since {}", Seconds(since_ns));
                    deadline_ns.map_or(Ok(()), |deadline_ns| write!(text, " until {}", Seconds(deadline_ns)))
                }
                _ => write!(text, "is ready to run at {}", Seconds(now_ns)),
            };
            let _ = write!(text, "; it was last seen at {}", task.doing.label);
            let _ = task.doing.at.map_or(Ok(()), |at| write!(text, ", {}:{}", at.file(), at.line()));
            text.push('\n');
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// Those who have not ended, in the order of their start.
    pub(crate) fn alive_tasks(&self) -> Vec<TaskId> {
        let alive = |(index, task): (usize, &Task)| (task.state != State::Ended).then_some(index);
        self.tasks.iter().enumerate().filter_map(alive).map(|index| TaskId(self.first + index as u32)).collect()
    }

    /// Makes a task the running one out of turn, whatever it waits for.
    pub(crate) fn seize(&mut self, id: TaskId) {
        self.ready.retain(|&ready| ready != id);
        self.parked.retain(|&parked| parked != id);
        self.chosen = None;
        self.running = Some(id);
        self.get_mut(id).state = State::Running;
    }

    fn choose(&mut self, decisions: &mut Decisions) -> TaskId {
        let pick = match self.policy {
            _ if self.ready.len() == 1 => 0,
            Policy::Random { .. } | Policy::Named { .. } | Policy::Systematic { .. } => {
                decisions.decide(self.next_site, self.ready.len() as u64) as usize
            }
            Policy::RoundRobin { .. } | Policy::Delays { .. } => 0,
            Policy::Priorities { .. } | Policy::Pct { .. } => {
                let priority = |index: usize| self.get(self.ready[index]).map_or(0, |task| task.priority);
                // The first of equals, so that ties go by who has been ready longest.
                (0..self.ready.len()).rev().max_by_key(|&index| priority(index)).expect("some task is ready")
            }
        };
        self.ready[pick]
    }

    /// Makes ready whose deadline has passed, earliest deadline first.
    fn expire(&mut self, clock: &Clock) {
        let now_ns = clock.now_ns();
        if now_ns < self.next_deadline_ns {
            return;
        }
        let mut expired: Vec<TaskId> = self
            .parked
            .extract_if(.., |id| {
                deadline_in(&self.tasks, self.first, *id).is_some_and(|deadline_ns| deadline_ns <= now_ns)
            })
            .collect();
        expired.sort_by_key(|id| deadline_in(&self.tasks, self.first, *id));
        for id in expired {
            self.make_ready(id, false);
        }
        let deadlines = self.parked.iter().filter_map(|id| deadline_in(&self.tasks, self.first, *id));
        self.next_deadline_ns = deadlines.min().unwrap_or(u64::MAX);
    }

    fn wake_where(&mut self, matches: impl Fn(Wait) -> bool) -> usize {
        let first = self.first;
        let tasks = &self.tasks;
        let woken: Vec<TaskId> = self
            .parked
            .extract_if(.., |id| match tasks[(id.0 - first) as usize].state {
                State::Parked { wait, .. } => matches(wait),
                _ => false,
            })
            .collect();
        for &id in &woken {
            self.make_ready(id, true);
        }
        woken.len()
    }

    /// The task must be in neither list.
    fn make_ready(&mut self, id: TaskId, woken: bool) {
        let task = self.get_mut(id);
        task.state = State::Ready;
        task.woken = woken;
        self.ready.push_back(id);
    }

    fn get(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id.0.checked_sub(self.first)? as usize)
    }

    fn get_mut(&mut self, id: TaskId) -> &mut Task {
        let index = id.0.checked_sub(self.first).expect("a task of this incarnation") as usize;
        &mut self.tasks[index]
    }
}

/// Switch points at which something changes, latest first. One that is drawn as 0 never comes.
fn draw_changes(policy: Policy, site: Site, decisions: &mut Decisions) -> Vec<u64> {
    let (count, length) = policy.changes();
    let mut changes: Vec<u64> = (0..count).map(|_| decisions.decide(site, u64::from(length) + 1)).collect();
    changes.retain(|&point| point > 0);
    changes.sort_unstable_by(|a, b| b.cmp(a));
    changes
}

fn deadline_in(tasks: &[Task], first: u32, id: TaskId) -> Option<u64> {
    match tasks[(id.0 - first) as usize].state {
        State::Parked { deadline_ns, .. } => deadline_ns,
        _ => None,
    }
}

/// A moment of virtual time, for people.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} s", self.0 / 1_000_000_000, self.0 / 1_000 % 1_000_000)
    }
}
