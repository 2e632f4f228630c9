//! The rules, held against every call. The head of [`super`] has them in words.

use super::protocol::{Claim, Protocol, Statement};
use super::shadow::{CallSite, Missing, Promise, Shadow, is_in};
use crate::disk::{CrashKind, Disk, Ino};
use crate::fault::FileClass;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;

/// A rule; the head of [`super`] says what each demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A list names a file that is not durable.
    ListedTooEarly,
    /// The root leads to what is not durable.
    RootTooEarly,
    /// A log is removed too early.
    LogRemovedTooEarly,
    /// A durable write is acknowledged too early.
    AcknowledgedTooEarly,
    /// A table is removed too early.
    TableRemovedTooEarly,
    /// Reads rest on what an earlier process left undone.
    ServedTooEarly,
    /// A descriptor is used after a failed sync.
    UsedAfterFailedSync,
    /// A list is removed too early.
    ListRemovedTooEarly,
}

impl Rule {
    /// Every rule, in the order of its number.
    pub const ALL: [Rule; 8] = [
        Rule::ListedTooEarly,
        Rule::RootTooEarly,
        Rule::LogRemovedTooEarly,
        Rule::AcknowledgedTooEarly,
        Rule::TableRemovedTooEarly,
        Rule::ServedTooEarly,
        Rule::UsedAfterFailedSync,
        Rule::ListRemovedTooEarly,
    ];

    /// Its number and its name.
    pub fn name(self) -> &'static str {
        match self {
            Rule::ListedTooEarly => "R1 listed too early",
            Rule::RootTooEarly => "R2 root too early",
            Rule::LogRemovedTooEarly => "R3 log removed too early",
            Rule::AcknowledgedTooEarly => "R4 acknowledged too early",
            Rule::TableRemovedTooEarly => "R5 table removed too early",
            Rule::ServedTooEarly => "R6 served too early",
            Rule::UsedAfterFailedSync => "R7 used after a failed sync",
            Rule::ListRemovedTooEarly => "R8 list removed too early",
        }
    }
}

/// A missing barrier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule it breaks.
    pub rule: Rule,
    /// What was done too early and what was missing, in a sentence with both lines of the store's source.
    pub sentence: String,
    /// The barrier that would have mended it.
    pub barrier: String,
    /// The line that came too early. `None` for what the store does by returning.
    pub at: Option<CallSite>,
    /// The line whose effect is not durable, where there is one.
    pub missing_at: Option<CallSite>,
}

/// A list, as far as it was understood: what a crash may make of it.
#[derive(Debug, Default)]
struct List {
    /// What it names once everything that is not synced is lost, and how many bytes of each it rests on.
    durable: BTreeMap<String, u64>,
    /// Records that a crash may keep or lose, in order.
    pending: VecDeque<Record>,
}

#[derive(Debug)]
struct Record {
    adds: Vec<Claim>,
    drops: Vec<String>,
    at: CallSite,
}

impl List {
    fn apply(&mut self, adds: Vec<Claim>, drops: &[String]) {
        for path in drops {
            self.durable.remove(path);
        }
        for claim in adds {
            let bytes = self.durable.entry(claim.path).or_default();
            *bytes = claim.bytes.max(*bytes);
        }
    }

    fn settle(&mut self) {
        for record in std::mem::take(&mut self.pending) {
            self.apply(record.adds, &record.drops);
        }
    }

    /// Whether any crash can bring back a state of the list that names the file.
    fn may_name(&self, path: &str) -> bool {
        let adds = |record: &Record| record.adds.iter().any(|claim| claim.path == path);
        self.durable.contains_key(path) || self.pending.iter().any(adds)
    }

    /// Whether the file is named once everything is kept.
    fn names_now(&self, path: &str) -> bool {
        let last = self.pending.iter().rev().find_map(|record| {
            // Within a record what is dropped goes before what is added comes.
            if record.adds.iter().any(|claim| claim.path == path) {
                return Some(true);
            }
            record.drops.iter().any(|dropped| dropped == path).then_some(false)
        });
        last.unwrap_or_else(|| self.durable.contains_key(path))
    }
}

