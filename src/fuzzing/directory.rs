//! A whole directory to which anything was done while nobody had it open.
//!
//! Input: how to open and leave it, then a short list of edits. What must hold (contract, clauses 12
//! to 14, 16, 17, 20 to 22, 26, 28):
//!
//! - It opens or gives a typed error; no panic, no hang. Refused or read-only, not one byte changes.
//! - Every record that is read is the one that was written at that offset, unless the edits have
//!   [forged](forgery) another one: otherwise there is a typed error.
//! - What is wrong with one partition is nothing to the others, and what can be derived is not missed.
//! - One edit alone never costs a record below the watermark in silence, nor a committed offset.
//! - What was salvaged can be read to its end. Salvaged into another directory, nothing changes, that
//!   one opens, and every byte is accounted for.
//! - Left and opened again, by a close or a kill, the directory holds the same.

mod edit;
mod forgery;
mod scene;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::edit::Edit;
use self::forgery::{Edited, Forged, has_new_batches};
use self::scene::{
    Files, Held, Scene, builder, committed, partitions_of, read, read_files, write_files,
};
use super::input::Input;
use crate::broker::Broker;
use crate::broker::config::BrokerBuilder;
use crate::broker::salvage::salvage_on;
use crate::consumer::records::OwnedRecord;
use crate::error::{Error, Result};
use crate::fs::FileSystem;
use crate::fs::memory::MemoryFileSystem;
use crate::log::recovery::RecoveryMode;
use crate::record::Record;
use crate::topic::Partition;
use crate::topic::log_manager::{CLEAN_SHUTDOWN_FILE, OpenMode};
use crate::topic::registry::REGISTRY_FILE;
use crate::topic_partition::TopicPartition;

const EDITS_MAX: usize = 6;
const ROOT: &str = "memory";
/// Where what groups have committed is.
const OFFSETS: &str = "__consumer_offsets-0";

/// Edits a directory as the bytes say and judges what is made of it.
pub fn directory(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let Some(how) = input.byte() else { return };
    let scene = if how & 1 == 0 { Scene::closed() } else { Scene::killed() };
    let Some(places) = input.byte() else { return };
    let mut files = scene.files.clone();
    let mut edits = Vec::new();
    while edits.len() < EDITS_MAX {
        let Some(edit) = Edit::decode(&mut input, &files) else { break };
        edit.apply(&mut files);
        edits.push(edit);
    }
    let mode = if how & 2 == 0 { RecoveryMode::Refuse } else { RecoveryMode::Salvage };
    let all =
        scene.files.keys().chain(files.keys().filter(|path| !scene.files.contains_key(*path)));
    let differing =
        all.filter(|path| files.get(*path) != scene.files.get(*path)).cloned().collect();
    let case = Case { scene, edits, files, differing, forged: BTreeMap::new(), mode, places };
    case.with_forgeries().judge(how & 4 == 0);
}

/// An edited directory.
struct Case {
    scene: &'static Scene,
    edits: Vec<Edit>,
    files: Files,
    /// Which of them are not as they were, are new or are gone.
    differing: Vec<PathBuf>,
    forged: BTreeMap<TopicPartition, Forged>,
    mode: RecoveryMode,
    /// Where in each partition a reader begins.
    places: u8,
}

/// What was read from each partition, and what stopped it if not the end.
type Found = BTreeMap<TopicPartition, (Vec<OwnedRecord>, Option<Error>)>;

impl Case {
    fn with_forgeries(mut self) -> Self {
        let edited = Edited { scene: self.scene, files: &self.files, mode: self.mode };
        for of in self.scene.held.keys() {
            let forged =
                if self.is_untouched(of) { Forged::default() } else { Forged::find(of, &edited) };
            self.forged.insert(of.clone(), forged);
        }
        self
    }

    fn judge(&self, close: bool) {
        let fs = Arc::new(MemoryFileSystem::new());
        write_files(&*fs, Path::new(ROOT), &self.files);
        self.judge_salvage(&fs);
        if let Some(broker) = self.opened(&fs, builder(&fs).open_read_only()) {
            self.judge_records(&broker);
            drop(broker);
            self.check_unchanged(&fs, format_args!("opened read-only"));
        }
        let Some(broker) = self.opened(&fs, builder(&fs).recovery_mode(self.mode).open()) else {
            self.check(!self.only_derived_files_differ(), format_args!("refused without a reason"));
            return;
        };
        let mut found = self.judge_records(&broker);
        self.judge_what_is_missing(&broker, &found);
        let group = self.judge_group(&broker);
        self.append_to_each(&broker, &mut found);
        let is_intact = self.judge_verification(&broker, &found);
        if close {
            broker.close().expect("memory does not fail");
        }
        drop(broker);
        let before = read_files(&*fs, Path::new(ROOT));
        match builder(&fs).open() {
            Ok(broker) => {
                self.judge_again(&broker, &found);
                let again = committed(&broker).expect("it is open");
                self.check(group == again, format_args!("opened again, the group is elsewhere"));
            }
            // Damage that the first open had no reason to look at.
            Err(error) => {
                self.check(!is_intact, format_args!("cannot be opened again: {error}"));
                self.check(
                    before == read_files(&*fs, Path::new(ROOT)),
                    format_args!("refused and changed"),
                );
            }
        }
    }

