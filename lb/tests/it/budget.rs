//! What a request and a connection may cost: counted, never timed. Allocations have a binary of their own, for they are
//! counted by the allocator of the process (`tests/allocations.rs`).

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::{Lb, Setup, eventually};
use crate::steady::{self, Clients};

/// System calls of the worker for one request on kept connections. Four are needed: two reads and two writes.
const SYSCALLS_MAX: f64 = 4.5;
/// Resident memory for one connection that has had an answer and is idle.
const IDLE_BYTES_MAX: u64 = 24 * 1_024;

/// Nothing happens besides: no check while it is counted.
async fn quiet(backends: usize) -> Lb {
    let backends: Vec<_> = (0..backends).map(|_| steady::origin()).collect();
    let setup = Setup::of(&backends).with("service.workers", "1").with("health.interval_ms", "60000");
    setup.start(backends.len()).await
}

#[tokio::test]
async fn a_request_takes_at_most_so_many_system_calls() {
    let lb = quiet(2).await;
    let mut clients = Clients::connect(lb.http, 32);
    clients.rounds(4);
    let Some(strace) = Strace::attach(worker_of(&lb)).await else { return };
    let requests = clients.rounds(128);
    let (calls, table) = strace.finish();
    let per_request = calls as f64 / requests as f64;
    eprintln!("  {per_request:.2} system calls a request over {requests}");
    assert!(requests > 2_000 && per_request > 1.0, "strace counted {calls}:\n{table}");
    assert!(per_request <= SYSCALLS_MAX, "{per_request:.2} system calls a request:\n{table}");
}

#[tokio::test]
async fn an_idle_connection_takes_at_most_so_much_memory() {
    let lb = quiet(1).await;
    let few = Clients::connect(lb.http, 64);
    let before = lb.resident_kb();
    let many = Clients::connect(lb.http, 1_000);
    let bytes = (lb.resident_kb() - before) * 1_024 / 1_000;
    eprintln!("  {bytes} bytes for an idle connection");
    assert!(bytes <= IDLE_BYTES_MAX, "{bytes} bytes for an idle connection");
    drop((few, many));
}

/// The only worker's thread.
fn worker_of(lb: &Lb) -> i32 {
    let tasks = fs::read_dir(format!("/proc/{}/task", lb.pid())).unwrap().map(Result::unwrap);
    let mut workers = tasks.filter(|task| {
        fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("lb-worker-"))
    });
    let worker = workers.next().unwrap();
    assert!(workers.next().is_none(), "one worker");
    worker.file_name().to_str().unwrap().parse().unwrap()
}

/// Counts the system calls of one thread.
struct Strace {
    child: Child,
    table: tempfile::NamedTempFile,
}

impl Strace {
    /// Nothing where there is no strace and may be none.
    async fn attach(thread: i32) -> Option<Self> {
        let table = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("strace");
        command.args(["-c", "-U", "calls,name", "-o"]).arg(table.path()).args(["-p", &thread.to_string()]);
        let mut child = match command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) => {
                assert!(std::env::var_os("CI").is_none(), "strace ({error}): run deploy/setup/host test");
                eprintln!("SKIPPED: strace is missing");
                return None;
            }
        };
        let stderr = child.stderr.take().unwrap();
        let saying = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            BufReader::new(stderr).read_line(&mut line).unwrap();
            line
        });
        let said = saying.await.unwrap();
        assert!(said.contains("attached"), "strace says: {said}");
        let traced = format!("/proc/{thread}/status");
        let tracer = format!("TracerPid:\t{}\n", child.id());
        eventually("strace traces", || fs::read_to_string(&traced).unwrap().contains(&tracer)).await;
        Some(Self { child, table })
    }

    /// The count, and by which calls.
    fn finish(mut self) -> (u64, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let table = fs::read_to_string(self.table.path()).unwrap();
        let total = table.lines().find(|line| line.trim_end().ends_with(" total"));
        let calls = total.and_then(|line| line.split_whitespace().next()?.parse().ok());
        (calls.unwrap_or_else(|| panic!("no total in\n{table}")), table)
    }
}
