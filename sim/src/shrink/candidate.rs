//! Smaller runs made from a failing one: pure functions, which promise nothing about what the smaller run does.
//!
//! An operation that is left out takes its decisions along, and those of the others are counted anew: every site is known by
//! how often it was asked, so a fault that struck the tenth write strikes the seventh once three writes are gone. What of
//! background work moves all the same is for the shrinker to search.

use crate::disk::{CrashKind, CrashReport, LENGTH, LISTED, LOSE};
use crate::op::{Bounds, Entry, KeyId, Keys, Op, VALUE_BYTES_MIN, Value};
use crate::rng::Decision;
use crate::runner::{RunReport, Start};
use crate::store::{KEYSPACES, SyncMode};
use crate::workload::Plan;
use std::collections::{BTreeMap, BTreeSet};

/// An operation, by its client and its index there.
pub(super) type Place = (usize, usize);

/// Which operation decided what: the ordinals of each site when each operation started.
#[derive(Clone, Debug, Default)]
pub(super) struct Windows {
    /// In the order in which they were started.
    pub(super) order: Vec<Place>,
    by_label: BTreeMap<String, Vec<u64>>,
}

impl Windows {
    pub(super) fn of(report: &RunReport) -> Windows {
        let starts = &report.starts;
        let order = starts.iter().map(|start| (start.client, start.index)).collect();
        let mut by_label = BTreeMap::new();
        for (site, label) in report.sites.iter().enumerate() {
            let at = |start: &Start| start.ordinals.get(site).copied().unwrap_or(0);
            by_label.insert(label.to_string(), starts.iter().map(at).collect());
        }
        Windows { order, by_label }
    }

    /// The decisions of a run without these operations.
    fn without(&self, removed: &BTreeSet<Place>, decisions: &[Decision]) -> Vec<Decision> {
        let mut left = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let starts = self.by_label.get(&decision.label).filter(|_| !belongs_to_a_crash(&decision.label));
            let Some(starts) = starts else {
                left.push(decision.clone());
                continue;
            };
            let after = starts.partition_point(|&start| start <= decision.ordinal);
            let mut shift = 0;
            for (index, place) in self.order.iter().enumerate().take(after.saturating_sub(1)) {
                if removed.contains(place) {
                    shift += starts[index + 1] - starts[index];
                }
            }
            let own = after.checked_sub(1).map(|index| (self.order[index], starts[index]));
            let mut decision = decision.clone();
            match own {
                Some((place, start)) if removed.contains(&place) => {
                    if !is_counted_fault(&decision.label) {
                        continue;
                    }
                    // What goes wrong in an operation that is gone goes wrong where it stood.
                    decision.ordinal = start - shift;
                }
                _ => decision.ordinal -= shift,
            }
            left.push(decision);
        }
        left
    }
}

/// What is asked when the power goes and when the store is opened, and not while operations run.
fn belongs_to_a_crash(label: &str) -> bool {
    label.starts_with("crash.") || label.starts_with("recovery.")
}

/// Faults whose rules count calls: what moves when operations are left out.
pub(crate) fn is_counted_fault(label: &str) -> bool {
    label.starts_with("fault.") && !label.ends_with(".how")
}

/// Whether it says that something is lost that was pending at a crash.
pub(crate) fn is_loss(decision: &Decision) -> bool {
    let part = [" sector", " bytes", " changes", " back"].iter().any(|part| decision.label.ends_with(part));
    decision.value > 0 && !part && (decision.label.starts_with(LOSE) || decision.label.starts_with(LENGTH))
}

/// The operations that have nothing to do with a key, or with snapshots.
pub(super) fn strangers_to(plan: &Plan, key: &[u8]) -> BTreeSet<Place> {
    let Some(key) = plan.keys.id(key) else { return BTreeSet::new() };
    let mut strangers = BTreeSet::new();
    for (client, ops) in plan.clients.iter().enumerate() {
        for (index, op) in ops.iter().enumerate() {
            if !matches!(op, Op::Snapshot { .. } | Op::Release { .. }) && !op.keys().contains(&key) {
                strangers.insert((client, index));
            }
        }
    }
    strangers
}