/// Where the root leads: to a list, by a rename at a line.
#[derive(Clone, Debug)]
struct Way {
    list: String,
    /// `None` for one that was there before anybody looked.
    at: Option<CallSite>,
}

/// Listens to every call of a world. See the head of [`super`].
pub struct Sanitizer {
    protocol: Option<Arc<dyn Protocol>>,
    promise: Promise,
    shadow: Shadow,
    lists: BTreeMap<String, List>,
    /// What files that may become the root lead to.
    leads: BTreeMap<Ino, String>,
    /// Where the root leads once everything that is not synced is lost.
    root: Option<Way>,
    /// Where it may lead, too, by renames that are not durable.
    root_pending: Vec<Way>,
    /// The highest sequence number in any log, and the highest that was acknowledged.
    logged_max: u64,
    acknowledged_max: u64,
    /// Kept for its space: empty between calls.
    said: Vec<Statement>,
    found: Option<Violation>,
    /// Bytes were written that are not understood: nothing is judged until a power cut.
    blind: bool,
}

impl Sanitizer {
    /// For a store with this protocol, on this disk. Without a protocol it sees nothing but R7.
    pub fn new(protocol: Option<Arc<dyn Protocol>>, disk: &Disk) -> Sanitizer {
        let mut sanitizer = Sanitizer {
            protocol,
            promise: Promise::of(disk.rules()),
            shadow: Shadow::default(),
            lists: BTreeMap::new(),
            leads: BTreeMap::new(),
            root: None,
            root_pending: Vec::new(),
            logged_max: 0,
            acknowledged_max: 0,
            said: Vec::new(),
            found: None,
            blind: false,
        };
        sanitizer.look_at(disk);
        sanitizer
    }

    /// The first missing barrier since this was last asked.
    pub fn take(&mut self) -> Option<Violation> {
        self.found.take()
    }

    fn is_off(&self) -> bool {
        self.promise == Promise::Everything || self.protocol.is_none() || self.blind
    }

    // --- What calls change -----------------------------------------------------------------------------------------------

    /// A file was created.
    pub(crate) fn created(&mut self, ino: Ino, path: &Arc<str>, at: CallSite) {
        if !self.is_off() {
            self.shadow.created(ino, path, at);
        }
    }

    /// Bytes were written. What holds the bulk of the data says nothing of other files.
    pub(crate) fn wrote(
        &mut self,
        (ino, path, class): (Ino, &Arc<str>, FileClass),
        offset: u64,
        data: &[u8],
        at: CallSite,
    ) {
        if data.is_empty() || self.is_off() {
            return;
        }
        let Some(protocol) = &self.protocol else { return };
        let file = self.shadow.wrote(ino, path, offset, at);
        if matches!(class, FileClass::Sst | FileClass::Blob) {
            return;
        }
        let Some((read, tail)) = &mut file.tail else {
            self.blind = true;
            return;
        };
        if offset != *read + tail.len() as u64 {
            // What is not understood could be what allows everything that follows.
            file.tail = None;
            self.blind = true;
            return;
        }
        let mut said = std::mem::take(&mut self.said);
        let mut tell = |statement| said.push(statement);
        if tail.is_empty() {
            let used = protocol.statements(&file.path, *read, data, &mut tell);
            *read += used as u64;
            tail.extend_from_slice(&data[used..]);
        } else {
            tail.extend_from_slice(data);
            let used = protocol.statements(&file.path, *read, tail, &mut tell);
            *read += used as u64;
            tail.drain(..used);
        }
        for statement in said.drain(..) {
            self.hear(ino, path, statement, at);
        }
        self.said = said;
    }

    /// Bytes were written by a call that failed: they are there, and nobody counts on them, so they say nothing.
    pub(crate) fn wrote_in_vain(&mut self, ino: Ino, path: &Arc<str>, offset: u64, data: &[u8], at: CallSite) {
        if !self.is_off() && !data.is_empty() {
            self.shadow.wrote(ino, path, offset, at);
        }
    }

