//! Which crash images are legal: the rules of a file system, as data.
//!
//! A profile is a row of [`Rules`]; a new file system is a new row. The rules speak of four things: what a sync makes
//! durable, which names may be kept and lost at a power cut, which data, and what fills a hole.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// File systems under which an engine can be shaken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A journalling file system that keeps what was synced and nothing else.
    StrictMin,
    /// Power cuts lose nothing: only the process dies.
    ProcessCrash,
    /// ext4 with ordered data: names are kept in the order in which they were changed, a file does not grow before its
    /// data is there, and the sync of one file commits all names so far.
    Ext4Ordered,
    /// What POSIX promises and no more: each name, each sector and each length on its own. An engine must be right here.
    #[default]
    PosixWeak,
    /// A disk that says `Ok` to every sync and may lose anything. Durability is waived; wrong answers are not.
    LyingFsync,
}

/// Which pending changes of names a power cut may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaRule {
    /// All of them.
    All,
    /// None of them.
    None,
    /// A prefix in program order.
    Prefix,
    /// Any subset, where a change is only kept with the earlier changes of the same name.
    Any,
}

/// Which pending data and lengths a power cut may keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DataRule {
    /// All of them.
    All,
    /// None of them.
    None,
    /// Overwritten sectors in any combination; a file never grows over data that is not there.
    Ordered,
    /// Any combination of sectors and lengths.
    Any,
}

/// What the sync of a file makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSync {
    /// Nothing.
    Nothing,
    /// Its data and length.
    Data,
    /// Its data and length; and all names changed so far, where it has changed its length or name since the last commit.
    Journal,
}

/// What the sync of a directory makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirSync {
    /// Nothing.
    Nothing,
    /// The names in this directory.
    Dir,
    /// All names changed so far.
    Journal,
}

/// What is read where a file grew and its data was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hole {
    /// Zeros.
    Zero,
    /// Zeros, a pattern, or what a deleted file had there, as the crash decides.
    Stale,
}

/// The rules of one profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Names at a power cut.
    pub meta: MetaRule,
    /// Data and lengths at a power cut.
    pub data: DataRule,
    /// The sync of a file.
    pub file_sync: FileSync,
    /// The sync of a directory.
    pub dir_sync: DirSync,
    /// The filling of holes.
    pub hole: Hole,
    /// Whether a rename over an existing file brings the pending data of the new one with it (`auto_da_alloc` of ext4).
    pub rename_over_flushes: bool,
    /// Whether a power cut may keep one half of a rename: both names, or neither.
    pub nonatomic_rename: bool,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 5] =
        [Profile::StrictMin, Profile::ProcessCrash, Profile::Ext4Ordered, Profile::PosixWeak, Profile::LyingFsync];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Profile::StrictMin => "strict-min",
            Profile::ProcessCrash => "process-crash",
            Profile::Ext4Ordered => "ext4-ordered",
            Profile::PosixWeak => "posix-weak",
            Profile::LyingFsync => "lying-fsync",
        }
    }

    /// Its rules.
    pub fn rules(self) -> Rules {
        let ext4 = Rules {
            meta: MetaRule::Prefix,
            data: DataRule::Ordered,
            file_sync: FileSync::Journal,
            dir_sync: DirSync::Journal,
            hole: Hole::Zero,
            rename_over_flushes: true,
            nonatomic_rename: false,
        };
        let weak = Rules {
            meta: MetaRule::Any,
            data: DataRule::Any,
            file_sync: FileSync::Data,
            dir_sync: DirSync::Dir,
            hole: Hole::Stale,
            rename_over_flushes: false,
            nonatomic_rename: false,
        };
        match self {
            Profile::StrictMin => Rules { meta: MetaRule::None, data: DataRule::None, ..ext4 },
            Profile::ProcessCrash => Rules { meta: MetaRule::All, data: DataRule::All, ..ext4 },
            Profile::Ext4Ordered => ext4,
            Profile::PosixWeak => weak,
            Profile::LyingFsync => Rules { file_sync: FileSync::Nothing, dir_sync: DirSync::Nothing, ..weak },
        }
    }

    /// Whether a successful sync promises that the data survives a power cut.
    pub fn syncs_are_honest(self) -> bool {
        self != Profile::LyingFsync
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Profile {
    type Err = String;

    fn from_str(name: &str) -> Result<Profile, String> {
        let known = || Profile::ALL.map(Profile::name).join(", ");
        let found = Profile::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| format!("no profile is called `{name}`; there are {}", known()))
    }
}
