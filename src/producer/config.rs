//! The settings of a producer, in Kafka's words and with Kafka's defaults.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::record::Compression;

/// Larger batches than this the format has no room for.
const BATCH_SIZE_MAX: usize = i32::MAX.unsigned_abs() as usize;

const PROPERTY_NAMES: &str = "linger.ms, batch.size, buffer.memory, max.block.ms, \
    compression.type and compression.zstd.level";

/// What a producer is set to. Users set it through the builder, which documents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProducerConfig {
    pub(super) linger: Duration,
    pub(super) batch_size: usize,
    pub(super) buffer_memory: usize,
    pub(super) max_block: Duration,
    pub(super) compression: Compression,
    /// Kept while another codec is in use, so that the order in which `compression.type` and
    /// `compression.zstd.level` are set makes no difference.
    zstd_level: i32,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(5),
            batch_size: 16_384,
            buffer_memory: 32 << 20,
            max_block: Duration::from_secs(60),
            compression: Compression::None,
            zstd_level: 3,
        }
    }
}

impl ProducerConfig {
    pub(super) fn set_compression(&mut self, compression: Compression) {
        self.compression = compression;
        if let Compression::Zstd { level } = compression {
            self.zstd_level = level;
        }
    }

    /// Sets a property by Kafka's name; ranges are left to [`Self::validate`].
    pub(super) fn set(&mut self, name: &str, value: &str) -> Result<()> {
        let value = value.trim();
        match name {
            "linger.ms" => self.linger = Duration::from_millis(number(name, value)?),
            "batch.size" => self.batch_size = number(name, value)?,
            "buffer.memory" => self.buffer_memory = number(name, value)?,
            "max.block.ms" => self.max_block = Duration::from_millis(number(name, value)?),
            "compression.type" => {
                self.compression = match value.parse()? {
                    Compression::Zstd { .. } => Compression::Zstd { level: self.zstd_level },
                    other => other,
                };
            }
            "compression.zstd.level" => {
                self.zstd_level = number(name, value)?;
                if let Compression::Zstd { level } = &mut self.compression {
                    *level = self.zstd_level;
                }
            }
            _ => {
                let reason = format!("no such setting of a producer; there are {PROPERTY_NAMES}");
                return Err(invalid(name, value, &reason));
            }
        }
        Ok(())
    }

    /// Checks every setting, and that they go together.
    pub(super) fn validate(&self) -> Result<()> {
        if !(1..=BATCH_SIZE_MAX).contains(&self.batch_size) {
            let reason = format!("it must lie between 1 and {BATCH_SIZE_MAX}");
            return Err(invalid("batch.size", self.batch_size, &reason));
        }
        if self.buffer_memory < self.batch_size {
            let reason = format!("it must hold one batch, batch.size = {}", self.batch_size);
            return Err(invalid("buffer.memory", self.buffer_memory, &reason));
        }
        if !(-131_072..=22).contains(&self.zstd_level) {
            let reason = "it must lie between -131072 and 22";
            return Err(invalid("compression.zstd.level", self.zstd_level, reason));
        }
        Ok(())
    }
}

fn number<T: FromStr>(name: &str, value: &str) -> Result<T> {
    let reason = "it is not a whole number that this setting could have";
    value.parse().map_err(|_| invalid(name, value, reason))
}

fn invalid(name: &str, value: impl Display, reason: &str) -> Error {
    Error::InvalidConfig {
        name: name.to_owned(),
        value: value.to_string(),
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_have_kafkas_names_and_reach_the_settings() {
        let mut config = ProducerConfig::default();
        let properties = [
            ("compression.type", "zstd"),
            ("compression.zstd.level", "7"),
            ("linger.ms", "20"),
            ("batch.size", " 1000 "),
            ("buffer.memory", "5000"),
            ("max.block.ms", "1"),
        ];
        for (name, value) in properties {
            config.set(name, value).unwrap();
        }
        let expected = ProducerConfig {
            linger: Duration::from_millis(20),
            batch_size: 1000,
            buffer_memory: 5000,
            max_block: Duration::from_millis(1),
            compression: Compression::Zstd { level: 7 },
            zstd_level: 7,
        };
        assert_eq!(config, expected);
        config.validate().unwrap();
    }

    #[test]
    fn a_setting_that_makes_no_sense_is_refused_by_its_kafka_name() {
        let refused = |change: fn(&mut ProducerConfig) -> Result<()>| {
            let mut config = ProducerConfig::default();
            let error = change(&mut config).and_then(|()| config.validate()).unwrap_err();
            match error {
                Error::InvalidConfig { name, .. } => name,
                other => panic!("{other}"),
            }
        };
        assert_eq!(refused(|config| config.set("batch.size", "0")), "batch.size");
        assert_eq!(refused(|config| config.set("batch.size", "-1")), "batch.size");
        assert_eq!(refused(|config| config.set("buffer.memory", "16383")), "buffer.memory");
        assert_eq!(refused(|config| config.set("compression.type", "gzip")), "compression.type");
        assert_eq!(
            refused(|config| config.set("compression.zstd.level", "23")),
            "compression.zstd.level"
        );
        assert_eq!(refused(|config| config.set("linger", "5")), "linger");
    }
}
