//! From a scenario and a seed to a plan: everything that is known before a run starts, as data.
//!
//! The plan holds the concrete options, keys and operations of each client. What goes wrong and who runs when is decided
//! while it runs, by name ([`crate::rng`]). A plan can be written down, cut and run again, which is what shrinking does.
//!
//! Each seed goes its own way as far as [`Swarm`] lets it. Keys have shapes that hurt: the empty key, prefixes of each other,
//! runs of 0x00 and 0xFF, long ones; some are hot. Lengths of values lie around the edges of sectors and pages, or are tiny,
//! or anything.

use crate::disk::Profile;
use crate::fault::{FaultKind, FaultRule, FileClass};
use crate::op::{
    Bounds, Entry, KeyId, Keys, Lifetime, Op, OpKind, STAMP_FIRST, Slot, Stamp, VALUE_BYTES_MAX, VALUE_BYTES_MIN,
    Value, each_once,
};
use crate::rng::{Decisions, Site};
use crate::scenario::{Check, Scenario, Span, Swarm, WORKLOAD, Work, nearest};
use crate::scheduler::Policy;
use crate::store::{KEYSPACES, StoreKind, SyncMode};
use std::ops::{Bound, Range};

/// A run before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario it was made from.
    pub scenario: String,
    /// Which store is shaken.
    pub store: String,
    /// What a crash may keep.
    pub profile: Profile,
    /// Options of the store.
    pub options: toml::Table,
    /// Other options, on top of these, under which the same must be answered; the plan runs once more for each.
    pub variants: Vec<toml::Table>,
    /// What goes wrong.
    pub faults: Vec<FaultRule>,
    /// What is looked at.
    pub checks: Vec<Check>,
    /// How tasks take turns.
    pub policy: Policy,
    /// The keys.
    pub keys: Keys,
    /// What each client does.
    pub clients: Vec<Vec<Op>>,
}

impl Plan {
    /// Operations of all clients.
    pub fn ops(&self) -> usize {
        self.clients.iter().map(Vec::len).sum()
    }

    /// Whether this is looked at.
    pub fn checks(&self, check: Check) -> bool {
        self.checks.contains(&check)
    }

    /// The same with values that last, for those who know a state by what was written and not by when it is looked at.
    pub fn lasting(mut self, kind: &dyn StoreKind) -> Plan {
        kind.drop_default_ttl(&mut self.options);
        self.clients.iter_mut().flatten().for_each(|op| *op = op.lasting());
        self
    }

    /// Whether the disk may lie about what is durable, so that a crash may cost anything.
    pub fn may_lie(&self) -> bool {
        !self.profile.syncs_are_honest() || self.faults.iter().any(FaultRule::may_lie)
    }
}

/// Choices of one site.
struct Dice<'a> {
    decisions: &'a mut Decisions,
    site: Site,
}

impl Dice<'_> {
    /// 0 to n - 1.
    fn below(&mut self, n: u64) -> u64 {
        self.decisions.decide(self.site, n.max(1))
    }

    /// Says yes once in `n` times.
    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == n - 1
    }

    fn span(&mut self, span: Span) -> u64 {
        if span.low == span.high { span.low } else { span.low + self.below(span.high - span.low + 1) }
    }

    /// Within the range, small ones as likely as large ones: its logarithm is what is drawn.
    fn scaled(&mut self, low: u64, high: u64) -> u64 {
        if high / 8 <= low {
            return low + self.below(high - low + 1);
        }
        let octaves = u64::from((high / low.max(1)).ilog2());
        let octave = self.below(octaves + 1);
        let floor = low.max(1) << octave;
        let ceiling = if octave == octaves { high } else { 2 * floor - 1 };
        floor + self.below(ceiling - floor + 1)
    }

    fn pick<'t, T>(&mut self, things: &'t [T]) -> &'t T {
        &things[self.below(things.len() as u64) as usize]
    }
}

/// One of the kinds, by weight.
struct Mix {
    /// (sum of the weights so far, what)
    sums: Vec<(u64, Work)>,
}

impl Mix {
    fn of(scenario: &Scenario, dice: &mut Dice<'_>) -> Mix {
        let mut sums = Vec::with_capacity(scenario.workload.len());
        let mut sum = 0;
        for work in &scenario.workload {
            let mut weight = 4 * u64::from(work.weight);
            if scenario.swarm == Swarm::Mild {
                // Writing is never left out: a store that holds nothing shows nothing.
                let left_out = work.op != OpKind::Put && dice.once_in(4);
                weight = if left_out { 0 } else { weight << dice.below(3) >> 1 };
            }
            if weight > 0 {
                sum += weight;
                sums.push((sum, *work));
            }
        }
        if sums.is_empty() {
            sums.push((1, scenario.workload[0]));
        }
        Mix { sums }
    }

    /// A random half of all kinds that the store offers and the scenario can have, the scenario's own and others, with any weights. Writing is never left
    /// out.
    fn wild(scenario: &Scenario, kind: &dyn StoreKind, keyspaces: u8, dice: &mut Dice<'_>) -> Mix {
        let named = |op: OpKind| scenario.workload.iter().find(|work| work.op == op);
        let mut sums = Vec::new();
        let mut sum = 0;
        let usual = WORKLOAD.map(|(op, _)| op);
        let special = [OpKind::Wait].iter().chain(kind.specialities()).copied();
        let makes_sense = |op: &OpKind| match op {
            OpKind::DropKeyspace => keyspaces > 1,
            // What else there is makes way for these, so they are for those who ask for them; and only the options of a scenario say
            // that its stores are not of the newest version, or have an archive.
            OpKind::Merge
            | OpKind::MergeTransaction
            | OpKind::ReleaseTable
            | OpKind::DiscardTable
            | OpKind::Upgrade
            | OpKind::RestoreTo
            | OpKind::PruneArchive => named(*op).is_some(),
            _ => out_of_place(scenario, *op).is_none(),
        };
        for op in usual.into_iter().chain(special).filter(makes_sense) {
            let (left_out, drawn) = (dice.once_in(2), 1 + dice.below(100) as u32);
            // What costs as much as a hundred writes runs less often, so that a second shows more.
            let weight = match op {
                OpKind::Reopen
                | OpKind::Check
                | OpKind::Checkpoint
                | OpKind::Backup
                | OpKind::Export
                | OpKind::Import
                | OpKind::RestoreTo
                | OpKind::PruneArchive
                | OpKind::Verify => drawn.div_ceil(8),
                _ => drawn,
            };
            if op == OpKind::Put || !left_out {
                sum += u64::from(weight);
                sums.push((sum, Work { op, weight, keys: named(op).and_then(|work| work.keys) }));
            }
        }
        Mix { sums }
    }

