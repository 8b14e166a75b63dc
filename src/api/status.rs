//! The one place where errors become gRPC statuses.
//!
//! Every status carries `google.rpc.ErrorInfo` with a stable reason (see [`reason`]) and the domain `forebay`; and
//! BadRequest, PreconditionFailure, QuotaFailure or RetryInfo where the code calls for it. Messages are sentences for
//! people; they never hold a row's values. Statuses travel in HTTP/2 headers, so long texts are cut.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _};

use super::convert::FieldError;
use crate::catalog::CatalogError;
use crate::limits::OVERLOAD_RETRY;
use crate::middleware::auth::Refusal;
use crate::payload::{PayloadError, PlanError};
use crate::quota::{TooDear, UsedUp};
use crate::store::{ControlError, ReadError};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "forebay";
/// Texts are cut to this many bytes: message and details share 16 KiB of headers, the details in base64.
const TEXT_MAX_BYTES: usize = 2048;
/// At most so many violations are listed.
const VIOLATIONS_MAX: usize = 8;
/// Bytes of one violation's text.
const VIOLATION_MAX_BYTES: usize = 400;
/// When to come back after DynamoDB could not be reached.
pub(super) const BACKEND_RETRY: Duration = Duration::from_secs(1);
/// When to come back after DynamoDB refused our credentials: people have to act.
const ACCESS_RETRY: Duration = Duration::from_secs(5);

