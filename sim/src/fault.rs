//! What goes wrong, as rules of a scenario, and the injector that applies them to file system calls.
//!
//! A [`FaultRule`] says what happens ([`FaultKind`]), to which calls (`on`, `classes`) and how often (`chance`, `every_ops`
//! or `nth`, at most `budget` times). Before each call the world asks [`Injector::before`], which answers with what the world
//! must do. Which rules can strike a call is a table by file class and operation that is filled once, so that a call which no
//! rule matches costs one look.
//!
//! Rules that strike by chance decide per file class and operation, each under a name of its own
//! (`fault.io-error.wal.write`), so that more calls of one kind do not move the faults of another. Rules that count
//! (`every_ops`, `nth`) count all calls that they match.
//!
//! What it does not do: it changes neither the disk nor the clock, and it keeps no promise about which of two rules that are
//! due at the same call comes first, but that it is the same one each time; the other one is asked at the next call.

use crate::disk::{CrashKind, SyncFailure};
use crate::rng::{Decisions, Rarity, Site};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;

/// What a file is to the engine that owns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileClass {
    /// A write-ahead log.
    Wal,
    /// A sorted table, or whatever holds the bulk of the data.
    Sst,
    /// The list of what counts.
    Manifest,
    /// The pointer to the list that counts.
    Current,
    /// A lock file.
    Lock,
    /// What says whose directory this is.
    Identity,
    /// A file that waits for its rename.
    Temp,
    /// A directory.
    Directory,
    /// Anything else.
    Other,
}

impl FileClass {
    /// Every class, in the order of the table.
    pub const ALL: [FileClass; 9] = [
        FileClass::Wal,
        FileClass::Sst,
        FileClass::Manifest,
        FileClass::Current,
        FileClass::Lock,
        FileClass::Identity,
        FileClass::Temp,
        FileClass::Directory,
        FileClass::Other,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            FileClass::Wal => "wal",
            FileClass::Sst => "sst",
            FileClass::Manifest => "manifest",
            FileClass::Current => "current",
            FileClass::Lock => "lock",
            FileClass::Identity => "identity",
            FileClass::Temp => "temp",
            FileClass::Directory => "directory",
            FileClass::Other => "other",
        }
    }
}

/// A call to the file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FsOp {
    /// Open an existing file.
    Open,
    /// Create a file.
    Create,
    /// Read from a file.
    Read,
    /// Write to a file.
    Write,
    /// Cut or extend a file.
    SetLen,
    /// Sync the data of a file.
    SyncData,
    /// Sync data and metadata of a file.
    SyncAll,
    /// Sync a directory.
    SyncDir,
    /// Rename a file.
    Rename,
    /// Link a file.
    Link,
    /// Remove a file.
    Unlink,
    /// Create a directory.
    Mkdir,
    /// Remove a directory.
    Rmdir,
    /// List a directory.
    ReadDir,
    /// Ask for the length of a file or the free space.
    Stat,
    /// Lock a file.
    Lock,
}

impl FsOp {
    /// Every operation, in the order of the table.
    pub const ALL: [FsOp; 16] = [
        FsOp::Open,
        FsOp::Create,
        FsOp::Read,
        FsOp::Write,
        FsOp::SetLen,
        FsOp::SyncData,
        FsOp::SyncAll,
        FsOp::SyncDir,
        FsOp::Rename,
        FsOp::Link,
        FsOp::Unlink,
        FsOp::Mkdir,
        FsOp::Rmdir,
        FsOp::ReadDir,
        FsOp::Stat,
        FsOp::Lock,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            FsOp::Open => "open",
            FsOp::Create => "create",
            FsOp::Read => "read",
            FsOp::Write => "write",
            FsOp::SetLen => "set-len",
            FsOp::SyncData => "sync-data",
            FsOp::SyncAll => "sync-all",
            FsOp::SyncDir => "sync-dir",
            FsOp::Rename => "rename",
            FsOp::Link => "link",
            FsOp::Unlink => "unlink",
            FsOp::Mkdir => "mkdir",
            FsOp::Rmdir => "rmdir",
            FsOp::ReadDir => "read-dir",
            FsOp::Stat => "stat",
            FsOp::Lock => "lock",
        }
    }
}

