//! What an SDK error means: one classification for every operation, turned into the trait's errors.
//!
//! The question that matters is whether anything can have been written. "Not sent" is said only where it is proven: the
//! request could not be built, or no connection came about. Everything after that without a clear refusal is "unknown".

use std::error::Error;
use std::sync::Arc;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::CancellationReason;
use aws_sdk_dynamodb::types::error::{ConditionalCheckFailedException, TransactionCanceledException};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use super::attr::{SdkItem, UnknownAttributeType, item_from_sdk};
use crate::limits::STORE_MESSAGE_MAX_CHARS;
use crate::store::{CancelReason, ControlError, Item, ReadError, ThrottleReason, WriteError};

/// Why a call failed, before it is known what kind of call it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// Refused for want of capacity, of the table's or of the named index.
    Throttled(ThrottleReason, Option<Arc<str>>),
    /// The request's content was refused.
    Refused(String),
    /// There is no such table.
    TableMissing,
    /// The table exists already, or is being changed.
    TableInUse(String),
    /// The condition was false.
    Condition,
    /// Another transaction or Region held an item: its own write was not done.
    Conflict(String),
    /// Credentials are missing, expired or not sufficient.
    Access(String),
    /// The request cannot have reached DynamoDB.
    NotSent(String),
    /// It is not known what happened.
    Unknown(String),
}

impl Failure {
    /// Classifies an SDK error.
    pub(super) fn of<E>(error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(refusal) => {
                let meta = refusal.err().meta();
                let raw = refusal.raw();
                let body = raw.body().bytes().unwrap_or_default();
                of_answer(meta.code(), meta.message().unwrap_or_default(), raw.status().as_u16(), body)
            }
            // The answer could not be read: without its body there is no telling what DynamoDB did.
            SdkError::ResponseError(_) => Self::Unknown(format!("the answer cannot be read: {}", root_cause(error))),
            SdkError::TimeoutError(_) => Self::Unknown("no answer in time".to_owned()),
            SdkError::ConstructionFailure(_) => {
                of_credentials(error).unwrap_or_else(|| Self::NotSent(root_cause(error)))
            }
            _ => of_credentials(error).unwrap_or_else(|| {
                if never_connected(error) { Self::NotSent(root_cause(error)) } else { Self::Unknown(root_cause(error)) }
            }),
        }
    }

    /// As a write's error.
    pub(super) fn into_write(self, table: &str) -> WriteError {
        match self {
            Self::Throttled(reason, index) => WriteError::Throttled { reason, index },
            Self::Refused(message) => WriteError::Validation { message },
            Self::TableMissing => WriteError::TableMissing { table: table.to_owned() },
            // A table that is being changed refuses before it writes.
            Self::TableInUse(message) => WriteError::NotSent { message },
            Self::Condition => WriteError::Condition { existing: None },
            // Whether other items of the same call were written is not said; `into_single_write` knows better.
            Self::Conflict(message) => WriteError::Unknown { message },
            Self::Access(message) => WriteError::Access { message },
            Self::NotSent(message) => WriteError::NotSent { message },
            Self::Unknown(message) => WriteError::Unknown { message },
        }
    }

    /// As the error of a write of one item, or of all or none.
    pub(super) fn into_single_write(self, table: &str) -> WriteError {
        match self {
            Self::Conflict(message) => WriteError::NotSent { message },
            other => other.into_write(table),
        }
    }

    /// As a read's error. `table` is named where it is missing.
    pub(super) fn into_read(self, table: &str) -> ReadError {
        match self {
            Self::Throttled(reason, _) => ReadError::Throttled { reason },
            Self::Refused(message) => ReadError::Validation { message },
            Self::Condition => ReadError::Validation { message: "the condition is false".to_owned() },
            Self::TableMissing => ReadError::TableMissing { table: table.to_owned() },
            Self::Access(message) => ReadError::Access { message },
            Self::TableInUse(message) | Self::Conflict(message) | Self::NotSent(message) | Self::Unknown(message) => {
                ReadError::Unavailable { message }
            }
        }
    }

    /// As a control call's error.
    pub(super) fn into_control(self, table: &str) -> ControlError {
        match self {
            Self::Throttled(reason, _) => ControlError::Unavailable { message: format!("throttled: {reason}") },
            Self::Refused(message) => ControlError::Refused { message },
            Self::TableMissing => ControlError::TableMissing { table: table.to_owned() },
            Self::TableInUse(message) => ControlError::Refused { message },
            Self::Condition => ControlError::Conflict,
            Self::Access(message) => ControlError::Access { message },
            Self::Conflict(message) | Self::NotSent(message) | Self::Unknown(message) => {
                ControlError::Unavailable { message }
            }
        }
    }
}

