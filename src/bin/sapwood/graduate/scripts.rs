//! What a person is given beside the files: scripts, and the steps in their order.

use std::fmt::Arguments;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::{Inspection, Moved, MovedTopic, PARTITIONS, making};
use crate::exit::{Result, Stop};
use crate::output::add;

/// Kafka refuses to create a topic with smaller segments.
const SEGMENT_BYTES_MIN: u64 = 1 << 20;

/// Settings that mean nothing to Kafka, or something else.
const NOT_KAFKAS: [&str; 5] =
    ["durability", "flush.ms", "max.bytes", "max.bytes.policy", "retention.groups"];

/// Settings by which Kafka deletes. They come last.
const RETENTION: [&str; 2] = ["retention.bytes", "retention.ms"];

/// Where the names of groups and the lists are.
const GROUPS: &str = "groups";

const LOG_STARTS: &str = "log-start-offset-checkpoint";

/// Writes all of it into the directory that is being made, and which will be `named`.
pub(super) fn write(to: &Path, named: &Path, moved: &Moved) -> Result {
    write_script(to, "create-topics.sh", &create_topics(&moved.topics))?;
    write_script(to, "place-files.sh", include_str!("place-files.sh"))?;
    write_script(to, "check-offsets.sh", CHECK_OFFSETS)?;
    write_script(to, "add-replicas.sh", ADD_REPLICAS)?;
    write_script(to, "set-retention.sh", &set_retention(&moved.topics))?;
    write_script(to, "reset-offsets.sh", &write_groups(to, moved)?)?;
    write_offsets(to, moved)?;
    making::write(&to.join("STEPS.txt"), steps(named, moved).as_bytes())?;
    making::sync_directory(&to.join(PARTITIONS))
}

fn write_script(to: &Path, name: &str, content: &str) -> Result {
    let path = to.join(name);
    making::write(&path, content.as_bytes())?;
    let executable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, executable).map_err(|error| Stop::file("change", &path, &error))
}

/// The beginning of every script that talks to a broker.
fn head(purpose: &str) -> String {
    format!(
        "#!/bin/sh\n\
         {purpose}\n\
         # Kafka's programs must be on the PATH. If the cluster wants credentials, name the file with them,\n\
         # as --command-config takes it, in COMMAND_CONFIG.\n\
         set -eu\n"
    )
}

/// Runs one of Kafka's programs against the broker.
const TOOL: &str = "\
tool() {
    program=$1
    shift
    \"$program\" --bootstrap-server \"$server\" ${COMMAND_CONFIG:+--command-config \"$COMMAND_CONFIG\"} \"$@\"
}
";

const ONE_ARGUMENT: &str = "\
if [ $# != 1 ]; then
    echo \"usage: $0 HOST:PORT\" >&2
    exit 2
fi
server=$1
";

/// The settings that a topic is created with, but for retention.
fn settings(topic: &MovedTopic) -> Vec<(&'static str, String)> {
    let is_kafkas = |name: &str| !NOT_KAFKAS.contains(&name) && !RETENTION.contains(&name);
    let properties = topic.config.properties().into_iter();
    let kafkas = properties.filter(|(name, _)| is_kafkas(name));
    kafkas.map(|(name, value)| (name, needed(topic, name).unwrap_or(value))).collect()
}

/// The value that a setting has to have where its own is too small.
fn needed(topic: &MovedTopic, name: &str) -> Option<String> {
    let at_least = match name {
        "segment.bytes" => SEGMENT_BYTES_MIN,
        // It may have been larger when they were written.
        "max.message.bytes" => {
            topic.partitions.iter().map(|partition| partition.largest_batch).max()?
        }
        _ => return None,
    };
    let value = topic.config.get(name)?.parse::<u64>().ok()?;
    (value < at_least).then(|| at_least.to_string())
}

/// The settings that are not carried over as they are: name, own value, new value.
pub(super) fn raised(topic: &MovedTopic) -> Vec<(&'static str, String, String)> {
    let properties = topic.config.properties().into_iter();
    properties.filter_map(|(name, value)| Some((name, value, needed(topic, name)?))).collect()
}

