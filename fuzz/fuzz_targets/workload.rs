//! Fuzz target: a whole simulation. The body is `shaketable_fuzz::workload`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(workload);
