//! A crash that was chosen instead of drawn: what it leaves, what it must keep, and how an ordinary run repeats it.

use crate::disk::{CrashKind, CrashReport, Disk, ImageChoice, Losses, Profile};
use crate::oracle::{Promise, Restart};
use crate::rng::{Decisions, Rest};
use std::collections::BTreeMap;
use std::fmt;

/// See the head of this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The process ends, and the machine lives on.
    Process,
    /// The power goes, and leaves this.
    Power(ImageChoice),
    /// The power goes, and takes this.
    Losing(Losses),
}

impl Cut {
    /// Every one that is worth trying at this moment.
    pub fn all(disk: &Disk, torn: bool) -> Vec<Cut> {
        let mut cuts = vec![Cut::Process];
        cuts.extend(disk.canonical(torn).into_iter().map(Cut::Power));
        cuts
    }

    /// What dies.
    pub fn kind(&self) -> CrashKind {
        match self {
            Cut::Process => CrashKind::Process,
            Cut::Power(ImageChoice::TornWithin(_)) => CrashKind::TornPowerLoss,
            Cut::Power(_) | Cut::Losing(_) => CrashKind::PowerLoss,
        }
    }

    /// What comes before the recovery.
    pub fn restart(&self) -> Restart {
        if *self == Cut::Process { Restart::Process } else { Restart::PowerLoss }
    }

    /// What must be there afterwards; nothing where the disk lies.
    pub fn promise(&self, profile: Profile) -> Option<Promise> {
        match self {
            Cut::Process => Some(Promise::Acknowledged),
            _ => profile.syncs_are_honest().then_some(Promise::Durable),
        }
    }

    /// The disk that it leaves, and what it kept and lost.
    pub fn image(&self, disk: &Disk) -> (Disk, CrashReport) {
        match self {
            Cut::Process => {
                let mut unasked = Decisions::scripted(BTreeMap::new(), Rest::Zero);
                disk.crash(CrashKind::Process, &mut unasked)
            }
            Cut::Power(choice) => disk.crash_with(*choice),
            Cut::Losing(losses) => disk.crash_losing(losses),
        }
    }

    /// The answers by which a crash draws this image: labels, how manieth of this crash, and value.
    pub fn answers(&self, disk: &Disk) -> Vec<(&'static str, u64, u64)> {
        match self {
            Cut::Process => Vec::new(),
            Cut::Power(choice) => disk.script_of(*choice),
            Cut::Losing(losses) => disk.answers_of(losses),
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Cut::Process => f.write_str("the end of the process"),
            Cut::Power(choice) => write!(f, "a power cut that keeps {choice}"),
            Cut::Losing(Losses { names, sectors, lengths }) => {
                let (names, sectors, lengths) = (names.len(), sectors.len(), lengths.len());
                write!(f, "a power cut that takes {names} changes of names, {sectors} sectors and {lengths} lengths")
            }
        }
    }
}
