#![allow(clippy::unwrap_used, reason = "a test may panic")]
use super::*;

fn names() -> (ModelId, SessionId) {
    ("m".parse().unwrap(), "s".parse().unwrap())
}

fn user(text: &str) -> Message {
    Message::new(Role::User, text)
}

fn engine(place: usize) -> ReplicaId {
    ReplicaId {
        model: names().0,
        load: 1,
        place,
    }
}

/// A table with one answered turn, whose cache is at the first engine.
fn table() -> (Sessions, ModelId, SessionId) {
    let (model, session) = names();
    let sessions = Sessions::default();
    let mut draft = sessions.begin(&model, &session).unwrap();
    assert!(draft.is_new());
    assert_eq!(draft.hear(vec![user("a")]), 1);
    sessions.settle(&session, &engine(0));
    draft.commit("b".to_owned(), 5, Some(7));
    (sessions, model, session)
}

#[test]
fn a_turn_is_one_at_a_time_and_adds_its_words() {
    let (sessions, model, session) = table();
    let draft = sessions.begin(&model, &session).unwrap();
    let busy = sessions.begin(&model, &session).unwrap_err();
    assert_eq!(busy, SessionError::Busy(session.clone()));
    let talk = draft.talk();
    assert_eq!((talk.seen, talk.pending, talk.turns), (5, Some(7), 1));
    assert_eq!(
        talk.messages,
        [user("a"), Message::new(Role::Assistant, "b")]
    );
    // Another model's session of the same name is another session.
    let other: ModelId = "n".parse().unwrap();
    assert!(sessions.begin(&other, &session).unwrap().is_new());
}

#[test]
fn a_draft_that_is_dropped_changes_nothing() {
    let (sessions, model, session) = table();
    let before = sessions.known(&model, &session, true).unwrap();
    let mut draft = sessions.begin(&model, &session).unwrap();
    draft.hear(vec![user("c")]);
    draft.bound(Policy::full());
    drop(draft);
    assert_eq!(sessions.known(&model, &session, true), Some(before));
    assert!(sessions.begin(&model, &session).is_ok());
    // One that never had a turn leaves nothing behind.
    let fresh: SessionId = "t".parse().unwrap();
    drop(sessions.begin(&model, &fresh).unwrap());
    assert_eq!(sessions.0.len(), 1);
}

#[test]
fn only_what_is_new_is_heard() {
    let (sessions, model, session) = table();
    let reply = Message::new(Role::Assistant, "b");
    for (given, new) in [
        (vec![user("c")], 1),
        (vec![user("a"), reply.clone(), user("c")], 1),
        (vec![user("a"), reply.clone()], 0),
        (vec![user("x"), reply.clone(), user("c")], 3),
        (vec![user("a")], 1),
    ] {
        let mut draft = sessions.begin(&model, &session).unwrap();
        assert_eq!(draft.hear(given.clone()), new, "{given:?}");
        assert_eq!(draft.messages().len(), 2 + new);
    }
}

#[test]
fn a_lost_session_is_told_once_and_begins_anew() {
    let (sessions, model, session) = table();
    sessions.lost(&engine(1));
    assert!(!sessions.is_lost(&engine(0), &session), "another engine's");
    assert_eq!(sessions.home(&model, &session), Some(engine(0)));
    sessions.lost(&engine(0));
    assert!(sessions.is_lost(&engine(0), &session));
    assert_eq!(sessions.known(&model, &session, true), None);
    let gone = sessions.begin(&model, &session).unwrap_err();
    assert_eq!(gone, SessionError::Unknown(session.clone()));
    assert!(gone.to_string().contains("is not parked here"), "{gone}");
    assert!(sessions.begin(&model, &session).unwrap().is_new());
    assert!(sessions.0.is_empty());
}

#[test]
fn a_turn_that_ends_after_the_loss_does_not_bring_the_session_back() {
    let (sessions, model, session) = table();
    let draft = sessions.begin(&model, &session).unwrap();
    sessions.lost(&engine(0));
    draft.commit("c".to_owned(), 9, None);
    assert_eq!(sessions.known(&model, &session, true), None);
    assert!(sessions.begin(&model, &session).is_err());
    assert!(sessions.begin(&model, &session).unwrap().is_new());
    // A first turn that fails with the device never was a session.
    let fresh: SessionId = "t".parse().unwrap();
    let draft = sessions.begin(&model, &fresh).unwrap();
    sessions.settle(&fresh, &engine(0));
    sessions.lost(&engine(0));
    drop(draft);
    assert!(sessions.begin(&model, &fresh).unwrap().is_new());
}

#[test]
fn texts_have_no_messages_and_notes_bring_all_back() {
    let (model, session) = names();
    let sessions = Sessions::default();
    let mut draft = sessions.begin(&model, &session).unwrap();
    draft.bound(Policy::h2o(2, 2).unwrap());
    draft.commit("b".to_owned(), 3, None);
    let talk = sessions.known(&model, &session, true).unwrap();
    assert!(talk.messages.is_empty() && talk.turns == 1);
    let notes = serde_json::to_string(&talk).unwrap();
    assert_eq!(serde_json::from_str::<Talk>(&notes).unwrap(), talk);
    assert!(serde_json::from_str::<Talk>("{}").is_err());
}

#[test]
fn what_is_forgotten_is_gone() {
    let (sessions, model, session) = table();
    sessions.hold(&model, &session).unwrap().0.forget();
    assert!(sessions.0.is_empty());
}
