//! One stream of bytes that holds all that a snapshot shows, compressed: [`export`](export()) makes it, [`import`](import()) makes
//! a store of it.
//!
//! A backup copies the files of a store, and a stream tells what is in them: it depends on no table, no level and no file name, can be
//! piped from one machine to another, and is small, because deletes, old versions and operands stay behind.

mod export;
pub mod format;
mod import;
mod reader;
mod writer;

pub use export::{Exported, export, export_file};
pub use format::StreamHead;
pub use import::{Imported, import, import_file};
pub use reader::StreamReader;
pub use writer::StreamWriter;
