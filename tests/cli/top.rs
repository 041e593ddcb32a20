//! `sapwood top`: what it says where there is no terminal for it, and that it gives a terminal back as
//! it was. What it draws is compared beside its own code.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::pty::{OpenptyResult, Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;
use snapbox::cmd::cargo_bin;
use snapbox::str;

use crate::scene::{Scene, content};

/// How long something on the screen may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program on a terminal.
struct OnTerminal {
    child: Child,
    master: File,
    /// Kept open, so that the terminal's state can be asked for after the program has ended.
    slave: OwnedFd,
    before: Termios,
    printed: Receiver<Vec<u8>>,
    screen: String,
}

impl OnTerminal {
    fn start(scene: &Scene, columns: u16) -> Self {
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(Some(&size), None).unwrap();
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(slave.try_clone().unwrap());
        let child = Command::new(cargo_bin!("sapwood"))
            .current_dir(scene.path())
            .env("SAPWOOD_DIR", "data")
            .env("TERM", "xterm")
            .env_remove("NO_COLOR")
            .args(["top", "--interval", "0.1"])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let master = File::from(master);
        let printed = read_on(master.try_clone().unwrap());
        Self { child, master, slave, before, printed, screen: String::new() }
    }

    /// Waits until something is printed, and forgets what came before it. Only what changes is
    /// printed: blanks where there were blanks are not.
    fn wait_for(&mut self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.screen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            let more = self.printed.recv_timeout(left);
            let more = more.unwrap_or_else(|_| panic!("{text:?} is not in {:?}", self.screen));
            self.screen += &String::from_utf8_lossy(&more);
        }
        self.screen.clear();
    }

    fn press(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// The program has ended by itself, and the terminal is as it was.
    fn end(mut self) -> ExitStatus {
        self.wait_for("\x1b[?1049l");
        let status = self.child.wait().unwrap();
        assert_eq!(tcgetattr(&self.slave).unwrap(), self.before);
        status
    }
}

/// Reads in a thread of its own: a read of a terminal has no limit in time.
fn read_on(mut master: File) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(len @ 1..) = master.read(&mut buffer) {
            if sender.send(buffer[..len].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

#[test]
fn keys_lead_to_a_record_and_q_gives_the_terminal_back() {
    let scene = Scene::with_orders();
    let before = content(&scene.data());
    let mut top = OnTerminal::start(&scene, 80);
    top.wait_for("orders");
    top.press("/orders\r\r");
    top.wait_for("PARTITION");
    top.press("\r");
    top.wait_for("carol");
    top.press("\r");
    top.wait_for("header from");
    top.press("q");
    assert_eq!(top.end().code(), Some(0));
    assert_eq!(content(&scene.data()), before, "it has only looked");
}

#[test]
fn ctrl_c_and_a_signal_give_the_terminal_back_too() {
    let scene = Scene::with_orders();
    let mut top = OnTerminal::start(&scene, 80);
    top.wait_for("orders");
    top.press("\x03");
    assert_eq!(top.end().code(), Some(130));

    let mut top = OnTerminal::start(&scene, 80);
    top.wait_for("orders");
    let pid = Pid::from_raw(i32::try_from(top.child.id()).unwrap());
    kill(pid, Signal::SIGTERM).unwrap();
    assert_eq!(top.end().code(), Some(143));
}

#[test]
fn it_follows_what_another_process_does() {
    let scene = Scene::with_orders();
    let mut top = OnTerminal::start(&scene, 80);
    top.wait_for("orders");
    let broker = scene.open();
    broker.create_topic("payments", sapwood::TopicConfig::default()).unwrap();
    top.wait_for("payments");
    top.press("q");
    assert_eq!(top.end().code(), Some(0));
}

#[test]
fn twenty_columns_are_refused_in_one_sentence() {
    let scene = Scene::with_orders();
    let mut top = OnTerminal::start(&scene, 20);
    top.wait_for("the terminal has 20 columns and 24 rows");
    assert_eq!(top.child.wait().unwrap().code(), Some(2));
}

#[test]
fn without_a_terminal_it_says_what_there_is_instead() {
    let scene = Scene::with_orders();
    scene.run("top").assert().code(2).stderr_eq(str![[r#"
error: `sapwood top` draws on a terminal, and standard output is none; `sapwood top --once` prints one screen

"#]]);
    scene.run("top --interval 0").assert().code(2);
    scene.run("top --once --interval 0.1").assert().success().stdout_eq(str![[r#"
sapwood top  data  [..] UTC
0 records/s  0 B/s  516 B  0 unsynced  2 topics  3 partitions  0 groups
records/s [..] max 0/s
 Topics   Groups                                                                                            by RECORDS/S
TOPIC           PARTS  RECORDS/S▾                 BYTES/S  RECORDS       SIZE  OLDEST  HORIZON         LAST SYNC SEEN
empty               1          0           ▁        0 B/s        0        0 B       -  -               -
orders              2          0           ▁        0 B/s        6      516 B  [..]  -               -



read from disk every 0.1 s; a sync seen is what got synced between two looks
q quit  Enter open  Tab groups  s sort  r reverse  / filter  ? help

"#]]);
}

#[test]
fn a_directory_that_is_none_or_damaged_is_told_before_anything_is_drawn() {
    Scene::bare().run("top --once").assert().code(3).stdout_eq("");
    let scene = Scene::with_orders();
    std::fs::remove_dir_all(scene.data().join("orders-1")).unwrap();
    scene.run("top --once").assert().code(5).stdout_eq("");
}
