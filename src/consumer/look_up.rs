//! Reading a partition without a consumer: records from an offset on, by whoever knows the offset.

use crate::consumer::buffered::{Budget, BufferPool, Buffered, Source};
use crate::consumer::records::ConsumerRecords;
use crate::consumer::subscription::ReadAhead;
use crate::error::Result;
use crate::topic::Partition;

/// How much of the log one call reads, but for a batch that is larger: what Kafka's
/// `max.partition.fetch.bytes` is by default.
const READ_BYTES_MAX: usize = 1 << 20;

impl Partition {
    /// The records from an offset on, without a consumer: at most `max_records` of them, and of about
    /// 1 MiB of log. None if nothing is visible there yet. Never waits for records.
    ///
    /// For whoever keeps offsets elsewhere, in an index or a link from one record to another, and wants
    /// that record. Nothing is remembered from one call to the next, so whoever reads on and on does
    /// better with a [`Consumer`](crate::Consumer). Checksums are checked, of the whole batch that a
    /// record is in.
    ///
    /// Where an offset has no record, because the log keeps one for itself there, the records after it
    /// come. Those of aborted transactions are among them, as with
    /// [`IsolationLevel::ReadUncommitted`](crate::IsolationLevel::ReadUncommitted). [`ConsumerRecords::next_offsets`] says where to go on.
    ///
    /// ```
    /// use sapwood::{Broker, Record, TopicConfig};
    ///
    /// let broker = Broker::in_memory()?;
    /// let orders = broker.create_topic("orders", TopicConfig::default())?.partition(0)?;
    /// let paid = orders.append(&[Record::new("paid")])?.offset;
    /// orders.append(&[Record::new("shipped")])?;
    ///
    /// let records = orders.read(paid, 1)?;
    /// assert_eq!(records.iter().next().and_then(|record| record.value()), Some(&b"paid"[..]));
    /// assert!(orders.read(orders.high_watermark(), 1)?.is_empty());
    /// assert!(orders.read(99, 1).is_err());
    /// # Ok::<(), sapwood::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::OffsetOutOfRange`](crate::Error::OffsetOutOfRange) before the log start offset and beyond
    /// the log end offset; [`Error::Corrupt`](crate::Error::Corrupt) if what is there is damaged, told
    /// once everything before it has been returned; [`Error::Io`](crate::Error::Io);
    /// [`Error::Closed`](crate::Error::Closed), also once the topic is deleted.
    pub fn read(&self, offset: u64, max_records: usize) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        let mut budget = Budget { records: max_records, bytes: READ_BYTES_MAX };
        let mut buffers = BufferPool::default();
        let mut source = Source { partition: self, buffers: &mut buffers };
        let (mut position, mut cursor) = (offset, None);
        let mut read_ahead = ReadAhead::default();
        if position >= self.high_watermark() {
            self.refresh()?;
        }
        while !budget.is_exhausted() {
            let fetched = self.log().read(position, cursor.as_ref(), read_ahead.next(budget.bytes));
            let mut buffered = match fetched {
                Ok(Some(fetched)) => Buffered::new(fetched, Vec::new()),
                Ok(None) => break,
                Err(_) if !records.is_empty() => break,
                Err(error) => return Err(error),
            };
            while !buffered.is_used_up() && !budget.is_exhausted() {
                match buffered.take(&mut position, &mut budget, &mut source) {
                    Ok(taken) => taken.into_iter().for_each(|run| records.push(run)),
                    Err(_) if !records.is_empty() => return Ok(records),
                    Err(error) => return Err(error),
                }
            }
            cursor = Some(buffered.into_cursor());
        }
        Ok(records)
    }
}
