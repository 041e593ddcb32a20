//! Odd and malformed batches: Kafka's verdict, ours, and why they differ where they do.

use super::read;
use crate::record::batch::{BatchError, RecordBatch};
use crate::record::control::ControlRecord;
use crate::record::vectors::{hex, load};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Accept,
    Incomplete,
    /// Header or checksum are wrong: [`RecordBatch::parse`] or its checksum fails.
    Reject,
    /// Those are fine and the records are not.
    RejectOnIteration,
    /// Not known to this version, whatever it may be.
    Unsupported,
    /// Only with a feature; with it, the verdict is Kafka's.
    NeedsFeature,
}
use Verdict::{Accept, Incomplete, NeedsFeature, Reject, RejectOnIteration, Unsupported};

const SAME: &str = "";
const UNKNOWN_BITS: &str = "what is not understood is never read as if it were (clause 20)";
const AT_ONCE: &str = "counts and offsets are compared when the header is parsed";

const TABLE: [(&str, Verdict, Verdict, &str); 28] = [
    ("bad_crc_payload", Reject, Reject, SAME),
    ("leader_epoch_changed_still_valid", Accept, Accept, SAME),
    ("base_offset_changed_still_valid", Accept, Accept, SAME),
    ("truncated_by_1", Incomplete, Incomplete, SAME),
    ("batch_length_13", Reject, Reject, SAME),
    ("batch_length_48_below_min_49", Reject, Reject, SAME),
    ("count_too_small", RejectOnIteration, RejectOnIteration, SAME),
    ("count_too_large", RejectOnIteration, Reject, AT_ONCE),
    ("trailing_byte_after_records", RejectOnIteration, RejectOnIteration, SAME),
    ("codec_5", RejectOnIteration, Unsupported, UNKNOWN_BITS),
    (
        "control_type_9",
        RejectOnIteration,
        Accept,
        "only Kafka's marker parser throws; its consumers skip unknown types, as we do",
    ),
    ("unknown_attribute_bits_0x7f80_set", Accept, Unsupported, UNKNOWN_BITS),
    ("magic_3", Reject, Unsupported, UNKNOWN_BITS),
    ("lz4_linked_blocks_64k", RejectOnIteration, RejectOnIteration, SAME),
    ("lz4_indep_content_checksum_size_blockchecksum_256k", Accept, Accept, SAME),
    ("lz4_indep_4MB_blocks", Accept, Accept, SAME),
    ("snappy_google_framed", RejectOnIteration, NeedsFeature, SAME),
    ("gzip_two_members", Accept, NeedsFeature, SAME),
    ("zstd_two_frames", Accept, Accept, SAME),
    ("zstd_checksum_no_size", Accept, Accept, SAME),
    ("zstd_trailing_garbage", RejectOnIteration, RejectOnIteration, SAME),
    ("lz4_trailing_garbage", Accept, Accept, SAME),
    (
        "negative_last_offset_delta",
        Accept,
        Reject,
        "nothing writes it, and the log would run backwards after such a batch",
    ),
    (
        "offset_deltas_decreasing",
        Accept,
        RejectOnIteration,
        "nothing writes it, and a consumer's position would run backwards",
    ),
    ("non_minimal_varint_ts", Accept, Accept, SAME),
    ("record_attributes_0x7f", Accept, Accept, SAME),
    ("key_length_minus_2", Accept, Accept, SAME),
    ("header_count_minus_1", RejectOnIteration, RejectOnIteration, SAME),
];

fn verdict(bytes: &[u8]) -> Verdict {
    let header = RecordBatch::parse(bytes).and_then(|batch| batch.verify_checksum());
    match (header, read(bytes)) {
        (Ok(()), Ok(_)) => Accept,
        (Err(BatchError::Incomplete { .. }), _) => Incomplete,
        (Err(BatchError::Corrupt(_)), _) => Reject,
        (Err(BatchError::Unsupported(_)), _) => Unsupported,
        (Ok(()), Err(BatchError::Corrupt(_))) => RejectOnIteration,
        (Ok(()), Err(BatchError::CodecUnavailable { .. })) => NeedsFeature,
        outcome => panic!("unexpected: {outcome:?}"),
    }
}

#[test]
fn odd_batches_get_kafkas_verdict_unless_there_is_a_reason() {
    let vectors = load();
    let cases = vectors["edge_cases"].as_array().unwrap();
    assert_eq!(cases.len(), TABLE.len());
    for (case, (name, kafkas, expected, why)) in cases.iter().zip(TABLE) {
        assert_eq!(case["name"], name);
        let kafkas_name = match kafkas {
            Accept => "accept",
            Incomplete => "incomplete",
            Reject => "reject",
            _ => "reject_on_iteration",
        };
        assert_eq!(case["apache_kafka_result"], kafkas_name, "{name}");
        let has_features = cfg!(all(feature = "gzip", feature = "snappy"));
        let expected = if expected == NeedsFeature && has_features { kafkas } else { expected };
        assert_eq!(verdict(&hex(&case["hex"])), expected, "{name}");
        assert!(kafkas == expected || expected == NeedsFeature || why != SAME, "{name}");
    }
}

#[test]
fn a_control_record_of_unknown_type_is_told_apart() {
    let vectors = load();
    let case = vectors["edge_cases"].as_array().unwrap().iter();
    let case = case.into_iter().find(|case| case["name"] == "control_type_9").unwrap();
    let bytes = hex(&case["hex"]);
    let batch = RecordBatch::parse(&bytes).unwrap();
    let record = batch.iter_payload(batch.payload()).next().unwrap().unwrap();
    assert_eq!(ControlRecord::parse(&record), Ok(ControlRecord::Other(9)));
}
