//! Protobuf's wire format, as a cursor over bytes: just what is needed to walk rows without decoding them.

use super::PayloadError;

/// What cannot be read. Small, because every step of the walk returns it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WireError(pub &'static str);

impl From<WireError> for PayloadError {
    fn from(WireError(what): WireError) -> Self {
        Self::Malformed { detail: format!("{what} cannot be read") }
    }
}

/// One field's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WireValue<'a> {
    /// A varint.
    Varint(u64),
    /// Eight bytes, little endian.
    Fixed64(u64),
    /// Length-delimited bytes.
    Bytes(&'a [u8]),
    /// Four bytes, little endian.
    Fixed32(u32),
}

/// Field 1, length-delimited.
const KEY_OF_MESSAGES: u8 = 1 << 3 | 2;

/// Walks the fields of one message.
#[derive(Debug, Clone, Copy)]
pub struct Wire<'a> {
    rest: &'a [u8],
}

impl<'a> Wire<'a> {
    /// At the start of a message.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// Bytes not yet walked.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and content; `None` at the end.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, WireValue<'a>)>, WireError> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).ok().filter(|&number| number > 0).ok_or(WireError("a field number"))?;
        let value = match key & 7 {
            0 => WireValue::Varint(self.varint()?),
            1 => WireValue::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| WireError("a length"))?;
                WireValue::Bytes(self.take(length)?)
            }
            5 => WireValue::Fixed32(u32::from_le_bytes(self.array()?)),
            _ => return Err(WireError("a wire type")),
        };
        Ok(Some((number, value)))
    }

    /// The next content of the length-delimited field 1, which is how every repeated message here is numbered; other fields
    /// are stepped over. `None` at the end.
    #[inline]
    pub fn next_message(&mut self) -> Result<Option<&'a [u8]>, WireError> {
        // Nearly always: the key, and a length of one byte.
        if let [KEY_OF_MESSAGES, length @ 0..0x80, rest @ ..] = self.rest
            && let Some((message, rest)) = rest.split_at_checked(usize::from(*length))
        {
            self.rest = rest;
            return Ok(Some(message));
        }
        while let Some((number, value)) = self.next_field()? {
            if let (1, WireValue::Bytes(message)) = (number, value) {
                return Ok(Some(message));
            }
        }
        Ok(None)
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, WireError> {
        // Most keys and lengths are one byte.
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    break;
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        Err(WireError("a varint"))
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(WireError("a length beyond the end"))?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(WireError("a number beyond the end"))?;
        self.rest = rest;
        Ok(*taken)
    }
}

/// Zigzag's inverse.
#[inline]
pub fn zigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}
