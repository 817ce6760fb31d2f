//! The file of an audit log: a new one is begun when it is full, and old ones go.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// Time in the names of old files, in UTC.
const TIME: &str = "%Y-%m-%dT%H-%M-%S.%3f";

/// End of the name of a compressed file.
const COMPRESSED: &str = ".gz";

/// Where an audit log is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditFile {
    /// The file; standard output where it is `-`.
    pub path: PathBuf,
    /// Bytes after which a new one is begun; `None`: never.
    pub max_size: Option<u64>,
    /// Old ones that are kept; `None`: all.
    pub max_backups: Option<usize>,
    /// Time that old ones are kept; `None`: for ever.
    pub max_age: Option<Duration>,
    /// Whether old ones are compressed.
    pub compress: bool,
}

/// An open one.
#[derive(Debug)]
pub(super) enum LogFile {
    Stdout,
    Rotated { settings: AuditFile, file: File, size: u64 },
}

impl LogFile {
    /// Opens the file to write at its end; whoever may read what was asked is a secret of its owner.
    pub(super) fn open(settings: AuditFile) -> io::Result<Self> {
        if settings.path == Path::new("-") {
            return Ok(Self::Stdout);
        }
        if let Some(folder) = settings.path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder)?;
        }
        let file = open(&settings.path)?;
        let size = file.metadata()?.len();
        Ok(Self::Rotated { settings, file, size })
    }

    /// Writes `lines`, which are whole.
    pub(super) fn write(&mut self, lines: &[u8], now: Timestamp) -> io::Result<()> {
        let Self::Rotated { settings, file, size } = self else {
            let mut out = io::stdout().lock();
            out.write_all(lines)?;
            return out.flush();
        };
        let length = lines.len() as u64;
        let is_full = *size > 0 && settings.max_size.is_some_and(|most| *size + length > most);
        let old = is_full.then(|| settings.old_name(now));
        if let Some(old) = &old {
            match fs::rename(&settings.path, old) {
                // Somebody else has set it aside.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            *file = open(&settings.path)?;
            *size = file.metadata()?.len();
        }
        file.write_all(lines)?;
        *size += length;
        if let Some(old) = old {
            settings.tidy(&old, now);
        }
        Ok(())
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Replaces `path` by `path.gz`.
fn compress(path: &Path) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(COMPRESSED);
    let target = OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&name)?;
    let mut encoder = GzEncoder::new(target, Compression::default());
    io::copy(&mut File::open(path)?, &mut encoder)?;
    encoder.finish()?.sync_all()?;
    fs::remove_file(path)
}

impl AuditFile {
    /// Before and behind the time in the names of old files.
    fn around_time(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let extension = text(self.path.extension());
        let extension = if extension.is_empty() { extension } else { format!(".{extension}") };
        (format!("{}-", text(self.path.file_stem())), extension)
    }

    fn old_name(&self, now: Timestamp) -> PathBuf {
        let (before, behind) = self.around_time();
        self.path.with_file_name(format!("{before}{}{behind}", now.strftime(TIME)))
    }

    /// Deletes what is too many or too old, and compresses what was set aside. What is written is safe without it.
    fn tidy(&self, old: &Path, now: Timestamp) {
        let forgotten = self.forget_old(now);
        let compressed = if self.compress && old.exists() { compress(old) } else { Ok(()) };
        if let Err(error) = forgotten.and(compressed) {
            tracing::warn!(%error, path = %self.path.display(), "old files of the audit log cannot be deleted or compressed");
        }
    }

