//! The page of a campaign: what was run and what failed, and what was never tried: marks that were not reached, and the cells of
//! fault, kind of file and phase in which nothing has struck yet.
//!
//! It is made of the results alone ([`crate::results`]), so that merged shards have one too; runs of failures can be put into it.

use super::html::Html;
use super::run::{Subject, run_body};
use super::{BYTES_MAX, command, facts, page, plural};
use crate::console::COMMAND;
use crate::fault::{FaultKind, FileClass, Phase};
use crate::report::{count, rate};
use crate::results::{Found, Results};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::time::Duration;

/// What the moments of the disk may take in the section of one failure.
const SECTION_MOMENTS_BYTES_MAX: usize = 250_000;

/// What is kept free for all that comes behind the failures.
const RESERVE_BYTES: usize = 300_000;

/// Numbers by three names.
type Cells = BTreeMap<(String, String, String), u64>;

/// The page of these results. A failure whose seed is in `subjects` is told whole, as long as there is room.
pub fn campaign_page(results: &Results, subjects: &[Subject]) -> String {
    page(&format!("Shaketable: {}", results.verdict()), |html| {
        header(html, results);
        if !results.failures.is_empty() {
            failures(html, results, subjects);
        }
        html.element("section", &[("class", "scenarios")], |html| {
            html.leaf("h2", &[], "Scenarios");
            scenarios(html, &results.scenarios);
        });
        html.element("section", &[("class", "matrix")], |html| {
            html.leaf("h2", &[], "Where faults struck");
            matrix(html, &results.scenarios);
        });
        html.element("section", &[("class", "marks")], |html| {
            html.leaf("h2", &[], "What the store was brought to do");
            marks(html, &results.scenarios);
        });
    })
}

fn header(html: &mut Html, results: &Results) {
    let is_good = results.is_good();
    html.element("header", &[], |html| {
        html.element("p", &[("class", "over")], |html| {
            let (class, word) = if is_good { ("good", "passed") } else { ("bad", "failed") };
            html.span(&format!("verdict {class}"), word);
            html.text(" campaign");
        });
        let scenarios = plural(results.scenarios.len() as u64, "scenario");
        html.leaf("h1", &[], &format!("{scenarios}, {}", results.verdict()));
        for missing in results.missing() {
            html.leaf("p", &[("class", "detail")], &format!("Missing: {missing}. No file tells what it found."));
        }
        let seeds: Vec<String> = results
            .shards
            .iter()
            .map(|(seeds, shards)| match shards.len() {
                1 => format!("{seeds}, shard {}", shards.first().map_or("", String::as_str)),
                many => format!("{seeds} in {many} shards"),
            })
            .collect();
        let work = Duration::try_from_secs_f64(results.thread_seconds).unwrap_or_default();
        let total = |name: &str| results.total(name);
        facts(
            html,
            &[
                ("seeds", format!("{} ({})", count(total("seeds")), seeds.join("; "))),
                ("operations", count(total("operations"))),
                ("answers judged", count(total("checks"))),
                ("crashes", count(total("crashes"))),
                ("recoveries", count(total("recoveries"))),
                ("per thread", format!("{} verified operations/s", rate(total("operations"), work))),
                ("took", format!("{:.0} s", results.seconds)),
            ],
        );
    });
}

/// Runs that are named besides the first of a failure.
const ALSO_MAX: usize = 8;

fn failures(html: &mut Html, results: &Results, subjects: &[Subject]) {
    html.element("section", &[("class", "failures")], |html| {
        html.leaf("h2", &[], "Failures");
        for (index, group) in results.groups().into_iter().enumerate() {
            let [first, others @ ..] = group.found.as_slice() else { unreachable!("a group has a first") };
            html.element("article", &[("class", "failure")], |html| {
                html.leaf("h3", &[], group.fingerprint);
                html.leaf("p", &[("class", "symptom")], &first.symptom);
                let mut also: Vec<String> =
                    others.iter().take(ALSO_MAX).map(|found| format!("{}#{}", found.scenario, found.seed)).collect();
                if others.len() > ALSO_MAX {
                    also.push(format!("and {} more", count((others.len() - ALSO_MAX) as u64)));
                }
                facts(
                    html,
                    &[
                        ("first", format!("{}#{}", first.scenario, first.seed)),
                        ("found after", format!("{:.1} s", first.after_seconds)),
                        ("at", first.place.clone().unwrap_or_default()),
                        ("also", also.join(", ")),
                    ],
                );
                let replay = first.artifact.as_ref().map(|path| format!("{COMMAND} replay {path}"));
                command(html, replay.as_deref().unwrap_or(&first.replay));
                if let Some(subject) = subject_of(first, subjects) {
                    whole(html, subject, &format!("f{index}-"));
                }
            });
        }
    });
}

