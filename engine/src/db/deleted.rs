//! Which keys on the way of an iterator were deleted as part of a range, and how far that range reaches.
//!
//! Places are numbered like the children of the merge beneath an iterator, the newest first. By I2 the newest place that has
//! deleted a key for this reader settles it: everything that older places say of the key is older than that.
//!
//! The answer for one key holds for a whole stretch of keys around it, and is kept until the walk leaves the stretch. Tables
//! below level 0 are opened when the walk comes into them, and only those that hold range deletes.

use crate::db::state::State;
use crate::error::Result;
use crate::fragments::Fragments;
use crate::key::{SeqNo, is_range_end};
use crate::manifest::version::TableMeta;
use crate::mark::sometimes;
use bytes::Bytes;
use std::sync::Arc;

/// Pieces of deleted ranges that are joined into one, if they touch: a jump over several costs as much as one over one.
const PIECES_MAX: usize = 64;

/// The range deletes of all places, as a reader at one seqno sees them.
pub(super) struct DeletedRanges {
    seqno: SeqNo,
    places: Vec<(usize, Place)>,
    stretch: Option<Stretch>,
}

enum Place {
    /// A memtable, or a table of level 0.
    One(Arc<Fragments>),
    /// The tables of a level below 0 that hold range deletes, in order.
    Level(Vec<Arc<TableMeta>>),
}

/// A range that a reader sees deleted.
#[derive(Clone, Debug)]
pub(super) struct Deleted {
    /// Where it was: nothing in older places is newer than `seqno`.
    pub(super) place: usize,
    /// When the key that was asked for was deleted.
    pub(super) seqno: SeqNo,
    /// The first key that this place has deleted, going back from the one that was asked for without a gap.
    pub(super) start: Bytes,
    /// The first key that it has not deleted, going on.
    pub(super) end: Bytes,
}

/// Keys that have the same answer.
struct Stretch {
    lower: Vec<u8>,
    /// The first key behind; `None` where there is none.
    upper: Option<Vec<u8>>,
    deleted: Option<Deleted>,
}

impl Stretch {
    fn contains(&self, key: &[u8]) -> bool {
        self.lower.as_slice() <= key && self.upper.as_deref().is_none_or(|upper| key < upper)
    }

    fn begin_at(&mut self, lower: &[u8]) {
        if self.lower.as_slice() < lower {
            lower.clone_into(&mut self.lower);
        }
    }

    fn end_at(&mut self, upper: &[u8]) {
        if self.upper.as_deref().is_none_or(|other| upper < other) {
            self.upper = Some(upper.to_vec());
        }
    }
}

impl DeletedRanges {
    /// For a reader at `seqno`; none yet.
    pub(super) fn new(seqno: SeqNo) -> DeletedRanges {
        DeletedRanges { seqno, places: Vec::new(), stretch: None }
    }

    /// Adds a place that is one piece, behind those that are there. One without range deletes is left out.
    pub(super) fn add(&mut self, place: usize, fragments: Arc<Fragments>) {
        if !fragments.is_empty() {
            self.places.push((place, Place::One(fragments)));
        }
    }

    /// Adds a level below 0.
    pub(super) fn add_level(&mut self, place: usize, tables: &[Arc<TableMeta>]) {
        let tables: Vec<_> = tables.iter().filter(|table| table.range_deletes > 0).cloned().collect();
        if !tables.is_empty() {
            self.places.push((place, Place::Level(tables)));
        }
    }

    /// Whether there are none: then no key needs to be asked for.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The newest range that holds `key`.
    pub(super) fn at(&mut self, state: &State, key: &[u8]) -> Result<Option<Deleted>> {
        if let Some(stretch) = self.stretch.as_ref().filter(|stretch| stretch.contains(key)) {
            return Ok(stretch.deleted.clone());
        }
        let mut stretch = Stretch { lower: Vec::new(), upper: None, deleted: None };
        for (place, held) in &self.places {
            match held {
                Place::One(fragments) => stretch.look(*place, fragments, key, self.seqno),
                Place::Level(tables) => {
                    let index = tables.partition_point(|table| table.ends_before(key));
                    if let Some(before) = index.checked_sub(1) {
                        stretch.begin_at(&end_of(&tables[before]));
                    }
                    match tables.get(index) {
                        Some(table) if table.smallest_user() <= key => {
                            sometimes!("an iterator asks a level below 0 for range deletes");
                            stretch.begin_at(table.smallest_user());
                            stretch.end_at(&end_of(table));
                            let fragments = state.tables.table(table.number, table.bytes)?;
                            stretch.look(*place, fragments.fragments(), key, self.seqno);
                        }
                        Some(table) => stretch.end_at(table.smallest_user()),
                        None => {}
                    }
                }
            }
            if stretch.deleted.is_some() {
                break;
            }
        }
        let deleted = stretch.deleted.clone();
        self.stretch = Some(stretch);
        Ok(deleted)
    }
}

impl Stretch {
    /// Narrows the stretch to the keys around `key` of which these fragments say the same.
    fn look(&mut self, place: usize, fragments: &Fragments, key: &[u8], seqno: SeqNo) {
        let mut ahead = fragments.from(key);
        let Some(fragment) = ahead.next().filter(|fragment| fragment.contains(key)) else {
            if let Some(end) = fragments.end_before(key) {
                self.begin_at(end);
            }
            if let Some(next) = fragments.from(key).next() {
                self.end_at(&next.start);
            }
            return;
        };
        self.begin_at(&fragment.start);
        self.end_at(&fragment.end);
        let Some(deleted) = fragment.newest(seqno) else { return };
        let mut end = &fragment.end;
        for next in ahead.take(PIECES_MAX) {
            if next.start != *end || next.newest(seqno).is_none() {
                break;
            }
            end = &next.end;
        }
        self.deleted = Some(Deleted { place, seqno: deleted, start: fragment.start.clone(), end: end.clone() });
    }
}

/// The first key behind a table.
fn end_of(table: &TableMeta) -> Vec<u8> {
    let mut end = table.largest_user().to_vec();
    if !is_range_end(&table.largest) {
        end.push(0);
    }
    end
}
