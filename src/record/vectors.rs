//! The golden bytes in `tests/data/kafka-vectors.json`, written by Apache Kafka and its clients, for
//! tests of any layer.

use serde_json::Value;

/// The whole document.
pub(crate) fn load() -> Value {
    serde_json::from_str(include_str!("../../tests/data/kafka-vectors.json")).unwrap()
}

/// The bytes of a field in hexadecimal digits.
pub(crate) fn hex(value: &Value) -> Vec<u8> {
    let digits = value.as_str().unwrap().as_bytes().as_chunks::<2>().0;
    digits
        .iter()
        .map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The same for a field that may be null.
pub(crate) fn nullable_hex(value: &Value) -> Option<Vec<u8>> {
    (!value.is_null()).then(|| hex(value))
}