    /// Salvages into another directory, and judges what is in that.
    fn judge_salvage(&self, fs: &Arc<MemoryFileSystem>) {
        let shared: Arc<dyn FileSystem> = Arc::<MemoryFileSystem>::clone(fs);
        let saved = Path::new("saved");
        let salvaged = salvage_on(&shared, Path::new(ROOT), saved);
        self.check_unchanged(fs, format_args!("salvaged"));
        let report = match salvaged {
            Ok(report) => report,
            Err(error) => {
                let is_none = matches!(error, Error::NotALogDirectory { .. })
                    && !self.files.contains_key(Path::new(REGISTRY_FILE));
                let refused = format_args!("salvage refused with {error}");
                self.check(is_none || is_told(&error), refused);
                return;
            }
        };
        for file in &report.files {
            let parts = file.parts.iter().map(|part| part.bytes.end - part.bytes.start);
            self.check(parts.sum::<u64>() == file.size, format_args!("not accounted: {file:?}"));
        }
        let saved = BrokerBuilder::new(saved.to_owned()).file_system(shared);
        let saved = saved.background_thread(false).open().expect("what was salvaged opens");
        let cut = saved.recovery_report().cut().count();
        self.check(cut == 0, format_args!("salvaged, and cut all the same"));
        if self.mode == RecoveryMode::Salvage {
            self.judge_records(&saved);
        }
    }

    fn check(&self, is_right: bool, what: fmt::Arguments<'_>) {
        assert!(is_right, "{what}\nafter {:?}", self.edits);
    }

    /// The broker, unless it was refused in a way that may be.
    fn opened(&self, fs: &MemoryFileSystem, opened: Result<Broker>) -> Option<Broker> {
        match opened {
            Ok(broker) => Some(broker),
            Err(error) => {
                let is_none = matches!(error, Error::NotALogDirectory { .. })
                    && !self.files.contains_key(Path::new(REGISTRY_FILE));
                self.check(is_none || is_told(&error), format_args!("refused with {error}"));
                if !self.may_be_salvaged_in_vain() {
                    self.check_unchanged(fs, format_args!("refused with {error}"));
                }
                None
            }
        }
    }

    fn check_unchanged(&self, fs: &MemoryFileSystem, when: fmt::Arguments<'_>) {
        let mut found = read_files(fs, Path::new(ROOT));
        // The lock is taken before anything is looked at.
        found.remove(Path::new(".lock"));
        self.check(found == self.files, format_args!("{when}, and changed all the same"));
    }

    /// Every record is right, from wherever it is read.
    fn judge_records(&self, broker: &Broker) -> Found {
        let mut found = Found::new();
        for partition in partitions_of(broker) {
            let of = partition.topic_partition();
            let Some(held) = self.scene.held.get(of) else { continue };
            let (start, end) = (partition.log_start_offset(), partition.high_watermark());
            let (records, error) = read(broker, of, start);
            self.judge_read(held, (start, end), &records, error.as_ref());
            let place = start + u64::from(self.places) % (end - start + 1);
            let (later, later_error) = read(broker, of, place);
            self.judge_read(held, (place, end), &later, later_error.as_ref());
            // What nobody needs, a segment too many or what follows the last batch of one, is met by
            // some who read and not by others, most of all by who follows a writer.
            let is_writer = broker.manager().mode() == OpenMode::Write;
            if error.is_none() && is_writer && self.has_its_segments(of) {
                let rest = records.iter().position(|record| record.offset >= place);
                let same = later == records[rest.unwrap_or(records.len())..];
                let same = same && later_error.is_none();
                self.check(same, format_args!("{of} from {place} differs, {later_error:?}"));
            }
            if is_writer && self.mode == RecoveryMode::Salvage {
                let readable = error.is_none() || !self.forged[of].is_empty();
                self.check(readable, format_args!("{of} was salvaged: {error:?}"));
            }
            if error.is_none() {
                self.judge_timestamps(&partition, &records);
            }
            found.insert(of.clone(), (records, error));
        }
        found
    }