fn subject_of<'a>(found: &Found, subjects: &'a [Subject]) -> Option<&'a Subject> {
    subjects.iter().find(|subject| {
        subject.artifact.plan.scenario == found.scenario
            && subject.artifact.seed == Some(found.seed)
            && subject.artifact.fingerprint == found.fingerprint
    })
}

/// All about one failure, folded away.
fn whole(html: &mut Html, subject: &Subject, prefix: &str) {
    let mut piece = Html::default();
    piece.element("details", &[("class", "run")], |html| {
        html.leaf("summary", &[], "The run, step by step");
        run_body(html, subject, prefix, SECTION_MOMENTS_BYTES_MAX);
    });
    if html.len() + piece.len() + RESERVE_BYTES <= BYTES_MAX {
        html.piece(&piece);
    } else {
        let words = "Its steps are left out, to keep this page small: the line above repeats it, and takes --report.";
        html.leaf("p", &[("class", "left-out")], words);
    }
}

fn scenarios(html: &mut Html, rows: &[Map<String, Value>]) {
    let number = |row: &Map<String, Value>, name: &str| row.get(name).and_then(Value::as_u64).unwrap_or(0);
    let columns = [
        ("seeds", "seeds"),
        ("operations", "operations"),
        ("crashes", "crashes"),
        ("recoveries", "recoveries"),
        ("checks", "answers judged"),
    ];
    html.element("div", &[("class", "scroll"), ("tabindex", "0"), ("aria-label", "scenarios")], |html| {
        html.element("table", &[("class", "numbers")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.leaf("th", &[("scope", "col")], "scenario");
                    let heads = columns.iter().map(|(_, head)| *head).chain(["faults", "verified ops/s"]);
                    std::iter::once("failures")
                        .chain(heads)
                        .for_each(|head| html.leaf("th", &[("scope", "col")], head));
                });
            });
            html.element("tbody", &[], |html| {
                for row in rows {
                    let failed = number(row, "failures");
                    html.element("tr", &[("class", if failed > 0 { "bad" } else { "good" })], |html| {
                        let name = row.get("scenario").and_then(Value::as_str).unwrap_or("?");
                        html.leaf("th", &[("scope", "row")], name);
                        html.leaf("td", &[("class", "failed")], &count(failed));
                        for (name, _) in columns {
                            html.leaf("td", &[], &count(number(row, name)));
                        }
                        let faults = row.get("faults").and_then(Value::as_object);
                        let struck = faults.map_or(0, |faults| faults.values().filter_map(Value::as_u64).sum());
                        html.leaf("td", &[], &count(struck));
                        let busy = row.get("busy_seconds").and_then(Value::as_f64).unwrap_or(0.0);
                        let busy = Duration::try_from_secs_f64(busy).unwrap_or_default();
                        html.leaf("td", &[], &rate(number(row, "operations"), busy));
                    });
                }
            });
        });
    });
}

/// Adds up what every scenario tells under a name, three names deep; of two, the first is empty.
fn cells(rows: &[Map<String, Value>], name: &str, depth: usize) -> Cells {
    fn walk(value: &Value, path: &mut Vec<String>, depth: usize, cells: &mut Cells) {
        match value {
            Value::Object(inner) => {
                for (name, value) in inner {
                    path.push(name.clone());
                    walk(value, path, depth, cells);
                    path.pop();
                }
            }
            value if path.len() == depth => {
                let at =
                    |from_end: usize| path.len().checked_sub(from_end).map_or(String::new(), |at| path[at].clone());
                *cells.entry((at(3), at(2), at(1))).or_default() += value.as_u64().unwrap_or(0);
            }
            _ => {}
        }
    }
    let mut cells = Cells::new();
    for row in rows {
        if let Some(value) = row.get(name) {
            walk(value, &mut Vec::new(), depth, &mut cells);
        }
    }
    cells
}

