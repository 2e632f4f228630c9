//! An explanation in words: the sentence that names the missing edge, and the story as lines of text.

use super::Explanation;
use super::edge::{Edge, Moment};
use super::story::Call;
use crate::disk::{Item, Origin};
use std::fmt::Write as _;

fn line_of(origin: Origin) -> String {
    origin.at.map_or_else(|| format!("call {}", origin.op), |at| format!("{}:{}", at.file(), at.line()))
}

fn at(call: &Call) -> String {
    format!("{}:{}", call.at.file(), call.at.line())
}

/// The sync that would have made it durable.
fn sync_of(item: &Item) -> String {
    match (item.is_name, item.path.rsplit_once('/')) {
        (true, Some((dir, _))) => format!("a sync of the directory {dir}"),
        (true, None) => "a sync of the root directory".into(),
        (false, _) => format!("a sync of {}", item.path),
    }
}

impl Edge {
    /// What is missing, in a sentence or two.
    pub fn sentence(&self) -> String {
        match self {
            Edge::Between { lost, kept } => format!(
                "{} at {} can be durable before {} at {}. Nothing orders them: {} is missing between the two.",
                kept.what,
                line_of(kept.origin),
                lost.what,
                line_of(lost.origin),
                sync_of(lost)
            ),
            Edge::After { lost, moment: Moment::Returned(call) } => format!(
                "{} at {} can be lost after {call} at {} has returned: {} is missing between the two.",
                lost.what,
                line_of(lost.origin),
                at(call),
                sync_of(lost)
            ),
            Edge::After { lost, moment: Moment::Acknowledged(op) } => format!(
                "{} at {} can be lost after the operation was acknowledged ({op}): {} is missing before that.",
                lost.what,
                line_of(lost.origin),
                sync_of(lost)
            ),
            Edge::Lost(lost) => {
                format!("It takes the loss of {} at {}; everything else may be kept.", lost.what, line_of(lost.origin))
            }
            Edge::Barrier { sentence, missing } => {
                format!("No crash is needed to see it: {sentence}. Missing: {}.", missing.barrier)
            }
            Edge::Faults(faults) => {
                let last = faults.last().map_or("a call failed", String::as_str);
                format!(
                    "No loss is needed: {last}, and the store went on as if it had not, or did not come back from it."
                )
            }
            Edge::Damage(last) => {
                format!(
                    "No loss is needed: {last}, and the store went on without a word, or did not come back from it."
                )
            }
            Edge::Process => {
                "It takes a crash, and nothing that was on its way to the disk need be lost: what was promised was in \
                              memory only, or is not found again."
                    .to_string()
            }
            Edge::Alone => {
                "It takes neither a crash nor a fault: the store is wrong by itself after these operations.".to_string()
            }
        }
    }

    /// The lines of source that it names, the one to look at first: `file:line`.
    pub fn sites(&self) -> Vec<String> {
        match self {
            Edge::Between { lost, kept } => vec![line_of(lost.origin), line_of(kept.origin)],
            Edge::After { lost, moment: Moment::Returned(call) } => vec![line_of(lost.origin), at(call)],
            Edge::After { lost, .. } | Edge::Lost(lost) => vec![line_of(lost.origin)],
            Edge::Barrier { missing, .. } => missing.sites.clone(),
            Edge::Faults(_) | Edge::Damage(_) | Edge::Process | Edge::Alone => Vec::new(),
        }
    }
}

impl Explanation {
    /// The story and the sentence.
    pub fn lines(&self) -> String {
        let mut lines = format!("{}\n  {}\n\n", self.finding.fingerprint(), self.finding.symptom);
        let wide = self.steps.iter().map(|step| step.what.chars().count()).max().unwrap_or(0).min(60);
        for (index, step) in self.steps.iter().enumerate() {
            let line = format!("{:>3}  {:<wide$}  {:<4}  {}", index + 1, step.what, step.fate, step.whence);
            writeln!(lines, "{}", line.trim_end()).expect("writing to a string");
            for more in &step.more {
                writeln!(lines, "       {more}").expect("writing to a string");
            }
        }
        writeln!(lines, "\n{}", self.edge.sentence()).expect("writing to a string");
        lines
    }
}
