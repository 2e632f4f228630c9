//! Pages of real runs: they tell what happened, and are whole, closed and small.

use super::*;
use crate::artifact::{self, Artifact};
use crate::campaign::{Done, Totals};
use crate::explain::{Witnessed, look};
use crate::fault::Phase;
use crate::report::totals_json;
use crate::results::{Found, Results};
use crate::rng::Decisions;
use crate::runner::toy::{Flaw, ToyKind};
use crate::runner::{RunOptions, run_seed};
use crate::scenario::Scenario;
use crate::shrink::shrink;
use crate::store::StoreKind;
use crate::strata::StrataKind;
use crate::workload;
use std::sync::Arc;
use std::time::Duration;

/// Elements that hold nothing and may stand without an end.
const VOID: [&str; 2] = ["!doctype", "meta"];

/// Every element that is opened is closed, in order; what is within a script or a style sheet is no markup.
fn assert_whole(page: &str) {
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page;
    while let Some(start) = rest.find('<') {
        rest = &rest[start + 1..];
        let end = rest.find('>').expect("a tag ends");
        let tag = &rest[..end];
        rest = &rest[end + 1..];
        let name = tag.trim_start_matches('/').split([' ', '/']).next().unwrap_or_default();
        if tag.starts_with('/') {
            assert_eq!(open.pop(), Some(name), "a tag is closed that was opened last");
        } else if !tag.ends_with('/') && !VOID.contains(&name) {
            open.push(name);
        }
        if matches!(tag, "script" | "style") {
            rest = &rest[rest.find(&format!("</{tag}>")).expect("it ends")..];
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
    assert!(page.len() < BYTES_MAX, "{} bytes", page.len());
    for loads in ["http://", "https://", "src=", "url(", "@import", "<link"] {
        assert!(!page.contains(loads), "a page stands by itself, and this one has {loads:?}");
    }
}

fn strata() -> Arc<dyn StoreKind> {
    Arc::new(StrataKind)
}

#[test]
fn the_page_of_a_kept_regression_tells_its_story() {
    let artifact = || Artifact::load(&artifact::home().join("a-damaged-edit-hides-a-log.toml")).expect("an artifact");
    let page = run_page(&Subject::explained("corpus/regressions/a.toml", artifact(), &strata()));
    assert_whole(&page);
    for told in [
        "the store went back to sequence number 7, though everything up to 8 was promised",
        "cargo shake replay corpus/regressions/a.toml",
        "acknowledged-write-lost (after process crash)",
        "bits-flip-in-manifests#830",
        "<code>put k3 = #25:538</code>",
        "PROCESS CRASH",
        "<section class=\"disk\">",
        "db/CURRENT.tmp",
        "written, not synced",
        "Names a crash may take back",
        "no table yet",
        "&quot;fault.process-crash 147 = 1&quot;",
    ] {
        assert!(page.contains(told), "{told:?} is not told");
    }
    let again = run_page(&Subject::explained("corpus/regressions/a.toml", artifact(), &strata()));
    assert!(page == again, "the same run has the same page");
}

/// A failure of a store that acknowledges what is not synced.
fn failure() -> Subject {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::NoSync));
    let text = "about = 'Tests.'\nclients = 1\nkeys = 8\nchecks = ['oracle']\n\
                faults = [{ kind = 'power-loss', every_ops = [20, 200] }]";
    let scenario = Scenario::parse("test", text).expect("a scenario");
    let options = RunOptions { record: true, ..RunOptions::default() };
    let failing = (0..200).find(|&seed| run_seed(&scenario, &kind, seed, &options).failure.is_some());
    let seed = failing.expect("a store without syncs loses something");
    let plan = workload::plan(&scenario, kind.as_ref(), &mut Decisions::from_seed(seed));
    let report = run_seed(&scenario, &kind, seed, &options);
    let shrunk = shrink(&plan, Some(seed), &report, &kind, Duration::from_secs(10), &mut |_| {});
    Subject::explained(&format!("test#{seed}"), shrunk.artifact, &kind)
}

#[test]
fn the_page_of_a_failure_says_why() {
    let subject = failure();
    let page = run_page(&subject);
    assert_whole(&page);
    let edge = subject.edge.as_ref().expect("a failure is explained");
    for told in [edge.sentence(), edge.sites()[0].clone(), "POWER LOSS".into(), "<div class=\"lost\">".into()] {
        assert!(page.contains(&told), "{told:?} is not told");
    }
}

