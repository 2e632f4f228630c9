//! Policies: how tasks take turns, as data, with a line of text for artifacts.
//!
//! A policy says at which switch points the running task is preempted and who comes next. Each of them finds what the
//! others seldom do, so a campaign draws one for each seed. What they decide goes by name like everything else, 0 being to
//! go on with the same task; [`super`] asks.

use crate::rng::Rarity;
use std::fmt;
use std::str::FromStr;

/// How tasks take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A preemption every so many switch points on average; the next task is any of the ready ones.
    Random {
        /// Mean number of switch points from one preemption to the next, at least 1.
        gap: u32,
    },
    /// A preemption every so many switch points exactly; tasks take turns in order.
    RoundRobin {
        /// Number of switch points from one preemption to the next, at least 1.
        gap: u32,
    },
    /// Each task has a priority, drawn when it starts, and the ready task of the highest one runs. Every so many switch
    /// points on average, the running task becomes the least of all.
    Priorities {
        /// Mean number of switch points from one change of priorities to the next, at least 1.
        gap: u32,
    },
    /// Priorities with exactly `depth - 1` changes, at switch points drawn from the first `length` of an incarnation: what
    /// needs `depth` events in one order is found with a probability of at least `1 / (tasks * length^(depth - 1))`
    /// (Burckhardt and others, "A Randomized Scheduler with Probabilistic Guarantees of Finding Bugs", 2010).
    Pct {
        /// Events whose order matters, at least 1.
        depth: u32,
        /// Switch points that an incarnation is thought to have, at least 1.
        length: u32,
    },
    /// Tasks run until they wait, in order, but for `bound` delays at switch points drawn from the first `length` of an
    /// incarnation, at which the running task goes behind all others (Emmi and others, "Delay-Bounded Scheduling", 2011).
    Delays {
        /// Delays, at least 1.
        bound: u32,
        /// Switch points that an incarnation is thought to have, at least 1.
        length: u32,
    },
    /// Preemptions at the yield points that the code names and nowhere else, every so many of them on average: these lie
    /// where something is about to become visible.
    Named {
        /// Mean number of named points from one preemption to the next, at least 1.
        gap: u32,
    },
    /// Every choice is a decision of its own, made only where there is one to make: for going through all schedules, see
    /// [`crate::explore::schedules`].
    Systematic {
        /// Whether only the yield points that the code names are switch points.
        named: bool,
    },
}

impl Default for Policy {
    fn default() -> Policy {
        Policy::Random { gap: 20 }
    }
}

impl Policy {
    /// How often a preemption is drawn at a switch point.
    pub(super) fn rarity(self) -> Rarity {
        match self {
            Policy::Random { gap } | Policy::Priorities { gap } | Policy::Named { gap } => {
                Rarity::Chance(1.0 / f64::from(gap.max(1)))
            }
            Policy::RoundRobin { gap } => Rarity::Every(gap.max(1).into(), gap.max(1).into()),
            Policy::Pct { .. } | Policy::Delays { .. } | Policy::Systematic { .. } => Rarity::Never,
        }
    }

    /// Whether the ready task of the highest priority runs.
    pub(super) fn by_priority(self) -> bool {
        matches!(self, Policy::Priorities { .. } | Policy::Pct { .. })
    }

    /// Whether only named points are switch points.
    pub(super) fn named_only(self) -> bool {
        matches!(self, Policy::Named { .. } | Policy::Systematic { named: true })
    }

    /// How many changes an incarnation gets, and among how many of its first switch points.
    pub(super) fn changes(self) -> (u32, u32) {
        match self {
            Policy::Pct { depth, length } => (depth.saturating_sub(1), length),
            Policy::Delays { bound, length } => (bound, length),
            _ => (0, 1),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Policy::Random { gap } => write!(f, "random {gap}"),
            Policy::RoundRobin { gap } => write!(f, "round-robin {gap}"),
            Policy::Priorities { gap } => write!(f, "priorities {gap}"),
            Policy::Pct { depth, length } => write!(f, "pct {depth} {length}"),
            Policy::Delays { bound, length } => write!(f, "delays {bound} {length}"),
            Policy::Named { gap } => write!(f, "named {gap}"),
            Policy::Systematic { named: false } => f.write_str("systematic"),
            Policy::Systematic { named: true } => f.write_str("systematic-named"),
        }
    }
}

impl FromStr for Policy {
    type Err = String;

    fn from_str(text: &str) -> Result<Policy, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let numbers: Option<Vec<u32>> = words.iter().skip(1).map(|word| word.parse().ok()).collect();
        let name = words.first().copied().unwrap_or_default();
        Ok(match (name, numbers.as_deref()) {
            ("random", Some(&[gap])) => Policy::Random { gap },
            ("round-robin", Some(&[gap])) => Policy::RoundRobin { gap },
            ("priorities", Some(&[gap])) => Policy::Priorities { gap },
            ("pct", Some(&[depth, length])) => Policy::Pct { depth, length },
            ("delays", Some(&[bound, length])) => Policy::Delays { bound, length },
            ("named", Some(&[gap])) => Policy::Named { gap },
            ("systematic", Some([])) => Policy::Systematic { named: false },
            ("systematic-named", Some([])) => Policy::Systematic { named: true },
            _ => {
                return Err(format!(
                    "schedule {text:?}: `random`, `round-robin`, `priorities` or `named` and a gap, `pct` with depth and \
                     length, `delays` with bound and length, `systematic` or `systematic-named` expected"
                ));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_a_line_that_reads_back() {
        for text in [
            "random 20",
            "round-robin 3",
            "priorities 5",
            "pct 3 400",
            "delays 2 100",
            "named 1",
            "systematic",
            "systematic-named",
        ] {
            assert_eq!(text.parse::<Policy>().expect(text).to_string(), text);
        }
        for text in ["", "random", "pct 3", "systematic 1", "lottery 2"] {
            assert!(text.parse::<Policy>().is_err(), "{text}");
        }
    }
}
