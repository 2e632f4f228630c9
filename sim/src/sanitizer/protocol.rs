//! What a store's files say about each other: the little that the sanitizer must know of a format.

/// A file that a list names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Its path, as the store names it to the world.
    pub path: String,
    /// So many of its bytes must be durable before the list may say so, [`u64::MAX`] for all. Its name always must.
    pub bytes: u64,
}

/// Something that bytes in a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statement {
    /// This file is a log, and holds the writes of these sequence numbers. They are whole with the byte before `end`.
    Logged {
        /// The first sequence number.
        first: u64,
        /// The last one.
        last: u64,
        /// Where the record ends.
        end: u64,
    },
    /// This file is a list: from now on the store rests on some more files, and on some others no longer.
    Listed {
        /// Those that count from now on. One that is named already may be named again, with more bytes.
        adds: Vec<Claim>,
        /// Those that no longer count, by path.
        drops: Vec<String>,
    },
    /// Once this file has the name of the root, the list at this path is the one that counts.
    Leads {
        /// Path of the list.
        list: String,
    },
}

/// The description that an adapter gives of its store's files. Pure functions of bytes.
pub trait Protocol: Send + Sync {
    /// The path of the file that leads to the list that counts. It is replaced by a rename, and never written in place.
    /// `None` for a store that has no lists: then every log that exists counts.
    fn root(&self) -> Option<&str>;

    /// What the bytes at `offset` of a file say. Bytes come in the order of the file; those behind the returned count were
    /// not understood yet and come again, with what was written behind them. A file that says nothing is understood whole.
    fn statements(&self, path: &str, offset: u64, bytes: &[u8], tell: &mut dyn FnMut(Statement)) -> usize;
}
