#!/bin/sh
# Puts the partitions' files into the directory of a broker that has been stopped: see STEPS.txt. Run it
# on the broker's machine, as the user that the broker runs as. Nothing is touched unless all of it fits;
# if it is broken off, run it again.
set -eu
if [ $# != 1 ]; then
    echo "usage: $0 LOG-DIR    (what the broker's settings call log.dirs)" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
log_dir=$1
stop() {
    echo "$0: $*; nothing was changed" >&2
    exit 1
}
# Kafka takes no notice of a file of this name.
mark=sapwood-placing

[ -f "$log_dir/meta.properties" ] || stop "$log_dir is not the directory of a Kafka broker: it has no meta.properties"
[ -e "$log_dir/.kafka_cleanshutdown" ] || stop "the broker is running, or was killed: stop it with kafka-server-stop.sh, and wait until it is gone"
for from in "$here"/partitions/*/; do
    to=$log_dir/$(basename "$from")
    [ -f "$to/partition.metadata" ] || stop "$to is not there: run create-topics.sh with the id of this broker first"
    [ -e "$to/$mark" ] || [ -z "$(find "$to" -name '*.log' -size +0c)" ] || stop "$to holds records already"
done

count=0
for from in "$here"/partitions/*/; do
    to=$log_dir/$(basename "$from")
    : >"$to/$mark"
    # The broker has written which topic this is; everything else there is of an empty log. Without
    # .index files it checks every batch when it starts, and makes all indexes.
    find "$to" -type f ! -name partition.metadata ! -name "$mark" -exec rm -f {} +
    cp "$from"* "$to"
    count=$((count + 1))
done

# Where logs begin within a segment, and nothing of what an older topic of the same name may have left.
ls "$here/partitions" >"$log_dir/$mark.ours"
for name in recovery-point replication log-start cleaner; do
    checkpoint=$log_dir/$name-offset-checkpoint
    : >"$log_dir/$mark.lines"
    if [ -f "$checkpoint" ]; then
        awk -v list="$log_dir/$mark.ours" '
            BEGIN { while ((getline line < list) > 0) ours[line] }
            FNR > 2 && !(($1 "-" $2) in ours)' "$checkpoint" >"$log_dir/$mark.lines"
    fi
    if [ "$name" = log-start ]; then tail -n +3 "$here/$name-offset-checkpoint" >>"$log_dir/$mark.lines"; fi
    {
        echo 0
        awk 'END { print NR }' "$log_dir/$mark.lines"
        cat "$log_dir/$mark.lines"
    } >"$log_dir/$mark.checkpoint"
    mv "$log_dir/$mark.checkpoint" "$checkpoint"
done

sync
for from in "$here"/partitions/*/; do rm "$log_dir/$(basename "$from")/$mark"; done
rm "$log_dir/$mark.ours" "$log_dir/$mark.lines"
echo "$count partition(s) are in $log_dir; start the broker"
