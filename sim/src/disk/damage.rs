//! The ledger of damage: every byte that the simulator changed behind the back of whoever wrote it, and which
//! acknowledgements rest on it.
//!
//! A judge must know exactly which reads may report damage and which must not, and which acknowledged writes a log may
//! have lost without a word. A log is read from its front and ends at the first record that is not whole, so damage takes
//! what was written at its place and later. Whether the reader can tell such damage from a torn tail is a matter of what
//! stands behind it: a write that was begun after a sync had covered the damaged bytes can say so
//! ([`Damage::forgives`] is `None` then), and the bytes that were written before the first sync behind the damage
//! cannot.
//!
//! Invariants:
//! - G1: damage is in the ledger in the same step in which it is done, and stays there for good.
//! - G2: what is `over` no reader meets again: its file has no name, its bytes were written over, or it was a single read.
//!
//! The history of writes, on which the answer rests, is kept only where [`Disk::keep_history`] was asked for. It does not
//! know what a record is: it takes a call that wrote all that it was given for whole records.

use super::error::DiskError;
use super::pages::SECTOR_BYTES;
use super::pending::Origin;
use super::volume::{Disk, Ino, Node, Slot};
use crate::rng::Decisions;
use crate::trace::hash_bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What was done to bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// One bit of a durable byte was flipped.
    Flip {
        /// The bit, 0 to 7.
        bit: u8,
        /// The byte as it is since.
        now: u8,
    },
    /// A write did not arrive: it went to another place.
    LostWrite {
        /// Hash of the bytes as they are since.
        now: u64,
    },
    /// A write arrived that was meant for another place.
    StrayWrite {
        /// Hash of the bytes as they are since.
        now: u64,
    },
    /// One read got the bytes of another place, or of an earlier time. The next one does not.
    WrongRead,
    /// A sync had said `Ok` for these bytes, or names, and a crash or the cache lost them.
    BrokenPromise {
        /// Whether names in a directory were promised, and not bytes of a file.
        of_names: bool,
    },
}

/// One entry of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The file or directory.
    pub ino: Ino,
    /// Its path when it happened, or that to which it was renamed since.
    pub path: String,
    /// The bytes; all of a file where it is not known better.
    pub bytes: Range<u64>,
    /// What was done.
    pub harm: Harm,
    /// Number of the call before which it happened.
    pub call: u64,
    /// If the file is a log: acknowledgements that were heard from this call on may be forgotten without a word. `None`
    /// where the log itself can tell that it is damaged, and must; 0 where older ones may have been moved into it.
    pub forgives: Option<u64>,
    /// Nobody meets it any more.
    pub over: bool,
    /// A store was opened on it, and nobody has seen yet what that came to: what it has taken without a word is gone, though
    /// the damage itself may be over.
    pub met: bool,
}

impl Damage {
    /// The last component of the path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { path, bytes, call, .. } = self;
        match self.harm {
            Harm::Flip { bit, .. } => {
                write!(f, "bit {bit} of byte {} of {path} flipped before call {call}", bytes.start)
            }
            Harm::LostWrite { .. } => {
                write!(f, "the write of call {call} to bytes {} to {} of {path} went elsewhere", bytes.start, bytes.end)
            }
            Harm::StrayWrite { .. } => write!(
                f,
                "bytes {} to {} of {path} were overwritten by call {call}, which was meant for another place",
                bytes.start, bytes.end
            ),
            Harm::WrongRead => {
                write!(f, "call {call} read bytes {} to {} of {path} from a wrong place", bytes.start, bytes.end)
            }
            Harm::BrokenPromise { of_names: false } => {
                write!(f, "a sync of {path} had said Ok at call {call}, and not all of it was kept")
            }
            Harm::BrokenPromise { of_names: true } => {
                write!(f, "a sync of the directory {path:?} had said Ok at call {call}, and not all names were kept")
            }
        }
    }
}

