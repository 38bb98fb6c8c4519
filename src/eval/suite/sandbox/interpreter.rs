//! Where Python really lies.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::SandboxError;

/// Folders and files of the system that an interpreter reads: its libraries and their index.
const SYSTEM: [&str; 6] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/etc/ld.so.cache",
    "/etc/localtime",
];

/// A Python and what it must be able to read.
#[derive(Debug, Clone)]
pub(super) struct Interpreter {
    pub program: PathBuf,
    pub readable: Vec<PathBuf>,
}

impl Interpreter {
    /// Asks `python` itself: what is on the path may be a script that starts another.
    pub fn find(python: &Path) -> Result<Self, SandboxError> {
        let missing = |why: String| SandboxError::Unguarded {
            missing: format!("python3 ({why})"),
        };
        let asked = Command::new(python)
            .args([
                "-I",
                "-c",
                "import sys; print(sys.executable); print(sys.base_prefix)",
            ])
            .output()
            .map_err(|e| missing(format!("{}: {e}", python.display())))?;
        if !asked.status.success() {
            return Err(missing(format!(
                "{} ended with {}",
                python.display(),
                asked.status
            )));
        }
        let said = String::from_utf8_lossy(&asked.stdout).into_owned();
        let mut lines = said.lines().map(PathBuf::from);
        let (Some(program), Some(prefix)) = (lines.next(), lines.next()) else {
            return Err(missing(format!(
                "{} did not say where it lies",
                python.display()
            )));
        };
        if !program.is_absolute() || !prefix.is_absolute() {
            return Err(missing(format!("{} said {said:?}", python.display())));
        }
        // A link is followed by the kernel with the rights of where it leads.
        let program = program.canonicalize().unwrap_or(program);
        let mut readable: Vec<PathBuf> = SYSTEM.iter().map(PathBuf::from).collect();
        readable.push(prefix);
        readable.push(program.clone());
        Ok(Interpreter { program, readable })
    }
}
