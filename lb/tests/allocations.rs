//! How often a request makes the balancer allocate. The allocator of the process counts, so the balancer runs in a process of
//! this binary: the same code as the program's, started in the same way. It tells the count to whoever writes it a line.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![allow(clippy::print_stdout, reason = "it says what a test says, and answers on its standard output")]
#![allow(
    unsafe_code,
    reason = "an allocator is made of unsafe functions; this one only counts and passes on"
)]

#[path = "it/steady.rs"]
mod steady;

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use steady::Clients;

/// Of one request on kept connections.
const ALLOCATIONS_MAX: f64 = 8.0;
/// Set in the process that is counted.
const COUNTED: &str = "COUNTED_BALANCER";
const PATIENCE: Duration = Duration::from_secs(30);

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    if std::env::var_os(COUNTED).is_some() {
        std::thread::spawn(tell);
        return service_kit::Service::new("lb", "counted", lb::start).main();
    }
    a_request_allocates_at_most_so_often();
    // As the usual runner says it, for whoever adds up tests.
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
    ExitCode::SUCCESS
}

/// Answers each byte with the count.
fn tell() {
    let mut byte = [0];
    while std::io::stdin().read_exact(&mut byte).is_ok() {
        println!("{}", ALLOCATIONS.load(Ordering::Relaxed));
    }
    // Whoever asked has ended.
    std::process::exit(0);
}

fn a_request_allocates_at_most_so_often() {
    let mut balancer = Balancer::start(&[steady::origin(), steady::origin()]);
    let mut clients = Clients::connect(balancer.http, 16);
    clients.rounds(16);
    let before = balancer.allocations();
    let requests = clients.rounds(256);
    let per_request = (balancer.allocations() - before) as f64 / requests as f64;
    println!("  {per_request:.2} allocations a request over {requests}");
    assert!(per_request <= ALLOCATIONS_MAX, "{per_request:.2} allocations a request");
}

/// The process that is counted; ends with this one.
struct Balancer {
    child: Child,
    asks: ChildStdin,
    tells: BufReader<ChildStdout>,
    http: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Balancer {
    fn start(backends: &[SocketAddr]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready.json");
        let list: Vec<String> = backends.iter().map(|address| format!("\"{address}\"")).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .arg("--ready-file")
            .arg(&ready)
            .env_clear()
            .env(COUNTED, "1")
            .env("LB_SERVER__LISTEN", "127.0.0.1:0")
            .env("LB_ADMIN__LISTEN", "127.0.0.1:0")
            .env("LB_SERVICE__WORKERS", "1")
            .env("LB_LOG__FILTER", "error")
            .env("LB_DISCOVERY__STATIC", format!("[{}]", list.join(",")))
            // No check is counted.
            .env("LB_HEALTH__INTERVAL_MS", "60000")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (asks, tells) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        let started = Instant::now();
        let bound: BTreeMap<String, SocketAddr> = loop {
            match std::fs::read_to_string(&ready) {
                Ok(text) => break serde_json::from_str(&text).unwrap(),
                Err(_) if started.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(10)),
                Err(error) => panic!("not ready: {error}, {:?}", child.try_wait()),
            }
        };
        Self { child, asks, tells, http: bound["http"], _folder: folder }
    }

    fn allocations(&mut self) -> u64 {
        self.asks.write_all(b"?").unwrap();
        let mut line = String::new();
        self.tells.read_line(&mut line).unwrap();
        line.trim().parse().unwrap_or_else(|_| panic!("a count, not {line:?}"))
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