    /// A file was cut or extended.
    pub(crate) fn resized(&mut self, ino: Ino, path: &Arc<str>, len: u64, at: CallSite) {
        if !self.is_off() {
            self.shadow.resized(ino, path, len, at);
        }
    }

    /// A sync of a file has said `Ok`.
    pub(crate) fn synced(&mut self, ino: Ino) {
        if self.is_off() {
            return;
        }
        self.shadow.synced(ino, self.promise);
        if self.promise == Promise::Journal {
            self.root_settled();
        }
        let Some(file) = self.shadow.files.get(&ino) else { return };
        let whole = !matches!(file.missing(u64::MAX, Promise::Journal), Some(Missing::FailedSync(_)));
        if whole && let Some(list) = self.lists.get_mut(&*file.path) {
            list.settle();
        }
    }

    /// A sync of a file has failed.
    pub(crate) fn sync_failed(&mut self, ino: Ino, at: CallSite) {
        self.shadow.sync_failed(ino, at);
    }

    /// A sync of a directory has said `Ok`.
    pub(crate) fn dir_synced(&mut self, dir: &str) {
        if self.is_off() {
            return;
        }
        self.shadow.dir_synced(dir, self.promise);
        let root = self.protocol.as_ref().and_then(|protocol| protocol.root());
        if self.promise == Promise::Journal || root.is_some_and(|root| is_in(root, dir)) {
            self.root_settled();
        }
    }

    fn root_settled(&mut self) {
        let Some(way) = self.root_pending.drain(..).next_back() else { return };
        let durable = |way: &Way| self.lists.get(&way.list).map(|list| &list.durable);
        if let (Some(before), Some(now)) = (self.root.as_ref().and_then(durable), durable(&way)) {
            for log in self.shadow.logs_mut() {
                if before.contains_key(&*log.path) && !now.contains_key(&*log.path) {
                    log.given_up = log.logged.last().map(|&(_, last, _)| last);
                }
            }
        }
        self.root = Some(way);
    }

    /// A file was renamed.
    pub(crate) fn renamed(&mut self, from: &str, to: &str, at: CallSite) {
        if self.is_off() {
            return;
        }
        let is_root = self.protocol.as_ref().and_then(|protocol| protocol.root()) == Some(to);
        if is_root {
            self.judge_root(from, to, at);
        }
        let ino = self.shadow.renamed(from, to, at);
        if is_root && let Some(list) = ino.and_then(|ino| self.leads.get(&ino)) {
            self.root_pending.push(Way { list: list.clone(), at: Some(at) });
        }
    }

    /// A file lost its name.
    pub(crate) fn unlinked(&mut self, path: &str, at: CallSite) {
        if self.is_off() {
            return;
        }
        self.judge_removal(path, at);
        self.lists.remove(path);
        if let Some(ino) = self.shadow.unlinked(path) {
            self.leads.remove(&ino);
        }
    }

    /// A descriptor of a file is written or synced, though an earlier sync of it failed.
    pub(crate) fn used_after_failed_sync(&mut self, doing: &str, path: &str, at: CallSite, failed_at: CallSite) {
        let name = last(path);
        self.report(Violation {
            rule: Rule::UsedAfterFailedSync,
            sentence: format!(
                "{doing}({name}) at {} on a descriptor whose sync at {} has failed",
                Line(at),
                Line(failed_at)
            ),
            barrier: format!("what {name} holds must go to another file: a second sync of this one proves nothing"),
            at: Some(at),
            missing_at: Some(failed_at),
        });
    }

    /// The machine has crashed, and goes on with this disk.
    pub(crate) fn restarted(&mut self, kind: CrashKind, disk: &Disk) {
        match kind {
            CrashKind::Process => self.shadow.inherited(),
            CrashKind::PowerLoss | CrashKind::TornPowerLoss => self.look_at(disk),
        }
    }