/// Stable reasons of `ErrorInfo`. Clients may rely on them; none is ever renamed.
pub mod reason {
    /// A field of the request is wrong.
    pub const INVALID_ARGUMENT: &str = "INVALID_ARGUMENT";
    /// The caller may not use the table, or, where it may not even know that, the table does not exist.
    pub const TABLE_DENIED: &str = "TABLE_DENIED";
    /// The table does not exist, and the caller may know that.
    pub const TABLE_NOT_FOUND: &str = "TABLE_NOT_FOUND";
    /// No, wrong or expired credentials.
    pub const UNAUTHENTICATED: &str = "UNAUTHENTICATED";
    /// The keys of a token's issuer cannot be had.
    pub const ISSUER_UNAVAILABLE: &str = "ISSUER_UNAVAILABLE";
    /// This server does not do that yet.
    pub const NOT_SUPPORTED: &str = "NOT_SUPPORTED";
    /// The table cannot change as asked.
    pub const SCHEMA_CHANGE_REFUSED: &str = "SCHEMA_CHANGE_REFUSED";
    /// The session's schema and the table's do not fit.
    pub const SCHEMA_MISMATCH: &str = "SCHEMA_MISMATCH";
    /// The DynamoDB table has another key schema.
    pub const KEY_MISMATCH: &str = "KEY_MISMATCH";
    /// A table with write shards cannot be bound to a DynamoDB table that exists.
    pub const SHARDED_BINDING: &str = "SHARDED_BINDING";
    /// Another table keeps rows under another key in the same DynamoDB table.
    pub const KEY_CLASH: &str = "KEY_CLASH";
    /// The DynamoDB table is gone.
    pub const DYNAMODB_TABLE_MISSING: &str = "DYNAMODB_TABLE_MISSING";
    /// Rows would be deleted, and `force` was not given.
    pub const FORCE_NEEDED: &str = "FORCE_NEEDED";
    /// DynamoDB's deletion protection is on.
    pub const DELETION_PROTECTED: &str = "DELETION_PROTECTED";
    /// The DynamoDB table is used by another table, too.
    pub const DYNAMODB_TABLE_SHARED: &str = "DYNAMODB_TABLE_SHARED";
    /// A drop was begun and not finished.
    pub const BEING_DROPPED: &str = "BEING_DROPPED";
    /// Somebody else changed the same thing at the same time.
    pub const CONTENDED: &str = "CONTENDED";
    /// A newer epoch of the same producer is at work.
    pub const FENCED: &str = "FENCED";
    /// `batch_seq` is not the expected one.
    pub const BATCH_SEQ: &str = "BATCH_SEQ";
    /// Finish says other counts than arrived.
    pub const COUNT_MISMATCH: &str = "COUNT_MISMATCH";
    /// A message, a batch or what it unfolds to is too large.
    pub const TOO_LARGE: &str = "TOO_LARGE";
    /// A payload cannot be decoded.
    pub const MALFORMED_PAYLOAD: &str = "MALFORMED_PAYLOAD";
    /// The stream ended without Finish.
    pub const NO_FINISH: &str = "NO_FINISH";
    /// No Open in time.
    pub const OPEN_TIMEOUT: &str = "OPEN_TIMEOUT";
    /// A message was begun and not sent to its end.
    pub const MESSAGE_STALLED: &str = "MESSAGE_STALLED";
    /// The call's deadline has passed.
    pub const DEADLINE: &str = "DEADLINE";
    /// Rows waited for DynamoDB longer than `row_deadline`.
    pub const ROW_DEADLINE: &str = "ROW_DEADLINE";
    /// One partition is throttled.
    pub const PARTITION_THROTTLED: &str = "PARTITION_THROTTLED";
    /// The table or the account is throttled.
    pub const TABLE_THROTTLED: &str = "TABLE_THROTTLED";
    /// The client does not read its acks.
    pub const ACKS_UNREAD: &str = "ACKS_UNREAD";
    /// A quota is used up.
    pub const QUOTA: &str = "QUOTA";
    /// The process has as many calls at once as it takes.
    pub const OVERLOADED: &str = "OVERLOADED";
    /// The process has no memory left for another session.
    pub const MEMORY_BUDGET: &str = "MEMORY_BUDGET";
    /// The server shuts down; another one takes over.
    pub const SHUTTING_DOWN: &str = "SHUTTING_DOWN";
    /// DynamoDB cannot be reached.
    pub const BACKEND_UNAVAILABLE: &str = "BACKEND_UNAVAILABLE";
    /// DynamoDB refuses our credentials or permissions.
    pub const BACKEND_ACCESS: &str = "BACKEND_ACCESS";
    /// DynamoDB refused a request.
    pub const BACKEND_REFUSED: &str = "BACKEND_REFUSED";
    /// A record of the control table is damaged.
    pub const CATALOG_DAMAGED: &str = "CATALOG_DAMAGED";
    /// Keys of the table are written once, and the session would change them.
    pub const APPEND_ONLY: &str = "APPEND_ONLY";
    /// A stored item does not fit the table's schema.
    pub const ROW_UNDECODABLE: &str = "ROW_UNDECODABLE";
    /// A bug.
    pub const INTERNAL: &str = "INTERNAL";
}

/// A field of the request is wrong.
pub fn invalid_argument(field: impl Into<String>, message: impl Into<String>) -> Status {
    let (field, message) = (field.into(), message.into());
    let text = if field.is_empty() { message.clone() } else { format!("{field}: {message}") };
    let mut details = info(reason::INVALID_ARGUMENT);
    details.set_bad_request(vec![FieldViolation::new(field, cut(message, VIOLATION_MAX_BYTES))]);
    with(Code::InvalidArgument, text, details)
}

/// No, wrong or expired credentials. Say little: the caller is not known.
pub fn unauthenticated(message: impl Into<String>) -> Status {
    with(Code::Unauthenticated, message, info(reason::UNAUTHENTICATED))
}

/// A call has no credential that is taken.
pub fn credential_refused(refusal: Refusal) -> Status {
    match refusal {
        Refusal::Missing => unauthenticated(
            "no credential; send `authorization: Bearer` with an API key or a token, or a client certificate",
        ),
        Refusal::Malformed => unauthenticated(
            "the credential has no form that is known; expected `authorization: Bearer` with an API key or a token",
        ),
        Refusal::NotAccepted => unauthenticated("the credential is not accepted"),
        Refusal::Expired => unauthenticated("the credential has expired"),
        Refusal::Unverifiable { retry_after } => {
            unavailable(reason::ISSUER_UNAVAILABLE, "whether the credential is good cannot be told now", retry_after)
        }
    }
}

