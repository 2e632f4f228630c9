//! How the store is, as a machine: parts report what their last try came to, the state follows from these reports and from
//! nothing else, and each change of it is told.
//!
//! ```text
//!            flush or compaction fails, reserve given up          the log fails
//!      Ok  ------------------------------------------> Degraded ----------------> ReadOnly
//!       ^                                                 |          damage          |
//!       |   the last part in trouble has succeeded        +------------> Failed <----+
//!       +-------------------------------------------------+----------------+---------+
//! ```
//!
//! H1. The state is a pure function of the reports: the worst that any part says.
//! H2. A change is told once, by the one whose report made it, before the next report is taken: so `from` of each is `to` of
//!     the one before, and the first is from `Ok`.
//! H3. Whoever reports trouble sees to it that the work is tried again, and reports what comes of that. So there is always a
//!     way back that nobody has to ask for; but for a table in quarantine, of which somebody has to bring the file back.
//!
//! What it does not do: decide when work is tried again, which is for those who do it, or refuse writes.

use crate::error::Error;
use crate::event::{Event, Events, Health, Trouble};
use crate::mark::sometimes;
use crate::sync::Mutex;

/// A part of the store that can be in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The log that is being written.
    Log,
    /// Flushes, and the beginning of a new log.
    Flush,
    /// Compactions.
    Compaction,
    /// The reserve of space.
    Space,
    /// Tables in quarantine.
    Quarantine,
    /// The archive of logs.
    Archive,
}

/// What each part said last: its error, or nothing where all is well.
#[derive(Clone, Debug, Default)]
struct Reports {
    log: Option<Error>,
    flush: Option<Error>,
    compaction: Option<Error>,
    space: Option<Error>,
    quarantine: Option<Error>,
    archive: Option<Error>,
}

impl Reports {
    fn of(&mut self, part: Part) -> &mut Option<Error> {
        match part {
            Part::Log => &mut self.log,
            Part::Flush => &mut self.flush,
            Part::Compaction => &mut self.compaction,
            Part::Space => &mut self.space,
            Part::Quarantine => &mut self.quarantine,
            Part::Archive => &mut self.archive,
        }
    }

    /// The state, and the error behind it (H1).
    fn assess(&self) -> (Health, Option<&Error>) {
        let mut worst = (Health::Ok, None);
        let parts = [
            (Part::Log, &self.log),
            (Part::Flush, &self.flush),
            (Part::Compaction, &self.compaction),
            (Part::Space, &self.space),
            (Part::Quarantine, &self.quarantine),
            (Part::Archive, &self.archive),
        ];
        for (part, report) in parts {
            let Some(error) = report else { continue };
            let health = match (part, trouble_of(error)) {
                // The store goes on around it.
                (Part::Quarantine, trouble) => Health::Degraded(trouble),
                (_, Trouble::Damage) => Health::Failed(Trouble::Damage),
                (Part::Log, trouble) => Health::ReadOnly(trouble),
                (_, trouble) => Health::Degraded(trouble),
            };
            if health > worst.0 {
                worst = (health, Some(error));
            }
        }
        worst
    }
}

fn trouble_of(error: &Error) -> Trouble {
    match error {
        Error::Corruption(_) => Trouble::Damage,
        error if error.is_out_of_space() => Trouble::NoSpace,
        _ => Trouble::Io,
    }
}

/// The machine of one open store. Its lock is held around nothing but the telling.
pub(crate) struct Vitals {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    reports: Reports,
    health: Health,
    changes: u64,
}

impl Vitals {
    /// Of a store that is well.
    pub(crate) fn new() -> Vitals {
        Vitals { inner: Mutex::new("the health of the store", Inner::default()) }
    }

    /// Takes the report of a part.
    pub(crate) fn report(&self, events: &Events, part: Part, outcome: Option<&Error>) {
        self.report_what(events, part, || outcome.cloned());
    }

