//! Reading and writing keys.

use super::{InKeyspace, Store, bytes, find_keyspace, open};
use crate::escape::escape;
use crate::out::{Failure, Out};
use clap::Args;
use serde_json::json;
use std::io::BufRead;
use std::ops::Bound;
use std::path::PathBuf;
use strata::batch::WriteBatch;
use strata::db::{Db, DbIter, Keyspace, Range, WriteOptions};
use strata::env::Env;
use strata::options::Options;

#[derive(Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The keys. Of several, each that is there is printed on a line with its value, all as of one moment.
    #[arg(required = true)]
    keys: Vec<String>,
    /// Prints the bytes of the value as they are, and nothing else. For one key.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

/// An absent key is an answer: nothing is printed for it, and it is a no.
pub(super) fn get(args: &GetArgs, out: &mut Out) -> Result<bool, Failure> {
    let is_one = args.keys.len() == 1;
    if args.raw && !is_one {
        return Err(Failure::Usage("--raw prints one value: its end could not be told from the next".into()));
    }
    let keys = args.keys.iter().map(|key| bytes(key)).collect::<Result<Vec<_>, _>>()?;
    let db = args.store.look()?;
    let values = db.multi_get_in(&args.within.find_to_read(&db)?, &keys)?.values;
    for (key, value) in args.keys.iter().zip(&values) {
        match value {
            None => {}
            Some(value) if args.raw => out.raw(value)?,
            Some(value) => {
                let text = || if is_one { escape(value) } else { format!("{key}\t{}", escape(value)) };
                out.say(text, || json!({ "key": key, "value": escape(value) }))?;
            }
        }
    }
    Ok(values.iter().all(Option::is_some))
}

#[derive(Args)]
pub(super) struct PutArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The key.
    key: String,
    /// Its value.
    value: String,
    /// Begins a new store where there is none.
    #[arg(long)]
    create: bool,
}

pub(super) fn put(args: &PutArgs) -> Result<bool, Failure> {
    let (key, value) = (bytes(&args.key)?, bytes(&args.value)?);
    let db = args.store.open_or_create(args.create)?;
    db.put_in(&args.within.find(&db)?, &key, &value)?;
    db.close()?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct MergeArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The key.
    key: String,
    /// What is merged upon the value that it has.
    operand: String,
    /// The merge operator of the default keyspace, for ever: strata.append or strata.add. Only where it has none yet.
    #[arg(long, value_name = "NAME", conflicts_with = "keyspace")]
    operator: Option<String>,
}

pub(super) fn merge(args: &MergeArgs) -> Result<bool, Failure> {
    let (key, operand) = (bytes(&args.key)?, bytes(&args.operand)?);
    let options = Options {
        create_if_missing: false,
        merge_operator: args.operator.clone(),
        archive: args.store.archive.clone(),
        ..Options::default()
    };
    let db = Db::open_with(&Env::os(), &args.store.store, options)?;
    db.merge_in(&args.within.find(&db)?, &key, &operand)?;
    db.close()?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The keys; all go at once.
    #[arg(required = true)]
    keys: Vec<String>,
}

pub(super) fn delete(args: &DeleteArgs) -> Result<bool, Failure> {
    let db = args.store.open()?;
    let keyspace = args.within.find(&db)?;
    let mut batch = WriteBatch::new();
    for key in &args.keys {
        batch.delete_in(&keyspace, &bytes(key)?);
    }
    db.write(&mut batch, WriteOptions::default())?;
    db.close()?;
    Ok(true)
}

#[derive(Args)]
pub(super) struct ScanArgs {
    #[command(flatten)]
    store: Store,
    #[command(flatten)]
    within: InKeyspace,
    /// The first key, itself included.
    #[arg(long, value_name = "KEY")]
    from: Option<String>,
    /// The key before which to end.
    #[arg(long, value_name = "KEY")]
    to: Option<String>,
    /// Only keys that begin with this.
    #[arg(long, conflicts_with_all = ["from", "to"])]
    prefix: Option<String>,
    /// From the last key to the first.
    #[arg(long)]
    reverse: bool,
    /// At most so many.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    /// Only the keys.
    #[arg(long)]
    keys: bool,
}

