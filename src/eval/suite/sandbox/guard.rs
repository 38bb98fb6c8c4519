//! What the kernel refuses to a guarded program.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetStatus, path_beneath_rules,
};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, apply_filter,
};

/// The first that refuses truncation, Linux 6.2.
const LANDLOCK: ABI = ABI::V3;

/// Bit 30 marks calls by the x32 interface, which a filter of numbers alone would let pass.
#[cfg(target_arch = "x86_64")]
const X32: i64 = 0x4000_0000;

/// Calls that reach the network, other processes or the kernel's own state.
const REFUSED: [i64; 37] = [
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pidfd_send_signal,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_setsid,
    libc::SYS_setpgid,
    libc::SYS_setrlimit,
    libc::SYS_setpriority,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
];

/// Leaves reading and running of `readable`, and all within `work`. What of `readable` is not there is no right less.
pub(super) fn files(readable: &[PathBuf], work: &Path) -> Result<(), String> {
    let missing =
        |error: &dyn std::fmt::Display| format!("Landlock of Linux 6.2 or later ({error})");
    let all = AccessFs::from_all(LANDLOCK);
    let read = AccessFs::from_read(LANDLOCK);
    let devices = ["/dev/null", "/dev/urandom", "/dev/zero"];
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(all)
        .and_then(|ruleset| ruleset.create())
        .and_then(|created| created.add_rules(path_beneath_rules(readable, read)))
        .and_then(|created| created.add_rules(path_beneath_rules([work], all)))
        .and_then(|created| created.add_rules(path_beneath_rules(devices, read)))
        .and_then(|created| created.restrict_self())
        .map_err(|error| missing(&error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        other => Err(missing(&format!("{other:?}"))),
    }
}

/// Filters that refuse [`REFUSED`], new limits and new processes; threads remain. [`apply`] puts them up.
pub(super) fn syscalls() -> Result<[BpfProgram; 2], String> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        REFUSED.iter().map(|&call| (call, Vec::new())).collect();
    #[cfg(target_arch = "x86_64")]
    {
        rules.insert(libc::SYS_fork, Vec::new());
        rules.insert(libc::SYS_vfork, Vec::new());
    }
    let rule = |argument, operator, value| {
        let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Qword, operator, value)?;
        Ok(vec![SeccompRule::new(vec![condition])?])
    };
    let filters = || {
        // A clone without this flag makes a process; prlimit with a third argument sets rather than reads a limit.
        let threads = SeccompCmpOp::MaskedEq(libc::CLONE_THREAD as u64);
        rules.insert(libc::SYS_clone, rule(0, threads, 0)?);
        rules.insert(libc::SYS_prlimit64, rule(2, SeccompCmpOp::Ne, 0)?);
        // Its flags lie in memory, where a filter cannot read: the C library takes clone where this one is not there.
        let unseen = BTreeMap::from([(libc::SYS_clone3, Vec::new())]);
        Ok([program(rules, libc::EPERM)?, program(unseen, libc::ENOSYS)?])
    };
    filters().map_err(|error: BackendError| missing(&error))
}

/// Puts up `filters`, without room for more than a few bytes.
pub(super) fn apply(filters: &[BpfProgram]) -> Result<(), String> {
    let put = |filter: &BpfProgram| apply_filter(filter).map_err(|error| missing(&error));
    filters.iter().try_for_each(put)
}

fn missing(error: &dyn std::fmt::Display) -> String {
    format!("seccomp filters ({error})")
}

fn program(
    mut rules: BTreeMap<i64, Vec<SeccompRule>>,
    error: i32,
) -> Result<BpfProgram, BackendError> {
    #[cfg(target_arch = "x86_64")]
    {
        let again: Vec<_> = rules
            .iter()
            .map(|(call, rule)| (call | X32, rule.clone()))
            .collect();
        rules.extend(again);
    }
    SeccompFilter::new(
        rules,
        SeccompAction::Allow,
        SeccompAction::Errno(error.unsigned_abs()),
        std::env::consts::ARCH.try_into()?,
    )?
    .try_into()
}
