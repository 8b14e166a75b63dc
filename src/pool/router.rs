//! Which lane a row goes to: by the hash of its partition key, so that one key always meets one lane.

use crate::payload::EncodedRow;

/// The lane of a partition hash.
#[inline]
pub fn lane_of(partition_hash: u64, lanes: usize) -> usize {
    // The high half of a 64 by 64 bit product maps the hash to 0..lanes without a division.
    ((u128::from(partition_hash) * lanes as u128) >> 64) as usize
}

/// Splits rows by lane; the order within each is kept.
pub fn split(rows: Vec<EncodedRow>, lanes: usize) -> Vec<Vec<EncodedRow>> {
    let expected = rows.len() / lanes + rows.len() / (lanes * 4) + 1;
    let mut slices: Vec<Vec<EncodedRow>> = (0..lanes).map(|_| Vec::with_capacity(expected)).collect();
    for row in rows {
        slices[lane_of(row.partition_hash, lanes)].push(row);
    }
    slices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_spread_over_all_lanes_and_never_beyond() {
        for lanes in [1, 2, 3, 7, 64] {
            assert_eq!(lane_of(0, lanes), 0);
            assert_eq!(lane_of(u64::MAX, lanes), lanes - 1);
            let mut seen = vec![0u32; lanes];
            for i in 0..10_000u64 {
                seen[lane_of(i.wrapping_mul(0x9E37_79B9_7F4A_7C15), lanes)] += 1;
            }
            let fair = 10_000 / lanes as u32;
            assert!(seen.iter().all(|&count| count > fair / 2 && count < fair * 2), "{lanes}: {seen:?}");
        }
    }
}
