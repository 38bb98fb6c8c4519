//! Replicas of a model in other processes: other llamahome daemons, or anything that speaks OpenAI's API. A request for
//! such a model is sent on as it came, and its answer, streamed or not, comes back as it is. Which replica it goes to
//! is decided by the same policies as for those in this process, which take part as one.

mod group;
mod health;
mod proxy;
mod replica;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use group::Group;
pub(super) use health::watch;
pub(super) use proxy::{Sent, send_on};
use replica::Remote;
pub(super) use replica::RemoteLine;

use super::serve::HttpError;
use crate::ids::ModelId;
use crate::runtime::Config;

/// How long a replica may take to be connected to, and to answer a check.
const CONNECT: Duration = Duration::from_secs(3);

/// All models that have replicas elsewhere.
#[derive(Debug, Default)]
pub(super) struct Remotes {
    groups: BTreeMap<ModelId, Group>,
}

impl Remotes {
    /// Those of the settings, with their keys.
    ///
    /// # Errors
    /// When a key is not where the settings say, or the system has no certificates to check others by.
    pub(super) fn new(config: &Config) -> Result<Self, HttpError> {
        if config.remotes.is_empty() {
            // A client reads the system's certificates, and there may be none.
            return Ok(Remotes::default());
        }
        let client = client()?;
        let mut groups: BTreeMap<ModelId, Group> = BTreeMap::new();
        for rule in &config.remotes {
            let remote = Remote::new(rule, client.clone())?;
            let kind = config.keeping(&rule.model).router;
            groups
                .entry(rule.model.clone())
                .or_insert_with(|| Group::new(rule.model.clone(), kind))
                .remotes
                .push(Arc::new(remote));
        }
        Ok(Remotes { groups })
    }

    fn group(&self, model: &ModelId) -> Option<&Group> {
        self.groups.get(model)
    }

    /// What is known of all replicas elsewhere.
    pub(super) fn lines(&self) -> Vec<RemoteLine> {
        let lines = |(model, group): (&ModelId, &Group)| -> Vec<RemoteLine> {
            group.remotes.iter().map(|r| r.line(model)).collect()
        };
        self.groups.iter().flat_map(lines).collect()
    }
}

fn client() -> Result<reqwest::Client, HttpError> {
    crate::tls::install();
    // Replicas are named by address, and mostly near: a proxy of the environment is for the world.
    reqwest::Client::builder()
        .no_proxy()
        .connect_timeout(CONNECT)
        // On a connection that the other end is closing a request is lost, and nobody can say whether it was begun.
        .pool_max_idle_per_host(0)
        .build()
        .map_err(|error| HttpError::Client(error.to_string()))
}
