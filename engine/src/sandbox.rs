//! What the process may ask the kernel for once it runs: not for a second ring, not for another program.
//!
//! The io_uring ring does its work past seccomp, so the rings there are were restricted to what they are
//! for, and here the way to a new one is closed, with every call that only a start, or an intruder, has a
//! use for. A short list of what is refused breaks nothing that is allowed; the unit's SystemCallFilter=,
//! which systemd keeps, is the long one. Knows nothing of SIP.

use node::Fault;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};
use std::collections::BTreeMap;

/// System calls that fail with EPERM from now on.
const DENIED: &[libc::c_long] = &[
    // Another ring, another program, somebody else's memory.
    libc::SYS_io_uring_setup,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    // Another view of files, processes and networks.
    libc::SYS_chroot,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_umount2,
    libc::SYS_unshare,
    // Code in the kernel, and looking into it.
    libc::SYS_bpf,
    libc::SYS_delete_module,
    libc::SYS_finit_module,
    libc::SYS_init_module,
    libc::SYS_kexec_load,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    // The machine as a whole.
    libc::SYS_acct,
    libc::SYS_clock_settime,
    libc::SYS_reboot,
    libc::SYS_settimeofday,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    // Keys of other processes.
    libc::SYS_add_key,
    libc::SYS_keyctl,
    libc::SYS_request_key,
];

/// The bit that makes a number of x86-64 one of its 32-bit sibling: the same call by another door.
const X32: libc::c_long = 0x4000_0000;

/// Closes the sandbox for every thread there is and will be. Call when all rings and programs are made.
pub fn close() -> Result<(), Fault> {
    let refused = |e: &dyn std::fmt::Display| Fault {
        what: format!("system calls cannot be filtered: {e}"),
        remedy: "use a kernel with CONFIG_SECCOMP_FILTER".to_owned(),
    };
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| refused(&e))?;
    let siblings = DENIED.iter().filter(|_| arch == TargetArch::x86_64).map(|call| call | X32);
    let rules: BTreeMap<i64, Vec<_>> =
        DENIED.iter().copied().chain(siblings).map(|call| (call, Vec::new())).collect();
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let filter = filter.and_then(BpfProgram::try_from).map_err(|e| refused(&e))?;
    seccompiler::apply_filter_all_threads(&filter).map_err(|e| refused(&e))
}
