//! The oracle: what a correct store may answer, decided from what it acknowledged.
//!
//! Pure data. It is told of every call when it starts and when it returns, and says [`Finding`] where the answers cannot
//! come from a correct store. The model is a list of versions for each key, ordered by the sequence numbers that the store
//! itself reports; a read at sequence number `s` must see, for each key, the newest version that is not above `s`.
//!
//! A write is one of these:
//! * acknowledged: every later read sees it. It survives the end of the process, and power loss once it is durable, that is
//!   once it, or a later write, or a later sync or flush, was acknowledged as durable;
//! * lost in flight: a crash struck before the acknowledgement. It may be there or not, as a member of the prefix order: if
//!   any later write is there, so is this one;
//! * a hole: it failed although no crash struck. It may be there or not, whatever else is there. What is *seen* decides: a
//!   hole that any read saw is there from then on. A hole that a read did not see is absent for good as soon as a durable
//!   write or a sync that started later is acknowledged, or the store is opened again;
//! * absent: it failed without a sequence number, so it never reached a log; unless the store never tells any, then it is a
//!   hole.
//!
//! What is checked (the number is cited where it is done):
//! * O1 a write that starts after another was acknowledged, or after its effect was seen, has a larger sequence number;
//! * O2 no sequence number is used twice, and none that the recovered state holds is used again;
//! * O3 a read at `s` shows the model at `s`, and `s` is not below what was acknowledged or seen before the read began;
//! * O4 a get shows the newest version acknowledged or seen when it began, or one of a write that overlaps it;
//! * O5 a batch is seen whole or not at all, by reads and by recovery;
//! * O6 after a crash the state is the model at some `n` between the floor (what was promised) and the ceiling (what was
//!   issued). Where several explain it, for what tells them apart cannot be read or has expired, it is the one that the store
//!   itself names, if it is among them;
//! * O7 what was recovered once is durable: no later crash loses it;
//! * O8 no bytes are returned that nobody wrote;
//! * O9 a value that expires is seen until its time, and not from then on: see [`time`];
//! * O10 what lay in a file that was given up is gone, and all of it; nothing else is: see [`given_up`].
//!
//! One who looks at the files from outside reads what the log holds, be it acknowledged or not, and failed writes with it. It must
//! see what O3 and O5 say, but nothing that it has seen binds the store: what is under way may still fail, and holes may go.
//!
//! A read can overlap writes whose sequence numbers are not known yet. It is kept, and judged once they have all returned.
//!
//! An operand is appended to what the key has: its version is the outcome, which is known by a hash of all that it came of, in its
//! order. So operands are judged like values. Where a write failed, be it an operand or what operands were appended to, there is an
//! outcome for each way in which it may have come out, and what is seen tells which: see [`worlds`]. What operands are appended to may
//! expire: from then on the key has what comes of the operands alone.
//!
//! Not verified: the order of two writes that overlap each other, which the store is free to choose; the state of a store
//! between two reads; anything about time but order and expiry; expiry where a disk may lie about what is durable.

use crate::clock::Timing;
use crate::op::{Bounds, Entry, KeyId, Keys, Lifetime, MERGED, OPERAND, Stamp, Stamps, TOMBSTONE, written_upon};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use time::{NEVER, Span, StoreClock, span_of, stamp_at};
use worlds::Choices;

/// Something that cannot be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Which check failed: `"acknowledged-write-lost"`. Together with `class` it tells one bug from another.
    pub check: &'static str,
    /// A short word for the circumstances: `"after power loss"`.
    pub class: Cow<'static, str>,
    /// What happened, in one sentence.
    pub symptom: String,
    /// What else is known, a line each.
    pub details: Vec<String>,
    /// The key that is wrong, where it is one.
    pub key: Option<Vec<u8>>,
    /// What is missing, where the check itself can tell.
    pub missing: Option<Box<MissingBarrier>>,
}

/// A barrier that a store has left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MissingBarrier {
    /// In words.
    pub barrier: String,
    /// The lines of source that it belongs between, `file:line`, that whose effect is not durable first.
    pub sites: Vec<String>,
}

impl Finding {
    /// A finding without further details.
    pub fn new(check: &'static str, class: impl Into<Cow<'static, str>>, symptom: impl Into<String>) -> Finding {
        Finding { check, class: class.into(), symptom: symptom.into(), details: Vec::new(), key: None, missing: None }
    }

    /// Adds a line.
    pub fn with(mut self, detail: impl Into<String>) -> Finding {
        self.details.push(detail.into());
        self
    }

    /// Adds what the time was.
    fn with_time(self, span: Span) -> Finding {
        match span == Span::default() {
            true => self,
            false => self.with(format!("the store's time lay within {} and {} ms", span.from_ms, span.to_ms)),
        }
    }

    /// Says which key is wrong.
    pub fn about(mut self, key: &[u8]) -> Finding {
        self.key = Some(key.to_vec());
        self
    }

    /// What two findings of one bug have in common.
    pub fn fingerprint(&self) -> String {
        if self.class.is_empty() { self.check.to_string() } else { format!("{} ({})", self.check, self.class) }
    }
}

/// Counts the calls in the order in which they start and return.
type Tick = u64;

/// Which operation of which client, for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Label {
    /// The client.
    pub client: u32,
    /// The index of the operation in the client's list.
    pub op: u32,
}

impl Label {
    /// What the harness itself reads and writes to see how the store is.
    pub const HARNESS: Label = Label { client: u32::MAX, op: 0 };
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Label::HARNESS {
            return f.write_str("the harness");
        }
        write!(f, "client {} operation {}", self.client, self.op)
    }
}

/// A write that has started.
#[derive(Debug)]
#[must_use = "a write that starts must also return"]
pub struct WriteTicket(u32);

/// A read that has started.
#[derive(Clone, Copy, Debug)]
pub struct ReadTicket {
    visible: u64,
    label: Label,
    timing: Option<Timing>,
    /// See [`StoreClock`].
    ahead_ms: Option<i64>,
}

/// A sync or flush that has started.
#[derive(Clone, Copy, Debug)]
pub struct SyncTicket {
    covers: u64,
    invoked: Tick,
}

/// How a write returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged, and whether that promises durability.
    Acknowledged {
        /// Survives power loss from now on.
        durable: bool,
    },
    /// An error, while the world went on.
    Failed,
    /// A crash struck before the caller heard anything.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    InFlight,
    Acknowledged,
    LostInFlight,
    /// Unresolved; the tick at which a read did not see it.
    Hole(Option<Tick>),
    Absent,
}

#[derive(Clone, Debug)]
struct WriteRecord {
    /// Its part of `Oracle::entries`.
    start: u32,
    count: u32,
    /// How many sequence numbers it takes: a deleted range takes one for all its keys.
    numbers: u32,
    first: u64,
    invoked: Tick,
    /// System calls that had been made when it began.
    calls: u64,
    visible: u64,
    /// See [`StoreClock`].
    ahead_ms: Option<i64>,
    fate: Fate,
    durable: bool,
    label: Label,
}

/// A value of a key. The list of a key ascends by `seq`.
#[derive(Clone, Copy, Debug)]
struct Version {
    seq: u64,
    /// Of what the key has from here on, where its write wrote an operand.
    stamp: Stamp,
    /// When it expires; [`NEVER`] where it does not.
    expires_ms: u64,
    /// What the key has from then on: nothing, or what operands come to without the value that they were appended to.
    then: Stamp,
    write: u32,
    /// Whether it may be gone without having expired: see [`Oracle::forget_expired`].
    doubtful: bool,
    /// Whether it is gone with its file, and nobody has seen yet what it had hidden: see [`given_up`].
    given_up: bool,
    /// Whether it is gone that way, and reads as what it had hidden.
    hollow: bool,
    /// Whether its write appended to what the key had. Otherwise it does not matter what is below.
    appends: bool,
}

/// A write in the order of sequence numbers.
#[derive(Clone, Copy, Debug)]
struct LogItem {
    first: u64,
    last: u64,
    write: u32,
}

/// Keys and stamps as a scan met them.
pub type Digest = Vec<(KeyId, Stamp)>;

#[derive(Clone, Debug)]
enum Answer {
    Get {
        key: KeyId,
        stamp: Stamp,
    },
    GetAt {
        key: KeyId,
        at: u64,
        moment: u32,
        stamp: Stamp,
    },
    /// Each key once, ascending; an absent one with [`TOMBSTONE`].
    MultiGet {
        at: u64,
        moment: Option<u32>,
        digest: Digest,
    },
    Scan {
        bounds: Bounds,
        reverse: bool,
        limit: usize,
        at: u64,
        moment: Option<u32>,
        digest: Digest,
    },
    /// All that somebody saw who looked at the files from outside.
    Outside {
        at: u64,
        digest: Digest,
    },
}

#[derive(Clone, Debug)]
struct Deferred {
    until: Tick,
    ticket: ReadTicket,
    answer: Answer,
}

/// A snapshot as the oracle sees it.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotMark {
    at: u64,
    until: Tick,
    /// Which time it is of.
    moment: u32,
}

impl SnapshotMark {
    /// The sequence number at which it reads.
    pub fn at(&self) -> u64 {
        self.at
    }
}