fn create_topics(topics: &[MovedTopic]) -> String {
    let mut script = head(
        "# Creates the topics, empty, with every partition on one broker: the one that is given the files.\n\
         # Nothing is deleted by age or size until set-retention.sh is run.",
    );
    script += "\
if [ $# != 2 ]; then
    echo \"usage: $0 HOST:PORT BROKER-ID\" >&2
    exit 2
fi
server=$1
b=$2
";
    script += TOOL;
    for topic in topics {
        let assignment = vec!["$b"; topic.partitions.len()].join(",");
        add(
            &mut script,
            format_args!("\ntool kafka-topics.sh --create --topic {} \\\n", topic.name),
        );
        add(&mut script, format_args!("    --replica-assignment \"{assignment}\""));
        for name in RETENTION {
            add(&mut script, format_args!(" \\\n    --config {name}=-1"));
        }
        for (name, value) in settings(topic) {
            add(&mut script, format_args!(" \\\n    --config {name}={value}"));
        }
        script.push('\n');
    }
    script
}

/// The topics from which Kafka is to delete, and their settings for that.
fn retentions(topics: &[MovedTopic]) -> Vec<(&str, String)> {
    let of = |topic: &MovedTopic| {
        let set = RETENTION.iter().filter_map(|name| {
            let value = topic.config.get(name).filter(|value| value != "-1")?;
            Some(format!("{name}={value}"))
        });
        set.collect::<Vec<_>>().join(",")
    };
    let all = topics.iter().map(|topic| (topic.name.as_str(), of(topic)));
    all.filter(|(_, settings)| !settings.is_empty()).collect()
}

fn set_retention(topics: &[MovedTopic]) -> String {
    let mut script =
        head("# Has Kafka delete by age and size as Sapwood did. It begins a few minutes later.");
    script += ONE_ARGUMENT;
    script += TOOL;
    for (topic, settings) in retentions(topics) {
        add(
            &mut script,
            format_args!(
                "tool kafka-configs.sh --alter --entity-type topics --entity-name {topic} \\\n    \
                 --add-config {settings}\n"
            ),
        );
    }
    script
}

/// Writes a list for each group. Returns the script that has Kafka's tool take them.
fn write_groups(to: &Path, moved: &Moved) -> Result<String> {
    let directory = to.join(GROUPS);
    fs::create_dir(&directory).map_err(|error| Stop::file("create", &directory, &error))?;
    let mut script =
        head("# Has consumer groups go on where they were. They must have no consumers now.");
    script += ONE_ARGUMENT;
    script += "here=$(cd \"$(dirname \"$0\")\" && pwd)\n";
    script += TOOL;
    for (number, group) in (1..).zip(&moved.groups) {
        let file = file_name(&group.id, number);
        let mut list = String::new();
        for (topic, partition, offset) in &group.offsets {
            add(&mut list, format_args!("{topic},{partition},{offset}\n"));
        }
        making::write(&directory.join(&file), list.as_bytes())?;
        add(
            &mut script,
            format_args!(
                "tool kafka-consumer-groups.sh --reset-offsets --group {} \\\n    \
                 --from-file \"$here/{GROUPS}/{file}\" --execute\n",
                quoted(&group.id)
            ),
        );
    }
    making::sync_directory(&directory)?;
    Ok(script)
}

/// A group's id may be any text. What cannot be seen as a file's name at once is a number only, with
/// a character that no other such name has.
fn file_name(id: &str, number: usize) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.chars().all(is_plain) && !id.starts_with(['.', '-']) {
        format!("{id}.csv")
    } else {
        format!("group+{number}.csv")
    }
}

/// As one word for a shell, whatever is in it.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// A path as a person would type it.
fn path_text(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | ':');
    if text.chars().all(is_plain) { text } else { quoted(&text) }
}

