//! What the subcommands that explore have in common: which plans they take, and how they tell what was found.

use super::sweep::Telling;
use super::{find, kind_of, save};
use clap::Args;
use shaketable::console::COMMAND;
use shaketable::explore::Found;
use shaketable::report::{self, Dress};
use shaketable::rng::Decisions;
use shaketable::shrink::shrink;
use shaketable::store::StoreKind;
use shaketable::workload::{self, Plan};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How an exploration is run and told of.
#[derive(Args)]
pub(crate) struct ExploreArgs {
    /// For how long: 60s, 5m, 8h.
    #[arg(long, value_name = "TIME", value_parser = super::duration)]
    pub(crate) time: Option<Duration>,
    /// OS threads; all cores where it is not given.
    #[arg(long, short)]
    jobs: Option<usize>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// How long each failure may be shrunk; 0s leaves it as it is.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = super::duration)]
    shrink: Duration,
    /// Where shrunk failures are written.
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
}

impl ExploreArgs {
    pub(crate) fn jobs(&self) -> usize {
        self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)).max(1)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.time.map(|time| shaketable::campaign::real_now() + time)
    }

    /// How failures of sweeps are told of.
    pub(super) fn telling(&self, dress: Dress) -> Telling<'_> {
        Telling { shrink: self.shrink, artifacts: self.artifacts.as_deref(), visible: !self.json, dress }
    }

    /// Tells of the first failure of each kind, shrunk and written down. Returns text for people, and JSON for programs.
    pub(crate) fn tell(
        &self,
        found: &mut dyn Iterator<Item = &Found>,
        kind: &Arc<dyn StoreKind>,
        dress: Dress,
    ) -> Result<(String, Vec<serde_json::Value>), String> {
        let (mut text, mut all) = (String::new(), Vec::new());
        let mut known = BTreeSet::new();
        for found in found {
            let failure = found.report.failure.as_ref().expect("what was found is a failure");
            let name = format!("{} ({})", found.trial.plan.scenario, found.what);
            if !known.insert(failure.finding.fingerprint()) {
                text.push_str(&format!("failed too: {name} {}\n", failure.finding.fingerprint()));
                continue;
            }
            text.push_str(&report::failure_block(&name, failure, found.report.planned, dress));
            let shrunk = shrink(&found.trial.plan, None, &found.report, kind, self.shrink, &mut |_| {});
            let path = save(&shrunk, self.artifacts.as_deref())?;
            text.push_str(&report::shrunk_lines(&shrunk, path.as_deref()));
            text.push_str(&report::artifact_lines(&shrunk.artifact));
            all.push(serde_json::json!({
                "scenario": found.trial.plan.scenario,
                "what": found.what,
                "fingerprint": failure.finding.fingerprint(),
                "symptom": failure.finding.symptom,
                "artifact": path.as_ref().map(|path| path.display().to_string()),
                "replay": path.as_ref().map(|path| format!("{COMMAND} replay {}", path.display())),
            }));
        }
        Ok((text, all))
    }
}

/// The plan of a seed, as `SCENARIO#SEED` or a scenario alone names it, and its store.
pub(crate) fn plan_of(dir: &Path, what: &str) -> Result<(Plan, Arc<dyn StoreKind>), String> {
    let (name, seed) = match what.rsplit_once('#') {
        Some((name, seed)) => (name, seed.parse().map_err(|_| format!("{seed:?} is no seed"))?),
        None => (what, 0),
    };
    let scenario = find(dir, name)?;
    let kind = kind_of(&scenario.store)?;
    let plan = workload::plan(&scenario, kind.as_ref(), &mut Decisions::from_seed(seed));
    Ok((plan, kind))
}
