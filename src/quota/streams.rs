//! Streams that are open, by principal.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many streams each principal has open. Only those that have any are remembered.
#[derive(Debug, Default)]
pub(super) struct Streams(Mutex<HashMap<Arc<str>, u32>>);

impl Streams {
    /// One more, if there are fewer than `most`.
    pub(super) fn open(self: &Arc<Self>, principal: &Arc<str>, most: Option<NonZeroU32>) -> Option<StreamPermit> {
        let mut open = self.lock();
        let count = open.get(principal).copied().unwrap_or(0);
        if most.is_some_and(|most| count >= most.get()) {
            return None;
        }
        open.insert(Arc::clone(principal), count + 1);
        Some(StreamPermit(Some((Arc::clone(self), Arc::clone(principal)))))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to have a stream open. It must live as long as the stream.
#[derive(Debug)]
pub struct StreamPermit(Option<(Arc<Streams>, Arc<str>)>);

impl StreamPermit {
    /// Of a stream that nobody counts.
    pub(super) fn uncounted() -> Self {
        Self(None)
    }
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        let Some((streams, principal)) = self.0.take() else { return };
        let mut open = streams.lock();
        match open.get_mut(&principal) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = open.remove(&principal),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_that_ends_makes_room_for_another_and_nobody_is_remembered_without_one() {
        let (streams, name) = (Arc::new(Streams::default()), Arc::from("p"));
        let two = NonZeroU32::new(2);
        let first = streams.open(&name, two).unwrap();
        let second = streams.open(&name, two).unwrap();
        assert!(streams.open(&name, two).is_none());
        drop(first);
        let third = streams.open(&name, two).unwrap();
        drop((second, third));
        assert!(streams.lock().is_empty());
    }
}
