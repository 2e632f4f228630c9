//! `shake merge`: what the shards of a campaign found, added up; failures by fingerprint, fastest first.

use super::{read, write};
use clap::Args;
use shaketable::report::page::campaign_page;
use shaketable::results::Results;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct MergeArgs {
    /// Files that `shake run --results` or `shake merge --json` wrote.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Prints JSON, which can be merged again.
    #[arg(long, group = "form")]
    json: bool,
    /// Prints Markdown, for the summary of a CI job.
    #[arg(long, group = "form")]
    markdown: bool,
    /// Prints a GitHub workflow command for each fingerprint, which marks the line of source.
    #[arg(long, group = "form")]
    annotations: bool,
    /// Writes a page for a browser: what was run and reached, where faults struck and where not, and each failure.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn merge(args: &MergeArgs) -> Result<bool, String> {
    let mut all = Results::default();
    for path in &args.files {
        let told = |message: String| format!("{}: {message}", path.display());
        all.merge(Results::parse(&read(path)?).map_err(told)?).map_err(told)?;
    }
    if let Some(path) = &args.report {
        write(path, &campaign_page(&all, &[]))?;
    }
    if args.json {
        println!("{}", all.to_json());
    } else if args.markdown {
        print!("{}", all.to_markdown());
    } else if args.annotations {
        print!("{}", all.to_annotations());
    } else {
        print!("{}", all.to_text());
    }
    Ok(all.is_good())
}
