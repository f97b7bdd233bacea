//! Threads on their cores, and the process's limits.

#![allow(unsafe_code, reason = "affinity and resource limits have no safe wrapper")]

use super::sys::check;
use node::Fault;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Pins the calling thread to one CPU and names it.
pub fn pin(cpu: usize, name: &str) -> Result<(), Fault> {
    // SAFETY: a set of zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    if cpu < libc::CPU_SETSIZE as usize {
        // SAFETY: `cpu` was just checked to lie inside the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
    }
    // SAFETY: reads one set; 0 is the calling thread.
    let pinned = check(unsafe { libc::sched_setaffinity(0, size_of_val(&set), &raw const set) });
    pinned.map_err(|e| Fault {
        what: format!("cannot run `{name}` on CPU {cpu}: {e}"),
        remedy: String::from("check CPUAffinity= in the unit and `nproc`, or set `pin = false`"),
    })?;
    self::name(name);
    Ok(())
}

/// Makes the calling thread give way to shards that share its core.
pub fn give_way() {
    // SAFETY: takes plain integers; 0 is the calling thread. Lowering one's priority is always allowed.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// Thread id of the calling thread, as /proc/self/task has it.
pub fn thread_id() -> i32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::gettid() }
}

/// Keeps the kernel from backing small allocations with huge pages: resident memory follows the calls
/// that are there, at no measurable cost in time.
pub fn small_pages() {
    // SAFETY: takes plain integers; a kernel without it refuses, and nothing depends on it.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

/// Names the calling thread, as `top -H` and `perf` show it; at most 15 bytes are kept.
pub fn name(name: &str) {
    let mut bytes = [0u8; 16];
    let len = name.len().min(15);
    bytes[..len].copy_from_slice(&name.as_bytes()[..len]);
    // SAFETY: a zero-terminated name of at most sixteen bytes, copied by the kernel.
    unsafe { libc::prctl(libc::PR_SET_NAME, bytes.as_ptr()) };
}

/// The CPUs this process may run on, in order.
pub fn cpus() -> Vec<usize> {
    // SAFETY: a set of zeroes is the empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: writes one set; 0 is the calling thread.
    unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
    let has = |cpu: &usize| {
        // SAFETY: `cpu` lies inside the set.
        unsafe { libc::CPU_ISSET(*cpu, &set) }
    };
    (0..libc::CPU_SETSIZE as usize).filter(has).collect()
}

/// A soft and a hard limit; `u64::MAX` is none.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What holds now.
    pub soft: u64,
    /// What it can be raised to.
    pub hard: u64,
}

fn read(which: libc::__rlimit_resource_t) -> io::Result<Limit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one limit.
    check(unsafe { libc::getrlimit(which, &raw mut limit) })?;
    Ok(Limit { soft: limit.rlim_cur, hard: limit.rlim_max })
}

/// Raises the number of descriptors to what the hard limit allows, and says what that is.
pub fn raise_descriptors() -> io::Result<Limit> {
    let limit = read(libc::RLIMIT_NOFILE)?;
    let wanted = libc::rlimit { rlim_cur: limit.hard, rlim_max: limit.hard };
    // SAFETY: reads one limit.
    check(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const wanted) })?;
    read(libc::RLIMIT_NOFILE)
}

/// How many descriptors the process may have now.
pub(crate) fn descriptors() -> io::Result<Limit> {
    read(libc::RLIMIT_NOFILE)
}

/// Makes room in the kernel's table for so many descriptors. It grows by itself, but not in a process with threads
/// without waiting for every core to have come by (10 to 20 ms): a thread that accepts would wait, and all it carries.
pub fn make_room(descriptors: u64) -> io::Result<()> {
    let any = std::fs::File::open("/dev/null")?;
    let highest = descriptors.min(self::descriptors()?.soft).min(i32::MAX as u64).saturating_sub(1);
    let (fd, duplicate) = (any.as_raw_fd(), libc::F_DUPFD_CLOEXEC);
    // SAFETY: takes plain integers.
    let made = check(unsafe { libc::fcntl(fd, duplicate, highest as libc::c_int) })?;
    // SAFETY: the descriptor was just made and nobody else owns it.
    drop(unsafe { OwnedFd::from_raw_fd(made) });
    Ok(())
}

/// How much memory the process may lock.
pub fn locked_memory() -> io::Result<Limit> {
    read(libc::RLIMIT_MEMLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_runs_where_it_is_pinned() {
        std::thread::spawn(|| {
            let last = *cpus().last().unwrap();
            pin(last, "a-name-that-is-too-long").unwrap();
            assert_eq!(cpus(), [last]);
            let name = std::fs::read_to_string("/proc/thread-self/comm").unwrap();
            assert_eq!(name.trim(), "a-name-that-is-");
            let fault = pin(100_000, "x").unwrap_err();
            assert!(fault.remedy.contains("pin = false"), "{}", fault.remedy);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn descriptors_are_raised_to_the_hard_limit_and_there_is_room_for_them() {
        let limit = raise_descriptors().unwrap();
        assert_eq!(limit.soft, limit.hard);
        assert!(locked_memory().is_ok());
        let room = || {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
            size.unwrap().trim().parse::<u64>().unwrap()
        };
        let wanted = (2 * room()).min(limit.soft);
        make_room(wanted).unwrap();
        assert!(room() >= wanted, "{} of {wanted}", room());
    }
}
