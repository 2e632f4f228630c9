//! Which rule strikes which call. One injector per run.

use super::rule::{ErrorWord, FaultKind, FaultRule, OneOrMany, OneOrRange, Spelling};
use super::target::{ClassSet, FileClass, FsOp, Phase};
use crate::disk::{CrashKind, SyncFailure, WrongRead};
use crate::rng::{Decisions, Rarity, Site};
use serde::Serialize;
use std::collections::BTreeMap;
use std::io::ErrorKind;

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it does.
    pub op: FsOp,
    /// To what kind of file.
    pub class: FileClass,
    /// What the task that makes it is about.
    pub phase: Phase,
    /// How many bytes are to be read or written.
    pub bytes: u64,
    /// Number of the call in this run.
    pub ordinal: u64,
    /// Virtual time in milliseconds.
    pub now_ms: u64,
}

/// What the world must do at a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Injected {
    /// Crash; the call is not made.
    Crash(CrashKind),
    /// The call fails. Of a write, the first `done` bytes reach the file all the same; anything else has no effect.
    Fail {
        /// The error.
        kind: ErrorKind,
        /// Bytes that are written although the call fails.
        done: u64,
    },
    /// The read or write stops after so many bytes, and says so; a read after one at least.
    Short(u64),
    /// The sync fails. For a file see [`crate::disk::Disk::fail_sync`]; the sync of a directory has no effect.
    SyncFails {
        /// What becomes of the data.
        how: SyncFailure,
        /// The error.
        kind: ErrorKind,
    },
    /// The sync says `Ok` and does nothing. For a file see [`crate::disk::Disk::lose_sync`].
    SyncLies,
    /// A bit flips in a file of these classes, see [`crate::disk::Disk::flip_some`]; then the call is made.
    FlipBit(ClassSet),
    /// The call takes so many milliseconds.
    Delay(u64),
    /// The wall clock jumps by so many milliseconds; then the call is made.
    ClockJump(i64),
    /// The wall clock stands still for so many milliseconds; the call is made.
    ClockFreeze(u64),
    /// A sector of a file of these classes becomes unreadable; then the call is made.
    BadSector(ClassSet),
    /// The read gets a sector from a wrong place, see [`crate::disk::Disk::read_wrong`].
    WrongRead(WrongRead),
    /// The write lands elsewhere, in a file of these classes, see [`crate::disk::Disk::write_misdirected`].
    MisdirectedWrite(ClassSet),
    /// See [`crate::disk::Disk::write_back`]; then the call is made.
    Writeback,
    /// Another program leaves a file in the directory, if it is that of a store; then the call is made.
    JunkFile,
    /// The disk has all the space that it wants again; then the call is made.
    SpaceReturns,
}

/// How often a fault struck.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct FaultCount {
    /// What happened.
    pub kind: FaultKind,
    /// To what kind of file.
    pub class: FileClass,
    /// At which call.
    pub op: FsOp,
    /// How often.
    pub hits: u64,
}

/// Where faults could strike, and where they did: calls on files of a class by tasks of a phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exposure {
    /// The files.
    pub class: FileClass,
    /// The phase.
    pub phase: Phase,
    /// Calls at which a fault might have struck.
    pub calls: u64,
    /// Faults that did.
    pub hits: BTreeMap<FaultKind, u64>,
}

const OPS: usize = FsOp::ALL.len();
const PHASES: usize = Phase::ALL.len();
const CELLS: usize = FileClass::ALL.len() * OPS;

/// When a rule strikes.
enum When {
    /// By chance, decided per cell of the table under a site of its own, which is interned at the first call.
    Chance { probability: f64, sites: Vec<Option<Site>> },
    /// After so many calls.
    Counted(Site),
    /// At these calls, ascending, counted from 1.
    Nth(Vec<u64>),
    /// By itself.
    Never,
}

