//! Fuzz target: a table. The body is `shaketable_fuzz::sst`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(sst);
