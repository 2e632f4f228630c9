//! Crash images: which pending changes a power cut keeps, and the disk that is left.
//!
//! A power cut takes two choices, names and data, and builds the image from them. The choice is drawn by name (`crash.meta`,
//! `crash.data` and so on; 0 always keeps everything) or given as an [`ImageChoice`]; either way it is closed under the
//! rules of the profile afterwards, so that no image is illegal:
//! - names: a change is kept only with the earlier changes of the same name, or, in a journal, with all earlier ones;
//! - data: within a sector a record is kept only with the earlier records of that sector;
//! - a cut of a file goes before everything that was written after it, and what it cut away comes back only with it undone;
//! - in ordered mode a file's new length is kept only with the data below it.
//!
//! A file that no kept name reaches vanishes, however durable its bytes were.

use super::listing::{LISTED, Listing};
use super::pages::SECTOR_BYTES;
use super::pending::Change;
use super::profile::DataRule;
use super::report::{CrashReport, Fate, Thing};
use super::volume::{Disk, Ino, Node, with_requirements};
use crate::rng::{Decisions, Rest};
use file::{FileImage, Settled};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

mod file;
mod names;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// What dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrashKind {
    /// The machine: handles are gone, and pending changes are kept or lost as the profile allows.
    PowerLoss,
    /// The machine, in the middle of the newest write, which may end within a sector.
    TornPowerLoss,
    /// The process: handles are gone, all that was written stays, and what was pending stays pending.
    Process,
}

impl fmt::Display for CrashKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CrashKind::PowerLoss => "power loss",
            CrashKind::TornPowerLoss => "power loss with a torn write",
            CrashKind::Process => "process crash",
        })
    }
}

/// A canonical image, for those who sweep instead of drawing. Numbers of names count [`Disk::pending`]'s first figure
/// in program order; numbers of writes its second, file by file in the order of their creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageChoice {
    /// As little as is legal.
    Min,
    /// Everything.
    All,
    /// All names and lengths, no data.
    NamesOnly,
    /// All data, no names.
    DataOnly,
    /// The first so many changes of names, and all data.
    MetaPrefix(usize),
    /// All but one change of a name and what rests on it.
    DropMeta(usize),
    /// Of all that is pending only one change of a name, with what it rests on, and all data.
    KeepMeta(usize),
    /// All but one write and what rests on it.
    DropWrite(usize),
    /// All names; of the data only one write, with what it rests on.
    KeepWrite(usize),
    /// Everything, but of the newest write only the first so many sectors.
    TornLast(u64),
    /// The same, and one byte of the next sector.
    TornWithin(u64),
    /// Like [`ImageChoice::NamesOnly`], with a pattern where data is missing.
    PatternTail,
    /// Like [`ImageChoice::NamesOnly`], with what a deleted file had there.
    StaleTail,
}

/// Which data is kept, before the rules close it.
#[derive(Clone, Copy)]
enum DataPlan {
    All,
    None,
    /// Of each file a prefix of its records.
    Prefixes,
    /// Of each sector a prefix of its records.
    Sectors,
    /// All but the end of the newest write; so many sectors of it, or as many as is drawn.
    TornLast(Option<u64>),
    /// Only this record of the disk.
    Keep(usize),
    /// All but this record of the disk.
    Drop(usize),
    /// Each file for itself.
    Mixed,
}

/// Which lengths are kept, before the rules close it.
#[derive(Clone, Copy)]
enum SizePlan {
    /// As far as the kept data goes.
    Follow,
    All,
    None,
    /// Any that the file had, or an end of a sector in between.
    Free,
}

/// What becomes of a pending change of names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    Yes,
    No,
    /// Of a rename, the new name beside the old one.
    Both,
    /// Of a rename, neither name.
    Neither,
}

/// All choices of one image.
struct Plan {
    names: Vec<Keep>,
    data: DataPlan,
    size: SizePlan,
    within_sector: bool,
    /// Thing by thing instead of all that.
    listing: Option<Listing>,
}

impl Disk {
    /// The disk after a crash, and what it kept and lost. Choices come from `decisions`; the answer 0 keeps everything.
    pub fn crash(&self, kind: CrashKind, decisions: &mut Decisions) -> (Disk, CrashReport) {
        if kind == CrashKind::Process {
            return self.end_of_process();
        }
        let listed = decisions.site(LISTED);
        if decisions.told(listed, 2) == 1 {
            let listing = self.ask_listing(decisions);
            let names = self.close_names(listing.names.clone());
            let (data, size) = match self.rules.data {
                DataRule::None => (DataPlan::None, SizePlan::None),
                _ => (DataPlan::All, SizePlan::Follow),
            };
            let plan = Plan { names, data, size, within_sector: false, listing: Some(listing) };
            return self.image(kind, &plan, decisions);
        }
        let names = self.draw_names(decisions);
        let pending = self.pending().1 as u64;
        let (data, size) = match self.rules.data {
            DataRule::All => (DataPlan::All, SizePlan::All),
            DataRule::None => (DataPlan::None, SizePlan::None),
            _ if pending == 0 => (DataPlan::All, SizePlan::All),
            _ => (draw_data(decisions, pending), draw_size(decisions)),
        };
        // Where everything or nothing of what is pending is kept, no write can be kept in part.
        let tears = !matches!(self.rules.data, DataRule::All | DataRule::None) && pending > 0;
        let within_sector = tears && kind == CrashKind::TornPowerLoss;
        let data = if within_sector { DataPlan::TornLast(None) } else { data };
        self.image(kind, &Plan { names, data, size, within_sector, listing: None }, decisions)
    }

