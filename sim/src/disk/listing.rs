//! Crash images as a list of what is lost: the form in which a failure is kept, shrunk and explained.
//!
//! A drawn image is the outcome of a few dice ("of each file a prefix"), and whoever changes one of them gets another image
//! altogether. A listed image is asked for thing by thing, each by a name of its own, and the answer 0 keeps the thing: so a
//! thing can be kept or lost without touching another, and an image that is told nothing keeps everything. An image is a
//! listed one only where a script says so at [`LISTED`]; seeds and bytes never do.
//!
//! The names hold what was done and to which kind of file, numbers in paths replaced by `#`, and things of one name are
//! counted from the newest to the oldest: so that a listing still fits when operations before them are left out.
//!
//! A listing is a wish. The rules of the profile close it afterwards, as they close every choice, so that no image becomes
//! illegal by being listed.

use super::content::Content;
use super::image::Keep;
use super::pages::SECTOR_BYTES;
use super::pending::{Change, MetaKind, MetaOp, Origin, Record};
use super::volume::{Disk, Ino, Node};
use crate::rng::Decisions;
use std::collections::{BTreeMap, BTreeSet};

const SECTOR: u64 = SECTOR_BYTES as u64;

/// The site that says, once for each power cut, whether its image is listed.
pub const LISTED: &str = "crash.listed";

/// What the labels of things that can be lost begin with.
pub const LOSE: &str = "crash.lose ";

/// What the labels of lengths begin with.
pub const LENGTH: &str = "crash.length ";

/// One answer of a listed image, in the order in which they are asked for. Those that are 0 count too: ordinals rest on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The site.
    pub label: String,
    /// The answer.
    pub value: u64,
    /// The pending thing that it is about; `None` where it says more of the one before, or how long a file is.
    pub item: Option<Item>,
}

/// A pending thing that an image keeps or loses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// What was done: `"unlink db/000004.wal"`.
    pub what: String,
    /// The file, or of a rename the new name.
    pub path: String,
    /// Whether it is a change of names, which the sync of a directory makes durable, and not of the file itself.
    pub is_name: bool,
    /// Who had asked for it.
    pub origin: Origin,
}

/// What is wanted of all pending things, before the rules close it.
#[derive(Default)]
pub(super) struct Listing {
    pub(super) names: Vec<Keep>,
    /// By id; a record that is not there is kept.
    records: BTreeMap<u64, RecordFate>,
    /// A file that is not there is as long as its kept data goes.
    lengths: BTreeMap<Ino, LengthFate>,
}

/// What becomes of a record that is not kept whole.
#[derive(Clone)]
enum RecordFate {
    Lost,
    /// These sectors of it are lost.
    Without(BTreeSet<u64>),
    /// Its bytes from here on are lost.
    Torn(u64),
}

/// Which length a file gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LengthFate {
    All,
    None,
    /// Some changes of it from the newest on are lost, and of the newest kept one some of its growth.
    Free {
        lost: usize,
        back: u64,
    },
}

/// What is wanted of one file's records.
pub(super) struct FileListing {
    fates: Vec<Option<RecordFate>>,
    /// A record that is cut within a sector, and where.
    pub(super) tear: Option<(usize, u64)>,
}

/// A path, with every number in it replaced by `#`.
fn shape(path: &str) -> String {
    let mut shape = String::with_capacity(path.len());
    for c in path.chars() {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c => shape.push(c),
        }
    }
    shape
}

/// How many answers there are about a change of names.
fn name_answers(op: &MetaOp, nonatomic_rename: bool) -> u64 {
    if nonatomic_rename && matches!(op.kind, MetaKind::Rename { .. }) { 4 } else { 2 }
}

fn name_answer(keep: Keep) -> u64 {
    match keep {
        Keep::Yes => 0,
        Keep::No => 1,
        Keep::Both => 2,
        Keep::Neither => 3,
    }
}

fn record_word(record: &Record) -> &'static str {
    match record.change {
        Change::Write { .. } => "write",
        Change::Cut { .. } | Change::Extend { .. } => "set-len",
    }
}

impl Disk {
    fn name_label(&self, op: &MetaOp) -> String {
        format!("{LOSE}{}", shape(&self.words(op, Keep::Yes).to_string()))
    }

