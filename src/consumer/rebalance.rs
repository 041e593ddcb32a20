//! What a member does when its group has changed: it gives partitions back, takes others up, or finds
//! that it has lost them.

use crate::consumer::Consumer;
use crate::consumer::listener::Told;
use crate::consumer::membership::Found;
use crate::error::{Error, Result};
use crate::group::pulse::Ended;
use crate::group::state::{HandedOver, Step};
use crate::topic_partition::TopicPartition;

/// The first failure of several things that are all done.
#[derive(Debug)]
struct FirstFailure(Result<()>);

impl FirstFailure {
    fn note(&mut self, result: Result<()>) {
        if self.0.is_ok() {
            self.0 = result;
        }
    }
}

impl Consumer {
    /// Says that the consumer is alive, and does for its group what there is to do. Costs an exchange of
    /// a word and two loads when that is nothing.
    pub(super) fn rebalance_if_due(&mut self) -> Result<()> {
        let Some(member) = &self.member else { return Ok(()) };
        if !member.has_joined() {
            return Ok(());
        }
        self.listener.check_idle()?;
        match member.beat(self.broker.clock().monotonic()) {
            Found::Nothing => Ok(()),
            Found::News => self.rebalance(),
            Found::Ended(ended) => {
                let lost = self.lose(ended);
                lost.and_then(|()| self.rebalance())
            }
        }
    }

    /// Does all that there is to do for the group. Whatever fails on the way, the rest is done, and the
    /// first failure is told.
    pub(super) fn rebalance(&mut self) -> Result<()> {
        let mut failure = FirstFailure(Ok(()));
        loop {
            self.match_topics();
            let now = self.broker.clock().monotonic();
            let Some(member) = &mut self.member else { return failure.0 };
            match member.sync(now) {
                Ok(Step::Nothing) => return failure.0,
                Ok(Step::Revoke(partitions)) => failure.note(self.revoke(&partitions)),
                Ok(Step::Assign(partitions)) => failure.note(self.take_up(partitions)),
                Err(ended) => {
                    failure.note(self.lose(ended));
                    if failure.0.is_err() {
                        return failure.0;
                    }
                }
            }
        }
    }

    /// Gives partitions back, after what was done with them is committed.
    fn revoke(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        let mut failure = FirstFailure(Ok(()));
        failure.note(self.check_not_deleted(partitions));
        if self.auto_commit.is_some() {
            let offsets = self.subscription.uncommitted_of(partitions);
            if !offsets.is_empty() {
                failure.note(self.commit_these(&offsets));
            }
        }
        failure.note(self.tell_listener(Told::Revoked, partitions));
        self.subscription.remove(partitions);
        if let Some(member) = &self.member {
            member.release(partitions);
        }
        failure.0
    }

    /// Tells of a topic that was deleted.
    fn check_not_deleted(&self, partitions: &[TopicPartition]) -> Result<()> {
        match self.subscription.deleted_of(partitions) {
            None => Ok(()),
            Some(of) => {
                self.broker.check_open()?;
                Err(Error::UnknownTopic { topic: of.topic().to_owned() })
            }
        }
    }

    /// Takes up partitions, from where the group is in them.
    fn take_up(&mut self, partitions: Vec<HandedOver>) -> Result<()> {
        let mut failure = FirstFailure(Ok(()));
        let (mut taken, mut gone, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for HandedOver { topic_partition: of, start } in partitions {
            let Ok(partition) = self.broker.manager().partition(&of) else {
                gone.push(of);
                continue;
            };
            let assigned = self.subscription.add(partition);
            match self.fetcher.start().begin_at(assigned, start) {
                Ok(Some(began)) => starts.push((of.clone(), began)),
                // With `AutoOffsetReset::Error` that is for the first fetch to say: there may be a seek
                // before it.
                Ok(None) | Err(Error::NoCommittedOffset { .. }) => {}
                Err(error) => failure.note(Err(error)),
            }
            taken.push(of);
        }
        if let Some(member) = &self.member {
            member.began(starts);
            // Deleted in between: the group learns of it when it is next looked after.
            member.release(&gone);
        }
        failure.note(self.tell_listener(Told::Assigned, &taken));
        failure.0
    }

    /// Everything is lost: the group has gone on without this consumer. Joins again, unless another
    /// consumer is in its place.
    fn lose(&mut self, ended: Ended) -> Result<()> {
        let mut failure = FirstFailure(Ok(()));
        let lost = self.assignment();
        failure.note(self.tell_listener(Told::Lost, &lost));
        self.subscription.remove(&lost);
        if let Some(member) = &mut self.member {
            failure.note(match ended {
                Ended::Expired => member.rejoin(),
                Ended::Replaced => Err(member.fenced(ended)),
            });
        }
        failure.0
    }

    /// The fetcher has found that a topic was deleted, and let go of it.
    pub(super) fn lose_topic(&mut self, topic: &str) -> Result<()> {
        let Some(member) = &mut self.member else { return Ok(()) };
        let lost = member.take_leave_of_topic(topic);
        let told = self.tell_listener(Told::Lost, &lost);
        if let Some(member) = &self.member {
            member.release(&lost);
        }
        told
    }

    /// Does what has to be done before the group is left.
    pub(super) fn give_everything_back(&mut self) -> Result<()> {
        let mut failure = FirstFailure(Ok(()));
        if self.auto_commit.is_some() && !self.subscription.uncommitted().is_empty() {
            failure.note(self.commit());
        }
        if let Some(member) = self.member.as_ref().filter(|member| member.has_joined()) {
            let told = if member.is_out() { Told::Lost } else { Told::Revoked };
            let partitions = self.assignment();
            failure.note(self.tell_listener(told, &partitions));
        }
        failure.0
    }
}
