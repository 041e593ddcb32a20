//! Judges a directory by what the worker has said of it before it died.
//!
//! [`Oracle::hear`] takes the worker's reports as they come; [`Oracle::judge`] opens what is left,
//! reads every record, and compares. Both say what they find wrong in words; what is right becomes
//! the state from which the next life is judged, so that a record seen once must stay.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use sapwood::{Broker, Partition, Result, ShareConsumerBuilder, Topic, TopicPartition};

use super::payload::Payload;
use super::report::{Place, Report};

/// So many findings are kept in words; the others are only counted.
const FINDINGS_MAX: usize = 30;

/// A consumer that is given nothing for so long will not be given anything any more.
const PATIENCE: Duration = Duration::from_secs(20);

/// A worker of a share group that meets no limit: whatever is not done comes again, however often.
pub fn share_consumer(broker: &Broker, group: &str) -> ShareConsumerBuilder {
    broker.share_consumer(group).max_delivery_count(32_767).max_in_flight(100_000)
}

/// How the worker has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "the soak knows but kills, the tests that share this file know them all"
)]
pub enum End {
    /// Everything the operating system was given is there.
    Killed,
    /// As if killed, and the operating system has refused calls: that some of the worker's have
    /// failed is no wonder.
    Refused,
    /// What was not synced at that moment may be gone. Calls that fail after it are no wonder.
    PowerLoss(Instant),
}

/// What must be there and what may be. Used by one thread at a time.
#[derive(Debug, Default)]
pub struct Oracle {
    topics: BTreeMap<String, TopicState>,
    /// Ids of topics whose deletion was acknowledged or found done.
    deleted: BTreeSet<String>,
    /// Names of topics whose creation was begun in this life.
    creating: BTreeSet<String>,
    commits: BTreeMap<(String, Place), CommitState>,
    shares: BTreeMap<(String, Place), ShareState>,
    failures: Vec<(Instant, String)>,
    findings: Vec<String>,
    closed: bool,
    /// Acknowledged records, commits and changes that are gone.
    pub lost: u64,
    /// Everything else that is not as it must be.
    pub wrong: u64,
    /// Records read and found right.
    pub verified: u64,
    /// Acknowledgements heard.
    pub operations: u64,
}

#[derive(Debug, Default)]
struct TopicState {
    name: String,
    /// How many partitions it has at least, and at most.
    partitions: (u32, u32),
    /// What its retention may be, in bytes; the last is the latest. Empty: not known yet.
    retention: Vec<u64>,
    /// The smallest retention it ever had since the last judgement.
    retention_min: Option<u64>,
    /// Its deletion was begun.
    deleting: bool,
    logs: BTreeMap<u32, LogState>,
}

#[derive(Debug, Default)]
struct LogState {
    /// What is known to be at an offset.
    records: BTreeMap<u64, Known>,
    /// The furthest offset that a consumer has come to.
    seen: u64,
    /// The log starts there at least,
    start: u64,
    /// and no later, unless retention has moved it.
    start_intended: u64,
    /// The log ends there at least, if only the process has died.
    end: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known {
    producer: u64,
    sequence: u64,
    /// When its send began and was answered, in the worker's microseconds; `None` for what was found
    /// by an earlier judgement.
    sent: Option<(u64, u64)>,
}

#[derive(Debug, Default)]
struct CommitState {
    acknowledged: Option<u64>,
    intended: u64,
}

/// What a share group is done with in one partition.
#[derive(Debug, Default)]
struct ShareState {
    /// Offsets that must not be handed out again.
    done: BTreeSet<u64>,
    /// Offsets of which nobody knows.
    perhaps: BTreeSet<u64>,
}

/// What a power loss may take from one partition.
#[derive(Debug, Clone, Copy)]
enum Excuse {
    None,
    /// The last records, as long as they were acknowledged within so much time of each other.
    Within(Duration),
}

/// Acknowledged records of one partition that a power loss has taken.
#[derive(Debug, Default)]
struct Lost {
    count: u64,
    /// The earliest answer, and the latest beginning of a send.
    times: Option<(u64, u64)>,
}

impl Lost {
    fn add(&mut self, (began, answered): (u64, u64)) {
        self.count += 1;
        let (first, last) = self.times.unwrap_or((answered, began));
        self.times = Some((first.min(answered), last.max(began)));
    }

