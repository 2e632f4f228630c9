//! What happened in a run, as those who explain it need it: each call with its number, line and fate, and between the calls what
//! was noted.
//!
//! The calls come from a witness of the run, who sees them one by one; the notes, and what came of each call, from the lines of
//! the trace, which are in the same order.

use super::edge::{Edge, Moment};
use super::film::Film;
use crate::disk::Fate;
use crate::fault::{FileClass, FsOp};
use crate::op::Op;
use crate::oracle::Finding;
use crate::rng::Decisions;
use crate::runner::{RunOptions, RunReport, run_witnessed};
use crate::store::StoreKind;
use crate::trace::Keep;
use crate::workload::Plan;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::Location;
use std::sync::Arc;

/// Steps of a story, at most; those in the middle are left out.
const STEPS_MAX: usize = 60;

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Its number in the run, counted from 1.
    pub ordinal: u64,
    /// What was asked for.
    pub op: FsOp,
    /// Of what kind of file.
    pub class: FileClass,
    /// The file; of a rename the new name.
    pub path: String,
    /// Where, and how many bytes.
    pub range: (u64, u64),
    /// The line that made it.
    pub at: &'static Location<'static>,
    /// Whether faults might have struck.
    pub is_exposed: bool,
}

impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = if self.path.is_empty() { "." } else { &self.path };
        write!(f, "{} {path}", self.op.name())?;
        if self.range.1 > 0 { write!(f, " @{}+{}", self.range.0, self.range.1) } else { Ok(()) }
    }
}

/// Something that happened, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// A call returned: index into [`Witnessed::calls`], the task that made it, and what came of it.
    Call {
        /// Index.
        call: usize,
        /// The task.
        task: String,
        /// `"ok"`, or the error.
        outcome: String,
    },
    /// The machine crashed.
    Crash(String),
    /// A client, the store or the harness said something.
    Note(String),
}

/// A run, seen from outside.
#[derive(Clone, Debug)]
pub struct Witnessed {
    /// All that the runner says of it.
    pub report: RunReport,
    /// Every call.
    pub calls: Vec<Call>,
    /// Everything, in order.
    pub happened: Vec<Happened>,
    /// Calls that were made to fail, in words.
    pub faults: Vec<String>,
    /// The disk before the calls that could change it.
    pub film: Film,
}

/// One line of a story.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What happened.
    pub what: String,
    /// Who, or which line of source.
    pub whence: String,
    /// What became of it at the crash, where it was pending then.
    pub fate: &'static str,
    /// Lines that belong to it.
    pub more: Vec<String>,
}

/// Runs a plan and looks at everything.
pub(super) fn witness(plan: &Plan, kind: &Arc<dyn StoreKind>, decisions: Decisions) -> Witnessed {
    let seen = Arc::new(Mutex::new((Vec::new(), Film::default())));
    let witness = seen.clone();
    let options = RunOptions { keep: Keep::Everything, record: true, ..RunOptions::default() };
    let watch = Box::new(move |sight: &crate::watch::Sight<'_>, _: &crate::oracle::Oracle, ops: u64| {
        let (calls, film) = &mut *witness.lock();
        let ordinal = calls.len() as u64 + 1;
        film.see(ordinal, ops, sight);
        calls.push(Call {
            ordinal,
            op: sight.op,
            class: sight.class,
            path: sight.path.to_string(),
            range: (sight.offset, sight.bytes),
            at: sight.at,
            is_exposed: sight.is_exposed,
        });
    });
    let (report, _) = run_witnessed(Arc::new(plan.clone()), kind, decisions, &options, watch);
    let (calls, film) = std::mem::take(&mut *seen.lock());
    let mut witnessed = Witnessed { happened: Vec::new(), faults: Vec::new(), film, calls, report };
    witnessed.read_trace();
    witnessed
}

impl Witnessed {
    /// Joins the lines of the trace with the calls.
    fn read_trace(&mut self) {
        let mut call = 0;
        for line in &self.report.trace.lines {
            let text = line.get(10..).unwrap_or_default();
            let next = self.calls.get(call);
            let asked = next.map(|call| format!(": {} ", call.op.name()));
            let is_call = asked.is_some_and(|asked| text.contains(&asked)) && text.contains(" -> ");
            if is_call {
                let task = text.split(": ").next().unwrap_or_default().to_string();
                let outcome = text.split_once(" -> ").map_or("", |(_, outcome)| outcome);
                let outcome = outcome.split("   ").next().unwrap_or_default().to_string();
                if outcome != "ok" && outcome.contains("injected") {
                    let call = &self.calls[call];
                    self.faults.push(format!("{call} failed, at {}:{}", call.at.file(), call.at.line()));
                }
                self.happened.push(Happened::Call { call, task, outcome });
                call += 1;
            } else if let Some((_, end)) = text.split_once(" meets its end by a ") {
                // The call at which the machine crashes is seen, and has no outcome.
                self.happened.push(Happened::Crash(end.split(',').next().unwrap_or(end).to_string()));
                call += 1;
            } else if let Some(kind) = text.strip_prefix("CRASH: ") {
                if !matches!(self.happened.last(), Some(Happened::Crash(_))) {
                    self.happened.push(Happened::Crash(kind.to_lowercase()));
                }
            } else if !is_scheduling(text) {
                self.happened.push(Happened::Note(text.to_string()));
            }
        }
    }
}

/// Whether the line is about tasks that take turns.
fn is_scheduling(text: &str) -> bool {
    let words = [" waits for ", " wakes ", " sleeps ", " is woken "];
    text.starts_with("-- ")
        || text.starts_with("start ")
        || text.starts_with("end of ")
        || words.iter().any(|word| text.contains(word))
}

