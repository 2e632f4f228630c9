//! What a coverage mark costs where nobody counts, and where somebody does: `cargo bench -p strata-lsm --bench mark`.
//!
//! A loop that does next to nothing is timed with and without the question that each mark asks; then gets of one key in
//! memory, which pass a mark or two, before and after the counting begins.

#![expect(clippy::disallowed_methods, reason = "a benchmark measures the real world")]

use std::hint::black_box;
use std::time::Instant;
use strata::db::Db;
use strata::mark;

const TURNS: u64 = 200_000_000;
const GETS: u64 = 2_000_000;
const ROUNDS: usize = 5;

/// Nanoseconds for one turn: the best of a few rounds, for what disturbs only ever adds.
fn best(turns: u64, mut round: impl FnMut()) -> f64 {
    let timed = (0..ROUNDS).map(|_| {
        let start = Instant::now();
        round();
        start.elapsed().as_nanos() as f64 / turns as f64
    });
    timed.fold(f64::INFINITY, f64::min)
}

fn loop_without_marks() {
    for turn in 0..TURNS {
        black_box(turn);
    }
}

fn loop_with_a_mark() {
    let mut reached = 0u64;
    for turn in 0..TURNS {
        reached += u64::from(mark::counting());
        black_box(turn);
    }
    black_box(reached);
}

fn main() {
    let (bare, marked) = (best(TURNS, loop_without_marks), best(TURNS, loop_with_a_mark));
    println!("a turn without a mark       {bare:6.3} ns\na turn with a mark          {marked:6.3} ns");
    println!("so a mark costs             {:6.3} ns", marked - bare);
    let dir = tempfile::tempdir().expect("a directory");
    let db = Db::open(dir.path().join("store")).expect("a store");
    db.put(b"key", b"value").expect("a write");
    let gets = || (0..GETS).for_each(|_| drop(black_box(db.get(b"key").expect("a read"))));
    println!("a get, nobody counts        {:6.1} ns", best(GETS, gets));
    mark::count_from_zero();
    println!("a get, while marks count    {:6.1} ns", best(GETS, gets));
}
