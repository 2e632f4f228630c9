//! Making a stream of a snapshot.

use super::format::{NAME, StreamHead};
use super::writer::StreamWriter;
use crate::db::{Range, Snapshot};
use crate::error::Result;
use crate::key::{KeyspaceId, SeqNo};
use std::io::Write;
use std::path::Path;

/// What a stream holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// The newest write that it shows.
    pub seqno: SeqNo,
    /// Keyspaces, the default one counted.
    pub keyspaces: usize,
    /// Keys with a value.
    pub keys: u64,
    /// Bytes of the stream.
    pub bytes: u64,
}

/// Writes everything that a snapshot shows as one stream that needs nothing else to be understood: keyspaces with their names and
/// options, keys, values, when they expire, the names of merge operators. Operands are merged, but for those upon a value that expires,
/// which the key will not always have. What has expired, deletes and old versions are not in it, nor what belongs to the handle
/// and not to the store, such as its [options](crate::options::Options).
///
/// Writes, flushes and compactions go on; the snapshot keeps old versions from being dropped as long as this lasts. Takes memory for
/// one record, 256 KiB or one entry, and reads every table once. `tell` hears now and then how many bytes of keys and values have
/// been written, before compression. Also of a store that is [only read](crate::db::ReadOnlyDb::snapshot), beside its writer.
///
/// The stream says at its end how much it is, so that one that was cut short, by an error here too, is never taken for whole. It
/// is as durable as `to` makes it; see [`export_file`]. Nothing is synced in the store: the stream may hold writes that a power
/// cut takes from there.
///
/// ```
/// # let home = tempfile::tempdir().unwrap();
/// use strata::backup::{export, import};
/// use strata::db::Db;
/// use strata::env::Env;
///
/// let db = Db::open(home.path().join("store"))?;
/// db.put(b"fruit/apple", b"red")?;
/// let mut stream = Vec::new();
/// let exported = export(&db.snapshot(), &mut stream, &mut |_| ())?;
/// assert_eq!((exported.keys, exported.bytes), (1, stream.len() as u64));
///
/// let target = home.path().join("elsewhere");
/// import(&Env::os(), &mut stream.as_slice(), &target, &Default::default(), &mut |_| ())?;
/// let other = Db::open(&target)?;
/// assert_eq!(other.get(b"fruit/apple")?.as_deref(), Some(&b"red"[..]));
/// assert_ne!(other.uuid(), db.uuid());
/// # Ok::<(), strata::error::Error>(())
/// ```
pub fn export(snapshot: &Snapshot, to: &mut dyn Write, tell: &mut dyn FnMut(u64)) -> Result<Exported> {
    write(snapshot, to, Path::new(NAME), tell)
}

fn write(snapshot: &Snapshot, to: &mut dyn Write, name: &Path, tell: &mut dyn FnMut(u64)) -> Result<Exported> {
    let keyspaces = snapshot.keyspaces()?;
    let head = StreamHead {
        store: snapshot.uuid(),
        number: snapshot.env().random_u64(),
        seqno: snapshot.seqno(),
        time_ms: snapshot.time_ms(),
        merge_operator: snapshot.merge_operator(),
        keyspaces: keyspaces.iter().skip(1).map(|(known, own)| (known.name().to_string(), own.clone())).collect(),
    };
    let mut writer = StreamWriter::begin(to, name, &head)?;
    let (mut keys, mut told) = (0, 0);
    for (number, (keyspace, _)) in (0..).zip(&keyspaces) {
        let number: KeyspaceId = number;
        let mut iter = snapshot.iter_in(keyspace, Range::all())?;
        iter.seek_to_first()?;
        while iter.valid() {
            keys += 1;
            match iter.unmerged() {
                None => writer.put(number, iter.key(), iter.value(), iter.expires_at())?,
                Some(parts) => {
                    writer.put(number, iter.key(), &parts.base, iter.expires_at())?;
                    parts.operands.iter().try_for_each(|operand| writer.merge(number, iter.key(), operand))?;
                }
            }
            if writer.bytes() - told >= TOLD_BYTES {
                told = writer.bytes();
                tell(told);
            }
            iter.next()?;
        }
    }
    tell(writer.bytes());
    let bytes = writer.finish()?;
    Ok(Exported { seqno: head.seqno, keyspaces: keyspaces.len(), keys, bytes })
}

/// Bytes between two words on how far it has come.
const TOLD_BYTES: u64 = 256 * 1024;

/// [Exports](export()) to a file of the store's world, which replaces another of that name and is durable, with its name, when this
/// returns. After an error, and after a crash, there is no such file, or a part of one, which is no stream.
pub fn export_file(snapshot: &Snapshot, path: &Path, tell: &mut dyn FnMut(u64)) -> Result<Exported> {
    let env = snapshot.env();
    let file = env.create_anew(path)?;
    let written = write(snapshot, &mut file.writer(), path, tell).and_then(|exported| {
        file.sync_data()?;
        env.sync_parent(path)?;
        Ok(exported)
    });
    if written.is_err() {
        // The error says more than one about this.
        let _ = env.remove_file(path);
    }
    written
}