/// How the store came to be opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// It was closed without an error.
    Close,
    /// The process ended; the operating system lived on.
    Process,
    /// The power was cut.
    PowerLoss,
}

impl Restart {
    fn class(self) -> &'static str {
        match self {
            Restart::Close => "after close and open",
            Restart::Process => "after process crash",
            Restart::PowerLoss => "after power loss",
        }
    }
}

/// How much of what was written must be there when a store is opened again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Everything that was acknowledged.
    Acknowledged,
    /// Everything that was acknowledged as durable.
    Durable,
    /// That, and what was acknowledged of the writes that began behind this call.
    BegunBehind(u64),
}

/// What a store shows once it is open again.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// All keys and values.
    pub digest: Digest,
    /// Keys of which a read failed, legitimately; nothing is known about them.
    pub unreadable: Vec<KeyId>,
    /// The newest sequence number that the store says it has, where it tells.
    pub newest: Option<u64>,
    /// What the store can have read from the clocks meanwhile.
    pub timing: Option<Timing>,
}

/// How much was promised, as of a moment.
#[derive(Clone, Copy, Debug)]
struct Promised {
    /// System calls that had been made by then.
    calls: u64,
    acked: u64,
    durable: u64,
    /// Whether this is what a recovery found, and no acknowledgement.
    recovered: bool,
}

/// How what was seen came to be.
#[derive(Clone, Debug)]
struct Explained {
    n: u64,
    /// Writes that failed and are there.
    present: Vec<u32>,
    /// The store's time was this or later.
    time_ms: u64,
}

/// What a crash has cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The sequence number of which the store shows the state.
    pub n: u64,
    /// The least that was allowed.
    pub floor: u64,
    /// The most that was possible.
    pub ceiling: u64,
}

/// See the head of this file.
#[derive(Clone, Debug)]
pub struct Oracle {
    keys: Keys,
    stamps: Stamps,
    /// Whether versions below the recovered state are kept, because durability may be waived later.
    keep_history: bool,
    /// Whether what was replaced is kept, because a file may be given up that hides it.
    keep_replaced: bool,
    tick: Tick,
    versions: Vec<Vec<Version>>,
    writes: Vec<WriteRecord>,
    entries: Vec<(KeyId, Stamp)>,
    /// For each of them, which of the sequence numbers of its write it has.
    numbers: Vec<u32>,
    lifetimes: Vec<Option<Lifetime>>,
    /// For each key, whether an operand was written to it.
    merged: Vec<bool>,
    /// For each outcome of operands that was read, what its last operand was appended to.
    came_of: BTreeMap<Stamp, Stamp>,
    /// For each of them, when it expires, once its write has returned.
    expiries: Vec<u64>,
    default_ttl_ms: Option<u32>,
    clock: StoreClock,
    log: Vec<LogItem>,
    /// The state at which `log` starts.
    log_base: u64,
    in_flight: Vec<(Tick, u32)>,
    holes: Vec<u32>,
    deferred: Vec<Deferred>,
    /// The newest sequence number acknowledged.
    acked: u64,
    /// The newest that was acknowledged or that any read has seen.
    visible: u64,
    /// The newest that a power loss must keep.
    durable: u64,
    /// How many look from outside at the moment.
    outside: u32,
    /// System calls that were made by now.
    calls: u64,
    /// Each growth of `acked` or `durable`, since the last recovery or, with `keep_history`, ever.
    promised: Vec<Promised>,
    /// With `keep_history`: what was known before each recovery. A disk that lies can bring a former life back.
    former: Vec<Oracle>,
    /// The store does not tell sequence numbers, so they are counted here. Exact where it does one call at a time.
    counting: bool,
    checks: u64,
    spills: u64,
}

/// Former lives that are remembered where the disk may lie.
const FORMER_LIVES_MAX: usize = 24;

/// Steps of the exact search over holes after which it gives up and lets the state pass, counted in [`Oracle::spills`].
const SEARCH_STEPS_MAX: u32 = 100_000;

