//! Lazy images: what a crash kept of a name, a length or a sector is undecided until recovery asks for it.
//!
//! Most of what is pending at a crash is never read by the recovery that follows: the tail of a log behind the first torn
//! record, files that no manifest names. So images are not chosen first. The image that keeps everything is recovered, and it
//! is noted in which order recovery asks for what was undecided. For each of these questions there is a sibling in which the
//! answer is another, and for each later question of the sibling there are siblings of its own; what nobody asks for never
//! branches. Leaving out what was asked before the last different answer, each set of answers is met once (after Jaaru,
//! ASPLOS 2021).
//!
//! The siblings with one loss come first, then those with two: with a budget, the plainest explanations of a failure are
//! found before the others. Recovery is deterministic, so that what it asks of an image is known by the image's hash, and an
//! image that a neighbouring boundary has left too is not recovered again.
//!
//! Names are lazy like data, though a store that lists its directory asks for all of them at once. Lengths are those that
//! the file had after some pending change; ends in between are for the torn writes among the canonical images, as is what
//! fills a hole.

use super::boundaries::Boundary;
use super::cut::Cut;
use super::sweeper::Sweeper;
use super::tally::Tally;
use crate::disk::{Disk, Ino, Losses, SECTOR_BYTES, Undecided};
use crate::fault::{FileClass, FsOp};
use crate::watch::{Sight, Watch};
use parking_lot::Mutex;
use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Images of one boundary after which its exploration is given up.
const IMAGES_MAX: u64 = 256;

/// What a recovery asked of the disk, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Look {
    /// What this path names.
    Name(Arc<str>),
    /// What is in this directory.
    List(Arc<str>),
    /// How long this file is.
    Length(Arc<str>),
    /// What is in these sectors.
    Sectors(Arc<str>, Range<u64>),
}

/// What a recovery asked of an image that was there before it.
#[derive(Debug, Default)]
pub(super) struct Log {
    looks: Vec<Look>,
    /// Paths that the recovery itself has made.
    made: BTreeSet<Arc<str>>,
}

impl Log {
    /// A watch that writes a log.
    pub(super) fn watch() -> (Watch, Arc<Mutex<Log>>) {
        let log = Arc::new(Mutex::new(Log::default()));
        let writer = log.clone();
        (Box::new(move |sight| writer.lock().note(sight)), log)
    }

    fn note(&mut self, sight: &Sight<'_>) {
        if self.made.contains(sight.path) {
            return;
        }
        let path = || Arc::from(sight.path);
        let look = match sight.op {
            FsOp::Read if sight.bytes > 0 => {
                let sector = SECTOR_BYTES as u64;
                let end = (sight.offset + sight.bytes).div_ceil(sector);
                Look::Sectors(path(), sight.offset / sector..end)
            }
            FsOp::Stat if sight.class != FileClass::Directory => Look::Length(path()),
            FsOp::ReadDir => Look::List(path()),
            FsOp::Open | FsOp::Create | FsOp::Rename | FsOp::Link | FsOp::Unlink => Look::Name(path()),
            FsOp::Mkdir | FsOp::Rmdir | FsOp::Lock => Look::Name(path()),
            _ => return,
        };
        if self.looks.last() != Some(&look) {
            self.looks.push(look);
        }
        if matches!(sight.op, FsOp::Create | FsOp::Rename | FsOp::Link) {
            self.made.insert(path());
        }
    }
}

/// Something undecided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Name(usize),
    Length(Ino),
    Sector(Ino, u64),
}

/// An undecided thing, and how much of it is lost.
type Loss = (Item, usize);

/// Whether `path` is `above`, or lies in it.
fn is_within(path: &str, above: &str) -> bool {
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What recovery asked for and was undecided, in the order in which it was first asked for.
fn asked(log: &Log, undecided: &Undecided, image: &Disk) -> Vec<Item> {
    let mut items: Vec<Item> = Vec::new();
    let mut known = BTreeSet::new();
    let mut push = |item: Item| {
        if known.insert(item) {
            items.push(item);
        }
    };
    for look in &log.looks {
        let (path, sectors) = match look {
            Look::Name(path) | Look::List(path) | Look::Length(path) => (path, 0..0),
            Look::Sectors(path, sectors) => (path, sectors.clone()),
        };
        let lists = matches!(look, Look::List(_));
        for (number, names) in undecided.names.iter().enumerate() {
            let parent = |name: &String| name.rsplit_once('/').map_or("", |(parent, _)| parent).to_string();
            if names.iter().any(|name| is_within(path, name) || (lists && parent(name) == path.trim_matches('/'))) {
                push(Item::Name(number));
            }
        }
        let Ok(stat) = image.stat(path) else { continue };
        if undecided.lengths.contains_key(&stat.ino) && !matches!(look, Look::Name(_) | Look::List(_)) {
            push(Item::Length(stat.ino));
        }
        for ((ino, sector), _) in undecided.sectors.range((stat.ino, sectors.start)..(stat.ino, sectors.end)) {
            push(Item::Sector(*ino, *sector));
        }
    }
    items
}

fn losses_of(lost: &[Loss]) -> Losses {
    let mut losses = Losses::default();
    for &(item, count) in lost {
        match item {
            Item::Name(number) => drop(losses.names.insert(number)),
            Item::Length(ino) => drop(losses.lengths.insert(ino, count)),
            Item::Sector(ino, sector) => drop(losses.sectors.insert((ino, sector), count)),
        }
    }
    losses
}

/// Explores what recovery can tell apart at this boundary.
pub(super) fn explore(sweeper: &mut Sweeper<'_>, boundary: &Boundary, tally: &mut Tally) {
    let undecided = boundary.disk.undecided();
    let mut met = BTreeSet::new();
    let mut queue: VecDeque<Vec<Loss>> = VecDeque::from([Vec::new()]);
    while let Some(lost) = queue.pop_front() {
        let cut = Cut::Losing(losses_of(&lost));
        let (image, _) = cut.image(&boundary.disk);
        let hash = image.image_hash();
        if !met.insert(hash) {
            continue;
        }
        if met.len() as u64 > IMAGES_MAX || sweeper.is_late() {
            return;
        }
        tally.lazy += 1;
        let log = sweeper.log_of(&image, hash, tally);
        if let Err(finding) = sweeper.judge_image(boundary, &cut, &image, hash, tally) {
            sweeper.report(&[(boundary, &cut)], finding, tally);
            continue;
        }
        let items = asked(&log.lock(), &undecided, &image);
        let behind = lost.last().and_then(|(last, _)| items.iter().position(|item| item == last));
        for &item in &items[behind.map_or(0, |index| index + 1)..] {
            let others = match item {
                Item::Name(_) => vec![1],
                Item::Length(ino) => undecided.lengths[&ino].clone(),
                Item::Sector(ino, sector) => (1..=undecided.sectors[&(ino, sector)]).collect(),
            };
            queue.extend(others.into_iter().map(|count| {
                let mut lost = lost.clone();
                lost.push((item, count));
                lost
            }));
        }
    }
    tally.lazy_whole += 1;
}
