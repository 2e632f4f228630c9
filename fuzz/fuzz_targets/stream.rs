//! Fuzz target: an exported stream. The body is `shaketable_fuzz::stream`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(stream);
