//! A store that goes on around what is damaged: what it has noted as damaged stays so, and is there for whoever mends it, from one
//! opening to the next.

use super::{LifeEnd, Run};
use crate::invariants::files_on_disk;
use crate::oracle::Finding;
use crate::store::CheckReport;

impl Run {
    /// Nobody mends a file in a simulation, and no power is cut before what is noted is durable: so a quarantine is for good, unless
    /// all that the file belongs to is dropped.
    pub(super) fn see_that_quarantine_lasts(&self, report: &CheckReport) -> Result<(), LifeEnd> {
        let forgotten = {
            let mut court = self.court.lock();
            let gone = court.quarantined.iter().find(|name| !report.quarantined.contains(name)).cloned();
            court.quarantined.extend(report.quarantined.iter().cloned());
            gone
        };
        let Some(name) = forgotten else { return Ok(()) };
        let rest = if files_on_disk(&self.world).contains(&name) { "forgotten to be so" } else { "removed" };
        let symptom = format!("{name} was in quarantine, and is {rest}");
        Err(self.fail(Finding::new("quarantine-forgotten", "", symptom)))
    }
}
