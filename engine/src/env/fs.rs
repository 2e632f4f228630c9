//! Files and directories: the contract that every file system under the engine keeps, and [`File`], through which the
//! engine uses one.
//!
//! What durability means here is what POSIX promises and no more: data and length of a file survive a power cut only after
//! `sync_data` or `sync_all` has returned `Ok`; a name (its creation, rename or removal) only after `sync_dir` on its
//! directory. Until then any of it may be kept or lost, in any order. After a *failed* sync the unsynced data of that file
//! may be gone although it can still be read, and a second sync may say `Ok` without bringing it back.
//!
//! Every call carries a [`Site`], the engine's own source line that asked, so that a simulator or a tracer can name it.
//! An implementation may ignore it.

use crate::error::{Error, Result};
use crate::mark::sometimes;
use std::fmt;
use std::io;
use std::panic::Location;
use std::path::Path;
use std::sync::Arc;

/// The line of the engine's source that made a call.
pub type Site = &'static Location<'static>;

/// How [`Fs::open`] opens a file. Every mode can read; all but [`OpenMode::Read`] can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing; its content is kept.
    Write,
    /// A new file; fails with `AlreadyExists` where the name is taken.
    CreateNew,
    /// A new and empty file, or an existing one cut to nothing.
    CreateOrTruncate,
}

impl OpenMode {
    /// What an error says that this mode tried to do.
    pub(crate) fn verb(self) -> &'static str {
        match self {
            OpenMode::Read | OpenMode::Write => "open",
            OpenMode::CreateNew | OpenMode::CreateOrTruncate => "create",
        }
    }
}

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    /// The last component of its path. A name that is not UTF-8 is no file of ours and is left out of a listing.
    pub name: String,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// Held while a lock file is locked; dropping it lets go.
pub trait FileLock: Send + Sync {}

/// A file system. Paths are absolute or relative to what the implementation likes; the engine only joins names to the
/// directory that it was given.
pub trait Fs: Send + Sync {
    /// Opens or creates a file. A creation is durable only after [`Fs::sync_dir`] on its directory.
    fn open(&self, path: &Path, mode: OpenMode, at: Site) -> io::Result<Arc<dyn FsFile>>;
    /// Renames a file, replacing the target in one step as other tasks see it.
    fn rename(&self, from: &Path, to: &Path, at: Site) -> io::Result<()>;
    /// Gives an existing file a second name; fails with `AlreadyExists` where the name is taken.
    fn hard_link(&self, from: &Path, to: &Path, at: Site) -> io::Result<()>;
    /// Removes a name; open handles stay usable.
    fn remove_file(&self, path: &Path, at: Site) -> io::Result<()>;
    /// Creates a directory in an existing one.
    fn create_dir(&self, path: &Path, at: Site) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path, at: Site) -> io::Result<()>;
    /// Makes all earlier creations, renames and removals in this directory durable.
    fn sync_dir(&self, path: &Path, at: Site) -> io::Result<()>;
    /// Lists a directory, in any order.
    fn read_dir(&self, path: &Path, at: Site) -> io::Result<Vec<DirEntry>>;
    /// Length in bytes of what the name stands for; `NotFound` where there is nothing.
    fn file_len(&self, path: &Path, at: Site) -> io::Result<u64>;
    /// Creates the file where it is missing and locks it exclusively, for this process and against others; `WouldBlock`
    /// where it is locked already, by this process too.
    fn lock_file(&self, path: &Path, at: Site) -> io::Result<Box<dyn FileLock>>;
    /// Bytes that can still be written to the file system that holds `path`.
    fn bytes_free(&self, path: &Path, at: Site) -> io::Result<u64>;
}

/// An open file. Positions are explicit, so any number of tasks may use one handle. Dropping it closes it, and closing
/// makes nothing durable.
pub trait FsFile: Send + Sync {
    /// Reads at most `buf.len()` bytes at `offset` and returns how many; 0 only at or behind the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64, at: Site) -> io::Result<usize>;
    /// Writes at most `data.len()` bytes at `offset` and returns how many. After an error any part may have been written.
    fn write_at(&self, data: &[u8], offset: u64, at: Site) -> io::Result<usize>;
    /// Cuts or extends (with zeros) the file.
    fn set_len(&self, len: u64, at: Site) -> io::Result<()>;
    /// Makes the data durable, and as much of the metadata (the length) as is needed to read it back.
    fn sync_data(&self, at: Site) -> io::Result<()>;
    /// Makes data and all metadata of the file durable; not its name.
    fn sync_all(&self, at: Site) -> io::Result<()>;
    /// Current length in bytes.
    fn len(&self, at: Site) -> io::Result<u64>;
}

