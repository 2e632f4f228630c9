//! Which compaction runs next: pure functions of versions, the options and what is running already.
//!
//! Levelled, after LevelDB: level 0 is scored by its number of tables, each level below by its bytes against its target; the
//! level with the highest score gives one table (level 0: its oldest tables), together with all tables that overlap it one
//! level down. Which table of a level is next goes round by key, so that the whole key space gets its turn.
//!
//! Of several keyspaces the one goes first whose levels ask for it most.
//!
//! P1. Inputs taken from level 0 are its oldest tables without a gap: what is newer stays above what is older.
//! P2. Every table of the output level that overlaps the user-key range of all inputs is an input.
//! P3. A table goes unread only where every entry in it has expired for all who can see it, no snapshot is older than any of
//!     them, it holds no range delete, and no older table, in level 0 or in any level below, lies in its range of user keys:
//!     there is nothing that it hides.
//! P4. No table in quarantine is an input, and none is held that would have to pass one on its way down (I3 of the version): what
//!     lies above it stays above it. What does not overlap it goes on, and so does all below it.
//! P5. Tables of level 0 that are held are merged into fewer, which stay in level 0: a run of them without a gap becomes one that
//!     is as new as the newest of them. So readers have a number of them to ask that grows with the logarithm of their bytes.
//! P6. Where nothing else is due, and most of what lies in blob files is garbage, a table that refers to one of the sparse files is
//!     rewritten in place, so that its values move and the file can go (B3 of [`crate::blob`]). So values that lie apart take twice
//!     their bytes at the most once a store has come to rest, and each is copied only after as many bytes around it have become
//!     garbage. Tables of level 0 are left: what they refer to goes on with them. Not done: a range that holds only what is old is
//!     not looked for, so what is hidden but still referred to waits for a compaction of its keys.

use crate::compaction::plan::{Claim, Plan};
use crate::compaction::readers::Readers;
use crate::key::{EXPIRES_NEVER, KeyspaceId, has_expired, user_key};
use crate::manifest::catalog::Catalog;
use crate::manifest::version::{TableMeta, Version};
use crate::mark::sometimes;
use crate::options::Options;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

/// How much a level asks to be compacted; from 1.0 on it should be. What is held does not count, since nothing can be done.
pub fn score(version: &Version, level: usize, options: &Options) -> f64 {
    if level == 0 {
        version.level_zero_free() as f64 / options.l0_compaction_trigger as f64
    } else {
        let free = version.levels[level].iter().filter(|table| !version.is_held(level, table));
        free.map(|table| table.bytes).sum::<u64>() as f64 / options.level_bytes(level) as f64
    }
}

/// Bytes of all tables in a level.
pub fn level_bytes(version: &Version, level: usize) -> u64 {
    version.levels[level].iter().map(|table| table.bytes).sum()
}

/// The table to rewrite for the sake of the blob files that it refers to (P6), of which nothing can be moved out of those
/// `without`.
pub fn pick_sparse(catalog: &Catalog, running: &[Claim], without: &BTreeSet<u64>) -> Option<Plan> {
    let due = catalog.sparse_blobs().due.iter().filter(|file| !without.contains(file));
    let rank: BTreeMap<u64, usize> = due.zip(0..).map(|(&file, rank)| (file, rank)).collect();
    if rank.is_empty() {
        return None;
    }
    let mut candidates = Vec::new();
    for entry in catalog.entries() {
        let below_zero = entry.version.tables().filter(|(level, _)| *level > 0);
        for (level, table) in below_zero.filter(|(_, table)| !entry.version.is_quarantined(table.number)) {
            let first = table.blobs.iter().filter_map(|(file, _)| rank.get(&file)).min();
            candidates.extend(first.map(|&first| (first, level, table)));
        }
    }
    candidates.sort_by_key(|&(first, ..)| first);
    candidates.into_iter().find_map(|(_, level, table)| {
        let inputs = vec![(level, vec![table.clone()])];
        let (keyspace, output_level) = (table.keyspace, level);
        free_of(Some(Plan { keyspace, inputs, output_level, trivial_move: false, expired: false }), running)
    })
}

