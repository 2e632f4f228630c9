//! Changes that are not durable yet, each with what it takes to take it back.

use super::pages::{PAGE_BYTES, Pages, SECTOR_BYTES};
use super::volume::Ino;
use std::fmt;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;

/// Who asked for a change: the number of the file system call and the line of the engine that made it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Number of the call, as the world counts.
    pub op: u64,
    /// The line of the engine, where it is known.
    pub at: Option<&'static Location<'static>>,
}

impl Origin {
    /// A call of this number from this line.
    pub fn new(op: u64, at: Option<&'static Location<'static>>) -> Origin {
        Origin { op, at }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "op {}", self.op)?;
        match self.at {
            Some(at) => write!(f, ", {}:{}", at.file(), at.line()),
            None => Ok(()),
        }
    }
}

/// A pending change of the bytes or the length of one file.
#[derive(Clone)]
pub(super) struct Record {
    /// Grows over all changes of the disk, so that the newest one can be found.
    pub(super) id: u64,
    pub(super) origin: Origin,
    /// Length of the file before.
    pub(super) len_before: u64,
    pub(super) change: Change,
}

/// What a [`Record`] did.
#[derive(Clone)]
pub(super) enum Change {
    /// `len` bytes at `offset`; `before` is what of them lay before the old end of the file.
    Write { offset: u64, len: u64, before: Box<[u8]> },
    /// The file was cut to `to`; `tail` is what its pages held from the page of `to` on. Once `committed`, a crash cannot
    /// take it back.
    Cut { to: u64, tail: Pages, committed: bool },
    /// The file was extended to `to` with zeros.
    Extend { to: u64 },
}

impl Record {
    /// The bytes that it changed.
    pub(super) fn range(&self) -> Range<u64> {
        match &self.change {
            Change::Write { offset, len, .. } => *offset..*offset + *len,
            Change::Cut { to, .. } => *to..self.len_before,
            Change::Extend { to } => *to..*to,
        }
    }

    /// The sectors that it changed.
    pub(super) fn sectors(&self) -> Range<u64> {
        let range = self.range();
        if range.is_empty() {
            return 0..0;
        }
        range.start / SECTOR_BYTES as u64..range.end.div_ceil(SECTOR_BYTES as u64)
    }

    /// Whether it took bytes away.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.change, Change::Cut { .. })
    }

    /// Takes back the part of it that lies in `range` (in bytes).
    pub(super) fn undo(&self, pages: &mut Pages, range: Range<u64>) {
        let own = self.range();
        let start = own.start.max(range.start);
        let end = own.end.min(range.end);
        if start >= end {
            return;
        }
        match &self.change {
            Change::Write { offset, before, .. } => {
                let held = (*offset + before.len() as u64).clamp(start, end);
                if start < held {
                    pages.write(start, &before[(start - offset) as usize..(held - offset) as usize]);
                }
                pages.zero(held, end - held);
            }
            Change::Cut { to, tail, .. } => {
                let base = to / PAGE_BYTES as u64 * PAGE_BYTES as u64;
                let mut bytes = vec![0; (end - start) as usize];
                tail.read(start - base, &mut bytes);
                pages.write(start, &bytes);
            }
            Change::Extend { .. } => {}
        }
    }
}

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) dir: Ino,
    pub(super) name: Arc<str>,
}

/// A pending change of names.
#[derive(Clone)]
pub(super) struct MetaOp {
    /// Grows over all changes of the disk, those of bytes too.
    pub(super) id: u64,
    pub(super) origin: Origin,
    pub(super) kind: MetaKind,
    pub(super) ino: Ino,
}

/// What a [`MetaOp`] did.
#[derive(Clone)]
pub(super) enum MetaKind {
    /// A name for a new file.
    Create(Entry),
    /// A further name for a file.
    Link(Entry),
    /// A name less.
    Unlink(Entry),
    /// A name for a new directory.
    Mkdir(Entry),
    /// The name of an empty directory taken away.
    Rmdir(Entry),
    /// Another name; what the new one named before; and how far the data of the file is flushed along with it.
    Rename { from: Entry, to: Entry, replaced: Option<Ino>, flush_below: u64 },
    /// A file was cut: record `id` of its content. Only where the journal orders it among the names.
    Cut { id: u64 },
}

impl MetaOp {
    /// The names that it touches.
    pub(super) fn entries(&self) -> [Option<&Entry>; 2] {
        match &self.kind {
            MetaKind::Create(entry)
            | MetaKind::Link(entry)
            | MetaKind::Unlink(entry)
            | MetaKind::Mkdir(entry)
            | MetaKind::Rmdir(entry) => [Some(entry), None],
            MetaKind::Rename { from, to, .. } => [Some(from), Some(to)],
            MetaKind::Cut { .. } => [None, None],
        }
    }

    /// Whether one of its names lies in this directory.
    pub(super) fn touches(&self, dir: Ino) -> bool {
        self.entries().iter().flatten().any(|entry| entry.dir == dir)
    }

    /// Whether all of its names lie in this directory.
    pub(super) fn lies_in(&self, dir: Ino) -> bool {
        let mut entries = self.entries().into_iter().flatten().peekable();
        entries.peek().is_some() && entries.all(|entry| entry.dir == dir)
    }

    /// What it gave or took a name, and what lost its name to that.
    pub(super) fn inodes(&self) -> impl Iterator<Item = Ino> + use<> {
        let replaced = match self.kind {
            MetaKind::Rename { replaced, .. } => replaced,
            _ => None,
        };
        [Some(self.ino), replaced].into_iter().flatten()
    }

    /// Whether taking it back or doing it again needs this file.
    pub(super) fn needs(&self, ino: Ino) -> bool {
        self.inodes().any(|own| own == ino)
    }
}
