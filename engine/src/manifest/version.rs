//! The list of live tables of one keyspace at one moment: an immutable value, shared by all who read from it.
//!
//! I1. In level 1 and below the tables are sorted, and no user key lies in the range of two of them. In level 0 they
//! are sorted by epoch, the newest first, and epochs differ.
//!
//! I2. The newer of two tables of level 0 holds only larger sequence numbers. (For deeper levels this holds for each
//! user key, which the metadata do not show; the check of the whole store does.)
//!
//! I2 and I1 together are why a search may end at the first level that knows the key.
//!
//! I3. A table in quarantine is one of those in the list. It stays where it is, for it may hide what lies below it, and so does
//! everything above it that would have to pass it on the way down: such tables are *held*. They read like all others.

pub use super::edit::TableMeta;
use super::edit::{LEVELS_MAX, Quarantine};
use crate::key::KeyspaceId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Bound;
use std::sync::Arc;

/// The live tables of a keyspace by level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Whose tables they are.
    pub keyspace: KeyspaceId,
    /// Level 0: the newest table first. Others: by smallest key.
    pub levels: Vec<Vec<Arc<TableMeta>>>,
    /// Tables in quarantine, by number.
    pub quarantined: BTreeMap<u64, Arc<Quarantine>>,
}

impl Version {
    /// No tables, in so many levels.
    pub fn empty(keyspace: KeyspaceId, levels: usize) -> Version {
        assert!((1..=LEVELS_MAX).contains(&levels), "a store has 1 to {LEVELS_MAX} levels, and not {levels}");
        Version { keyspace, levels: vec![Vec::new(); levels], quarantined: BTreeMap::new() }
    }

    /// The same tables in so many levels, which are not fewer.
    pub fn widened(&self, levels: usize) -> Result<Version, String> {
        if levels < self.levels.len() {
            return Err(format!("there are {} levels, and they cannot become {levels}", self.levels.len()));
        }
        let mut next = self.clone();
        next.levels.resize_with(levels, Vec::new);
        Ok(next)
    }

    /// The list after tables have left and others have come, each with its level; an error says what does not fit. The result
    /// keeps I1 and I2.
    pub fn apply(&self, removed: &[(usize, u64)], added: &[&(usize, TableMeta)]) -> Result<Version, String> {
        let mut next = self.clone();
        let mut touched = BTreeSet::new();
        let mut leaving: BTreeSet<(usize, u64)> = BTreeSet::new();
        for &(level, number) in removed {
            if level >= next.levels.len() || !leaving.insert((level, number)) {
                return Err(format!("table {number} cannot leave level {level}: it left before, or no such level is"));
            }
            touched.insert(level);
        }
        for &level in &touched {
            next.levels[level].retain(|table| !leaving.remove(&(level, table.number)));
        }
        if let Some((level, number)) = leaving.first() {
            return Err(format!("table {number} is not in level {level} and cannot leave it"));
        }
        for (level, table) in added {
            if *level >= next.levels.len() {
                return Err(format!("table {} cannot enter level {level} of {}", table.number, next.levels.len()));
            }
            touched.insert(*level);
            next.levels[*level].push(Arc::new(table.clone()));
        }
        for &level in &touched {
            if level == 0 {
                next.levels[0].sort_by_key(|table| std::cmp::Reverse(table.epoch));
            } else {
                next.levels[level].sort_by(|a, b| a.smallest_user().cmp(b.smallest_user()));
            }
            next.check_level(level)?;
        }
        if !next.quarantined.is_empty() {
            let listed: BTreeSet<u64> = next.tables().map(|(_, table)| table.number).collect();
            next.quarantined.retain(|number, _| listed.contains(number));
        }
        Ok(next)
    }

    /// The same list with this table in quarantine; an error says why it cannot be.
    pub fn with_quarantine(&self, quarantine: &Quarantine) -> Result<Version, String> {
        let number = quarantine.table;
        if !self.tables().any(|(_, table)| table.number == number) {
            return Err(format!("table {number} is not listed and cannot be in quarantine"));
        }
        let mut next = self.clone();
        if next.quarantined.insert(number, Arc::new(quarantine.clone())).is_some() {
            return Err(format!("table {number} is in quarantine already"));
        }
        Ok(next)
    }

    /// Whether a table is in quarantine.
    pub fn is_quarantined(&self, number: u64) -> bool {
        !self.quarantined.is_empty() && self.quarantined.contains_key(&number)
    }

    /// Whether what goes down from a level and has these user keys, both included, would have to pass a table in quarantine.
    pub fn is_barred(&self, level: usize, from: &[u8], to: &[u8]) -> bool {
        if self.quarantined.is_empty() || level + 1 >= self.levels.len() {
            return false;
        }
        let below = self.overlapping(level + 1, Bound::Included(from), Bound::Included(to));
        below.iter().any(|table| self.is_quarantined(table.number))
    }

