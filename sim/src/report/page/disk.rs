//! The disk at one moment, drawn: what of each file is durable, what is not yet, and which names a crash may take back.

use super::html::Html;
use super::plural;
use crate::disk::{DiskView, FileView, NameView};
use crate::watch::Level;
use std::ops::Range;

/// Dirty parts of one file that are drawn apart from each other.
const PARTS_MAX: usize = 24;

/// Files, and pending changes of names, that are listed.
const LISTED_MAX: usize = 40;

/// The disk. What is otherwise than `before` is marked.
pub(super) fn disk(html: &mut Html, view: &DiskView, before: Option<&DiskView>) {
    let (settled, open): (Vec<&FileView>, Vec<&FileView>) = view.files.iter().partition(|file| file.is_settled());
    if open.is_empty() {
        html.leaf("p", &[("class", "quiet")], "Everything on the disk is durable.");
    }
    for file in open.iter().take(LISTED_MAX) {
        let is_new = before.is_some_and(|before| !before.files.contains(file));
        file_row(html, file, is_new);
    }
    left_out(html, open.len(), "file");
    if !view.names.is_empty() {
        html.element("div", &[("class", "names")], |html| {
            html.leaf("h4", &[], "Names a crash may take back");
            html.element("ul", &[], |html| {
                for (thing, origin) in view.names.iter().take(LISTED_MAX) {
                    html.element("li", &[], |html| {
                        html.leaf("code", &[], &thing.to_string());
                        html.span("where", &format!(" call {}{}", origin.op, at(origin)));
                    });
                }
            });
            left_out(html, view.names.len(), "name");
        });
    }
    if !settled.is_empty() {
        html.element("p", &[("class", "settled")], |html| {
            html.span("label", "durable");
            for file in settled.iter().take(LISTED_MAX) {
                html.text(" ");
                html.element("span", &[("class", "chip")], |html| {
                    html.text(short(&file.path));
                    html.span("bytes", &format!(" {}", file.len));
                });
            }
            left_out(html, settled.len(), "file");
        });
    }
}

fn left_out(html: &mut Html, all: usize, word: &str) {
    if all > LISTED_MAX {
        html.span("where", &format!(" and {} more", plural((all - LISTED_MAX) as u64, word)));
    }
}

fn at(origin: &crate::disk::Origin) -> String {
    origin.at.map_or_else(String::new, |at| format!(", {}:{}", at.file(), at.line()))
}

/// The name without the directory of the store: every file lies there.
fn short(path: &str) -> &str {
    path.strip_prefix("db/").unwrap_or(path)
}

fn file_row(html: &mut Html, file: &FileView, is_new: bool) {
    let class = match (file.name, is_new) {
        (NameView::Removed, false) => "file removed",
        (NameView::Removed, true) => "file removed new",
        (_, false) => "file",
        (_, true) => "file new",
    };
    html.element("div", &[("class", class)], |html| {
        html.element("div", &[("class", "file-head")], |html| {
            html.leaf("code", &[], &file.path);
            match file.name {
                NameView::Durable => {}
                NameView::Pending => html.span("badge pending", "name pending"),
                NameView::Removed => html.span("badge pending", "removal pending"),
            }
            html.span("sizes", &sizes(file));
        });
        bar(html, file);
    });
}

fn sizes(file: &FileView) -> String {
    let FileView { len, durable_len, .. } = file;
    let dirty = match file.dirty_bytes() {
        0 => String::new(),
        bytes => format!(", {bytes} B dirty"),
    };
    if len == durable_len { format!("{len} B{dirty}") } else { format!("{len} B, length {durable_len} durable{dirty}") }
}

/// The bytes of a file from left to right.
fn bar(html: &mut Html, file: &FileView) {
    let whole = file.len.max(file.durable_len).max(file.dirty.last().map_or(0, |range| range.end));
    if whole == 0 {
        return;
    }
    let part = |html: &mut Html, class: &str, range: &Range<u64>| {
        let percent = |bytes: u64| format!("{:.2}", bytes as f64 * 100.0 / whole as f64);
        let (left, width) = (percent(range.start), percent(range.end.saturating_sub(range.start)));
        html.leaf("i", &[("class", class), ("style", &format!("left:{left}%;width:{width}%"))], "");
    };
    let words = format!("{} durable, {} dirty of {whole} bytes", file.durable_len, file.dirty_bytes());
    html.element("div", &[("class", "bar"), ("role", "img"), ("aria-label", &words), ("title", &words)], |html| {
        part(html, "durable", &(0..file.durable_len));
        if file.durable_len > file.len {
            part(html, "cut", &(file.len..file.durable_len));
        }
        let parts = &file.dirty;
        for range in parts.iter().take(PARTS_MAX) {
            part(html, "dirty", range);
        }
        if let (Some(first), Some(last)) = (parts.get(PARTS_MAX), parts.last()) {
            part(html, "dirty", &(first.start..last.end));
        }
    });
}

/// The tree of the store, where it has told of it.
pub(super) fn levels(html: &mut Html, levels: &[Level]) {
    let used = levels.iter().rposition(|level| level.tables > 0).map_or(0, |last| last + 1);
    if levels.is_empty() {
        return;
    }
    html.element("div", &[("class", "levels")], |html| {
        html.span("label", "tree");
        if used == 0 {
            html.span("quiet", "no table yet");
        }
        for (index, level) in levels[..used].iter().enumerate() {
            let Level { tables, bytes } = *level;
            html.element("span", &[("class", "level")], |html| {
                html.leaf("b", &[], &format!("L{index}"));
                for _ in 0..tables.min(12) {
                    html.leaf("i", &[], "");
                }
                let words = format!("{}, {bytes} B", plural(tables, "table"));
                html.span("bytes", if tables == 0 { "empty" } else { &words });
            });
        }
    });
}
