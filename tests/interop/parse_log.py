#!/usr/bin/env python3
"""Reads the segments of a Sapwood directory with the decoders of kafka-python and aiokafka.

Prints one JSON line per record, or compares with a file of such lines. Shares no code with Sapwood:
batches are cut out of the files by their length field alone, everything else is up to the two
clients, which must agree with one another.
"""

import argparse
import itertools
import json
import re
import struct
import sys
from pathlib import Path

from aiokafka.record.default_records import DefaultRecordBatch as AiokafkaBatch
from kafka.record.default_records import DefaultRecordBatch as KafkaPythonBatch

PARTITION = re.compile(r"(?P<topic>[a-zA-Z0-9._-]{1,249})-(?P<partition>\d+)")
SEGMENT = re.compile(r"\d{20}\.log")
LENGTH_PREFIX = 12


def batches(path):
    """Yields the batches of a file as bytes, up to its end or to zeros."""
    data = path.read_bytes()
    at = 0
    while at < len(data):
        if not any(data[at : at + LENGTH_PREFIX]) and not any(data[at:]):
            return
        if len(data) - at < LENGTH_PREFIX:
            raise ValueError(f"{path}: {len(data) - at} bytes left over at {at}")
        (length,) = struct.unpack_from(">i", data, at + 8)
        end = at + LENGTH_PREFIX + length
        if length <= 0 or end > len(data):
            raise ValueError(f"{path}: batch at {at} claims a length of {length}")
        yield at, data[at:end]
        at = end


def decode(batch_class, data):
    """Returns (is control batch, records) as one client sees them."""
    batch = batch_class(data)
    if not batch.validate_crc():
        raise ValueError("checksum does not match")
    records = [
        {
            "offset": record.offset,
            "timestamp": record.timestamp,
            "key": hex_or_none(record.key),
            "value": hex_or_none(record.value),
            "headers": [[name, hex_or_none(value)] for name, value in record.headers],
        }
        for record in batch
    ]
    return bool(batch.is_control_batch), records


def hex_or_none(data):
    return None if data is None else bytes(data).hex()


def records(directory, topic=None):
    """Yields every data record below the directory, or of one topic, as a dictionary."""
    for partition_path in sorted(path for path in directory.iterdir() if path.is_dir()):
        match = PARTITION.fullmatch(partition_path.name)
        if match is None or topic not in (None, match["topic"]):
            continue
        address = {"topic": match["topic"], "partition": int(match["partition"])}
        for path in sorted(partition_path.iterdir()):
            if SEGMENT.fullmatch(path.name):
                for record in segment_records(path):
                    yield address | record


def segment_records(path):
    for at, data in batches(path):
        try:
            kafka_python = decode(KafkaPythonBatch, data)
            aiokafka = decode(AiokafkaBatch, data)
        except Exception as error:
            raise ValueError(f"{path}: batch at {at}: {error!r}") from error
        if kafka_python != aiokafka:
            raise ValueError(f"{path}: batch at {at}: the clients disagree")
        is_control, found = kafka_python
        if not is_control:
            yield from found


def difference(found, expected_path):
    """The first difference as text; None if there is none."""
    with expected_path.open(encoding="utf-8") as lines:
        expected = (json.loads(line) for line in lines if line.strip())
        pairs = itertools.zip_longest(found, expected)
        for number, (ours, theirs) in enumerate(pairs, start=1):
            if ours != theirs:
                return f"record {number}: found {ours}, expected {theirs}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--topic", help="read this topic alone")
    parser.add_argument("--compare", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    try:
        if arguments.compare is None:
            for record in records(arguments.directory, arguments.topic):
                print(json.dumps(record, ensure_ascii=False))
            return 0
        found = list(records(arguments.directory, arguments.topic))
        problem = difference(found, arguments.compare)
    except (OSError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    if problem is not None:
        print(problem, file=sys.stderr)
        return 1
    print(f"{len(found)} records, read alike by kafka-python and aiokafka")
    return 0


if __name__ == "__main__":
    sys.exit(main())
