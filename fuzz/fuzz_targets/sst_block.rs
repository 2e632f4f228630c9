//! Fuzz target: a block of a table. The body is `shaketable_fuzz::sst_block`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(sst_block);
