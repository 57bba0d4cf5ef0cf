//! One thread that starts all processes. "Die with the parent" means the thread that forked, not the process: were a test's
//! worker thread to start a server, the server would end with that test's runtime.

use std::io;
use std::process::Command;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

struct Job {
    command: Command,
    reply: SyncSender<io::Result<i32>>,
}

/// Starts a command on the thread that lives as long as this process. The child is not waited for here: whoever looks at
/// its state reaps it.
pub(super) fn spawn(command: Command) -> io::Result<i32> {
    static SPAWNER: OnceLock<SyncSender<Job>> = OnceLock::new();
    let jobs = SPAWNER.get_or_init(|| {
        let (jobs, queue) = sync_channel(64);
        std::thread::spawn(move || run(&queue));
        jobs
    });
    let (reply, answer) = sync_channel(1);
    jobs.send(Job { command, reply }).map_err(io::Error::other)?;
    answer.recv().map_err(io::Error::other)?
}

fn run(queue: &Receiver<Job>) {
    while let Ok(mut job) = queue.recv() {
        let started =
            job.command.spawn().map(|child| i32::try_from(child.id()).expect("Linux pids fit in i32"));
        // The asker is blocked on the answer; it is gone only when the process ends.
        let _ = job.reply.send(started);
    }
}
