use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::log::config::{Durability, WhenFull};

fn topic(state: TopicState, config: TopicConfig) -> RegisteredTopic {
    RegisteredTopic { id: "ASNFZ4mrze_-3LqYdlQyEA".parse().unwrap(), state, config }
}

fn registry() -> Registry {
    let orders = TopicConfig::default().partitions(4).retention_ms(None).segment_bytes(2 << 20);
    let audit = TopicConfig::default()
        .partitions(6)
        .retention_groups(["bill ing", "a%b\nc", "日本"])
        .when_full(WhenFull::DropOldest)
        .durability(Durability::Written { flush_interval: Duration::from_millis(5) });
    let topics = [
        ("orders", topic(TopicState::Live, orders)),
        ("audit", topic(TopicState::Creating { first_partition: 2 }, audit)),
        ("old", topic(TopicState::Deleting, TopicConfig::default())),
    ];
    Registry { topics: topics.map(|(name, topic)| (name.to_owned(), topic)).into() }
}

/// A registry file with these lines after the header, rightly sealed.
fn sealed(lines: &str) -> Vec<u8> {
    let text = format!("sapwood-topics 1\n{lines}");
    format!("{text}crc32 {:08x}\n", crc32fast::hash(text.as_bytes())).into_bytes()
}

#[test]
fn the_file_is_as_drawn_and_reads_back() {
    let text = encode(&registry());
    let (lines, checksum) = text.split_at(text.len() - 15);
    assert_eq!(
        lines,
        "sapwood-topics 1\n\
         audit creating:2 ASNFZ4mrze_-3LqYdlQyEA 6 durability=written flush.ms=5 \
         max.bytes.policy=drop-oldest retention.groups=bill%20ing,a%25b%0ac,%e6%97%a5%e6%9c%ac\n\
         old deleting ASNFZ4mrze_-3LqYdlQyEA 1\n\
         orders live ASNFZ4mrze_-3LqYdlQyEA 4 retention.ms=-1 segment.bytes=2097152\n"
    );
    assert_eq!(checksum, format!("crc32 {:08x}\n", crc32fast::hash(lines.as_bytes())));
    assert_eq!(decode(text.as_bytes()), Ok(registry()));
}

#[test]
fn an_empty_registry_reads_back_and_an_empty_file_is_none() {
    let empty = encode(&Registry::default());
    assert_eq!(decode(empty.as_bytes()), Ok(Registry::default()));
    assert!(matches!(decode(b""), Err(RegistryError::Damaged(_))));
}

#[test]
fn any_changed_byte_and_any_cut_is_damage() {
    let file = encode(&registry()).into_bytes();
    for at in 0..file.len() {
        for flipped in [0x01, 0x20, 0x80, 0xff] {
            let mut changed = file.clone();
            changed[at] ^= flipped;
            let result = decode(&changed);
            assert!(matches!(result, Err(RegistryError::Damaged(_))), "byte {at}: {result:?}");
        }
        let result = decode(&file[..at]);
        assert!(matches!(result, Err(RegistryError::Damaged(_))), "cut at {at}: {result:?}");
    }
    let twice = [&file[..], &file].concat();
    assert!(matches!(decode(&twice), Err(RegistryError::Damaged(_))));
}

#[test]
fn a_newer_version_is_unsupported_and_not_damaged_whatever_its_lines_are() {
    let text = "sapwood-topics 2\n{\"topics\": []}\n";
    let file = format!("{text}crc32 {:08x}\n", crc32fast::hash(text.as_bytes()));
    let Err(RegistryError::Unsupported(reason)) = decode(file.as_bytes()) else {
        panic!("a newer version must not be read");
    };
    assert!(reason.contains("version 1") && reason.contains("sapwood-topics 2"), "{reason}");
}

#[test]
fn sealed_lines_that_are_not_understood_are_refused_as_unsupported() {
    let id = "ASNFZ4mrze_-3LqYdlQyEA";
    decode(&sealed(&format!("a live {id} 1\n"))).unwrap();
    for line in [
        String::new(),
        "a live".to_owned(),
        format!("../evil live {id} 1"),
        format!("a dead {id} 1"),
        format!("a creating {id} 1"),
        format!("a creating:x {id} 1"),
        format!("a live:0 {id} 1"),
        "a live AAAAAAAAAAAAAAAAAAAAAA 1".to_owned(),
        format!("a live {id}"),
        format!("a live {id} 0"),
        format!("a live {id} -1"),
        format!("a live {id} 1 "),
        format!("a live {id} 1 segment.bytes"),
        format!("a live {id} 1 segment.bytes=1"),
        format!("a live {id} 1 no.such=1"),
        format!("a live {id} 1 retention.groups=%"),
        format!("a live {id} 1 retention.groups=%4"),
        format!("a live {id} 1 retention.groups=%zz"),
        format!("a live {id} 1 retention.groups=%ff"),
        format!("a live {id} 1\na live {id} 2"),
    ] {
        let result = decode(&sealed(&format!("{line}\n")));
        assert!(matches!(result, Err(RegistryError::Unsupported(_))), "{line:?}: {result:?}");
    }
}

proptest! {
    #[test]
    fn any_value_survives_escaping_as_one_plain_word(value in any::<String>()) {
        let escaped = escape(&value);
        prop_assert!(escaped.bytes().all(|byte| byte.is_ascii_graphic()));
        prop_assert_eq!(unescape(&escaped), Some(value));
    }

    #[test]
    fn any_bytes_are_read_or_refused_without_a_panic(
        lines in "([a-z./ %=:0-9\n]|live|deleting|ASNFZ4mrze_-3LqYdlQyEA){0,60}",
        bytes in any::<Vec<u8>>(),
    ) {
        prop_assert!(decode(&bytes).is_err());
        if let Ok(registry) = decode(&sealed(&lines)) {
            prop_assert_eq!(decode(encode(&registry).as_bytes()), Ok(registry));
        }
    }
}
