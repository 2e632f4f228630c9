//! A crash image put together change by change: what is still undecided when power goes, and what one choice takes away.
//!
//! The canonical images ([`ImageChoice`](super::ImageChoice)) are chosen for a whole disk at once. Whoever explores asks what
//! there is to choose from ([`Disk::undecided`], [`Disk::pending_changes`]), names what is lost ([`Losses`]), and gets the
//! image that comes nearest to it by the rules of the profile ([`Disk::crash_losing`]).
//!
//! The image is drawn like any other, by the answers of [`Disk::answers_of`], so that an ordinary run can draw it too.

use super::image::{CrashKind, Keep};
use super::pending::{Change, Origin, Record};
use super::profile::{DataRule, MetaRule};
use super::report::{CrashReport, Thing};
use super::volume::{Disk, Ino, Node, ROOT, with_requirements};
use crate::rng::{Decisions, Rest};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a power cut takes; all that is not named is kept, unless the rules of the profile demand otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Losses {
    /// Changes of names, by number in program order.
    pub names: BTreeSet<usize>,
    /// How many of the newest writes to a sector of a file.
    pub sectors: BTreeMap<(Ino, u64), usize>,
    /// How many of the newest changes of a file its length goes without.
    pub lengths: BTreeMap<Ino, usize>,
}

/// What is undecided when power goes.
#[derive(Clone, Debug, Default)]
pub struct Undecided {
    /// For each change of names, the paths that it touches.
    pub names: Vec<Vec<String>>,
    /// For each sector with pending writes, how many there are.
    pub sectors: BTreeMap<(Ino, u64), usize>,
    /// For each file with more than one possible length, how many changes to go without for each of the others.
    pub lengths: BTreeMap<Ino, Vec<usize>>,
}

/// A pending change, of names or of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingChange {
    /// What it is.
    pub thing: Thing,
    /// Who made it.
    pub origin: Origin,
    place: Place,
}

/// Where a pending change is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Name(usize),
    Record(Ino, usize),
}

impl PendingChange {
    /// Whether it is about names, and not about the bytes or the length of a file.
    pub fn is_of_names(&self) -> bool {
        matches!(self.place, Place::Name(_))
    }
}

impl Disk {
    /// What is undecided now, as far as the rules of the profile leave anything undecided.
    pub fn undecided(&self) -> Undecided {
        let mut undecided = Undecided::default();
        if !matches!(self.rules.meta, MetaRule::All | MetaRule::None) {
            let paths = self.meta.iter().map(|op| op.entries().into_iter().flatten().map(|entry| self.path_in(entry)));
            undecided.names = paths.map(Iterator::collect).collect();
        }
        if matches!(self.rules.data, DataRule::All | DataRule::None) {
            return undecided;
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let Node::File(content) = &slot.node else { continue };
            let ino = Ino(index as u32);
            for sector in content.pending.iter().flat_map(Record::sectors) {
                *undecided.sectors.entry((ino, sector)).or_default() += 1;
            }
            let total = content.pending.len();
            let mut lengths = BTreeSet::from([content.len]);
            let others: Vec<usize> =
                (1..=total).filter(|lost| lengths.insert(content.len_after(total - lost))).collect();
            if !others.is_empty() {
                undecided.lengths.insert(ino, others);
            }
        }
        undecided
    }

    /// Every pending change, in program order.
    pub fn pending_changes(&self) -> Vec<PendingChange> {
        let mut changes = Vec::new();
        for (number, op) in self.meta.iter().enumerate() {
            changes.push(PendingChange {
                thing: self.words(op, Keep::Yes),
                origin: op.origin,
                place: Place::Name(number),
            });
        }
        for (index, slot) in self.slots.iter().enumerate().filter(|(_, slot)| slot.links > 0) {
            let Node::File(content) = &slot.node else { continue };
            let ino = Ino(index as u32);
            let path = self.path_of(ino);
            for (number, record) in content.pending.iter().enumerate() {
                let sectors = record.sectors().end - record.sectors().start;
                let thing = match record.change {
                    Change::Write { offset, len, .. } => {
                        let (path, sectors_kept) = (path.clone(), sectors);
                        Thing::Write { path, offset, len, sectors_kept, sectors, torn_at: None }
                    }
                    Change::Cut { to, .. } | Change::Extend { to } => Thing::SetLen { path: path.clone(), to },
                };
                changes.push(PendingChange { thing, origin: record.origin, place: Place::Record(ino, number) });
            }
        }
        changes.sort_by_key(|change| change.origin.op);
        changes
    }

