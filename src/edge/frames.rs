//! Follows HTTP/2 frames in a connection's bytes, however they are cut, without looking into them.
//!
//! Pure: bytes in, frame headers out. What is wrong with a frame is the transport's business; here only their number and kinds
//! are seen. Caller: `connection`.

/// What a client says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's header.
const HEAD_BYTES: usize = 9;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FrameHead {
    /// Bytes after the header.
    pub(super) length: u32,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHead {
    pub(super) const DATA: u8 = 0x0;
    pub(super) const HEADERS: u8 = 0x1;
    pub(super) const PRIORITY: u8 = 0x2;
    pub(super) const RST_STREAM: u8 = 0x3;
    pub(super) const SETTINGS: u8 = 0x4;
    pub(super) const PING: u8 = 0x6;
    pub(super) const GOAWAY: u8 = 0x7;
    pub(super) const WINDOW_UPDATE: u8 = 0x8;
    pub(super) const CONTINUATION: u8 = 0x9;
    /// END_STREAM of DATA and HEADERS; ACK of SETTINGS and PING.
    pub(super) const FIRST_FLAG: u8 = 0x1;

    fn parse(bytes: [u8; HEAD_BYTES]) -> Self {
        let [a, b, c, kind, flags, s0, s1, s2, s3] = bytes;
        Self {
            length: u32::from_be_bytes([0, a, b, c]),
            kind,
            flags,
            // The highest bit is reserved.
            stream: u32::from_be_bytes([s0, s1, s2, s3]) & 0x7fff_ffff,
        }
    }

    pub(super) fn has_first_flag(self) -> bool {
        self.flags & Self::FIRST_FLAG != 0
    }
}

/// The first bytes are not HTTP/2's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotHttp2;

/// Where in the sequence of frames the bytes have come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// So many bytes of the preface are there.
    Preface { bytes: usize },
    /// So many bytes of a header are there.
    Head { bytes: usize, head: [u8; HEAD_BYTES] },
    /// So many bytes before the end of a frame.
    Payload { left: u32 },
}

const NEXT_FRAME: Place = Place::Head { bytes: 0, head: [0; HEAD_BYTES] };

/// Follows one direction of a connection.
#[derive(Debug)]
pub(super) struct Follower(Place);

impl Follower {
    /// What a client sends: the preface is first.
    pub(super) fn of_client() -> Self {
        Self(Place::Preface { bytes: 0 })
    }

    /// What a server sends.
    pub(super) fn of_server() -> Self {
        Self(NEXT_FRAME)
    }

    /// Goes on to the end of the next frame's header. `None`: `data` is used up before it.
    pub(super) fn next(&mut self, data: &mut &[u8]) -> Result<Option<FrameHead>, NotHttp2> {
        while let Some(&byte) = data.first() {
            match &mut self.0 {
                Place::Preface { bytes } => {
                    // In range: the place changes when all of it is there.
                    if PREFACE.get(*bytes) != Some(&byte) {
                        return Err(NotHttp2);
                    }
                    *data = &data[1..];
                    *bytes += 1;
                    if *bytes == PREFACE.len() {
                        self.0 = NEXT_FRAME;
                    }
                }
                Place::Head { bytes, head } => {
                    let taken = data.len().min(HEAD_BYTES - *bytes);
                    head[*bytes..*bytes + taken].copy_from_slice(&data[..taken]);
                    *data = &data[taken..];
                    *bytes += taken;
                    if *bytes == HEAD_BYTES {
                        let head = FrameHead::parse(*head);
                        self.0 = if head.length == 0 { NEXT_FRAME } else { Place::Payload { left: head.length } };
                        return Ok(Some(head));
                    }
                }
                Place::Payload { left } => {
                    let taken = data.len().min(*left as usize);
                    *data = &data[taken..];
                    // `taken` is at most `left`, which is a u32.
                    *left -= taken as u32;
                    if *left == 0 {
                        self.0 = NEXT_FRAME;
                    }
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes(head: FrameHead, payload: u8) -> Vec<u8> {
        let mut out = head.length.to_be_bytes()[1..].to_vec();
        out.extend([head.kind, head.flags]);
        out.extend(head.stream.to_be_bytes());
        out.extend(std::iter::repeat_n(payload, head.length as usize));
        out
    }

    fn heads() -> impl Strategy<Value = Vec<(FrameHead, u8)>> {
        let head = (0_u32..70, any::<u8>(), any::<u8>(), 0_u32..1 << 31, any::<u8>())
            .prop_map(|(length, kind, flags, stream, payload)| (FrameHead { length, kind, flags, stream }, payload));
        proptest::collection::vec(head, 0..12)
    }

    fn follow(follower: &mut Follower, mut data: &[u8], seen: &mut Vec<FrameHead>) {
        while let Some(head) = follower.next(&mut data).unwrap() {
            seen.push(head);
        }
        assert!(data.is_empty());
    }

    proptest! {
        #[test]
        fn frames_are_seen_however_the_bytes_are_cut(frames in heads(), cuts in proptest::collection::vec(1_usize..40, 1..60)) {
            let mut stream = PREFACE.to_vec();
            frames.iter().for_each(|(head, payload)| stream.extend(bytes(*head, *payload)));
            let expected: Vec<_> = frames.iter().map(|(head, _)| *head).collect();
            let (mut follower, mut seen, mut rest) = (Follower::of_client(), Vec::new(), stream.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (part, left) = rest.split_at(rest.len().min(*cut));
                follow(&mut follower, part, &mut seen);
                rest = left;
            }
            prop_assert_eq!(&seen, &expected);

            // What a server sends has no preface.
            let (mut follower, mut seen) = (Follower::of_server(), Vec::new());
            follow(&mut follower, &stream[PREFACE.len()..], &mut seen);
            prop_assert_eq!(&seen, &expected);
        }
    }

    #[test]
    fn every_single_cut_of_a_stream_gives_the_same_frames() {
        let head = FrameHead { length: 5, kind: 6, flags: 1, stream: 7 };
        let empty = FrameHead { length: 0, kind: 4, flags: 0, stream: 0 };
        let mut stream = PREFACE.to_vec();
        [head, empty, head].iter().for_each(|head| stream.extend(bytes(*head, 0xff)));
        for cut in 0..=stream.len() {
            let (mut follower, mut seen) = (Follower::of_client(), Vec::new());
            follow(&mut follower, &stream[..cut], &mut seen);
            follow(&mut follower, &stream[cut..], &mut seen);
            assert_eq!(seen, [head, empty, head], "cut at {cut}");
        }
    }

    #[test]
    fn what_is_not_http2_is_seen_at_its_first_wrong_byte() {
        for start in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"PRI * HTTP/2.1"] {
            assert_eq!(Follower::of_client().next(&mut &*start), Err(NotHttp2), "{start:?}");
        }
        assert_eq!(Follower::of_client().next(&mut &PREFACE[..23]), Ok(None));
    }
}
