fn main() -> std::process::ExitCode {
    service_kit::Service::new("db-proxy", env!("CARGO_PKG_VERSION"), db_proxy::start).main()
}