    /// The least time that lies between the first and the last of them being appended.
    fn span(&self) -> Duration {
        let (first, last) = self.times.unwrap_or_default();
        Duration::from_micros(last.saturating_sub(first))
    }
}

impl Oracle {
    pub fn is_content(&self) -> bool {
        self.lost == 0 && self.wrong == 0
    }

    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Whether the worker has said that it closed its broker.
    pub fn has_closed(&self) -> bool {
        self.closed
    }

    pub fn note_wrong(&mut self, text: String) {
        self.wrong += 1;
        self.find(text);
    }

    fn note_lost(&mut self, count: u64, text: String) {
        self.lost += count;
        self.find(text);
    }

    fn find(&mut self, text: String) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(text);
        }
    }

    fn topic(&mut self, id: String) -> &mut TopicState {
        self.topics.entry(id).or_default()
    }

    fn log(&mut self, (id, partition): Place) -> &mut LogState {
        self.topic(id).logs.entry(partition).or_default()
    }

    /// Another worker is about to open the directory.
    pub fn begin(&mut self) {
        self.closed = false;
    }

    /// Takes a line from the worker's pipe. The last line of a killed worker may be torn: leave it
    /// out if it does not end in a newline.
    pub fn hear(&mut self, line: &str) {
        let Some(report) = Report::parse(line.trim_end()) else { return };
        // One thread has deleted it before another came to say what it did.
        if report.topic().is_some_and(|id| self.deleted.contains(id)) {
            return;
        }
        match report {
            Report::Creating(name) => {
                self.creating.insert(name);
            }
            Report::Created(name, id, partitions, retention) => {
                self.operations += 1;
                let topic = self.topic(id);
                topic.name = name;
                topic.partitions = (partitions, partitions);
                topic.retention = vec![retention];
                topic.retention_min = Some(retention);
            }
            Report::Deleting(id) => self.topic(id).deleting = true,
            Report::Deleted(id) => {
                self.operations += 1;
                self.forget(&id);
            }
            Report::Adding(id, total) => self.topic(id).partitions.1 = total,
            Report::Added(id, total) => {
                self.operations += 1;
                self.topic(id).partitions = (total, total);
            }
            Report::Altering(id, bytes) => self.topic(id).intend_retention(bytes),
            Report::Altered(id, bytes) => {
                self.operations += 1;
                self.topic(id).retention = vec![bytes];
            }
            Report::Giving(place, before) => {
                let log = self.log(place);
                log.start_intended = log.start_intended.max(before);
            }
            Report::Given(place, start) => {
                self.operations += 1;
                let log = self.log(place);
                log.start = log.start.max(start);
            }
            Report::Seen(place, end) => {
                let log = self.log(place);
                log.seen = log.seen.max(end);
                log.end = log.end.max(end);
            }
            Report::Committing(group, place, offset) => {
                let commit = self.commits.entry((group, place)).or_default();
                commit.intended = commit.intended.max(offset);
            }
            Report::Committed(group, place, offset) => {
                self.operations += 1;
                self.commits.entry((group, place)).or_default().acknowledged = Some(offset);
            }
            Report::Finishing(group, place, offset) => {
                self.shares.entry((group, place)).or_default().perhaps.insert(offset);
            }
            Report::Finished(group, place, offset) => {
                self.operations += 1;
                let share = self.shares.entry((group, place)).or_default();
                share.perhaps.remove(&offset);
                share.done.insert(offset);
            }
            Report::Closed => self.closed = true,
            Report::Failed(text) => self.failures.push((Instant::now(), text)),
            Report::Wrong(text) => self.note_wrong(text),
            Report::Acknowledged(place, offset, producer, sequence, count, sent) => {
                self.hear_acknowledged(place, offset, (producer, sequence), count, sent);
            }
        }
    }

    fn hear_acknowledged(
        &mut self,
        place: Place,
        first: u64,
        of: (u64, u64),
        count: u64,
        sent: (u64, u64),
    ) {
        self.operations += count;
        let shown = format!("{place:?}");
        for n in 0..count {
            let known = Known { producer: of.0, sequence: of.1 + n, sent: Some(sent) };
            let offset = first + n;
            let log = self.log(place.clone());
            log.end = log.end.max(offset + 1);
            if let Some(before) = log.records.insert(offset, known) {
                self.note_wrong(format!(
                    "{shown}: offset {offset} given out for {before:?}, and again for {known:?}"
                ));
            }
        }
    }

    /// A topic is gone, and everything with it.
    fn forget(&mut self, id: &str) {
        self.topics.remove(id);
        self.commits.retain(|(_, (of, _)), _| of != id);
        self.shares.retain(|(_, (of, _)), _| of != id);
        self.deleted.insert(id.to_owned());
    }

    /// Reads everything in the broker, which was opened after the worker's end.
    pub fn judge(&mut self, broker: &Broker, end: End) -> Result<()> {
        if self.closed && !broker.recovery_report().clean_shutdown {
            self.note_wrong("it was closed, and opens as if it had been killed".to_owned());
        }
        self.closed = false;
        for (heard, text) in std::mem::take(&mut self.failures) {
            match end {
                End::Refused => {}
                End::PowerLoss(at) if heard >= at => {}
                _ => self.note_wrong(format!("a call failed: {text}")),
            }
        }
        let verification = broker.verify()?;
        for damage in verification.damaged().flat_map(|partition| &partition.damage) {
            self.note_wrong(format!("damaged: {damage}"));
        }
        let mut present = BTreeSet::new();
        for topic in broker.topics()? {
            present.insert(topic.id());
            self.judge_topic(broker, &topic, end)?;
        }
        self.judge_absent(&present);
        self.creating.clear();
        self.judge_commits(broker)?;
        self.judge_shares(broker, end)
    }

    fn judge_absent(&mut self, present: &BTreeSet<String>) {
        let absent = |(id, _): &(&String, &TopicState)| !present.contains(*id);
        let gone: Vec<_> = self.topics.iter().filter(absent).map(|(id, _)| id.clone()).collect();
        for id in gone {
            let topic = &self.topics[&id];
            if !topic.deleting {
                let text = format!("topic {} ({id}) is gone", topic.name);
                let records: usize = topic.logs.values().map(|log| log.records.len()).sum();
                self.note_lost(1 + records as u64, text);
            }
            self.forget(&id);
        }
    }

    fn judge_topic(&mut self, broker: &Broker, topic: &Topic, end: End) -> Result<()> {
        let (id, name) = (topic.id(), topic.name());
        if self.deleted.contains(&id) {
            self.note_wrong(format!("topic {name} ({id}) was deleted and is back"));
        } else if !self.topics.contains_key(&id) && !self.creating.contains(name) {
            self.note_wrong(format!("nobody has created topic {name} ({id})"));
        }
        let count = topic.partition_count();
        let state = self.topics.entry(id.clone()).or_default();
        name.clone_into(&mut state.name);
        // It is here: a deletion that was begun did not happen.
        state.deleting = false;
        let (least, most) = state.partitions;
        state.partitions = (count, count);
        let retention: Option<u64> =
            topic.config().get("retention.bytes").and_then(|bytes| bytes.parse().ok());
        let allowed = std::mem::replace(&mut state.retention, retention.into_iter().collect());
        let retention_min = state.retention_min.into_iter().chain(retention).min();
        state.retention_min = retention;
        if most > 0 && !(least..=most).contains(&count) {
            let text = format!("topic {name} has {count} partitions, not {least} to {most}");
            self.note_lost(1, text);
        }
        if let Some(retention) = retention
            && !allowed.is_empty()
            && !allowed.contains(&retention)
        {
            let text = format!("topic {name} keeps {retention} bytes, set were {allowed:?}");
            self.note_lost(1, text);
        }
        let excuse = excuse_of(topic, end);
        for partition in topic.partitions() {
            let place = (id.clone(), partition.topic_partition().partition());
            let before = std::mem::take(self.log(place.clone()));
            // What retention had left may have gone with the power.
            if matches!(excuse, Excuse::None) {
                self.judge_size(&partition, &before, retention_min);
            }
            let found = self.read(broker, &partition, &place)?;
            self.judge_records(&partition, &before, &found, excuse);
            *self.log(place) = settled(&partition, found);
        }
        Ok(())
    }

    /// What is missing at the start was given up, or retention has deleted it and left as much as it
    /// is to keep.
    fn judge_size(&mut self, partition: &Partition, before: &LogState, retention: Option<u64>) {
        let (at, start) = (partition.topic_partition(), partition.log_start_offset());
        let size = partition.size();
        if start > before.start_intended && retention.is_none_or(|bytes| size < bytes) {
            let text = format!(
                "{at} starts at {start}, given up were {}, and has {size} bytes of {retention:?}",
                before.start_intended
            );
            self.note_lost(start - before.start_intended, text);
        }
    }

    /// All records of a partition. Whatever needs no knowledge of what was sent is judged here.
    fn read(
        &mut self,
        broker: &Broker,
        partition: &Partition,
        (id, number): &Place,
    ) -> Result<BTreeMap<u64, Known>> {
        let (at, end) = (partition.topic_partition(), partition.log_end_offset());
        if partition.high_watermark() != end {
            self.note_wrong(format!("{at}: what was found is not there to be read"));
        }
        let mut found = BTreeMap::new();
        let mut order = Order::default();
        let mut next = partition.log_start_offset();
        let of = TopicPartition::new(at.topic(), *number);
        let mut consumer = broker.consumer().assign([of])?;
        while next < end {
            let records = consumer.poll(PATIENCE)?;
            if records.is_empty() {
                self.note_wrong(format!("{at}: nothing is read after {next} of {end}"));
                break;
            }
            for record in &records {
                let offset = record.offset();
                let parsed = Payload::parse(record.value().unwrap_or_default());
                let judged = parsed.and_then(|payload| {
                    order.check(&payload, (id, *number), (offset, next))?;
                    Ok(Known { producer: payload.producer, sequence: payload.sequence, sent: None })
                });
                match judged {
                    Ok(known) => {
                        self.verified += 1;
                        found.insert(offset, known);
                    }
                    Err(text) => self.note_wrong(format!("{at}, offset {offset}: {text}")),
                }
                next = offset + 1;
            }
        }
        if let Err(text) = order.check_end() {
            self.note_wrong(format!("{at}: {text}"));
        }
        Ok(found)
    }

    fn judge_records(
        &mut self,
        partition: &Partition,
        before: &LogState,
        found: &BTreeMap<u64, Known>,
        excuse: Excuse,
    ) {
        let (at, end) = (partition.topic_partition(), partition.log_end_offset());
        let start = partition.log_start_offset();
        if start < before.start {
            let text = format!("{at} starts at {start}, after it started at {}", before.start);
            self.note_wrong(text);
        }
        let mut lost = Lost::default();
        for (offset, known) in before.records.range(start..) {
            match found.get(offset) {
                Some(is) if (is.producer, is.sequence) == (known.producer, known.sequence) => {}
                Some(is) => {
                    self.note_wrong(format!("{at}, offset {offset}: is {is:?}, was {known:?}"));
                }
                // It is one with what comes after it: a prefix is left.
                None => match (excuse, known.sent) {
                    (Excuse::Within(_), Some(sent)) if *offset >= end => lost.add(sent),
                    _ => self.note_lost(1, format!("{at}, offset {offset}: {known:?} is lost")),
                },
            }
        }
        if let Excuse::Within(interval) = excuse {
            if lost.span() > interval {
                let text = format!("{at}: records of {:?} are lost, not {interval:?}", lost.span());
                self.note_lost(lost.count, text);
            }
            return;
        }
        let seen = before.seen;
        if seen > end {
            self.note_lost(seen - end, format!("{at}: was seen up to {seen}, ends at {end}"));
        }
        if before.end > end {
            let text = format!("{at}: ended at {}, ends at {end}", before.end);
            self.note_lost(before.end - end, text);
        }
    }

    fn judge_commits(&mut self, broker: &Broker) -> Result<()> {
        let mut found: BTreeMap<(String, Place), u64> = BTreeMap::new();
        for group in broker.list_groups()? {
            let Some(description) = broker.describe_group(&group)? else { continue };
            for offset in description.offsets {
                let (at, committed) = (offset.topic_partition, offset.committed.offset);
                let Ok(topic) = broker.topic(at.topic()) else {
                    self.note_wrong(format!("group {group} has committed in {at}, which is gone"));
                    continue;
                };
                let end = topic.partition(at.partition())?.log_end_offset();
                let key = (group.clone(), (topic.id(), at.partition()));
                let state = self.commits.entry(key.clone()).or_default();
                let (least, most) = (state.acknowledged.unwrap_or(0).min(end), state.intended);
                *state = CommitState { acknowledged: Some(committed), intended: committed };
                if committed > end {
                    self.note_wrong(format!("{group} is at {committed} in {at}, ending at {end}"));
                }
                if committed > most {
                    self.note_wrong(format!("{group} is at {committed} in {at}, beyond {most}"));
                }
                if committed < least {
                    let text = format!("{group} is at {committed} in {at}, behind {least}");
                    self.note_lost(1, text);
                }
                found.insert(key, committed);
            }
        }
        let missing: Vec<_> = self
            .commits
            .iter()
            .filter(|(key, state)| state.acknowledged.is_some() && !found.contains_key(*key))
            .map(|(key, state)| format!("{key:?}: {state:?} is lost"))
            .collect();
        missing.into_iter().for_each(|text| self.note_lost(1, text));
        self.commits.retain(|key, _| found.contains_key(key));
        Ok(())
    }
}

