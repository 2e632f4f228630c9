//! Merge operators: how an operand that was written to a key is merged with what the key has, by who reads it and by those who
//! rewrite it, so that whoever writes need not read.
//!
//! An operator has a name, which is written down in the store: what was written for one must not be merged by another. So an
//! operator must mean the same for ever, on every machine; another meaning is another name.
//!
//! It must be a pure function of what it is given. Operands are merged upon a value oldest first, at whatever moments and in
//! whatever runs reads and compactions meet them; so for operands `a`, `b`, `c` in a row, the merge of `c` upon the merge of `a`
//! and `b` must be what the merge of all three is, and a [partial merge](MergeOperator::partial_merge) that stands for `b` and
//! `c` must do upon any value what `b` and then `c` do.

use crate::error::{Error, MergeFailure, Result as StoreResult};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The longest name of an operator, in bytes. The shortest has one.
pub const OPERATOR_NAME_LEN_MAX: usize = 255;

/// What merges operands. See the module for what it owes.
///
/// ```
/// use bytes::Bytes;
/// use strata::db::Db;
/// use strata::env::Env;
/// use strata::operator::{MergeOperator, MergeOperators};
/// use strata::options::Options;
///
/// /// Keeps the greatest of what was written.
/// struct Greatest;
///
/// impl MergeOperator for Greatest {
///     fn name(&self) -> &str {
///         "example.greatest"
///     }
///
///     fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> Result<Vec<u8>, String> {
///         let all = operands.iter().map(|operand| &operand[..]).chain(base);
///         Ok(all.max().expect("there is an operand").to_vec())
///     }
///
///     fn partial_merge(&self, key: &[u8], operands: &[Bytes]) -> Result<Option<Vec<u8>>, String> {
///         self.merge(key, None, operands).map(Some)
///     }
/// }
///
/// # let dir = tempfile::tempdir().unwrap();
/// let options = Options {
///     merge_operators: MergeOperators::default().with(Greatest),
///     merge_operator: Some("example.greatest".into()),
///     ..Options::default()
/// };
/// let db = Db::open_with(&Env::os(), &dir.path().join("store"), options)?;
/// db.merge(b"record", b"17")?;
/// db.merge(b"record", b"23")?;
/// db.merge(b"record", b"19")?;
/// assert_eq!(db.get(b"record")?.as_deref(), Some(&b"23"[..]));
/// # Ok::<(), strata::error::Error>(())
/// ```
pub trait MergeOperator: Send + Sync {
    /// Its name: 1 to 255 bytes. Written down in the store.
    fn name(&self) -> &str;

    /// The value of `key` after these operands, of which there is at least one, oldest first. `base` is the value that they are
    /// merged upon; `None` where the key was absent: never written, deleted, expired.
    ///
    /// An error, in words for people, leaves the operands where they are: who reads the key is told of it, and flushes and
    /// compactions pass it over.
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> Result<Vec<u8>, String>;

    /// One operand that stands for these, of which there are at least two, oldest first, whatever they are merged upon. `None`
    /// where there is no such operand: then all of them are kept until what lies below them is met.
    fn partial_merge(&self, _key: &[u8], _operands: &[Bytes]) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// What an operator makes of operands, oldest first, upon a value; [`Error::MergeFailed`] where it cannot.
pub(crate) fn merged(
    operator: &dyn MergeOperator,
    key: &[u8],
    base: Option<&[u8]>,
    operands: &[Bytes],
) -> StoreResult<Bytes> {
    operator.merge(key, base, operands).map(Bytes::from).map_err(|cause| {
        let (key, operands, operator) = (key.to_vec(), operands.len(), operator.name().to_string());
        Error::MergeFailed(Arc::new(MergeFailure { key, operands, operator, cause }))
    })
}

/// Appends operands to the value. An absent key has an empty one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Append;

impl MergeOperator for Append {
    fn name(&self) -> &str {
        "strata.append"
    }

    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> Result<Vec<u8>, String> {
        let mut value = base.unwrap_or_default().to_vec();
        operands.iter().for_each(|operand| value.extend_from_slice(operand));
        Ok(value)
    }