/// The answer for a table that the caller may not see, whether or not it exists: the same, so that nobody learns which
/// tables there are.
pub fn permission_denied_table(name: &str) -> Status {
    let message = format!("no table `{}`, or no permission to use it", cut(name.to_owned(), VIOLATION_MAX_BYTES));
    with(Code::PermissionDenied, message, info(reason::TABLE_DENIED))
}

/// The answer for a table that the caller may see and not use so; `to_do` says how, as a verb. It may not exist, either: that
/// was not looked up.
pub fn permission_denied(to_do: &str, name: &str) -> Status {
    let message = format!("no permission to {to_do} the table `{}`", cut(name.to_owned(), VIOLATION_MAX_BYTES));
    with(Code::PermissionDenied, message, info(reason::TABLE_DENIED))
}

/// There is no such table. Only for callers that may see it if there were: see `api::permit`.
pub fn not_found_table(message: impl Into<String>) -> Status {
    with(Code::NotFound, message, info(reason::TABLE_NOT_FOUND))
}

/// The state of something forbids the call; repeating it does not help before that changes.
pub fn failed_precondition(reason: &'static str, subject: impl Into<String>, message: impl Into<String>) -> Status {
    let message = message.into();
    let mut details = info(reason);
    details.add_precondition_failure_violation(reason, subject, cut(message.clone(), VIOLATION_MAX_BYTES));
    with(Code::FailedPrecondition, message, details)
}

/// The call may work later, on this server or another.
pub fn unavailable(reason: &'static str, message: impl Into<String>, retry_after: Duration) -> Status {
    let mut details = info(reason);
    details.set_retry_info(Some(retry_after));
    with(Code::Unavailable, message, details)
}

/// A quota or a bound is used up; `retry_after` only where a retry can help.
pub fn resource_exhausted(
    reason: &'static str,
    subject: impl Into<String>,
    message: impl Into<String>,
    retry_after: Option<Duration>,
) -> Status {
    let message = message.into();
    let mut details = info(reason);
    details.set_quota_failure(vec![QuotaViolation::new(subject, cut(message.clone(), VIOLATION_MAX_BYTES))]);
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    with(Code::ResourceExhausted, message, details)
}

/// A limit is used up for now.
pub fn quota_used_up(error: &UsedUp) -> Status {
    resource_exhausted(reason::QUOTA, error.subject.to_string(), error.to_string(), Some(error.retry_after))
}

/// More at once than a limit ever lets through.
pub fn too_dear(field: &str, error: &TooDear) -> Status {
    invalid_argument(field, error.to_string())
}

/// The process has as many calls at once as it takes.
pub fn overloaded() -> Status {
    unavailable(reason::OVERLOADED, "the gateway serves as many calls as it can; try another", OVERLOAD_RETRY)
}

/// This server does not do that yet.
pub fn unimplemented(reason: &'static str, message: impl Into<String>) -> Status {
    with(Code::Unimplemented, message, info(reason))
}

/// A number is not the expected one.
pub fn out_of_range(reason: &'static str, message: impl Into<String>) -> Status {
    with(Code::OutOfRange, message, info(reason))
}

/// Somebody else was faster.
pub fn aborted(reason: &'static str, message: impl Into<String>) -> Status {
    with(Code::Aborted, message, info(reason))
}

/// A time limit has passed.
pub fn deadline_exceeded(reason: &'static str, message: impl Into<String>) -> Status {
    with(Code::DeadlineExceeded, message, info(reason))
}

/// Stored data cannot be read.
pub fn data_loss(reason: &'static str, message: impl Into<String>) -> Status {
    with(Code::DataLoss, message, info(reason))
}

/// A bug of ours.
pub fn internal(message: impl Into<String>) -> Status {
    with(Code::Internal, message, info(reason::INTERNAL))
}

fn info(reason: &'static str) -> ErrorDetails {
    ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new())
}

