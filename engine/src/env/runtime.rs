//! Tasks, as a contract. In production a task is a thread; in simulation it is a coroutine.

use std::io;

/// A task that was started.
pub trait TaskHandle: Send + Sync {
    /// Waits until the task has ended. A task that panicked has ended too, and its panic goes on in the caller.
    fn join(self: Box<Self>);
}

/// Runs tasks.
pub trait Runtime: Send + Sync {
    /// Starts `body` beside the caller. `name` is for people.
    fn spawn(&self, name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<Box<dyn TaskHandle>>;
    /// A place at which a simulated scheduler may switch. Does nothing in production.
    fn yield_point(&self, label: &'static str);
    /// 64 random bits, for identities.
    fn random_u64(&self) -> u64;
}
