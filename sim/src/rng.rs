//! Decisions have names: the one place that randomness comes from.
//!
//! Whoever must choose asks [`Decisions`] at a [`Site`], a label that was interned once. Each label has a ChaCha8 stream of
//! its own, keyed by the seed and the label, and a decision is known by (label, ordinal): how many times this site was
//! asked before. So a new consumer shifts nobody else's choices, and a recorded decision still fits after the code around it has
//! changed.
//!
//! Invariants:
//! - R1: 0 is the simplest answer everywhere: no fault, the same task goes on, nothing is lost. A run that is scripted with
//!   nothing and [`Rest::Zero`] is the plainest run there is, and the shrinker needs no knowledge of the sites.
//! - R2: a seeded site draws exactly one 64-bit word per decision, whatever `n` is and whether or not a script overrides
//!   it. So one overridden decision leaves the ones behind it as they were.
//! - R3: integers only. `ln` differs between platforms, so the gaps of rare events come from exact fixed-point powers.
//!
//! A rare event ([`Decisions::rare`]) is not a coin at each call: the gap to the next event is drawn once per event, and
//! a call in between counts and compares. It is recorded as if there had been a coin at each call, so that one event
//! can be taken out of a run without moving the others.
//!
//! What it does not do: it does not judge whether a value fits its site; a scripted value that is too large is cut to `n - 1`.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A named place at which decisions are made, interned by [`Decisions::site`]. Good only for the `Decisions` that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Site(u32);

/// One decision, as an artifact keeps it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Decision {
    /// Name of the site.
    pub label: String,
    /// How many decisions this site had made before.
    pub ordinal: u64,
    /// How many answers there were.
    pub n: u64,
    /// The answer, below `n`.
    pub value: u64,
}

/// What answers where a script says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rest {
    /// Always 0.
    Zero,
    /// The streams of this seed.
    Seed(u64),
}

/// Which decisions are kept for [`Decisions::recorded`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recording {
    /// None.
    Off,
    /// Those that are not 0; replaying them over [`Rest::Zero`] repeats the run.
    NonZero,
    /// All, but for rare sites still the events only. For enumerating what a short piece of code can decide.
    All,
}

/// How often a rare site says yes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rarity {
    /// At no call.
    Never,
    /// At each call with this probability.
    Chance(f64),
    /// So many calls after the event before it, counted from 1, both ends included.
    Every(u64, u64),
}

/// Where unscripted words come from.
#[derive(Clone)]
enum Source {
    Zero,
    Seed(u64),
    Bytes { bytes: Vec<u8>, position: usize },
}

/// The state of a rare site.
#[derive(Clone)]
struct Gap {
    rarity: Rarity,
    /// Ordinal of the next event by nature, that is, without the script; `u64::MAX` for never.
    natural: u64,
    /// Whether the first gap was drawn.
    started: bool,
}

/// Everything that belongs to one label.
#[derive(Clone)]
struct Stream {
    label: Arc<str>,
    key: u64,
    rng: Option<ChaCha8Rng>,
    ordinal: u64,
    /// For a rare site: the ordinal of the next call that needs a closer look.
    due: u64,
    gap: Option<Gap>,
    /// Scripted (ordinal, value), ascending; those before `cursor` have been passed.
    script: Vec<(u64, u64)>,
    cursor: usize,
}

/// One recorded decision, before it is given its name.
#[derive(Clone, Copy)]
struct Recorded {
    site: u32,
    ordinal: u64,
    n: u64,
    value: u64,
}

/// All the decisions of one run.
#[derive(Clone)]
pub struct Decisions {
    source: Source,
    streams: Vec<Stream>,
    sites: BTreeMap<Arc<str>, u32>,
    script: BTreeMap<(String, u64), u64>,
    recording: Recording,
    recorded: Vec<Recorded>,
}

impl Decisions {
    /// Decisions drawn from the streams of a seed.
    pub fn from_seed(seed: u64) -> Decisions {
        Decisions::new(Source::Seed(seed), BTreeMap::new())
    }

