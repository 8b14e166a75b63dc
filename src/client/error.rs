//! What can go wrong for a client, one variant per fact, each a sentence for people.
//!
//! The one place where a gRPC status becomes a [`ClientError`] and where it is decided whether trying again can help.
//! Errors are `Clone`, because a writer that failed gives every later call the same answer.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

use super::convert::ConvertError;
use crate::cause;
use crate::proto::code_name;

/// The `domain` of every ErrorInfo that a gateway sends.
const ERROR_DOMAIN: &str = "forebay";

/// Why a call of the client failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The endpoint is not one.
    #[error("`{endpoint}` is no endpoint: {message}; expected something like http://127.0.0.1:50051")]
    BadEndpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file or a value that the client was given cannot be used.
    #[error("{what}: {message}")]
    BadOption {
        /// The file, or what the value is for.
        what: String,
        /// What is wrong with it, and what was expected.
        message: String,
    },
    /// The two ends do not agree on a secure connection, and will not the next time.
    #[error("no secure connection to the gateway at {endpoint}: {message}")]
    Tls {
        /// The endpoint.
        endpoint: String,
        /// Why.
        message: String,
    },
    /// No connection could be made.
    #[error("the gateway at {endpoint} cannot be reached: {message}")]
    Unreachable {
        /// The endpoint.
        endpoint: String,
        /// Why.
        message: String,
    },
    /// The connection or the call broke, or the gateway is not ready. Trying again can help.
    #[error("the gateway at {endpoint} ended the call: {message}")]
    Interrupted {
        /// The endpoint.
        endpoint: String,
        /// Why.
        message: String,
        /// How long the gateway asks to wait.
        retry_after: Option<Duration>,
    },
    /// The gateway refuses the call. The same call will be refused again.
    #[error("{message} ({}{})", code_name(*code), reason_suffix(*code, reason))]
    Refused {
        /// The gRPC code.
        code: Code,
        /// The stable reason of the gateway's ErrorInfo; empty where it sent none.
        reason: String,
        /// The gateway's sentence.
        message: String,
    },
    /// Trying again did not help for as long as the options allow.
    #[error("gave up after {} s without progress: {last}", after.as_secs())]
    GaveUp {
        /// Time since the last progress.
        after: Duration,
        /// The last failure.
        last: Box<ClientError>,
    },
    /// The gateway said something that the protocol does not allow.
    #[error("the gateway broke the protocol: {message}")]
    Protocol {
        /// What it said.
        message: String,
    },
    /// One row alone is larger than a message may be.
    #[error("row {row} alone takes {bytes} bytes; a message may have {max_bytes}")]
    RowTooLarge {
        /// The row's index in its batch.
        row: usize,
        /// Its encoded size.
        bytes: usize,
        /// The gateway's limit.
        max_bytes: usize,
    },
    /// The writer was opened for the other kind of payload, or for another Arrow schema.
    #[error("the batch does not fit the session: {message}")]
    WrongPayload {
        /// What does not fit.
        message: String,
    },
    /// The value cannot be carried.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// The writer's task is gone, which only happens when the run-time is shutting down.
    #[error("the writer has stopped because its run-time is shutting down")]
    Stopped,
}

impl ClientError {
    /// Turns a status into an error.
    pub fn from_status(endpoint: &str, status: &Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == ERROR_DOMAIN);
        let retry_after = details.retry_info().and_then(|info| info.retry_delay);
        let transient = match status.code() {
            Code::Unavailable => true,
            Code::ResourceExhausted => retry_after.is_some(),
            // Without our ErrorInfo these are what a broken connection looks like.
            Code::Unknown | Code::Internal | Code::Cancelled | Code::DeadlineExceeded => info.is_none(),
            _ => false,
        };
        let endpoint = endpoint.to_owned();
        if !transient {
            let reason = info.map(|info| info.reason.clone()).unwrap_or_default();
            return Self::Refused { code: status.code(), reason, message: status.message().to_owned() };
        }
        if info.is_none()
            && let Some(message) = super::tls::refusal(&endpoint, status)
        {
            return Self::Tls { endpoint, message };
        }
        match root_cause(status) {
            Some(message) if info.is_none() && is_connect_error(status) => Self::Unreachable { endpoint, message },
            Some(message) if info.is_none() => Self::Interrupted { endpoint, message, retry_after },
            _ => Self::Interrupted { endpoint, message: status.message().to_owned(), retry_after },
        }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Interrupted { .. })
    }

    /// How long the gateway asks to wait before the next attempt.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Interrupted { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The innermost error behind a status, where the transport made the status.
fn root_cause(status: &Status) -> Option<String> {
    status.source().map(cause::innermost)
}

/// Whether the status says that no connection was made. tonic hides the type, so the text of its chain decides; a wrong
/// guess changes one sentence and nothing else.
fn is_connect_error(status: &Status) -> bool {
    status.source().into_iter().flat_map(cause::chain).any(|error| {
        let text = error.to_string();
        text.contains("connect error") || text.contains("dns error")
    })
}

fn reason_suffix(code: Code, reason: &str) -> String {
    if reason.is_empty() || reason == code_name(code) { String::new() } else { format!(", {reason}") }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn ours(code: Code, reason: &str) -> Status {
        Status::with_error_details(code, "a sentence", ErrorDetails::with_error_info(reason, "forebay", []))
    }

    #[test]
    fn a_refusal_keeps_the_gateways_reason_and_sentence() {
        let error = ClientError::from_status("http://x", &ours(Code::FailedPrecondition, "KEY_MISMATCH"));
        assert!(!error.is_transient());
        assert_eq!(error.to_string(), "a sentence (FAILED_PRECONDITION, KEY_MISMATCH)");
    }

    #[test]
    fn internal_is_final_only_when_the_gateway_itself_says_it() {
        assert!(!ClientError::from_status("http://x", &ours(Code::Internal, "BUG")).is_transient());
        assert!(ClientError::from_status("http://x", &Status::internal("h2 protocol error")).is_transient());
    }

    #[test]
    fn an_exhausted_resource_is_tried_again_only_with_retry_info() {
        assert!(!ClientError::from_status("http://x", &Status::resource_exhausted("no")).is_transient());
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(3)));
        let status = Status::with_error_details(Code::ResourceExhausted, "later", details);
        let error = ClientError::from_status("http://x", &status);
        assert!(error.is_transient());
        assert_eq!(error.retry_after(), Some(Duration::from_secs(3)));
    }
}
