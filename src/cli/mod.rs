//! The `forebay` command: a file per subcommand, thin, on top of [`crate::client`].
//!
//! Promises to scripts: errors are one sentence on stderr after `forebay: error:`; with `--json` stdout gets exactly one JSON
//! object, and progress and logs go to stderr; the exit code is one of [`Exit`].
//!
//! Caller: `main.rs`. A subcommand is an `Args` struct and a `run` that returns an [`Exit`] or a [`CliError`].

use std::future::Future;
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use opentelemetry::trace::{FutureExt as _, SpanKind};
use tonic::Code;

use crate::client::{Client, ClientError, ConnectOptions, Token};
use crate::limits::OTLP_CLOSE_TIMEOUT;
use crate::telemetry::otlp::{self, Otlp};

mod bench;
mod check;
mod completions;
mod demo;
mod get;
mod keys;
mod load;
mod serve;
mod simulate;
pub mod table_file;
mod tables;

/// Why the process ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Everything was done.
    Ok = 0,
    /// It was done, but some rows were not accepted.
    Rejected = 1,
    /// The arguments, the configuration or the input are wrong; nothing more was done than the message says.
    Usage = 2,
    /// What was asked for is not there.
    NotFound = 3,
    /// The gateway cannot be reached, refuses the caller, or ended the call.
    Gateway = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A sentence for people and an exit code for programs.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// The sentence.
    pub message: String,
}

impl CliError {
    /// The arguments, configuration or input are wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { exit: Exit::Usage, message: message.into() }
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let exit = match &error {
            ClientError::BadEndpoint { .. } | ClientError::BadOption { .. } | ClientError::Convert(_) => Exit::Usage,
            ClientError::RowTooLarge { .. } | ClientError::WrongPayload { .. } => Exit::Usage,
            ClientError::Refused { code: Code::NotFound, .. } => Exit::NotFound,
            ClientError::Refused {
                code: Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange | Code::Unimplemented,
                ..
            } => Exit::Usage,
            _ => Exit::Gateway,
        };
        Self { exit, message: error.to_string() }
    }
}

impl From<std::io::Error> for CliError {
    /// Only for stdout: errors of files are made where the file's name is known.
    fn from(error: std::io::Error) -> Self {
        Self { exit: Exit::Usage, message: format!("cannot write to standard output: {error}") }
    }
}

/// An ingestion gateway for DynamoDB: typed streaming writes and point reads over gRPC.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, about, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 done, but some rows were rejected, or a simulation was not as expected; 2 wrong usage, configuration or \
                          input; 3 not found; 4 the gateway cannot be reached or refused.";

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See it work: gateway, embedded store and client in one process
    Demo(demo::DemoArgs),
    /// Load a file's rows into a table
    Load(load::LoadArgs),
    /// Check a sample of a file's rows against a table, and estimate sizes and cost; nothing is written
    Check(check::CheckArgs),
    /// Read one row by its key
    Get(get::GetArgs),
    /// Create, show, list and drop tables
    Tables(tables::TablesArgs),
    /// Make API keys, and list those of an access file
    Keys(keys::KeysArgs),
    /// Make load and measure it
    Bench(bench::BenchArgs),
    /// Simulate what a job will do to a table, on virtual time; nothing is written
    Simulate(simulate::SimulateArgs),
    /// Run the gateway
    Serve(Box<serve::ServeArgs>),
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

impl Command {
    /// The name of a client command's span; none for commands that call no gateway.
    fn name(&self) -> Option<&'static str> {
        match self {
            Self::Load(_) => Some("forebay load"),
            Self::Check(_) => Some("forebay check"),
            Self::Get(_) => Some("forebay get"),
            Self::Tables(_) => Some("forebay tables"),
            Self::Bench(_) => Some("forebay bench"),
            Self::Demo(_) | Self::Keys(_) | Self::Simulate(_) | Self::Serve(_) | Self::Completions(_) => None,
        }
    }
}

/// How client commands reach the gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct ClientArgs {
    /// The gateway
    #[arg(long, env = "FOREBAY_ENDPOINT", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    pub endpoint: String,
    /// A file with an API key or a token; the variable FOREBAY_TOKEN may hold one, too
    #[arg(long, env = "FOREBAY_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The authorities whose gateways are trusted (PEM) [default: the platform's]
    #[arg(long, env = "FOREBAY_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// This client's certificate and its chain (PEM)
    #[arg(long, env = "FOREBAY_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    pub client_cert: Option<PathBuf>,
    /// The certificate's private key (PEM)
    #[arg(long, env = "FOREBAY_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    pub client_key: Option<PathBuf>,
    /// The name that the gateway's certificate must have [default: the endpoint's host]
    #[arg(long, env = "FOREBAY_SERVER_NAME", value_name = "NAME")]
    pub server_name: Option<String>,
    /// Send the token without TLS, too, to other hosts
    #[arg(long, env = "FOREBAY_ALLOW_PLAINTEXT_TOKEN")]
    pub allow_plaintext_token: bool,
}

/// Holds a token; it has no flag, because the arguments of a process can be seen by others.
const TOKEN_VARIABLE: &str = "FOREBAY_TOKEN";

