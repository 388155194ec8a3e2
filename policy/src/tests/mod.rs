//! The engine as a whole: policies in, verdicts out.

mod decisions;
