//! What an optimizer and a checkpoint see of a network's weights.

/// What a tensor is for: optimizers treat them differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The weight of a linear inside of a block.
    Matrix,
    /// The embedding, whether or not the head is tied to it.
    Embedding,
    /// A head of its own.
    Head,
    /// The weight of a norm.
    Norm,
    /// What is added to a linear's output.
    Bias,
    /// One of the two matrices of a LoRA adapter.
    Adapter,
}

/// A tensor of a network.
#[derive(Debug)]
pub struct Parameter<'a> {
    /// As Hugging Face calls it; an adapter's as PEFT does.
    pub name: &'a str,
    /// Row major, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: &'a [f32],
    /// The sum of gradients since they were zeroed, in the order of the values; empty when it is not trained.
    pub gradient: &'a [f32],
    /// Whether it is trained.
    pub trainable: bool,
    /// What it is for.
    pub role: Role,
}

/// A tensor of a network, to change.
#[derive(Debug)]
pub struct ParameterMut<'a> {
    /// As Hugging Face calls it; an adapter's as PEFT does.
    pub name: &'a str,
    /// Row major, outermost first.
    pub shape: Vec<usize>,
    /// The elements.
    pub values: &'a mut [f32],
    /// The sum of gradients since they were zeroed, in the order of the values; empty when it is not trained.
    pub gradient: &'a mut [f32],
    /// Whether it is trained.
    pub trainable: bool,
    /// What it is for.
    pub role: Role,
}
