//! A change of the list of files, and its bytes.
//!
//! ```text
//! edit     | field | field | ...
//! field    tag varint | length varint | body
//!
//! tag 1    next file       varint                       tag 5    log added      number varint
//! tag 2    last seqno      varint                       tag 6    log closed     number, bytes, last seqno: varints
//! tag 3    levels          varint                       tag 7    log removed    number varint
//! tag 4    keyspace        see below                    tag 8    table removed  level, number: varints
//! tag 10   time            ms since 1970 varint         tag 9    table added    see below
//! tag 11   merge operator  UTF-8, of keyspace 0         tag 12   blob file added    see `blob/format.rs`
//! tag 14   quarantine      see below                    tag 13   blob file removed  number varint
//! tag 15   archive         see below
//!
//! keyspace      what u8 | body     0, next: number varint, every keyspace has a smaller one
//!                                  1, set: number varint | name: length varint, UTF-8 | option | ...
//!                                  2, dropped: number varint
//! option        tag varint | length varint | body        absent where the keyspace has what its store has
//!               1, compression: u8 for each level        2, block bytes varint         3, restart interval varint
//!               4, filter bits per key varint            5, level base bytes varint    6, level multiplier varint
//!               7, table bytes varint                    8, default ttl in ms varint
//!               9, merge operator: UTF-8                 10, blob threshold varint
//!
//! quarantine    what u8 | table: number varint | body    0, over: nothing
//!                                                        1, begun: offset varint | what was expected there: UTF-8
//!
//! archive       what u8 | body     0, history: uuid, under which logs are archived; at most once
//!                                  1, log kept: number, bytes, first seqno, last seqno: varints
//!                                  2, log let go: number varint
//!
//! table added   level, number, keyspace, bytes, entries, deletes, seqno min, seqno max, epoch: varints
//!               checksum u32 | smallest: length varint, internal key | largest: the same
//!               and only where there are range deletes, or entries that expire: range deletes varint
//!               and only where entries expire, or refer to blob files: how many, first expiry, last expiry: varints
//!               and only where entries refer to blob files: their uses, see `blob/format.rs`
//! ```
//!
//! Tags 1 to 3, 10 and 11 appear at most once, and are absent where the edit does not say anything of the kind: a value that
//! happens to be the default is written like any other. So does the next number of a keyspace. The other tags repeat. A tag
//! that is not known makes the edit unreadable, for skipping a change that one does not understand would be a wrong list.
//!
//! Keyspaces come before tables do, and go when their tables have left. Blob files come before the tables that refer to them, and
//! go with the last of these. The quarantine of a table begins and is over when tables have come and left, and is over as well when
//! its table leaves. A log is kept for the archive by the edit that removes it from those that count, and by no other.

use crate::blob::{BlobMeta, BlobUses};
use crate::coding::{Decoder, put_bytes, put_u32, put_varint};
use crate::key::{
    self, Expiries, InternalKey, KEYSPACE_DEFAULT, KEYSPACE_DEFAULT_NAME, KEYSPACE_NAME_LEN_MAX, KeyspaceId, SEQNO_MAX,
    SeqNo,
};
use crate::operator::OPERATOR_NAME_LEN_MAX;
use crate::options::KeyspaceOptions;
use crate::record::Uuid;
use crate::sst::{compression_from, compression_number};
use crate::wal::{ClosedWal, KeptWal};
use std::cmp::Ordering;
use std::fmt;

/// The most levels that a store can have.
pub const LEVELS_MAX: usize = 16;

const TAG_NEXT_FILE: u64 = 1;
const TAG_LAST_SEQNO: u64 = 2;
const TAG_LEVELS: u64 = 3;
const TAG_KEYSPACE: u64 = 4;
const TAG_WAL_ADDED: u64 = 5;
const TAG_WAL_CLOSED: u64 = 6;
const TAG_WAL_REMOVED: u64 = 7;
const TAG_TABLE_REMOVED: u64 = 8;
const TAG_TABLE_ADDED: u64 = 9;
const TAG_TIME: u64 = 10;
const TAG_MERGE_OPERATOR: u64 = 11;
const TAG_BLOB_ADDED: u64 = 12;
const TAG_BLOB_REMOVED: u64 = 13;
const TAG_QUARANTINE: u64 = 14;
const TAG_ARCHIVE: u64 = 15;

/// The latest time that an edit can note, in milliseconds since the Unix epoch: no clock comes to it.
pub const TIME_MS_MAX: u64 = 1 << 60;

const KEYSPACE_NEXT: u8 = 0;
const KEYSPACE_SET: u8 = 1;
const KEYSPACE_DROPPED: u8 = 2;

const QUARANTINE_OVER: u8 = 0;
const QUARANTINE_BEGUN: u8 = 1;

const ARCHIVE_HISTORY: u8 = 0;
const ARCHIVE_KEPT: u8 = 1;
const ARCHIVE_LET_GO: u8 = 2;

/// The most bytes of the words about what is damaged.
const EXPECTED_LEN_MAX: usize = 1024;

