//! What a terminal shows: a failure as a block of lines, a campaign as a table.
//!
//! A block tells in this order: what is wrong, where, after which crash and what that took; then what shrinking made of it, the
//! file that keeps it, and the commands that repeat and explain it. Colour is asked for by whoever knows where the text goes.

use crate::artifact::Artifact;
use crate::campaign::Totals;
use crate::console::COMMAND;
use crate::oracle::Restart;
use crate::runner::{RunFailure, RunReport};
use crate::shrink::{Progress, Shrunk, Size};
use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

/// Lines of what a crash kept and lost that a failure shows.
const FATES_MAX: usize = 6;

/// How text is dressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dress {
    /// Plain.
    Plain,
    /// With the colours of a terminal.
    Colour,
}

impl Dress {
    /// In red.
    pub fn bad(self, text: &str) -> String {
        match self {
            Dress::Plain => text.into(),
            Dress::Colour => format!("\x1b[1;31m{text}\x1b[0m"),
        }
    }

    /// In green.
    pub fn good(self, text: &str) -> String {
        match self {
            Dress::Plain => text.into(),
            Dress::Colour => format!("\x1b[32m{text}\x1b[0m"),
        }
    }

    /// So that it stands back.
    pub fn faint(self, text: &str) -> String {
        match self {
            Dress::Plain => text.into(),
            Dress::Colour => format!("\x1b[2m{text}\x1b[0m"),
        }
    }
}

/// A failing run, in a block of lines. `name` is what replays it.
pub fn failure_block(name: &str, failure: &RunFailure, planned: u64, dress: Dress) -> String {
    let mut block = format!("{} {name}   {}\n", dress.bad("FAILED"), failure.finding.fingerprint());
    let mut line = |text: &str| writeln!(block, "  {text}").expect("writing to a string");
    line(&failure.finding.symptom);
    for detail in &failure.finding.details {
        for detail in detail.lines() {
            line(detail);
        }
    }
    line(&format!("at operation {} of {planned}", failure.ops));
    if let Some(crash) = &failure.crash {
        let during = crash.during.as_ref().map_or_else(String::new, |during| format!(", {during}"));
        line(&format!("after crash {}, a {}, at operation {}{during}", crash.number, crash.report.kind, crash.ops));
        for (word, fates) in
            [("before", &crash.report.broken_syncs), ("kept", &crash.report.kept), ("lost", &crash.report.lost)]
        {
            for fate in fates.iter().take(FATES_MAX) {
                line(&format!("  {word}: {fate}"));
            }
            if fates.len() > FATES_MAX {
                line(&format!("  {word}: and {} more", fates.len() - FATES_MAX));
            }
        }
    }
    block
}

/// How far shrinking has come.
pub fn progress_line(progress: Progress) -> String {
    let Progress { size: Size { ops, faults, lost, .. }, runs } = progress;
    format!("shrinking: {ops} operations, {faults} faults, {lost} lost disk writes   {} runs", count(runs))
}

/// What shrinking did and where the result is.
pub fn shrunk_lines(shrunk: &Shrunk, path: Option<&Path>) -> String {
    let Shrunk { before, after, runs, took, replays, .. } = shrunk;
    let mut lines = String::new();
    if !replays {
        lines.push_str("  the recorded decisions do not repeat it, so it was not shrunk: the seed repeats it\n");
    } else {
        writeln!(
            lines,
            "  shrunk {} -> {} operations, {} -> {} faults, {} -> {} lost disk writes, {} -> {} decisions, in {runs} runs and {:.1} s",
            before.ops,
            after.ops,
            before.faults,
            after.faults,
            before.lost,
            after.lost,
            before.decisions,
            after.decisions,
            took.as_secs_f64()
        )
        .expect("writing to a string");
    }
    if let Some(path) = path {
        writeln!(lines, "  {0}\n  replay:   {COMMAND} replay {0}\n  explain:  {COMMAND} explain {0}", path.display())
            .expect("writing to a string");
    }
    lines
}

/// A small run, for reading.
pub fn artifact_lines(artifact: &Artifact) -> String {
    let mut lines = String::new();
    for (client, ops) in artifact.plan.clients.iter().enumerate() {
        for op in ops {
            writeln!(lines, "    {client}: {op}").expect("writing to a string");
        }
    }
    for decision in &artifact.decisions {
        writeln!(lines, "    {} {} = {}", decision.label, decision.ordinal, decision.value)
            .expect("writing to a string");
    }
    lines
}

