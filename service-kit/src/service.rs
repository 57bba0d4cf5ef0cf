//! The order in which every program starts: command line, configuration, logs, runtime, admin, signals, `start`.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::admin::{Admin, Door, Facts};
use crate::config::{self, Kit, Loaded};
use crate::handover::{self, Listeners};
use crate::telemetry::{self, LogFilter};
use crate::{Context, Error, Identity, Metrics, Readiness, Reloads, Settings, Shutdown, Tasks};

/// `EX_CONFIG` of sysexits: the configuration is wrong, and starting again will not help.
const EXIT_CONFIG: u8 = 78;

type Start<S> = Box<dyn FnOnce(Context<S>) -> Pin<Box<dyn Future<Output = Result<(), Error>>>>>;

/// A program: its name, what it runs, and its one-shot commands.
pub struct Service<S> {
    name: &'static str,
    version: &'static str,
    start: Start<S>,
    commands: Vec<Command<S>>,
    tools: Vec<Tool>,
}

/// A flag that does one thing and ends.
#[derive(Clone, Copy)]
struct Tool {
    name: &'static str,
    words: &'static [&'static str],
    about: &'static str,
    run: fn(&[String]) -> ExitCode,
}

struct Command<S> {
    name: &'static str,
    about: &'static str,
    run: Start<S>,
}

impl<S> fmt::Debug for Service<S> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Service({} {})", self.name, self.version)
    }
}

impl<S: Settings> Service<S> {
    /// A program that runs `start` until it is told to stop.
    pub fn new<F>(name: &'static str, version: &'static str, start: fn(Context<S>) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + 'static,
    {
        Self {
            name,
            version,
            start: Box::new(move |cx| Box::pin(start(cx))),
            commands: Vec::new(),
            tools: Vec::new(),
        }
    }

    /// Adds a one-shot command: the same preparation without the admin listener; its extra words are `Context::arguments`.
    #[must_use]
    pub fn command<F>(mut self, name: &'static str, about: &'static str, run: fn(Context<S>) -> F) -> Self
    where
        F: Future<Output = Result<(), Error>> + 'static,
    {
        self.commands.push(Command { name, about, run: Box::new(move |cx| Box::pin(run(cx))) });
        self
    }

    /// Adds a flag `--name WORD [WORD...]` that does one thing without configuration, logs and listeners. Only the first of
    /// its words has to be given.
    #[must_use]
    pub fn tool(
        mut self,
        name: &'static str,
        words: &'static [&'static str],
        about: &'static str,
        run: fn(&[String]) -> ExitCode,
    ) -> Self {
        self.tools.push(Tool { name, words, about, run });
        self
    }

