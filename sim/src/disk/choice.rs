//! The canonical crash images of a disk: which there are, and how a run draws each of them.
//!
//! The images of a power cut are too many to try them all. These are the ones that catch what goes wrong in practice: the
//! least and the most, names without data and data without names, each order in which names may reach the disk first, each
//! change alone lost and alone kept, the newest write torn, and the tail of a file that shows what lay there before.
//!
//! Whoever sweeps builds an image by [`Disk::crash_with`]. Whoever replays it later does so in an ordinary run, in which a
//! crash draws by name; [`Disk::script_of`] says which answers make it draw this image.

use super::image::ImageChoice;
use super::profile::{DataRule, MetaRule};
use super::volume::Disk;
use std::fmt;

/// Sectors at which the newest write may be torn that are tried one by one; of a longer write the edges and the middle.
const TEARS_MAX: u64 = 8;

impl Disk {
    /// Every canonical image of a power cut at this moment; some of them may turn out the same. `torn` says whether a write
    /// may end within a sector.
    pub fn canonical(&self, torn: bool) -> Vec<ImageChoice> {
        let (names, writes) = self.pending();
        let mut choices = vec![ImageChoice::All];
        if names + writes == 0 {
            return choices;
        }
        choices.push(ImageChoice::Min);
        if names > 0 && writes > 0 {
            choices.push(ImageChoice::DataOnly);
        }
        if writes > 0 {
            choices.extend([ImageChoice::NamesOnly, ImageChoice::PatternTail, ImageChoice::StaleTail]);
        }
        choices.extend((0..names).map(ImageChoice::MetaPrefix));
        // The last change alone is the prefix before it, and the first alone the prefix behind it.
        choices.extend((0..names.saturating_sub(1)).map(ImageChoice::DropMeta));
        choices.extend((1..names).map(ImageChoice::KeepMeta));
        choices.extend((0..writes).map(ImageChoice::DropWrite));
        choices.extend((0..writes).map(ImageChoice::KeepWrite));
        let sectors = self.newest_write_sectors();
        let tears = match sectors {
            0..=TEARS_MAX => (0..sectors).collect(),
            _ => vec![0, 1, sectors / 2, sectors - 1],
        };
        choices.extend(tears.iter().map(|keep| ImageChoice::TornLast(*keep)));
        if torn && !matches!(self.rules().data, DataRule::All | DataRule::None) {
            choices.extend(tears.iter().map(|keep| ImageChoice::TornWithin(*keep)));
        }
        choices
    }

    /// The answers with which [`Disk::crash`] draws this image: labels, how manieth of the crash, and value. What is not
    /// named is 0. For [`ImageChoice::TornWithin`] the crash must be a torn one.
    pub fn script_of(&self, choice: ImageChoice) -> Vec<(&'static str, u64, u64)> {
        let (names, writes) = self.pending();
        let mut script = Vec::new();
        // Which names: the wanted ones as one of the ways in which they are drawn.
        let (meta, op) = match choice {
            ImageChoice::Min | ImageChoice::DataOnly => (1, 0),
            ImageChoice::MetaPrefix(keep) if keep < names => (2, names - 1 - keep),
            ImageChoice::DropMeta(drop) => (4, drop),
            ImageChoice::KeepMeta(keep) => (5, keep),
            _ => (0, 0),
        };
        match self.rules().meta {
            MetaRule::All | MetaRule::None => {}
            MetaRule::Prefix => {
                let keep = match choice {
                    ImageChoice::Min | ImageChoice::DataOnly => 0,
                    ImageChoice::MetaPrefix(keep) | ImageChoice::DropMeta(keep) => keep.min(names),
                    ImageChoice::KeepMeta(keep) => self.kept_alone(keep),
                    _ => names,
                };
                script.push(("crash.meta", 0, (names - keep) as u64));
            }
            MetaRule::PerDir | MetaRule::Any => {
                script.extend([("crash.meta", 0, meta), ("crash.meta.op", 0, op as u64)])
            }
        }
        if writes == 0 {
            script.retain(|(_, _, value)| *value > 0);
            return script;
        }
        let (data, size) = match choice {
            ImageChoice::Min => (1, 2),
            ImageChoice::NamesOnly | ImageChoice::PatternTail | ImageChoice::StaleTail => (1, 1),
            ImageChoice::All
            | ImageChoice::DataOnly
            | ImageChoice::MetaPrefix(_)
            | ImageChoice::DropMeta(_)
            | ImageChoice::KeepMeta(_) => (0, 0),
            ImageChoice::DropWrite(write) => {
                script.push(("crash.write", 0, write as u64));
                (6, 0)
            }
            ImageChoice::KeepWrite(write) => {
                script.push(("crash.write", 0, write as u64));
                (5, 0)
            }
            ImageChoice::TornLast(keep) | ImageChoice::TornWithin(keep) => {
                let sectors = self.newest_write_sectors();
                script.push(("crash.tear", 0, sectors - keep.min(sectors)));
                (4, 0)
            }
        };
        script.extend([("crash.data", 0, data), ("crash.size", 0, size)]);
        let filling = match choice {
            ImageChoice::PatternTail => 1,
            ImageChoice::StaleTail => 2,
            _ => 0,
        };
        script.extend((0..writes as u64).map(|file| ("crash.hole", file, filling)));
        if matches!(choice, ImageChoice::TornWithin(_)) {
            script.push(("crash.tear.byte", 0, 1));
        }
        script.retain(|(_, _, value)| *value > 0);
        script
    }
}