    fn draw(&self, dice: &mut Dice<'_>) -> Work {
        let total = self.sums[self.sums.len() - 1].0;
        let at = dice.below(total);
        let index = self.sums.partition_point(|(sum, _)| *sum <= at);
        self.sums[index].1
    }
}

/// Makes the plan of a run. The options of the scenario come on top of the defaults of its store.
pub fn plan(scenario: &Scenario, kind: &dyn StoreKind, decisions: &mut Decisions) -> Plan {
    let is_wild = scenario.swarm == Swarm::Wild;
    let site = decisions.site("plan.options");
    let mut drawn = draw_options(&scenario.options, &mut Dice { decisions, site });
    let mut faults = scenario.faults.clone();
    if is_wild {
        let site = decisions.site("plan.swarm");
        let mut dice = Dice { decisions, site };
        faults.retain(|_| !dice.once_in(2));
        drawn.retain(|_, _| !dice.once_in(2));
        for ways in kind.wild_options() {
            if dice.once_in(2) {
                drawn.extend(dice.pick(&ways).clone());
            }
        }
    }
    let mut options = kind.default_options();
    options.extend(drawn);
    // Half of what a scenario says can contradict the defaults; then none of it counts.
    if is_wild && kind.check_options(&options).is_err() {
        options = kind.default_options();
    }
    if merges(scenario) {
        options.extend(kind.merging_options().unwrap_or_default());
    }
    // A site of its own, which is not asked where there is one keyspace: other scenarios are what they were.
    let site = decisions.site("plan.keyspaces");
    let mut dice = Dice { decisions, site };
    let mut keyspaces = dice.span(scenario.keyspaces) as u8;
    if is_wild && kind.specialities().contains(&OpKind::DropKeyspace) && dice.once_in(4) {
        keyspaces = keyspaces.max(2 + dice.below(2) as u8);
    }
    if keyspaces > 1 {
        options.insert(KEYSPACES.into(), toml::Value::Integer(keyspaces.into()));
    }
    let site = decisions.site("plan.shape");
    let mut dice = Dice { decisions, site };
    let keys = if is_wild { draw_wild_keys(scenario.keys, &mut dice) } else { draw_keys(scenario.keys, &mut dice) };
    let keys = if keyspaces > 1 { spread(&keys, keyspaces) } else { keys };
    let clients = dice.span(scenario.clients) as usize;
    let ops = dice.scaled(scenario.ops.low, scenario.ops.high);
    let policy = draw_policy(ops, &mut dice);
    let mix = if is_wild { Mix::wild(scenario, kind, keyspaces, &mut dice) } else { Mix::of(scenario, &mut dice) };
    // Nor where a table is given up, of which the entries may be known by their values alone.
    let none_is_empty = kind.default_ttl_ms(&options).is_some() || asks_for(scenario, OpKind::DiscardTable);
    let mut writer = Author::new(scenario, &keys, keyspaces, none_is_empty, &mut dice);
    let site = decisions.site("plan.ops");
    let mut dice = Dice { decisions, site };
    let mut lists = vec![Vec::with_capacity(ops as usize / clients + 1); clients];
    for i in 0..ops as usize {
        let work = mix.draw(&mut dice);
        lists[i % clients].push(writer.op(work, &mut dice));
    }
    Plan {
        scenario: scenario.name.clone(),
        store: scenario.store.clone(),
        profile: scenario.profile,
        options,
        variants: Vec::new(),
        faults,
        checks: scenario.checks.clone(),
        policy,
        keys,
        clients: lists,
    }
}

/// How tasks take turns. A run of so many operations has some times as many switch points, in one incarnation or in several.
fn draw_policy(ops: u64, dice: &mut Dice<'_>) -> Policy {
    let gap = *dice.pick(&[20u32, 2, 5, 100, 1000]);
    let drawn = dice.below(32);
    let few = 1 + (drawn / 8) as u32;
    let length = ops as u32 * [16, 4, 64, 1][(drawn / 8) as usize];
    match drawn % 8 {
        0..3 => Policy::Random { gap },
        3 => Policy::Priorities { gap },
        4 => Policy::RoundRobin { gap },
        5 => Policy::Pct { depth: 1 + few, length },
        6 => Policy::Delays { bound: few, length },
        _ => Policy::Named { gap: few },
    }
}

/// A concrete value for each option: a pair of integers is a range, any other list is a choice.
fn draw_options(options: &toml::Table, dice: &mut Dice<'_>) -> toml::Table {
    let mut drawn = toml::Table::new();
    for (name, value) in options {
        let value = match value {
            toml::Value::Array(list) => match list.as_slice() {
                [toml::Value::Integer(low), toml::Value::Integer(high)] if 0 <= *low && low <= high => {
                    toml::Value::Integer(dice.scaled(*low as u64, *high as u64) as i64)
                }
                [] => continue,
                choices => dice.pick(choices).clone(),
            },
            other => other.clone(),
        };
        drawn.insert(name.clone(), value);
    }
    drawn
}

