//! Why an optimizer cannot be made, stepped or restored.

/// What does not fit.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum OptimizerError {
    /// A number of the rule.
    #[error("the optimizer's {field} is {value}: it must be {range}")]
    Number {
        /// The field.
        field: &'static str,
        /// What it says.
        value: f32,
        /// What it must be.
        range: &'static str,
    },
    /// Everything is frozen.
    #[error("no parameter is trained: freeze less, or name linears for adapters")]
    Nothing,
    /// More or fewer parameters than it was made for.
    #[error("the optimizer has the states of {expected} parameters and was given {found}")]
    Count {
        /// States.
        expected: usize,
        /// Parameters.
        found: usize,
    },
    /// Another parameter, or another shape of it, than it was made for.
    #[error(
        "the optimizer has the state of {expected} where it was given {found}, of another name or size"
    )]
    Parameter {
        /// Whose state it has.
        expected: String,
        /// The parameter.
        found: String,
    },
    /// A saved state of another length.
    #[error(
        "the saved {name} has {found} values, where {expected} are needed: it is of another model"
    )]
    Length {
        /// The tensor of the file.
        name: String,
        /// Values of the parameter.
        expected: usize,
        /// Values of the file.
        found: usize,
    },
}
