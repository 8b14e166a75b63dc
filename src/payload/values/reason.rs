//! Reasons of rejected rows in the protocol's words.

use crate::payload::RejectReason;
use crate::proto::v1;

/// The protocol's twin of a reason.
pub(crate) fn row_reason(reason: RejectReason) -> v1::RowReason {
    match reason {
        RejectReason::TypeMismatch => v1::RowReason::TypeMismatch,
        RejectReason::OutOfRange => v1::RowReason::OutOfRange,
        RejectReason::Inexact => v1::RowReason::Inexact,
        RejectReason::NullNotAllowed => v1::RowReason::NullNotAllowed,
        RejectReason::NonFinite => v1::RowReason::NonFinite,
        RejectReason::TooLong => v1::RowReason::TooLong,
        RejectReason::UnknownField => v1::RowReason::UnknownField,
        RejectReason::SurplusValue => v1::RowReason::SurplusValue,
        RejectReason::KeyEmpty => v1::RowReason::KeyEmpty,
        RejectReason::KeyTooLong => v1::RowReason::KeyTooLong,
        RejectReason::ItemTooLarge => v1::RowReason::ItemTooLarge,
        RejectReason::TooDeep => v1::RowReason::TooDeep,
        RejectReason::DuplicateMapKey => v1::RowReason::DuplicateMapKey,
        RejectReason::Malformed => v1::RowReason::Malformed,
        RejectReason::BackendValidation => v1::RowReason::BackendValidation,
        RejectReason::AlreadyExists => v1::RowReason::AlreadyExists,
        RejectReason::AtomicPeer => v1::RowReason::AtomicPeer,
        RejectReason::DuplicateKey => v1::RowReason::DuplicateKey,
    }
}
