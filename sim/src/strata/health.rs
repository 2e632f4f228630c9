//! What an open store has told of its health, and whether that is a story that holds together.
//!
//! * The first change is from `Ok`, and each later one from where the one before has led.
//! * Nothing is told that is no change.

use parking_lot::Mutex;
use strata::event::{Event, Health};

/// The health of a store by its events alone.
#[derive(Default)]
pub(super) struct HealthLog {
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    health: Health,
    wrong: Option<String>,
}

impl HealthLog {
    /// Listens.
    pub(super) fn hear(&self, event: &Event) {
        let Event::HealthChanged { from, to, cause } = event else { return };
        let mut told = self.told.lock();
        let wrong = if *from != told.health {
            Some(format!("a change of health is told from {from} to {to}, and the store had said {}", told.health))
        } else if from == to {
            Some(format!("a change of health is told from {from} to {to}"))
        } else if cause.is_none() != (*to == Health::Ok) {
            Some(format!("a change of health from {from} to {to} is told with the cause {cause:?}"))
        } else {
            None
        };
        told.wrong = told.wrong.take().or(wrong);
        told.health = *to;
    }

    /// Says what is wrong with what was told.
    pub(super) fn judge(&self) -> Result<(), String> {
        self.told.lock().wrong.clone().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use strata::event::Trouble;

    #[test]
    fn a_change_that_is_told_twice_or_left_out_is_noticed() {
        let ill = Health::Degraded(Trouble::Io);
        let change = |from: Health, to: Health| Event::HealthChanged {
            from,
            to,
            cause: (to != Health::Ok).then(|| "a cause".to_string()),
        };
        let judged = |events: &[Event]| {
            let log = HealthLog::default();
            events.iter().for_each(|event| log.hear(event));
            log.judge()
        };
        assert_eq!(judged(&[change(Health::Ok, ill), change(ill, Health::Ok), Event::Resumed]), Ok(()));
        assert!(judged(&[change(Health::Ok, ill), change(Health::Ok, ill)]).is_err(), "told twice");
        assert!(judged(&[change(ill, Health::Ok)]).is_err(), "the way there was not told");
    }
}
