//! Arguments to command, result to exit code.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use sluicegate::commands::{Cli, World};

fn main() -> ExitCode {
    let cli = Cli::parse();
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
            eprintln!("sluice: {failure}");
            failure.exit.into()
        }
    }
}
