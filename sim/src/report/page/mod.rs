//! Pages for a browser: one run, or a whole campaign. Each is one file that needs nothing else: no network, no assets, and
//! without scripts it only loses the stepping and the copying.
//!
//! P1. A page of a deterministic run is the same text each time.
//!
//! P2. Whatever comes from a run is escaped ([`html`]).
//!
//! P3. A page stays below [`BYTES_MAX`], however long the run was; what was left out for that is said where it is missing.

mod campaign;
mod disk;
mod html;
mod run;
#[cfg(test)]
mod tests;
mod timeline;

pub use campaign::campaign_page;
pub use run::{Subject, run_page};

use html::Html;

/// How large a page may become.
pub const BYTES_MAX: usize = 2_000_000;

/// What of that the moments of the disk may take, on a page of one run.
const MOMENTS_BYTES_MAX: usize = 1_200_000;

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// The frame of a page: nothing in it may be loaded from anywhere.
fn page(title: &str, body: impl FnOnce(&mut Html)) -> String {
    let mut html = Html::default();
    html.verbatim("<!doctype html>\n");
    html.element("html", &[("lang", "en")], |html| {
        html.element("head", &[], |html| {
            html.empty("meta", &[("charset", "utf-8")]);
            let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'";
            html.empty("meta", &[("http-equiv", "Content-Security-Policy"), ("content", policy)]);
            html.empty("meta", &[("name", "viewport"), ("content", "width=device-width, initial-scale=1")]);
            html.empty("meta", &[("name", "color-scheme"), ("content", "light dark")]);
            html.leaf("title", &[], title);
            html.element("style", &[], |html| html.verbatim(STYLE));
        });
        html.element("body", &[], |html| {
            html.element("main", &[], body);
            html.element("script", &[], |html| html.verbatim(SCRIPT));
        });
    });
    let mut page = html.into_string();
    page.push('\n');
    page
}

/// A command to be copied.
fn command(html: &mut Html, text: &str) {
    html.element("div", &[("class", "command")], |html| {
        html.leaf("code", &[], text);
        html.leaf("button", &[("type", "button"), ("class", "copy"), ("hidden", "")], "Copy");
    });
}

/// Bytes above which a fact gets a line of its own.
const FACT_LEN_MAX: usize = 80;

/// A list of facts: what, and how it is.
fn facts(html: &mut Html, facts: &[(&str, String)]) {
    html.element("dl", &[("class", "facts")], |html| {
        for (name, value) in facts.iter().filter(|(_, value)| !value.is_empty()) {
            let class = if value.len() > FACT_LEN_MAX { "wide" } else { "" };
            html.element("div", &[("class", class)], |html| {
                html.leaf("dt", &[], name);
                html.leaf("dd", &[], value);
            });
        }
    });
}

/// "1 file", "2 files".
fn plural(number: u64, word: &str) -> String {
    format!("{} {word}{}", super::count(number), if number == 1 { "" } else { "s" })
}
