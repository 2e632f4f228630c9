//! Several keyspaces behind the one map that the simulator knows: the first byte of a key says which it is in.
//!
//! Number 0 is the default keyspace. The others are created when something is first written to them, and again after they were
//! dropped. So one number stands for several keyspaces of the engine, one after the other, and a snapshot shows the one of its
//! time: [`Keyspaces::at`] tells which, by the sequence numbers of the drops, of which the engine tells in events.
//!
//! Each has options of its own, and they are looked for again when the store checks itself.

use crate::scheduler::TaskId;
use crate::store::{Failure, FailureKind};
use parking_lot::Mutex;
use std::ops::Bound;
use strata::db::{Db, Keyspace};
use strata::error::Error;
use strata::options::{Compression, KeyspaceOptions};

/// A part of a range of keys that lies in one keyspace.
pub(super) type Part<'a> = (u8, Bound<&'a [u8]>, Bound<&'a [u8]>);

/// The keyspaces of an open store.
pub(super) struct Keyspaces {
    count: u8,
    /// The merge operator of all of them.
    operator: Option<String>,
    /// By number, those that are and were, oldest first. Never held across a call of the engine.
    known: Mutex<Vec<Vec<Known>>>,
}

struct Known {
    keyspace: Keyspace,
    /// Its drop, which may be under way still.
    dropped: Option<Drop>,
}

/// The drop of a keyspace.
#[derive(Clone, Copy)]
struct Drop {
    seqno: u64,
    /// Who drops it: others may try the same meanwhile, and fail before they have a number.
    by: TaskId,
}

impl Keyspaces {
    /// So many, of a store that is not open yet. With one there is nothing to tell apart, and keys are as they are.
    pub(super) fn new(count: u8, operator: Option<String>) -> Keyspaces {
        let mut known: Vec<Vec<Known>> = (0..count.max(1)).map(|_| Vec::new()).collect();
        known[0].push(Known { keyspace: Keyspace::default(), dropped: None });
        Keyspaces { count: count.max(1), operator, known: Mutex::new(known) }
    }

    /// Looks which there are in a store that was just opened.
    pub(super) fn opened(&self, db: &Db) {
        (1..self.count).for_each(|number| drop(self.current(db, number)));
    }

    /// Whether there are several.
    pub(super) fn are_many(&self) -> bool {
        self.count > 1
    }