/// What a scenario asks for that this store does not offer, if there is such a thing.
pub fn lack(scenario: &Scenario, kind: &dyn StoreKind) -> Option<&'static str> {
    let several = (scenario.keyspaces.high > 1).then_some(OpKind::DropKeyspace);
    let asked = several.into_iter().chain(scenario.workload.iter().map(|work| work.op));
    asked.filter(|op| !kind.specialities().contains(op)).find_map(|op| match op {
        OpKind::Transaction => Some("transactions"),
        OpKind::DeleteRange => Some("range deletes"),
        OpKind::PutExpiring => Some("values that expire"),
        OpKind::Hurry => Some("writes that do not wait"),
        OpKind::MultiGet => Some("gets of several keys"),
        OpKind::Merge => Some("operands to merge"),
        OpKind::MergeTransaction => Some("transactions that merge operands"),
        OpKind::DropKeyspace => Some("keyspaces"),
        OpKind::Checkpoint => Some("checkpoints"),
        OpKind::Backup => Some("backups"),
        OpKind::Export | OpKind::Import => Some("exports"),
        OpKind::RestoreTo | OpKind::PruneArchive => Some("an archive"),
        OpKind::Look => Some("readers beside its writer"),
        OpKind::Verify => Some("verification while it is open"),
        OpKind::Upgrade => Some("versions of its format"),
        OpKind::ReleaseTable | OpKind::DiscardTable => Some("quarantine"),
        _ => None,
    })
}

/// Refuses a scenario whose options its store would refuse: each choice, and both ends of each range, are tried.
pub fn check_options(scenario: &Scenario, kind: &dyn StoreKind) -> Result<(), String> {
    if let Some(lack) = lack(scenario, kind) {
        return Err(format!("the store {} has no {lack}", kind.name()));
    }
    scenario.workload.iter().find_map(|work| out_of_place(scenario, work.op)).map_or(Ok(()), Err)?;
    let names = kind.option_names();
    for (name, value) in &scenario.options {
        if !names.contains(name) {
            let hint = nearest(name, names.iter().map(String::as_str));
            let hint = hint.map_or_else(String::new, |name| format!("; did you mean `{name}`?"));
            return Err(format!("the store {} has no option `{name}`{hint}", kind.name()));
        }
        let choices = match value {
            toml::Value::Array(list) => list.as_slice(),
            other => std::slice::from_ref(other),
        };
        for choice in choices {
            let mut options = kind.default_options();
            for (other, value) in &scenario.options {
                let first = value.as_array().and_then(|list| list.first()).unwrap_or(value);
                options.insert(other.clone(), first.clone());
            }
            options.insert(name.clone(), choice.clone());
            kind.check_options(&options).map_err(|message| format!("option {name} = {choice}: {message}"))?;
        }
    }
    Ok(())
}

/// What may damage the end of a log under an open store, if there is such a thing. Whoever looks from outside cannot tell that
/// from an end that is being written, and shows what comes before it: the oracle would not know of which damage it is.
fn hides_a_log(scenario: &Scenario) -> Option<&FaultRule> {
    scenario.faults.iter().find(|rule| {
        matches!(
            rule.kind(),
            FaultKind::FsyncError
                | FaultKind::FsyncLoss
                | FaultKind::BitFlip
                | FaultKind::ZeroWrite
                | FaultKind::StaleRead
                | FaultKind::MisdirectedRead
                | FaultKind::MisdirectedWrite
        )
    })
}

fn asks_for(scenario: &Scenario, op: OpKind) -> bool {
    scenario.workload.iter().any(|work| work.op == op)
}

/// Whether anything in a scenario writes operands.
fn merges(scenario: &Scenario) -> bool {
    asks_for(scenario, OpKind::Merge) || asks_for(scenario, OpKind::MergeTransaction)
}

/// Why this operation has no place in a scenario, if it has none: together with what else the scenario has, nobody could judge
/// what it comes to. The one place that says so, for scenarios that are written down and for wild mixes.
fn out_of_place(scenario: &Scenario, op: OpKind) -> Option<String> {
    let asks_for = |op: OpKind| asks_for(scenario, op);
    let struck_by = |harmless: &dyn Fn(&FaultRule) -> bool| {
        scenario.faults.iter().find(|rule| !harmless(rule)).map(|rule| rule.kind().name())
    };
    let cuts = |rule: &FaultRule| matches!(rule.kind(), FaultKind::PowerLoss | FaultKind::ProcessCrash);
    let expires = scenario.options.contains_key("default_ttl_ms");
    match op {
        OpKind::Look => hides_a_log(scenario).map(|rule| {
            format!("looks are for scenarios in which logs stay whole, and {} strikes", rule.kind().name())
        }),
        // What is salvaged of a key must be a value that was written to it. What came of some of its operands, the others being in what
        // could not be read, is none, and could not be told from what was made up.
        OpKind::Merge | OpKind::MergeTransaction if scenario.checks(Check::Salvage) => {
            Some("operands are for scenarios in which nothing is salvaged".into())
        }
        // What a table held is known where it was damaged in a way that can be taken back, and a key that lost its newest version
        // shows an older one as it was: not one that has expired meanwhile, nor what operands make of it.
        OpKind::ReleaseTable | OpKind::DiscardTable => {
            let flips = |rule: &FaultRule| {
                rule.kind() == FaultKind::BitFlip
                    && !FileClass::ALL.iter().any(|class| *class != FileClass::Sst && rule.can_strike(&[*class]))
            };
            match struck_by(&|rule| cuts(rule) || flips(rule)) {
                Some(fault) => {
                    Some(format!("tables are given up where nothing but they are damaged, and {fault} strikes"))
                }
                None if expires => Some("tables are given up where no value expires".into()),
                None if !scenario.profile.syncs_are_honest() => {
                    Some("tables are given up where syncs are honest".into())
                }
                None => (!scenario.checks(Check::Quarantine))
                    .then(|| "tables are given up where the check \"quarantine\" is asked for".into()),
            }
        }
        OpKind::RestoreTo | OpKind::PruneArchive if !asks_for(OpKind::Backup) => {
            Some("points are restored from backups, and archives pruned by them: there are none".into())
        }
        OpKind::RestoreTo | OpKind::PruneArchive if !scenario.options.contains_key("archive") => {
            Some("points are restored, and archives pruned, where the option \"archive\" names one".into())
        }
        // Each client has a directory of backups of its own, and all that need the archive must be in one.
        OpKind::PruneArchive if scenario.clients.high > 1 => {
            Some("archives are pruned where there is one client".into())
        }
        // A copy that was made before may hold what is gone.
        OpKind::Checkpoint
        | OpKind::Backup
        | OpKind::Export
        | OpKind::Import
        | OpKind::Merge
        | OpKind::MergeTransaction
        | OpKind::PutExpiring
            if asks_for(OpKind::DiscardTable) =>
        {
            Some("where tables are given up there are no copies, operands and values that expire".into())
        }
        _ => None,
    }
}

