//! `shake schedules`: all schedules of a small workload with at most so many departures from the plain one.

use super::explore::{ExploreArgs, plan_of};
use super::{dress, kind_of};
use clap::Args;
use shaketable::explore::schedules;
use std::io::IsTerminal;
use std::path::Path;

#[derive(Args)]
pub(crate) struct SchedulesArgs {
    /// A scenario, or SCENARIO#SEED, whose workload is run without its faults; a small one of two clients where none is given.
    scenario: Option<String>,
    /// The most departures: preemptions, and other choices than the longest waiting task.
    #[arg(long, value_name = "N", default_value_t = 1)]
    bound: usize,
    /// Only so many operations of each client: the number of schedules grows with their power.
    #[arg(long, value_name = "N", default_value_t = 6)]
    ops: usize,
    /// Switches at the yield points that the code names only, and not at system calls.
    #[arg(long)]
    named: bool,
    #[command(flatten)]
    explore: ExploreArgs,
}

pub(crate) fn run(dir: &Path, args: &SchedulesArgs) -> Result<bool, String> {
    let (plan, kind) = match &args.scenario {
        Some(what) => {
            let (mut plan, kind) = plan_of(dir, what)?;
            plan.clients.iter_mut().for_each(|ops| ops.truncate(args.ops));
            (plan, kind)
        }
        None => {
            let kind = kind_of("strata")?;
            (schedules::small_plan(kind.as_ref()), kind)
        }
    };
    let dress = dress(std::io::stdout().is_terminal());
    let how = (args.bound, args.named);
    let search = schedules::explore(&plan, &kind, how, args.explore.jobs(), args.explore.deadline());
    let (text, failures) = args.explore.tell(&mut search.found.iter(), &kind, dress)?;
    if args.explore.json {
        let mut json = search.json();
        json["failures"] = failures.into();
        println!("{json:#}");
    } else {
        print!("{}{text}", search.text());
        println!("{}", if text.is_empty() { dress.good("no failure") } else { dress.bad("failures, see above") });
    }
    Ok(text.is_empty())
}
