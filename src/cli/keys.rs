//! `forebay keys create|hash|list`: API keys, without a gateway.
//!
//! Nothing is written to a file: `create` prints the key once, on stdout, and the entry for the access file on stderr, so that
//! `forebay keys create ... > spark.key` keeps the two apart. The entry holds no secret.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand};
use serde_json::json;

use super::{CliError, Exit, print_json, print_line};
use crate::access::{KeyIdError, NewKey, Policy, ShownKey, check_key_id, parse_access_file, read_access_file};
use crate::yaml::{duration, moment};

/// What stands for a principal that was not named. No file takes it for one by mistake: it has to be there.
const SOME_PRINCIPAL: &str = "PRINCIPAL";
/// Longest line that is taken for a key.
const KEY_LINE_MAX_BYTES: u64 = 4096;

/// Arguments of `keys`.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(subcommand)]
    command: KeysCommand,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make a key: prints it once, and the entry for the access file
    Create(CreateArgs),
    /// Read a key from standard input, and print its entry for the access file
    Hash(HashArgs),
    /// List the keys of an access file, without their hashes
    List(ListArgs),
}

#[derive(Debug, Args)]
struct EntryArgs {
    /// Whose key it is: a name under `principals`
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// The key is worth nothing after this time: `12h`, `90d`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,
    /// The key is worth nothing from then on: `2027-01-01T00:00:00Z`
    #[arg(long, value_name = "MOMENT", value_parser = moment::parse)]
    expires_at: Option<SystemTime>,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct CreateArgs {
    /// What the key is called, in files, logs and metrics: 1 to 32 of a-z, 0-9 and `-`
    #[arg(long)]
    id: String,
    /// Check the id and the principal against this file; nothing is written
    #[arg(long, value_name = "FILE", env = "FOREBAY_ACCESS")]
    access: Option<PathBuf>,
    #[command(flatten)]
    entry: EntryArgs,
}

#[derive(Debug, Args)]
struct HashArgs {
    #[command(flatten)]
    entry: EntryArgs,
}

#[derive(Debug, Args)]
struct ListArgs {
    /// The access file
    #[arg(long, value_name = "FILE", env = "FOREBAY_ACCESS")]
    access: PathBuf,
    /// Show the hashes, too
    #[arg(long)]
    hashes: bool,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

impl From<KeyIdError> for CliError {
    fn from(error: KeyIdError) -> Self {
        Self::usage(error.to_string())
    }
}

pub(super) fn run(args: KeysArgs) -> Result<Exit, CliError> {
    match args.command {
        KeysCommand::Create(args) => create(args),
        KeysCommand::Hash(args) => hash(&args.entry),
        KeysCommand::List(args) => list(&args),
    }
}

fn create(args: CreateArgs) -> Result<Exit, CliError> {
    let CreateArgs { id, access, entry } = args;
    check_key_id(&id)?;
    let expires_at = entry.expires_at(SystemTime::now())?;
    if let Some(path) = &access {
        check_against(path, &policy(path)?, &id, entry.principal.as_deref())?;
    }
    let random = rustls::crypto::aws_lc_rs::default_provider().secure_random;
    let key = NewKey::generate(&id, |bytes| {
        random.fill(bytes).map_err(|error| CliError::usage(format!("there is no source of random bytes: {error:?}")))
    })?;
    let shown = key.as_shown().map_err(|error| CliError::usage(error.to_string()))?;
    let text = entry.text(shown, expires_at);
    if entry.json {
        print_json(&json!({ "id": id, "key": key.reveal(), "sha256": hex(shown.sha256()), "entry": text }))?;
        return Ok(Exit::Ok);
    }
    print_line(key.reveal())?;
    let unnamed = match entry.principal {
        Some(_) => String::new(),
        None => format!(" with a name from `principals` for {SOME_PRINCIPAL}"),
    };
    let told = writeln!(
        std::io::stderr().lock(),
        "forebay: this is the only time that the key is shown; it is kept nowhere.\n\
         Add to `api_keys` of the access file{unnamed}:\n\n  {text}\n",
    );
    told.map_err(|error| CliError::usage(format!("cannot write to standard error: {error}")))?;
    Ok(Exit::Ok)
}

/// What would make the file wrong once the entry is in it.
fn check_against(path: &Path, policy: &Policy, id: &str, principal: Option<&str>) -> Result<(), CliError> {
    let file = path.display();
    if policy.api_keys.contains_key(id) {
        return Err(CliError::usage(format!("{file} has a key `{id}` already; choose another id, such as `{id}-2`")));
    }
    match principal.filter(|name| policy.principal(name).is_none()) {
        Some(name) => {
            Err(CliError::usage(format!("{file} has no principal `{name}`; add it under `principals` first")))
        }
        None => Ok(()),
    }
}

fn hash(entry: &EntryArgs) -> Result<Exit, CliError> {
    let expires_at = entry.expires_at(SystemTime::now())?;
    let mut line = String::new();
    let input = std::io::Read::take(std::io::stdin().lock(), KEY_LINE_MAX_BYTES);
    let read = std::io::BufReader::new(input).read_line(&mut line);
    read.map_err(|error| CliError::usage(format!("cannot read a key from standard input: {error}")))?;
    let shown = ShownKey::parse(line.trim()).map_err(|error| CliError::usage(format!("standard input has {error}")))?;
    let text = entry.text(shown, expires_at);
    match entry.json {
        true => print_json(&json!({ "id": shown.id(), "sha256": hex(shown.sha256()), "entry": text }))?,
        false => print_line(&text)?,
    }
    Ok(Exit::Ok)
}

fn list(args: &ListArgs) -> Result<Exit, CliError> {
    let policy = policy(&args.access)?;
    let now = SystemTime::now();
    let mut keys: Vec<_> = policy.api_keys.values().collect();
    keys.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    if args.json {
        let keys = keys.iter().map(|key| {
            let mut object = json!({ "id": &*key.id, "principal": &*key.principal });
            object["expires_at"] = key.expires_at.map(moment::print).into();
            object["expired"] = key.is_over(now).into();
            if args.hashes {
                object["sha256"] = hex(key.sha256).into();
            }
            object
        });
        print_json(&json!({ "api_keys": keys.collect::<Vec<_>>() }))?;
        return Ok(Exit::Ok);
    }
    let mut rows = vec![["ID", "PRINCIPAL", "EXPIRES", if args.hashes { "SHA-256" } else { "" }].map(str::to_owned)];
    rows.extend(keys.into_iter().map(|key| {
        let expires = match key.expires_at {
            None => "never".to_owned(),
            Some(at) if key.is_over(now) => format!("{} (expired)", moment::print(at)),
            Some(at) => moment::print(at),
        };
        let hash = if args.hashes { hex(key.sha256) } else { String::new() };
        [key.id.to_string(), key.principal.to_string(), expires, hash]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths = [width(0), width(1), width(2)];
    for [id, principal, expires, hash] in &rows {
        let [first, second, third] = widths;
        print_line(format!("{id:first$}  {principal:second$}  {expires:third$}  {hash}").trim_end())?;
    }
    Ok(Exit::Ok)
}

fn policy(path: &Path) -> Result<Policy, CliError> {
    let policy = read_access_file(path).and_then(|text| parse_access_file(path, &text));
    policy.map_err(|error| CliError::usage(error.to_string()))
}

impl EntryArgs {
    fn expires_at(&self, now: SystemTime) -> Result<Option<SystemTime>, CliError> {
        let too_far = || CliError::usage("--expires-in is longer than time is counted");
        let at = match self.expires_in {
            Some(time) => Some(now.checked_add(time).ok_or_else(too_far)?),
            None => self.expires_at,
        };
        match at.filter(|at| *at <= now) {
            Some(at) => Err(CliError::usage(format!("the key would have expired at {} already", moment::print(at)))),
            None => Ok(at),
        }
    }

    /// The entry of `api_keys`, on one line.
    fn text(&self, key: ShownKey<'_>, expires_at: Option<SystemTime>) -> String {
        // JSON's text is YAML's, too.
        let (id, principal) = (json!(key.id()), json!(self.principal.as_deref().unwrap_or(SOME_PRINCIPAL)));
        let expires = expires_at.map_or_else(String::new, |at| format!(", expires_at: {}", moment::print(at)));
        format!("- {{id: {id}, sha256: \"{}\", principal: {principal}{expires}}}", hex(key.sha256()))
    }
}

fn hex(bytes: [u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