/// Where others stand in place of operations that are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Where {
    /// At the first of them.
    Once,
    /// In every gap.
    EachGap,
}

/// The run without these operations, in their place others.
pub(super) fn without(
    plan: &Plan,
    windows: &Windows,
    decisions: &[Decision],
    removed: &BTreeSet<Place>,
    (instead, wherever): (&[Op], Where),
) -> (Plan, Vec<Decision>) {
    let mut plan = plan.clone();
    let mut due = true;
    for (client, ops) in plan.clients.iter_mut().enumerate() {
        let mut kept = Vec::with_capacity(ops.len());
        for (index, op) in ops.drain(..).enumerate() {
            if !removed.contains(&(client, index)) {
                kept.push(op);
                due |= wherever == Where::EachGap;
            } else if std::mem::take(&mut due) {
                kept.extend(instead.iter().cloned());
            }
        }
        *ops = kept;
    }
    (plan, windows.without(removed, decisions))
}

/// All operations by one client, in the order in which they were started.
pub(super) fn by_one_client(plan: &Plan, windows: &Windows) -> Plan {
    let mut places = windows.order.clone();
    for (client, ops) in plan.clients.iter().enumerate() {
        places.extend((0..ops.len()).map(|index| (client, index)).filter(|place| !windows.order.contains(place)));
    }
    let slots = plan.clients.len() as u8;
    let ops = places.iter().map(|&(client, index)| with_slots_of(&plan.clients[client][index], client as u8, slots));
    Plan { clients: vec![ops.collect()], ..plan.clone() }
}

/// The operation with its snapshot in a place that no other client uses, as far as there are enough of them.
fn with_slots_of(op: &Op, client: u8, clients: u8) -> Op {
    let own = |slot: u8| slot.checked_mul(clients).and_then(|slot| slot.checked_add(client)).unwrap_or(slot);
    let mut op = op.clone();
    match &mut op {
        Op::Snapshot { slot } | Op::Release { slot } => *slot = own(*slot),
        Op::Get { at: Some(slot), .. } | Op::MultiGet { at: Some(slot), .. } | Op::Scan { at: Some(slot), .. } => {
            *slot = own(*slot)
        }
        _ => {}
    }
    op
}

/// The same decisions, with every crash image as a list of what it lost instead of the dice that drew it.
pub(crate) fn listed(decisions: &[Decision], crashes: &[CrashReport]) -> Vec<Decision> {
    let drawn = |label: &str| label.starts_with("crash.") && label != "crash.call-made" && label != "crash.hole";
    let mut listed: Vec<Decision> = decisions.iter().filter(|decision| !drawn(&decision.label)).cloned().collect();
    let mut ordinals: BTreeMap<&str, u64> = BTreeMap::new();
    let cuts = crashes.iter().filter(|crash| crash.kind != CrashKind::Process);
    for (number, crash) in cuts.enumerate() {
        if crash.listed.iter().all(|answer| answer.value == 0) {
            continue;
        }
        listed.push(Decision { label: LISTED.into(), ordinal: number as u64, n: 2, value: 1 });
        for answer in &crash.listed {
            let ordinal = ordinals.entry(&answer.label).or_default();
            if answer.value > 0 {
                let (label, value) = (answer.label.clone(), answer.value);
                listed.push(Decision { label, ordinal: *ordinal, n: value.saturating_add(1), value });
            }
            *ordinal += 1;
        }
    }
    listed
}

