//! The `lb` program.

fn main() -> std::process::ExitCode {
    service_kit::Service::new("lb", env!("CARGO_PKG_VERSION"), lb::start).main()
}
