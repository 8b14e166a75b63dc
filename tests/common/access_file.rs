//! An access file with a key for each principal, and clients that show them.

#![allow(unreachable_pub, missing_docs, reason = "a module of test binaries")]
#![allow(dead_code, reason = "each test binary uses its own part")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use forebay::access::{KeyIdError, NewKey};
use forebay::client::{Client, ConnectOptions, Token};

/// The file, in a folder of its own.
pub struct AccessFile {
    folder: tempfile::TempDir,
    keys: BTreeMap<String, NewKey>,
}

impl AccessFile {
    /// Principals that may do everything, with these limits (as in the file: `{write_rows: 10}`); and limits of tables.
    pub fn new(principals: &[(&str, &str)], tables: &[(&str, &str)]) -> Self {
        let mut random = fastrand::Rng::new();
        let mut key = |name: &str| {
            NewKey::generate::<KeyIdError>(name, |bytes| {
                random.fill(bytes);
                Ok(())
            })
            .expect("a key")
        };
        let keys = principals.iter().map(|(name, _)| ((*name).to_owned(), key(name))).collect();
        let file = Self { folder: tempfile::tempdir().expect("a folder"), keys };
        file.write(principals, tables);
        file
    }

    /// Writes it again: the same principals, with other limits.
    pub fn write(&self, principals: &[(&str, &str)], tables: &[(&str, &str)]) {
        self.write_with(principals, tables, self.keys.iter());
    }

    fn write_with<'a>(
        &'a self,
        principals: &[(&str, &str)],
        tables: &[(&str, &str)],
        keys: impl Iterator<Item = (&'a String, &'a NewKey)>,
    ) {
        let mut text = "principals:\n".to_owned();
        for (name, limits) in principals {
            let grants = r#"read: ["*"], write: ["*"], admin: ["*"]"#;
            writeln!(text, "  {name}: {{{grants}, limits: {limits}}}").expect("room");
        }
        text.push_str("api_keys:\n");
        for (name, key) in keys {
            let sha256: String =
                key.as_shown().expect("a key").sha256().iter().map(|byte| format!("{byte:02x}")).collect();
            writeln!(text, "  - {{id: {name}, sha256: \"{sha256}\", principal: {name}}}").expect("room");
        }
        if !tables.is_empty() {
            text.push_str("tables:\n");
        }
        for (name, limits) in tables {
            writeln!(text, "  - {{tables: \"{name}\", limits: {limits}}}").expect("room");
        }
        // Whole or not at all: it is watched.
        let next = self.folder.path().join("next.yaml");
        std::fs::write(&next, text).expect("it can be written");
        std::fs::rename(next, self.path()).expect("it can be renamed");
    }

    /// Writes it again without one of the principals and its key.
    pub fn write_without(&self, gone: &str, principals: &[(&str, &str)]) {
        let left: Vec<_> = principals.iter().copied().filter(|(name, _)| *name != gone).collect();
        let keys = self.keys.iter().filter(|(name, _)| *name != gone);
        self.write_with(&left, &[], keys);
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("access.yaml")
    }

    /// A principal's key.
    pub fn key(&self, principal: &str) -> &str {
        self.keys[principal].reveal()
    }

    /// A client that shows a principal's key.
    pub fn client(&self, endpoint: &str, principal: &str) -> Client {
        let token = Token::fixed(self.key(principal));
        ConnectOptions::new(endpoint).token(token).connect().expect("a usable endpoint")
    }
}
