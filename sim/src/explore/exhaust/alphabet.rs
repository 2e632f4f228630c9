//! The alphabet of [`super`], and its sequences as numbers: which operation stands where, and which sequences are the same.

use crate::op::{Bounds, Entry, Op, OpKind, Slot, Value};
use crate::store::{StoreKind, SyncMode};
use std::fmt;

/// Where the snapshot is kept.
pub(super) const SLOT: Slot = 0;

/// Lengths of values: one that shares its sector with others, and one that does not fit into a sector.
const SHORT_BYTES: u32 = 40;
const LONG_BYTES: u32 = 600;

/// An operation of the alphabet. Single writes are buffered and a batch is synced, so that what is durable and what is not
/// yet stand side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    PutA,
    PutB,
    DeleteA,
    Batch,
    Flush,
    Compact,
    Snapshot,
    Sync,
    Reopen,
    DeleteRange,
}

impl Letter {
    /// Those that not every store understands come last.
    const ALL: [Letter; 10] = [
        Letter::PutA,
        Letter::PutB,
        Letter::DeleteA,
        Letter::Batch,
        Letter::Flush,
        Letter::Compact,
        Letter::Snapshot,
        Letter::Sync,
        Letter::Reopen,
        Letter::DeleteRange,
    ];

    /// The letters for stores of this kind.
    pub(super) fn of(kind: &dyn StoreKind) -> &'static [Letter] {
        let foreign = usize::from(!kind.specialities().contains(&OpKind::DeleteRange));
        &Letter::ALL[..Letter::ALL.len() - foreign]
    }

    /// The operation, at this place of a sequence. Values differ from place to place, and do not depend on what stands at
    /// the others.
    pub(super) fn op(self, place: usize) -> Op {
        let stamp = crate::op::STAMP_FIRST + 2 * place as u32;
        let short = Value { stamp, bytes: SHORT_BYTES };
        let long = Value { stamp: stamp + 1, bytes: LONG_BYTES };
        let sync = SyncMode::Buffered;
        match self {
            Letter::PutA => Op::Put { key: 0, value: short, sync },
            Letter::PutB => Op::Put { key: 1, value: short, sync },
            Letter::DeleteA => Op::Delete { key: 0, sync },
            Letter::Batch => {
                let entries = vec![Entry::new(0, Some(long)), Entry::new(1, Some(short))];
                Op::Batch { entries, sync: SyncMode::Always }
            }
            Letter::Flush => Op::Flush,
            Letter::Compact => Op::Compact { bounds: Bounds::ALL },
            Letter::Snapshot => Op::Snapshot { slot: SLOT },
            Letter::Sync => Op::Sync,
            Letter::Reopen => Op::Reopen,
            // Up to the second key, which must stay.
            Letter::DeleteRange => Op::Batch { entries: vec![Entry::range(0, 1)], sync },
        }
    }
}

impl fmt::Display for Letter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Letter::PutA => "put a",
            Letter::PutB => "put b",
            Letter::DeleteA => "delete a",
            Letter::Batch => "batch",
            Letter::Flush => "flush",
            Letter::Compact => "compact",
            Letter::Snapshot => "snapshot",
            Letter::Sync => "sync",
            Letter::Reopen => "reopen",
            Letter::DeleteRange => "delete a..b",
        })
    }
}

/// One letter after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sequence(Vec<Letter>);

impl Sequence {
    /// How many there are of a length.
    pub(super) fn count(letters: &[Letter], length: usize) -> u64 {
        (letters.len() as u64).pow(length as u32)
    }

    /// The one of this number, below [`Sequence::count`], in the order of dictionaries.
    pub(super) fn new(letters: &[Letter], length: usize, number: u64) -> Sequence {
        let base = letters.len() as u64;
        let digit = |place: usize| (number / base.pow((length - 1 - place) as u32) % base) as usize;
        Sequence((0..length).map(|place| letters[digit(place)]).collect())
    }

    pub(super) fn letters(&self) -> impl Iterator<Item = Letter> {
        self.0.iter().copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it names the second key and never the first: then the sequence that names the first instead stands for it.
    pub(super) fn is_renamed(&self) -> bool {
        let names = |key: u32| self.0.iter().any(|letter| letter.op(0).keys().contains(&key));
        names(1) && !names(0)
    }

    /// Whether a snapshot is held after the operation at this place: a reopening ends it.
    pub(super) fn holds_snapshot(&self, place: usize) -> bool {
        let mut life = self.0[..=place].iter().rev().take_while(|letter| **letter != Letter::Reopen);
        life.any(|letter| *letter == Letter::Snapshot)
    }
}