const OPTION_COMPRESSION: u64 = 1;
const OPTION_BLOCK_BYTES: u64 = 2;
const OPTION_RESTART_INTERVAL: u64 = 3;
const OPTION_FILTER_BITS_PER_KEY: u64 = 4;
const OPTION_LEVEL_BASE_BYTES: u64 = 5;
const OPTION_LEVEL_MULTIPLIER: u64 = 6;
const OPTION_TABLE_BYTES: u64 = 7;
const OPTION_DEFAULT_TTL_MS: u64 = 8;
const OPTION_MERGE_OPERATOR: u64 = 9;
const OPTION_BLOB_THRESHOLD: u64 = 10;

/// What the manifest knows of a table.
#[derive(Clone, PartialEq, Eq)]
pub struct TableMeta {
    /// The number in its name.
    pub number: u64,
    /// Whose entries it holds.
    pub keyspace: KeyspaceId,
    /// Its length.
    pub bytes: u64,
    /// Entries in it, range deletes not among them.
    pub entries: u64,
    /// How many of these are deletes.
    pub deletes: u64,
    /// Range deletes in it, which are cut so that they lie within its bounds. There is at least one of these or an entry.
    pub range_deletes: u64,
    /// Entries that expire, if there are any, and when.
    pub expiring: Option<Expiries>,
    /// The blob files that its entries refer to.
    pub blobs: BlobUses,
    /// The first internal key.
    pub smallest: Vec<u8>,
    /// The last internal key, or the [end](key::range_end) of its last range delete: then its user key lies behind the table.
    pub largest: Vec<u8>,
    /// The smallest sequence number.
    pub seqno_min: SeqNo,
    /// The largest sequence number.
    pub seqno_max: SeqNo,
    /// Masked CRC-32 of the whole file.
    pub checksum: u32,
    /// Orders the tables of level 0: a larger one is newer.
    pub epoch: u64,
}

impl TableMeta {
    /// The first user key.
    pub fn smallest_user(&self) -> &[u8] {
        key::user_key(&self.smallest)
    }

    /// Whether it ends before a user key.
    #[inline]
    pub fn ends_before(&self, user_key: &[u8]) -> bool {
        match self.largest_user().cmp(user_key) {
            Ordering::Less => true,
            Ordering::Equal => key::is_range_end(&self.largest),
            Ordering::Greater => false,
        }
    }

    /// The last user key, or the one behind the last.
    pub fn largest_user(&self) -> &[u8] {
        key::user_key(&self.largest)
    }

    /// Whether this can be said of any table; else what is wrong.
    pub fn check(&self) -> Result<(), String> {
        for (name, encoded) in [("smallest", &self.smallest), ("largest", &self.largest)] {
            if InternalKey::decode(encoded).is_none() {
                return Err(format!("the {name} key of table {} is no internal key", self.number));
            }
        }
        if key::compare(&self.smallest, &self.largest) == Ordering::Greater {
            return Err(format!("the smallest key of table {} is above its largest", self.number));
        }
        if self.seqno_min > self.seqno_max || self.seqno_max > SEQNO_MAX {
            let (min, max) = (self.seqno_min, self.seqno_max);
            return Err(format!("table {} has sequence numbers from {min} to {max}", self.number));
        }
        if (self.entries == 0 && self.range_deletes == 0) || self.deletes > self.entries {
            let (entries, deletes) = (self.entries, self.deletes);
            return Err(format!("table {} has {entries} entries, and {deletes} of them delete", self.number));
        }
        if let Some(expiring) = self.expiring.filter(|expiring| !expiring.can_be_among(self.entries - self.deletes)) {
            let (number, entries, deletes) = (self.number, self.entries, self.deletes);
            return Err(format!("table {number} has {entries} entries, of which {deletes} delete, and {expiring:?}"));
        }
        if self.blobs.values() > self.entries - self.deletes {
            let (number, entries, deletes, values) = (self.number, self.entries, self.deletes, self.blobs.values());
            return Err(format!(
                "table {number} has {entries} entries, of which {deletes} delete, and {values} refer to blob files"
            ));
        }
        Ok(())
    }
}

impl fmt::Debug for TableMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = |encoded: &[u8]| match InternalKey::decode(encoded) {
            Some(key) => format!("{key:?}"),
            None => format!("{:?}?", encoded.escape_ascii().to_string()),
        };
        write!(
            f,
            "table {}{} [{} .. {}] seqnos {}..={} epoch {} ({} entries, {} deletes, {} range deletes, {} bytes)",
            self.number,
            if self.keyspace == KEYSPACE_DEFAULT { String::new() } else { format!(" of keyspace {}", self.keyspace) },
            key(&self.smallest),
            key(&self.largest),
            self.seqno_min,
            self.seqno_max,
            self.epoch,
            self.entries,
            self.deletes,
            self.range_deletes,
            self.bytes
        )?;
        self.expiring.map_or(Ok(()), |Expiries { count, first_ms, last_ms }| {
            write!(f, ", {count} expire within {first_ms} and {last_ms} ms")
        })?;
        self.blobs.iter().try_for_each(|(file, uses)| {
            write!(f, ", {} refer to {} bytes of blob file {file}", uses.values, uses.bytes)
        })
    }
}

/// A table that is damaged, and what was found: it stays where it is, and no compaction touches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// The number of the table.
    pub table: u64,
    /// Where in the file the damaged part begins.
    pub offset: u64,
    /// What should have been there.
    pub expected: String,
}

