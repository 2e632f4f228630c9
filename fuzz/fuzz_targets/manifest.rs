//! Fuzz target: a manifest and the files that point to it. The body is `shaketable_fuzz::manifest`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(manifest);
