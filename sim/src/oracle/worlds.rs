//! What a key may have where writes to it failed, and operands were appended: there is an outcome for each way in which they may have
//! come out.
//!
//! A write that failed may be there or not, so what a key has by the versions above it is one thing or another. A world is one choice,
//! for each of the writes that failed and that it depends on at a point, and what the key has there by that choice. A read agrees with
//! some of the worlds. If it agrees with none, it is wrong; what all have in common with which it agrees is known from then on.
//!
//! Whatever is below a version that does not append does not matter, so a world begins with the newest of these that is there in it, and
//! the operands above are appended one by one. There are as many ways as there are choices, and next to none that are worth following:
//! of each value that was read it is known by which steps it came to be, and a choice that leads to anything else is given up at once.
//!
//! Not verified: what worlds have in common across keys, where each of the keys agrees with several. Recovery does look for one choice
//! that all keys agree with.

use super::time::{NEVER, Span};
use super::{Finding, Oracle, ReadTicket, Tick, Version};
use crate::op::{KeyId, MERGED, OPERAND, Stamp, TOMBSTONE, written_upon};

/// Of writes that failed, whether they are there.
pub(super) type Choices = Vec<(u32, bool)>;

/// Versions that are appended in the search for the worlds of one key, after which it is given up. Known steps keep it far below.
const APPENDED_MAX: u32 = 1 << 16;

/// A choice that explains what was seen.
#[derive(Debug)]
pub(super) struct World {
    pub(super) choices: Choices,
    /// When.
    span: Span,
}

/// The times at which one of these worlds may be, if there is any.
pub(super) fn span_of_all(worlds: &[World]) -> Option<Span> {
    worlds.iter().map(|world| world.span).reduce(Span::around)
}

/// Adds the writes that are there in all of these worlds, and those that are in none.
pub(super) fn add_agreed(worlds: &[World], present: &mut Vec<u32>, absent: &mut Vec<u32>) {
    let Some((first, others)) = worlds.split_first() else { return };
    for choice in &first.choices {
        if others.iter().all(|world| world.choices.contains(choice)) {
            if choice.1 { &mut *present } else { &mut *absent }.push(choice.0);
        }
    }
}

/// A search for the worlds of one key at one point.
struct Search<'a> {
    oracle: &'a Oracle,
    key: KeyId,
    /// The versions up to the point.
    versions: &'a [Version],
    /// What came to be what was seen, one step after the other, where that is known.
    steps: Option<Vec<Stamp>>,
    /// When this explains what was seen, if it does.
    explains: &'a dyn Fn(Option<Version>) -> Option<Span>,
    found: Vec<World>,
    appended: u32,
}

impl Search<'_> {
    fn run(mut self) -> Option<Vec<World>> {
        let mut absent = Choices::new();
        for (at, version) in self.versions.iter().enumerate().rev().filter(|(_, version)| !version.appends) {
            if self.oracle.is_sure(*version) {
                self.begin(Some(at), absent);
                return self.result();
            }
            self.begin(Some(at), absent.iter().copied().chain([(version.write, true)]).collect());
            absent.push((version.write, false));
        }
        self.begin(None, absent);
        self.result()
    }

    /// Looks for the worlds that begin with this version.
    fn begin(&mut self, base: Option<usize>, mut choices: Choices) {
        let from = base.map_or(0, |base| base + 1);
        // What the key has up to the next write that failed is known.
        let unsure = self.versions[from..].iter().position(|version| !self.oracle.is_sure(*version));
        let from = unsure.map_or(self.versions.len(), |unsure| from + unsure);
        let has = from.checked_sub(1).map(|last| self.versions[last]);
        self.append(from, has, &mut choices);
    }

    fn result(self) -> Option<Vec<World>> {
        (self.appended <= APPENDED_MAX).then_some(self.found)
    }

    /// Appends the operands from this version on to what the key has, in each way that the choices leave open.
    fn append(&mut self, from: usize, mut has: Option<Version>, choices: &mut Choices) {
        let known = choices.len();
        for at in from..self.versions.len() {
            let version = self.versions[at];
            if !version.appends {
                // It failed, and is absent by these choices.
                continue;
            }
            self.appended += 1;
            if self.appended > APPENDED_MAX {
                break;
            }
            let with = self.oracle.upon(self.key, has, version);
            let leads =
                self.steps.as_ref().is_none_or(|steps| steps.contains(&with.stamp) || steps.contains(&with.then));
            match (self.oracle.is_sure(version), leads) {
                (true, true) => has = Some(with),
                (true, false) => {
                    choices.truncate(known);
                    return;
                }
                (false, leads) => {
                    if leads {
                        choices.push((version.write, true));
                        self.append(at + 1, Some(with), choices);
                        choices.pop();
                    }
                    choices.push((version.write, false));
                }
            }
        }
        if let Some(span) = (self.explains)(has) {
            self.found.push(World { choices: choices.clone(), span });
        }
        choices.truncate(known);
    }
}

impl Oracle {
    /// What a key has by a version, where it had this before.
    pub(super) fn upon(&self, key: KeyId, before: Option<Version>, version: Version) -> Version {
        let record = &self.writes[version.write as usize];
        let own = record.start as usize..(record.start + record.count) as usize;
        let entries = self.entries[own.clone()].iter().zip(&self.expiries[own]);
        let (mut stamp, mut expires_ms, mut then, mut inherited) = before
            .map_or((TOMBSTONE, NEVER, TOMBSTONE, false), |before| {
                (before.stamp, before.expires_ms, before.then, before.doubtful)
            });
        let mut appends = true;
        for ((_, written), written_ms) in entries.filter(|((other, _), _)| *other == key) {
            if written & OPERAND == 0 {
                (stamp, expires_ms, then, inherited) = (*written, *written_ms, TOMBSTONE, false);
                appends = false;
            } else {
                (stamp, then) = (written_upon(stamp, *written), written_upon(then, *written));
            }
        }
        Version { stamp, expires_ms, then, doubtful: version.doubtful || inherited, appends, ..version }
    }

