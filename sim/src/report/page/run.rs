//! The page of one run: what went wrong and why, its steps, what each crash took, and the disk before each call.

use super::html::Html;
use super::{MOMENTS_BYTES_MAX, command, disk, facts, page, plural, timeline};
use crate::artifact::Artifact;
use crate::console::COMMAND;
use crate::disk::{CrashReport, DiskView, Fate};
use crate::explain::{Call, Edge, Explanation, Happened, Step, Witnessed, explain, look, story as story_of};
use crate::report::run_lines;
use crate::store::StoreKind;
use std::sync::Arc;

/// Fates of one crash that are listed on each side.
const FATES_MAX: usize = 60;

/// Crashes that are told of; in a longer run the last ones.
const CRASHES_MAX: usize = 12;

/// Bytes of an artifact that are shown.
const ARTIFACT_BYTES_MAX: usize = 100_000;

/// A run, and what is known about it.
#[derive(Clone, Debug)]
pub struct Subject {
    /// By what it is called: a file, or `SCENARIO#SEED`.
    pub name: String,
    /// The command that repeats it.
    pub replay: String,
    /// What was run.
    pub artifact: Artifact,
    /// What was seen.
    pub witnessed: Witnessed,
    /// The story.
    pub steps: Vec<Step>,
    /// What is missing, where that was looked for and the run fails.
    pub edge: Option<Edge>,
}

impl Subject {
    /// An artifact that is run, and explained where it fails.
    pub fn explained(name: &str, artifact: Artifact, kind: &Arc<dyn StoreKind>) -> Subject {
        match explain(&artifact, kind) {
            Some(explanation) => Subject::of(name, artifact, explanation),
            None => {
                let witnessed = look(&artifact.plan, kind, artifact.script());
                Subject::seen(name, artifact, witnessed)
            }
        }
    }

    /// An artifact whose explanation is there.
    pub fn of(name: &str, artifact: Artifact, explanation: Explanation) -> Subject {
        let Explanation { steps, edge, witnessed, .. } = explanation;
        Subject { steps, edge: Some(edge), ..Subject::seen(name, artifact, witnessed) }
    }

    /// A run that was seen, without asking why it went so.
    pub fn seen(name: &str, artifact: Artifact, witnessed: Witnessed) -> Subject {
        let quoted = if name.contains('#') { format!("'{name}'") } else { name.to_string() };
        let replay = format!("{COMMAND} replay {quoted}");
        let steps = story_of(&witnessed, &artifact.plan);
        Subject { name: name.into(), replay, artifact, witnessed, steps, edge: None }
    }
}

/// The page of a run.
pub fn run_page(subject: &Subject) -> String {
    let title = match &subject.witnessed.report.failure {
        Some(failure) => format!("FAILED {}: {}", origin(&subject.artifact), failure.finding.symptom),
        None => format!("PASSED {}", origin(&subject.artifact)),
    };
    page(&title, |html| run_body(html, subject, "", MOMENTS_BYTES_MAX))
}

/// Where the run comes from, as it can be typed.
fn origin(artifact: &Artifact) -> String {
    match artifact.seed {
        Some(seed) => format!("{}#{seed}", artifact.plan.scenario),
        None => artifact.plan.scenario.clone(),
    }
}

/// All about a run. Ids within it begin with `prefix`; the moments of the disk take at most so many bytes.
pub(super) fn run_body(html: &mut Html, subject: &Subject, prefix: &str, moments_bytes_max: usize) {
    header(html, subject);
    if let Some(edge) = &subject.edge {
        why(html, edge);
    }
    section(html, "Story", "story", |html| story(html, &subject.steps));
    section(html, "Steps", "steps", |html| timeline::timeline(html, &subject.witnessed, prefix));
    if !subject.witnessed.report.crash_reports.is_empty() {
        section(html, "What the crashes kept and lost", "crashes", |html| crashes(html, &subject.witnessed));
    }
    section(html, "The disk, call by call", "disk", |html| {
        moments(html, &subject.witnessed, prefix, moments_bytes_max)
    });
    section(html, "The run in numbers", "numbers", |html| {
        html.leaf("pre", &[], &run_lines(&subject.witnessed.report));
    });
    section(html, "The artifact", "artifact", |html| artifact(html, &subject.artifact));
}

fn section(html: &mut Html, title: &str, class: &str, body: impl FnOnce(&mut Html)) {
    html.element("section", &[("class", class)], |html| {
        html.leaf("h2", &[], title);
        body(html);
    });
}

