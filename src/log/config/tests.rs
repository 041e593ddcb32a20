use std::time::Duration;

use super::*;

fn refusal(result: Result<impl std::fmt::Debug>) -> (String, String) {
    match result {
        Err(Error::InvalidConfig { name, reason, .. }) => (name, reason),
        other => panic!("expected a refusal, not {other:?}"),
    }
}

/// A config in which no setting has its default value.
fn everything_changed() -> TopicConfig {
    TopicConfig::default()
        .partitions(7)
        .segment_bytes(2 << 20)
        .segment_ms(Duration::from_secs(1))
        .segment_index_bytes(4096)
        .index_interval_bytes(0)
        .retention_ms(None)
        .retention_bytes(5)
        .retention_groups(["billing", "日本 語"])
        .max_bytes(3 << 20)
        .when_full(WhenFull::DropOldest)
        .max_message_bytes(1 << 20)
        .message_timestamp_type(TimestampType::LogAppendTime)
        .message_timestamp_before_max(Duration::ZERO)
        .message_timestamp_after_max(Duration::from_millis(1))
        .compression(Compression::Zstd { level: -5 })
        .durability(Durability::Written { flush_interval: Duration::from_millis(250) })
}

#[test]
fn the_defaults_are_kafkas_and_valid() {
    let config = TopicConfig::default();
    config.validate().unwrap();
    let expected = [
        ("cleanup.policy", "delete"),
        ("compression.type", "producer"),
        ("compression.zstd.level", "3"),
        ("durability", "fsync"),
        ("flush.ms", "1000"),
        ("index.interval.bytes", "4096"),
        ("max.bytes", "-1"),
        ("max.bytes.policy", "refuse"),
        ("max.message.bytes", "1048588"),
        ("message.timestamp.after.max.ms", "3600000"),
        ("message.timestamp.before.max.ms", "9223372036854775807"),
        ("message.timestamp.type", "CreateTime"),
        ("retention.bytes", "-1"),
        ("retention.groups", ""),
        ("retention.ms", "604800000"),
        ("segment.bytes", "1073741824"),
        ("segment.index.bytes", "10485760"),
        ("segment.ms", "604800000"),
    ];
    assert_eq!(config.properties(), expected.map(|(name, value)| (name, value.to_owned())));
    assert!(config.overrides().is_empty());
}

#[test]
fn every_setting_comes_back_from_its_text() {
    let config = everything_changed();
    config.validate().unwrap();
    // All but the policy, which has one value.
    assert_eq!(config.overrides().len(), PROPERTIES.len() - 1);
    let forward = config.overrides();
    let backward = forward.iter().rev().cloned().collect::<Vec<_>>();
    for properties in [forward, backward] {
        let mut read = TopicConfig::default().partitions(7);
        for (name, value) in properties {
            read = read.set(name, &value).unwrap();
        }
        assert_eq!(read, config);
    }
}

#[test]
fn values_outside_their_range_are_refused_as_text_and_by_validate() {
    let refused: [(&str, &[&str]); 18] = [
        ("cleanup.policy", &["compact", "compact,delete", ""]),
        ("compression.type", &["gzip", "snappy", "brotli", ""]),
        ("compression.zstd.level", &["23", "-131073", "x"]),
        ("durability", &["", "always"]),
        ("flush.ms", &["0", "3600001", "-1"]),
        ("index.interval.bytes", &["-1", "2147483648"]),
        ("max.bytes", &["-2", "9223372036854775808", "1k"]),
        ("max.bytes.policy", &["drop", "DROP-OLDEST"]),
        ("max.message.bytes", &["127", "2147483648", "99999999999999999999"]),
        ("message.timestamp.after.max.ms", &["-1"]),
        ("message.timestamp.before.max.ms", &["-1", "9223372036854775808"]),
        ("message.timestamp.type", &["createtime"]),
        ("retention.bytes", &["-2", "1.5"]),
        ("retention.groups", &[",", "a,,b", "a,b,a"]),
        ("retention.ms", &["-2", "9223372036854775808"]),
        ("segment.bytes", &["1023", "2147483648"]),
        ("segment.index.bytes", &["95", "2147483648"]),
        ("segment.ms", &["0", "-1"]),
    ];
    assert!(PROPERTIES.iter().map(|property| property.name).eq(refused.map(|(name, _)| name)));
    for (name, values) in refused {
        for value in values {
            let (refused, reason) = refusal(TopicConfig::default().set(name, value));
            assert_eq!(refused, name, "{value}");
            assert!(!reason.is_empty());
        }
    }
}