    /// What goes where these changes are lost, some of [`Disk::pending_changes`].
    pub fn losses_of<'a>(&self, lost: impl IntoIterator<Item = &'a PendingChange>) -> Losses {
        let mut losses = Losses::default();
        let mut records: BTreeMap<Ino, BTreeSet<usize>> = BTreeMap::new();
        for change in lost {
            match change.place {
                Place::Name(number) => drop(losses.names.insert(number)),
                Place::Record(ino, number) => drop(records.entry(ino).or_default().insert(number)),
            }
        }
        for (ino, lost) in records {
            let Node::File(content) = &self.slots[ino.0 as usize].node else { continue };
            for &number in &lost {
                for sector in content.pending[number].sectors() {
                    // With it goes what was written to the sector later.
                    let behind = content.touching(sector).filter(|&other| other >= number).count();
                    let known = losses.sectors.entry((ino, sector)).or_default();
                    *known = behind.max(*known);
                }
            }
            let newest = (0..content.pending.len()).rev().take_while(|number| lost.contains(number)).count();
            if newest > 0 {
                losses.lengths.insert(ino, newest);
            }
        }
        losses
    }

    /// The changes without which this one cannot be kept, and itself, by their place among `changes`, which are all of
    /// [`Disk::pending_changes`].
    pub fn rests_on(&self, changes: &[PendingChange], index: usize) -> BTreeSet<usize> {
        let mut flags = vec![false; self.meta.len()];
        match changes[index].place {
            Place::Name(number) => flags[number] = true,
            Place::Record(ino, _) => {
                let mut needed = vec![ino];
                while let Some(ino) = needed.pop() {
                    let parent = self.slots[ino.0 as usize].parent;
                    needed.extend((parent != ROOT && parent != ino).then_some(parent));
                    self.meta.iter().zip(&mut flags).for_each(|(op, flag)| *flag |= op.ino == ino);
                }
            }
        }
        let flags = with_requirements(&self.meta, flags);
        let kept = |change: &PendingChange| matches!(change.place, Place::Name(number) if flags[number]);
        (0..changes.len()).filter(|&other| other == index || kept(&changes[other])).collect()
    }

    /// The disk after a power cut that takes this, and what it kept and lost.
    pub fn crash_losing(&self, losses: &Losses) -> (Disk, CrashReport) {
        let answers = self.answers_of(losses).into_iter();
        let script = answers.map(|(label, ordinal, value)| ((label.to_string(), ordinal), value)).collect();
        self.crash(CrashKind::PowerLoss, &mut Decisions::scripted(script, Rest::Zero))
    }

    /// The answers with which [`Disk::crash`] draws this image: labels, how manieth of the crash, and value. What is not
    /// named is 0.
    pub fn answers_of(&self, losses: &Losses) -> Vec<(&'static str, u64, u64)> {
        let mut answers = Vec::new();
        if !losses.names.is_empty() {
            match self.rules.meta {
                MetaRule::All | MetaRule::None => {}
                MetaRule::Prefix => {
                    let first = losses.names.first().copied().unwrap_or(self.meta.len());
                    answers.push(("crash.meta", 0, (self.meta.len() - first) as u64));
                }
                MetaRule::PerDir | MetaRule::Any => {
                    answers.push(("crash.meta", 0, 3));
                    answers.extend(losses.names.iter().map(|&number| ("crash.meta.op", number as u64, 1)));
                }
            }
        }
        if losses.sectors.is_empty() && losses.lengths.is_empty() {
            return answers;
        }
        answers.extend([("crash.data", 0, 3), ("crash.size", 0, 3)]);
        let (mut sectors, mut lengths) = (0, 0);
        for ino in self.drawn_files(&losses.names) {
            let Node::File(content) = &self.slots[ino.0 as usize].node else { continue };
            for sector in content.touched() {
                if let Some(&lost) = losses.sectors.get(&(ino, sector)) {
                    answers.push(("crash.sector", sectors, lost as u64));
                }
                sectors += 1;
            }
            if let Some(&lost) = losses.lengths.get(&ino) {
                answers.push(("crash.size.step", lengths, lost as u64));
            }
            lengths += 1;
        }
        answers
    }
}