impl Oracle {
    /// Each share group is handed everything that it has not done, and nothing else.
    fn judge_shares(&mut self, broker: &Broker, end: End) -> Result<()> {
        let mut groups: BTreeSet<String> = broker.list_share_groups()?.into_iter().collect();
        groups.extend(self.shares.keys().map(|(group, _)| group.clone()));
        let topics = broker.topics()?;
        for group in groups {
            let mut handed = self.hand_out(broker, &group, &topics)?;
            for topic in &topics {
                for partition in topic.partitions() {
                    let place = (topic.id(), partition.topic_partition().partition());
                    let handed = handed.remove(&place).unwrap_or_default();
                    self.judge_share(&group, &partition, &handed, excuse_of(topic, end));
                }
            }
            let gone: Vec<_> = handed.into_keys().collect();
            if !gone.is_empty() {
                self.note_wrong(format!("{group} is handed records of other logs: {gone:?}"));
            }
        }
        Ok(())
    }

    /// What a share group is handed now, by the places that the records name. All of it is given back.
    fn hand_out(
        &mut self,
        broker: &Broker,
        group: &str,
        topics: &[Topic],
    ) -> Result<BTreeMap<Place, BTreeSet<u64>>> {
        let mut handed: BTreeMap<Place, BTreeSet<u64>> = BTreeMap::new();
        if topics.is_empty() {
            return Ok(handed);
        }
        let mut worker = share_consumer(broker, group).subscribe(topics.iter().map(Topic::name))?;
        let mut held = Vec::new();
        loop {
            let records = worker.poll(Duration::ZERO)?;
            if records.is_empty() {
                return Ok(handed);
            }
            for record in &records {
                let (at, offset) = (record.topic_partition(), record.offset());
                match Payload::parse(record.value().unwrap_or_default()) {
                    Ok(payload) => {
                        let place = (payload.topic.to_owned(), at.partition());
                        if !handed.entry(place).or_default().insert(offset) {
                            self.note_wrong(format!("{group}: {at}, {offset} is handed out twice"));
                        }
                    }
                    Err(text) => self.note_wrong(format!("{group}: {at}, {offset}: {text}")),
                }
            }
            held.push(records);
        }
    }

