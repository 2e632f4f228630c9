//! `shake exhaust`: every sequence of a few operations up to a length, crashed at every change of the disk.

use super::explore::ExploreArgs;
use super::{dress, kind_of};
use clap::Args;
use shaketable::campaign::real_now;
use shaketable::cpu;
use shaketable::disk::Profile;
use shaketable::explore::exhaust;
use std::io::IsTerminal;

/// The longest that takes well below a minute.
const LENGTH: usize = 4;

#[derive(Args)]
pub(crate) struct ExhaustArgs {
    /// Operations of the longest sequences: with each more there are nine times as many.
    #[arg(long, value_name = "N", default_value_t = LENGTH)]
    length: usize,
    /// What a power cut may leave: the name of a profile, as in scenarios.
    #[arg(long, value_name = "PROFILE", default_value = "posix-weak")]
    profile: Profile,
    /// The store.
    #[arg(long, value_name = "NAME", default_value = "strata")]
    store: String,
    #[command(flatten)]
    explore: ExploreArgs,
}

pub(crate) fn run(args: &ExhaustArgs) -> Result<bool, String> {
    let kind = kind_of(&args.store)?;
    let dress = dress(std::io::stdout().is_terminal());
    let (jobs, deadline) = (args.explore.jobs(), args.explore.deadline());
    let started = real_now();
    let explored = exhaust::explore(&kind, args.profile, args.length, jobs, deadline);
    let seconds = (real_now() - started).as_secs_f64();
    let (mut text, mut failures) = (String::new(), Vec::new());
    for (found, count) in explored.found() {
        let (told, json) = args.explore.telling(dress).tell(&found.artifact.plan.scenario, &kind, found, count)?;
        text.push_str(&told);
        failures.push(json);
    }
    let passed = failures.is_empty();
    if args.explore.json {
        let mut json = explored.json();
        json["failures"] = failures.into();
        json["seconds"] = seconds.into();
        json["core_seconds"] = cpu::process_time().as_secs_f64().into();
        json["jobs"] = jobs.into();
        println!("{json:#}");
    } else {
        print!("{}{text}", explored.text());
        let verdict = if passed { dress.good("no failure") } else { dress.bad("failures, see above") };
        println!("{verdict}, in {seconds:.2} s on {jobs} threads");
    }
    Ok(passed)
}