    /// Runs the program: 0 after a clean stop, 78 for a bad configuration, 2 for a bad command line, 1 for the rest.
    pub fn main(self) -> ExitCode {
        let options = match self.command_line().try_get_matches() {
            Ok(matches) => matches,
            Err(error) => error.exit(),
        };
        for tool in &self.tools {
            if let Some(words) = options.get_many::<String>(tool.name) {
                return (tool.run)(&words.cloned().collect::<Vec<_>>());
            }
        }
        let options = Options::read(&options);
        let file = options.config.as_deref();
        let loaded = match config::load::<S>(self.name, file, std::env::vars()) {
            Ok(loaded) => loaded,
            Err(error) => return refuse(self.name, &error),
        };
        if options.probe {
            return probe(admin_address(self.name, &loaded.kit));
        }
        let door = match loaded.kit.door() {
            Ok(door) => door,
            Err(invalid) => return refuse(self.name, &invalid),
        };
        if options.check_config {
            let _ = write!(std::io::stdout(), "{}", loaded.effective);
            return ExitCode::SUCCESS;
        }
        let log_filter = match telemetry::start(&loaded.kit) {
            Ok(filter) => filter,
            Err(invalid) => return refuse(self.name, &invalid),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(loaded.kit.workers)
            .enable_all()
            .build()
            .expect("the system gives threads to a starting program");
        let name = self.name;
        let outcome = runtime.block_on(self.run(loaded, options, (door, log_filter)));
        // Blocking work that is still running (password hashing) is not waited for.
        runtime.shutdown_background();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(error = %chain(error.as_ref()), "{name} failed");
                ExitCode::FAILURE
            }
        }
    }

    async fn run(
        self,
        loaded: Loaded<S>,
        options: Options,
        (door, log_filter): (Door, LogFilter),
    ) -> Result<(), Error> {
        let Loaded { settings, kit, effective: _ } = loaded;
        let identity = Identity::new(kit.instance.clone());
        let (name, version) = (self.name, self.version);
        info!(program = name, version, instance = %identity.instance, "starting");
        let readiness = Readiness::new(identity.clone()).configured(kit.weight, &kit.content);
        let metrics = Metrics::new(name, version, &identity);
        let tasks = Tasks::new();
        let shutdown = Shutdown::default();
        let bound = Arc::new(Mutex::new(BTreeMap::new()));
        let (run, one_shot) = self.chosen(options.command.as_deref());
        let facts = Facts {
            program: name,
            version,
            readiness: readiness.clone(),
            metrics: metrics.clone(),
            tasks: tasks.clone(),
            log_filter,
        };
        let handover = settings.handover().filter(|_| !one_shot).cloned();
        let mut taken = match &handover {
            Some(terms) => {
                handover::take(terms, name, version).await.map_err(|error| format!("hand-over: {error}"))?
            }
            None => None,
        };
        let inherited = taken.as_mut().map(|taken| std::mem::take(&mut taken.sockets)).unwrap_or_default();
        let mut listeners = Listeners::new(inherited, handover.is_some());
        let opened = CancellationToken::new();
        let admin_opened = admin_opened(taken.is_some(), &opened);
        let admin_address = if one_shot { any_port() } else { admin_address(name, &kit) };
        let listener =
            listeners.one("admin", admin_address).map_err(|error| format!("admin listener: {error}"))?;
        let address = listener.local_addr()?;
        let admin = Admin::start(listener, facts, door, admin_opened, shutdown.handed_over())?;
        let (reload, reloads) = Reloads::new();
        watch_signals(name, options.config.clone(), shutdown.clone(), reload)?;
        let context = Context {
            settings,
            arguments: options.arguments,
            identity,
            workers: kit.workers,
            readiness,
            shutdown: shutdown.clone(),
            tasks,
            metrics,
            admin,
            reloads: Some(reloads),
            bound,
            ready_file: options.ready_file,
            program: name,
            opened,
            listeners,
            handover,
            taken,
            lame_duck: kit.lame_duck,
            drain_deadline: kit.drain_deadline,
        };
        context.bound("admin", address);
        if !one_shot {
            return run(context).await;
        }
        let told_to_stop = shutdown.draining();
        tokio::select! {
            outcome = run(context) => outcome,
            () = told_to_stop.cancelled() => Err("told to stop before it was done".into()),
        }
    }

    fn chosen(self, command: Option<&str>) -> (Start<S>, bool) {
        match self.commands.into_iter().find(|known| Some(known.name) == command) {
            Some(known) => (known.run, true),
            None => (self.start, false),
        }
    }

    fn command_line(&self) -> clap::Command {
        let flag = |name, help| Arg::new(name).long(name).help(help).action(ArgAction::SetTrue).global(true);
        let path = |name, help| Arg::new(name).long(name).help(help).value_name("FILE").global(true);
        let commands = self.commands.iter().map(|command| {
            let words = Arg::new("arguments").num_args(0..).help("What the command works on");
            clap::Command::new(command.name).about(command.about).arg(words)
        });
        clap::Command::new(self.name)
            .version(self.version)
            .arg(path("config", "TOML configuration; every key has an environment variable too"))
            .arg(flag("check-config", "Print the configuration in force, secrets redacted, and exit"))
            .arg(path("ready-file", "Write the bound addresses here, as JSON, once listening"))
            .arg(flag("probe", "Ask the running program's admin listener whether it is alive, and exit"))
            .args(self.tools.iter().map(|tool| {
                let words = Arg::new(tool.name).long(tool.name).help(tool.about);
                words.num_args(1..=tool.words.len()).value_names(tool.words)
            }))
            .subcommands(commands)
    }
}

