//! Which seeds a campaign goes through: intervals that never meet, and shards that take turns within one.
//!
//! The seeds are dealt out so that nobody repeats by accident what somebody else has done:
//!
//! | seeds | whose |
//! |---|---|
//! | below 10^12 | people, tests, and `--seeds random` |
//! | 10^9 for each day, from 10^12 on | the campaign of that night |
//! | 10^6 for each commit, from 10^15 on | the check of that commit |
//!
//! S1. The intervals of two nights, and of a night and a commit, have no seed in common. Two commits share one only where
//! the first eight digits of their hashes are the same.
//!
//! S2. The shards 1/n to n/n of a campaign have no seed in common, and together have all of them: each takes every n-th.
//!
//! What this does not do: ask for the time or the commit. Whoever runs the campaign knows them.

use std::fmt;
use std::ops::Range;

/// Seeds of one night: more than a thousand machines go through.
const NIGHT: u64 = 1_000_000_000;

/// The first days of the calendar have their seeds in the interval of people, and no campaigns.
const NIGHTS_START: u64 = 1_000_000_000_000;

/// Seeds of one commit.
const COMMIT: u64 = 1_000_000;

/// Above the nights of the next two thousand years.
const COMMITS_START: u64 = 1_000_000_000_000_000;

/// The seeds that a campaign is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds {
    /// Which they are.
    pub range: Range<u64>,
    /// Whether every one of them is meant. Otherwise as many are as there is time for.
    pub all: bool,
}

impl Seeds {
    /// From this seed on, for as long as there is time.
    pub fn from(start: u64) -> Seeds {
        Seeds { range: start..u64::MAX, all: false }
    }

    /// Reads `N` (the first N), `A..B`, `A..`, or `nightly:2026-11-24` (the night that begins on that day).
    pub fn parse(text: &str) -> Result<Seeds, String> {
        if let Some(date) = text.strip_prefix("nightly:") {
            return of_night(date);
        }
        let wrong = || {
            format!(
                "a number, a range such as 100..200, random, or nightly:2026-11-24 for a day's own, expected, found {text:?}"
            )
        };
        let number = |digits: &str| digits.parse::<u64>().map_err(|_| wrong());
        let seeds = match text.split_once("..") {
            None => Seeds { range: 0..number(text)?, all: true },
            Some((start, "")) => Seeds::from(number(start)?),
            Some((start, end)) => Seeds { range: number(start)?..number(end)?, all: true },
        };
        if seeds.range.is_empty() { Err(format!("there is no seed in {text}")) } else { Ok(seeds) }
    }

    /// The seeds of a commit, by its hash: at least eight hexadecimal digits.
    pub fn of_commit(hash: &str) -> Result<Seeds, String> {
        let digits = hash.get(..8).ok_or_else(|| format!("{hash:?} is no hash of a commit: it is too short"))?;
        let number =
            u64::from_str_radix(digits, 16).map_err(|_| format!("{hash:?} is no hash of a commit: not hexadecimal"))?;
        let start = COMMITS_START + number * COMMIT;
        Ok(Seeds { range: start..start + COMMIT, all: false })
    }
}

fn of_night(date: &str) -> Result<Seeds, String> {
    let wrong = || format!("a day such as 2026-11-24 expected, found {date:?}");
    let mut parts = date.split('-').map(|part| part.parse::<u64>().map_err(|_| wrong()));
    let mut part = || parts.next().unwrap_or_else(|| Err(wrong()));
    let (year, month, day) = (part()?, part()?, part()?);
    if parts.next().is_some() || !(1970..3970).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day)
    {
        return Err(wrong());
    }
    let start = NIGHTS_START + days_since_1970(year, month, day) * NIGHT;
    Ok(Seeds { range: start..start + NIGHT, all: false })
}

/// Of the Gregorian calendar. A year is counted from March here, so that the leap day is the last one of its year.
fn days_since_1970(year: u64, month: u64, day: u64) -> u64 {
    let year = if month > 2 { year } else { year - 1 };
    let month = (month + 9) % 12;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    days - DAYS_TO_1970
}

/// From the first of March of the year 0 to the first of January 1970.
const DAYS_TO_1970: u64 = 719_468;

/// One of several campaigns that share the work of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shard {
    /// Which one, counted from 0.
    index: u64,
    /// How many there are.
    count: u64,
}

impl Shard {
    /// The only one.
    pub const WHOLE: Shard = Shard { index: 0, count: 1 };

