//! A pseudo-terminal.

use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The end where a person sits, and what opens the end where a program runs. The first is not inherited: a program that had it
/// would keep its own terminal there.
pub fn pty() -> (OwnedFd, impl Fn() -> File) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let name = ptsname(&master, Vec::new()).unwrap();
    let side = move || {
        let mut side = File::options();
        side.read(true).write(true);
        side.open(name.to_str().unwrap()).unwrap()
    };
    (master, side)
}
