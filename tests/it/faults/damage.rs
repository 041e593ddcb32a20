//! Damage at rest (fault F5; clauses 12, 13, 16, 17, 20-22): every byte of every file of a directory
//! flipped, zeroed, or the last one there is; every file gone. The log is the same, or a typed error
//! says what is wrong and not one byte has changed, or what is missing lay above the watermark and is
//! reported as cut.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sapwood::{Broker, Error, OffsetAndMetadata, SimulatedDisk, Timestamp, TopicPartition};

use super::journal::open;
use super::long;
use super::workload::{GROUP, Op, SYNCED, Setup, WRITTEN, World};

/// A directory, and what is in it.
struct Scene {
    disk: SimulatedDisk,
    files: BTreeMap<PathBuf, Vec<u8>>,
    held: BTreeMap<&'static str, Held>,
    committed: Option<u64>,
}

/// One thing that is done to a file.
enum Damage {
    Changed(Vec<u8>),
    Cut(Vec<u8>),
    Gone,
}

/// What a partition holds.
struct Held {
    rows: Vec<Row>,
    /// Everything below it was synced.
    watermark: u64,
}

type Row = (u64, Timestamp, Vec<u8>);

impl Scene {
    /// Several segments, some of their records deleted, and a group.
    fn new(closed: bool) -> Self {
        let mut world = World::new(Setup::ALL[3]);
        let filled = [Op::Send, Op::AppendWritten, Op::Roll, Op::Flush, Op::Commit, Op::Maintain];
        let tail = [Op::AppendWritten, Op::AppendWritten, Op::AppendSynced];
        for op in filled.into_iter().cycle().take(18).chain([Op::DeleteRecords]).chain(tail) {
            world.apply(op).unwrap();
        }
        let broker = world.broker().unwrap();
        note_much(broker);
        let held = [SYNCED, WRITTEN].map(|topic| {
            let watermark = broker.topic(topic).unwrap().partition(0).unwrap().recovery_point();
            let (rows, error) = read(broker, topic);
            assert!(error.is_none(), "{error:?}");
            (topic, Held { rows, watermark })
        });
        let committed = committed(broker).unwrap();
        if closed {
            broker.close().unwrap();
        }
        let disk = world.disk.snapshot();
        Self { files: disk.files(), disk, held: held.into(), committed }
    }

