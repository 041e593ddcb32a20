//! `--help`, `--version` and completions.

use snapbox::str;

use crate::scene::Scene;

#[test]
fn the_help_names_commands_and_exit_codes() {
    Scene::bare().run("--help").assert().success().stdout_eq(str![[r#"
Looks into a directory of topics, and changes what is in it

Usage: sapwood [OPTIONS] <COMMAND>

Commands:
  topics        List, describe, create, alter and delete topics
  produce       Store lines as records of a topic
  consume       Print records of a topic
  groups        List, describe, reset and delete consumer groups
  share-groups  List, describe and delete share groups
  perf          Measure rates and latencies
  metrics       Print a snapshot of the directory in Prometheus' text form
  top           Watch topics, rates, retention and groups in the terminal
  dump          Show what lies in the files, batch by batch
  verify        Read everything and say what is damaged
  salvage       Make a new directory of what is intact of a damaged one
  backup        Make a copy of the directory, also while it is in use
  graduate      Prepare a directory for a Kafka broker to take over
  completions   Print a script that completes commands and options in a shell
  help          Print this message or the help of the given subcommand(s)

Options:
      --dir <DIR>     The directory of topics [env: SAPWOOD_DIR]
      --color <WHEN>  When to use colours; `auto` heeds `NO_COLOR` [default: auto] [possible values:
                      auto, always, never]
  -h, --help          Print help
  -V, --version       Print version

Reading commands work beside a process that has the directory open, and change nothing in it.

Examples:
  sapwood --dir data topics create orders --partitions 4 --config retention.ms=86400000
  sapwood --dir data produce orders --key-separator : lines.txt
  SAPWOOD_DIR=data sapwood consume orders --since 10m --follow

Exit codes:
    0  done; also when whoever reads the output has closed it
    1  it failed
    2  wrong usage: an option, a setting or a name that cannot be
    3  not found: a directory of topics, a topic, a partition, a group, an offset
    4  locked: another process has the directory open for writing
    5  damaged: files are not as they were written, or records are lost
    6  full: the disk, a quota, or a topic that has reached its max.bytes
    7  written by a newer version, or in a way that this build does not know
    8  a topic of this name exists already, or something at the place where a copy is to go
  130  interrupted with Ctrl-C (143: terminated); what was done is kept

"#]]);
    Scene::bare().run("").assert().code(2);
}

#[test]
fn every_command_has_examples() {
    let scene = Scene::bare();
    for command in [
        "topics list",
        "topics describe",
        "topics create",
        "topics alter",
        "topics delete",
        "produce",
        "consume",
        "groups list",
        "groups describe",
        "groups reset-offsets",
        "groups delete",
        "share-groups list",
        "share-groups describe",
        "share-groups delete",
        "perf produce",
        "perf consume",
        "metrics",
        "top",
        "dump",
        "verify",
        "salvage",
        "backup",
        "graduate",
        "completions",
    ] {
        let output = scene.run(&format!("{command} --help")).output().unwrap();
        let help = String::from_utf8(output.stdout).unwrap();
        assert!(help.contains("\nExamples:\n"), "{command}: {help}");
        assert!(help.contains(command.rsplit(' ').next().unwrap()), "{command}");
    }
}

#[test]
fn completions_know_every_command() {
    let scene = Scene::bare();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = scene.run(&format!("completions {shell}")).output().unwrap();
        assert!(output.status.success());
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(script.contains("reset-offsets") && script.contains("consume"), "{shell}");
    }
}

#[test]
fn a_command_that_does_not_exist_is_answered_with_the_one_that_was_meant() {
    Scene::bare().run("topic list").assert().code(2).stderr_eq(str![[r#"
error: unrecognized subcommand 'topic'

  tip: some similar subcommands exist: 'top', 'topics'

Usage: sapwood [OPTIONS] <COMMAND>

For more information, try '--help'.

"#]]);
}
