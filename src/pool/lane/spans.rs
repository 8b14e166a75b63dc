//! The span of an attempt: beneath the first session whose rows it carries, and linked to all of them.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::trace::SpanContext;
use smallvec::SmallVec;

use super::{Lane, Running};
use crate::limits::ATTEMPT_LINKS_MAX;
use crate::pool::queue::Taken;
use crate::store::{WriteDone, WriteError};

impl Lane {
    /// None where no session of the attempt is traced.
    pub(super) fn attempt_span(&self, table: &Arc<str>, taken: &Taken) -> Option<crate::telemetry::Span> {
        let tracing = &self.config.instruments.tracing;
        if !tracing.is_on() {
            return None;
        }
        let mut calls = SmallVec::<[SpanContext; 4]>::new();
        let mut note = |call: Option<&SpanContext>| {
            if let Some(call) = call
                && calls.len() < ATTEMPT_LINKS_MAX
                && !calls.contains(call)
            {
                calls.push(call.clone());
            }
        };
        let items = match taken {
            Taken::Attempt(attempt) => {
                let queue = &self.tables.get(table)?.queue;
                for slot in &attempt.slots {
                    queue.in_flight_slices(*slot).for_each(|slice| note(self.slices.session(slice).span()));
                }
                attempt.slots.len()
            }
            Taken::Group(group) => {
                note(group.session().span());
                group.items().len()
            }
        };
        tracing.shared("write attempt", &calls, || {
            vec![
                KeyValue::new("forebay.dynamodb_table", table.to_string()),
                // At most 100.
                KeyValue::new("forebay.items", items as i64),
            ]
        })
    }
}

impl Running {
    /// The attempt has come to this.
    pub(super) fn end_span(&self, label: &'static str, result: &Result<WriteDone, WriteError>) {
        if let Some(span) = &self.span {
            span.note([KeyValue::new("forebay.outcome", label)]);
            if !matches!(result, Ok(_) | Err(WriteError::Condition { .. })) {
                span.fail(label);
            }
            span.end();
        }
    }
}
