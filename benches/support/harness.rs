//! What benches of the whole gateway share, which are programs of their own: how they fail, speak, and play the stub.

#![allow(dead_code, reason = "each bench uses its own part")]

use std::io::Write as _;

use crate::stub_store::{StubOptions, StubStore};

/// Why a bench ends early, for people.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

pub(crate) fn fail(message: String) -> Failure {
    message.into()
}

/// A line of the result.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// The process is the stub: says where it is, and serves until it is killed.
pub(crate) async fn be_the_stub(keep_items: bool) -> Result<(), Failure> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let stub = StubStore::start(listener, StubOptions { keep_items, ..StubOptions::default() })?;
    line(&stub.endpoint_url())?;
    std::future::pending().await
}

/// The value in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
