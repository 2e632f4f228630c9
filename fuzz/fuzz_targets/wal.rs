//! Fuzz target: a write-ahead log. The body is `shaketable_fuzz::wal`.

#![cfg_attr(fuzzing, no_main)]

shaketable_fuzz::target!(wal);