fn with(code: Code, message: impl Into<String>, details: ErrorDetails) -> Status {
    Status::with_error_details(code, cut(message.into(), TEXT_MAX_BYTES), details)
}

/// Cuts a text at a character's boundary.
fn cut(mut text: String, max_bytes: usize) -> String {
    if text.len() > max_bytes {
        text.truncate(text.floor_char_boundary(max_bytes));
        text.push('…');
    }
    text
}

impl From<FieldError> for Status {
    fn from(error: FieldError) -> Self {
        invalid_argument(error.field, error.message)
    }
}

/// The session's columns do not fit the table.
pub fn plan_error(error: PlanError) -> Status {
    match error {
        PlanError::Unsupported(unsupported) => unimplemented(reason::NOT_SUPPORTED, unsupported.to_string()),
        other => {
            let mut details = info(reason::SCHEMA_MISMATCH);
            let message = other.to_string();
            details.set_bad_request(vec![FieldViolation::new("open", cut(message.clone(), VIOLATION_MAX_BYTES))]);
            with(Code::InvalidArgument, message, details)
        }
    }
}

/// A batch that cannot be read.
pub fn payload_error(error: PayloadError) -> Status {
    let message = error.to_string();
    match error {
        PayloadError::Malformed { .. } => with(Code::InvalidArgument, message, info(reason::MALFORMED_PAYLOAD)),
        PayloadError::TooManyRows { .. } => out_of_range(reason::TOO_LARGE, message),
        PayloadError::TooLarge { .. } => resource_exhausted(reason::TOO_LARGE, "batch", message, None),
    }
}

impl From<CatalogError> for Status {
    fn from(error: CatalogError) -> Self {
        let message = error.to_string();
        let precondition = |reason, name: String| failed_precondition(reason, format!("table/{name}"), message.clone());
        match error {
            CatalogError::Invalid(error) => {
                let path = if error.path.is_empty() { String::new() } else { format!(".{}", error.path) };
                invalid_argument(format!("table.schema{path}"), error.message)
            }
            CatalogError::Unsupported { .. } => unimplemented(reason::NOT_SUPPORTED, message),
            CatalogError::DynamoDbName { .. } => invalid_argument("table.dynamodb_table", message),
            CatalogError::NotFound { .. } => not_found_table(message),
            CatalogError::VersionNotFound { .. } => invalid_argument("schema_version", message),
            CatalogError::Refused { refusal, .. } => {
                let violations = refusal.0.into_iter().take(VIOLATIONS_MAX).map(|forbidden| {
                    let description = cut(forbidden.reason, VIOLATION_MAX_BYTES);
                    PreconditionViolation::new(reason::SCHEMA_CHANGE_REFUSED, forbidden.path, description)
                });
                let mut details = info(reason::SCHEMA_CHANGE_REFUSED);
                details.set_precondition_failure(violations.collect::<Vec<_>>());
                with(Code::FailedPrecondition, message, details)
            }
            CatalogError::ShardedBinding { name, .. } => precondition(reason::SHARDED_BINDING, name),
            CatalogError::KeyMismatch { name, .. } => precondition(reason::KEY_MISMATCH, name),
            CatalogError::KeyClash { name, .. } => precondition(reason::KEY_CLASH, name),
            CatalogError::BoundTableGone { name, .. } => precondition(reason::DYNAMODB_TABLE_MISSING, name),
            CatalogError::NeedsForce { name, .. } => precondition(reason::FORCE_NEEDED, name),
            CatalogError::DeletionProtected { name, .. } => precondition(reason::DELETION_PROTECTED, name),
            CatalogError::Shared { name, .. } => precondition(reason::DYNAMODB_TABLE_SHARED, name),
            CatalogError::BeingDropped { name } => precondition(reason::BEING_DROPPED, name),
            CatalogError::NotActive { .. } => unavailable(reason::BACKEND_UNAVAILABLE, message, ACCESS_RETRY),
            CatalogError::Fenced { .. } => aborted(reason::FENCED, message),
            CatalogError::Contended { .. } => aborted(reason::CONTENDED, message),
            CatalogError::Damaged { .. } => data_loss(reason::CATALOG_DAMAGED, message),
            CatalogError::Store(error) => error.into(),
        }
    }
}