/// What was done to a file, in order.
#[derive(Clone, Debug)]
enum Done {
    Write {
        bytes: Range<u64>,
        hash: u64,
        call: u64,
        /// Whether it wrote all that it was given.
        whole: bool,
    },
    Sync,
}

/// Writes and syncs by file.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    files: BTreeMap<Ino, Vec<Done>>,
}

impl History {
    pub(super) fn wrote(&mut self, ino: Ino, offset: u64, data: &[u8], asked: usize, call: u64) {
        let bytes = offset..offset + data.len() as u64;
        let whole = data.len() == asked;
        self.files.entry(ino).or_default().push(Done::Write { bytes, hash: hash_bytes(data), call, whole });
    }

    pub(super) fn synced(&mut self, ino: Ino) {
        self.files.entry(ino).or_default().push(Done::Sync);
    }

    pub(super) fn forget(&mut self, ino: Ino) {
        self.files.remove(&ino);
    }
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}

impl Disk {
    /// Keeps the history of all writes from now on, so that the ledger can say what damage in a log may cost.
    pub fn keep_history(&mut self) {
        self.history.get_or_insert_default();
    }

    /// All damage that was ever done.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Brings the ledger up to date: what nobody meets any more is over, and what the rest may cost is weighed anew.
    /// For the moment before a store is opened.
    pub fn weigh_damage(&mut self) {
        for index in 0..self.damage.len() {
            let damage = &self.damage[index];
            if damage.over || matches!(damage.harm, Harm::BrokenPromise { .. }) {
                continue;
            }
            let over = !self.is_met(damage);
            let forgives = match (over, damage.met) {
                (false, _) => self.cost_of(damage.ino, &damage.bytes),
                (true, true) => damage.forgives,
                (true, false) => None,
            };
            let damage = &mut self.damage[index];
            damage.forgives = forgives;
            damage.met |= !over;
            damage.over = over;
        }
    }

    /// A store was opened and found whole: what a crash took of its logs and lists it has done without.
    pub fn settle_damage(&mut self) {
        for damage in &mut self.damage {
            damage.forgives = None;
            damage.met = false;
            damage.over |= matches!(damage.harm, Harm::BrokenPromise { of_names: true });
        }
    }

    /// Whether whoever reads these bytes now gets what is damaged, and nothing else has struck them since: then they differ from
    /// what was written.
    pub fn still_shows(&self, damage: &Damage) -> bool {
        let lasts = matches!(damage.harm, Harm::Flip { .. } | Harm::LostWrite { .. } | Harm::StrayWrite { .. });
        let of_these =
            self.damage.iter().filter(|other| other.ino == damage.ino && overlap(&other.bytes, &damage.bytes));
        lasts && !damage.over && of_these.count() == 1 && self.is_met(damage)
    }

    fn is_met(&self, damage: &Damage) -> bool {
        if self.slots[damage.ino.0 as usize].links == 0 {
            return false;
        }
        match damage.harm {
            Harm::Flip { now, .. } => {
                let mut byte = [0];
                let read =
                    self.content(damage.ino).is_ok_and(|content| content.read(damage.bytes.start, &mut byte) == 1);
                read && byte[0] == now
            }
            Harm::LostWrite { now } | Harm::StrayWrite { now } => self.hash_of(damage.ino, &damage.bytes) == Some(now),
            Harm::WrongRead => false,
            Harm::BrokenPromise { .. } => true,
        }
    }

    /// The bytes of a file as they were before any of them was flipped. `None` where something else was done to it, or it is not
    /// there.
    pub fn undamaged(&self, path: &str) -> Option<Vec<u8>> {
        let ino = self.walk(path).ok()?;
        let content = self.content(ino).ok()?;
        let mut bytes = vec![0; content.len as usize];
        content.read(0, &mut bytes);
        for damage in self.damage.iter().filter(|damage| damage.ino == ino && !damage.over) {
            let Harm::Flip { bit, .. } = damage.harm else { return None };
            *bytes.get_mut(damage.bytes.start as usize)? ^= 1 << bit;
        }
        Some(bytes)
    }

