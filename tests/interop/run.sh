#!/bin/sh
# Writes a segment, and has both of Kafka's Python clients read it. The argument is a Python with
# requirements.txt installed.
set -eu

python=${1:-python3}
here=$(cd "$(dirname "$0")" && pwd)
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

cd "$here/../.."
SAPWOOD_INTEROP_DIR=$directory cargo test --quiet --lib record::tests::interop
"$python" "$here/parse_log.py" "$directory" --compare "$directory/expected.jsonl"