/// Classifies an error that DynamoDB answered with.
fn of_answer(code: Option<&str>, message: &str, status: u16, body: &[u8]) -> Failure {
    let words = || if message.is_empty() { code.unwrap_or("no message").to_owned() } else { cut(message) };
    match code.unwrap_or_default() {
        "ProvisionedThroughputExceededException" => throttled(body),
        "ThrottlingException" | "Throttling" | "RequestLimitExceeded" if status < 500 => throttled(body),
        "ResourceNotFoundException" | "TableNotFoundException" => Failure::TableMissing,
        "ResourceInUseException" | "TableAlreadyExistsException" | "TableInUseException" => {
            Failure::TableInUse(words())
        }
        "ConditionalCheckFailedException" => Failure::Condition,
        "AccessDeniedException"
        | "UnrecognizedClientException"
        | "ExpiredTokenException"
        | "ExpiredToken"
        | "RequestExpired"
        | "InvalidSignatureException"
        | "SignatureDoesNotMatch"
        | "IncompleteSignatureException"
        | "IncompleteSignature"
        | "MissingAuthenticationTokenException"
        | "MissingAuthenticationToken"
        | "InvalidClientTokenId"
        | "OptInRequired" => Failure::Access(words()),
        "TransactionConflictException" | "ReplicatedWriteConflictException" => Failure::Conflict(words()),
        // A transaction with the same token is being done: it may be this one's first attempt.
        "TransactionInProgressException" => Failure::Unknown(words()),
        // Also 503 ServiceUnavailable: DynamoDB's front end answers it, and what stood behind may have been done. It says
        // nothing about capacity either, so that it must not shrink a table's window as throttling does.
        _ if status >= 500 || status == 408 => Failure::Unknown(format!("{} (HTTP {status})", words())),
        _ if status == 429 => Failure::Throttled(ThrottleReason::Unknown, None),
        _ if status == 401 || status == 403 => Failure::Access(words()),
        // A success that the SDK could not read, or the words of something between: never a verdict on the rows. Too
        // large is one, whoever says it.
        "" if status != 413 => Failure::Unknown(format!("the answer cannot be read (HTTP {status})")),
        // ValidationException, SerializationException, ItemCollectionSizeLimitExceededException, ... .
        _ => Failure::Refused(words()),
    }
}

/// A call that was refused for want of capacity: where, as far as the answer says.
fn throttled(body: &[u8]) -> Failure {
    let (reason, index) = throttle_reason(body).unwrap_or((ThrottleReason::Unknown, None));
    Failure::Throttled(reason, index)
}

/// The reason in `{"ThrottlingReasons":[{"reason":"TableWriteKeyRangeThroughputExceeded","resource":..}]}`, and the index
/// whose capacity was short.
///
/// Where there are several, the broadest: a call for which the account was short teaches nothing about its keys.
fn throttle_reason(body: &[u8]) -> Option<(ThrottleReason, Option<Arc<str>>)> {
    let body: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let (_, reasons) = body.iter().find(|(name, _)| name.eq_ignore_ascii_case("ThrottlingReasons"))?;
    let reasons = reasons.as_array()?;
    REASONS.into_iter().find_map(|(part, reason)| {
        let found = reasons.iter().find(|entry| entry["reason"].as_str().is_some_and(|word| word.contains(part)))?;
        Some((reason, found["resource"].as_str().and_then(index_of)))
    })
}

/// What DynamoDB's words for a reason contain, the broadest first.
const REASONS: [(&str, ThrottleReason); 5] = [
    ("AccountLimit", ThrottleReason::Account),
    ("AccountThroughput", ThrottleReason::Account),
    ("MaxOnDemand", ThrottleReason::MaxOnDemand),
    ("Provisioned", ThrottleReason::Provisioned),
    ("KeyRange", ThrottleReason::KeyRange),
];

/// The index in `arn:aws:dynamodb:eu-west-1:123456789012:table/orders/index/by-day`.
fn index_of(resource: &str) -> Option<Arc<str>> {
    let (_, name) = resource.split_once("/index/")?;
    let name = name.split('/').next().unwrap_or_default();
    (!name.is_empty()).then(|| Arc::from(name))
}

/// What kept a transaction from being done, for each of its items.
///
/// Nothing was written. Where DynamoDB does not give a reason for each item, there is no telling whose fault it was.
pub(super) fn of_cancellation(refusal: TransactionCanceledException, items: usize) -> WriteError {
    let given = refusal.cancellation_reasons.unwrap_or_default();
    if given.len() != items {
        let message = format!("a transaction of {items} items was cancelled with {} reasons", given.len());
        return WriteError::NotSent { message };
    }
    match given.into_iter().map(of_reason).collect() {
        Ok(reasons) => WriteError::Cancelled { reasons },
        Err(error) => unreadable(&error),
    }
}

