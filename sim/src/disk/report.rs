//! What a power cut kept and what it lost, for those who must find out why.

use super::image::CrashKind;
use super::listing::Listed;
use super::pending::Origin;
use std::fmt;

/// What became of one pending thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Thing {
    /// A file was created.
    Create {
        /// Its path.
        path: String,
    },
    /// A file got a further name.
    Link {
        /// The new path.
        path: String,
    },
    /// A name was removed.
    Unlink {
        /// The path.
        path: String,
    },
    /// A directory was made.
    Mkdir {
        /// Its path.
        path: String,
    },
    /// A directory was removed.
    Rmdir {
        /// Its path.
        path: String,
    },
    /// A file was renamed.
    Rename {
        /// Old path.
        from: String,
        /// New path.
        to: String,
    },
    /// Only one half of a rename was kept.
    HalfRename {
        /// Old path.
        from: String,
        /// New path.
        to: String,
        /// Whether both names are there, and not neither.
        both: bool,
    },
    /// Bytes were written.
    Write {
        /// Path of the file.
        path: String,
        /// Where.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// How many sectors of it are in the image.
        sectors_kept: u64,
        /// How many sectors it touches.
        sectors: u64,
        /// Where the write was cut within a sector.
        torn_at: Option<u64>,
    },
    /// The length of a file was set, or a write changed it.
    Length {
        /// Path of the file.
        path: String,
        /// Length as it was read before the crash.
        from: u64,
        /// Length in the image.
        to: u64,
    },
    /// A file was cut or extended.
    SetLen {
        /// Path of the file.
        path: String,
        /// To this length.
        to: u64,
    },
    /// A file has no name in the image, whatever of its data was durable.
    Vanished {
        /// Path before the crash.
        path: String,
        /// How many bytes of it had been synced.
        synced_bytes: u64,
    },
    /// Sectors that a failed sync had marked clean without writing them.
    Dropped {
        /// Path of the file.
        path: String,
        /// How many sectors.
        sectors: u64,
    },
    /// A hole was filled with what lay on the disk before.
    Stale {
        /// Path of the file.
        path: String,
        /// How many sectors.
        sectors: u64,
    },
    /// A sync that said `Ok` and did nothing, or failed.
    BrokenSync {
        /// Path of the file.
        path: String,
        /// What the sync did.
        how: &'static str,
    },
}

/// One line of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fate {
    /// What it is about.
    pub thing: Thing,
    /// Who had asked for it, where that is known.
    pub origin: Option<Origin>,
}

/// What a crash did to the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CrashReport {
    /// Kind of crash.
    pub kind: CrashKind,
    /// Pending things that are in the image, in program order: names first, then data by file.
    pub kept: Vec<Fate>,
    /// Pending things that are not, or not wholly, in the image.
    pub lost: Vec<Fate>,
    /// Syncs that were made to fail or to lie before the crash.
    pub broken_syncs: Vec<Fate>,
    /// The answers that list this very image; only where decisions are recorded, and never of a process crash.
    pub listed: Vec<Listed>,
}

impl CrashReport {
    pub(super) fn new(kind: CrashKind) -> CrashReport {
        CrashReport { kind, kept: Vec::new(), lost: Vec::new(), broken_syncs: Vec::new(), listed: Vec::new() }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Thing::Create { path } => write!(f, "create {path}"),
            Thing::Link { path } => write!(f, "link {path}"),
            Thing::Unlink { path } => write!(f, "unlink {path}"),
            Thing::Mkdir { path } => write!(f, "mkdir {path}"),
            Thing::Rmdir { path } => write!(f, "rmdir {path}"),
            Thing::Rename { from, to } => write!(f, "rename {from} to {to}"),
            Thing::HalfRename { from, to, both: true } => write!(f, "rename {from} to {to}: both names are there"),
            Thing::HalfRename { from, to, both: false } => write!(f, "rename {from} to {to}: neither name is there"),
            Thing::Write { path, offset, len, sectors_kept, sectors, torn_at } => {
                write!(f, "write {path} @{offset}+{len}")?;
                if *sectors_kept > 0 && sectors_kept < sectors {
                    write!(f, ", {sectors_kept} of {sectors} sectors kept")?;
                }
                match torn_at {
                    Some(at) => write!(f, ", torn at {at}"),
                    None => Ok(()),
                }
            }
            Thing::Length { path, from, to } => write!(f, "length of {path}: {from} became {to}"),
            Thing::SetLen { path, to } => write!(f, "set the length of {path} to {to}"),
            Thing::Vanished { path, synced_bytes } => {
                write!(f, "{path} is gone: no durable name ({synced_bytes} bytes of it were synced)")
            }
            Thing::Dropped { path, sectors } => {
                write!(f, "{sectors} sectors of {path}, which a failed sync had marked clean")
            }
            Thing::Stale { path, sectors } => write!(f, "{sectors} sectors of {path} hold what lay on the disk before"),
            Thing::BrokenSync { path, how } => write!(f, "sync {path}: {how}"),
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.origin {
            Some(origin) => write!(f, "{} ({origin})", self.thing),
            None => write!(f, "{}", self.thing),
        }
    }
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.kind)?;
        for (word, fates) in [("kept", &self.kept), ("lost", &self.lost), ("before", &self.broken_syncs)] {
            for fate in fates {
                writeln!(f, "  {word}: {fate}")?;
            }
        }
        Ok(())
    }
}
