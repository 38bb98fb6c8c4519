//! The tasks there are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::builtin::builtins;
use super::error::SuiteError;
use super::task::TaskSpec;

/// Tasks by name: the built-in ones, and those of task files.
#[derive(Debug, Clone)]
pub struct Catalogue {
    tasks: BTreeMap<String, TaskSpec>,
}

impl Catalogue {
    /// The built-in tasks.
    pub fn new() -> Self {
        let named = builtins().into_iter().map(|task| (task.name.clone(), task));
        Catalogue {
            tasks: named.collect(),
        }
    }

    /// Adds the task files (`*.toml`) of `folder`, not of folders within; returns how many they were.
    ///
    /// # Errors
    /// A folder or file that cannot be read or is not as [`TaskSpec::parse`] wants it, or a name that is taken.
    pub fn add_folder(&mut self, folder: &Path) -> Result<usize, SuiteError> {
        let failed = |source| SuiteError::Read {
            path: folder.to_owned(),
            source,
        };
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|extension| extension == "toml")
            {
                files.push(path);
            }
        }
        files.sort();
        for file in &files {
            self.add_file(file)?;
        }
        Ok(files.len())
    }

    /// Adds one task file.
    ///
    /// # Errors
    /// As [`add_folder`](Self::add_folder).
    pub fn add_file(&mut self, path: &Path) -> Result<(), SuiteError> {
        let text = fs::read_to_string(path).map_err(|source| SuiteError::Read {
            path: path.to_owned(),
            source,
        })?;
        let task = TaskSpec::parse(&text, path)?;
        if let Some(first) = self.tasks.get(&task.name) {
            return Err(SuiteError::Twice {
                name: task.name,
                first: first.source.clone(),
                second: task.source,
            });
        }
        self.tasks.insert(task.name.clone(), task);
        Ok(())
    }

    /// All tasks, by name.
    pub fn tasks(&self) -> impl Iterator<Item = &TaskSpec> {
        self.tasks.values()
    }

    /// The tasks called `names`, in that order.
    ///
    /// # Errors
    /// The first name that is not there, beside those that are.
    pub fn select<S: AsRef<str>>(&self, names: &[S]) -> Result<Vec<TaskSpec>, SuiteError> {
        let find = |name: &S| {
            let name = name.as_ref();
            self.tasks
                .get(name)
                .cloned()
                .ok_or_else(|| SuiteError::Unknown {
                    name: name.to_owned(),
                    known: self.tasks.keys().cloned().collect::<Vec<_>>().join(", "),
                })
        };
        names.iter().map(find).collect()
    }
}

impl Default for Catalogue {
    fn default() -> Self {
        Catalogue::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_add_to_the_built_in_tasks() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        write(
            "b.toml",
            "name = 'mine'\nkind = 'loss'\nitems = [{text = 'x'}]\n",
        );
        write("notes.md", "no task");
        let mut catalogue = Catalogue::default();
        let before = catalogue.tasks().count();
        assert_eq!(catalogue.add_folder(folder.path()).unwrap(), 1);
        assert_eq!(catalogue.tasks().count(), before + 1);
        let chosen = catalogue.select(&["mine", "arithmetic"]).unwrap();
        assert_eq!(chosen[0].name, "mine");
        let unknown = catalogue.select(&["yours"]).unwrap_err().to_string();
        assert!(
            unknown.contains("\"yours\"; there are arithmetic, "),
            "{unknown}"
        );
        let again = catalogue.add_folder(folder.path()).unwrap_err();
        assert!(matches!(again, SuiteError::Twice { .. }), "{again}");
        write(
            "a.toml",
            "name = 'x'\nkind = 'loss'\nitems = []\nshot = 1\n",
        );
        let fault = catalogue.add_folder(folder.path()).unwrap_err().to_string();
        assert!(fault.contains("a.toml:4: unknown field"), "{fault}");
        for missing in [folder.path().join("none"), folder.path().join("none.toml")] {
            assert!(matches!(
                catalogue.add_folder(&missing),
                Err(SuiteError::Read { .. })
            ));
            assert!(matches!(
                catalogue.add_file(&missing),
                Err(SuiteError::Read { .. })
            ));
        }
    }
}