#[test]
fn the_ends_of_the_ranges_are_allowed() {
    for (name, values) in [
        ("compression.zstd.level", ["-131072", "22"]),
        ("flush.ms", ["1", "3600000"]),
        ("max.message.bytes", ["128", "2147483647"]),
        ("retention.ms", ["0", "9223372036854775807"]),
        ("segment.bytes", ["1024", "2147483647"]),
        ("segment.index.bytes", ["96", "2147483647"]),
        ("segment.ms", ["1", "9223372036854775807"]),
    ] {
        for value in values {
            let config = TopicConfig::default().set(name, value).unwrap();
            assert_eq!(config.get(name).as_deref(), Some(value), "{name}");
        }
    }
}

#[test]
fn what_setters_take_unseen_validate_refuses() {
    let sub_milli = Duration::from_micros(1500);
    let never = Duration::MAX;
    let written = |flush_interval| Durability::Written { flush_interval };
    let long = "x".repeat(32_768);
    for (name, config) in [
        ("partitions", TopicConfig::default().partitions(0)),
        ("partitions", TopicConfig::default().partitions(10_001)),
        ("segment.ms", TopicConfig::default().segment_ms(sub_milli)),
        ("segment.ms", TopicConfig::default().segment_ms(never)),
        ("retention.ms", TopicConfig::default().retention_ms(sub_milli)),
        ("retention.bytes", TopicConfig::default().retention_bytes(u64::MAX)),
        ("flush.ms", TopicConfig::default().durability(written(sub_milli))),
        ("flush.ms", TopicConfig::default().durability(written(Duration::ZERO))),
        ("retention.groups", TopicConfig::default().retention_groups(["a,b"])),
        ("retention.groups", TopicConfig::default().retention_groups([" a"])),
        ("retention.groups", TopicConfig::default().retention_groups([""])),
        ("retention.groups", TopicConfig::default().retention_groups([long])),
        (
            "retention.groups",
            TopicConfig::default().retention_groups((0..101).map(|i| i.to_string())),
        ),
        (
            "compression.zstd.level",
            TopicConfig::default().compression(Compression::Zstd { level: 23 }),
        ),
        (
            "message.timestamp.before.max.ms",
            TopicConfig::default().message_timestamp_before_max(never),
        ),
    ] {
        assert_eq!(refusal(config.validate()).0, name);
    }
}

#[test]
fn a_segment_and_a_topic_must_hold_the_largest_batch() {
    let config = TopicConfig::default().segment_bytes(4096);
    let (name, reason) = refusal(config.clone().validate());
    assert_eq!(name, "segment.bytes");
    assert!(reason.contains("max.message.bytes = 1048588"), "{reason}");
    config.max_message_bytes(4096).validate().unwrap();

    let config = TopicConfig::default().max_bytes(1_048_587);
    assert_eq!(refusal(config.validate()).0, "max.bytes");
    TopicConfig::default().max_bytes(1_048_588).validate().unwrap();
}

#[test]
fn a_misspelt_property_is_refused_with_the_nearest_name() {
    for (misspelt, meant) in [
        ("retention_ms", "retention.ms"),
        ("retention.mss", "retention.ms"),
        ("segment.byte", "segment.bytes"),
        ("compresion.type", "compression.type"),
        ("Durability", "durability"),
    ] {
        let (name, reason) = refusal(TopicConfig::default().set(misspelt, "1"));
        assert_eq!(name, misspelt);
        assert!(reason.contains(&format!("did you mean {meant}?")), "{reason}");
    }
    for unknown in ["", "x", "min.insync.replicas", "partitions", &"ü".repeat(1000)] {
        let (_, reason) = refusal(TopicConfig::default().set(unknown, "1"));
        assert_eq!(reason, "no such setting of a topic", "{unknown}");
        assert_eq!(TopicConfig::default().get(unknown), None);
    }
}

#[test]
fn compaction_is_refused_in_so_many_words() {
    let (_, reason) = refusal(TopicConfig::default().set("cleanup.policy", "compact"));
    assert!(reason.contains("compaction is not supported"), "{reason}");
}

#[test]
fn level_and_interval_may_be_set_before_or_after_what_they_belong_to() {
    let before = TopicConfig::default().set("compression.zstd.level", "9").unwrap();
    assert_eq!(before.compression, None);
    let before = before.set("compression.type", "zstd").unwrap();
    let after = TopicConfig::default().compression(Compression::Zstd { level: 9 });
    assert_eq!(before, after);

    let before = TopicConfig::default().set("flush.ms", "20").unwrap();
    assert_eq!(before.durability, Durability::Fsync);
    let before = before.set("durability", "written").unwrap();
    let interval = Duration::from_millis(20);
    let after = TopicConfig::default().durability(Durability::Written { flush_interval: interval });
    assert_eq!(before, after);
}

#[test]
fn no_compression_can_be_said_in_the_words_of_topics_and_of_producers() {
    for word in ["none", "uncompressed"] {
        let config = TopicConfig::default().set("compression.type", word).unwrap();
        assert_eq!(config.compression, Some(Compression::None));
        assert_eq!(config.get("compression.type").as_deref(), Some("uncompressed"));
    }
}
