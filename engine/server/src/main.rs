//! `strata`: looks into stores, changes them, copies them.
//!
//! Exit code 0: done. 1: done, and the answer is no: the key is absent, something is damaged. 2: it could not be done.

use clap::Parser;
use std::process::ExitCode;
use strata_server::Out;
use strata_server::command::{Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let stdout = std::io::stdout().lock();
    let mut out = Out::new(Box::new(std::io::BufWriter::new(stdout)), cli.json);
    let result = run(&cli, &mut std::io::stdin().lock(), &mut out).and_then(|answer| out.flush().map(|()| answer));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        // Nobody reads the output any more, as behind `| head`.
        Err(failure) if failure.is_closed_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("strata: {failure}");
            ExitCode::from(2)
        }
    }
}
