//! Who is in a group and who reads what, at any moment. Pure: takes no lock, wakes nobody by itself and
//! runs no code of users.
//!
//! Two maps say everything about partitions: who *has* each, and who *is to have* it. Each is a map from a
//! partition to one member, so that no partition can be had by two. What a member has to do follows from
//! comparing them ([`Group::step`]): what it has and is not to have, it gives back; what it is to have and
//! nobody has, it takes. A partition for which both name the same member is in neither list: it is never
//! paused by what happens to others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::group::assignor::{Assignor, GroupSubscription, MemberSubscription};
use crate::group::pulse::{Ended, Pulse};
use crate::group::{GroupState, MemberDescription};
use crate::topic::topic_id::TopicId;
use crate::topic_partition::TopicPartition;

/// Identifies a member; never given twice by one broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MemberId(pub(crate) u64);

/// How far a group has come in dividing its partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody is in it. Commits are taken from those who never joined.
    Empty,
    /// What it goes by has changed, and the assignment is to be computed: by the member that has claimed
    /// this, or else by whoever comes. Until then nothing changes hands.
    Assigning { by: Option<MemberId> },
    /// Members give back what they are not to have any more, and take what is free.
    Reconciling,
    /// Everybody has what they are to have.
    Stable,
}

/// What can happen to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// Members, what they subscribe to, or the topics themselves: all that an assignment goes by.
    Changed { members: usize },
    /// A member computes the assignment.
    Claimed(MemberId),
    /// It has given that up.
    Abandoned,
    /// The assignment is there.
    Assigned,
    /// Every partition is where it is to be.
    Reconciled,
    /// Some partition is not.
    Unsettled,
}

impl Phase {
    /// The only way from one to another; `None` where an event cannot be.
    fn next(self, event: Event) -> Option<Self> {
        match (self, event) {
            (_, Event::Changed { members: 0 }) => Some(Self::Empty),
            (_, Event::Changed { .. }) | (Self::Assigning { by: Some(_) }, Event::Abandoned) => {
                Some(Self::Assigning { by: None })
            }
            (Self::Assigning { by: None }, Event::Claimed(by)) => {
                Some(Self::Assigning { by: Some(by) })
            }
            (Self::Assigning { by: Some(_) }, Event::Assigned)
            | (Self::Reconciling | Self::Stable, Event::Unsettled) => Some(Self::Reconciling),
            (Self::Reconciling | Self::Stable, Event::Reconciled) => Some(Self::Stable),
            _ => None,
        }
    }
}

/// What a member shows with every commit. The consumer has it; the group knows it by its id.
#[derive(Debug)]
pub(crate) struct Membership {
    pub(crate) member_id: MemberId,
    pub(crate) instance_id: Option<Arc<str>>,
    /// The last generation that it has heard of.
    pub(crate) generation: u32,
    pub(crate) pulse: Arc<Pulse>,
}

/// What a consumer that joins says about itself.
#[derive(Debug, Clone)]
pub(crate) struct Joining {
    pub(crate) client_id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) topics: BTreeSet<Arc<str>>,
    pub(crate) max_poll_interval: Duration,
    pub(crate) assignor: Arc<dyn Assignor>,
    pub(crate) coming: Coming,
}

/// Whether a consumer has been in the group before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Coming {
    New,
    /// It was expired. A consumer that has come under its instance id since is not fenced by it.
    Again,
}

/// One member.
#[derive(Debug)]
struct Member {
    id: MemberId,
    joined: Joining,
    pulse: Arc<Pulse>,
    presence: Presence,
}

/// Whether there is a consumer behind a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Here,
    /// It has an instance id and was dropped: its share is kept for its successor until it expires.
    Away,
}

impl Member {
    /// Those with an instance id first, so that a restart leaves the order as it is.
    fn order(&self) -> (bool, Option<&str>, MemberId) {
        let instance_id = self.joined.instance_id.as_deref();
        (instance_id.is_none(), instance_id, self.id)
    }
}

/// What a group knows of a topic that somebody subscribes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicFacts {
    /// Tells it from an earlier one of the same name.
    pub(crate) id: TopicId,
    pub(crate) partitions: u32,
}

/// The topics that members subscribe to; `None` for one that does not exist.
pub(crate) type Topics = BTreeMap<Arc<str>, Option<TopicFacts>>;

/// What a member is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Stop reading these, and give them back.
    Revoke(Vec<TopicPartition>),
    /// Read these from now on: they are yours.
    Assign(Vec<HandedOver>),
    /// Go on.
    Nothing,
}