    fn partial_merge(&self, key: &[u8], operands: &[Bytes]) -> Result<Option<Vec<u8>>, String> {
        self.merge(key, None, operands).map(Some)
    }
}

/// Adds numbers: a value and an operand are each a signed integer of 64 bits, little-endian, and an absent key is 0. A sum that
/// does not fit goes round, as that of registers does; anything that has not 8 bytes is an error.
#[derive(Clone, Copy, Debug, Default)]
pub struct Add;

impl Add {
    fn number(bytes: &[u8], what: &str) -> Result<i64, String> {
        let exact = <[u8; 8]>::try_from(bytes);
        exact.map(i64::from_le_bytes).map_err(|_| format!("{what} has {} bytes, and a number has 8", bytes.len()))
    }
}

impl MergeOperator for Add {
    fn name(&self) -> &str {
        "strata.add"
    }

    fn merge(&self, _key: &[u8], base: Option<&[u8]>, operands: &[Bytes]) -> Result<Vec<u8>, String> {
        let base = base.map_or(Ok(0), |base| Add::number(base, "the value"))?;
        let sum = operands
            .iter()
            .try_fold(base, |sum, operand| Add::number(operand, "an operand").map(|number| sum.wrapping_add(number)));
        sum.map(|sum| sum.to_le_bytes().to_vec())
    }

    fn partial_merge(&self, key: &[u8], operands: &[Bytes]) -> Result<Option<Vec<u8>>, String> {
        self.merge(key, None, operands).map(Some)
    }
}

/// The operators that are at hand, by name. By default those of this module.
#[derive(Clone)]
pub struct MergeOperators {
    known: BTreeMap<String, Arc<dyn MergeOperator>>,
}

impl Default for MergeOperators {
    fn default() -> MergeOperators {
        MergeOperators { known: BTreeMap::new() }.with(Append).with(Add)
    }
}

impl MergeOperators {
    /// The same and this one, in place of any other that has its name.
    pub fn with(mut self, operator: impl MergeOperator + 'static) -> MergeOperators {
        self.known.insert(operator.name().to_string(), Arc::new(operator));
        self
    }

    /// The one with this name.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn MergeOperator>> {
        self.known.get(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.known.keys().map(String::as_str)
    }
}

impl fmt::Debug for MergeOperators {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl PartialEq for MergeOperators {
    /// By their names, which stand for what they mean.
    fn eq(&self, other: &MergeOperators) -> bool {
        self.names().eq(other.names())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(operands: &[&'static [u8]]) -> Vec<Bytes> {
        operands.iter().map(|operand| Bytes::from_static(operand)).collect()
    }

    #[test]
    fn operands_are_appended_in_their_order_and_added_whatever_their_runs() {
        let three = bytes(&[b"b", b"", b"c"]);
        assert_eq!(Append.merge(b"", Some(b"a"), &three), Ok(b"abc".to_vec()));
        assert_eq!(Append.merge(b"", None, &three), Ok(b"bc".to_vec()));
        let number = |number: i64| Bytes::copy_from_slice(&number.to_le_bytes());
        let parts = Add.partial_merge(b"", &[number(-7), number(i64::MAX)]).expect("numbers").expect("one for both");
        let sum = Add.merge(b"", Some(&number(9)), &[parts.into()]).expect("numbers");
        assert_eq!(sum, number(i64::MIN + 1), "it goes round");
        assert_eq!(Add.merge(b"", None, &bytes(&[b"1"])), Err("an operand has 1 bytes, and a number has 8".into()));
    }

    #[test]
    fn operators_are_known_by_name() {
        let own = MergeOperators::default();
        assert_eq!(format!("{own:?}"), r#"{"strata.add", "strata.append"}"#);
        assert!(own.named("strata.add").is_some() && own.named("add").is_none());
        assert_eq!(own.clone().with(Append), own);
    }
}
