//! The writer's side of the wire: batches are encoded once, when the caller hands them over, and copied from there into
//! every call that has to send them.
//!
//! The generated client would keep each batch as a tree of messages and encode it at every send; a resend would need a deep
//! copy. Here a message is its encoded payload and a batch number in front of it; a test compares the bytes with prost's.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

use crate::proto::v1;

/// The call's path.
pub(crate) const WRITE_PATH: &str = "/forebay.v1.IngestService/Write";

/// Field numbers of `ingest.proto`.
const WRITE_REQUEST_BATCH: u32 = 2;
const BATCH_SEQ: u32 = 1;
const BATCH_ROWS: u32 = 2;
const BATCH_ARROW: u32 = 3;
const ARROW_IPC_MESSAGES: u32 = 1;

/// An encoded payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    /// An encoded `RowBatch`.
    Rows(Bytes),
    /// Encapsulated IPC messages.
    Arrow(Bytes),
    /// Was acked; only its size is still needed.
    Released {
        /// Bytes of the payload field.
        field_bytes: usize,
    },
}

impl Payload {
    /// The payload's part of a `Batch` message.
    fn field_bytes(&self) -> usize {
        match self {
            Self::Rows(rows) => delimited(BATCH_ROWS, rows.len()),
            Self::Arrow(ipc) => delimited(BATCH_ARROW, delimited(ARROW_IPC_MESSAGES, ipc.len())),
            Self::Released { field_bytes } => *field_bytes,
        }
    }

    /// The size of the `Batch` message that carries it.
    pub(crate) fn message_bytes(&self, seq: u64) -> usize {
        key_len(BATCH_SEQ) + encoded_len_varint(seq) + self.field_bytes()
    }

    /// The same with these rows alone, which are in ascending order; `None` where rows cannot be told apart.
    pub(crate) fn select(&self, rows: &[usize]) -> Option<Self> {
        let Self::Rows(encoded) = self else { return None };
        let (mut rest, mut kept, mut wanted) = (encoded.clone(), Vec::new(), rows.iter().peekable());
        for index in 0.. {
            if wanted.peek().is_none() {
                break;
            }
            let row = rest.clone();
            // Fields are what `RowsBuffer` wrote.
            let (_, WireType::LengthDelimited) = decode_key(&mut rest).ok()? else { return None };
            let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            rest = (len <= rest.len()).then(|| rest.slice(len..))?;
            if wanted.next_if(|wanted| **wanted == index).is_some() {
                kept.extend_from_slice(&row[..row.len() - rest.len()]);
            }
        }
        Some(Self::Rows(Bytes::from(kept)))
    }

    /// The same without its bytes.
    pub(crate) fn released(&self) -> Self {
        Self::Released { field_bytes: self.field_bytes() }
    }
}

/// Length of a length-delimited field.
fn delimited(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// A message to send.
#[derive(Debug)]
pub(crate) enum Outgoing {
    /// Open, Flush or Finish.
    Control(Box<v1::WriteRequest>),
    /// A batch.
    Batch {
        /// Its number in the call.
        seq: u64,
        /// Its payload.
        payload: Payload,
    },
}

/// Writes a whole `WriteRequest`.
fn encode(message: &Outgoing, out: &mut impl BufMut) -> Result<(), Status> {
    match message {
        Outgoing::Control(request) => {
            request.encode(out).map_err(|error| Status::internal(format!("a message cannot be encoded: {error}")))
        }
        Outgoing::Batch { seq, payload } => {
            encode_key(WRITE_REQUEST_BATCH, WireType::LengthDelimited, out);
            encode_varint(payload.message_bytes(*seq) as u64, out);
            encode_key(BATCH_SEQ, WireType::Varint, out);
            encode_varint(*seq, out);
            match payload {
                Payload::Rows(rows) => {
                    encode_key(BATCH_ROWS, WireType::LengthDelimited, out);
                    encode_varint(rows.len() as u64, out);
                    out.put_slice(rows);
                }
                Payload::Arrow(ipc) => {
                    encode_key(BATCH_ARROW, WireType::LengthDelimited, out);
                    encode_varint(delimited(ARROW_IPC_MESSAGES, ipc.len()) as u64, out);
                    encode_key(ARROW_IPC_MESSAGES, WireType::LengthDelimited, out);
                    encode_varint(ipc.len() as u64, out);
                    out.put_slice(ipc);
                }
                Payload::Released { .. } => return Err(Status::internal("an acked batch cannot be sent")),
            }
            Ok(())
        }
    }
}

/// Encodes rows as a `RowBatch`, row by row.
#[derive(Debug, Default)]
pub(crate) struct RowsBuffer {
    bytes: Vec<u8>,
    rows: usize,
}

impl RowsBuffer {
    /// The size that one row adds.
    pub(crate) fn row_bytes(row: &v1::Row) -> usize {
        delimited(1, row.encoded_len())
    }

    /// Adds a row.
    pub(crate) fn push(&mut self, row: &v1::Row) {
        prost::encoding::message::encode(1, row, &mut self.bytes);
        self.rows += 1;
    }

    /// Bytes so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Rows so far.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The payload; the buffer starts anew.
    pub(crate) fn take(&mut self) -> Payload {
        self.rows = 0;
        Payload::Rows(Bytes::from(std::mem::take(&mut self.bytes)))
    }
}

/// Sends [`Outgoing`], receives `WriteResponse`.
#[derive(Debug, Default)]
pub(crate) struct WriteCodec;

impl Codec for WriteCodec {
    type Encode = Outgoing;
    type Decode = v1::WriteResponse;
    type Encoder = OutgoingEncoder;
    type Decoder = <ProstCodec<v1::WriteRequest, v1::WriteResponse> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        OutgoingEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<v1::WriteRequest, v1::WriteResponse>::raw_decoder(BufferSettings::default())
    }
}

