//! Settings: which layer wins, what errors say, what is shown, and the files written from the table of keys.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use llamahome::config::{Inputs, Layer, Loaded, Settings, keys, load, reference, show};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A working directory and a home directory of a test's own.
struct Place {
    root: TempDir,
    inputs: Inputs,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let (cwd, home_dir) = (root.path().join("project"), root.path().join("user"));
        fs::create_dir_all(&cwd).unwrap();
        let inputs = Inputs {
            cwd,
            home_dir: Some(home_dir),
            ..Inputs::default()
        };
        Place { root, inputs }
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn env(mut self, name: &str, value: &str) -> Self {
        self.inputs.env.insert(name.to_owned(), value.to_owned());
        self
    }

    fn flag(mut self, key: &str, value: Value, flag: &str) -> Self {
        self.inputs
            .overrides
            .push((key.to_owned(), value, flag.to_owned()));
        self
    }

    fn load(&self) -> Loaded {
        load(&self.inputs).unwrap_or_else(|error| panic!("{error}"))
    }

    fn error(&self) -> String {
        let error = load(&self.inputs).expect_err("must be refused");
        error
            .to_string()
            .replace(&format!("{}/", self.root.path().display()), "")
    }

    fn path(&self, path: &str) -> PathBuf {
        self.root.path().join(path)
    }
}

fn tree(settings: &Settings) -> Value {
    serde_json::to_value(settings).unwrap()
}

