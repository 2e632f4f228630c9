//! Names of the files of a store, and back from a name to what it is.

use std::path::{Path, PathBuf};

/// What a name in a store's directory stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// `NNNNNN.wal`: a write-ahead log.
    Wal(u64),
    /// `NNNNNN.sst`: a sorted table.
    Sst(u64),
    /// `NNNNNN.blob`: large values that tables refer to.
    Blob(u64),
    /// `MANIFEST-NNNNNN`: the list of live files, as a log of edits.
    Manifest(u64),
    /// `CURRENT`: which manifest counts.
    Current,
    /// `CURRENT.tmp`: a CURRENT being written.
    CurrentTemp,
    /// `IDENTITY`: what this directory is, and its format version.
    Identity,
    /// `IDENTITY.tmp`: an IDENTITY being written.
    IdentityTemp,
    /// `LOCK`: held by the one who has the store open.
    Lock,
    /// `RESERVE`: bytes that mean nothing, whose space is given up when there is no other.
    Reserve,
    /// `RESERVE.tmp`: a RESERVE being written.
    ReserveTemp,
}

impl FileKind {
    /// The name.
    pub fn name(self) -> String {
        match self {
            FileKind::Wal(number) => format!("{number:06}.wal"),
            FileKind::Sst(number) => format!("{number:06}.sst"),
            FileKind::Blob(number) => format!("{number:06}.blob"),
            FileKind::Manifest(number) => format!("MANIFEST-{number:06}"),
            FileKind::Current => "CURRENT".into(),
            FileKind::CurrentTemp => "CURRENT.tmp".into(),
            FileKind::Identity => "IDENTITY".into(),
            FileKind::IdentityTemp => "IDENTITY.tmp".into(),
            FileKind::Lock => "LOCK".into(),
            FileKind::Reserve => "RESERVE".into(),
            FileKind::ReserveTemp => "RESERVE.tmp".into(),
        }
    }

    /// The name inside `dir`.
    pub fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.name())
    }

    /// What a name stands for; `None` for a name that is not ours. Only the exact spelling counts: a number has at least
    /// six digits and no needless zero, so that two names never stand for one file.
    pub fn parse(name: &str) -> Option<FileKind> {
        let kind = match name {
            "CURRENT" => FileKind::Current,
            "CURRENT.tmp" => FileKind::CurrentTemp,
            "IDENTITY" => FileKind::Identity,
            "IDENTITY.tmp" => FileKind::IdentityTemp,
            "LOCK" => FileKind::Lock,
            "RESERVE" => FileKind::Reserve,
            "RESERVE.tmp" => FileKind::ReserveTemp,
            _ => {
                if let Some(number) = name.strip_prefix("MANIFEST-") {
                    FileKind::Manifest(parse_number(number)?)
                } else if let Some(number) = name.strip_suffix(".wal") {
                    FileKind::Wal(parse_number(number)?)
                } else if let Some(number) = name.strip_suffix(".blob") {
                    FileKind::Blob(parse_number(number)?)
                } else {
                    FileKind::Sst(parse_number(name.strip_suffix(".sst")?)?)
                }
            }
        };
        Some(kind)
    }

    /// The number in the name, if it has one. All numbers of a store are drawn from one counter.
    pub fn number(self) -> Option<u64> {
        match self {
            FileKind::Wal(number) | FileKind::Sst(number) | FileKind::Blob(number) | FileKind::Manifest(number) => {
                Some(number)
            }
            _ => None,
        }
    }
}

fn parse_number(digits: &str) -> Option<u64> {
    let shape = digits.len() == 6 || (digits.len() > 6 && !digits.starts_with('0'));
    if !shape || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_back_and_foreign_names_are_left_alone() {
        let kinds = [
            FileKind::Wal(0),
            FileKind::Sst(999_999),
            FileKind::Sst(1_000_000),
            FileKind::Blob(12),
            FileKind::Manifest(u64::MAX),
            FileKind::Current,
            FileKind::CurrentTemp,
            FileKind::Identity,
            FileKind::IdentityTemp,
            FileKind::Lock,
            FileKind::Reserve,
            FileKind::ReserveTemp,
        ];
        for kind in kinds {
            assert_eq!(FileKind::parse(&kind.name()), Some(kind));
        }
        for foreign in [
            "",
            "1.wal",
            "0000001.wal",
            "+00001.sst",
            "00001a.sst",
            "00001.blob",
            "MANIFEST-",
            "notes.txt",
            "lost+found",
        ] {
            assert_eq!(FileKind::parse(foreign), None, "{foreign}");
        }
    }
}
