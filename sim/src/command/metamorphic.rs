//! `shake metamorphic`: the same operations under several sets of options, whose answers must be the same.

use super::explore::ExploreArgs;
use super::{dress, find, kind_of, load, seeds};
use clap::Args;
use shaketable::explore::metamorphic;
use shaketable::seeds::Seeds;
use std::io::IsTerminal;
use std::path::Path;

#[derive(Args)]
pub(crate) struct MetamorphicArgs {
    /// Scenarios by name, whose workloads are run without faults; all where none is given.
    scenario: Vec<String>,
    /// How many seeds of each, or which: N or A..B.
    #[arg(long, value_name = "N | A..B", default_value = "20", value_parser = seeds)]
    seeds: Seeds,
    /// How many other sets of options: the smallest of everything, the largest of everything, then any.
    #[arg(long, value_name = "N", default_value_t = 4)]
    variants: usize,
    #[command(flatten)]
    explore: ExploreArgs,
}

pub(crate) fn run(dir: &Path, args: &MetamorphicArgs) -> Result<bool, String> {
    if args.seeds.range.end == u64::MAX {
        return Err("--seeds must come to an end here, such as 20 or 100..200".into());
    }
    let scenarios = match args.scenario.as_slice() {
        [] => load(dir)?,
        names => names.iter().map(|name| find(dir, name)).collect::<Result<_, _>>()?,
    };
    let dress = dress(std::io::stdout().is_terminal());
    let (jobs, deadline) = (args.explore.jobs(), args.explore.deadline());
    let (mut all, mut passed) = (Vec::new(), true);
    for scenario in &scenarios {
        let kind = kind_of(&scenario.store)?;
        let how = (args.seeds.range.clone(), args.variants);
        let explored = metamorphic::explore(scenario, &kind, how, jobs, deadline);
        let (text, failures) = args.explore.tell(&mut explored.found.iter(), &kind, dress)?;
        passed &= failures.is_empty();
        if args.explore.json {
            let mut json = explored.json();
            json["failures"] = failures.into();
            all.push(json);
        } else {
            print!("{}{text}", explored.text());
        }
    }
    if args.explore.json {
        println!("{:#}", serde_json::Value::from(all));
    } else {
        println!("not covered: faults and crashes, and options that the store does not name as wild");
        println!("{}", if passed { dress.good("no difference") } else { dress.bad("differences, see above") });
    }
    Ok(passed)
}
