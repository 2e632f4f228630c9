//! Fuzz target: the payload of the list of a backup. The body is `shaketable_fuzz::backup`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(backup);
