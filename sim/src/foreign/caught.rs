//! An engine behind a lock that the scheduler can see, and whose panics are caught.

use crate::env::Mutex;
use crate::fiber::take_panic;
use crate::store::{Failure, FailureKind};
use std::panic::{self, AssertUnwindSafe};

/// See the head of this file.
pub(super) struct Caught<T> {
    state: Mutex<State<T>>,
}

enum State<T> {
    Open(T),
    Closed,
    /// It panicked, and said this. What is left of it is leaked: its locks are poisoned and its invariants broken.
    Panicked(Failure),
}

impl<T> Caught<T> {
    pub(super) fn new(engine: T) -> Caught<T> {
        Caught { state: Mutex::new("foreign.engine", State::Open(engine)) }
    }

    /// Makes a call, with nobody else within the engine.
    pub(super) fn call<R>(&self, call: impl FnOnce(&mut T) -> Result<R, Failure>) -> Result<R, Failure> {
        let mut state = self.state.lock();
        let engine = match &mut *state {
            State::Open(engine) => engine,
            State::Closed => {
                return Err(Failure { kind: FailureKind::Closed, message: "the store was closed".into(), file: None });
            }
            State::Panicked(failure) => return Err(failure.clone()),
        };
        match catch(|| call(engine)) {
            Ok(result) => result,
            Err(failure) => {
                std::mem::forget(std::mem::replace(&mut *state, State::Panicked(failure.clone())));
                Err(failure)
            }
        }
    }

    /// Makes the last call. Without one, the engine is dropped under the same care.
    pub(super) fn close(&self, close: impl FnOnce(T) -> Result<(), Failure>) -> Result<(), Failure> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Closed) {
            State::Open(engine) => catch(|| close(engine)).unwrap_or_else(Err),
            State::Closed => Ok(()),
            State::Panicked(failure) => {
                *state = State::Panicked(failure.clone());
                Err(failure)
            }
        }
    }
}

impl<T> Drop for Caught<T> {
    fn drop(&mut self) {
        // Whoever wants to know how it went closes the store.
        let _ = self.close(|engine| {
            drop(engine);
            Ok(())
        });
    }
}

/// Catches a panic. The unwinding of a task that must go is none, and goes on.
pub(super) fn catch<R>(call: impl FnOnce() -> R) -> Result<R, Failure> {
    panic::catch_unwind(AssertUnwindSafe(call)).map_err(|payload| match take_panic() {
        None => panic::resume_unwind(payload),
        Some(panic) => {
            let location = tidy(&panic.location);
            Failure { kind: FailureKind::Panicked, message: panic.message, file: Some(location) }
        }
    })
}

/// A line of a registry's source by package and file, without the machine's own path to it.
fn tidy(location: &str) -> String {
    match location.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/')) {
        Some((_, in_package)) => in_package.to_string(),
        None => location.to_string(),
    }
}
