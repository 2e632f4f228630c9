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

use super::content::{Content, Kept};
use super::listing::{FileListing, FileOutcome, LISTED, LengthFate, Listing, Loss};
use super::pages::{PAGE_BYTES, SECTOR_BYTES};
use super::pending::{Change, Entry, MetaKind, MetaOp};
use super::profile::{DataRule, Hole, MetaRule};
use super::report::{CrashReport, Fate, Thing};
use super::volume::{Disk, Ino, Node, ROOT, with_requirements};
use crate::rng::{Decisions, Rest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

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

/// What is wanted of one file's records.
enum Bound {
    First(usize),
    Only(usize),
    Without(usize),
    Torn { record: usize, end: u64, within_sector: bool },
    Sectors(BTreeMap<u64, usize>),
    Listed(FileListing),
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

    // ---- names ----

    fn draw_names(&self, decisions: &mut Decisions) -> Vec<Keep> {
        let count = self.meta.len();
        if count == 0 {
            return Vec::new();
        }
        let meta = decisions.site("crash.meta");
        let op = decisions.site("crash.meta.op");
        let flags: Vec<bool> = match self.rules.meta {
            MetaRule::All => vec![true; count],
            MetaRule::None => vec![false; count],
            MetaRule::Prefix => {
                let keep = count - decisions.decide(meta, count as u64 + 1) as usize;
                (0..count).map(|index| index < keep).collect()
            }
            MetaRule::PerDir | MetaRule::Any => match decisions.decide(meta, 6) {
                0 => vec![true; count],
                1 => vec![false; count],
                2 => {
                    let keep = count - 1 - decisions.decide(op, count as u64) as usize;
                    (0..count).map(|index| index < keep).collect()
                }
                3 => (0..count).map(|_| decisions.decide(op, 2) == 0).collect(),
                4 => {
                    let drop = decisions.decide(op, count as u64) as usize;
                    (0..count).map(|index| index != drop).collect()
                }
                _ => {
                    let keep = decisions.decide(op, count as u64) as usize;
                    with_requirements(&self.meta, (0..count).map(|index| index == keep).collect())
                }
            },
        };
        let half = decisions.site("crash.meta.half");
        let wanted = flags.iter().zip(&self.meta).map(|(&keep, change)| match (keep, &change.kind) {
            (true, _) => Keep::Yes,
            (false, MetaKind::Rename { .. }) if self.rules.nonatomic_rename => match decisions.decide(half, 3) {
                0 => Keep::No,
                1 => Keep::Both,
                _ => Keep::Neither,
            },
            (false, _) => Keep::No,
        });
        let wanted = wanted.collect();
        self.close_names(wanted)
    }

    fn close_names(&self, mut keep: Vec<Keep>) -> Vec<Keep> {
        match self.rules.meta {
            MetaRule::All => keep.fill(Keep::Yes),
            MetaRule::None => keep.fill(Keep::No),
            MetaRule::Prefix => {
                if let Some(first) = keep.iter().position(|&keep| keep != Keep::Yes) {
                    keep[first..].fill(Keep::No);
                }
            }
            MetaRule::PerDir => {
                let mut broken: BTreeSet<Ino> = BTreeSet::new();
                for (keep, op) in keep.iter_mut().zip(&self.meta) {
                    let dirs = || op.entries().into_iter().flatten().map(|entry| entry.dir);
                    if dirs().any(|dir| broken.contains(&dir)) {
                        *keep = Keep::No;
                    }
                    if *keep != Keep::Yes {
                        broken.extend(dirs());
                    }
                }
            }
            MetaRule::Any => {
                let mut broken: BTreeSet<&Entry> = BTreeSet::new();
                for (keep, op) in keep.iter_mut().zip(&self.meta) {
                    if op.entries().into_iter().flatten().any(|entry| broken.contains(entry)) {
                        *keep = Keep::No;
                    }
                    if *keep != Keep::Yes {
                        broken.extend(op.entries().into_iter().flatten());
                    }
                }
            }
        }
        keep
    }

    /// Takes the names back that are not kept. What a name stood for when it was taken back is what the undo restores,
    /// so everything behind the first lost change is undone, newest first, and the kept ones among it done again.
    fn settle_names(&mut self, keep: &[Keep]) {
        let meta = std::mem::take(&mut self.meta);
        let first = keep.iter().position(|&keep| keep != Keep::Yes).unwrap_or(meta.len());
        for op in meta[first..].iter().rev() {
            match &op.kind {
                MetaKind::Create(entry) | MetaKind::Link(entry) | MetaKind::Mkdir(entry) => self.unset(entry),
                MetaKind::Unlink(entry) | MetaKind::Rmdir(entry) => self.set(entry, op.ino),
                MetaKind::Rename { from, to, replaced, .. } => {
                    self.set(from, op.ino);
                    match replaced {
                        Some(replaced) => self.set(to, *replaced),
                        None => self.unset(to),
                    }
                }
                MetaKind::Cut { .. } => {}
            }
        }
        for (op, &keep) in meta.iter().zip(keep).skip(first) {
            match (&op.kind, keep) {
                (_, Keep::No) => {}
                (MetaKind::Create(entry) | MetaKind::Link(entry) | MetaKind::Mkdir(entry), _) => {
                    self.set(entry, op.ino)
                }
                (MetaKind::Unlink(entry) | MetaKind::Rmdir(entry), _) => self.unset(entry),
                (MetaKind::Rename { from, to, .. }, keep) => {
                    if keep != Keep::Both {
                        self.unset(from);
                    }
                    if keep != Keep::Neither {
                        self.set(to, op.ino);
                    }
                }
                (MetaKind::Cut { .. }, _) => {}
            }
        }
    }

    fn set(&mut self, entry: &Entry, ino: Ino) {
        self.dir_mut(entry.dir).insert(entry.name.clone(), ino);
    }

    fn unset(&mut self, entry: &Entry) {
        self.dir_mut(entry.dir).remove(&entry.name);
    }

    /// Counts names from the root, and drops what has none.
    fn sweep(&mut self) {
        for slot in &mut self.slots {
            slot.links = 0;
            slot.opens = 0;
            slot.errors = 0;
            slot.error_seen = true;
        }
        self.handles = 0;
        self.read_only = false;
        self.slots[ROOT.0 as usize].links = 1;
        let mut walk = vec![ROOT];
        while let Some(dir) = walk.pop() {
            let Node::Dir(entries) = &self.slots[dir.0 as usize].node else { continue };
            let entries = Arc::clone(entries);
            for (name, &ino) in entries.iter() {
                let slot = &mut self.slots[ino.0 as usize];
                slot.links += 1;
                slot.name = name.clone();
                slot.parent = dir;
                if matches!(slot.node, Node::Dir(_)) {
                    walk.push(ino);
                }
            }
        }
        self.used_pages = 0;
        for slot in &mut self.slots {
            if slot.links == 0 {
                slot.node = Node::Free;
            } else if let Node::File(content) = &slot.node {
                self.used_pages += content.pages.taken();
            }
        }
    }

    // ---- the image ----

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

    pub(super) fn words(&self, op: &MetaOp, keep: Keep) -> Thing {
        match &op.kind {
            MetaKind::Create(entry) => Thing::Create { path: self.path_in(entry) },
            MetaKind::Link(entry) => Thing::Link { path: self.path_in(entry) },
            MetaKind::Unlink(entry) => Thing::Unlink { path: self.path_in(entry) },
            MetaKind::Mkdir(entry) => Thing::Mkdir { path: self.path_in(entry) },
            MetaKind::Rmdir(entry) => Thing::Rmdir { path: self.path_in(entry) },
            MetaKind::Rename { from, to, .. } => {
                let (from, to) = (self.path_in(from), self.path_in(to));
                match keep {
                    Keep::Yes | Keep::No => Thing::Rename { from, to },
                    Keep::Both => Thing::HalfRename { from, to, both: true },
                    Keep::Neither => Thing::HalfRename { from, to, both: false },
                }
            }
            MetaKind::Cut { id } => {
                let cut = self
                    .content(op.ino)
                    .ok()
                    .and_then(|content| content.pending.iter().find(|record| record.id == *id));
                Thing::SetLen { path: self.path_of(op.ino), to: cut.map_or(0, |record| record.range().start) }
            }
        }
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

/// The making of one file's image.
struct FileImage<'a> {
    disk: &'a Disk,
    ino: Ino,
    content: &'a Content,
    plan: &'a Plan,
    /// Number of this file's first record among all of the disk.
    first_number: usize,
    kind: CrashKind,
}

/// How many records, and how much of the length that they make, an image keeps.
#[derive(Clone, Copy)]
struct Steps {
    count: usize,
    /// The length is no more than this.
    at_most: u64,
}

/// One file of an image.
struct Settled {
    content: Content,
    /// Ids of the changes that are not wholly in it.
    lost: Vec<u64>,
    /// The same as a listing says it, where decisions are recorded.
    outcome: Option<FileOutcome>,
}

impl FileImage<'_> {
    fn settle(&self, newest: bool, decisions: &mut Decisions, report: &mut CrashReport) -> Settled {
        let content = self.content;
        let total = content.pending.len();
        let wanted = self.draw_bound(newest, decisions);
        let (low, high, flushed) = self.limits();
        let drawn = self.draw_steps(&wanted, decisions);
        let mut steps = drawn;
        steps.count = drawn.count.clamp(low, high);
        if steps.count != drawn.count {
            steps.at_most = u64::MAX;
        }
        let len = content.len_after(steps.count).min(steps.at_most);

        let cuts: Vec<usize> = (0..total).filter(|&index| content.pending[index].is_cut()).collect();
        let first_lost_cut = cuts.iter().copied().find(|&cut| cut >= steps.count).unwrap_or(total);
        let ordered = matches!(self.disk.rules.data, DataRule::Ordered | DataRule::None);
        let bound = |sector: u64| {
            let mut bound = wanted.at(content, sector).max(flushed);
            if ordered && (sector + 1) * SECTOR > content.synced_len && sector * SECTOR < len {
                bound = bound.max(steps.count);
            }
            let kept_cuts = cuts.iter().copied().filter(|&cut| cut < steps.count);
            for cut in kept_cuts {
                if content.pending[cut].sectors().contains(&sector) {
                    bound = bound.max(cut + 1);
                }
            }
            bound.min(first_lost_cut)
        };
        let tear = match wanted {
            Bound::Torn { record, end, within_sector: true } => Some((record, end)),
            Bound::Listed(ref listing) => listing.tear,
            _ => None,
        };
        let mut image = content.image(&Kept { len, bound: &bound, tear });
        self.fill_holes(&mut image, &bound, decisions, report);
        let mut lost = self.tell(len, &bound, tear, report);
        // A change of nothing but the length is lost where the length does not follow it.
        let resized = content.pending.iter().skip(steps.count);
        lost.extend(resized.filter(|record| !matches!(record.change, Change::Write { .. })).map(|record| record.id));
        let outcome = decisions.is_recording().then(|| self.outcome(steps, &bound, tear));
        Settled { content: image, lost, outcome }
    }

    /// What came out, as a listing would ask for it.
    fn outcome(&self, steps: Steps, bound: &dyn Fn(u64) -> usize, tear: Option<(usize, u64)>) -> FileOutcome {
        let content = self.content;
        let len_of = |steps: Steps| content.len_after(steps.count).min(steps.at_most);
        let len = len_of(steps);
        let mut outcome = FileOutcome { lost: BTreeMap::new(), length: None };
        let mut follow = Steps { count: 0, at_most: u64::MAX };
        for (index, record) in content.pending.iter().enumerate() {
            let range = record.range();
            let is_write = matches!(record.change, Change::Write { .. });
            // What lies behind the end of the image is as good as lost, unless its owner has cut it off.
            let kept =
                |sector: &u64| bound(*sector) > index && (sector * SECTOR < len || sector * SECTOR >= content.len);
            let sectors = record.sectors().count();
            let lost: BTreeSet<u64> = record.sectors().filter(|sector| !kept(sector)).collect();
            // A file that ends within a write has lost the rest of it.
            let ends_here = len > range.start && len < range.end && steps.count == index + 1 && len % SECTOR == 0;
            let tail_only = lost.iter().all(|sector| sector * SECTOR >= len);
            let loss = match tear {
                Some((torn, end)) if torn == index && end < range.end && end > range.start => Some(Loss::From(end)),
                _ if !is_write => {
                    let undone = content.len_after(index + 1) != len && len == content.len_after(index);
                    undone.then_some(Loss::Whole)
                }
                _ if ends_here && tail_only => Some(Loss::From(len)),
                _ if lost.is_empty() => None,
                _ if lost.len() == sectors => Some(Loss::Whole),
                _ => Some(Loss::Sectors(lost)),
            };
            let ends_at = match &loss {
                Some(Loss::Whole) => None,
                Some(Loss::From(end)) => Some(self.torn_steps(index, *end)),
                _ => Some(Steps { count: index + 1, at_most: u64::MAX }),
            };
            if let Some(steps) = ends_at {
                follow = steps;
            }
            outcome.lost.extend(loss.map(|loss| (record.id, loss)));
        }
        let total = content.pending.len();
        let (to, unit) = (content.len_after(steps.count), self.growth_unit());
        outcome.length = match steps.count {
            count if count == follow.count && len == len_of(follow) => None,
            count if count == total && len == to => Some(LengthFate::All),
            0 => Some(LengthFate::None),
            count => {
                let back = if to > len { ((to - 1) / unit + 1).saturating_sub(len.div_ceil(unit)) } else { 0 };
                Some(LengthFate::Free { lost: total - count, back })
            }
        };
        outcome
    }

    /// A file grows as its pages are written back, so that a growth may end at any boundary on its way.
    fn growth_unit(&self) -> u64 {
        if self.disk.rules.data == DataRule::Ordered { PAGE_BYTES as u64 } else { SECTOR }
    }

    /// So many changes of the length, and the last one ended so many boundaries early.
    fn grown_steps(&self, count: usize, back: u64) -> Steps {
        let whole = Steps { count, at_most: u64::MAX };
        if count == 0 {
            return whole;
        }
        let unit = self.growth_unit();
        match back.min(self.boundaries(count)) {
            0 => whole,
            back => Steps { count, at_most: ((self.content.len_after(count) - 1) / unit + 1 - back) * unit },
        }
    }

    /// Boundaries at which the last of so many changes of the length may have ended early.
    fn boundaries(&self, count: usize) -> u64 {
        // A file that is extended without being written grows by one change of its length.
        if count == 0 || !matches!(self.content.pending[count - 1].change, Change::Write { .. }) {
            return 0;
        }
        let unit = self.growth_unit();
        let (from, to) = (self.content.len_after(count - 1), self.content.len_after(count));
        if to > from { (to - 1) / unit - from / unit } else { 0 }
    }

    /// Fewest and most records whose effect on the length an image may keep, and how many of them are wholly flushed.
    fn limits(&self) -> (usize, usize, usize) {
        let (mut low, mut high, mut flushed) = (0, self.content.pending.len(), 0);
        for (index, record) in self.content.pending.iter().enumerate() {
            if matches!(record.change, Change::Cut { committed: true, .. }) {
                low = index + 1;
            }
        }
        for (op, &keep) in self.disk.meta.iter().zip(&self.plan.names).filter(|(op, _)| op.ino == self.ino) {
            match op.kind {
                MetaKind::Cut { id } => {
                    if let Some(index) = self.content.pending.iter().position(|record| record.id == id) {
                        if keep == Keep::Yes { low = low.max(index + 1) } else { high = high.min(index) }
                    }
                }
                MetaKind::Rename { flush_below, .. } if keep == Keep::Yes => {
                    flushed = flushed.max(self.content.pending.partition_point(|record| record.id < flush_below));
                }
                _ => {}
            }
        }
        let low = low.max(flushed);
        assert!(low <= high, "a journal keeps {low} and loses {high} of the records of one file");
        (low, high, flushed)
    }

    fn draw_bound(&self, newest: bool, decisions: &mut Decisions) -> Bound {
        let total = self.content.pending.len();
        let own = |number: usize| number.checked_sub(self.first_number).filter(|&index| index < total);
        if let Some(listing) = &self.plan.listing
            && (self.disk.rules.data != DataRule::None || self.kind == CrashKind::TornPowerLoss)
        {
            return Bound::Listed(listing.of_file(self.content, newest && self.kind == CrashKind::TornPowerLoss));
        }
        match self.plan.data {
            DataPlan::All => Bound::First(total),
            DataPlan::None => Bound::First(0),
            DataPlan::Prefixes => self.draw_prefix(decisions),
            DataPlan::Sectors => self.draw_sectors(decisions),
            DataPlan::TornLast(sectors) if newest => self.draw_torn(sectors, decisions),
            DataPlan::TornLast(_) => Bound::First(total),
            DataPlan::Keep(number) => own(number).map_or(Bound::First(0), Bound::Only),
            DataPlan::Drop(number) => own(number).map_or(Bound::First(total), Bound::Without),
            DataPlan::Mixed => {
                let file = decisions.site("crash.data.file");
                match decisions.decide(file, 4) {
                    0 => Bound::First(total),
                    1 => Bound::First(0),
                    2 => self.draw_prefix(decisions),
                    _ => self.draw_sectors(decisions),
                }
            }
        }
    }

    fn draw_prefix(&self, decisions: &mut Decisions) -> Bound {
        let total = self.content.pending.len();
        let prefix = decisions.site("crash.prefix");
        Bound::First(total - decisions.decide(prefix, total as u64 + 1) as usize)
    }

    fn draw_sectors(&self, decisions: &mut Decisions) -> Bound {
        let site = decisions.site("crash.sector");
        let mut bounds = BTreeMap::new();
        for sector in self.content.touched() {
            let touching: Vec<usize> = self.content.touching(sector).collect();
            let dropped = decisions.decide(site, touching.len() as u64 + 1) as usize;
            if dropped > 0 {
                bounds.insert(sector, touching[touching.len() - dropped]);
            }
        }
        Bound::Sectors(bounds)
    }

    fn draw_torn(&self, sectors: Option<u64>, decisions: &mut Decisions) -> Bound {
        let content = self.content;
        let is_write = |index: &usize| matches!(content.pending[*index].change, Change::Write { .. });
        let Some(record) = (0..content.pending.len()).rev().find(is_write) else {
            return Bound::First(content.pending.len());
        };
        let range = content.pending[record].range();
        let touched = content.pending[record].sectors();
        let count = touched.end - touched.start;
        let tear = decisions.site("crash.tear");
        let keep = match sectors {
            Some(keep) => keep.min(count),
            None => count - decisions.decide(tear, count + 1),
        };
        let mut end = ((touched.start + keep) * SECTOR).clamp(range.start, range.end);
        if self.plan.within_sector {
            let byte = decisions.site("crash.tear.byte");
            end = (end + decisions.decide(byte, SECTOR)).min(range.end);
        }
        Bound::Torn { record, end, within_sector: self.plan.within_sector }
    }

    fn draw_steps(&self, wanted: &Bound, decisions: &mut Decisions) -> Steps {
        let content = self.content;
        let total = content.pending.len();
        let whole = |count: usize| Steps { count, at_most: u64::MAX };
        let listed = self.plan.listing.as_ref().and_then(|listing| listing.length_of(self.ino));
        match listed {
            None => {}
            Some(LengthFate::All) => return whole(total),
            Some(LengthFate::None) => return whole(0),
            Some(LengthFate::Free { lost, back }) => return self.grown_steps(total - lost.min(total), back),
        }
        match self.plan.size {
            SizePlan::All => whole(total),
            SizePlan::None => whole(0),
            SizePlan::Follow => match *wanted {
                Bound::First(count) => whole(count),
                Bound::Only(record) => whole(record + 1),
                Bound::Without(record) => whole(if record + 1 == total { record } else { total }),
                Bound::Torn { record, end, .. } if record + 1 == total => self.torn_steps(record, end),
                Bound::Torn { .. } => whole(total),
                Bound::Listed(ref listing) => match listing.newest_kept(content) {
                    None => whole(0),
                    Some((record, Some(end))) => self.torn_steps(record, end),
                    Some((record, None)) => whole(record + 1),
                },
                Bound::Sectors(_) => {
                    let touched = content.touched();
                    let newest = |sector: u64| {
                        let bound = wanted.at(content, sector);
                        content.touching(sector).rfind(|&index| index < bound)
                    };
                    let newest_kept = touched.into_iter().filter_map(newest).max();
                    whole(newest_kept.map_or(0, |newest| newest + 1))
                }
            },
            SizePlan::Free => {
                let step = decisions.site("crash.size.step");
                let count = total - decisions.decide(step, total as u64 + 1) as usize;
                let boundaries = self.boundaries(count);
                if boundaries == 0 {
                    return whole(count);
                }
                let cut = decisions.site("crash.size.cut");
                self.grown_steps(count, decisions.decide(cut, boundaries + 1))
            }
        }
    }

    /// How far a file that ends with a torn write has grown.
    fn torn_steps(&self, record: usize, end: u64) -> Steps {
        let torn = &self.content.pending[record];
        if end == torn.range().end {
            return Steps { count: record + 1, at_most: u64::MAX };
        }
        // In order a file grows by whole pages; otherwise as far as the torn write has come.
        let reached = match self.disk.rules.data {
            DataRule::Ordered => end / PAGE_BYTES as u64 * PAGE_BYTES as u64,
            _ => end,
        };
        if end == torn.range().start || (reached <= torn.len_before && torn.range().end > torn.len_before) {
            return Steps { count: record, at_most: u64::MAX };
        }
        Steps { count: record + 1, at_most: reached.max(torn.len_before) }
    }

    /// Where the file grew and its data was lost, the disk may show what lay there before.
    fn fill_holes(
        &self,
        image: &mut Content,
        bound: &dyn Fn(u64) -> usize,
        decisions: &mut Decisions,
        report: &mut CrashReport,
    ) {
        let content = self.content;
        if self.disk.rules.hole == Hole::Zero || image.len <= content.synced_len {
            return;
        }
        let written = |record: &&super::pending::Record| matches!(record.change, Change::Write { .. });
        let sectors: BTreeSet<u64> =
            content.pending.iter().filter(written).flat_map(|record| record.sectors()).collect();
        let is_hole = |sector: &u64| {
            let start = sector * SECTOR;
            start >= content.synced_len && start < image.len && content.untouched(*sector, bound(*sector))
        };
        let holes: Vec<u64> = sectors.into_iter().filter(is_hole).collect();
        if holes.is_empty() {
            return;
        }
        let site = decisions.site("crash.hole");
        let filling = decisions.decide(site, 3);
        if filling == 0 {
            return;
        }
        for &sector in &holes {
            let start = sector * SECTOR;
            let mut bytes = vec![0xa5; (image.len - start).min(SECTOR) as usize];
            if filling == 2
                && let Some(freed) = &self.disk.freed
            {
                freed.pages.read(start, &mut bytes);
            }
            image.pages.write(start, &bytes);
        }
        let thing = Thing::Stale { path: self.disk.path_of(self.ino), sectors: holes.len() as u64 };
        report.lost.push(Fate { thing, origin: None });
    }

    /// Tells what became of each write. Returns the ids of those that are not wholly kept.
    fn tell(
        &self,
        len: u64,
        bound: &dyn Fn(u64) -> usize,
        tear: Option<(usize, u64)>,
        report: &mut CrashReport,
    ) -> Vec<u64> {
        let mut lost = Vec::new();
        let content = self.content;
        let path = self.disk.path_of(self.ino);
        for (index, record) in content.pending.iter().enumerate() {
            let origin = Some(record.origin);
            let Change::Write { offset, len: bytes, .. } = record.change else { continue };
            let sectors = record.sectors();
            // What lies behind the end of the file as it was read has been cut off by its owner, and is no loss.
            let gone = |sector: &u64| sector * SECTOR >= len && sector * SECTOR < content.len;
            let in_image = |sector: &u64| bound(*sector) > index && !gone(sector);
            let sectors_kept = sectors.clone().filter(in_image).count() as u64;
            let sectors = sectors.end - sectors.start;
            let torn_here = |(torn, end): &(usize, u64)| {
                *torn == index && *end < offset + bytes && *end > offset && bound(end / SECTOR) <= index
            };
            let torn_at = tear.filter(torn_here).map(|(_, end)| end);
            let whole = sectors_kept == sectors && record.range().end.min(content.len) <= len && torn_at.is_none();
            let thing = Thing::Write { path: path.clone(), offset, len: bytes, sectors_kept, sectors, torn_at };
            let fate = Fate { thing, origin };
            if whole {
                report.kept.push(fate);
            } else {
                report.lost.push(fate);
                lost.push(record.id);
            }
        }
        if !content.dropped.is_empty() {
            let thing = Thing::Dropped { path: path.clone(), sectors: content.dropped.len() as u64 };
            report.lost.push(Fate { thing, origin: None });
        }
        if len != content.len {
            report.lost.push(Fate { thing: Thing::Length { path, from: content.len, to: len }, origin: None });
        }
        lost
    }
}

impl Bound {
    /// How many records, from the oldest on, are wanted in this sector.
    fn at(&self, content: &Content, sector: u64) -> usize {
        let total = content.pending.len();
        let touches = |record: usize| content.pending[record].sectors().contains(&sector);
        match self {
            Bound::First(count) => *count,
            Bound::Only(record) => {
                if touches(*record) {
                    record + 1
                } else {
                    0
                }
            }
            Bound::Without(record) => {
                if touches(*record) {
                    *record
                } else {
                    total
                }
            }
            Bound::Torn { record, end, .. } => {
                if (sector + 1) * SECTOR <= *end || content.pending[*record].range().end <= *end || !touches(*record) {
                    total
                } else {
                    *record
                }
            }
            Bound::Sectors(bounds) => bounds.get(&sector).copied().unwrap_or(total),
            Bound::Listed(listing) => listing.at(content, sector),
        }
    }
}