    /// Decisions consumed from bytes in the order in which they are made; zeros when the bytes are used up. For a fuzzer,
    /// whose mutations then are mutations of choices. A zero byte is the simplest answer.
    pub fn from_bytes(bytes: &[u8]) -> Decisions {
        Decisions::new(Source::Bytes { bytes: bytes.to_vec(), position: 0 }, BTreeMap::new())
    }

    /// Decisions read from a script of (label, ordinal) to value, with `rest` behind it.
    pub fn scripted(script: BTreeMap<(String, u64), u64>, rest: Rest) -> Decisions {
        let source = match rest {
            Rest::Zero => Source::Zero,
            Rest::Seed(seed) => Source::Seed(seed),
        };
        Decisions::new(source, script)
    }

    fn new(source: Source, script: BTreeMap<(String, u64), u64>) -> Decisions {
        Decisions {
            source,
            streams: Vec::with_capacity(32),
            sites: BTreeMap::new(),
            script,
            recording: Recording::Off,
            recorded: Vec::new(),
        }
    }

    /// Begins or ends keeping decisions. What was kept so far stays.
    pub fn record(&mut self, recording: Recording) {
        self.recording = recording;
    }

    /// The decisions kept so far, in the order in which they were made.
    pub fn recorded(&self) -> Vec<Decision> {
        let name = |kept: &Recorded| Decision {
            label: self.streams[kept.site as usize].label.to_string(),
            ordinal: kept.ordinal,
            n: kept.n,
            value: kept.value,
        };
        self.recorded.iter().map(name).collect()
    }

    /// How many decisions were kept so far.
    pub fn recorded_count(&self) -> usize {
        self.recorded.len()
    }

    /// Interns a label. Asking again gives the same site.
    pub fn site(&mut self, label: &str) -> Site {
        if let Some(&index) = self.sites.get(label) {
            return Site(index);
        }
        let index = self.streams.len() as u32;
        let label: Arc<str> = Arc::from(label);
        let script = if self.script.is_empty() {
            Vec::new()
        } else {
            let range = (label.to_string(), 0)..=(label.to_string(), u64::MAX);
            self.script.range(range).map(|((_, ordinal), &value)| (*ordinal, value)).collect()
        };
        self.streams.push(Stream {
            key: label_hash(&label),
            label: label.clone(),
            rng: None,
            ordinal: 0,
            due: 0,
            gap: None,
            script,
            cursor: 0,
        });
        self.sites.insert(label, index);
        Site(index)
    }

    /// Interns a label as a rare site, for [`Decisions::rare`]. Asked again with another rarity, the new one counts from
    /// the next event on.
    pub fn rare_site(&mut self, label: &str, rarity: Rarity) -> Site {
        if let Rarity::Every(low, high) = rarity {
            assert!(1 <= low && low <= high, "a gap of {low} to {high} calls between events of `{label}`");
        }
        let site = self.site(label);
        match &mut self.streams[site.0 as usize].gap {
            Some(gap) => gap.rarity = rarity,
            empty => *empty = Some(Gap { rarity, natural: u64::MAX, started: false }),
        }
        site
    }

    /// The label of a site.
    pub fn label(&self, site: Site) -> &str {
        &self.streams[site.0 as usize].label
    }

    /// How many decisions this site has made.
    pub fn ordinal(&self, site: Site) -> u64 {
        self.streams[site.0 as usize].ordinal
    }

    /// Chooses one of `n` answers, each equally likely under a seed.
    #[inline]
    pub fn decide(&mut self, site: Site, n: u64) -> u64 {
        assert!(n > 0, "a decision needs at least one answer");
        let stream = &mut self.streams[site.0 as usize];
        let value = match &mut self.source {
            Source::Seed(seed) => scale(stream.word(*seed), n),
            Source::Zero => 0,
            Source::Bytes { bytes, position } => take_choice(bytes, position, n),
        };
        self.settle(site, n, value)
    }

