//! The shims of [`super`]: this executable, started with a hidden argument.
//!
//! A shim must not depend on a living owner, and must not panic if the owner is gone.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};

use super::GRACE;

/// `supervise-child LOG PID-FILE PROGRAM ARGS…`: runs a program until stdin closes.
pub(super) const SUPERVISE: &str = "supervise-child";
/// `guard-folder FOLDER`: removes a folder once stdin closes.
pub(super) const GUARD: &str = "guard-folder";
/// `bind-to-owner PID PROGRAM ARGS…`: becomes a program that dies with the process PID.
pub(super) const BIND: &str = "bind-to-owner";

/// The byte on a shim's stdin that makes it kill its program at once.
pub(super) const KILL: u8 = b'K';

/// A folder cannot be removed while a process still writes into it.
const REMOVE_ATTEMPTS: u32 = 20;
const REMOVE_PAUSE: Duration = Duration::from_millis(100);

/// The exit code if the shim itself fails, as `env` and `xargs` use it.
const CANNOT_RUN: i32 = 127;

static INTERCEPTED: AtomicBool = AtomicBool::new(false);

/// Runs a shim and exits if there is a hidden argument; otherwise returns. Must be the first call in every
/// `main`.
pub fn intercept() {
    let mut args = std::env::args_os().skip(1);
    let outcome = match args.next().as_ref().and_then(|first| first.to_str()) {
        Some(SUPERVISE) => supervise(args),
        Some(GUARD) => guard(args),
        Some(BIND) => bind(args),
        _ => return INTERCEPTED.store(true, Ordering::Relaxed),
    };
    std::process::exit(outcome.unwrap_or_else(|error| {
        eprintln!("gatehouse: {error}");
        CANNOT_RUN
    }));
}

pub(super) fn intercepted() -> bool {
    INTERCEPTED.load(Ordering::Relaxed)
}

/// The path of this executable, which also works after a new build has replaced the file.
pub(super) fn executable() -> io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

enum Event {
    Ended(io::Result<ExitStatus>),
    Kill,
    OwnerGone,
}

fn supervise(mut args: impl Iterator<Item = OsString>) -> io::Result<i32> {
    let (log, pid_file, program) = (next(&mut args)?, next(&mut args)?, next(&mut args)?);
    let log = File::options().create(true).append(true).open(log)?;
    // Spawned from the main thread, which lives as long as this process, as `bind` needs it.
    let mut child = Command::new(executable()?)
        .arg(BIND)
        .arg(std::process::id().to_string())
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()?;
    let group = Pid::from_child(&child);
    std::fs::write(PathBuf::from(pid_file), child.id().to_string())?;

    let (send, events) = mpsc::channel();
    let orders = send.clone();
    thread::spawn(move || read_orders(&orders));
    thread::spawn(move || send.send(Event::Ended(child.wait())));

    let mut patience = None;
    let status = loop {
        let event = match patience {
            None => events.recv().ok(),
            Some(grace) => events.recv_timeout(grace).ok(),
        };
        match event {
            Some(Event::Ended(status)) => break status?,
            Some(Event::OwnerGone) => {
                signal(group, Signal::TERM);
                patience = Some(GRACE);
            }
            Some(Event::Kill) | None => signal(group, Signal::KILL),
        }
    };
    // The program may have left child processes in its group.
    signal(group, Signal::KILL);
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()))
}

fn read_orders(events: &mpsc::Sender<Event>) {
    for byte in io::stdin().lock().bytes() {
        match byte {
            Ok(KILL) => {
                let _ = events.send(Event::Kill);
            }
            Ok(_) => {}
            Err(_) => break,
        }
    }
    let _ = events.send(Event::OwnerGone);
}

/// Signals the group; it may have ended already.
fn signal(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

fn guard(mut args: impl Iterator<Item = OsString>) -> io::Result<i32> {
    let folder = PathBuf::from(next(&mut args)?);
    // The pipe carries no data; only its end matters.
    let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
    remove(&folder).map(|()| 0)
}

fn remove(folder: &Path) -> io::Result<()> {
    let mut attempt = 1;
    loop {
        match std::fs::remove_dir_all(folder) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) if attempt == REMOVE_ATTEMPTS => return Err(error),
            Err(_) => thread::sleep(REMOVE_PAUSE),
        }
        attempt += 1;
    }
}

fn bind(mut args: impl Iterator<Item = OsString>) -> io::Result<i32> {
    let owner = next(&mut args)?;
    let program = next(&mut args)?;
    die_with(&owner)?;
    let error = Command::new(&program).args(args).exec();
    Err(io::Error::new(error.kind(), format!("cannot run {}: {error}", program.display())))
}

/// Asks the kernel for SIGKILL when the thread that started this process ends. `exec` keeps this setting.
#[cfg(target_os = "linux")]
fn die_with(owner: &OsString) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // If the owner ended before the call above, this process has another parent now.
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().to_string());
    if parent.as_deref().map(OsString::from).as_ref() == Some(owner) {
        Ok(())
    } else {
        Err(io::Error::other("the owner has ended"))
    }
}

#[cfg(not(target_os = "linux"))]
fn die_with(_: &OsString) -> io::Result<()> {
    Ok(())
}

fn next(args: &mut impl Iterator<Item = OsString>) -> io::Result<OsString> {
    args.next().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "an argument is missing"))
}
