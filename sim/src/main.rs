//! `shake`: runs scenarios, replays failures, shrinks them. Each subcommand is a file of `command/`.
//!
//! Exit code 0: nothing was found. 1: a failure was found, and the line that replays it was printed. 2: wrong usage or a
//! broken environment.

mod command;

use clap::{Parser, Subcommand};
use shaketable::scenario;
use std::path::PathBuf;
use std::process::ExitCode;

/// A run makes a store and a disk, and lets go of all of it a few milliseconds later: an eighth of its time is spent here.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Parser)]
#[command(
    name = "shake",
    about = "Shakes a storage engine: crashes, torn writes, full disks, failing syncs, replayed exactly."
)]
struct Cli {
    /// The directory of the scenarios.
    #[arg(long, global = true, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs scenarios; without any argument all of them, for 30 seconds.
    Run(command::run::RunArgs),
    /// Adds up what the shards of a campaign found.
    Merge(command::merge::MergeArgs),
    /// Runs failures again: from a file, from SCENARIO#SEED, or all that a saved log tells of.
    Replay(command::replay::ReplayArgs),
    /// Tells why a failure fails: the story, and the order that is missing.
    Explain(command::explain::ExplainArgs),
    /// Makes a failure small, and writes it to corpus/regressions.
    Shrink(command::shrink::ShrinkArgs),
    /// Leaves out each sync of the store in turn, and says who noticed.
    Audit(command::audit::AuditArgs),
    /// Cuts the power at every change of the disk of one run, and recovers every canonical image.
    Sweep(command::sweep::SweepArgs),
    /// Plants real bugs of other engines one at a time, and says whether and how they are found.
    Zoo(command::zoo::ZooArgs),
    /// Runs every short sequence of a few operations, and cuts the power at every change of the disk.
    Exhaust(command::exhaust::ExhaustArgs),
    /// Fails every call to the file system in turn, in every way.
    Nth(command::nth::NthArgs),
    /// Runs all schedules of a small workload that depart from the plain one at most so many times.
    Schedules(command::schedules::SchedulesArgs),
    /// Runs the same operations under several sets of options, and compares the answers.
    Metamorphic(command::metamorphic::MetamorphicArgs),
    /// Lists the scenarios.
    List,
}

/// The exit code of a process that a closed pipe has ended, as shells have it: 128 and the number of the signal.
const CLOSED_PIPE: i32 = 141;

/// Ends the process quietly where nobody reads its output any more, as behind `| head`. Printing panics then, from whatever
/// subcommand, so that the panic is where it is noticed.
fn end_with_the_pipe() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        let message = info.payload_as_str().unwrap_or_default();
        if is_closed_pipe(message) {
            std::process::exit(CLOSED_PIPE);
        }
        before(info);
    }));
}

/// Whether this is what the standard library says when it cannot print for that reason.
fn is_closed_pipe(message: &str) -> bool {
    let closed = std::io::Error::from(std::io::ErrorKind::BrokenPipe).to_string();
    message.starts_with("failed printing to std") && message.to_lowercase().contains(&closed.to_lowercase())
}

fn main() -> ExitCode {
    end_with_the_pipe();
    let cli = Cli::parse();
    let dir = cli.scenarios.unwrap_or_else(scenario::home);
    let result = match cli.command {
        Command::Run(args) => command::run::run(&dir, &args),
        Command::Merge(args) => command::merge::merge(&args),
        Command::Replay(args) => command::replay::replay(&dir, &args),
        Command::Explain(args) => command::explain::explain_one(&dir, &args),
        Command::Shrink(args) => command::shrink::shrink_one(&dir, &args),
        Command::Audit(args) => command::audit::audit(&dir, &args),
        Command::Sweep(args) => command::sweep::sweep(&dir, &args),
        Command::Zoo(args) => command::zoo::zoo(&args),
        Command::Exhaust(args) => command::exhaust::run(&args),
        Command::Nth(args) => command::nth::run(&dir, &args),
        Command::Schedules(args) => command::schedules::run(&dir, &args),
        Command::Metamorphic(args) => command::metamorphic::run(&dir, &args),
        Command::List => command::list::list(&dir),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(message) => {
            eprintln!("shake: {message}");
            ExitCode::from(2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_told_from_other_panics() {
        assert!(is_closed_pipe("failed printing to stdout: Broken pipe (os error 32)"));
        assert!(!is_closed_pipe("failed printing to stdout: No space left on device (os error 28)"));
        assert!(!is_closed_pipe("client 0 panicked: Broken pipe"));
    }

    #[test]
    fn every_exploration_reads_its_arguments() {
        // What a parser returns is only looked at when an argument is read, and not by the compiler.
        for line in [
            "shake exhaust --length 3 --profile ext4-ordered --time 1s",
            "shake nth a --time 1s --jobs 1 --json",
            "shake schedules a#3 --bound 2 --ops 4 --named",
            "shake metamorphic",
            "shake metamorphic a b --seeds 3..9 --variants 2",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
    }
}
