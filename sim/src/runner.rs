//! One run: a plan, a world, a store, and an oracle that listens.
//!
//! A run is a sequence of *lives*. A life opens the store, sees whether what it finds is allowed, and lets the clients go on
//! where they were. A crash may strike at any moment of it, also while opening: then every call fails, the tasks run to
//! their end, the world restarts on what the crash left of the disk, and the next life begins. When all clients are done,
//! the faults stop and the store must work: take writes, pay its debts, read as the model says, close, and open again to the
//! same state.
//!
//! An error that the store reports is accepted only where a fault that was really injected explains it, see [`crate::excuse`].
//!
//! Invariants: everything of a run follows from its plan and its decisions; nothing here knows a particular store.

mod hurry;
mod looks;
mod quarantine;
mod salvage;
mod transaction;
mod verification;
mod version;

use crate::answers::{Answers, Difference};
use crate::clock::ClockMark;
use crate::coverage::Coverage;
use crate::disk::{CrashKind, CrashReport};
use crate::excuse::Circumstances;
use crate::fault::{Exposure, FaultCount, FileClass, FsOp, Phase};
use crate::invariants::{check_quiet, check_reads, see_that_it_rests, wait_for_rest};
use crate::ledger::{Ledger, LostData};
use crate::op::{Bounds, Entry, KeyId, Op, OpKind, STAMP_FIRST, Slot, Stamp, Stamps, Value};
use crate::oracle::{
    Finding, GivenUp, Label, MissingBarrier, Observed, Oracle, Outcome, Promise, ReadTicket, Recovered, Restart,
    SnapshotMark, SyncTicket, WriteTicket,
};
use crate::rng::{Decision, Decisions, Recording};
use crate::sanitizer::Sanitizer;
use crate::scenario::{Check, Scenario};
use crate::store::{Commit, Failure, FailureKind, SnapshotId, Store, StoreKind, SyncMode, Write};
use crate::syncs::Syncs;
use crate::syscall::CRASH_MESSAGE;
use crate::trace::{Keep, TraceSummary, fold, hash_bytes};
use crate::watch::Sight;
use crate::workload::{self, Plan};
use crate::world::{RunEnd, World, WorldConfig};
use copies::StoreCopy;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

/// Times that opening may fail for a reason that is explained before the faults pause.
const OPEN_TRIES: u32 = 3;

/// Crashes that may strike without the store being open in between, before the faults pause: a store that needs more calls
/// to open than there are between two crashes would never come to it.
const CRASHES_IN_A_ROW_MAX: u64 = 12;

/// Switch points and waits in which no operation ends after which none is taken to end any more. Far more than an operation
/// needs that does come to its end: a compaction of all, or the wait for background work at the end of a run.
const STEPS_MAX: u64 = 400_000;

/// The site that decides whether a run ends in a crash, and the answers that mean one.
pub const END_CRASH: &str = "end.crash";
/// The machine loses power when the clients are done.
pub const END_BY_POWER_LOSS: u64 = 14;
/// The process dies when the clients are done.
pub const END_BY_PROCESS_CRASH: u64 = 15;

/// Virtual time that a sync may take that a store begins by itself, however slow the disk.
const SYNC_MAX: Duration = Duration::from_secs(60);

/// Virtual time within which a store that was disturbed must take writes again.
const ACCEPT_MAX: Duration = Duration::from_secs(120);

/// What a run keeps beside its result.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Lines of the trace.
    pub keep: Keep,
    /// Whether the decisions that were not 0 are kept.
    pub record: bool,
    /// What becomes of the store's syncs.
    pub syncs: Syncs,
}

impl Default for RunOptions {
    fn default() -> RunOptions {
        RunOptions { keep: Keep::Nothing, record: false, syncs: Syncs::Done }
    }
}

/// A recovery and what it found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// What came before it.
    pub restart: Restart,
    /// What was recovered.
    pub recovered: Recovered,
    /// Operations that had been started by then.
    pub ops: u64,
}

/// The start of an operation, and which decisions had been made by then: what an operation decided lies between its start
/// and the next one.
#[derive(Clone, Debug)]
pub struct Start {
    /// The client.
    pub client: usize,
    /// Index of the operation in the client's list.
    pub index: usize,
    /// How many decisions each site of [`RunReport::sites`] had made; those that are missing had made none.
    pub ordinals: Vec<u64>,
}

/// What went wrong, and when.
#[derive(Clone, Debug)]
pub struct RunFailure {
    /// What was found.
    pub finding: Finding,
    /// Operations that had been started by then.
    pub ops: u64,
    /// The last crash before it, if there was one.
    pub crash: Option<LastCrash>,
}

/// A crash, for the report.
#[derive(Clone, Debug)]
pub struct LastCrash {
    /// The how manieth it was, counted from 1.
    pub number: u64,
    /// Operations that had been started by then.
    pub ops: u64,
    /// The call at which it struck, in words; `None` where it struck between two calls.
    pub during: Option<String>,
    /// What it kept and lost.
    pub report: CrashReport,
}

/// All about a run.
#[derive(Clone, Debug)]
pub struct RunReport {
    /// Operations that were started.
    pub ops: u64,
    /// Operations in the plan.
    pub planned: u64,
    /// Answers that the oracle judged.
    pub checks: u64,
    /// Crashes.
    pub crashes: u64,
    /// Recoveries, in order.
    pub recoveries: Vec<Recovery>,
    /// Faults that struck.
    pub faults: Vec<FaultCount>,
    /// System calls.
    pub calls: u64,
    /// The same by class of file and operation, those made while no fault could strike counted too.
    pub seen: Vec<(FileClass, FsOp, u64)>,
    /// Where faults could strike and did, by class of file and phase.
    pub exposures: Vec<Exposure>,
    /// Shape of the store at its end, in its own words.
    pub shape: String,
    /// Virtual time that passed.
    pub virtual_time: Duration,
    /// Damage that was done to bytes behind the store's back, a sentence for each.
    pub damage: Vec<String>,
    /// The store reported damage that was really done, so the run ended early.
    pub damage_reported: bool,
    /// Searches that the oracle gave up.
    pub spills: u64,
    /// What the run has reached.
    pub coverage: Coverage,
    /// The trace.
    pub trace: TraceSummary,
    /// Decisions that were not 0, if they were asked for.
    pub decisions: Vec<Decision>,
    /// Operations that each client has started.
    pub started: Vec<usize>,
    /// Operations in the order in which they were started, where decisions were asked for.
    pub starts: Vec<Start>,
    /// Every site, where decisions were asked for.
    pub sites: Vec<Arc<str>>,
    /// Crashes in order, where decisions were asked for.
    pub crash_reports: Vec<CrashReport>,
    /// What the clients were answered, where the plan has variants to compare it with.
    pub answers: Answers,
    /// What went wrong.
    pub failure: Option<RunFailure>,
}

/// Runs one seed of a scenario.
pub fn run_seed(scenario: &Scenario, kind: &Arc<dyn StoreKind>, seed: u64, options: &RunOptions) -> RunReport {
    let mut decisions = Decisions::from_seed(seed);
    let plan = workload::plan(scenario, kind.as_ref(), &mut decisions);
    run_plan(Arc::new(plan), kind, decisions, options)
}