    /// A canonical image of a power cut, closed under the rules of the profile.
    pub fn crash_with(&self, choice: ImageChoice) -> (Disk, CrashReport) {
        let count = self.meta.len();
        let flags = |wanted: &dyn Fn(usize) -> bool| (0..count).map(wanted).collect::<Vec<bool>>();
        let all = flags(&|_| true);
        let (names, data, size) = match choice {
            ImageChoice::Min => (flags(&|_| false), DataPlan::None, SizePlan::None),
            ImageChoice::All => (all, DataPlan::All, SizePlan::All),
            ImageChoice::NamesOnly | ImageChoice::PatternTail | ImageChoice::StaleTail => {
                (all, DataPlan::None, SizePlan::All)
            }
            ImageChoice::DataOnly => (flags(&|_| false), DataPlan::All, SizePlan::All),
            ImageChoice::MetaPrefix(keep) => (flags(&|index| index < keep), DataPlan::All, SizePlan::All),
            ImageChoice::DropMeta(drop) => (flags(&|index| index != drop), DataPlan::All, SizePlan::All),
            ImageChoice::KeepMeta(keep) => {
                (with_requirements(&self.meta, flags(&|index| index == keep)), DataPlan::All, SizePlan::All)
            }
            ImageChoice::DropWrite(drop) => (all, DataPlan::Drop(drop), SizePlan::Follow),
            ImageChoice::KeepWrite(keep) => (all, DataPlan::Keep(keep), SizePlan::Follow),
            ImageChoice::TornLast(sectors) | ImageChoice::TornWithin(sectors) => {
                (all, DataPlan::TornLast(Some(sectors)), SizePlan::Follow)
            }
        };
        let wanted = names.into_iter().map(|keep| if keep { Keep::Yes } else { Keep::No }).collect();
        let names = self.close_names(wanted);
        let (data, size) = match self.rules.data {
            DataRule::All => (DataPlan::All, SizePlan::All),
            DataRule::None => (DataPlan::None, SizePlan::None),
            _ => (data, size),
        };
        let within_sector = matches!(choice, ImageChoice::TornWithin(_));
        let kind = if within_sector { CrashKind::TornPowerLoss } else { CrashKind::PowerLoss };
        let details = match choice {
            ImageChoice::PatternTail | ImageChoice::StaleTail | ImageChoice::TornWithin(_) => self.script_of(choice),
            _ => Vec::new(),
        };
        let details = details.into_iter().map(|(label, ordinal, value)| ((label.to_string(), ordinal), value));
        let mut details = Decisions::scripted(details.collect(), Rest::Zero);
        self.image(kind, &Plan { names, data, size, within_sector, listing: None }, &mut details)
    }

    /// How many sectors the newest pending write touches.
    pub(super) fn newest_write_sectors(&self) -> u64 {
        let named = self.slots.iter().filter(|slot| slot.links > 0);
        let newest = named.filter_map(|slot| match &slot.node {
            Node::File(content) => content.pending.iter().rfind(|record| matches!(record.change, Change::Write { .. })),
            _ => None,
        });
        newest.max_by_key(|record| record.id).map_or(0, |record| record.sectors().end - record.sectors().start)
    }

    /// The files about whose content an image is asked, in the order in which it is, when these changes of names are lost.
    pub(super) fn drawn_files(&self, lost: &BTreeSet<usize>) -> Vec<Ino> {
        let wanted = (0..self.meta.len()).map(|index| if lost.contains(&index) { Keep::No } else { Keep::Yes });
        let mut image = self.fork();
        image.settle_names(&self.close_names(wanted.collect()));
        image.sweep();
        let files = self.slots.iter().zip(&image.slots).enumerate();
        let drawn = files.filter(|(_, (slot, kept))| match &slot.node {
            Node::File(content) => {
                let is_settled =
                    content.pending.is_empty() && content.dropped.is_empty() && content.len == content.synced_len;
                kept.links > 0 && !is_settled
            }
            _ => false,
        });
        drawn.map(|(index, _)| Ino(index as u32)).collect()
    }