impl Quarantine {
    /// Of a table in which damage was found; as many of the words as there is room for.
    pub fn new(table: u64, offset: u64, expected: &str) -> Quarantine {
        let len = expected.floor_char_boundary(EXPECTED_LEN_MAX);
        Quarantine { table, offset, expected: expected[..len].to_string() }
    }
}

/// A keyspace that comes, or its options, which are set anew as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyspaceSet {
    /// Its number. Nobody else ever has it.
    pub id: KeyspaceId,
    /// What people call it.
    pub name: String,
    /// What it has otherwise than the store.
    pub options: KeyspaceOptions,
}

impl KeyspaceSet {
    /// Whether this can be said of any keyspace; else what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.id == KEYSPACE_DEFAULT {
            return Err(format!("keyspace {KEYSPACE_DEFAULT} is what the store has, and is never set"));
        }
        check_keyspace_name(&self.name)?;
        self.options.validate().map_err(|error| format!("keyspace {}: {error}", self.id))
    }
}

/// Whether a keyspace can have this name; else why not.
pub fn check_keyspace_name(name: &str) -> Result<(), String> {
    if name == KEYSPACE_DEFAULT_NAME {
        return Err(format!("the name {name:?} is that of the keyspace that every store has"));
    }
    if name.is_empty() || name.len() > KEYSPACE_NAME_LEN_MAX {
        let len = name.len();
        return Err(format!("the name of a keyspace has {len} bytes, and must have 1 to {KEYSPACE_NAME_LEN_MAX}"));
    }
    Ok(())
}

/// A change of the list. The default changes nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VersionEdit {
    /// Numbers from here on are unused. [`VersionSet`](super::set::VersionSet) fills it in.
    pub next_file: Option<u64>,
    /// All sequence numbers up to here were given out.
    pub last_seqno: Option<SeqNo>,
    /// How many levels there are.
    pub levels: Option<usize>,
    /// The name of the merge operator of the default keyspace.
    pub merge_operator: Option<String>,
    /// Keyspaces that come get numbers below this one.
    pub next_keyspace: Option<KeyspaceId>,
    /// Keyspaces that come, or get other options. They come before tables leave and come.
    pub keyspaces_set: Vec<KeyspaceSet>,
    /// Keyspaces that go, after all their tables have left.
    pub keyspaces_dropped: Vec<KeyspaceId>,
    /// The store's time, in milliseconds since the Unix epoch, for which the tables that were added were written: what had
    /// expired by then may be gone, so it never goes back behind this.
    pub time_ms: Option<u64>,
    /// Logs that count from now on.
    pub wals_added: Vec<u64>,
    /// Logs that nothing will be added to.
    pub wals_closed: Vec<ClosedWal>,
    /// Logs that no longer count.
    pub wals_removed: Vec<u64>,
    /// The history under which logs are archived from now on.
    pub history: Option<Uuid>,
    /// Of the logs that no longer count, those that the archive is to have first.
    pub wals_kept: Vec<KeptWal>,
    /// Logs that the archive has, or will never have.
    pub wals_let_go: Vec<u64>,
    /// Blob files that come, with the tables that refer to them.
    pub blobs_added: Vec<BlobMeta>,
    /// Blob files to which no table refers any more. [`VersionSet`](super::set::VersionSet) fills it in.
    pub blobs_removed: Vec<u64>,
    /// Tables that leave a level. They leave before the added ones come, so a table can change its level.
    pub removed: Vec<(usize, u64)>,
    /// Tables that come into a level.
    pub added: Vec<(usize, TableMeta)>,
    /// Tables whose quarantine begins.
    pub quarantined: Vec<Quarantine>,
    /// Tables whose quarantine is over.
    pub released: Vec<u64>,
}

