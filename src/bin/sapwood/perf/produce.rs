//! `sapwood perf produce`.

use std::collections::VecDeque;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use sapwood::{Broker, Compression, Delivery, Error, Producer, Record, Topic, TopicConfig};

use super::{Latencies, Report, topic_settings};
use crate::directory::{Directory, find_topic};
use crate::exit::Result;
use crate::settings::{NameValue, configure, configure_producer};
use crate::signals::Interrupt;

/// How long a thread sleeps that waits for its next send or for an answer: latencies are exact to
/// this.
const NAP: Duration = Duration::from_micros(100);

/// Measure how fast records are sent, and how soon they are answered
///
/// The records stay in the topic: choose one for the purpose. The latency is the time from the send
/// to the answer, which comes when the record is as safe as the topic's durability says.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood --dir perf perf produce p --create --num-records 1000000 --config durability=written
  sapwood --dir perf perf produce p --num-records 50000 --throughput 5000 --max-in-flight 1")]
pub(crate) struct PerfProduce {
    /// The topic to send to
    topic: String,

    /// Make the topic first, and the directory if there is none
    #[arg(long)]
    create: bool,

    /// With --create: how many partitions the topic has
    #[arg(short, long, value_name = "N", default_value_t = 1, requires = "create")]
    partitions: u32,

    /// With --create: a setting of the topic by Kafka's name, like durability=written; may be given any
    /// number of times
    #[arg(long = "config", value_name = "NAME=VALUE", requires = "create")]
    configs: Vec<NameValue>,

    /// How many records all threads send together
    #[arg(short, long, value_name = "N", default_value_t = 100_000)]
    num_records: u64,

    /// How many bytes a value has
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    record_size: usize,

    /// At most so many records per second, all threads together; -1 for no limit
    #[arg(
        long,
        value_name = "N",
        default_value_t = -1,
        allow_hyphen_values = true,
        value_parser = clap::value_parser!(i64).range(-1..)
    )]
    throughput: i64,

    /// How many threads send through one producer
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,

    /// How many records of a thread may be unanswered; 1 waits for each
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    max_in_flight: u32,

    /// batch.size of the producer, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 16_384)]
    batch_size: usize,

    /// linger.ms of the producer
    #[arg(long, value_name = "MS", default_value_t = 5)]
    linger: u64,

    /// How batches are compressed, if the topic leaves it to the producer: none, lz4 or zstd
    #[arg(short = 'z', long, value_name = "CODEC", default_value = "none")]
    compression: Compression,

    /// Another setting of the producer by Kafka's name; may be given any number of times
    #[arg(long = "producer-property", value_name = "NAME=VALUE")]
    properties: Vec<NameValue>,

    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl PerfProduce {
    pub(super) fn run(&self, directory: &Directory) -> Result {
        let interrupt = Interrupt::install()?;
        let config = configure(TopicConfig::default().partitions(self.partitions), &self.configs)?;
        if self.create {
            directory.create_topic(&self.topic, config)?;
        }
        let report = directory.write(|broker| {
            let topic = find_topic(broker, &self.topic)?;
            self.measure(broker, &topic, &interrupt)
        })?;
        report.print(self.json)?;
        interrupt.check()
    }

    fn measure(&self, broker: &Broker, topic: &Topic, interrupt: &Interrupt) -> Result<Report> {
        let builder = broker
            .producer()
            .batch_size(self.batch_size)
            .linger(Duration::from_millis(self.linger))
            .compression(self.compression);
        let producer = configure_producer(builder, &self.properties)?.build()?;
        // Made beforehand: the values take a while.
        let sendings: Vec<_> = (0..self.threads)
            .map(|number| Sending::new(self, number, &producer, topic, interrupt))
            .collect();
        let started = Instant::now();
        let sent = thread::scope(|scope| {
            let threads: Vec<_> = sendings
                .into_iter()
                .map(|sending| scope.spawn(move || sending.run(started)))
                .collect();
            // A panic of a thread is one of this program.
            let join = |thread: thread::ScopedJoinHandle<'_, _>| thread.join().expect("no panic");
            threads.into_iter().map(join).collect::<Vec<Result<Latencies, Error>>>()
        });
        let took = started.elapsed();
        let mut latencies = Latencies::new();
        for of_thread in sent {
            latencies.add(&of_thread?);
        }
        let records = latencies.0.len();
        Ok(Report {
            settings: self.settings(topic),
            verb: "sent",
            records,
            bytes: records * self.record_size as u64,
            took,
            latency_of: "send to answer",
            latencies,
        })
    }

    fn settings(&self, topic: &Topic) -> Vec<(&'static str, String)> {
        let mut settings = topic_settings(topic);
        let properties: Vec<_> =
            self.properties.iter().map(|set| format!("{}={}", set.name, set.value)).collect();
        settings.extend([
            ("num-records", self.num_records.to_string()),
            ("record-size", self.record_size.to_string()),
            ("throughput", self.throughput.to_string()),
            ("threads", self.threads.to_string()),
            ("max-in-flight", self.max_in_flight.to_string()),
            ("batch.size", self.batch_size.to_string()),
            ("linger.ms", self.linger.to_string()),
            ("compression.type", self.compression.to_string()),
            ("producer properties", properties.join(" ")),
        ]);
        settings.retain(|(_, value)| !value.is_empty());
        settings
    }
}

