//! Which crash images are legal: the rules of a file system, as data.
//!
//! A profile is a row of [`Rules`]; a new file system is a new row. The rules speak of four things: what a sync makes
//! durable, which names may be kept and lost at a power cut, which data, and what fills a hole.
//!
//! ```text
//!                            names    data     file sync      directory sync  hole   rename over a file
//! strict-min                 none     none     journal        journal         zero   flushes it
//! process-crash              all      all      journal        journal         zero   flushes it
//! ext4-ordered               prefix   ordered  journal        journal         zero   flushes it
//! ext4-fastcommit            per dir  ordered  data, names    directory       zero   flushes it
//! xfs                        prefix   ordered  log up to it   journal         zero
//! btrfs                      per dir  ordered  data, names    directory       zero   flushes it
//! apfs-fullfsync             per dir  any      data, names    directory       zero
//! apfs-fsync                 prefix   any      nothing        nothing         zero
//! windows-ntfs               prefix   any      journal        is no call      zero   is durable itself
//! writeback-garbage          prefix   any      journal        journal         stale
//! posix-weak                 any      any      data           directory       stale
//! posix-weak-nonatomic-rename                  the same, and a rename may be kept by half
//! lying-fsync                any      any      nothing        nothing         stale
//! ```
//!
//! The images of each profile that syncs honestly are images of `posix-weak`, so that an engine which is right there is
//! right everywhere; the others are there to say which file system an engine that is not right may still be used on. The one
//! exception is `windows-ntfs`, where the sync of a directory means nothing, so that names are durable by other calls, and
//! where a file that is open keeps its name.
//!
//! Mixtures of faults on a file system are scenarios and no profiles. What no profile knows is a crash of the operating
//! system alone: what a plain sync on `apfs-fsync` has handed to the drive would survive that.

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
    /// ext4 with fast commits: the sync of a file commits its own names, so that the names of one directory do not wait for
    /// those of another.
    Ext4Fastcommit,
    /// XFS: like ext4, but the sync of a file commits only what was logged up to its own last change, and a rename over a
    /// file does not bring the data of the new one along.
    Xfs,
    /// btrfs: a tree log for each directory.
    Btrfs,
    /// APFS where a sync is only handed to the drive, which may lose or reorder it. Durability is waived.
    ApfsFsync,
    /// APFS with `F_FULLFSYNC`.
    ApfsFullfsync,
    /// NTFS: there is no sync of a directory, a rename is written through, and a file that is open can be neither removed
    /// nor renamed nor replaced.
    WindowsNtfs,
    /// A journal of names over data in any order: a file that grew may show what a deleted one had there.
    WritebackGarbage,
    /// What POSIX promises and no more: each name, each sector and each length on its own. An engine must be right here.
    #[default]
    PosixWeak,
    /// Even a rename may be kept by half: with both names, or with neither but what was there before.
    PosixWeakNonatomicRename,
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
    /// For each directory a prefix of the changes in it.
    PerDir,
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
    /// Its data and length, its own names, and the directories above it.
    Names,
    /// Its data and length, and all names changed up to its own last change.
    JournalToFile,
    /// Its data and length; and all names changed so far, where it has changed its length or name since the last commit.
    Journal,
}

/// What the sync of a directory makes durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DirSync {
    /// Nothing, though it says so.
    Nothing,
    /// Nothing, for there is no such call: names go with renames and with the syncs of files.
    NoCall,
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
    /// Whether a rename is durable when it returns, with all names changed before.
    pub rename_is_durable: bool,
    /// Whether a file that is open can be neither removed nor renamed nor replaced.
    pub open_files_keep_names: bool,
    /// Whether a power cut may keep one half of a rename: both names, or neither.
    pub nonatomic_rename: bool,
}

impl Rules {
    /// Whether the journal has the cuts of files among the names, in their order.
    pub(super) fn orders_cuts(&self) -> bool {
        matches!(self.meta, MetaRule::Prefix | MetaRule::None | MetaRule::All)
    }
}

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 13] = [
        Profile::StrictMin,
        Profile::ProcessCrash,
        Profile::Ext4Ordered,
        Profile::Ext4Fastcommit,
        Profile::Xfs,
        Profile::Btrfs,
        Profile::ApfsFsync,
        Profile::ApfsFullfsync,
        Profile::WindowsNtfs,
        Profile::WritebackGarbage,
        Profile::PosixWeak,
        Profile::PosixWeakNonatomicRename,
        Profile::LyingFsync,
    ];

    /// Its name in a scenario.
    pub fn name(self) -> &'static str {
        match self {
            Profile::StrictMin => "strict-min",
            Profile::ProcessCrash => "process-crash",
            Profile::Ext4Ordered => "ext4-ordered",
            Profile::Ext4Fastcommit => "ext4-fastcommit",
            Profile::Xfs => "xfs",
            Profile::Btrfs => "btrfs",
            Profile::ApfsFsync => "apfs-fsync",
            Profile::ApfsFullfsync => "apfs-fullfsync",
            Profile::WindowsNtfs => "windows-ntfs",
            Profile::WritebackGarbage => "writeback-garbage",
            Profile::PosixWeak => "posix-weak",
            Profile::PosixWeakNonatomicRename => "posix-weak-nonatomic-rename",
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
            rename_is_durable: false,
            open_files_keep_names: false,
            nonatomic_rename: false,
        };
        let tree_log = Rules { meta: MetaRule::PerDir, file_sync: FileSync::Names, dir_sync: DirSync::Dir, ..ext4 };
        let journal = Rules { data: DataRule::Any, rename_over_flushes: false, ..ext4 };
        let weak = Rules {
            meta: MetaRule::Any,
            data: DataRule::Any,
            file_sync: FileSync::Data,
            dir_sync: DirSync::Dir,
            hole: Hole::Stale,
            rename_over_flushes: false,
            ..ext4
        };
        match self {
            Profile::StrictMin => Rules { meta: MetaRule::None, data: DataRule::None, ..ext4 },
            Profile::ProcessCrash => Rules { meta: MetaRule::All, data: DataRule::All, ..ext4 },
            Profile::Ext4Ordered => ext4,
            Profile::Ext4Fastcommit | Profile::Btrfs => tree_log,
            Profile::Xfs => Rules { file_sync: FileSync::JournalToFile, rename_over_flushes: false, ..ext4 },
            Profile::ApfsFsync => Rules { file_sync: FileSync::Nothing, dir_sync: DirSync::Nothing, ..journal },
            Profile::ApfsFullfsync => Rules { data: DataRule::Any, rename_over_flushes: false, ..tree_log },
            Profile::WindowsNtfs => {
                Rules { dir_sync: DirSync::NoCall, rename_is_durable: true, open_files_keep_names: true, ..journal }
            }
            Profile::WritebackGarbage => Rules { hole: Hole::Stale, ..journal },
            Profile::PosixWeak => weak,
            Profile::PosixWeakNonatomicRename => Rules { nonatomic_rename: true, ..weak },
            Profile::LyingFsync => Rules { file_sync: FileSync::Nothing, dir_sync: DirSync::Nothing, ..weak },
        }
    }

    /// What an engine owes on it, when no fault strikes: no wrong answer anywhere, and where this says yes, everything that
    /// was acknowledged as durable and no error. Where syncs do nothing, what they promised may be gone, or be reported as
    /// damage.
    pub fn syncs_are_honest(self) -> bool {
        self.rules().file_sync != FileSync::Nothing
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
