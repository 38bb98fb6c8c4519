//! The sessions of a chat beside the one that is talked in: listed, saved, loaded, copied, erased.

use anyhow::{Result, bail};

use super::{Conversation, Current};
use crate::cli::output;
use crate::ids::SessionId;
use crate::runtime::SessionLine;
use crate::text::Role;

impl Conversation {
    /// The sessions that there are.
    ///
    /// # Errors
    /// When the engine fails.
    pub(in crate::cli) async fn sessions(&self) -> Result<String> {
        let lines = self.runtime.sessions().list(&self.model).await?;
        if lines.is_empty() {
            return Ok("there is no session yet\n".to_owned());
        }
        let count = |n: Option<usize>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let row = |line: &SessionLine| {
            let report = &line.report;
            let here = report.name == self.session.name.as_str();
            let saved = report.saved && report.place != "saved";
            [
                if here { "*" } else { "" }.to_owned(),
                report.name.clone(),
                format!("{}{}", report.place, if saved { ", saved" } else { "" }),
                output::size(report.bytes),
                count(line.turns),
                count(line.tokens_seen),
            ]
        };
        let rows: Vec<_> = lines.iter().map(row).collect();
        let heading = ["", "NAME", "PLACE", "SIZE", "TURNS", "TOKENS"];
        Ok(output::table(heading, &rows))
    }

    /// Writes the session to a file, under `name` if one is given. Returns its name.
    ///
    /// # Errors
    /// When there is nothing to write, the name is another session's, or the file cannot be written.
    pub(in crate::cli) async fn save(&mut self, name: Option<SessionId>) -> Result<&SessionId> {
        if let Some(name) = name.filter(|name| *name != self.session.name) {
            self.copy_to(&name).await?;
            let last = self.last.take();
            self.leave(Current { name, named: true }).await;
            self.last = last;
        }
        if self.turns.is_empty() {
            bail!("there is nothing to save yet");
        }
        let sessions = self.runtime.sessions();
        sessions.save(&self.model, &self.session.name).await?;
        self.loose.remove(&self.session.name);
        self.session.named = true;
        Ok(&self.session.name)
    }

    /// Goes on in a copy.
    ///
    /// # Errors
    /// When there is nothing to copy, or the name is another session's.
    pub(in crate::cli) async fn fork(&mut self, name: SessionId) -> Result<()> {
        self.copy_to(&name).await?;
        self.session = Current { name, named: true };
        Ok(())
    }

    async fn copy_to(&mut self, name: &SessionId) -> Result<()> {
        if self.turns.is_empty() {
            bail!("there is nothing to copy yet");
        }
        if self.line(name).await?.is_some() {
            bail!("session {name} exists already: /erase it first, or choose another name");
        }
        let sessions = self.runtime.sessions();
        sessions.fork(&self.model, &self.session.name, name).await?;
        self.loose.insert(name.clone());
        Ok(())
    }

    /// Goes on with another session: the one that is in memory, or the one that was saved. Returns how many messages it
    /// has.
    ///
    /// # Errors
    /// When there is none, or its file cannot be read.
    pub(in crate::cli) async fn load(&mut self, name: SessionId) -> Result<usize> {
        let Some(line) = self.line(&name).await? else {
            bail!("there is no session {name}: /sessions lists those there are");
        };
        let sessions = self.runtime.sessions();
        if line.turns.is_none() {
            sessions.restore(&self.model, &name).await?;
        }
        let (_, messages) = sessions.show(&self.model, &name).await?;
        let mut messages = messages.unwrap_or_default();
        if messages.is_empty() {
            bail!("session {name} is a text and no chat");
        }
        if name != self.session.name {
            self.leave(Current { name, named: true }).await;
        }
        let count = messages.len();
        let first = messages.first();
        let system = first.filter(|message| message.role == Role::System);
        self.system = system.map(|message| message.content.clone());
        messages.drain(..usize::from(self.system.is_some()));
        self.turns = messages;
        self.evicted = None;
        self.keeper.begin_anew();
        Ok(count)
    }

    /// Forgets a session, and begins anew if it is this one.
    ///
    /// # Errors
    /// When there is none, or its file cannot be removed.
    pub(in crate::cli) async fn erase(&mut self, name: &SessionId) -> Result<()> {
        self.runtime.sessions().erase(&self.model, name).await?;
        self.loose.remove(name);
        if *name == self.session.name {
            self.clear().await;
        }
        Ok(())
    }

    async fn line(&self, name: &SessionId) -> Result<Option<SessionLine>> {
        let lines = self.runtime.sessions().list(&self.model).await?;
        let mut lines = lines.into_iter();
        Ok(lines.find(|line| line.report.name == name.as_str()))
    }
}
