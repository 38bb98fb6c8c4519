//! Whether replicas elsewhere answer.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::Method;

use super::{CONNECT, Remote, Remotes};
use crate::runtime::Runtime;

/// Asks every replica for its models each `interval`, which loads and wakes nothing; ends when the replicas are gone, or
/// there are none.
pub(in crate::http) async fn watch(remotes: Weak<Remotes>, runtime: Runtime, interval: Duration) {
    while let Some(remotes) = remotes.upgrade().filter(|all| !all.groups.is_empty()) {
        look(&remotes, &runtime).await;
        drop(remotes);
        tokio::time::sleep(interval).await;
    }
}

async fn look(remotes: &Remotes, runtime: &Runtime) {
    let installed = runtime.installed().await;
    for (model, group) in &remotes.groups {
        let here = installed.contains(model);
        group.here.store(here, Ordering::Relaxed);
        let checks = group.remotes.iter().map(|remote| check(remote));
        join_all(checks).await;
        for remote in &group.remotes {
            let up = remote.down().is_none();
            runtime
                .metrics()
                .set_remote(model.as_str(), &remote.url, up);
        }
    }
}

async fn check(remote: &Remote) {
    let asked = remote.request(Method::GET, "/models").timeout(CONNECT);
    let down = match asked.send().await {
        Ok(answer) if answer.status().is_success() => None,
        Ok(answer) if matches!(answer.status().as_u16(), 401 | 403) => {
            Some("it refuses the key: check key_env or key_file of its entry".to_owned())
        }
        Ok(answer) => Some(format!(
            "GET {}/models is answered {}",
            remote.url,
            answer.status()
        )),
        Err(error) => Some(reason(&error)),
    };
    remote.found(down);
}

/// What went wrong, down to the system's own words: the outer ones only say that something did.
pub(super) fn reason(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match error.is_timeout() {
        true => "it did not answer in time".to_owned(),
        false => inner.to_string(),
    }
}
