//! The way to a gateway: an endpoint, connected lazily; calls with a deadline, a token, and another try.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use super::backoff;
use super::error::ClientError;
use super::options::ConnectOptions;
use super::reader::Reader;
use super::tables::Tables;
use super::token::Bearer;
use super::writer::{OpenOptions, Writer};
use crate::limits::{CLIENT_CALL_ATTEMPTS, CLIENT_CALL_TIMEOUT};
use crate::telemetry::spans;

/// A gateway. Cheap to clone; clones share one connection.
#[derive(Debug, Clone)]
pub struct Client {
    endpoint: Endpoint,
    channel: Channel,
    name: String,
    bearer: Option<Bearer>,
}

/// Makes a client for an endpoint such as `http://127.0.0.1:50051` or `https://forebay.example.com:50051`, whose certificate
/// is checked by the platform's authorities. [`ConnectOptions`] has more to choose from.
///
/// Nothing is sent yet: the connection is made by the first call and made again whenever it breaks. Needs a Tokio runtime.
///
/// # Errors
///
/// [`ClientError::BadEndpoint`] where the text is no HTTP URL with a host.
pub fn connect(endpoint: &str) -> Result<Client, ClientError> {
    ConnectOptions::new(endpoint).connect()
}

impl Client {
    pub(super) fn new(endpoint: Endpoint, name: String, bearer: Option<Bearer>) -> Self {
        let channel = endpoint.connect_lazy();
        Self { endpoint, channel, name, bearer }
    }

    /// Opens a session that writes rows to one table.
    ///
    /// # Errors
    ///
    /// What the gateway answers to `Open`, or that it cannot be reached.
    pub async fn writer(&self, options: OpenOptions) -> Result<Writer, ClientError> {
        Writer::open(self, options).await
    }

    /// Reads rows by key.
    pub fn reader(&self) -> Reader {
        Reader::new(self.clone())
    }

    /// Creates, shows and drops tables.
    pub fn tables(&self) -> Tables {
        Tables::new(self.clone())
    }

    /// The endpoint, as it was given.
    pub fn endpoint(&self) -> &str {
        &self.name
    }

    /// Puts the client's token, where it has one, into a call that is made by [`Self::channel`].
    pub fn authorize<T>(&self, request: &mut Request<T>) {
        if let Some(bearer) = &self.bearer {
            bearer.show(request.metadata_mut());
        }
    }

    /// The shared connection, for calls that this client does not wrap. They need [`Self::authorize`].
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// A connection of its own: resolves the name again, so that it may lead to another gateway.
    pub(crate) fn fresh_channel(&self) -> Channel {
        self.endpoint.connect_lazy()
    }

    /// An error for a status of this gateway.
    pub fn error(&self, status: &Status) -> ClientError {
        ClientError::from_status(&self.name, status)
    }

    /// Makes a unary call with a deadline, and again on transient errors.
    pub(crate) async fn unary<Q, A, F>(&self, deadline: Duration, message: Q, call: F) -> Result<A, ClientError>
    where
        Q: Clone,
        F: AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    {
        let until = tokio::time::Instant::now() + deadline;
        let mut attempt = 0;
        loop {
            let left = until.saturating_duration_since(tokio::time::Instant::now());
            let mut request = Request::new(message.clone());
            request.set_timeout(left);
            spans::inject(request.metadata_mut().as_mut());
            self.authorize(&mut request);
            let answer = match tokio::time::timeout(left, call(self.channel(), request)).await {
                Ok(answer) => answer,
                Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", deadline.as_secs_f64()))),
            };
            let error = match answer {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) => self.error(&status),
            };
            let pause = backoff::delay(attempt, fastrand::f64(), error.retry_after());
            attempt += 1;
            let late = tokio::time::Instant::now() + pause >= until;
            if !error.is_transient() || attempt >= CLIENT_CALL_ATTEMPTS || late {
                return Err(error);
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// As [`Self::unary`], with the default deadline.
    pub(crate) async fn unary_default<Q, A, F>(&self, message: Q, call: F) -> Result<A, ClientError>
    where
        Q: Clone,
        F: AsyncFn(Channel, Request<Q>) -> Result<Response<A>, Status>,
    {
        self.unary(CLIENT_CALL_TIMEOUT, message, call).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_bad_endpoint_is_named_with_what_is_wrong() {
        for (endpoint, wrong) in [
            ("127.0.0.1:50051", "the scheme is missing"),
            ("localhost", "the scheme is missing"),
            ("ftp://x:1", "the scheme must be https or http"),
            ("http://a b", "not a URL"),
            ("", "not a URL"),
        ] {
            let message = connect(endpoint).unwrap_err().to_string();
            assert!(message.contains(wrong) || message.contains("not a URL"), "{endpoint}: {message}");
            assert!(message.contains("http://127.0.0.1:50051"), "{message}");
        }
    }

    #[tokio::test]
    async fn an_unreachable_gateway_is_named_in_one_sentence() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        let error = connect(&endpoint).unwrap().tables().get("t").await.unwrap_err();
        assert!(matches!(error, ClientError::Unreachable { .. }), "{error:?}");
        assert!(
            error.to_string().starts_with(&format!("the gateway at {endpoint} cannot be reached: Connection refused"))
        );
    }
}
