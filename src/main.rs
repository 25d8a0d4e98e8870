//! Arguments to command, result to exit code.

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use sluicegate::commands::{Cli, World};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(told) => {
            // Help and version go to stdout, and are worth no less than what commands print.
            let printed =
                sluicegate::commands::print_usage(&told).and_then(|()| std::io::stdout().flush());
            let code = if printed.is_ok() { told.exit_code() } else { 2 };
            return ExitCode::from(u8::try_from(code).unwrap_or(2));
        }
    };
    // The one provider of TLS for every client in the process; a second installation would be refused.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let world = World {
        env: std::env::vars().collect(),
        stdin_is_terminal: std::io::stdin().is_terminal(),
        stdout_is_terminal: std::io::stdout().is_terminal(),
        stderr_is_terminal: std::io::stderr().is_terminal(),
    };
    match cli.run(&world) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            // Where stderr cannot be written either, the exit code is all there is.
            let _ = writeln!(std::io::stderr(), "sluice: {failure}");
            failure.exit.into()
        }
    }
}
