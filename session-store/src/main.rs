//! Watches the session store, and inspects and revokes single sessions.

use std::process::ExitCode;

use session_store::{commands, server};

fn main() -> ExitCode {
    service_kit::Service::new("session-store", env!("CARGO_PKG_VERSION"), server::start)
        .command(
            "inspect",
            "Show a session: ID or cookie value as a word or on stdin, then 'values' to see them",
            commands::inspect,
        )
        .command(
            "revoke",
            "End a session for good: ID or cookie value as a word or on stdin",
            commands::revoke,
        )
        .main()
}
