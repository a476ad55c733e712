//! A process that is asked to end before it serves anything: it ends at once, as PID 1 of a pod must, and leaves nothing
//! behind.

#![expect(clippy::unwrap_used, reason = "a test that unwraps fails with what it met")]

use std::{
    fs,
    net::TcpListener,
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// The first lookup of the cluster's settings is given up after five seconds.
const SOON: Duration = Duration::from_secs(3);

/// Dropped, it is killed.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Process {
    fn end_by(&mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let asked = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status;
            }
            assert!(asked.elapsed() < SOON, "it goes on");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn sigterm_ends_it_while_its_cluster_is_silent() {
    for subcommand in ["apiserver", "webhooks"] {
        // Accepts connections by itself, and never answers.
        let cluster = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let kubeconfig = folder.path().join("kubeconfig");
        let document = format!(
            r#"{{"apiVersion": "v1", "kind": "Config", "current-context": "a",
                "clusters": [{{"name": "a", "cluster": {{"server": "http://{}"}}}}],
                "users": [{{"name": "a", "user": {{"token": "a"}}}}],
                "contexts": [{{"name": "a", "context": {{"cluster": "a", "user": "a"}}}}]}}"#,
            cluster.local_addr().unwrap()
        );
        fs::write(&kubeconfig, document).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.args([subcommand, "--bind-address=127.0.0.1", "--secure-port=0", "--kubeconfig"]);
        let command = command.arg(&kubeconfig).env_remove("RUST_LOG").stdin(Stdio::null());
        let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        // It has begun to ask.
        let _asking = cluster.accept().unwrap();
        let status = process.end_by(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{subcommand}: {status}");
    }
}

#[test]
fn a_demo_that_is_interrupted_early_takes_its_key_along() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    let command = command.arg("demo").env("TMPDIR", folder.path()).stdin(Stdio::null());
    let mut process = Process(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let is_empty = || fs::read_dir(folder.path()).unwrap().next().is_none();
    while is_empty() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(process.end_by(Signal::INT).code(), Some(0));
    assert!(is_empty());
}
