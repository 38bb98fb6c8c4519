//! The shell as a person has it: the real binary on a terminal of its own, a pseudo-terminal whose other end types and reads.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tempfile::TempDir;

mod support;

const PATIENCE: Duration = Duration::from_secs(120);

/// Asks where the cursor is; an editor waits for the answer of its terminal.
const WHERE: &[u8] = b"\x1b[6n";

/// A terminal, and the program that runs on it.
struct Terminal {
    keys: File,
    seen: Arc<Mutex<Vec<u8>>>,
    /// How much of what is shown was waited for already.
    read: usize,
    child: Child,
}

impl Terminal {
    /// `llamahome` in a home, on a terminal of 100 columns.
    fn open(home: &TempDir, args: &[&str]) -> Self {
        let (master, side) = support::pty();
        let size = rustix::termios::Winsize {
            ws_row: 40,
            ws_col: 100,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&master, size).unwrap();
        // `setsid --ctty` makes it the terminal that signals of its keys come from.
        let mut command = support::in_home("setsid", home.path());
        let child = command
            .args(["--ctty", "--wait", support::PROGRAM])
            .env("TERM", "xterm")
            .env("LLAMAHOME_SAMPLING__TEMPERATURE", "0")
            .args(args)
            .stdin(Stdio::from(side()))
            .stdout(Stdio::from(side()))
            .stderr(Stdio::from(side()))
            .spawn()
            .unwrap();
        let mut screen = File::from(master);
        let keys = screen.try_clone().unwrap();
        let mut answers = screen.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                let part = &buffer[..count];
                for _ in part.windows(WHERE.len()).filter(|part| *part == WHERE) {
                    let _ = answers.write_all(b"\x1b[1;1R");
                }
                all.lock().unwrap().extend_from_slice(part);
            }
        });
        Terminal {
            keys,
            seen,
            read: 0,
            child,
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// How often the editor has begun to read, and how often it has ended: it asks for pastes in brackets while it reads.
    fn reads(&self) -> (usize, usize) {
        let seen = self.seen.lock().unwrap();
        let count = |sign: &[u8]| {
            seen.windows(sign.len())
                .filter(|part| *part == sign)
                .count()
        };
        (count(b"\x1b[?2004h"), count(b"\x1b[?2004l"))
    }

    /// Waits until the editor reads: what is typed before may be lost, as on any terminal.
    fn ready(&self) {
        self.until("the prompt", |(begun, ended)| begun > ended);
    }

    /// Presses what ends the reading, and waits until it has.
    fn end_with(&mut self, keys: &str) {
        let (_, before) = self.reads();
        self.press(keys);
        self.until("the end of the line", |(_, ended)| ended > before);
    }

    fn until(&self, what: &str, reached: impl Fn((usize, usize)) -> bool) {
        let began = Instant::now();
        while !reached(self.reads()) {
            assert!(began.elapsed() < PATIENCE, "{what} never came");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn enter(&mut self, line: &str) {
        self.ready();
        self.press(line);
        self.end_with("\r");
    }

    /// Waits until `text` is shown behind what was waited for before; returns all that was shown up to its end.
    fn wait(&mut self, text: &str) -> String {
        let began = Instant::now();
        loop {
            let shown = plain(&String::from_utf8_lossy(&self.seen.lock().unwrap()));
            let new = shown.get(self.read..).unwrap_or_default();
            if let Some(at) = new.find(text) {
                let end = at + text.len();
                self.read += end;
                return new[..end].to_owned();
            }
            assert!(
                began.elapsed() < PATIENCE,
                "{text:?} was never shown:\n{new}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn ends(mut self) {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                return;
            }
            assert!(began.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without the sequences that move and colour.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => {
                if chars.next() == Some('[') {
                    let _ = chars.find(|c| c.is_ascii_alphabetic());
                }
            }
            '\r' => {}
            c => out.push(c),
        }
    }
    out
}

/// A home in which the tests' model is installed as `smollm2`.
fn home() -> TempDir {
    let home = tempfile::tempdir().unwrap();
    support::install(home.path(), "smollm2");
    home
}

#[test]
fn commands_are_completed_texts_have_several_lines_and_ctrl_c_ends_an_answer_only() {
    let home = home();
    let mut terminal = Terminal::open(&home, &[]);
    terminal.wait("/help lists what can be typed");

    terminal.ready();
    terminal.press("/sess\t");
    terminal.wait("/sessions");
    terminal.end_with("\r");
    terminal.wait("there is no session yet");

    terminal.enter("/set max_tokens 8");
    terminal.ready();
    for line in ["\"\"\"", "Say A,", "and B."] {
        terminal.press(line);
        terminal.wait(line);
        terminal.press("\r");
    }
    terminal.press("\"\"\"");
    terminal.end_with("\r");
    terminal.wait("ended by max_tokens");
    terminal.enter("/undo");
    let forgotten = terminal.wait("and B.");
    assert!(
        forgotten.contains("forgotten: Say A,\nand B."),
        "{forgotten}"
    );

    terminal.enter("/set max_tokens 1500");
    terminal.enter("Write a long story about a lighthouse.");
    terminal.wait("lighthouse.");
    // Of the answer.
    terminal.wait(" the ");
    terminal.press("\u{3}");
    terminal.wait("(stopped)");
    // At the prompt it ends nothing either, but the line.
    terminal.ready();
    terminal.press("not to be asked");
    terminal.wait("not to be asked");
    terminal.end_with("\u{3}");
    terminal.enter("/show");
    terminal.wait("a context of");
    terminal.enter("/monitor 2");
    terminal.wait("tokens/s");
    terminal.enter("/monitor 3600");
    terminal.wait("machine:");
    terminal.press("\u{3}");
    terminal.enter("/bye");
    terminal.ends();
}

#[test]
fn the_cache_is_drawn_and_a_session_is_saved_and_loaded_by_another_process() {
    let home = home();
    let mut terminal = Terminal::open(&home, &["chat", "--kv-policy", "h2o", "--kv-budget", "24"]);
    terminal.wait("/help lists what can be typed");
    terminal.enter("/set max_tokens 24");
    terminal.enter("Tell me about the sea.");
    terminal.wait("tokens evicted");
    terminal.enter("/kv");
    let drawn = terminal.wait(" by none)");
    assert!(
        drawn.contains("h2o") && drawn.contains("the sea"),
        "{drawn}"
    );
    let gone = drawn.rsplit("by some, ").next().unwrap();
    let gone: usize = gone.split(' ').next().unwrap().parse().unwrap();
    assert!(gone > 0, "{drawn}");
    terminal.enter("/save trip");
    terminal.wait("saved as trip");
    terminal.enter("/retry");
    terminal.wait("ended by max_tokens");
    terminal.enter("/bye");
    terminal.ends();

    let mut later = Terminal::open(&home, &["chat", "--kv-policy", "h2o", "--kv-budget", "24"]);
    later.wait("/help lists what can be typed");
    later.enter("/load trip");
    later.wait("going on after 2 messages");
    later.enter("/sessions");
    later.wait("trip");
    later.ready();
    later.press("\u{4}");
    later.ends();
}
