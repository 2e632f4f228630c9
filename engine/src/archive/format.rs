//! The names of the files in an archive.
//!
//! ```text
//! FIRST-LAST-NNNNNN-BYTES-HISTORY.wal     a log, as far as it counts: the first and the last sequence number for which it speaks,
//!                                         its number in the store, its length, and the uuid of the history in hexadecimal
//! *.tmp                                   one that is being written
//! ```
//!
//! The sequence numbers have at least 12 digits, so that names come in the order of what they hold. LAST is one less than FIRST
//! where the log has no write. The bytes are those of a log of the store; each record in it has its checksum.

use crate::filename::FileKind;
use crate::key::SEQNO_MAX;
use crate::record::Uuid;
use crate::wal::KeptWal;

/// Ends the name of what is being written.
pub(super) const TEMP: &str = ".tmp";

/// A log in an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArchivedWal {
    /// Of which history it is a part.
    pub history: Uuid,
    /// What it speaks for, and what of it counts, which is all of it.
    pub wal: KeptWal,
}

impl ArchivedWal {
    /// Its name.
    pub fn name(&self) -> String {
        let ArchivedWal { history, wal } = self;
        let log = FileKind::Wal(wal.number).name();
        let number = log.strip_suffix(".wal").expect("logs have names of this form");
        format!("{:012}-{:012}-{number}-{}-{history}.wal", wal.first_seqno, wal.last_seqno, wal.bytes)
    }

    /// What a name stands for; `None` for one that is not ours, or not spelt as we do.
    pub fn parse(name: &str) -> Option<ArchivedWal> {
        let mut parts = name.strip_suffix(".wal")?.split('-');
        let mut decimal = || parts.next()?.parse::<u64>().ok();
        let (first_seqno, last_seqno, number, bytes) = (decimal()?, decimal()?, decimal()?, decimal()?);
        let hex = parts.next()?;
        let mut history = Uuid([0; 16]);
        for (index, byte) in history.0.iter_mut().enumerate() {
            *byte = u8::from_str_radix(hex.get(2 * index..2 * index + 2)?, 16).ok()?;
        }
        let can_be = first_seqno >= 1 && first_seqno - 1 <= last_seqno && last_seqno <= SEQNO_MAX;
        let found = ArchivedWal { history, wal: KeptWal { number, bytes, first_seqno, last_seqno } };
        (can_be && found.name() == name).then_some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_others_are_left_alone() {
        let wal = KeptWal { number: 17, bytes: 4096, first_seqno: 120, last_seqno: 119 };
        let mut archived = ArchivedWal { history: Uuid([0xa7; 16]), wal };
        let name = archived.name();
        assert_eq!(name, "000000000120-000000000119-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal");
        assert_eq!(ArchivedWal::parse(&name), Some(archived));
        archived.wal = KeptWal { number: 1 << 40, bytes: 0, first_seqno: 1, last_seqno: SEQNO_MAX };
        assert_eq!(ArchivedWal::parse(&archived.name()), Some(archived));
        for foreign in [
            "",
            "000017.wal",
            "000000000120-000000000118-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal",
            "000000000000-000000000001-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal",
            "000000000120-000000000121-17-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal",
            "000000000120-000000000121-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a.wal",
            "000000000120-000000000121-000017-4096-A7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal",
            "000000000120-000000000121-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7.wal.tmp",
            "000000000120-000000000121-000017-4096-a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a7-0.wal",
            "000000000120-000000000121-000017-4096-\u{e4}7a7a7a7a7a7a7a7a7a7a7a7a7a7a7a.wal",
        ] {
            assert_eq!(ArchivedWal::parse(foreign), None, "{foreign}");
        }
    }
}
