//! Looks from outside: a client reads everything beside the store that is open, as another process does.
//!
//! It must see the store as it was after some write, with all that was acknowledged before it began to look. What it has seen
//! binds nobody: a write that was under way may still fail. That the look itself changes no file is for the store's adapter to see.

use super::{LifeEnd, Run};
use crate::oracle::Label;
use crate::store::Store;

impl Run {
    /// The operation `look`.
    pub(super) fn look(&self, store: &dyn Store, anew: bool, label: Label) -> Result<(), LifeEnd> {
        let (clock, read) = (self.world.clock_mark(), self.oracle.lock().begin_outside(label));
        let result = store.look(label.client, anew);
        if result.is_err() || self.crashed() {
            self.oracle.lock().give_up_outside();
        }
        self.heard(&result, "look", |result| result.at.unwrap_or(0))?;
        let Ok(result) = result else { return Ok(()) };
        let read = read.timed(self.world.timing(clock));
        let at = result.at.expect("who offers looks tells their sequence numbers");
        let judged = self.oracle.lock().end_outside(read, at, &result.entries);
        self.judge(judged)
    }
}
