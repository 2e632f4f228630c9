//! What makes the exploration small is looked at: that a run does not depend on what follows, and that what is left out is
//! there under another name. And it finds what a toy forgets.

use super::*;
use crate::runner::RunOptions;
use crate::runner::toy::{Flaw, ToyKind};
use crate::strata::StrataKind;

fn recorded(sequence: &Sequence, kind: &Arc<dyn StoreKind>) -> (crate::sweep::Recording, u64) {
    let (plan, before_last) = plan_of(sequence, kind.as_ref(), Profile::PosixWeak);
    let plainest = Decisions::scripted(BTreeMap::new(), Rest::Zero);
    (record(Arc::new(plan), kind, plainest, 0..u64::MAX), before_last)
}

#[test]
fn a_sequence_runs_like_every_longer_one_up_to_its_end() {
    let kind: Arc<dyn StoreKind> = Arc::new(StrataKind);
    let seen = |boundary: &crate::sweep::Boundary| {
        let images = boundary.disk.canonical(false).into_iter();
        let images: Vec<u64> = images.map(|image| boundary.disk.crash_with(image).0.image_hash()).collect();
        (boundary.to_string(), boundary.ops, boundary.mark, images)
    };
    let letters = Letter::of(kind.as_ref());
    for number in (0..Sequence::count(letters, 4)).step_by(97) {
        let long = Sequence::new(letters, 4, number);
        let short = Sequence::new(letters, 3, number / letters.len() as u64);
        let (whole, before_last) = recorded(&long, &kind);
        let (part, _) = recorded(&short, &kind);
        let upto = |recording: &crate::sweep::Recording| {
            let common = recording.boundaries.iter().filter(|boundary| boundary.ops <= before_last);
            common.map(seen).collect::<Vec<_>>()
        };
        let (whole, part) = (upto(&whole), upto(&part));
        assert_eq!(whole, part, "{short:?} and {long:?}");
        assert!(whole.len() > 10, "{} boundaries", whole.len());
    }
}

#[test]
fn what_is_left_out_is_there_under_another_name() {
    let letters = Letter::of(&StrataKind);
    for length in 0..5 {
        let all: Vec<Sequence> =
            (0..Sequence::count(letters, length)).map(|number| Sequence::new(letters, length, number)).collect();
        assert!(all.windows(2).all(|two| two[0] != two[1]));
        for sequence in all.iter().filter(|sequence| sequence.is_renamed()) {
            let first: Vec<Letter> =
                sequence.letters().map(|letter| if letter == Letter::PutB { Letter::PutA } else { letter }).collect();
            let twin = all.iter().find(|other| other.letters().eq(first.iter().copied())).expect("its twin");
            assert!(!twin.is_renamed());
            let name = |key| 1 - key;
            let renamed = twin.letters().enumerate().map(|(place, letter)| letter.op(place).renamed(&name));
            assert!(renamed.eq(sequence.letters().enumerate().map(|(place, letter)| letter.op(place))));
        }
    }
}

#[test]
fn the_numbers_do_not_depend_on_the_number_of_threads() {
    let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(Flaw::NoDirSync));
    let text = |jobs| {
        let exhaust = explore(&kind, Profile::PosixWeak, 2, jobs, None);
        let found: Vec<String> = exhaust.found().map(|(found, count)| format!("{count} {found:?}")).collect();
        (exhaust.text(), found)
    };
    assert_eq!(text(1), text(3));
}

#[test]
fn a_store_without_a_flaw_passes_and_each_that_forgets_a_sync_does_not() {
    for flaw in [Flaw::None, Flaw::NoDirSync, Flaw::NoSync, Flaw::SyncIsEmpty, Flaw::HalfBatch, Flaw::AckEarly] {
        let kind: Arc<dyn StoreKind> = Arc::new(ToyKind(flaw));
        let exhaust = explore(&kind, Profile::PosixWeak, 2, 1, None);
        assert_eq!(exhaust.found().count() > 0, flaw != Flaw::None, "{flaw:?}\n{}", exhaust.text());
        for (found, _) in exhaust.found() {
            let again = found.artifact.run(&kind, &RunOptions::default()).failure.expect("an ordinary run that fails");
            assert_eq!(again.finding.fingerprint(), found.artifact.fingerprint, "{flaw:?}");
        }
        assert!(exhaust.is_whole() || flaw != Flaw::None, "{}", exhaust.text());
    }
}