    fn record_label(&self, ino: Ino, record: &Record) -> String {
        format!("{LOSE}{} {}", record_word(record), shape(&self.path_of(ino)))
    }

    fn length_label(&self, ino: Ino) -> String {
        format!("{LENGTH}{}", shape(&self.path_of(ino)))
    }

    fn name_item(&self, op: &MetaOp) -> Item {
        let last = op.entries().into_iter().flatten().last();
        let path = last.map_or_else(|| self.path_of(op.ino), |entry| self.path_in(entry));
        Item { what: self.words(op, Keep::Yes).to_string(), path, is_name: true, origin: op.origin }
    }

    fn record_item(&self, ino: Ino, record: &Record) -> Item {
        let (path, range) = (self.path_of(ino), record.range());
        let what = match record.change {
            Change::Write { .. } => format!("write {path} @{}+{}", range.start, range.end - range.start),
            Change::Cut { to, .. } | Change::Extend { to } => format!("set the length of {path} to {to}"),
        };
        Item { what, path, is_name: false, origin: record.origin }
    }

    /// Every pending record, the newest first.
    fn records(&self) -> Vec<(Ino, &Record)> {
        let mut records = Vec::new();
        for (index, slot) in self.slots.iter().enumerate() {
            if let Node::File(content) = &slot.node {
                records.extend(content.pending.iter().map(|record| (Ino(index as u32), record)));
            }
        }
        records.sort_by_key(|(_, record)| std::cmp::Reverse(record.id));
        records
    }

    /// Asks for the fate of everything that is pending.
    pub(super) fn ask_listing(&self, decisions: &mut Decisions) -> Listing {
        let mut ask = |label: &str, n: u64| {
            let site = decisions.site(label);
            decisions.told(site, n)
        };
        let mut listing = Listing { names: vec![Keep::Yes; self.meta.len()], ..Listing::default() };
        for (index, op) in self.meta.iter().enumerate().rev() {
            let answer = ask(&self.name_label(op), name_answers(op, self.rules.nonatomic_rename));
            listing.names[index] = [Keep::Yes, Keep::No, Keep::Both, Keep::Neither][answer as usize];
        }
        let records = self.records();
        for (ino, record) in &records {
            let label = self.record_label(*ino, record);
            let range = record.range();
            let fate = match ask(&label, 4) {
                0 => continue,
                1 => RecordFate::Lost,
                2 => {
                    let label = format!("{label} sector");
                    RecordFate::Without(record.sectors().filter(|_| ask(&label, 2) == 1).collect())
                }
                _ => {
                    let lost = ask(&format!("{label} bytes"), range.end - range.start + 1);
                    RecordFate::Torn(range.end - lost)
                }
            };
            listing.records.insert(record.id, fate);
        }
        for (index, slot) in self.slots.iter().enumerate().rev() {
            let Node::File(content) = &slot.node else { continue };
            if content.pending.is_empty() {
                continue;
            }
            let ino = Ino(index as u32);
            let label = self.length_label(ino);
            let fate = match ask(&label, 4) {
                0 => continue,
                1 => LengthFate::All,
                2 => LengthFate::None,
                _ => {
                    let lost = ask(&format!("{label} changes"), content.pending.len() as u64 + 1) as usize;
                    LengthFate::Free { lost, back: ask(&format!("{label} back"), u64::MAX) }
                }
            };
            listing.lengths.insert(ino, fate);
        }
        listing
    }