impl fmt::Display for PendingChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.thing)?;
        match self.origin.at {
            Some(at) => write!(f, " at {}:{}", at.file(), at.line()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{ImageChoice, Profile, SyncScope};

    /// A directory with a synced file, which is overwritten, and a new one, whose name is changed.
    fn some_disk(profile: Profile) -> Disk {
        let mut disk = Disk::new(profile, None);
        let origin = |op| Origin::new(op, None);
        disk.mkdir("db", origin(1)).expect("a new directory");
        let old = disk.create("db/old", origin(2)).expect("a new file");
        disk.write(old, 0, &[1; 1200], origin(3)).expect("space");
        disk.sync_file(old, SyncScope::All, origin(9)).expect("a file");
        disk.sync_dir("", origin(9)).expect("a directory");
        disk.sync_dir("db", origin(9)).expect("a directory");
        disk.write(old, 500, &[2; 900], origin(4)).expect("space");
        let new = disk.create("db/new", origin(5)).expect("a new file");
        disk.write(new, 0, &[3; 700], origin(6)).expect("space");
        disk.close(new);
        disk.rename("db/new", "db/newer", origin(7)).expect("a file");
        disk.write(old, 600, &[4; 100], origin(8)).expect("space");
        disk
    }

    #[test]
    fn what_is_undecided_is_what_is_pending() {
        let undecided = some_disk(Profile::PosixWeak).undecided();
        assert_eq!(undecided.names, [vec!["db/new"], vec!["db/new", "db/newer"]]);
        let counts: Vec<usize> = undecided.sectors.values().copied().collect();
        assert_eq!(counts, [1, 2, 1, 1, 1]);
        assert_eq!(undecided.lengths.values().cloned().collect::<Vec<_>>(), [vec![2], vec![1]]);
        assert!(some_disk(Profile::StrictMin).undecided().sectors.is_empty());
    }

    #[test]
    fn losing_nothing_keeps_everything_and_losing_all_keeps_the_least() {
        for profile in Profile::ALL {
            let disk = some_disk(profile);
            let changes = disk.pending_changes();
            let (none, _) = disk.crash_losing(&Losses::default());
            let (all, _) = disk.crash_losing(&disk.losses_of(&changes));
            assert_eq!(none.image_hash(), disk.crash_with(ImageChoice::All).0.image_hash(), "{profile}");
            assert_eq!(all.image_hash(), disk.crash_with(ImageChoice::Min).0.image_hash(), "{profile}");
        }
    }

    #[test]
    fn one_change_is_lost_alone() {
        let disk = some_disk(Profile::PosixWeak);
        let changes = disk.pending_changes();
        let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "write db/old @500+900",
                "create db/new",
                "write db/newer @0+700",
                "rename db/new to db/newer",
                "write db/old @600+100"
            ]
        );
        let without = |index: usize| disk.crash_losing(&disk.losses_of([&changes[index]])).0;
        let byte = |disk: &Disk, path: &str, offset: u64| {
            let mut byte = [0];
            let ino = disk.stat(path).expect("a file").ino;
            disk.read(ino, offset, &mut byte).expect("a file");
            byte[0]
        };
        // The last write alone, and with the first one the last, for it lies in the same sector.
        assert_eq!(byte(&without(4), "db/old", 650), 2);
        assert_eq!(byte(&without(0), "db/old", 650), 1);
        assert_eq!(byte(&without(0), "db/newer", 0), 3);
        // Without the rename it has its old name; without its data it is as long, or empty.
        assert_eq!(byte(&without(3), "db/new", 0), 3);
        assert_eq!(without(2).stat("db/newer").expect("a file").len, 0);
        // Without its creation it never was, and with the write alone come its names.
        assert!(without(1).stat("db/newer").is_err());
        assert_eq!(disk.rests_on(&changes, 2), BTreeSet::from([1, 2, 3]));
        assert_eq!(disk.rests_on(&changes, 4), BTreeSet::from([4]));
    }
}