/// What can go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// Power is cut before a call.
    PowerLoss,
    /// The process dies before a call.
    ProcessCrash,
    /// A power cut strikes in the middle of the newest write, and may cut it within a sector.
    TornWrite,
    /// A call fails.
    IoError,
    /// A sync fails, and leaves the file as `mode` says.
    FsyncError,
    /// A sync says `Ok` and does nothing.
    FsyncLoss,
    /// There is no space, for one call or for a while.
    DiskFull,
    /// A read returns less than was asked for.
    ShortRead,
    /// A write takes less than it was given.
    ShortWrite,
    /// A bit of what was synced flips.
    BitFlip,
    /// A call takes long.
    SlowIo,
    /// The wall clock jumps.
    ClockJump,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 12] = [
        FaultKind::PowerLoss,
        FaultKind::ProcessCrash,
        FaultKind::TornWrite,
        FaultKind::IoError,
        FaultKind::FsyncError,
        FaultKind::FsyncLoss,
        FaultKind::DiskFull,
        FaultKind::ShortRead,
        FaultKind::ShortWrite,
        FaultKind::BitFlip,
        FaultKind::SlowIo,
        FaultKind::ClockJump,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            FaultKind::PowerLoss => "power-loss",
            FaultKind::ProcessCrash => "process-crash",
            FaultKind::TornWrite => "torn-write",
            FaultKind::IoError => "io-error",
            FaultKind::FsyncError => "fsync-error",
            FaultKind::FsyncLoss => "fsync-loss",
            FaultKind::DiskFull => "disk-full",
            FaultKind::ShortRead => "short-read",
            FaultKind::ShortWrite => "short-write",
            FaultKind::BitFlip => "bit-flip",
            FaultKind::SlowIo => "slow-io",
            FaultKind::ClockJump => "clock-jump",
        }
    }

    /// The fields that a rule of this kind may have, beside `kind`.
    fn fields(self) -> &'static [&'static str] {
        match self {
            FaultKind::PowerLoss | FaultKind::ProcessCrash => {
                &["chance", "every_ops", "nth", "budget", "on", "classes"]
            }
            FaultKind::TornWrite => &["chance", "budget"],
            FaultKind::IoError => &["chance", "every_ops", "nth", "budget", "on", "classes", "sticky", "error"],
            FaultKind::FsyncError => &["chance", "every_ops", "nth", "budget", "on", "classes", "sticky", "mode"],
            FaultKind::FsyncLoss => &["chance", "every_ops", "nth", "budget", "on", "classes", "sticky"],
            FaultKind::DiskFull => &[
                "chance",
                "every_ops",
                "nth",
                "budget",
                "at",
                "classes",
                "capacity",
                "returns_after_ops",
                "returns_after_ms",
            ],
            FaultKind::ShortRead | FaultKind::ShortWrite => &["chance", "every_ops", "nth", "budget", "classes"],
            FaultKind::BitFlip => &["chance", "every_ops", "nth", "budget", "classes"],
            FaultKind::SlowIo => &["chance", "every_ops", "nth", "budget", "on", "classes", "max_ms"],
            FaultKind::ClockJump => &["chance", "every_ops", "nth", "budget", "ms"],
        }
    }
}

/// One thing or a list of things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    fn list(&self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        }
    }
}

/// A number, or a range from which one is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrRange<T> {
    One(T),
    Range([T; 2]),
}

impl<T: Copy + PartialOrd + fmt::Display> OneOrRange<T> {
    fn ends(self) -> (T, T) {
        match self {
            OneOrRange::One(one) => (one, one),
            OneOrRange::Range([low, high]) => (low, high),
        }
    }

    fn check(self, field: &str) -> Result<(), String> {
        let (low, high) = self.ends();
        if low > high { Err(format!("`{field}` goes from {low} down to {high}")) } else { Ok(()) }
    }
}

/// Errors that an `io-error` rule can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ErrorWord {
    Io,
    Interrupted,
    NoSpace,
    ReadOnly,
    PermissionDenied,
}

impl ErrorWord {
    fn kind(self) -> ErrorKind {
        match self {
            ErrorWord::Io => ErrorKind::Other,
            ErrorWord::Interrupted => ErrorKind::Interrupted,
            ErrorWord::NoSpace => ErrorKind::StorageFull,
            ErrorWord::ReadOnly => ErrorKind::ReadOnlyFilesystem,
            ErrorWord::PermissionDenied => ErrorKind::PermissionDenied,
        }
    }
}