fn header(html: &mut Html, subject: &Subject) {
    let report = &subject.witnessed.report;
    html.element("header", &[], |html| {
        let (class, verdict) = if report.failure.is_some() { ("bad", "failed") } else { ("good", "passed") };
        html.element("p", &[("class", "over")], |html| {
            html.span(&format!("verdict {class}"), verdict);
            html.text(&format!(" {}", subject.name));
        });
        match &report.failure {
            Some(failure) => {
                html.leaf("h1", &[], &failure.finding.symptom);
                for detail in failure.finding.details.iter().flat_map(|detail| detail.lines()) {
                    html.leaf("p", &[("class", "detail")], detail);
                }
            }
            None if subject.artifact.symptom.is_empty() => html.leaf("h1", &[], "Nothing went wrong in this run"),
            None => {
                html.leaf("h1", &[], &subject.artifact.symptom);
                let kept = "This was found once, and has not come back: the run passes now, and is kept to stay so.";
                html.leaf("p", &[("class", "detail")], kept);
            }
        }
        command(html, &subject.replay);
        let at = report.failure.as_ref().map_or(report.ops, |failure| failure.ops);
        let crash = report.failure.as_ref().and_then(|failure| failure.crash.as_ref());
        let last_crash = crash.map_or_else(String::new, |crash| {
            let during = crash.during.as_ref().map_or_else(String::new, |during| format!(", {during}"));
            format!("{} {} at operation {}{during}", crash.report.kind, crash.number, crash.ops)
        });
        let fingerprint = report.failure.as_ref().map(|failure| failure.finding.fingerprint());
        facts(
            html,
            &[
                ("run", origin(&subject.artifact)),
                ("fingerprint", fingerprint.unwrap_or_else(|| subject.artifact.fingerprint.clone())),
                ("operations", format!("{at} of {}", report.planned)),
                ("crashes", report.crashes.to_string()),
                ("last crash", last_crash),
                ("disk", subject.artifact.plan.profile.to_string()),
                ("system calls", super::super::count(report.calls)),
                ("trace", format!("{:032x}", report.trace.hash)),
            ],
        );
    });
}

fn why(html: &mut Html, edge: &Edge) {
    html.element("section", &[("class", "why")], |html| {
        html.leaf("h2", &[], "Why");
        html.leaf("p", &[("class", "edge")], &edge.sentence());
        let sites = edge.sites();
        if !sites.is_empty() {
            html.element("ul", &[("class", "sites")], |html| {
                for site in &sites {
                    html.element("li", &[], |html| html.leaf("code", &[], site));
                }
            });
        }
    });
}

fn story(html: &mut Html, steps: &[Step]) {
    html.element("ol", &[("class", "story-steps")], |html| {
        for step in steps {
            let is_crash = step.whence.is_empty() && ["CRASH", "LOSS"].iter().any(|word| step.what.ends_with(word));
            let class = if is_crash { "step crash" } else { "step" };
            html.element("li", &[("class", class)], |html| {
                html.element("div", &[("class", "what")], |html| {
                    html.leaf("code", &[], &step.what);
                    if !step.fate.is_empty() {
                        html.text(" ");
                        html.span(&format!("badge {}", step.fate), step.fate);
                    }
                });
                if !step.whence.is_empty() {
                    html.leaf("div", &[("class", "where")], &step.whence);
                }
                for more in step.more.iter().take(FATES_MAX) {
                    html.leaf("div", &[("class", "more")], more);
                }
            });
        }
    });
}

fn crashes(html: &mut Html, witnessed: &Witnessed) {
    let reports = &witnessed.report.crash_reports;
    let first = reports.len().saturating_sub(CRASHES_MAX);
    if first > 0 {
        let text = format!("The last {CRASHES_MAX} of {}.", plural(reports.len() as u64, "crash"));
        html.leaf("p", &[("class", "left-out")], &text.replace("crashs", "crashes"));
    }
    for (index, crash) in reports.iter().enumerate().skip(first) {
        let name = format!("{}: {}", index + 1, crash.kind);
        if [&crash.kept, &crash.lost, &crash.broken_syncs].iter().all(|fates| fates.is_empty()) {
            html.element("p", &[("class", "crash-report")], |html| {
                html.leaf("b", &[], &name);
                html.span("quiet", ". Nothing was pending that it decides about.");
            });
            continue;
        }
        html.element("article", &[("class", "crash-report")], |html| {
            html.leaf("h3", &[], &name);
            one_crash(html, crash);
        });
    }
}

fn one_crash(html: &mut Html, crash: &CrashReport) {
    let lists = [
        ("kept", "Kept", &crash.kept),
        ("lost", "Lost", &crash.lost),
        ("broken", "Syncs that failed or lied before", &crash.broken_syncs),
    ];
    html.element("div", &[("class", "fates")], |html| {
        for (class, title, fates) in lists.into_iter().filter(|(.., fates)| !fates.is_empty()) {
            html.element("div", &[("class", class)], |html| {
                html.leaf("h4", &[], &format!("{title} {}", fates.len()));
                html.element("ul", &[], |html| {
                    for fate in fates.iter().take(FATES_MAX) {
                        html.element("li", &[], |html| one_fate(html, fate));
                    }
                });
                if fates.len() > FATES_MAX {
                    html.span("where", &format!("and {} more", fates.len() - FATES_MAX));
                }
            });
        }
    });
}

