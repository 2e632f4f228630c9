//! The steps of a run as a drawing: a lane for each task, time from left to right, a mark for each call, a line for each crash.
//!
//! A client's operation is a bar from its start to the next one; the clients share the driver's lane where there is only one.

use super::html::Html;
use super::plural;
use crate::explain::{Call, Happened, Witnessed};
use crate::fault::FsOp;

/// Steps that are drawn at the start and at the end of a long run.
const HEAD_MAX: usize = 80;
const TAIL_MAX: usize = 320;

/// Distances of the drawing.
const STEP: usize = 15;
const LANE: usize = 34;
const TOP: usize = 22;
const LEFT: usize = 118;

/// What a mark looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    Name,
    Sync,
}

impl Kind {
    fn of(op: FsOp) -> Kind {
        match op {
            FsOp::Open | FsOp::Read | FsOp::ReadDir | FsOp::Stat | FsOp::Lock => Kind::Read,
            FsOp::Write | FsOp::SetLen => Kind::Write,
            FsOp::Create | FsOp::Rename | FsOp::Link | FsOp::Unlink | FsOp::Mkdir | FsOp::Rmdir => Kind::Name,
            FsOp::SyncData | FsOp::SyncAll | FsOp::SyncDir => Kind::Sync,
        }
    }

    fn class(self) -> &'static str {
        match self {
            Kind::Read => "read",
            Kind::Write => "write",
            Kind::Name => "name",
            Kind::Sync => "sync",
        }
    }

    /// The shape around (0, 0), as a path.
    fn path(self) -> &'static str {
        match self {
            Kind::Read => "M-2 0a2 2 0 1 0 4 0a2 2 0 1 0 -4 0",
            Kind::Write => "M-5 -5h10v10h-10z",
            Kind::Name => "M0 -6L6 5H-6z",
            Kind::Sync => "M-2.5 -8h5v16h-5z",
        }
    }
}