/// What one thread does.
struct Sending<'a> {
    perf: &'a PerfProduce,
    producer: Producer,
    topic: &'a Topic,
    interrupt: &'a Interrupt,
    /// How many records it sends.
    share: u64,
    values: Values,
    /// What is not answered yet, and since when it is under way.
    in_flight: VecDeque<(Instant, Delivery)>,
    latencies: Latencies,
}

impl<'a> Sending<'a> {
    fn new(
        perf: &'a PerfProduce,
        number: u16,
        producer: &Producer,
        topic: &'a Topic,
        interrupt: &'a Interrupt,
    ) -> Self {
        let threads = u64::from(perf.threads);
        let is_one_more = u64::from(number) < perf.num_records % threads;
        Self {
            perf,
            producer: producer.clone(),
            topic,
            interrupt,
            share: perf.num_records / threads + u64::from(is_one_more),
            values: Values::new(perf.record_size, number),
            in_flight: VecDeque::new(),
            latencies: Latencies::new(),
        }
    }

    fn run(mut self, started: Instant) -> Result<Latencies, Error> {
        for number in 0..self.share {
            self.wait_for_turn(number, started)?;
            // What was sent until an interrupt is a result too.
            if number % 64 == 0 && self.interrupt.check().is_err() {
                break;
            }
            let sent_at = Instant::now();
            let value = self.values.next();
            let delivery = self.producer.send(self.topic, Record::new(value))?;
            self.in_flight.push_back((sent_at, delivery));
            self.take_answers()?;
            if self.in_flight.len() >= self.perf.max_in_flight as usize {
                self.wait_for_oldest()?;
            }
        }
        while !self.in_flight.is_empty() {
            self.wait_for_oldest()?;
        }
        Ok(self.latencies)
    }

    /// Waits until the record is due under a limited rate, counting answers meanwhile.
    fn wait_for_turn(&mut self, number: u64, started: Instant) -> Result<(), Error> {
        let Ok(rate @ 1..) = u64::try_from(self.perf.throughput) else { return Ok(()) };
        #[allow(clippy::cast_precision_loss)] // exact enough for a pace
        let due =
            Duration::from_secs_f64(number as f64 * f64::from(self.perf.threads) / rate as f64);
        while let Some(left) = due.checked_sub(started.elapsed()) {
            if left.is_zero() || self.interrupt.check().is_err() {
                break;
            }
            self.take_answers()?;
            thread::sleep(left.min(NAP));
        }
        Ok(())
    }

    /// Counts the answers that are there, without causing any.
    fn take_answers(&mut self) -> Result<(), Error> {
        while let Some((sent_at, delivery)) = self.in_flight.front() {
            let Some(answer) = delivery.poll() else { return Ok(()) };
            answer?;
            self.latencies.record(sent_at.elapsed());
            self.in_flight.pop_front();
        }
        Ok(())
    }

    fn wait_for_oldest(&mut self) -> Result<(), Error> {
        if let Some((sent_at, delivery)) = self.in_flight.pop_front() {
            delivery.wait()?;
            self.latencies.record(sent_at.elapsed());
        }
        self.take_answers()
    }
}

/// Values of random capital letters, as Kafka's tool sends them. Each is another piece of one text, so
/// that making them costs nothing, and a codec finds about what it finds in records that differ.
struct Values {
    letters: Vec<u8>,
    size: usize,
    at: usize,
}

impl Values {
    /// How much text there is besides the first value.
    const VARIETY: usize = 1 << 20;

    fn new(size: usize, seed: u16) -> Self {
        let mut state = u64::from(seed) + 0x9e37_79b9_7f4a_7c15;
        let letters = (0..size.saturating_add(Self::VARIETY)).map(|_| {
            // Xorshift: any sequence that no codec foresees will do.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u8::try_from(state % 26).map_or(b'A', |letter| b'A' + letter)
        });
        Self { letters: letters.collect(), size, at: 0 }
    }

    fn next(&mut self) -> &[u8] {
        // Coprime with the length of the text: it takes long until a piece comes again.
        self.at = (self.at + 104_729) % Self::VARIETY;
        self.letters.get(self.at..self.at + self.size).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_size_that_was_asked_for_and_differ() {
        let mut values = Values::new(100, 0);
        let first = values.next().to_vec();
        assert_eq!((first.len(), values.next().len()), (100, 100));
        assert_ne!(first, values.next());
        assert_eq!(Values::new(0, 0).next(), b"");
    }
}
