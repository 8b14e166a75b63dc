//! API keys: `fb_<id>_<secret>`.
//!
//! The id says which key it is, in files, logs and metrics; the secret is known to the client alone: the policy has the
//! SHA-256 of the whole key. A fast hash is enough, because the secret is random, not a word that can be guessed. What holds
//! a secret shows only the id in `Debug`.
//!
//! Callers: `policy`, `middleware::auth`, `cli::keys`. Randomness is passed in.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// What every key begins with; no token does.
pub const KEY_PREFIX: &str = "fb_";
/// Longest id (chosen: a label for people).
const ID_MAX_BYTES: usize = 32;
/// The secret's digits. Each is a letter or a digit, so that a double click selects them all.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// Digits of a secret that is made here: 256 bits, as 62^43 > 2^256.
const SECRET_DIGITS: usize = 43;
/// Digits of a secret that was made elsewhere: no fewer than 190 random bits, if they are random.
const SECRET_DIGITS_MIN: usize = 32;
/// And no more than this.
const SECRET_DIGITS_MAX: usize = 128;

/// What is no id of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{id}` is no id of a key; expected 1 to {ID_MAX_BYTES} of a-z, 0-9 and `-`, such as `spark1`")]
pub struct KeyIdError {
    /// What it is.
    pub id: String,
}

/// A text that is no key. It is not shown, as it may be most of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no API key; expected `fb_<id>_<secret>`, as `forebay keys create` prints it")]
pub struct KeyFormError;

/// Whether this may be a key's id.
///
/// # Errors
///
/// Where it may not.
pub fn check_key_id(id: &str) -> Result<(), KeyIdError> {
    let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    match (1..=ID_MAX_BYTES).contains(&id.len()) && id.bytes().all(fits) {
        true => Ok(()),
        false => Err(KeyIdError { id: id.to_owned() }),
    }
}

/// A key that somebody shows.
#[derive(Clone, Copy)]
pub struct ShownKey<'a> {
    text: &'a str,
    id: &'a str,
}

impl fmt::Debug for ShownKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownKey").field("id", &self.id).finish_non_exhaustive()
    }
}

impl<'a> ShownKey<'a> {
    /// A text of the form of a key.
    ///
    /// # Errors
    ///
    /// Where it has another form.
    pub fn parse(text: &'a str) -> Result<Self, KeyFormError> {
        let (id, secret) = text.strip_prefix(KEY_PREFIX).and_then(|rest| rest.split_once('_')).ok_or(KeyFormError)?;
        let fits = (SECRET_DIGITS_MIN..=SECRET_DIGITS_MAX).contains(&secret.len())
            && secret.bytes().all(|byte| byte.is_ascii_alphanumeric());
        match fits && check_key_id(id).is_ok() {
            true => Ok(Self { text, id }),
            false => Err(KeyFormError),
        }
    }

    /// Which key it says it is.
    pub fn id(self) -> &'a str {
        self.id
    }

    /// SHA-256 of all of it.
    pub fn sha256(self) -> [u8; 32] {
        Sha256::digest(self.text).into()
    }
}

/// A key that has just been made; nobody knows it yet.
pub struct NewKey {
    text: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewKey").field("id", &self.as_shown().map(ShownKey::id)).finish_non_exhaustive()
    }
}

impl NewKey {
    /// A key with this id and a secret of the bytes that `fill` gives, which must be those of a generator for cryptography.
    ///
    /// # Errors
    ///
    /// Where the id is none, or `fill` fails.
    pub fn generate<E: From<KeyIdError>>(
        id: &str,
        mut fill: impl FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<Self, E> {
        check_key_id(id)?;
        let mut text = format!("{KEY_PREFIX}{id}_");
        let whole = text.len() + SECRET_DIGITS;
        let mut bytes = [0; 2 * SECRET_DIGITS];
        while text.len() < whole {
            fill(&mut bytes)?;
            // 248 is four times 62: a byte above would make the first digits more likely than the last.
            let digits =
                bytes.iter().filter(|byte| **byte < 248).map(|byte| char::from(ALPHABET[usize::from(byte % 62)]));
            text.extend(digits.take(whole - text.len()));
        }
        Ok(Self { text })
    }

    /// The whole key, secret and all.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The key as somebody shows it who has it.
    ///
    /// # Errors
    ///
    /// Never: what is made here has the form of a key.
    pub fn as_shown(&self) -> Result<ShownKey<'_>, KeyFormError> {
        ShownKey::parse(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(seed: u64) -> NewKey {
        let mut random = fastrand::Rng::with_seed(seed);
        NewKey::generate::<KeyIdError>("spark1", |bytes| {
            random.fill(bytes);
            Ok(())
        })
        .unwrap()
    }

    #[test]
    fn a_new_key_has_the_form_of_one_and_another_is_another() {
        let key = made(1);
        let text = key.reveal();
        assert_eq!(text.len(), "fb_spark1_".len() + 43);
        let shown = key.as_shown().unwrap();
        assert_eq!(shown.id(), "spark1");
        assert_ne!(shown.sha256(), made(2).as_shown().unwrap().sha256());
        assert_eq!(shown.sha256(), ShownKey::parse(text).unwrap().sha256());
    }

    #[test]
    fn every_digit_of_a_secret_is_as_likely_as_every_other() {
        let mut seen = [0_u32; 128];
        for seed in 0..2_000 {
            let key = made(seed);
            let secret = key.reveal().rsplit('_').next().unwrap();
            secret.bytes().for_each(|digit| seen[usize::from(digit)] += 1);
        }
        // 86,000 digits of 62 kinds are 1,387 each, give or take 37.
        for digit in ALPHABET {
            let count = seen[usize::from(*digit)];
            assert!((1_180..1_600).contains(&count), "{} {count}", char::from(*digit));
        }
    }

    #[test]
    fn a_source_of_bytes_that_are_all_too_large_is_asked_again() {
        let mut asked = 0;
        let key = NewKey::generate::<KeyIdError>("a", |bytes| {
            asked += 1;
            bytes.fill(if asked < 3 { 255 } else { 61 });
            Ok(())
        });
        assert_eq!(key.unwrap().reveal(), format!("fb_a_{}", "z".repeat(43)));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let secret = "s".repeat(43);
        let long_id = "a".repeat(33);
        let bad = [
            String::new(),
            "fb_".to_owned(),
            "fb_spark1".to_owned(),
            "fb_spark1_".to_owned(),
            format!("fb_spark1_{}", "s".repeat(31)),
            format!("fb_spark1_{}", "s".repeat(129)),
            format!("fb_Spark1_{secret}"),
            format!("fb__{secret}"),
            format!("fb_{long_id}_{secret}"),
            format!("FB_spark1_{secret}"),
            format!("spark1_{secret}"),
            format!("fb_spark1_{secret} "),
            format!("fb_spark1_{secret}_"),
            format!("fb_spark1_{secret}é"),
        ];
        for text in bad {
            assert_eq!(ShownKey::parse(&text).unwrap_err(), KeyFormError, "{text}");
        }
    }

    #[test]
    fn debug_shows_the_id_and_not_the_secret() {
        let key = made(3);
        let secret = key.reveal().rsplit('_').next().unwrap();
        for shown in [format!("{key:?}"), format!("{:?}", key.as_shown().unwrap())] {
            assert!(shown.contains("spark1") && !shown.contains(&secret[..8]), "{shown}");
        }
    }
}