/// The offsets that a broker is to have, as its tool prints them, and those it is to be told.
fn write_offsets(to: &Path, moved: &Moved) -> Result {
    let partitions = || moved.topics.iter().flat_map(|topic| &topic.partitions);
    let list = |of: fn(&Inspection) -> u64| {
        let mut list = String::new();
        for partition in partitions() {
            let at = &partition.topic_partition;
            add(&mut list, format_args!("{}:{}:{}\n", at.topic(), at.partition(), of(partition)));
        }
        list
    };
    making::write(&to.join("earliest-offsets"), list(|p| p.log_start_offset).as_bytes())?;
    making::write(&to.join("latest-offsets"), list(|p| p.end_offset).as_bytes())?;
    let within: Vec<_> = partitions().filter(|partition| partition.begins_within()).collect();
    let mut starts = format!("0\n{}\n", within.len());
    for partition in within {
        let at = &partition.topic_partition;
        let start = partition.log_start_offset;
        add(&mut starts, format_args!("{} {} {start}\n", at.topic(), at.partition()));
    }
    making::write(&to.join(LOG_STARTS), starts.as_bytes())
}

const CHECK_OFFSETS: &str = "\
#!/bin/sh
# Whether every partition begins and ends where it did in Sapwood. Run it before anything is produced.
# Kafka's programs must be on the PATH. If the cluster wants credentials, name the file with them,
# as --command-config takes it, in COMMAND_CONFIG.
set -eu
if [ $# != 1 ]; then
    echo \"usage: $0 HOST:PORT\" >&2
    exit 2
fi
server=$1
here=$(cd \"$(dirname \"$0\")\" && pwd)
found=$(mktemp)
trap 'rm -f \"$found\"' EXIT
missing=0
for time in earliest latest; do
    kafka-get-offsets.sh --bootstrap-server \"$server\" ${COMMAND_CONFIG:+--command-config \"$COMMAND_CONFIG\"} \\
        --time \"$time\" >\"$found\"
    # What is expected and not found.
    if grep -Fxv -f \"$found\" \"$here/$time-offsets\"; then missing=1; fi
done
if [ \"$missing\" = 1 ]; then
    echo \"$0: these (topic:partition:offset) are not what Kafka says; its log says why\" >&2
    exit 1
fi
echo 'every partition begins and ends where it did'
";

const ADD_REPLICAS: &str = "\
#!/bin/sh
# Puts copies of every partition on the brokers that are named, and waits until they are complete. The
# one that was given the files must be among them. Each broker is the preferred leader in turn. With three
# or more, Kafka answers a producer (acks=all) only when two of them have the record.
# Kafka's programs must be on the PATH. If the cluster wants credentials, name the file with them,
# as --command-config takes it, in COMMAND_CONFIG.
set -eu
if [ $# -lt 2 ]; then
    echo \"usage: $0 HOST:PORT BROKER-ID...\" >&2
    exit 2
fi
server=$1
shift
here=$(cd \"$(dirname \"$0\")\" && pwd)
plan=$(mktemp)
trap 'rm -f \"$plan\"' EXIT
{
    printf '{\"version\":1,\"partitions\":['
    separator=
    for path in \"$here\"/partitions/*/; do
        name=$(basename \"$path\")
        printf '%s\\n{\"topic\":\"%s\",\"partition\":%s,\"replicas\":[%s]}' \\
            \"$separator\" \"${name%-*}\" \"${name##*-}\" \"$(echo \"$*\" | tr ' ' ',')\"
        separator=,
        first=$1
        shift
        set -- \"$@\" \"$first\"
    done
    printf ']}\\n'
} >\"$plan\"
reassign() {
    kafka-reassign-partitions.sh --bootstrap-server \"$server\" ${COMMAND_CONFIG:+--command-config \"$COMMAND_CONFIG\"} \\
        --reassignment-json-file \"$plan\" \"$@\"
}
reassign --execute
while state=$(reassign --verify) && echo \"$state\" | grep -q 'still in progress'; do sleep 2; done
echo \"$state\"
# Kafka does not wait for the disk: a record is safe when two machines have it, also while a third is gone.
if [ $# -ge 3 ]; then
    for topic in $(ls \"$here/partitions\" | sed 's/-[0-9]*$//' | sort -u); do
        kafka-configs.sh --bootstrap-server \"$server\" ${COMMAND_CONFIG:+--command-config \"$COMMAND_CONFIG\"} \\
            --alter --entity-type topics --entity-name \"$topic\" --add-config min.insync.replicas=2
    done
fi
";

/// What a person does next.
pub(super) fn steps(named: &Path, moved: &Moved) -> String {
    let out = path_text(named);
    let mut steps = Steps::default();
    if moved.in_use {
        steps.add(format_args!(
            "This is a rehearsal: the directory was in use. For the move itself close the program that \
             has it\nopen, and run `sapwood graduate` again."
        ));
    }
    steps.add(format_args!(
        "Create the topics; localhost:9092 and 1 are the address and the node.id of the broker that is to \
         have\nthe files:\n\n  sh {out}/create-topics.sh localhost:9092 1"
    ));
    steps.add(format_args!(
        "Stop that broker, and wait until it is gone:\n\n  kafka-server-stop.sh"
    ));
    steps.add(format_args!(
        "On its machine (take {out} there) and as its user, put the files in their places; the\ndirectory is \
         what its settings call log.dirs:\n\n  sh {out}/place-files.sh /var/lib/kafka/data"
    ));
    steps.add(format_args!(
        "Start it. It checks every batch and makes the indexes; `Could not find offset index file` is what \
         it\nlogs of that:\n\n  kafka-server-start.sh -daemon config/server.properties"
    ));
    steps.add(format_args!(
        "See that all of it is there, before anything is produced:\n\n  \
         sh {out}/check-offsets.sh localhost:9092"
    ));
    if !moved.groups.is_empty() {
        steps.add(format_args!(
            "Have the consumer groups go on where they were, before their consumers start:\n\n  \
             sh {out}/reset-offsets.sh localhost:9092"
        ));
    }
    let partitions = moved.topics.iter().flat_map(|topic| &topic.partitions);
    let open = partitions.flat_map(|partition| {
        partition.open_transactions.iter().map(move |offset| (&partition.topic_partition, offset))
    });
    for (at, offset) in open {
        steps.add(format_args!(
            "End a transaction that nobody else will:\n\n  kafka-transactions.sh --bootstrap-server \
             localhost:9092 abort --topic {} --partition {} --start-offset {offset}",
            at.topic(),
            at.partition()
        ));
    }
    steps.add(format_args!(
        "With more brokers in the cluster: have each of them keep a copy of everything, here 1, 2 and 3. \
         From\nthree on a record is answered for (acks=all) when two have it; Kafka does not wait for the \
         disk:\n\n  sh {out}/add-replicas.sh localhost:9092 1 2 3"
    ));
    if !retentions(&moved.topics).is_empty() {
        steps.add(format_args!(
            "When all is well: have Kafka delete by age and size, which it does not until then:\n\n  \
             sh {out}/set-retention.sh localhost:9092"
        ));
    }
    let end = "The directory that this was made of is as it was, and Sapwood can go on with it until something\n\
               is produced to Kafka.\n";
    format!(
        "What to do next, on any machine with Kafka's programs (4.0 or later) on the PATH:\n\n{}{end}",
        steps.text
    )
}

/// Numbered paragraphs.
#[derive(Default)]
struct Steps {
    text: String,
    count: u32,
}

impl Steps {
    fn add(&mut self, step: Arguments<'_>) {
        self.count += 1;
        let step = step.to_string().replace('\n', "\n   ").replace("\n   \n", "\n\n");
        add(&mut self.text, format_args!("{}. {step}\n\n", self.count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_may_have_any_name_and_two_never_share_a_file() {
        assert_eq!(file_name("billing", 1), "billing.csv");
        for (number, id) in
            (1..).zip(["../../evil", ".hidden", "-rf", "a b", "gr\u{fc}n", "a'b\n", "+"])
        {
            assert_eq!(file_name(id, number), format!("group+{number}.csv"));
        }
        assert_eq!(file_name("group-1", 9), "group-1.csv");
    }

    #[test]
    fn a_shell_sees_one_word_whatever_is_in_it() {
        for text in ["billing", "a b", "it's", "$(touch evil)", "a\nb", "\\", "'"] {
            let script = format!("printf %s {}", quoted(text));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), text);
        }
    }
}