    /// Of a journal, how many changes of names it keeps when this one is kept.
    pub(super) fn kept_alone(&self, index: usize) -> usize {
        let flags = with_requirements(&self.meta, (0..self.meta.len()).map(|other| other == index).collect());
        flags.iter().position(|keep| !keep).unwrap_or(flags.len())
    }

    fn end_of_process(&self) -> (Disk, CrashReport) {
        let mut disk = self.fork();
        for index in 0..disk.slots.len() as u32 {
            while disk.slots[index as usize].opens > 0 {
                disk.close(Ino(index));
            }
        }
        let mut report = CrashReport::new(CrashKind::Process);
        report.broken_syncs = self.broken_syncs.clone();
        (disk, report)
    }

    fn image(&self, kind: CrashKind, plan: &Plan, decisions: &mut Decisions) -> (Disk, CrashReport) {
        let mut report = CrashReport::new(kind);
        report.broken_syncs = self.broken_syncs.clone();
        let mut disk = self.fork();
        disk.broken_syncs.clear();
        disk.lies.clear();
        disk.settle_names(&plan.names);
        disk.sweep();
        let Disk { litter, slots, .. } = &mut disk;
        // What somebody left in a directory goes with it where its own name was lost, and that is no doing of the store.
        litter.retain(|ino| slots[ino.0 as usize].links > 0 || self.slots[ino.0 as usize].links == 0);
        if !self.lies.is_empty() {
            let kept: Vec<bool> = plan.names.iter().map(|&keep| keep == Keep::Yes).collect();
            self.break_name_promises(&kept, &mut disk);
        }
        for (op, &keep) in self.meta.iter().zip(&plan.names) {
            let fate = Fate { thing: self.words(op, keep), origin: Some(op.origin) };
            if keep == Keep::Yes { report.kept.push(fate) } else { report.lost.push(fate) }
        }
        let newest = self.newest_write(&disk);
        let mut number = 0;
        let mut outcomes = BTreeMap::new();
        for index in 0..self.slots.len() {
            let Node::File(content) = &self.slots[index].node else { continue };
            let first_number = number;
            number += content.pending.len();
            if disk.slots[index].links == 0 {
                if self.slots[index].links > 0 {
                    let thing =
                        Thing::Vanished { path: self.path_of(Ino(index as u32)), synced_bytes: content.synced_len };
                    report.lost.push(Fate { thing, origin: None });
                }
                continue;
            }
            if content.pending.is_empty() && content.dropped.is_empty() && content.len == content.synced_len {
                continue;
            }
            if self.rules.data == DataRule::All {
                disk.slots[index].node = Node::File(Arc::new(content.as_read()));
                continue;
            }
            let ino = Ino(index as u32);
            let file = FileImage { disk: self, ino, content, plan, first_number, kind };
            let Settled { content: settled, lost, outcome } = file.settle(newest == Some(ino), decisions, &mut report);
            outcomes.extend(outcome.map(|outcome| (ino, outcome)));
            disk.slots[index].node = Node::File(Arc::new(settled));
            if !self.lies.is_empty() {
                self.break_promises(Ino(index as u32), &lost, content, &mut disk);
            }
        }
        disk.used_pages = disk.slots.iter().map(|slot| pages_of(&slot.node)).sum();
        if decisions.is_recording() && self.rules.data != DataRule::All {
            report.listed = self.listed(&plan.names, &outcomes);
        }
        (disk, report)
    }

    /// The file with the newest write among those that are in the image.
    fn newest_write(&self, image: &Disk) -> Option<Ino> {
        let mut newest = None;
        for (index, slot) in image.slots.iter().enumerate() {
            if let Node::File(content) = &slot.node
                && let Some(last) = content.pending.iter().rfind(|record| matches!(record.change, Change::Write { .. }))
            {
                newest = newest.max(Some((last.id, Ino(index as u32))));
            }
        }
        newest.map(|(_, ino)| ino)
    }
}

fn pages_of(node: &Node) -> u64 {
    match node {
        Node::File(content) => content.pages.taken(),
        _ => 0,
    }
}

fn draw_data(decisions: &mut Decisions, pending: u64) -> DataPlan {
    let data = decisions.site("crash.data");
    match decisions.decide(data, 8) {
        0 => DataPlan::All,
        1 => DataPlan::None,
        2 => DataPlan::Prefixes,
        3 => DataPlan::Sectors,
        4 => DataPlan::TornLast(None),
        5 => {
            let write = decisions.site("crash.write");
            DataPlan::Keep(decisions.decide(write, pending) as usize)
        }
        6 => {
            let write = decisions.site("crash.write");
            DataPlan::Drop(decisions.decide(write, pending) as usize)
        }
        _ => DataPlan::Mixed,
    }
}

fn draw_size(decisions: &mut Decisions) -> SizePlan {
    let size = decisions.site("crash.size");
    match decisions.decide(size, 4) {
        0 => SizePlan::Follow,
        1 => SizePlan::All,
        2 => SizePlan::None,
        _ => SizePlan::Free,
    }
}
