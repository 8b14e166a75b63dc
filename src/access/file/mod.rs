//! The access file: the YAML that says who may come in and what each may do.
//!
//! It is read strictly: what cannot be meant is refused, with file, line, key and what was expected, before anything of it
//! holds. The text comes in; watching the file is `middleware::auth`'s.
//!
//! Callers: `server` at the start, `middleware::auth` when the file changes, `cli::keys`.

mod written;

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ApiKey, Grants, IssuerConfig, JwksSource, Limits, Policy, Principal, TableLimits};
use crate::limits::ACCESS_FILE_MAX_BYTES;
use crate::yaml::{self, Lined, YamlError};

/// What the caller is called where nobody has to say who they are.
pub(super) const ANYONE: &str = "anyone";

/// Why a file gives no policy.
#[derive(Debug, thiserror::Error)]
pub enum AccessFileError {
    /// It cannot be read.
    #[error("cannot read the access file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Nobody writes so much.
    #[error("the access file {path} is larger than {ACCESS_FILE_MAX_BYTES} bytes", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It does not say who may do what.
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

/// The text of an access file.
///
/// # Errors
///
/// Where there is none, or far too much of it.
pub fn read_access_file(path: &Path) -> Result<String, AccessFileError> {
    let failed = |source| AccessFileError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(failed)?.len() > ACCESS_FILE_MAX_BYTES {
        return Err(AccessFileError::TooLarge { path: path.to_owned() });
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// What an access file's text says.
///
/// # Errors
///
/// Where it says nothing, or what cannot be meant.
pub fn parse_access_file(path: &Path, text: &str) -> Result<Policy, AccessFileError> {
    let reader = Reader { file: &path.display().to_string(), folder: path.parent().unwrap_or(Path::new("")) };
    Ok(reader.policy(text)?)
}

struct Reader<'a> {
    file: &'a str,
    /// Where the file is: what is named relative to it.
    folder: &'a Path,
}

/// Names of certificates, and whose they are.
type Certificates = Vec<(Arc<str>, Arc<str>)>;

/// The principals of the file, to look up those that are referred to.
type Principals = HashMap<Arc<str>, Arc<Principal>>;

impl Reader<'_> {
    fn policy(&self, text: &str) -> Result<Policy, YamlError> {
        if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
            // A file that somebody is about to write, or wrote in vain, would lock everybody out.
            return Err(self.wrong(None, "the file says nothing", "`principals`, and how each is known"));
        }
        let written: written::File = yaml::document(self.file, text)?;
        let principals = self.principals(written.principals)?;
        Ok(Policy {
            api_keys: self.api_keys(written.api_keys, &principals)?,
            issuers: self.issuers(written.issuers, &principals)?,
            certificates: self.certificates(written.client_certificates, &principals)?,
            table_limits: self.tables(written.tables)?,
            principals,
        })
    }

    fn wrong(&self, line: Option<u64>, problem: impl Into<String>, expected: impl Into<String>) -> YamlError {
        Lined { value: (), line }.wrong(self.file, problem, expected)
    }

    fn principals(&self, written: written::Pairs<written::Principal>) -> Result<Principals, YamlError> {
        let mut principals = Principals::new();
        for (name, principal) in written.0 {
            let Lined { value: written::Name(text), line } = name;
            if *text == *ANYONE {
                let problem =
                    format!("no principal can be called `{ANYONE}`: metrics call callers so that need no credential");
                return Err(self.wrong(line, problem, "another name"));
            }
            let written::Principal { read, write, admin, operator, limits } = principal;
            let tables = |globs: Vec<written::TablesGlob>| globs.into_iter().map(|glob| glob.0).collect();
            let grants = Grants { read: tables(read), write: tables(write), admin: tables(admin) };
            let principal = Principal { name: Arc::clone(&text), grants, limits: limits_of(limits), operator };
            principals.insert(text, Arc::new(principal));
        }
        match principals.is_empty() {
            true => Err(self.wrong(Some(1), "`principals` names nobody", "at least one")),
            false => Ok(principals),
        }
    }

    /// The principal that is referred to.
    fn known(&self, name: Lined<written::Name>, principals: &Principals) -> Result<Arc<str>, YamlError> {
        match principals.get_key_value(&name.value.0) {
            Some((known, _)) => Ok(Arc::clone(known)),
            None => {
                let problem = format!("wrong value for `principal`: there is no principal `{}`", name.value.0);
                Err(name.wrong(self.file, problem, one_of(principals)))
            }
        }
    }

    fn api_keys(
        &self,
        written: Vec<written::ApiKey>,
        principals: &Principals,
    ) -> Result<HashMap<Arc<str>, Arc<ApiKey>>, YamlError> {
        let mut keys = HashMap::new();
        let mut hashes = Once::default();
        for written::ApiKey { id, sha256, principal, expires_at } in written {
            let written::KeyId(text) = &id.value;
            if keys.contains_key(text) {
                return Err(id.wrong(
                    self.file,
                    format!("wrong value for `id`: the key `{text}` is there twice"),
                    "another id",
                ));
            }
            if !hashes.is_new(sha256.value.0) {
                // A key holds its id: one hash cannot be that of two.
                let problem = "wrong value for `sha256`: another key has it, too";
                return Err(sha256.wrong(self.file, problem, "what `forebay keys create` printed for this id"));
            }
            let key = ApiKey {
                id: Arc::clone(text),
                sha256: sha256.value.0,
                principal: self.known(principal, principals)?,
                expires_at: expires_at.map(|moment| moment.0),
            };
            keys.insert(Arc::clone(text), Arc::new(key));
        }
        Ok(keys)
    }