impl VersionEdit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == VersionEdit::default()
    }

    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut body = Vec::new();
        let numbers = |body: &mut Vec<u8>, values: &[u64]| values.iter().for_each(|&value| put_varint(body, value));
        let mut field = |tag: u64, fill: &dyn Fn(&mut Vec<u8>)| {
            body.clear();
            fill(&mut body);
            put_varint(&mut out, tag);
            put_bytes(&mut out, &body);
        };
        if let Some(next_file) = self.next_file {
            field(TAG_NEXT_FILE, &|body| numbers(body, &[next_file]));
        }
        if let Some(last_seqno) = self.last_seqno {
            field(TAG_LAST_SEQNO, &|body| numbers(body, &[last_seqno]));
        }
        if let Some(levels) = self.levels {
            field(TAG_LEVELS, &|body| numbers(body, &[levels as u64]));
        }
        if let Some(name) = &self.merge_operator {
            field(TAG_MERGE_OPERATOR, &|body| body.extend_from_slice(name.as_bytes()));
        }
        if let Some(next) = self.next_keyspace {
            field(TAG_KEYSPACE, &|body| {
                body.push(KEYSPACE_NEXT);
                numbers(body, &[u64::from(next)]);
            });
        }
        for &id in &self.keyspaces_dropped {
            field(TAG_KEYSPACE, &|body| {
                body.push(KEYSPACE_DROPPED);
                numbers(body, &[u64::from(id)]);
            });
        }
        for set in &self.keyspaces_set {
            field(TAG_KEYSPACE, &|body| {
                body.push(KEYSPACE_SET);
                numbers(body, &[u64::from(set.id)]);
                put_bytes(body, set.name.as_bytes());
                put_options(body, &set.options);
            });
        }
        if let Some(time_ms) = self.time_ms {
            field(TAG_TIME, &|body| numbers(body, &[time_ms]));
        }
        for &number in &self.wals_added {
            field(TAG_WAL_ADDED, &|body| numbers(body, &[number]));
        }
        for wal in &self.wals_closed {
            field(TAG_WAL_CLOSED, &|body| numbers(body, &[wal.number, wal.bytes, wal.last_seqno]));
        }
        for &number in &self.wals_removed {
            field(TAG_WAL_REMOVED, &|body| numbers(body, &[number]));
        }
        if let Some(history) = self.history {
            field(TAG_ARCHIVE, &|body| {
                body.push(ARCHIVE_HISTORY);
                body.extend_from_slice(&history.0);
            });
        }
        for wal in &self.wals_kept {
            field(TAG_ARCHIVE, &|body| {
                body.push(ARCHIVE_KEPT);
                numbers(body, &[wal.number, wal.bytes, wal.first_seqno, wal.last_seqno]);
            });
        }
        for &number in &self.wals_let_go {
            field(TAG_ARCHIVE, &|body| {
                body.push(ARCHIVE_LET_GO);
                numbers(body, &[number]);
            });
        }
        for blob in &self.blobs_added {
            field(TAG_BLOB_ADDED, &|body| blob.encode_into(body));
        }
        for &number in &self.blobs_removed {
            field(TAG_BLOB_REMOVED, &|body| numbers(body, &[number]));
        }
        for &(level, number) in &self.removed {
            field(TAG_TABLE_REMOVED, &|body| numbers(body, &[level as u64, number]));
        }
        for (level, table) in &self.added {
            field(TAG_TABLE_ADDED, &|body| {
                let counts = [table.bytes, table.entries, table.deletes, table.seqno_min, table.seqno_max, table.epoch];
                numbers(body, &[*level as u64, table.number, u64::from(table.keyspace)]);
                numbers(body, &counts);
                put_u32(body, table.checksum);
                put_bytes(body, &table.smallest);
                put_bytes(body, &table.largest);
                let has_blobs = !table.blobs.is_empty();
                if table.range_deletes > 0 || table.expiring.is_some() || has_blobs {
                    put_varint(body, table.range_deletes);
                }
                Expiries::encode_before_blobs(table.expiring, has_blobs, body);
                if has_blobs {
                    table.blobs.encode_into(body);
                }
            });
        }
        for quarantine in &self.quarantined {
            field(TAG_QUARANTINE, &|body| {
                body.push(QUARANTINE_BEGUN);
                numbers(body, &[quarantine.table, quarantine.offset]);
                body.extend_from_slice(quarantine.expected.as_bytes());
            });
        }
        for &table in &self.released {
            field(TAG_QUARANTINE, &|body| {
                body.push(QUARANTINE_OVER);
                numbers(body, &[table]);
            });
        }
        out
    }

    /// From bytes. An error says what was expected, and reads on after the word "expected".
    pub fn decode(bytes: &[u8]) -> Result<VersionEdit, String> {
        let mut edit = VersionEdit::default();
        let mut decoder = Decoder::new(bytes);
        while !decoder.is_empty() {
            let at = bytes.len() - decoder.rest().len();
            let whole = decoder.varint().and_then(|tag| Some((tag, decoder.bytes()?)));
            let Some((tag, body)) = whole else {
                return Err(format!("an edit of whole fields, and byte {at} of it starts none"));
            };
            let mut body = Decoder::new(body);
            match edit.take_field(tag, &mut body) {
                None => return Err(format!("a whole field with tag {tag} at byte {at} of an edit")),
                Some(Err(expected)) => return Err(expected),
                Some(Ok(())) if !body.is_empty() => {
                    return Err(format!("nothing behind the field with tag {tag} at byte {at} of an edit"));
                }
                Some(Ok(())) => {}
            }
        }
        for (_, table) in &edit.added {
            table.check().map_err(|wrong| format!("a table that can be, but {wrong}"))?;
        }
        for blob in &edit.blobs_added {
            blob.check().map_err(|wrong| format!("a blob file that can be, but {wrong}"))?;
        }
        for set in &edit.keyspaces_set {
            set.check().map_err(|wrong| format!("a keyspace that can be, but {wrong}"))?;
        }
        Ok(edit)
    }

    /// Reads one field. `None`: its body is too short, or a number is out of its range.
    fn take_field(&mut self, tag: u64, body: &mut Decoder<'_>) -> Option<Result<(), String>> {
        let twice = match tag {
            TAG_NEXT_FILE => self.next_file.replace(body.varint()?).is_some(),
            TAG_LAST_SEQNO => self.last_seqno.replace(take_seqno(body)?).is_some(),
            TAG_LEVELS => {
                let levels = body.varint()?;
                let fits = (1..=LEVELS_MAX as u64).contains(&levels);
                self.levels.replace(fits.then_some(levels as usize)?).is_some()
            }
            TAG_KEYSPACE => match body.u8()? {
                KEYSPACE_NEXT => self.next_keyspace.replace(body.varint_u32()?).is_some(),
                KEYSPACE_SET => match take_keyspace(body)? {
                    Ok(set) => {
                        self.keyspaces_set.push(set);
                        false
                    }
                    Err(expected) => return Some(Err(expected)),
                },
                KEYSPACE_DROPPED => {
                    self.keyspaces_dropped.push(body.varint_u32()?);
                    false
                }
                what => {
                    return Some(Err(format!("what this version knows to happen to a keyspace, found number {what}")));
                }
            },
            TAG_TIME => self.time_ms.replace(body.varint().filter(|&time_ms| time_ms <= TIME_MS_MAX)?).is_some(),
            TAG_MERGE_OPERATOR => self.merge_operator.replace(take_operator(body)?).is_some(),
            TAG_WAL_ADDED => {
                self.wals_added.push(body.varint()?);
                false
            }
            TAG_WAL_CLOSED => {
                let (number, bytes) = (body.varint()?, body.varint()?);
                self.wals_closed.push(ClosedWal { number, bytes, last_seqno: take_seqno(body)? });
                false
            }
            TAG_WAL_REMOVED => {
                self.wals_removed.push(body.varint()?);
                false
            }
            TAG_ARCHIVE => match body.u8()? {
                ARCHIVE_HISTORY => self.history.replace(Uuid(*body.take(16)?.first_chunk()?)).is_some(),
                ARCHIVE_KEPT => {
                    let (number, bytes) = (body.varint()?, body.varint()?);
                    let (first_seqno, last_seqno) = (take_seqno(body)?, take_seqno(body)?);
                    self.wals_kept.push(KeptWal { number, bytes, first_seqno, last_seqno });
                    false
                }
                ARCHIVE_LET_GO => {
                    self.wals_let_go.push(body.varint()?);
                    false
                }
                what => {
                    let known = "what this version knows to happen to a log for the archive";
                    return Some(Err(format!("{known}, found number {what}")));
                }
            },
            TAG_BLOB_ADDED => {
                self.blobs_added.push(BlobMeta::decode(body)?);
                false
            }
            TAG_BLOB_REMOVED => {
                self.blobs_removed.push(body.varint()?);
                false
            }
            TAG_TABLE_REMOVED => {
                self.removed.push((take_level(body)?, body.varint()?));
                false
            }
            TAG_TABLE_ADDED => {
                self.added.push((take_level(body)?, take_table(body)?));
                false
            }
            TAG_QUARANTINE => {
                let (what, table) = (body.take(1)?[0], body.varint()?);
                match what {
                    QUARANTINE_OVER => self.released.push(table),
                    QUARANTINE_BEGUN => self.quarantined.push(take_quarantine(body, table)?),
                    _ => {
                        let known = "what this version knows to happen to a quarantine";
                        return Some(Err(format!("{known}, found number {what}")));
                    }
                }
                false
            }
            _ => {
                return Some(Err(format!("an edit of fields that this version knows, found one with tag {tag}")));
            }
        };
        Some(if twice { Err(format!("one field with tag {tag} in an edit, found two")) } else { Ok(()) })
    }
}

