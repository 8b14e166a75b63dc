//! How a session leaves whose caller loses the right to write: told before the credential ends, or at once where it was
//! revoked; then nothing more is read, what was taken is acked, and the call ends with the status for the loss.
//!
//! This says when; the caller, `session`, does it.

use std::future::Future;
use std::pin::Pin;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;
use tonic::Status;

use super::ends::until;
use crate::access::{Caller, Loss, Permission};
use crate::api::permit;
use crate::limits::{CREDENTIAL_END_NOTICE, CREDENTIAL_END_NOTICE_SHARE};
use crate::proto::v1::DrainReason;

/// What becomes of the caller's right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leaving {
    /// It ends at this time.
    Soon(Instant),
    /// It is gone.
    Now(Loss),
}

impl Leaving {
    /// How the client is told.
    pub(super) fn reason(self) -> DrainReason {
        match self {
            Self::Soon(_) | Self::Now(Loss::Expired) => DrainReason::TokenExpiry,
            Self::Now(Loss::Revoked | Loss::GrantRemoved) => DrainReason::Revoked,
        }
    }
}

/// Watches the right of one session's caller to write its table.
pub(super) struct Leave {
    caller: Caller,
    table: String,
    lost: Pin<Box<dyn Future<Output = Loss> + Send>>,
    /// When to say that the credential ends, and when it does; `None` where that was said, or it does not end.
    notice: Option<(Instant, Instant)>,
    loss: Option<Loss>,
}

impl Leave {
    /// Begins to watch.
    pub(super) fn new(caller: &Caller, table: &str) -> Self {
        let (watched, name) = (caller.clone(), table.to_owned());
        let notice = caller.expires_at().map(|at| {
            let left = at.duration_since(SystemTime::now()).unwrap_or_default();
            let now = Instant::now();
            (now + (left - notice(left)), now + left)
        });
        Self {
            caller: caller.clone(),
            table: table.to_owned(),
            lost: Box::pin(async move { watched.lost(Permission::Write, &name).await }),
            notice,
            loss: None,
        }
    }

    /// Resolves at the next thing to know; after the loss, never.
    pub(super) async fn next(&mut self) -> Leaving {
        if self.loss.is_some() {
            return std::future::pending().await;
        }
        tokio::select! {
            biased;
            loss = &mut self.lost => {
                self.loss = Some(loss);
                Leaving::Now(loss)
            }
            ends_at = noticed(self.notice) => {
                self.notice = None;
                Leaving::Soon(ends_at)
            }
        }
    }

    /// Whether the right is gone.
    pub(super) fn is_over(&self) -> bool {
        self.loss.is_some()
    }

    /// How the call ends, where the right is gone.
    pub(super) fn status(&self) -> Option<Status> {
        self.loss.map(|loss| permit::refused(&self.caller, loss, Permission::Write, &self.table))
    }
}

/// How long before a credential's end its client is told. A credential that lives for a minute is worth most of it, too.
fn notice(left: Duration) -> Duration {
    CREDENTIAL_END_NOTICE.min(left / CREDENTIAL_END_NOTICE_SHARE)
}

/// Resolves when it is time to say so, with the end of the credential.
async fn noticed(notice: Option<(Instant, Instant)>) -> Instant {
    until(notice.map(|(say_at, _)| say_at)).await;
    match notice {
        Some((_, ends_at)) => ends_at,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notice_is_given_in_time_and_leaves_a_short_credential_most_of_its_life() {
        let seconds = Duration::from_secs;
        assert_eq!(notice(seconds(3600)), seconds(30));
        assert_eq!(notice(seconds(120)), seconds(30));
        assert_eq!(notice(seconds(60)), seconds(15));
        assert_eq!(notice(Duration::ZERO), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn anyone_never_has_to_leave() {
        let mut leave = Leave::new(&Caller::anyone(), "t");
        assert!(tokio::time::timeout(Duration::from_secs(1_000_000), leave.next()).await.is_err());
        assert!(!leave.is_over() && leave.status().is_none());
    }
}
