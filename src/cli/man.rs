//! `man`: the manual pages, one a command.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Command;

use super::exit::Exit;

/// The flags of `man`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The folder to write them to, such as /usr/local/share/man/man1
    folder: PathBuf,
}

/// Writes the pages of `command` and all below it.
///
/// # Errors
/// When the folder cannot be written to.
pub(super) fn run(command: Command, args: &Args) -> Result<Exit> {
    std::fs::create_dir_all(&args.folder)
        .with_context(|| format!("{} cannot be made", args.folder.display()))?;
    let name = command.get_name().to_owned();
    write(command, &name, &args.folder)?;
    Ok(Exit::Done)
}

fn write(command: Command, name: &str, folder: &Path) -> Result<()> {
    let named = command.clone().name(name.to_owned());
    let mut page = Vec::new();
    clap_mangen::Man::new(named).render(&mut page)?;
    let path = folder.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| format!("{} cannot be written", path.display()))?;
    for below in command
        .get_subcommands()
        .filter(|below| !below.is_hide_set())
    {
        write(
            below.clone(),
            &format!("{name}-{}", below.get_name()),
            folder,
        )?;
    }
    Ok(())
}