/// A rule in use.
struct Rule {
    kind: FaultKind,
    label: String,
    how: Site,
    when: When,
    budget: u64,
    calls: u64,
    sticky: bool,
    stuck: bool,
    targets: ClassSet,
    modes: Vec<SyncFailure>,
    errors: Vec<ErrorKind>,
    max_ms: u64,
    jump: (i64, i64),
    returns_after_ops: Option<(u64, u64)>,
    returns_after_ms: Option<(u64, u64)>,
    /// Until which call and which moment there is no space, once there is none.
    full_until: Option<(u64, u64)>,
}

/// Applies the rules of a scenario. One per run.
pub struct Injector {
    rules: Vec<Rule>,
    /// For each cell of class and operation, a bit per rule.
    table: Box<[u32]>,
    seen: Box<[u64]>,
    /// For each cell of class and phase, the calls at which rules might have struck.
    exposed: [u64; FileClass::ALL.len() * PHASES],
    hits: BTreeMap<(FaultKind, FileClass, FsOp, Phase), u64>,
    enabled: bool,
    /// Index of the torn-write rule, its site and its probability.
    torn: Option<(usize, Site, f64)>,
    capacity: Option<u64>,
    /// Index of the rule that limits the capacity.
    limiting: Option<usize>,
    space_waits: bool,
    /// Whether the space that a rule withheld has come back.
    space_is_back: bool,
    handles_max: Option<u64>,
}

impl Injector {
    /// Compiles the rules. At most 32 of them.
    pub fn new(rules: Vec<FaultRule>, decisions: &mut Decisions) -> Injector {
        assert!(rules.len() <= 32, "a scenario has at most 32 fault rules, and not {}", rules.len());
        let mut injector = Injector {
            rules: Vec::with_capacity(rules.len()),
            table: vec![0; CELLS].into_boxed_slice(),
            seen: vec![0; CELLS].into_boxed_slice(),
            exposed: [0; FileClass::ALL.len() * PHASES],
            hits: BTreeMap::new(),
            enabled: true,
            torn: None,
            capacity: None,
            limiting: None,
            space_waits: false,
            space_is_back: false,
            handles_max: None,
        };
        for rule in rules {
            injector.add(&rule.spelling, decisions);
        }
        injector
    }

    fn add(&mut self, spelling: &Spelling, decisions: &mut Decisions) {
        let index = self.rules.len();
        let kind = spelling.kind;
        let same = self.rules.iter().filter(|rule| rule.kind == kind).count();
        let label = match same {
            0 => format!("fault.{}", kind.name()),
            _ => format!("fault.{}#{}", kind.name(), same + 1),
        };
        let how = decisions.site(&format!("{label}.how"));
        let classes = spelling.classes.as_ref().map(OneOrMany::list).unwrap_or_default();
        let targets = ClassSet::of(&classes);
        let when = match (spelling.chance, spelling.every_ops, &spelling.nth) {
            (Some(probability), ..) => When::Chance { probability, sites: vec![None; CELLS] },
            (_, Some(every), _) => {
                let (low, high) = every.ends();
                When::Counted(decisions.rare_site(&label, Rarity::Every(low, high)))
            }
            (_, _, Some(nth)) => {
                let mut nth = nth.list();
                nth.sort_unstable();
                When::Nth(nth)
            }
            _ => When::Never,
        };
        if kind == FaultKind::TornWrite {
            let site = decisions.site(&label);
            self.torn = Some((index, site, spelling.chance.unwrap_or(1.0)));
        }
        if let Some(capacity) = spelling.capacity {
            let (low, high) = capacity.ends();
            self.capacity = Some(decisions.range(how, low, high));
            self.limiting = Some(index);
        }
        if let Some(limit) = spelling.limit {
            let (low, high) = limit.ends();
            self.handles_max = Some(decisions.range(how, low, high));
        }
        // Where a flip lands is a matter of classes; the call at which it happens may be any.
        let anywhere = matches!(kind, FaultKind::BitFlip | FaultKind::BadSector);
        let struck = if anywhere { ClassSet::of(&[]) } else { targets };
        for op in spelling.ops().expect("the rule was checked when it was read") {
            for class in FileClass::ALL.into_iter().filter(|&class| struck.contains(class)) {
                self.table[cell(class, op)] |= 1 << index;
            }
        }
        let errors = spelling.error.as_ref().map(OneOrMany::list).unwrap_or(vec![ErrorWord::Io]);
        self.rules.push(Rule {
            kind,
            label,
            how,
            when,
            budget: spelling.budget.unwrap_or(u64::MAX),
            calls: 0,
            sticky: spelling.sticky.unwrap_or(false),
            stuck: false,
            targets,
            modes: spelling.mode.as_ref().map(OneOrMany::list).unwrap_or(vec![SyncFailure::CleanKeepNew]),
            errors: errors.into_iter().map(ErrorWord::kind).collect(),
            max_ms: spelling.max_ms.unwrap_or(0),
            jump: spelling.ms.map_or((0, 0), OneOrRange::ends),
            returns_after_ops: spelling.returns_after_ops.map(OneOrRange::ends),
            returns_after_ms: spelling.returns_after_ms.map(OneOrRange::ends),
            full_until: None,
        });
    }

