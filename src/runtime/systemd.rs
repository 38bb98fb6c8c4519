//! What systemd is told: that work may be sent, that the process stops, and that it lives
//! (<https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>).
//!
//! Each function does nothing outside of a unit with `Type=notify`: systemd then names no socket.

use std::time::Duration;

use sd_notify::NotifyState;

/// The models that were named are loaded.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The settings are being read anew; to be followed by [`ready`].
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => tracing::warn!(%error, "systemd could not be told of the reload"),
    }
}

/// A drain has begun. It may take this long.
pub fn stopping(at_most: Duration) {
    let micros = u32::try_from(at_most.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::ExtendTimeoutUsec(micros),
    ]);
}

/// The heartbeat is fresh.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be told: half of the unit's `WatchdogSec`, if it has one.
pub(super) fn interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "systemd could not be told how the server is");
    }
}