/// Runs a plan. Where it has variants, it runs once more for each, with the same decisions, and must answer the same.
pub fn run_plan(plan: Arc<Plan>, kind: &Arc<dyn StoreKind>, decisions: Decisions, options: &RunOptions) -> RunReport {
    let others: Vec<Decisions> = plan.variants.iter().map(|_| decisions.clone()).collect();
    let mut report = run_with(plan.clone(), kind, decisions, options, None).0;
    for (variant, decisions) in plan.variants.iter().zip(others) {
        if report.failure.is_some() {
            break;
        }
        let mut other = Plan::clone(&plan);
        other.options.extend(variant.clone());
        let other = run_with(Arc::new(other), kind, decisions, options, None).0;
        report.failure = compare(&plan, &report, other).map(|mut failure| {
            failure.finding.details.push(format!("the other options: {variant}"));
            failure
        });
    }
    report
}

/// What is wrong with a run under other options, or with its answers.
fn compare(plan: &Plan, first: &RunReport, other: RunReport) -> Option<RunFailure> {
    if other.failure.is_some() {
        return other.failure;
    }
    let (ops, where_) = match first.answers.first_difference(&other.answers)? {
        Difference::Answer(label) => {
            let op = &plan.clients[label.client as usize][label.op as usize];
            (u64::from(label.op) + 1, format!("{label} ({op}) is answered otherwise"))
        }
        Difference::End => (first.ops, "the state in the end is another".into()),
    };
    let symptom = format!("{where_} under other options, though nothing goes wrong");
    Some(RunFailure { finding: Finding::new("answers-differ", "under other options", symptom), ops, crash: None })
}

/// Who witnesses a run: sees each call before it is made, what the oracle knows then, and how many operations had been
/// started.
pub type Witness = Box<dyn FnMut(&Sight<'_>, &Oracle, u64) + Send>;

/// Runs a plan before a witness, and hands out the oracle as it was in the end.
pub fn run_witnessed(
    plan: Arc<Plan>,
    kind: &Arc<dyn StoreKind>,
    decisions: Decisions,
    options: &RunOptions,
    witness: Witness,
) -> (RunReport, Oracle) {
    let (report, run) = run_with(plan, kind, decisions, options, Some(witness));
    let oracle = run.oracle.lock().clone();
    (report, oracle)
}

fn run_with(
    plan: Arc<Plan>,
    kind: &Arc<dyn StoreKind>,
    mut decisions: Decisions,
    options: &RunOptions,
    witness: Option<Witness>,
) -> (RunReport, Arc<Run>) {
    if options.record {
        decisions.record(Recording::NonZero);
    }
    let mut config = WorldConfig::new(decisions, plan.profile);
    config.faults.clone_from(&plan.faults);
    config.policy = plan.policy;
    config.keep = options.keep.clone();
    config.syncs = options.syncs.clone();
    config.steps_max = STEPS_MAX;
    let classifier = kind.clone();
    config.classify = Arc::new(move |name| classifier.classify(name));
    config.protocol = plan.checks(Check::Barriers).then(|| kind.protocol()).flatten();
    kind.count_marks_from_zero();
    let world = World::new(config);
    let run = Arc::new(Run::new(world.clone(), plan, kind.clone()));
    if let Some(mut witness) = witness {
        // The world owns the watch, and the run holds the world.
        let run = Arc::downgrade(&run);
        world.set_watch(Some(Box::new(move |sight| {
            if let Some(run) = run.upgrade() {
                let ops = run.court.lock().ops;
                witness(sight, &run.oracle.lock(), ops);
            }
        })));
    }
    let mut last_crash = None;
    let mut crash_reports = Vec::new();
    while run.next_life() {
        let body = run.clone();
        let end = match world.block_on("driver", move || body.life()) {
            Ok(end) => end,
            Err(end) => {
                run.fail(finding_of(&end, "while running"));
                break;
            }
        };
        match (end, world.crashed()) {
            (LifeEnd::Over | LifeEnd::Failed, _) => break,
            (LifeEnd::Crashed, None) => unreachable!("a life that ended by a crash has crashed"),
            (LifeEnd::Crashed, Some(kind)) => match (world.crash_site(), world.restart()) {
                (during, Ok(report)) => {
                    let mut court = run.court.lock();
                    court.crashes += 1;
                    court.crashes_in_a_row += 1;
                    // Crashes while opening add up: what the first one took, no later one brings back.
                    court.restart = match kind {
                        CrashKind::Process if court.restart != Restart::PowerLoss => Restart::Process,
                        _ => Restart::PowerLoss,
                    };
                    if options.record {
                        crash_reports.push(report.clone());
                    }
                    last_crash = Some(LastCrash { number: court.crashes, ops: court.ops, during, report });
                }
                (_, Err(end)) => {
                    run.fail(finding_of(&end, "after a crash"));
                    break;
                }
            },
        }
    }
    (RunReport { crash_reports, ..run.report(world, last_crash) }, run)
}

/// What a run that did not finish has found.
pub(crate) fn finding_of(end: &RunEnd, when: &'static str) -> Finding {
    match end {
        RunEnd::Finished => unreachable!("a run that has finished is no finding"),
        RunEnd::Deadlock(tasks) => {
            let mut finding = Finding::new("deadlock", when, "every task of the store waits for another");
            finding.details.extend(tasks.lines().map(str::to_string));
            finding
        }
        RunEnd::NoProgress(tasks) => {
            let mut finding = Finding::new("no-progress", when, "the tasks run on and come to no end");
            finding.details.extend(tasks.lines().map(str::to_string));
            finding
        }
        RunEnd::Panicked { task, message, location } => {
            let symptom = format!("{task} panicked: {}", message.lines().next().unwrap_or_default());
            Finding { symptom, ..panicked(when, location, message) }
        }
    }
}

fn panicked(when: &str, location: &str, message: &str) -> Finding {
    // The line moves with every change of the file; the file is where the bug is known by.
    let file = location.split(':').next().unwrap_or_default();
    let symptom = format!("the store panicked: {}", message.lines().next().unwrap_or_default());
    Finding::new("panic", format!("{when}, in {file}"), symptom).with(format!("at {location}")).with(message)
}

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LifeEnd {
    /// All is done.
    Over,
    /// A crash struck.
    Crashed,
    /// Something was found.
    Failed,
}

/// Why the clients pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pause {
    Reopen,
    Check,
    Release(u8),
    Discard(u8),
}

/// A snapshot of a client.
type Snapshot = Option<(SnapshotId, SnapshotMark)>;

/// Everything about the run that changes, but for the oracle.
struct Court {
    /// The next operation of each client.
    next: Vec<usize>,
    slots: Vec<Vec<Snapshot>>,
    pause: Option<Pause>,
    restart: Restart,
    /// When the store began to be opened.
    opening: Option<ClockMark>,
    ops: u64,
    crashes: u64,
    recoveries: Vec<Recovery>,
    shape: String,
    damage_reported: bool,
    failure: Option<Finding>,
    failed_at: u64,
    lives: u64,
    starts: Vec<Start>,
    /// Crashes since the store was last seen to be right.
    crashes_in_a_row: u64,
    /// The newest write of this life that the store is to sync by itself.
    periodic: Option<SyncTicket>,
    copies: Vec<StoreCopy>,
    /// Directories in which a copy was being made when the process ended.
    unfinished_copies: BTreeSet<String>,
    /// What the store showed when it was opened last, where that may have to be salvaged.
    seen: Option<Observed>,
    /// Names of the files that the store has said to be in quarantine.
    quarantined: BTreeSet<String>,
    /// The version that the store's format must have at least.
    format_version: u32,
    /// Files that somebody gives up, or has begun to, and what is gone with them.
    giving_up: BTreeMap<String, Vec<GivenUp>>,
    /// How often each client has begun a backup.
    backups_tried: BTreeMap<u32, u64>,
    /// How often a power cut has lost what a disk that lied had promised, and so perhaps the whole store.
    stores_lost: u32,
}