impl From<ControlError> for Status {
    fn from(error: ControlError) -> Self {
        let message = error.to_string();
        match error {
            ControlError::TableMissing { table } => {
                failed_precondition(reason::DYNAMODB_TABLE_MISSING, format!("dynamodb/{table}"), message)
            }
            ControlError::TableExists { .. } | ControlError::Conflict => aborted(reason::CONTENDED, message),
            ControlError::Refused { .. } => failed_precondition(reason::BACKEND_REFUSED, "dynamodb", message),
            ControlError::Access { .. } => unavailable(reason::BACKEND_ACCESS, message, ACCESS_RETRY),
            ControlError::Unavailable { .. } => unavailable(reason::BACKEND_UNAVAILABLE, message, BACKEND_RETRY),
        }
    }
}

impl From<ReadError> for Status {
    fn from(error: ReadError) -> Self {
        let message = error.to_string();
        match error {
            ReadError::Throttled { .. } => unavailable(reason::TABLE_THROTTLED, message, BACKEND_RETRY),
            ReadError::Validation { .. } => failed_precondition(reason::BACKEND_REFUSED, "dynamodb", message),
            ReadError::TableMissing { table } => {
                failed_precondition(reason::DYNAMODB_TABLE_MISSING, format!("dynamodb/{table}"), message)
            }
            ReadError::Access { .. } => unavailable(reason::BACKEND_ACCESS, message, ACCESS_RETRY),
            ReadError::Unavailable { .. } => unavailable(reason::BACKEND_UNAVAILABLE, message, BACKEND_RETRY),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::evolve::{Forbidden, Refusal};

    fn reason_of(status: &Status) -> String {
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(info.domain, DOMAIN);
        info.reason.clone()
    }

    #[test]
    fn a_wrong_field_is_named_in_the_message_and_in_bad_request() {
        let status = invalid_argument("open.columns[3]", "is not a column of the table");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "open.columns[3]: is not a column of the table");
        let details = status.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, "open.columns[3]");
        assert_eq!(reason_of(&status), reason::INVALID_ARGUMENT);
    }

    #[test]
    fn a_missing_table_is_named_and_told_apart_from_a_forbidden_one() {
        let status = Status::from(CatalogError::NotFound { name: "t".to_owned() });
        assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no table `t`"));
        assert_eq!(reason_of(&status), reason::TABLE_NOT_FOUND);
        let denied = permission_denied("write", "t");
        assert_eq!((denied.code(), denied.message()), (Code::PermissionDenied, "no permission to write the table `t`"));
    }

    #[test]
    fn only_what_a_retry_can_help_says_when() {
        let delay = |status: &Status| status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
        let second = Duration::from_secs(1);
        assert_eq!(delay(&unavailable(reason::SHUTTING_DOWN, "bye", second)), Some(second));
        assert_eq!(delay(&resource_exhausted(reason::QUOTA, "key/k", "too fast", Some(second))), Some(second));
        assert_eq!(delay(&resource_exhausted(reason::TOO_LARGE, "message", "20 MiB", None)), None);
        assert_eq!(delay(&failed_precondition(reason::KEY_CLASH, "table/t", "no")), None);
    }

    #[test]
    fn a_refusal_of_a_thousand_columns_fits_into_headers() {
        let forbidden = |i| Forbidden { path: format!("column_{i}"), reason: "cannot be dropped ".repeat(9) };
        let refusal = Refusal((0..1000).map(forbidden).collect());
        let status = Status::from(CatalogError::Refused { name: "t".to_owned(), refusal });
        assert!(status.message().len() < 4096);
        assert!(status.details().len() < 8192, "{}", status.details().len());
        assert_eq!(reason_of(&status), reason::SCHEMA_CHANGE_REFUSED);
    }
}