fn mix(key: KeyId, stamp: Stamp) -> u64 {
    if stamp == TOMBSTONE {
        return 0;
    }
    let mut x = (u64::from(key) << 32 | u64::from(stamp)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

impl Oracle {
    /// Of an empty store. `keep_history` is needed where durability may be waived at some crash.
    pub fn new(keys: Keys, stamps: Stamps, keep_history: bool) -> Oracle {
        let count = keys.count();
        Oracle {
            keys,
            stamps,
            keep_history,
            keep_replaced: false,
            tick: 1,
            versions: vec![Vec::new(); count],
            writes: Vec::new(),
            entries: Vec::new(),
            numbers: Vec::new(),
            lifetimes: Vec::new(),
            merged: vec![false; count],
            came_of: BTreeMap::new(),
            expiries: Vec::new(),
            default_ttl_ms: None,
            clock: StoreClock::default(),
            log: Vec::new(),
            log_base: 0,
            in_flight: Vec::new(),
            holes: Vec::new(),
            deferred: Vec::new(),
            acked: 0,
            visible: 0,
            durable: 0,
            outside: 0,
            calls: 0,
            promised: Vec::new(),
            former: Vec::new(),
            counting: false,
            checks: 0,
            spills: 0,
        }
    }

    /// From now on the writes are counted, in the order in which they return: the store does not tell their numbers. One that
    /// fails is indeterminate then.
    pub fn count_writes(&mut self) {
        self.counting = true;
    }

    /// The keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// How many system calls were made by now. What is promised from now on is dated with it, so that a fault at a call can
    /// be told to excuse only what was promised later.
    pub fn tell_time(&mut self, calls: u64) {
        self.calls = calls;
    }

    /// Makes a value known that is not part of the plan.
    pub fn add_value(&mut self, value: crate::op::Value) {
        self.stamps.add(value);
    }

    /// Answers that were judged so far.
    pub fn checks(&self) -> u64 {
        self.checks
    }

    /// Recovered states, and answers, that were let pass because the exact search would have taken too long.
    pub fn spills(&self) -> u64 {
        self.spills
    }

    /// The newest sequence number that was acknowledged, or seen by a read.
    pub fn visible(&self) -> u64 {
        self.visible
    }

    /// The newest sequence number that any write has.
    pub fn newest(&self) -> u64 {
        self.log.last().map_or(self.log_base, |item| item.last).max(self.visible)
    }

    fn next_tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    // --- Writes -----------------------------------------------------------------------------------------------------------

    /// A write starts.
    pub fn begin_write(&mut self, entries: impl IntoIterator<Item = Entry>, label: Label) -> WriteTicket {
        let numbered =
            (0..).zip(entries).flat_map(|(number, entry)| entry.touches().map(move |key| (key, entry, number)));
        let by_default = self.default_ttl_ms.map(Lifetime::For);
        let lasting =
            |entry: &Entry| entry.lifetime.or(by_default.filter(|_| entry.value.is_some() && !entry.is_operand));
        self.begin(numbered.map(|(key, entry, number)| (key, entry.stamp(), number, lasting(&entry))), label)
    }

    /// The same with what it writes to each key, with which of its sequence numbers, and for how long.
    fn begin(
        &mut self,
        entries: impl IntoIterator<Item = (KeyId, Stamp, u32, Option<Lifetime>)>,
        label: Label,
    ) -> WriteTicket {
        let start = self.entries.len() as u32;
        for (key, stamp, number, lifetime) in entries {
            self.entries.push((key, stamp));
            self.merged[key as usize] |= stamp & OPERAND != 0;
            self.numbers.push(number);
            self.lifetimes.push(lifetime);
            self.expiries.push(NEVER);
        }
        let count = self.entries.len() as u32 - start;
        let numbers = self.numbers.last().map_or(0, |number| number + 1);
        assert!(count > 0, "a write has at least one entry");
        let invoked = self.next_tick();
        let write = self.writes.len() as u32;
        let visible = self.visible;
        let fate = Fate::InFlight;
        self.writes.push(WriteRecord {
            start,
            count,
            numbers,
            first: 0,
            invoked,
            calls: self.calls,
            visible,
            ahead_ms: self.clock.ahead_ms(),
            fate,
            durable: false,
            label,
        });
        self.in_flight.push((invoked, write));
        WriteTicket(write)
    }

    /// A write returns that had lifetimes, and with it what the store's time was when it began them, if it came so far. To be
    /// told before the write is said to have [ended](Oracle::end_write).
    pub fn tell_written(
        &mut self,
        ticket: &WriteTicket,
        written_ms: Option<u64>,
        timing: Timing,
    ) -> Result<(), Finding> {
        let record = self.writes[ticket.0 as usize].clone();
        let own = record.start as usize..(record.start + record.count) as usize;
        let span = span_of(timing, record.ahead_ms);
        if let Some(written_ms) = written_ms.filter(|ms| !(span.from_ms..=span.to_ms).contains(ms)) {
            let symptom = format!(
                "{} counted lifetimes from {written_ms} ms, and its store's time lay within {} and {}",
                record.label, span.from_ms, span.to_ms
            );
            return Err(Finding::new("time-went-astray", "of a write", symptom));
        }
        if let Some(written_ms) = written_ms {
            self.clock.raise(written_ms, timing.ended_ms);
        }
        for index in own {
            self.expiries[index] = match (self.lifetimes[index], written_ms) {
                (None, _) => NEVER,
                (Some(Lifetime::For(_)), None) => NEVER,
                (Some(lifetime), written_ms) => lifetime.ends_at(written_ms.unwrap_or(0)),
            };
        }
        Ok(())
    }

    /// A write returns, with the first of its sequence numbers if it was given any.
    pub fn end_write(&mut self, ticket: WriteTicket, seq: Option<u64>, outcome: Outcome) -> Result<(), Finding> {
        let index = ticket.0 as usize;
        self.tick += 1;
        self.in_flight.retain(|(_, write)| *write != ticket.0);
        let acknowledged = matches!(outcome, Outcome::Acknowledged { .. });
        let first = match seq {
            Some(first) => first,
            None if self.counting => self.newest() + 1,
            None => {
                self.writes[index].fate = Fate::Absent;
                if acknowledged {
                    let label = self.writes[index].label;
                    let symptom = format!(
                        "{label} was acknowledged without a sequence number: it is nowhere in the store's order"
                    );
                    return Err(Finding::new("acknowledged-without-a-number", "", symptom));
                }
                return self.judge_deferred();
            }
        };
        let record = &mut self.writes[index];
        record.first = first;
        record.fate = match outcome {
            Outcome::Acknowledged { .. } => Fate::Acknowledged,
            Outcome::Failed => Fate::Hole(None),
            Outcome::Lost => Fate::LostInFlight,
        };
        let record = record.clone();
        let last = first + u64::from(record.numbers) - 1;
        self.place(ticket.0, &record, last)?;
        match outcome {
            Outcome::Acknowledged { durable } => {
                self.visible = self.visible.max(last);
                self.promise(last, if durable { last } else { 0 });
                if durable {
                    self.writes[index].durable = true;
                    self.settle_holes(record.invoked);
                }
            }
            Outcome::Failed => self.holes.push(ticket.0),
            Outcome::Lost => {}
        }
        self.judge_deferred()
    }

    /// Puts a write where its sequence numbers say.
    fn place(&mut self, write: u32, record: &WriteRecord, last: u64) -> Result<(), Finding> {
        let first = record.first;
        if first <= record.visible {
            // O1, and O2 for numbers below the recovered state.
            return Err(Finding::new(
                "sequence-number-went-back",
                "",
                format!(
                    "the write of {} got sequence number {first}, although {} was acknowledged or seen before it started",
                    record.label, record.visible
                ),
            ));
        }
        let at = match self.log.last() {
            Some(item) if item.last >= first => self.log.partition_point(|item| item.last < first),
            _ => self.log.len(),
        };
        if let Some(other) = self.log.get(at).filter(|other| other.first <= last) {
            // O2.
            return Err(Finding::new(
                "sequence-number-used-twice",
                "",
                format!(
                    "{} got sequence numbers {first} to {last}, and {} has {} to {}",
                    record.label, self.writes[other.write as usize].label, other.first, other.last
                ),
            ));
        }
        self.log.insert(at, LogItem { first, last, write });
        for i in 0..record.count {
            let (key, stamp) = self.entries[(record.start + i) as usize];
            let rest = (record.start + i + 1) as usize..(record.start + record.count) as usize;
            if self.entries[rest].iter().any(|(later, _)| *later == key) {
                // Overwritten within its own batch: nobody may ever see it.
                continue;
            }
            let versions = &mut self.versions[key as usize];
            let number = self.numbers[(record.start + i) as usize];
            let expires_ms = self.expiries[(record.start + i) as usize];
            let seq = first + u64::from(number);
            let (then, doubtful, given_up, hollow, appends) = (TOMBSTONE, false, false, false, false);
            let version = Version { seq, stamp, expires_ms, then, write, doubtful, given_up, hollow, appends };
            match versions.last() {
                Some(newest) if newest.seq > version.seq => {
                    let at = versions.partition_point(|other| other.seq < version.seq);
                    versions.insert(at, version);
                    self.append_operands(key, at);
                }
                _ => {
                    versions.push(version);
                    self.append_operands(key, self.versions[key as usize].len() - 1);
                }
            }
        }
        Ok(())
    }

    /// Says anew what a key has from each of its versions on, from this one, if operands were written to it: all writes that
    /// failed, and may be there, being there.
    fn append_operands(&mut self, key: KeyId, from: usize) {
        if !self.merged[key as usize] {
            return;
        }
        for index in from..self.versions[key as usize].len() {
            let versions = &self.versions[key as usize];
            let before = index.checked_sub(1).map(|before| versions[before]);
            self.versions[key as usize][index] = self.upon(key, before, versions[index]);
        }
    }

    /// A sync or flush starts.
    pub fn begin_sync(&mut self) -> SyncTicket {
        SyncTicket { covers: self.acked, invoked: self.next_tick() }
    }

    /// The store has promised to sync, by itself and in time, what it holds up to this sequence number.
    pub fn expect_sync(&mut self, last: u64) -> SyncTicket {
        SyncTicket { covers: last, invoked: self.next_tick() }
    }

    /// A sync or flush was acknowledged: everything acknowledged before it started is durable.
    pub fn end_sync(&mut self, ticket: SyncTicket) {
        self.promise(0, ticket.covers);
        self.settle_holes(ticket.invoked);
    }

    fn promise(&mut self, acked: u64, durable: u64) {
        if acked > self.acked || durable > self.durable {
            self.acked = self.acked.max(acked);
            self.durable = self.durable.max(durable);
            self.date_promise(false);
        }
    }

    fn date_promise(&mut self, recovered: bool) {
        let Oracle { calls, acked, durable, .. } = *self;
        self.promised.push(Promised { calls, acked, durable, recovered });
    }

    /// The newest that was acknowledged of the writes that began behind this call.
    fn acknowledged_behind(&self, call: u64) -> u64 {
        let acknowledged = |item: &&LogItem| {
            let write = &self.writes[item.write as usize];
            write.fate == Fate::Acknowledged && write.calls > call
        };
        self.log.iter().rev().find(acknowledged).map_or(0, |item| item.last)
    }

    /// The least that was promised at any moment since just before this call.
    fn promised_before(&self, call: u64, promise: Promise) -> u64 {
        let end = self.promised.partition_point(|promised| promised.calls < call);
        let of = |promised: &Promised| match promise {
            Promise::Acknowledged => promised.acked,
            Promise::Durable | Promise::BegunBehind(_) => promised.durable,
        };
        let before = end.checked_sub(1).map_or(0, |last| of(&self.promised[last]));
        self.promised[end..].iter().filter(|promised| promised.recovered).map(of).fold(before, u64::min)
    }

    /// Holes whose absence was seen before `invoked` are absent for good.
    fn settle_holes(&mut self, invoked: Tick) {
        // One who looks from outside began when they may have been there.
        let looking = |deferred: &Deferred| matches!(deferred.answer, Answer::Outside { .. });
        if self.holes.is_empty() || self.outside > 0 || self.deferred.iter().any(looking) {
            return;
        }
        let mut i = 0;
        while i < self.holes.len() {
            let write = self.holes[i];
            match self.writes[write as usize].fate {
                Fate::Hole(Some(seen)) if seen < invoked => {
                    self.resolve_absent(write);
                    self.holes.swap_remove(i);
                }
                _ => i += 1,
            }
        }
    }

    fn resolve_absent(&mut self, write: u32) {
        let record = &mut self.writes[write as usize];
        record.fate = Fate::Absent;
        let (start, count) = (record.start as usize, record.count as usize);
        for i in start..start + count {
            let (key, _) = self.entries[i];
            let versions = &mut self.versions[key as usize];
            if !self.merged[key as usize] {
                versions.retain(|version| version.write != write);
            } else if let Some(at) = versions.iter().position(|version| version.write == write) {
                versions.remove(at);
                self.append_operands(key, at);
            }
        }
    }

    fn resolve_present(&mut self, write: u32) {
        let record = &mut self.writes[write as usize];
        record.fate = Fate::Acknowledged;
        let last = record.first + u64::from(record.numbers) - 1;
        self.visible = self.visible.max(last);
        self.holes.retain(|hole| *hole != write);
    }

    // --- Reads ------------------------------------------------------------------------------------------------------------

    /// A read starts.
    pub fn begin_read(&mut self, label: Label) -> ReadTicket {
        self.tick += 1;
        ReadTicket { visible: self.visible, label, timing: None, ahead_ms: self.clock.ahead_ms() }
    }

    /// A transaction was refused because of this key: somebody else must have written it after `since`, or be about to. A write
    /// that failed counts where it had got its number by then: both may have been in one group, whose log failed later.
    pub fn see_conflict(&mut self, ticket: ReadTicket, key: &[u8], since: u64) -> Result<(), Finding> {
        self.checks += 1;
        let written = self.keys.id(key).is_some_and(|key| {
            let writes = |write: &WriteRecord| {
                let entries = write.start as usize..(write.start + write.count) as usize;
                self.entries[entries].iter().any(|(written, _)| *written == key)
            };
            self.versions[key as usize].iter().any(|version| version.seq > since)
                || self.in_flight.iter().any(|(_, write)| writes(&self.writes[*write as usize]))
                || self
                    .holes
                    .iter()
                    .map(|write| &self.writes[*write as usize])
                    .any(|hole| hole.first > since && writes(hole))
        });
        if written {
            return Ok(());
        }
        Err(Finding::new(
            "conflict-without-cause",
            "",
            format!("{} was refused because of {}, which nobody has written since {since}", ticket.label, text(key)),
        )
        .about(key))
    }

    /// A get of the newest value returns.
    pub fn end_get(&mut self, ticket: ReadTicket, key: KeyId, value: Option<&[u8]>) -> Result<(), Finding> {
        let stamp = self.recognise(key, value, ticket.label)?;
        self.learn(stamp, value);
        self.answer(ticket, self.tick + 1, Answer::Get { key, stamp })
    }

    /// A get from a snapshot returns.
    pub fn end_get_at(
        &mut self,
        ticket: ReadTicket,
        snapshot: SnapshotMark,
        key: KeyId,
        value: Option<&[u8]>,
    ) -> Result<(), Finding> {
        let stamp = self.recognise(key, value, ticket.label)?;
        self.learn(stamp, value);
        self.answer(ticket, snapshot.until, Answer::GetAt { key, at: snapshot.at, moment: snapshot.moment, stamp })
    }

    /// A snapshot was taken, at this sequence number.
    pub fn end_snapshot(&mut self, ticket: ReadTicket, at: Option<u64>) -> Result<SnapshotMark, Finding> {
        let at = self.read_point(ticket, at)?;
        let until = self.next_tick();
        let moment = self.take_moment(ticket);
        Ok(SnapshotMark { at, until, moment })
    }

    /// What a snapshot would show if it had been taken at another sequence number, and at the same time.
    pub fn end_snapshot_beside(
        &mut self,
        ticket: ReadTicket,
        other: SnapshotMark,
        at: u64,
    ) -> Result<SnapshotMark, Finding> {
        let at = self.read_point(ticket, Some(at))?;
        let until = self.next_tick();
        Ok(SnapshotMark { at, until, moment: other.moment })
    }

    /// What a snapshot would show if it had been taken at another sequence number of a life that is over.
    pub fn mark_at(&self, other: SnapshotMark, at: u64) -> SnapshotMark {
        SnapshotMark { at, until: self.tick + 1, ..other }
    }

    /// The last sequence number up to this one at which no write is cut in two, and whether a write that was acknowledged would be.
    pub fn whole_up_to(&self, at: u64) -> (u64, bool) {
        let cut = self.log.iter().find(|item| item.first <= at && at < item.last);
        cut.map_or((at, false), |item| (item.first - 1, self.writes[item.write as usize].fate == Fate::Acknowledged))
    }

    /// A get of several keys of the newest state returns.
    pub fn end_multi_get(
        &mut self,
        ticket: ReadTicket,
        at: Option<u64>,
        keys: &[KeyId],
        values: &[Option<Vec<u8>>],
    ) -> Result<(), Finding> {
        let at = self.read_point(ticket, at)?;
        let digest = self.digest_of(keys, values, ticket.label)?;
        self.answer(ticket, self.tick + 1, Answer::MultiGet { at, moment: None, digest })
    }

    /// A get of several keys from a snapshot returns.
    pub fn end_multi_get_at(
        &mut self,
        ticket: ReadTicket,
        snapshot: SnapshotMark,
        keys: &[KeyId],
        values: &[Option<Vec<u8>>],
    ) -> Result<(), Finding> {
        let digest = self.digest_of(keys, values, ticket.label)?;
        let SnapshotMark { at, until, moment } = snapshot;
        self.answer(ticket, until, Answer::MultiGet { at, moment: Some(moment), digest })
    }

    /// The answers to a get of several keys as numbers, in key order, each key once. O8.
    fn digest_of(&mut self, keys: &[KeyId], values: &[Option<Vec<u8>>], label: Label) -> Result<Digest, Finding> {
        if keys.len() != values.len() {
            let symptom = format!("{label} asked for {} keys, and was given {} values", keys.len(), values.len());
            return Err(Finding::new("wrong-answer", "of another length", symptom));
        }
        let mut digest = Digest::with_capacity(keys.len());
        for (key, value) in keys.iter().zip(values) {
            let stamp = self.recognise(*key, value.as_deref(), label)?;
            self.learn(stamp, value.as_deref());
            digest.push((*key, stamp));
        }
        digest.sort_unstable();
        digest.dedup();
        if let Some(pair) = digest.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            let key = pair[0].0;
            let symptom = format!("{label} asked twice for {} at once, and was told two things", self.key_text(key));
            let [one, other] = [pair[0].1, pair[1].1].map(|stamp| self.origin_text(key, stamp));
            let finding =
                Finding::new("wrong-answer", "two at once", symptom).with(format!("found {one}, and {other}"));
            return Err(finding.about(self.keys.bytes(key)));
        }
        Ok(digest)
    }

    /// A scan of the newest state returns.
    pub fn end_scan(
        &mut self,
        ticket: ReadTicket,
        (bounds, reverse, limit): (Bounds, bool, usize),
        at: Option<u64>,
        entries: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), Finding> {
        let at = self.read_point(ticket, at)?;
        let digest = self.digest(entries, ticket.label)?;
        self.answer(ticket, self.tick + 1, Answer::Scan { bounds, reverse, limit, at, moment: None, digest })
    }

    /// A scan of a snapshot returns.
    pub fn end_scan_at(
        &mut self,
        ticket: ReadTicket,
        snapshot: SnapshotMark,
        (bounds, reverse, limit): (Bounds, bool, usize),
        entries: &[(Vec<u8>, Vec<u8>)],
    ) -> Result<(), Finding> {
        let digest = self.digest(entries, ticket.label)?;
        let SnapshotMark { at, until, moment } = snapshot;
        self.answer(ticket, until, Answer::Scan { bounds, reverse, limit, at, moment: Some(moment), digest })
    }

    /// Somebody begins to look from outside, as another process does. To be ended, or given up.
    pub fn begin_outside(&mut self, label: Label) -> ReadTicket {
        self.tick += 1;
        self.outside += 1;
        ReadTicket { visible: self.visible, label, timing: None, ahead_ms: None }
    }

    /// A look from outside came to nothing.
    pub fn give_up_outside(&mut self) {
        self.outside -= 1;
    }

    /// A look from outside has returned everything as it was at this sequence number.
    pub fn end_outside(&mut self, ticket: ReadTicket, at: u64, entries: &[(Vec<u8>, Vec<u8>)]) -> Result<(), Finding> {
        self.outside -= 1;
        let visible = self.visible;
        self.read_point(ticket, Some(at))?;
        self.visible = visible;
        let digest = self.digest(entries, ticket.label)?;
        let until = self.next_tick();
        self.answer(ticket, until, Answer::Outside { at, digest })
    }

    /// O3: the sequence number of a read is not below what was known when it began.
    fn read_point(&mut self, ticket: ReadTicket, at: Option<u64>) -> Result<u64, Finding> {
        let at = at.unwrap_or_else(|| self.newest());
        if at < ticket.visible {
            return Err(Finding::new(
                "stale-read",
                "sequence number",
                format!(
                    "{} read at sequence number {at}, although {} was acknowledged or seen before it started",
                    ticket.label, ticket.visible
                ),
            ));
        }
        self.visible = self.visible.max(at);
        Ok(at)
    }

    /// What the bytes of a value are. O8.
    fn recognise(&self, key: KeyId, value: Option<&[u8]>, label: Label) -> Result<Stamp, Finding> {
        let Some(bytes) = value else { return Ok(TOMBSTONE) };
        self.stamps.recognise(bytes).ok_or_else(|| {
            Finding::new(
                "value-nobody-wrote",
                "",
                format!(
                    "{label} read {} bytes for {} that no write ever wrote: {}",
                    bytes.len(),
                    self.key_text(key),
                    text(&bytes[..bytes.len().min(24)])
                ),
            )
            .about(self.keys.bytes(key))
        })
    }

    /// The entries of a scan as numbers. O8.
    pub fn digest(&mut self, entries: &[(Vec<u8>, Vec<u8>)], label: Label) -> Result<Digest, Finding> {
        let digest = self.entries_as_numbers(entries, label)?;
        digest.iter().zip(entries).for_each(|((_, stamp), (_, value))| self.learn(*stamp, Some(value)));
        Ok(digest)
    }

    fn entries_as_numbers(&self, entries: &[(Vec<u8>, Vec<u8>)], label: Label) -> Result<Digest, Finding> {
        let mut digest = Vec::with_capacity(entries.len());
        let mut near: Option<KeyId> = None;
        for (key, value) in entries {
            let expected = near.map_or(0, |key| key + 1);
            let id = self.keys.id_near(key, expected).ok_or_else(|| {
                Finding::new(
                    "key-nobody-wrote",
                    "",
                    format!("{label} met the key {}, which no write ever wrote", text(key)),
                )
            })?;
            digest.push((id, self.recognise(id, Some(value), label)?));
            near = Some(id);
        }
        Ok(digest)
    }

    fn answer(&mut self, ticket: ReadTicket, until: Tick, answer: Answer) -> Result<(), Finding> {
        self.tick += 1;
        if self.in_flight.iter().any(|(invoked, _)| *invoked < until) {
            self.deferred.push(Deferred { until, ticket, answer });
            return Ok(());
        }
        self.judge(ticket, until, &answer)
    }

    fn judge_deferred(&mut self) -> Result<(), Finding> {
        if self.deferred.is_empty() {
            return Ok(());
        }
        let oldest = self.in_flight.iter().map(|(invoked, _)| *invoked).min().unwrap_or(Tick::MAX);
        let mut i = 0;
        while i < self.deferred.len() {
            if self.deferred[i].until <= oldest {
                let Deferred { until, ticket, answer } = self.deferred.remove(i);
                self.judge(ticket, until, &answer)?;
            } else {
                i += 1;
            }
        }
        Ok(())
    }

    fn judge(&mut self, ticket: ReadTicket, until: Tick, answer: &Answer) -> Result<(), Finding> {
        self.checks += 1;
        match answer {
            Answer::Get { key, stamp } => self.judge_get(ticket, until, *key, *stamp),
            Answer::GetAt { key, at, moment, stamp } => {
                let (one, met) = (std::iter::once(*key), [(*key, *stamp)]);
                self.judge_range(ticket, (*at, Some(*moment)), one, usize::MAX, &met, "snapshot get")
            }
            Answer::MultiGet { at, moment, digest } => {
                self.judge_read_point(ticket, *at)?;
                let keys = digest.iter().map(|(key, _)| *key);
                self.judge_range(ticket, (*at, *moment), keys, usize::MAX, digest, "multi-get")
            }
            Answer::Scan { bounds, reverse, limit, at, moment, digest } => {
                self.judge_scan(ticket, (*at, *moment), (*bounds, *reverse, *limit), digest)
            }
            Answer::Outside { at, digest } => {
                let mut aside = self.clone();
                let judged = aside.judge_scan(ticket, (*at, None), (Bounds::ALL, false, usize::MAX), digest);
                self.checks = aside.checks;
                judged
            }
        }
    }

    /// O4.
    fn judge_get(&mut self, ticket: ReadTicket, until: Tick, key: KeyId, stamp: Stamp) -> Result<(), Finding> {
        let versions = &self.versions[key as usize];
        if self.has_worlds(key, versions.len(), ticket.visible) {
            return self.judge_get_in_worlds(ticket, until, key, stamp);
        }
        let newest = versions.last().copied();
        // The common case: nothing about this key has happened while the read ran.
        match newest {
            None if stamp == TOMBSTONE => return Ok(()),
            Some(version)
                if version.stamp == stamp
                    && version.expires_ms == NEVER
                    && !version.given_up
                    && version.seq <= ticket.visible
                    && self.is_sure(version) =>
            {
                return Ok(());
            }
            _ => {}
        }
        let span = ticket.span();
        let mut matches: Vec<(Version, Span)> = Vec::new();
        let mut unseen: Vec<u32> = Vec::new();
        let mut base = (stamp == TOMBSTONE).then_some(span);
        let mut base_version = None;
        for version in versions.iter().rev().copied() {
            let overlapping = version.seq > ticket.visible;
            let reads = self.reads_as(key, version, stamp, span);
            if overlapping {
                if self.writes[version.write as usize].invoked < until {
                    matches.extend(reads.map(|span| (version, span)));
                }
                continue;
            }
            if self.is_sure(version) {
                base = reads;
                base_version = Some(version);
                break;
            }
            match reads {
                Some(span) => matches.push((version, span)),
                None if matches.is_empty() => unseen.push(version.write),
                None => {}
            }
        }
        if let Some(span) = base {
            // The older state explains it. Only where nothing else does is it known that the holes were not seen.
            if matches.is_empty() {
                self.mark_unseen(&unseen);
                self.narrow(ticket, span);
                if let Some(gone) = base_version.filter(|version| version.given_up) {
                    self.settle_given_up(key, gone.seq, stamp);
                }
            }
            return Ok(());
        }
        match matches.as_slice() {
            [] => Err(self.wrong_get(ticket, key, stamp, base_version)),
            [(only, span)] => {
                let (only, span) = (*only, *span);
                self.saw(only);
                self.narrow(ticket, span);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn is_sure(&self, version: Version) -> bool {
        self.holes.is_empty() || !matches!(self.writes[version.write as usize].fate, Fate::Hole(_))
    }

    /// A read has shown this version and no other explains it.
    fn saw(&mut self, version: Version) {
        if self.is_sure(version) {
            self.visible = self.visible.max(version.seq);
        } else {
            self.resolve_present(version.write);
        }
    }

    fn mark_unseen(&mut self, holes: &[u32]) {
        for write in holes {
            if let Fate::Hole(seen @ None) = &mut self.writes[*write as usize].fate {
                *seen = Some(self.tick);
            }
        }
    }

    /// O5: no read is of a sequence number within a batch.
    fn judge_read_point(&self, ticket: ReadTicket, at: u64) -> Result<(), Finding> {
        let position = self.log.partition_point(|item| item.last < at);
        if let Some(item) = self.log.get(position).filter(|item| item.first <= at && at < item.last) {
            return Err(Finding::new(
                "batch-seen-in-part",
                "sequence number",
                format!(
                    "{} read at sequence number {at}, inside the batch {} to {} of {}",
                    ticket.label, item.first, item.last, self.writes[item.write as usize].label
                ),
            ));
        }
        Ok(())
    }

    /// O3 and O5.
    fn judge_scan(
        &mut self,
        ticket: ReadTicket,
        (at, moment): (u64, Option<u32>),
        (bounds, reverse, limit): (Bounds, bool, usize),
        digest: &[(KeyId, Stamp)],
    ) -> Result<(), Finding> {
        self.judge_read_point(ticket, at)?;
        let range = self.keys.within(&bounds);
        let what = if reverse { "reverse scan" } else { "scan" };
        if let Some((key, _)) = digest.iter().find(|(key, _)| !range.contains(key)) {
            return Err(Finding::new(
                "scan-out-of-bounds",
                what,
                format!("{} returned {}, which lies outside the bounds{bounds}", ticket.label, self.key_text(*key)),
            ));
        }
        if let Some(pair) = digest.windows(2).find(|pair| pair[0].0 == pair[1].0 || (pair[0].0 > pair[1].0) != reverse)
        {
            let (before, after) = (self.key_text(pair[0].0), self.key_text(pair[1].0));
            let symptom = format!("{} returned {after} after {before}", ticket.label);
            return Err(Finding::new("scan-out-of-order", what, symptom));
        }
        if reverse {
            self.judge_range(ticket, (at, moment), range.rev(), limit, digest, what)
        } else {
            self.judge_range(ticket, (at, moment), range, limit, digest, what)
        }
    }

    /// The model at `at`, along `keys`, must read as `digest`; a get of a missing key has the stamp [`TOMBSTONE`] there.
    fn judge_range(
        &mut self,
        ticket: ReadTicket,
        (at, moment): (u64, Option<u32>),
        keys: impl Iterator<Item = KeyId>,
        limit: usize,
        digest: &[(KeyId, Stamp)],
        what: &'static str,
    ) -> Result<(), Finding> {
        if digest.len() > limit {
            return Err(Finding::new(
                "scan-out-of-bounds",
                what,
                format!("{}: {} entries were returned, where at most {limit} were wanted", ticket.label, digest.len()),
            ));
        }
        let mut met = digest.iter().copied().peekable();
        let mut live = 0;
        let mut span = moment.map_or_else(|| ticket.span(), |moment| self.span_at(moment));
        let mut present: Vec<u32> = Vec::new();
        let mut unseen: Vec<u32> = Vec::new();
        let mut uncovered: Vec<(KeyId, u64, Stamp)> = Vec::new();
        for key in keys {
            if live == limit {
                break;
            }
            let stamp = met.next_if(|(id, _)| *id == key).map_or(TOMBSTONE, |(_, stamp)| stamp);
            if stamp != TOMBSTONE {
                live += 1;
            }
            self.checks += 1;
            let versions = &self.versions[key as usize];
            if !self.holes.is_empty() && self.merged[key as usize] {
                let end = versions.partition_point(|version| version.seq <= at);
                if self.has_worlds(key, end, u64::MAX) {
                    let Some(worlds) = self.worlds_read(key, end, stamp, span) else {
                        self.spills += 1;
                        continue;
                    };
                    let Some(narrowed) = worlds::span_of_all(&worlds) else {
                        let expected = self.without_holes(key, end);
                        return Err(self.wrong_read(ticket, at, key, stamp, expected, what));
                    };
                    span = narrowed;
                    worlds::add_agreed(&worlds, &mut present, &mut unseen);
                    continue;
                }
            }
            // The common case: the newest version is old enough and sure.
            match versions.last() {
                None if stamp == TOMBSTONE => continue,
                Some(version)
                    if version.stamp == stamp
                        && version.expires_ms == NEVER
                        && !version.given_up
                        && version.seq <= at
                        && self.is_sure(*version) =>
                {
                    continue;
                }
                _ => {}
            }
            let end = versions.partition_point(|version| version.seq <= at);
            let mut base = (stamp == TOMBSTONE).then_some(span);
            let mut base_version = None;
            let mut candidates = Vec::new();
            let mut skipped = Vec::new();
            for version in versions[..end].iter().rev().copied() {
                let reads = self.reads_as(key, version, stamp, span);
                if self.is_sure(version) {
                    base = reads;
                    base_version = Some(version);
                    break;
                }
                match reads {
                    Some(span) => candidates.push((version, span)),
                    None if candidates.is_empty() => skipped.push(version.write),
                    None => {}
                }
            }
            match (candidates.as_slice(), base) {
                ([], Some(narrowed)) => {
                    span = narrowed;
                    unseen.append(&mut skipped);
                    let gone = base_version.filter(|version: &Version| version.given_up);
                    uncovered.extend(gone.map(|version| (key, version.seq, stamp)));
                }
                ([], None) => return Err(self.wrong_read(ticket, at, key, stamp, base_version, what)),
                ([(only, narrowed)], None) => {
                    span = *narrowed;
                    present.push(only.write);
                    unseen.append(&mut skipped);
                }
                _ => unseen.append(&mut skipped),
            }
        }
        match moment {
            Some(moment) => self.narrow_moment(moment, span),
            None => self.narrow(ticket, span),
        }
        assert!(met.next().is_none(), "bounds and order were checked");
        if let Some(write) = present.iter().find(|write| unseen.contains(write)) {
            return Err(Finding::new(
                "batch-seen-in-part",
                what,
                format!(
                    "{}: a part of the batch of {} is there, and another is not",
                    ticket.label, self.writes[*write as usize].label
                ),
            ));
        }
        for write in present {
            self.resolve_present(write);
        }
        self.mark_unseen(&unseen);
        for (key, seq, stamp) in uncovered {
            self.settle_given_up(key, seq, stamp);
        }
        Ok(())
    }

    // --- Recovery -----------------------------------------------------------------------------------------------------------

    /// The store is open again. All calls of its former life have returned. What was promised from the call
    /// `forgiven_from` on may be gone: damage excuses it. `solid` says that what is shown now counts as durable (O7); it does
    /// not where a failed sync may have left bytes that can be read and are not on the disk.
    pub fn recover(
        &mut self,
        restart: Restart,
        promise: Promise,
        forgiven_from: Option<u64>,
        solid: bool,
        observed: &Observed,
    ) -> Result<Recovered, Finding> {
        assert!(self.in_flight.is_empty(), "{} writes have not returned", self.in_flight.len());
        assert!(self.deferred.is_empty(), "{} reads were not judged", self.deferred.len());
        self.checks += self.keys.count() as u64;
        let promised = match promise {
            Promise::Acknowledged => self.acked,
            Promise::Durable => self.durable,
            Promise::BegunBehind(call) => self.durable.max(self.acknowledged_behind(call)),
        };
        let forgiven = forgiven_from.map_or(u64::MAX, |call| self.promised_before(call, promise));
        let floor = promised.min(forgiven).max(self.log_base);
        let ceiling = self.newest().max(floor);
        let mut order = observed.digest.windows(2);
        if let Some(pair) = order.find(|pair| pair[0].0 >= pair[1].0) {
            return Err(Finding::new(
                "scan-out-of-order",
                restart.class(),
                format!("{} is followed by {}", self.key_text(pair[0].0), self.key_text(pair[1].0)),
            ));
        }
        let mut seen = vec![TOMBSTONE; self.keys.count()];
        for (key, stamp) in &observed.digest {
            seen[*key as usize] = *stamp;
        }
        let span = observed.timing.map_or_else(Span::default, |timing| span_of(timing, None));
        let mut found = self.search_told(floor, &seen, observed, span);
        if self.keep_history {
            let former = std::mem::take(&mut self.former);
            let now = self.clone();
            if let (None, Some(call)) = (&found, forgiven_from) {
                found = self.remember(&former, call, promise, &seen, &observed.unreadable, span);
            }
            self.former = former;
            self.former.push(now);
            if self.former.len() > FORMER_LIVES_MAX {
                self.former.remove(0);
            }
        }
        match found {
            Some(Explained { n, present, time_ms }) => {
                self.truncate(n, &present, &observed.unreadable);
                self.forget_expired(&seen, &observed.unreadable, span, time_ms);
                self.settle_recovered(&seen, &observed.unreadable);
                self.clock.restart();
                if let Some(timing) = observed.timing.filter(|_| time_ms > span.from_ms) {
                    self.clock.raise(time_ms, timing.ended_ms);
                }
                // O7.
                self.durable = if solid { n } else { self.durable.min(n) };
                if !self.keep_history {
                    self.promised.clear();
                }
                self.date_promise(true);
                Ok(Recovered { n, floor, ceiling })
            }
            None => Err(self.explain(restart, (floor, ceiling), &seen, &observed.unreadable, span)),
        }
    }

    /// Looks for the state in former lives, the newest first, and takes that life over. A life can come back only where all
    /// that was promised in the lives after it is forgiven.
    fn remember(
        &mut self,
        former: &[Oracle],
        forgiven_from: u64,
        promise: Promise,
        seen: &[Stamp],
        unreadable: &[KeyId],
        span: Span,
    ) -> Option<Explained> {
        let mut next_began = self.began_at();
        for life in former.iter().rev() {
            if forgiven_from > next_began {
                return None;
            }
            next_began = life.began_at();
            let mut life = life.clone();
            let floor = life.promised_before(forgiven_from, promise);
            std::mem::swap(&mut life.came_of, &mut self.came_of);
            let Some(found) = life.search(floor, seen, unreadable, span) else {
                std::mem::swap(&mut life.came_of, &mut self.came_of);
                continue;
            };
            let Oracle { tick, checks, spills, calls, .. } = *self;
            *self = Oracle { tick, checks, spills, calls, stamps: std::mem::take(&mut self.stamps), ..life };
            return Some(found);
        }
        None
    }

    /// The call after which this life began.
    fn began_at(&self) -> u64 {
        self.promised.iter().rev().find(|promised| promised.recovered).map_or(0, |promised| promised.calls)
    }

    /// The lowest `n` that explains what was seen. Writes behind it may be there too and not show: of keys that nobody can read,
    /// or of values that have expired, which a clock that was set back shows again. Of these the store is taken at its word, and
    /// is held to it.
    fn search_told(&mut self, floor: u64, seen: &[Stamp], observed: &Observed, span: Span) -> Option<Explained> {
        let unreadable = &observed.unreadable;
        let found = self.search(floor, seen, unreadable, span)?;
        let Some(newest) = observed.newest.filter(|newest| *newest > found.n) else { return Some(found) };
        let told = self.log.iter().map(|item| item.last).take_while(|last| *last <= newest).last();
        let Some(told) = told.filter(|told| *told > found.n) else { return Some(found) };
        self.search(told, seen, unreadable, span).filter(|higher| higher.n == told).or(Some(found))
    }

    /// The state at the lowest `n` of all that explain what was seen at some time of the span. That one may be wrong about the
    /// time, so of that only the earliest is told that is possible with any.
    fn search(&mut self, floor: u64, seen: &[Stamp], unreadable: &[KeyId], span: Span) -> Option<Explained> {
        let mut times = BTreeSet::from([span.from_ms]);
        times.extend(self.expiries.iter().copied().filter(|ms| (span.from_ms + 1..=span.to_ms).contains(ms)));
        let mut best: Option<Explained> = None;
        for time_ms in times {
            if let Some((n, present)) = self.search_at(floor, seen, unreadable, time_ms) {
                let earliest_ms = best.as_ref().map_or(time_ms, |best| best.time_ms);
                if best.as_ref().is_none_or(|best| n < best.n) {
                    best = Some(Explained { n, present, time_ms: earliest_ms });
                }
            }
        }
        best
    }

    /// O6: the lowest `n`, not below the floor, whose state this is, and the holes that are present in it. The lowest,
    /// because a store that kept less than another with the same state may use the numbers above again.
    fn search_at(&mut self, floor: u64, seen: &[Stamp], unreadable: &[KeyId], time_ms: u64) -> Option<(u64, Vec<u32>)> {
        let mut special = vec![false; seen.len()];
        for key in unreadable {
            special[*key as usize] = true;
        }
        for write in &self.holes {
            let record = &self.writes[*write as usize];
            for i in record.start..record.start + record.count {
                special[self.entries[i as usize].0 as usize] = true;
            }
        }
        for ((special, versions), merged) in special.iter_mut().zip(&self.versions).zip(&self.merged) {
            // Operands keep the doubt about what they were appended to.
            *special |= versions.iter().any(|version| version.given_up || *merged && version.doubtful);
        }
        let mut touched: Vec<KeyId> = (0..seen.len() as KeyId).filter(|key| special[*key as usize]).collect();
        touched.retain(|key| !unreadable.contains(key));
        let mut wanted = 0u64;
        let mut state = vec![TOMBSTONE; seen.len()];
        let mut hash = 0u64;
        for (index, versions) in self.versions.iter().enumerate() {
            if special[index] {
                continue;
            }
            wanted = wanted.wrapping_add(mix(index as KeyId, seen[index]));
            let end = versions.partition_point(|version| version.seq <= self.log_base);
            if end > 0 {
                state[index] = versions[end - 1].recovered_as(seen[index], time_ms);
                hash = hash.wrapping_add(mix(index as KeyId, state[index]));
            }
        }
        let mut n = self.log_base;
        let mut position = 0;
        loop {
            if n >= floor && hash == wanted {
                if touched.is_empty() {
                    return Some((n, Vec::new()));
                }
                if let Some(present) = self.explain_holes(n, seen, &touched, time_ms) {
                    return Some((n, present));
                }
            }
            let item = self.log.get(position)?;
            position += 1;
            n = item.last;
            let record = &self.writes[item.write as usize];
            if record.fate == Fate::Absent {
                continue;
            }
            for i in record.start..record.start + record.count {
                let (key, stamp) = self.entries[i as usize];
                if !special[key as usize] {
                    let expires_ms = self.expiries[i as usize];
                    let seq = record.first + u64::from(self.numbers[i as usize]);
                    let written = match seen[key as usize] {
                        TOMBSTONE if expires_ms != NEVER && self.is_doubtful(key, seq) => TOMBSTONE,
                        _ => stamp_at(stamp, expires_ms, time_ms),
                    };
                    let stamp = written_upon(state[key as usize], written);
                    let old = std::mem::replace(&mut state[key as usize], stamp);
                    hash = hash.wrapping_sub(mix(key, old)).wrapping_add(mix(key, stamp));
                }
            }
        }
    }

    /// Whether some choice of the holes up to `n` makes these keys read as they were seen; if so, the holes that are there.
    fn explain_holes(&mut self, n: u64, seen: &[Stamp], touched: &[KeyId], time_ms: u64) -> Option<Vec<u32>> {
        let mut ways: Vec<Vec<Choices>> = Vec::with_capacity(touched.len());
        for key in touched {
            let (seen, versions) = (seen[*key as usize], &self.versions[*key as usize]);
            let end = versions.partition_point(|version| version.seq <= n);
            if self.merged[*key as usize] {
                let Some(worlds) = self.worlds_recovered(*key, end, seen, time_ms) else {
                    self.spills += 1;
                    return Some(Vec::new());
                };
                ways.push(worlds.into_iter().map(|world| world.choices).collect());
                continue;
            }
            let mut own = Vec::new();
            let mut absent = Choices::new();
            let mut base = TOMBSTONE;
            for version in versions[..end].iter().rev() {
                let stamp = self.recovered_as(*key, version, seen, time_ms);
                if self.is_sure(*version) {
                    base = stamp;
                    break;
                }
                if stamp == seen {
                    own.push(absent.iter().copied().chain([(version.write, true)]).collect());
                }
                absent.push((version.write, false));
            }
            if base == seen {
                own.push(absent);
            }
            ways.push(own);
        }
        let mut choice = Choices::new();
        let mut steps = 0;
        let found = choose(&ways, 0, &mut choice, &mut steps);
        if steps >= SEARCH_STEPS_MAX {
            self.spills += 1;
            return Some(Vec::new());
        }
        found.then(|| choice.into_iter().filter(|(_, present)| *present).map(|(write, _)| write).collect())
    }

    /// The state at `n` is the truth from now on. Of a write that failed, and that only keys could tell of that cannot be read,
    /// it is still not known whether it is there.
    fn truncate(&mut self, n: u64, present: &[u32], unreadable: &[KeyId]) {
        for write in std::mem::take(&mut self.holes) {
            let record = &self.writes[write as usize];
            let own = record.start as usize..(record.start + record.count) as usize;
            if present.contains(&write) {
                self.writes[write as usize].fate = Fate::Acknowledged;
            } else if record.first <= n {
                match self.keep_replaced && self.entries[own].iter().all(|(key, _)| unreadable.contains(key)) {
                    true => {
                        self.writes[write as usize].fate = Fate::Hole(None);
                        self.holes.push(write);
                    }
                    false => self.resolve_absent(write),
                }
            }
        }
        for versions in &mut self.versions {
            let end = versions.partition_point(|version| version.seq <= n);
            versions.truncate(end);
            if !self.keep_history && !self.keep_replaced && end > 1 {
                versions.drain(..end - 1);
            }
            if !self.keep_history {
                // What it came of is settled, and may be forgotten.
                versions.iter_mut().for_each(|version| version.appends = false);
            }
        }
        if self.keep_history {
            self.log.retain(|item| item.last <= n);
            for item in &self.log {
                let record = &mut self.writes[item.write as usize];
                if !matches!(record.fate, Fate::Absent | Fate::Hole(_)) {
                    record.fate = Fate::Acknowledged;
                }
            }
        } else {
            self.log.clear();
            self.log_base = n;
            // Versions that stay point to their writes for the sake of messages; the fates are settled.
            for versions in &self.versions {
                for version in versions {
                    let fate = &mut self.writes[version.write as usize].fate;
                    if !matches!(fate, Fate::Hole(_)) {
                        *fate = Fate::Acknowledged;
                    }
                }
            }
        }
        self.acked = n;
        self.visible = n;
    }

    /// What was not seen, and had expired by the clock before the store was open, does not come back, also if it is not known
    /// whether it had been deleted before. What was not seen, and had not expired by the earliest time that explains all that was,
    /// may have been deleted by a write that is not known to be there: that it is absent says nothing of the time.
    fn forget_expired(&mut self, seen: &[Stamp], unreadable: &[KeyId], span: Span, earliest_ms: u64) {
        for (key, versions) in (0..).zip(&mut self.versions) {
            let Some(last) = versions.last_mut() else { continue };
            if seen[key as usize] != last.then || unreadable.contains(&key) {
                continue;
            }
            last.doubtful |= last.expires_ms > earliest_ms && last.expires_ms != NEVER;
            // A disk that lies may bring back what was before.
            if last.expires_ms <= span.from_ms && !self.keep_history {
                match last.then {
                    TOMBSTONE => versions.clear(),
                    then => (last.stamp, last.expires_ms, last.then) = (then, NEVER, TOMBSTONE),
                }
            }
        }
    }

    /// Whether the version with this number may be gone without having expired.
    fn is_doubtful(&self, key: KeyId, seq: u64) -> bool {
        let versions = &self.versions[key as usize];
        let at = versions.binary_search_by_key(&seq, |version| version.seq);
        at.is_ok_and(|at| versions[at].doubtful)
    }

    // --- Words --------------------------------------------------------------------------------------------------------------

    fn key_text(&self, key: KeyId) -> String {
        format!("k{key} ({})", text(self.keys.bytes(key)))
    }

    fn value_text(&self, stamp: Stamp) -> String {
        match stamp {
            TOMBSTONE => "nothing".into(),
            merged if merged & MERGED != 0 => format!("what came of operands ({merged:x})"),
            operand if operand & OPERAND != 0 => format!("the operand {}", self.stamps.value(operand & !OPERAND)),
            stamp => self.stamps.value(stamp).to_string(),
        }
    }

    fn version_text(&self, version: Option<Version>) -> String {
        let Some(version) = version else { return "nothing, for it was never written".into() };
        let record = &self.writes[version.write as usize];
        let what = if version.stamp == TOMBSTONE { "nothing".to_string() } else { self.value_text(version.stamp) };
        let what = match version.expires_ms {
            NEVER => what,
            expires_ms if version.then == TOMBSTONE => format!("{what} until {expires_ms} ms"),
            expires_ms => format!("{what} until {expires_ms} ms, and then {}", self.value_text(version.then)),
        };
        let what = if version.given_up { format!("nothing, or what lay under {what}") } else { what };
        let fate = match (record.fate, record.durable) {
            (Fate::Acknowledged, true) => "acknowledged, durable",
            (Fate::Acknowledged, false) => "acknowledged",
            (Fate::LostInFlight, _) => "in flight at the crash",
            (Fate::Hole(_), _) => "failed with an error",
            (Fate::InFlight, _) => "in flight",
            (Fate::Absent, _) => "never logged",
        };
        format!("{what} ({} at sequence number {}, {fate})", record.label, version.seq)
    }

    /// The write that gave this value to this key, also where recovery has given it up, with its sequence number.
    fn author(&self, key: KeyId, stamp: Stamp) -> Option<(&WriteRecord, u64)> {
        self.writes.iter().rev().find_map(|record| {
            let range = record.start as usize..(record.start + record.count) as usize;
            let index = self.entries[range].iter().position(|entry| *entry == (key, stamp))?;
            Some((record, record.first + u64::from(self.numbers[record.start as usize + index])))
        })
    }

    /// Where a stamp that was read comes from.
    fn origin_text(&self, key: KeyId, stamp: Stamp) -> String {
        if stamp == TOMBSTONE {
            return "nothing".into();
        }
        if let Some(version) = self.versions[key as usize].iter().rev().find(|version| version.stamp == stamp) {
            return self.version_text(Some(*version));
        }
        let value = self.value_text(stamp);
        if let Some((record, seq)) = self.author(key, stamp) {
            return format!("{value} ({} at sequence number {seq}, overwritten or given up since)", record.label);
        }
        match self.entries.iter().find(|(_, written)| *written == stamp) {
            Some((other, _)) => format!("{value}, a value of {}", self.key_text(*other)),
            None => format!("{value}, which is not yet there"),
        }
    }

    fn class_of(&self, key: KeyId, stamp: Stamp, expected: Option<Version>) -> &'static str {
        if expected.is_some_and(|expected| expected.given_up && expected.stamp == stamp) {
            return "given up";
        }
        if let Some(expected) = expected.filter(|expected| expected.expires_ms != NEVER) {
            if stamp == expected.then {
                return "expired too early";
            }
            if stamp == expected.stamp {
                return "expired value";
            }
        }
        if stamp == TOMBSTONE {
            return "value missing";
        }
        if stamp & MERGED != 0 {
            let shown = self.versions[key as usize].iter().find(|version| version.stamp == stamp);
            return match shown {
                None => "wrong operands",
                Some(shown) if expected.is_some_and(|expected| expected.seq < shown.seq) => "newer value",
                Some(_) => "older value",
            };
        }
        let Some((record, seq)) = self.author(key, stamp) else { return "value of another key" };
        match expected {
            _ if record.fate == Fate::Absent => "value of a write that failed",
            Some(expected) if expected.seq < seq => "newer value",
            Some(expected) if expected.stamp == TOMBSTONE => "deleted value came back",
            Some(_) => "older value",
            None => "newer value",
        }
    }

    fn wrong_get(&self, ticket: ReadTicket, key: KeyId, stamp: Stamp, expected: Option<Version>) -> Finding {
        Finding::new(
            "wrong-answer",
            self.class_of(key, stamp, expected),
            format!("{}: a get of {} returned {}", ticket.label, self.key_text(key), self.origin_text(key, stamp)),
        )
        .with(format!("expected {}", self.version_text(expected)))
        .with(format!("or a newer one; {} was acknowledged or seen before the get started", ticket.visible))
        .with_time(ticket.span())
        .about(self.keys.bytes(key))
    }

    fn wrong_read(
        &self,
        ticket: ReadTicket,
        at: u64,
        key: KeyId,
        stamp: Stamp,
        expected: Option<Version>,
        what: &'static str,
    ) -> Finding {
        Finding::new(
            "wrong-answer",
            self.class_of(key, stamp, expected),
            format!(
                "{}: a {what} at sequence number {at} shows {} for {}",
                ticket.label,
                self.origin_text(key, stamp),
                self.key_text(key)
            ),
        )
        .with(format!("expected {}", self.version_text(expected)))
        .about(self.keys.bytes(key))
    }

    /// State at `n`, with unresolved holes absent.
    fn state_at(&self, n: u64) -> Vec<Option<Version>> {
        self.versions
            .iter()
            .zip(0..)
            .map(|(versions, key)| self.without_holes(key, versions.partition_point(|version| version.seq <= n)))
            .collect()
    }

    fn explain(
        &mut self,
        restart: Restart,
        (floor, ceiling): (u64, u64),
        seen: &[Stamp],
        unreadable: &[KeyId],
        span: Span,
    ) -> Finding {
        let class = restart.class();
        if let Some(Explained { n, .. }) = self.search(0, seen, unreadable, span) {
            let next = self.log.iter().find(|item| item.first > n);
            let lost = next.map(|item| &self.writes[item.write as usize]);
            let mut finding = Finding::new(
                "acknowledged-write-lost",
                class,
                format!("the store went back to sequence number {n}, though everything up to {floor} was promised"),
            );
            if let Some(record) = lost {
                let (key, stamp) = self.entries[record.start as usize];
                finding = finding.with(format!(
                    "the first write that is gone: {} = {} by {}",
                    self.key_text(key),
                    self.value_text(stamp),
                    record.label
                ));
                finding = finding.about(self.keys.bytes(key));
            }
            return finding;
        }
        // Inside a batch?
        for item in &self.log {
            let before = self.state_at(item.first - 1);
            let mut state: Vec<Stamp> =
                before.iter().map(|version| version.map_or(TOMBSTONE, |version| version.at(span.from_ms))).collect();
            let record = &self.writes[item.write as usize];
            let mut entries = (record.start as usize..(record.start + record.count) as usize).peekable();
            for n in item.first..item.last {
                while let Some(i) = entries.next_if(|i| item.first + u64::from(self.numbers[*i]) <= n) {
                    let (key, stamp) = self.entries[i];
                    let written = stamp_at(stamp, self.expiries[i], span.from_ms);
                    state[key as usize] = written_upon(state[key as usize], written);
                }
                if (0..seen.len()).all(|key| unreadable.contains(&(key as KeyId)) || state[key] == seen[key]) {
                    return Finding::new(
                        "batch-recovered-in-part",
                        class,
                        format!(
                            "the store recovered {} of the {} changes of one batch, by {}",
                            n - item.first + 1,
                            item.last - item.first + 1,
                            self.writes[item.write as usize].label
                        ),
                    );
                }
            }
        }
        // The allowed state that is nearest to what was seen tells best what is wrong.
        let mut points: Vec<u64> = vec![floor];
        points.extend(self.log.iter().map(|item| item.last).filter(|n| *n > floor));
        let differing = |n: u64| -> Vec<KeyId> {
            let state = self.state_at(n);
            (0..seen.len() as KeyId)
                .filter(|key| {
                    let index = *key as usize;
                    !unreadable.contains(key)
                        && state[index]
                            .map_or(TOMBSTONE, |version| self.recovered_as(*key, &version, seen[index], span.from_ms))
                            != seen[index]
                })
                .collect()
        };
        let (n, keys) = points
            .into_iter()
            .map(|n| (n, differing(n)))
            .min_by_key(|(n, keys)| (keys.len(), *n))
            .expect("the floor is a point");
        let state = self.state_at(n);
        let Some(first) = keys.first().copied() else {
            return Finding::new(
                "failed-write-in-part",
                class,
                format!("no choice of the writes that failed with an error explains the state at sequence number {n}"),
            );
        };
        let expected = state[first as usize];
        let stamp = seen[first as usize];
        let of_hole = |key: &KeyId| {
            let (seen, versions) = (seen[*key as usize], &self.versions[*key as usize]);
            let end = versions.partition_point(|version| version.seq <= n);
            let worlds = || self.worlds_recovered(*key, end, seen, span.from_ms);
            versions.iter().any(|version| version.stamp == seen && !self.is_sure(*version))
                || self.has_worlds(*key, end, u64::MAX) && worlds().is_some_and(|worlds| !worlds.is_empty())
        };
        let check = match self.class_of(first, stamp, expected) {
            "value missing" | "older value" => "acknowledged-write-lost",
            "deleted value came back" => "deleted-key-came-back",
            "newer value" => "recovered-out-of-order",
            _ => "wrong-value-recovered",
        };
        let check = if keys.iter().any(of_hole) { "failed-write-in-part" } else { check };
        let mut finding = Finding::new(
            check,
            class,
            format!("no prefix of what was written explains the recovered state: {} is wrong", self.key_text(first)),
        )
        .with(format!(
            "nearest is the state at {n}, within {floor} (promised) and {ceiling} (issued); {} keys differ",
            keys.len()
        ))
        .about(self.keys.bytes(first));
        for key in keys.iter().take(4) {
            finding = finding.with(format!(
                "{}: expected {}, found {}",
                self.key_text(*key),
                self.version_text(state[*key as usize]),
                self.origin_text(*key, seen[*key as usize])
            ));
        }
        finding
    }
}

/// Tries, for the keys from `index` on, each way to read as seen that agrees with the choices made so far.
fn choose(ways: &[Vec<Choices>], index: usize, choice: &mut Choices, steps: &mut u32) -> bool {
    let Some(own) = ways.get(index) else { return true };
    let known = choice.len();
    for way in own {
        *steps += 1;
        if *steps >= SEARCH_STEPS_MAX {
            return false;
        }
        let agrees = way.iter().all(|(write, present)| match choice.iter().find(|(other, _)| other == write) {
            Some((_, chosen)) => chosen == present,
            None => {
                choice.push((*write, *present));
                true
            }
        });
        if agrees && choose(ways, index + 1, choice, steps) {
            return true;
        }
        choice.truncate(known);
    }
    false
}

/// Bytes as text: printable ones as they are, the others in hexadecimal.
pub fn text(bytes: &[u8]) -> String {
    let mut text = String::from("\"");
    for byte in bytes {
        match byte {
            b'"' | b'\\' => {
                text.push('\\');
                text.push(char::from(*byte));
            }
            b' '..=b'~' => text.push(char::from(*byte)),
            _ => write!(text, "\\x{byte:02x}").expect("writing to a string"),
        }
    }
    text.push('"');
    text
}

mod given_up;
mod history;
mod salvaged;
#[cfg(test)]
mod tests;
mod time;
mod worlds;

pub use given_up::GivenUp;
pub use history::{History, Mark};
