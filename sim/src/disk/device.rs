//! What goes on below the file system, or beside the store: pages that are written back unasked, pages that leave the cache,
//! reads and writes that go to the wrong place, and files that other programs leave in a directory.
//!
//! All of it is drawn by name, and the answer 0 does nothing.

use super::damage::Harm;
use super::error::DiskError;
use super::pages::SECTOR_BYTES;
use super::pending::{Change, Origin};
use super::profile::{DataRule, MetaRule};
use super::volume::{Disk, Ino, Node, Slot};
use crate::rng::Decisions;
use crate::trace::hash_bytes;
use std::ops::Range;
use std::sync::Arc;

const SECTOR: u64 = SECTOR_BYTES as u64;

/// Where the bytes of a wrong read come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongRead {
    /// An older version of the sector: what was durable before, what a deleted file had there, or zeros.
    Stale,
    /// Another sector of the same file, or the same sector of another one.
    Misdirected,
}

impl Disk {
    /// Some of what is pending becomes durable although nobody has asked: of each file the oldest changes, of the names what
    /// the profile may keep. Then some clean pages leave the cache. Returns how many changes became durable, and how many
    /// sectors changed what they show.
    pub fn write_back(&mut self, decisions: &mut Decisions) -> (usize, usize) {
        let site = decisions.site("writeback");
        let (mut written, mut evicted) = (0, 0);
        for index in 0..self.slots.len() {
            let ino = Ino(index as u32);
            let Node::File(content) = &self.slots[index].node else { continue };
            // In a journal a cut is durable in its turn among the names, and what follows it is not before it is.
            let journal = self.rules.meta == MetaRule::Prefix;
            let stops = |record: &super::pending::Record| {
                journal && matches!(record.change, Change::Cut { committed: false, .. })
            };
            let most = content.pending.iter().position(stops).unwrap_or(content.pending.len());
            if most > 0 && self.rules.data != DataRule::None {
                let count = decisions.decide(site, most as u64 + 1) as usize;
                if count > 0 {
                    let below = content.pending[count - 1].id + 1;
                    self.content_mut(ino).expect("it is a file").sync_below(below);
                    written += count;
                }
            }
            if self.content(ino).is_ok_and(|content| !content.dropped.is_empty()) && decisions.decide(site, 2) == 1 {
                evicted += self.evict(ino).expect("it is a file");
            }
        }
        let count = self.meta.len();
        if count > 0 && self.rules.meta != MetaRule::None {
            let wanted: Vec<bool> = match self.rules.meta {
                MetaRule::Any => (0..count).map(|_| decisions.decide(site, 2) == 1).collect(),
                _ => {
                    let keep = decisions.decide(site, count as u64 + 1) as usize;
                    (0..count).map(|index| index < keep).collect()
                }
            };
            written += self.commit_wanted(wanted);
        }
        (written, evicted)
    }

    /// Reads, and gets one of the sectors from the wrong place. Damage only where that changes what is read.
    pub fn read_wrong(
        &mut self,
        ino: Ino,
        offset: u64,
        buf: &mut [u8],
        how: WrongRead,
        decisions: &mut Decisions,
        call: u64,
    ) -> Result<usize, DiskError> {
        let count = self.read(ino, offset, buf)?;
        if count == 0 {
            return Ok(0);
        }
        let site = decisions.site("wrong-read");
        let first = offset / SECTOR;
        let sectors = (offset + count as u64).div_ceil(SECTOR) - first;
        let sector = first + decisions.decide(site, sectors);
        let bytes = (sector * SECTOR).max(offset)..((sector + 1) * SECTOR).min(offset + count as u64);
        let mut wrong = vec![0; (bytes.end - bytes.start) as usize];
        let content = self.content(ino)?;
        match how {
            WrongRead::Stale if content.touching(sector).next().is_some() => {
                content.durable().read(bytes.start, &mut wrong);
            }
            WrongRead::Stale => {
                if let Some(freed) = &self.freed {
                    freed.pages.read(bytes.start, &mut wrong);
                }
            }
            WrongRead::Misdirected => {
                let all = content.len.div_ceil(SECTOR).max(2);
                let strangers = self.files_reaching(bytes.start, ino);
                let place = decisions.decide(site, all - 1 + strangers.len() as u64);
                match place.checked_sub(all - 1) {
                    None => content.read((sector + 1 + place) % all * SECTOR + bytes.start % SECTOR, &mut wrong),
                    Some(index) => self.content(strangers[index as usize])?.read(bytes.start, &mut wrong),
                };
            }
        }
        let held = &mut buf[(bytes.start - offset) as usize..(bytes.end - offset) as usize];
        let differs = |at: &usize| held[*at] != wrong[*at];
        if let Some(first) = (0..wrong.len()).find(differs) {
            let end = 1 + (first..wrong.len()).rfind(differs).expect("the first one differs");
            held.copy_from_slice(&wrong);
            // Only what was read wrong: a record that ends in the same sector may be as it was.
            let bytes = bytes.start + first as u64..bytes.start + end as u64;
            self.note_damage(ino, bytes, Harm::WrongRead, call);
        }
        Ok(count)
    }

