//! What must be in a store that was made of what is left of a damaged one.
//!
//! Nothing may be in it that was not written under its key. What could still be read of the damaged store must be in it, as it was
//! read. And where nothing but records of the log were damaged, no more than these may be missing.
//!
//! Not verified: what could not be read any more, but for the last rule. It may be missing, or have a value that it had before.

use super::{Digest, Fate, Finding, Observed, Oracle};
use crate::clock::Timing;
use crate::op::{EMPTY, KeyId, Stamp, TOMBSTONE};

impl Oracle {
    /// Judges the keys and values of a salvaged store. `seen` is what the damaged one still showed, if that must be there, and
    /// `missing_max` how many keys may not have the value that was last acknowledged, if that is known. Values may have expired
    /// by what `timing` tells of the clocks.
    pub fn judge_salvaged(
        &mut self,
        digest: &Digest,
        seen: Option<&Observed>,
        missing_max: Option<usize>,
        timing: Timing,
    ) -> Result<(), Finding> {
        self.checks += self.keys.count() as u64;
        let mut found = vec![TOMBSTONE; self.keys.count()];
        for &(key, stamp) in digest {
            found[key as usize] = stamp;
            if stamp != EMPTY && !self.entries.contains(&(key, stamp)) {
                let symptom =
                    format!("the salvaged store has a value for {} that was written elsewhere", self.key_text(key));
                return Err(Finding::new("salvage-made-something-up", "", symptom).about(self.keys.bytes(key)));
            }
        }
        let may_be_over = |key: KeyId, stamp: Stamp| {
            let mut versions = self.versions[key as usize].iter();
            versions.any(|version| version.stamp == stamp && version.expires_ms <= timing.time_max_ms)
        };
        if let Some(seen) = seen {
            let mut shown = vec![TOMBSTONE; self.keys.count()];
            seen.digest.iter().for_each(|&(key, stamp)| shown[key as usize] = stamp);
            let differs = |key: &KeyId| {
                let (found, shown) = (found[*key as usize], shown[*key as usize]);
                found != shown && !seen.unreadable.contains(key) && !(found == TOMBSTONE && may_be_over(*key, shown))
            };
            if let Some(key) = (0..self.keys.count() as KeyId).find(differs) {
                let class = match (found[key as usize], shown[key as usize]) {
                    (TOMBSTONE, _) => "value missing",
                    (_, TOMBSTONE) => "deleted key is back",
                    _ => "another value",
                };
                let symptom = format!(
                    "{} can be read in the damaged store, and the salvaged one shows something else",
                    self.key_text(key)
                );
                return Err(Finding::new("salvage-lost-what-was-whole", class, symptom).about(self.keys.bytes(key)));
            }
        }
        let Some(missing_max) = missing_max else { return Ok(()) };
        let is_missing = |key: &KeyId| {
            let newest = self.versions[*key as usize].last();
            let sure = newest.filter(|newest| self.writes[newest.write as usize].fate == Fate::Acknowledged);
            let written = sure.filter(|newest| newest.seq <= self.durable && newest.stamp != TOMBSTONE);
            let found = found[*key as usize];
            let over = |stamp| found == TOMBSTONE && may_be_over(*key, stamp);
            written.is_some_and(|newest| newest.stamp != found && !over(newest.stamp))
        };
        let missing: Vec<KeyId> = (0..self.keys.count() as KeyId).filter(is_missing).collect();
        if missing.len() <= missing_max {
            return Ok(());
        }
        let symptom = format!(
            "{} keys do not have what was last acknowledged, though damaged records explain {missing_max} at most; the first is {}",
            missing.len(),
            self.key_text(missing[0])
        );
        Err(Finding::new("salvage-lost-what-was-whole", "of a log", symptom).about(self.keys.bytes(missing[0])))
    }
}
