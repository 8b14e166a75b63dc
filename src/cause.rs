//! Errors that led to others, down to the first. A leaf: imports nothing.

use std::error::Error;

/// An error, and those that led to it: the last is the first that happened.
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

/// The words of the error at the root: the ones above often only say that there was one.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    chain(error).last().unwrap_or(error).to_string()
}