    /// Forgets everything and takes what is on the disk as durable.
    fn look_at(&mut self, disk: &Disk) {
        self.shadow = Shadow::default();
        self.lists.clear();
        self.leads.clear();
        self.blind = false;
        (self.root, self.root_pending) = (None, Vec::new());
        (self.logged_max, self.acknowledged_max) = (0, 0);
        let Some(protocol) = self.protocol.clone().filter(|_| !self.is_off()) else { return };
        let Some(root) = protocol.root() else { return };
        let Some((ino, bytes)) = contents(disk, root) else { return };
        let mut lists = Vec::new();
        protocol.statements(root, 0, &bytes, &mut |statement| {
            if let Statement::Leads { list } = statement {
                lists.push(list);
            }
        });
        let Some(list) = lists.pop() else { return };
        self.leads.insert(ino, list.clone());
        self.shadow.found(ino, root);
        if let Some((ino, bytes)) = contents(disk, &list) {
            let mut content = List::default();
            let read = protocol.statements(&list, 0, &bytes, &mut |statement| {
                if let Statement::Listed { adds, drops } = statement {
                    content.apply(adds, &drops);
                }
            });
            self.shadow.found(ino, &list).tail = Some((read as u64, bytes[read..].to_vec()));
            self.lists.insert(list.clone(), content);
        }
        self.root = Some(Way { list, at: None });
    }

    // --- What is judged --------------------------------------------------------------------------------------------------

    fn hear(&mut self, ino: Ino, path: &str, statement: Statement, at: CallSite) {
        match statement {
            Statement::Logged { first, last, end } => {
                self.logged_max = self.logged_max.max(last);
                self.shadow.logged(ino, (first, last, end));
            }
            Statement::Leads { list } => {
                self.leads.insert(ino, list);
            }
            Statement::Listed { adds, drops } => {
                // What a list says before anything leads to it is judged when the root is renamed.
                let counts = self.root.iter().chain(&self.root_pending).any(|way| way.list == path);
                let missing = adds.iter().filter(|_| counts).find_map(|claim| {
                    Some((claim, self.shadow.by_path(&claim.path)?.missing(claim.bytes, self.promise)?))
                });
                if let Some((claim, missing)) = missing {
                    let what = format!("the record in {} at {} names {}", last(path), Line(at), last(&claim.path));
                    let violation = too_early(Rule::ListedTooEarly, what, Some(at), &claim.path, missing);
                    self.report(violation);
                }
                self.lists.entry(path.to_string()).or_default().pending.push_back(Record { adds, drops, at });
            }
        }
    }

    fn judge_root(&mut self, from: &str, to: &str, at: CallSite) {
        let Some(ino) = self.shadow.ino(from) else { return };
        // The name is what the rename is about; the bytes must be there first.
        let own = self.shadow.files.get(&ino).and_then(|file| file.missing(u64::MAX, Promise::Journal));
        let list = self.leads.get(&ino);
        let of_list = || {
            let list = list?;
            Some((list.as_str(), self.shadow.by_path(list)?.missing(u64::MAX, self.promise)?))
        };
        let of_named = || {
            self.lists.get(list?)?.durable.iter().find_map(|(path, &bytes)| {
                Some((path.as_str(), self.shadow.by_path(path)?.missing(bytes, self.promise)?))
            })
        };
        let missing = own.map(|missing| (from, missing)).or_else(of_list).or_else(of_named);
        if let Some((path, missing)) = missing {
            let what = format!("rename({} to {}) at {} comes", last(from), last(to), Line(at));
            let violation = too_early(Rule::RootTooEarly, what, Some(at), path, missing);
            self.report(violation);
        }
    }

    /// The lists that a crash may leave in force.
    fn ways(&self) -> impl Iterator<Item = &Way> {
        // In a journal the rename is kept wherever a later change of names is.
        let durable = self.root.iter().filter(|_| self.promise == Promise::Posix || self.root_pending.is_empty());
        let pending = match self.promise {
            Promise::Posix => &self.root_pending[..],
            _ => self.root_pending.as_slice().split_at(self.root_pending.len().saturating_sub(1)).1,
        };
        durable.chain(pending)
    }