    /// Switches all rules off, or on again.
    pub fn set_enabled(&mut self, enabled: bool) {
        self.enabled = enabled;
        if !enabled {
            for rule in &mut self.rules {
                rule.stuck = false;
                rule.full_until = None;
            }
            self.space_waits = false;
        }
    }

    /// Whether rules may strike.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// The capacity that a `disk-full` rule leaves the disk now, if there is one.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity.filter(|_| self.enabled && !self.space_is_back)
    }

    /// How many files can be open at once now, if a rule limits that.
    pub fn handles_max(&self) -> Option<u32> {
        self.handles_max.filter(|_| self.enabled).map(|max| u32::try_from(max).unwrap_or(u32::MAX))
    }

    /// Whether a rule changes bytes behind the back of whoever wrote them.
    pub fn does_damage(&self) -> bool {
        use FaultKind::{BitFlip, MisdirectedRead, MisdirectedWrite, StaleRead};
        let damages = |kind| matches!(kind, BitFlip | MisdirectedRead | MisdirectedWrite | StaleRead);
        self.rules.iter().any(|rule| damages(rule.kind))
    }

    /// What happens at this call; `None` for nothing.
    #[inline]
    pub fn before(&mut self, call: Call, decisions: &mut Decisions) -> Option<Injected> {
        let cell = cell(call.class, call.op);
        self.seen[cell] += 1;
        if !self.enabled {
            return None;
        }
        self.exposed[call.class as usize * PHASES + call.phase as usize] += 1;
        let mask = self.table[cell];
        if mask == 0 && !self.space_waits {
            return None;
        }
        self.strike(call, cell, mask, decisions)
    }

    fn strike(&mut self, call: Call, cell: usize, mut mask: u32, decisions: &mut Decisions) -> Option<Injected> {
        if self.space_waits
            && let Some(rule) = self.limiting.map(|index| &mut self.rules[index])
            && rule.full_until.is_some_and(|(op, ms)| call.ordinal >= op && call.now_ms >= ms)
        {
            rule.full_until = None;
            self.space_waits = false;
            self.space_is_back = true;
            return Some(Injected::SpaceReturns);
        }
        while mask != 0 {
            let index = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let rule = &mut self.rules[index];
            if let Some(injected) = rule.strike(call, cell, decisions) {
                let kind = rule.kind;
                self.count(kind, call);
                return Some(match injected {
                    Injected::Crash(CrashKind::PowerLoss) => Injected::Crash(self.power_loss(call, decisions)),
                    other => other,
                });
            }
        }
        None
    }

    fn count(&mut self, kind: FaultKind, Call { class, op, phase, .. }: Call) {
        *self.hits.entry((kind, class, op, phase)).or_default() += 1;
    }

    /// The kind of a power cut: torn, where a `torn-write` rule says so. For crashes that are not faults of a rule, too.
    pub fn power_loss(&mut self, call: Call, decisions: &mut Decisions) -> CrashKind {
        let Some((index, site, chance)) = self.torn else { return CrashKind::PowerLoss };
        let rule = &mut self.rules[index];
        if !self.enabled || rule.budget == 0 || !decisions.chance(site, chance) {
            return CrashKind::PowerLoss;
        }
        rule.budget -= 1;
        self.count(FaultKind::TornWrite, call);
        CrashKind::TornPowerLoss
    }

    /// The disk itself has said that it is full. Where a rule limits its capacity, the time until space returns begins.
    pub fn note_full(&mut self, call: Call, decisions: &mut Decisions) {
        let Some(index) = self.limiting else { return };
        let rule = &mut self.rules[index];
        if rule.full_until.is_none() && self.enabled {
            rule.full_until = rule.draw_until(call, decisions);
            self.space_waits = rule.full_until.is_some();
        }
        self.count(FaultKind::DiskFull, call);
    }

    /// The disk itself has said that too many files are open.
    pub fn note_handles(&mut self, call: Call) {
        self.count(FaultKind::FdLimit, call);
    }

    /// How often each fault struck, by kind, file class and operation.
    pub fn counts(&self) -> Vec<FaultCount> {
        let mut counts: Vec<FaultCount> = Vec::new();
        for (&(kind, class, op, _), &hits) in &self.hits {
            match counts.last_mut().filter(|last| (last.kind, last.class, last.op) == (kind, class, op)) {
                Some(same) => same.hits += hits,
                None => counts.push(FaultCount { kind, class, op, hits }),
            }
        }
        counts
    }

    /// Where rules could strike, and where they did, by file class and phase; cells without a call are left out.
    pub fn exposures(&self) -> Vec<Exposure> {
        let cells = FileClass::ALL.into_iter().flat_map(|class| Phase::ALL.map(|phase| (class, phase)));
        let exposure = |(class, phase): (FileClass, Phase)| {
            let calls = self.exposed[class as usize * PHASES + phase as usize];
            let mut hits: BTreeMap<FaultKind, u64> = BTreeMap::new();
            for ((kind, ..), count) in self.hits.iter().filter(|((_, c, _, p), _)| (*c, *p) == (class, phase)) {
                *hits.entry(*kind).or_default() += count;
            }
            Exposure { class, phase, calls, hits }
        };
        cells.map(exposure).filter(|cell| cell.calls > 0 || !cell.hits.is_empty()).collect()
    }

    /// How often a kind of fault struck.
    pub fn hits(&self, kind: FaultKind) -> u64 {
        self.hits.iter().filter(|((struck, ..), _)| *struck == kind).map(|(_, hits)| hits).sum()
    }

    /// Every class and operation of which calls were made, and how many.
    pub fn seen(&self) -> Vec<(FileClass, FsOp, u64)> {
        let cells = FileClass::ALL.into_iter().flat_map(|class| FsOp::ALL.map(|op| (class, op)));
        cells.map(|(class, op)| (class, op, self.calls(class, op))).filter(|(.., calls)| *calls > 0).collect()
    }

    /// How many calls of this operation were made on files of this class.
    pub fn calls(&self, class: FileClass, op: FsOp) -> u64 {
        self.seen[cell(class, op)]
    }
}