#[test]
fn the_page_of_a_long_run_stays_small_and_says_what_it_leaves_out() {
    let text = "about = 'Tests.'\nops = 300\nclients = 2\n\
                workload = [{ op = 'put', weight = 8, keys = 300 }, { op = 'compact' }, { op = 'reopen' }]\n\
                faults = [{ kind = 'power-loss', every_ops = [300, 600] }]";
    let scenario = Scenario::parse("test", text).expect("a scenario");
    let seen = |seed: u64| {
        let mut decisions = Decisions::from_seed(seed);
        let plan = workload::plan(&scenario, &StrataKind, &mut decisions);
        let witnessed = look(&plan, &strata(), decisions);
        (plan, witnessed)
    };
    // Not every seed draws an operation that closes the store.
    let meets_all = |witnessed: &Witnessed| {
        let met = |phase: Phase| witnessed.report.exposures.iter().any(|cell| cell.phase == phase);
        Phase::ALL.into_iter().all(met)
    };
    let long = (0..8).map(seen).find(|(_, witnessed)| meets_all(witnessed));
    let (plan, witnessed) = long.expect("a run that opens, flushes, compacts and closes is seen to do so");
    let artifact = Artifact {
        symptom: String::new(),
        fingerprint: String::new(),
        seed: Some(1),
        plan,
        decisions: witnessed.report.decisions.clone(),
    };
    let page = run_page(&Subject::seen("test#1", artifact, witnessed));
    assert_whole(&page);
    for told in [
        "Nothing went wrong in this run",
        "<b>L0</b><i></i>",
        "between them are left out",
        "between the first and the last are left out",
    ] {
        assert!(page.contains(told), "{told:?} is not told");
    }
}

#[test]
fn the_page_of_a_campaign_shows_what_was_never_tried() {
    let text = "about = 'Tests.'\nops = 60\nfaults = [{ kind = 'power-loss', every_ops = [50, 200] }]";
    let scenario = Scenario::parse("test", text).expect("a scenario");
    let mut totals = Totals::default();
    for seed in 0..4 {
        let report = run_seed(&scenario, &strata(), seed, &RunOptions::default());
        totals.add(&Done { scenario: 0, seed, report, divergence: None, grown: None, took: Duration::from_millis(1) });
    }
    let subject = failure();
    let run = subject.witnessed.report.failure.as_ref().expect("a failure");
    let found = Found::new("test", subject.artifact.seed.expect("a seed"), run, Duration::from_secs(2));
    let strange = Found { fingerprint: "<script>".into(), symptom: "k1 = \"</p>\"".into(), ..found.clone() };
    let results = Results {
        shards: [("0..".to_string(), ["1/1".to_string()].into())].into(),
        scenarios: vec![totals_json("test", &totals)],
        failures: vec![found, strange],
        ..Results::default()
    };
    let page = campaign_page(&results, std::slice::from_ref(&subject));
    assert_whole(&page);
    let never = totals.coverage.never_reached();
    for told in [
        never[0],
        "Never reached",
        "<p class=\"symptom\">k1 = &quot;&lt;/p&gt;&quot;</p>",
        "<h3>&lt;script&gt;</h3>",
        "The run, step by step",
        "id=\"f0-call-",
        "href=\"#f0-call-",
        "<td title=\"bit-flip at wal: opening 0, running 0,",
    ] {
        assert!(page.contains(told), "{told:?} is not told");
    }
    let struck: u64 = totals.struck.values().sum();
    assert_eq!(struck, totals.faults.values().sum::<u64>(), "each fault has its cell");
    assert!(struck > 0 && page.contains("<i class=\"c1\"></i>"), "faults struck, and are shown");
    // Merged shards have the page of one campaign, but for the times.
    let mut merged = Results { failures: Vec::new(), ..results.clone() };
    let second = Results { shards: [("9..".to_string(), ["1/1".to_string()].into())].into(), ..merged.clone() };
    merged.merge(second).expect("sums");
    let cells = merged.scenarios[0]["exposed_calls"]["wal"]["running"].as_u64();
    assert_eq!(cells, Some(2 * totals.exposed[&(crate::fault::FileClass::Wal, Phase::Running)]));
}
