//! Bytes as text, and back: one syntax for arguments, input, output and JSON.
//!
//! ```text
//! \\  a backslash    \n  \r  \t  \0  as usual    \xNN  the byte with this hexadecimal number
//! ```
//!
//! Everything else stands for itself, in UTF-8. Output escapes the backslash, every control character, and every byte that is
//! not part of UTF-8, so that a line and a tab always end a field, and every text that was printed reads back to the same
//! bytes. Quotes and spaces are left alone: they are the shell's business.

use std::fmt::Write as _;

/// Bytes as text.
pub fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' => text.push_str("\\\\"),
                '\n' => text.push_str("\\n"),
                '\r' => text.push_str("\\r"),
                '\t' => text.push_str("\\t"),
                '\0' => text.push_str("\\0"),
                c if c.is_control() => {
                    let mut buffer = [0; 4];
                    c.encode_utf8(&mut buffer).bytes().for_each(|byte| push_hex(&mut text, byte));
                }
                c => text.push(c),
            }
        }
        chunk.invalid().iter().for_each(|&byte| push_hex(&mut text, byte));
    }
    text
}

fn push_hex(text: &mut String, byte: u8) {
    write!(text, "\\x{byte:02x}").expect("writing to a string");
}

/// The bytes that a text stands for. The error says what is wrong, and how a backslash is written.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        let (byte, len) = match rest.as_bytes().first() {
            Some(b'\\') => (b'\\', 1),
            Some(b'n') => (b'\n', 1),
            Some(b'r') => (b'\r', 1),
            Some(b't') => (b'\t', 1),
            Some(b'0') => (b'\0', 1),
            Some(b'x') => {
                let digits = rest.get(1..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                (byte.ok_or_else(|| format!("{text:?}: \\x is followed by two hexadecimal digits, as in \\xff"))?, 3)
            }
            _ => {
                return Err(format!("{text:?}: after a backslash comes \\, n, r, t, 0 or xNN; a backslash is \\\\"));
            }
        };
        bytes.push(byte);
        rest = &rest[len..];
    }
    bytes.extend_from_slice(rest.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_string_reads_back_and_no_text_of_one_breaks_a_line() {
        let all: Vec<u8> = (0..=255).collect();
        let mut cases = vec![all, b"".to_vec(), "\u{85}größe 鍵".as_bytes().to_vec(), b"a\\x00".to_vec()];
        cases.extend((0..=255u8).flat_map(|a| [vec![a], vec![a, b'0'], vec![0xe4, a], vec![b'\\', a]]));
        for bytes in cases {
            let text = escape(&bytes);
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert_eq!(unescape(&text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn text_that_is_easily_read_stays_as_it_is() {
        assert_eq!(escape("user 7 \"größe\" = 鍵".as_bytes()), "user 7 \"größe\" = 鍵");
        assert_eq!(escape(b"\x00\xff\n\\"), "\\0\\xff\\n\\\\");
    }

    #[test]
    fn a_wrong_escape_says_what_is_right() {
        insta::assert_snapshot!(unescape("a\\q").expect_err("wrong"), @r#""a\\q": after a backslash comes \, n, r, t, 0 or xNN; a backslash is \\"#);
        insta::assert_snapshot!(unescape("\\xf").expect_err("wrong"), @r#""\\xf": \x is followed by two hexadecimal digits, as in \xff"#);
        for text in ["\\", "\\x", "\\xg0", "\\x+1", "\\xä"] {
            unescape(text).expect_err(text);
        }
    }
}
