//! The process that gets killed: several threads that do everything at once through the public API,
//! and say on the pipe what was acknowledged.
//!
//! It opens the directory, works for a while, closes it in order or just lets go of it, and begins
//! again, until a line or the end of its standard input tells it to close for good. Consumers check
//! what they are given as they go: they read against appends, rolls, retention and deletion.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sapwood::{
    Broker, Compression, Consumer, Delivery, Durability, Error, Partition, Producer, Record,
    ShareConsumer, ShareRecord, Topic, TopicConfig,
};

use super::oracle::{Order, share_consumer};
use super::payload::Payload;
use super::random::Random;
use super::report::{Place, Report, elapsed};

/// Why a thread has ended before its time. Its report is out already.
struct Stopped;
type Step = Result<(), Stopped>;
/// What a thread does until it is to end.
type Job<'a> = fn(&mut Shift<'a>) -> Step;

/// The thread that creates, deletes and changes topics rests this long between changes, at most.
const REST_MS_MAX: u64 = 40;

const TOPICS: [&str; 5] = ["t0", "t1", "t2", "t3", "t4"];
const GROUPS: [&str; 2] = ["g0", "g1"];
const SHARE_GROUPS: [&str; 2] = ["s0", "s1"];

/// What one thread of one broker works with.
struct Shift<'a> {
    broker: &'a Broker,
    /// Ids of topics whose deletion was begun: calls on them may fail.
    deleting: &'a Mutex<BTreeSet<String>>,
    ending: &'a AtomicBool,
    random: Random,
    producer: u64,
    sequences: BTreeMap<Place, u64>,
}

/// Works in a directory until it is told to stop. `life` must grow from process to process.
pub fn run(directory: &Path, seed: u64, life: u64) -> io::Result<()> {
    let mut random = Random::new(seed ^ life.wrapping_mul(0x51ed_270b));
    let told = listen();
    for epoch in 0.. {
        let broker = match open(directory, &mut random) {
            Ok(broker) => broker,
            Err(error) => {
                // Nothing can be done about it here; whoever reads the pipe decides what it means.
                return Report::Failed(format!("open: {error}")).say();
            }
        };
        let base = (life * 1000 + epoch % 1000) * 10;
        let stopped = work(&broker, base, &mut random, &told)?;
        let closes = stopped || random.one_in(2);
        if closes && let Err(error) = broker.close() {
            return Report::Failed(format!("close: {error}")).say();
        }
        if stopped {
            return Report::Closed.say();
        }
    }
    Ok(())
}

/// Hears when standard input has a line, or ends.
fn listen() -> Receiver<()> {
    let (sender, told) = mpsc::channel();
    thread::spawn(move || {
        let mut line = String::new();
        // However it ends, it means the same, and so does nobody listening any more.
        drop(io::stdin().lock().read_line(&mut line));
        sender.send(()).unwrap_or_default();
    });
    told
}

fn open(directory: &Path, random: &mut Random) -> sapwood::Result<Broker> {
    let interval = Duration::from_millis(5 + random.below(40));
    Broker::builder(directory).retention_check_interval(interval).open()
}

/// All threads at work on one broker for a while; returns whether this was the last time.
fn work(broker: &Broker, base: u64, random: &mut Random, told: &Receiver<()>) -> io::Result<bool> {
    let (deleting, ending) = (Mutex::default(), AtomicBool::new(false));
    let seed = random.next();
    let shift = |number: u64| Shift {
        broker,
        deleting: &deleting,
        ending: &ending,
        random: Random::new(seed.wrapping_add(number)),
        producer: base + number,
        sequences: BTreeMap::new(),
    };
    let mut jobs: Vec<(Shift<'_>, Job<'_>)> = vec![
        (shift(0), Shift::change_topics),
        (shift(1), Shift::send),
        (shift(2), Shift::send),
        (shift(3), Shift::append),
        (shift(4), Shift::consume_in_group),
        (shift(5), Shift::read_all),
        (shift(6), Shift::share),
        (shift(7), Shift::share),
    ];
    // Sometimes in peace: with others syncing all the time, a sync that is missing goes unnoticed.
    match random.below(6) {
        0 => jobs.truncate(1),
        1..4 => jobs.retain(|_| !random.one_in(3)),
        _ => {}
    }
    let time = Duration::from_millis(100 + random.below(2_000));
    thread::scope(|scope| {
        let threads: Vec<_> =
            jobs.into_iter().map(|(mut shift, job)| scope.spawn(move || job(&mut shift))).collect();
        let stopped = !matches!(told.recv_timeout(time), Err(RecvTimeoutError::Timeout));
        ending.store(true, Ordering::Release);
        for thread in threads {
            if thread.join().is_err() {
                Report::Wrong("a thread has panicked".to_owned()).say()?;
            }
        }
        Ok(stopped)
    })
}