/// A layer, what adds it, and the place and line that its values then show.
type Step = (Layer, fn(Place) -> Place, &'static str, Option<usize>);

#[test]
fn each_layer_hides_those_below_it() {
    let steps: [Step; 7] = [
        (Layer::BuiltIn, |p| p, "built-in", None),
        (
            Layer::Project,
            |p| {
                p.with(
                    "project/.config/llamahome.toml",
                    "[scheduler]\n\nmax_batch = 2\n",
                )
            },
            "llamahome.toml",
            Some(3),
        ),
        (
            Layer::Profile,
            |p| {
                p.with("project/.config/stage.yaml", "scheduler:\n  max_batch: 3\n")
                    .env("LLAMAHOME_ENV", "stage")
            },
            "stage.yaml",
            Some(2),
        ),
        (
            Layer::User,
            |p| {
                p.with(
                    "user/.config/llamahome/config.json",
                    "{\"scheduler\": {\"max_batch\": 4}}",
                )
            },
            "config.json",
            Some(1),
        ),
        (
            Layer::Dotenv,
            |p| {
                p.with(
                    "project/.env",
                    "OTHER=1\nLLAMAHOME_KV__SINKS=9\nLLAMAHOME_SCHEDULER__MAX_BATCH=5\n",
                )
            },
            ".env",
            Some(3),
        ),
        (
            Layer::Environment,
            |p| p.env("LLAMAHOME_SCHEDULER__MAX_BATCH", "6"),
            "LLAMAHOME_SCHEDULER__MAX_BATCH",
            None,
        ),
        (
            Layer::CommandLine,
            |p| p.flag("scheduler.max_batch", json!("7"), "--max-batch"),
            "--max-batch",
            None,
        ),
    ];
    let expected = [128, 2, 3, 4, 5, 6, 7];
    let mut place = Place::new();
    for ((layer, add, name, line), value) in steps.into_iter().zip(expected) {
        place = add(place);
        let loaded = place.load();
        let origin = &loaded.origins["scheduler.max_batch"];
        assert_eq!(loaded.settings.scheduler.max_batch, value, "{layer:?}");
        assert_eq!((origin.layer, origin.line), (layer, line), "{origin:?}");
        assert!(origin.place.ends_with(name), "{origin:?}");
        assert_eq!(loaded.origins["http.port"].layer, Layer::BuiltIn);
    }
    assert_eq!(place.load().origins["kv.sinks"].line, Some(2));
}

#[test]
fn project_files_are_read_in_the_order_of_their_stems() {
    let mut place = Place::new();
    for (stem, port) in [
        ("default", 1),
        ("llamahome", 2),
        ("config", 3),
        ("settings", 4),
        ("http", 5),
        ("local", 6),
    ] {
        place = place.with(
            &format!("project/.config/{stem}.toml"),
            &format!("[http]\nport = {port}\n"),
        );
        assert_eq!(place.load().settings.http.port, port, "{stem}");
    }
    assert_eq!(place.load().read.len(), 6);
}

#[test]
fn every_format_is_read() {
    let texts = [
        (
            "toml",
            "[kv]\npolicy = 'window'\nbudget = '25%'\n[http]\ncors_origins = ['a', 'b']\n",
        ),
        (
            "yaml",
            "kv:\n  policy: window\n  budget: 25%\nhttp:\n  cors_origins: [a, b]\n",
        ),
        (
            "yml",
            "kv: {policy: window, budget: '25%'}\nhttp: {cors_origins: [a, b]}\nmodel:\n",
        ),
        (
            "json",
            r#"{"kv": {"policy": "window", "budget": "25%"}, "http": {"cors_origins": ["a", "b"]}}"#,
        ),
        (
            "json5",
            "{kv: {policy: 'window', budget: '25%'}, http: {cors_origins: ['a', 'b',]}}",
        ),
        (
            "ini",
            "[kv]\npolicy = window\nbudget = 25%\n[http]\ncors_origins = a, b\n",
        ),
    ];
    for (extension, text) in texts {
        let place = Place::new().with(&format!("project/.config/config.{extension}"), text);
        let settings = tree(&place.load().settings);
        assert_eq!(settings["kv"]["policy"], "window", "{extension}");
        assert_eq!(settings["kv"]["budget"], "25%", "{extension}");
        assert_eq!(
            settings["http"]["cors_origins"],
            json!(["a", "b"]),
            "{extension}"
        );
    }
}

#[test]
fn unknown_keys_are_named_with_their_place_and_the_nearest_key() {
    let known = "did you mean `kv.policy`?";
    let cases = [
        (
            "project/.config/config.toml",
            "[kv]\nsinks = 4\n polcy = 'h2o'\n",
            3,
            "kv.polcy",
            known,
        ),
        (
            "project/.config/kv.yaml",
            "# a\nkv:\n  polcy: h2o\n",
            3,
            "kv.polcy",
            known,
        ),
        (
            "project/.config/local.json",
            "{\n\"kv\": {\n\"polcy\": 1}}",
            3,
            "kv.polcy",
            known,
        ),
        (
            "project/.config/local.json5",
            "{\nkv: {polcy: 1}}",
            2,
            "kv.polcy",
            known,
        ),
        (
            "project/.config/local.ini",
            "[kv]\npolcy = 1\n",
            2,
            "kv.polcy",
            known,
        ),
        (
            "project/.config/default.toml",
            "policy = 'h2o'\n",
            1,
            "policy",
            known,
        ),
        (
            "project/.config/default.toml",
            "\n[htttp]\nport = 1\n",
            2,
            "htttp",
            "did you mean `http`?",
        ),
        (
            "user/.config/llamahome/settings.toml",
            "kv.polcy = 1\n",
            1,
            "kv.polcy",
            known,
        ),
    ];
    for (path, text, line, key, hint) in cases {
        let error = Place::new().with(path, text).error();
        assert_eq!(error, format!("{path}:{line}: unknown key `{key}`: {hint}"));
    }
    let profile = Place::new()
        .with("project/.config/stage.toml", "[kv]\npolcy = 1\n")
        .env("LLAMAHOME_ENV", "stage");
    assert_eq!(
        profile.error(),
        format!("project/.config/stage.toml:2: unknown key `kv.polcy`: {known}")
    );
    let flag = Place::new().flag("kv.polcy", json!("h2o"), "--set");
    assert_eq!(
        flag.error(),
        format!("--set: unknown key `kv.polcy`: {known}")
    );
    let dotenv = Place::new().with("project/.env", "# a\nLLAMAHOME_KV__POLCY=h2o\n");
    let known = "did you mean `LLAMAHOME_KV__POLICY`?";
    assert_eq!(
        dotenv.error(),
        format!("project/.env:2: unknown variable `LLAMAHOME_KV__POLCY`: {known}")
    );
    let variable = Place::new().env("LLAMAHOME_POLICY", "h2o");
    assert_eq!(
        variable.error(),
        format!("LLAMAHOME_POLICY: unknown variable `LLAMAHOME_POLICY`: {known}")
    );
}

#[test]
fn wrong_values_are_named_with_their_place() {
    let cases = [
        (
            "toml",
            "[http]\nport = 'eighty'\n",
            "2: `http.port`: invalid type",
        ),
        (
            "toml",
            "[http]\n\nport = 70000\n",
            "3: `http.port`: invalid value",
        ),
        (
            "toml",
            "[kv]\npolicy = 'h3o'\n",
            "2: `kv.policy`: unknown variant",
        ),
        (
            "toml",
            "[scheduler]\nqueue_timeout = 30\n",
            "2: `scheduler.queue_timeout`: a length of time needs its unit",
        ),
        (
            "toml",
            "[scheduler]\nmax_batch = 0\n",
            "2: `scheduler.max_batch`: 0 is not allowed",
        ),
        (
            "toml",
            "[kv]\nbudget = '101%'\n",
            "2: `kv.budget`: \"101%\" is not a budget",
        ),
        ("toml", "kv = 3\n", "1: `kv` is a section"),
        (
            "toml",
            "[model]\ncontext = 0\n",
            "2: `model.context`: 0 is not allowed",
        ),
        (
            "toml",
            "[runtime]\nmonitor_interval = '0s'\n",
            "2: `runtime.monitor_interval`: 0s is not allowed",
        ),
        (
            "yaml",
            "http:\n  port: [1]\n",
            "2: `http.port`: invalid type",
        ),
        (
            "ini",
            "[http]\nport = eighty\n",
            "2: `http.port`: invalid type",
        ),
    ];
    for (extension, text, message) in cases {
        let path = format!("project/.config/config.{extension}");
        let error = Place::new().with(&path, text).error();
        assert!(error.starts_with(&format!("{path}:{message}")), "{error}");
    }
    let hinted = Place::new().env("LLAMAHOME_KV__POLICY", "h3o").error();
    assert!(hinted.ends_with("did you mean `h2o`?"), "{hinted}");
    let hidden = Place::new()
        .with("project/.env", "\nLLAMAHOME_HTTP__PORT=x\n")
        .env("LLAMAHOME_HTTP__PORT", "1");
    assert!(
        hidden
            .error()
            .starts_with("project/.env:2: `http.port`: invalid type"),
        "{}",
        hidden.error()
    );
}

#[test]
fn broken_files_name_the_line() {
    let cases = [
        ("config.toml", "[kv]\nsinks = 4\n[kv]\nsinks = 5\n", 3),
        ("config.toml", "[kv]\nsinks = 4\nsinks = 5\n", 3),
        ("config.toml", "[kv]\nsinks = = 4\n", 2),
        ("config.yaml", "kv:\n  sinks: [4\n  heavy: 1\n", 3),
        ("config.json", "{\"kv\":\n {\"sinks\": }}", 2),
        ("config.json5", "{kv:\n {sinks: }}", 2),
        ("config.ini", "[kv]\nsinks", 2),
    ];
    for (name, text, line) in cases {
        let path = format!("project/.config/{name}");
        let error = Place::new().with(&path, text).error();
        assert!(error.starts_with(&format!("{path}:{line}: ")), "{error}");
    }
    let secret = Place::new()
        .with(
            "project/.env",
            "A=1\nLLAMAHOME_HTTP__API_KEY=two words hunter2\n",
        )
        .error();
    assert!(
        secret.starts_with("project/.env:2: ") && !secret.contains("hunter2"),
        "{secret}"
    );
}

#[test]
fn secrets_are_never_shown() {
    let place = Place::new().env("LLAMAHOME_HTTP__API_KEY", "hunter2");
    let loaded = place.load();
    assert_eq!(
        loaded.settings.http.api_key.as_ref().unwrap().expose(),
        "hunter2"
    );
    let debug = format!("{loaded:?}");
    let listings = [(false, false), (true, false), (false, true), (true, true)];
    for shown in listings
        .map(|(origin, json)| show(&loaded, origin, json).unwrap())
        .iter()
        .chain([&debug])
    {
        assert!(
            shown.contains("<redacted>") && !shown.contains("hunter2"),
            "{shown}"
        );
    }
    let wrong = Place::new()
        .with("project/.config/http.toml", "[http]\napi_key = 7716253\n")
        .error();
    assert!(
        wrong.contains("http.toml:2: `http.api_key`") && !wrong.contains("7716253"),
        "{wrong}"
    );
}

#[test]
fn listings_have_every_key_and_its_origin() {
    let place = Place::new()
        .with("project/.config/kv.toml", "[kv]\npolicy = 'window'\n")
        .with("project/.config/kvv.toml", "")
        .with("project/.config/models.json", "[]")
        .with("project/.config/nextest.toml", "")
        .with("project/.config/training_config.yaml", "")
        .with("project/.config/prod.toml", "")
        .with("project/.config/notes.txt", "");
    let loaded = place.load();
    assert_eq!(loaded.ignored, [place.path("project/.config/kvv.toml")]);

    let flat: Value = serde_json::from_str(&show(&loaded, true, true).unwrap()).unwrap();
    let path = place.path("project/.config/kv.toml").display().to_string();
    let origin = json!({"layer": "project", "place": path, "line": 2});
    assert_eq!(
        flat["kv.policy"],
        json!({"value": "window", "origin": origin})
    );
    let plain: Value = serde_json::from_str(&show(&loaded, false, true).unwrap()).unwrap();
    assert_eq!(plain, {
        let mut tree = tree(&loaded.settings);
        // 32-bit floats are shown as they are written.
        for name in ["temperature", "top_p", "min_p"] {
            tree["sampling"][name] = flat[&format!("sampling.{name}")]["value"].clone();
        }
        tree
    });
    assert_eq!(plain["sampling"]["temperature"], json!(0.2));

    let text = show(&loaded, true, false).unwrap();
    for key in keys::Keys::new().unwrap().all {
        assert!(
            text.contains(&key.path()) && flat.get(key.path()).is_some(),
            "{}",
            key.path()
        );
    }
    assert!(text.contains(&format!("project {path}:2")), "{text}");
    assert!(text.contains("kvv.toml"), "{text}");
}

#[test]
fn the_users_own_folder_of_settings_is_no_project() {
    let mut place = Place::new().with("user/.config/settings.toml", "[another_program]\nkey = 1\n");
    place.inputs.cwd = place.path("user");
    let loaded = place.load();
    assert!(
        loaded.read.is_empty() && loaded.ignored.is_empty(),
        "{loaded:?}"
    );

    let mut moved = Place::new().with("project/.config/settings.toml", "[another_program]\n");
    assert!(moved.error().contains("another_program"));
    let path = moved.path("project/.config").display().to_string();
    moved = moved.env("XDG_CONFIG_HOME", &path);
    assert!(moved.load().read.is_empty());
}

#[test]
fn reserved_variables_choose_folders_and_profile() {
    let home = Place::new()
        .with("user/.config/llamahome/config.toml", "[http]\nport = 1\n")
        .with("state/config/config.toml", "[http]\nport = 2\n")
        .with(
            "project/.env",
            "LLAMAHOME_HOME=../state\nLLAMAHOME_ENV=prod\n",
        );
    let loaded = home.load();
    assert_eq!(loaded.settings.http.port, 2);
    assert_eq!(loaded.home, Some(home.path("project/../state")));
    assert_eq!(loaded.profile.as_deref(), Some("prod"));
    assert_eq!(
        loaded.origins["telemetry.format"].place,
        "built-in prod.toml"
    );

    let moved = Place::new()
        .with("project/.config/config.toml", "[http]\nport = 1\n")
        .with("deploy/config.toml", "[http]\nport = 3\n")
        .env("LLAMAHOME_CONFIG", "../deploy");
    assert_eq!(moved.load().settings.http.port, 3);
    let missing = Place::new().env("LLAMAHOME_CONFIG", "nowhere").error();
    assert!(missing.contains("nowhere is not a folder"), "{missing}");

    let own = Place::new()
        .with("project/.config/prod.toml", "[http]\nport = 4\n")
        .env("LLAMAHOME_ENV", "prod")
        .load();
    assert_eq!(
        (own.settings.http.port, own.settings.telemetry.keep_files),
        (4, 14)
    );
    let unknown = Place::new()
        .with("project/.config/stage.toml", "")
        .env("LLAMAHOME_ENV", "../prod")
        .error();
    assert!(
        unknown.contains("no profile \"../prod\": use one of dev, prod, stage,"),
        "{unknown}"
    );
}

#[test]
fn the_shipped_files_load_and_the_default_one_changes_nothing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join(".config/default.toml")).unwrap();
    let place = Place::new().with("project/.config/default.toml", &text);
    let loaded = place.load();
    assert_eq!(tree(&loaded.settings), tree(&Settings::default()));
    assert_eq!(loaded.origins["kv.policy"].layer, Layer::Project);

    let commented = fs::read_to_string(root.join(".env.example")).unwrap();
    let variables = commented
        .lines()
        .filter_map(|line| line.strip_prefix("# LLAMAHOME_"));
    let keys: Vec<String> = variables
        .filter(|line| {
            line.split('=')
                .next()
                .is_some_and(|name| name.contains("__"))
        })
        .map(|line| format!("LLAMAHOME_{line}\n"))
        .collect();
    let uncommented = Place::new().with("project/.env", &keys.concat()).load();
    let from_dotenv = |origins: &BTreeMap<String, _>| origins.len();
    assert_eq!(
        keys.len(),
        from_dotenv(&uncommented.origins),
        "every key has a variable in .env.example"
    );
    assert!(
        uncommented
            .origins
            .values()
            .all(|origin| origin.layer == Layer::Dotenv)
    );
}

#[test]
fn generated_files_agree_with_the_table_of_keys() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in reference::files().unwrap() {
        let path = root.join(file.path);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::write(&path, &file.text).unwrap();
        }
        let held = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            held == file.text,
            "{} differs from the table of keys: run UPDATE_DOCS=1 cargo test --test config",
            file.path
        );
    }
}