/// The encoder of [`WriteCodec`].
#[derive(Debug)]
pub(crate) struct OutgoingEncoder;

impl Encoder for OutgoingEncoder {
    type Item = Outgoing;
    type Error = Status;

    fn encode(&mut self, item: Outgoing, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        if let Outgoing::Batch { seq, payload } = &item {
            out.reserve(delimited(WRITE_REQUEST_BATCH, payload.message_bytes(*seq)));
        }
        encode(&item, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{batch, value, write_request};

    fn as_prost(seq: u64, payload: batch::Payload) -> (Vec<u8>, usize) {
        let batch = v1::Batch { batch_seq: seq, payload: Some(payload), atomic: false };
        let size = batch.encoded_len();
        let request = v1::WriteRequest { message: Some(write_request::Message::Batch(batch)) };
        (request.encode_to_vec(), size)
    }

    #[test]
    fn some_rows_of_a_payload_are_what_they_would_be_alone() {
        let row = |i: i64| v1::Row { values: vec![v1::Value { kind: Some(value::Kind::IntValue(i << i)) }; 3] };
        let encoded = |rows: &[i64]| {
            let mut buffer = RowsBuffer::default();
            rows.iter().for_each(|i| buffer.push(&row(*i)));
            buffer.take()
        };
        let payload = encoded(&[0, 1, 2, 3, 40]);
        assert_eq!(payload.select(&[1, 4]), Some(encoded(&[1, 40])));
        assert_eq!(payload.select(&[0, 1, 2, 3, 4]), Some(payload.clone()));
        assert_eq!(payload.select(&[5]), None, "there is no such row");
        assert_eq!(Payload::Arrow(Bytes::from_static(b"ipc")).select(&[0]), None);
    }

    #[test]
    fn batches_have_the_bytes_that_prost_would_write() {
        let values = (0..40).map(|i| v1::Value { kind: Some(value::Kind::IntValue(i - 20)) }).collect::<Vec<_>>();
        let rows = v1::RowBatch { rows: vec![v1::Row { values }, v1::Row::default()] };
        for seq in [1, 127, 128, u64::MAX] {
            let mut buffer = RowsBuffer::default();
            for row in &rows.rows {
                let before = buffer.len();
                buffer.push(row);
                assert_eq!(buffer.len() - before, RowsBuffer::row_bytes(row));
            }
            let ipc = Bytes::from(vec![7; 300]);
            let arrow = v1::ArrowBatch { ipc_messages: ipc.clone() };
            for (ours, theirs) in [
                (buffer.take(), batch::Payload::Rows(rows.clone())),
                (Payload::Arrow(ipc), batch::Payload::Arrow(arrow)),
            ] {
                let (expected, size) = as_prost(seq, theirs);
                assert_eq!(ours.message_bytes(seq), size);
                assert_eq!(ours.released().message_bytes(seq), size);
                let mut out = Vec::new();
                encode(&Outgoing::Batch { seq, payload: ours }, &mut out).unwrap();
                assert_eq!(out, expected);
            }
        }
    }
}
