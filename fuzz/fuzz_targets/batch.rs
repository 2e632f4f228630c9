//! Fuzz target: the payload of a batch. The body is `shaketable_fuzz::batch`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(batch);
