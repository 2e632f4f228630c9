//! Stackful coroutines: the ground on which simulated tasks stand, and the one file of this crate with `unsafe` in it.
//!
//! A [`Fiber`] runs a body on a stack of its own, on the OS thread that resumes it, until the body calls [`suspend`] or
//! ends. Stacks come from a pool that each OS thread keeps, because mapping one costs more than a whole simulated run.
//!
//! A panic never leaves a fiber: it is caught at the root and kept for [`take_panic`], with its message and source line
//! and without a word on stderr. A fiber that must go before its body has ended is *doomed*: its next [`suspend`]
//! unwinds instead of returning, so that everything on its stack is dropped.
//!
//! What this does not do: choose who runs next ([`crate::scheduler`]), or know what a task is.
#![allow(unsafe_code, reason = "a coroutine's own yielder is reached through a thread-local pointer, see `suspend`")]

use corosensei::stack::DefaultStack;
use corosensei::{Coroutine, CoroutineResult, Yielder};
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::panic::{self, AssertUnwindSafe};
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of stack for each fiber. Debug builds keep every temporary in a slot of its own, and an engine that replays a
/// log inside an open inside a task is some dozens of frames deep. Untouched pages cost nothing, and a guard page ends
/// every stack.
pub const STACK_BYTES: usize = 256 * 1024;

/// Stacks that an OS thread keeps for later fibers.
const POOLED_STACKS_MAX: usize = 1024;

type Body = Box<dyn FnOnce()>;

/// Whether a resumed fiber shall unwind instead of going on.
type Doomed = bool;

/// A panic that ended a fiber.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Panic {
    /// What was said.
    pub message: String,
    /// The source line, as `file:line`.
    pub location: String,
}

/// The payload that unwinds a doomed fiber.
struct Doom;

thread_local! {
    /// The yielder of the fiber that runs on this thread, null where none does.
    static YIELDER: Cell<*const Yielder<Doomed, ()>> = const { Cell::new(ptr::null()) };
    static STACKS: RefCell<Vec<DefaultStack>> = const { RefCell::new(Vec::new()) };
    static PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
}

/// A coroutine that has not ended.
pub(crate) struct Fiber {
    /// `None` only within `resume_with` and `abandon`.
    coroutine: Option<Coroutine<Doomed, (), ()>>,
}

impl Fiber {
    /// A fiber that will run `body` when it is first resumed.
    pub(crate) fn new(body: Body) -> Fiber {
        quieten_panics();
        let stack = STACKS.with_borrow_mut(Vec::pop).unwrap_or_else(|| {
            DefaultStack::new(STACK_BYTES).expect("the operating system maps a stack of a quarter mebibyte")
        });
        let coroutine = Coroutine::with_stack(stack, move |yielder: &Yielder<Doomed, ()>, doomed: Doomed| {
            if doomed {
                return;
            }
            YIELDER.set(yielder);
            // The hook has kept what a panic said, and doom has nothing to say.
            let _ = panic::catch_unwind(AssertUnwindSafe(body));
        });
        Fiber { coroutine: Some(coroutine) }
    }

    /// Runs the fiber until it suspends, and gives it back, or until it ends by returning or by a panic.
    pub(crate) fn resume(self) -> Option<Fiber> {
        self.resume_with(false)
    }

    /// Has the fiber unwind. It can still suspend within a destructor: it comes back then, and must not be doomed
    /// twice.
    pub(crate) fn doom(self) -> Option<Fiber> {
        self.resume_with(true)
    }

    fn resume_with(mut self, doomed: Doomed) -> Option<Fiber> {
        let mut coroutine = self.coroutine.take().expect("a fiber has a coroutine until it ends");
        let outer = YIELDER.get();
        let result = coroutine.resume(doomed);
        YIELDER.set(outer);
        match result {
            CoroutineResult::Yield(()) => {
                self.coroutine = Some(coroutine);
                Some(self)
            }
            CoroutineResult::Return(()) => {
                give_back(coroutine.into_stack());
                None
            }
        }
    }

    /// Gives up a fiber that does not end even though it is doomed: what its stack owns is leaked.
    pub(crate) fn abandon(mut self) {
        let mut coroutine = self.coroutine.take().expect("a fiber has a coroutine until it ends");
        // SAFETY: what the frames own is leaked, as `mem::forget` would. No pointer to these frames outlives them:
        // `YIELDER` names the fiber only while it runs, and the scheduler forgets the task in the same breath.
        unsafe { coroutine.force_reset() };
        give_back(coroutine.into_stack());
    }
}

impl Drop for Fiber {
    fn drop(&mut self) {
        if let Some(coroutine) = self.coroutine.take() {
            if coroutine.started() {
                Fiber { coroutine: Some(coroutine) }.abandon();
            } else {
                // Dropping an unstarted coroutine drops its body and runs nothing.
                drop(coroutine);
            }
        }
    }
}

/// Gives control back to whoever resumed the calling fiber, until it is resumed again.
pub(crate) fn suspend() {
    let yielder = YIELDER.get();
    assert!(!yielder.is_null(), "only a simulated task can wait: call this from a task of the world");
    // SAFETY: `YIELDER` was set by the fiber that runs now, either when it started or by the line after this one, and
    // `resume_with` puts back the outer fiber's when this one gives control back. So it is the yielder of the running
    // fiber, which lives at the root of its stack for as long as the fiber does.
    let doomed = unsafe { (*yielder).suspend(()) };
    YIELDER.set(yielder);
    if doomed {
        panic::resume_unwind(Box::new(Doom));
    }
}

