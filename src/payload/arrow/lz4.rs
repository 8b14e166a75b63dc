//! LZ4-compressed batches, decompressed into one piece of memory of exactly the size that the guard has checked.
//!
//! arrow-ipc would do it too, but a frame at a time with buffers of the frame's largest block, cleared first. Arrow's Java
//! writer, and so Spark, declares blocks of 4 MiB for every buffer, however small: 0.3 ms for a column of two hundred bytes,
//! and a cheap way to keep a gateway busy. Here blocks are decompressed straight to where they belong.

use std::hash::Hasher as _;

use arrow_buffer::{Buffer, MutableBuffer};
use arrow_ipc::RecordBatch;
use flatbuffers::FlatBufferBuilder;
use twox_hash::XxHash32;

use super::guard::malformed;
use crate::payload::PayloadError;

/// Where each buffer starts: the widest values of Arrow take 16 bytes.
pub(super) const ALIGNMENT: usize = 16;
/// A frame's first four bytes.
const MAGIC: [u8; 4] = 0x184d_2204u32.to_le_bytes();
/// How far back a block may refer into those before it.
const WINDOW_BYTES: usize = 64 * 1024;
/// The top bit of a block's length: the block is stored as it is.
const STORED: u32 = 1 << 31;

/// The same batch without compression: its metadata as a flatbuffer, and its body.
///
/// The guard has checked every buffer's place and claim.
pub(super) fn unfold(batch: RecordBatch<'_>, body: &[u8]) -> Result<(Vec<u8>, Buffer), PayloadError> {
    let mut placed = Vec::new();
    let mut length = 0usize;
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = usize::try_from(buffer.offset()).ok().zip(usize::try_from(buffer.length()).ok());
        let bytes = bytes.and_then(|(offset, length)| body.get(offset..offset.checked_add(length)?));
        let bytes = bytes.ok_or_else(|| malformed("a buffer lies outside the message's body"))?;
        let decoded = match bytes.split_first_chunk::<8>() {
            None => 0,
            Some((claim, frame)) => usize::try_from(i64::from_le_bytes(*claim)).unwrap_or(frame.len()),
        };
        placed.push((bytes, length, decoded));
        length += decoded.next_multiple_of(ALIGNMENT);
    }

    let mut unfolded = MutableBuffer::from_len_zeroed(length);
    for (bytes, start, decoded) in &placed {
        let Some((claim, frame)) = bytes.split_first_chunk::<8>() else { continue };
        let output = &mut unfolded[*start..start + decoded];
        match i64::from_le_bytes(*claim) {
            // Sent as it is, because compression did not pay.
            -1 => output.copy_from_slice(frame),
            0 => {}
            _ => frame_into(frame, output).map_err(|what| malformed(format!("an LZ4 frame's {what} is wrong")))?,
        }
    }

    let mut metadata = FlatBufferBuilder::new();
    let nodes: Vec<_> = batch.nodes().into_iter().flatten().copied().collect();
    let nodes = metadata.create_vector(&nodes);
    let buffers: Vec<_> =
        placed.iter().map(|(_, start, decoded)| arrow_ipc::Buffer::new(*start as i64, *decoded as i64)).collect();
    let buffers = metadata.create_vector(&buffers);
    let counts = batch.variadicBufferCounts().map(|counts| counts.iter().collect::<Vec<_>>());
    let counts = counts.map(|counts| metadata.create_vector(&counts));
    let mut builder = arrow_ipc::RecordBatchBuilder::new(&mut metadata);
    builder.add_length(batch.length());
    builder.add_nodes(nodes);
    builder.add_buffers(buffers);
    if let Some(counts) = counts {
        builder.add_variadicBufferCounts(counts);
    }
    let root = builder.finish();
    metadata.finish(root, None);
    Ok((metadata.finished_data().to_vec(), unfolded.into()))
}

