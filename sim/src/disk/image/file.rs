//! One file of an image: how many of its pending records and how much of its length are kept, and what fills the holes.

use super::{CrashKind, DataPlan, Keep, Plan, SECTOR, SizePlan};
use crate::disk::content::{Content, Kept};
use crate::disk::listing::{FileListing, FileOutcome, LengthFate, Loss};
use crate::disk::pages::PAGE_BYTES;
use crate::disk::pending::{Change, MetaKind, Record};
use crate::disk::profile::{DataRule, Hole};
use crate::disk::report::{CrashReport, Fate, Thing};
use crate::disk::volume::{Disk, Ino};
use crate::rng::Decisions;
use std::collections::{BTreeMap, BTreeSet};

/// What is wanted of one file's records.
enum Bound {
    First(usize),
    Only(usize),
    Without(usize),
    Torn { record: usize, end: u64, within_sector: bool },
    Sectors(BTreeMap<u64, usize>),
    Listed(FileListing),
}

/// The making of one file's image.
pub(super) struct FileImage<'a> {
    pub(super) disk: &'a Disk,
    pub(super) ino: Ino,
    pub(super) content: &'a Content,
    pub(super) plan: &'a Plan,
    /// Number of this file's first record among all of the disk.
    pub(super) first_number: usize,
    pub(super) kind: CrashKind,
}

/// How many records, and how much of the length that they make, an image keeps.
#[derive(Clone, Copy)]
struct Steps {
    count: usize,
    /// The length is no more than this.
    at_most: u64,
}

/// One file of an image.
pub(super) struct Settled {
    pub(super) content: Content,
    /// Ids of the changes that are not wholly in it.
    pub(super) lost: Vec<u64>,
    /// The same as a listing says it, where decisions are recorded.
    pub(super) outcome: Option<FileOutcome>,
}

impl FileImage<'_> {
    pub(super) fn settle(&self, newest: bool, decisions: &mut Decisions, report: &mut CrashReport) -> Settled {
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
        let written = |record: &&Record| matches!(record.change, Change::Write { .. });
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