    fn judge_share(
        &mut self,
        group: &str,
        partition: &Partition,
        handed: &BTreeSet<u64>,
        excuse: Excuse,
    ) {
        let at = partition.topic_partition();
        let of = self.topics.iter().find(|(_, topic)| topic.name == at.topic());
        let Some(place) = of.map(|(id, _)| (id.clone(), at.partition())) else { return };
        let there: BTreeSet<u64> = self.log(place.clone()).records.keys().copied().collect();
        let state = self.shares.remove(&(group.to_owned(), place.clone())).unwrap_or_default();
        for offset in handed.difference(&there) {
            self.note_wrong(format!("{group}: {at}, {offset} is handed out and not in the log"));
        }
        let missing: Vec<_> = there
            .difference(handed)
            .filter(|offset| !state.done.contains(offset) && !state.perhaps.contains(offset))
            .collect();
        if let Some(first) = missing.first() {
            let text = format!("{group}: {at}, {} not handed out from {first} on", missing.len());
            self.note_lost(missing.len() as u64, text);
        }
        let again: Vec<_> = state.done.intersection(handed).collect();
        if let Some(first) = again.first()
            && matches!(excuse, Excuse::None)
        {
            let text = format!("{group}: {at}, {} handed out again from {first} on", again.len());
            self.note_lost(again.len() as u64, text);
        }
        // Whatever was not handed out must stay done.
        let done = there.difference(handed).copied().collect();
        let state = ShareState { done, perhaps: BTreeSet::new() };
        self.shares.insert((group.to_owned(), place), state);
    }
}

