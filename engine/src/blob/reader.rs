//! Reading blob files: one value by its reference, or a whole file from the front.

use super::format::{
    BLOB_HEADER_LEN, BlobMeta, FOOTER_LEN, FORMAT_VERSION, Footer, MAGIC, RECORD_HEADER_LEN, RecordHeader,
};
use crate::checksum::Checksum;
use crate::env::File;
use crate::error::{Error, Result};
use crate::key::BlobReference;
use crate::record::format::{FILE_HEADER_LEN, FileHeader};
use bytes::Bytes;

/// Read at once by a verification.
const PIECE_BYTES: u64 = 1 << 20;

/// An open blob file.
#[derive(Debug)]
pub struct BlobFile {
    file: File,
    number: u64,
    bytes: u64,
}

/// A record, as it was found by one who walks over a file.
#[derive(Clone, Debug)]
pub struct BlobRecord {
    /// Where it starts.
    pub offset: u64,
    /// The user key.
    pub key: Bytes,
    /// The value.
    pub value: Bytes,
    /// The checksum, which matches.
    pub checksum: u32,
}

impl BlobFile {
    /// Opens the file of this number. Costs a look at its length.
    pub fn open(file: File, number: u64) -> Result<BlobFile> {
        let bytes = file.len()?;
        Ok(BlobFile { file, number, bytes })
    }

    /// Its length when it was opened.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The value that an entry of this user key refers to (B4). One read.
    pub fn value(&self, key: &[u8], reference: BlobReference) -> Result<Bytes> {
        assert_eq!(reference.file, self.number, "a reference is read in its own file");
        let wrong = |expected: String| Error::corruption(self.file.path(), reference.offset, expected);
        let expected = || {
            format!(
                "a value of {} bytes of the key \"{}\" with checksum {:#010x}",
                reference.len,
                key.escape_ascii(),
                reference.checksum
            )
        };
        let len = (RECORD_HEADER_LEN + key.len()) as u64 + u64::from(reference.len);
        if reference.offset.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(wrong(format!("{}, found the end of {} bytes", expected(), self.bytes)));
        }
        let record = Bytes::from(self.file.read_vec_at(reference.offset, len as usize)?);
        let found = RecordHeader::decode(&record).ok_or_else(|| wrong(format!("{}, found no record", expected())))?;
        let computed = found.computed(self.number, reference.offset, &[&record[RECORD_HEADER_LEN..]]);
        let is_whole = found.checksum == computed && found.checksum == reference.checksum;
        let is_ours = (found.key_len as usize, found.value_len) == (key.len(), reference.len)
            && &record[RECORD_HEADER_LEN..][..key.len()] == key;
        if !is_whole || !is_ours {
            let (checksum, key_len, value_len) = (found.checksum, found.key_len, found.value_len);
            return Err(wrong(format!(
                "{}, found {key_len} bytes of key, {value_len} of value, checksum {checksum:#010x}, and bytes with {computed:#010x}",
                expected()
            )));
        }
        Ok(record.slice(RECORD_HEADER_LEN + key.len()..))
    }

    /// Reads every byte and compares it with what the manifest says: length, checksum, header and footer. Calls `pace` for each
    /// piece with its bytes.
    pub fn verify(&self, meta: &BlobMeta, pace: &mut dyn FnMut(u64) -> Result<()>) -> Result<()> {
        let wrong = |offset: u64, expected: String| Error::corruption(self.file.path(), offset, expected);
        if self.bytes != meta.bytes || self.bytes < BLOB_HEADER_LEN + FOOTER_LEN as u64 {
            let expected = format!("a blob file of {} bytes, found {}", meta.bytes, self.bytes);
            return Err(wrong(self.bytes.min(meta.bytes), expected));
        }
        let header = self.file.read_vec_at(0, FILE_HEADER_LEN)?;
        let header = FileHeader::decode(&header).filter(|header| header.magic == MAGIC);
        let said = header.map(|header| (header.version, header.number, header.first));
        if said != Some((FORMAT_VERSION, self.number, u64::from(meta.keyspace))) {
            return Err(wrong(
                0,
                format!("the header of this blob file of keyspace {}, found {said:?}", meta.keyspace),
            ));
        }
        let mut checksum = Checksum::new();
        let mut offset = 0;
        while offset < self.bytes {
            let piece = self.file.read_vec_at(offset, PIECE_BYTES.min(self.bytes - offset) as usize)?;
            checksum.update(&piece);
            offset += piece.len() as u64;
            pace(piece.len() as u64)?;
        }
        if checksum.masked() != meta.checksum {
            let (expected, found) = (meta.checksum, checksum.masked());
            return Err(wrong(0, format!("a blob file with checksum {expected:#010x}, found {found:#010x}")));
        }
        let at = self.bytes - FOOTER_LEN as u64;
        let footer = self.file.read_vec_at(at, FOOTER_LEN)?;
        let footer = footer.first_chunk().and_then(Footer::decode);
        let expected =
            Footer { values: meta.values, value_bytes: meta.value_bytes, number: meta.number, bytes: meta.bytes };
        if footer != Some(expected) {
            return Err(wrong(at, format!("the footer {expected:?}, found {footer:?}")));
        }
        Ok(())
    }
}

/// Walks over the records of a file that may be damaged, up to the first that is not whole: where the next one would start is
/// not known then.
pub struct BlobRecords {
    file: BlobFile,
    offset: u64,
}

impl BlobRecords {
    /// From the first on.
    pub fn of(file: BlobFile) -> BlobRecords {
        BlobRecords { file, offset: BLOB_HEADER_LEN }
    }