struct Run {
    world: World,
    plan: Arc<Plan>,
    kind: Arc<dyn StoreKind>,
    oracle: Mutex<Oracle>,
    court: Mutex<Court>,
    /// Only where they are asked for.
    answers: Option<Mutex<Answers>>,
    /// What a write promises that leaves it to the options.
    durable_by_default: bool,
    /// How long the store may take to sync such a write by itself.
    syncs_within: Option<Duration>,
    stamps_end: Stamp,
}

impl Run {
    fn new(world: World, plan: Arc<Plan>, kind: Arc<dyn StoreKind>) -> Run {
        let stamps = Stamps::of(&plan.clients);
        let stamps_end = stamps.end().max(STAMP_FIRST);
        let mut oracle = Oracle::new(plan.keys.clone(), stamps, plan.may_lie());
        oracle.set_default_ttl(kind.default_ttl_ms(&plan.options));
        if !kind.tells_sequence_numbers() {
            oracle.count_writes();
        }
        if plan.clients.iter().flatten().any(|op| op.kind() == OpKind::DiscardTable) {
            oracle.keep_replaced();
        }
        let court = Court {
            next: vec![0; plan.clients.len()],
            slots: vec![vec![None; usize::from(Slot::MAX) + 1]; plan.clients.len()],
            pause: None,
            restart: Restart::Close,
            opening: None,
            ops: 0,
            crashes: 0,
            recoveries: Vec::new(),
            shape: String::new(),
            damage_reported: false,
            failure: None,
            failed_at: 0,
            lives: 0,
            starts: Vec::new(),
            crashes_in_a_row: 0,
            periodic: None,
            copies: Vec::new(),
            unfinished_copies: BTreeSet::new(),
            seen: None,
            quarantined: BTreeSet::new(),
            format_version: 0,
            giving_up: BTreeMap::new(),
            backups_tried: BTreeMap::new(),
            stores_lost: 0,
        };
        let durable_by_default = kind.is_durable_by_default(&plan.options);
        let syncs_within = kind.syncs_within(&plan.options);
        let answers = (!plan.variants.is_empty()).then(|| Mutex::new(Answers::of(plan.clients.len())));
        let (oracle, court) = (Mutex::new(oracle), Mutex::new(court));
        Run { world, plan, kind, oracle, court, answers, durable_by_default, syncs_within, stamps_end }
    }

    fn next_life(&self) -> bool {
        // What was found in the life before comes before what its crash has done.
        let _ = self.see_barriers();
        let mut court = self.court.lock();
        court.lives += 1;
        court.pause = None;
        court.periodic = None;
        court.failure.is_none()
    }

    fn fail(&self, finding: Finding) -> LifeEnd {
        let mut court = self.court.lock();
        if court.failure.is_none() {
            court.failed_at = court.ops;
            self.world.note(0, || format!("FOUND {}: {}", finding.fingerprint(), finding.symptom));
            court.failure = Some(finding);
        }
        LifeEnd::Failed
    }

    /// The error of what was found, as the end of a life.
    fn judge<T>(&self, result: Result<T, Finding>) -> Result<T, LifeEnd> {
        result.map_err(|finding| self.fail(finding))
    }

    /// Whether the order of calls so far was such that a crash could do no harm.
    fn see_barriers(&self) -> Result<(), LifeEnd> {
        if !self.plan.checks(Check::Barriers) {
            return Ok(());
        }
        let Some(violation) = self.world.with_sanitizer(Sanitizer::take) else { return Ok(()) };
        let sites = violation.missing_at.into_iter().chain(violation.at);
        let sites = sites.map(|at| format!("{}:{}", at.file(), at.line())).collect();
        let finding = Finding::new("missing-barrier", violation.rule.name(), violation.sentence)
            .with(format!("missing: {}", violation.barrier));
        let missing = Some(Box::new(MissingBarrier { barrier: violation.barrier, sites }));
        Err(self.fail(Finding { missing, ..finding }))
    }

    fn has_invariants(&self) -> bool {
        self.plan.checks(Check::Invariants) && self.kind.checks_itself()
    }

    fn crashed(&self) -> bool {
        self.world.crashed().is_some()
    }

    fn has_failed(&self) -> bool {
        self.court.lock().failure.is_some()
    }

    /// Remembers an answer, where somebody asks for it.
    fn answer(&self, label: Label, hash: impl FnOnce() -> u64) {
        if let Some(answers) = &self.answers {
            answers.lock().add(label, hash());
        }
    }

    /// Like [`Run::answer`], for what depends on the order in which several clients come.
    fn answer_alone(&self, label: Label, hash: impl FnOnce() -> u64) {
        if self.plan.clients.len() == 1 {
            self.answer(label, hash);
        }
    }

    // --- Errors -----------------------------------------------------------------------------------------------------------