/// A rule as a scenario spells it; which fields fit which kind is checked after reading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spelling {
    kind: FaultKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    on: Option<OneOrMany<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    at: Option<OneOrMany<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    classes: Option<OneOrMany<FileClass>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chance: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    every_ops: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nth: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    budget: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sticky: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<OneOrMany<SyncFailure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<OneOrMany<ErrorWord>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capacity: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    returns_after_ops: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    returns_after_ms: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ms: Option<OneOrRange<i64>>,
}

/// One rule of a scenario: checked, and spelled again as it was read. See [`FaultRule::from_str`] for examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Spelling", into = "Spelling")]
pub struct FaultRule {
    spelling: Spelling,
}

impl FaultRule {
    /// What happens.
    pub fn kind(&self) -> FaultKind {
        self.spelling.kind
    }
}

impl FromStr for FaultRule {
    type Err = String;

    /// Reads the fields of a rule as TOML.
    ///
    /// ```
    /// use shaketable::fault::FaultRule;
    /// let rule: FaultRule = "kind = 'power-loss'\nevery_ops = [50, 400]".parse().unwrap();
    /// let rule: FaultRule = "kind = 'io-error'\non = 'read'\nclasses = ['sst']\nchance = 0.01".parse().unwrap();
    /// assert!("kind = 'power-loss'\nmode = 'keep-dirty'".parse::<FaultRule>().is_err());
    /// ```
    fn from_str(text: &str) -> Result<FaultRule, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }
}

impl From<FaultRule> for Spelling {
    fn from(rule: FaultRule) -> Spelling {
        rule.spelling
    }
}

impl TryFrom<Spelling> for FaultRule {
    type Error = String;

    fn try_from(spelling: Spelling) -> Result<FaultRule, String> {
        let kind = spelling.kind;
        let name = kind.name();
        for (field, is_set) in spelling.set_fields() {
            if is_set && !kind.fields().contains(&field) {
                return Err(format!("a `{name}` fault has no `{field}`; it has {}", kind.fields().join(", ")));
            }
        }
        let ways = [spelling.chance.is_some(), spelling.every_ops.is_some(), spelling.nth.is_some()];
        let ways = ways.into_iter().filter(|&way| way).count();
        let may_do_without = kind == FaultKind::TornWrite || spelling.capacity.is_some();
        if ways > 1 || (ways == 0 && !may_do_without) {
            return Err(format!("a `{name}` fault needs one of `chance`, `every_ops` and `nth`"));
        }
        if let Some(chance) = spelling.chance
            && !(0.0..=1.0).contains(&chance)
        {
            return Err(format!("`chance` is a probability from 0 to 1, and not {chance}"));
        }
        if let Some(every) = spelling.every_ops {
            every.check("every_ops")?;
            if every.ends().0 == 0 {
                return Err("`every_ops` counts from 1".into());
            }
        }
        if spelling.nth.as_ref().is_some_and(|nth| nth.list().contains(&0)) {
            return Err("`nth` counts from 1".into());
        }
        for (field, range) in [
            ("capacity", spelling.capacity),
            ("returns_after_ops", spelling.returns_after_ops),
            ("returns_after_ms", spelling.returns_after_ms),
        ] {
            range.map_or(Ok(()), |range| range.check(field))?;
        }
        spelling.ms.map_or(Ok(()), |range| range.check("ms"))?;
        match kind {
            FaultKind::IoError if spelling.on.is_none() => {
                return Err("an `io-error` fault needs `on`: which calls fail".into());
            }
            FaultKind::SlowIo if spelling.max_ms.is_none_or(|max| max == 0) => {
                return Err("a `slow-io` fault needs `max_ms`, at least 1".into());
            }
            FaultKind::ClockJump if spelling.ms.is_none() => {
                return Err("a `clock-jump` fault needs `ms`: how far, or from how far to how far".into());
            }
            _ => {}
        }
        spelling.ops()?;
        Ok(FaultRule { spelling })
    }
}

