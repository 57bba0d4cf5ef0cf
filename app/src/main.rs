//! The site's app.

fn main() -> std::process::ExitCode {
    service_kit::Service::new("app", env!("CARGO_PKG_VERSION"), app::start)
        .command(
            "migrate",
            "Wait for a primary, bring its schema up to date and load the catalogue",
            app::migrate,
        )
        .command(
            "grant-editor",
            "Let registered users, given by e-mail address, change exercises",
            app::grant_editor,
        )
        .main()
}
