/* calls - tlsd's room: the system calls of a session. See calls.h. */
#include "calls.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>

#if defined __x86_64__ && !defined __ILP32__
#define MACHINE AUDIT_ARCH_X86_64
#elif defined __aarch64__
#define MACHINE AUDIT_ARCH_AARCH64
#elif defined __riscv && __riscv_xlen == 64
#define MACHINE AUDIT_ARCH_RISCV64
#endif

#ifdef MACHINE

#define FIELD(name) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, name))
#define UPPER(name) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, name) + 4)
#define RESULT(value) BPF_STMT(BPF_RET | BPF_K, value)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define ALLOW(call) UNLESS(SYS_##call, 1), RESULT(SECCOMP_RET_ALLOW)
#define REFUSE RESULT(SECCOMP_RET_ERRNO | EPERM)
/* The command is an int, whatever is in the upper half: these machines are little-endian. With F_SETOWN and F_SETSIG the kernel would send a signal of one's
 * choice to any process of our account. */
#define ALLOW_FCNTL UNLESS(SYS_fcntl, 6), FIELD(args[1]), UNLESS(F_GETFL, 1), RESULT(SECCOMP_RET_ALLOW), UNLESS(F_SETFL, 1), RESULT(SECCOMP_RET_ALLOW), REFUSE
/* To the other end, and to no address: a datagram socket (the log's) reaches others with one. */
#define ALLOW_SENDTO UNLESS(SYS_sendto, 6), FIELD(args[4]), UNLESS(0, 3), UPPER(args[4]), UNLESS(0, 1), RESULT(SECCOMP_RET_ALLOW), REFUSE

bool calls_restrict(void)
{
	static struct sock_filter steps[] = {
		FIELD(arch), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, MACHINE, 1, 0), RESULT(SECCOMP_RET_KILL_PROCESS),
		FIELD(nr),
		ALLOW(read), ALLOW(write), ALLOW(readv), ALLOW(writev), ALLOW(recvfrom), ALLOW(recvmsg), ALLOW_SENDTO, ALLOW(shutdown), ALLOW(close),
		ALLOW_FCNTL, ALLOW(getsockopt), ALLOW(setsockopt),
#ifdef SYS_epoll_wait
		ALLOW(epoll_wait),
#endif
		ALLOW(epoll_pwait), ALLOW(epoll_ctl),
#ifdef SYS_time
		ALLOW(time),
#endif
		ALLOW(clock_gettime), ALLOW(gettimeofday), ALLOW(clock_nanosleep), ALLOW(restart_syscall),
		ALLOW(brk), ALLOW(mmap), ALLOW(munmap), ALLOW(mremap), ALLOW(mprotect), ALLOW(madvise), ALLOW(futex), ALLOW(getrandom),
		ALLOW(getpid), ALLOW(gettid), ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(sigaltstack), ALLOW(exit), ALLOW(exit_group),
		REFUSE,
	};
	struct sock_fprog filter = { .len = sizeof steps / sizeof *steps, .filter = steps };
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}

#else

bool calls_restrict(void)
{
	errno = ENOSYS;
	return false;
}

#endif
