//! How write calls end, and the statuses that say so. Callers: `session` and `unary`.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use super::encoding::EncodingError;
use crate::api::status::{self, reason};
use crate::cause;
use crate::middleware::MessageStalled;
use crate::pool::{SessionFailure, Trouble};
use crate::proto::v1;

/// How a session ended.
pub(super) enum End {
    /// Finished and confirmed.
    Finished,
    /// With a status for the client.
    Status(Status),
    /// The client is gone.
    Gone,
}

impl From<Status> for End {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

/// An error of the transport: the client's own cancellation, or a message that cannot be decoded.
pub(super) fn unreadable(error: Status) -> End {
    if let Some(stalled) = cause::chain(&error).find_map(|error| error.downcast_ref::<MessageStalled>()) {
        return End::Status(status::deadline_exceeded(reason::MESSAGE_STALLED, stalled.to_string()));
    }
    match error.code() {
        tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Unavailable => End::Gone,
        tonic::Code::OutOfRange => End::Status(status::out_of_range(reason::TOO_LARGE, error.message().to_owned())),
        _ => End::Status(status::invalid_argument("message", error.message().to_owned())),
    }
}

/// The status of a batch that cannot be encoded.
pub(in crate::api) fn encoding_status(error: EncodingError) -> Status {
    match error {
        EncodingError::OtherForm { .. } => status::invalid_argument("batch.payload", error.to_string()),
        EncodingError::Payload(error) => status::payload_error(error),
        EncodingError::Atomic(_) => status::invalid_argument("batch.atomic", error.to_string()),
    }
}

/// The status of a session that the pool gave up on.
pub(super) fn failure_status(failure: &SessionFailure) -> Status {
    match failure {
        SessionFailure::TableMissing { table } => {
            status::failed_precondition(reason::DYNAMODB_TABLE_MISSING, table, failure.to_string())
        }
        SessionFailure::Access { .. } => {
            status::unavailable(reason::BACKEND_ACCESS, failure.to_string(), Duration::from_secs(30))
        }
        SessionFailure::ShuttingDown => shutting_down(),
    }
}

/// When to send rows again that waited in vain.
pub(super) const ROW_RETRY_AFTER: Duration = Duration::from_secs(5);

/// What kept rows waiting, for people.
pub(super) fn trouble_words(trouble: Trouble) -> &'static str {
    match trouble {
        Trouble::PartitionThrottled => "a partition is throttled",
        Trouble::TableThrottled => "the table or the account is throttled",
        Trouble::Unavailable => "DynamoDB does not answer",
        Trouble::None => "other rows went first",
    }
}

/// The status of a session whose oldest row has waited too long.
pub(super) fn row_deadline_status(trouble: Trouble, row_deadline: Duration) -> Status {
    let seconds = row_deadline.as_secs_f64();
    let reason = match trouble {
        Trouble::PartitionThrottled => reason::PARTITION_THROTTLED,
        Trouble::TableThrottled => reason::TABLE_THROTTLED,
        Trouble::Unavailable => reason::BACKEND_UNAVAILABLE,
        Trouble::None => reason::ROW_DEADLINE,
    };
    let why = trouble_words(trouble);
    let message = format!("rows waited for DynamoDB longer than row_deadline ({seconds} s): {why}");
    status::unavailable(reason, message, ROW_RETRY_AFTER)
}

/// The status of a stream that ends without having been finished.
pub(super) fn no_finish() -> Status {
    status::aborted(reason::NO_FINISH, "the stream ended without Finish; rows that were not acked are dropped")
}

/// The status of a call whose client has given up.
pub(super) fn deadline_passed() -> Status {
    status::deadline_exceeded(reason::DEADLINE, "the call's deadline has passed; some rows may be written")
}

/// The status of a session that was asked to end and did not.
pub(super) fn drained(why: v1::DrainReason) -> Status {
    if why == v1::DrainReason::Shutdown {
        return shutting_down();
    }
    let message = "the session was asked to move to a new connection and did not; open another";
    status::unavailable(reason::SHUTTING_DOWN, message, Duration::from_millis(100))
}

/// The status of calls at the end of the process.
pub(super) fn shutting_down() -> Status {
    status::unavailable(
        reason::SHUTTING_DOWN,
        "the gateway is shutting down; send again to another",
        Duration::from_secs(1),
    )
}

/// Resolves at a time, if there is one.
pub(in crate::api) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