    /// The same for a part that looks how it is: not before its turn has come, so that of two that report at once the later
    /// one has seen the later state. `look` takes no lock, for it runs under this one.
    pub(crate) fn report_what(&self, events: &Events, part: Part, look: impl FnOnce() -> Option<Error>) {
        let mut inner = self.inner.lock();
        *inner.reports.of(part) = look();
        let (health, cause) = inner.reports.assess();
        let (from, cause) = (inner.health, cause.map(Error::to_string));
        if health == from {
            return;
        }
        sometimes!("a store in trouble is well again", if health == Health::Ok);
        sometimes!("a store goes from one trouble to another", if health != Health::Ok && from != Health::Ok);
        inner.health = health;
        inner.changes += 1;
        events.tell(|| Event::HealthChanged { from, to: health, cause });
    }

    /// How the store is, the error behind that, and how often it has changed.
    pub(crate) fn look(&self) -> (Health, Option<Error>, u64) {
        let inner = self.inner.lock();
        (inner.health, inner.reports.assess().1.cloned(), inner.changes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use std::path::Path;
    use std::sync::Arc;

    fn io_error(kind: io::ErrorKind) -> Error {
        Error::io("write", Path::new("f"), None, io::Error::from(kind))
    }

    /// Runs reports such as `log io, flush ok` through the machine, and returns what was told.
    fn told(reports: &str) -> String {
        let told = Arc::new(Mutex::new("what was told", Vec::new()));
        let heard = told.clone();
        let events = Events::to(Arc::new(move |event: &Event| {
            if let Event::HealthChanged { from, to, cause } = event {
                assert_eq!(cause.is_none(), *to == Health::Ok, "a trouble has a cause");
                heard.lock().push(format!("{from} -> {to}"));
            }
        }));
        let vitals = Vitals::new();
        for report in reports.split(", ") {
            let (part, outcome) = report.split_once(' ').expect("a part and its outcome");
            let part = match part {
                "log" => Part::Log,
                "flush" => Part::Flush,
                "compaction" => Part::Compaction,
                _ => Part::Space,
            };
            let error = match outcome {
                "full" => Some(io_error(io::ErrorKind::StorageFull)),
                "io" => Some(io_error(io::ErrorKind::Other)),
                "damage" => Some(Error::corruption(Path::new("f"), 0, "more")),
                _ => None,
            };
            vitals.report(&events, part, error.as_ref());
        }
        let told = told.lock().join("; ");
        assert_eq!(vitals.look().2, if told.is_empty() { 0 } else { told.split("; ").count() as u64 });
        told
    }

    #[test]
    fn the_worst_report_counts_and_each_change_is_told_once() {
        let cases = [
            ("flush ok, compaction ok", ""),
            ("flush full, flush full, flush ok", "ok -> degraded (no space); degraded (no space) -> ok"),
            (
                "flush full, log full, flush ok, log ok",
                "ok -> degraded (no space); degraded (no space) -> read-only (no space); read-only (no space) -> ok",
            ),
            (
                "compaction io, log io, log ok, compaction ok",
                "ok -> degraded (input and output fail); degraded (input and output fail) -> read-only (input and output \
                 fail); read-only (input and output fail) -> degraded (input and output fail); degraded (input and output \
                 fail) -> ok",
            ),
            (
                "compaction damage, log io, compaction ok, log ok",
                "ok -> failed (damaged bytes); failed (damaged bytes) -> read-only (input and output fail); read-only (input and output fail) -> ok",
            ),
            ("space full, flush full, flush ok, space ok", "ok -> degraded (no space); degraded (no space) -> ok"),
            (
                "compaction io, compaction full",
                "ok -> degraded (input and output fail); degraded (input and output fail) -> degraded (no space)",
            ),
        ];
        for (reports, expected) in cases {
            assert_eq!(told(reports), expected, "{reports}");
        }
    }

    #[test]
    fn of_two_that_look_at_once_the_later_one_has_seen_the_later_state() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let damaged = AtomicBool::new(true);
        let (events, vitals) = (Events::default(), Vitals::new());
        let look = || damaged.load(Ordering::Acquire).then(|| Error::corruption(Path::new("f"), 0, "more"));
        std::thread::scope(|scope| {
            vitals.report_what(&events, Part::Quarantine, || {
                let found = look();
                damaged.store(false, Ordering::Release);
                // Whoever comes now looks behind this report, and is not overtaken by it.
                scope.spawn(|| vitals.report_what(&events, Part::Quarantine, look));
                found
            });
        });
        assert_eq!(vitals.look().0, Health::Ok);
    }
}