    /// Another program puts a file with these bytes in the place of the one of this name, or takes that away: durable at once. What
    /// is damaged in the old one, only those meet who have it open.
    pub fn put_back(&mut self, path: &str, bytes: Option<&[u8]>) -> Result<(), DiskError> {
        let (dir, name) = self.place(path)?;
        let name: Arc<str> = Arc::from(name);
        let old = self.dir_mut(dir).remove(&name);
        if let Some(bytes) = bytes {
            let ino = Ino(self.slots.len() as u32);
            self.dir_mut(dir).insert(name.clone(), ino);
            self.slots.push(Slot::new(Node::File(Arc::default()), name, dir));
            let content = self.content_mut(ino)?;
            let taken = content.write(0, bytes, 0, Origin::default());
            content.sync();
            self.used_pages += taken;
        }
        if let Some(old) = old {
            self.damage.iter_mut().filter(|damage| damage.ino == old).for_each(|damage| damage.over = true);
            let slot = self.slot_mut(old);
            slot.links -= 1;
            slot.taken = true;
            self.let_go(old);
        }
        Ok(())
    }

    /// From which call on acknowledgements may be forgotten if these bytes of a log are damaged.
    fn cost_of(&self, ino: Ino, bytes: &Range<u64>) -> Option<u64> {
        let done = self.history.as_ref()?.files.get(&ino)?;
        let covers = |done: &Done| matches!(done, Done::Write { bytes: written, .. } if overlap(written, bytes));
        let first = done.iter().position(covers)?;
        let Done::Write { call, .. } = done[first] else { unreachable!("only writes cover bytes") };
        let synced = done[first..].iter().position(|done| matches!(done, Done::Sync));
        let Some(synced) = synced.map(|index| first + index) else { return Some(call) };
        let proves = |index: usize| match &done[index] {
            Done::Write { bytes, hash, whole: true, .. } => {
                let begun_whole = !matches!(done[index - 1], Done::Write { whole: false, .. });
                begun_whole && self.hash_of(ino, bytes) == Some(*hash) && !self.is_damaged(ino, bytes)
            }
            _ => false,
        };
        if (synced + 1..done.len()).any(proves) { None } else { Some(call) }
    }

    fn is_damaged(&self, ino: Ino, bytes: &Range<u64>) -> bool {
        self.damage.iter().any(|damage| !damage.over && damage.ino == ino && overlap(&damage.bytes, bytes))
    }

    /// Enters damage to bytes of a file into the ledger. It may strike what could have told of earlier damage.
    pub(super) fn note_damage(&mut self, ino: Ino, bytes: Range<u64>, harm: Harm, call: u64) -> &Damage {
        let path = self.path_of(ino);
        // A wrong read is met as it happens.
        let met = harm == Harm::WrongRead;
        self.damage.push(Damage { ino, path, bytes, harm, call, forgives: None, over: false, met });
        for index in 0..self.damage.len() {
            let damage = &self.damage[index];
            if damage.ino == ino && !damage.over && !matches!(damage.harm, Harm::BrokenPromise { .. }) {
                self.damage[index].forgives = self.cost_of(ino, &damage.bytes);
            }
        }
        self.damage.last().expect("an entry was just made")
    }