fn matrix(html: &mut Html, rows: &[Map<String, Value>]) {
    let (struck, exposed) = (cells(rows, "fault_cells", 3), cells(rows, "exposed_calls", 2));
    let calls = |class: FileClass, phase: Phase| {
        exposed.get(&(String::new(), class.name().into(), phase.name().into())).copied().unwrap_or(0)
    };
    let hits = |kind: FaultKind, class: FileClass, phase: Phase| {
        struck.get(&(kind.name().into(), class.name().into(), phase.name().into())).copied().unwrap_or(0)
    };
    let is_met = |class: &FileClass| Phase::ALL.iter().any(|phase| calls(*class, *phase) > 0);
    let classes: Vec<FileClass> = FileClass::ALL.into_iter().filter(is_met).collect();
    let cells = classes.iter().flat_map(|class| Phase::ALL.map(|phase| (*class, phase)));
    let open: Vec<(FileClass, Phase)> = cells.filter(|(class, phase)| calls(*class, *phase) > 0).collect();
    let struck_in = |kind: FaultKind| open.iter().filter(|(class, phase)| hits(kind, *class, *phase) > 0).count();
    let all: usize = FaultKind::ALL.iter().map(|kind| struck_in(*kind)).sum();
    let words = format!(
        "Each fault against each kind of file, in each phase of the task that made the call. {all} of {} cells with calls were \
         struck. A ring is a cell in which calls were made and this fault never struck; a dot, one without calls.",
        open.len() * FaultKind::ALL.len()
    );
    html.leaf("p", &[], &words);
    html.element("p", &[("class", "phases")], |html| {
        html.span("label", "left to right");
        html.text(&format!(" {}", Phase::ALL.map(Phase::name).join(", ")));
        for (class, words) in [("c1", "1–9"), ("c2", "10–99"), ("c3", "100–999"), ("c4", "1,000 and more")] {
            html.text(" ");
            html.element("span", &[("class", "shade")], |html| {
                html.leaf("i", &[("class", class)], "");
                html.text(words);
            });
        }
    });
    html.element("div", &[("class", "scroll"), ("tabindex", "0"), ("aria-label", "faults")], |html| {
        html.element("table", &[("class", "cells")], |html| {
            html.element("thead", &[], |html| {
                html.element("tr", &[], |html| {
                    html.leaf("th", &[("scope", "col")], "fault");
                    classes.iter().for_each(|class| html.leaf("th", &[("scope", "col")], class.name()));
                    html.leaf("th", &[("scope", "col")], "cells");
                });
            });
            html.element("tbody", &[], |html| {
                for kind in FaultKind::ALL {
                    html.element("tr", &[], |html| {
                        html.leaf("th", &[("scope", "row")], kind.name());
                        for &class in &classes {
                            let counts = Phase::ALL.map(|phase| (phase, calls(class, phase), hits(kind, class, phase)));
                            cell(html, kind, class, &counts);
                        }
                        html.leaf("td", &[("class", "sum")], &format!("{} / {}", struck_in(kind), open.len()));
                    });
                }
            });
        });
    });
}

fn cell(html: &mut Html, kind: FaultKind, class: FileClass, counts: &[(Phase, u64, u64)]) {
    let words: Vec<String> = counts
        .iter()
        .map(|(phase, calls, hits)| match calls {
            0 => format!("{} no call", phase.name()),
            _ => format!("{} {hits}", phase.name()),
        })
        .collect();
    let words = format!("{} at {}: {}", kind.name(), class.name(), words.join(", "));
    html.element("td", &[("title", &words)], |html| {
        for (_, calls, hits) in counts {
            let class = match (calls, hits) {
                (0, 0) => "no",
                (_, 0) => "c0",
                (_, 1..=9) => "c1",
                (_, 10..=99) => "c2",
                (_, 100..=999) => "c3",
                _ => "c4",
            };
            html.leaf("i", &[("class", class)], "");
        }
    });
}

fn marks(html: &mut Html, rows: &[Map<String, Value>]) {
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    for ((_, _, name), count) in cells(rows, "coverage", 2) {
        *hits.entry(name).or_default() += count;
    }
    let (never, reached): (Vec<_>, Vec<_>) = hits.iter().partition(|(_, hits)| **hits == 0);
    html.leaf("p", &[], &format!("{} of {} were reached.", reached.len(), plural(hits.len() as u64, "coverage mark")));
    if !never.is_empty() {
        html.leaf("h3", &[], "Never reached");
        html.element("ul", &[("class", "never")], |html| {
            never.iter().for_each(|(name, _)| html.leaf("li", &[], name));
        });
    }
    if !reached.is_empty() {
        html.element("details", &[], |html| {
            html.leaf("summary", &[], &format!("Reached {}", reached.len()));
            html.element("ul", &[("class", "reached")], |html| {
                for (name, hits) in &reached {
                    html.element("li", &[], |html| {
                        html.span("bytes", &count(**hits));
                        html.text(&format!(" {name}"));
                    });
                }
            });
        });
    }
}
