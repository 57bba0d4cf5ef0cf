//! SIGHUP: reads the configuration again; a broken one changes nothing.

use tokio::sync::mpsc;

/// Configurations that were asked for by SIGHUP, already parsed.
#[derive(Debug)]
pub struct Reloads<S> {
    receiver: mpsc::Receiver<S>,
}

impl<S> Reloads<S> {
    pub(crate) fn new() -> (mpsc::Sender<S>, Self) {
        let (sender, receiver) = mpsc::channel(1);
        (sender, Self { receiver })
    }

    /// The next configuration; never returns once the program ends.
    pub async fn next(&mut self) -> S {
        match self.receiver.recv().await {
            Some(settings) => settings,
            None => std::future::pending().await,
        }
    }
}