impl TopicState {
    fn intend_retention(&mut self, bytes: u64) {
        if self.retention.is_empty() {
            // Its worker died before it could say how it had created the topic.
            self.retention_min = Some(0);
        } else {
            self.retention.push(bytes);
            self.retention_min = self.retention_min.into_iter().chain([bytes]).min();
        }
    }
}

/// What a power loss may have taken from a topic.
fn excuse_of(topic: &Topic, end: End) -> Excuse {
    let config = topic.config();
    let written = config.get("durability").as_deref() == Some("written");
    match end {
        End::PowerLoss(_) if written => {
            let interval = config.get("flush.ms").and_then(|text| text.parse().ok()).unwrap_or(0);
            Excuse::Within(Duration::from_millis(interval))
        }
        _ => Excuse::None,
    }
}

/// From here on, what was found must stay.
fn settled(partition: &Partition, records: BTreeMap<u64, Known>) -> LogState {
    let start = partition.log_start_offset();
    LogState { records, seen: 0, start, start_intended: start, end: partition.log_end_offset() }
}

/// What the records of one partition say of their order.
#[derive(Debug, Default)]
pub struct Order {
    /// The last sequence of each producer.
    sequences: BTreeMap<u64, u64>,
    /// What must come next, in the middle of a batch: producer, index, count.
    batch: Option<(u64, u32, u32)>,
}