    /// Deletes old files that are too many or too old.
    fn forget_old(&self, now: Timestamp) -> io::Result<()> {
        let (before, behind) = self.around_time();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut old: Vec<(Timestamp, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let plain = name.to_str().map(|name| name.strip_suffix(COMPRESSED).unwrap_or(name));
            let time = plain.and_then(|name| name.strip_prefix(&before)?.strip_suffix(&behind));
            let time = time.and_then(|time| DateTime::strptime(TIME, time).ok()?.to_zoned(TimeZone::UTC).ok());
            old.extend(time.map(|time| (time.timestamp(), entry.path())));
        }
        old.sort_by(|(one, _), (other, _)| other.cmp(one));
        let is_old = |time: Timestamp| {
            self.max_age.is_some_and(|most| Duration::try_from(now.duration_since(time)).is_ok_and(|age| age > most))
        };
        let most = self.max_backups.unwrap_or(usize::MAX);
        for (_, path) in
            old.iter().enumerate().filter(|(index, (time, _))| *index >= most || is_old(*time)).map(|(_, of)| of)
        {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, os::unix::fs::PermissionsExt as _};

    use flate2::read::GzDecoder;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn settings(folder: &Path) -> AuditFile {
        AuditFile {
            path: folder.join("logs/audit.log"),
            max_size: Some(10),
            max_backups: None,
            max_age: None,
            compress: false,
        }
    }

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap()
    }

    #[test]
    fn a_full_file_is_set_aside_and_what_is_there_is_gone_on_with() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let mut log = LogFile::open(settings.clone()).unwrap();
        log.write(b"first\n", at(0)).unwrap();
        drop(log);
        let mut log = LogFile::open(settings.clone()).unwrap();
        log.write(b"2nd\n", at(0)).unwrap();
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "first\n2nd\n");
        log.write(b"longer than allowed\n", at(1)).unwrap();
        log.write(b"last\n", at(2)).unwrap();
        let folder = settings.path.parent().unwrap();
        assert_eq!(
            names(folder),
            ["audit-2027-01-16T08-00-00.000.log", "audit-2027-01-17T08-00-00.000.log", "audit.log"]
        );
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "last\n");
        assert_eq!(fs::metadata(&settings.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_somebody_else_moved_away_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let mut log = LogFile::open(settings.clone()).unwrap();
        log.write(b"more than ten bytes\n", at(0)).unwrap();
        fs::remove_file(&settings.path).unwrap();
        log.write(b"second\n", at(1)).unwrap();
        log.write(b"3rd\n", at(1)).unwrap();
        assert_eq!(fs::read_to_string(&settings.path).unwrap(), "3rd\n");
        assert_eq!(names(settings.path.parent().unwrap()).len(), 2, "the second was full in its turn");
    }

    #[test]
    fn old_files_go_when_they_are_too_many_or_too_old_and_others_are_left_alone() {
        let days = |count: u64| Duration::from_hours(count * 24);
        for (max_backups, max_age, compress, left) in [
            (Some(2), None, false, 2),
            (Some(2), None, true, 2),
            (None, Some(days(3)), false, 4),
            (None, None, true, 6),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let settings = AuditFile { max_backups, max_age, compress, ..settings(folder.path()) };
            let mut log = LogFile::open(settings.clone()).unwrap();
            let folder = settings.path.parent().unwrap();
            for other in ["audit-notes.log", "audit-2020-01-01T00-00-00.000.txt", "other-2020-01-01T00-00-00.000.log"] {
                fs::write(folder.join(other), "").unwrap();
            }
            for day in 0..7 {
                log.write(b"more than ten bytes\n", at(day)).unwrap();
            }
            // Those, and the one that is written.
            let names = names(folder);
            assert_eq!(names.len(), left + 3 + 1, "{max_backups:?} {max_age:?}: {names:?}");
            let compressed = names.iter().filter(|name| name.ends_with(COMPRESSED));
            assert_eq!(compressed.clone().count(), if compress { left } else { 0 }, "{names:?}");
            for name in compressed {
                let mut text = String::new();
                GzDecoder::new(File::open(folder.join(name)).unwrap()).read_to_string(&mut text).unwrap();
                assert_eq!(text, "more than ten bytes\n");
            }
        }
    }
}