    /// Says yes with this probability; no is the simplest answer. For what is asked often and happens seldom,
    /// [`Decisions::rare`] is cheaper.
    #[inline]
    pub fn chance(&mut self, site: Site, probability: f64) -> bool {
        let stream = &mut self.streams[site.0 as usize];
        let threshold = fixed_point(probability);
        let yes = match &mut self.source {
            Source::Seed(seed) => u128::from(stream.word(*seed)) < threshold,
            Source::Zero => false,
            Source::Bytes { bytes, position } => {
                let byte = u128::from(take_byte(bytes, position));
                threshold > 0 && ((255 - byte) << 56) < threshold
            }
        };
        self.settle(site, 2, u64::from(yes)) == 1
    }

    /// The answer that a script gives, and 0 without one, whatever the seed or the bytes. For what only those ask who change a
    /// run on purpose: it draws nothing, so that the runs of seeds and bytes stay as they are.
    pub fn told(&mut self, site: Site, n: u64) -> u64 {
        assert!(n > 0, "a decision needs at least one answer");
        let stream = &mut self.streams[site.0 as usize];
        let ordinal = stream.ordinal;
        stream.ordinal += 1;
        let value = stream.scripted(ordinal).map_or(0, |value| value.min(n - 1));
        if value != 0 && self.recording != Recording::Off {
            self.recorded.push(Recorded { site: site.0, ordinal, n, value });
        }
        value
    }

    /// How many decisions each site has made, so that a part of a run can be told from what came before it. In the order of
    /// [`Decisions::labels`]; sites that are interned later come later.
    pub fn ordinals(&self) -> Vec<u64> {
        self.streams.iter().map(|stream| stream.ordinal).collect()
    }

    /// The labels of all sites.
    pub fn labels(&self) -> Vec<Arc<str>> {
        self.streams.iter().map(|stream| stream.label.clone()).collect()
    }

    /// Whether decisions are kept.
    pub fn is_recording(&self) -> bool {
        self.recording != Recording::Off
    }

    /// One of `low..=high`, where `low` is the simplest.
    pub fn range(&mut self, site: Site, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an empty range {low}..={high}");
        low + self.decide(site, (high - low).saturating_add(1))
    }

    /// One of these things, where the first is the simplest.
    pub fn pick<'a, T>(&mut self, site: Site, things: &'a [T]) -> &'a T {
        &things[self.decide(site, things.len() as u64) as usize]
    }

    /// Whether the rare event of this site happens at this call. The site comes from [`Decisions::rare_site`].
    #[inline]
    pub fn rare(&mut self, site: Site) -> bool {
        let stream = &mut self.streams[site.0 as usize];
        let ordinal = stream.ordinal;
        if ordinal < stream.due {
            stream.ordinal += 1;
            return false;
        }
        self.rare_due(site)
    }

    /// How many calls of [`Decisions::rare`] from now on surely say no. A hot path may leave them out and tell how many by
    /// [`Decisions::skip`].
    pub fn quiet_calls(&self, site: Site) -> u64 {
        let stream = &self.streams[site.0 as usize];
        stream.due.saturating_sub(stream.ordinal)
    }

    /// Counts calls of [`Decisions::rare`] that were left out, at most [`Decisions::quiet_calls`].
    pub fn skip(&mut self, site: Site, calls: u64) {
        assert!(calls <= self.quiet_calls(site), "only calls that surely say no are left out");
        self.streams[site.0 as usize].ordinal += calls;
    }

    #[cold]
    fn rare_due(&mut self, site: Site) -> bool {
        let stream = &mut self.streams[site.0 as usize];
        let ordinal = stream.ordinal;
        stream.ordinal += 1;
        let mut gap = stream.gap.take().expect("rare() is asked at a site that rare_site() made");
        if !gap.started {
            gap.started = true;
            gap.natural = ordinal.saturating_add(stream.gap_to_next(&mut self.source, gap.rarity) - 1);
        }
        let mut value = 0;
        if gap.natural == ordinal {
            value = 1;
            gap.natural = ordinal.saturating_add(stream.gap_to_next(&mut self.source, gap.rarity));
        }
        if let Some(scripted) = stream.scripted(ordinal) {
            value = scripted.min(1);
        }
        let script_next = stream.script.get(stream.cursor).map_or(u64::MAX, |&(ordinal, _)| ordinal);
        stream.due = gap.natural.min(script_next);
        stream.gap = Some(gap);
        if value == 1 && self.recording != Recording::Off {
            self.recorded.push(Recorded { site: site.0, ordinal, n: 2, value });
        }
        value == 1
    }

    /// Counts, overrides by the script, records.
    #[inline]
    fn settle(&mut self, site: Site, n: u64, drawn: u64) -> u64 {
        let stream = &mut self.streams[site.0 as usize];
        let ordinal = stream.ordinal;
        stream.ordinal += 1;
        let mut value = drawn;
        if stream.cursor < stream.script.len()
            && let Some(scripted) = stream.scripted(ordinal)
        {
            value = scripted.min(n - 1);
        }
        let keep = match self.recording {
            Recording::Off => false,
            Recording::NonZero => value != 0,
            Recording::All => true,
        };
        if keep {
            self.recorded.push(Recorded { site: site.0, ordinal, n, value });
        }
        value
    }
}

