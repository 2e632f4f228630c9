//! What runs have reached: the coverage marks of the store, summed over a campaign.
//!
//! A campaign that found nothing is worth as much as it has reached, so what it never reached is told beside its failures.
//! Which marks there are is the store's business ([`crate::store::StoreKind::marks`]); here they are names with counts.
//!
//! Invariant: a mark that was never reached is there all the same, with 0 hits.
//!
//! What it does not do: steer anything. It counts and tells.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What one run or many have reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// For every coverage mark of the store, how often it was reached.
    pub marks: BTreeMap<&'static str, u64>,
}

impl Coverage {
    /// Of marks by name and how often each was reached, as a store tells them.
    pub fn of_marks(names: &'static [&'static str], hits: &[u32]) -> Coverage {
        assert_eq!(names.len(), hits.len(), "each mark has its count");
        Coverage { marks: names.iter().copied().zip(hits.iter().map(|&hits| u64::from(hits))).collect() }
    }

    /// Adds what others have reached.
    pub fn merge(&mut self, other: &Coverage) {
        for (name, hits) in &other.marks {
            *self.marks.entry(name).or_default() += hits;
        }
    }

    /// The marks that were never reached.
    pub fn never_reached(&self) -> Vec<&'static str> {
        self.marks.iter().filter(|(_, hits)| **hits == 0).map(|(name, _)| *name).collect()
    }

    /// Every mark in a line with its hits, those that were never reached at the end.
    pub fn marks_lines(&self) -> String {
        let mut lines = String::new();
        let mut line = |text: String| writeln!(lines, "{text}").expect("writing to a string");
        for (name, hits) in self.marks.iter().filter(|(_, hits)| **hits > 0) {
            line(format!(" {hits:>14}  {name}"));
        }
        let never = self.never_reached();
        line(format!("{} of {} marks reached", self.marks.len() - never.len(), self.marks.len()));
        for name in never {
            line(format!(" {:>14}  {name}", "never"));
        }
        lines
    }

    /// How a summary ends: what was never reached, in a few words. Nothing where there is nothing of the kind.
    pub fn verdict(&self) -> Option<String> {
        let plural = |count: usize| if count == 1 { "" } else { "s" };
        match self.never_reached().len() {
            0 => None,
            count => Some(format!("{count} sometimes-point{} never reached: `shake run --marks`", plural(count))),
        }
    }

    /// For programs.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({ "marks": self.marks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_never_reached_is_told() {
        let names = &["a table moves", "a tombstone goes", "the disk is full"];
        let mut all = Coverage::of_marks(names, &[3, 0, 0]);
        all.merge(&Coverage::of_marks(names, &[1, 0, 2]));
        let lines = all.marks_lines();
        let lines: Vec<&str> = lines.lines().map(str::trim).collect();
        let reached = ["4  a table moves", "2  the disk is full", "2 of 3 marks reached", "never  a tombstone goes"];
        assert_eq!(lines, reached);
        assert_eq!(all.verdict().as_deref(), Some("1 sometimes-point never reached: `shake run --marks`"));
        all.merge(&Coverage::of_marks(names, &[0, 1, 0]));
        assert_eq!(all.verdict(), None);
    }
}
