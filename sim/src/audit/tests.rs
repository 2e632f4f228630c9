//! The auditor, audited: each sync of a store that needs all of its syncs is missed.

use super::*;
use crate::runner::toy::{Flaw, ToyKind};
use crate::strata::StrataKind;
use std::path::Path;

fn subject() -> Subject {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::None));
    let scenarios = [
        "faults = [{ kind = 'power-loss', every_ops = [20, 200] }]",
        "faults = [{ kind = 'process-crash', every_ops = [20, 200] }, { kind = 'power-loss', every_ops = [100, 300] }]",
    ];
    let scenario = |(number, faults): (usize, &str)| {
        let text = format!("about = 'Tests.'\noptions = {{ durability = ['always', 'buffered'] }}\n{faults}");
        (Scenario::parse(&format!("test-{number}"), &text).expect("a scenario"), kind.clone())
    };
    Subject { scenarios: scenarios.into_iter().enumerate().map(scenario).collect() }
}

#[test]
fn every_sync_of_the_toy_store_is_missed_and_the_number_of_threads_changes_nothing() {
    let subject = subject();
    let sites = subject.sites();
    assert!(sites.len() >= 4, "{sites:?}");
    let audit = |jobs| subject.audit(&sites, Duration::from_secs(60), jobs, &|_| ());
    let (one, two) = (audit(1), audit(2));
    for (one, two) in one.iter().zip(&two) {
        assert!(one.noticed.is_some(), "nobody misses the {} in {} runs", one.site, one.runs);
        assert_eq!((&one.site, one.runs, &one.noticed), (&two.site, two.runs, &two.noticed));
    }
    assert_eq!((one.len(), two.len()), (sites.len(), sites.len()));
}

#[test]
fn a_sync_is_left_out_in_the_scenarios_that_ask_for_it() {
    let subject = subject();
    let sites = subject.sites();
    let (site, asked) = sites.first_key_value().expect("the toy syncs");
    assert_eq!(asked.by, [0, 1].into(), "both come to it");
    for only in [0, 1] {
        let asked = Asked { times: 1, by: [only].into() };
        let noticed = subject.without(site, &asked, Duration::from_secs(60)).noticed.expect("it is missed");
        assert_eq!(noticed.scenario, subject.scenarios[only].0.name);
    }
}

#[test]
fn a_sync_that_no_run_asks_for_is_missed_by_nobody() {
    let subject = subject();
    let asked = subject.sites();
    let (site, asked) = asked.first_key_value().expect("the toy syncs");
    let nowhere = SyncSite { line: site.line + 100_000, ..site.clone() };
    let verdict = subject.without(&nowhere, asked, Duration::from_millis(50));
    assert!(verdict.noticed.is_none() && verdict.runs > 0, "{verdict:?}");
}

#[test]
fn what_is_said_to_be_needless_is_about_syncs_that_strata_has() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let needless = Needless::load(&needless::home(), &root).expect("a list whose lines are in the source");
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let scenario = "about = 'Tests.'\nclients = 2\noptions = { durability = { periodic_ms = 1 } }\n";
    let subject = Subject { scenarios: vec![(Scenario::parse("test", scenario).expect("a scenario"), kind)] };
    let verdicts = subject.sites().into_iter().map(|(site, asked)| Verdict {
        site,
        asked: asked.times,
        runs: 1,
        spent: Duration::ZERO,
        noticed: None,
    });
    let excused = verdicts.filter(|verdict| matches!(verdict.standing(&needless), Standing::NotNeeded(_))).count();
    assert_eq!(excused, 1, "each claim is about one sync that a run asks for");
}