    /// Whether a crash may leave a state of the store that rests on this file.
    fn counts(&self, path: &str) -> bool {
        let Some(root) = self.protocol.as_ref().and_then(|protocol| protocol.root()) else {
            return self.shadow.by_path(path).is_some_and(|file| !file.logged.is_empty());
        };
        let by_list = |way: &Way| way.list == path || self.lists.get(&way.list).is_some_and(|list| list.may_name(path));
        path == root || self.ways().any(by_list)
    }

    fn judge_removal(&mut self, path: &str, at: CallSite) {
        let what = format_args!("unlink({}) at {} comes", last(path), Line(at));
        let newest = self.root_pending.last().or(self.root.as_ref());
        let is_log = self.shadow.by_path(path).is_some_and(|file| !file.logged.is_empty());
        let rule = if is_log { Rule::LogRemovedTooEarly } else { Rule::TableRemovedTooEarly };
        let root = self.protocol.as_ref().and_then(|protocol| protocol.root()).unwrap_or_default();
        let found = self.ways().find_map(|way| {
            let is_newest = newest.is_some_and(|newest| newest.list == way.list);
            let renamed_at = newest.and_then(|newest| newest.at);
            let moved_on = |rule, old: &str, by: &str| match renamed_at {
                Some(renamed_at) if !is_newest => {
                    let while_what =
                        format!("{what} while the rename of {} at {} is not durable", last(root), Line(renamed_at));
                    let sentence = format!("{while_what}, and {} still counts", last(old));
                    let barrier = format!("a sync of the directory of {} between the two", last(root));
                    Violation { rule, sentence, barrier, at: Some(at), missing_at: Some(renamed_at) }
                }
                _ => {
                    let sentence = format!("{what} though {} still needs it", last(by));
                    let barrier = "what no longer needs it must be written and durable first".to_string();
                    Violation { rule, sentence, barrier, at: Some(at), missing_at: None }
                }
            };
            if way.list == path {
                return Some(moved_on(Rule::ListRemovedTooEarly, path, root));
            }
            let list = self.lists.get(&way.list).filter(|list| list.may_name(path))?;
            let dropped_by = list.pending.iter().rfind(|record| record.drops.iter().any(|dropped| dropped == path));
            Some(match dropped_by {
                Some(record) if is_newest && !list.names_now(path) => Violation {
                    rule,
                    sentence: format!(
                        "{what} while the record in {} at {} that drops it is not durable",
                        last(&way.list),
                        Line(record.at)
                    ),
                    barrier: format!("a successful sync of {} between the two", last(&way.list)),
                    at: Some(at),
                    missing_at: Some(record.at),
                },
                _ => moved_on(rule, &way.list, &way.list),
            })
        });
        if let Some(violation) = found {
            self.report(violation);
        }
    }

    /// A write with these sequence numbers was acknowledged.
    pub fn acknowledged(&mut self, first: u64, entries: u64, durable: bool) {
        if self.is_off() || entries == 0 {
            return;
        }
        let last = first + entries - 1;
        self.acknowledged_max = self.acknowledged_max.max(last);
        if durable {
            self.judge_durable(last, "a durable write");
        }
    }

    /// The highest sequence number that was acknowledged so far: what a sync that begins now promises.
    pub fn acknowledged_so_far(&self) -> u64 {
        self.acknowledged_max
    }

    /// A sync that began when this was the highest sequence number acknowledged has said `Ok`.
    pub fn sync_acknowledged(&mut self, upto: u64) {
        if !self.is_off() && upto > 0 {
            self.judge_durable(upto, "a sync");
        }
    }

    fn judge_durable(&mut self, seq: u64, what: &str) {
        let what = format_args!("{what} is acknowledged up to sequence number {seq}");
        if seq > self.logged_max {
            let (rule, sentence) = (Rule::AcknowledgedTooEarly, format!("{what}, and no log holds it"));
            let barrier = "a record in a log, and a sync of the log".to_string();
            return self.report(Violation { rule, sentence, barrier, at: None, missing_at: None });
        }
        // Where no log holds it any more, tables do: the removal of the log was judged. A log that no list names any more may
        // lie about for a while.
        let missing = self.shadow.logs().find_map(|file| {
            let missing = file.missing(file.end_of(seq)?, self.promise)?;
            self.counts(&file.path).then(|| (file.path.clone(), missing))
        });
        if let Some((path, missing)) = missing {
            let violation = too_early(Rule::AcknowledgedTooEarly, what.to_string(), None, &path, missing);
            return self.report(violation);
        }
        let mut holders = self.shadow.logs().filter(|log| log.holds(seq));
        let holder = holders.find(|log| log.given_up.is_none_or(|last| seq > last)).map(|log| log.path.clone());
        drop(holders);
        if let Some(violation) = holder.and_then(|log| self.unreachable(&log, what)) {
            self.report(violation);
        }
    }