/// Keys with shapes that hurt.
fn draw_keys(count: Span, dice: &mut Dice<'_>) -> Keys {
    let count = dice.scaled(count.low, count.high) as usize;
    let nasty: [&[u8]; 12] = [
        b"",
        b"\0",
        b"\0\0",
        b"a",
        b"a\0",
        b"a\0\0",
        b"aa",
        b"a\xff",
        b"\xff",
        b"\xff\xff",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"~",
    ];
    let shape = dice.below(4);
    let mut keys: Vec<Vec<u8>> = Vec::with_capacity(count);
    if shape != 0 {
        keys.extend(nasty.iter().take(count / 2).map(|key| key.to_vec()));
    }
    let mut number = 0u32;
    while keys.len() < count {
        let key = match (shape, number % 5) {
            (3, 0) => {
                // One long run, of which each key is a prefix of the next.
                vec![b'p'; 1 + number as usize % 200]
            }
            (2 | 3, 1) => {
                let mut key = number.to_be_bytes().to_vec();
                key.resize(300, b'.');
                key
            }
            (2 | 3, 2) => number.to_le_bytes().to_vec(),
            _ => format!("user:{number:04}").into_bytes(),
        };
        number += 1;
        keys.push(key);
    }
    Keys::new(keys)
}

/// The same keys in several keyspaces: each but the last has the first so many of them, so that one key is in each, and the last
/// has one alone.
fn spread(keys: &Keys, keyspaces: u8) -> Keys {
    let of = |keyspace: u8, key: KeyId| [&[b'0' + keyspace], keys.bytes(key)].concat();
    let busy = u32::from(keyspaces - 1);
    let spread = (0..keys.count() as u32).map(|number| of((number % busy) as u8, number / busy));
    Keys::new(spread.chain([of(keyspaces - 1, 0)]).collect())
}

/// Lengths beside which something begins: a sector, a page, a block of a log.
const EDGES: [u64; 3] = [512, 4096, 32 << 10];

/// Keys of shapes that hurt, of which each seed leaves out a random half.
fn draw_wild_keys(count: Span, dice: &mut Dice<'_>) -> Keys {
    let count = dice.scaled(count.low, count.high) as usize;
    let shapes: Vec<u64> = (0..7).filter(|_| !dice.once_in(2)).collect();
    let shared = vec![*dice.pick(b"\0a\xff"); *dice.pick(&[1, 7, 255, 511]) as usize];
    let mut keys = Vec::with_capacity(count);
    for number in 0..count as u64 {
        let run = 1 + (number / 7) as usize % 300;
        let text = format!("{number:04}").into_bytes();
        keys.push(match shapes.get(number as usize % shapes.len().max(1)) {
            // The empty key, and runs of the largest and the smallest byte, of which each is a prefix of the next.
            Some(0) => vec![0xff; number as usize / shapes.len() % 300],
            Some(1) => vec![0; run],
            Some(2) => [vec![b'p'; run], vec![0xff; run % 3]].concat(),
            // All share a long beginning, and differ in the last byte or two.
            Some(3) => [shared.clone(), (number as u16).to_be_bytes().to_vec()].concat(),
            Some(4) => number.to_le_bytes().to_vec(),
            // As long as a sector or a page, but for one byte.
            Some(5) => {
                let mut key = text;
                key.resize((EDGES[number as usize % 2] - 1 + number % 3) as usize, b'.');
                key
            }
            _ => text,
        });
    }
    Keys::new(keys)
}

/// Writes operations, one after the other.
struct Author {
    /// Keys in an order of this seed: the first ones are hot.
    shuffled: Vec<KeyId>,
    hot: u64,
    /// The keys of each keyspace; none where there is one.
    keyspaces: Vec<Range<KeyId>>,
    stamp: Stamp,
    value_bytes: u64,
    slots: u64,
    /// What writes ask for: 0 leaves it to the options, 1 mixes.
    sync: u64,
    is_wild: bool,
    /// Whether also an empty value would expire, so that none is written: see [`Author::stamped`].
    none_is_empty: bool,
}

impl Author {
    fn new(scenario: &Scenario, keys: &Keys, keyspaces: u8, none_is_empty: bool, dice: &mut Dice<'_>) -> Author {
        let mut shuffled: Vec<KeyId> = (0..keys.count() as KeyId).collect();
        for i in (1..shuffled.len()).rev() {
            shuffled.swap(i, dice.below(i as u64 + 1) as usize);
        }
        let hot = 1 + dice.below((keys.count() as u64 / 4).max(1));
        let value_bytes = dice.scaled(scenario.value_bytes.low.max(8), scenario.value_bytes.high.max(8));
        let value_bytes = match scenario.swarm {
            // One seed in four writes what is longer than a block of a log.
            Swarm::Wild if dice.once_in(4) => EDGES[2] + 1,
            _ => value_bytes.min(u64::from(VALUE_BYTES_MAX)),
        };
        let (slots, sync, is_wild) = (1 + dice.below(3), dice.below(2), scenario.swarm == Swarm::Wild);
        let keyspaces = (0..keyspaces).filter(|_| keyspaces > 1).map(|keyspace| keys.of_keyspace(keyspace)).collect();
        Author { shuffled, hot, keyspaces, stamp: STAMP_FIRST, value_bytes, slots, sync, is_wild, none_is_empty }
    }