    /// Remembers by which steps a value came to be that was read.
    pub(super) fn learn(&mut self, stamp: Stamp, value: Option<&[u8]>) {
        if stamp & MERGED == 0 || self.came_of.contains_key(&stamp) {
            return;
        }
        let Oracle { stamps, came_of, .. } = self;
        let _ = stamps.recognise_by_steps(value.unwrap_or_default(), |before, after| {
            came_of.insert(after, before);
        });
    }

    fn steps_to(&self, seen: Stamp) -> Option<Vec<Stamp>> {
        let mut steps = vec![seen];
        let mut last = seen;
        while last & MERGED != 0 {
            last = *self.came_of.get(&last)?;
            steps.push(last);
        }
        Some(steps)
    }

    /// Whether what a key has by its versions before `end` depends on writes that failed, or what it had at one of the points in
    /// between since this sequence number.
    pub(super) fn has_worlds(&self, key: KeyId, end: usize, since: u64) -> bool {
        if self.holes.is_empty() || !self.merged[key as usize] {
            return false;
        }
        for version in self.versions[key as usize][..end].iter().rev() {
            if !self.is_sure(*version) {
                return true;
            }
            if !version.appends && version.seq <= since {
                return false;
            }
        }
        false
    }

    fn worlds(
        &self,
        key: KeyId,
        end: usize,
        seen: Stamp,
        explains: &dyn Fn(Option<Version>) -> Option<Span>,
    ) -> Option<Vec<World>> {
        let (versions, steps) = (&self.versions[key as usize][..end], self.steps_to(seen));
        Search { oracle: self, key, versions, steps, explains, found: Vec::new(), appended: 0 }.run()
    }

    /// The worlds in which a key reads as `seen` by its versions before `end`; `None` where there are too many ways.
    pub(super) fn worlds_read(&self, key: KeyId, end: usize, seen: Stamp, span: Span) -> Option<Vec<World>> {
        self.worlds(key, end, seen, &|has| match has {
            Some(version) => self.reads_as(key, version, seen, span),
            None => (seen == TOMBSTONE).then_some(span),
        })
    }

    /// The same at this time of a store that was opened again.
    pub(super) fn worlds_recovered(&self, key: KeyId, end: usize, seen: Stamp, time_ms: u64) -> Option<Vec<World>> {
        self.worlds(key, end, seen, &|has| {
            let stamp = has.map_or(TOMBSTONE, |version| self.recovered_as(key, &version, seen, time_ms));
            (stamp == seen).then(Span::default)
        })
    }

    /// What a key has by its versions before `end` if no write is there that failed.
    pub(super) fn without_holes(&self, key: KeyId, end: usize) -> Option<Version> {
        let versions = &self.versions[key as usize][..end];
        let sure = |version: &&Version| self.is_sure(**version);
        if !self.has_worlds(key, end, u64::MAX) {
            return versions.iter().rev().find(sure).copied();
        }
        let base = versions.iter().rposition(|version| !version.appends && self.is_sure(*version));
        let above = versions[base.map_or(0, |base| base + 1)..].iter().filter(|version| version.appends).filter(sure);
        above.fold(base.map(|base| versions[base]), |has, version| Some(self.upon(key, has, *version)))
    }

    /// O4, where there are worlds: the get may have read at each of the versions that overlap it, and where it began.
    pub(super) fn judge_get_in_worlds(
        &mut self,
        ticket: ReadTicket,
        until: Tick,
        key: KeyId,
        stamp: Stamp,
    ) -> Result<(), Finding> {
        let span = ticket.span();
        let versions = &self.versions[key as usize];
        let began = versions.partition_point(|version| version.seq <= ticket.visible);
        let mut found: Vec<World> = Vec::new();
        let mut earliest: Option<u64> = None;
        for end in began..=versions.len() {
            let newest = (end > began).then(|| versions[end - 1]);
            if newest.is_some_and(|newest| self.writes[newest.write as usize].invoked >= until) {
                continue;
            }
            let Some(mut worlds) = self.worlds_read(key, end, stamp, span) else {
                self.spills += 1;
                return Ok(());
            };
            if let Some(newest) = newest {
                // Where it is absent, this is no other point than the one before.
                worlds.retain(|world| !world.choices.contains(&(newest.write, false)));
            }
            if !worlds.is_empty() {
                earliest = earliest.or(Some(newest.map_or(ticket.visible, |newest| newest.seq)));
            }
            found.append(&mut worlds);
        }
        let (Some(narrowed), Some(earliest)) = (span_of_all(&found), earliest) else {
            let expected = self.without_holes(key, began);
            return Err(self.wrong_get(ticket, key, stamp, expected));
        };
        let (mut present, mut unseen) = (Vec::new(), Vec::new());
        add_agreed(&found, &mut present, &mut unseen);
        self.visible = self.visible.max(earliest);
        present.into_iter().for_each(|write| self.resolve_present(write));
        self.mark_unseen(&unseen);
        self.narrow(ticket, narrowed);
        Ok(())
    }
}
