//! What a table holds, entry by entry, for whoever must know what is gone with it.

use super::{Error, FileKind, Held, Keyspaces, World, strata_env};
use std::path::Path;
use std::sync::Arc;
use strata::cache::BlockCache;
use strata::env::OpenMode;
use strata::iter::internal::InternalIterator;
use strata::key::{InternalKey, Kind};
use strata::sst::Table;

/// Of the table of this name, of which a whole copy lies at `path`. `None` where one of its entries has lost its number, and its value
/// lies elsewhere or is none of its own.
pub(super) fn contents(
    world: &World,
    keyspaces: &Keyspaces,
    name: &str,
    path: &str,
) -> Result<Option<Vec<Held>>, Error> {
    let Some(FileKind::Sst(number)) = FileKind::parse(name) else { return Ok(None) };
    let file = strata_env(world).open(Path::new(path), OpenMode::Read)?;
    let bytes = file.len()?;
    let table = Arc::new(Table::open(file, number, bytes, Arc::new(BlockCache::new(0)))?);
    let Some(keyspace) = keyspaces.number_of(table.properties().keyspace) else { return Ok(None) };
    let mut held = Vec::new();
    let mut cursor = table.iter(false);
    cursor.seek_to_first()?;
    while cursor.valid() {
        let Some(entry) = InternalKey::decode(cursor.key()) else { return Ok(None) };
        let seq = Some(entry.seqno).filter(|&seqno| seqno > 0);
        let value = (entry.kind == Kind::Put).then(|| cursor.value().to_vec());
        if seq.is_none() && value.as_ref().is_none_or(Vec::is_empty) {
            return Ok(None);
        }
        held.push(Held { key: keyspaces.join(keyspace, entry.user), end: None, seq, value });
        cursor.next()?;
    }
    for fragment in table.fragments().iter() {
        let (key, end) = (keyspaces.join(keyspace, &fragment.start), keyspaces.join(keyspace, &fragment.end));
        let of = |&seqno: &u64| Held { key: key.clone(), end: Some(end.clone()), seq: Some(seqno), value: None };
        held.extend(fragment.seqnos.iter().map(of));
    }
    Ok(Some(held))
}
