//! A rule of a scenario: what happens, to which calls and how often; read, checked and spelled again.
//!
//! It says nothing about when a rule strikes, which is [`super::injector`].

use super::target::{FileClass, FsOp};
use crate::disk::SyncFailure;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;

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
    /// The wall clock stands still for a while.
    ClockFreeze,
    /// A write takes nothing and gives no error.
    ZeroWrite,
    /// A sector of what was synced cannot be read, until it is written as a whole or the faults end.
    BadSector,
    /// A read gets one of its sectors as it was at an earlier time.
    StaleRead,
    /// A read gets one of its sectors from another place of the file, or from the same place of another one.
    MisdirectedRead,
    /// The first sector of a write lands elsewhere, on what was synced.
    MisdirectedWrite,
    /// Some of what is pending is written back, and some of what is clean leaves the cache.
    Writeback,
    /// Only so many files can be open at once.
    FdLimit,
    /// Other programs leave files in the directory of the store.
    JunkFiles,
}

impl FaultKind {
    /// Every kind.
    pub const ALL: [FaultKind; 21] = [
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
        FaultKind::ClockFreeze,
        FaultKind::ZeroWrite,
        FaultKind::BadSector,
        FaultKind::StaleRead,
        FaultKind::MisdirectedRead,
        FaultKind::MisdirectedWrite,
        FaultKind::Writeback,
        FaultKind::FdLimit,
        FaultKind::JunkFiles,
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
            FaultKind::ClockFreeze => "clock-freeze",
            FaultKind::ZeroWrite => "zero-write",
            FaultKind::BadSector => "bad-sector",
            FaultKind::StaleRead => "stale-read",
            FaultKind::MisdirectedRead => "misdirected-read",
            FaultKind::MisdirectedWrite => "misdirected-write",
            FaultKind::Writeback => "writeback",
            FaultKind::FdLimit => "fd-limit",
            FaultKind::JunkFiles => "junk-files",
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
            FaultKind::ZeroWrite => &["chance", "every_ops", "nth", "budget", "classes", "sticky"],
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
            FaultKind::ShortRead
            | FaultKind::ShortWrite
            | FaultKind::BitFlip
            | FaultKind::BadSector
            | FaultKind::StaleRead
            | FaultKind::MisdirectedRead
            | FaultKind::MisdirectedWrite => &["chance", "every_ops", "nth", "budget", "classes"],
            FaultKind::Writeback | FaultKind::JunkFiles => &["chance", "every_ops", "nth", "budget"],
            FaultKind::FdLimit => &["limit"],
            FaultKind::ClockFreeze => &["chance", "every_ops", "nth", "budget", "max_ms"],
            FaultKind::SlowIo => &["chance", "every_ops", "nth", "budget", "on", "classes", "max_ms"],
            FaultKind::ClockJump => &["chance", "every_ops", "nth", "budget", "ms"],
        }
    }
}

/// One thing or a list of things.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T: Clone> OneOrMany<T> {
    pub(super) fn list(&self) -> Vec<T> {
        match self {
            OneOrMany::One(one) => vec![one.clone()],
            OneOrMany::Many(many) => many.clone(),
        }
    }
}

/// A number, or a range from which one is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum OneOrRange<T> {
    One(T),
    Range([T; 2]),
}

impl<T: Copy + PartialOrd + fmt::Display> OneOrRange<T> {
    pub(super) fn ends(self) -> (T, T) {
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
pub(super) enum ErrorWord {
    Io,
    Interrupted,
    NoSpace,
    ReadOnly,
    PermissionDenied,
}

impl ErrorWord {
    pub(super) fn kind(self) -> ErrorKind {
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
pub(super) struct Spelling {
    pub(super) kind: FaultKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) on: Option<OneOrMany<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<OneOrMany<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) classes: Option<OneOrMany<FileClass>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) chance: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) every_ops: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) nth: Option<OneOrMany<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) budget: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sticky: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<OneOrMany<SyncFailure>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<OneOrMany<ErrorWord>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) capacity: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) returns_after_ops: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) returns_after_ms: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) limit: Option<OneOrRange<u64>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) max_ms: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ms: Option<OneOrRange<i64>>,
}

/// One rule of a scenario: checked, and spelled again as it was read. See [`FaultRule::from_str`] for examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Spelling", into = "Spelling")]
pub struct FaultRule {
    pub(super) spelling: Spelling,
}

impl FaultRule {
    /// What happens.
    pub fn kind(&self) -> FaultKind {
        self.spelling.kind
    }

    /// Whether it can strike a store that has files of these classes only.
    pub fn can_strike(&self, classes: &[FileClass]) -> bool {
        self.spelling.classes.as_ref().is_none_or(|own| own.list().iter().any(|class| classes.contains(class)))
    }

    /// Whether it makes a sync say `Ok` that was none.
    pub fn may_lie(&self) -> bool {
        let late = |modes: &OneOrMany<SyncFailure>| modes.list().contains(&SyncFailure::LateReport);
        self.spelling.kind == FaultKind::FsyncLoss || self.spelling.mode.as_ref().is_some_and(late)
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
        let may_do_without = matches!(kind, FaultKind::TornWrite | FaultKind::FdLimit) || spelling.capacity.is_some();
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
            ("limit", spelling.limit),
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
            FaultKind::SlowIo | FaultKind::ClockFreeze if spelling.max_ms.is_none_or(|max| max == 0) => {
                return Err(format!("a `{name}` fault needs `max_ms`, at least 1"));
            }
            FaultKind::FdLimit if spelling.limit.is_none() => {
                return Err("an `fd-limit` fault needs `limit`: how many files can be open".into());
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
    fn set_fields(&self) -> [(&'static str, bool); 16] {
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
            ("limit", self.limit.is_some()),
            ("max_ms", self.max_ms.is_some()),
            ("ms", self.ms.is_some()),
        ]
    }

    /// The calls that the rule can strike.
    pub(super) fn ops(&self) -> Result<Vec<FsOp>, String> {
        let syncs = [FsOp::SyncData, FsOp::SyncAll];
        let words = match self.kind {
            FaultKind::DiskFull => &self.at,
            _ => &self.on,
        };
        let Some(words) = words else {
            return Ok(match self.kind {
                FaultKind::FsyncError | FaultKind::FsyncLoss => syncs.to_vec(),
                FaultKind::DiskFull => vec![FsOp::Write, FsOp::SetLen, FsOp::Create, FsOp::Mkdir, FsOp::Link],
                FaultKind::ShortRead | FaultKind::StaleRead | FaultKind::MisdirectedRead => vec![FsOp::Read],
                FaultKind::ShortWrite | FaultKind::ZeroWrite | FaultKind::MisdirectedWrite => vec![FsOp::Write],
                FaultKind::JunkFiles => vec![FsOp::ReadDir],
                FaultKind::TornWrite | FaultKind::FdLimit => Vec::new(),
                _ => FsOp::ALL.to_vec(),
            });
        };
        let mut ops = Vec::new();
        for word in words.list() {
            match (self.kind, word.as_str()) {
                (FaultKind::DiskFull, "write") => ops.extend([FsOp::Write, FsOp::SetLen]),
                (FaultKind::DiskFull, "create") => ops.extend([FsOp::Create, FsOp::Mkdir, FsOp::Link]),
                (FaultKind::DiskFull, "rename") => ops.push(FsOp::Rename),
                (FaultKind::DiskFull, "sync") => ops.extend(syncs),
                (FaultKind::DiskFull, _) => {
                    return Err(format!("`at` is `write`, `create`, `rename` or `sync`, and not `{word}`"));
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
