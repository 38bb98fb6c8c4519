//! Functions that a model may call, as its messages tell it.

use serde_json::Value;

use super::{Message, Role, ToolUse};

/// Messages as a template is given them when functions may be called, and the functions if the template writes them.
#[derive(Debug, Clone, PartialEq)]
pub struct Presented {
    /// The messages.
    pub messages: Vec<Message>,
    /// What is given to the template.
    pub tools: Option<Value>,
}

impl ToolUse {
    /// Writes `tools`, a list of OpenAI's tool objects, and what was called and answered before, for a model. A template
    /// that knows of tools does it itself; for another one the system message lists them, calls are written into the
    /// assistant's words, and results are the user's, between `<tool_response>` and `</tool_response>`.
    ///
    /// `begun` is whether `messages` go on with a chat whose beginning has told of the tools.
    pub fn present(
        self,
        mut messages: Vec<Message>,
        tools: Option<Value>,
        begun: bool,
    ) -> Presented {
        if self.by_template {
            return Presented { messages, tools };
        }
        for message in &mut messages {
            plain(message);
        }
        if let Some(Value::Array(tools)) = tools
            && !tools.is_empty()
        {
            let told = told(&tools);
            match messages.first_mut().filter(|m| m.role == Role::System) {
                Some(system) if system.content.is_empty() => system.content = told,
                Some(system) => system.content = format!("{}\n\n{told}", system.content),
                None if begun => {}
                None => messages.insert(0, Message::new(Role::System, told)),
            }
        }
        Presented {
            messages,
            tools: None,
        }
    }
}

fn plain(message: &mut Message) {
    if let Some(Value::Array(calls)) = message.tool_calls.take() {
        for call in calls {
            let function = call.get("function").unwrap_or(&call);
            let part = |name: &str| function.get(name).cloned().unwrap_or(Value::Null);
            if !message.content.is_empty() {
                message.content.push('\n');
            }
            message.content += &format!(
                "<tool_call>\n{{\"name\": {}, \"arguments\": {}}}\n</tool_call>",
                part("name"),
                part("arguments")
            );
        }
    }
    if message.role == Role::Tool {
        message.role = Role::User;
        message.tool_call_id = None;
        message.name = None;
        message.content = format!("<tool_response>\n{}\n</tool_response>", message.content);
    }
}

fn told(tools: &[Value]) -> String {
    let lines: Vec<String> = tools
        .iter()
        .map(|tool| tool.get("function").unwrap_or(tool).to_string())
        .collect();
    format!(
        "You can call functions. They are listed here, one a line, each with the JSON schema of its parameters:\n\
         <tools>\n{}\n</tools>\nTo call one, write its name and its arguments as JSON like this:\n<tool_call>\n\
         {{\"name\": \"the name\", \"arguments\": {{}}}}\n</tool_call>\nThe result comes between <tool_response> and \
         </tool_response>.",
        lines.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{CallSyntax, ChatTemplate};
    use serde_json::json;

    #[test]
    fn a_template_without_tools_is_told_by_messages() {
        let tool_use = ToolUse::of(&ChatTemplate::chatml());
        assert_eq!(
            (tool_use.syntax, tool_use.by_template),
            (CallSyntax::Hermes, false)
        );
        let tools = json!([{"type": "function", "function": {"name": "f"}}]);
        let call = json!([{"id": "1", "type": "function", "function": {"name": "f", "arguments": {"a": 1}}}]);
        let chat = vec![
            Message::new(Role::User, "go"),
            Message {
                tool_calls: Some(call),
                ..Message::new(Role::Assistant, "")
            },
            Message {
                tool_call_id: Some("1".to_owned()),
                ..Message::new(Role::Tool, "42")
            },
        ];
        let shown = tool_use.present(chat.clone(), Some(tools.clone()), false);
        assert_eq!(shown.tools, None);
        assert!(
            shown.messages[0]
                .content
                .contains("<tools>\n{\"name\":\"f\"}\n</tools>")
        );
        assert_eq!(
            shown.messages[2].content,
            "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\":1}}\n</tool_call>"
        );
        assert_eq!(
            shown.messages[3],
            Message::new(Role::User, "<tool_response>\n42\n</tool_response>")
        );
        assert_eq!(
            tool_use
                .present(chat.clone(), Some(tools.clone()), true)
                .messages
                .len(),
            3
        );
        let mut with_system = chat;
        with_system.insert(0, Message::new(Role::System, "be brief"));
        let shown = tool_use.present(with_system, Some(tools), false);
        assert!(
            shown.messages[0]
                .content
                .starts_with("be brief\n\nYou can call")
        );
    }

    #[test]
    fn templates_show_how_they_call() {
        let of = |source: &str| ToolUse::of(&ChatTemplate::new(source, "", "").unwrap());
        let hermes = of("{% if tools %}<tool_call>{% endif %}");
        assert_eq!(
            (hermes.syntax, hermes.by_template),
            (CallSyntax::Hermes, true)
        );
        let llama = of("{% if tools %}{\"name\": x, \"parameters\": y}{% endif %}<|eot_id|>");
        assert_eq!((llama.syntax, llama.by_template), (CallSyntax::Llama, true));
        // One of another kind is told in words.
        let other = of("{% if tools %}[TOOL_CALLS]{% endif %}");
        assert_eq!(
            (other.syntax, other.by_template),
            (CallSyntax::Hermes, false)
        );
    }
}