impl Spelling {
    fn set_fields(&self) -> [(&'static str, bool); 15] {
        [
            ("on", self.on.is_some()),
            ("at", self.at.is_some()),
            ("classes", self.classes.is_some()),
            ("chance", self.chance.is_some()),
            ("every_ops", self.every_ops.is_some()),
            ("nth", self.nth.is_some()),
            ("budget", self.budget.is_some()),
            ("sticky", self.sticky.is_some()),
            ("mode", self.mode.is_some()),
            ("error", self.error.is_some()),
            ("capacity", self.capacity.is_some()),
            ("returns_after_ops", self.returns_after_ops.is_some()),
            ("returns_after_ms", self.returns_after_ms.is_some()),
            ("max_ms", self.max_ms.is_some()),
            ("ms", self.ms.is_some()),
        ]
    }

    /// The calls that the rule can strike.
    fn ops(&self) -> Result<Vec<FsOp>, String> {
        let syncs = [FsOp::SyncData, FsOp::SyncAll];
        let words = match self.kind {
            FaultKind::DiskFull => &self.at,
            _ => &self.on,
        };
        let Some(words) = words else {
            return Ok(match self.kind {
                FaultKind::FsyncError | FaultKind::FsyncLoss => syncs.to_vec(),
                FaultKind::DiskFull => vec![FsOp::Write, FsOp::SetLen, FsOp::Create, FsOp::Mkdir, FsOp::Link],
                FaultKind::ShortRead => vec![FsOp::Read],
                FaultKind::ShortWrite => vec![FsOp::Write],
                FaultKind::TornWrite => Vec::new(),
                _ => FsOp::ALL.to_vec(),
            });
        };
        let mut ops = Vec::new();
        for word in words.list() {
            match (self.kind, word.as_str()) {
                (FaultKind::DiskFull, "write") => ops.extend([FsOp::Write, FsOp::SetLen]),
                (FaultKind::DiskFull, "create") => ops.extend([FsOp::Create, FsOp::Mkdir, FsOp::Link]),
                (FaultKind::DiskFull, "sync") => ops.extend(syncs),
                (FaultKind::DiskFull, _) => {
                    return Err(format!("`at` is `write`, `create` or `sync`, and not `{word}`"));
                }
                (FaultKind::FsyncError | FaultKind::FsyncLoss, "sync-dir") => ops.push(FsOp::SyncDir),
                (_, "sync") => ops.extend(syncs),
                (FaultKind::FsyncError | FaultKind::FsyncLoss, "sync-data" | "sync-all") | (_, _) => {
                    let found = FsOp::ALL.into_iter().find(|op| op.name() == word);
                    let fits = |op: &FsOp| match self.kind {
                        FaultKind::FsyncError | FaultKind::FsyncLoss => syncs.contains(op),
                        _ => true,
                    };
                    let Some(op) = found.filter(fits) else {
                        let known = FsOp::ALL.into_iter().filter(fits).map(FsOp::name).collect::<Vec<_>>().join(", ");
                        return Err(format!("`on` names `{word}`; a `{}` fault knows sync, {known}", self.kind.name()));
                    };
                    ops.push(op);
                }
            }
        }
        Ok(ops)
    }
}

/// A set of file classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSet(u16);

impl ClassSet {
    /// Those classes, or all of them where none is named.
    pub fn of(classes: &[FileClass]) -> ClassSet {
        if classes.is_empty() {
            return ClassSet(u16::MAX);
        }
        ClassSet(classes.iter().fold(0, |set, &class| set | 1 << class as u16))
    }

    /// Whether it is in the set.
    pub fn contains(self, class: FileClass) -> bool {
        self.0 & (1 << class as u16) != 0
    }
}

/// A call that is about to be made.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// What it does.
    pub op: FsOp,
    /// To what kind of file.
    pub class: FileClass,
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
    /// The read or write stops after so many bytes, at least one, and says so.
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

const OPS: usize = FsOp::ALL.len();
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
    hits: BTreeMap<(FaultKind, FileClass, FsOp), u64>,
    enabled: bool,
    /// Index of the torn-write rule, its site and its probability.
    torn: Option<(usize, Site, f64)>,
    capacity: Option<u64>,
    /// Index of the rule that limits the capacity.
    limiting: Option<usize>,
    space_waits: bool,
}