    /// The answers that would list an image, as it came out: of each name what was kept of it, of each file its records and
    /// length.
    pub(super) fn listed(&self, names: &[Keep], files: &BTreeMap<Ino, FileOutcome>) -> Vec<Listed> {
        let mut answers = Vec::new();
        for (op, &keep) in self.meta.iter().zip(names).rev() {
            let item = Some(self.name_item(op));
            answers.push(Listed { label: self.name_label(op), value: name_answer(keep), item });
        }
        for (ino, record) in self.records() {
            let label = self.record_label(ino, record);
            let item = Some(self.record_item(ino, record));
            let fate = files.get(&ino).and_then(|file| file.lost.get(&record.id));
            match fate {
                None => answers.push(Listed { label, value: 0, item }),
                Some(Loss::Whole) => answers.push(Listed { label, value: 1, item }),
                Some(Loss::Sectors(lost)) => {
                    answers.push(Listed { label: label.clone(), value: 2, item });
                    let label = format!("{label} sector");
                    answers.extend(record.sectors().map(|sector| Listed {
                        label: label.clone(),
                        value: u64::from(lost.contains(&sector)),
                        item: None,
                    }));
                }
                Some(Loss::From(end)) => {
                    let value = record.range().end - end;
                    answers.push(Listed { label: label.clone(), value: 3, item });
                    answers.push(Listed { label: format!("{label} bytes"), value, item: None });
                }
            }
        }
        for (index, slot) in self.slots.iter().enumerate().rev() {
            let Node::File(content) = &slot.node else { continue };
            if content.pending.is_empty() {
                continue;
            }
            let ino = Ino(index as u32);
            let label = self.length_label(ino);
            match files.get(&ino).and_then(|file| file.length) {
                None => answers.push(Listed { label, value: 0, item: None }),
                Some(LengthFate::All) => answers.push(Listed { label, value: 1, item: None }),
                Some(LengthFate::None) => answers.push(Listed { label, value: 2, item: None }),
                Some(LengthFate::Free { lost, back }) => {
                    answers.push(Listed { label: label.clone(), value: 3, item: None });
                    answers.push(Listed { label: format!("{label} changes"), value: lost as u64, item: None });
                    answers.push(Listed { label: format!("{label} back"), value: back, item: None });
                }
            }
        }
        answers
    }
}

/// What an image made of one file, as a listing says it.
pub(super) struct FileOutcome {
    /// Records that are not whole in the image, by id.
    pub(super) lost: BTreeMap<u64, Loss>,
    /// Its length, where the kept data does not say it.
    pub(super) length: Option<LengthFate>,
}

/// What of a record is not in an image.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// All of it.
    Whole,
    /// These sectors.
    Sectors(BTreeSet<u64>),
    /// Its bytes from here on.
    From(u64),
}

impl Listing {
    /// What it says of one file. Within a sector only the newest write of the image can be cut, `torn_file` says whether it
    /// is in this file and the power loss one that tears; any other ends between two sectors.
    pub(super) fn of_file(&self, content: &Content, torn_file: bool) -> FileListing {
        let newest = content.pending.iter().rposition(|record| matches!(record.change, Change::Write { .. }));
        let mut listing = FileListing { fates: Vec::with_capacity(content.pending.len()), tear: None };
        for (index, record) in content.pending.iter().enumerate() {
            let mut fate = self.records.get(&record.id).cloned();
            if let Some(RecordFate::Torn(end)) = &mut fate {
                if torn_file && newest == Some(index) {
                    listing.tear = (*end % SECTOR != 0).then_some((index, *end));
                } else {
                    *end = (*end / SECTOR * SECTOR).max(record.range().start);
                }
            }
            listing.fates.push(fate);
        }
        listing
    }

    pub(super) fn length_of(&self, ino: Ino) -> Option<LengthFate> {
        self.lengths.get(&ino).copied()
    }
}

impl FileListing {
    fn keeps(&self, content: &Content, index: usize, sector: u64) -> bool {
        match &self.fates[index] {
            None => true,
            Some(RecordFate::Lost) => false,
            Some(RecordFate::Without(lost)) => !lost.contains(&sector),
            Some(RecordFate::Torn(end)) => (sector + 1) * SECTOR <= *end || content.pending[index].range().end <= *end,
        }
    }

    /// How many records, from the oldest on, are wanted in this sector.
    pub(super) fn at(&self, content: &Content, sector: u64) -> usize {
        let lost = content.touching(sector).find(|&index| !self.keeps(content, index, sector));
        lost.unwrap_or(content.pending.len())
    }

    /// The newest record of which anything is kept, and where it ends if it is torn.
    pub(super) fn newest_kept(&self, content: &Content) -> Option<(usize, Option<u64>)> {
        (0..content.pending.len()).rev().find_map(|index| match &self.fates[index] {
            Some(RecordFate::Lost) => None,
            Some(RecordFate::Torn(end)) => (*end > content.pending[index].range().start).then_some((index, Some(*end))),
            Some(RecordFate::Without(_)) => {
                let kept = content.pending[index].sectors().any(|sector| self.at(content, sector) > index);
                kept.then_some((index, None))
            }
            None => Some((index, None)),
        })
    }
}

#[cfg(test)]
mod tests;