/// Decompresses one frame, which must fill the output exactly. The error names the part that is wrong.
fn frame_into(frame: &[u8], output: &mut [u8]) -> Result<(), &'static str> {
    let mut input = frame;
    let mut take = |bytes: usize| {
        let (taken, rest) = input.split_at_checked(bytes).ok_or("length")?;
        input = rest;
        Ok::<&[u8], &'static str>(taken)
    };
    if take(4)? != MAGIC {
        return Err("magic number");
    }
    let [flags, _largest_block] = *take(2)? else { return Err("length") };
    let has = |bit: u8| flags & (1 << bit) != 0;
    let (linked, block_checksums, content_size, content_checksum, dictionary) =
        (!has(5), has(4), has(3), has(2), has(0));
    if flags >> 6 != 1 || dictionary {
        return Err("version");
    }
    if content_size && take(8)? != (output.len() as u64).to_le_bytes() {
        return Err("content size");
    }
    let descriptor = &frame[4..if content_size { 14 } else { 6 }];
    if take(1)? != [(checksum(descriptor) >> 8) as u8] {
        return Err("header checksum");
    }

    let mut filled = 0;
    loop {
        let length = word(take(4)?);
        if length == 0 {
            break;
        }
        let block = take((length & !STORED) as usize)?;
        if block_checksums && word(take(4)?) != checksum(block) {
            return Err("block checksum");
        }
        let (before, free) = output.split_at_mut(filled);
        filled += if length & STORED != 0 {
            free.get_mut(..block.len()).ok_or("content")?.copy_from_slice(block);
            block.len()
        } else if linked {
            let window = &before[before.len().saturating_sub(WINDOW_BYTES)..];
            lz4_flex::block::decompress_into_with_dict(block, free, window).map_err(|_| "block")?
        } else {
            lz4_flex::block::decompress_into(block, free).map_err(|_| "block")?
        };
    }
    if filled != output.len() {
        return Err("content");
    }
    if content_checksum && word(take(4)?) != checksum(output) {
        return Err("content checksum");
    }
    if take(1).is_ok() {
        return Err("end");
    }
    Ok(())
}

fn checksum(bytes: &[u8]) -> u32 {
    let mut hasher = XxHash32::with_seed(0);
    hasher.write(bytes);
    // XxHash32 has 32 bits.
    hasher.finish() as u32
}

fn word(bytes: &[u8]) -> u32 {
    bytes.try_into().map_or(0, u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    use proptest::prelude::*;

    use super::*;

    fn frame(info: FrameInfo, content: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    fn unframed(frame: &[u8], length: usize) -> Result<Vec<u8>, &'static str> {
        let mut output = vec![0; length];
        frame_into(frame, &mut output).map(|()| output)
    }

    /// Three blocks of 64 KiB, partly compressible.
    fn content() -> Vec<u8> {
        let number = |index: u32| if index % 40_000 < 20_000 { index % 50 } else { index.wrapping_mul(0x9e37_79b9) };
        (0..45_000).flat_map(|index| number(index).to_le_bytes()).collect()
    }

    #[test]
    fn frames_of_every_form_are_read() {
        let content = content();
        for mode in [BlockMode::Independent, BlockMode::Linked] {
            for size in [BlockSize::Max64KB, BlockSize::Max4MB] {
                for checksums in [false, true] {
                    let info = FrameInfo::new().block_mode(mode).block_size(size).block_checksums(checksums);
                    let info = info.content_checksum(checksums).content_size(checksums.then_some(content.len() as u64));
                    let frame = frame(info, &content);
                    assert_eq!(unframed(&frame, content.len()).as_ref(), Ok(&content));
                    assert!(unframed(&frame, content.len() - 1).is_err());
                    assert!(unframed(&frame, content.len() + 1).is_err());
                    assert!(unframed(&[&frame[..], &[0]].concat(), content.len()).is_err());
                    for cut in [0, 3, 5, 6, 7, 11, 1000, frame.len() - 1] {
                        assert!(unframed(&frame[..cut], content.len()).is_err(), "cut at {cut}");
                    }
                }
            }
        }
        assert_eq!(unframed(&frame(FrameInfo::new(), &[]), 0), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn a_frame_with_checksums_shows_any_damage(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let content: Vec<u8> = (0..2000u32).flat_map(|index| (index % 50).to_le_bytes()).collect();
            let mut frame = frame(FrameInfo::new().content_checksum(true), &content);
            let at = at.index(frame.len());
            frame[at] ^= 1 << bit;
            // A bit that changes nothing (a reserved one, say) may pass; wrong content may not.
            if let Ok(read) = unframed(&frame, content.len()) {
                prop_assert_eq!(read, content);
            }
        }

        #[test]
        fn bytes_that_are_no_frame_are_an_error(bytes in prop::collection::vec(any::<u8>(), 0..64), length in 0usize..300) {
            let framed = [&MAGIC[..], &bytes].concat();
            let _content_or_error = unframed(&framed, length);
        }
    }
}