/// What happened right before a call: an acknowledgement to a client, or else the call before it.
pub(super) fn before(witnessed: &Witnessed, ordinal: u64) -> Option<Moment> {
    let at = witnessed.happened.iter().position(|happened| match happened {
        Happened::Call { call, .. } => witnessed.calls[*call].ordinal >= ordinal,
        Happened::Crash(_) => true,
        Happened::Note(_) => false,
    });
    let at = at.unwrap_or(witnessed.happened.len());
    let mut operation = None;
    for happened in witnessed.happened[..at].iter().rev() {
        match happened {
            Happened::Note(note) if note.starts_with("written at ") || note == "sync: ok" || note == "flush: ok" => {
                operation = Some(());
            }
            Happened::Note(note) if operation.is_some() && note.starts_with("client ") => {
                return Some(Moment::Acknowledged(note.clone()));
            }
            Happened::Call { call, .. } if operation.is_none() => {
                return Some(Moment::Returned(witnessed.calls[*call].clone()));
            }
            _ => {}
        }
    }
    None
}

/// The story, as far as it is about the edge, the wrong key and the file that the failure names.
pub(super) fn steps(witnessed: &Witnessed, edge: Option<&Edge>, plan: &Plan) -> Vec<Step> {
    let finding = witnessed.report.failure.as_ref().map(|failure| &failure.finding);
    let cast = cast(edge, finding);
    let fates = fates(witnessed);
    let key = finding
        .and_then(|finding| finding.key.as_deref())
        .and_then(|key| plan.keys.id(key))
        .map(|key| format!("k{key}"));
    let mut steps = Vec::new();
    let mut crashes = witnessed.report.crash_reports.iter();
    let mut of_key = false;
    for happened in &witnessed.happened {
        match happened {
            Happened::Call { call, task, outcome } => {
                let call = &witnessed.calls[*call];
                let changes = !matches!(call.op, FsOp::Read | FsOp::Stat | FsOp::ReadDir | FsOp::Open | FsOp::Lock);
                let in_cast = cast.contains(call.path.as_str()) || (call.op == FsOp::SyncDir && !cast.is_empty());
                let logged = of_key && changes && call.class == FileClass::Wal;
                if outcome != "ok" || (in_cast && changes) || logged {
                    let what = if outcome == "ok" { call.to_string() } else { format!("{call}: {outcome}") };
                    let whence = format!("{}:{}   {task}", call.at.file(), call.at.line());
                    let fate = fates.get(&call.ordinal).copied().unwrap_or("");
                    steps.push(Step { what, whence, fate, more: Vec::new() });
                }
            }
            Happened::Crash(kind) => {
                let mut more = Vec::new();
                if let Some(crash) = crashes.next() {
                    for (word, fates) in [("before", &crash.broken_syncs), ("kept", &crash.kept), ("lost", &crash.lost)]
                    {
                        more.extend(fates.iter().map(|fate: &Fate| format!("{word}: {fate}")));
                    }
                }
                steps.push(Step { what: kind.to_uppercase(), whence: String::new(), fate: "", more });
            }
            Happened::Note(note) => {
                if let Some((client, op)) = note.split_once(": ").filter(|(client, _)| client.starts_with("client ")) {
                    of_key = match (&key, Op::parse(op)) {
                        (Some(key), Ok(op)) => op.keys().iter().any(|id| format!("k{id}") == *key),
                        _ => true,
                    };
                    let whence = client.split(" #").next().unwrap_or(client).to_string();
                    steps.push(Step { what: op.into(), whence, fate: "", more: Vec::new() });
                } else if let Some(event) = note.strip_prefix("strata: ") {
                    steps.push(Step { what: event.into(), whence: "the store".into(), fate: "", more: Vec::new() });
                } else if !note.starts_with("RESTART") {
                    let what = note.strip_prefix("FOUND ").unwrap_or(note).to_string();
                    steps.push(Step { what, whence: String::new(), fate: "", more: Vec::new() });
                }
            }
        }
    }
    if steps.len() > STEPS_MAX {
        let gone = steps.len() - STEPS_MAX;
        let what = format!("({gone} more steps)");
        let half = STEPS_MAX / 2;
        steps.splice(half..half + gone, [Step { what, whence: String::new(), fate: "", more: Vec::new() }]);
    }
    steps
}

/// The files that the story is about.
fn cast<'a>(edge: Option<&'a Edge>, finding: Option<&'a Finding>) -> BTreeSet<&'a str> {
    let mut cast = BTreeSet::new();
    match edge {
        Some(Edge::Between { lost, kept }) => cast.extend([lost.path.as_str(), kept.path.as_str()]),
        Some(Edge::After { lost, moment: Moment::Returned(call) }) => {
            cast.extend([lost.path.as_str(), call.path.as_str()]);
        }
        Some(Edge::After { lost, .. } | Edge::Lost(lost)) => cast.extend([lost.path.as_str()]),
        Some(Edge::Barrier { .. } | Edge::Faults(_) | Edge::Damage(_) | Edge::Process | Edge::Alone) | None => {}
    }
    let words = finding.map_or("", |finding| &finding.symptom).split([' ', ':', ',']);
    cast.extend(words.filter(|word| word.contains('/') && !word.contains(".rs")));
    cast
}

/// What the last crash did to what each call had asked for.
fn fates(witnessed: &Witnessed) -> BTreeMap<u64, &'static str> {
    let mut fates = BTreeMap::new();
    for crash in &witnessed.report.crash_reports {
        for (word, list) in [("kept", &crash.kept), ("lost", &crash.lost)] {
            fates.extend(list.iter().filter_map(|fate| fate.origin).map(|origin| (origin.op, word)));
        }
    }
    fates
}