/// Appends the options that are there.
fn put_options(out: &mut Vec<u8>, options: &KeyspaceOptions) {
    if let Some(levels) = &options.compression {
        put_varint(out, OPTION_COMPRESSION);
        put_bytes(out, &levels.iter().map(|&level| compression_number(level)).collect::<Vec<u8>>());
    }
    let numbers = [
        (OPTION_BLOCK_BYTES, options.block_bytes.map(|bytes| bytes as u64)),
        (OPTION_RESTART_INTERVAL, options.restart_interval.map(|entries| entries as u64)),
        (OPTION_FILTER_BITS_PER_KEY, options.filter_bits_per_key.map(u64::from)),
        (OPTION_LEVEL_BASE_BYTES, options.level_base_bytes),
        (OPTION_LEVEL_MULTIPLIER, options.level_multiplier),
        (OPTION_TABLE_BYTES, options.table_bytes),
        (OPTION_DEFAULT_TTL_MS, options.default_ttl_ms),
        (OPTION_BLOB_THRESHOLD, options.blob_threshold),
    ];
    let mut body = Vec::new();
    for (tag, number) in numbers.into_iter().filter_map(|(tag, number)| Some((tag, number?))) {
        body.clear();
        put_varint(&mut body, number);
        put_varint(out, tag);
        put_bytes(out, &body);
    }
    if let Some(name) = &options.merge_operator {
        put_varint(out, OPTION_MERGE_OPERATOR);
        put_bytes(out, name.as_bytes());
    }
}