impl Rule {
    /// Whether the rule strikes at this call, and how.
    fn strike(&mut self, call: Call, cell: usize, decisions: &mut Decisions) -> Option<Injected> {
        if self.kind == FaultKind::DiskFull && !matches!(self.when, When::Never) && self.still_full(call) {
            return self.effect(call, decisions);
        }
        self.calls += 1;
        let due = match &mut self.when {
            _ if self.stuck => true,
            When::Never => false,
            When::Nth(nth) => nth.binary_search(&self.calls).is_ok(),
            When::Counted(site) => decisions.rare(*site),
            When::Chance { probability, sites } => {
                let site = match sites[cell] {
                    Some(site) => site,
                    None => {
                        let label = format!("{}.{}.{}", self.label, call.class.name(), call.op.name());
                        *sites[cell].insert(decisions.rare_site(&label, Rarity::Chance(*probability)))
                    }
                };
                decisions.rare(site)
            }
        };
        if !due || (self.budget == 0 && !self.stuck) {
            return None;
        }
        let effect = self.effect(call, decisions)?;
        if !self.stuck {
            self.budget -= 1;
            self.stuck = self.sticky;
        }
        if self.kind == FaultKind::DiskFull {
            self.full_until = self.draw_until(call, decisions);
        }
        Some(effect)
    }

