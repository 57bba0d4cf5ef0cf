//! The `dns` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    service_kit::Service::new("dns", env!("CARGO_PKG_VERSION"), dns::start)
        .tool(
            "check-zone",
            &["FILE", "ORIGIN"],
            "Read a zone file, say what is wrong with it, and exit",
            dns::check_zone::run,
        )
        .main()
}