/// How many levels hold more than they should: zero once a store has come to rest.
pub fn debt(version: &Version, options: &Options) -> usize {
    (0..last_level(version)).filter(|&level| score(version, level, options) >= 1.0).count()
}

/// The same for all keyspaces together.
pub fn debt_of_all(catalog: &Catalog) -> usize {
    catalog.entries().iter().map(|entry| debt(&entry.version, &entry.options)).sum()
}

/// The next compaction of any keyspace that is due and can run beside those that `running` describes. `cursors` has for each
/// keyspace, level by level, the largest user key that the last compaction took.
pub fn pick_of_all(catalog: &Catalog, running: &[Claim], cursors: &BTreeMap<KeyspaceId, Vec<Vec<u8>>>) -> Option<Plan> {
    let mut due = Vec::new();
    for entry in catalog.entries() {
        let scores = (0..last_level(&entry.version)).map(|level| score(&entry.version, level, &entry.options));
        let highest = scores.fold(0.0, f64::max);
        if highest >= 1.0 {
            due.push((highest, entry));
        }
    }
    // Of equal scores the older keyspace, which comes first already.
    due.sort_by(|a, b| b.0.total_cmp(&a.0));
    let plan = due.into_iter().find_map(|(_, entry)| {
        let cursors = cursors.get(&entry.id).map_or(&[][..], Vec::as_slice);
        pick(&entry.version, running, cursors, &entry.options)
    });
    let held =
        || catalog.entries().iter().find_map(|entry| free_of(merge_held(&entry.version, &entry.options), running));
    plan.or_else(held)
}

/// Merges tables of level 0 that are held (P5): the newest of them, as far as each is not larger than the newer ones together
/// and once more, so that each entry is written again but a few times.
fn merge_held(version: &Version, options: &Options) -> Option<Plan> {
    if version.quarantined.is_empty() {
        return None;
    }
    let held = version.levels[0].len() - version.level_zero_free();
    let (mut run, mut bytes) = (Vec::new(), 0);
    for table in version.levels[0].iter().take(held).take_while(|table| !version.is_quarantined(table.number)) {
        if !run.is_empty() && table.bytes > 2 * bytes {
            break;
        }
        bytes += table.bytes;
        run.push(table.clone());
    }
    if run.len() < options.l0_compaction_trigger.max(2) {
        return None;
    }
    sometimes!("tables of level 0 that are held are merged");
    let inputs = vec![(0, run)];
    Some(Plan { keyspace: version.keyspace, inputs, output_level: 0, trivial_move: false, expired: false })
}

fn last_level(version: &Version) -> usize {
    version.levels.len() - 1
}

/// The next compaction that is due and can run beside those that `running` describes. `cursors[level]` is the largest user
/// key that the last compaction of that level took.
pub fn pick(version: &Version, running: &[Claim], cursors: &[Vec<u8>], options: &Options) -> Option<Plan> {
    let mut candidates: Vec<(f64, usize)> = (0..last_level(version))
        .map(|level| (score(version, level, options), level))
        .filter(|(score, _)| *score >= 1.0)
        .collect();
    // The highest score first; of equal ones the upper level, which readers feel more.
    candidates.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    for (_, level) in candidates {
        let plan = if level == 0 {
            free_of(plan_level_zero(version, version.levels[0].len(), options), running)
        } else {
            plan_one_table(version, level, running, cursors.get(level).map_or(&[][..], Vec::as_slice))
        };
        if plan.is_some() {
            return plan;
        }
    }
    None
}

/// Whether a table overlaps the user keys `[from, to]` (`None`: no bound).
pub fn overlaps(table: &TableMeta, from: Option<&[u8]>, to: Option<&[u8]>) -> bool {
    from.is_none_or(|from| !table.ends_before(from)) && to.is_none_or(|to| user_key(&table.smallest) <= to)
}

