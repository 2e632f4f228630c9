//! The version of the store's format: it is raised while the store is in use, and never goes back, whatever crashes.

use super::{LifeEnd, Run};
use crate::oracle::Finding;
use crate::store::Store;

impl Run {
    /// The operation `upgrade`.
    pub(super) fn upgrade(&self, store: &dyn Store) -> Result<(), LifeEnd> {
        let result = store.upgrade();
        self.heard(&result, "upgrade", |()| 0)?;
        if result.is_ok() {
            self.court.lock().format_version = store.format_version();
        }
        Ok(())
    }

    /// After the store was opened. Once shown, a version is durable like one that was acknowledged: files may need it from then on.
    pub(super) fn see_that_the_version_lasts(&self, store: &dyn Store) -> Result<(), LifeEnd> {
        let found = store.format_version();
        let known = std::mem::replace(&mut self.court.lock().format_version, found);
        if found >= known || self.with_circumstances(|circumstances| circumstances.may_forget_its_version()) {
            return Ok(());
        }
        let symptom = format!("the store has format version {found}, and was upgraded to {known} before");
        Err(self.fail(Finding::new("version-went-back", "", symptom)))
    }
}
