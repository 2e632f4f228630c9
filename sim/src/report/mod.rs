//! What people and programs are told: a failure as a block of text or a page, a campaign as a table, a page or JSON.
//!
//! Nothing here decides anything, and nothing here prints: it makes text.

mod json;
pub mod page;
mod text;

pub use json::{shrunk_json, totals_json};
pub use text::{Dress, artifact_lines, count, failure_block, progress_line, rate, run_lines, shrunk_lines, summary};