/// A compaction of the tables of `level` that overlap the user keys `[from, to]` (`None`: no bound), for one who asked for
/// it. `None` where there is nothing to do.
///
/// Tables of level 0 from number `number_end` on are left. Of the last level that holds any of the range, tables below
/// `number_end` are rewritten in place: who asks for a compaction wants back the space of what was deleted or replaced, and a
/// table can hold much of it that a snapshot needed when the table was written.
pub fn plan_range(
    version: &Version,
    level: usize,
    from: Option<&[u8]>,
    to: Option<&[u8]>,
    number_end: u64,
    options: &Options,
) -> Option<Plan> {
    let wanted = |table: &Arc<TableMeta>| overlaps(table, from, to);
    let old = |table: &Arc<TableMeta>| wanted(table) && table.number < number_end;
    let mut plan = if level == 0 {
        // Oldest first without a gap (P1): from the oldest to the newest that is wanted.
        let newest_wanted = version.levels[0].iter().position(old)?;
        plan_level_zero(version, version.levels[0].len() - newest_wanted, options)?
    } else if version.levels[level + 1..].iter().flatten().any(wanted) {
        let upper = free_run(version, level, wanted);
        if upper.is_empty() {
            return None;
        }
        with_overlap(version, level, upper)
    } else {
        // A run of neighbours: what is written reaches from the first to the last of them, so none may lie between (P2).
        let stale = |table: &Arc<TableMeta>| old(table) && !version.is_quarantined(table.number);
        let run = version.levels[level].iter().skip_while(|&table| !stale(table)).take_while(|&table| stale(table));
        let stale: Vec<_> = run.cloned().collect();
        if stale.is_empty() {
            return None;
        }
        Plan {
            keyspace: version.keyspace,
            inputs: vec![(level, stale)],
            output_level: level,
            trivial_move: false,
            expired: false,
        }
    };
    plan.trivial_move = false;
    Some(plan)
}

/// The tables of a level that are wanted; where some of them are held, the first of the others that can go down together.
fn free_run(version: &Version, level: usize, wanted: impl Fn(&Arc<TableMeta>) -> bool) -> Vec<Arc<TableMeta>> {
    let mut run: Vec<Arc<TableMeta>> = Vec::new();
    for table in version.levels[level].iter().filter(|&table| wanted(table)) {
        let from = run.first().map_or(table.smallest_user(), |first| first.smallest_user());
        let free = !version.is_quarantined(table.number) && !version.is_barred(level, from, table.largest_user());
        if free {
            run.push(table.clone());
        } else if !run.is_empty() {
            break;
        }
    }
    run
}

/// Compacts the `count` oldest tables of level 0, or fewer, so that one compaction does not take more than it can chew.
fn plan_level_zero(version: &Version, count: usize, options: &Options) -> Option<Plan> {
    let bytes_max = options.level_base_bytes.max(options.memtable_bytes.saturating_mul(4));
    let mut upper = Vec::new();
    let mut bytes = 0;
    let oldest = version.levels[0].last()?;
    let (mut smallest, mut largest) = (oldest.smallest_user(), oldest.largest_user());
    for table in version.levels[0].iter().rev().take(count) {
        if !upper.is_empty() && bytes + table.bytes > bytes_max {
            sometimes!("a compaction takes only the oldest tables of level 0");
            break;
        }
        smallest = smallest.min(table.smallest_user());
        largest = largest.max(table.largest_user());
        if version.is_quarantined(table.number) || version.is_barred(0, smallest, largest) {
            sometimes!("a compaction leaves tables of level 0 that are held");
            break;
        }
        bytes += table.bytes;
        upper.push(table.clone());
    }
    if upper.is_empty() {
        return None;
    }
    // Back to the order of the version, newest first.
    upper.reverse();
    Some(with_overlap(version, 0, upper))
}

/// Compacts one table of a level below 0: the first behind the cursor whose compaction is free to run.
fn plan_one_table(version: &Version, level: usize, running: &[Claim], cursor: &[u8]) -> Option<Plan> {
    let tables = &version.levels[level];
    let start = tables.iter().position(|table| user_key(&table.largest) > cursor).unwrap_or(0);
    (0..tables.len()).map(|step| &tables[(start + step) % tables.len()]).find_map(|table| {
        let claimed = running.iter().any(|claim| claim.tables.contains(&table.number));
        if claimed || version.is_held(level, table) {
            None
        } else {
            free_of(Some(with_overlap(version, level, vec![table.clone()])), running)
        }
    })
}