    fn judge_read(
        &self,
        held: &Held,
        (start, end): (u64, u64),
        records: &[OwnedRecord],
        error: Option<&Error>,
    ) {
        let mut next = start;
        for record in records {
            let of = &record.topic_partition;
            let forged = &self.forged[of];
            let written = usize::try_from(record.offset).ok().and_then(|at| held.records.get(at));
            let is_right = written == Some(record) || forged.holds(record);
            self.check(is_right, format_args!("a wrong record: {record:?}"));
            // Salvage leaves gaps, and whoever forges a batch can.
            let in_order = record.offset == next
                || (record.offset > next && (self.may_have_gaps() || !forged.is_empty()));
            self.check(in_order, format_args!("{of}: {} instead of {next}", record.offset));
            next = record.offset + 1;
        }
        match error {
            Some(error) => self.check(is_told(error), format_args!("reading ends with {error}")),
            None => self.check(next <= end, format_args!("more than there is")),
        }
        let complete = next == end || self.may_have_gaps() || self.any_forged();
        self.check(error.is_some() || complete, format_args!("ends at {next}, expected {end}"));
    }

    /// The time of a record leads to the first one that is as late, or to an error.
    fn judge_timestamps(&self, partition: &Partition, records: &[OwnedRecord]) {
        let Some(number) = usize::from(self.places).checked_rem(records.len()) else { return };
        let of = partition.topic_partition();
        let time = records[number].timestamp;
        let first = records.iter().find(|record| record.timestamp >= time);
        let expected = first.map(|record| (record.offset, record.timestamp));
        let found = partition.offset_for_timestamp(time);
        let is_right = match &found {
            Ok(found) => *found == expected || self.forged[of].may_lead_astray(),
            Err(error) => is_told(error),
        };
        self.check(is_right, format_args!("{of}, {time}: {found:?}, expected {expected:?}"));
    }

    fn judge_what_is_missing(&self, broker: &Broker, found: &Found) {
        for (of, held) in &self.scene.held {
            let Some((records, error)) = found.get(of) else {
                self.check(self.registry_differs(), format_args!("{of} is missing"));
                continue;
            };
            if self.is_untouched(of) {
                let log_start = usize::try_from(held.log_start).expect("it is small");
                let complete = error.is_none() && *records == held.records[log_start..];
                self.check(complete, format_args!("{of} was not touched, and is not the same"));
            }
            if error.is_none() && self.edits.len() == 1 && !self.any_forged() {
                self.judge_one_edit(broker, held, records);
            }
        }
    }

    /// After a single edit nothing that was synced is missing in silence, and nothing else unless
    /// the edit looks like a power cut.
    fn judge_one_edit(&self, broker: &Broker, held: &Held, records: &[OwnedRecord]) {
        let [edit] = &self.edits[..] else { return };
        let of = &held.records[0].topic_partition;
        let report = broker.recovery_report().partitions.iter().find(|found| {
            found.topic_partition == *of && (found.cut.is_some() || !found.lost.is_empty())
        });
        let is_lost = |offset: u64| {
            report.is_some_and(|report| report.lost.iter().any(|lost| lost.contains(&offset)))
        };
        let log_start = if edit.moves_files() {
            records.first().map_or(held.log_start, |record| record.offset)
        } else {
            held.log_start
        };
        let there = |record: &OwnedRecord| records.iter().any(|found| found == record);
        let written = held.records.iter().filter(|record| record.offset >= log_start);
        for missing in written.filter(|record| !there(record)) {
            let offset = missing.offset;
            let above = offset >= held.watermark || self.mode == RecoveryMode::Salvage;
            let told = report.is_some() || (above && edit.may_pass_unnoticed());
            // A swap can take both the records and the word that they were safe.
            let fits = is_lost(offset) || (told && (above || edit.moves_files()));
            self.check(fits, format_args!("{of}@{offset} is missing, and nobody says so"));
        }
    }

    /// The group is where it was, or as near as the end of a log allows.
    fn judge_group(&self, broker: &Broker) -> BTreeMap<TopicPartition, u64> {
        let found = committed(broker).expect("it is open");
        let few = self.edits.len() == 1 && self.mode == RecoveryMode::Refuse;
        let alone = few && self.edits.iter().all(|edit| !edit.moves_files());
        if !alone && !self.only_differ_outside(Path::new(OFFSETS)) {
            return found;
        }
        for (of, offset) in self.scene.commits.last().expect("there were some") {
            let partition = broker.topic(of.topic()).and_then(|t| t.partition(of.partition()));
            let Ok(partition) = partition else { continue };
            let end = partition.log_end_offset();
            let is_right = found.get(of) == Some(&end.min(*offset));
            self.check(is_right, format_args!("the group is at {found:?}, {of} ends at {end}"));
        }
        found
    }

