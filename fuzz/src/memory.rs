//! A file system in memory for one fuzz input: it keeps what it is given and never fails, so that whatever goes wrong
//! is the fault of the bytes. Crashes and failing calls are the simulator's business.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use strata::env::{Clock, DirEntry, Env, FileLock, Fs, FsFile, OpenMode, Runtime, Site, TaskHandle};
use strata::sync::Mutex;

type Content = Arc<Mutex<Vec<u8>>>;

/// Files by path; directories are not asked for.
pub(crate) struct Memory {
    files: Mutex<BTreeMap<PathBuf, Content>>,
}

impl Memory {
    /// An empty world.
    pub(crate) fn world() -> (Env, Arc<Memory>) {
        let memory = Arc::new(Memory { files: Mutex::new("files", BTreeMap::new()) });
        (Env::new(memory.clone(), Arc::new(Still), Arc::new(Still)), memory)
    }

    /// A world with one file.
    pub(crate) fn with_file(path: &Path, content: Vec<u8>) -> Env {
        let (env, memory) = Memory::world();
        memory.files.lock().insert(path.to_path_buf(), Arc::new(Mutex::new("file", content)));
        env
    }

    /// The bytes of a file, which exists.
    pub(crate) fn content(&self, path: &Path) -> Vec<u8> {
        self.find(path).expect("the file was written before").lock().clone()
    }

    fn find(&self, path: &Path) -> io::Result<Content> {
        self.files.lock().get(path).cloned().ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Fs for Memory {
    fn open(&self, path: &Path, mode: OpenMode, _at: Site) -> io::Result<Arc<dyn FsFile>> {
        let content = match mode {
            OpenMode::Read | OpenMode::Write => self.find(path)?,
            OpenMode::CreateNew | OpenMode::CreateOrTruncate => {
                let content = Arc::new(Mutex::new("file", Vec::new()));
                let before = self.files.lock().insert(path.to_path_buf(), content.clone());
                if mode == OpenMode::CreateNew && before.is_some() {
                    return Err(io::ErrorKind::AlreadyExists.into());
                }
                content
            }
        };
        Ok(Arc::new(MemoryFile { content }))
    }

    fn rename(&self, from: &Path, to: &Path, _at: Site) -> io::Result<()> {
        let content = self.find(from)?;
        let mut files = self.files.lock();
        files.remove(from);
        files.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path, _at: Site) -> io::Result<()> {
        let content = self.find(from)?;
        self.files.lock().insert(to.to_path_buf(), content);
        Ok(())
    }

    fn remove_file(&self, path: &Path, _at: Site) -> io::Result<()> {
        self.files.lock().remove(path).map(drop).ok_or(io::ErrorKind::NotFound.into())
    }

    fn create_dir(&self, _path: &Path, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _path: &Path, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _path: &Path, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn read_dir(&self, path: &Path, _at: Site) -> io::Result<Vec<DirEntry>> {
        let files = self.files.lock();
        let inside = files.keys().filter(|file| file.parent() == Some(path));
        let names = inside.filter_map(|file| file.file_name().and_then(|name| name.to_str()));
        Ok(names.map(|name| DirEntry { name: name.into(), is_dir: false }).collect())
    }

    fn file_len(&self, path: &Path, _at: Site) -> io::Result<u64> {
        Ok(self.find(path)?.lock().len() as u64)
    }

    fn lock_file(&self, _path: &Path, _at: Site) -> io::Result<Box<dyn FileLock>> {
        Ok(Box::new(NoLock))
    }

    fn bytes_free(&self, _path: &Path, _at: Site) -> io::Result<u64> {
        Ok(u64::MAX)
    }
}

struct NoLock;

impl FileLock for NoLock {}

struct MemoryFile {
    content: Content,
}

impl FsFile for MemoryFile {
    fn read_at(&self, buf: &mut [u8], offset: u64, _at: Site) -> io::Result<usize> {
        let content = self.content.lock();
        let rest = usize::try_from(offset).ok().and_then(|offset| content.get(offset..)).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, data: &[u8], offset: u64, _at: Site) -> io::Result<usize> {
        let mut content = self.content.lock();
        let (start, end) = (offset as usize, offset as usize + data.len());
        if content.len() < end {
            content.resize(end, 0);
        }
        content[start..end].copy_from_slice(data);
        Ok(data.len())
    }

    fn set_len(&self, len: u64, _at: Site) -> io::Result<()> {
        self.content.lock().resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&self, _at: Site) -> io::Result<()> {
        Ok(())
    }

    fn len(&self, _at: Site) -> io::Result<u64> {
        Ok(self.content.lock().len() as u64)
    }
}

/// Time stands still, and there is nobody else.
struct Still;

impl Clock for Still {
    fn now(&self) -> Duration {
        Duration::ZERO
    }

    fn wall_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, _duration: Duration) {}
}

impl Runtime for Still {
    fn spawn(&self, _name: &str, _body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn TaskHandle>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn yield_point(&self, _label: &'static str) {}

    fn random_u64(&self) -> u64 {
        0
    }
}
