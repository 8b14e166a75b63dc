//! Where rows come from: a file that can be read twice, or a stream that cannot; and which format it has.

use std::fs::File;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::cli::CliError;

/// Bytes of a stream that are looked at before anything is sent.
const SAMPLE_BYTES: u64 = 4 * 1024 * 1024;

/// The formats that `load` reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Comma-separated values with a header; an empty cell is a null
    Csv,
    /// One JSON object a line
    Ndjson,
    /// Apache Parquet
    Parquet,
    /// Arrow IPC, file or stream
    Arrow,
}

/// Something that gives bytes.
pub(super) type ByteSource = Box<dyn Read + Send>;

/// The input.
pub(super) struct Input {
    /// How messages call it.
    pub(super) name: String,
    bytes: Source,
}

enum Source {
    /// A regular file: looked at as a whole before anything is sent.
    File(PathBuf),
    /// The start of a stream, and the rest unless the start is all.
    Stream { sample: Bytes, rest: Option<ByteSource> },
}

impl Input {
    /// Opens a file, or standard input for `-`.
    pub(super) fn open(path: &str) -> Result<Self, CliError> {
        if path == "-" {
            return Self::stream("standard input".to_owned(), Box::new(std::io::stdin()));
        }
        let name = Path::new(path).file_name().map_or(path.to_owned(), |name| name.to_string_lossy().into_owned());
        let file = open(Path::new(path), &name)?;
        match file.metadata() {
            Ok(metadata) if metadata.is_dir() => Err(CliError::usage(format!("{path} is a folder, not a file"))),
            Ok(metadata) if metadata.is_file() => Ok(Self { name, bytes: Source::File(path.into()) }),
            _ => Self::stream(name, Box::new(file)),
        }
    }

    fn stream(name: String, mut rest: ByteSource) -> Result<Self, CliError> {
        let mut sample = Vec::new();
        let read = rest.by_ref().take(SAMPLE_BYTES).read_to_end(&mut sample);
        let read = read.map_err(|error| CliError::usage(format!("{name} cannot be read: {error}")))?;
        let rest = (read as u64 == SAMPLE_BYTES).then_some(rest);
        Ok(Self { name, bytes: Source::Stream { sample: sample.into(), rest } })
    }

    /// Whether looking at it beforehand sees all of it.
    pub(super) fn is_seen_whole(&self) -> bool {
        matches!(&self.bytes, Source::File(_) | Source::Stream { rest: None, .. })
    }

    /// The bytes to look at beforehand: all of a file, whole lines from the start of a stream.
    pub(super) fn sample(&self) -> Result<ByteSource, CliError> {
        Ok(match &self.bytes {
            Source::File(path) => Box::new(open(path, &self.name)?),
            Source::Stream { sample, rest: None } => Box::new(Cursor::new(sample.clone())),
            Source::Stream { sample, rest: Some(_) } => {
                let end = sample.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
                Box::new(Cursor::new(sample.slice(..end)))
            }
        })
    }

    /// All bytes.
    pub(super) fn into_reader(self) -> Result<ByteSource, CliError> {
        Ok(match self.bytes {
            Source::File(path) => Box::new(open(&path, &self.name)?),
            Source::Stream { sample, rest: None } => Box::new(Cursor::new(sample)),
            Source::Stream { sample, rest: Some(rest) } => Box::new(Cursor::new(sample).chain(rest)),
        })
    }

    /// As something that can be read at any place: the file, or all of a stream in memory.
    pub(super) fn into_seekable(self) -> Result<Seekable, CliError> {
        match self.bytes {
            Source::File(path) => Ok(Seekable::File(open(&path, &self.name)?)),
            Source::Stream { sample, rest } => {
                let mut all = Vec::from(sample);
                if let Some(mut rest) = rest {
                    let read = rest.read_to_end(&mut all);
                    read.map_err(|error| CliError::usage(format!("{} cannot be read: {error}", self.name)))?;
                }
                Ok(Seekable::Memory(all.into()))
            }
        }
    }

    /// The format: by the first bytes, else by the name.
    pub(super) fn format(&self) -> Result<Format, CliError> {
        let mut start = Vec::new();
        match &self.bytes {
            Source::File(path) => {
                let read = open(path, &self.name)?.take(64).read_to_end(&mut start);
                read.map_err(|error| CliError::usage(format!("{} cannot be read: {error}", self.name)))?;
            }
            Source::Stream { sample, .. } => start.extend_from_slice(&sample[..sample.len().min(64)]),
        }
        let by_magic = if start.starts_with(b"PAR1") {
            Some(Format::Parquet)
        } else if start.starts_with(b"ARROW1") || start.starts_with(&[0xff; 4]) {
            Some(Format::Arrow)
        } else {
            None
        };
        let extension = Path::new(&self.name).extension().map(|e| e.to_ascii_lowercase());
        let by_name = match extension.as_ref().and_then(|extension| extension.to_str()) {
            Some("csv") => Some(Format::Csv),
            Some("ndjson" | "jsonl" | "json") => Some(Format::Ndjson),
            Some("parquet" | "pq") => Some(Format::Parquet),
            Some("arrow" | "arrows" | "feather" | "ipc") => Some(Format::Arrow),
            _ => None,
        };
        let by_text = (start.trim_ascii_start().first() == Some(&b'{')).then_some(Format::Ndjson);
        by_magic.or(by_name).or(by_text).ok_or_else(|| {
            let message = "its format cannot be told from its name or its first bytes; say --format";
            CliError::usage(format!("{}: {message} csv, ndjson, parquet or arrow", self.name))
        })
    }
}

/// Something that can be read at any place.
pub(super) enum Seekable {
    File(File),
    Memory(Bytes),
}

fn open(path: &Path, name: &str) -> Result<File, CliError> {
    File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => CliError::usage(format!("there is no file {}", path.display())),
        _ => CliError::usage(format!("{name} cannot be opened: {error}")),
    })
}