impl ClientArgs {
    /// A client; the connection is made by its first call.
    pub fn connect(&self) -> Result<Client, CliError> {
        let mut options = ConnectOptions::new(&self.endpoint).allow_plaintext_token(self.allow_plaintext_token);
        if let Some(file) = &self.token_file {
            options = options.token(Token::file(file));
        } else if std::env::var_os(TOKEN_VARIABLE).is_some_and(|token| !token.is_empty()) {
            options = options.token(Token::environment(TOKEN_VARIABLE));
        }
        if let Some(ca) = &self.ca {
            options = options.ca(ca);
        }
        // clap has seen to it that both are there.
        if let (Some(cert), Some(key)) = (&self.client_cert, &self.client_key) {
            options = options.client_certificate(cert, key);
        }
        if let Some(name) = &self.server_name {
            options = options.server_name(name);
        }
        Ok(options.connect()?)
    }
}

/// How rows travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum PayloadArg {
    /// Arrow record batches
    Arrow,
    /// Rows of typed values
    Rows,
}

/// Parses the arguments, runs the command, prints what went wrong.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    match run(cli.command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            report(&error.message);
            error.exit.into()
        }
    }
}

fn run(command: Command) -> Result<Exit, CliError> {
    match command {
        // It sizes its run-time by its own configuration.
        Command::Serve(args) => args.run(),
        Command::Keys(args) => keys::run(args),
        // Its run-times have clocks of their own.
        Command::Simulate(args) => args.run(),
        command => run_on_all_cores(command),
    }
}

fn run_on_all_cores(command: Command) -> Result<Exit, CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CliError::usage(format!("cannot start the run-time: {error}")))?;
    let exit = runtime.block_on(traced(command.name(), async {
        match command {
            Command::Demo(args) => demo::run(args).await,
            Command::Load(args) => load::run(args).await,
            Command::Check(args) => check::run(args).await,
            Command::Get(args) => get::run(args).await,
            Command::Tables(args) => tables::run(args).await,
            Command::Bench(args) => bench::run(args).await,
            Command::Serve(_) | Command::Simulate(_) => unreachable!("they have run-times of their own"),
            Command::Keys(_) => unreachable!("it needs none"),
            Command::Completions(args) => completions::run(&args, &mut Cli::command()),
        }
    }));
    // A reader that waits for standard input would hold the process until somebody types.
    runtime.shutdown_background();
    exit
}

/// Runs a client command beneath a span, where the environment asks for traces.
async fn traced(
    name: Option<&'static str>,
    command: impl Future<Output = Result<Exit, CliError>>,
) -> Result<Exit, CliError> {
    let Some(name) = name else { return command.await };
    let tracing = Otlp::from_env().and_then(Otlp::client_tracing);
    let tracing = tracing.map_err(|error| CliError::usage(error.to_string()))?;
    let Some(span) = tracing.root(name, SpanKind::Client) else { return command.await };
    let exit = command.with_context(span.scope()).await;
    if let Err(error) = &exit {
        span.fail(match error.exit {
            Exit::Ok | Exit::Rejected => "rejected",
            Exit::Usage => "usage",
            Exit::NotFound => "not_found",
            Exit::Gateway => "gateway",
        });
    }
    span.end();
    if let Err(error) = otlp::close_tracing(tracing, OTLP_CLOSE_TIMEOUT).await {
        note(&error.to_string());
    }
    exit
}

/// The gateway answered with what this client cannot read.
pub(crate) fn bad_answer(error: impl std::fmt::Display) -> CliError {
    CliError { exit: Exit::Gateway, message: format!("the gateway's answer cannot be read: {error}") }
}

/// One JSON object on stdout.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout().lock(), "{value}")?)
}

/// A line on stdout.
pub(crate) fn print_line(line: &str) -> Result<(), CliError> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

/// `1,234,567`
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Rows on their way, on stderr if that is a terminal.
pub(crate) fn progress_bar(rows: Option<u64>) -> ProgressBar {
    let (bar, template) = match rows {
        Some(rows) => {
            (ProgressBar::new(rows), "{bar:32} {human_pos}/{human_len} rows  {per_sec}  {elapsed} of {duration}  {msg}")
        }
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} rows  {per_sec}  {elapsed}  {msg}"),
    };
    // The template is ours and valid; the default is only uglier.
    bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

/// A remark on stderr.
pub(crate) fn note(message: &str) {
    writeln!(std::io::stderr().lock(), "forebay: {message}").unwrap_or_default();
}

/// One sentence on stderr. Nothing can be done where even that fails.
pub(crate) fn report(message: &str) {
    writeln!(std::io::stderr().lock(), "forebay: error: {message}").unwrap_or_default();
}

/// clap's own errors: help and version go to stdout with code 0; the rest is a sentence and where to look.
fn usage_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        // As with every tool, `forebay --help | head -1` is no error.
        error.print().unwrap_or_default();
        return ExitCode::SUCCESS;
    }
    let styled = error.render();
    let text = if std::io::stderr().is_terminal() { styled.ansi().to_string() } else { styled.to_string() };
    let text = text.trim_start_matches("error: ");
    write!(std::io::stderr().lock(), "forebay: error: {text}").unwrap_or_default();
    Exit::Usage.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_refusal_for_what_the_caller_sent_is_a_usage_error_and_a_broken_gateway_is_not() {
        let refused = |code| ClientError::Refused { code, reason: String::new(), message: "no".to_owned() };
        assert_eq!(CliError::from(refused(Code::InvalidArgument)).exit, Exit::Usage);
        assert_eq!(CliError::from(refused(Code::PermissionDenied)).exit, Exit::Gateway);
        let error = ClientError::Unreachable { endpoint: "http://x".to_owned(), message: "refused".to_owned() };
        assert_eq!(CliError::from(error).exit, Exit::Gateway);
    }
}