fn say(report: &Report) -> Step {
    // Nobody listens any more: then nobody needs what comes after it.
    report.say().map_err(|_| Stopped)
}

impl Shift<'_> {
    fn goes_on(&self) -> bool {
        !self.ending.load(Ordering::Acquire)
    }

    fn rest(&mut self) {
        thread::sleep(Duration::from_millis(1 + self.random.below(REST_MS_MAX)));
    }

    /// Whether the failure of a call on a topic comes of its deletion; otherwise it is reported.
    fn excuse(&self, what: &str, id: Option<&str>, error: &Error) -> Step {
        let deleting = self.deleting.lock().expect("no thread panics with it");
        let is_deleted = id.map_or(!deleting.is_empty(), |id| deleting.contains(id));
        if is_deleted && is_of_deletion(error) {
            return Ok(());
        }
        drop(deleting);
        say(&Report::Failed(format!("{what}: {error}")))?;
        Err(Stopped)
    }

    fn topics(&self) -> Result<Vec<Topic>, Stopped> {
        match self.broker.topics() {
            Ok(topics) => Ok(topics),
            Err(error) => self.excuse("list topics", None, &error).map(|()| Vec::new()),
        }
    }

    fn partition(&mut self) -> Result<Option<Partition>, Stopped> {
        let topics = self.topics()?;
        let Some(topic) = self.random.choose(&topics) else { return Ok(None) };
        let partitions = topic.partitions();
        Ok(self.random.choose(&partitions).cloned())
    }

    /// The next records of this producer for a partition.
    fn values(&mut self, place: &Place, count: u32, whole: u32) -> Vec<Vec<u8>> {
        let sequence = self.sequences.entry(place.clone()).or_default();
        let first = *sequence;
        *sequence += u64::from(count);
        let value = |n: u32| {
            let payload = Payload {
                topic: &place.0,
                partition: place.1,
                producer: self.producer,
                sequence: first + u64::from(n),
                index: n % whole,
                count: whole,
            };
            let length = if self.random.one_in(20) { 4_000 } else { 300 };
            payload.encode(self.random.below(length) as usize)
        };
        (0..count).map(value).collect()
    }

    // --- sending ---------------------------------------------------------------------------------

    fn send(&mut self) -> Step {
        let linger = Duration::from_millis(self.random.below(10));
        let batch = 200 << self.random.below(6);
        let built = self.broker.producer().linger(linger).batch_size(batch).build();
        let producer = match built {
            Ok(producer) => producer,
            Err(error) => return self.excuse("build a producer", None, &error),
        };
        while self.goes_on() {
            match self.partition()? {
                Some(partition) => self.send_some(&producer, &partition)?,
                None => self.rest(),
            }
        }
        match producer.close() {
            Ok(()) => Ok(()),
            Err(error) => self.excuse("close a producer", None, &error),
        }
    }

    /// Sends a few records, and waits for each, for all of them, or for none.
    fn send_some(&mut self, producer: &Producer, partition: &Partition) -> Step {
        let topic = partition.topic();
        let place = (topic.id(), partition.topic_partition().partition());
        let count = 1 + self.random.below(20) as u32;
        let waits = self.random.below(4);
        let mut deliveries = Vec::new();
        let first = self.sequences.get(&place).copied().unwrap_or(0);
        for (sequence, value) in (first..).zip(self.values(&place, count, 1)) {
            let record = Record::new(&value).partition(place.1);
            let began = elapsed();
            match producer.send(topic, record) {
                Ok(delivery) if waits == 0 => self.wait(&place, (sequence, began), delivery)?,
                Ok(delivery) => deliveries.push(((sequence, began), delivery)),
                Err(error) => return self.excuse("send", Some(&place.0), &error),
            }
        }
        match waits {
            1 => {
                if let Err(error) = producer.flush() {
                    self.excuse("flush", None, &error)?;
                }
                for (of, delivery) in deliveries {
                    if delivery.poll().is_none() {
                        let text = format!("{place:?}: {of:?} is not answered after a flush");
                        say(&Report::Wrong(text))?;
                    }
                    self.wait(&place, of, delivery)?;
                }
            }
            2 => {
                for (of, delivery) in deliveries {
                    self.wait(&place, of, delivery)?;
                }
            }
            // Nobody asks: they are there or not, but in order.
            _ => drop(deliveries),
        }
        Ok(())
    }

    fn wait(&self, place: &Place, (sequence, began): (u64, u64), delivery: Delivery) -> Step {
        match delivery.wait() {
            Ok(at) => {
                let of = (self.producer, sequence);
                say(&Report::acknowledged(place.clone(), at.offset, of, 1, began))
            }
            Err(error) => self.excuse("wait for a delivery", Some(&place.0), &error),
        }
    }

    fn append(&mut self) -> Step {
        while self.goes_on() {
            let Some(partition) = self.partition()? else {
                self.rest();
                continue;
            };
            let place = (partition.topic().id(), partition.topic_partition().partition());
            let count = 1 + self.random.below(6) as u32;
            let first = self.sequences.get(&place).copied().unwrap_or(0);
            let values = self.values(&place, count, count);
            let records: Vec<_> = values.iter().map(Record::new).collect();
            let began = elapsed();
            match partition.append(&records) {
                Ok(at) => {
                    let of = (self.producer, first);
                    say(&Report::acknowledged(place, at.offset, of, u64::from(count), began))?;
                }
                Err(error) => self.excuse("append", Some(&place.0), &error)?,
            }
        }
        Ok(())
    }

    // --- consuming -------------------------------------------------------------------------------

    fn consume_in_group(&mut self) -> Step {
        while self.goes_on() {
            let group = *self.random.choose(&GROUPS).expect("there are some");
            let names: Vec<_> =
                self.topics()?.iter().map(|topic| topic.name().to_owned()).collect();
            if names.is_empty() {
                self.rest();
                continue;
            }
            let builder = self.broker.consumer().group(group).auto_commit(None);
            match builder.max_poll_records(100).subscribe(names) {
                Ok(consumer) => self.poll_and_commit(group, consumer)?,
                Err(error) => self.excuse("subscribe", None, &error)?,
            }
        }
        Ok(())
    }

    fn poll_and_commit(&mut self, group: &str, mut consumer: Consumer) -> Step {
        let mut reading = Reading::default();
        for _ in 0..1 + self.random.below(60) {
            if !self.goes_on() {
                break;
            }
            if !self.poll(&mut consumer, &mut reading, Duration::from_millis(5))? {
                return Ok(());
            }
            if self.random.one_in(3) {
                self.commit(group, &mut consumer)?;
            }
        }
        Ok(())
    }

    /// Commits what was polled. A position may also have moved without a poll, to the start of a log
    /// that has lost what came before.
    fn commit(&self, group: &str, consumer: &mut Consumer) -> Step {
        let mut positions = Vec::new();
        for of in consumer.assignment() {
            let (Ok(topic), Ok(position)) = (self.broker.topic(of.topic()), consumer.position(&of))
            else {
                continue;
            };
            positions.push(((topic.id(), of.partition()), position));
        }
        for (place, position) in &positions {
            say(&Report::Committing(group.to_owned(), place.clone(), *position))?;
        }
        if let Err(error) = consumer.commit() {
            return self.excuse("commit", None, &error);
        }
        let deleting = self.deleting.lock().expect("no thread panics with it").clone();
        positions.retain(|(place, _)| !deleting.contains(&place.0));
        for (place, position) in positions {
            say(&Report::Committed(group.to_owned(), place, position))?;
        }
        Ok(())
    }

    /// Polls once and checks what comes; `false` if the consumer has lost a topic.
    fn poll(
        &self,
        consumer: &mut Consumer,
        reading: &mut Reading,
        timeout: Duration,
    ) -> Result<bool, Stopped> {
        let records = match consumer.poll(timeout) {
            Ok(records) => records,
            Err(error) => return self.excuse("poll", None, &error).map(|()| false),
        };
        let mut touched = BTreeSet::new();
        for record in &records {
            let start = || {
                let topic = self.broker.topic(record.topic()).ok()?;
                Some((topic.id(), topic.partition(record.partition()).ok()?.log_start_offset()))
            };
            match reading.take(record.value(), record.partition(), record.offset(), start) {
                Ok(place) => {
                    touched.insert(place);
                }
                Err(text) => {
                    say(&Report::Wrong(format!("read {}: {text}", record.topic_partition())))?;
                    return Err(Stopped);
                }
            }
        }
        for place in touched {
            let next = reading.partitions[&place].next;
            say(&Report::Seen(place, next))?;
        }
        Ok(true)
    }

    /// Reads one partition after the other from its start.
    fn read_all(&mut self) -> Step {
        while self.goes_on() {
            let Some(partition) = self.partition()? else {
                self.rest();
                continue;
            };
            let end = partition.high_watermark();
            let of = partition.topic_partition().clone();
            let mut consumer = match self.broker.consumer().assign([of.clone()]) {
                Ok(consumer) => consumer,
                Err(error) => {
                    self.excuse("assign", None, &error)?;
                    continue;
                }
            };
            let mut reading = Reading::default();
            while self.goes_on() && consumer.position(&of).is_ok_and(|position| position < end) {
                if !self.poll(&mut consumer, &mut reading, Duration::from_millis(20))? {
                    break;
                }
            }
        }
        Ok(())
    }

    // --- sharing ---------------------------------------------------------------------------------

    fn share(&mut self) -> Step {
        while self.goes_on() {
            let group = *self.random.choose(&SHARE_GROUPS).expect("there are some");
            let names: Vec<_> =
                self.topics()?.iter().map(|topic| topic.name().to_owned()).collect();
            if names.is_empty() {
                self.rest();
                continue;
            }
            let records_max = 1 + self.random.below(40) as usize;
            let builder = share_consumer(self.broker, group).max_poll_records(records_max);
            match builder.subscribe(names) {
                Ok(worker) => self.work_through(group, worker)?,
                Err(error) => self.excuse("subscribe in a share group", None, &error)?,
            }
        }
        Ok(())
    }

    fn work_through(&mut self, group: &str, mut worker: ShareConsumer) -> Step {
        for _ in 0..1 + self.random.below(40) {
            if !self.goes_on() {
                break;
            }
            let records = match worker.poll(Duration::from_millis(5)) {
                Ok(records) => records,
                Err(error) => return self.excuse("poll in a share group", None, &error),
            };
            for record in &records {
                self.handle(group, &record)?;
            }
        }
        Ok(())
    }

    /// Is done with a record, gives it back, or leaves it to be given back with the others.
    fn handle(&mut self, group: &str, record: &ShareRecord<'_>) -> Step {
        let (at, offset) = (record.topic_partition(), record.offset());
        let payload = match Payload::parse(record.value().unwrap_or_default()) {
            Ok(payload) => payload,
            Err(text) => return say(&Report::Wrong(format!("shared {at}, {offset}: {text}"))),
        };
        let place = (payload.topic.to_owned(), at.partition());
        let done = match self.random.below(8) {
            0 => return Ok(()),
            1 => record.release(),
            way => {
                say(&Report::Finishing(group.to_owned(), place.clone(), offset))?;
                let done = if way == 2 { record.reject("no good") } else { record.accept() };
                if done.is_ok() {
                    return say(&Report::Finished(group.to_owned(), place, offset));
                }
                done
            }
        };
        let is_given_up = || {
            let partition =
                self.broker.topic(at.topic()).and_then(|of| of.partition(at.partition()));
            partition.is_ok_and(|partition| partition.log_start_offset() > offset)
        };
        match done {
            // Retention has passed by while it was held: nobody gets it any more.
            Err(Error::NotAcquired { .. }) if is_given_up() => Ok(()),
            Err(error) => self.excuse("acknowledge", Some(&place.0), &error),
            Ok(()) => Ok(()),
        }
    }

    // --- topics ----------------------------------------------------------------------------------

    fn change_topics(&mut self) -> Step {
        while self.goes_on() {
            let topics = self.topics()?;
            let name = *self.random.choose(&TOPICS).expect("there are some");
            match topics.iter().find(|topic| topic.name() == name) {
                None => self.create(name)?,
                Some(topic) => match self.random.below(12) {
                    0 => self.delete(topic)?,
                    1 => self.add_partition(topic)?,
                    2..5 => self.alter(topic)?,
                    _ => self.give_up_records(topic)?,
                },
            }
            self.rest();
        }
        Ok(())
    }

    fn retention(&mut self) -> u64 {
        (64 << 10) << self.random.below(4)
    }

    fn create(&mut self, name: &str) -> Step {
        let (partitions, retention) = (1 + self.random.below(3) as u32, self.retention());
        let interval = Duration::from_millis(50 << self.random.below(3));
        let durability = match self.random.below(2) {
            0 => Durability::Fsync,
            _ => Durability::Written { flush_interval: interval },
        };
        let compression = match self.random.below(4) {
            0 => Some(Compression::Lz4),
            1 => Some(Compression::Zstd { level: 1 }),
            _ => None,
        };
        let config = TopicConfig::default()
            .partitions(partitions)
            .durability(durability)
            .compression(compression)
            .max_message_bytes(16 << 10)
            .segment_bytes((16 << 10) << self.random.below(4))
            .index_interval_bytes(512)
            .retention_bytes(retention);
        say(&Report::Creating(name.to_owned()))?;
        match self.broker.create_topic(name, config) {
            Ok(topic) => say(&Report::Created(name.to_owned(), topic.id(), partitions, retention)),
            Err(error) => self.excuse("create a topic", Some(""), &error),
        }
    }

    fn delete(&mut self, topic: &Topic) -> Step {
        let id = topic.id();
        say(&Report::Deleting(id.clone()))?;
        self.deleting.lock().expect("no thread panics with it").insert(id.clone());
        match self.broker.delete_topic(topic.name()) {
            Ok(()) => say(&Report::Deleted(id)),
            Err(error) => self.excuse("delete a topic", Some(""), &error),
        }
    }

    fn add_partition(&mut self, topic: &Topic) -> Step {
        let total = topic.partition_count() + 1;
        if total > 4 {
            return Ok(());
        }
        say(&Report::Adding(topic.id(), total))?;
        match self.broker.add_partitions(topic.name(), total) {
            Ok(()) => say(&Report::Added(topic.id(), total)),
            Err(error) => self.excuse("add a partition", Some(""), &error),
        }
    }

    fn alter(&mut self, topic: &Topic) -> Step {
        let retention = self.retention();
        say(&Report::Altering(topic.id(), retention))?;
        match self.broker.alter_topic(topic.name(), topic.config().retention_bytes(retention)) {
            Ok(()) => say(&Report::Altered(topic.id(), retention)),
            Err(error) => self.excuse("alter a topic", Some(""), &error),
        }
    }

    fn give_up_records(&mut self, topic: &Topic) -> Step {
        let partitions = topic.partitions();
        let Some(partition) = self.random.choose(&partitions) else { return Ok(()) };
        let place = (topic.id(), partition.topic_partition().partition());
        let (start, end) = (partition.log_start_offset(), partition.high_watermark());
        // Sometimes all of them: then nothing but a file's name says which offset comes next.
        let share = if self.random.one_in(4) { 4 } else { self.random.below(3) };
        let before = start + end.saturating_sub(start) * share / 4;
        say(&Report::Giving(place.clone(), before))?;
        match partition.delete_records(before) {
            Ok(start) => say(&Report::Given(place, start)),
            Err(error) => self.excuse("give up records", Some(""), &error),
        }
    }
}