fn free_of(plan: Option<Plan>, running: &[Claim]) -> Option<Plan> {
    let claim = plan.as_ref()?.claim();
    if running.iter().all(|other| claim.is_compatible(other)) { plan } else { None }
}

/// The plan for `upper` tables of `level` with what they overlap one level down (P2).
fn with_overlap(version: &Version, level: usize, upper: Vec<Arc<TableMeta>>) -> Plan {
    let smallest = upper.iter().map(|table| user_key(&table.smallest)).min().expect("inputs");
    let largest = upper.iter().map(|table| user_key(&table.largest)).max().expect("inputs");
    let lower: Vec<_> = version.levels[level + 1]
        .iter()
        .filter(|table| !table.ends_before(smallest) && user_key(&table.smallest) <= largest)
        .cloned()
        .collect();
    let trivial_move = upper.len() == 1 && lower.is_empty();
    let mut inputs = vec![(level, upper)];
    if !lower.is_empty() {
        inputs.push((level + 1, lower));
    }
    Plan { keyspace: version.keyspace, inputs, output_level: level + 1, trivial_move, expired: false }
}

/// Tables of one level that can go unread and leave nothing (P3), and that no running compaction holds.
pub fn pick_expired(version: &Version, running: &[Claim], readers: &Readers) -> Option<Plan> {
    let plan = |level: usize, tables: Vec<Arc<TableMeta>>| Plan {
        keyspace: version.keyspace,
        inputs: vec![(level, tables)],
        output_level: level,
        trivial_move: false,
        expired: true,
    };
    (0..version.levels.len()).find_map(|level| {
        let gone = |table: &&Arc<TableMeta>| {
            !version.is_quarantined(table.number)
                && readers.stripe_of(table.seqno_max) == 0
                && expires_whole(version, level, table)
                    .is_some_and(|last_ms| has_expired(last_ms, readers.horizon_ms(table.seqno_min)))
                && free_of(Some(plan(level, vec![Arc::clone(table)])), running).is_some()
        };
        let gone: Vec<_> = version.levels[level].iter().filter(gone).cloned().collect();
        let first = gone.first()?.clone();
        // A run of several claims all between them, of which something may be running.
        free_of(Some(plan(level, gone)), running).or_else(|| Some(plan(level, vec![first])))
    })
}

/// When the next table will have expired that can go then, if no snapshot holds it.
pub fn next_expiry_ms(version: &Version, now_ms: u64) -> Option<u64> {
    let last_ms = version.tables().filter_map(|(level, table)| expires_whole(version, level, table));
    last_ms.filter(|&last_ms| last_ms > now_ms && last_ms != EXPIRES_NEVER).min()
}

/// When the last entry of a table has expired, if none lasts and the table hides nothing (P3).
fn expires_whole(version: &Version, level: usize, table: &TableMeta) -> Option<u64> {
    let expiring = table.expiring.filter(|expiring| expiring.count == table.entries && table.range_deletes == 0)?;
    let (from, to) = (table.smallest_user(), table.largest_user());
    let mut older_in_zero = version.levels[0].iter().filter(|other| level == 0 && other.epoch < table.epoch);
    let mut below = level + 1..version.levels.len();
    let hides = older_in_zero.any(|other| overlaps(other, Some(from), Some(to)))
        || below.any(|below| !version.overlapping(below, Bound::Included(from), Bound::Included(to)).is_empty());
    (!hides).then_some(expiring.last_ms)
}

/// Whether any table below `level` may hold the user key: if so, a tombstone for it must stay.
pub fn may_lie_below(version: &Version, level: usize, key: &[u8]) -> bool {
    (level + 1..version.levels.len()).any(|below| version.find(below, key).is_some())
}

/// Whether any table below `level` may hold a key of a range, or a range delete in it.
pub fn may_any_lie_below(version: &Version, level: usize, from: &[u8], end: &[u8]) -> bool {
    let mut below = level + 1..version.levels.len();
    below.any(|below| !version.overlapping(below, Bound::Included(from), Bound::Excluded(end)).is_empty())
}

#[cfg(test)]
mod tests;
