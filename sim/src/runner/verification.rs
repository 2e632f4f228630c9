//! A store that is in use looks for damage, and is judged by the ledger of what was really done to its files.
//!
//! * Every damage that was there before it began, and lies in a byte that counted all the while, is found.
//! * Nothing is found in a file that was not struck, and nothing is unreadable that no call was refused of.

use super::{LifeEnd, Run, kind_word};
use crate::oracle::Finding;
use crate::store::{Failure, Store, Verified};

impl Run {
    /// The operation `verify`.
    pub(super) fn look_for_damage(&self, store: &dyn Store) -> Result<(), LifeEnd> {
        let begun = self.world.calls();
        let result = store.verify();
        self.heard(&result, "verify", |found| found.files.len() as u64)?;
        let Ok(found) = result else { return Ok(()) };
        self.world.note(found.damage.len() as u64, || format!("{} found damaged", found.damage.len()));
        found.damage.iter().try_for_each(|damage| self.see_that_it_was_done(damage))?;
        self.see_that_all_is_found(&found, begun)
    }

    fn see_that_it_was_done(&self, damage: &Failure) -> Result<(), LifeEnd> {
        let sentences = self.with_circumstances(|circumstances| {
            if circumstances.explain_found(damage) { None } else { Some(circumstances.sentences()) }
        });
        let Some(sentences) = sentences else { return Ok(()) };
        let symptom = format!("a verification finds damage where none was done: {}", damage.message);
        let mut finding = Finding::new("damage-without-a-cause", kind_word(damage.kind), symptom);
        finding.details.extend(sentences);
        Err(self.fail(finding))
    }

    fn see_that_all_is_found(&self, found: &Verified, begun: u64) -> Result<(), LifeEnd> {
        let missed = self.world.with_disk(|disk| {
            let damage = disk.damage().iter().filter(|damage| damage.call < begun && disk.still_shows(damage));
            let mut missed = damage.filter(|damage| {
                let path = disk.path_of(damage.ino);
                let name = path.rsplit('/').next().unwrap_or_default();
                // A copy of the store has files of these names as well.
                let is_ours = disk.leads_to(&format!("db/{name}"), damage.ino);
                let counts = is_ours && found.files.get(name).is_some_and(|&bytes| damage.bytes.start < bytes);
                counts && !found.damage.iter().any(|other| other.file.as_deref() == Some(name))
            });
            missed.next().map(ToString::to_string)
        });
        let Some(missed) = missed else { return Ok(()) };
        let finding = Finding::new("damage-not-found", "verify", format!("a verification does not find that {missed}"))
            .with(format!("it has read {} files back", found.files.len()));
        Err(self.fail(finding))
    }
}
