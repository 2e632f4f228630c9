//! What a compaction will do, as a value: decided by `picker`, marked as running by the database, done by `job`.

use crate::key::{KeyspaceId, user_key};
use crate::manifest::version::TableMeta;
use std::sync::Arc;

/// One compaction: all of `inputs` go, and what survives of them goes to `output_level`.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Whose tables they are, all of them.
    pub keyspace: KeyspaceId,
    /// Tables by the level that they leave, the upper level first; in each level in the order of its version.
    pub inputs: Vec<(usize, Vec<Arc<TableMeta>>)>,
    /// The level that the result goes to.
    pub output_level: usize,
    /// Whether the one input only changes its level, as it is.
    pub trivial_move: bool,
    /// Whether the inputs only go, unread: all that they hold has expired, and it hides nothing.
    pub expired: bool,
}

impl Plan {
    /// All input tables with their levels.
    pub fn tables(&self) -> impl Iterator<Item = (usize, &Arc<TableMeta>)> {
        self.inputs.iter().flat_map(|(level, tables)| tables.iter().map(move |table| (*level, table)))
    }

    /// The upper level.
    pub fn level(&self) -> usize {
        self.inputs.first().expect("a plan has inputs").0
    }

    /// What must be kept from others while it runs.
    pub fn claim(&self) -> Claim {
        let smallest = self.tables().map(|(_, table)| user_key(&table.smallest)).min().expect("a plan has inputs");
        let largest = self.tables().map(|(_, table)| user_key(&table.largest)).max().expect("a plan has inputs");
        Claim {
            keyspace: self.keyspace,
            tables: self.tables().map(|(_, table)| table.number).collect(),
            levels: (self.level(), self.output_level),
            smallest: smallest.to_vec(),
            largest: largest.to_vec(),
        }
    }
}

/// What a running compaction holds: its inputs, and in its output level every user key between its smallest and largest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Whose they are.
    pub keyspace: KeyspaceId,
    /// Numbers of the input tables.
    pub tables: Vec<u64>,
    /// The upper level and the output level.
    pub levels: (usize, usize),
    /// The smallest user key of all inputs.
    pub smallest: Vec<u8>,
    /// The largest user key of all inputs.
    pub largest: Vec<u8>,
}

impl Claim {
    /// Whether both can run at the same time: no common input, and no overlap in a common output level. Two keyspaces have
    /// nothing in common.
    pub fn is_compatible(&self, other: &Claim) -> bool {
        let common_input = self.tables.iter().any(|number| other.tables.contains(number));
        let apart = self.largest < other.smallest || other.largest < self.smallest;
        // Level 0 is emptied from its oldest end, so two compactions of it would have to finish in order.
        let both_from_zero = self.levels.0 == 0 && other.levels.0 == 0;
        if self.keyspace != other.keyspace {
            return true;
        }
        !common_input && !both_from_zero && (self.levels.1 != other.levels.1 || apart)
    }
}