/// A step that is drawn.
enum Step<'a> {
    Call { call: &'a Call, lane: usize, outcome: &'a str, has_moment: bool },
    Operation { words: &'a str, lane: usize },
    Crash(&'a str),
    Event(&'a str),
    Found(&'a str),
}

/// Draws a run. Marks link to the moments with ids that begin with `prefix`.
pub(super) fn timeline(html: &mut Html, witnessed: &Witnessed, prefix: &str) {
    let mut lanes: Vec<String> = vec!["driver".into()];
    let mut lane_of = |name: &str| {
        lanes.iter().position(|lane| lane == name).unwrap_or_else(|| {
            lanes.push(name.to_string());
            lanes.len() - 1
        })
    };
    let mut steps = Vec::new();
    let several = witnessed.report.started.len() > 1;
    for happened in &witnessed.happened {
        steps.push(match happened {
            Happened::Call { call, task, outcome } => {
                let call = &witnessed.calls[*call];
                let has_moment = witnessed.film.before(call.ordinal).is_some();
                Step::Call { call, lane: lane_of(task), outcome, has_moment }
            }
            Happened::Crash(kind) => Step::Crash(kind),
            Happened::Note(note) => {
                if let Some(event) = note.strip_prefix("strata: ") {
                    Step::Event(event)
                } else if let Some(found) = note.strip_prefix("FOUND ") {
                    Step::Found(found)
                } else if let Some((client, words)) = operation(note) {
                    Step::Operation { words, lane: if several { lane_of(client) } else { 0 } }
                } else {
                    continue;
                }
            }
        });
    }
    let left_out = steps.len().saturating_sub(HEAD_MAX + TAIL_MAX);
    if left_out > 0 {
        steps.drain(HEAD_MAX..HEAD_MAX + left_out);
    }
    legend(html);
    if left_out > 0 {
        let text = format!(
            "{} are drawn, the first {HEAD_MAX} and the last {TAIL_MAX}; {} between them are left out.",
            plural(steps.len() as u64, "step"),
            super::super::count(left_out as u64)
        );
        html.leaf("p", &[("class", "left-out")], &text);
    }
    draw(html, &steps, &lanes, (left_out > 0).then_some(HEAD_MAX), prefix);
}

/// The client and the operation of a note such as `client 0 #3: put k1`.
fn operation(note: &str) -> Option<(&str, &str)> {
    let (client, words) = note.split_once(": ")?;
    let name = client.split(" #").next()?;
    (name.starts_with("client ") && client.contains(" #")).then_some((name, words))
}

fn legend(html: &mut Html) {
    html.element("ul", &[("class", "legend")], |html| {
        let entries = [
            (Kind::Write, "write"),
            (Kind::Name, "create, rename, unlink"),
            (Kind::Sync, "sync"),
            (Kind::Read, "read"),
        ];
        for (kind, words) in entries {
            html.element("li", &[], |html| {
                html.element("svg", &[("viewBox", "-9 -9 18 18"), ("aria-hidden", "true")], |html| {
                    html.empty("path", &[("class", kind.class()), ("d", kind.path())]);
                });
                html.text(words);
            });
        }
        html.element("li", &[], |html| {
            html.element("svg", &[("viewBox", "-9 -9 18 18"), ("aria-hidden", "true")], |html| {
                html.empty("circle", &[("class", "failed"), ("r", "7")]);
            });
            html.text("failed by a fault");
        });
    });
}

fn draw(html: &mut Html, steps: &[Step<'_>], lanes: &[String], gap: Option<usize>, prefix: &str) {
    // The word below the last line is wider than a step.
    let (width, bottom) = (LEFT + (steps.len() + 2) * STEP, TOP + lanes.len() * LANE);
    let height = bottom + 26;
    let view = format!("0 0 {width} {height}");
    let (width_px, height_px) = (width.to_string(), height.to_string());
    let attributes = [
        ("class", "timeline"),
        ("viewBox", view.as_str()),
        ("width", &width_px),
        ("height", &height_px),
        ("role", "img"),
    ];
    html.element("div", &[("class", "scroll"), ("tabindex", "0"), ("aria-label", "timeline")], |html| {
        html.element("svg", &attributes, |html| {
            for (lane, name) in lanes.iter().enumerate() {
                let y = middle(lane).to_string();
                let end = width.to_string();
                html.empty(
                    "line",
                    &[("class", "lane"), ("x1", &LEFT.to_string()), ("x2", &end), ("y1", &y), ("y2", &y)],
                );
                html.leaf("text", &[("class", "lane-name"), ("x", "0"), ("y", &(middle(lane) + 4).to_string())], name);
            }
            for (index, step) in steps.iter().enumerate() {
                let x = LEFT + (index + 1) * STEP;
                draw_step(html, step, x, bottom, end_of_operation(steps, index), prefix);
            }
            if let Some(at) = gap {
                let x = (LEFT + at * STEP + STEP / 2).to_string();
                html.empty(
                    "line",
                    &[("class", "gap"), ("x1", &x), ("x2", &x), ("y1", "0"), ("y2", &bottom.to_string())],
                );
            }
        });
    });
}

fn middle(lane: usize) -> usize {
    TOP + lane * LANE + LANE / 2
}

/// How many steps an operation lasts: until its client begins the next one, or the machine crashes.
fn end_of_operation(steps: &[Step<'_>], start: usize) -> usize {
    let Step::Operation { lane, .. } = steps[start] else { return 0 };
    let ends = |step: &Step<'_>| match step {
        Step::Operation { lane: other, .. } => *other == lane,
        Step::Crash(_) | Step::Found(_) => true,
        Step::Call { .. } | Step::Event(_) => false,
    };
    steps[start + 1..].iter().position(ends).unwrap_or(steps.len() - start - 1) + 1
}

fn draw_step(html: &mut Html, step: &Step<'_>, x: usize, bottom: usize, lasts: usize, prefix: &str) {
    match step {
        Step::Call { call, lane, outcome, has_moment } => {
            let kind = Kind::of(call.op);
            let title = format!("call {}: {call} -> {outcome}\n{}:{}", call.ordinal, call.at.file(), call.at.line());
            let place = format!("translate({x} {})", middle(*lane));
            let mark = |html: &mut Html| {
                html.element("g", &[("transform", &place)], |html| {
                    html.leaf("title", &[], &title);
                    html.empty("path", &[("class", kind.class()), ("d", kind.path())]);
                    if *outcome != "ok" {
                        let class = if outcome.contains("injected") { "failed" } else { "refused" };
                        html.empty("circle", &[("class", class), ("r", "7")]);
                    }
                });
            };
            match has_moment {
                true => html.element("a", &[("href", &format!("#{prefix}call-{}", call.ordinal))], mark),
                false => mark(html),
            }
        }
        Step::Operation { words, lane } => {
            let width = (lasts * STEP).saturating_sub(3).max(STEP - 3);
            let y = middle(*lane) - LANE / 2 + 1;
            html.element("g", &[("class", "operation")], |html| {
                html.leaf("title", &[], words);
                let (x, y, width) = (x.to_string(), y.to_string(), width.to_string());
                html.empty("rect", &[("x", &x), ("y", &y), ("width", &width), ("height", "6"), ("rx", "2")]);
            });
            // Its name, as far as there is room.
            let room = width / 7;
            if room > 3 {
                let name: String = words.chars().take(room).collect();
                let (x, y) = (x.to_string(), (y - 2).to_string());
                html.leaf("text", &[("class", "operation-name"), ("x", &x), ("y", &y)], &name);
            }
        }
        Step::Crash(kind) => line(html, "crash", kind, x, bottom),
        Step::Found(words) => line(html, "found", words, x, bottom),
        Step::Event(words) => {
            html.element("g", &[("transform", &format!("translate({x} {})", bottom + 4))], |html| {
                html.leaf("title", &[], words);
                html.empty("path", &[("class", "event"), ("d", "M0 -4L4 0L0 4L-4 0z")]);
            });
        }
    }
}

/// A line through all lanes.
fn line(html: &mut Html, class: &str, words: &str, x: usize, bottom: usize) {
    let (x, end) = (x.to_string(), bottom.to_string());
    html.element("g", &[("class", class)], |html| {
        html.leaf("title", &[], words);
        html.empty("line", &[("x1", &x), ("x2", &x), ("y1", "8"), ("y2", &end)]);
        let label = if class == "crash" { words } else { "found" };
        html.leaf("text", &[("x", &x), ("y", &(bottom + 18).to_string()), ("text-anchor", "middle")], label);
    });
}