/// A partition that a member has been given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HandedOver {
    pub(crate) topic_partition: TopicPartition,
    /// Where the group began in it, if that is known: what counts if nothing is committed.
    pub(crate) start: Option<u64>,
}

/// What an assignment is computed from.
#[derive(Debug)]
pub(crate) struct ToAssign {
    pub(crate) assignor: Arc<dyn Assignor>,
    pub(crate) subscription: GroupSubscription,
    /// For which generation, and so whether the answer still counts when it is there.
    pub(crate) generation: u32,
    /// The members in the order of `subscription`.
    members: Vec<MemberId>,
}

/// A group with its members.
#[derive(Debug)]
pub(crate) struct Group {
    phase: Phase,
    /// Counts changes of what an assignment goes by.
    generation: u32,
    /// In order of [`Member::order`].
    members: Vec<Member>,
    topics: Topics,
    /// Who has a partition.
    owners: BTreeMap<TopicPartition, MemberId>,
    /// Who is to have it.
    target: BTreeMap<TopicPartition, MemberId>,
    /// Where the group began in partitions for which it may not have committed anything, so that a
    /// successor begins there too and nothing in between is skipped.
    starts: BTreeMap<TopicPartition, u64>,
}

impl Default for Group {
    fn default() -> Self {
        Self {
            phase: Phase::Empty,
            generation: 0,
            members: Vec::new(),
            topics: Topics::new(),
            owners: BTreeMap::new(),
            target: BTreeMap::new(),
            starts: BTreeMap::new(),
        }
    }
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Assigning { .. } => GroupState::Assigning,
            Phase::Reconciling => GroupState::Reconciling,
            Phase::Stable => GroupState::Stable,
        }
    }

    /// Moves to another phase. Whoever calls this has made sure that the event can be.
    fn transition(&mut self, event: Event) {
        let next = self.phase.next(event);
        debug_assert!(next.is_some(), "{event:?} while {:?}", self.phase);
        self.phase = next.unwrap_or(self.phase);
    }

    /// Topics, or what members subscribe to, have changed: another generation, unless this one's assignment
    /// is still to be asked for.
    fn topics_changed(&mut self) {
        if self.phase != (Phase::Assigning { by: None }) {
            self.changed();
        }
    }

    /// Another generation: an assignment has to be computed, unless nobody is left.
    fn changed(&mut self) {
        // Wrapping round cannot revive an old member: ids differ too.
        self.generation = self.generation.wrapping_add(1);
        self.transition(Event::Changed { members: self.members.len() });
        if self.members.is_empty() {
            let generation = self.generation;
            *self = Self { generation, ..Self::default() };
        }
    }

    fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    /// Takes a member in. One with the instance id of another takes that one's place: the other is
    /// fenced if there still is a consumer behind it, and nothing changes for the rest of the group.
    ///
    /// # Errors
    ///
    /// [`Error::GroupMaxSizeReached`], [`Error::InconsistentAssignor`]; [`Error::FencedInstanceId`] for one
    /// that comes again and finds another in its place.
    pub(crate) fn join(
        &mut self,
        group: &str,
        id: MemberId,
        joining: Joining,
        pulse: &Arc<Pulse>,
        max_size: usize,
    ) -> Result<()> {
        let predecessor = self.members.iter().position(|member| {
            joining.instance_id.is_some() && member.joined.instance_id == joining.instance_id
        });
        if let (Some(_), Coming::Again, Some(instance_id)) =
            (predecessor, joining.coming, &joining.instance_id)
        {
            let (group, instance_id) = (group.to_owned(), instance_id.to_string());
            return Err(Error::FencedInstanceId { group, instance_id });
        }
        self.check_assignor(group, &joining, predecessor)?;
        let member =
            Member { id, joined: joining, pulse: Arc::clone(pulse), presence: Presence::Here };
        if let Some(at) = predecessor {
            self.take_over(at, member);
            return Ok(());
        }
        if self.members.len() >= max_size {
            return Err(Error::GroupMaxSizeReached { group: group.to_owned(), max_size });
        }
        self.members.push(member);
        self.members.sort_by(|a, b| a.order().cmp(&b.order()));
        self.changed();
        Ok(())
    }

    /// All members go by the same assignor.
    fn check_assignor(&self, group: &str, joining: &Joining, except: Option<usize>) -> Result<()> {
        let others = self.members.iter().enumerate().filter(|(at, _)| Some(*at) != except);
        let other = others.map(|(_, member)| member.joined.assignor.name()).next();
        match other {
            Some(other) if other != joining.assignor.name() => Err(Error::InconsistentAssignor {
                group: group.to_owned(),
                assignor: joining.assignor.name().to_owned(),
                expected: other.to_owned(),
            }),
            _ => Ok(()),
        }
    }

    fn take_over(&mut self, at: usize, successor: Member) {
        let predecessor = &mut self.members[at];
        predecessor.pulse.replace();
        let (old, new) = (predecessor.id, successor.id);
        let subscribes_alike = predecessor.joined.topics == successor.joined.topics;
        *predecessor = successor;
        // Free for the successor to take, and for nobody else unless they were to go to others.
        self.owners.retain(|_, owner| *owner != old);
        self.target.values_mut().filter(|member| **member == old).for_each(|it| *it = new);
        // An assignment that is being computed knows the predecessor, and would go nowhere.
        let is_being_computed = matches!(self.phase, Phase::Assigning { by: Some(_) });
        if subscribes_alike && !is_being_computed {
            self.settle();
            self.announce();
        } else {
            self.changed();
        }
    }

    /// Lets a member go. One that is not in the group changes nothing: it is out already. One with an
    /// instance id stays for its successor's sake.
    pub(crate) fn leave(&mut self, id: MemberId, now: Duration) {
        let Some(at) = self.members.iter().position(|member| member.id == id) else { return };
        if self.members[at].joined.instance_id.is_none() {
            self.remove(at);
            return;
        }
        let member = &mut self.members[at];
        if member.pulse.beat(now).is_ok() {
            member.presence = Presence::Away;
        }
        self.owners.retain(|_, owner| *owner != id);
        self.settle();
        self.announce();
    }

    /// Removes a member for good.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownMember`] if there is none of this instance id.
    pub(crate) fn remove_instance(&mut self, group: &str, instance_id: &str) -> Result<()> {
        let is_it = |member: &Member| member.joined.instance_id.as_deref() == Some(instance_id);
        let Some(at) = self.members.iter().position(is_it) else {
            let (group, instance_id) = (group.to_owned(), instance_id.to_owned());
            return Err(Error::UnknownMember { group, instance_id });
        };
        self.members[at].pulse.replace();
        self.remove(at);
        Ok(())
    }

    fn remove(&mut self, at: usize) {
        let id = self.members.remove(at).id;
        self.owners.retain(|_, owner| *owner != id);
        self.target.retain(|_, member| *member != id);
        self.changed();
        self.announce();
    }

    /// Removes the members that have not polled for too long.
    pub(crate) fn expire(&mut self, now: Duration) {
        let is_out = |member: &Member| member.pulse.expire(now, member.joined.max_poll_interval);
        while let Some(at) = self.members.iter().position(is_out) {
            self.remove(at);
        }
    }

    /// Changes what a member subscribes to.
    pub(crate) fn subscribe(&mut self, id: MemberId, topics: BTreeSet<Arc<str>>) {
        let Some(member) = self.members.iter_mut().find(|member| member.id == id) else { return };
        if member.joined.topics == topics {
            return;
        }
        // What a predicate has come to match did not exist before: all that is in it is new.
        for topic in topics.difference(&member.joined.topics) {
            self.topics.entry(Arc::clone(topic)).or_insert(None);
        }
        member.joined.topics = topics;
        self.topics_changed();
    }

    /// The topics that members subscribe to.
    pub(crate) fn subscribed(&self) -> BTreeSet<Arc<str>> {
        self.members.iter().flat_map(|member| &member.joined.topics).cloned().collect()
    }

    /// Takes up what has become of the topics.
    pub(crate) fn set_topics(&mut self, topics: Topics) {
        if topics == self.topics {
            return;
        }
        for (name, facts) in &topics {
            // Of a topic that was not subscribed to before, nothing is known to be new.
            let Some(before) = self.topics.get(name) else { continue };
            let known = match (before, facts) {
                (Some(before), Some(now)) if before.id == now.id => before.partitions,
                _ => 0,
            };
            let partitions = facts.map_or(0, |facts| facts.partitions);
            let new = (known..partitions).map(|n| TopicPartition::new(Arc::clone(name), n));
            self.starts.extend(new.map(|of| (of, 0)));
        }
        self.topics = topics;
        self.topics_changed();
    }

    /// What an assignment has to be computed from, if one has to be and nobody else is at it.
    pub(crate) fn claim(&mut self, by: MemberId) -> Option<ToAssign> {
        self.phase.next(Event::Claimed(by))?;
        let assignor = Arc::clone(&self.member(by)?.joined.assignor);
        self.transition(Event::Claimed(by));
        let holder = |of| self.owners.get(of).or_else(|| self.target.get(of));
        let mut owned = BTreeMap::<MemberId, Vec<TopicPartition>>::new();
        for of in self.owners.keys().chain(self.target.keys()).collect::<BTreeSet<_>>() {
            if let Some(holder) = holder(of) {
                owned.entry(*holder).or_default().push(of.clone());
            }
        }
        let members = self.members.iter();
        let subscription = |member: &Member| MemberSubscription {
            member_id: member_id_text(member),
            instance_id: member.joined.instance_id.as_deref().map(str::to_owned),
            topics: member.joined.topics.clone(),
            owned: owned.remove(&member.id).unwrap_or_default(),
        };
        let partitions = |(name, facts): (&Arc<str>, &Option<TopicFacts>)| {
            Some((Arc::clone(name), facts.as_ref()?.partitions))
        };
        Some(ToAssign {
            assignor,
            members: self.members.iter().map(|member| member.id).collect(),
            subscription: GroupSubscription {
                members: members.map(subscription).collect(),
                topics: self.topics.iter().filter_map(partitions).collect(),
            },
            generation: self.generation,
        })
    }

    /// Gives a claim up, so that somebody else computes the assignment.
    pub(crate) fn abandon(&mut self, by: MemberId) {
        if self.phase == (Phase::Assigning { by: Some(by) }) {
            self.transition(Event::Abandoned);
            self.announce();
        }
    }

    /// Takes up an assignment, unless the group has changed since it was asked for.
    pub(crate) fn assigned(&mut self, asked: &ToAssign, assignment: Vec<BTreeSet<TopicPartition>>) {
        if asked.generation != self.generation {
            return;
        }
        let shares = asked.members.iter().zip(assignment);
        self.target =
            shares.flat_map(|(id, share)| share.into_iter().map(|of| (of, *id))).collect();
        self.transition(Event::Assigned);
        self.settle();
        self.announce();
    }

    /// What a member is to do. What it is to take is its own from here on.
    ///
    /// # Errors
    ///
    /// Why it is in the group no more.
    pub(crate) fn step(&mut self, membership: &Membership) -> Result<Step, Ended> {
        let id = membership.member_id;
        if self.member(id).is_none() {
            return Err(membership.pulse.ended().unwrap_or(Ended::Expired));
        }
        if matches!(self.phase, Phase::Assigning { .. }) {
            return Ok(Step::Nothing);
        }
        let is_to_go = |(of, owner): &(&TopicPartition, &MemberId)| {
            **owner == id && self.target.get(of) != Some(&id)
        };
        let revoked: Vec<_> =
            self.owners.iter().filter(is_to_go).map(|(of, _)| of.clone()).collect();
        if !revoked.is_empty() {
            return Ok(Step::Revoke(revoked));
        }
        let is_to_come = |(of, member): &(&TopicPartition, &MemberId)| {
            **member == id && !self.owners.contains_key(of)
        };
        let taken: Vec<_> =
            self.target.iter().filter(is_to_come).map(|(of, _)| of.clone()).collect();
        if taken.is_empty() {
            return Ok(Step::Nothing);
        }
        self.owners.extend(taken.iter().map(|of| (of.clone(), id)));
        self.settle();
        let hand_over = |of: TopicPartition| HandedOver {
            start: self.starts.get(&of).copied(),
            topic_partition: of,
        };
        Ok(Step::Assign(taken.into_iter().map(hand_over).collect()))
    }

    /// A member has stopped reading partitions. Those who are to have them are told.
    pub(crate) fn release(&mut self, id: MemberId, partitions: &[TopicPartition]) {
        let mut takers = BTreeSet::new();
        for of in partitions {
            if self.owners.get(of) == Some(&id) {
                self.owners.remove(of);
                takers.extend(self.target.get(of).copied());
            }
        }
        self.settle();
        self.tell(&takers);
    }

    /// The partitions of a topic that a member has.
    pub(crate) fn owned_of_topic(&self, id: MemberId, topic: &str) -> Vec<TopicPartition> {
        let owned = self.owners.iter().filter(|(of, owner)| **owner == id && of.topic() == topic);
        owned.map(|(of, _)| of.clone()).collect()
    }

    /// Where a member has begun in partitions for which nothing is committed.
    pub(crate) fn began(&mut self, id: MemberId, starts: Vec<(TopicPartition, u64)>) {
        for (of, start) in starts {
            if self.owners.get(&of) == Some(&id) {
                self.starts.entry(of).or_insert(start);
            }
        }
    }

    /// Looks whether everything has arrived. The share of a member that is away waits for its successor.
    fn settle(&mut self) {
        if !matches!(self.phase, Phase::Reconciling | Phase::Stable) {
            return;
        }
        let away: BTreeSet<MemberId> = (self.members.iter())
            .filter(|member| member.presence == Presence::Away)
            .map(|member| member.id)
            .collect();
        let has = |(of, id): (&TopicPartition, &MemberId)| {
            self.owners.get(of) == Some(id) || away.contains(id)
        };
        let is_to_have = |(of, id): (&TopicPartition, &MemberId)| self.target.get(of) == Some(id);
        let arrived = self.target.iter().all(has) && self.owners.iter().all(is_to_have);
        self.transition(if arrived { Event::Reconciled } else { Event::Unsettled });
    }

    /// Tells those members that have something to do, and nobody else.
    fn announce(&self) {
        let concerned = match self.phase {
            Phase::Assigning { by: None } => self.members.iter().map(|member| member.id).collect(),
            Phase::Reconciling => self.with_work(),
            Phase::Empty | Phase::Assigning { by: Some(_) } | Phase::Stable => BTreeSet::new(),
        };
        self.tell(&concerned);
    }

    /// Tells everybody.
    pub(crate) fn wake_all(&self) {
        self.members.iter().for_each(|member| member.pulse.announce());
    }

    fn tell(&self, concerned: &BTreeSet<MemberId>) {
        let concerned = self.members.iter().filter(|member| concerned.contains(&member.id));
        concerned.for_each(|member| member.pulse.announce());
    }

    /// Who has something to give back, or could take something.
    fn with_work(&self) -> BTreeSet<MemberId> {
        let give = self.owners.iter().filter(|(of, owner)| self.target.get(of) != Some(*owner));
        let take = self.target.iter().filter(|(of, _)| !self.owners.contains_key(of));
        give.chain(take).map(|(_, id)| *id).collect()
    }

    /// Whether a commit counts; `None` is somebody who never joined.
    ///
    /// # Errors
    ///
    /// [`Error::GroupOccupied`] for somebody who never joined while there are members;
    /// [`Error::FencedGeneration`] and [`Error::FencedInstanceId`] for a member that is out;
    /// [`Error::NotAssigned`] for a partition that the member does not have.
    pub(crate) fn check_commit<'a>(
        &self,
        group: &str,
        committer: Option<&Membership>,
        mut partitions: impl Iterator<Item = &'a TopicPartition>,
    ) -> Result<()> {
        let Some(committer) = committer else {
            if self.members.is_empty() {
                return Ok(());
            }
            return Err(Error::GroupOccupied { group: group.to_owned() });
        };
        if self.member(committer.member_id).is_none() {
            let ended = committer.pulse.ended().unwrap_or(Ended::Expired);
            return Err(self.fenced(group, committer, ended));
        }
        match partitions.find(|of| self.owners.get(of) != Some(&committer.member_id)) {
            None => Ok(()),
            Some(of) => Err(Error::NotAssigned { topic_partition: of.clone() }),
        }
    }

    /// The error for a member that is out.
    pub(crate) fn fenced(&self, group: &str, membership: &Membership, ended: Ended) -> Error {
        let group = group.to_owned();
        match (ended, &membership.instance_id) {
            (Ended::Replaced, Some(instance_id)) => {
                Error::FencedInstanceId { group, instance_id: instance_id.to_string() }
            }
            _ => Error::FencedGeneration {
                group,
                generation: membership.generation,
                current: self.generation,
            },
        }
    }

    /// The name of the assignor that members go by.
    pub(crate) fn assignor(&self) -> Option<String> {
        self.members.first().map(|member| member.joined.assignor.name().to_owned())
    }

    /// The members, in order.
    pub(crate) fn describe(&self) -> Vec<MemberDescription> {
        let of_member = |map: &BTreeMap<TopicPartition, MemberId>, id| {
            map.iter().filter(|(_, member)| **member == id).map(|(of, _)| of.clone()).collect()
        };
        let describe = |member: &Member| MemberDescription {
            member_id: member_id_text(member),
            client_id: member.joined.client_id.to_string(),
            instance_id: member.joined.instance_id.as_deref().map(str::to_owned),
            assignment: of_member(&self.owners, member.id),
            target_assignment: of_member(&self.target, member.id),
        };
        self.members.iter().map(describe).collect()
    }
}

fn member_id_text(member: &Member) -> String {
    format!("{}-{}", member.joined.client_id, member.id)
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests;
