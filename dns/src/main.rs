//! The `dns` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::Service::new("dns", env!("CARGO_PKG_VERSION"), dns::start).main()
}