    /// The keyspace of a key, and what it is called there.
    pub(super) fn split<'a>(&self, key: &'a [u8]) -> (u8, &'a [u8]) {
        match key.split_first() {
            Some((first, rest)) if self.are_many() => (first.wrapping_sub(b'0'), rest),
            _ => (0, key),
        }
    }

    /// The key that is so called in a keyspace.
    pub(super) fn join(&self, number: u8, key: &[u8]) -> Vec<u8> {
        if self.are_many() { [&[b'0' + number], key].concat() } else { key.to_vec() }
    }

    /// The parts of a range of keys, in order.
    pub(super) fn parts<'a>(&self, from: Bound<&'a [u8]>, to: Bound<&'a [u8]>) -> Vec<Part<'a>> {
        if !self.are_many() {
            return vec![(0, from, to)];
        }
        let end = |bound: Bound<&'a [u8]>| match bound {
            Bound::Unbounded => None,
            Bound::Included(key) | Bound::Excluded(key) => Some(self.split(key)),
        };
        let (first, last) = (end(from), end(to));
        let within =
            |number: u8| first.is_none_or(|(first, _)| first <= number) && last.is_none_or(|(last, _)| number <= last);
        (0..self.count)
            .filter(|&number| within(number))
            .map(|number| {
                let at = |end: Option<(u8, &'a [u8])>, bound: Bound<&'a [u8]>| match end {
                    Some((other, rest)) if other == number => bound.map(|_| rest),
                    _ => Bound::Unbounded,
                };
                (number, at(first, from), at(last, to))
            })
            .collect()
    }

    /// The keyspace with this number that there is now.
    pub(super) fn current(&self, db: &Db, number: u8) -> Option<Keyspace> {
        if number == 0 {
            return Some(Keyspace::default());
        }
        let keyspace = db.keyspace(&name(number))?;
        let mut all = self.known.lock();
        let known = all.get_mut(usize::from(number))?;
        if known.iter().all(|known| known.keyspace != keyspace) {
            known.push(Known { keyspace: keyspace.clone(), dropped: None });
            known.sort_by_key(|known| known.keyspace.id());
        }
        Some(keyspace)
    }

    /// The same, and created where there is none.
    pub(super) fn current_or_new(&self, db: &Db, number: u8) -> Result<Keyspace, Error> {
        if number >= self.count {
            return Err(Error::InvalidArgument(format!("there is no keyspace {number} of {}", self.count)));
        }
        loop {
            if let Some(keyspace) = self.current(db, number) {
                return Ok(keyspace);
            }
            match db.create_keyspace(&name(number), self.options(number)) {
                // Somebody else was first.
                Err(Error::InvalidArgument(_)) if db.keyspace(&name(number)).is_some() => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
    }

    /// The keyspace that had this number at a sequence number, at which somebody holds a snapshot.
    pub(super) fn at(&self, db: &Db, number: u8, seqno: u64) -> Option<Keyspace> {
        let current = self.current(db, number);
        let all = self.known.lock();
        let mut known = all.get(usize::from(number))?.iter();
        // One that is there though its drop is behind us was not dropped: that failed.
        let was_there = |known: &&Known| {
            known.dropped.is_none_or(|dropped| seqno < dropped.seqno) || current.as_ref() == Some(&known.keyspace)
        };
        known.find(was_there).map(|known| known.keyspace.clone())
    }

    /// The number of the keyspace with this identity, if there is such a one.
    pub(super) fn number_of(&self, id: u32) -> Option<u8> {
        let all = self.known.lock();
        let at = all.iter().position(|known| known.iter().any(|known| known.keyspace.id() == id));
        at.map(|number| number as u8)
    }

    /// A drop begins: the engine tells so.
    pub(super) fn dropping(&self, id: u32, seqno: u64, by: TaskId) {
        let mut all = self.known.lock();
        if let Some(known) = all.iter_mut().flatten().find(|known| known.keyspace.id() == id) {
            known.dropped = Some(Drop { seqno, by });
        }
    }

    /// A task hears that its drop has failed. Returns its number, if it came to one.
    pub(super) fn drop_failed(&self, keyspace: &Keyspace, by: TaskId) -> Option<u64> {
        let mut all = self.known.lock();
        let known = all.iter_mut().flatten().find(|known| known.keyspace == *keyspace)?;
        known.dropped.take_if(|dropped| dropped.by == by).map(|dropped| dropped.seqno)
    }

    /// The number of the drop of this keyspace, if one was begun.
    pub(super) fn dropped_at(&self, keyspace: &Keyspace) -> Option<u64> {
        let all = self.known.lock();
        all.iter().flatten().find(|known| known.keyspace == *keyspace)?.dropped.map(|dropped| dropped.seqno)
    }

    fn options(&self, number: u8) -> KeyspaceOptions {
        KeyspaceOptions { merge_operator: self.operator.clone(), ..shape(number) }
    }

    /// Whether all that are there are ours, and have the options that they were given.
    pub(super) fn check(&self, db: &Db) -> Result<(), Failure> {
        let other = |message: String| Err(Failure { kind: FailureKind::Other, message, file: None });
        for keyspace in db.keyspaces().iter().skip(1) {
            let Some(number) = (1..self.count).find(|&number| name(number) == keyspace.name()) else {
                return other(format!("there is a keyspace {:?}, which nobody created", keyspace.name()));
            };
            match db.keyspace_options(keyspace) {
                Ok(found) if found == self.options(number) => {}
                Ok(found) => {
                    return other(format!("keyspace {:?} has lost its options, and has {found:?}", keyspace.name()));
                }
                // Dropped since it was listed.
                Err(_) => {}
            }
        }
        Ok(())
    }
}

/// The name of the keyspace with this number.
pub(super) fn name(number: u8) -> String {
    format!("k{number}")
}

/// Options that differ from one keyspace to the next.
fn shape(number: u8) -> KeyspaceOptions {
    match number % 3 {
        0 => KeyspaceOptions::default(),
        1 => KeyspaceOptions {
            compression: Some(vec![Compression::Lz4, Compression::Deflate]),
            block_bytes: Some(100 + usize::from(number)),
            filter_bits_per_key: Some(3),
            level_multiplier: Some(2),
            ..KeyspaceOptions::default()
        },
        _ => KeyspaceOptions {
            restart_interval: Some(1),
            level_base_bytes: Some(2048 + u64::from(number)),
            table_bytes: Some(600),
            ..KeyspaceOptions::default()
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_keys_falls_into_its_keyspaces() {
        let three = Keyspaces::new(3, None);
        let told = |from: Bound<&str>, to: Bound<&str>| {
            let parts = three.parts(from.map(str::as_bytes), to.map(str::as_bytes));
            let text = |bound: Bound<&[u8]>| format!("{:?}", bound.map(|key| key.escape_ascii().to_string()));
            let parts = parts.into_iter().map(|(number, from, to)| format!("{number}: {} {}", text(from), text(to)));
            parts.collect::<Vec<_>>().join(", ")
        };
        use Bound::{Excluded, Included, Unbounded};
        insta::assert_snapshot!(told(Unbounded, Unbounded), @"0: Unbounded Unbounded, 1: Unbounded Unbounded, 2: Unbounded Unbounded");
        insta::assert_snapshot!(told(Included("0b"), Excluded("1a")), @r#"0: Included("b") Unbounded, 1: Unbounded Excluded("a")"#);
        insta::assert_snapshot!(told(Excluded("1"), Included("1z")), @r#"1: Excluded("") Included("z")"#);
        insta::assert_snapshot!(told(Included("2x"), Excluded("3")), @r#"2: Included("x") Unbounded"#);
        insta::assert_snapshot!(told(Included("2x"), Included("1x")), @"");
        assert_eq!(three.split(b"1abc"), (1, &b"abc"[..]));
        assert_eq!(three.join(1, b"abc"), b"1abc");
        let one = Keyspaces::new(1, None);
        assert_eq!((one.split(b"1abc"), one.join(0, b"1abc")), ((0, &b"1abc"[..]), b"1abc".to_vec()));
    }
}
