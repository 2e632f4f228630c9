//! Stories about the disk model. The simulator is code too: a wrong image here is a wrong verdict everywhere.

use super::*;
use crate::rng::{Decisions, Recording, Rest};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

/// One step of a trace.
#[derive(Clone, Debug)]
enum Step {
    Create(&'static str),
    Write(&'static str, u64, usize),
    SetLen(&'static str, u64),
    Sync(&'static str),
    SyncDir(&'static str),
    Rename(&'static str, &'static str),
    Link(&'static str, &'static str),
    Unlink(&'static str),
    Mkdir(&'static str),
    Rmdir(&'static str),
}

use Step::{Create, Link, Mkdir, Rename, Rmdir, SetLen, Sync, SyncDir, Unlink, Write};

/// Does one step; a step that cannot be done is skipped. The bytes written tell the steps apart.
fn apply(disk: &mut Disk, number: u64, step: &Step) {
    let origin = Origin::new(number, None);
    let fill = number as u8 + 1;
    let open = |disk: &mut Disk, path: &str| {
        let ino = disk.open(path).ok()?;
        disk.close(ino);
        Some(ino)
    };
    match step {
        Create(path) => {
            if let Ok(ino) = disk.create(path, origin) {
                disk.close(ino);
            }
        }
        Write(path, offset, len) => {
            if let Some(ino) = open(disk, path) {
                let _ = disk.write(ino, *offset, &vec![fill; *len], origin);
            }
        }
        SetLen(path, len) => {
            if let Some(ino) = open(disk, path) {
                disk.set_len(ino, *len, origin).unwrap();
            }
        }
        Sync(path) => {
            if let Some(ino) = open(disk, path) {
                disk.sync_file(ino, SyncScope::Data, origin).unwrap();
            }
        }
        SyncDir(path) => drop(disk.sync_dir(path, origin)),
        Rename(from, to) => drop(disk.rename(from, to, origin)),
        Link(from, to) => drop(disk.link(from, to, origin)),
        Unlink(path) => drop(disk.unlink(path, origin)),
        Mkdir(path) => drop(disk.mkdir(path, origin)),
        Rmdir(path) => drop(disk.rmdir(path, origin)),
    }
}

fn after(profile: Profile, steps: &[Step]) -> Disk {
    let mut disk = Disk::new(profile, None);
    for (number, step) in steps.iter().enumerate() {
        apply(&mut disk, number as u64, step);
    }
    disk
}

/// Calls `body` once for each sequence of decisions that it can be given. Returns how many there were.
fn with_every_decision(mut body: impl FnMut(&mut Decisions)) -> usize {
    let mut script = BTreeMap::new();
    let mut count = 0;
    loop {
        let mut decisions = Decisions::scripted(script, Rest::Zero);
        decisions.record(Recording::All);
        body(&mut decisions);
        count += 1;
        assert!(count < 1_000_000, "the trace can be decided in too many ways");
        let mut made = decisions.recorded();
        while made.last().is_some_and(|last| last.value + 1 == last.n) {
            made.pop();
        }
        let Some(last) = made.last_mut() else { return count };
        last.value += 1;
        script = made.into_iter().map(|made| ((made.label, made.ordinal), made.value)).collect();
    }
}

fn read(disk: &Disk, path: &str) -> Option<Vec<u8>> {
    let stat = disk.stat(path).ok()?;
    let mut bytes = vec![0; stat.len as usize];
    assert_eq!(disk.read(stat.ino, 0, &mut bytes).unwrap(), bytes.len());
    Some(bytes)
}

/// Everything that a reader can see: directories as `None`.
type View = BTreeMap<String, Option<Vec<u8>>>;

fn view(disk: &Disk) -> View {
    let mut seen = BTreeMap::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for item in disk.read_dir(&dir).unwrap() {
            let path = if dir.is_empty() { item.name.to_string() } else { format!("{dir}/{}", item.name) };
            if item.is_dir {
                dirs.push(path.clone());
            }
            let bytes = if item.is_dir { None } else { read(disk, &path) };
            seen.insert(path, bytes);
        }
    }
    seen
}

fn images(disk: &Disk) -> BTreeSet<View> {
    let mut seen = BTreeSet::new();
    with_every_decision(|decisions| {
        let (image, _) = disk.crash(CrashKind::PowerLoss, decisions);
        assert_eq!(image.pending(), (0, 0));
        seen.insert(view(&image));
    });
    seen
}

fn names(view: &View) -> Vec<&str> {
    view.keys().map(String::as_str).collect()
}

#[test]
fn a_synced_byte_under_a_synced_name_is_in_every_image() {
    for profile in BETWEEN.into_iter().chain([Profile::StrictMin, Profile::ProcessCrash, Profile::PosixWeak]) {
        let disk = after(
            profile,
            &[
                Create("a"),
                Write("a", 0, 700),
                Sync("a"),
                SyncDir(""),
                Create("b"),
                Write("b", 0, 700),
                Write("a", 600, 200),
            ],
        );
        let seen = images(&disk);
        for view in &seen {
            let bytes = view["a"].as_ref().expect("a is a file");
            assert!(bytes.len() >= 700 && bytes[..600].iter().all(|&byte| byte == 2), "{profile}: {view:?}");
        }
    }
}

/// A checkpoint that failed takes back what it had linked, and then its directory. The sync of the directory above came before
/// that of the names within, which nobody will sync any more: the cut that followed tried to take them back in a directory
/// that was no more.
#[test]
fn a_directory_that_is_gone_for_good_takes_along_what_was_pending_in_it() {
    let filled_and_removed = [
        Create("a"),
        Write("a", 0, 10),
        Sync("a"),
        SyncDir(""),
        Mkdir("d"),
        Link("a", "d/a"),
        Create("d/b"),
        Mkdir("d/e"),
        Create("d/e/c"),
        Rename("d/b", "d/a2"),
        Unlink("d/e/c"),
        Rmdir("d/e"),
        Unlink("d/a"),
        Unlink("d/a2"),
        Rmdir("d"),
    ];
    for profile in [Profile::PosixWeak, Profile::Btrfs, Profile::Ext4Ordered] {
        let disk = after(profile, &filled_and_removed);
        let may_come_back = images(&disk).iter().any(|view| names(view).contains(&"d"));
        assert!(may_come_back, "{profile}: nobody has synced the removal");
        let disk = after(profile, &[&filled_and_removed[..], &[SyncDir("")]].concat());
        assert_eq!(disk.pending().0, 0, "{profile}: no crash can show what was pending in it");
        assert_eq!(images(&disk), BTreeSet::from([view(&disk)]), "{profile}");
    }
}

#[test]
fn a_file_that_left_a_directory_which_is_gone_for_good_may_be_lost_and_may_not_return_there() {
    let steps = [Mkdir("d"), Mkdir("e"), Create("d/a"), SyncDir(""), SyncDir("d"), Rename("d/a", "e/a"), Rmdir("d")];
    let disk = after(Profile::PosixWeak, &[&steps[..], &[SyncDir("")]].concat());
    let all: Vec<View> = images(&disk).into_iter().collect();
    assert_eq!(all.iter().map(names).collect::<Vec<_>>(), [vec!["e"], vec!["e", "e/a"]]);
    let disk = after(Profile::PosixWeak, &[&steps[..], &[SyncDir(""), SyncDir("e")]].concat());
    assert_eq!(disk.pending().0, 0);
    assert_eq!(images(&disk), BTreeSet::from([view(&disk)]));
}

#[test]
fn an_unsynced_removal_can_be_durable_and_can_be_lost() {
    for profile in [Profile::Ext4Ordered, Profile::PosixWeak] {
        let disk = after(profile, &[Create("a"), Write("a", 0, 10), Sync("a"), SyncDir(""), Unlink("a")]);
        let seen = images(&disk);
        let both = BTreeSet::from([View::new(), View::from([("a".into(), Some(vec![2; 10]))])]);
        assert_eq!(seen, both, "{profile}");
    }
}

#[test]
fn a_rename_is_there_or_not_and_never_half() {
    let trace = [
        Create("new"),
        Write("new", 0, 5),
        Sync("new"),
        Create("old"),
        Write("old", 0, 5),
        Sync("old"),
        SyncDir(""),
        Rename("new", "old"),
    ];
    for profile in [Profile::Ext4Ordered, Profile::PosixWeak] {
        let seen = images(&after(profile, &trace));
        let before = View::from([("new".into(), Some(vec![2; 5])), ("old".into(), Some(vec![5; 5]))]);
        let done = View::from([("old".into(), Some(vec![2; 5]))]);
        assert_eq!(seen, BTreeSet::from([before, done]), "{profile}");
    }
    let rules = Rules { nonatomic_rename: true, ..Profile::PosixWeak.rules() };
    let mut disk = Disk::with_rules(rules, None);
    for (number, step) in trace.iter().enumerate() {
        apply(&mut disk, number as u64, step);
    }
    let seen = images(&disk);
    let both = View::from([("new".into(), Some(vec![2; 5])), ("old".into(), Some(vec![2; 5]))]);
    let neither = View::from([("old".into(), Some(vec![5; 5]))]);
    assert!(seen.contains(&both) && seen.contains(&neither) && seen.len() == 4, "{seen:?}");
}

/// LevelDB #195: CURRENT is renamed, and the files that the old CURRENT needs are removed without a sync of the directory
/// in between.
#[test]
fn removals_may_overtake_the_rename_they_rest_on_but_not_in_a_journal() {
    let trace = [
        Create("MANIFEST-5"),
        Write("MANIFEST-5", 0, 8),
        Sync("MANIFEST-5"),
        Create("000004.log"),
        Create("CURRENT"),
        Write("CURRENT", 0, 5),
        Sync("CURRENT"),
        SyncDir(""),
        Create("MANIFEST-7"),
        Write("MANIFEST-7", 0, 9),
        Sync("MANIFEST-7"),
        Create("CURRENT.tmp"),
        Write("CURRENT.tmp", 0, 7),
        Sync("CURRENT.tmp"),
        Rename("CURRENT.tmp", "CURRENT"),
        Unlink("MANIFEST-5"),
        Unlink("000004.log"),
    ];
    let opens = |view: &View| match view["CURRENT"].as_ref().map(Vec::len) {
        Some(5) => view.contains_key("MANIFEST-5"),
        Some(7) => view.contains_key("MANIFEST-7"),
        other => panic!("CURRENT has {other:?} bytes"),
    };
    let ext4 = images(&after(Profile::Ext4Ordered, &trace));
    assert!(ext4.iter().all(opens), "{:?}", ext4.iter().map(names).collect::<Vec<_>>());
    let weak = images(&after(Profile::PosixWeak, &trace));
    assert!(weak.iter().any(|view| !opens(view)));
    let mut mended = trace.to_vec();
    mended.insert(15, SyncDir(""));
    assert!(images(&after(Profile::PosixWeak, &mended)).iter().all(opens));
}

#[test]
fn a_synced_file_whose_name_was_not_synced_vanishes_unless_a_journal_commits_it() {
    let trace = [Create("a"), Write("a", 0, 10), Sync("a")];
    let there = View::from([("a".into(), Some(vec![2; 10]))]);
    assert_eq!(images(&after(Profile::PosixWeak, &trace)), BTreeSet::from([View::new(), there.clone()]));
    assert_eq!(images(&after(Profile::Ext4Ordered, &trace)), BTreeSet::from([there.clone()]));
    assert_eq!(images(&after(Profile::StrictMin, &trace)), BTreeSet::from([there]));
    let nested = [Mkdir("d"), Create("d/a"), Write("d/a", 0, 10), Sync("d/a"), SyncDir("d")];
    assert!(
        images(&after(Profile::PosixWeak, &nested)).contains(&View::new()),
        "the directory itself was never synced"
    );
}

#[test]
fn the_image_of_a_process_crash_is_what_was_read_and_what_was_pending_stays_pending() {
    let trace = [Create("a"), Write("a", 0, 900), Sync("a"), Write("a", 500, 900), Create("b"), Rename("b", "c")];
    for profile in Profile::ALL {
        let disk = after(profile, &trace);
        let mut zeros = Decisions::scripted(BTreeMap::new(), Rest::Zero);
        let (image, _) = disk.crash(CrashKind::Process, &mut zeros);
        assert_eq!(view(&image), view(&disk), "{profile}");
        assert_eq!(image.pending(), disk.pending(), "{profile}");
    }
    let disk = after(Profile::ProcessCrash, &trace);
    assert_eq!(images(&disk), BTreeSet::from([view(&disk)]), "power losses lose nothing in this profile");
    let weak = after(Profile::PosixWeak, &trace);
    let mut zeros = Decisions::scripted(BTreeMap::new(), Rest::Zero);
    let (reopened, _) = weak.crash(CrashKind::Process, &mut zeros);
    assert_eq!(images(&reopened), images(&weak), "the power may go after the process was restarted");
}

#[test]
fn handles_of_removed_files_stay_good_until_they_are_closed() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    let origin = Origin::default();
    let ino = disk.create("a", origin).unwrap();
    disk.write(ino, 0, b"hello", origin).unwrap();
    disk.sync_file(ino, SyncScope::All, origin).unwrap();
    disk.sync_dir("", origin).unwrap();
    disk.unlink("a", origin).unwrap();
    disk.sync_dir("", origin).unwrap();
    let mut bytes = [0; 5];
    assert_eq!(disk.read(ino, 0, &mut bytes).unwrap(), 5);
    assert_eq!(&bytes, b"hello");
    assert_eq!(disk.used(), PAGE_BYTES as u64);
    disk.close(ino);
    assert_eq!(disk.used(), 0);
    assert_eq!(disk.len(ino).unwrap_err().kind, ErrorKind::NotFound);
}

#[test]
fn forks_never_see_each_other() {
    let mut parent = after(Profile::PosixWeak, &[Create("a"), Write("a", 0, 5000), Sync("a"), Write("a", 100, 10)]);
    let child = parent.fork();
    let (seen, hash, images_before) = (view(&child), child.image_hash(), images(&child));
    for (number, step) in
        [Write("a", 0, 6000), SetLen("a", 3), Create("b"), Sync("a"), SyncDir(""), Unlink("a")].iter().enumerate()
    {
        apply(&mut parent, number as u64 + 50, step);
    }
    assert_eq!(view(&child), seen);
    assert_eq!(child.image_hash(), hash);
    assert_eq!(images(&child), images_before);
    assert_ne!(view(&parent), seen);
}

#[test]
fn the_answer_zero_keeps_everything() {
    let trace =
        [Create("a"), Write("a", 0, 3000), SetLen("a", 700), Create("b"), Rename("a", "b"), Write("b", 2000, 30)];
    for profile in [Profile::Ext4Ordered, Profile::PosixWeak, Profile::LyingFsync] {
        let disk = after(profile, &trace);
        let mut zeros = Decisions::scripted(BTreeMap::new(), Rest::Zero);
        let (image, report) = disk.crash(CrashKind::PowerLoss, &mut zeros);
        assert_eq!(view(&image), view(&disk), "{profile}");
        assert_eq!(report.lost, [], "{profile}");
        let mut zeros = Decisions::scripted(BTreeMap::new(), Rest::Zero);
        let (torn, _) = disk.crash(CrashKind::TornPowerLoss, &mut zeros);
        assert_eq!(view(&torn), view(&disk), "{profile}");
    }
}

#[test]
fn a_torn_write_leaves_each_sector_old_or_new() {
    let old = vec![1u8; 2048];
    for profile in [Profile::Ext4Ordered, Profile::PosixWeak] {
        let mut disk = Disk::new(profile, None);
        let origin = Origin::default();
        let ino = disk.create("a", origin).unwrap();
        disk.write(ino, 0, &old, origin).unwrap();
        disk.sync_file(ino, SyncScope::All, origin).unwrap();
        disk.sync_dir("", origin).unwrap();
        disk.write(ino, 300, &[2; 1200], origin).unwrap();
        let mut seen = BTreeSet::new();
        for view in images(&disk) {
            let bytes = view["a"].clone().expect("a is a file");
            let mut pattern = Vec::new();
            for (index, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let covered = |at: usize| (300..1500).contains(&(index * SECTOR_BYTES + at));
                let new = (0..sector.len()).all(|at| sector[at] == if covered(at) { 2 } else { 1 });
                let old = sector.iter().all(|&byte| byte == 1);
                assert!(new || old, "{profile}: sector {index} is neither old nor new");
                pattern.push(new && !old);
            }
            seen.insert(pattern);
        }
        assert_eq!(seen.len(), 8, "{profile}: each of the three sectors is old or new: {seen:?}");
    }
}

#[test]
fn a_tear_within_a_sector_keeps_a_prefix_of_one_write_and_no_other_byte_changes() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    let origin = Origin::default();
    let ino = disk.create("a", origin).unwrap();
    disk.write(ino, 0, &[1; 2048], origin).unwrap();
    disk.sync_file(ino, SyncScope::All, origin).unwrap();
    disk.sync_dir("", origin).unwrap();
    disk.write(ino, 300, &[2; 1200], origin).unwrap();
    let mut ends = BTreeSet::new();
    for seed in 0..400 {
        let (image, report) = disk.crash(CrashKind::TornPowerLoss, &mut Decisions::from_seed(seed));
        let bytes = read(&image, "a").expect("a is durable");
        let end = bytes.iter().rposition(|&byte| byte == 2).map_or(300, |last| last + 1);
        let expected: Vec<u8> = (0..2048).map(|at| if (300..end).contains(&at) { 2 } else { 1 }).collect();
        assert_eq!(bytes, expected, "seed {seed}");
        let told = report.lost.iter().any(|fate| matches!(fate.thing, Thing::Write { .. }));
        assert_eq!(told, end < 1500, "{report}");
        ends.insert(end);
    }
    assert!(ends.len() > 50 && ends.iter().any(|end| end % SECTOR_BYTES != 0), "{ends:?}");
}

#[test]
fn the_length_can_be_kept_without_the_data_and_the_hole_is_zero_or_stale() {
    let trace = [
        Create("dead"),
        Write("dead", 0, 1024),
        Sync("dead"),
        SyncDir(""),
        Unlink("dead"),
        Create("a"),
        SyncDir(""),
        Write("a", 0, 1024),
    ];
    let fillings: BTreeSet<Vec<u8>> =
        images(&after(Profile::PosixWeak, &trace)).into_iter().map(|view| view["a"].clone().expect("a file")).collect();
    for filling in [vec![0; 1024], vec![0xa5; 1024], vec![2; 1024], vec![8; 1024], vec![8; 512], vec![]] {
        assert!(fillings.contains(&filling), "{:?} of {} bytes", filling.first(), filling.len());
    }
    let ordered: BTreeSet<Vec<u8>> = images(&after(Profile::Ext4Ordered, &trace))
        .into_iter()
        .map(|view| view["a"].clone().expect("a file"))
        .collect();
    assert_eq!(ordered, BTreeSet::from([vec![], vec![8; 1024]]), "an ordered file does not grow over missing data");
}

#[test]
fn a_file_that_is_extended_without_being_written_has_its_old_length_or_its_new_one() {
    let lengths = |trace: &[Step]| -> BTreeSet<usize> {
        let views = images(&after(Profile::PosixWeak, trace));
        views.into_iter().map(|view| view["a"].as_ref().expect("a file").len()).collect()
    };
    let start = [Create("a"), SyncDir(""), Write("a", 0, 512), Sync("a")];
    let extended = [&start[..], &[SetLen("a", 2048)]].concat();
    assert_eq!(lengths(&extended), BTreeSet::from([512, 2048]));
    // A write grows the file as its pages reach the disk.
    let written = [&start[..], &[Write("a", 512, 1536)]].concat();
    assert_eq!(lengths(&written), BTreeSet::from([512, 1024, 1536, 2048]));
}

#[test]
fn a_rename_over_a_file_brings_its_data_in_ext4_and_a_rename_to_a_fresh_name_does_not() {
    let over = [Create("a"), Write("a", 0, 5), Sync("a"), SyncDir(""), Create("t"), Write("t", 0, 9), Rename("t", "a")];
    let lens: BTreeSet<usize> =
        images(&after(Profile::Ext4Ordered, &over)).iter().map(|view| view["a"].as_ref().map_or(0, Vec::len)).collect();
    assert_eq!(lens, BTreeSet::from([5, 9]));
    let fresh = [Create("t"), Write("t", 0, 9), Rename("t", "a")];
    assert!(images(&after(Profile::Ext4Ordered, &fresh)).contains(&View::from([("a".into(), Some(vec![]))])));
    let weak = images(&after(Profile::PosixWeak, &over));
    assert!(weak.iter().any(|view| view["a"].as_ref().is_some_and(Vec::is_empty)));
}

#[test]
fn the_least_image_is_a_fixed_point() {
    let trace =
        [Create("a"), Write("a", 0, 900), Sync("a"), SyncDir(""), Write("a", 100, 2000), SetLen("a", 50), Create("b")];
    for profile in Profile::ALL {
        let (least, _) = after(profile, &trace).crash_with(ImageChoice::Min);
        assert_eq!(images(&least), BTreeSet::from([view(&least)]), "{profile}");
    }
}

/// Traces over a small alphabet, drawn from a seed.
fn drawn_trace(seed: u64, len: usize) -> Vec<Step> {
    let alphabet = [
        Create("a"),
        Create("b"),
        Write("a", 0, 600),
        Write("a", 400, 300),
        Write("a", 0, 100),
        Write("b", 0, 20),
        SetLen("a", 30),
        SetLen("a", 700),
        Sync("a"),
        Sync("b"),
        SyncDir(""),
        Rename("a", "b"),
        Rename("b", "a"),
        Unlink("a"),
        Unlink("b"),
        Link("a", "b"),
    ];
    let mut decisions = Decisions::from_seed(seed);
    let site = decisions.site("step");
    let mut trace = vec![Create("a"), Write("a", 0, 520)];
    trace.extend((0..len).map(|_| decisions.pick(site, &alphabet).clone()));
    trace
}

/// Every profile whose syncs keep what POSIX promises, but for the strictest and the weakest one.
const BETWEEN: [Profile; 6] = [
    Profile::Ext4Ordered,
    Profile::Ext4Fastcommit,
    Profile::Xfs,
    Profile::Btrfs,
    Profile::ApfsFullfsync,
    Profile::WritebackGarbage,
];

/// D3, and that the volatile view is an image everywhere, for one trace: by every decision that a crash can make.
fn see_that_the_profiles_are_ordered(trace: &[Step]) {
    let describe = |profile: Profile, extra: Vec<&View>| format!("{profile}: {trace:?} has {extra:?}");
    let strict = images(&after(Profile::StrictMin, trace));
    let weak = images(&after(Profile::PosixWeak, trace));
    let all = view(&after(Profile::PosixWeak, trace));
    assert!(strict.is_subset(&weak), "{}", describe(Profile::StrictMin, strict.difference(&weak).collect()));
    for profile in BETWEEN {
        let seen = images(&after(profile, trace));
        assert!(seen.is_subset(&weak), "{}", describe(profile, seen.difference(&weak).collect()));
        assert!(seen.contains(&all), "{profile}: {trace:?}");
        assert!(strict.is_subset(&seen), "{}", describe(profile, strict.difference(&seen).collect()));
        let (least, _) = after(profile, trace).crash_with(ImageChoice::Min);
        assert!(seen.contains(&view(&least)), "{profile}: {trace:?}");
        assert_eq!(images(&least), BTreeSet::from([view(&least)]), "D2, {profile}: {trace:?}");
    }
    assert!(weak.is_subset(&images(&after(Profile::PosixWeakNonatomicRename, trace))), "{trace:?}");
    let apfs = images(&after(Profile::ApfsFsync, trace));
    let lying = images(&after(Profile::LyingFsync, trace));
    assert!(apfs.is_subset(&lying), "{}", describe(Profile::ApfsFsync, apfs.difference(&lying).collect()));
}

#[test]
fn a_stricter_profile_has_no_image_that_a_weaker_one_has_not() {
    for seed in 0..20 {
        see_that_the_profiles_are_ordered(&drawn_trace(seed, 4));
    }
}

/// All traces of up to three steps over an alphabet that has one of each, and each with every image.
#[test]
fn the_profiles_are_ordered_on_every_short_trace() {
    let alphabet = [
        Create("a"),
        Write("a", 0, 600),
        Write("b", 0, 20),
        SetLen("a", 30),
        Sync("a"),
        SyncDir(""),
        Rename("a", "b"),
        Unlink("b"),
    ];
    let mut traces = vec![Vec::new()];
    for _ in 0..3 {
        let longer = traces.iter().flat_map(|trace: &Vec<Step>| {
            alphabet.iter().map(|step| trace.iter().cloned().chain([step.clone()]).collect::<Vec<Step>>())
        });
        traces = longer.collect();
        for trace in &traces {
            // What begins otherwise changes nothing.
            if matches!(trace[0], Create(_)) {
                see_that_the_profiles_are_ordered(trace);
            }
        }
    }
}

#[test]
fn each_journal_has_its_own_idea_of_what_the_sync_of_a_file_commits() {
    let trace = [Mkdir("d"), SyncDir(""), Create("x"), Create("d/a"), Create("y"), Write("d/a", 0, 5), Sync("d/a")];
    let least = |profile| names(&view(&after(profile, &trace).crash_with(ImageChoice::Min).0)).join(" ");
    assert_eq!(least(Profile::Ext4Ordered), "d d/a x y", "everything so far");
    assert_eq!(least(Profile::Xfs), "d d/a x", "up to its own last change");
    assert_eq!(least(Profile::Ext4Fastcommit), "d d/a", "its own name");
    assert_eq!(least(Profile::ApfsFullfsync), "d d/a");
    assert_eq!(least(Profile::PosixWeak), "d", "no name at all");
    assert_eq!(least(Profile::ApfsFsync), "", "nothing");
    let new_dir = [Mkdir("d"), Create("d/a"), Write("d/a", 0, 5), Sync("d/a")];
    let (image, _) = after(Profile::Btrfs, &new_dir).crash_with(ImageChoice::Min);
    assert_eq!(names(&view(&image)), ["d", "d/a"], "and the new directories above it");
}

#[test]
fn a_tree_log_keeps_the_order_within_a_directory_and_none_between_two() {
    let trace = [Mkdir("d"), Mkdir("e"), SyncDir(""), Create("d/a"), Create("e/a"), Create("d/b")];
    let seen: BTreeSet<String> =
        images(&after(Profile::Btrfs, &trace)).iter().map(|view| names(view).join(" ")).collect();
    let expected = ["d d/a d/b e", "d d/a d/b e e/a", "d d/a e", "d d/a e e/a", "d e", "d e e/a"];
    assert_eq!(seen, expected.map(str::to_string).into());
}

#[test]
fn on_ntfs_a_rename_is_durable_and_an_open_file_keeps_its_name() {
    let mut disk = after(Profile::WindowsNtfs, &[Create("a"), Write("a", 0, 5), Sync("a"), Rename("a", "b")]);
    assert_eq!(images(&disk), BTreeSet::from([view(&disk)]));
    let origin = Origin::default();
    let ino = disk.open("b").unwrap();
    disk.create("c", origin).map(|ino| disk.close(ino)).unwrap();
    let denied = |result: Result<(), DiskError>| result.unwrap_err().kind == ErrorKind::PermissionDenied;
    assert!(denied(disk.unlink("b", origin)) && denied(disk.rename("b", "d", origin)));
    assert!(denied(disk.rename("c", "b", origin)), "nor can it be replaced");
    disk.sync_dir("", origin).unwrap();
    assert_eq!(disk.pending(), (1, 0), "the sync of a directory is no call there");
    disk.close(ino);
    disk.rename("c", "b", origin).unwrap();
}

#[test]
fn every_canonical_image_is_a_legal_one() {
    for seed in 0..40 {
        let trace = drawn_trace(seed, 4);
        for profile in BETWEEN.into_iter().chain([Profile::StrictMin, Profile::PosixWeak]) {
            let disk = after(profile, &trace);
            let legal = images(&disk);
            let (metas, writes) = disk.pending();
            let mut choices = vec![ImageChoice::Min, ImageChoice::All, ImageChoice::NamesOnly, ImageChoice::DataOnly];
            for index in 0..=metas {
                choices.extend([
                    ImageChoice::MetaPrefix(index),
                    ImageChoice::DropMeta(index),
                    ImageChoice::KeepMeta(index),
                ]);
            }
            for index in 0..=writes {
                choices.extend([
                    ImageChoice::DropWrite(index),
                    ImageChoice::KeepWrite(index),
                    ImageChoice::TornLast(index as u64),
                ]);
            }
            for choice in choices {
                let (image, _) = disk.crash_with(choice);
                assert!(legal.contains(&view(&image)), "{profile}, {choice:?} of {trace:?}: {:?}", view(&image));
            }
        }
    }
}

#[test]
fn a_failed_sync_marks_pages_clean_and_a_second_one_says_ok_without_saving_them() {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    let origin = Origin::default();
    let ino = disk.create("a", origin).unwrap();
    disk.write(ino, 0, &[1; 1024], origin).unwrap();
    disk.sync_file(ino, SyncScope::All, origin).unwrap();
    disk.sync_dir("", origin).unwrap();
    disk.write(ino, 0, &[2; 1024], origin).unwrap();
    let mut decisions = Decisions::from_seed(1);
    disk.fail_sync(ino, SyncFailure::CleanKeepNew, &mut decisions, origin);
    assert_eq!(read(&disk, "a").unwrap(), vec![2; 1024], "reads still show the new bytes");
    disk.sync_file(ino, SyncScope::All, origin).unwrap();
    let (image, report) = disk.crash_with(ImageChoice::All);
    let bytes = read(&image, "a").unwrap();
    assert_eq!(bytes[512..], [1; 512], "the newest sector is always lost");
    assert!(report.to_string().contains("a failed sync had marked clean"), "{report}");
    let mut evicted = disk.fork();
    assert!(evicted.evict(ino).unwrap() > 0);
    assert_eq!(read(&evicted, "a").unwrap(), bytes, "without the cache the loss is seen at once");
    disk.write(ino, 600, &[3; 10], origin).unwrap();
    disk.sync_file(ino, SyncScope::All, origin).unwrap();
    let (image, _) = disk.crash_with(ImageChoice::Min);
    assert_eq!(
        read(&image, "a").unwrap()[512..],
        read(&disk, "a").unwrap()[512..],
        "a new write brings its sector along"
    );
}

#[test]
fn a_failed_sync_can_keep_everything_dirty_or_go_back_to_the_old_bytes() {
    let mut disk =
        after(Profile::PosixWeak, &[Create("a"), Write("a", 0, 10), Sync("a"), SyncDir(""), Write("a", 5, 5000)]);
    let ino = disk.open("a").unwrap();
    let mut decisions = Decisions::from_seed(1);
    let mut dirty = disk.fork();
    dirty.fail_sync(ino, SyncFailure::KeepDirty, &mut decisions, Origin::default());
    assert_eq!(images(&dirty), images(&disk));
    dirty.sync_file(ino, SyncScope::Data, Origin::default()).unwrap();
    assert_eq!(images(&dirty), BTreeSet::from([view(&disk)]), "a retry has saved everything");
    disk.fail_sync(ino, SyncFailure::CleanRevertOld, &mut decisions, Origin::default());
    assert_eq!(read(&disk, "a").unwrap(), vec![2; 10]);
    assert_eq!(disk.used(), PAGE_BYTES as u64);
}

#[test]
fn a_lost_sync_leaves_everything_pending_and_is_told() {
    let mut disk = after(Profile::PosixWeak, &[Create("a"), SyncDir(""), Write("a", 0, 10)]);
    let ino = disk.open("a").unwrap();
    disk.lose_sync(ino, Origin::new(77, None));
    let (image, report) = disk.crash_with(ImageChoice::Min);
    assert_eq!(read(&image, "a").unwrap(), b"");
    assert_eq!(
        report.to_string(),
        "power loss\n  lost: write a @0+10 (op 2)\n  lost: length of a: 10 became 0\n  \
         before: sync a: said Ok and did nothing (op 77)\n"
    );
}

#[test]
fn a_lying_disk_makes_nothing_durable() {
    let disk = after(Profile::LyingFsync, &[Create("a"), Write("a", 0, 10), Sync("a"), SyncDir("")]);
    let seen = images(&disk);
    assert!(seen.contains(&View::new()) && seen.contains(&view(&disk)));
}

#[test]
fn a_full_disk_takes_what_fits_and_space_comes_back() {
    let mut disk = Disk::new(Profile::PosixWeak, Some(3 * PAGE_BYTES as u64));
    let origin = Origin::default();
    let ino = disk.create("a", origin).unwrap();
    assert_eq!(disk.write(ino, 100, &[1; 20_000], origin).unwrap(), 3 * PAGE_BYTES - 100);
    assert_eq!(disk.free(), 0);
    assert_eq!(disk.write(ino, 3 * PAGE_BYTES as u64, &[1], origin).unwrap_err().kind, ErrorKind::StorageFull);
    assert_eq!(disk.create("b", origin).unwrap_err().kind, ErrorKind::StorageFull);
    assert_eq!(disk.write(ino, 0, &[9; 50], origin).unwrap(), 50, "what is there already can be written over");
    disk.set_capacity(Some(5 * PAGE_BYTES as u64));
    assert_eq!(disk.free(), 2 * PAGE_BYTES as u64);
    disk.create("b", origin).unwrap();
    disk.set_capacity(Some(PAGE_BYTES as u64));
    assert_eq!(disk.free(), 0, "a disk that has shrunk under its data is full");
    disk.set_len(ino, 10, origin).unwrap();
    assert_eq!(disk.used(), PAGE_BYTES as u64);
}

#[test]
fn a_flipped_bit_is_read_and_stays_in_every_image_and_in_the_ledger() {
    let mut disk =
        after(Profile::PosixWeak, &[Create("a"), Write("a", 0, 2000), Sync("a"), SyncDir(""), Write("a", 1030, 4)]);
    let ino = disk.open("a").unwrap();
    assert_eq!(disk.flip_bit(ino, 1100, 0, 7), None, "the sector is pending");
    assert_eq!(disk.flip_bit(ino, 5000, 0, 7), None, "behind the end");
    let flip = disk.flip_bit(ino, 100, 3, 7).unwrap().clone();
    assert_eq!((flip.path.as_str(), flip.bytes.clone(), flip.harm), ("a", 100..101, Harm::Flip { bit: 3, now: 2 ^ 8 }));
    assert!(images(&disk).iter().all(|view| view["a"].as_ref().expect("a file")[100] == 2 ^ 8));
    assert_eq!(disk.damage(), std::slice::from_ref(&flip));
    disk.weigh_damage();
    assert_eq!(disk.damage(), [Damage { met: true, ..flip }]);
    disk.write(ino, 90, &[7; 20], Origin::default()).unwrap();
    disk.weigh_damage();
    assert!(disk.damage()[0].over, "written over");
    let drawn = disk.flip_some(&|path| path == "a", &mut Decisions::from_seed(1), 8).unwrap();
    assert!(drawn.bytes.start >= 512, "{drawn:?}");
    assert_eq!(disk.flip_some(&|_| false, &mut Decisions::from_seed(1), 9), None);
}

#[test]
fn what_is_flipped_in_one_byte_adds_up_and_can_be_undone() {
    let mut disk = after(Profile::PosixWeak, &[Create("a"), Write("a", 0, 20), Sync("a"), SyncDir("")]);
    let ino = disk.open("a").unwrap();
    let whole = disk.undamaged("a").unwrap();
    disk.flip_bit(ino, 7, 0, 1).unwrap();
    disk.flip_bit(ino, 7, 3, 2).unwrap();
    assert_eq!(disk.flip_bit(ino, 7, 0, 3), None, "it is flipped already");
    let mut read = [0];
    disk.read(ino, 7, &mut read).unwrap();
    assert_eq!(read[0], whole[7] ^ 0b1001);
    disk.weigh_damage();
    assert!(disk.damage().iter().all(|damage| damage.met && !damage.over), "{:?}", disk.damage());
    assert_eq!(disk.undamaged("a").unwrap(), whole);
}

/// A log, written by hand: a write of 100 bytes by call 10, a sync, and what the test adds.
fn log_with_history() -> (Disk, Ino) {
    let mut disk = Disk::new(Profile::PosixWeak, None);
    disk.keep_history();
    let ino = disk.create("log", Origin::new(9, None)).unwrap();
    disk.write(ino, 0, &[1; 100], Origin::new(10, None)).unwrap();
    disk.sync_file(ino, SyncScope::Data, Origin::new(11, None)).unwrap();
    disk.sync_dir("", Origin::new(12, None)).unwrap();
    (disk, ino)
}

#[test]
fn damage_in_what_a_log_synced_last_may_cost_what_was_acknowledged_since_it_was_written() {
    let (mut disk, ino) = log_with_history();
    disk.write(ino, 100, &[2; 100], Origin::new(20, None)).unwrap();
    disk.sync_file(ino, SyncScope::Data, Origin::new(21, None)).unwrap();
    let last = disk.flip_bit(ino, 150, 0, 30).unwrap().forgives;
    assert_eq!(last, Some(20), "nothing behind it can tell");
    let first = disk.flip_bit(ino, 50, 0, 31).unwrap().forgives;
    assert_eq!(first, Some(10), "the write that could tell is damaged itself");
}

#[test]
fn damage_in_front_of_a_write_that_was_begun_after_a_sync_must_be_noticed() {
    let (mut disk, ino) = log_with_history();
    disk.write(ino, 100, &[2; 100], Origin::new(20, None)).unwrap();
    assert_eq!(disk.flip_bit(ino, 50, 0, 30), None, "its sector is pending");
    disk.sync_file(ino, SyncScope::Data, Origin::new(21, None)).unwrap();
    assert_eq!(disk.flip_bit(ino, 50, 0, 31).unwrap().forgives, None);
    let (mut lost, ino) = log_with_history();
    lost.write(ino, 600, &[2; 100], Origin::new(20, None)).unwrap();
    assert_eq!(lost.flip_bit(ino, 50, 0, 31).unwrap().forgives, None, "it can be read, though it is not durable");
    let (mut image, _) = lost.crash_with(ImageChoice::Min);
    image.weigh_damage();
    assert_eq!(image.damage()[0].forgives, Some(10), "the power cut took what could tell");
    // An opening has met it and was cut short: what it took is gone, though the log is as well.
    let mut cut_short = image.fork();
    cut_short.unlink("log", Origin::default()).unwrap();
    cut_short.weigh_damage();
    assert!(cut_short.damage()[0].over && cut_short.damage()[0].forgives == Some(10));
    image.settle_damage();
    image.unlink("log", Origin::default()).unwrap();
    image.weigh_damage();
    assert!(image.damage()[0].over && image.damage()[0].forgives.is_none());
}

#[test]
fn a_write_that_was_cut_short_proves_nothing_about_what_stands_before_it() {
    let cost = |most: usize| {
        let mut disk = Disk::new(Profile::PosixWeak, None);
        disk.keep_history();
        let log = disk.create("log", Origin::default()).unwrap();
        disk.write(log, 0, &[1; 512], Origin::new(7, None)).unwrap();
        disk.sync_file(log, SyncScope::Data, Origin::default()).unwrap();
        disk.write_at_most(most, log, 512, &[2; 40], Origin::new(8, None)).unwrap();
        disk.flip_bit(log, 50, 0, 9).expect("a durable byte").forgives
    };
    assert_eq!((cost(5), cost(40)), (Some(7), None));
}

#[test]
fn a_promise_that_a_crash_breaks_is_in_the_ledger_and_one_that_it_keeps_is_not() {
    let mut disk = after(Profile::PosixWeak, &[Create("a"), SyncDir(""), Write("a", 0, 10)]);
    let ino = disk.open("a").unwrap();
    disk.lose_sync(ino, Origin::new(77, None));
    disk.write(ino, 600, &[1; 10], Origin::new(78, None)).unwrap();
    let broken = |choice: ImageChoice| disk.crash_with(choice).0.damage().to_vec();
    assert_eq!(broken(ImageChoice::All), []);
    assert_eq!(broken(ImageChoice::DropWrite(1)), [], "nobody had promised the second write");
    let [damage] = broken(ImageChoice::Min).try_into().expect("one promise");
    assert_eq!((damage.name(), damage.forgives), ("a", Some(77)));
    assert_eq!(damage.harm, Harm::BrokenPromise { of_names: false });
    let mut mended = disk.fork();
    mended.sync_file(ino, SyncScope::Data, Origin::new(79, None)).unwrap();
    assert_eq!(mended.crash_with(ImageChoice::Min).0.damage(), []);

    // A failed sync that takes what was promised back breaks the promise at once; one that only marks it clean, at the crash.
    let origin = Origin::new(80, None);
    let mut reverted = disk.fork();
    reverted.fail_sync(ino, SyncFailure::CleanRevertOld, &mut Decisions::from_seed(1), origin);
    assert_eq!(reverted.damage().iter().map(|damage| damage.forgives).collect::<Vec<_>>(), [Some(77)]);
    let mut dropped = disk.fork();
    dropped.fail_sync(ino, SyncFailure::CleanKeepNew, &mut Decisions::from_seed(1), origin);
    assert_eq!(dropped.damage(), []);
    assert_eq!(dropped.crash_with(ImageChoice::Min).0.damage()[0].forgives, Some(77));

    // So does one that takes back what an earlier one had marked clean and said `Ok` for.
    let mut late = after(Profile::PosixWeak, &[Create("a"), SyncDir(""), Write("a", 0, 10)]);
    late.fail_sync(ino, SyncFailure::LateReport, &mut Decisions::from_seed(1), Origin::new(81, None));
    assert_eq!(late.damage(), []);
    late.write(ino, 600, &[1; 10], Origin::new(82, None)).unwrap();
    late.fail_sync(ino, SyncFailure::CleanRevertOld, &mut Decisions::from_seed(1), Origin::new(83, None));
    assert_eq!(late.damage().iter().map(|damage| damage.forgives).collect::<Vec<_>>(), [Some(81)]);

    let mut names = after(Profile::PosixWeak, &[Create("a")]);
    names.lose_sync_dir("", Origin::new(5, None)).unwrap();
    assert_eq!(names.crash_with(ImageChoice::All).0.damage(), []);
    let [damage] = names.crash_with(ImageChoice::Min).0.damage().to_vec().try_into().expect("one promise");
    assert_eq!((damage.forgives, damage.harm), (Some(0), Harm::BrokenPromise { of_names: true }));
    names.sync_dir("", Origin::new(6, None)).unwrap();
    assert_eq!(names.crash_with(ImageChoice::Min).0.damage(), []);
}

#[test]
fn a_poisoned_sector_fails_every_read_that_touches_it() {
    let mut disk = after(Profile::PosixWeak, &[Create("a"), Write("a", 0, 2000)]);
    let ino = disk.open("a").unwrap();
    disk.poison(ino, 1);
    let mut bytes = [0; 100];
    assert_eq!(disk.read(ino, 0, &mut bytes).unwrap(), 100);
    assert_eq!(disk.read(ino, 450, &mut bytes).unwrap_err(), DiskError::io());
    disk.heal();
    assert_eq!(disk.read(ino, 450, &mut bytes).unwrap(), 100);
}

#[test]
fn a_report_says_in_words_what_was_kept_and_lost() {
    let trace = [
        Create("CURRENT"),
        SyncDir(""),
        Create("t"),
        Write("t", 0, 1000),
        Rename("t", "CURRENT"),
        Create("x"),
        Write("x", 0, 5),
        Sync("x"),
        Unlink("x"),
    ];
    let disk = after(Profile::PosixWeak, &trace);
    let (_, report) = disk.crash_with(ImageChoice::DropMeta(1));
    assert_eq!(
        report.to_string(),
        "power loss\n  kept: create t (op 2)\n  kept: create x (op 5)\n  kept: unlink x (op 8)\n  \
         kept: write CURRENT @0+1000 (op 3)\n  lost: rename t to CURRENT (op 4)\n"
    );
    let (_, report) = disk.crash_with(ImageChoice::TornLast(1));
    assert!(report.to_string().contains("lost: write CURRENT @0+1000, 1 of 2 sectors kept (op 3)"), "{report}");
    let (_, report) = after(Profile::PosixWeak, &trace[..8]).crash_with(ImageChoice::Min);
    assert!(report.to_string().contains("x is gone: no durable name (5 bytes of it were synced)"), "{report}");
}

#[test]
fn a_sync_of_a_directory_takes_along_the_earlier_changes_of_the_same_names() {
    let trace = [Mkdir("d"), Mkdir("e"), SyncDir(""), Create("d/a"), Rename("d/a", "e/b"), SyncDir("e")];
    let seen = images(&after(Profile::PosixWeak, &trace));
    let all = View::from([("d".into(), None), ("e".into(), None), ("e/b".into(), Some(vec![]))]);
    assert_eq!(seen, BTreeSet::from([all]));
}

// ---- against a simple model ----

#[derive(Clone, Debug)]
enum Random {
    Create(usize),
    Write(usize, u64, usize),
    SetLen(usize, u64),
    Sync(usize),
    SyncDir,
    Rename(usize, usize),
    Link(usize, usize),
    Unlink(usize),
    Fail(usize, u8),
}

const PATHS: [&str; 6] = ["a", "b", "c", "d/a", "d/b", "d/c"];

fn random_op() -> impl Strategy<Value = Random> {
    let path = 0..PATHS.len();
    let offset = prop_oneof![0u64..50, 500u64..530, 4080u64..4110, 0u64..20_000];
    let len = prop_oneof![1usize..40, 500usize..520, 4090usize..4100, 1usize..9000];
    prop_oneof![
        3 => path.clone().prop_map(Random::Create),
        8 => (path.clone(), offset.clone(), len).prop_map(|(path, offset, len)| Random::Write(path, offset, len)),
        2 => (path.clone(), offset).prop_map(|(path, len)| Random::SetLen(path, len)),
        2 => path.clone().prop_map(Random::Sync),
        1 => Just(Random::SyncDir),
        2 => (path.clone(), path.clone()).prop_map(|(from, to)| Random::Rename(from, to)),
        1 => (path.clone(), path.clone()).prop_map(|(from, to)| Random::Link(from, to)),
        2 => path.clone().prop_map(Random::Unlink),
        1 => (path, 0u8..2).prop_map(|(path, how)| Random::Fail(path, how)),
    ]
}

/// Files by number, names to numbers: the file system that a child would write.
#[derive(Default)]
struct Model {
    files: Vec<Vec<u8>>,
    names: BTreeMap<&'static str, usize>,
}

fn run_random(disk: &mut Disk, model: &mut Model, ops: &[Random], failures: bool) {
    disk.mkdir("d", Origin::default()).unwrap();
    disk.sync_dir("", Origin::default()).unwrap();
    let mut decisions = Decisions::from_seed(ops.len() as u64);
    for (number, op) in ops.iter().enumerate() {
        let origin = Origin::new(number as u64, None);
        match *op {
            Random::Create(path) => {
                let made = disk.create(PATHS[path], origin);
                assert_eq!(made.is_ok(), !model.names.contains_key(PATHS[path]));
                if let Ok(ino) = made {
                    disk.close(ino);
                    model.names.insert(PATHS[path], model.files.len());
                    model.files.push(Vec::new());
                }
            }
            Random::Write(path, offset, len) => {
                let Some(&file) = model.names.get(PATHS[path]) else { continue };
                let data: Vec<u8> = (0..len).map(|at| (at * 7 + number * 13) as u8).collect();
                let ino = disk.stat(PATHS[path]).unwrap().ino;
                assert_eq!(disk.write(ino, offset, &data, origin).unwrap(), len);
                let bytes = &mut model.files[file];
                bytes.resize(bytes.len().max(offset as usize + len), 0);
                bytes[offset as usize..offset as usize + len].copy_from_slice(&data);
            }
            Random::SetLen(path, len) => {
                let Some(&file) = model.names.get(PATHS[path]) else { continue };
                disk.set_len(disk.stat(PATHS[path]).unwrap().ino, len, origin).unwrap();
                model.files[file].resize(len as usize, 0);
            }
            Random::Sync(path) => {
                if let Ok(stat) = disk.stat(PATHS[path]) {
                    disk.sync_file(stat.ino, SyncScope::Data, origin).unwrap();
                }
            }
            Random::SyncDir => {
                disk.sync_dir("d", origin).unwrap();
                disk.sync_dir("", origin).unwrap();
            }
            Random::Rename(from, to) => {
                let done = disk.rename(PATHS[from], PATHS[to], origin);
                let file = model.names.get(PATHS[from]).copied();
                assert_eq!(done.is_ok(), file.is_some());
                if let Some(file) = file
                    && model.names.get(PATHS[to]) != Some(&file)
                {
                    model.names.remove(PATHS[from]);
                    model.names.insert(PATHS[to], file);
                }
            }
            Random::Link(from, to) => {
                let done = disk.link(PATHS[from], PATHS[to], origin);
                let file = model.names.get(PATHS[from]).copied();
                assert_eq!(done.is_ok(), file.is_some() && !model.names.contains_key(PATHS[to]));
                if let (Ok(()), Some(file)) = (done, file) {
                    model.names.insert(PATHS[to], file);
                }
            }
            Random::Unlink(path) => {
                let done = disk.unlink(PATHS[path], origin);
                assert_eq!(done.is_ok(), model.names.remove(PATHS[path]).is_some());
            }
            Random::Fail(path, how) => {
                let Ok(stat) = disk.stat(PATHS[path]) else { continue };
                if failures {
                    let how = [SyncFailure::CleanKeepNew, SyncFailure::KeepDirty][how as usize];
                    disk.fail_sync(stat.ino, how, &mut decisions, origin);
                }
            }
        }
    }
}

impl Model {
    fn view(&self) -> View {
        let mut seen: View =
            self.names.iter().map(|(name, &file)| (name.to_string(), Some(self.files[file].clone()))).collect();
        seen.insert("d".into(), None);
        seen
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_is_what_a_simple_model_says(ops in prop::collection::vec(random_op(), 1..60), failures: bool) {
        for profile in Profile::ALL {
            let mut disk = Disk::new(profile, None);
            let mut model = Model::default();
            run_random(&mut disk, &mut model, &ops, failures);
            prop_assert_eq!(view(&disk), model.view());
        }
    }

    #[test]
    fn space_in_use_is_what_the_files_take(ops in prop::collection::vec(random_op(), 1..60), seed: u64) {
        let mut disk = Disk::new(Profile::PosixWeak, None);
        run_random(&mut disk, &mut Model::default(), &ops, true);
        let counted = |disk: &Disk| -> u64 {
            let taken = |slot: &super::volume::Slot| match &slot.node {
                super::volume::Node::File(content) if slot.links > 0 || slot.opens > 0 => content.pages.taken(),
                _ => 0,
            };
            disk.slots.iter().map(taken).sum::<u64>() * PAGE_BYTES as u64
        };
        prop_assert_eq!(disk.used(), counted(&disk));
        let (image, _) = disk.crash(CrashKind::PowerLoss, &mut Decisions::from_seed(seed));
        prop_assert_eq!(image.used(), counted(&image));
    }

    #[test]
    fn what_has_nothing_pending_is_in_every_image(ops in prop::collection::vec(random_op(), 1..60), seed: u64) {
        for profile in BETWEEN.into_iter().chain([Profile::StrictMin, Profile::PosixWeak]) {
            let mut disk = Disk::new(profile, None);
            run_random(&mut disk, &mut Model::default(), &ops, false);
            let names_pending: BTreeSet<String> = disk
                .meta
                .iter()
                .flat_map(|op| op.entries().into_iter().flatten().map(|entry| disk.path_in(entry)).collect::<Vec<_>>())
                .collect();
            let settled: View = view(&disk)
                .into_iter()
                .filter(|(path, _)| {
                    let ino = disk.stat(path).unwrap().ino;
                    !names_pending.contains(path) && disk.content(ino).is_ok_and(|content| content.pending.is_empty())
                })
                .collect();
            for choice in 0..6 {
                let kind = if choice == 0 { CrashKind::TornPowerLoss } else { CrashKind::PowerLoss };
                let (image, _) = disk.crash(kind, &mut Decisions::from_seed(seed ^ choice));
                let image = view(&image);
                for (path, bytes) in &settled {
                    prop_assert_eq!(image.get(path), Some(bytes), "{} {}", profile, path);
                }
            }
        }
    }

    #[test]
    fn the_least_image_loses_nothing_more(ops in prop::collection::vec(random_op(), 1..60), seed: u64) {
        for profile in Profile::ALL {
            let mut disk = Disk::new(profile, None);
            run_random(&mut disk, &mut Model::default(), &ops, true);
            let (least, _) = disk.crash_with(ImageChoice::Min);
            let (again, report) = least.crash(CrashKind::PowerLoss, &mut Decisions::from_seed(seed));
            prop_assert_eq!(view(&again), view(&least));
            prop_assert_eq!(again.image_hash(), least.image_hash());
            prop_assert!(report.kept.is_empty() && report.lost.is_empty(), "{}", report);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_image(ops in prop::collection::vec(random_op(), 1..40), seed: u64) {
        let mut disk = Disk::new(Profile::PosixWeak, None);
        run_random(&mut disk, &mut Model::default(), &ops, true);
        let one = disk.crash(CrashKind::PowerLoss, &mut Decisions::from_seed(seed));
        let two = disk.fork().crash(CrashKind::PowerLoss, &mut Decisions::from_seed(seed));
        prop_assert_eq!(one.0.image_hash(), two.0.image_hash());
        prop_assert_eq!(one.1, two.1);
    }
}

#[test]
fn a_torn_cut_tears_nothing_where_nothing_unsynced_may_be_kept() {
    let mut disk = Disk::new(Profile::StrictMin, None);
    let ino = disk.create("a", Origin::default()).expect("an empty disk");
    disk.sync_dir("", Origin::default()).expect("a root");
    disk.write(ino, 0, &[7; 1700], Origin::default()).expect("an endless disk");
    let least = disk.crash_with(ImageChoice::Min).0.image_hash();
    for seed in 0..20 {
        let (image, _) = disk.crash(CrashKind::TornPowerLoss, &mut Decisions::from_seed(seed));
        assert_eq!(image.image_hash(), least);
    }
}
