//! A scenario that was written for one store, run on another.
//!
//! What carries over is what the name of the scenario says: the workload, what goes wrong, what a crash may keep. Options that
//! the other store does not have are left out, and its own are varied instead. A scenario in which something goes wrong of
//! which the store promises nothing, or which strikes files that it does not have, or which runs transactions that it does not
//! have, is refused with the reason.

use crate::scenario::Scenario;
use crate::store::StoreKind;
use crate::workload::lack;

/// What stands between the name of a scenario and the store that it was transferred to.
const AT: char = '@';

/// A scenario on its new store.
#[derive(Clone, Debug)]
pub struct Transferred {
    /// Its name ends with `@` and the name of the store; whoever looks it up by that name finds it: see [`origin`].
    pub scenario: Scenario,
    /// Options that were left out.
    pub left_out: Vec<String>,
}

/// The name of the scenario that was transferred, and of the store, if this is the name of such a one.
pub fn origin(name: &str) -> Option<(&str, &str)> {
    name.rsplit_once(AT)
}

/// The scenario on this store, or the reason why it says nothing about it. A scenario of this store stays as it is.
pub fn transfer(mut scenario: Scenario, kind: &dyn StoreKind) -> Result<Transferred, String> {
    if scenario.store == kind.name() {
        return Ok(Transferred { scenario, left_out: Vec::new() });
    }
    if let Some(lack) = lack(&scenario, kind) {
        return Err(format!("{} has no {lack}", kind.name()));
    }
    if let Some(rule) = scenario.faults.iter().find(|rule| !kind.withstands(rule.kind())) {
        return Err(format!("{} promises nothing where a {} strikes", kind.name(), rule.kind().name()));
    }
    if !scenario.profile.syncs_are_honest() || scenario.faults.iter().any(|rule| rule.may_lie()) {
        return Err("the disk lies about what is durable".into());
    }
    let classes = kind.classes();
    if let Some(rule) = scenario.faults.iter().find(|rule| !rule.can_strike(&classes)) {
        return Err(format!("its {} is meant for files that {} does not have", rule.kind().name(), kind.name()));
    }
    let names = kind.option_names();
    let mut left_out = Vec::new();
    let mut options = kind.varied_options();
    for (name, value) in std::mem::take(&mut scenario.options) {
        if names.contains(&name) {
            options.insert(name, value);
        } else {
            left_out.push(name);
        }
    }
    scenario.options = options;
    scenario.store = kind.name().to_string();
    scenario.name = format!("{}{AT}{}", scenario.name, kind.name());
    Ok(Transferred { scenario, left_out })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::{FaultKind, FileClass};
    use crate::store::{Failure, Store};
    use crate::world::World;
    use std::sync::Arc;

    /// A store with one file and one option, which promises nothing about bits that flip.
    struct Small;

    impl StoreKind for Small {
        fn name(&self) -> &str {
            "small"
        }

        fn classes(&self) -> Vec<FileClass> {
            vec![FileClass::Wal, FileClass::Directory]
        }

        fn withstands(&self, fault: FaultKind) -> bool {
            fault != FaultKind::BitFlip
        }

        fn option_names(&self) -> Vec<String> {
            vec!["cache_bytes".into(), "mode".into()]
        }

        fn varied_options(&self) -> toml::Table {
            "cache_bytes = 1\nmode = ['a', 'b']".parse().expect("options")
        }

        fn open(&self, _world: &World, _options: &toml::Table) -> Result<Arc<dyn Store>, Failure> {
            unreachable!("a transfer opens nothing")
        }
    }

    fn transferred(text: &str) -> Result<Transferred, String> {
        transfer(Scenario::parse("it-rains", &format!("about = 'Rain.'\n{text}")).expect("a scenario"), &Small)
    }

    #[test]
    fn options_that_the_other_store_has_are_kept_and_its_own_are_varied() {
        let Transferred { scenario, left_out } =
            transferred("options = { cache_bytes = [0, 9], memtable_bytes = 5 }").expect("a scenario for it");
        assert_eq!((scenario.name.as_str(), scenario.store.as_str()), ("it-rains@small", "small"));
        assert_eq!(origin(&scenario.name), Some(("it-rains", "small")));
        assert_eq!(scenario.options.to_string().trim(), "cache_bytes = [0, 9]\nmode = [\"a\", \"b\"]");
        assert_eq!(left_out, ["memtable_bytes"]);
    }

    #[test]
    fn a_scenario_of_the_store_itself_stays_as_it_is() {
        let Transferred { scenario, left_out } =
            transferred("store = 'small'\noptions = { mode = 'a' }").expect("its own");
        assert_eq!((scenario.name.as_str(), scenario.options.len()), ("it-rains", 1));
        assert!(left_out.is_empty());
    }

    #[test]
    fn what_says_nothing_about_the_store_is_refused() {
        let refused = |faults: &str| transferred(&format!("faults = [{faults}]")).expect_err("refused");
        insta::assert_snapshot!(refused("{ kind = 'bit-flip', chance = 0.1 }"), @"small promises nothing where a bit-flip strikes");
        insta::assert_snapshot!(refused("{ kind = 'io-error', on = 'write', classes = ['sst'], chance = 0.1 }"), @"its io-error is meant for files that small does not have");
        insta::assert_snapshot!(refused("{ kind = 'fsync-loss', chance = 0.1 }"), @"the disk lies about what is durable");
        let transactions = transferred("workload = [{ op = 'put' }, { op = 'transaction' }]").expect_err("refused");
        assert_eq!(transactions, "small has no transactions");
        assert!(
            transferred("faults = [{ kind = 'io-error', on = 'write', classes = ['sst', 'wal'], chance = 0.1 }]")
                .is_ok()
        );
    }
}
