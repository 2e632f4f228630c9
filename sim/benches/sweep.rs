//! How many crash images are recovered and judged in a second on one core, and how that grows with the store: `cargo bench
//! -p shaketable --bench sweep`.
//!
//! A run of so many operations is swept: power is cut at each change of the disk, and the images that are not equal to one
//! before are recovered, scanned, checked by the store itself, and compared with the model. Of long runs only some stretches
//! of boundaries are swept, spread over the run; making the run once more for each stretch is not counted.
//!
//! * *distinct*: images that no image before was equal to, in a second of processor time.
//! * *judged*: images in a second, those that were known counted.
//!
//! ```text
//! cargo bench -p shaketable --bench sweep -- --boundaries 256 1000
//! ```

mod measure;

use measure::{Asked, LARGER, machine, timed};
use shaketable::rng::Decisions;
use shaketable::store::StoreKind;
use shaketable::strata::StrataKind;
use shaketable::sweep::{How, Images, Subject, Tally, count, quiet, sweep};
use shaketable::workload;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

const WORKLOAD: &str = "
workload = [{ op = 'put', weight = 8 }, { op = 'delete', weight = 1 }, { op = 'batch', weight = 1 }]
swarm = 'none'
clients = 1
value_bytes = [16, 64]
";

/// The limits of the scenarios, which flush and compact all the time.
const TINY: &str = "";

/// Stretches of a long run.
const STRETCHES: u64 = 4;

fn subject(ops: u64, keys: u64, options: &str) -> Subject {
    let scenario = measure::scenario(&format!("ops = {ops}\nkeys = {keys}\n{WORKLOAD}{options}"));
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let plan = workload::plan(&scenario, kind.as_ref(), &mut Decisions::from_seed(1));
    Subject { plan: Arc::new(quiet(&plan, kind.as_ref())), seed: 1, kind, torn: false }
}

fn main() -> ExitCode {
    let asked = match Asked::parse(&[("--boundaries", 512.0)]) {
        Ok(asked) => asked,
        Err(code) => return code,
    };
    let boundaries = if asked.measures { asked.number("--boundaries") as u64 } else { STRETCHES };
    println!("machine    {}", machine());
    println!("at most {boundaries} boundaries of each run; per second of processor time on one core\n");
    println!(
        "{:<44} {:>10} {:>9} {:>9} {:>10} {:>10} {:>12}",
        "store", "boundaries", "images", "distinct", "distinct/s", "judged/s", "failures"
    );
    let rows = [
        ("1000 operations, 100 keys", 1_000, 100, TINY),
        ("1000 operations, 250 keys, larger tables", 1_000, 250, LARGER),
        ("10000 operations, 2500 keys, larger tables", 10_000, 2_500, LARGER),
        ("100000 operations, 25000 keys, larger tables", 100_000, 25_000, LARGER),
    ];
    let mut failed = false;
    let rows = if asked.measures { &rows[..] } else { &rows[..1] };
    for &(name, ops, keys, options) in rows.iter().filter(|(name, ..)| name.contains(&asked.only)) {
        let subject = subject(ops, keys, options);
        let (total, recording) = timed(|| count(&subject));
        let length = (boundaries / STRETCHES).min(total / STRETCHES);
        let (mut tally, mut spent) = (Tally::default(), Duration::ZERO);
        for stretch in 1..=STRETCHES {
            let end = total * stretch / STRETCHES;
            let how = How { images: Images::Canonical, range: end - length..end, ..How::default() };
            let (part, time) = timed(|| sweep(&subject, &how));
            spent += time.saturating_sub(recording);
            tally.merge(part);
        }
        let distinct = tally.distinct.len();
        failed |= !tally.failures.is_empty();
        println!(
            "{name:<44} {:>10} {:>9} {distinct:>9} {:>10.0} {:>10.0} {:>12}",
            tally.boundaries,
            tally.images,
            distinct as f64 / spent.as_secs_f64(),
            tally.images as f64 / spent.as_secs_f64(),
            tally.failures.len(),
        );
    }
    ExitCode::from(u8::from(failed))
}