/// Whether it is what a call on a deleted topic may say.
fn is_of_deletion(error: &Error) -> bool {
    match error {
        Error::Closed { .. } | Error::UnknownTopic { .. } | Error::UnknownPartition { .. } => true,
        Error::SendFailed { source, .. } => is_of_deletion(source),
        _ => false,
    }
}

/// What a consumer has been given so far.
#[derive(Default)]
struct Reading {
    partitions: BTreeMap<Place, ReadUpTo>,
}

struct ReadUpTo {
    order: Order,
    next: u64,
}

impl Reading {
    /// Checks one record. `start` says which topic is there now, and where its log starts.
    fn take(
        &mut self,
        value: Option<&[u8]>,
        partition: u32,
        offset: u64,
        start: impl FnOnce() -> Option<(String, u64)>,
    ) -> Result<Place, String> {
        let payload = Payload::parse(value.unwrap_or_default())
            .map_err(|text| format!("offset {offset}: {text}"))?;
        let place = (payload.topic.to_owned(), partition);
        let read = self
            .partitions
            .entry(place.clone())
            .or_insert_with(|| ReadUpTo { order: Order::default(), next: offset });
        if offset > read.next {
            // Passed over only if it was given up or deleted meanwhile.
            if let Some((id, start)) = start()
                && id == payload.topic
                && start < offset
            {
                return Err(format!("offset {offset} after {}, start {start}", read.next));
            }
            *read = ReadUpTo { order: Order::default(), next: offset };
        }
        read.order
            .check(&payload, (payload.topic, partition), (offset, read.next))
            .map_err(|text| format!("offset {offset}: {text}"))?;
        read.next = offset + 1;
        Ok(place)
    }
}