/// The same operation with less in it, the plainest first.
pub(super) fn simpler_ops(op: &Op) -> Vec<Op> {
    let plain = |value: Value| Value { bytes: value.bytes.min(VALUE_BYTES_MIN), ..value };
    let mut simpler = Vec::new();
    match op {
        Op::Put { key, value, sync } => {
            simpler.push(Op::Put { key: *key, value: plain(*value), sync: SyncMode::Default });
            simpler.push(Op::Put { key: *key, value: plain(*value), sync: *sync });
            simpler.push(Op::Put { key: *key, value: *value, sync: SyncMode::Default });
        }
        Op::Hurry { key, value, sync, within_ms } => {
            simpler.push(Op::Put { key: *key, value: plain(*value), sync: *sync });
            let (key, within_ms) = (*key, *within_ms);
            simpler.push(Op::Hurry { key, value: plain(*value), sync: *sync, within_ms });
            simpler.push(Op::Hurry { key, value: *value, sync: SyncMode::Default, within_ms });
        }
        Op::Delete { key, .. } => simpler.push(Op::Delete { key: *key, sync: SyncMode::Default }),
        Op::Batch { entries, sync } => {
            let plain: Vec<Entry> =
                entries.iter().map(|entry| Entry { value: entry.value.map(plain), ..*entry }).collect();
            if let [Entry { key, end: Some(end), .. }] = entries.as_slice() {
                simpler.push(Op::Delete { key: *key, sync: *sync });
                simpler.push(Op::Batch { entries: vec![Entry::range(*key, *key + (*end - *key) / 2)], sync: *sync });
            } else if let [entry] = entries.as_slice() {
                simpler.push(match (entry.key, plain[0].value) {
                    (key, Some(value)) => Op::Put { key, value, sync: *sync },
                    (key, None) => Op::Delete { key, sync: *sync },
                });
                simpler.extend(entry.value.map(|value| Op::Put { key: entry.key, value, sync: *sync }));
            }
            // Halves before quarters before single entries.
            let mut size = entries.len().div_ceil(2);
            while size >= 1 && entries.len() > 1 {
                for start in (0..entries.len()).step_by(size) {
                    let mut entries = entries.clone();
                    entries.drain(start..(start + size).min(entries.len()));
                    if !entries.is_empty() {
                        simpler.push(Op::Batch { entries, sync: *sync });
                    }
                }
                if size == 1 {
                    break;
                }
                size = size.div_ceil(2);
            }
            simpler.push(Op::Batch { entries: plain, sync: *sync });
            simpler.push(Op::Batch { entries: entries.clone(), sync: SyncMode::Default });
        }
        Op::Transaction { reads, together, scan, entries, serializable, sync } => {
            let with = |reads: &[KeyId], scan, entries: &[Entry]| Op::Transaction {
                together: *together,
                reads: reads.to_vec(),
                scan,
                entries: entries.to_vec(),
                serializable: *serializable,
                sync: *sync,
            };
            if !entries.is_empty() {
                simpler.push(Op::Batch { entries: entries.clone(), sync: *sync });
                simpler.push(with(reads, *scan, &[]));
            }
            if scan.is_some() {
                simpler.push(with(reads, None, entries));
            }
            for left_out in 0..reads.len() {
                let rest: Vec<KeyId> = (0..reads.len()).filter(|i| *i != left_out).map(|i| reads[i]).collect();
                simpler.push(with(&rest, *scan, entries));
            }
            for left_out in 0..entries.len() {
                let rest: Vec<Entry> = (0..entries.len()).filter(|i| *i != left_out).map(|i| entries[i]).collect();
                simpler.push(with(reads, *scan, &rest));
            }
            let plain: Vec<Entry> =
                entries.iter().map(|entry| Entry { value: entry.value.map(plain), ..*entry }).collect();
            simpler.push(with(reads, *scan, &plain));
        }
        Op::MultiGet { keys, at } => {
            if let [key] = keys.as_slice() {
                simpler.push(Op::Get { key: *key, at: *at });
            }
            let with = |keys: &[KeyId]| Op::MultiGet { keys: keys.to_vec(), at: *at };
            if keys.len() > 2 {
                let (front, back) = keys.split_at(keys.len() / 2);
                simpler.extend([with(front), with(back)]);
            }
            for left_out in 0..keys.len() {
                let rest: Vec<KeyId> = (0..keys.len()).filter(|i| *i != left_out).map(|i| keys[i]).collect();
                simpler.push(with(&rest));
            }
        }
        Op::Scan { bounds, reverse, limit, at } => {
            simpler.push(Op::Scan { bounds: Bounds::ALL, reverse: false, limit: None, at: *at });
            simpler.push(Op::Scan { bounds: Bounds::ALL, reverse: *reverse, limit: *limit, at: *at });
            simpler.push(Op::Scan { bounds: *bounds, reverse: false, limit: *limit, at: *at });
            simpler.push(Op::Scan { bounds: *bounds, reverse: *reverse, limit: None, at: *at });
        }
        Op::Compact { .. } => simpler.push(Op::Compact { bounds: Bounds::ALL }),
        _ => {}
    }
    simpler.retain(|simpler| simpler != op);
    simpler
}