    /// Opens the directory with one file damaged.
    fn judge(&self, path: &Path, damage: Damage) -> Result<(), String> {
        let disk = self.disk.snapshot();
        // What ends between two batches above the watermark looks like what a power cut leaves, and
        // nobody can tell.
        let may_pass = !matches!(damage, Damage::Changed(_));
        match damage {
            Damage::Changed(bytes) | Damage::Cut(bytes) => disk.damage(path, bytes),
            Damage::Gone => disk.lose(path),
        }
        let before = disk.files();
        let broker = match open(&disk) {
            Ok(broker) => broker,
            Err(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => {
                // The lock is taken before anything is looked at.
                let without_lock = |mut files: BTreeMap<PathBuf, Vec<u8>>| {
                    files.remove(Path::new("data/.lock"));
                    files
                };
                return if without_lock(before) == without_lock(disk.files()) {
                    Ok(())
                } else {
                    Err("refused, and bytes were changed".to_owned())
                };
            }
            Err(error) => return Err(format!("refused with {error}")),
        };
        for (topic, held) in &self.held {
            let judged = self.judge_topic(&broker, topic, held, may_pass);
            judged.map_err(|what| format!("{topic}: {what}"))?;
        }
        match committed(&broker) {
            Ok(found) if found == self.committed => Ok(()),
            found => Err(format!("the group is at {found:?}, expected {:?}", self.committed)),
        }
    }

    fn judge_topic(
        &self,
        broker: &Broker,
        topic: &str,
        held: &Held,
        may_pass: bool,
    ) -> Result<(), String> {
        let (rows, error) = read(broker, topic);
        let is_held = |row: &Row| held.rows.iter().any(|held| held == row);
        if let Some(row) = rows.iter().find(|row| !is_held(row)) {
            return Err(format!("a wrong record, {row:?}"));
        }
        match error {
            Some(Error::Corrupt(_) | Error::UnsupportedFormat { .. }) => return Ok(()),
            Some(error) => return Err(error.to_string()),
            None => {}
        }
        let cut = broker.recovery_report().cut().find(|cut| cut.topic_partition.topic() == topic);
        let is_told = may_pass || cut.is_some();
        let end = rows.last().map_or(0, |row| row.0 + 1);
        let missing = held.rows.iter().filter(|held| !rows.contains(held));
        for row in missing {
            if !is_told || row.0 < held.watermark || row.0 < end {
                return Err(format!("record {} is missing, and nobody says so", row.0));
            }
        }
        Ok(())
    }
}

/// Commits so much that a recovery, which goes by the index, does not read the whole log of committed
/// offsets; opening the groups does.
fn note_much(broker: &Broker) {
    let address = TopicPartition::new(SYNCED, 0);
    let mut consumer = broker.consumer().group(GROUP).assign([address.clone()]).unwrap();
    let noted = OffsetAndMetadata::new(1).metadata("n".repeat(1_500));
    for _ in 0..6 {
        consumer.commit_offsets([(address.clone(), noted.clone())]).unwrap();
    }
}

/// Reads a topic's only partition until there is no more, or an error.
fn read(broker: &Broker, topic: &str) -> (Vec<Row>, Option<Error>) {
    let mut rows = Vec::new();
    let read =
        broker.consumer().assign([TopicPartition::new(topic, 0)]).and_then(|mut consumer| {
            loop {
                let records = consumer.poll(Duration::ZERO)?;
                // A library that is broken may never come to an end.
                if records.is_empty() || rows.len() > 1_000 {
                    return Ok(());
                }
                let row = |record: sapwood::ConsumerRecord<'_>| {
                    let value = record.value().unwrap_or_default().to_vec();
                    (record.offset(), record.timestamp(), value)
                };
                rows.extend(records.iter().map(row));
            }
        });
    (rows, read.err())
}

fn committed(broker: &Broker) -> sapwood::Result<Option<u64>> {
    let group = broker.describe_group(GROUP)?;
    Ok(group.and_then(|group| Some(group.offsets.first()?.committed.offset)))
}

/// Which bytes of a file are worth a case: all but most of the zeros that large files are full of.
fn places(bytes: &[u8], stride: usize) -> impl Iterator<Item = usize> {
    (0..bytes.len()).filter(move |at| (bytes[*at] != 0 && at % stride == 0) || at % 997 == 0)
}

/// Does everything to every file; returns how many cases there were, or the first wrong one.
pub(super) fn damage_everything(closed: bool, stride: usize) -> Result<u64, String> {
    let scene = Scene::new(closed);
    let mut cases = 0;
    let mut case = |path: &Path, what: &dyn std::fmt::Display, damage: Damage| {
        cases += 1;
        let judged = scene.judge(path, damage);
        judged.map_err(|wrong| format!("closed: {closed}, {}, {what}: {wrong}", path.display()))
    };
    for (path, bytes) in &scene.files {
        case(path, &"gone", Damage::Gone)?;
        case(path, &"nothing but rubbish", Damage::Changed(b"rubbish ".repeat(200)))?;
        for at in places(bytes, stride) {
            for (what, byte) in [("zeroed", 0), ("flipped", bytes[at] ^ 1 << (at % 8))] {
                let mut damaged = bytes.clone();
                damaged[at] = byte;
                case(path, &format_args!("byte {at} {what}"), Damage::Changed(damaged))?;
            }
            case(path, &format_args!("cut to {at}"), Damage::Cut(bytes[..at].to_vec()))?;
        }
    }
    Ok(cases)
}

#[test]
fn no_damaged_byte_is_ever_served_or_passed_over_in_silence() {
    let stride = if long() { 1 } else { 5 };
    for closed in [true, false] {
        let cases = damage_everything(closed, stride).unwrap();
        println!("{cases} damaged directories judged, closed: {closed}");
        assert!(cases > 1_000);
    }
}