fn one_fate(html: &mut Html, fate: &Fate) {
    html.leaf("code", &[], &fate.thing.to_string());
    if let Some(origin) = &fate.origin {
        let at = origin.at.map_or_else(String::new, |at| format!(", {}:{}", at.file(), at.line()));
        html.span("where", &format!(" call {}{at}", origin.op));
    }
}

/// The moments of the disk, and the crashes between them.
fn moments(html: &mut Html, witnessed: &Witnessed, prefix: &str, bytes_max: usize) {
    let mut pieces: Vec<Html> = Vec::new();
    let mut crashes = witnessed.report.crash_reports.iter().enumerate();
    let mut before: Option<&DiskView> = None;
    for happened in &witnessed.happened {
        match happened {
            Happened::Call { call, task, outcome } => {
                let call = &witnessed.calls[*call];
                let Some(moment) = witnessed.film.before(call.ordinal) else { continue };
                let mut piece = Html::default();
                let id = format!("{prefix}call-{}", call.ordinal);
                piece.element("article", &[("class", "moment"), ("id", &id)], |html| {
                    moment_head(html, call, task, outcome, moment.ops);
                    disk::disk(html, &moment.disk, before);
                    disk::levels(html, &moment.levels);
                });
                before = Some(&moment.disk);
                pieces.push(piece);
            }
            Happened::Crash(kind) => {
                let mut piece = Html::default();
                piece.element("article", &[("class", "moment cut")], |html| {
                    html.leaf("h3", &[], &kind.to_uppercase());
                    if let Some((index, crash)) = crashes.next() {
                        let (kept, lost) = (crash.kept.len(), crash.lost.len());
                        let words = format!(
                            "Crash {}: {kept} pending things kept, {lost} lost. The next moment is after it.",
                            index + 1
                        );
                        html.leaf("p", &[], &words);
                    }
                });
                pieces.push(piece);
            }
            Happened::Note(_) => {}
        }
    }
    if pieces.is_empty() {
        html.leaf("p", &[("class", "quiet")], "No call changed the disk.");
        return;
    }
    html.element("p", &[("class", "legend-bar")], |html| {
        for (class, words) in
            [("durable", "durable"), ("dirty", "written, not synced"), ("cut", "durable, but cut off")]
        {
            html.leaf("i", &[("class", class)], "");
            html.text(words);
        }
    });
    let sizes: Vec<usize> = pieces.iter().map(Html::len).collect();
    let (head, tail) = fitting(&sizes, bytes_max);
    let left_out = witnessed.film.left_out() + tail - head;
    if left_out > 0 {
        let words = format!("{} between the first and the last are left out.", plural(left_out as u64, "moment"));
        html.leaf("p", &[("class", "left-out")], &words);
    }
    html.element("div", &[("class", "moments")], |html| {
        pieces[..head].iter().chain(&pieces[tail..]).for_each(|piece| html.piece(piece));
    });
}

/// How many pieces from the start, and which from the end on, take no more bytes than that: three of the last for one of the
/// first, for that is where things go wrong.
fn fitting(sizes: &[usize], bytes_max: usize) -> (usize, usize) {
    let (mut head, mut tail, mut bytes) = (0, sizes.len(), 0);
    while head < tail {
        let from_end = (sizes.len() - tail) < 3 * (head + 1);
        bytes += if from_end { sizes[tail - 1] } else { sizes[head] };
        if bytes > bytes_max {
            break;
        }
        if from_end { tail -= 1 } else { head += 1 }
    }
    (head, tail)
}

fn moment_head(html: &mut Html, call: &Call, task: &str, outcome: &str, ops: u64) {
    html.element("h3", &[], |html| {
        html.span("label", &format!("before call {}", call.ordinal));
        html.text(" ");
        html.leaf("code", &[], &call.to_string());
        if outcome != "ok" {
            html.text(" ");
            html.span("badge lost", outcome);
        }
    });
    let at = format!("{}:{}, {task}, {} begun", call.at.file(), call.at.line(), plural(ops, "operation"));
    html.leaf("p", &[("class", "where")], &at);
}

fn artifact(html: &mut Html, artifact: &Artifact) {
    let text = artifact.to_text();
    let mut end = text.len().min(ARTIFACT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    if end < text.len() {
        let words = format!("The first {end} of {} bytes.", text.len());
        html.leaf("p", &[("class", "left-out")], &words);
    }
    html.leaf("pre", &[("class", "toml")], &text[..end]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_left_out_in_the_middle() {
        assert_eq!(fitting(&[10; 8], 80), (2, 2));
        assert_eq!(fitting(&[10; 8], 40), (1, 5));
        assert_eq!(fitting(&[10; 8], 9), (0, 8));
        assert_eq!(fitting(&[], 9), (0, 0));
    }
}
