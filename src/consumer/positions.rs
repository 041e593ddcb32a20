//! Where a consumer is, and where it goes: positions, lag, seeking, pausing.

use crate::consumer::Consumer;
use crate::consumer::subscription::Assigned;
use crate::error::Result;
use crate::time::Timestamp;
use crate::topic_partition::TopicPartition;

impl Consumer {
    /// The offset of the record that comes next in a partition.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned);
    /// [`Error::NoCommittedOffset`](crate::Error::NoCommittedOffset) if it is not known where to begin.
    pub fn position(&self, partition: &TopicPartition) -> Result<u64> {
        let assigned = self.subscription.find(partition)?;
        match assigned.position {
            Some(position) => Ok(position),
            None => self.fetcher.start().first_position(&assigned.partition),
        }
    }

    /// How many offsets lie between the position in a partition and the last record that the consumer may
    /// read: 0 for one that has caught up.
    ///
    /// # Errors
    ///
    /// As [`position`](Self::position), and with
    /// [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted) as
    /// [`last_stable_offset`](crate::Partition::last_stable_offset).
    pub fn lag(&self, partition: &TopicPartition) -> Result<u64> {
        let end = self.fetcher.start().end(&self.subscription.find(partition)?.partition)?;
        Ok(end.saturating_sub(self.position(partition)?))
    }

    /// [`lag`](Self::lag), summed up over all partitions.
    ///
    /// # Errors
    ///
    /// As [`position`](Self::position).
    pub fn total_lag(&self) -> Result<u64> {
        self.assignment().iter().try_fold(0, |sum: u64, of| Ok(sum.saturating_add(self.lag(of)?)))
    }

    /// Goes to an offset in a partition: the next poll returns the record there, or the first one
    /// after it. Commits nothing. An offset that does not exist is for
    /// [`auto_offset_reset`](crate::ConsumerBuilder::auto_offset_reset) to deal with when it is
    /// polled.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned).
    pub fn seek(&mut self, partition: &TopicPartition, offset: u64) -> Result<()> {
        self.subscription.find_mut(partition)?.seek(offset);
        Ok(())
    }

    /// Goes to the oldest record of every partition.
    pub fn seek_to_beginning(&mut self) {
        for assigned in &mut self.subscription.assigned {
            assigned.seek(assigned.partition.log_start_offset());
        }
    }

    /// Goes to the oldest record of a partition.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned).
    pub fn seek_to_beginning_of(&mut self, partition: &TopicPartition) -> Result<()> {
        let assigned = self.subscription.find_mut(partition)?;
        assigned.seek(assigned.partition.log_start_offset());
        Ok(())
    }

    /// Goes behind the last record of every partition that the consumer may read.
    ///
    /// # Errors
    ///
    /// With [`IsolationLevel::ReadCommitted`](crate::IsolationLevel::ReadCommitted), as
    /// [`last_stable_offset`](crate::Partition::last_stable_offset); positions are as before then. Without
    /// it, none.
    pub fn seek_to_end(&mut self) -> Result<()> {
        let assigned = &mut self.subscription.assigned;
        let end = |of: &Assigned| self.fetcher.start().end(&of.partition);
        let ends = assigned.iter().map(end).collect::<Result<Vec<u64>>>()?;
        assigned.iter_mut().zip(ends).for_each(|(assigned, end)| assigned.seek(end));
        Ok(())
    }

    /// Goes behind the last record of a partition that the consumer may read.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned), and as [`seek_to_end`](Self::seek_to_end).
    pub fn seek_to_end_of(&mut self, partition: &TopicPartition) -> Result<()> {
        let assigned = self.subscription.find_mut(partition)?;
        assigned.seek(self.fetcher.start().end(&assigned.partition)?);
        Ok(())
    }

    /// Goes to the first record of a partition that has this timestamp or a later one; behind the
    /// last visible record if there is none.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned); and as
    /// [`offset_for_timestamp`](crate::Partition::offset_for_timestamp). The position is as before
    /// then.
    pub fn seek_to_timestamp(
        &mut self,
        partition: &TopicPartition,
        timestamp: Timestamp,
    ) -> Result<()> {
        let assigned = self.subscription.find_mut(partition)?;
        // Asked first: what becomes visible after this must not be skipped.
        let end = self.fetcher.start().end(&assigned.partition)?;
        let found = assigned.partition.offset_for_timestamp(timestamp)?;
        assigned.seek(found.map_or(end, |(offset, _)| offset));
        Ok(())
    }

    /// Stops returning records of the given partitions until [`resume`](Self::resume). They stay
    /// assigned, and positions stay where they are.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned); those before it in the list are paused
    /// then.
    pub fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        partitions.iter().try_for_each(|of| {
            self.subscription.find_mut(of)?.paused = true;
            Ok(())
        })
    }

    /// Goes on with paused partitions.
    ///
    /// # Errors
    ///
    /// [`Error::NotAssigned`](crate::Error::NotAssigned); those before it in the list are resumed
    /// then.
    pub fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        partitions.iter().try_for_each(|of| {
            self.subscription.find_mut(of)?.paused = false;
            Ok(())
        })
    }

    /// The partitions that are paused.
    pub fn paused(&self) -> Vec<TopicPartition> {
        let paused = self.subscription.assigned.iter().filter(|assigned| assigned.paused);
        paused.map(|assigned| assigned.topic_partition().clone()).collect()
    }
}