impl Injector {
    /// Compiles the rules. At most 32 of them.
    pub fn new(rules: Vec<FaultRule>, decisions: &mut Decisions) -> Injector {
        assert!(rules.len() <= 32, "a scenario has at most 32 fault rules, and not {}", rules.len());
        let mut injector = Injector {
            rules: Vec::with_capacity(rules.len()),
            table: vec![0; CELLS].into_boxed_slice(),
            seen: vec![0; CELLS].into_boxed_slice(),
            hits: BTreeMap::new(),
            enabled: true,
            torn: None,
            capacity: None,
            limiting: None,
            space_waits: false,
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
        // Where a flip lands is a matter of classes; the call at which it happens may be any.
        let struck = if kind == FaultKind::BitFlip { ClassSet::of(&[]) } else { targets };
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

    /// The capacity that a `disk-full` rule gives the disk at the beginning of the run.
    pub fn capacity(&self) -> Option<u64> {
        self.capacity
    }

    /// What happens at this call; `None` for nothing.
    #[inline]
    pub fn before(&mut self, call: Call, decisions: &mut Decisions) -> Option<Injected> {
        let cell = cell(call.class, call.op);
        self.seen[cell] += 1;
        let mask = self.table[cell];
        if (mask == 0 && !self.space_waits) || !self.enabled {
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
            return Some(Injected::SpaceReturns);
        }
        while mask != 0 {
            let index = mask.trailing_zeros() as usize;
            mask &= mask - 1;
            let rule = &mut self.rules[index];
            if let Some(injected) = rule.strike(call, cell, decisions) {
                let kind = rule.kind;
                *self.hits.entry((kind, call.class, call.op)).or_default() += 1;
                return Some(match injected {
                    Injected::Crash(CrashKind::PowerLoss) => {
                        Injected::Crash(self.power_loss(call.class, call.op, decisions))
                    }
                    other => other,
                });
            }
        }
        None
    }

    /// The kind of a power cut: torn, where a `torn-write` rule says so. For crashes that are not faults of a rule, too.
    pub fn power_loss(&mut self, class: FileClass, op: FsOp, decisions: &mut Decisions) -> CrashKind {
        let Some((index, site, chance)) = self.torn else { return CrashKind::PowerLoss };
        let rule = &mut self.rules[index];
        if !self.enabled || rule.budget == 0 || !decisions.chance(site, chance) {
            return CrashKind::PowerLoss;
        }
        rule.budget -= 1;
        *self.hits.entry((FaultKind::TornWrite, class, op)).or_default() += 1;
        CrashKind::TornPowerLoss
    }

    /// The disk itself has said that it is full. Where a rule limits its capacity, the time until space returns begins.
    pub fn note_full(&mut self, call: Call, decisions: &mut Decisions) {
        let Some(index) = self.limiting else { return };
        let rule = &mut self.rules[index];
        *self.hits.entry((FaultKind::DiskFull, call.class, call.op)).or_default() += 1;
        if rule.full_until.is_none() && self.enabled {
            rule.full_until = rule.draw_until(call, decisions);
            self.space_waits = rule.full_until.is_some();
        }
    }

    /// How often each fault struck, by kind, file class and operation.
    pub fn counts(&self) -> Vec<FaultCount> {
        self.hits.iter().map(|(&(kind, class, op), &hits)| FaultCount { kind, class, op, hits }).collect()
    }

    /// How often a kind of fault struck.
    pub fn hits(&self, kind: FaultKind) -> u64 {
        self.hits.iter().filter(|((struck, ..), _)| *struck == kind).map(|(_, hits)| hits).sum()
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
            FaultKind::TornWrite => return None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rest;

    fn rule(text: &str) -> FaultRule {
        text.parse().unwrap()
    }

    fn refused(text: &str) -> String {
        text.parse::<FaultRule>().unwrap_err()
    }

    fn call(op: FsOp, class: FileClass, ordinal: u64) -> Call {
        Call { op, class, bytes: 100, ordinal, now_ms: ordinal }
    }

    fn injector(seed: u64, rules: &[&str]) -> (Injector, Decisions) {
        let mut decisions = Decisions::from_seed(seed);
        let rules = rules.iter().map(|text| rule(text)).collect();
        (Injector::new(rules, &mut decisions), decisions)
    }

    #[test]
    fn a_rule_reads_as_a_scenario_spells_it_and_is_spelled_again() {
        for text in [
            "kind = 'power-loss'\nevery_ops = [50, 400]",
            "kind = 'torn-write'\nchance = 0.2",
            "kind = 'process-crash'\nnth = 7\nbudget = 1",
            "kind = 'io-error'\non = ['read', 'write']\nclasses = ['wal', 'sst']\nchance = 0.01\nsticky = true",
            "kind = 'fsync-error'\nmode = ['clean-keep-new', 'keep-dirty']\nclasses = 'wal'\nchance = 0.5",
            "kind = 'fsync-loss'\non = ['sync', 'sync-dir']\nchance = 0.5",
            "kind = 'disk-full'\ncapacity = [65536, 1048576]\nreturns_after_ms = [10, 1000]",
            "kind = 'disk-full'\nat = ['write', 'create', 'sync']\nchance = 0.01\nreturns_after_ops = 20",
            "kind = 'short-read'\nchance = 0.1",
            "kind = 'short-write'\nchance = 0.1",
            "kind = 'bit-flip'\nclasses = ['sst']\nchance = 0.001\nbudget = 1",
            "kind = 'slow-io'\nmax_ms = 5000\nchance = 0.01",
            "kind = 'clock-jump'\nms = [-3600000, 3600000]\nchance = 0.01",
        ] {
            let read = rule(text);
            let again = toml::to_string(&read).unwrap();
            assert_eq!(rule(&again), read, "{again}");
        }
    }

    #[test]
    fn what_a_rule_cannot_mean_is_refused_with_words() {
        let refusals = [
            ("kind = 'meteor'\nchance = 0.1", "meteor"),
            ("kind = 'power-loss'\nevery_op = 3", "every_op"),
            ("kind = 'power-loss'", "needs one of"),
            ("kind = 'power-loss'\nchance = 0.1\nnth = 3", "needs one of"),
            ("kind = 'power-loss'\nchance = 0.1\nmode = 'keep-dirty'", "has no `mode`"),
            ("kind = 'slow-io'\nchance = 0.1", "max_ms"),
            ("kind = 'io-error'\nchance = 0.1", "needs `on`"),
            ("kind = 'io-error'\non = 'fly'\nchance = 0.1", "fly"),
            ("kind = 'fsync-error'\non = 'read'\nchance = 0.1", "read"),
            ("kind = 'disk-full'\nat = 'read'\nchance = 0.1", "read"),
            ("kind = 'power-loss'\nchance = 1.5", "1.5"),
            ("kind = 'power-loss'\nevery_ops = [5, 2]", "down to"),
            ("kind = 'power-loss'\nnth = [0]", "from 1"),
            ("kind = 'io-error'\non = 'read'\nchance = 0.1\nclasses = ['tape']", "tape"),
        ];
        for (text, word) in refusals {
            let message = refused(text);
            assert!(message.contains(word), "{text}: {message}");
        }
    }

    #[test]
    fn a_rule_strikes_only_the_calls_that_it_names() {
        let (mut injector, mut decisions) =
            injector(1, &["kind = 'io-error'\non = 'write'\nclasses = 'wal'\nchance = 1.0"]);
        assert_eq!(injector.before(call(FsOp::Write, FileClass::Sst, 1), &mut decisions), None);
        assert_eq!(injector.before(call(FsOp::Read, FileClass::Wal, 2), &mut decisions), None);
        let struck = injector.before(call(FsOp::Write, FileClass::Wal, 3), &mut decisions);
        assert!(matches!(struck, Some(Injected::Fail { kind: ErrorKind::Other, done }) if done <= 100), "{struck:?}");
        assert_eq!(injector.hits(FaultKind::IoError), 1);
        assert_eq!(injector.calls(FileClass::Wal, FsOp::Write), 1);
        injector.set_enabled(false);
        assert_eq!(injector.before(call(FsOp::Write, FileClass::Wal, 4), &mut decisions), None);
    }

    #[test]
    fn the_same_seed_strikes_the_same_calls_and_zeros_strike_none() {
        let rules = [
            "kind = 'power-loss'\nevery_ops = [50, 400]",
            "kind = 'torn-write'\nchance = 0.5",
            "kind = 'io-error'\non = 'read'\nchance = 0.05",
            "kind = 'short-write'\nchance = 0.05",
            "kind = 'slow-io'\nmax_ms = 9\nchance = 0.05",
        ];
        let run = |mut decisions: Decisions| {
            let mut injector = Injector::new(rules.iter().map(|text| rule(text)).collect(), &mut decisions);
            let mut seen = Vec::new();
            for ordinal in 0..5000 {
                let op = FsOp::ALL[(ordinal % 4) as usize];
                let class = FileClass::ALL[(ordinal % 3) as usize];
                if let Some(injected) = injector.before(call(op, class, ordinal), &mut decisions) {
                    seen.push((ordinal, injected));
                }
            }
            seen
        };
        let seen = run(Decisions::from_seed(3));
        assert_eq!(seen, run(Decisions::from_seed(3)));
        assert_ne!(seen, run(Decisions::from_seed(4)));
        let kinds = |wanted: CrashKind| seen.iter().any(|(_, injected)| *injected == Injected::Crash(wanted));
        assert!(kinds(CrashKind::PowerLoss) && kinds(CrashKind::TornPowerLoss));
        assert_eq!(run(Decisions::scripted(BTreeMap::new(), Rest::Zero)), []);
    }

    #[test]
    fn a_budget_ends_a_rule_and_nth_counts_the_calls_that_match() {
        let (mut injector, mut decisions) =
            injector(1, &["kind = 'process-crash'\nnth = [3, 5, 9]\nbudget = 2\non = 'rename'"]);
        let mut struck = Vec::new();
        for ordinal in 1..=40 {
            let op = if ordinal % 2 == 0 { FsOp::Rename } else { FsOp::Write };
            if injector.before(call(op, FileClass::Current, ordinal), &mut decisions).is_some() {
                struck.push(ordinal);
            }
        }
        assert_eq!(struck, [6, 10]);
    }

    #[test]
    fn a_sticky_error_stays_until_the_faults_end() {
        let (mut injector, mut decisions) =
            injector(1, &["kind = 'io-error'\non = 'read'\nnth = 2\nsticky = true\nbudget = 1"]);
        let mut struck = Vec::new();
        for ordinal in 1..=6 {
            struck.push(injector.before(call(FsOp::Read, FileClass::Sst, ordinal), &mut decisions).is_some());
        }
        assert_eq!(struck, [false, true, true, true, true, true]);
        injector.set_enabled(false);
        injector.set_enabled(true);
        assert_eq!(injector.before(call(FsOp::Read, FileClass::Sst, 7), &mut decisions), None);
    }

    #[test]
    fn space_goes_for_a_while_and_comes_back() {
        let (mut injector, mut decisions) =
            injector(1, &["kind = 'disk-full'\nat = ['write', 'create']\nnth = 3\nreturns_after_ops = 4"]);
        let mut full = Vec::new();
        for ordinal in 1..=9 {
            let injected = injector.before(call(FsOp::Write, FileClass::Sst, ordinal), &mut decisions);
            full.push(matches!(injected, Some(Injected::Fail { kind: ErrorKind::StorageFull, .. })));
        }
        assert_eq!(full, [false, false, true, true, true, true, false, false, false]);
    }

    #[test]
    fn a_small_disk_grows_again_some_time_after_it_was_full() {
        let (mut injector, mut decisions) =
            injector(1, &["kind = 'disk-full'\ncapacity = 65536\nreturns_after_ms = 10"]);
        assert_eq!(injector.capacity(), Some(65536));
        for ordinal in 1..=20 {
            let now = call(FsOp::Write, FileClass::Sst, ordinal);
            let injected = injector.before(now, &mut decisions);
            assert_eq!(injected, (ordinal == 15).then_some(Injected::SpaceReturns));
            if ordinal == 5 {
                injector.note_full(now, &mut decisions);
            }
        }
        assert_eq!(injector.hits(FaultKind::DiskFull), 1);
    }

    #[test]
    fn a_flip_may_happen_at_any_call_but_lands_in_the_classes_that_were_named() {
        let (mut injector, mut decisions) = injector(1, &["kind = 'bit-flip'\nclasses = ['sst']\nnth = 1"]);
        let struck = injector.before(call(FsOp::Write, FileClass::Wal, 1), &mut decisions);
        let Some(Injected::FlipBit(classes)) = struck else { panic!("{struck:?}") };
        assert!(classes.contains(FileClass::Sst) && !classes.contains(FileClass::Wal));
    }
}
