//! What happened in a run, as a hash over one line a call: the same seed must give the same hash. The lines can be kept.

use std::fmt::Write as _;
use std::time::Duration;

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// The trace of a run.
#[derive(Debug)]
pub struct Trace {
    hash: u64,
    count: u64,
    line: String,
    lines: Option<Vec<String>>,
}

impl Trace {
    /// An empty trace; `keep` to have the lines, too.
    pub fn new(keep: bool) -> Self {
        Self { hash: FNV_OFFSET, count: 0, line: String::new(), lines: keep.then(Vec::new) }
    }

    /// Notes what happened: `12.345678901 batch t ...`.
    pub fn note(&mut self, at: Duration, what: std::fmt::Arguments<'_>) {
        self.line.clear();
        // Writing to a string cannot fail.
        let written = write!(self.line, "{}.{:09} {what}", at.as_secs(), at.subsec_nanos());
        debug_assert!(written.is_ok());
        for byte in self.line.bytes().chain([b'\n']) {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        self.count += 1;
        if let Some(lines) = &mut self.lines {
            lines.push(self.line.clone());
        }
    }

    /// The hash of everything so far (FNV-1a).
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// How many lines there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The lines, where they are kept.
    pub fn lines(&self) -> &[String] {
        self.lines.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_of_the_lines_whether_they_are_kept_or_not() {
        let (mut kept, mut hashed) = (Trace::new(true), Trace::new(false));
        for trace in [&mut kept, &mut hashed] {
            trace.note(Duration::from_millis(1_500), format_args!("a {}", 1));
        }
        assert_eq!((kept.lines(), hashed.lines().len()), (&["1.500000000 a 1".to_owned()][..], 0));
        assert_eq!(kept.hash(), hashed.hash());
        hashed.note(Duration::from_millis(1_500), format_args!("a 1"));
        assert_ne!(kept.hash(), hashed.hash());
    }
}
