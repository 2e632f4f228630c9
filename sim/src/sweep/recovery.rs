//! One world for many recoveries: a crash image goes in, what the store shows of it comes out.
//!
//! Each recovery runs in an incarnation of its own, with nothing but the plainest decisions, so that the same image always
//! shows the same: what comes out may be kept, and judged again under another promise. The world is made once and used
//! until a recovery does not come to its end.
//!
//! What is looked at: the store opens, a scan of everything succeeds and holds only what was once written, and what must
//! hold in a quiet moment holds ([`crate::invariants`]). Whether the state is one that was promised is not judged here.
//!
//! Recovery clears up, so that many images become one and the same disk by it. What a store says of itself follows from
//! that disk, and checking all of it costs as much as opening it: it is asked once for each disk that recoveries have left.
//! The scan is made each time, for it is what a client would see.

use crate::disk::{CrashKind, Disk};
use crate::invariants::check_quiet;
use crate::oracle::{Digest, Finding, History};
use crate::rng::{Decisions, Rest};
use crate::runner::finding_of;
use crate::store::{CheckReport, Failure, Store, StoreKind};
use crate::trace::Keep;
use crate::watch::Watch;
use crate::workload::Plan;
use crate::world::{World, WorldConfig};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Switch points after which a recovery is given up.
const STEPS_MAX: u64 = 2_000_000;

/// What a store shows of a crash image.
#[derive(Clone, Debug)]
pub enum Shown {
    /// A state.
    State {
        /// Its hash.
        hash: u64,
        /// The newest sequence number that the store knows of.
        last_seq: u64,
    },
    /// An error, while this was done.
    Refused(Failure, &'static str),
    /// Something that is wrong whatever was promised.
    Wrong(Finding),
}

/// See the head of this file.
pub struct Recoverer {
    plan: Arc<Plan>,
    kind: Arc<dyn StoreKind>,
    history: Arc<History>,
    world: World,
    checked: Checked,
}

/// The newest sequence number that the store knows of, by the hash of the disk on which it was found to be well.
type Checked = Arc<Mutex<BTreeMap<u64, u64>>>;

impl Recoverer {
    /// Of the store of a plan, whose values the history knows.
    pub fn new(plan: Arc<Plan>, kind: Arc<dyn StoreKind>, history: Arc<History>) -> Recoverer {
        let world = new_world(&plan, &kind);
        Recoverer { plan, kind, history, world, checked: Checked::default() }
    }

    /// Opens the store on this image of this hash, and looks at it. The watch sees every call of it.
    pub fn recover(&mut self, image: Disk, hash: u64, watch: Option<Watch>) -> (Shown, Digest) {
        self.world.crash(CrashKind::Process);
        if let Err(end) = self.world.restart_on(image, hash) {
            self.world = new_world(&self.plan, &self.kind);
            return (Shown::Wrong(finding_of(&end, "after a crash")), Digest::new());
        }
        self.world.set_watch(watch);
        self.world.set_faults_enabled(true);
        let (world, plan, kind) = (self.world.clone(), self.plan.clone(), self.kind.clone());
        let (history, checked) = (self.history.clone(), self.checked.clone());
        let shown = self.world.block_on("recovery", move || {
            let mut digest = Digest::new();
            let opened = kind.open(&world, &plan.options);
            let shown = match &opened {
                Ok(store) => look(&world, store.as_ref(), &history, &checked, &mut digest),
                Err(failure) => Shown::Refused(failure.clone(), "open"),
            };
            // It ends here, without a word: what a graceful end does is not of interest.
            world.set_watch(None);
            world.crash(CrashKind::Process);
            if let Ok(store) = opened {
                let _ = store.close();
            }
            (shown, digest)
        });
        shown.unwrap_or_else(|end| {
            self.world = new_world(&self.plan, &self.kind);
            (Shown::Wrong(finding_of(&end, "after a crash")), Digest::new())
        })
    }
}

fn new_world(plan: &Plan, kind: &Arc<dyn StoreKind>) -> World {
    let decisions = Decisions::scripted(BTreeMap::new(), Rest::Zero);
    let mut config = WorldConfig::new(decisions, plan.profile);
    config.policy = plan.policy;
    config.keep = Keep::Nothing;
    config.steps_max = STEPS_MAX;
    let classifier = kind.clone();
    config.classify = Arc::new(move |name| classifier.classify(name));
    World::new(config)
}

fn look(world: &World, store: &dyn Store, history: &History, checked: &Checked, digest: &mut Digest) -> Shown {
    world.set_faults_enabled(false);
    let left = world.with_disk(|disk| disk.image_hash());
    let scan = match store.scan(None, Bound::Unbounded, Bound::Unbounded, false, usize::MAX) {
        Ok(scan) => scan,
        Err(failure) => return Shown::Refused(failure, "the scan after open"),
    };
    *digest = match history.digest(&scan.entries) {
        Ok(digest) => digest,
        Err(finding) => return Shown::Wrong(finding),
    };
    let hash = History::hash_of(digest);
    let known = checked.lock().get(&left).copied();
    if let Some(last_seq) = known {
        return Shown::State { hash, last_seq };
    }
    match check_quiet(world, store, 0, &|_| false) {
        Ok(Ok(CheckReport { last_seq, .. })) => {
            checked.lock().insert(left, last_seq);
            Shown::State { hash, last_seq }
        }
        Ok(Err(failure)) => Shown::Refused(failure, "check"),
        Err(finding) => Shown::Wrong(finding),
    }
}