    /// Files with a name, but for one, that have a byte at this offset.
    fn files_reaching(&self, offset: u64, but: Ino) -> Vec<Ino> {
        let reaches = |ino: &Ino| {
            let slot = &self.slots[ino.0 as usize];
            *ino != but && slot.links > 0 && matches!(&slot.node, Node::File(content) if content.len > offset)
        };
        (0..self.slots.len() as u32).map(Ino).filter(reaches).collect()
    }

    /// Writes, but the first sector of the data goes to a durable place of a file that is eligible by its path, and not where
    /// it belongs. A plain write where there is no such place.
    pub fn write_misdirected(
        &mut self,
        ino: Ino,
        offset: u64,
        data: &[u8],
        eligible: &dyn Fn(&str) -> bool,
        decisions: &mut Decisions,
        origin: Origin,
    ) -> Result<usize, DiskError> {
        let len = data.len().min((SECTOR - offset % SECTOR) as usize);
        let site = decisions.site("misdirected-write");
        let victims = self.synced_files(eligible);
        let place = (0..8).find_map(|_| {
            if victims.is_empty() {
                return None;
            }
            let victim = *decisions.pick(site, &victims);
            let content = self.content(victim).ok()?;
            let start = decisions.decide(site, content.synced_len.div_ceil(SECTOR)) * SECTOR;
            let end = (start + len as u64).min(content.synced_len);
            (content.is_settled(start) && content.is_settled(end - 1)).then_some((victim, start..end))
        });
        let Some((victim, place)) = place else { return self.write(ino, offset, data, origin) };
        let mut arrives = data.to_vec();
        arrives[..len].fill(0);
        self.content(ino)?.read(offset, &mut arrives[..len]);
        let count = self.write(ino, offset, &arrives, origin)?;
        let missing = offset..offset + len.min(count) as u64;
        self.note_damage_of(ino, missing, origin.op, |now| Harm::LostWrite { now });
        let landed = &data[..(place.end - place.start) as usize];
        self.content_mut(victim)?.pages.write(place.start, landed);
        self.note_damage_of(victim, place, origin.op, |now| Harm::StrayWrite { now });
        Ok(count)
    }

    fn note_damage_of(&mut self, ino: Ino, bytes: Range<u64>, call: u64, harm: fn(u64) -> Harm) {
        let now = self.hash_of(ino, &bytes).unwrap_or_default();
        self.note_damage(ino, bytes, harm(now), call);
    }

    /// A hash over bytes of a file as they are read, where it has them all.
    pub(super) fn hash_of(&self, ino: Ino, bytes: &Range<u64>) -> Option<u64> {
        let mut held = vec![0; (bytes.end - bytes.start) as usize];
        let count = self.content(ino).ok()?.read(bytes.start, &mut held);
        (count == held.len()).then(|| hash_bytes(&held))
    }

    /// Makes one sector of a file that is eligible by its path unreadable. Returns its path and the sector.
    pub fn poison_some(&mut self, eligible: &dyn Fn(&str) -> bool, decisions: &mut Decisions) -> Option<(String, u64)> {
        let files = self.synced_files(eligible);
        if files.is_empty() {
            return None;
        }
        let site = decisions.site("bad-sector");
        let ino = *decisions.pick(site, &files);
        let sectors = self.content(ino).ok()?.synced_len.div_ceil(SECTOR);
        let sector = decisions.decide(site, sectors);
        self.poison(ino, sector);
        Some((self.path_of(ino), sector))
    }

    /// Another program leaves something in a directory: durable, and of no business to the store. `false` where the name is
    /// taken or the directory is not there.
    pub fn litter(&mut self, dir: &str, name: &str, is_dir: bool) -> bool {
        let Ok(parent) = self.walk(dir) else { return false };
        if self.dir(parent).map_or(true, |entries| entries.contains_key(name)) {
            return false;
        }
        let node = if is_dir { Node::Dir(Arc::default()) } else { Node::File(Arc::default()) };
        let name: Arc<str> = Arc::from(name);
        let ino = Ino(self.slots.len() as u32);
        self.dir_mut(parent).insert(name.clone(), ino);
        self.slots.push(Slot::new(node, name, parent));
        self.litter.push(ino);
        true
    }

    /// Names of what other programs left, and whether each is still there.
    pub fn littered(&self) -> Vec<(String, bool)> {
        let of = |ino: &Ino| (self.slots[ino.0 as usize].name.to_string(), self.slots[ino.0 as usize].links > 0);
        self.litter.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests;