impl Stream {
    #[inline]
    fn word(&mut self, seed: u64) -> u64 {
        match &mut self.rng {
            Some(rng) => rng.next_u64(),
            None => self.first_word(seed),
        }
    }

    #[cold]
    fn first_word(&mut self, seed: u64) -> u64 {
        let mut key = [0u8; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&self.key.to_le_bytes());
        key[16..].copy_from_slice(b"shaketable rng 1");
        self.rng.insert(ChaCha8Rng::from_seed(key)).next_u64()
    }

    /// The scripted value for this ordinal; moves the cursor past it.
    fn scripted(&mut self, ordinal: u64) -> Option<u64> {
        while let Some(&(at, value)) = self.script.get(self.cursor) {
            if at > ordinal {
                return None;
            }
            self.cursor += 1;
            if at == ordinal {
                return Some(value);
            }
        }
        None
    }

    /// Calls until the next event, at least 1; `u64::MAX` for never.
    fn gap_to_next(&mut self, source: &mut Source, rarity: Rarity) -> u64 {
        match source {
            Source::Zero => u64::MAX,
            Source::Seed(seed) => match rarity {
                Rarity::Never => u64::MAX,
                Rarity::Chance(probability) => geometric(probability, self.word(*seed)),
                Rarity::Every(low, high) => low + scale(self.word(*seed), high - low + 1),
            },
            Source::Bytes { bytes, position } => {
                let raw = u64::from(take_byte(bytes, position)) << 8 | u64::from(take_byte(bytes, position));
                match rarity {
                    _ if raw == 0 => u64::MAX,
                    Rarity::Never => u64::MAX,
                    Rarity::Chance(probability) => match fixed_point(probability) {
                        0 => u64::MAX,
                        threshold => 1 + raw % ((1u128 << 65) / threshold).clamp(1, 1 << 40) as u64,
                    },
                    Rarity::Every(low, high) => low + (raw - 1) % (high - low + 1),
                }
            }
        }
    }
}

/// Maps a word to `0..n` without a division.
#[inline]
fn scale(word: u64, n: u64) -> u64 {
    ((u128::from(word) * u128::from(n)) >> 64) as u64
}

/// A probability as a fraction of 2^64, cut to 0..=1.
#[inline]
fn fixed_point(probability: f64) -> u128 {
    if probability >= 1.0 {
        return 1 << 64;
    }
    // Scaling by a power of two is exact, and the cast saturates at 0 for negative numbers and NaN.
    (probability * 18_446_744_073_709_551_616.0) as u128
}

