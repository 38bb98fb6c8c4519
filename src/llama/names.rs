//! What the two formats call the same tensors.

/// A tensor of the family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    Embedding,
    FinalNorm,
    Head,
    AttentionNorm(usize),
    Query(usize),
    Key(usize),
    Value(usize),
    AttentionOut(usize),
    FeedForwardNorm(usize),
    Gate(usize),
    Up(usize),
    Down(usize),
}

impl Part {
    /// Its name without `.weight` or `.bias`.
    pub(crate) fn name(self, gguf: bool) -> String {
        let (layer, gguf_name, hf_name) = match self {
            Part::Embedding => (None, "token_embd", "model.embed_tokens"),
            Part::FinalNorm => (None, "output_norm", "model.norm"),
            Part::Head => (None, "output", "lm_head"),
            Part::AttentionNorm(n) => (Some(n), "attn_norm", "input_layernorm"),
            Part::Query(n) => (Some(n), "attn_q", "self_attn.q_proj"),
            Part::Key(n) => (Some(n), "attn_k", "self_attn.k_proj"),
            Part::Value(n) => (Some(n), "attn_v", "self_attn.v_proj"),
            Part::AttentionOut(n) => (Some(n), "attn_output", "self_attn.o_proj"),
            Part::FeedForwardNorm(n) => (Some(n), "ffn_norm", "post_attention_layernorm"),
            Part::Gate(n) => (Some(n), "ffn_gate", "mlp.gate_proj"),
            Part::Up(n) => (Some(n), "ffn_up", "mlp.up_proj"),
            Part::Down(n) => (Some(n), "ffn_down", "mlp.down_proj"),
        };
        match (layer, gguf) {
            (None, true) => gguf_name.to_owned(),
            (None, false) => hf_name.to_owned(),
            (Some(n), true) => format!("blk.{n}.{gguf_name}"),
            (Some(n), false) => format!("model.layers.{n}.{hf_name}"),
        }
    }
}