    /// A log that counts once everything is kept, and that a crash may leave without anything that leads to it.
    fn unreachable(&self, log: &str, what: impl fmt::Display) -> Option<Violation> {
        let newest = self.root_pending.last().or(self.root.as_ref())?;
        let list = self.lists.get(&newest.list).filter(|list| list.names_now(log))?;
        let lost = |way: &Way| self.lists.get(&way.list).is_none_or(|list| !list.durable.contains_key(log));
        let (thing, at) = match newest.at {
            Some(at)
                if self.promise == Promise::Posix
                    && !self.root_pending.is_empty()
                    && self.root.as_ref().is_none_or(lost) =>
            {
                ("the rename of the root that leads to it", at)
            }
            _ if list.durable.contains_key(log) => return None,
            _ => ("the record that names it", list.pending.back()?.at),
        };
        Some(Violation {
            rule: Rule::AcknowledgedTooEarly,
            sentence: format!("{what} in {} while {thing} ({}) is not durable", last(log), Line(at)),
            barrier: format!("a sync behind {}", Line(at)),
            at: None,
            missing_at: Some(at),
        })
    }

    /// The store has been opened, and serves reads from now on.
    pub fn opened(&mut self) {
        if self.is_off() {
            return;
        }
        let left = self.shadow.files.values().find_map(|file| {
            let missing = file.left_over(self.promise)?;
            self.counts(&file.path).then(|| (file.path.clone(), missing))
        });
        if let Some((path, missing)) = left {
            let what = "an opened store serves reads that rest on what an earlier process wrote".to_string();
            let violation = too_early(Rule::ServedTooEarly, what, None, &path, missing);
            self.report(violation);
        }
        // What an earlier process acknowledged is durable by now, as was just judged, or was given up for a reason that the
        // oracle weighs; and numbers that were given up are given anew. So a sync promises what is acknowledged from here on.
        self.acknowledged_max = 0;
    }

    fn report(&mut self, violation: Violation) {
        self.found.get_or_insert(violation);
    }
}

/// The violation for something that came while the file was not durable.
fn too_early(rule: Rule, what: String, at: Option<CallSite>, path: &str, missing: Missing) -> Violation {
    let name = last(path);
    let (state, barrier, missing_at) = match missing {
        Missing::Bytes(at) => {
            (format!("while the bytes of {name} ({}) are not durable", Line(at)), format!("a sync of {name}"), at)
        }
        Missing::Name(at) => (
            format!("while the entry of {name} ({}) is not durable", Line(at)),
            format!("a sync of the directory of {name}"),
            at,
        ),
        Missing::FailedSync(at) => (
            format!("though the sync of {name} at {} has failed", Line(at)),
            format!("the bytes of {name} in another file, synced: no later sync of this one proves anything"),
            at,
        ),
    };
    let sentence = format!("{what} {state}");
    Violation { rule, sentence, barrier, at, missing_at: Some(missing_at) }
}

/// A line of source, for a sentence.
struct Line(CallSite);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.0.file(), self.0.line())
    }
}

/// The last name of a path.
fn last(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A whole file, as it is read.
fn contents(disk: &Disk, path: &str) -> Option<(Ino, Vec<u8>)> {
    let stat = disk.stat(path).ok()?;
    let mut bytes = vec![0; stat.len as usize];
    let count = disk.read(stat.ino, 0, &mut bytes).ok()?;
    bytes.truncate(count);
    Some((stat.ino, bytes))
}
