//! How a model writes calls, as its chat template shows it.

use super::super::ChatTemplate;

/// How calls are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallSyntax {
    /// `<tool_call>`, a JSON object with `name` and `arguments`, `</tool_call>`
    /// (<https://github.com/NousResearch/Hermes-Function-Calling>).
    Hermes,
    /// A JSON object with `name` and `parameters` in place of words; several with `;` between them
    /// (<https://www.llama.com/docs/model-cards-and-prompt-formats/llama3_1>).
    Llama,
}

/// How a model is told of functions and calls them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolUse {
    /// How it calls them.
    pub syntax: CallSyntax,
    /// Whether its template writes them; else the system message does.
    pub by_template: bool,
}

impl ToolUse {
    /// As a template shows it.
    pub fn of(template: &ChatTemplate) -> Self {
        let source = template.source();
        let told = template.names("tools");
        let syntax = match source {
            _ if source.contains("<tool_call>") => Some(CallSyntax::Hermes),
            _ if source.contains("\"parameters\": ") && source.contains("<|eot_id|>") => {
                Some(CallSyntax::Llama)
            }
            _ => None,
        };
        match syntax.filter(|_| told) {
            Some(syntax) => ToolUse {
                syntax,
                by_template: true,
            },
            None => ToolUse {
                syntax: CallSyntax::Hermes,
                by_template: false,
            },
        }
    }
}