    /// Whether a table of a level other than 0 cannot go down (I3).
    pub fn is_held(&self, level: usize, table: &TableMeta) -> bool {
        self.is_quarantined(table.number) || self.is_barred(level, table.smallest_user(), table.largest_user())
    }

    /// How many tables of level 0 can go down, oldest first: all that are older than the first one that is held.
    pub fn level_zero_free(&self) -> usize {
        let tables = &self.levels[0];
        if self.quarantined.is_empty() {
            return tables.len();
        }
        tables.iter().rev().take_while(|table| !self.is_held(0, table)).count()
    }

    /// Whether I1 and I2 hold; else who breaks them.
    pub fn check(&self) -> Result<(), String> {
        (0..self.levels.len()).try_for_each(|level| self.check_level(level))
    }

    /// Tables of a level that have keys in a range of user keys, in the level's order.
    pub fn overlapping(&self, level: usize, from: Bound<&[u8]>, to: Bound<&[u8]>) -> Vec<Arc<TableMeta>> {
        let before_range = |table: &TableMeta| match from {
            Bound::Included(from) => table.ends_before(from),
            Bound::Excluded(from) => table.largest_user() <= from,
            Bound::Unbounded => false,
        };
        let behind_range = |table: &TableMeta| match to {
            Bound::Included(to) => table.smallest_user() > to,
            Bound::Excluded(to) => table.smallest_user() >= to,
            Bound::Unbounded => false,
        };
        let tables = &self.levels[level];
        if level == 0 {
            return tables.iter().filter(|table| !before_range(table) && !behind_range(table)).cloned().collect();
        }
        let start = tables.partition_point(|table| before_range(table));
        let count = tables[start..].partition_point(|table| !behind_range(table));
        tables[start..start + count].to_vec()
    }

    /// The one table of a level other than 0 whose range holds a user key.
    pub fn find(&self, level: usize, user_key: &[u8]) -> Option<&Arc<TableMeta>> {
        assert!(level >= 1, "tables of level 0 overlap: there is no one table to find");
        let tables = &self.levels[level];
        let table = tables.get(tables.partition_point(|table| table.ends_before(user_key)))?;
        (table.smallest_user() <= user_key).then_some(table)
    }

    /// Whether any table holds range deletes. Looks at all of them.
    pub fn has_range_deletes(&self) -> bool {
        self.tables().any(|(_, table)| table.range_deletes > 0)
    }

    /// Whether entries of any table expire. Looks at all of them.
    pub fn has_expiring(&self) -> bool {
        self.tables().any(|(_, table)| table.expiring.is_some())
    }

    /// All tables with their levels, from level 0 down.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Arc<TableMeta>)> {
        self.levels.iter().enumerate().flat_map(|(level, tables)| tables.iter().map(move |table| (level, table)))
    }

    /// Bytes of the tables of a level.
    pub fn bytes_at(&self, level: usize) -> u64 {
        self.levels[level].iter().map(|table| table.bytes).sum()
    }

    /// The largest sequence number in any table; 0 where there is none.
    pub fn seqno_max(&self) -> u64 {
        self.tables().map(|(_, table)| table.seqno_max).max().unwrap_or(0)
    }

    /// Tables by level in short, for people: `L0:2 L1:3`. Empty levels are left out.
    pub fn shape(&self) -> String {
        let mut shape = String::new();
        for (level, tables) in self.levels.iter().enumerate().filter(|(_, tables)| !tables.is_empty()) {
            let gap = if shape.is_empty() { "" } else { " " };
            write!(shape, "{gap}L{level}:{}", tables.len()).expect("a string takes all text");
        }
        shape
    }

    fn check_level(&self, level: usize) -> Result<(), String> {
        let tables = &self.levels[level];
        for table in tables {
            table.check()?;
            if table.keyspace != self.keyspace {
                let (number, other, own) = (table.number, table.keyspace, self.keyspace);
                return Err(format!("table {number} of keyspace {other} is among those of keyspace {own}"));
            }
        }
        for pair in tables.windows(2) {
            let (left, right) = (&pair[0], &pair[1]);
            if level > 0 && !left.ends_before(right.smallest_user()) {
                return Err(format!("I1: in level {level} {} and {} overlap", brief(left), brief(right)));
            }
            if level == 0 && left.epoch <= right.epoch {
                let (number, other, epoch) = (left.number, right.number, right.epoch);
                return Err(format!("I1: in level 0 tables {number} and {other} share epoch {epoch}"));
            }
            if level == 0 && left.seqno_min <= right.seqno_max {
                return Err(format!(
                    "I2: in level 0 table {} starts at sequence number {}, and table {} of an older epoch ends at {}",
                    left.number, left.seqno_min, right.number, right.seqno_max
                ));
            }
        }
        Ok(())
    }
}

/// A table and its range of user keys, for people.
fn brief(table: &TableMeta) -> String {
    let (smallest, largest) = (table.smallest_user().escape_ascii(), table.largest_user().escape_ascii());
    format!("table {} ({smallest} to {largest})", table.number)
}
