//! The line of source that a failure points to: where it panicked, or who wrote what the crash took.
//!
//! It is where a reader starts to look, and no verdict: the missing sync is near the write that was lost, not at it.

use crate::runner::RunFailure;
use std::fmt;

/// A line of a file of the repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The path from the root of the repository.
    pub file: String,
    /// The line, counted from 1.
    pub line: u32,
}

impl Place {
    /// Reads `file:line`, with or without a column. Paths that lead out of the repository name no line of it.
    pub fn parse(text: &str) -> Option<Place> {
        let mut parts = text.split(':');
        let (file, line) = (parts.next()?, parts.next()?.parse().ok()?);
        let ours = file.ends_with(".rs") && !file.starts_with('/') && !file.starts_with("..");
        ours.then(|| Place { file: file.into(), line })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// The line that this failure points to, if it points to one: of the panic, else of the first sync that was broken, else of
/// the first call whose effect the crash took, else of the first whose effect it kept.
pub fn place_of(failure: &RunFailure) -> Option<Place> {
    let panicked = failure.finding.details.iter().find_map(|detail| Place::parse(detail.strip_prefix("at ")?));
    panicked.or_else(|| {
        let report = &failure.crash.as_ref()?.report;
        let mut fates = report.broken_syncs.iter().chain(&report.lost).chain(&report.kept);
        fates.find_map(|fate| {
            let at = fate.origin?.at?;
            Place::parse(&format!("{}:{}", at.file(), at.line()))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Finding;

    fn failure(details: &[&str]) -> RunFailure {
        let mut finding = Finding::new("panic", "", "it panicked");
        finding.details = details.iter().map(|detail| detail.to_string()).collect();
        RunFailure { finding, ops: 3, crash: None }
    }

    #[test]
    fn a_panic_points_to_its_line() {
        let place = place_of(&failure(&["at engine/src/db/write.rs:88:9", "assertion failed"]));
        assert_eq!(place.map(|place| place.to_string()).as_deref(), Some("engine/src/db/write.rs:88"));
    }

    #[test]
    fn a_line_outside_the_repository_is_no_place() {
        for detail in
            ["at /rustc/9fc6b43/library/core/src/option.rs:5:3", "at ../other/src/lib.rs:1:1", "at operation 7"]
        {
            assert_eq!(place_of(&failure(&[detail])), None, "{detail}");
        }
    }
}