fn of_reason(reason: CancellationReason) -> Result<CancelReason, UnknownAttributeType> {
    let CancellationReason { code, message, item, .. } = reason;
    let code = code.unwrap_or_default();
    Ok(match code.as_str() {
        "None" | "" => CancelReason::None,
        "ConditionalCheckFailed" => CancelReason::Condition { existing: existing(item)? },
        "TransactionConflict" => CancelReason::Conflict,
        // The words name no reason, and "provisioned" is said of tables on demand too.
        "ProvisionedThroughputExceeded" | "ThrottlingError" => CancelReason::Throttled(ThrottleReason::Unknown),
        // ValidationError, ItemCollectionSizeLimitExceeded, ... .
        _ => CancelReason::Refused { message: message.map_or(code, |message| cut(&message)) },
    })
}

/// A single write whose condition was false.
pub(super) fn of_false_condition(refusal: ConditionalCheckFailedException) -> WriteError {
    match existing(refusal.item) {
        Ok(existing) => WriteError::Condition { existing },
        Err(error) => unreadable(&error),
    }
}

/// An answer without an item has it absent or empty.
fn existing(item: Option<SdkItem>) -> Result<Option<Item>, UnknownAttributeType> {
    item.filter(|item| !item.is_empty()).map(item_from_sdk).transpose()
}

/// Nothing was written, but what is there instead cannot be compared with the row.
fn unreadable(error: &UnknownAttributeType) -> WriteError {
    WriteError::Validation { message: format!("the condition was false, and the stored item cannot be read: {error}") }
}

/// DynamoDB's words without the values that they quote.
///
/// `Value '{table=[..items..]}' at 'requestItems' failed ..` echoes the whole request, and `.. numeric value: 12x` a column.
/// So: what is quoted before ` at '` goes, what follows a colon after "value" goes, what starts with a brace goes, and the rest is cut.
fn cut(message: &str) -> String {
    let mut kept = String::with_capacity(message.len().min(STORE_MESSAGE_MAX_CHARS + 16));
    let mut rest = message;
    while let Some(start) = rest.find("Value '") {
        kept.push_str(&rest[..start]);
        kept.push_str("Value (hidden)");
        // From the end: the value itself may contain the words that follow it.
        let after = &rest[start + "Value '".len()..];
        rest = after.rfind("' at '").map_or("", |end| &after[end + 1..]);
    }
    kept.push_str(rest);
    if let Some(end) = kept.find("value: ") {
        kept.truncate(end + "value".len());
    }
    if let Some(end) = kept.find(['{', '[']) {
        kept.truncate(end);
    }
    if let Some((end, _)) = kept.char_indices().nth(STORE_MESSAGE_MAX_CHARS) {
        kept.truncate(end);
        kept.push_str("...");
    }
    kept.trim_end().to_owned()
}