    /// What went wrong with the machine so far.
    fn with_circumstances<T>(&self, judge: impl FnOnce(&Circumstances<'_>) -> T) -> T {
        let refusals = self.world.with_ledger(|ledger| ledger.of_this_life().to_vec());
        let damage = self.world.with_disk(|disk| disk.damage().to_vec());
        let classify = |name: &str| self.kind.classify(name);
        judge(&Circumstances { refusals: &refusals, damage: &damage, classify: &classify })
    }

    /// Whether what went wrong with the machine explains this error. Nothing has to be explained after a crash.
    fn accept(&self, failure: &Failure, doing: &'static str) -> Result<(), LifeEnd> {
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        let sentences = self.with_circumstances(|circumstances| {
            if circumstances.explain(failure, doing == "open") { None } else { Some(circumstances.sentences()) }
        });
        let Some(sentences) = sentences else { return Ok(()) };
        let mut finding = without_a_cause(failure, doing);
        finding.details.extend(sentences);
        Err(self.fail(finding))
    }

    // --- A life -----------------------------------------------------------------------------------------------------------

    /// The body of the driver's task.
    fn life(self: Arc<Run>) -> LifeEnd {
        match self.live() {
            Ok(()) => LifeEnd::Over,
            Err(end) => end,
        }
    }

    fn live(self: &Arc<Run>) -> Result<(), LifeEnd> {
        let Some(mut store) = self.open_and_verify()? else { return Ok(()) };
        loop {
            self.run_clients(&store);
            if self.crashed() {
                self.bury(store);
                return Err(LifeEnd::Crashed);
            }
            if self.has_failed() {
                return Err(LifeEnd::Failed);
            }
            let pause = self.court.lock().pause.take();
            match pause {
                None => break,
                Some(Pause::Check) => self.look_around(&store)?,
                Some(Pause::Release(nth)) => store = self.after(self.release_table(store.as_ref(), nth), store)?,
                Some(Pause::Discard(nth)) => store = self.after(self.discard_table(store.as_ref(), nth), store)?,
                Some(Pause::Reopen) => match self.reopen(store)? {
                    Some(again) => store = again,
                    None => return Ok(()),
                },
            }
        }
        store = self.end_in_a_crash(store)?;
        if self.plan.checks(Check::Liveness) {
            match self.converge(store)? {
                Some(again) => store = again,
                None => return Ok(()),
            }
        }
        self.finish(store)
    }

    /// Sometimes the machine or the process dies when the clients are done, before anything heals: what they were promised
    /// last is looked at too.
    fn end_in_a_crash(&self, store: Arc<dyn Store>) -> Result<Arc<dyn Store>, LifeEnd> {
        if !self.plan.checks(Check::Idempotence) {
            return Ok(store);
        }
        let choice = self.world.with_decisions(|decisions| {
            let site = decisions.site(END_CRASH);
            decisions.decide(site, 16)
        });
        let kind = match choice {
            END_BY_POWER_LOSS => {
                self.wait_for_the_periodic_sync();
                CrashKind::PowerLoss
            }
            END_BY_PROCESS_CRASH => CrashKind::Process,
            _ => return Ok(store),
        };
        self.world.crash(kind);
        self.bury(store);
        Err(LifeEnd::Crashed)
    }

    /// A store that syncs by itself has done so when its time is over, and what it had acknowledged must survive. Only where no
    /// call has failed in this life: a sync that fails may be told to the next writer, and there is none.
    fn wait_for_the_periodic_sync(&self) {
        let Some(ticket) = self.court.lock().periodic.take() else { return };
        let all_is_well = || self.world.with_ledger(|ledger| ledger.of_this_life().is_empty());
        let Some(within) = self.syncs_within.filter(|_| all_is_well()) else { return };
        self.world.set_faults_enabled(false);
        self.world.sleep(within + SYNC_MAX);
        self.world.set_faults_enabled(true);
        // A disk that is full stays so while no new fault strikes, and may have refused something meanwhile.
        if !self.crashed() && all_is_well() {
            self.oracle.lock().end_sync(ticket);
        }
    }

    /// The store goes on, unless a crash has struck meanwhile.
    fn after(&self, done: Result<(), LifeEnd>, store: Arc<dyn Store>) -> Result<Arc<dyn Store>, LifeEnd> {
        if done == Err(LifeEnd::Crashed) {
            self.bury(store);
            return Err(LifeEnd::Crashed);
        }
        done.map(|()| store)
    }

    /// After a crash: the store gets its chance to notice, as a process that unwinds.
    fn bury(&self, store: Arc<dyn Store>) {
        for slots in &mut self.court.lock().slots {
            slots.fill(None);
        }
        let _ = store.close();
        drop(store);
    }

    fn open(&self) -> Result<Option<Arc<dyn Store>>, LifeEnd> {
        self.world.with_ledger(|ledger| ledger.begin_life());
        let mut tries = 0;
        loop {
            // Before each try: an earlier one may have been struck, too.
            self.world.with_disk(|disk| disk.weigh_damage());
            tries += 1;
            let faults = tries <= OPEN_TRIES;
            if !faults {
                self.calm();
            }
            if self.court.lock().crashes_in_a_row >= CRASHES_IN_A_ROW_MAX {
                self.world.set_faults_enabled(false);
            }
            let clock = self.world.clock_mark();
            self.court.lock().opening = Some(clock);
            let result = self.world.within(Phase::Opening, || self.kind.open(&self.world, &self.plan.options));
            if self.crashed() {
                if let Ok(store) = result {
                    self.bury(store);
                }
                return Err(LifeEnd::Crashed);
            }
            match result {
                Ok(store) => {
                    self.world.set_faults_enabled(true);
                    self.world.with_sanitizer(Sanitizer::opened);
                    self.see_barriers()?;
                    return Ok(Some(store));
                }
                Err(failure) => {
                    self.world.note(2, || format!("open failed: {failure}"));
                    self.accept(&failure, "open")?;
                    if self.with_circumstances(|circumstances| circumstances.explain_for_good(&failure, true)) {
                        self.court.lock().damage_reported = true;
                        self.salvage(None)?;
                        return Ok(None);
                    }
                    if !faults {
                        return Err(self.fail(Finding::new(
                            "open-failed",
                            kind_word(failure.kind),
                            format!("open fails again and again, though the faults have stopped: {}", failure.message),
                        )));
                    }
                }
            }
        }
    }

    /// No fault strikes, and there is space.
    fn calm(&self) {
        self.world.set_faults_enabled(false);
        self.world.with_disk(|disk| {
            disk.set_capacity(None);
            disk.forget_errors();
        });
    }

    /// `None` where the store reports damage that was really done.
    fn open_and_verify(&self) -> Result<Option<Arc<dyn Store>>, LifeEnd> {
        let Some(store) = self.open()? else { return Ok(None) };
        self.world.set_faults_enabled(false);
        let result = self.verify(&store);
        self.world.set_faults_enabled(true);
        match result? {
            Verified::Damaged if self.plan.checks(Check::Quarantine) => Ok(Some(store)),
            Verified::Damaged => {
                self.court.lock().damage_reported = true;
                let _ = store.close();
                drop(store);
                let seen = self.court.lock().seen.take();
                self.salvage(seen)?;
                Ok(None)
            }
            Verified::Whole => {
                if self.plan.checks(Check::Idempotence) {
                    return self.open_again(store);
                }
                Ok(Some(store))
            }
        }
    }

    /// Sometimes a second crash, or a second opening, follows at once.
    fn open_again(&self, store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, LifeEnd> {
        let lives = self.court.lock().lives;
        if lives > 200 {
            return Ok(Some(store));
        }
        let choice = self.world.with_decisions(|decisions| {
            let site = decisions.site("recovery.again");
            decisions.decide(site, 16)
        });
        match choice {
            14 => {
                self.world.crash(CrashKind::PowerLoss);
                self.bury(store);
                Err(LifeEnd::Crashed)
            }
            15 => {
                self.world.crash(CrashKind::Process);
                self.bury(store);
                Err(LifeEnd::Crashed)
            }
            13 => {
                self.world.set_faults_enabled(false);
                let closed = self.close(store);
                let again = match closed {
                    Ok(()) => self.open(),
                    Err(end) => Err(end),
                };
                self.world.set_faults_enabled(false);
                let result = match again {
                    Ok(Some(store)) => self.verify(&store).map(|_| Some(store)),
                    other => other,
                };
                self.world.set_faults_enabled(true);
                result
            }
            12 if self.kind.locks() => self.refuse_a_second(&store).map(|()| Some(store)),
            _ => Ok(Some(store)),
        }
    }

    /// A store that is open cannot be opened by somebody else.
    fn refuse_a_second(&self, store: &Arc<dyn Store>) -> Result<(), LifeEnd> {
        self.world.set_faults_enabled(false);
        let second = self.kind.open(&self.world, &self.plan.options);
        self.world.set_faults_enabled(true);
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        match second {
            Err(failure) if failure.kind == FailureKind::Locked => Ok(()),
            Err(failure) => self.accept(&failure, "a second open"),
            Ok(second) => {
                let _ = (second.close(), store.close());
                Err(self.fail(Finding::new("opened-twice", "", "a store that is open was opened once more")))
            }
        }
    }

    /// Compares what the store shows with what it must show.
    fn verify(&self, store: &Arc<dyn Store>) -> Result<Verified, LifeEnd> {
        self.see_that_the_version_lasts(store.as_ref())?;
        let restart = self.court.lock().restart;
        let clock = self.court.lock().opening.unwrap_or_else(|| self.world.clock_mark());
        self.see_what_was_given_up_before(store.as_ref());
        let scan = store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX);
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        let mut observed = match scan {
            Ok(result) => {
                let digest = self.oracle.lock().digest(&result.entries, Label::HARNESS);
                Observed { digest: self.judge(digest)?, newest: result.at, ..Observed::default() }
            }
            Err(failure) => {
                self.accept(&failure, "the scan after open")?;
                self.read_one_by_one(store)?
            }
        };
        observed.timing = Some(self.world.timing(clock));
        // A failed sync may have thrown away what the operating system had been given. What a store shows when it is open
        // again must be beyond that: it has written it anew, if it was wise.
        let of_logs = |class| matches!(class, FileClass::Wal | FileClass::Other);
        let (lost, lost_since) =
            self.world.with_ledger(|ledger| (ledger.lost_data(&of_logs), ledger.lost_data_of_this_life(&of_logs)));
        let promise = match (restart, lost) {
            (Restart::PowerLoss, _) | (_, LostData::Silently) => Promise::Durable,
            (_, LostData::ReportedAt(call)) => Promise::BegunBehind(call),
            (_, LostData::Nothing) => Promise::Acknowledged,
        };
        let solid = lost_since == LostData::Nothing;
        let forgiven_from = self.with_circumstances(|circumstances| circumstances.forgiven_from());
        self.keep_judge_of_copies(restart);
        let calls = self.world.calls();
        let recovered = {
            let mut oracle = self.oracle.lock();
            oracle.tell_time(calls);
            oracle.recover(restart, promise, forgiven_from, solid, &observed)
        };
        let recovered = self.judge(recovered)?;
        self.world.with_ledger(Ledger::settle);
        self.world.note(3, || format!("recovered {recovered:?} after {restart:?}"));
        {
            let mut court = self.court.lock();
            let ops = court.ops;
            court.recoveries.push(Recovery { restart, recovered, ops });
            court.restart = Restart::Close;
            court.crashes_in_a_row = 0;
            for slots in &mut court.slots {
                slots.fill(None);
            }
        }
        if restart != Restart::Close {
            self.look_at_points(store)?;
            self.look_at_copies(true)?;
        }
        if self.plan.checks(Check::Salvage) {
            self.court.lock().seen = Some(observed.clone());
        }
        let is_damaged = !observed.unreadable.is_empty();
        if is_damaged && !self.plan.checks(Check::Quarantine) {
            return Ok(Verified::Damaged);
        }
        if (self.has_invariants() && !self.quiet(store)?) || is_damaged {
            return Ok(Verified::Damaged);
        }
        self.world.with_disk(|disk| disk.settle_damage());
        Ok(Verified::Whole)
    }

    /// Keys that can be read, and those that cannot.
    fn read_one_by_one(&self, store: &Arc<dyn Store>) -> Result<Observed, LifeEnd> {
        let mut observed = Observed::default();
        for key in 0..self.plan.keys.count() as KeyId {
            let bytes = self.plan.keys.bytes(key);
            match store.get(bytes) {
                Ok(None) => {}
                Ok(Some(value)) => {
                    let entry = [(bytes.to_vec(), value)];
                    let digest = self.oracle.lock().digest(&entry, Label::HARNESS);
                    observed.digest.extend(self.judge(digest)?);
                }
                Err(failure) => {
                    self.accept(&failure, "a get after open")?;
                    observed.unreadable.push(key);
                }
            }
        }
        if !observed.unreadable.is_empty()
            && let Ok((snapshot, newest)) = store.snapshot()
        {
            store.release(snapshot);
            observed.newest = newest;
        }
        Ok(observed)
    }

    /// Invariants in a quiet moment, with the faults off. Returns whether the store is whole.
    fn quiet(&self, store: &Arc<dyn Store>) -> Result<bool, LifeEnd> {
        let visible = self.oracle.lock().visible();
        let may_be_left = |file: &str| self.with_circumstances(|circumstances| circumstances.may_be_left(file));
        let result = check_quiet(&self.world, store.as_ref(), visible, &may_be_left);
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        match self.judge(result)? {
            Ok(report) => {
                self.world.note(4, || format!("shape {}", report.shape));
                self.see_that_quarantine_lasts(&report)?;
                self.court.lock().shape = report.shape;
                Ok(true)
            }
            Err(failure) => {
                self.accept(&failure, "check")?;
                Ok(failure.kind != FailureKind::Corruption)
            }
        }
    }

    /// The operation `check`.
    fn look_around(&self, store: &Arc<dyn Store>) -> Result<(), LifeEnd> {
        if !self.has_invariants() {
            return Ok(());
        }
        self.world.set_faults_enabled(false);
        let result = self.quiet(store).and_then(|whole| if whole { self.compare_reads(store) } else { Ok(()) });
        self.world.set_faults_enabled(true);
        result
    }

    fn compare_reads(&self, store: &Arc<dyn Store>) -> Result<(), LifeEnd> {
        let result = check_reads(&self.world, store.as_ref(), &self.oracle);
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        match self.judge(result)? {
            Ok(()) => Ok(()),
            Err(failure) => self.accept(&failure, "a read without faults"),
        }
    }

    /// Closes the store, whatever the outcome; a failure must be explained.
    fn close(&self, store: Arc<dyn Store>) -> Result<(), LifeEnd> {
        let held: Vec<SnapshotId> = {
            let mut court = self.court.lock();
            let slots = court.slots.iter_mut().flatten();
            slots.filter_map(|slot| slot.take().map(|(id, _)| id)).collect()
        };
        // The lock is not held meanwhile: the store may wait, or make calls.
        held.into_iter().for_each(|id| store.release(id));
        let ticket = self.oracle.lock().begin_sync();
        let result = self.world.within(Phase::Closing, || store.close());
        drop(store);
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        if result.is_ok() && self.kind.is_durable_when_closed() {
            self.end_sync(ticket);
        }
        self.world.note(5, || format!("close: {result:?}"));
        match result {
            Ok(()) => {
                self.court.lock().restart = Restart::Close;
                Ok(())
            }
            Err(failure) => {
                self.court.lock().restart = Restart::Process;
                self.accept(&failure, "close")
            }
        }
    }

    fn reopen(&self, store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, LifeEnd> {
        self.close(store)?;
        self.open_and_verify()
    }

    // --- Clients ----------------------------------------------------------------------------------------------------------

    fn run_clients(self: &Arc<Run>, store: &Arc<dyn Store>) {
        let clients = self.plan.clients.len();
        if clients == 1 {
            self.run_client(store, 0);
            return;
        }
        let tasks: Vec<_> = (0..clients)
            .map(|client| {
                let (run, store) = (self.clone(), store.clone());
                self.world.spawn("client", move || run.run_client(&store, client))
            })
            .collect();
        for task in tasks {
            task.join();
        }
    }

    fn run_client(&self, store: &Arc<dyn Store>, client: usize) {
        while !self.crashed() {
            let index = {
                let mut court = self.court.lock();
                if court.failure.is_some() || court.pause.is_some() {
                    return;
                }
                let index = court.next[client];
                let Some(op) = self.plan.clients[client].get(index) else { return };
                court.next[client] += 1;
                court.ops += 1;
                match op {
                    Op::Reopen => court.pause = Some(Pause::Reopen),
                    Op::Check => court.pause = Some(Pause::Check),
                    Op::ReleaseTable { nth } => court.pause = Some(Pause::Release(*nth)),
                    Op::DiscardTable { nth } => court.pause = Some(Pause::Discard(*nth)),
                    _ => {}
                }
                index
            };
            let ordinals =
                self.world.with_decisions(|decisions| decisions.is_recording().then(|| decisions.ordinals()));
            if let Some(ordinals) = ordinals {
                self.court.lock().starts.push(Start { client, index, ordinals });
            }
            let op = &self.plan.clients[client][index];
            let label = Label { client: client as u32, op: index as u32 };
            let word = u64::from(label.client) << 32 | u64::from(label.op);
            self.world.note(word, || format!("client {client} #{index}: {op}"));
            let done = self.perform(store.as_ref(), op, label);
            self.world.progressed();
            if matches!(done, Err(LifeEnd::Crashed | LifeEnd::Failed)) || self.see_barriers().is_err() {
                return;
            }
            self.world.yield_point("between two operations");
        }
    }

    fn perform(&self, store: &dyn Store, op: &Op, label: Label) -> Result<(), LifeEnd> {
        match op {
            Op::Put { key, value, sync } => {
                let entry = Entry::new(*key, Some(*value));
                let write = [self.write_of(&entry)];
                self.write(store, &[entry], &write, *sync, label).map(|_| ())
            }
            Op::Delete { key, sync } => {
                let entry = Entry::new(*key, None);
                let write = [self.write_of(&entry)];
                self.write(store, &[entry], &write, *sync, label).map(|_| ())
            }
            Op::Batch { entries, sync } => {
                let batch: Vec<Write> = entries.iter().map(|entry| self.write_of(entry)).collect();
                self.write(store, entries, &batch, *sync, label).map(|_| ())
            }
            Op::Transaction { reads, together, scan, entries, serializable, sync } => {
                self.transact(store, (reads, *together), *scan, entries, *serializable, *sync, label)
            }
            Op::Hurry { key, value, sync, within_ms } => {
                self.hurry(store, Entry::new(*key, Some(*value)), *sync, *within_ms, label)
            }
            Op::Get { key, at: None } => {
                let (clock, ticket) = self.begin_read(label);
                let result = store.get(self.plan.keys.bytes(*key));
                self.heard(&result, "get", |value| value.as_deref().map_or(0, hash_bytes))?;
                if let Ok(value) = result {
                    self.answer(label, || value.as_deref().map_or(0, hash_bytes));
                    let ticket = ticket.timed(self.world.timing(clock));
                    let judged = self.oracle.lock().end_get(ticket, *key, value.as_deref());
                    self.judge(judged)?;
                }
                Ok(())
            }
            Op::Get { key, at: Some(slot) } => {
                let Some((id, mark)) = self.slot(label, *slot) else { return Ok(()) };
                let ticket = self.oracle.lock().begin_read(label);
                let result = store.get_at(id, self.plan.keys.bytes(*key));
                self.heard(&result, "get from a snapshot", |value| value.as_deref().map_or(0, hash_bytes))?;
                if let Ok(value) = result {
                    self.answer_alone(label, || value.as_deref().map_or(0, hash_bytes));
                    let judged = self.oracle.lock().end_get_at(ticket, mark, *key, value.as_deref());
                    self.judge(judged)?;
                }
                Ok(())
            }
            Op::MultiGet { keys, at } => self.multi_get(store, keys, *at, label),
            Op::Scan { bounds, reverse, limit, at } => self.scan(store, (*bounds, *reverse, *limit), *at, label),
            Op::Snapshot { slot } => {
                self.release(store, *slot, label);
                let (clock, ticket) = self.begin_read(label);
                let result = store.snapshot();
                self.heard(&result, "snapshot", |(_, at)| at.unwrap_or(0))?;
                if let Ok((id, at)) = result {
                    self.answer_alone(label, || at.unwrap_or(0));
                    let ticket = ticket.timed(self.world.timing(clock));
                    let judged = self.oracle.lock().end_snapshot(ticket, at);
                    let mark = self.judge(judged)?;
                    self.court.lock().slots[label.client as usize][usize::from(*slot)] = Some((id, mark));
                }
                Ok(())
            }
            Op::Release { slot } => {
                self.release(store, *slot, label);
                Ok(())
            }
            Op::Sync => {
                let ticket = self.oracle.lock().begin_sync();
                let promised = self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged_so_far());
                let result = store.sync();
                self.heard(&result, "sync", |()| 0)?;
                if result.is_ok() {
                    self.end_sync(ticket);
                    self.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(promised));
                }
                self.mind(&result);
                Ok(())
            }
            Op::Flush => {
                let ticket = self.oracle.lock().begin_sync();
                let promised = self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged_so_far());
                let result = store.flush();
                self.heard(&result, "flush", |()| 0)?;
                if result.is_ok() {
                    self.end_sync(ticket);
                    self.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(promised));
                }
                self.mind(&result);
                Ok(())
            }
            Op::Compact { bounds } => {
                let mut successor = Vec::new();
                let (from, to) = bounds.to_bytes(&self.plan.keys, &mut successor);
                let ends = [from, to].map(|bound| match bound {
                    Bound::Unbounded => None,
                    Bound::Included(key) | Bound::Excluded(key) => Some(key),
                });
                let result = self.world.within(Phase::Compacting, || store.compact(ends[0], ends[1]));
                self.heard(&result, "compact", |()| 0)
            }
            Op::DropKeyspace { keyspace } => self.drop_keyspace(store, *keyspace, label),
            Op::Checkpoint => self.checkpoint(store, label),
            Op::Backup => self.backup(store, label),
            Op::Export => self.export(store, label),
            Op::Import => self.import(label),
            Op::RestoreTo => self.restore_to(label),
            Op::PruneArchive => self.prune_archive(label),
            Op::Look { anew } => self.look(store, *anew, label),
            Op::Verify => self.look_for_damage(store),
            Op::Upgrade => self.upgrade(store),
            Op::Wait { ms } => {
                self.world.sleep(Duration::from_millis(u64::from(*ms)));
                Ok(())
            }
            Op::Reopen | Op::Check | Op::ReleaseTable { .. } | Op::DiscardTable { .. } => Ok(()),
        }
    }

    /// To the oracle, the deletion of all keys of the keyspace. No log holds it, and all that was acknowledged before must be
    /// durable with it.
    fn drop_keyspace(&self, store: &dyn Store, keyspace: u8, label: Label) -> Result<(), LifeEnd> {
        let keys = self.plan.keys.of_keyspace(keyspace);
        if keys.is_empty() {
            return Ok(());
        }
        let entry = Entry::range(keys.start, keys.end);
        let ticket = self.begin_write([entry], label);
        let promised = self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged_so_far());
        let commit = store.drop_keyspace(keyspace);
        let result = self.conclude(ticket, commit, 0, SyncMode::Always, label)?;
        if result.is_ok() {
            self.world.with_sanitizer(|sanitizer| sanitizer.sync_acknowledged(promised));
        }
        Ok(())
    }

    fn begin_read(&self, label: Label) -> (ClockMark, ReadTicket) {
        (self.world.clock_mark(), self.oracle.lock().begin_read(label))
    }

    fn begin_write(&self, entries: impl IntoIterator<Item = Entry>, label: Label) -> (ClockMark, WriteTicket) {
        let (calls, clock) = (self.world.calls(), self.world.clock_mark());
        let mut oracle = self.oracle.lock();
        oracle.tell_time(calls);
        (clock, oracle.begin_write(entries, label))
    }

    fn end_sync(&self, ticket: SyncTicket) {
        let calls = self.world.calls();
        let mut oracle = self.oracle.lock();
        oracle.tell_time(calls);
        oracle.end_sync(ticket);
    }

    fn write_of(&self, entry: &Entry) -> Write {
        let key = self.plan.keys.bytes(entry.key).to_vec();
        match (entry.value, entry.end) {
            (Some(value), _) if entry.is_operand => Write::Merge { key, operand: value.to_operand() },
            (Some(value), _) => match entry.lifetime {
                Some(lifetime) => Write::PutExpiring { key, value: value.to_bytes(), lifetime },
                None => Write::Put { key, value: value.to_bytes() },
            },
            (None, Some(end)) => Write::DeleteRange { begin: key, end: self.plan.keys.bytes(end).to_vec() },
            (None, None) => Write::Delete { key },
        }
    }

    fn write(
        &self,
        store: &dyn Store,
        entries: &[Entry],
        batch: &[Write],
        sync: SyncMode,
        label: Label,
    ) -> Result<Result<(), Failure>, LifeEnd> {
        let ticket = self.begin_write(entries.iter().copied(), label);
        let commit = store.write(batch, sync);
        if let Err(failure) = &commit.result
            && matches!(failure.kind, FailureKind::Stalled | FailureKind::TimedOut)
        {
            // Nobody asked for that.
            self.accept(failure, "write")?;
        }
        if let Err(failure) = &commit.result
            && failure.kind == FailureKind::Corruption
            && self.plan.checks(Check::Quarantine)
            && !self.crashed()
        {
            let symptom = format!("a write fails though only tables are damaged: {}", failure.message);
            return Err(self.fail(Finding::new("write-fails-for-damage", "", symptom)));
        }
        self.conclude(ticket, commit, batch.len() as u64, sync, label)
    }

    /// Whether a fault that struck before the crash explains this error, of which the writer hears only now: such a write may
    /// be absent though later ones are there. The crash itself explains no more than the loss of the newest.
    fn failed_before_the_crash(&self, failure: &Failure) -> bool {
        !failure.message.contains(CRASH_MESSAGE)
            && self.with_circumstances(|circumstances| circumstances.explain(failure, false))
    }

    /// A write has returned: the oracle hears of it, a crash ends the client, an error must be explained.
    fn conclude(
        &self,
        (clock, ticket): (ClockMark, WriteTicket),
        commit: Commit,
        count: u64,
        sync: SyncMode,
        label: Label,
    ) -> Result<Result<(), Failure>, LifeEnd> {
        let crashed = self.crashed();
        let outcome = match &commit.result {
            Err(failure) if crashed && self.failed_before_the_crash(failure) => Outcome::Failed,
            _ if crashed => Outcome::Lost,
            Ok(()) => Outcome::Acknowledged {
                durable: sync == SyncMode::Always || (sync == SyncMode::Default && self.durable_by_default),
            },
            Err(_) => Outcome::Failed,
        };
        self.world.note(commit.seq.unwrap_or(0), || match &commit.result {
            Ok(()) => format!("written at {:?}", commit.seq),
            Err(failure) => format!("not written, at {:?}: {failure}", commit.seq),
        });
        self.answer_alone(label, || commit.seq.unwrap_or(0));
        let calls = self.world.calls();
        let judged = {
            let mut oracle = self.oracle.lock();
            oracle.tell_time(calls);
            let told = oracle.tell_written(&ticket, commit.written_ms, self.world.timing(clock));
            told.and_then(|()| oracle.end_write(ticket, commit.seq, outcome))
        };
        self.judge(judged)?;
        if crashed {
            return Err(LifeEnd::Crashed);
        }
        if let (Outcome::Acknowledged { durable }, Some(seq)) = (outcome, commit.seq) {
            self.world.with_sanitizer(|sanitizer| sanitizer.acknowledged(seq, count, durable));
            if sync == SyncMode::Default && self.syncs_within.is_some() {
                let ticket = self.oracle.lock().expect_sync(seq + count - 1);
                self.court.lock().periodic = Some(ticket);
            }
        }
        if let Err(failure) = &commit.result
            && !matches!(failure.kind, FailureKind::Conflict | FailureKind::Stalled | FailureKind::TimedOut)
        {
            self.accept(failure, "write")?;
            self.mind(&commit.result);
        }
        Ok(commit.result)
    }

    fn multi_get(&self, store: &dyn Store, keys: &[KeyId], at: Option<Slot>, label: Label) -> Result<(), LifeEnd> {
        let snapshot = match at {
            None => None,
            Some(slot) => match self.slot(label, slot) {
                None => return Ok(()),
                some => some,
            },
        };
        let asked: Vec<&[u8]> = keys.iter().map(|key| self.plan.keys.bytes(*key)).collect();
        let (clock, ticket) = self.begin_read(label);
        let result = store.multi_get(snapshot.map(|(id, _)| id), &asked);
        self.heard(&result, "multi-get", |found| hash_values(&found.values))?;
        let Ok(found) = result else { return Ok(()) };
        self.answer_alone(label, || hash_values(&found.values));
        let ticket = ticket.timed(self.world.timing(clock));
        let judged = match snapshot {
            Some((_, mark)) => self.oracle.lock().end_multi_get_at(ticket, mark, keys, &found.values),
            None => self.oracle.lock().end_multi_get(ticket, found.at, keys, &found.values),
        };
        self.judge(judged)
    }

    fn scan(
        &self,
        store: &dyn Store,
        (bounds, reverse, limit): (Bounds, bool, Option<u32>),
        at: Option<Slot>,
        label: Label,
    ) -> Result<(), LifeEnd> {
        let snapshot = match at {
            None => None,
            Some(slot) => match self.slot(label, slot) {
                None => return Ok(()),
                some => some,
            },
        };
        let limit = limit.map_or(usize::MAX, |limit| limit as usize);
        let mut successor = Vec::new();
        let (from, to) = bounds.to_bytes(&self.plan.keys, &mut successor);
        let (clock, ticket) = self.begin_read(label);
        let result = store.scan(snapshot.map(|(id, _)| id), from, to, reverse, limit);
        self.heard(&result, "scan", |result| result.entries.len() as u64)?;
        let Ok(result) = result else { return Ok(()) };
        self.answer_alone(label, || hash_entries(&result.entries));
        let asked = (bounds, reverse, limit);
        let ticket = ticket.timed(self.world.timing(clock));
        let judged = match snapshot {
            Some((_, mark)) => self.oracle.lock().end_scan_at(ticket, mark, asked, &result.entries),
            None => self.oracle.lock().end_scan(ticket, asked, result.at, &result.entries),
        };
        self.judge(judged)
    }

    /// After a call: a crash ends the client, an error must be explained.
    fn heard<T>(&self, result: &Result<T, Failure>, doing: &'static str, word: fn(&T) -> u64) -> Result<(), LifeEnd> {
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        match result {
            Ok(value) => {
                self.world.note(word(value), || format!("{doing}: ok"));
                Ok(())
            }
            Err(failure) => {
                self.world.note(1, || format!("{doing} failed: {failure}"));
                self.accept(failure, doing)
            }
        }
    }

    /// A store that refuses writes is opened again, though not always at once.
    fn mind(&self, result: &Result<(), Failure>) {
        let Err(failure) = result else { return };
        if !wants_reopening(failure.kind) {
            return;
        }
        let choice = self.world.with_decisions(|decisions| {
            let site = decisions.site("client.patience");
            decisions.decide(site, 4)
        });
        if choice == 0 {
            self.court.lock().pause.get_or_insert(Pause::Reopen);
        }
    }

    fn slot(&self, label: Label, slot: Slot) -> Snapshot {
        self.court.lock().slots[label.client as usize][usize::from(slot)]
    }

    fn release(&self, store: &dyn Store, slot: Slot, label: Label) {
        let old = self.court.lock().slots[label.client as usize][usize::from(slot)].take();
        if let Some((id, _)) = old {
            store.release(id);
        }
    }

    // --- The end ------------------------------------------------------------------------------------------------------------

    /// Liveness: without faults, the store takes writes, and pays its debts.
    fn converge(&self, mut store: Arc<dyn Store>) -> Result<Option<Arc<dyn Store>>, LifeEnd> {
        self.calm();
        let deadline = self.world.now() + ACCEPT_MAX;
        let mut stamp = self.stamps_end;
        let mut pause = Duration::from_millis(1);
        loop {
            let value = Value { stamp, bytes: 16 };
            stamp += 1;
            self.oracle.lock().add_value(value);
            let entry = Entry::new(0, Some(value));
            let write = [self.write_of(&entry)];
            let result = self.write(store.as_ref(), &[entry], &write, SyncMode::Always, Label::HARNESS)?;
            let Err(failure) = result else { break };
            if self.world.now() >= deadline {
                return Err(self.fail(Finding::new(
                    "writes-not-accepted",
                    kind_word(failure.kind),
                    format!("a write fails {ACCEPT_MAX:?} after the last fault: {}", failure.message),
                )));
            }
            if wants_reopening(failure.kind) {
                self.calm();
                match self.reopen(store)? {
                    Some(again) => store = again,
                    None => return Ok(None),
                }
                self.calm();
            } else {
                self.world.sleep(pause);
                pause = (2 * pause).min(Duration::from_secs(1));
            }
        }
        let rest = wait_for_rest(&self.world, store.as_ref(), self.plan.checks(Check::Quarantine));
        if let Err(failure) = self.judge(rest)? {
            self.accept(&failure, "check")?;
            let rests = see_that_it_rests(&self.world);
            if self.crashed() {
                return Err(LifeEnd::Crashed);
            }
            self.judge(rests)?;
            return Ok(None);
        }
        Ok(Some(store))
    }

    /// The last look: everything reads as the model says, now and after one more opening.
    fn finish(&self, store: Arc<dyn Store>) -> Result<(), LifeEnd> {
        self.calm();
        if self.has_invariants() && !self.quiet(&store)? {
            return Ok(());
        }
        self.compare_reads(&store)?;
        if let Some(answers) = &self.answers {
            let all = store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX);
            answers.lock().end(all.map_or(0, |all| hash_entries(&all.entries)));
        }
        self.close(store)?;
        if let Some(store) = self.open()? {
            self.world.set_faults_enabled(false);
            if self.verify(&store)? == Verified::Whole {
                self.look_at_points(&store)?;
                self.look_at_copies(false)?;
                self.close(store)?;
            }
        }
        Ok(())
    }

    fn report(&self, world: World, crash: Option<LastCrash>) -> RunReport {
        // Whatever still runs must be able to end.
        let failed = self.has_failed() || self.see_barriers().is_err();
        if !failed {
            self.calm();
            match world.run() {
                RunEnd::Finished => {}
                end => {
                    self.fail(finding_of(&end, "after close"));
                }
            }
        }
        let mut court = self.court.lock();
        let oracle = self.oracle.lock();
        let failure = court.failure.take().map(|finding| RunFailure { finding, ops: court.failed_at, crash });
        RunReport {
            ops: court.ops,
            planned: self.plan.ops() as u64,
            checks: oracle.checks(),
            crashes: court.crashes,
            recoveries: std::mem::take(&mut court.recoveries),
            faults: world.with_injector(|injector| injector.counts()),
            calls: world.calls(),
            seen: world.with_injector(|injector| injector.seen()),
            exposures: world.with_injector(|injector| injector.exposures()),
            shape: std::mem::take(&mut court.shape),
            virtual_time: world.now(),
            damage: world.with_disk(|disk| disk.damage().iter().map(ToString::to_string).collect()),
            damage_reported: court.damage_reported,
            spills: oracle.spills(),
            coverage: Coverage::of_marks(self.kind.marks(), &self.kind.mark_hits()),
            trace: world.trace(),
            decisions: world.with_decisions(|decisions| decisions.recorded()),
            started: court.next.clone(),
            starts: std::mem::take(&mut court.starts),
            sites: world
                .with_decisions(|decisions| decisions.is_recording().then(|| decisions.labels()))
                .unwrap_or_default(),
            crash_reports: Vec::new(),
            answers: self.answers.as_ref().map(|answers| answers.lock().clone()).unwrap_or_default(),
            failure,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verified {
    Whole,
    /// The store says that it is damaged, and it is.
    Damaged,
}

/// An error that nothing explains.
pub(crate) fn without_a_cause(failure: &Failure, doing: &'static str) -> Finding {
    if failure.kind == FailureKind::Panicked {
        return panicked(&format!("within {doing}"), failure.file.as_deref().unwrap_or_default(), &failure.message);
    }
    Finding::new(
        "error-without-a-cause",
        kind_word(failure.kind),
        format!("{doing} failed, though no fault explains it: {}", failure.message),
    )
    .with(failure.file.as_deref().map_or("no file was named".into(), |file| format!("file {file}")))
}

fn hash_entries(entries: &[(Vec<u8>, Vec<u8>)]) -> u64 {
    entries.iter().fold(entries.len() as u64, |hash, (key, value)| fold(fold(hash, hash_bytes(key)), hash_bytes(value)))
}

fn hash_values(values: &[Option<Vec<u8>>]) -> u64 {
    let word = |value: &Option<Vec<u8>>| value.as_deref().map_or(0, |value| fold(1, hash_bytes(value)));
    values.iter().fold(values.len() as u64, |hash, value| fold(hash, word(value)))
}

/// Whether opening the store again may help.
fn wants_reopening(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::ReadOnly | FailureKind::Corruption | FailureKind::Unusable)
}

fn kind_word(kind: FailureKind) -> &'static str {
    match kind {
        FailureKind::Io => "io",
        FailureKind::OutOfSpace => "out of space",
        FailureKind::Corruption => "corruption",
        FailureKind::ReadOnly => "read-only",
        FailureKind::Closed => "closed",
        FailureKind::Locked => "locked",
        FailureKind::Invalid => "invalid",
        FailureKind::Unusable => "unusable",
        FailureKind::Panicked => "panicked",
        FailureKind::Conflict => "conflict",
        FailureKind::Stalled => "stalled",
        FailureKind::TimedOut => "timed out",
        FailureKind::Other => "other",
    }
}

mod copies;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod toy;
