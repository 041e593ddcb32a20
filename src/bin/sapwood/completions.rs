//! `sapwood completions`.

use std::io::Write;

use clap::Args;
use clap_complete::Shell;

use crate::exit::Result;

/// Print a script that completes commands and options in a shell.
#[derive(Args)]
#[command(after_help = "\
Examples:
  sapwood completions bash > ~/.local/share/bash-completion/completions/sapwood
  sapwood completions zsh > ~/.zfunc/_sapwood
  sapwood completions fish > ~/.config/fish/completions/sapwood.fish")]
pub(crate) struct Completions {
    /// The shell to complete in
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self, command: &mut clap::Command) -> Result {
        // Made first and written then: the generator does not expect a pipe to close.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, command, "sapwood", &mut script);
        std::io::stdout().lock().write_all(&script)?;
        Ok(())
    }
}