impl Order {
    /// Checks a record against the place it was read from, the offset that was expected, and those
    /// before it.
    pub fn check(
        &mut self,
        payload: &Payload<'_>,
        place: (&str, u32),
        (offset, expected): (u64, u64),
    ) -> Result<(), String> {
        if offset != expected {
            return Err(format!("{expected} was expected"));
        }
        if (payload.topic, payload.partition) != place {
            return Err(format!("it belongs to another partition: {payload:?}"));
        }
        let Payload { producer, sequence, index, count, .. } = *payload;
        let is_first = self.sequences.is_empty();
        let last = self.sequences.insert(producer, sequence);
        if last.is_some_and(|last| last + 1 != sequence) {
            return Err(format!("sequence {sequence} of {producer} comes after {last:?}"));
        }
        // A log that starts in the middle of a batch has nothing before that.
        let whole = match self.batch {
            Some(next) => next == (producer, index, count),
            None => index == 0 || is_first,
        };
        self.batch = (index + 1 < count).then_some((producer, index + 1, count));
        if whole { Ok(()) } else { Err(format!("a batch is not whole: {payload:?}")) }
    }

    /// Checks that nothing of the last batch is missing.
    pub fn check_end(&self) -> Result<(), String> {
        match self.batch {
            None => Ok(()),
            Some(next) => Err(format!("the last batch is not whole: {next:?} is missing")),
        }
    }
}