impl fmt::Display for ImageChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageChoice::Min => f.write_str("as little as is legal"),
            ImageChoice::All => f.write_str("everything"),
            ImageChoice::NamesOnly => f.write_str("all names and lengths, and no data"),
            ImageChoice::DataOnly => f.write_str("all data, and no names"),
            ImageChoice::MetaPrefix(keep) => write!(f, "the first {keep} changes of names, and all data"),
            ImageChoice::DropMeta(drop) => write!(f, "everything but change {drop} of a name"),
            ImageChoice::KeepMeta(keep) => write!(f, "of the names only change {keep}, and all data"),
            ImageChoice::DropWrite(drop) => write!(f, "everything but write {drop}"),
            ImageChoice::KeepWrite(keep) => write!(f, "all names, and of the data only write {keep}"),
            ImageChoice::TornLast(sectors) => write!(f, "of the newest write {sectors} sectors, and all else"),
            ImageChoice::TornWithin(sectors) => {
                write!(f, "of the newest write {sectors} sectors and a byte, and all else")
            }
            ImageChoice::PatternTail => f.write_str("all names and lengths, no data, and a pattern in its place"),
            ImageChoice::StaleTail => f.write_str("all names and lengths, no data, and a deleted file's in its place"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::{CrashKind, Origin, Profile, SyncScope};
    use crate::rng::{Decisions, Rest};

    /// A disk after some calls, as the seed decides.
    fn some_disk(profile: Profile, seed: u64) -> Disk {
        let mut decisions = Decisions::from_seed(seed);
        let site = decisions.site("test");
        let mut disk = Disk::new(profile, None);
        let origin = Origin::default();
        disk.mkdir("db", origin).expect("a new directory");
        for number in 0..30 {
            let name = format!("db/{}", decisions.decide(site, 4));
            let other = format!("db/{}", decisions.decide(site, 4));
            match decisions.decide(site, 8) {
                0 => drop(disk.rename(&name, &other, origin)),
                1 => drop(disk.unlink(&name, origin)),
                2 => drop(disk.sync_dir("db", origin)),
                3 => {
                    if let Ok(stat) = disk.stat(&name) {
                        disk.sync_file(stat.ino, SyncScope::All, origin).expect("a file");
                    }
                }
                4 => {
                    if let Ok(stat) = disk.stat(&name) {
                        disk.set_len(stat.ino, decisions.decide(site, 3000), origin).expect("a file");
                    }
                }
                _ => {
                    let ino = disk.open(&name).or_else(|_| disk.create(&name, origin)).expect("a file");
                    let data = vec![number; 1 + decisions.decide(site, 2500) as usize];
                    disk.write(ino, decisions.decide(site, 2000), &data, origin).expect("space");
                    disk.close(ino);
                }
            }
        }
        disk
    }

    #[test]
    fn a_crash_draws_every_canonical_image_from_its_script() {
        for profile in Profile::ALL {
            for seed in 0..40 {
                let disk = some_disk(profile, seed);
                for choice in disk.canonical(true) {
                    let script = disk.script_of(choice);
                    let script = script.into_iter().map(|(label, at, value)| ((label.to_string(), at), value));
                    let torn = matches!(choice, ImageChoice::TornWithin(_));
                    let kind = if torn { CrashKind::TornPowerLoss } else { CrashKind::PowerLoss };
                    let (drawn, _) = disk.crash(kind, &mut Decisions::scripted(script.collect(), Rest::Zero));
                    let (built, _) = disk.crash_with(choice);
                    assert_eq!(drawn.image_hash(), built.image_hash(), "{profile}, seed {seed}: {choice}");
                }
            }
        }
    }

    #[test]
    fn a_disk_without_pending_changes_has_one_image() {
        let mut disk = Disk::new(Profile::PosixWeak, None);
        disk.mkdir("db", Origin::default()).expect("a new directory");
        disk.sync_dir("", Origin::default()).expect("a directory");
        assert_eq!(disk.canonical(true), [ImageChoice::All]);
    }
}