/// A keyspace that is set. `None`: its body is too short, or no UTF-8 where there must be some.
fn take_keyspace(body: &mut Decoder<'_>) -> Option<Result<KeyspaceSet, String>> {
    let id = body.varint_u32()?;
    let name = std::str::from_utf8(body.bytes()?).ok()?.to_owned();
    let mut options = KeyspaceOptions::default();
    while !body.is_empty() {
        let tag = body.varint()?;
        let mut value = Decoder::new(body.bytes()?);
        let twice = match tag {
            OPTION_COMPRESSION => {
                let levels = value.take(value.rest().len())?;
                let levels = levels.iter().map(|&number| compression_from(number)).collect::<Option<Vec<_>>>()?;
                options.compression.replace(levels).is_some()
            }
            OPTION_BLOCK_BYTES => options.block_bytes.replace(usize::try_from(value.varint()?).ok()?).is_some(),
            OPTION_RESTART_INTERVAL => {
                options.restart_interval.replace(usize::try_from(value.varint()?).ok()?).is_some()
            }
            OPTION_FILTER_BITS_PER_KEY => options.filter_bits_per_key.replace(value.varint_u32()?).is_some(),
            OPTION_LEVEL_BASE_BYTES => options.level_base_bytes.replace(value.varint()?).is_some(),
            OPTION_LEVEL_MULTIPLIER => options.level_multiplier.replace(value.varint()?).is_some(),
            OPTION_TABLE_BYTES => options.table_bytes.replace(value.varint()?).is_some(),
            OPTION_MERGE_OPERATOR => options.merge_operator.replace(take_operator(&mut value)?).is_some(),
            OPTION_DEFAULT_TTL_MS => options.default_ttl_ms.replace(value.varint()?).is_some(),
            OPTION_BLOB_THRESHOLD => options.blob_threshold.replace(value.varint()?).is_some(),
            _ => return Some(Err(format!("options of a keyspace that this version knows, found one with tag {tag}"))),
        };
        if twice || !value.is_empty() {
            return Some(Err(format!("one whole option with tag {tag} of keyspace {id}")));
        }
    }
    Some(Ok(KeyspaceSet { id, name, options }))
}

/// The name of a merge operator, which is all that is left.
fn take_operator(body: &mut Decoder<'_>) -> Option<String> {
    let name = body.take(body.rest().len())?;
    let can_be = (1..=OPERATOR_NAME_LEN_MAX).contains(&name.len());
    std::str::from_utf8(name).ok().filter(|_| can_be).map(str::to_owned)
}

fn take_quarantine(body: &mut Decoder<'_>, table: u64) -> Option<Quarantine> {
    let offset = body.varint()?;
    let expected = body.take(body.rest().len())?;
    let expected = std::str::from_utf8(expected).ok().filter(|expected| expected.len() <= EXPECTED_LEN_MAX)?;
    Some(Quarantine { table, offset, expected: expected.to_string() })
}

fn take_seqno(body: &mut Decoder<'_>) -> Option<SeqNo> {
    body.varint().filter(|&seqno| seqno <= SEQNO_MAX)
}

fn take_level(body: &mut Decoder<'_>) -> Option<usize> {
    body.varint().filter(|&level| level < LEVELS_MAX as u64).map(|level| level as usize)
}