struct Options {
    config: Option<PathBuf>,
    ready_file: Option<PathBuf>,
    check_config: bool,
    probe: bool,
    command: Option<String>,
    arguments: Vec<String>,
}

impl Options {
    fn read(matches: &ArgMatches) -> Self {
        let path = |name| matches.get_one::<String>(name).map(PathBuf::from);
        let sub = matches.subcommand();
        let arguments = sub
            .and_then(|(_, matches)| matches.get_many::<String>("arguments"))
            .map_or_else(Vec::new, |words| words.cloned().collect());
        Self {
            config: path("config"),
            ready_file: path("ready-file"),
            check_config: matches.get_flag("check-config"),
            probe: matches.get_flag("probe"),
            command: sub.map(|(name, _)| name.to_owned()),
            arguments,
        }
    }
}

/// SIGTERM and SIGINT begin the stop, a second one ends the waiting; SIGHUP reads the configuration again.
fn watch_signals<S: Settings>(
    program: &'static str,
    file: Option<PathBuf>,
    shutdown: Shutdown,
    reload: mpsc::Sender<S>,
) -> Result<(), Error> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        let mut signals = 0;
        loop {
            tokio::select! {
                () = received(&mut terminate) => signals += 1,
                () = received(&mut interrupt) => signals += 1,
                () = received(&mut hang_up) => {
                    reload_once(program, file.as_deref(), &reload).await;
                    continue;
                }
            }
            if signals == 1 { shutdown.drain() } else { shutdown.abort() }
        }
    });
    Ok(())
}

async fn received(signal: &mut Signal) {
    if signal.recv().await.is_none() {
        std::future::pending::<()>().await;
    }
}

async fn reload_once<S: Settings>(program: &str, file: Option<&std::path::Path>, reload: &mpsc::Sender<S>) {
    match config::load::<S>(program, file, std::env::vars()) {
        Err(error) => error!(%error, "reload refused: the configuration in force stays"),
        Ok(_) if reload.is_closed() => info!("SIGHUP: nothing here can be reloaded"),
        Ok(loaded) => {
            if reload.send(loaded.settings).await.is_ok() {
                info!("configuration reloaded");
            }
        }
    }
}

/// The admin listener answers from the first moment on, unless another process still does.
fn admin_opened(taken: bool, opened: &CancellationToken) -> CancellationToken {
    if taken {
        return opened.clone();
    }
    let now = CancellationToken::new();
    now.cancel();
    now
}

fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// Where the admin listener is when nothing else was said: one digit a program.
fn admin_address(program: &str, kit: &Kit) -> SocketAddr {
    let digit = ["dns", "lb", "app", "session-store", "db-proxy"].iter().position(|known| *known == program);
    let port = 9_001 + digit.map_or(8, |index| u16::try_from(index).expect("five programs"));
    kit.admin_listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

/// Asks `/livez` of the process that runs with the same configuration: the health check of containers.
fn probe(admin: SocketAddr) -> ExitCode {
    let address = match admin.ip() {
        ip if ip.is_unspecified() => SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), admin.port()),
        _ => admin,
    };
    match ask_livez(address) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "probe of {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn ask_livez(address: SocketAddr) -> std::io::Result<bool> {
    const PATIENCE: Duration = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut status = [0; 12];
    stream.read_exact(&mut status)?;
    Ok(&status == b"HTTP/1.1 200")
}

fn refuse(program: &str, error: &dyn fmt::Display) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{program}: {error}");
    ExitCode::from(EXIT_CONFIG)
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
