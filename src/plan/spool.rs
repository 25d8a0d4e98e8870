//! How is a plan read that can be read only once? A pipe is copied into a file of its own first: a plan is read twice.

use std::fs::File;
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::Format;

/// A plan that came through a pipe.
#[derive(Debug)]
pub struct Spooled {
    /// Gone with this value.
    pub file: tempfile::NamedTempFile,
    /// The name for what is kept beside the plan: the same for the same plan, in the current directory.
    pub name: PathBuf,
}

/// Whether a path names an open file of a process: `/dev/fd/63`, as a shell writes `<(...)`.
pub fn is_numbered(plan: &Path) -> bool {
    plan == Path::new("/dev/stdin") || plan.starts_with("/dev/fd") || plan.starts_with("/proc")
}

/// A plan larger than this is a mistake, or should be a file.
const MOST: u64 = 4 << 30;

/// Copies a plan that is `-` or no regular file; `None` for one that can be read as it is.
///
/// # Errors
/// It cannot be read, or there is no room for the copy.
pub fn spooled(plan: &Path, format: Option<Format>) -> io::Result<Option<Spooled>> {
    let input: Box<dyn Read> = if plan == Path::new("-") || plan == Path::new("/dev/stdin") {
        Box::new(io::stdin().lock())
    } else {
        match plan.metadata() {
            // what has only a number has no place for the files beside it either
            Ok(found) if !found.is_dir() && (!found.is_file() || is_numbered(plan)) => {
                Box::new(File::open(plan)?)
            }
            _ => return Ok(None),
        }
    };
    let mut file = tempfile::NamedTempFile::new()?;
    if io::copy(&mut input.take(MOST + 1), &mut file)? > MOST {
        return Err(io::Error::other(
            "more than 4 GiB came through the pipe: put the plan into a file",
        ));
    }
    file.flush()?;
    file.rewind()?;
    let mut digest = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => break,
            read => digest.update(&piece[..read]),
        }
    }
    let mut id = [0; 8];
    id[2..].copy_from_slice(&digest.finalize()[..6]);
    let id = format!("{:012x}", u64::from_be_bytes(id));
    let ending = format.map_or("plan", |format| match format {
        Format::Csv => "csv",
        Format::Xlsx => "xlsx",
        Format::Xls => "xls",
        Format::Ods => "ods",
        Format::Jsonl => "jsonl",
        Format::Json => "json",
    });
    Ok(Some(Spooled { file, name: format!("plan-{id}.{ending}").into() }))
}
