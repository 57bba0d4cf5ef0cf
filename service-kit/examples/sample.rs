//! The smallest whole program on the kit: a TCP server that greets and echoes one line per connection. The kit's own tests run it.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use arc_swap::ArcSwap;
use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};
use service_kit::{Context, Error, Handover, Invalid, Service, Settings, net};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

fn main() -> ExitCode {
    Service::new("sample", "1.2.3", start)
        .command("greet", "Print the greeting and the words given", greet)
        .main()
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    server: Server,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Server {
    listen: String,
    greeting: String,
    /// A dependency that is reached when this file is there.
    needs: String,
    /// Where a successor finds this process.
    handover: String,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            greeting: "hello".into(),
            needs: String::new(),
            handover: String::new(),
        }
    }
}

struct Config {
    listen: SocketAddr,
    greeting: String,
    needs: String,
    handover: Option<Handover>,
}

impl Settings for Config {
    type Raw = Raw;

    fn parse(Raw { server }: Raw) -> Result<Self, Invalid> {
        let listen = server.listen.parse().map_err(|_| {
            Invalid::new(
                "server.listen",
                &server.listen,
                "not an address and port",
                "write for example 127.0.0.1:7000",
            )
        })?;
        let ready_timeout = std::time::Duration::from_millis(500);
        let handover = Some(server.handover).filter(|path| !path.is_empty());
        let handover = handover.map(|path| Handover { socket: path.into(), ready_timeout });
        Ok(Self { listen, greeting: server.greeting, needs: server.needs, handover })
    }

    fn handover(&self) -> Option<&Handover> {
        self.handover.as_ref()
    }
}

#[allow(clippy::print_stdout, reason = "a one-shot command answers on standard output")]
async fn greet(cx: Context<Config>) -> Result<(), Error> {
    println!("{} {}", cx.settings.greeting, cx.arguments.join(" "));
    Ok(())
}

async fn start(mut cx: Context<Config>) -> Result<(), Error> {
    let mut listeners = cx.listen("echo", cx.settings.listen, 1)?.remove(0);
    let listener = TcpListener::from_std(listeners.remove(0))?;
    cx.bound("echo", listener.local_addr()?);
    if !cx.settings.needs.is_empty() {
        let dependency = cx.readiness.dependency("file");
        let path = cx.settings.needs.clone();
        let stopping = cx.shutdown.stopping();
        cx.tasks.spawn("file-watcher", async move {
            while !stopping.is_cancelled() {
                match tokio::fs::try_exists(&path).await {
                    Ok(true) => dependency.reached(),
                    _ => dependency.lost("no such file"),
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
    }
    let greeting = Arc::new(ArcSwap::from_pointee(cx.settings.greeting.clone()));
    let shown = greeting.clone();
    cx.admin_routes(Router::new().route(
        "/greeting",
        get(move || {
            let shown = shown.load_full();
            async move { format!("{shown}\n") }
        }),
    ));
    let (mut reloads, current) = (cx.reloads(), greeting.clone());
    let stopping = cx.shutdown.stopping();
    cx.tasks.spawn("reloads", async move {
        while let Some(new) = stopping.run_until_cancelled(reloads.next()).await {
            current.store(Arc::new(new.greeting));
        }
    });
    let (closing, tasks, aborted) = (cx.shutdown.closing(), cx.tasks.clone(), cx.shutdown.aborted());
    let opened = cx.opened();
    cx.tasks.spawn("echo-listener", async move {
        if closing.run_until_cancelled(opened.cancelled()).await.is_none() {
            return;
        }
        while let Some((stream, _)) = closing.run_until_cancelled(net::accept(&listener)).await {
            let (greeting, aborted) = (greeting.load_full(), aborted.clone());
            tasks.spawn("connection", async move {
                let _ = aborted.run_until_cancelled(echo(stream, &greeting)).await;
            });
        }
    });
    cx.run().await
}

/// `panic` as a line shows what the kit does about a bug.
async fn echo(mut stream: TcpStream, greeting: &str) -> std::io::Result<()> {
    stream.write_all(format!("{greeting}\n").as_bytes()).await?;
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await?;
    assert_ne!(line.trim(), "panic", "on purpose");
    stream.write_all(line.as_bytes()).await
}