pub(super) fn scan(args: &ScanArgs, out: &mut Out) -> Result<bool, Failure> {
    let given = |text: &Option<String>| text.as_deref().map(bytes).transpose();
    let (from, to, prefix) = (given(&args.from)?, given(&args.to)?, given(&args.prefix)?);
    let range = match &prefix {
        Some(prefix) => Range::prefix(prefix),
        None => Range::of((
            from.as_deref().map_or(Bound::Unbounded, Bound::Included),
            to.as_deref().map_or(Bound::Unbounded, Bound::Excluded),
        )),
    };
    let db = args.store.look()?;
    let mut iter = db.iter_in(&args.within.find_to_read(&db)?, range)?;
    if args.reverse {
        iter.seek_to_last()?
    } else {
        iter.seek_to_first()?
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    while iter.valid() && left > 0 {
        print_entry(&iter, args.keys, out)?;
        left -= 1;
        if args.reverse { iter.prev()? } else { iter.next()? }
    }
    iter.status()?;
    Ok(true)
}

fn print_entry(iter: &DbIter, only_key: bool, out: &mut Out) -> Result<(), Failure> {
    let key = escape(iter.key());
    if only_key {
        return out.say(|| key.clone(), || json!({ "key": key }));
    }
    let value = escape(iter.value());
    out.say(|| format!("{key}\t{value}"), || json!({ "key": key, "value": value }))
}

#[derive(Args)]
pub(super) struct BatchArgs {
    /// The directory of the store.
    store: PathBuf,
    #[command(flatten)]
    within: InKeyspace,
    /// Begins a new store where there is none.
    #[arg(long)]
    create: bool,
    /// Applies so many lines as one, instead of all of them. After an error the groups before stay.
    #[arg(long, value_name = "LINES", value_parser = clap::value_parser!(u64).range(1..))]
    every: Option<u64>,
}

pub(super) fn batch(args: &BatchArgs, input: &mut dyn BufRead, out: &mut Out) -> Result<bool, Failure> {
    let db = open(&args.store, args.create)?;
    let keyspace = args.within.find(&db)?;
    let every = args.every.unwrap_or(u64::MAX);
    let (mut batch, mut lines, mut applied) = (WriteBatch::new(), 0u64, 0u64);
    let mut line = String::new();
    loop {
        line.clear();
        lines += 1;
        let read = input.read_line(&mut line);
        if read.map_err(|error| Failure::Usage(format!("line {lines} of the input cannot be read: {error}")))? == 0 {
            break;
        }
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            continue;
        }
        add_line(&db, &keyspace, &mut batch, line).map_err(|wrong| {
            Failure::Usage(format!("line {lines} of the input: {wrong}\n{applied} changes were applied before it."))
        })?;
        if u64::from(batch.count()) == every {
            applied += every;
            db.write(&mut batch, WriteOptions::default())?;
        }
    }
    applied += u64::from(batch.count());
    db.write(&mut batch, WriteOptions::default())?;
    db.close()?;
    out.say(|| format!("{applied} changes applied"), || json!({ "applied": applied }))?;
    Ok(true)
}

fn add_line(db: &Db, keyspace: &Keyspace, batch: &mut WriteBatch, line: &str) -> Result<(), String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let unescape = crate::escape::unescape;
    match fields[..] {
        ["in", name, ..] => {
            let keyspace = find_keyspace(db, name).map_err(|failure| failure.to_string())?;
            let rest = line.splitn(3, '\t').nth(2).unwrap_or_default();
            return add_line(db, &keyspace, batch, rest);
        }
        ["put", key, value] => batch.put_in(keyspace, &unescape(key)?, &unescape(value)?),
        ["merge", key, operand] => batch.merge_in(keyspace, &unescape(key)?, &unescape(operand)?),
        ["delete", key] => batch.delete_in(keyspace, &unescape(key)?),
        ["delete-range", from, to] => batch.delete_range_in(keyspace, &unescape(from)?, &unescape(to)?),
        _ => {
            return Err(format!(
                "put, KEY and VALUE, merge, KEY and OPERAND, delete and KEY, or delete-range, FROM and TO expected, with tabs \
                 between; found {line:?}"
            ));
        }
    }
    Ok(())
}