    /// What is appended goes to the end.
    fn append_to_each(&self, broker: &Broker, found: &mut Found) {
        for partition in partitions_of(broker) {
            let Some((records, error)) = found.get_mut(partition.topic_partition()) else {
                continue;
            };
            let end = partition.log_end_offset();
            match partition.append(&[Record::new("next")]) {
                Ok(at) => self.check(at.offset == end, format_args!("{at} instead of {end}")),
                Err(error) => {
                    self.check(is_told(&error), format_args!("appending ends with {error}"));
                    continue;
                }
            }
            if error.is_none() {
                let (next, error) = read(broker, partition.topic_partition(), end);
                self.check(
                    next.len() == 1 && error.is_none(),
                    format_args!("what was appended is not there"),
                );
                records.extend(next);
            }
        }
    }

    /// Whether all is well, said by the one who reads everything. Readers must agree.
    fn judge_verification(&self, broker: &Broker, found: &Found) -> bool {
        let report = broker.verify().expect("damage is no error here");
        for damaged in &report.partitions {
            let Some((_, error)) = found.get(&damaged.topic_partition) else { continue };
            // It reads what was deleted as well.
            let agrees = error.is_none() || !damaged.damage.is_empty();
            self.check(agrees, format_args!("{error:?}, and verified"));
        }
        report.is_intact()
    }

    fn judge_again(&self, broker: &Broker, found: &Found) {
        for (of, (records, error)) in found {
            let partition = broker.topic(of.topic()).and_then(|t| t.partition(of.partition()));
            let start = partition.expect("it was there").log_start_offset();
            let (again, error_again) = read(broker, of, start);
            let same = again.starts_with(records) || (error.is_some() && error_again.is_some());
            self.check(same, format_args!("{of} is another log when it is opened again"));
            if error.is_none() {
                self.check(again.len() == records.len(), format_args!("{of} has grown"));
                self.check(error_again.is_none(), format_args!("{of}: {error_again:?}"));
            }
        }
    }

    /// Salvage mends logs before anybody looks at what is in them: what groups have committed may
    /// make no sense, and have a right checksum.
    fn may_be_salvaged_in_vain(&self) -> bool {
        let edited = Edited { scene: self.scene, files: &self.files, mode: self.mode };
        self.mode == RecoveryMode::Salvage && has_new_batches(Path::new(OFFSETS), &edited)
    }

    fn may_have_gaps(&self) -> bool {
        self.mode == RecoveryMode::Salvage
    }

    fn any_forged(&self) -> bool {
        self.forged.values().any(|forged| !forged.is_empty())
    }

    /// Nothing of the partition is different, and nothing that tells which partitions there are.
    fn is_untouched(&self, of: &TopicPartition) -> bool {
        self.only_differ_outside(Path::new(&of.directory_name()))
    }

    fn registry_differs(&self) -> bool {
        self.differing.iter().any(|path| path == Path::new(REGISTRY_FILE))
    }

    /// There are segments of the names there were, and no others.
    fn has_its_segments(&self, of: &TopicPartition) -> bool {
        let directory = of.directory_name();
        self.differing.iter().all(|path| {
            let is_segment = path.extension().is_some_and(|kind| kind == "log");
            let is_changed = self.files.contains_key(path) && self.scene.files.contains_key(path);
            !path.starts_with(&directory) || !is_segment || is_changed
        })
    }

    fn only_differ_outside(&self, directory: &Path) -> bool {
        self.differing
            .iter()
            .all(|path| !path.starts_with(directory) && path != Path::new(REGISTRY_FILE))
    }

    /// What is different can be made anew from what is not.
    fn only_derived_files_differ(&self) -> bool {
        const DERIVED: [&str; 4] =
            ["index", "timeindex", "leader-epoch-checkpoint", CLEAN_SHUTDOWN_FILE];
        self.differing.iter().all(|path| {
            let names = [path.extension(), path.file_name()];
            names.into_iter().flatten().any(|name| DERIVED.iter().any(|derived| name == *derived))
        })
    }
}

/// Whether an error says what is wrong with the files.
fn is_told(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_) | Error::UnsupportedFormat { .. })
}
