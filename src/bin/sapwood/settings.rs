//! What is given as text: settings, headers, points in time.

use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, civil};
use sapwood::{Error, ProducerBuilder, Timestamp, TopicConfig};

use crate::exit::{Result, Stop};

/// `NAME=VALUE`, of `--config`, `--header` and the like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameValue {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl FromStr for NameValue {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, value) = text.split_once('=').ok_or("it has no `=`; write NAME=VALUE")?;
        if name.is_empty() {
            return Err("it has no name; write NAME=VALUE");
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }
}

/// Applies settings to those of a topic.
pub(crate) fn configure(mut config: TopicConfig, settings: &[NameValue]) -> Result<TopicConfig> {
    for setting in settings {
        check_known(&config, &setting.name)?;
        config = config.set(&setting.name, &setting.value)?;
    }
    Ok(config)
}

/// Puts settings of a topic back to their defaults.
pub(crate) fn reset(mut config: TopicConfig, names: &[String]) -> Result<TopicConfig> {
    let defaults = TopicConfig::default();
    for name in names {
        check_known(&config, name)?;
        let default = defaults.get(name).unwrap_or_default();
        config = config.set(name, &default)?;
    }
    Ok(config)
}

/// Kafka has settings that are not here, and there are slips: in both cases it helps to see what
/// there is.
fn check_known(config: &TopicConfig, name: &str) -> Result {
    if config.get(name).is_some() {
        return Ok(());
    }
    let known: Vec<_> = config.properties().into_iter().map(|(name, _)| name).collect();
    let meant = match config.clone().set(name, "") {
        Err(Error::InvalidConfig { reason, .. }) => reason,
        _ => String::new(),
    };
    // Of the reason only what was meant is news.
    let meant = meant.split_once("; ").map_or_else(String::new, |(_, meant)| format!(" {meant}"));
    let known = known.join(", ");
    Err(Stop::usage(format!("a topic has no setting {name:?};{meant} there are: {known}")))
}

/// Applies properties, by Kafka's names, to the settings of a producer.
pub(crate) fn configure_producer(
    producer: ProducerBuilder,
    properties: &[NameValue],
) -> Result<ProducerBuilder> {
    let set = |producer: ProducerBuilder, property: &NameValue| {
        producer.property(&property.name, &property.value)
    };
    Ok(properties.iter().try_fold(producer, set)?)
}

/// A point in time: RFC 3339, a date and time in UTC without a zone, or milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At(pub(crate) Timestamp);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(millis) = text.parse() {
            return Ok(Self(Timestamp::from_millis(millis)));
        }
        let point = text.parse::<jiff::Timestamp>().or_else(|_| {
            let at = text.parse::<civil::DateTime>()?;
            Ok(at.to_zoned(TimeZone::UTC)?.timestamp())
        });
        let point = point.map_err(|_: jiff::Error| {
            "write 2026-01-31T12:00:00Z, 2026-01-31 (midnight in UTC), or milliseconds since 1970"
                .to_owned()
        })?;
        Ok(Self(Timestamp::from_millis(point.as_millisecond())))
    }
}

/// How long ago: `10m`, `1h 30m`, `2 days`, or as in ISO 8601, `PT10M`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ago(Span);

impl FromStr for Ago {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let span = text.parse::<Span>().ok().filter(|span| !span.is_negative());
        // Whether it lies in the range of times at all, so that nothing can go wrong later.
        span.map(Self)
            .filter(|ago| ago.before(jiff::Timestamp::now()).is_some())
            .ok_or_else(|| "write a time like 10m, 1h 30m, 2 days or PT10M".to_owned())
    }
}

impl Ago {
    fn before(self, now: jiff::Timestamp) -> Option<Timestamp> {
        let then = now.to_zoned(TimeZone::UTC).checked_sub(self.0).ok()?;
        Some(Timestamp::from_millis(then.timestamp().as_millisecond()))
    }

    pub(crate) fn timestamp(self) -> Timestamp {
        // The earliest time there is, should the clock have jumped since the text was read.
        self.before(jiff::Timestamp::now()).unwrap_or(Timestamp::from_millis(0))
    }
}

/// A time as people read it; `-` for none.
pub(crate) fn time_text(timestamp: Timestamp) -> String {
    if timestamp == Timestamp::NONE {
        return "-".to_owned();
    }
    match jiff::Timestamp::from_millisecond(timestamp.as_millis()) {
        Ok(time) => time.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        Err(_) => timestamp.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Code;

    #[test]
    fn points_in_time_are_in_utc_unless_they_say_otherwise() {
        let millis = |text: &str| text.parse::<At>().map(|at| at.0.as_millis()).ok();
        assert_eq!(millis("1700000000000"), Some(1_700_000_000_000));
        assert_eq!(millis("2023-11-14T22:13:20Z"), Some(1_700_000_000_000));
        assert_eq!(millis("2023-11-14T23:13:20+01:00"), Some(1_700_000_000_000));
        assert_eq!(millis("2023-11-14 22:13:20"), Some(1_700_000_000_000));
        assert_eq!(millis("2023-11-14"), Some(1_699_920_000_000));
        assert_eq!(millis("yesterday"), None);
        let shown = time_text(Timestamp::from_millis(1_700_000_000_001));
        assert_eq!(shown, "2023-11-14T22:13:20.001Z");
    }

    #[test]
    fn times_ago_are_read_as_people_and_kafka_write_them() {
        let now = jiff::Timestamp::from_second(1_700_000_000).unwrap();
        let ago = |text: &str| {
            text.parse::<Ago>().ok()?.before(now).map(|then| 1_700_000_000_000 - then.as_millis())
        };
        assert_eq!(ago("10m"), Some(600_000));
        assert_eq!(ago("1h 30m"), Some(5_400_000));
        assert_eq!(ago("2 days"), Some(172_800_000));
        assert_eq!(ago("P1DT1S"), Some(86_401_000));
        for wrong in ["", "10", "-10m", "soon", "99999 years"] {
            assert_eq!(ago(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_unknown_setting_is_answered_with_those_there_are() {
        let setting = NameValue::from_str("min.insync.replicas=2").unwrap();
        match configure(TopicConfig::default(), &[setting]) {
            Err(Stop::Failed { code: Code::Usage, sentence }) => {
                assert!(sentence.contains("retention.ms, segment.bytes"), "{sentence}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_value_may_hold_an_equals_sign_and_a_name_may_not_be_empty() {
        let setting = NameValue::from_str("a=b=c").unwrap();
        assert_eq!((setting.name.as_str(), setting.value.as_str()), ("a", "b=c"));
        assert!(NameValue::from_str("=b").is_err() && NameValue::from_str("a").is_err());
    }
}
