//! The processes that are measured, and what the system knows about them.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{Failure, fail};

/// `/proc` counts CPU time in these (Linux: USER_HZ, 100 on every architecture that it runs on today).
const TICK: Duration = Duration::from_millis(10);

/// A process that ends with its handle.
#[derive(Debug)]
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _gone = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The stub, in a process of its own: this program, started again.
#[derive(Debug)]
pub(crate) struct Stub {
    process: Process,
    address: String,
}

/// What the stub counted; the names are its own.
#[derive(Debug, Deserialize)]
pub(crate) struct StubStats {
    pub(crate) mean_items: f64,
    pub(crate) refused: u64,
    pub(crate) puts: u64,
    pub(crate) write_bytes: u64,
}

impl Stub {
    pub(crate) fn start(keep_items: bool) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--be-the-stub").stdout(Stdio::piped());
        if keep_items {
            command.arg("--keep-items");
        }
        let mut process = Process(command.spawn()?);
        let mut line = String::new();
        BufReader::new(process.0.stdout.take().ok_or("the stub has no output")?).read_line(&mut line)?;
        let address = line.trim().strip_prefix("http://").ok_or("the stub's first line is no URL")?.to_owned();
        Ok(Self { process, address })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.process.0.id())
    }

    /// What it has counted since the last time.
    pub(crate) async fn take_stats(&self) -> Result<StubStats, Failure> {
        let mut stream = TcpStream::connect(&self.address).await?;
        stream.write_all(b"DELETE /stats HTTP/1.1\r\nhost: stub\r\nconnection: close\r\n\r\n").await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("the stub's answer has no body")?;
        Ok(serde_json::from_str(body)?)
    }
}

/// The `forebay` to measure, and what `serve` is told beside its addresses.
#[derive(Debug, Clone)]
pub(crate) struct Forebay {
    pub(crate) binary: PathBuf,
    pub(crate) serve_arguments: Vec<String>,
}

impl Forebay {
    /// A gateway over an endpoint, when it serves.
    pub(crate) fn serve(&self, endpoint_url: &str) -> Result<Gateway, Failure> {
        let mut command = self.command();
        command.args(["serve", "--listen", "127.0.0.1:0", "--admin", "off", "--endpoint-url", endpoint_url]);
        command.args(&self.serve_arguments).stderr(Stdio::piped());
        let mut process = Process(command.spawn()?);
        let mut log = BufReader::new(process.0.stderr.take().ok_or("the gateway has no log")?).lines();
        let mut last = String::new();
        for line in log.by_ref() {
            last = line?;
            if let Some((_, rest)) = last.split_once("serving gRPC on ") {
                let address = rest.split(',').next().unwrap_or_default().parse()?;
                // Read to its end, lest the gateway wait for room in the pipe.
                std::thread::spawn(move || log.map_while(Result::ok).for_each(drop));
                return Ok(Gateway { process, address });
            }
        }
        Err(fail(format!("the gateway did not start: {last}")))
    }

    /// Seconds that `forebay load` needs for a file, from start to exit, and the rows that were acked.
    pub(crate) fn load(&self, gateway: &Gateway, file: &Path, key: &str) -> Result<(f64, u64), Failure> {
        let mut command = self.command();
        command.arg("load").arg(file).args(["--table", "loaded", "--create", "--key", key, "--json"]);
        command.args(["--endpoint", &gateway.endpoint()]);
        let started = tokio::time::Instant::now();
        let output = command.output()?;
        let seconds = started.elapsed().as_secs_f64();
        if !output.status.success() {
            return Err(fail(format!("forebay load: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        let report: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let acked = report["acked"].as_u64().ok_or_else(|| fail(format!("no `acked` in {report}")))?;
        Ok((seconds, acked))
    }

    /// With credentials that a stub does not look at, and nothing of the caller's.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("FOREBAY_") || name.starts_with("AWS_")) {
                command.env_remove(name);
            }
        }
        command.envs([("AWS_ACCESS_KEY_ID", "stub"), ("AWS_SECRET_ACCESS_KEY", "stub"), ("AWS_REGION", "us-east-1")]);
        command
    }
}

/// A gateway under test.
#[derive(Debug)]
pub(crate) struct Gateway {
    process: Process,
    address: SocketAddr,
}

impl Gateway {
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// CPU time so far, of the process and of the kernel for it.
    pub(crate) fn cpu(&self) -> Result<Duration, Failure> {
        cpu_of(self.process.0.id())
    }

    /// Memory that is resident, in bytes.
    pub(crate) fn resident_bytes(&self) -> Result<u64, Failure> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS in /proc")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024)
    }
}

/// CPU time of this process.
pub(crate) fn own_cpu() -> Result<Duration, Failure> {
    cpu_of(std::process::id())
}

fn cpu_of(id: u32) -> Result<Duration, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The second field is the command in parentheses, which may hold anything; fields 14 and 15 are utime and stime.
    let (_, fields) = stat.rsplit_once(") ").ok_or("an odd line in /proc")?;
    let mut ticks = 0u32;
    for field in fields.split(' ').skip(11).take(2) {
        ticks += field.parse::<u32>()?;
    }
    Ok(TICK * ticks)
}