    /// Reads `i/n`, counted from 1: `1/4` to `4/4`.
    pub fn parse(text: &str) -> Result<Shard, String> {
        let parse = || {
            let (index, count) = text.split_once('/')?;
            let (index, count) = (index.parse::<u64>().ok()?, count.parse::<u64>().ok()?);
            (1..=count).contains(&index).then(|| Shard { index: index - 1, count })
        };
        parse().ok_or_else(|| format!("a shard such as 1/4, the first of four, expected, found {text:?}"))
    }

    /// How many shards there are.
    pub fn count(self) -> u64 {
        self.count
    }

    /// All shards of the same campaign.
    pub fn siblings(self) -> impl Iterator<Item = Shard> {
        (0..self.count).map(move |index| Shard { index, count: self.count })
    }

    /// The seed that this shard takes as its `nth`, counted from 0; `None` where there is none left.
    pub fn seed(self, seeds: &Range<u64>, nth: u64) -> Option<u64> {
        let step = nth.checked_mul(self.count)?.checked_add(self.index)?;
        let seed = seeds.start.checked_add(step)?;
        (seed < seeds.end).then_some(seed)
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index + 1, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn shards_together_have_every_seed_once() {
        for count in 1..9 {
            for seeds in [0..1, 5..5 + count, 100..137, u64::MAX - 3..u64::MAX] {
                let mut dealt = Vec::new();
                for shard in Shard::parse(&format!("1/{count}")).expect("a shard").siblings() {
                    dealt.extend((0..).map_while(|nth| shard.seed(&seeds, nth)));
                }
                let distinct: BTreeSet<u64> = dealt.iter().copied().collect();
                assert_eq!(distinct.len(), dealt.len(), "no seed of {seeds:?} twice in {count} shards");
                assert_eq!(distinct, seeds.clone().collect(), "all seeds of {seeds:?} in {count} shards");
            }
        }
    }

    #[test]
    fn a_shard_is_one_of_a_number() {
        assert_eq!(Shard::parse("3/4").map(|shard| shard.to_string()), Ok("3/4".into()));
        for wrong in ["0/4", "5/4", "4", "a/b", "1/0", "-1/2", ""] {
            Shard::parse(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn nights_follow_each_other_and_never_meet() {
        let night =
            |date: &str| Seeds::parse(&format!("nightly:{date}")).unwrap_or_else(|wrong| panic!("{wrong}")).range;
        for (first, second) in [
            ("2026-11-24", "2026-11-25"),
            ("2026-12-31", "2027-01-01"),
            ("2028-02-28", "2028-02-29"),
            ("2028-02-29", "2028-03-01"),
            ("2027-02-28", "2027-03-01"),
            ("2100-02-28", "2100-03-01"),
        ] {
            assert_eq!(night(first).end, night(second).start, "{first} and {second}");
        }
        assert_eq!(night("1970-01-01").start, NIGHTS_START);
        assert_eq!(night("2026-11-24").start, NIGHTS_START + 20_781 * NIGHT);
        for wrong in ["2026-13-01", "2026-11", "2026-11-24-1", "1969-01-01", "today"] {
            Seeds::parse(&format!("nightly:{wrong}")).expect_err(wrong);
        }
    }

    #[test]
    fn nights_commits_and_people_have_seeds_of_their_own() {
        let last = Seeds::parse("nightly:3969-12-31").expect("a day").range;
        let first = Seeds::of_commit("00000000").expect("a hash").range;
        assert!(last.end <= first.start);
        let next = Seeds::of_commit("0000000100").expect("a hash").range;
        assert_eq!(first.end, next.start);
        assert!(Seeds::of_commit("ffffffff").is_ok());
        for wrong in ["", "abc", "not-a-hash", "äöüäöü"] {
            Seeds::of_commit(wrong).expect_err(wrong);
        }
    }

    #[test]
    fn a_range_is_meant_whole_and_a_start_is_not() {
        assert_eq!(Seeds::parse("3"), Ok(Seeds { range: 0..3, all: true }));
        assert_eq!(Seeds::parse("7..9"), Ok(Seeds { range: 7..9, all: true }));
        assert_eq!(Seeds::parse("7.."), Ok(Seeds::from(7)));
        for wrong in ["0", "9..7", "7..7", "x", "..", "1..x"] {
            Seeds::parse(wrong).expect_err(wrong);
        }
    }
}