    /// The next record; `None` where the footer begins.
    pub fn next_record(&mut self) -> Result<Option<BlobRecord>> {
        let offset = self.offset;
        let end = self.file.bytes.saturating_sub(FOOTER_LEN as u64);
        if offset == end {
            return Ok(None);
        }
        let wrong = |expected: &str| Error::corruption(self.file.file.path(), offset, expected);
        let left = end.saturating_sub(offset);
        if left < RECORD_HEADER_LEN as u64 {
            return Err(wrong("a record, or the footer"));
        }
        let header = self.file.file.read_vec_at(offset, RECORD_HEADER_LEN)?;
        let header = RecordHeader::decode(&header).filter(|header| header.record_len() <= left);
        let header = header.ok_or_else(|| wrong("a record that ends before the footer"))?;
        let body = (header.record_len() as usize) - RECORD_HEADER_LEN;
        let body = Bytes::from(self.file.file.read_vec_at(offset + RECORD_HEADER_LEN as u64, body)?);
        if header.computed(self.file.number, offset, &[&body]) != header.checksum {
            return Err(wrong("a record with the checksum that it carries"));
        }
        self.offset += header.record_len();
        let value = body.slice(header.key_len as usize..);
        let key = body.slice(..header.key_len as usize);
        Ok(Some(BlobRecord { offset, key, value, checksum: header.checksum }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::BlobWriter;
    use super::*;
    use crate::env::testing::{MemoryFs, memory_env};
    use crate::env::{Env, OpenMode};
    use crate::key::EXPIRES_NEVER;
    use crate::record::Uuid;
    use std::path::Path;
    use std::sync::Arc;

    const PATH: &str = "000007.blob";
    const VALUES: [(&[u8], &[u8]); 3] = [(b"a", b"first"), (b"", b""), (b"ccc", &[9; 300])];

    fn written() -> (Env, Arc<MemoryFs>, BlobMeta, Vec<BlobReference>) {
        let (env, fs) = memory_env();
        let file = env.open(Path::new(PATH), OpenMode::CreateNew).expect("a file");
        let mut writer = BlobWriter::new(file, 7, 3, Uuid([5; 16]));
        let add = |&(key, value): &(&[u8], &[u8])| writer.add(key, value, EXPIRES_NEVER).expect("added");
        let references = VALUES.iter().map(add).collect();
        (env, fs, writer.finish().expect("finished"), references)
    }

    fn open(env: &Env) -> BlobFile {
        BlobFile::open(env.open(Path::new(PATH), OpenMode::Read).expect("the file"), 7).expect("it opens")
    }

    #[test]
    fn values_are_found_by_their_references_and_in_order() {
        let (env, _, meta, references) = written();
        let file = open(&env);
        file.verify(&meta, &mut |_| Ok(())).expect("sound");
        assert_eq!((meta.values, meta.value_bytes, meta.keyspace, meta.bytes), (3, 305, 3, file.bytes()));
        for ((key, value), &reference) in VALUES.iter().zip(&references) {
            assert_eq!(file.value(key, reference).expect("there"), *value);
        }
        let mut records = BlobRecords::of(file);
        for ((key, value), reference) in VALUES.iter().zip(&references) {
            let record = records.next_record().expect("sound").expect("one more");
            assert_eq!((&record.key[..], &record.value[..]), (*key, *value));
            assert_eq!((record.offset, record.checksum), (reference.offset, reference.checksum));
        }
        assert!(records.next_record().expect("sound").is_none());
    }

    #[test]
    fn a_reference_that_is_not_that_of_the_key_is_refused_whatever_it_says() {
        let (env, _, meta, references) = written();
        let file = open(&env);
        let (key, sound) = (VALUES[0].0, references[0]);
        for (key, reference) in [
            (&b"b"[..], sound),
            (b"aa", sound),
            (key, BlobReference { checksum: sound.checksum ^ 1, ..sound }),
            (key, BlobReference { len: 4, ..sound }),
            (key, BlobReference { len: 1 << 30, ..sound }),
            (key, BlobReference { offset: sound.offset + 1, ..sound }),
            (key, BlobReference { offset: u64::MAX, ..sound }),
            (key, references[1]),
        ] {
            let refused = file.value(key, reference).expect_err("another value");
            assert!(refused.is_corruption() && refused.to_string().contains(PATH), "{refused}");
        }
        let other = BlobMeta { checksum: meta.checksum ^ 1, ..meta };
        assert!(file.verify(&other, &mut |_| Ok(())).expect_err("another file").is_corruption());
    }

    #[test]
    fn every_flipped_bit_is_seen_by_a_verification_and_no_value_is_served_with_one() {
        let (env, fs, meta, references) = written();
        let whole = fs.contents(Path::new(PATH));
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            fs.set_contents(Path::new(PATH), &bytes);
            let file = open(&env);
            assert!(file.verify(&meta, &mut |_| Ok(())).expect_err("damage").is_corruption(), "byte {at}");
            for ((key, value), &reference) in VALUES.iter().zip(&references) {
                match file.value(key, reference) {
                    Ok(found) => assert_eq!(found, *value, "byte {at}"),
                    Err(error) => assert!(error.is_corruption(), "byte {at}: {error}"),
                }
            }
            let mut records = BlobRecords::of(file);
            let mut found = 0;
            while let Ok(Some(record)) = records.next_record() {
                assert_eq!((&record.key[..], &record.value[..]), VALUES[found], "byte {at}");
                found += 1;
            }
        }
        fs.set_contents(Path::new(PATH), &whole[..whole.len() - 100]);
        assert!(open(&env).verify(&meta, &mut |_| Ok(())).expect_err("too short").is_corruption());
        assert!(open(&env).value(VALUES[2].0, references[2]).expect_err("too short").is_corruption());
    }
}