/// The credential chain's failure, where that is what happened.
fn of_credentials(error: &(dyn Error + 'static)) -> Option<Failure> {
    let failure = causes(error).find_map(|cause| cause.downcast_ref::<CredentialsError>())?;
    Some(Failure::Access(match failure {
        CredentialsError::CredentialsNotLoaded(_) => "no AWS credentials were found; set AWS_ACCESS_KEY_ID and \
             AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or give the process a role"
            .to_owned(),
        other => format!("the AWS credentials could not be loaded: {}", root_cause(other)),
    }))
}

/// Whether no connection came about: refused, no such host, no TLS, or not in time.
fn never_connected(error: &(dyn Error + 'static)) -> bool {
    // The HTTP client's own error type is not public through the SDK; its text for a failed connection is this, and a
    // test holds it in place. Were it to change, such failures would be "unknown", which is safe.
    causes(error).any(|cause| cause.to_string() == "client error (Connect)")
}

fn root_cause(error: &(dyn Error + 'static)) -> String {
    causes(error).last().map_or_else(String::new, |cause| cut(&cause.to_string()))
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |cause: &&'a (dyn Error + 'static)| (*cause).source())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_validation_message_keeps_its_rule_and_loses_the_values() {
        let echoed = "1 validation error detected: Value '{t=[WriteRequest(putRequest=PutRequest(item={id=secret' at 'x})]}' \
                      at 'requestItems' failed to satisfy constraint: Member must have length less than or equal to 25";
        let kept = cut(echoed);
        assert!(!kept.contains("secret"), "{kept}");
        assert!(kept.contains("at 'requestItems' failed to satisfy constraint: Member must have length"), "{kept}");

        assert_eq!(
            cut("The parameter cannot be converted to a numeric value: 12x"),
            "The parameter cannot be converted to a numeric value"
        );
        assert_eq!(
            cut("Type mismatch for key id expected: S actual: N"),
            "Type mismatch for key id expected: S actual: N"
        );
        assert_eq!(cut(&"é".repeat(5_000)).chars().count(), STORE_MESSAGE_MAX_CHARS + 3);
        assert!(cut("Value 'never closed secret").len() < 20);
    }

    #[test]
    fn the_broadest_reason_wins() {
        let body = |reasons: &[&str]| {
            let reasons: Vec<_> = reasons.iter().map(|reason| serde_json::json!({"reason": reason})).collect();
            serde_json::json!({"message": "slow", "ThrottlingReasons": reasons}).to_string()
        };
        let reason = |reasons: &[&str]| throttle_reason(body(reasons).as_bytes()).map(|(reason, _)| reason);
        assert_eq!(reason(&["TableWriteKeyRangeThroughputExceeded"]), Some(ThrottleReason::KeyRange));
        assert_eq!(
            reason(&["TableWriteKeyRangeThroughputExceeded", "TableWriteAccountLimitExceeded"]),
            Some(ThrottleReason::Account)
        );
        assert_eq!(reason(&["IndexWriteProvisionedThroughputExceeded"]), Some(ThrottleReason::Provisioned));
        assert_eq!(reason(&["TableWriteMaxOnDemandThroughputExceeded"]), Some(ThrottleReason::MaxOnDemand));
        assert_eq!(reason(&[]), None);
        assert_eq!(throttle_reason(b"not json"), None);
    }

    #[test]
    fn an_index_that_is_short_of_capacity_is_named() {
        let body = |resources: &[(&str, &str)]| {
            let reasons: Vec<_> = resources
                .iter()
                .map(|(reason, resource)| serde_json::json!({"reason": reason, "resource": resource}))
                .collect();
            serde_json::json!({"ThrottlingReasons": reasons}).to_string()
        };
        let index = |resources: &[(&str, &str)]| throttle_reason(body(resources).as_bytes()).unwrap().1;
        let table = "arn:aws:dynamodb:eu-west-1:1:table/t";
        assert_eq!(index(&[("TableWriteKeyRangeThroughputExceeded", table)]), None);
        let on_index = format!("{table}/index/by-day");
        assert_eq!(index(&[("IndexWriteKeyRangeThroughputExceeded", &on_index)]).as_deref(), Some("by-day"));
        // The index belongs to the reason that counts.
        let both = [
            ("IndexWriteKeyRangeThroughputExceeded", on_index.as_str()),
            ("TableWriteProvisionedThroughputExceeded", table),
        ];
        assert_eq!(index(&both), None);
    }

    #[test]
    fn an_answer_is_classified_by_whether_anything_can_have_been_written() {
        let of = |code: &str, status| of_answer(Some(code), "m", status, b"{}");
        assert_eq!(of("ValidationException", 400), Failure::Refused("m".into()));
        assert_eq!(of("ItemCollectionSizeLimitExceededException", 400), Failure::Refused("m".into()));
        assert_eq!(of("ExpiredTokenException", 400), Failure::Access("m".into()));
        assert_eq!(of("ResourceNotFoundException", 400), Failure::TableMissing);
        assert_eq!(of("ThrottlingException", 400), Failure::Throttled(ThrottleReason::Unknown, None));
        assert_eq!(of("IdempotentParameterMismatchException", 400), Failure::Refused("m".into()));
        assert_eq!(of("TransactionInProgressException", 400), Failure::Unknown("m".into()));
        let conflict = of("TransactionConflictException", 400);
        assert_eq!(conflict.clone().into_write("t"), WriteError::Unknown { message: "m".into() });
        assert_eq!(conflict.into_single_write("t"), WriteError::NotSent { message: "m".into() });
        assert_eq!(of("InternalServerError", 500), Failure::Unknown("m (HTTP 500)".into()));
        assert_eq!(of("ServiceUnavailable", 503), Failure::Unknown("m (HTTP 503)".into()));
        assert_eq!(of_answer(None, "", 502, b"<html>"), Failure::Unknown("no message (HTTP 502)".into()));
        assert_eq!(of_answer(None, "", 200, b"{"), Failure::Unknown("the answer cannot be read (HTTP 200)".into()));
        assert_eq!(of_answer(None, "", 413, b""), Failure::Refused("no message".into()));
    }
}
