//! `config`: what the settings are, where they come from, and whether they are sound.

use anyhow::Result;

use super::exit::Exit;
use super::flags::{Global, ModelFlags};
use super::host::{self, Host};
use super::output;
use crate::config::{Overrides, show};

/// The flags of `config`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print every key and its value
    Show {
        /// Print where each value comes from
        #[arg(long)]
        origin: bool,
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        flags: ModelFlags,
    },
    /// Print the files that are read, low to high, and the home folder
    Path,
    /// Read everything and say whether it is sound
    Check,
}

/// Runs the command.
///
/// # Errors
/// The first wrong setting.
pub(super) fn run(global: &Global, args: &Args) -> Result<Exit> {
    let mut overrides = Overrides::new();
    if let What::Show { flags, .. } = &args.what {
        flags.add_to(&mut overrides);
    }
    let host = Host::open(global, overrides)?;
    let loaded = &host.loaded;
    match &args.what {
        What::Show { origin, json, .. } => output::text(&show(loaded, *origin, *json)?)?,
        What::Path => {
            output::line(format!("home     {}", host.home().root().display()))?;
            for path in &loaded.read {
                output::line(format!("read     {}", path.display()))?;
            }
            for path in &loaded.ignored {
                output::line(format!("ignored  {}", path.display()))?;
            }
        }
        What::Check => {
            host::check(&loaded.settings)?;
            for path in &loaded.ignored {
                eprintln!(
                    "warning: {} is not read: its name is no section and no profile",
                    path.display()
                );
            }
            let files = loaded.read.len();
            output::line(format!(
                "the settings are sound: {files} files read, {} ignored",
                loaded.ignored.len()
            ))?;
        }
    }
    Ok(Exit::Done)
}
