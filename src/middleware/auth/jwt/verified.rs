//! Tokens that were verified, by their hash: a client shows the same one with every call, and to verify it costs as much as the
//! rest of a point read's way through the stack. Pure.
//!
//! Only what was verified comes in, so a stranger cannot fill it; it is bounded all the same. What is here is good for the keys
//! it was verified by ([`Verified::get`]'s `epoch`), and for a while.

use std::collections::HashMap;
use std::time::SystemTime;

use crate::access::Identity;

/// SHA-256 of a token. The token itself is not kept.
pub(super) type TokenHash = [u8; 32];

#[derive(Debug)]
struct Entry {
    identity: Identity,
    epoch: u64,
    until: SystemTime,
}

/// Two generations: when the young one is full the old one goes, but for what was asked for meanwhile.
#[derive(Debug)]
pub(super) struct Verified {
    young: HashMap<TokenHash, Entry>,
    old: HashMap<TokenHash, Entry>,
    most: usize,
}

impl Verified {
    /// Keeps at most so many.
    pub(super) fn new(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), most }
    }

    /// Whose token it is, if it was verified by the keys of this epoch and holds now.
    pub(super) fn get(&mut self, hash: &TokenHash, epoch: u64, now: SystemTime) -> Option<Identity> {
        if !self.young.contains_key(hash) {
            let (hash, entry) = self.old.remove_entry(hash)?;
            self.put_entry(hash, entry);
        }
        let entry = self.young.get(hash)?;
        if entry.epoch == epoch && entry.until > now {
            return Some(entry.identity.clone());
        }
        self.young.remove(hash);
        None
    }

    /// Keeps a token that was verified.
    pub(super) fn put(&mut self, hash: TokenHash, identity: Identity, epoch: u64, until: SystemTime) {
        self.put_entry(hash, Entry { identity, epoch, until });
    }

    fn put_entry(&mut self, hash: TokenHash, entry: Entry) {
        if self.young.len() >= self.most / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(hash, entry);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::access::Credential;

    fn identity() -> Identity {
        let credential = Credential::Token { issuer: "i".into(), claim: "c".into() };
        Identity { principal: "p".into(), credential, expires_at: None }
    }

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_good_until_its_time_is_over_or_the_keys_change() {
        let mut verified = Verified::new(10);
        verified.put([1; 32], identity(), 7, at(10));
        assert_eq!(verified.get(&[1; 32], 7, at(9)), Some(identity()));
        assert_eq!(verified.get(&[2; 32], 7, at(9)), None);
        assert_eq!(verified.get(&[1; 32], 7, at(10)), None);
        verified.put([1; 32], identity(), 7, at(10));
        assert_eq!(verified.get(&[1; 32], 8, at(9)), None);
        assert_eq!(verified.get(&[1; 32], 7, at(9)), None, "it is gone");
    }

    #[test]
    fn however_many_come_few_are_kept_and_those_in_use_among_them() {
        let mut verified = Verified::new(10);
        for number in 0..=255 {
            verified.put([number; 32], identity(), 0, at(10));
            assert!(verified.get(&[0; 32], 0, at(0)).is_some(), "{number}");
            assert!(verified.young.len() + verified.old.len() <= 10);
        }
        assert_eq!(verified.get(&[1; 32], 0, at(0)), None);
    }
}
