//! A message of a chat, in the shape that chat templates read.

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// The operator's instructions; `developer` is read as this.
    #[serde(alias = "developer")]
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

/// One message. Optional parts that are absent are absent for the template too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The text; may be empty.
    #[serde(default)]
    pub content: String,
    /// Name of the speaker or tool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Calls that the model made, as the client sent them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<serde_json::Value>,
    /// Which call a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// What was thought before the text; templates that know of thoughts decide what of it is shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
}

impl Message {
    /// A message with a role and a text only.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message {
            role,
            content: content.into(),
            name: None,
            tool_calls: None,
            tool_call_id: None,
            reasoning_content: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_and_write_json() {
        let message: Message =
            serde_json::from_str(r#"{"role": "developer", "content": "x"}"#).unwrap();
        assert_eq!(message, Message::new(Role::System, "x"));
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"role":"system","content":"x"}"#
        );
        assert!(serde_json::from_str::<Message>(r#"{"role": "root"}"#).is_err());
    }
}
