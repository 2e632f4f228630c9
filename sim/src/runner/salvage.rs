//! When a store says that it is damaged, and it is, a run ends. Where the scenario asks for it, not before the store was salvaged.
//!
//! The damaged store must stay as it is, which its adapter sees to. What comes of it is opened, checked, and judged by what could
//! still be read before.

use super::{LifeEnd, Run, kind_word};
use crate::fault::FileClass;
use crate::oracle::{Finding, Label, Observed};
use crate::scenario::Check;
use std::ops::Bound;

/// Keys that one damaged record of a log may have written: as many as a batch has entries.
const KEYS_OF_A_RECORD: usize = 8;

impl Run {
    /// The store is closed. `seen` is what it showed when it was open last, if it could be opened.
    pub(super) fn salvage(&self, seen: Option<Observed>) -> Result<(), LifeEnd> {
        if !self.plan.checks(Check::Salvage) || !self.kind.salvages() {
            return Ok(());
        }
        if self.crashed() {
            return Err(LifeEnd::Crashed);
        }
        self.calm();
        const TARGET: &str = "salvaged";
        let clock = self.world.clock_mark();
        let result = self.kind.salvage(&self.world, TARGET, &self.plan.options).and_then(|()| {
            let store = self.kind.open_copy(&self.world, TARGET, &self.plan.options)?;
            let all = store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX);
            let checked = store.check();
            let closed = store.close();
            all.and_then(|all| checked.and(closed).map(|()| all))
        });
        let all = result.map_err(|failure| {
            let symptom = format!("a damaged store cannot be salvaged: {}", failure.message);
            self.fail(Finding::new("salvage-failed", kind_word(failure.kind), symptom))
        })?;
        let (of_logs, of_tables, of_lists) = self.with_circumstances(|circumstances| {
            let count = |wanted: fn(FileClass) -> bool| {
                circumstances.damage.iter().filter(|damage| wanted((circumstances.classify)(damage.name()))).count()
            };
            (
                count(|class| class == FileClass::Wal),
                count(|class| matches!(class, FileClass::Sst | FileClass::Blob)),
                count(|class| !matches!(class, FileClass::Wal | FileClass::Sst | FileClass::Blob)),
            )
        });
        // What was in memory alone has to come from the log.
        let seen = seen.filter(|_| of_logs + of_lists == 0);
        let missing_max = (of_tables + of_lists == 0).then_some(of_logs * KEYS_OF_A_RECORD);
        let timing = self.world.timing(clock);
        let digest = self.oracle.lock().digest(&all.entries, Label::HARNESS);
        let digest = self.judge(digest)?;
        let judged = self.oracle.lock().judge_salvaged(&digest, seen.as_ref(), missing_max, timing);
        self.judge(judged)
    }
}