/// How many trials of this probability it takes until the first success, by inverting the distribution at `word`: the
/// smallest k with (1 - p)^k at most the word's fraction of 1. The power is built from exact squarings.
fn geometric(probability: f64, word: u64) -> u64 {
    let success = fixed_point(probability);
    if success == 0 {
        return u64::MAX;
    }
    if success >= 1 << 64 {
        return 1;
    }
    let word = u128::from(word);
    let mut powers = [0u128; 40];
    powers[0] = (1u128 << 64) - success;
    let mut last = 0;
    // A power that is not above the word brings no product above it.
    while powers[last] > word && last + 1 < powers.len() {
        powers[last + 1] = (powers[last] * powers[last]) >> 64;
        last += 1;
    }
    let mut failures = 0u64;
    let mut survived = 1u128 << 64;
    for index in (0..=last).rev() {
        let further = ((survived >> 1) * (powers[index] >> 1)) >> 62;
        if further > word {
            survived = further;
            failures += 1 << index;
        }
    }
    failures + 1
}

/// FNV-1a with a finish that spreads short labels over all bits. Part of what a seed means: it must never change.
fn label_hash(label: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in label.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

fn take_byte(bytes: &[u8], position: &mut usize) -> u8 {
    let byte = bytes.get(*position).copied().unwrap_or(0);
    *position += 1;
    byte
}

/// A choice among `n` from as many bytes as `n` needs.
fn take_choice(bytes: &[u8], position: &mut usize, n: u64) -> u64 {
    let width = match n {
        1 => 0,
        2..=0x100 => 1,
        0x101..=0x1_0000 => 2,
        0x1_0001..=0x1_0000_0000 => 4,
        _ => 8,
    };
    let mut raw = 0u64;
    for _ in 0..width {
        raw = raw << 8 | u64::from(take_byte(bytes, position));
    }
    raw % n
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(decisions: &mut Decisions, label: &str, count: usize) -> Vec<u64> {
        let site = decisions.site(label);
        (0..count).map(|_| decisions.decide(site, 1000)).collect()
    }

    #[test]
    fn a_seed_means_the_same_on_every_platform_and_for_ever() {
        let mut decisions = Decisions::from_seed(1);
        let meta = draws(&mut decisions, "crash.meta", 5);
        let data = draws(&mut decisions, "crash.data", 5);
        let rare = decisions.rare_site("switch", Rarity::Chance(0.01));
        let events: Vec<u64> = (0..500).filter(|_| decisions.rare(rare)).collect();
        assert_eq!(meta, [501, 777, 40, 677, 627]);
        assert_eq!(data, [544, 783, 824, 282, 942]);
        assert_eq!(events, [143, 217, 225, 291, 341]);
    }

    #[test]
    fn a_new_consumer_shifts_nobody_else() {
        let mut alone = Decisions::from_seed(7);
        let expected = draws(&mut alone, "a", 20);
        let mut crowded = Decisions::from_seed(7);
        let first = crowded.site("a");
        let other = crowded.site("b");
        let mut seen = Vec::new();
        for _ in 0..20 {
            crowded.decide(other, 3);
            seen.push(crowded.decide(first, 1000));
        }
        assert_eq!(seen, expected);
    }

    #[test]
    fn what_was_recorded_repeats_the_run_over_zeros() {
        let run = |decisions: &mut Decisions| -> Vec<u64> {
            let coin = decisions.site("coin");
            let die = decisions.site("die");
            let rare = decisions.rare_site("rare", Rarity::Every(3, 9));
            let mut seen = Vec::new();
            for _ in 0..200 {
                seen.push(u64::from(decisions.chance(coin, 0.2)));
                seen.push(decisions.decide(die, 6));
                seen.push(u64::from(decisions.rare(rare)));
            }
            seen
        };
        let mut first = Decisions::from_seed(99);
        first.record(Recording::NonZero);
        let seen = run(&mut first);
        let recorded = first.recorded();
        assert!(recorded.iter().all(|decision| decision.value != 0 && decision.value < decision.n));
        let script = recorded.into_iter().map(|kept| ((kept.label, kept.ordinal), kept.value)).collect();
        assert_eq!(run(&mut Decisions::scripted(script, Rest::Zero)), seen);
    }

    #[test]
    fn one_overridden_decision_leaves_the_others_as_they_were() {
        let expected = draws(&mut Decisions::from_seed(5), "x", 10);
        let script = BTreeMap::from([(("x".to_string(), 4), 1)]);
        let seen = draws(&mut Decisions::scripted(script, Rest::Seed(5)), "x", 10);
        for (index, (seen, expected)) in seen.iter().zip(&expected).enumerate() {
            assert_eq!(*seen, if index == 4 { 1 } else { *expected });
        }
    }

    #[test]
    fn one_rare_event_is_taken_out_or_put_in_without_moving_the_others() {
        let events = |mut decisions: Decisions| -> Vec<u64> {
            let site = decisions.rare_site("event", Rarity::Chance(0.05));
            (0..500).filter(|_| decisions.rare(site)).collect()
        };
        let natural = events(Decisions::from_seed(3));
        assert!(natural.len() > 5, "{natural:?}");
        let quiet = (0..500).find(|ordinal| !natural.contains(ordinal)).expect("a quiet call");
        let script = BTreeMap::from([(("event".to_string(), natural[1]), 0), (("event".to_string(), quiet), 1)]);
        let mut expected = natural.clone();
        expected.remove(1);
        expected.push(quiet);
        expected.sort_unstable();
        assert_eq!(events(Decisions::scripted(script, Rest::Seed(3))), expected);
    }

    #[test]
    fn rare_events_come_as_often_as_they_were_asked_to() {
        for probability in [0.5, 0.1, 0.01, 0.001] {
            let mut decisions = Decisions::from_seed(11);
            let site = decisions.rare_site("event", Rarity::Chance(probability));
            let calls = 400_000;
            let events = (0..calls).filter(|_| decisions.rare(site)).count() as f64;
            let expected = f64::from(calls) * probability;
            assert!((events - expected).abs() < expected.sqrt() * 4.0, "{events} events, expected {expected}");
        }
        let mut decisions = Decisions::from_seed(11);
        let site = decisions.rare_site("every", Rarity::Every(50, 400));
        let events: Vec<u64> = (0..100_000).filter(|_| decisions.rare(site)).collect();
        assert!(events.windows(2).all(|pair| (50..=400).contains(&(pair[1] - pair[0]))));
        assert!((50..=400).contains(&(events[0] + 1)));
        let never = decisions.rare_site("never", Rarity::Chance(0.0));
        assert!((0..1000).all(|_| !decisions.rare(never)));
        let always = decisions.rare_site("always", Rarity::Chance(1.0));
        assert!((0..1000).all(|_| decisions.rare(always)));
    }

    #[test]
    fn bytes_are_choices_and_no_bytes_are_the_simplest_run() {
        let mut decisions = Decisions::from_bytes(&[]);
        let site = decisions.site("a");
        let rare = decisions.rare_site("b", Rarity::Chance(0.9));
        for n in 1..100 {
            assert_eq!(decisions.decide(site, n), 0);
            assert!(!decisions.chance(site, 0.9));
            assert!(!decisions.rare(rare));
        }
        let mut decisions = Decisions::from_bytes(&[7, 255, 0, 3]);
        let site = decisions.site("a");
        let rare = decisions.rare_site("b", Rarity::Every(1, 10));
        assert_eq!(decisions.decide(site, 10), 7);
        assert!(decisions.chance(site, 0.01));
        let events: Vec<u64> = (0..50).filter(|_| decisions.rare(rare)).collect();
        assert_eq!(events, [2]);
    }

    #[test]
    fn a_scripted_value_that_no_longer_fits_is_cut() {
        let script = BTreeMap::from([(("x".to_string(), 0), 9)]);
        let mut decisions = Decisions::scripted(script, Rest::Zero);
        let site = decisions.site("x");
        assert_eq!(decisions.decide(site, 4), 3);
    }
}
