//! What a salvage has found and what it has not.

use crate::error::Error;
use crate::filename::FileKind;
use crate::key::{KeyspaceId, SeqNo};
use std::fmt;

/// A part of a file that could not be read.
#[derive(Clone, Debug)]
pub struct LostBytes {
    /// The byte at which it starts.
    pub offset: u64,
    /// Its length. 0 where it is not known what was there, as with the range deletes of a table whose ends are damaged.
    pub bytes: u64,
    /// The keyspace that its keys were of, where it is a part of a table or of a blob file.
    pub keyspace: Option<KeyspaceId>,
    /// No key of it is below this one; `None` where it may hold the first.
    pub from: Option<Vec<u8>>,
    /// No key of it is above this one; `None` where it may hold the last.
    pub to: Option<Vec<u8>>,
    /// The numbers of the writes that may have lain there, where it is a part of a log: the first, and the last where that is known.
    /// There need not have been any: a write that failed has used up its number.
    pub seqnos: Option<(SeqNo, Option<SeqNo>)>,
    /// Whether it is known to have been durable once. The end of a log that was being written may never have been.
    pub was_durable: bool,
    /// What was found there.
    pub cause: Error,
}

/// A file that a salvage has read.
#[derive(Clone, Debug)]
pub struct SalvagedFile {
    /// Which.
    pub kind: FileKind,
    /// Its length.
    pub bytes: u64,
    /// Entries in it that are whole, old versions, deletes and range deletes among them.
    pub entries: u64,
    /// What is not whole.
    pub lost: Vec<LostBytes>,
}

/// A keyspace of the new store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedKeyspace {
    /// Its name: the one that it had, or one made of its number where that was lost.
    pub name: String,
    /// Its number in the damaged store.
    pub id: KeyspaceId,
    /// Keys that have a value.
    pub keys: u64,
    /// Of these, keys that lie where a table or a blob file has lost something: a newer value, or a delete, may have been there.
    pub in_doubt: u64,
    /// Keys with operands that were left out, because it is not known what merges them.
    pub unmerged: u64,
}

/// What came of a salvage.
#[derive(Clone, Debug)]
pub struct SalvageReport {
    /// Why the list of files could not be used. Then every table and log was read that was there; such that compactions had
    /// replaced may have brought back what was deleted.
    pub list_lost: Option<Error>,
    /// Every table and log that counts, by name, and every blob file that an entry which counts leads to.
    pub files: Vec<SalvagedFile>,
    /// What is in the new store.
    pub keyspaces: Vec<SalvagedKeyspace>,
}

impl SalvageReport {
    /// Whether everything was whole, but for the end of a log that may never have been durable.
    pub fn is_whole(&self) -> bool {
        let is_merged = self.keyspaces.iter().all(|keyspace| keyspace.unmerged == 0);
        is_merged
            && self.list_lost.is_none()
            && self.files.iter().all(|file| file.lost.iter().all(|lost| !lost.was_durable))
    }

    /// Whether a log has lost something that was durable: any key may have had a newer value.
    pub fn logs_have_holes(&self) -> bool {
        let mut logs = self.files.iter().filter(|file| matches!(file.kind, FileKind::Wal(_)));
        logs.any(|log| log.lost.iter().any(|lost| lost.was_durable))
    }
}

impl fmt::Display for SalvageReport {
    /// A line for each keyspace and for each part that is lost.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whole = if self.is_whole() { "nothing that was durable is lost" } else { "a part is lost" };
        write!(f, "{whole}: {} files were read", self.files.len())?;
        for SalvagedKeyspace { name, keys, in_doubt, unmerged, .. } in &self.keyspaces {
            write!(f, "\nkeyspace {}: {keys} keys", name.escape_debug())?;
            if *in_doubt > 0 {
                write!(f, ", of which {in_doubt} may have had a newer value, or have been deleted")?;
            }
            if *unmerged > 0 {
                write!(f, "; of {unmerged} keys operands were left out, since their merge operator is not known")?;
            }
        }
        if let Some(error) = &self.list_lost {
            write!(
                f,
                "\nthe list of files is lost, so all were read; what was deleted may be there again where compactions had \
                 replaced files: {error}"
            )?;
        }
        if self.logs_have_holes() {
            write!(f, "\nlogs have holes: any key may have had a newer value, or have been deleted")?;
        }
        for file in &self.files {
            for lost in &file.lost {
                write!(f, "\n{}: {lost}", file.kind.name())?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for LostBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes {
            0 => write!(f, "lost, it is not known how much")?,
            bytes => write!(f, "lost {bytes} bytes at {}", self.offset)?,
        }
        match self.seqnos {
            Some((first, Some(last))) => write!(f, ", writes {first} to {last}")?,
            Some((first, None)) => write!(f, ", writes from {first} on")?,
            None => {}
        }
        let bound = |key: &Option<Vec<u8>>, open: &str| {
            key.as_ref().map_or_else(|| open.to_string(), |key| format!("\"{}\"", key.escape_ascii()))
        };
        if self.keyspace.is_some() {
            write!(f, ", keys from {} to {}", bound(&self.from, "the first"), bound(&self.to, "the last"))?;
        }
        if !self.was_durable {
            write!(f, ", which may never have been durable")?;
        }
        write!(f, ": {}", self.cause)
    }
}
