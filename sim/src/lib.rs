//! Shaketable: a deterministic simulation harness for storage engines.

pub mod clock;
pub mod env;
pub mod fiber;
#[cfg(feature = "foreign")]
pub mod foreign;
pub mod scheduler;
pub mod store;
pub mod strata;
pub mod syncs;
pub mod syscall;
pub mod trace;
pub mod watch;
pub mod world;

pub mod disk;
pub mod fault;
pub mod ledger;
pub mod rng;
pub mod sanitizer;

pub mod answers;
pub mod artifact;
pub mod audit;
pub mod campaign;
pub mod console;
pub mod coverage;
pub mod cpu;
pub mod excuse;
pub mod explain;
pub mod explore;
pub mod invariants;
pub mod op;
pub mod oracle;
pub mod place;
pub mod report;
pub mod results;
pub mod runner;
pub mod scenario;
pub mod seeds;
pub mod shake;
pub mod shrink;
pub mod sweep;
pub mod transfer;
pub mod workload;
pub mod zoo;