fn take_table(body: &mut Decoder<'_>) -> Option<TableMeta> {
    let mut table = TableMeta {
        number: body.varint()?,
        keyspace: body.varint_u32()?,
        bytes: body.varint()?,
        entries: body.varint()?,
        deletes: body.varint()?,
        seqno_min: body.varint()?,
        seqno_max: body.varint()?,
        epoch: body.varint()?,
        checksum: body.u32()?,
        smallest: body.bytes()?.to_vec(),
        largest: body.bytes()?.to_vec(),
        range_deletes: 0,
        expiring: None,
        blobs: BlobUses::default(),
    };
    if !body.is_empty() {
        table.range_deletes = body.varint()?;
        if table.range_deletes == 0 || !body.is_empty() {
            table.expiring = Expiries::decode_before_blobs(body)?;
        }
        if !body.is_empty() {
            table.blobs = BlobUses::decode(body)?;
        }
    }
    Some(table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use crate::options::Compression;
    use proptest::prelude::*;

    /// Small numbers and the extremes, so that fields equal to their default come up often.
    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![Just(0), 0u64..3, Just(u64::MAX), any::<u64>()]
    }

    fn seqno() -> impl Strategy<Value = SeqNo> {
        prop_oneof![Just(0), 0u64..3, Just(SEQNO_MAX), 0..=SEQNO_MAX]
    }

    fn table() -> impl Strategy<Value = TableMeta> {
        let keys = (any::<Vec<u8>>(), any::<Vec<u8>>());
        (number(), any::<u32>(), number(), 1u64..9, (seqno(), seqno()), any::<u32>(), number(), keys).prop_map(
            |(number, keyspace, bytes, entries, (a, b), checksum, epoch, (x, y))| TableMeta {
                number,
                keyspace,
                bytes,
                entries,
                deletes: entries / 2,
                range_deletes: entries / 3,
                expiring: (entries > 2).then(|| Expiries::of(bytes).and(number)),
                blobs: uses_of(if entries % 3 == 1 { entries / 2 } else { 0 }),
                smallest: InternalKey::new(x.as_slice().min(&y), a.max(b), Kind::Put).encode(),
                largest: InternalKey::new(x.as_slice().max(&y), a.min(b), Kind::Delete).encode(),
                seqno_min: a.min(b),
                seqno_max: a.max(b),
                checksum,
                epoch,
            },
        )
    }

    fn uses_of(values: u64) -> BlobUses {
        let mut uses = BlobUses::default();
        (0..values).for_each(|value| uses.add(value % 2, 100));
        uses
    }

    fn blob() -> impl Strategy<Value = BlobMeta> {
        (number(), any::<u32>(), 1u64..9, 0u64..9, any::<u32>()).prop_map(
            |(number, keyspace, values, value_bytes, checksum)| BlobMeta {
                number,
                keyspace,
                bytes: 200 + value_bytes,
                values,
                value_bytes,
                checksum,
            },
        )
    }

    fn keyspace() -> impl Strategy<Value = KeyspaceSet> {
        let options = (
            proptest::option::of(proptest::sample::subsequence(
                vec![Compression::Lz4, Compression::None, Compression::Deflate],
                1..3,
            )),
            proptest::option::of(64usize..1000),
            proptest::option::of(1usize..1024),
            proptest::option::of(0u32..64),
            proptest::option::of(1024u64..1 << 40),
            proptest::option::of(2u64..100),
            proptest::option::of(256u64..1 << 32),
            (
                proptest::option::of(any::<u64>()),
                proptest::option::of("[a-z.]{1,9}"),
                proptest::option::of(prop_oneof![Just(0), 32u64..1 << 30]),
            ),
        );
        (1u32.., "[^d]{1,9}", options).prop_map(|(id, name, options)| {
            let (
                compression,
                block_bytes,
                restart_interval,
                filter_bits_per_key,
                base,
                level_multiplier,
                table_bytes,
                (ttl, merge_operator, blob_threshold),
            ) = options;
            let options = KeyspaceOptions {
                compression,
                block_bytes,
                restart_interval,
                filter_bits_per_key,
                level_base_bytes: base,
                level_multiplier,
                table_bytes,
                default_ttl_ms: ttl,
                blob_threshold,
                merge_operator,
            };
            KeyspaceSet { id, name, options }
        })
    }

    fn edit() -> impl Strategy<Value = VersionEdit> {
        let closed = (number(), number(), seqno()).prop_map(|(number, bytes, last_seqno)| ClosedWal {
            number,
            bytes,
            last_seqno,
        });
        let kept = (number(), number(), seqno(), seqno());
        let kept = kept.prop_map(|(number, bytes, first_seqno, last_seqno)| KeptWal {
            number,
            bytes,
            first_seqno,
            last_seqno,
        });
        (
            proptest::option::of(number()),
            proptest::option::of(seqno()),
            proptest::option::of(1..=LEVELS_MAX),
            (
                proptest::option::of(any::<u32>()),
                proptest::collection::vec(keyspace(), 0..3),
                proptest::collection::vec(1u32..9, 0..3),
                proptest::option::of(0..=TIME_MS_MAX),
                proptest::option::of("[a-zß]{1,9}"),
            ),
            proptest::collection::vec(number(), 0..3),
            proptest::collection::vec(closed, 0..3),
            (
                proptest::collection::vec(number(), 0..3),
                proptest::option::of(any::<[u8; 16]>().prop_map(Uuid)),
                proptest::collection::vec(kept, 0..3),
                proptest::collection::vec(number(), 0..3),
            ),
            (proptest::collection::vec(blob(), 0..3), proptest::collection::vec(number(), 0..3)),
            (
                proptest::collection::vec((0..LEVELS_MAX, number()), 0..3),
                proptest::collection::vec((0..LEVELS_MAX, table()), 0..3),
                proptest::collection::vec((number(), number(), "[a-zß]{0,9}"), 0..3),
                proptest::collection::vec(number(), 0..3),
            ),
        )
            .prop_map(
                |(
                    next_file,
                    last_seqno,
                    levels,
                    keyspaces,
                    wals_added,
                    wals_closed,
                    (wals_removed, history, wals_kept, wals_let_go),
                    blobs,
                    (removed, added, quarantined, released),
                )| {
                    let quarantine =
                        |(table, offset, expected): (u64, u64, String)| Quarantine { table, offset, expected };
                    VersionEdit {
                        quarantined: quarantined.into_iter().map(quarantine).collect(),
                        released,
                        next_file,
                        last_seqno,
                        levels,
                        next_keyspace: keyspaces.0,
                        keyspaces_set: keyspaces.1,
                        keyspaces_dropped: keyspaces.2,
                        time_ms: keyspaces.3,
                        merge_operator: keyspaces.4,
                        wals_added,
                        wals_closed,
                        wals_removed,
                        history,
                        wals_kept,
                        wals_let_go,
                        blobs_added: blobs.0,
                        blobs_removed: blobs.1,
                        removed,
                        added,
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn every_edit_round_trips_with_values_that_equal_a_default(edit in edit()) {
            prop_assert_eq!(VersionEdit::decode(&edit.encode()), Ok(edit));
        }

        #[test]
        fn any_bytes_are_decoded_without_panic_and_a_cut_edit_is_never_a_longer_one(edit in edit(), bytes: Vec<u8>) {
            let _ = VersionEdit::decode(&bytes);
            let encoded = edit.encode();
            for len in 0..encoded.len() {
                if let Ok(shorter) = VersionEdit::decode(&encoded[..len]) {
                    prop_assert_ne!(&shorter, &edit);
                }
            }
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        let refusal = |bytes: &[u8]| VersionEdit::decode(bytes).expect_err("refused");
        let unknown = refusal(&[16, 1, 0]);
        insta::assert_snapshot!(unknown, @"an edit of fields that this version knows, found one with tag 16");
        insta::assert_snapshot!(refusal(&[11, 0]), @"a whole field with tag 11 at byte 0 of an edit");
        insta::assert_snapshot!(refusal(&[1, 1, 7, 1, 1, 7]), @"one field with tag 1 in an edit, found two");
        insta::assert_snapshot!(refusal(&[1, 2, 7, 7]), @"nothing behind the field with tag 1 at byte 0 of an edit");
        insta::assert_snapshot!(refusal(&[3, 1, 17]), @"a whole field with tag 3 at byte 0 of an edit");
        insta::assert_snapshot!(refusal(&[14, 2, 9, 7]), @"what this version knows to happen to a quarantine, found number 9");
        insta::assert_snapshot!(refusal(&[14, 4, 1, 7, 0, 0xff]), @"a whole field with tag 14 at byte 0 of an edit");
        insta::assert_snapshot!(refusal(&[15, 2, 9, 7]), @"what this version knows to happen to a log for the archive, found number 9");
        insta::assert_snapshot!(refusal(&[15, 2, 0, 7]), @"a whole field with tag 15 at byte 0 of an edit");
        insta::assert_snapshot!(refusal(&[5, 1, 7, 9]), @"an edit of whole fields, and byte 3 of it starts none");
    }

    #[test]
    fn a_keyspace_that_cannot_be_is_refused() {
        let sound = KeyspaceSet { id: 3, name: "people".into(), options: KeyspaceOptions::default() };
        let refusal = |set: KeyspaceSet| {
            let edit = VersionEdit { keyspaces_set: vec![set], ..VersionEdit::default() };
            VersionEdit::decode(&edit.encode()).expect_err("refused")
        };
        insta::assert_snapshot!(refusal(KeyspaceSet { id: 0, ..sound.clone() }), @"a keyspace that can be, but keyspace 0 is what the store has, and is never set");
        insta::assert_snapshot!(refusal(KeyspaceSet { name: "default".into(), ..sound.clone() }), @r#"a keyspace that can be, but the name "default" is that of the keyspace that every store has"#);
        insta::assert_snapshot!(refusal(KeyspaceSet { name: "x".repeat(256), ..sound.clone() }), @"a keyspace that can be, but the name of a keyspace has 256 bytes, and must have 1 to 255");
        let options = KeyspaceOptions { compression: Some(Vec::new()), ..KeyspaceOptions::default() };
        insta::assert_snapshot!(refusal(KeyspaceSet { options, ..sound.clone() }), @"a keyspace that can be, but keyspace 3: option compression (number of entries) is 0, and must be within 1 and 16");
        let odd = |body: &[u8]| {
            let mut edit = vec![4];
            put_bytes(&mut edit, body);
            VersionEdit::decode(&edit).expect_err("refused")
        };
        insta::assert_snapshot!(odd(&[9, 1]), @"what this version knows to happen to a keyspace, found number 9");
        insta::assert_snapshot!(odd(&[1, 3, 1, b'a', 11, 1, 60]), @"options of a keyspace that this version knows, found one with tag 11");
        insta::assert_snapshot!(odd(&[1, 3, 1, b'a', 2, 1, 64, 2, 1, 64]), @"one whole option with tag 2 of keyspace 3");
        insta::assert_snapshot!(odd(&[1, 3, 1, 0xff]), @"a whole field with tag 4 at byte 0 of an edit");
    }

    #[test]
    fn a_table_that_cannot_be_is_refused() {
        let put = |user: &[u8]| InternalKey::new(user, 5, Kind::Put).encode();
        let sound = TableMeta {
            number: 7,
            keyspace: 0,
            bytes: 100,
            entries: 2,
            deletes: 0,
            range_deletes: 0,
            expiring: None,
            blobs: BlobUses::default(),
            smallest: put(b"a"),
            largest: put(b"b"),
            seqno_min: 5,
            seqno_max: 5,
            checksum: 0,
            epoch: 1,
        };
        assert_eq!(sound.check(), Ok(()));
        let refusal = |table: TableMeta| {
            let edit = VersionEdit { added: vec![(0, table)], ..VersionEdit::default() };
            VersionEdit::decode(&edit.encode()).expect_err("refused")
        };
        insta::assert_snapshot!(
            refusal(TableMeta { smallest: b"short".to_vec(), ..sound.clone() }),
            @"a table that can be, but the smallest key of table 7 is no internal key"
        );
        insta::assert_snapshot!(
            refusal(TableMeta { smallest: put(b"c"), ..sound.clone() }),
            @"a table that can be, but the smallest key of table 7 is above its largest"
        );
        insta::assert_snapshot!(
            refusal(TableMeta { seqno_min: 6, ..sound.clone() }),
            @"a table that can be, but table 7 has sequence numbers from 6 to 5"
        );
        insta::assert_snapshot!(
            refusal(TableMeta { entries: 0, ..sound }),
            @"a table that can be, but table 7 has 0 entries, and 0 of them delete"
        );
    }
}