/// The numbers of one run, for snapshots and for those who replay.
pub fn run_lines(report: &RunReport) -> String {
    let mut lines = String::new();
    let mut line = |text: String| {
        lines.push_str(&text);
        lines.push('\n');
    };
    line(format!("operations {} of {}, answers judged {}", report.ops, report.planned, report.checks));
    line(format!("crashes {}, system calls {}, virtual time {:?}", report.crashes, report.calls, report.virtual_time));
    for recovery in &report.recoveries {
        let after = match recovery.restart {
            Restart::Close => "close",
            Restart::Process => "process crash",
            Restart::PowerLoss => "power loss",
        };
        let recovered = recovery.recovered;
        line(format!(
            "  after {after} at operation {}: recovered {} within {} and {}",
            recovery.ops, recovered.n, recovered.floor, recovered.ceiling
        ));
    }
    for count in &report.faults {
        line(format!("  fault {} at {} of {}: {}", count.kind.name(), count.op.name(), count.class.name(), count.hits));
    }
    if report.damage_reported {
        line("the store reported the damage that was done to it".into());
    }
    line(format!("shape {}", report.shape));
    line(format!("trace {:032x} over {} events", report.trace.hash, report.trace.events));
    lines
}

/// A large number, short: 1234 is "1,234", 12345678 is "12.3 M".
pub fn count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{},{:03}", number / 1000, number % 1000),
        1_000_000..1_000_000_000 => format!("{:.1} M", number as f64 / 1e6),
        _ => format!("{:.1} G", number as f64 / 1e9),
    }
}

/// So many in a second.
pub fn rate(number: u64, time: Duration) -> String {
    count((number as f64 / time.as_secs_f64().max(1e-9)) as u64)
}

/// The sums of a campaign as a table. `work` is real time times the number of threads.
pub fn summary(rows: &[(String, Totals)], work: Duration) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let head = [
        "scenario",
        "seeds",
        "operations",
        "crashes",
        "recoveries",
        "checks",
        "failures",
        "verified ops/s",
        "recoveries/s",
        "faults",
    ];
    table.set_header(head);
    let number = |number: u64| Cell::new(count(number)).set_alignment(CellAlignment::Right);
    let mut all = Totals::default();
    for (name, totals) in rows {
        all.merge(totals);
        let mut row = vec![Cell::new(name)];
        let numbers =
            [totals.seeds, totals.ops, totals.crashes, totals.recoveries, totals.checks, totals.failures].map(number);
        row.extend(numbers);
        for per_second in [totals.ops, totals.recoveries] {
            row.push(Cell::new(rate(per_second, totals.busy)).set_alignment(CellAlignment::Right));
        }
        row.push(Cell::new(faults(totals)));
        table.add_row(row);
    }
    let mut text = String::new();
    for line in table.lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    let mut word = |text_of: String| text.push_str(&text_of);
    word(format!(
        "{} seeds/s, {} verified operations/s, {} crash-recoveries/s per thread; {:.1} h of virtual time\n",
        rate(all.seeds, work),
        rate(all.ops, work),
        rate(all.crashes, work),
        all.virtual_time.as_secs_f64() / 3600.0
    ));
    word(format!("hash of all traces {:016x}\n", all.hash));
    if all.damage_reported > 0 {
        word(format!(
            "{} runs ended early, with the store reporting damage that was done to it\n",
            count(all.damage_reported)
        ));
    }
    if all.spills > 0 {
        word(format!("{} recovered states or answers were let pass, for the search was too long\n", count(all.spills)));
    }
    text
}

fn faults(totals: &Totals) -> String {
    let words = totals.faults.iter().map(|(kind, hits)| format!("{} {}", kind.name(), count(*hits)));
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_have_units() {
        assert_eq!(
            [0, 999, 1234, 48_211, 5_120_000, 3_200_000_000].map(count),
            ["0", "999", "1,234", "48,211", "5.1 M", "3.2 G"]
        );
        assert_eq!(rate(1000, Duration::from_millis(500)), "2,000");
    }
}
