//! Processor time: what an exploration has cost, whatever else the machine was doing meanwhile.

use std::time::Duration;

/// Processor time that the calling thread has used.
pub fn thread_time() -> Duration {
    spent(Of::Thread)
}

/// Processor time that the process has used, all threads together.
pub fn process_time() -> Duration {
    spent(Of::Process)
}

enum Of {
    Thread,
    Process,
}

#[cfg(unix)]
fn spent(of: Of) -> Duration {
    use rustix::time::{ClockId, clock_gettime};
    let time = clock_gettime(match of {
        Of::Thread => ClockId::ThreadCPUTime,
        Of::Process => ClockId::ProcessCPUTime,
    });
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}

/// Where the system does not tell, real time since the first question is the next best thing.
#[cfg(not(unix))]
fn spent(_: Of) -> Duration {
    use crate::campaign::real_now;
    static FIRST: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    real_now() - *FIRST.get_or_init(real_now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_costs_time_and_a_thread_costs_no_more_than_its_process() {
        let (thread, process) = (thread_time(), process_time());
        let mut state = 1u64;
        while thread_time() == thread {
            state = std::hint::black_box(state.wrapping_mul(6_364_136_223_846_793_005) + 1);
        }
        assert!(process_time() > process);
    }
}
