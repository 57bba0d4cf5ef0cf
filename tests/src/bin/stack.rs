//! The `stack` command; everything is in the library.

fn main() -> std::process::ExitCode {
    tests::cli::main()
}