/// An open file as the engine uses it: whole reads and writes, and errors that say where.
#[derive(Clone)]
pub struct File {
    inner: Arc<dyn FsFile>,
    path: Arc<Path>,
}

/// A file that is written from its start, for whoever writes to an [`io::Write`]. Every write is a call.
pub struct FileWriter {
    file: File,
    offset: u64,
    site: Site,
}

impl io::Write for FileWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.inner.write_at(bytes, self.offset, self.site)?;
        self.offset += count as u64;
        Ok(count)
    }

    /// Nothing is kept back, and nothing made durable.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A file that is read from its start, for whoever reads from an [`io::Read`]. Every read is a call.
pub struct FileReader {
    file: File,
    offset: u64,
    site: Site,
}

impl io::Read for FileReader {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.file.inner.read_at(bytes, self.offset, self.site)?;
        self.offset += count as u64;
        Ok(count)
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "File({})", self.path.display())
    }
}

impl File {
    pub(crate) fn new(inner: Arc<dyn FsFile>, path: Arc<Path>) -> File {
        File { inner, path }
    }

    /// The path under which it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Fills `buf` from `offset`. A file that ends before is a [`Error::Corruption`]: whoever asks knows the length.
    #[track_caller]
    pub fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> Result<()> {
        let at = Location::caller();
        let mut done = 0;
        while done < buf.len() {
            let position = offset + done as u64;
            match self.inner.read_at(&mut buf[done..], position, at) {
                Ok(0) => {
                    return Err(Error::corruption(
                        &self.path,
                        position,
                        format!("{} more bytes, found the end of the file", buf.len() - done),
                    ));
                }
                Ok(count) => {
                    assert!(count <= buf.len() - done, "the file system read {count} bytes into less room");
                    done += count;
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("read", &self.path, Some(position), source)),
            }
        }
        Ok(())
    }

    /// Reads `len` bytes at `offset` into a new buffer. The caller has checked `len` against the length of the file.
    #[track_caller]
    pub fn read_vec_at(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut buf = vec![0; len];
        self.read_exact_at(&mut buf, offset)?;
        Ok(buf)
    }

    /// Writes all of `data` at `offset`. After an error any part of it may have been written, and may reach the disk.
    #[track_caller]
    pub fn write_all_at(&self, data: &[u8], offset: u64) -> Result<()> {
        let at = Location::caller();
        let mut done = 0;
        while done < data.len() {
            let position = offset + done as u64;
            match self.inner.write_at(&data[done..], position, at) {
                Ok(0) => {
                    let source =
                        io::Error::new(io::ErrorKind::WriteZero, "the file system wrote no byte and gave no reason");
                    return Err(Error::io("write", &self.path, Some(position), source));
                }
                Ok(count) => {
                    assert!(count <= data.len() - done, "the file system wrote {count} bytes out of fewer");
                    sometimes!("a write finished after a short one", if done > 0 && done + count == data.len());
                    done += count;
                }
                Err(source) if source.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::io("write", &self.path, Some(position), source)),
            }
        }
        Ok(())
    }

    /// Writes the file from its start, as a stream.
    #[track_caller]
    pub fn writer(&self) -> FileWriter {
        FileWriter { file: self.clone(), offset: 0, site: Location::caller() }
    }

    /// Reads the file from its start, as a stream.
    #[track_caller]
    pub fn reader(&self) -> FileReader {
        FileReader { file: self.clone(), offset: 0, site: Location::caller() }
    }

    /// Cuts or extends the file. Durable after a sync.
    #[track_caller]
    pub fn set_len(&self, len: u64) -> Result<()> {
        let at = Location::caller();
        self.inner.set_len(len, at).map_err(|source| Error::io("set the length of", &self.path, Some(len), source))
    }

    /// Makes data and length durable. After an error nothing unsynced in this file may be trusted, and it must not be
    /// synced again.
    #[track_caller]
    pub fn sync_data(&self) -> Result<()> {
        let at = Location::caller();
        self.inner.sync_data(at).map_err(|source| Error::io("sync", &self.path, None, source))
    }

    /// Like [`File::sync_data`], with all metadata.
    #[track_caller]
    pub fn sync_all(&self) -> Result<()> {
        let at = Location::caller();
        self.inner.sync_all(at).map_err(|source| Error::io("sync", &self.path, None, source))
    }

    /// Current length in bytes.
    #[track_caller]
    #[expect(
        clippy::len_without_is_empty,
        reason = "the length of a file can fail, and nobody asks whether it is empty"
    )]
    pub fn len(&self) -> Result<u64> {
        let at = Location::caller();
        self.inner.len(at).map_err(|source| Error::io("stat", &self.path, None, source))
    }
}
