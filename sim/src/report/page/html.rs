//! HTML that is well-formed by the way it is made: an element is opened and closed by one call, and text is always escaped.
//!
//! What is written comes from keys, paths and messages, which may hold anything; so nothing is ever taken for markup.

use std::fmt::Write as _;

/// A piece of a page.
#[derive(Clone, Debug, Default)]
pub(super) struct Html {
    text: String,
}

/// Attributes of an element.
pub(super) type Attributes<'a> = &'a [(&'a str, &'a str)];

impl Html {
    /// An element, and what `body` puts into it.
    pub(super) fn element(&mut self, name: &str, attributes: Attributes<'_>, body: impl FnOnce(&mut Html)) {
        self.start(name, attributes);
        self.text.push('>');
        body(self);
        let _ = write!(self.text, "</{name}>");
    }

    /// An element that holds only text.
    pub(super) fn leaf(&mut self, name: &str, attributes: Attributes<'_>, text: &str) {
        self.element(name, attributes, |html| html.text(text));
    }

    /// An element of a drawing, or one that never holds anything.
    pub(super) fn empty(&mut self, name: &str, attributes: Attributes<'_>) {
        self.start(name, attributes);
        self.text.push_str("/>");
    }

    /// An element with a class and text, as most are.
    pub(super) fn span(&mut self, class: &str, text: &str) {
        self.leaf("span", &[("class", class)], text);
    }

    /// Text.
    pub(super) fn text(&mut self, text: &str) {
        escape(text, &mut self.text);
    }

    /// What another piece holds.
    pub(super) fn piece(&mut self, piece: &Html) {
        self.text.push_str(&piece.text);
    }

    /// A text of ours, such as a style sheet, as it is.
    pub(super) fn verbatim(&mut self, text: &'static str) {
        self.text.push_str(text);
    }

    /// How many bytes it is.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn into_string(self) -> String {
        self.text
    }

    fn start(&mut self, name: &str, attributes: Attributes<'_>) {
        let _ = write!(self.text, "<{name}");
        for (name, value) in attributes {
            let _ = write!(self.text, " {name}=\"");
            escape(value, &mut self.text);
            self.text.push('"');
        }
    }
}

/// Characters that mean something in HTML get names; those that no page may hold become a sign for that.
fn escape(text: &str, into: &mut String) {
    for c in text.chars() {
        match c {
            '&' => into.push_str("&amp;"),
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&#39;"),
            '\n' | '\t' => into.push(c),
            c if c.is_control() => into.push('\u{fffd}'),
            c => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_written_is_taken_for_markup() {
        let mut html = Html::default();
        html.element("p", &[("title", "\"><script>")], |html| {
            html.text("a < b && 'c'\u{0}\u{1b}");
            html.empty("br", &[]);
            html.span("x", "</p>");
        });
        assert_eq!(
            html.into_string(),
            "<p title=\"&quot;&gt;&lt;script&gt;\">a &lt; b &amp;&amp; &#39;c&#39;\u{fffd}\u{fffd}<br/>\
             <span class=\"x\">&lt;/p&gt;</span></p>"
        );
    }
}