    fn key(&mut self, keys: Option<u64>, dice: &mut Dice<'_>) -> KeyId {
        let count = keys.unwrap_or(u64::MAX).clamp(1, self.shuffled.len() as u64);
        let drawn = dice.below(4 * count);
        // One time in four, one of the hot ones.
        let index = if drawn < count { drawn % self.hot.min(count) } else { drawn % count };
        self.shuffled[index as usize]
    }

    fn value(&mut self, dice: &mut Dice<'_>) -> Value {
        let min = u64::from(VALUE_BYTES_MIN);
        let max = self.value_bytes;
        let drawn = dice.below(64);
        let bytes = match drawn {
            0 if !self.none_is_empty => return Value::NOTHING,
            0..32 => min + drawn % 28,
            32..56 => dice.scaled(min, max),
            _ if self.is_wild => (*dice.pick(&EDGES) - 1 + dice.below(3)).min(max),
            _ => {
                let edge = [512, 1024, 4096, 8192][drawn as usize % 4];
                (edge - 1 + drawn % 3).min(max)
            }
        };
        let stamp = self.stamp;
        self.stamp += 1;
        Value { stamp, bytes: bytes.max(min) as u32 }
    }

    /// A value that no other write has: two that look alike and expire at different times could not be told from each other.
    fn stamped(&mut self, dice: &mut Dice<'_>) -> Value {
        match self.value(dice) {
            Value::NOTHING => {
                self.stamp += 1;
                Value { stamp: self.stamp - 1, bytes: VALUE_BYTES_MIN }
            }
            value => value,
        }
    }

    /// A value that no other write has, and of which a key can take many.
    fn short(&mut self, dice: &mut Dice<'_>) -> Value {
        self.stamp += 1;
        Value { stamp: self.stamp - 1, bytes: VALUE_BYTES_MIN + dice.below(24) as u32 }
    }

    /// Some expire at once, some while a few operations run, and some hardly within a run.
    fn lifetime(dice: &mut Dice<'_>) -> Lifetime {
        match dice.below(8) {
            0 => Lifetime::For(0),
            1..6 => Lifetime::For(dice.scaled(1, 400) as u32),
            6 => Lifetime::For(dice.scaled(1, 100_000) as u32),
            _ => Lifetime::Until(dice.scaled(1, 2000) as u32),
        }
    }

    fn sync(&mut self, dice: &mut Dice<'_>) -> SyncMode {
        if self.sync == 0 {
            return SyncMode::Default;
        }
        match dice.below(8) {
            0..4 => SyncMode::Default,
            4..7 => SyncMode::Buffered,
            _ => SyncMode::Always,
        }
    }

