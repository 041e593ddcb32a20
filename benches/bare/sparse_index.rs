//! Finding a batch as Kafka's format has it: an entry for every 4 KiB of log, and from there from
//! header to header.

/// As `index.interval.bytes`.
const INTERVAL: usize = 4096;

/// Where batches begin: base offset and position, one for every interval.
pub struct SparseIndex(Vec<(u64, usize)>);

impl SparseIndex {
    /// Of batches end to end.
    pub fn of(bytes: &[u8]) -> Self {
        let (mut entries, mut at) = (vec![(0, 0)], 0);
        while at < bytes.len() {
            if at - entries[entries.len() - 1].1 > INTERVAL {
                entries.push((base_offset(&bytes[at..]), at));
            }
            at += size(&bytes[at..]);
        }
        Self(entries)
    }

    /// The position of the batch that holds an offset, and the record's number in it.
    #[inline]
    pub fn find(&self, bytes: &[u8], offset: u64) -> (usize, u32) {
        let entry = self.0.partition_point(|(base_offset, _)| *base_offset <= offset) - 1;
        let mut at = self.0[entry].1;
        loop {
            let batch = &bytes[at..];
            let number = (offset - base_offset(batch)) as u32;
            if number < u32::from_be_bytes(batch[57..61].try_into().unwrap()) {
                return (at, number);
            }
            at += size(batch);
        }
    }
}

fn base_offset(batch: &[u8]) -> u64 {
    u64::from_be_bytes(batch[..8].try_into().unwrap())
}

fn size(batch: &[u8]) -> usize {
    u32::from_be_bytes(batch[8..12].try_into().unwrap()) as usize + 12
}
