//! A place to train in: a home, a text of numbers, and a recipe for a model that takes many steps a second.

use std::path::PathBuf;

use llamahome::store::{Catalog, Home, Library};

/// Endless, as far as tests wait.
const RECIPE: &str = r#"
stage = "pretrain"
[model]
depth = 1
aspect_ratio = 16
head_dim = 16
tied = true
context = 32
[tokenizer]
vocab_size = 300
[data]
path = "PATH"
validation_split = 0.1
[optim]
lr = 3e-3
[batch]
rows = 2
[horizon]
steps = 100000
[evaluation]
every = 20
[checkpoint]
every = 1000000
[logging]
every = 1
[export]
name = "tiny"
"#;

pub struct Place {
    pub folder: tempfile::TempDir,
    pub library: Library,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::at(folder.path().join("home"));
        home.create().unwrap();
        let library = Library::new(home, Catalog::built_in().unwrap());
        let place = Place { folder, library };
        let text: String = (0..300)
            .map(|n| format!("The number {n} comes before the number {}. ", n + 1))
            .collect();
        std::fs::write(place.path("text.txt"), text).unwrap();
        std::fs::create_dir(place.path("recipes")).unwrap();
        std::fs::write(place.path("recipes/tiny.toml"), place.recipe()).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn recipe(&self) -> String {
        RECIPE.replace("PATH", self.path("text.txt").to_str().unwrap())
    }
}