    fn bound(&mut self, dice: &mut Dice<'_>) -> Bound<KeyId> {
        let count = self.shuffled.len() as u64;
        let drawn = dice.below(4 * count);
        let key = (drawn % count) as KeyId;
        match drawn / count {
            0 | 1 => Bound::Included(key),
            2 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    /// The deletion of a range: of a few keys, or of any part of all in one keyspace.
    fn range(&mut self, dice: &mut Dice<'_>) -> Entry {
        let count = self.shuffled.len() as u64;
        let start = dice.below(count);
        let len = if dice.once_in(3) { 1 + dice.below(count) } else { 1 + dice.below(4) };
        let own = self.keyspaces.iter().find(|keys| keys.contains(&(start as KeyId)));
        let end_max = own.map_or(count - 1, |keys| u64::from(keys.end).min(count - 1));
        Entry::range(start as KeyId, (start + len).min(end_max) as KeyId)
    }

    fn bounds(&mut self, dice: &mut Dice<'_>) -> Bounds {
        match dice.below(8) {
            0 | 1 => Bounds::ALL,
            2 => Bounds::Prefix(dice.below(self.shuffled.len() as u64) as KeyId),
            _ => Bounds::Range(self.bound(dice), self.bound(dice)),
        }
    }

    fn slot(&mut self, dice: &mut Dice<'_>) -> Slot {
        dice.below(self.slots) as Slot
    }

    fn scan(&mut self, at: Option<Slot>, dice: &mut Dice<'_>) -> Op {
        let bounds = self.bounds(dice);
        let drawn = dice.below(16);
        let limit = (drawn / 2 >= 4).then(|| [0, 1, 2, 3, 5, 8, 13, 100][(drawn % 8) as usize]);
        Op::Scan { bounds, reverse: drawn % 2 == 1, limit, at }
    }

    /// Keys from anywhere, or side by side as they lie in a block, in either order, and sometimes one of them again.
    fn multi_get(&mut self, among: Option<u64>, dice: &mut Dice<'_>) -> Op {
        let count = if dice.once_in(32) { 0 } else { dice.scaled(1, 32) };
        let mut keys: Vec<KeyId> = if dice.once_in(2) {
            let start = u64::from(self.key(among, dice));
            (start..(start + count).min(self.shuffled.len() as u64)).map(|key| key as KeyId).collect()
        } else {
            (0..count).map(|_| self.key(among, dice)).collect()
        };
        if dice.once_in(2) {
            keys.reverse();
        }
        if !keys.is_empty() && dice.once_in(4) {
            keys.push(*dice.pick(&keys));
        }
        let at = dice.once_in(4).then(|| self.slot(dice));
        Op::MultiGet { keys, at }
    }

    fn op(&mut self, work: Work, dice: &mut Dice<'_>) -> Op {
        match work.op {
            OpKind::Put => Op::Put { key: self.key(work.keys, dice), value: self.value(dice), sync: self.sync(dice) },
            OpKind::Delete => Op::Delete { key: self.key(work.keys, dice), sync: self.sync(dice) },
            OpKind::Batch => {
                let count = 1 + dice.below(8);
                let entries = (0..count)
                    .map(|_| {
                        let key = self.key(work.keys, dice);
                        let value = if dice.once_in(4) { None } else { Some(self.value(dice)) };
                        Entry::new(key, value)
                    })
                    .collect();
                Op::Batch { entries, sync: self.sync(dice) }
            }
            OpKind::DeleteRange => {
                let count = 1 + dice.below(4);
                let mut entries = Vec::new();
                for place in 0..count {
                    if place == 0 || dice.once_in(4) {
                        entries.push(self.range(dice));
                    } else {
                        let value = if dice.once_in(8) { None } else { Some(self.value(dice)) };
                        entries.push(Entry::new(self.key(work.keys, dice), value));
                    }
                }
                // The range does not always come first.
                let turn = dice.below(count) as usize;
                entries.rotate_left(turn);
                if !dice.once_in(8) {
                    return Op::Batch { entries, sync: self.sync(dice) };
                }
                let reads = (0..dice.below(3)).map(|_| self.key(work.keys, dice)).collect();
                let scan = dice.once_in(2).then(|| (self.bounds(dice), 5));
                let (entries, serializable) = (each_once(entries), !dice.once_in(3));
                Op::Transaction { reads, together: false, scan, entries, serializable, sync: self.sync(dice) }
            }
            OpKind::PutExpiring => {
                let count = 1 + dice.below(4);
                let mut entries = Vec::new();
                for place in 0..count {
                    let key = self.key(work.keys, dice);
                    if place > 0 && dice.once_in(4) {
                        let value = if dice.once_in(2) { None } else { Some(self.stamped(dice)) };
                        entries.push(Entry::new(key, value));
                    } else {
                        entries.push(Entry::expiring(key, self.stamped(dice), Author::lifetime(dice)));
                    }
                }
                if !dice.once_in(8) {
                    return Op::Batch { entries, sync: self.sync(dice) };
                }
                let reads = (0..dice.below(3)).map(|_| self.key(work.keys, dice)).collect();
                let scan = dice.once_in(2).then(|| (self.bounds(dice), 5));
                let (entries, serializable) = (each_once(entries), !dice.once_in(3));
                Op::Transaction { reads, together: false, scan, entries, serializable, sync: self.sync(dice) }
            }
            OpKind::Merge => {
                let count = 1 + dice.below(4);
                let mut entries = Vec::new();
                for place in 0..count {
                    // Some keys are merged again within the batch.
                    let key = match entries.last() {
                        Some(Entry { key, .. }) if dice.once_in(3) => *key,
                        _ => self.key(work.keys, dice),
                    };
                    entries.push(match dice.below(8) {
                        0 if place > 0 => Entry::new(key, None),
                        1 if place > 0 => Entry::new(key, Some(self.value(dice))),
                        _ => Entry::operand(key, self.short(dice)),
                    });
                }
                Op::Batch { entries, sync: self.sync(dice) }
            }
            OpKind::Transaction => {
                let reads: Vec<KeyId> = (0..dice.below(4)).map(|_| self.key(work.keys, dice)).collect();
                let scan = dice.once_in(3).then(|| (self.bounds(dice), [1, 2, 5, 100][dice.below(4) as usize]));
                let count = dice.below(4);
                let mut entries = Vec::new();
                for _ in 0..count {
                    // Half of what is written was read before: without that, isolation could not be told from none.
                    let key = match reads.as_slice() {
                        [] => self.key(work.keys, dice),
                        reads if dice.once_in(2) => reads[dice.below(reads.len() as u64) as usize],
                        _ => self.key(work.keys, dice),
                    };
                    let value = if dice.once_in(4) { None } else { Some(self.value(dice)) };
                    entries.push(Entry::new(key, value));
                }
                let (entries, serializable) = (each_once(entries), !dice.once_in(3));
                Op::Transaction { reads, together: false, scan, entries, serializable, sync: self.sync(dice) }
            }
            OpKind::MergeTransaction => {
                let reads: Vec<KeyId> = (0..dice.below(6)).map(|_| self.key(work.keys, dice)).collect();
                let scan = dice.once_in(3).then(|| (self.bounds(dice), [1, 2, 5, 100][dice.below(4) as usize]));
                let mut entries: Vec<Entry> = Vec::new();
                for _ in 0..1 + dice.below(5) {
                    // Some are merged upon what it has written itself, and some upon what it has read.
                    let key = match (entries.last(), reads.as_slice()) {
                        (Some(entry), _) if dice.once_in(3) => entry.key,
                        (_, reads @ [_, ..]) if dice.once_in(2) => *dice.pick(reads),
                        _ => self.key(work.keys, dice),
                    };
                    entries.push(match dice.below(12) {
                        0 => Entry::new(key, None),
                        1 => Entry::new(key, Some(self.value(dice))),
                        2 => self.range(dice),
                        _ => Entry::operand(key, self.short(dice)),
                    });
                }
                let (entries, serializable) = (each_once(entries), !dice.once_in(3));
                Op::Transaction {
                    reads,
                    together: !dice.once_in(3),
                    scan,
                    entries,
                    serializable,
                    sync: self.sync(dice),
                }
            }
            OpKind::Hurry => {
                let (key, value, sync) = (self.key(work.keys, dice), self.value(dice), self.sync(dice));
                let within_ms = [None, Some(0), Some(1), Some(5), Some(20), Some(100)][dice.below(6) as usize];
                Op::Hurry { key, value, sync, within_ms }
            }
            OpKind::Get => Op::Get { key: self.key(work.keys, dice), at: None },
            OpKind::MultiGet => self.multi_get(work.keys, dice),
            OpKind::Scan => self.scan(None, dice),
            OpKind::Snapshot => {
                let slot = self.slot(dice);
                match dice.below(6) {
                    0 | 1 => Op::Snapshot { slot },
                    2 | 3 => Op::Get { key: self.key(work.keys, dice), at: Some(slot) },
                    4 => self.scan(Some(slot), dice),
                    _ => Op::Release { slot },
                }
            }
            OpKind::Sync => Op::Sync,
            OpKind::Flush => Op::Flush,
            OpKind::Compact => Op::Compact { bounds: self.bounds(dice) },
            OpKind::DropKeyspace => {
                let others = (self.keyspaces.len() as u64).saturating_sub(1).max(1);
                Op::DropKeyspace { keyspace: 1 + dice.below(others) as u8 }
            }
            OpKind::Checkpoint => Op::Checkpoint,
            OpKind::Backup => Op::Backup,
            OpKind::Export => Op::Export,
            OpKind::Import => Op::Import,
            OpKind::RestoreTo => Op::RestoreTo,
            OpKind::PruneArchive => Op::PruneArchive,
            OpKind::Look => Op::Look { anew: dice.once_in(3) },
            OpKind::Verify => Op::Verify,
            OpKind::Upgrade => Op::Upgrade,
            OpKind::ReleaseTable => Op::ReleaseTable { nth: dice.below(8) as u8 },
            OpKind::DiscardTable => Op::DiscardTable { nth: dice.below(8) as u8 },
            OpKind::Wait => Op::Wait { ms: dice.scaled(1, 200) as u32 },
            OpKind::Reopen => Op::Reopen,
            OpKind::Check => Op::Check,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runner::toy::{Flaw, ToyKind};
    use crate::strata::StrataKind;
    use std::collections::BTreeSet;

    const KIND: ToyKind = ToyKind(Flaw::None);

    fn make(text: &str, seed: u64) -> Plan {
        let scenario = Scenario::parse("test", text).expect("a scenario");
        plan(&scenario, &KIND, &mut Decisions::from_seed(seed))
    }

    #[test]
    fn the_same_seed_makes_the_same_plan_and_another_makes_another() {
        let text = "about = 'A'\noptions = { a = [10, 1000], b = ['x', 'y', 'z'], c = 3 }";
        let (first, again, other) = (make(text, 1), make(text, 1), make(text, 2));
        assert_eq!(first.clients, again.clients);
        assert_eq!((&first.options, &first.keys), (&again.options, &again.keys));
        assert_ne!(first.clients, other.clients);
        assert_eq!(first.options["c"], toml::Value::Integer(3));
        assert!((100..=400).contains(&first.ops()), "{} operations", first.ops());
    }

    #[test]
    fn every_operation_of_a_plan_reads_back_from_its_line_and_stamps_are_unique() {
        let mut stamps = BTreeSet::new();
        let plan = make("about = 'A'\nops = 2000\nclients = 4\nswarm = 'none'", 3);
        for op in plan.clients.iter().flatten() {
            assert_eq!(Op::parse(&op.to_string()).as_ref(), Ok(op));
            op.each_entry(|entry| {
                if let Some(value) = entry.value
                    && value.bytes > 0
                {
                    assert!(stamps.insert(value.stamp), "{value} is written twice");
                }
            });
        }
        assert!(stamps.len() > 500);
    }

    #[test]
    fn keys_lie_in_as_many_keyspaces_as_the_scenario_says_and_no_range_delete_goes_over_two() {
        let text = "about = 'A'\nkeyspaces = [2, 4]\nkeys = 30\n\
                    workload = [{ op = 'put' }, { op = 'delete-range' }, { op = 'drop-keyspace' }]";
        let mut counts = BTreeSet::new();
        for seed in 0..20 {
            let plan = make(text, seed);
            let count = plan.options[KEYSPACES].as_integer().expect("a number") as u8;
            counts.insert(count);
            let of = |key: KeyId| plan.keys.bytes(key)[0] - b'0';
            let all: Vec<u8> = (0..plan.keys.count() as KeyId).map(of).collect();
            assert_eq!(all.iter().copied().collect::<BTreeSet<u8>>(), (0..count).collect());
            assert_eq!(plan.keys.of_keyspace(count - 1).len(), 1, "the last one is nearly idle");
            for op in plan.clients.iter().flatten() {
                assert_eq!(Op::parse(&op.to_string()).as_ref(), Ok(op));
                op.each_entry(|entry| {
                    let touched: BTreeSet<u8> = entry.touches().map(of).collect();
                    assert_eq!(touched.len(), 1, "{entry}");
                });
                assert!(!matches!(op, Op::DropKeyspace { keyspace } if !(1..count).contains(keyspace)), "{op}");
            }
        }
        assert_eq!(counts.len(), 3);
        assert!(!make("about = 'A'", 1).options.contains_key(KEYSPACES));
    }

    #[test]
    fn plain_decisions_make_a_plan_too() {
        let scenario = Scenario::parse("test", "about = 'A'").expect("a scenario");
        let plan = plan(&scenario, &KIND, &mut Decisions::from_bytes(&[]));
        assert_eq!(plan.ops(), 100);
        assert_eq!(plan.clients.len(), 1);
    }

    #[test]
    fn a_wild_swarm_leaves_out_half_of_everything_and_has_sizes_at_every_edge() {
        const SEEDS: u64 = 200;
        let text = "about = 'A'\nswarm = 'wild'\nvalue_bytes = [64, 9000]\noptions = { a = 1, b = 2 }\n\
                    faults = [{ kind = 'power-loss', every_ops = 9 }, { kind = 'short-read', chance = 0.5 }]";
        let (mut kinds, mut faults, mut options) = (BTreeSet::new(), 0, 0);
        let (mut lengths, mut shapes, mut policies) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for seed in 0..SEEDS {
            let plan = make(text, seed);
            kinds.insert(plan.clients.iter().flatten().map(Op::kind).collect::<BTreeSet<OpKind>>());
            faults += plan.faults.len() as u64;
            options += plan.options.keys().filter(|name| *name != "durability").count() as u64;
            policies.insert(plan.policy.to_string().split(' ').next().unwrap_or_default().to_string());
            for op in plan.clients.iter().flatten() {
                op.each_entry(|entry| {
                    lengths.extend(entry.value.map(|value| u64::from(value.bytes)));
                });
            }
            for key in 0..plan.keys.count() as KeyId {
                let bytes = plan.keys.bytes(key);
                shapes.extend(bytes.is_empty().then_some("empty"));
                shapes.extend((bytes.len() > 1 && bytes.iter().all(|byte| *byte == 0xff)).then_some("0xff"));
                shapes.extend((4095..=4097).contains(&bytes.len()).then_some("a page"));
            }
        }
        assert!(kinds.len() > 100, "{} mixes of operations", kinds.len());
        for (count, what) in [(faults, "faults"), (options, "options")] {
            assert!((SEEDS * 8 / 10..SEEDS * 12 / 10).contains(&count), "{count} {what} of {}", 2 * SEEDS);
        }
        for edge in EDGES {
            for length in [edge - 1, edge, edge + 1] {
                assert!(lengths.contains(&length), "no value has {length} bytes");
            }
        }
        assert_eq!(shapes.len(), 3, "{shapes:?}");
        assert_eq!(policies.len(), 6, "{policies:?}");
    }

    #[test]
    fn a_wild_swarm_draws_all_that_its_store_offers() {
        let scenario = Scenario::parse("test", "about = 'A'\nswarm = 'wild'\nops = 400").expect("a scenario");
        let drawn = |kind: &dyn StoreKind| {
            let plans = (0..100).map(|seed| plan(&scenario, kind, &mut Decisions::from_seed(seed)));
            let ops = plans.flat_map(|plan| plan.clients.into_iter().flatten());
            let (mut kinds, mut expiring, mut ranges) = (BTreeSet::new(), 0, 0);
            for op in ops {
                kinds.insert(op.kind());
                op.each_entry(|entry| {
                    expiring += usize::from(entry.lifetime.is_some());
                    ranges += usize::from(entry.end.is_some());
                });
            }
            (kinds, expiring > 0, ranges > 0)
        };
        let usual: BTreeSet<OpKind> = WORKLOAD.iter().map(|(op, _)| *op).chain([OpKind::Wait]).collect();
        assert_eq!(drawn(&KIND), (usual.clone(), false, false));
        // These two are batches and transactions with something in them.
        let inside = [OpKind::DeleteRange, OpKind::PutExpiring];
        // These are for scenarios that name them.
        let elsewhere = [
            OpKind::Merge,
            OpKind::MergeTransaction,
            OpKind::ReleaseTable,
            OpKind::DiscardTable,
            OpKind::Upgrade,
            OpKind::RestoreTo,
            OpKind::PruneArchive,
        ];
        let special = StrataKind.specialities().iter().copied();
        let special = special.filter(|op| !inside.contains(op) && !elsewhere.contains(op));
        assert_eq!(drawn(&StrataKind), (usual.into_iter().chain(special).collect(), true, true));
    }

    #[test]
    fn what_nobody_could_judge_is_refused_and_left_out_of_a_wild_mix() {
        let why = |op: &str, text: &str| {
            let text = format!("about = ''\nworkload = [{{ op = 'put' }}, {{ op = '{op}' }}]\n{text}");
            check_options(&Scenario::parse("s", &text).expect("a scenario"), &StrataKind).err().unwrap_or_default()
        };
        let quarantine = "checks = ['oracle', 'quarantine']";
        let with_fault = |fault: &str| format!("{quarantine}\nfaults = [{{ {fault}, every_ops = 9 }}]");
        assert_eq!(why("discard-table", &with_fault("kind = 'bit-flip', classes = ['sst']")), "");
        assert_eq!(why("discard-table", &with_fault("kind = 'power-loss'")), "");
        insta::assert_snapshot!(why("discard-table", &with_fault("kind = 'bit-flip', classes = ['sst', 'wal']")), @"tables are given up where nothing but they are damaged, and bit-flip strikes");
        insta::assert_snapshot!(why("release-table", &with_fault("kind = 'io-error', on = 'read'")), @"tables are given up where nothing but they are damaged, and io-error strikes");
        insta::assert_snapshot!(why("discard-table", ""), @r#"tables are given up where the check "quarantine" is asked for"#);
        insta::assert_snapshot!(why("discard-table", &format!("options = {{ default_ttl_ms = 5 }}\n{quarantine}")), @"tables are given up where no value expires");
        insta::assert_snapshot!(why("discard-table' }, { op = 'backup", quarantine), @"where tables are given up there are no copies, operands and values that expire");
        assert_eq!(why("merge", &with_fault("kind = 'io-error', on = 'write'")), "");
        insta::assert_snapshot!(why("merge-transaction", "checks = ['oracle', 'salvage']"), @"operands are for scenarios in which nothing is salvaged");
        assert_eq!(why("merge' }, { op = 'put-expiring' }, { op = 'hurry", "options = { default_ttl_ms = 5 }"), "");
        insta::assert_snapshot!(why("look", &with_fault("kind = 'zero-write'")), @"looks are for scenarios in which logs stay whole, and zero-write strikes");
        assert_eq!(why("look", ""), "");
        let archived = "options = { archive = 'archive' }";
        assert_eq!(why("backup' }, { op = 'prune-archive", &format!("clients = 1\n{archived}")), "");
        insta::assert_snapshot!(why("restore-to", archived), @"points are restored from backups, and archives pruned by them: there are none");
        insta::assert_snapshot!(why("backup' }, { op = 'restore-to", ""), @r#"points are restored, and archives pruned, where the option "archive" names one"#);
        insta::assert_snapshot!(why("backup' }, { op = 'prune-archive", &format!("clients = [1, 2]\n{archived}")), @"archives are pruned where there is one client");
    }

    #[test]
    fn scaled_choices_stay_within_their_range() {
        let mut decisions = Decisions::from_seed(1);
        let site = decisions.site("test");
        let mut dice = Dice { decisions: &mut decisions, site };
        for (low, high) in [(0, 0), (0, 1), (5, 5), (1, 1_000_000), (1024, 65536), (3, 25), (0, 100)] {
            for _ in 0..2000 {
                let drawn = dice.scaled(low, high);
                assert!((low..=high).contains(&drawn), "{drawn} within {low} and {high}");
            }
        }
    }
}
