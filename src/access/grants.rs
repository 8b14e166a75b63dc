//! Grants: which tables a principal may read, write and administer.

use std::fmt;

/// What a call does with a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Read rows, and the definition.
    Read,
    /// Write rows, and read the definition that they are written by.
    Write,
    /// Create, change and drop the table, and read its definition.
    Admin,
}

/// A name of tables, with `*` for any text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob(Box<str>);

/// A pattern that names no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no pattern of table names; expected letters, digits, `_`, `-`, `.` and `*`, such as `card_*`")]
pub struct GlobError {
    /// The pattern.
    pub pattern: String,
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Glob {
    /// A pattern; `*` stands for any text, also for none.
    ///
    /// # Errors
    ///
    /// Where it has a character that is in no table's name.
    pub fn try_new(pattern: &str) -> Result<Self, GlobError> {
        let fits = |character: char| character.is_ascii_alphanumeric() || "_-.*".contains(character);
        match !pattern.is_empty() && pattern.chars().all(fits) {
            true => Ok(Self(pattern.into())),
            false => Err(GlobError { pattern: pattern.to_owned() }),
        }
    }

    /// Whether the pattern names this table.
    pub fn matches(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let (Some(first), last) = (parts.next(), self.0.rsplit('*').next()) else { return false };
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        if !self.0.contains('*') {
            return rest.is_empty();
        }
        let mut middle: Vec<&str> = parts.collect();
        middle.pop();
        for part in middle {
            // The leftmost place leaves the most for the parts after it.
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        last.is_some_and(|last| rest.ends_with(last))
    }
}

/// What a principal may do; all else is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// Tables whose rows it may read.
    pub read: Vec<Glob>,
    /// Tables whose rows it may write.
    pub write: Vec<Glob>,
    /// Tables that it may create, change and drop.
    pub admin: Vec<Glob>,
}

impl Grants {
    /// Whether this is granted for this table. No permission implies another.
    pub fn allow(&self, permission: Permission, table: &str) -> bool {
        let globs = match permission {
            Permission::Read => &self.read,
            Permission::Write => &self.write,
            Permission::Admin => &self.admin,
        };
        globs.iter().any(|glob| glob.matches(table))
    }

    /// Whether anything is granted for this table: then its definition is no secret, nor whether it exists.
    pub fn show(&self, table: &str) -> bool {
        [Permission::Read, Permission::Write, Permission::Admin].into_iter().any(|p| self.allow(p, table))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text_and_everything_else_for_itself() {
        let cases = [
            ("*", "anything", true),
            ("card_*", "card_", true),
            ("card_*", "card_scores", true),
            ("card_*", "cards", false),
            ("*_scores", "card_scores", true),
            ("*_scores", "card_scores_old", false),
            ("a*b*c", "a-x-b-y-c", true),
            ("a*b*c", "abc", true),
            ("a*b*c", "acb", false),
            ("a*ab", "ab", false),
            ("a*ba*a", "aba", false),
            ("exact", "exact", true),
            ("exact", "exactly", false),
            ("a**b", "ab", true),
        ];
        for (pattern, name, fits) in cases {
            assert_eq!(Glob::try_new(pattern).unwrap().matches(name), fits, "{pattern} {name}");
        }
        for bad in ["", "a b", "a/b", "ä", "a?"] {
            assert_eq!(Glob::try_new(bad).unwrap_err().pattern, bad);
        }
    }

    #[test]
    fn no_permission_implies_another() {
        let tables = |pattern| vec![Glob::try_new(pattern).unwrap()];
        let grants = Grants { read: tables("r*"), write: tables("w*"), admin: tables("a*") };
        for (table, allowed) in [("r", Permission::Read), ("w", Permission::Write), ("a", Permission::Admin)] {
            for permission in [Permission::Read, Permission::Write, Permission::Admin] {
                assert_eq!(grants.allow(permission, table), permission == allowed, "{permission:?} {table}");
            }
            assert!(grants.show(table));
        }
        assert!(!grants.show("x") && !Grants::default().show("r"));
    }
}
