//! The run that is swept: once, without faults, with the disk forked before every call that may change it.
//!
//! Before a call, not after the one before it: between the two the store may have acknowledged what it did, so that just
//! before the next change the least is forgiven. The last operation is followed by closing and opening again, so that the
//! end of the workload has a boundary behind it too.
//!
//! A boundary has a name that survives a change of the code around it: the how manieth call of its kind to a file of its
//! class it stands before. That is how a fault rule names it, too ([`Boundary::rule`]), and so a failure found here is an
//! ordinary run with one power cut.
//!
//! Left out: calls that are made while the harness looks at the store after it was opened again, because no fault strikes
//! there in an ordinary run.

use crate::disk::{CrashKind, Disk};
use crate::fault::{FaultRule, FileClass, FsOp};
use crate::op::Op;
use crate::oracle::{History, Mark};
use crate::rng::{Decision, Decisions};
use crate::runner::{RunOptions, RunReport, Witness, run_witnessed};
use crate::scenario::Check;
use crate::store::StoreKind;
use crate::watch::Sight;
use crate::workload::Plan;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::panic::Location;
use std::sync::Arc;

/// A moment at which power may go.
#[derive(Clone)]
pub struct Boundary {
    /// The how manieth of the run, from 0.
    pub index: u64,
    /// The disk.
    pub disk: Disk,
    /// What the oracle knows.
    pub mark: Mark,
    /// Operations that had been started.
    pub ops: u64,
    /// Decisions that had been recorded.
    pub decisions: usize,
    /// The call that is not made any more.
    pub op: FsOp,
    /// Of what class its file is.
    pub class: FileClass,
    /// The how manieth such call, from 1.
    pub nth: u64,
    /// Path of the file.
    pub path: String,
    /// The line that would have made it.
    pub at: &'static Location<'static>,
    /// Calls so far, this one counted.
    pub calls: Calls,
}

/// How many calls of each kind there were.
pub(super) type Calls = BTreeMap<(FsOp, FileClass), u64>;

impl fmt::Display for Boundary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "before {} {} ({}:{})", self.op.name(), self.path, self.at.file(), self.at.line())
    }
}

impl Boundary {
    /// The boundary before a call, which is counted in `calls` already.
    pub(super) fn new(
        sight: &Sight<'_>,
        index: u64,
        mark: Mark,
        ops: u64,
        decisions: usize,
        calls: &Calls,
    ) -> Boundary {
        let (op, class) = (sight.op, sight.class);
        Boundary {
            index,
            disk: sight.disk.fork(),
            mark,
            ops,
            decisions,
            op,
            class,
            nth: calls[&(op, class)],
            path: sight.path.to_string(),
            at: sight.at,
            calls: calls.clone(),
        }
    }

    /// The fault that strikes at this boundary, and at no other.
    pub fn rule(&self, kind: CrashKind) -> FaultRule {
        let name = if kind == CrashKind::Process { "process-crash" } else { "power-loss" };
        let (op, class, nth) = (self.op.name(), self.class.name(), self.nth);
        let text = format!("kind = '{name}'\non = '{op}'\nclasses = ['{class}']\nnth = {nth}");
        text.parse().expect("a rule that counts calls of one kind")
    }
}

/// What a run left behind.
pub struct Recording {
    /// The boundaries that were asked for.
    pub boundaries: Vec<Boundary>,
    /// How many there are.
    pub total: u64,
    /// What may be shown at which of them.
    pub history: Arc<History>,
    /// Decisions that were not 0.
    pub decisions: Vec<Decision>,
    /// The run itself.
    pub report: RunReport,
}

/// The plan as it is swept: nothing goes wrong, and in the end the store is closed and opened again.
pub fn quiet(plan: &Plan, kind: &dyn StoreKind) -> Plan {
    let mut plan = plan.clone().lasting(kind);
    plan.faults.clear();
    plan.checks = vec![Check::Oracle, Check::Invariants];
    plan.clients[0].push(Op::Reopen);
    plan
}

/// What the witness has seen so far.
#[derive(Default)]
struct Seen {
    boundaries: Vec<Boundary>,
    total: u64,
    calls: Calls,
}

/// Runs a quiet plan, and keeps the boundaries of this range.
pub fn record(plan: Arc<Plan>, kind: &Arc<dyn StoreKind>, decisions: Decisions, range: Range<u64>) -> Recording {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let witness: Witness = {
        let seen = seen.clone();
        Box::new(move |sight, oracle, ops| {
            if !sight.is_exposed || !sight.is_boundary() {
                return;
            }
            let mut seen = seen.lock();
            let seen = &mut *seen;
            let nth = seen.calls.entry((sight.op, sight.class)).or_default();
            *nth += 1;
            if range.contains(&seen.total) {
                let count = sight.decisions.recorded_count();
                let boundary = Boundary::new(sight, seen.total, oracle.mark(), ops, count, &seen.calls);
                seen.boundaries.push(boundary);
            }
            seen.total += 1;
        })
    };
    let options = RunOptions { record: true, ..RunOptions::default() };
    let (mut report, oracle) = run_witnessed(plan, kind, decisions, &options, witness);
    let decisions = mem::take(&mut report.decisions);
    let Seen { boundaries, total, .. } = mem::take(&mut *seen.lock());
    Recording { boundaries, total, history: Arc::new(History::new(oracle)), decisions, report }
}