/// What the first panic on a fiber of this thread said since this was last asked, even if the fiber is still unwinding.
pub(crate) fn take_panic() -> Option<Panic> {
    PANIC.take()
}

/// Whether the caller runs on a fiber.
pub(crate) fn on_fiber() -> bool {
    !YIELDER.get().is_null()
}

fn give_back(stack: DefaultStack) {
    STACKS.with_borrow_mut(|stacks| {
        if stacks.len() < POOLED_STACKS_MAX {
            stacks.push(stack);
        }
    });
}

/// Panics on a fiber are told by the report of the run; all others go on to the hook that was there before.
fn quieten_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let outside = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !on_fiber() {
                return outside(info);
            }
            let location = info.location().map_or_else(|| "an unknown line".to_string(), |at| at.to_string());
            let panic = Panic { message: message_of(info.payload()).to_string(), location };
            // The first panic is the cause; one in a destructor that follows is not.
            PANIC.with_borrow_mut(|slot| slot.get_or_insert(panic).message.len());
        }));
    });
}

fn message_of(payload: &dyn Any) -> &str {
    if let Some(message) = payload.downcast_ref::<&'static str>() {
        return message;
    }
    payload.downcast_ref::<String>().map_or("a panic without a message", String::as_str)
}

/// A value that only the OS thread that made it may touch, inside something that the type system takes for shareable.
///
/// A simulated engine demands `Send + Sync` of its world, although all its tasks are fibers of one thread.
pub(crate) struct ThreadBound<T> {
    thread: u64,
    value: ManuallyDrop<T>,
}

// SAFETY: `get` hands out the value on the thread that made it and panics on any other, and `drop` leaks it there. So
// the value is never reached from two threads, whatever thread holds the wrapper.
unsafe impl<T> Send for ThreadBound<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for ThreadBound<T> {}

impl<T> ThreadBound<T> {
    /// Binds the value to the calling thread.
    pub(crate) fn new(value: T) -> ThreadBound<T> {
        ThreadBound { thread: this_thread(), value: ManuallyDrop::new(value) }
    }

    /// The value. Panics on a foreign thread.
    #[inline]
    pub(crate) fn get(&self) -> &T {
        assert!(self.thread == this_thread(), "a world belongs to the OS thread that made it");
        &self.value
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        if self.thread == this_thread() {
            // SAFETY: the value is dropped once, here, and not touched afterwards.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// A number that no other thread of this process has or had.
#[inline]
fn this_thread() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: Cell<u64> = const { Cell::new(0) };
    }
    let number = NUMBER.get();
    if number != 0 {
        return number;
    }
    let number = THREADS.fetch_add(1, Ordering::Relaxed);
    NUMBER.set(number);
    number
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::rc::Rc;

    #[test]
    fn two_fibers_take_turns_on_one_thread() {
        let log = Rc::new(RefCell::new(Vec::new()));
        let body = |name: &'static str| -> Body {
            let log = log.clone();
            Box::new(move || {
                for turn in 0..3 {
                    log.borrow_mut().push((name, turn));
                    suspend();
                }
            })
        };
        let (mut a, mut b) = (Some(Fiber::new(body("a"))), Some(Fiber::new(body("b"))));
        while let (Some(left), Some(right)) = (a.take(), b.take()) {
            a = left.resume();
            b = right.resume();
        }
        assert_eq!(*log.borrow(), [("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 2), ("b", 2)]);
    }

    #[test]
    fn a_panic_ends_the_fiber_and_is_told_once() {
        let fiber = Fiber::new(Box::new(|| {
            suspend();
            panic!("seven is {}", 7);
        }));
        let fiber = fiber.resume().expect("it suspends first");
        assert_eq!(take_panic(), None);
        assert!(fiber.resume().is_none());
        let panic = take_panic().expect("it panicked");
        assert_eq!(panic.message, "seven is 7");
        assert!(panic.location.contains("fiber.rs:"), "{}", panic.location);
        assert_eq!(take_panic(), None);
    }

    #[test]
    fn a_doomed_fiber_drops_what_it_owns() {
        let owned = Rc::new(());
        let held = owned.clone();
        let fiber = Fiber::new(Box::new(move || {
            let _held = held;
            loop {
                suspend();
            }
        }));
        let fiber = fiber.resume().expect("it loops for ever");
        assert_eq!(Rc::strong_count(&owned), 2);
        assert!(fiber.doom().is_none());
        assert_eq!(take_panic(), None, "doom is no panic");
        assert_eq!(Rc::strong_count(&owned), 1);

        let held = owned.clone();
        drop(Fiber::new(Box::new(move || drop(held))));
        assert_eq!(Rc::strong_count(&owned), 1, "a fiber that never ran drops its body");
    }

    #[test]
    fn stacks_are_used_again() {
        for _ in 0..10_000 {
            let fiber = Fiber::new(Box::new(suspend)).resume().expect("it suspends once");
            assert!(fiber.resume().is_none());
        }
        assert!(STACKS.with_borrow(Vec::len) < 10);
    }
}
