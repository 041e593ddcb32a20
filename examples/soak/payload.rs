//! Payloads that describe themselves, so that any record can be judged alone:
//! `topic id|partition|producer|sequence|place in its batch|length|filler|checksum`.

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// The id of the topic and the number of the partition that it was sent to.
    pub topic: &'a str,
    pub partition: u32,
    /// Who sent it. No two lives, brokers or threads share a number.
    pub producer: u64,
    /// Counted by the producer for each partition, from 0 and without gaps.
    pub sequence: u64,
    /// Its index in the batch it was appended in, and how many records that holds.
    pub index: u32,
    pub count: u32,
}

impl<'a> Payload<'a> {
    /// The record's value, with a filler of some length.
    pub fn encode(&self, filler: usize) -> Vec<u8> {
        let Self { topic, partition, producer, sequence, index, count } = self;
        let head = format!("{topic}|{partition}|{producer}|{sequence}|{index}.{count}|{filler}|");
        let mut bytes = head.into_bytes();
        // Not one letter throughout: a compressed batch is to have some size too.
        bytes.extend((0..filler as u64).map(|at| b'a' + (at * (sequence + 3) / 7 % 26) as u8));
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(format!("|{checksum:08x}").as_bytes());
        bytes
    }

    /// What a value says of itself, or why it cannot be what was sent.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, String> {
        let split = bytes.len().checked_sub(9).ok_or("too short")?;
        let (content, checksum) = bytes.split_at(split);
        if checksum != format!("|{:08x}", crc32fast::hash(content)).as_bytes() {
            return Err("the checksum is wrong".to_owned());
        }
        let text = std::str::from_utf8(content).map_err(|_| "not text")?;
        let fields: Vec<_> = text.splitn(7, '|').collect();
        let [topic, partition, producer, sequence, place, length, filler] = fields[..] else {
            return Err("fields are missing".to_owned());
        };
        if number(length)? != filler.len() as u64 {
            return Err("the length is wrong".to_owned());
        }
        let (index, count) = place.split_once('.').ok_or("no place in a batch")?;
        Ok(Self {
            topic,
            partition: small_number(partition)?,
            producer: number(producer)?,
            sequence: number(sequence)?,
            index: small_number(index)?,
            count: small_number(count)?,
        })
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is no number"))
}

fn small_number(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("{text:?} is no small number"))
}
