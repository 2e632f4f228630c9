//! Locks for production and simulation alike: the same code in both.
//!
//! Uncontended, these are `parking_lot`'s locks. Where a thread would *block*, the slow path asks a thread-local whether a
//! simulated scheduler runs this thread. None: the thread parks as usual. One: control goes to it through [`Parker`], and
//! comes back when the lock was let go. A thread belongs to a simulation or it does not; a lock is never used by both kinds.
//!
//! A lock carries a name, which is what a deadlock report shows. There is no poisoning: a panic while a lock is held is our
//! own bug, and ends the process or the simulation.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// What a simulated scheduler does for a task that must wait.
pub trait Parker {
    /// Suspends the calling task until `unpark_*` names `address`, or until `timeout` of simulated time has passed.
    /// Returns whether it was woken, that is, not timed out. A spurious wake-up is allowed. `name` is the lock's.
    fn park(&self, address: usize, name: &'static str, timeout: Option<Duration>) -> bool;
    /// Wakes one task that is parked on `address`, if there is one. The caller goes on: one who lets go of a lock in order to
    /// wait for a condition must be parked before anybody else runs, or would miss what it waits for.
    fn unpark_one(&self, address: usize);
    /// Wakes all tasks that are parked on `address`. The caller goes on here too.
    fn unpark_all(&self, address: usize);
}

thread_local! {
    static PARKER: RefCell<Option<Rc<dyn Parker>>> = const { RefCell::new(None) };
}

/// Puts this thread under a simulated scheduler, or takes it away from one. Returns what was there before.
pub fn set_parker(parker: Option<Rc<dyn Parker>>) -> Option<Rc<dyn Parker>> {
    PARKER.with(|slot| slot.replace(parker))
}

fn parker() -> Option<Rc<dyn Parker>> {
    PARKER.with(|slot| slot.borrow().clone())
}

/// The parker of a thread that has simulated waiters: there is one, since only simulated tasks are counted as parked.
fn parker_of_waiters() -> Rc<dyn Parker> {
    parker().expect("a lock with simulated waiters is let go by a thread outside the simulation")
}

/// Mutual exclusion around a `T`.
pub struct Mutex<T: ?Sized> {
    name: &'static str,
    /// Simulated tasks that wait for this lock. Always 0 in production.
    parked: AtomicUsize,
    inner: parking_lot::Mutex<T>,
}

/// Access to what a [`Mutex`] guards, until dropped.
pub struct MutexGuard<'a, T: ?Sized> {
    lock: &'a Mutex<T>,
    /// `None` only inside [`Condvar`]'s wait and inside `drop`.
    inner: Option<parking_lot::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    /// A lock with a name for reports, such as `"db.state"`.
    pub const fn new(name: &'static str, value: T) -> Mutex<T> {
        Mutex { name, parked: AtomicUsize::new(0), inner: parking_lot::Mutex::new(value) }
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.inner.into_inner()
    }
}

impl<T: ?Sized> Mutex<T> {
    /// Takes the lock, waiting as long as it takes.
    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let inner = match self.inner.try_lock() {
            Some(inner) => inner,
            None => self.lock_contended(),
        };
        MutexGuard { lock: self, inner: Some(inner) }
    }

    /// Takes the lock if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let inner = self.inner.try_lock()?;
        Some(MutexGuard { lock: self, inner: Some(inner) })
    }

    #[cold]
    fn lock_contended(&self) -> parking_lot::MutexGuard<'_, T> {
        let Some(parker) = parker() else { return self.inner.lock() };
        loop {
            self.parked.fetch_add(1, Ordering::Relaxed);
            parker.park(self.address(), self.name, None);
            self.parked.fetch_sub(1, Ordering::Relaxed);
            if let Some(inner) = self.inner.try_lock() {
                return inner;
            }
        }
    }

    fn address(&self) -> usize {
        (&raw const self.parked).addr()
    }

    #[inline]
    fn wake_simulated(&self) {
        if self.parked.load(Ordering::Relaxed) > 0 {
            parker_of_waiters().unpark_one(self.address());
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mutex({})", self.name)
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.inner.as_ref().expect("a guard is whole outside a wait")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("a guard is whole outside a wait")
    }
}

