//! Owns what is asked of the C allocator: from which size it maps, and that it gives back what lies free. It knows nothing of models and documents.

/// From which size glibc maps allocations one by one, which go back to the system when they are freed. By itself it raises that size up to 32 MiB as
/// such blocks are freed, and then keeps matrices that a session gave up while it was built: at BERT-base's size, 300 MiB of them.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mapping {
    /// While sessions are built: from 1 MiB on.
    Building,
    /// Once a model is loaded: from 4 MiB on, and up to 8 MiB that are free stay with the process. Batches on their way to and from brokers are compressed
    /// in blocks of one to four MiB, many a second, and mapping each anew costs more than compressing it.
    Serving,
}

impl Mapping {
    /// Puts it in force, for the whole process.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    pub(super) fn set(self) {
        let (mapped_bytes_min, kept_bytes) = match self {
            Self::Building => (1 << 20, 128 << 10),
            Self::Serving => (4 << 20, 8 << 20),
        };
        for (parameter, value) in [(libc::M_MMAP_THRESHOLD, mapped_bytes_min), (libc::M_TRIM_THRESHOLD, kept_bytes)] {
            // SAFETY: mallopt takes two numbers, and changes nothing but the allocator's own settings, under its lock.
            #[allow(unsafe_code, reason = "the allocator's settings are behind C")]
            let taken = unsafe { libc::mallopt(parameter, value) };
            tracing::trace!(taken, parameter, value, "set the allocator");
        }
    }

    /// Elsewhere the allocator is another one.
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    pub(super) fn set(self) {}
}

/// Growth since memory was last given back that makes it worth a walk through the heap, in bytes.
const GROWTH_MIN_BYTES: usize = 16 << 20;

/// Gives pages that lie free within the heap back to the system.
///
/// By itself glibc gives back the end of a heap only. Records of many sizes, freed by other threads than took them, leave holes in every thread's own
/// heap, and what a process holds is then the sum of what each of them ever held at most, not what all hold now.
#[derive(Debug, Default)]
pub struct Heap {
    /// The least resident bytes since memory was last given back.
    settled_bytes: usize,
}

impl Heap {
    /// Gives memory back if the process has grown since the last time; otherwise it only looks. Blocks for some tens of milliseconds where there are
    /// hundreds of MiB, and for that long threads that allocate wait for one another more.
    pub fn give_back(&mut self) {
        let now = resident_bytes();
        if now < self.settled_bytes.saturating_add(GROWTH_MIN_BYTES) {
            self.settled_bytes = self.settled_bytes.min(now);
            return;
        }
        trim();
        self.settled_bytes = resident_bytes();
    }
}

/// Zero where the system does not say: then nothing is ever given back.
fn resident_bytes() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap_or(0).saturating_mul(1024)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn trim() {
    // SAFETY: only pages that nothing is allocated in are given back, under the allocator's locks.
    #[allow(unsafe_code, reason = "the allocator is behind C")]
    let given = unsafe { libc::malloc_trim(0) };
    tracing::trace!(given, "gave free memory back");
}

/// Elsewhere the allocator is another one.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn trim() {}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn what_lies_free_between_what_is_held_goes_back() {
        let (mut held, mut freed): (Vec<Vec<u8>>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        for _ in 0..4000 {
            freed.push(vec![1; 60_000]);
            held.push(vec![1; 16]);
        }
        drop(freed);
        let before = resident_bytes();
        Heap::default().give_back();
        let after = resident_bytes();
        assert!(after + (100 << 20) < before, "{before} bytes before, {after} after");
        assert_eq!(held.len(), 4000);
    }
}
