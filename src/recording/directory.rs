//! A directory of recordings that does not grow for ever.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::Recording;

/// What files of ours are called: `wva-` and the time of the snapshot, so that their names are in the order of time.
const PREFIX: &str = "wva-";
const SUFFIX: &str = ".json.gz";

/// How much a directory holds; the oldest recordings go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectoryLimits {
    /// Most recordings.
    pub files: u64,
    /// Most bytes of all recordings together.
    pub bytes: u64,
}

/// A directory of recordings. Only files that are named like recordings are counted or removed.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    limits: DirectoryLimits,
}

impl Directory {
    /// The directory at `path`, which is made where it does not exist.
    ///
    /// # Errors
    /// Where it cannot be made.
    pub fn open(path: &Path, limits: DirectoryLimits) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self { path: path.to_owned(), limits })
    }

    /// Adds a recording and removes old ones beyond the limits; where it is.
    ///
    /// # Errors
    /// Where it cannot be written. A half-written file never has a recording's name.
    pub fn add(&self, recording: &Recording) -> io::Result<PathBuf> {
        let packed = recording.pack().map_err(io::Error::other)?;
        let path = self.path.join(file_name(recording.snapshot.taken_at));
        let partial = path.with_extension("partial");
        fs::write(&partial, packed)?;
        fs::rename(&partial, &path)?;
        self.rotate()?;
        Ok(path)
    }

    /// The recordings, oldest first, with their sizes.
    ///
    /// # Errors
    /// Where the directory cannot be listed.
    pub fn recordings(&self) -> io::Result<Vec<(PathBuf, u64)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let is_ours =
                entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX));
            if is_ours {
                found.push((entry.path(), entry.metadata()?.len()));
            }
        }
        found.sort();
        Ok(found)
    }

    fn rotate(&self) -> io::Result<()> {
        let mut recordings = self.recordings()?;
        // The newest stays, whatever its size.
        let newest = recordings.pop();
        let mut left = newest.map_or((0, 0), |(_, size)| (1, size));
        for (path, size) in recordings.into_iter().rev() {
            left = (left.0 + 1, left.1 + size);
            if left.0 > self.limits.files || left.1 > self.limits.bytes {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }
}

/// `wva-2026-11-25T10-00-00.123Z.json.gz`: names sort by time, and no file system objects to colons.
fn file_name(taken_at: Timestamp) -> String {
    format!("{PREFIX}{}{SUFFIX}", format!("{taken_at:.3}").replace(':', "-"))
}
