//! Where a client's token comes from, and how it gets into a call.
//!
//! A token is never logged, never shown by `Debug`, and never part of an error. Callers: `options` makes sources, `channel`
//! puts tokens into calls.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::error::ClientError;
use crate::limits::CLIENT_TOKEN_RECHECK;

/// Where a token comes from.
#[derive(Clone)]
pub struct Token(Source);

#[derive(Clone)]
enum Source {
    Fixed(String),
    Environment(String),
    File(PathBuf),
}

impl Token {
    /// This one.
    pub fn fixed(token: impl Into<String>) -> Self {
        Self(Source::Fixed(token.into()))
    }

    /// What an environment variable holds when the client is made.
    pub fn environment(variable: impl Into<String>) -> Self {
        Self(Source::Environment(variable.into()))
    }

    /// What a file holds, which is read again when it changes: a Kubernetes projected token, say.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Source::Fixed(_) => f.write_str("Token(fixed)"),
            Source::Environment(variable) => write!(f, "Token(environment: {variable})"),
            Source::File(path) => write!(f, "Token(file: {})", path.display()),
        }
    }
}

/// A token in use. Clones share it.
#[derive(Clone)]
pub(crate) struct Bearer(Arc<Inner>);

struct Inner {
    /// Only a file's token changes.
    file: Option<PathBuf>,
    current: Mutex<Current>,
}

struct Current {
    value: MetadataValue<Ascii>,
    read_at: Instant,
}

impl std::fmt::Debug for Bearer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bearer").field("file", &self.0.file).finish_non_exhaustive()
    }
}

impl Bearer {
    /// Reads the token, so that a wrong one is found at once.
    pub(crate) fn try_new(token: Token) -> Result<Self, ClientError> {
        let (value, file) = match token.0 {
            Source::Fixed(token) => (header(&token, "token")?, None),
            Source::Environment(variable) => {
                let token = std::env::var(&variable)
                    .map_err(|_| bad(&variable, "the environment variable is not set to a token"))?;
                (header(&token, &variable)?, None)
            }
            Source::File(path) => (read(&path)?, Some(path)),
        };
        let current = Mutex::new(Current { value, read_at: Instant::now() });
        Ok(Self(Arc::new(Inner { file, current })))
    }

    /// Puts the token into a call's metadata.
    pub(crate) fn show(&self, metadata: &mut MetadataMap) {
        metadata.insert("authorization", self.value(Instant::now()));
    }

    /// A file is read again from time to time. It is a few hundred bytes, mostly in memory, so that no thread is needed for it.
    fn value(&self, now: Instant) -> MetadataValue<Ascii> {
        // What is in there is whole at any moment.
        let mut current = self.0.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.0.file
            && now.saturating_duration_since(current.read_at) >= CLIENT_TOKEN_RECHECK
        {
            current.read_at = now;
            match read(path) {
                Ok(value) => current.value = value,
                // The last one may still be good; the gateway says when it is not.
                Err(error) => tracing::warn!("the token is not read again: {error}"),
            }
        }
        current.value.clone()
    }
}

fn read(path: &Path) -> Result<MetadataValue<Ascii>, ClientError> {
    let name = path.display().to_string();
    let token = std::fs::read_to_string(path).map_err(|error| bad(&name, &format!("cannot be read ({error})")))?;
    header(&token, &name)
}

fn header(token: &str, what: &str) -> Result<MetadataValue<Ascii>, ClientError> {
    let token = token.trim();
    if token.is_empty() || !token.chars().all(|character| character.is_ascii_graphic()) {
        return Err(bad(what, "holds no token; expected one word of visible ASCII characters"));
    }
    let mut value = MetadataValue::try_from(format!("Bearer {token}"))
        .map_err(|_| bad(what, "holds no token; expected one word of visible ASCII characters"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn bad(what: &str, message: &str) -> ClientError {
    ClientError::BadOption { what: what.to_owned(), message: message.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_files_token_is_read_again_and_the_last_good_one_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        std::fs::write(&path, "one\n").unwrap();
        let bearer = Bearer::try_new(Token::file(&path)).unwrap();
        let start = Instant::now();
        assert_eq!(bearer.value(start), "Bearer one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(bearer.value(start), "Bearer one", "not at every call");
        let later = start + CLIENT_TOKEN_RECHECK * 2;
        assert_eq!(bearer.value(later), "Bearer two");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bearer.value(later + CLIENT_TOKEN_RECHECK), "Bearer two");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(bearer.value(later + CLIENT_TOKEN_RECHECK * 2), "Bearer three");
    }

    #[test]
    fn what_is_no_token_is_found_when_the_client_is_made_and_not_shown() {
        for token in ["", " \n", "two words", "naïve", "a\u{7}b"] {
            let error = Bearer::try_new(Token::fixed(token)).unwrap_err().to_string();
            assert!(error.starts_with("token: holds no token; expected"), "{error}");
            assert!(token.trim().is_empty() || !error.contains(token), "{error}");
        }
        let error = Bearer::try_new(Token::environment("FOREBAY_NO_SUCH_VARIABLE")).unwrap_err().to_string();
        assert!(error.starts_with("FOREBAY_NO_SUCH_VARIABLE: "), "{error}");
        let error = Bearer::try_new(Token::file("/no/such/file")).unwrap_err().to_string();
        assert!(error.starts_with("/no/such/file: cannot be read"), "{error}");
    }

    #[test]
    fn nothing_that_can_be_printed_holds_the_token() {
        let token = Token::fixed("fb_a_secret");
        let bearer = Bearer::try_new(token.clone()).unwrap();
        let mut metadata = MetadataMap::new();
        bearer.show(&mut metadata);
        for shown in [format!("{token:?}"), format!("{bearer:?}"), format!("{metadata:?}")] {
            assert!(!shown.contains("secret"), "{shown}");
        }
        assert_eq!(metadata.get("authorization").unwrap(), "Bearer fb_a_secret");
    }
}
