//! What is said of a value that does not fit: both types, a sentence without the value, and what to do.

use super::*;

/// Characters of a value that a reject shows.
const SHOWN_CHARACTERS: usize = 32;

impl Leaf {
    /// The reject of a value of another type.
    pub fn mismatch(&self, found: &str) -> Box<Reject> {
        let message = format!("{found} does not fit the declared type {}", self.declared);
        Reject::new(Reason::TypeMismatch, message)
            .of_types(&self.declared, found)
            .hint("send a value of the declared type")
    }

    /// The reject of a value that was seen to be no value of its own type, before it came here.
    #[cold]
    pub(in crate::payload) fn misfit_of(&self, misfit: Misfit, kind: ValueKind) -> Box<Reject> {
        self.reject(misfit, kind)
    }

    /// The type of a rejected value in words: what the session declares, where the value is of that kind. What does not fit the
    /// declared type is none of that type, whatever the session says.
    fn found_type(&self, kind: ValueKind) -> &str {
        match &self.incoming {
            Some(incoming) if incoming.kind == kind && incoming.name != self.declared => &incoming.name,
            _ => kind.name(),
        }
    }

    #[cold]
    pub(super) fn reject_value(&self, misfit: Misfit, found: Found<'_>) -> Box<Reject> {
        self.show(self.reject(misfit, found.kind()), found)
    }

    #[cold]
    pub(super) fn reject(&self, misfit: Misfit, kind: ValueKind) -> Box<Reject> {
        let (declared, found) = (&*self.declared, self.found_type(kind));
        let (message, hint) = match misfit {
            Misfit::OutOfRange => (
                format!("the value is outside the range of {declared}"),
                "send a value in range, or widen the column".to_owned(),
            ),
            Misfit::Inexact(why) => (
                format!("the {found} does not fit {declared} exactly: {why}"),
                match self.mode.is_strict() {
                    true => "round it before it is sent, or give the table or the session `store_assignment: ansi`"
                        .to_owned(),
                    false => "round it before it is sent".to_owned(),
                },
            ),
            Misfit::NonFinite => {
                (format!("NaN and infinities do not fit {declared}"), "send a null or a number instead".to_owned())
            }
            Misfit::NotRead(form) => (format!("the {found} cannot be read as {declared}"), format!("expected {form}")),
            Misfit::NoCast => {
                (format!("{found} does not fit the declared type {declared}"), self.hint(kind).to_owned())
            }
        };
        Reject::new(misfit.reason(), message).of_types(declared, found).hint(hint)
    }

    /// The reject with its types, and with the value where the table allows that.
    #[cold]
    pub(super) fn show(&self, mut reject: Box<Reject>, found: Found<'_>) -> Box<Reject> {
        if reject.declared.is_empty() {
            reject = reject.of_types(&self.declared, self.found_type(found.kind()));
        }
        if self.show_values {
            let shown = text::with_text(found, |text| match text.char_indices().nth(SHOWN_CHARACTERS) {
                Some((end, _)) => format!("{}...", &text[..end]),
                None => text.to_owned(),
            });
            let length = if let Found::Binary(bytes) = found { bytes.len() } else { 0 };
            reject.value = Some(shown.unwrap_or_else(|_| format!("{length} bytes")).into());
        }
        reject
    }
}