    fn still_full(&mut self, call: Call) -> bool {
        match self.full_until {
            Some((op, ms)) if call.ordinal < op || call.now_ms < ms => true,
            Some(_) => {
                self.full_until = None;
                false
            }
            None => false,
        }
    }

    /// Until when there is no space, from now on; `None` where only this one call fails.
    fn draw_until(&self, call: Call, decisions: &mut Decisions) -> Option<(u64, u64)> {
        if self.returns_after_ops.is_none() && self.returns_after_ms.is_none() {
            return None;
        }
        let op = self.returns_after_ops.map_or(0, |(low, high)| call.ordinal + decisions.range(self.how, low, high));
        let ms = self.returns_after_ms.map_or(0, |(low, high)| call.now_ms + decisions.range(self.how, low, high));
        Some((op, ms))
    }

    /// What the fault does to this call; `None` where it can do nothing to it.
    fn effect(&self, call: Call, decisions: &mut Decisions) -> Option<Injected> {
        let how = self.how;
        let written = |decisions: &mut Decisions| match call.op {
            FsOp::Write => decisions.decide(how, call.bytes + 1),
            _ => 0,
        };
        Some(match self.kind {
            FaultKind::PowerLoss => Injected::Crash(CrashKind::PowerLoss),
            FaultKind::ProcessCrash => Injected::Crash(CrashKind::Process),
            FaultKind::TornWrite | FaultKind::FdLimit => return None,
            FaultKind::IoError => {
                let kind = *decisions.pick(how, &self.errors);
                Injected::Fail { kind, done: written(decisions) }
            }
            FaultKind::FsyncError => {
                Injected::SyncFails { how: *decisions.pick(how, &self.modes), kind: ErrorKind::Other }
            }
            FaultKind::FsyncLoss => Injected::SyncLies,
            FaultKind::DiskFull => match call.op {
                FsOp::SyncData | FsOp::SyncAll => Injected::SyncFails {
                    how: *decisions.pick(how, &[SyncFailure::KeepDirty, SyncFailure::CleanKeepNew]),
                    kind: ErrorKind::StorageFull,
                },
                _ => Injected::Fail { kind: ErrorKind::StorageFull, done: written(decisions) },
            },
            FaultKind::ShortRead | FaultKind::ShortWrite if call.bytes < 2 => return None,
            FaultKind::ShortRead | FaultKind::ShortWrite => {
                Injected::Short(call.bytes - 1 - decisions.decide(how, call.bytes - 1))
            }
            FaultKind::BitFlip => Injected::FlipBit(self.targets),
            FaultKind::BadSector => Injected::BadSector(self.targets),
            FaultKind::ZeroWrite => Injected::Short(0),
            FaultKind::StaleRead => Injected::WrongRead(WrongRead::Stale),
            FaultKind::MisdirectedRead => Injected::WrongRead(WrongRead::Misdirected),
            FaultKind::MisdirectedWrite => Injected::MisdirectedWrite(self.targets),
            FaultKind::Writeback => Injected::Writeback,
            FaultKind::JunkFiles => Injected::JunkFile,
            FaultKind::ClockFreeze => Injected::ClockFreeze(1 + decisions.decide(how, self.max_ms)),
            FaultKind::SlowIo => Injected::Delay(1 + decisions.decide(how, self.max_ms)),
            FaultKind::ClockJump => {
                let (low, high) = self.jump;
                Injected::ClockJump(low.saturating_add_unsigned(decisions.range(how, 0, high.abs_diff(low))))
            }
        })
    }
}

fn cell(class: FileClass, op: FsOp) -> usize {
    class as usize * OPS + op as usize
}
