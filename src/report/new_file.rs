//! How does a file come to be there whole or not at all? It is written beside its name, and is given it at the end; what
//! stood there before is replaced only where that was asked for.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Why there is no file. What was there before is as it was.
#[derive(Debug, thiserror::Error)]
pub enum NewFileError {
    #[error("{} is there already; choose another name, or replace it with --overwrite", .0.display())]
    Exists(PathBuf),
    #[error("cannot write {}: {source}; choose a directory that you may write to", file.display())]
    Write { file: PathBuf, source: io::Error },
}

/// A file that is gone again unless it is kept.
#[derive(Debug)]
pub struct NewFile {
    target: PathBuf,
    overwrite: bool,
    file: NamedTempFile,
}

impl NewFile {
    /// # Errors
    /// It is there already and may not be replaced, or its directory cannot be written to.
    pub fn create(target: &Path, overwrite: bool) -> Result<Self, NewFileError> {
        // As any other new file: the process's umask takes away what others may not do.
        Self::create_as(target, overwrite, 0o666)
    }

    /// One that only its owner reads, and that replaces nothing.
    ///
    /// # Errors
    /// It is there already, or its directory cannot be written to.
    pub fn create_private(target: &Path) -> Result<Self, NewFileError> {
        Self::create_as(target, false, 0o600)
    }

    fn create_as(target: &Path, overwrite: bool, mode: u32) -> Result<Self, NewFileError> {
        if !overwrite && target.symlink_metadata().is_ok() {
            return Err(NewFileError::Exists(target.to_owned()));
        }
        let directory = target.parent().filter(|parent| !parent.as_os_str().is_empty());
        let file = tempfile::Builder::new()
            .prefix(".sluice-new-")
            .permissions(std::fs::Permissions::from_mode(mode))
            .tempfile_in(directory.unwrap_or(Path::new(".")));
        match file {
            Ok(file) => Ok(Self { target: target.to_owned(), overwrite, file }),
            Err(source) => Err(NewFileError::Write { file: target.to_owned(), source }),
        }
    }

    /// For what must go back and forth in it.
    pub fn as_file_mut(&mut self) -> &mut File {
        self.file.as_file_mut()
    }

    /// On disk, and under its name.
    ///
    /// # Errors
    /// It could not be written, or another one has come in between and may not be replaced.
    pub fn keep(self) -> Result<(), NewFileError> {
        let Self { target, overwrite, file } = self;
        let failed = |source| NewFileError::Write { file: target.clone(), source };
        file.as_file().sync_all().map_err(failed)?;
        let kept = if overwrite { file.persist(&target) } else { file.persist_noclobber(&target) };
        match kept {
            Ok(_) => Ok(()),
            Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
                Err(NewFileError::Exists(target))
            }
            Err(error) => Err(failed(error.error)),
        }
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