impl<T: ?Sized> Drop for MutexGuard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.inner = None;
        self.lock.wake_simulated();
    }
}

/// A condition that tasks wait for and others announce. Waits can end without cause: check the condition in a loop.
pub struct Condvar {
    name: &'static str,
    parked: AtomicUsize,
    inner: parking_lot::Condvar,
}

impl Condvar {
    /// A condition with a name for reports.
    pub const fn new(name: &'static str) -> Condvar {
        Condvar { name, parked: AtomicUsize::new(0), inner: parking_lot::Condvar::new() }
    }

    /// Lets go of the lock, waits to be notified, takes the lock again.
    pub fn wait<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>) {
        self.wait_at_most(guard, None);
    }

    /// Like [`Condvar::wait`], at most for this long. Returns whether it was notified, that is, not timed out.
    pub fn wait_for<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Duration) -> bool {
        self.wait_at_most(guard, Some(timeout))
    }

    fn wait_at_most<T: ?Sized>(&self, guard: &mut MutexGuard<'_, T>, timeout: Option<Duration>) -> bool {
        let Some(parker) = parker() else {
            let inner = guard.inner.as_mut().expect("a guard is whole outside a wait");
            return match timeout {
                None => {
                    self.inner.wait(inner);
                    true
                }
                Some(timeout) => !self.inner.wait_for(inner, timeout).timed_out(),
            };
        };
        // One OS thread runs all simulated tasks, so nothing can notify between letting go and parking.
        guard.inner = None;
        guard.lock.wake_simulated();
        self.parked.fetch_add(1, Ordering::Relaxed);
        let woken = parker.park(self.address(), self.name, timeout);
        self.parked.fetch_sub(1, Ordering::Relaxed);
        guard.inner = Some(match guard.lock.inner.try_lock() {
            Some(inner) => inner,
            None => guard.lock.lock_contended(),
        });
        woken
    }

    /// Wakes one waiter.
    pub fn notify_one(&self) {
        if self.parked.load(Ordering::Relaxed) > 0 {
            parker_of_waiters().unpark_one(self.address());
        }
        self.inner.notify_one();
    }

    /// Wakes all waiters.
    pub fn notify_all(&self) {
        if self.parked.load(Ordering::Relaxed) > 0 {
            parker_of_waiters().unpark_all(self.address());
        }
        self.inner.notify_all();
    }

    fn address(&self) -> usize {
        (&raw const self.parked).addr()
    }
}

impl fmt::Debug for Condvar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condvar({})", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn threads_hand_a_counter_to_each_other() {
        let shared = Arc::new((Mutex::new("turn", 0u32), Condvar::new("turn changed")));
        let env = crate::env::Env::os();
        let other = shared.clone();
        let task = env
            .spawn(
                "odd",
                Box::new(move || {
                    let (turn, changed) = &*other;
                    let mut turn = turn.lock();
                    while *turn < 100 {
                        while *turn % 2 == 0 {
                            changed.wait(&mut turn);
                        }
                        *turn += 1;
                        changed.notify_all();
                    }
                }),
            )
            .expect("a thread");
        let (turn, changed) = &*shared;
        let mut guard = turn.lock();
        while *guard < 100 {
            while *guard % 2 == 1 {
                changed.wait(&mut guard);
            }
            *guard += 1;
            changed.notify_all();
        }
        // The other side waits for an odd number: give it one.
        *guard = 101;
        changed.notify_all();
        drop(guard);
        task.join();
        assert!(*turn.lock() >= 101);
    }

    #[test]
    fn a_wait_with_a_timeout_ends() {
        let (lock, condition) = (Mutex::new("nothing", ()), Condvar::new("never"));
        assert!(!condition.wait_for(&mut lock.lock(), Duration::from_millis(1)));
    }
}
