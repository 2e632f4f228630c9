//! `shake nth`: every call to the file system fails once, in every way.

use super::explore::{ExploreArgs, plan_of};
use super::{dress, kind_of};
use clap::Args;
use shaketable::cpu;
use shaketable::explore::nth;
use std::io::IsTerminal;
use std::path::Path;

#[derive(Args)]
pub(crate) struct NthArgs {
    /// Scenarios, or SCENARIO#SEED, whose workload is run without its own faults; a small one of every operation where none
    /// is given.
    scenario: Vec<String>,
    #[command(flatten)]
    explore: ExploreArgs,
}

pub(crate) fn run(dir: &Path, args: &NthArgs) -> Result<bool, String> {
    let mut plans = Vec::new();
    for what in &args.scenario {
        plans.push(plan_of(dir, what)?);
    }
    if plans.is_empty() {
        let kind = kind_of("strata")?;
        plans.push((nth::small_plan(kind.as_ref()), kind));
    }
    let dress = dress(std::io::stdout().is_terminal());
    let deadline = args.explore.deadline();
    let (mut all, mut found) = (Vec::new(), Vec::new());
    for (plan, kind) in plans {
        let explored = nth::explore(&plan, &kind, args.explore.jobs(), deadline);
        let (text, failures) = args.explore.tell(&mut explored.found(), &kind, dress)?;
        found.extend(failures);
        if args.explore.json {
            all.push(explored.json());
        } else {
            print!("{}{text}", explored.text());
            println!("{}", if text.is_empty() { dress.good("no failure") } else { dress.bad("failures, see above") });
        }
    }
    if args.explore.json {
        let seconds = cpu::process_time().as_secs_f64();
        println!("{:#}", serde_json::json!({ "plans": all, "failures": found, "core_seconds": seconds }));
    }
    Ok(found.is_empty())
}