    fn issuers(
        &self,
        written: Vec<written::Issuer>,
        principals: &Principals,
    ) -> Result<Vec<Arc<IssuerConfig>>, YamlError> {
        let mut names = Once::default();
        let issuer = |written: written::Issuer| {
            let (name, line) = (written.issuer.value.0, written.issuer.line);
            if !names.is_new(name.clone()) {
                return Err(self.wrong(
                    line,
                    format!("wrong value for `issuer`: `{name}` is there twice"),
                    "each once",
                ));
            }
            let keys = match (written.jwks_url, written.jwks_file) {
                (Some(url), None) => JwksSource::Url(url.0),
                (None, Some(path)) => JwksSource::File(self.folder.join(path)),
                (Some(_), Some(_)) => {
                    let problem = format!("the issuer `{name}` has both `jwks_url` and `jwks_file`");
                    return Err(self.wrong(line, problem, "one of them"));
                }
                (None, None) => {
                    let problem = format!("the issuer `{name}` has no keys");
                    return Err(self.wrong(line, problem, "`jwks_url` or `jwks_file`"));
                }
            };
            for (key, is_empty, line) in [
                ("audiences", written.audiences.value.is_empty(), written.audiences.line),
                ("algorithms", written.algorithms.value.is_empty(), written.algorithms.line),
            ] {
                if is_empty {
                    return Err(self.wrong(line, format!("wrong value for `{key}`: an empty list"), "at least one"));
                }
            }
            let mapped = written.principals.map(|pairs| {
                let pair =
                    |(claim, name): (Lined<written::Name>, _)| Ok((claim.value.0, self.known(name, principals)?));
                pairs.0.into_iter().map(pair).collect::<Result<_, YamlError>>()
            });
            Ok(Arc::new(IssuerConfig {
                issuer: name.into(),
                audiences: written.audiences.value.into_iter().map(|audience| audience.0).collect(),
                keys,
                algorithms: written.algorithms.value,
                principal_claim: written.principal_claim.map_or_else(|| "sub".to_owned(), |claim| claim.0),
                principals: mapped.transpose()?,
            }))
        };
        written.into_iter().map(issuer).collect()
    }

    fn certificates(
        &self,
        written: Vec<written::Certificate>,
        principals: &Principals,
    ) -> Result<Certificates, YamlError> {
        let mut names = Once::default();
        let certificate = |written: written::Certificate| {
            let written::CertificateName(name) = &written.name.value;
            if !names.is_new(Arc::clone(name)) {
                let problem = format!("wrong value for `name`: `{name}` is there twice");
                return Err(written.name.wrong(self.file, problem, "each name once"));
            }
            Ok((Arc::clone(name), self.known(written.principal, principals)?))
        };
        written.into_iter().map(certificate).collect()
    }

    fn tables(&self, written: Vec<written::Tables>) -> Result<Vec<TableLimits>, YamlError> {
        let mut all: Vec<TableLimits> = Vec::new();
        for written::Tables { tables, limits } in written {
            if all.iter().any(|limits| limits.tables == tables.value.0) {
                let problem = "wrong value for `tables`: the pattern is there twice, and only the first counts";
                return Err(tables.wrong(self.file, problem, "each pattern once"));
            }
            all.push(TableLimits {
                tables: tables.value.0,
                write_rows: limits.write_rows.map(|rate| rate.0),
                write_kib: limits.write_kib.map(|rate| rate.0),
                read_rows: limits.read_rows.map(|rate| rate.0),
            });
        }
        Ok(all)
    }
}

fn limits_of(written: written::Limits) -> Limits {
    let written::Limits { write_rows, write_kib, read_rows, stream_opens, streams, weight } = written;
    Limits {
        write_rows: write_rows.map(|rate| rate.0),
        write_kib: write_kib.map(|rate| rate.0),
        read_rows: read_rows.map(|rate| rate.0),
        stream_opens: stream_opens.map(|rate| rate.0),
        streams: streams.map(|count| count.0),
        weight: weight.map_or(NonZeroU32::MIN, |count| count.0),
    }
}

/// The principals there are, while they can be read at a glance.
fn one_of(principals: &Principals) -> String {
    const AT_A_GLANCE: usize = 8;
    let mut names: Vec<_> = principals.keys().map(|name| format!("`{name}`")).collect();
    names.sort_unstable();
    match names.len() {
        1 => names.concat(),
        2..=AT_A_GLANCE => format!("one of {}", names.join(", ")),
        _ => "a name under `principals`".to_owned(),
    }
}

/// What was there already.
#[derive(Debug)]
struct Once<T>(HashSet<T>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(HashSet::new())
    }
}

impl<T: Hash + Eq> Once<T> {
    fn is_new(&mut self, value: T) -> bool {
        self.0.insert(value)
    }
}

#[cfg(test)]
mod tests;