    /// Flips one bit of a byte that is durable, and not pending, on the disk and in what is read. `None` where the byte is
    /// not of that kind, or where this very bit is flipped already: damage mends no damage.
    pub fn flip_bit(&mut self, ino: Ino, offset: u64, bit: u8, call: u64) -> Option<&Damage> {
        assert!(bit < 8, "a byte has no bit {bit}");
        let content = self.content(ino).ok()?;
        if !content.is_settled(offset) {
            return None;
        }
        let mut byte = [0];
        content.pages.read(offset, &mut byte);
        let flipped = byte[0] ^ 1 << bit;
        let of_byte = |damage: &Damage| damage.ino == ino && damage.bytes.start == offset && !damage.over;
        let is_same = |harm: Harm| matches!(harm, Harm::Flip { bit: other, now } if other == bit && now == byte[0]);
        if self.damage.iter().any(|damage| of_byte(damage) && is_same(damage.harm)) {
            return None;
        }
        // Other bits of the byte that were flipped before are so still.
        for damage in self.damage.iter_mut().filter(|damage| of_byte(damage)) {
            match &mut damage.harm {
                Harm::Flip { now, .. } if *now == byte[0] => *now = flipped,
                _ => {}
            }
        }
        self.content_mut(ino).ok()?.pages.write(offset, &[flipped]);
        Some(self.note_damage(ino, offset..offset + 1, Harm::Flip { bit, now: flipped }, call))
    }

    /// Flips one bit of a durable byte in one of the files that are eligible by their path. `None` where a few tries have
    /// found no such byte.
    pub fn flip_some(
        &mut self,
        eligible: &dyn Fn(&str) -> bool,
        decisions: &mut Decisions,
        call: u64,
    ) -> Option<&Damage> {
        let files = self.synced_files(eligible);
        if files.is_empty() {
            return None;
        }
        let site = decisions.site("flip");
        for _ in 0..8 {
            let ino = *decisions.pick(site, &files);
            let synced_len = self.content(ino).ok()?.synced_len;
            let offset = decisions.decide(site, synced_len);
            let bit = decisions.decide(site, 8) as u8;
            if self.flip_bit(ino, offset, bit, call).is_some() {
                return self.damage.last();
            }
        }
        None
    }

    /// Files with a name and with durable bytes that are eligible by their path.
    pub(super) fn synced_files(&self, eligible: &dyn Fn(&str) -> bool) -> Vec<Ino> {
        let candidate = |ino: &Ino| {
            let slot = &self.slots[ino.0 as usize];
            let synced = matches!(&slot.node, Node::File(content) if content.synced_len > 0);
            synced && slot.links > 0 && eligible(&self.path_of(*ino))
        };
        (0..self.slots.len() as u32).map(Ino).filter(candidate).collect()
    }

    /// Makes every read of this sector fail from now on, until it is written as a whole or the disk is healed.
    pub fn poison(&mut self, ino: Ino, sector: u64) {
        self.poison.insert((ino, sector));
    }

    /// Whether a read of these bytes fails.
    pub(super) fn is_poisoned(&self, ino: Ino, offset: u64, len: usize) -> bool {
        if self.poison.is_empty() || len == 0 {
            return false;
        }
        let first = offset / SECTOR_BYTES as u64;
        let last = (offset + len as u64 - 1) / SECTOR_BYTES as u64;
        self.poison.range((ino, first)..=(ino, last)).next().is_some()
    }

    /// A write of these bytes brings the sectors back that it covers as a whole.
    pub(super) fn remap(&mut self, ino: Ino, offset: u64, len: usize) {
        if !self.poison.is_empty() {
            let covered = offset.div_ceil(SECTOR_BYTES as u64)..(offset + len as u64) / SECTOR_BYTES as u64;
            self.poison.retain(|(file, sector)| *file != ino || !covered.contains(sector));
        }
    }

    /// Takes all poison away, and lets a file system that went read-only be written again.
    pub fn heal(&mut self) {
        self.poison.clear();
        self.read_only = false;
    }

    /// Errors that nobody was told of are forgotten, as they are where a file leaves the memory of the operating system: no
    /// handle that is opened from now on gets one.
    pub fn forget_errors(&mut self) {
        self.slots.iter_mut().for_each(|slot| slot.error_seen = true);
    }
}
