//! The web page in a headless Chromium that `scripts/setup.py --page` finds or installs; the cases are in `page/page.mjs`.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use llamahome::eval::{KeptResults, Results, Row, Task};
use llamahome::runtime::Training;

mod support;
use support::{Daemon, FakeSource, Place, Setup};

fn results() -> Results {
    let mut rows = Vec::new();
    for (policy, budgets) in [
        ("full", vec![None]),
        ("h2o", vec![Some(0.1), Some(0.2), Some(0.5)]),
        ("window", vec![Some(0.1), Some(0.2), Some(0.5)]),
    ] {
        for budget in budgets {
            let right: f64 = match policy {
                "window" => 20.0 * budget.unwrap_or(1.0),
                _ => 20.0 * f64::sqrt(budget.unwrap_or(1.0)),
            };
            let mut scores = vec![1.0; right as usize];
            scores.resize(20, 0.0);
            rows.push(Row::new(Task::Passkey, policy, budget).with_scores(&scores));
        }
    }
    Results {
        rows,
        command: "llamahome eval --tasks passkey".to_owned(),
        model: "fake".to_owned(),
        seed: 0,
        samples: 20,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// What the environment says is where, for `make test` does.
fn told(name: &str) -> PathBuf {
    let told = std::env::var_os(name);
    told.unwrap_or_else(|| panic!("{name} is not set: `make test` sets it"))
        .into()
}

#[test]
#[ignore = "needs Chromium, node and axe-core: see `make test`"]
fn the_page_in_a_browser() {
    let place = Place::new();
    let home = place.library.home();
    KeptResults::new(home.evaluations())
        .keep(&results())
        .unwrap();
    let mut setup = Setup::fake(FakeSource {
        delay: Duration::from_millis(15),
        ..FakeSource::default()
    });
    setup.sections.folder = home.root().to_owned();
    setup.sections.runtime.monitor_interval = "200ms".parse().unwrap();
    setup.sections.training = Some(Training {
        library: place.library.clone(),
        recipes: vec![place.path("recipes")],
    });
    let daemon = Daemon::start(setup);
    let locked = Daemon::start(Setup::fake(FakeSource::default()).key("right"));
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/page/page.mjs");
    let mut node = Command::new("node");
    node.arg(script)
        .arg(format!("http://{}", daemon.address))
        .arg(told("LLAMAHOME_BROWSER"))
        .arg(told("LLAMAHOME_AXE"))
        .arg(format!("http://{}", locked.address));
    if let Some(only) = std::env::var_os("LLAMAHOME_PAGE_ONLY") {
        node.arg(only);
    }
    let status = node.status().expect("node runs");
    assert!(status.success(), "{status}");
}