/// Only the keys that some operation names, and the one that the harness writes to.
pub(super) fn with_used_keys(plan: &Plan) -> Plan {
    let mut used: Vec<u32> = plan.clients.iter().flatten().flat_map(Op::keys).collect();
    used.push(0);
    used.sort_unstable();
    used.dedup();
    let keys = Keys::new(used.iter().map(|key| plan.keys.bytes(*key).to_vec()).collect());
    let mut plan = Plan { keys, ..plan.clone() };
    let name = |key: u32| used.binary_search(&key).expect("a key that is used") as u32;
    for op in plan.clients.iter_mut().flatten() {
        *op = op.renamed(&name);
    }
    plan
}

/// Keys of one letter in the same order; the empty key stays what it is. `None` where there are more than letters.
pub(super) fn with_plain_keys(plan: &Plan) -> Option<Plan> {
    let count = plan.keys.count();
    // The first byte of a key may be the number of its keyspace.
    let kept = usize::from(plan.options.contains_key(KEYSPACES));
    let plain: Vec<Vec<u8>> = (0..count)
        .zip(b'a'..=b'z')
        .map(|(key, letter)| {
            let (keyspace, key) = plan.keys.bytes(key as u32).split_at(kept);
            if key.is_empty() { keyspace.to_vec() } else { [keyspace, &[letter]].concat() }
        })
        .collect();
    (plain.len() == count).then(|| Plan { keys: Keys::new(plain), ..plan.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(label: &str, ordinal: u64) -> Decision {
        Decision { label: label.into(), ordinal, n: 2, value: 1 }
    }

    #[test]
    fn an_operation_takes_its_decisions_along_and_later_ones_are_counted_anew() {
        // Three operations, of which the second made four writes and was preempted twice.
        let windows = Windows {
            order: vec![(0, 0), (0, 1), (0, 2)],
            by_label: BTreeMap::from([
                ("fault.io-error.wal.write".into(), vec![10, 12, 16]),
                ("schedule.preempt".into(), vec![0, 5, 7]),
            ]),
        };
        let made = [
            decision("fault.io-error.wal.write", 11),
            decision("fault.io-error.wal.write", 13),
            decision("fault.io-error.wal.write", 17),
            decision("schedule.preempt", 6),
            decision("schedule.preempt", 8),
            decision("crash.listed", 0),
        ];
        let left = windows.without(&BTreeSet::from([(0, 1)]), &made);
        let left: Vec<(&str, u64)> = left.iter().map(|made| (made.label.as_str(), made.ordinal)).collect();
        let fault = "fault.io-error.wal.write";
        assert_eq!(
            left,
            [(fault, 11), (fault, 12), (fault, 13), ("schedule.preempt", 6), ("crash.listed", 0)],
            "a fault of the operation that is gone strikes where that began"
        );
    }
}
