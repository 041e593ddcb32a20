//! On a terminal: a real one, 20 columns wide, whatever it is.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};

use nix::pty::{Winsize, openpty};
use sapwood::Record;
use snapbox::cmd::cargo_bin;
use snapbox::str;

use crate::scene::Scene;

/// What the program prints on a terminal of so many columns, and its exit code. The terminal makes
/// `\r\n` of newlines; that is undone.
fn on_terminal(scene: &Scene, columns: u16, arguments: &[&str]) -> (String, Option<i32>) {
    let size = Winsize { ws_row: 10, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = |fd: &OwnedFd| Stdio::from(fd.try_clone().unwrap());
    let mut child = Command::new(cargo_bin!("sapwood"))
        .current_dir(scene.path())
        .env("SAPWOOD_DIR", "data")
        .env("TERM", "xterm")
        .env_remove("COLUMNS")
        .env_remove("NO_COLOR")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(end(&pty.slave))
        .stderr(end(&pty.slave))
        .spawn()
        .unwrap();
    drop(pty.slave);
    let mut printed = Vec::new();
    // A terminal ends with an error once nobody has its other side.
    let _ended = File::from(pty.master).read_to_end(&mut printed);
    let code = child.wait().unwrap().code();
    (String::from_utf8(printed).unwrap().replace("\r\n", "\n"), code)
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_table_that_does_not_fit_has_a_line_for_each_cell() {
    let scene = Scene::with_orders();
    let (text, code) = on_terminal(&scene, 20, &["topics", "list"]);
    assert_eq!(code, Some(0));
    snapbox::assert_data_eq!(
        plain(&text),
        str![[r#"
TOPIC empty
PARTITIONS 1
RECORDS 0
SIZE 0 B

TOPIC orders
PARTITIONS 2
RECORDS 6
SIZE 516 B

"#]]
    );
    let (wide, _) = on_terminal(&scene, 80, &["topics", "list"]);
    assert!(plain(&wide).starts_with("TOPIC   PARTITIONS"), "{wide}");
    let columns = scene.run("topics list").env("COLUMNS", "20").output().unwrap();
    assert_eq!(String::from_utf8(columns.stdout).unwrap(), plain(&text));
}

#[test]
fn there_are_colours_unless_they_are_not_wanted() {
    let scene = Scene::with_orders();
    let consume = ["consume", "orders", "-p", "0", "--filter", "value=en", "-f", "%o %k %s\\n"];
    let (text, _) = on_terminal(&scene, 80, &consume);
    assert_eq!(plain(&text), "2 alice sent\n");
    assert!(text.contains("\x1b[32malice\x1b[0m"), "{text:?}");
    assert!(text.contains("s\x1b[1m\x1b[31men\x1b[0mt"), "{text:?}");
    let (text, _) = on_terminal(&scene, 80, &[&consume[..], &["--color", "never"]].concat());
    assert_eq!(text, "2 alice sent\n");
    let forced = scene.run_with(consume).args(["--color", "always"]).output().unwrap();
    assert!(String::from_utf8(forced.stdout).unwrap().contains("\x1b[32malice"));
    let unwanted = scene.run_with(consume).env("NO_COLOR", "1").output().unwrap();
    assert_eq!(String::from_utf8(unwanted.stdout).unwrap(), "2 alice sent\n");
}

#[test]
fn records_do_not_control_the_terminal() {
    let scene = Scene::with_orders();
    let broker = scene.open();
    let hostile = Record::new("\x1b]0;owned\x07\x1b[2Ja\r\nb\u{9b}c\u{202e}").key(b"\xff\x00");
    broker.topic("empty").unwrap().partition(0).unwrap().append(&[hostile]).unwrap();
    broker.close().unwrap();
    let consume = ["consume", "empty", "-f", "%k %s\\n", "--color", "never"];
    let (text, _) = on_terminal(&scene, 80, &consume);
    assert_eq!(text, "\\xff\\x00 \\x1b]0;owned\\x07\\x1b[2Ja\\r\\nb\\u{9b}c\\u{202e}\n");
    let piped = scene.run_with(consume).output().unwrap();
    assert!(piped.stdout.starts_with(b"\xff\x00 \x1b]0;owned\x07"), "bytes as they are");
}

#[test]
fn a_progress_bar_fits_and_leaves_nothing_behind() {
    let scene = Scene::with_orders();
    scene.write("lines.txt", "a line of a file\n".repeat(200_000));
    let (text, code) = on_terminal(&scene, 20, &["produce", "empty", "lines.txt"]);
    assert_eq!(code, Some(0));
    assert!(text.ends_with("200000 record(s) stored in empty\n"), "{text:?}");
    assert_eq!(
        scene.read().topic("empty").unwrap().partition(0).unwrap().high_watermark(),
        200_000
    );
}

#[test]
fn help_and_errors_are_whole_on_twenty_columns() {
    let scene = Scene::with_orders();
    let (help, code) = on_terminal(&scene, 20, &["topics", "--help"]);
    assert_eq!(code, Some(0));
    assert!(plain(&help).contains("describe"), "{help}");
    let (error, code) = on_terminal(&scene, 20, &["consume", "ordres"]);
    assert_eq!(code, Some(3));
    let said = "error: topic \"ordres\" does not exist; there are: empty, orders\n";
    assert_eq!(plain(&error), said);
}
